//! Keys pressed during a call, as telephone events in RTP (RFC 4733).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{PTIME, Packet, ticks};
use crate::control::Digits;

/// Events 0 to 15 are the keys (RFC 4733, section 3.2).
const KEYS: &[u8; 16] = b"0123456789*#ABCD";
/// Loudness of our digits, in -dBm0 (RFC 4733, section 2.3.3).
const VOLUME: u8 = 10;
/// How often the end of an event is sent, for a lost one would leave the key pressed (section 2.5.1.4).
const END_PACKETS: u8 = 3;
/// Between two digits; the shortest pause that is recognised is 40 ms (ITU-T Q.24).
const PAUSE: Duration = Duration::from_millis(60);
/// Digits that wait at most: more than a message has, and nobody types that fast.
const MAX_WAITING: usize = 64;

/// The payload of a telephone-event packet (section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which event; 0 to 15 are keys.
    pub code: u8,
    /// Whether the event is over.
    pub end: bool,
    /// Loudness, 0 to 63 in -dBm0.
    pub volume: u8,
    /// How long it has lasted, in ticks of the stream's clock.
    pub duration: u16,
}

impl Event {
    /// Reads a payload; of several events in one, which nobody sends, the first. `None`: too short.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let [code, flags, high, low] = *payload.first_chunk()?;
        let duration = u16::from_be_bytes([high, low]);
        Some(Self { code, end: flags & 0x80 != 0, volume: flags & 0x3f, duration })
    }

    /// The payload's bytes.
    pub fn write(self) -> Bytes {
        let [high, low] = self.duration.to_be_bytes();
        Bytes::copy_from_slice(&[self.code, u8::from(self.end) << 7 | self.volume & 0x3f, high, low])
    }

    /// The same event on another clock. A duration that the other clock cannot say becomes the longest it can.
    #[must_use]
    pub fn on_clock(self, from: u32, to: u32) -> Self {
        let duration = u64::from(self.duration) * u64::from(to) / u64::from(from.max(1));
        Self { duration: u16::try_from(duration).unwrap_or(u16::MAX), ..self }
    }

    /// The key, if the event is one.
    pub fn digit(self) -> Option<char> {
        KEYS.get(usize::from(self.code)).copied().map(char::from)
    }
}

fn code(digit: char) -> Option<u8> {
    let at = KEYS.iter().position(|key| char::from(*key) == digit)?;
    u8::try_from(at).ok()
}

/// Presses keys: makes the packets of each digit, one after another.
#[derive(Clone, Debug)]
pub struct Keypad {
    clock: u32,
    waiting: VecDeque<(u8, Duration)>,
    pressed: Option<Pressed>,
    /// Not to press the next key before.
    free: Option<Instant>,
}

/// A packet of a digit. Its place in the stream is the stream's to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    /// Whether it is the first of its digit.
    pub marker: bool,
    /// When the digit began; the same in all its packets.
    pub timestamp: u32,
    /// The payload.
    pub event: Event,
}

/// A key that is down.
#[derive(Clone, Copy, Debug)]
struct Pressed {
    code: u8,
    timestamp: u32,
    /// How long it is to last, and what was said of that, in ticks.
    total: u16,
    said: u16,
    ends: u8,
    due: Instant,
}

impl Keypad {
    /// For a stream whose clock has `clock` ticks a second.
    pub fn new(clock: u32) -> Self {
        Self { clock, waiting: VecDeque::new(), pressed: None, free: None }
    }

    /// Presses keys after those already waiting; too many are dropped.
    pub fn press(&mut self, digits: &Digits, now: Instant) {
        let duration = Duration::from_millis(u64::from(digits.duration_ms));
        let room = MAX_WAITING - self.waiting.len();
        self.waiting.extend(digits.chars().filter_map(code).map(|code| (code, duration)).take(room));
        self.free.get_or_insert(now);
    }

    /// Whether a key is down: then its packets take the place of audio.
    pub fn is_down(&self) -> bool {
        self.pressed.is_some()
    }

    /// When the next packet is due.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.pressed {
            Some(pressed) => Some(pressed.due),
            None if self.waiting.is_empty() => None,
            None => self.free,
        }
    }

    /// The packet that is due; `timestamp` is that of this moment. To be asked again until there is none.
    pub fn pull(&mut self, timestamp: u32, now: Instant) -> Option<Press> {
        self.deadline().filter(|due| *due <= now)?;
        let step = u16::try_from(ticks(PTIME, self.clock)).unwrap_or(u16::MAX);
        let first = self.pressed.is_none();
        let mut pressed = match self.pressed.take() {
            Some(pressed) => pressed,
            None => {
                let (code, duration) = self.waiting.pop_front()?;
                let total = u16::try_from(ticks(duration, self.clock)).unwrap_or(u16::MAX);
                Pressed { code, timestamp, total, said: 0, ends: 0, due: now }
            }
        };
        pressed.said = pressed.said.saturating_add(step).min(pressed.total);
        let end = pressed.said == pressed.total;
        pressed.ends += u8::from(end);
        pressed.due += PTIME;
        if pressed.ends < END_PACKETS {
            self.pressed = Some(pressed);
        } else {
            self.free = (!self.waiting.is_empty()).then_some(pressed.due + PAUSE);
        }
        let event = Event { code: pressed.code, end, volume: VOLUME, duration: pressed.said };
        Some(Press { marker: first, timestamp: pressed.timestamp, event })
    }
}

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// Which.
    pub key: char,
    /// How long.
    pub duration: Duration,
}

