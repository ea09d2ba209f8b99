//! Pass-through: the same codec on both sides (or the two laws of G.711). What was lost or overtaken on the way in is so
//! on the way out, for the receiver's own concealment and jitter buffer know best. All else makes one stream of whatever
//! the source does: one SSRC, one run of sequence numbers, one clock, through every change of the source.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Format, Kind, Origin, PTIME, Packet, Transform,
    dtmf::Keypad,
    law::Law,
    source::{Arrival, Place, Source},
    ticks,
};
use crate::control::Digits;

/// A timestamp may run this far from the time that really passed. Beyond it the source jumped, or stood still while it
/// was silent, and a receiver that believed it would fall silent or wait as long.
const MAX_SKEW: Duration = Duration::from_secs(1);
/// Pieces of the mapping that are remembered, for packets that were overtaken.
const MAX_PIECES: usize = 16;

/// The two sides speak codecs of which neither is made into the other byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the two codecs need transcoding")]
pub struct NeedsTranscoding;

/// Passes packets of one direction on.
#[derive(Debug)]
pub struct Relay {
    input: Format,
    output: Format,
    law: Option<&'static [u8; 256]>,
    source: Source,
    keypad: Keypad,
    ssrc: u32,
    /// The next sequence number that was never sent, counted on beyond 2^16.
    next: i64,
    clock: Clock,
    /// Audio begins anew with the next packet of it.
    fresh: bool,
    /// How numbers in become numbers out, from each piece's beginning to the next one's. Never empty once a stream began.
    pieces: VecDeque<Piece>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    from: i64,
    /// Added to numbers, and to timestamps.
    sequence: i64,
    timestamp: u32,
}

/// The outgoing clock: which timestamp it is when.
#[derive(Clone, Copy, Debug)]
struct Clock {
    rate: u32,
    timestamp: u32,
    /// When that was; `None`: nothing was sent yet.
    at: Option<Instant>,
    /// What the source said then.
    input: u32,
}

impl Clock {
    fn elapsed(&self, now: Instant) -> u64 {
        self.at.map_or(0, |at| ticks(now.saturating_duration_since(at), self.rate))
    }

    /// The timestamp for a packet of now that continues nothing: after all that was sent.
    fn now(&self, now: Instant) -> u32 {
        let least = if self.at.is_some() { ticks(PTIME, self.rate) } else { 0 };
        // `as` truncates: timestamps count modulo 2^32.
        self.timestamp.wrapping_add(self.elapsed(now).max(least) as u32)
    }

    /// Whether a source's timestamp is one that could follow.
    fn continues(&self, input: u32, now: Instant) -> bool {
        let step = input.wrapping_sub(self.input);
        u64::from(step).abs_diff(self.elapsed(now)) <= ticks(MAX_SKEW, self.rate)
    }
}

impl Relay {
    /// From packets of `input` to packets of `output`.
    ///
    /// # Errors
    /// When the codecs need transcoding.
    pub fn new(input: Format, output: Format, origin: Origin) -> Result<Self, NeedsTranscoding> {
        let law = match (Law::of(input.codec), Law::of(output.codec)) {
            (Some(from), Some(to)) => from.to(to),
            _ if input.codec == output.codec => None,
            _ => return Err(NeedsTranscoding),
        };
        let rate = output.clock_rate();
        Ok(Self {
            input,
            output,
            law,
            source: Source::default(),
            keypad: Keypad::new(rate),
            ssrc: origin.ssrc,
            next: i64::from(origin.sequence),
            clock: Clock { rate, timestamp: origin.timestamp, at: None, input: 0 },
            fresh: true,
            pieces: VecDeque::with_capacity(MAX_PIECES),
        })
    }

    /// The payload type it goes out with; `None`: it does not go out. Audio gives way to a key that is down.
    fn marked(&self, packet: &Packet) -> Option<(Kind, u8)> {
        let kind = self.input.kind(packet.payload_type)?;
        let gives_way = kind != Kind::Event && self.keypad.is_down();
        let payload_type = self.output.payload_type(kind).filter(|_| !gives_way)?;
        Some((kind, payload_type))
    }

