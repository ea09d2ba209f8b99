//! RTCP (RFC 3550, section 6) between two parties: what we sent and how we hear, and what the other side says of that.
//! On the trunk's leg it is ours to write; on the browser's the WebRTC stack does it.

use std::time::{Duration, Instant};

use crate::quality::{Reception, ntp_middle, round_trip};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const CNAME: u8 = 1;
/// Bytes of a report block.
const BLOCK: usize = 24;

/// What we sent so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Our stream.
    pub ssrc: u32,
    /// Packets of it.
    pub packets: u32,
    /// Bytes of audio in them.
    pub octets: u32,
    /// The timestamp of this moment.
    pub timestamp: u32,
}

/// One leg's RTCP.
#[derive(Clone, Debug)]
pub struct Reports {
    /// A name for the session alone (RFC 7022): random.
    cname: String,
    /// The other side's last sender report: who, its middle time, when it came.
    heard: Option<(u32, u32, Instant)>,
    round_trip: Option<Duration>,
    /// What was expected and what came until our last report.
    before: (i64, i64),
}

impl Reports {
    /// `cname` is random.
    pub fn new(cname: String) -> Self {
        Self { cname, heard: None, round_trip: None, before: (0, 0) }
    }

    /// The round-trip time, once the other side answered a report of ours.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Reads what came in about the stream `ours`; what is no RTCP, or cut off, says nothing. `clock`: since the Unix epoch.
    pub fn read(&mut self, mut bytes: &[u8], ours: u32, now: Instant, clock: Duration) {
        while let Some((kind, count, packet, rest)) = split(bytes) {
            bytes = rest;
            let blocks = match kind {
                SENDER_REPORT => {
                    // The middle half of a time that begins at byte 8.
                    let (Some(ssrc), Some(middle)) = (word(packet, 4), word(packet, 10)) else { return };
                    self.heard = Some((ssrc, middle, now));
                    packet.get(28..)
                }
                RECEIVER_REPORT => packet.get(8..),
                _ => continue,
            };
            let blocks = blocks.unwrap_or_default().chunks_exact(BLOCK).take(count.into());
            for block in blocks.filter(|block| word(block, 0) == Some(ours)) {
                if let (Some(last), Some(delay)) = (word(block, 16), word(block, 20)) {
                    self.round_trip = round_trip(ntp_middle(clock), last, delay).or(self.round_trip);
                }
            }
        }
    }

    /// What we say now: a sender report with a block about what we hear, and our name. `clock`: since the Unix epoch.
    pub fn write(&mut self, sent: Sent, reception: &Reception, now: Instant, clock: Duration) -> Vec<u8> {
        let block = self.block(reception, now);
        let mut bytes = Vec::with_capacity(96);
        let words = 6 + if block.is_some() { 6 } else { 0 };
        head(&mut bytes, u8::from(block.is_some()), SENDER_REPORT, words);
        // The whole seconds' offset of both epochs; `as` truncates, as NTP does every 136 years.
        let seconds = clock.as_secs().wrapping_add(2_208_988_800) as u32;
        let fraction = ((u64::from(clock.subsec_nanos()) << 32) / 1_000_000_000) as u32;
        for word in [sent.ssrc, seconds, fraction, sent.timestamp, sent.packets, sent.octets] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(block.into_iter().flatten());
        // The name's chunk ends with one to four zero bytes, on a whole word.
        let length = 4 + 2 + self.cname.len();
        let padded = length / 4 * 4 + 4;
        head(&mut bytes, 1, DESCRIPTION, padded / 4);
        bytes.extend(sent.ssrc.to_be_bytes());
        bytes.extend([CNAME, self.cname.len() as u8]);
        bytes.extend(self.cname.bytes());
        bytes.extend(std::iter::repeat_n(0, padded - length));
        bytes
    }

    fn block(&mut self, reception: &Reception, now: Instant) -> Option<[u8; BLOCK]> {
        let heard = reception.heard()?;
        let (expected, came) = (heard.expected - self.before.0, heard.packets - self.before.1);
        self.before = (heard.expected, heard.packets);
        // Of 256; duplicates make it none, never less.
        let fraction = if expected > 0 { ((expected - came).clamp(0, expected) * 256 / expected).min(255) } else { 0 };
        let lost = (heard.expected - heard.packets).clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let (last, delay) = match self.heard {
            Some((ssrc, middle, at)) if ssrc == heard.ssrc => {
                (middle, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32)
            }
            _ => (0, 0),
        };
        let words = [heard.ssrc, (fraction as u32) << 24 | lost, heard.highest, heard.jitter, last, delay];
        let mut block = [0; BLOCK];
        for (place, word) in block.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        Some(block)
    }
}