/// Hears keys: of each event many packets come, some of them lost or overtaken, and each key is told once.
#[derive(Clone, Debug)]
pub struct Listener {
    clock: u32,
    /// The event that is heard: where it began, what it is, and whether it was told.
    current: Option<(u32, Event, bool)>,
}

impl Listener {
    /// For a stream whose clock has `clock` ticks a second.
    pub fn new(clock: u32) -> Self {
        Self { clock: clock.max(1), current: None }
    }

    /// An event packet came. A key is told when it is over; when all packets of its end were lost, the next key or
    /// [`Listener::silence`] tells that it must be.
    pub fn push(&mut self, packet: &Packet) -> Vec<Digit> {
        let Some(event) = Event::parse(&packet.payload) else { return Vec::new() };
        let mut told = Vec::new();
        match &mut self.current {
            Some((began, known, _)) if *began == packet.timestamp => {
                known.duration = known.duration.max(event.duration);
                known.end |= event.end;
            }
            // Of an event before: its end was told, or guessed.
            Some((began, ..)) if packet.timestamp.wrapping_sub(*began) > u32::MAX / 2 => return told,
            _ => {
                told.extend(self.silence());
                self.current = Some((packet.timestamp, event, false));
            }
        }
        if self.current.is_some_and(|(_, event, _)| event.end) {
            told.extend(self.silence());
        }
        told
    }