    /// A new piece of the mapping, from the packet at `index` on: it goes out as the next one, at this time.
    fn splice(&mut self, index: i64, packet: &Packet, timestamp: u32) {
        self.piece(Piece {
            from: index,
            sequence: self.next - index,
            timestamp: timestamp.wrapping_sub(packet.timestamp),
        });
    }

    /// The newest packet does not go out: its number is the next one's. Numbers before it stay kept for late ones.
    fn skip(&mut self, index: i64) {
        let Some(last) = self.mapped(index) else { return };
        self.next = self.next.max(index + last.sequence);
        if last.from == index {
            self.pieces.pop_back();
        }
        self.piece(Piece { from: index + 1, sequence: last.sequence - 1, ..last });
    }

    /// A packet of our own takes the next number.
    fn insert(&mut self) -> i64 {
        let number = self.next;
        if let Some(&last) = self.pieces.back() {
            // What would have had it has the one after.
            let from = (number - last.sequence).max(last.from);
            self.piece(Piece { from, sequence: last.sequence + 1, ..last });
        }
        number
    }

    fn piece(&mut self, piece: Piece) {
        if self.pieces.back().is_some_and(|last| last.from >= piece.from) {
            self.pieces.pop_back();
        }
        if self.pieces.len() == MAX_PIECES {
            self.pieces.pop_front();
        }
        self.pieces.push_back(piece);
    }

    /// Where the packet at `index` goes; `None`: it was overtaken by too much that happened since.
    fn mapped(&self, index: i64) -> Option<Piece> {
        self.pieces.iter().rev().find(|piece| piece.from <= index).copied()
    }

    /// Keeps the mapping up with the newest packet.
    fn follow(&mut self, packet: &Packet, place: Place, now: Instant) {
        let begins = place.arrival == Arrival::First;
        if begins {
            self.pieces.clear();
        }
        // A telephone event's timestamp is when it began, and stands still.
        let audio = self.input.kind(packet.payload_type) == Some(Kind::Audio);
        let jumps = begins || audio && !self.clock.continues(packet.timestamp, now);
        if jumps {
            self.fresh = true;
            let timestamp = self.clock.now(now);
            match self.mapped(place.index) {
                // The same numbers on another clock: what is missing in between stays missing.
                Some(piece) => {
                    let timestamp = timestamp.wrapping_sub(packet.timestamp);
                    self.piece(Piece { from: place.index, timestamp, ..piece });
                }
                None => self.splice(place.index, packet, timestamp),
            }
        }
        if audio || begins {
            let offset = self.mapped(place.index).map_or(0, |piece| piece.timestamp);
            let timestamp = packet.timestamp.wrapping_add(offset);
            self.clock = Clock { timestamp, at: Some(now), input: packet.timestamp, ..self.clock };
        }
    }

    fn payload(&self, kind: Kind, payload: Bytes) -> Bytes {
        match self.law {
            Some(table) if kind == Kind::Audio => payload.iter().map(|byte| table[usize::from(*byte)]).collect(),
            _ => payload,
        }
    }

    fn out(&mut self, number: i64, payload_type: u8, marker: bool, timestamp: u32, payload: Bytes) -> Packet {
        self.next = self.next.max(number + 1);
        // `as` truncates: the number modulo 2^16.
        Packet { payload_type, marker, sequence: number as u16, timestamp, ssrc: self.ssrc, payload }
    }
}

impl Transform for Relay {
    fn push(&mut self, packet: Packet, now: Instant) -> Option<Packet> {
        let place = self.source.place(&packet, now)?;
        let newest = place.arrival != Arrival::Late;
        if newest {
            self.follow(&packet, place, now);
        }
        let Some((kind, payload_type)) = self.marked(&packet) else {
            // No gap where nothing was lost. Of one that was overtaken the place is known already, and stays empty.
            if newest {
                self.skip(place.index);
            }
            return None;
        };
        let piece = self.mapped(place.index)?;
        let marker = packet.marker || kind == Kind::Audio && std::mem::take(&mut self.fresh);
        let timestamp = packet.timestamp.wrapping_add(piece.timestamp);
        let payload = self.payload(kind, packet.payload);
        Some(self.out(place.index + piece.sequence, payload_type, marker, timestamp, payload))
    }