/// Version 2, no padding; the length counts words, less one.
fn head(bytes: &mut Vec<u8>, count: u8, kind: u8, words: usize) {
    bytes.extend([0x80 | count, kind]);
    bytes.extend((words as u16).to_be_bytes());
}

/// The first packet of a compound: kind, count, the packet, the rest.
fn split(bytes: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let head: &[u8; 4] = bytes.first_chunk()?;
    let length = 4 + 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[0] >> 6 != 2 || length > bytes.len() {
        return None;
    }
    let (packet, rest) = bytes.split_at(length);
    Some((head[1], head[0] & 0x1f, packet, rest))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::{Codec, Packet};

    const CLOCK: Duration = Duration::from_secs(1_800_000_000);

    fn reports() -> Reports {
        Reports::new("0123456789abcdef".to_owned())
    }

    fn sent(ssrc: u32) -> Sent {
        Sent { ssrc, packets: 50, octets: 8_000, timestamp: 16_000 }
    }

    fn reception(ssrc: u32, numbers: impl IntoIterator<Item = u16>, now: Instant) -> Reception {
        let mut reception = Reception::new(Codec::Pcmu);
        for sequence in numbers {
            let timestamp = u32::from(sequence) * 160;
            reception.packet(
                &Packet { payload_type: 0, marker: false, sequence, timestamp, ssrc, payload: Bytes::new() },
                now,
            );
        }
        reception
    }

    #[test]
    fn two_parties_learn_their_round_trip() {
        let start = Instant::now();
        let (mut near, mut far) = (reports(), reports());
        let (hears_far, hears_near) = (reception(2, 0..10, start), reception(1, 0..10, start));
        // 30 ms there, 200 ms until the far side says something, 50 ms back.
        let at = |millis| (start + Duration::from_millis(millis), CLOCK + Duration::from_millis(millis));
        let (now, clock) = at(0);
        let report = near.write(sent(1), &hears_far, now, clock);
        let (now, clock) = at(30);
        far.read(&report, 2, now, clock + Duration::from_secs(77));
        assert_eq!(far.round_trip(), None, "it answers nothing");
        let (now, clock) = at(230);
        let answer = far.write(sent(2), &hears_near, now, clock + Duration::from_secs(77));
        let (now, clock) = at(280);
        near.read(&answer, 1, now, clock);
        let took = near.round_trip().expect("an answer").as_secs_f64();
        assert!((took - 0.080).abs() < 0.001, "{took}");
        near.read(&answer, 9, now, clock + Duration::from_secs(5));
        assert_eq!(near.round_trip().expect("still").as_secs_f64(), took, "about somebody else's stream");
    }

    #[test]
    fn what_a_report_says() {
        let now = Instant::now();
        let mut reports = reports();
        let report = reports.write(sent(7), &Reception::new(Codec::Pcmu), now, CLOCK);
        assert_eq!((report[..4].to_vec(), report.len()), (vec![0x80, 200, 0, 6], 28 + 28), "nothing is heard yet");
        let lossy = reception(9, [100, 101, 103, 104], now);
        let report = reports.write(sent(7), &lossy, now, CLOCK);
        assert_eq!(report[..4], [0x81, 200, 0, 12]);
        assert_eq!(report[4..8], 7u32.to_be_bytes());
        assert_eq!(report[8..12], (1_800_000_000u32.wrapping_add(2_208_988_800)).to_be_bytes());
        // One of five lost: 51 of 256; and the highest number.
        assert_eq!(report[28..32], 9u32.to_be_bytes());
        assert_eq!((&report[32..36], &report[36..40]), (&[51u8, 0, 0, 1][..], &104u32.to_be_bytes()[..]));
        assert_eq!(report[52..56], [0x81, 202, 0, 6]);
        assert!(report.ends_with(b"0123456789abcdef\0\0"));
        let same = reports.write(sent(7), &lossy, now, CLOCK);
        assert_eq!(same[32..36], [0, 0, 0, 1], "nothing more was lost");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, ours: u32) {
            reports().read(&bytes, ours, Instant::now(), CLOCK);
        }

        #[test]
        fn no_cut_or_changed_report_makes_it_panic(cut in 0usize..90, at in 0usize..80, to: u8) {
            let now = Instant::now();
            let mut report = reports().write(sent(1), &reception(2, 0..9, now), now, CLOCK);
            let at = at % report.len();
            report[at] = to;
            report.truncate(cut);
            reports().read(&report, 1, now, CLOCK);
        }
    }
}
