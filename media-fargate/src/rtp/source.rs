//! Which packets of what arrives belong to the one stream that is heard, and where in it they stand.
//!
//! A leg's source changes while a call lasts: early media comes from one machine and the answer from another, music on
//! hold from a third, and each begins its own stream. One stream is heard at a time, never two mixed.

use std::time::{Duration, Instant};

use super::Packet;

/// A stream may be this long without a packet before another may take its place. Longer than any packet's audio.
const QUIET: Duration = Duration::from_millis(100);
/// A jump forward of this many packets is no loss but a new beginning (RFC 3550, appendix A.1, `MAX_DROPOUT`).
const MAX_DROPOUT: u16 = 3_000;
/// How far back packets are known by number: what comes later than that is no longer of use. A power of two.
const WINDOW: u16 = 128;

/// Where a packet stands in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The packet's number, counted on beyond 2^16 (RFC 3550, appendix A.1).
    pub index: i64,
    /// How it comes.
    pub arrival: Arrival,
}

/// How a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It begins a stream: nothing before it has to do with it.
    First,
    /// It is the newest so far. The numbers between are missing, for now or for good.
    Newest,
    /// It was overtaken, and comes for the first time.
    Late,
}

/// The stream that is heard.
#[derive(Clone, Debug, Default)]
pub struct Source {
    stream: Option<Stream>,
    /// Another stream may begin without waiting for silence.
    open: bool,
}

#[derive(Clone, Debug)]
struct Stream {
    ssrc: u32,
    highest: i64,
    /// Which of the last [`WINDOW`] came; bit 0 is `highest`.
    seen: u128,
    heard: Instant,
    /// The number after a jump; a second packet at that place proves a new beginning.
    restart: Option<u16>,
}

impl Source {
    /// Where a packet stands; `None`: it is not to be heard. It is of another stream, came before, or comes too late.
    ///
    /// A number is given once. Both legs may be encrypted with the number in the nonce, where two packets under one number
    /// would be worse than a lost one.
    pub fn place(&mut self, packet: &Packet, now: Instant) -> Option<Place> {
        match &mut self.stream {
            Some(stream) if stream.ssrc == packet.ssrc => {
                let place = stream.place(packet.sequence, now);
                self.open &= place.is_none();
                place
            }
            Some(stream) if !self.open && !stream.is_quiet(now) => None,
            _ => Some(self.begin(packet, now)),
        }
    }

    /// The session was negotiated anew: another stream may begin at once.
    pub fn renegotiated(&mut self) {
        self.open = true;
    }

    fn begin(&mut self, packet: &Packet, now: Instant) -> Place {
        let index = i64::from(packet.sequence);
        self.stream = Some(Stream { ssrc: packet.ssrc, highest: index, seen: 1, heard: now, restart: None });
        self.open = false;
        Place { index, arrival: Arrival::First }
    }
}