    /// No packet of an event came for a while: the key that is down is over.
    pub fn silence(&mut self) -> Option<Digit> {
        let (_, event, told) = self.current.as_mut()?;
        if std::mem::replace(told, true) {
            return None;
        }
        let micros = u64::from(event.duration) * 1_000_000 / u64::from(self.clock);
        Some(Digit { key: event.digit()?, duration: Duration::from_micros(micros) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn payloads() {
        for (bytes, event, digit) in [
            ([0, 0x0a, 0, 160], Event { code: 0, end: false, volume: 10, duration: 160 }, Some('0')),
            ([11, 0x8a, 3, 0x20], Event { code: 11, end: true, volume: 10, duration: 800 }, Some('#')),
            ([15, 0xbf, 255, 255], Event { code: 15, end: true, volume: 63, duration: 65_535 }, Some('D')),
            ([16, 0, 0, 0], Event { code: 16, end: false, volume: 0, duration: 0 }, None),
        ] {
            assert_eq!(Event::parse(&bytes), Some(event));
            assert_eq!(event.write(), bytes[..]);
            assert_eq!(event.digit(), digit);
        }
        // The reserved bit is ignored; so is what follows.
        assert_eq!(Event::parse(&[1, 0x4a, 0, 1, 9]), Some(Event { code: 1, end: false, volume: 10, duration: 1 }));
        assert_eq!(Event::parse(&[1, 2, 3]), None);
        assert_eq!(
            (0..16).filter_map(|code| super::code(char::from(KEYS[code]))).collect::<Vec<_>>(),
            (0..16).collect::<Vec<_>>()
        );
    }

    #[test]
    fn clocks() {
        for (from, to, duration, expected) in [
            (48_000, 8_000, 5_760, 960),
            (48_000, 8_000, 65_535, 10_922),
            (8_000, 48_000, 960, 5_760),
            (8_000, 48_000, 10_922, 65_532),
            (8_000, 48_000, 10_923, 65_535),
            (8_000, 8_000, 960, 960),
        ] {
            let event = Event { code: 1, end: true, volume: 0, duration };
            assert_eq!(event.on_clock(from, to).duration, expected, "{from} {to} {duration}");
        }
    }

    /// All packets of some digits: milliseconds, marker, timestamp, key, end, duration.
    fn pressed(clock: u32, digits: &str, duration_ms: u16) -> Vec<(u64, bool, u32, char, bool, u16)> {
        let start = Instant::now();
        let mut keypad = Keypad::new(clock);
        keypad.press(&Digits::new(digits, duration_ms).expect("digits"), start);
        let mut packets = Vec::new();
        while let Some(due) = keypad.deadline() {
            let millis = (due - start).as_millis() as u64;
            let timestamp = (ticks(due - start, clock)) as u32;
            assert_eq!(keypad.pull(timestamp, due - Duration::from_millis(1)), None, "not before it is due");
            let Press { marker, timestamp, event } = keypad.pull(timestamp, due).expect("it is due");
            packets.push((millis, marker, timestamp, event.digit().expect("a key"), event.end, event.duration));
        }
        assert!(!keypad.is_down());
        packets
    }

    #[test]
    fn a_digit_has_its_packets_at_their_times() {
        assert_eq!(
            pressed(8_000, "7", 90),
            [
                (0, true, 0, '7', false, 160),
                (20, false, 0, '7', false, 320),
                (40, false, 0, '7', false, 480),
                (60, false, 0, '7', false, 640),
                (80, false, 0, '7', true, 720),
                (100, false, 0, '7', true, 720),
                (120, false, 0, '7', true, 720),
            ]
        );
        let two = pressed(48_000, "*#", 40);
        assert_eq!(two.len(), 2 * 4);
        assert_eq!(two[..2], [(0, true, 0, '*', false, 960), (20, false, 0, '*', true, 1_920)]);
        assert_eq!(two[4], (140, true, 6_720, '#', false, 960), "80 ms of packets, 60 ms of pause");
        assert_eq!(
            pressed(48_000, "1", 1_360).last().expect("packets").5,
            65_280,
            "the longest that one event can say"
        );
    }

    #[test]
    fn waiting_digits_are_bounded() {
        let mut keypad = Keypad::new(8_000);
        let digits = Digits::new(&"1".repeat(32), 40).expect("digits");
        for _ in 0..5 {
            keypad.press(&digits, Instant::now());
        }
        assert_eq!(keypad.waiting.len(), MAX_WAITING);
    }

    fn packet(timestamp: u32, event: Event) -> Packet {
        Packet { payload_type: 101, marker: false, sequence: 0, timestamp, ssrc: 1, payload: event.write() }
    }

    /// Columns: packets (timestamp, key code, end, duration in ms) of an 8 kHz clock; keys told, with milliseconds.
    #[test]
    fn each_key_is_told_once() {
        type Sent = (u32, u8, bool, u16);
        type Told = (char, u64);
        let cases: [(&[Sent], &[Told]); 8] = [
            (
                &[(0, 5, false, 20), (0, 5, false, 40), (0, 5, true, 60), (0, 5, true, 60), (0, 5, true, 60)],
                &[('5', 60)],
            ),
            (&[(0, 5, true, 60)], &[('5', 60)]),
            (&[(0, 5, false, 20), (0, 5, false, 40)], &[('5', 40)]),
            (&[(0, 5, false, 20), (900, 5, false, 20), (900, 5, true, 40)], &[('5', 20), ('5', 40)]),
            (&[(0, 5, true, 60), (900, 6, true, 40), (0, 5, true, 60)], &[('5', 60), ('6', 40)]),
            (&[(0, 5, false, 20), (900, 6, true, 40), (900, 6, true, 40)], &[('5', 20), ('6', 40)]),
            (&[(u32::MAX - 9, 1, true, 60), (700, 2, true, 60), (u32::MAX - 9, 1, true, 60)], &[('1', 60), ('2', 60)]),
            (&[(0, 16, true, 60), (900, 200, false, 60)], &[]),
        ];
        for (number, (packets, expected)) in cases.into_iter().enumerate() {
            let mut listener = Listener::new(8_000);
            let mut told = Vec::new();
            for (timestamp, code, end, ms) in packets {
                let event = Event { code: *code, end: *end, volume: 10, duration: ms * 8 };
                told.extend(listener.push(&packet(*timestamp, event)));
            }
            told.extend(listener.silence());
            let told: Vec<_> = told.into_iter().map(|digit| (digit.key, digit.duration.as_millis() as u64)).collect();
            assert_eq!(told, expected, "case {number}");
        }
    }

    proptest! {
        /// What is pressed is heard: in order, with its duration, though packets are lost, as long as one of a digit's
        /// end arrives.
        #[test]
        fn what_is_pressed_is_heard(
            keys in "[0-9*#A-D]{1,8}", ms in 40..1_360u16,
            clock in prop::sample::select(vec![8_000, 48_000]), lost: Vec<bool>,
        ) {
            let mut listener = Listener::new(clock);
            let mut heard = Vec::new();
            let packets = pressed(clock, &keys, ms);
            for (number, (_, _, timestamp, key, end, duration)) in packets.iter().enumerate() {
                let last = packets.get(number + 1).is_none_or(|next| next.2 != *timestamp);
                if last || !lost.get(number % lost.len().max(1)).unwrap_or(&false) {
                    let event = Event { code: code(*key).expect("a key"), end: *end, volume: 10, duration: *duration };
                    heard.extend(listener.push(&packet(*timestamp, event)));
                }
            }
            prop_assert_eq!(heard.iter().map(|digit| digit.key).collect::<String>(), keys);
            prop_assert!(heard.iter().all(|digit| digit.duration == Duration::from_millis(ms.into())));
        }
    }
}