    fn pull(&mut self, now: Instant) -> Option<Packet> {
        let payload_type = self.output.events?;
        let press = self.keypad.pull(self.clock.now(now), now)?;
        // Without audio, too, the next key is another key.
        self.clock.at.get_or_insert(now);
        self.fresh = true;
        let number = self.insert();
        Some(self.out(number, payload_type, press.marker, press.timestamp, press.event.write()))
    }

    fn deadline(&self) -> Option<Instant> {
        self.keypad.deadline()
    }

    fn press(&mut self, digits: &Digits, now: Instant) {
        if self.output.events.is_some() {
            self.keypad.press(digits, now);
        }
    }

    fn renegotiated(&mut self) {
        self.source.renegotiated();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::{
        super::{COMFORT_NOISE, Codec, dtmf::Event},
        *,
    };

    const ORIGIN: Origin = Origin { ssrc: 99, sequence: 65_534, timestamp: u32::MAX - 159 };

    fn format(codec: Codec, audio: u8) -> Format {
        Format { codec, audio, events: Some(101), comfort_noise: None }
    }

    fn pcmu() -> Format {
        format(Codec::Pcmu, 0)
    }

    fn relay() -> Relay {
        Relay::new(pcmu(), Format { events: Some(96), ..pcmu() }, ORIGIN).expect("the same codec")
    }

    fn packet(payload_type: u8, ssrc: u32, sequence: u16, timestamp: u32) -> Packet {
        Packet { payload_type, marker: false, sequence, timestamp, ssrc, payload: Bytes::from_static(b"\x01") }
    }

    /// What goes out, from the first packet on: sequence, timestamp, payload type, marker.
    type Out = Option<(u16, u32, u8, bool)>;

    fn relative(packet: Packet) -> (u16, u32, u8, bool) {
        assert_eq!(packet.ssrc, ORIGIN.ssrc);
        let sequence = packet.sequence.wrapping_sub(ORIGIN.sequence);
        (sequence, packet.timestamp.wrapping_sub(ORIGIN.timestamp), packet.payload_type, packet.marker)
    }

    /// Columns: milliseconds; payload type, SSRC, sequence and timestamp in; what goes out.
    #[test]
    fn one_stream_out_whatever_comes_in() {
        type Step = (u64, (u8, u32, u16, u32), Out);
        let cases: [(&str, &[Step]); 9] = [
            (
                "in order, over the end of the numbers",
                &[
                    (0, (0, 1, 65_535, 5_000), Some((0, 0, 0, true))),
                    (20, (0, 1, 0, 5_160), Some((1, 160, 0, false))),
                    (40, (0, 1, 1, 5_320), Some((2, 320, 0, false))),
                ],
            ),
            (
                "lost, overtaken, twice",
                &[
                    (0, (0, 1, 10, 0), Some((0, 0, 0, true))),
                    (60, (0, 1, 13, 480), Some((3, 480, 0, false))),
                    (61, (0, 1, 12, 320), Some((2, 320, 0, false))),
                    (62, (0, 1, 12, 320), None),
                    (80, (0, 1, 14, 640), Some((4, 640, 0, false))),
                ],
            ),
            (
                "early media, then the answer's own source after a pause of 200 ms",
                &[
                    (0, (0, 1, 10, 1_000), Some((0, 0, 0, true))),
                    (20, (0, 1, 11, 1_160), Some((1, 160, 0, false))),
                    (220, (0, 2, 900, 77_000), Some((2, 1_760, 0, true))),
                    (240, (0, 2, 901, 77_160), Some((3, 1_920, 0, false))),
                    (241, (0, 1, 12, 1_320), None),
                ],
            ),
            (
                "the same source begins anew: numbers jump, and with them the clock",
                &[
                    (0, (0, 1, 10, 1_000), Some((0, 0, 0, true))),
                    (20, (0, 1, 40_000, 900_000), None),
                    (40, (0, 1, 40_001, 900_160), Some((1, 320, 0, true))),
                    (60, (0, 1, 40_002, 900_320), Some((2, 480, 0, false))),
                ],
            ),
            (
                "only the clock jumps: ahead, back, or it stood still on hold",
                &[
                    (0, (0, 1, 10, 1_000), Some((0, 0, 0, true))),
                    (20, (0, 1, 11, 99_000), Some((1, 160, 0, true))),
                    (60, (0, 1, 13, 99_320), Some((3, 480, 0, false))),
                    (80, (0, 1, 14, 5), Some((4, 640, 0, true))),
                    (81, (0, 1, 12, 99_160), Some((2, 320, 0, false))),
                    (5_080, (0, 1, 15, 165), Some((5, 40_640, 0, true))),
                    (5_100, (0, 1, 16, 325), Some((6, 40_800, 0, false))),
                ],
            ),
            (
                "silence is no jump",
                &[
                    (0, (0, 1, 10, 1_000), Some((0, 0, 0, true))),
                    (3_000, (0, 1, 11, 25_000), Some((1, 24_000, 0, false))),
                ],
            ),
            (
                "comfort noise and what nobody agreed to leave no gap; a loss beside them stays one",
                &[
                    (0, (COMFORT_NOISE, 1, 9, 840), None),
                    (20, (0, 1, 10, 1_000), Some((0, 160, 0, true))),
                    (40, (COMFORT_NOISE, 1, 11, 1_160), None),
                    (60, (72, 1, 12, 1_320), None),
                    (80, (0, 1, 13, 1_480), Some((1, 640, 0, false))),
                    (140, (COMFORT_NOISE, 1, 16, 1_960), None),
                    (160, (0, 1, 17, 2_120), Some((4, 1_280, 0, false))),
                    (161, (0, 1, 15, 1_800), Some((3, 960, 0, false))),
                    (162, (0, 1, 14, 1_640), Some((2, 800, 0, false))),
                    (163, (0, 1, 11, 1_160), None),
                ],
            ),
            (
                "a telephone event stands still and gets its payload type",
                &[
                    (0, (0, 1, 10, 1_000), Some((0, 0, 0, true))),
                    (20, (101, 1, 11, 1_160), Some((1, 160, 96, false))),
                    (1_500, (101, 1, 12, 1_160), Some((2, 160, 96, false))),
                    (1_520, (0, 1, 13, 13_160), Some((3, 12_160, 0, false))),
                ],
            ),
            (
                "a source that begins with an event",
                &[(0, (101, 1, 10, 1_000), Some((0, 0, 96, false))), (40, (0, 1, 11, 1_320), Some((1, 320, 0, true)))],
            ),
        ];
        for (what, steps) in cases {
            let (mut relay, start) = (relay(), Instant::now());
            for (millis, (payload_type, ssrc, sequence, timestamp), expected) in steps {
                let out = relay
                    .push(packet(*payload_type, *ssrc, *sequence, *timestamp), start + Duration::from_millis(*millis));
                assert_eq!(out.map(relative), *expected, "{what}, {millis} ms");
            }
        }
    }

    #[test]
    fn a_negotiation_lets_the_next_source_in_at_once() {
        let (mut relay, now) = (relay(), Instant::now());
        assert!(relay.push(packet(0, 1, 1, 1), now).is_some());
        relay.renegotiated();
        assert_eq!(relay.push(packet(0, 2, 70, 70), now).map(relative), Some((1, 160, 0, true)));
    }

    #[test]
    fn laws_are_converted_and_codecs_are_not() {
        let pcma = format(Codec::Pcma, 8);
        let mut relay = Relay::new(pcmu(), pcma, ORIGIN).expect("two laws");
        let audio = Packet { payload: Bytes::from_static(&[0xff, 0x80, 0x00]), ..packet(0, 1, 1, 1) };
        let out = relay.push(audio, Instant::now()).expect("audio");
        assert_eq!((out.payload_type, &out.payload[..]), (8, &[0xd5, 0xaa, 0x2a][..]));
        let event = Event { code: 1, end: true, volume: 10, duration: 800 };
        let out =
            relay.push(Packet { payload: event.write(), ..packet(101, 1, 2, 161) }, Instant::now()).expect("an event");
        assert_eq!((out.payload_type, Event::parse(&out.payload)), (101, Some(event)));

        let opus = format(Codec::Opus, 111);
        assert!(Relay::new(opus, opus, ORIGIN).is_ok());
        assert_eq!(Relay::new(opus, pcmu(), ORIGIN).err(), Some(NeedsTranscoding));
        assert_eq!(Relay::new(pcma, opus, ORIGIN).err(), Some(NeedsTranscoding));
    }

    #[test]
    fn what_the_other_side_did_not_agree_to_is_dropped() {
        let noisy = Format { comfort_noise: Some(COMFORT_NOISE), ..pcmu() };
        for (input, output, payload_type, passes) in [
            (noisy, noisy, COMFORT_NOISE, true),
            (noisy, pcmu(), COMFORT_NOISE, false),
            (pcmu(), noisy, COMFORT_NOISE, false),
            (pcmu(), Format { events: None, ..pcmu() }, 101, false),
            (Format { events: None, ..pcmu() }, pcmu(), 101, false),
            (pcmu(), pcmu(), 8, false),
        ] {
            let mut relay = Relay::new(input, output, ORIGIN).expect("the same codec");
            let out = relay.push(packet(payload_type, 1, 1, 1), Instant::now());
            assert_eq!(out.is_some(), passes, "{payload_type} from {input:?} to {output:?}");
        }
        let mut deaf = Relay::new(pcmu(), Format { events: None, ..pcmu() }, ORIGIN).expect("the same codec");
        deaf.press(&Digits::new("1", 40).expect("digits"), Instant::now());
        assert_eq!((deaf.deadline(), deaf.pull(Instant::now())), (None, None));
    }

    #[test]
    fn a_pressed_key_takes_the_place_of_audio() {
        let (mut relay, start) = (relay(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let audio = |number: u16| packet(0, 1, 10 + number, 160 * u32::from(number));
        assert_eq!(relay.push(audio(0), at(0)).map(relative), Some((0, 0, 0, true)));
        relay.press(&Digits::new("5", 40).expect("digits"), at(25));
        assert_eq!(relay.deadline(), Some(at(25)));
        assert_eq!(relay.pull(at(25)).map(relative), Some((1, 200, 96, true)));
        assert_eq!(relay.push(audio(2), at(40)), None);
        assert_eq!(relay.push(audio(1), at(41)), None, "overtaken, too");
        assert_eq!(relay.pull(at(41)), None);
        for (millis, number) in [(45, 3), (65, 4), (85, 5)] {
            assert_eq!(relay.pull(at(millis)).map(relative), Some((number, 200, 96, false)), "{millis} ms");
        }
        assert_eq!(relay.deadline(), None);
        assert_eq!(relay.push(audio(5), at(100)).map(relative), Some((8, 800, 0, true)), "two were lost");
    }

    #[test]
    fn keys_can_be_pressed_before_any_audio() {
        let (mut relay, start) = (relay(), Instant::now());
        relay.press(&Digits::new("12", 40).expect("digits"), start);
        let mut timestamps = HashSet::new();
        let mut sequences = Vec::new();
        while let Some(due) = relay.deadline() {
            let packet = relay.pull(due).expect("it is due");
            timestamps.insert(packet.timestamp);
            sequences.push(relative(packet).0);
        }
        assert_eq!((timestamps.len(), sequences), (2, (0..8).collect()));
        let later = relay.push(packet(0, 1, 500, 0), start + Duration::from_millis(400)).map(relative);
        assert_eq!(later, Some((8, 3_200, 0, true)));
    }

    /// What a source does next.
    #[derive(Clone, Debug)]
    struct Step {
        pause: u64,
        ssrc: u32,
        lost: u16,
        /// How far the packet is moved back, for packets that were overtaken or sent twice.
        back: u16,
        payload_type: u8,
        skew: i32,
        press: bool,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let pause = prop_oneof![8 => Just(20u64), 2 => 0..40u64, 1 => 100..3_000u64];
        let lost = prop_oneof![8 => Just(0u16), 2 => 1..4u16, 1 => Just(7_000u16)];
        let back = prop_oneof![8 => Just(0u16), 2 => 1..6u16];
        let payload_type = prop_oneof![8 => Just(0u8), 1 => Just(101u8), 1 => Just(COMFORT_NOISE), 1 => Just(77u8)];
        let skew = prop_oneof![12 => Just(0i32), 1 => any::<i32>()];
        let press = prop::bool::weighted(0.03);
        let step = (pause, 1..3u32, lost, back, payload_type, skew, press).prop_map(
            |(pause, ssrc, lost, back, payload_type, skew, press)| Step {
                pause,
                ssrc,
                lost,
                back,
                payload_type,
                skew,
                press,
            },
        );
        prop::collection::vec(step, 0..300)
    }

    /// Numbers beyond 2^16, of packets that are never far apart.
    fn unwrapped(highest: &mut i64, sequence: u16) -> i64 {
        let ahead = sequence.wrapping_sub(*highest as u16) as i16;
        let number = *highest + i64::from(ahead);
        *highest = number.max(*highest);
        number
    }

    proptest! {
        /// Whatever two sources send: no number goes out twice, the clock of audio never goes back, streams do not mix.
        #[test]
        fn no_number_twice_and_no_time_back(steps in steps()) {
            let (mut relay, mut now) = (relay(), Instant::now());
            let mut sources = [(0u16, 0u32), (40_000, 1 << 31)];
            let mut highest = i64::from(ORIGIN.sequence) - 1;
            let (mut sent, mut clock, mut following) = (HashSet::new(), None, None);
            for step in steps {
                now += Duration::from_millis(step.pause);
                let source = &mut sources[step.ssrc as usize - 1];
                source.0 = source.0.wrapping_add(1 + step.lost);
                source.1 = source.1.wrapping_add(8 * step.pause as u32).wrapping_add_signed(step.skew);
                let back = u32::from(step.back);
                let mut given = packet(step.payload_type, step.ssrc, source.0.wrapping_sub(step.back), source.1.wrapping_sub(160 * back));
                given.payload = Bytes::copy_from_slice(&step.ssrc.to_be_bytes());
                if step.press {
                    relay.press(&Digits::new("5", 60).expect("digits"), now);
                }
                let pressed: Vec<_> = std::iter::from_fn(|| relay.pull(now)).collect();
                let passed = relay.push(given, now);
                for packet in pressed.into_iter().map(|packet| (packet, false)).chain(passed.map(|packet| (packet, true))) {
                    let (packet, passed) = packet;
                    let before = highest;
                    let number = unwrapped(&mut highest, packet.sequence);
                    prop_assert!(sent.insert(number), "{} twice", number);
                    prop_assert!(number - before <= 3_000, "a gap of {}", number - before);
                    // One that was overtaken has the time it had.
                    let newest_audio = passed && packet.payload_type == 0 && step.back == 0;
                    if newest_audio {
                        let ahead = packet.timestamp.wrapping_sub(clock.unwrap_or(packet.timestamp));
                        prop_assert!(ahead <= u32::MAX / 2, "back in time");
                        clock = Some(packet.timestamp);
                    }
                    if passed {
                        prop_assert_eq!(&packet.payload[..], &step.ssrc.to_be_bytes()[..]);
                        let changed = following.replace(step.ssrc).is_some_and(|before| before != step.ssrc);
                        prop_assert!(!changed || packet.marker || packet.payload_type != 0, "two streams mixed");
                    }
                }
            }
        }

        /// One well-behaved source: what goes out differs from what comes in by constants, whatever the network did.
        #[test]
        fn a_steady_source_is_passed_as_it_is(
            first: u16, timestamp: u32, order in prop::collection::vec((0..8i64, any::<bool>()), 1..200),
        ) {
            let (mut relay, start) = (relay(), Instant::now());
            // Each packet is delayed by up to 8 others, or lost; the first one comes first.
            let mut arrivals: Vec<(i64, i64)> = order.iter().enumerate()
                .filter(|(number, (_, lost))| *number == 0 || !lost)
                .map(|(number, (delay, _))| (number as i64 + if number == 0 { 0 } else { *delay }, number as i64))
                .collect();
            arrivals.sort_unstable();
            for (slot, number) in arrivals {
                let given = packet(0, 1, first.wrapping_add(number as u16), timestamp.wrapping_add(160 * number as u32));
                let out = relay.push(given, start + Duration::from_millis(20 * slot as u64)).map(relative);
                prop_assert_eq!(out, Some((number as u16, 160 * number as u32, 0, number == 0)));
            }
        }
    }
}