impl Stream {
    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= QUIET
    }

    fn place(&mut self, sequence: u16, now: Instant) -> Option<Place> {
        // `as` truncates: the number modulo 2^16.
        let ahead = sequence.wrapping_sub(self.highest as u16);
        let behind = ahead.wrapping_neg();
        let place = if (1..MAX_DROPOUT).contains(&ahead) {
            let bits = u32::from(ahead);
            self.seen = self.seen.checked_shl(bits).unwrap_or(0) | 1;
            self.highest += i64::from(ahead);
            Place { index: self.highest, arrival: Arrival::Newest }
        } else if behind < WINDOW {
            let bit = 1 << behind;
            if self.seen & bit != 0 {
                return None;
            }
            self.seen |= bit;
            Place { index: self.highest - i64::from(behind), arrival: Arrival::Late }
        } else if self.is_quiet(now) || self.restart == Some(sequence) {
            self.seen = 1;
            self.highest = i64::from(sequence);
            Place { index: self.highest, arrival: Arrival::First }
        } else {
            self.restart = Some(sequence.wrapping_add(1));
            return None;
        };
        self.restart = None;
        self.heard = now;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn packet(ssrc: u32, sequence: u16) -> Packet {
        Packet { payload_type: 0, marker: false, sequence, timestamp: 0, ssrc, payload: Bytes::new() }
    }

    /// Columns: milliseconds, SSRC, sequence; where it stands.
    #[test]
    fn streams_and_their_numbers() {
        use Arrival::*;
        type Step = (u64, u32, u16, Option<(i64, Arrival)>);
        let cases: [&[Step]; 6] = [
            // In order, around the end of the numbers, with a loss, overtaken, twice.
            &[
                (0, 1, 65_534, Some((65_534, First))),
                (20, 1, 65_535, Some((65_535, Newest))),
                (40, 1, 0, Some((65_536, Newest))),
                (60, 1, 3, Some((65_539, Newest))),
                (61, 1, 1, Some((65_537, Late))),
                (62, 1, 1, None),
                (63, 1, 3, None),
                (64, 1, 65_535, None),
                (65, 1, 65_533, Some((65_533, Late))),
            ],
            // Beyond the window nothing is known.
            &[
                (0, 1, 0, Some((0, First))),
                (1, 1, 200, Some((200, Newest))),
                (2, 1, 73, Some((73, Late))),
                (3, 1, 72, None),
                (4, 1, 0, None),
            ],
            // A jump needs a second packet, or silence before it.
            &[
                (0, 1, 0, Some((0, First))),
                (20, 1, 30_000, None),
                (40, 1, 1, Some((1, Newest))),
                (60, 1, 30_001, None),
                (80, 1, 30_002, Some((30_002, First))),
                (100, 1, 2, None),
                (250, 1, 10, Some((10, First))),
                (270, 1, 3_009, Some((3_009, Newest))),
                (290, 1, 6_009, None),
            ],
            // Another stream waits until the first is silent, and the first may not come back before the other is.
            &[
                (0, 1, 0, Some((0, First))),
                (10, 2, 500, None),
                (20, 1, 1, Some((1, Newest))),
                (119, 2, 501, None),
                (120, 2, 502, Some((502, First))),
                (121, 1, 2, None),
                (140, 2, 503, Some((503, Newest))),
                (240, 1, 3, Some((3, First))),
            ],
            // Numbers that were given are never given again, though the same stream comes back with them.
            &[(0, 1, 5, Some((5, First))), (200, 1, 5, None), (220, 1, 6, Some((6, Newest)))],
            &[(0, 1, 5, Some((5, First))), (5, 3, 9, None), (6, 1, 6, Some((6, Newest)))],
        ];
        for (number, case) in cases.into_iter().enumerate() {
            let (mut source, start) = (Source::default(), Instant::now());
            for (millis, ssrc, sequence, expected) in case {
                let place = source.place(&packet(*ssrc, *sequence), start + Duration::from_millis(*millis));
                let place = place.map(|Place { index, arrival }| (index, arrival));
                assert_eq!(place, *expected, "case {number}, {millis} ms: {ssrc} {sequence}");
            }
        }
    }

    #[test]
    fn after_a_negotiation_another_stream_begins_at_once() {
        let (mut source, now) = (Source::default(), Instant::now());
        let heard = |source: &mut Source, ssrc, sequence| source.place(&packet(ssrc, sequence), now).is_some();
        assert!(heard(&mut source, 1, 0) && !heard(&mut source, 2, 0));
        source.renegotiated();
        assert!(heard(&mut source, 2, 1) && heard(&mut source, 2, 2));
        assert!(!heard(&mut source, 1, 1), "one change for one negotiation");
    }

    proptest! {
        /// Whatever two streams send: within one beginning no number is given twice, and streams do not mix.
        #[test]
        fn numbers_are_given_once(steps in prop::collection::vec((0..60u64, 1..3u32, prop_oneof![3 => 0..80u16, 1 => any::<u16>()]), 0..200)) {
            let (mut source, mut now) = (Source::default(), Instant::now());
            let (mut given, mut current) = (HashSet::new(), None);
            for (pause, ssrc, sequence) in steps {
                now += Duration::from_millis(pause);
                let Some(place) = source.place(&packet(ssrc, sequence), now) else { continue };
                if place.arrival == Arrival::First {
                    given.clear();
                    current = Some(ssrc);
                }
                prop_assert_eq!(current, Some(ssrc));
                prop_assert!(given.insert(place.index), "{:?}", place);
                prop_assert_eq!(place.index.rem_euclid(65_536), i64::from(sequence));
            }
        }
    }
}
