//! One direction of a call's audio. What makes one leg's packets into the other's may have to be changed in the middle of
//! a call: an answer with another codec than the early media, a re-INVITE. The leg that receives notices nothing: its
//! stream goes on with the next number.

use std::time::Instant;

use crate::{
    control::Digits,
    rtp::{Format, Origin, Packet, Transform, relay::Relay, rtcp::Sent, transcode::Transcoder},
};

/// A direction.
pub struct Path {
    /// Where the stream begins, or goes on when the transform changes.
    origin: Origin,
    /// When the last packet went out.
    sent_at: Option<Instant>,
    packets: u32,
    octets: u32,
    /// From which packets to which, once that is negotiated.
    agreed: Option<(Format, Format)>,
    /// What passes packets accordingly; none while held.
    transform: Option<Box<dyn Transform>>,
    held: bool,
}

/// The two sides' codecs cannot be made into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the codecs of both sides do not fit")]
pub struct Unfit;

impl Path {
    /// Nothing passes yet. `origin` is random.
    pub fn new(origin: Origin) -> Self {
        Self { origin, sent_at: None, packets: 0, octets: 0, agreed: None, transform: None, held: false }
    }

    /// Nothing passes until [`Path::resume`]. To the leg that receives it is silence and no loss: numbers stand still.
    pub fn hold(&mut self) {
        (self.held, self.transform) = (true, None);
    }

    /// Packets pass again, after as much silence as there was.
    ///
    /// # Errors
    /// As [`Path::negotiated`].
    pub fn resume(&mut self, now: Instant) -> Result<(), Unfit> {
        if !std::mem::replace(&mut self.held, false) {
            return Ok(());
        }
        self.agreed.map_or(Ok(()), |(input, output)| self.negotiated(input, output, now))
    }

    /// Whether nothing passes because of a hold.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// From packets of `input` to packets of `output` from now on.
    ///
    /// # Errors
    /// When there is no way from one to the other; then nothing passes any more.
    pub fn negotiated(&mut self, input: Format, output: Format, now: Instant) -> Result<(), Unfit> {
        if let Some(transform) = self.transform.as_mut().filter(|_| self.agreed == Some((input, output))) {
            transform.renegotiated();
            return Ok(());
        }
        (self.agreed, self.transform) = (None, None);
        let origin = Origin { timestamp: self.timestamp(&output, now), ..self.origin };
        let transform = transform(input, output, origin)?;
        self.agreed = Some((input, output));
        if !self.held {
            (self.origin, self.transform) = (origin, Some(transform));
        }
        Ok(())
    }

    /// A packet came. Gives what goes on at once.
    pub fn push(&mut self, packet: Packet, now: Instant) -> Option<Packet> {
        let packet = self.transform.as_mut()?.push(packet, now);
        self.sent(packet, now)
    }

    /// What goes on because it is time; to be asked again until there is nothing.
    pub fn pull(&mut self, now: Instant) -> Option<Packet> {
        let packet = self.transform.as_mut()?.pull(now);
        self.sent(packet, now)
    }

    /// When [`Path::pull`] next has something.
    pub fn deadline(&self) -> Option<Instant> {
        self.transform.as_ref().and_then(|transform| transform.deadline())
    }

    /// Presses keys towards the sink.
    pub fn press(&mut self, digits: &Digits, now: Instant) {
        if let Some(transform) = &mut self.transform {
            transform.press(digits, now);
        }
    }

    /// What went on so far; `None`: nothing.
    pub fn total(&self, now: Instant) -> Option<Sent> {
        let (_, output) = self.agreed?;
        let Self { origin, packets, octets, sent_at, .. } = self;
        let timestamp = self.timestamp(&output, now);
        sent_at.map(|_| Sent { ssrc: origin.ssrc, packets: *packets, octets: *octets, timestamp })
    }

    /// The timestamp of this moment.
    fn timestamp(&self, output: &Format, now: Instant) -> u32 {
        let since = self.sent_at.map_or(0, |sent_at| now.saturating_duration_since(sent_at).as_micros());
        let ticks = since * u128::from(output.clock_rate()) / 1_000_000;
        // `as` truncates: timestamps count modulo 2^32.
        self.origin.timestamp.wrapping_add(ticks as u32)
    }

    /// Remembers where the stream is.
    fn sent(&mut self, packet: Option<Packet>, now: Instant) -> Option<Packet> {
        let sent = packet.as_ref()?;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(sent.payload.len() as u32);
        let next = sent.sequence.wrapping_add(1);
        // One that was overtaken moves nothing.
        if self.sent_at.is_none() || next.wrapping_sub(self.origin.sequence) < u16::MAX / 2 {
            (self.origin.sequence, self.origin.timestamp) = (next, sent.timestamp);
            self.sent_at = Some(now);
        }
        packet
    }
}

fn transform(input: Format, output: Format, origin: Origin) -> Result<Box<dyn Transform>, Unfit> {
    if let Ok(relay) = Relay::new(input, output, origin) {
        return Ok(Box::new(relay));
    }
    let transcoder = Transcoder::new(input, output, origin).map_err(|_| Unfit)?;
    Ok(Box::new(transcoder))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::Codec;

    const ORIGIN: Origin = Origin { ssrc: 7, sequence: u16::MAX, timestamp: 1_000 };

    fn format(codec: Codec, audio: u8) -> Format {
        Format { codec, audio, events: Some(101), comfort_noise: None }
    }

    fn packet(payload_type: u8, sequence: u16) -> Packet {
        let timestamp = u32::from(sequence) * 160;
        Packet { payload_type, marker: false, sequence, timestamp, ssrc: 1, payload: Bytes::from_static(b"\x55") }
    }

    #[test]
    fn a_stream_goes_on_when_the_codec_changes() {
        let (mut path, start) = (Path::new(ORIGIN), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(path.push(packet(0, 1), start), None, "nothing is negotiated");
        let (pcmu, pcma) = (format(Codec::Pcmu, 0), format(Codec::Pcma, 8));
        path.negotiated(pcmu, pcmu, start).expect("the same");
        for number in 1..=3 {
            path.push(packet(0, number), at(20 * u64::from(number))).expect("it passes");
        }
        path.negotiated(pcma, pcmu, at(80)).expect("the other law");
        let first = path.push(packet(8, 900), at(80)).expect("it passes");
        assert_eq!((first.sequence, first.timestamp, first.payload_type, first.ssrc), (2, 1_000 + 3 * 160, 0, 7));
        assert_ne!(first.payload, packet(8, 900).payload, "of the other law");
        path.negotiated(pcma, pcmu, at(100)).expect("a refresh");
        assert_eq!(path.push(packet(8, 901), at(100)).map(|packet| packet.sequence), Some(3));
    }

    #[test]
    fn a_hold_is_silence_and_no_loss() {
        let (pcmu, opus) = (format(Codec::Pcmu, 0), format(Codec::Opus, 111));
        for input in [pcmu, opus] {
            let (mut path, start) = (Path::new(ORIGIN), Instant::now());
            let at = |millis| start + Duration::from_millis(millis);
            path.negotiated(input, pcmu, start).expect("it fits");
            let step = |path: &mut Path, number: u16| {
                let now = at(20 * u64::from(number));
                let came =
                    Packet { timestamp: u32::from(number) * input.clock_rate() / 50, ..packet(input.audio, number) };
                let mut out: Vec<_> = path.push(came, now).into_iter().collect();
                out.extend(std::iter::from_fn(|| path.pull(now)));
                out
            };
            let before: Vec<_> = (0..50).flat_map(|number| step(&mut path, number)).collect();
            path.hold();
            assert_eq!((50..200).flat_map(|number| step(&mut path, number)).count(), 0, "who is held hears nothing");
            let counted = path.total(at(4_000)).expect("a stream").packets;
            assert_eq!(counted as usize, before.len(), "what was not sent is not told either");
            path.resume(at(4_000)).expect("it fits");
            let after: Vec<_> = (200..250).flat_map(|number| step(&mut path, number)).collect();
            let (last, first) = (before.last().expect("audio"), after.first().expect("audio"));
            assert_eq!(first.sequence, last.sequence.wrapping_add(1), "no number is missing");
            let silence = first.timestamp.wrapping_sub(last.timestamp);
            assert!((23_000..27_000).contains(&silence), "three seconds went by: {silence}");
        }
    }

    #[test]
    fn a_hold_before_anything_is_negotiated_counts_as_well() {
        let (mut path, now, pcmu) = (Path::new(ORIGIN), Instant::now(), format(Codec::Pcmu, 0));
        path.hold();
        path.negotiated(pcmu, pcmu, now).expect("it fits");
        assert!(path.is_held() && path.push(packet(0, 1), now).is_none());
        path.resume(now).expect("it fits");
        assert!(!path.is_held() && path.push(packet(0, 2), now).is_some());
    }

    /// What happens on a path: a packet as it was sent, some of its bytes changed and its end cut; keys; a description.
    #[derive(Clone, Debug)]
    enum Step {
        Packet { sequence: u16, kind: u8, changes: Vec<(usize, u8)>, cut: usize, length: usize },
        Press(String, u16),
        Negotiated(Codec, Codec),
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let codec = || prop::sample::select(vec![Codec::Pcmu, Codec::Pcma, Codec::Opus]);
        let changes = prop::collection::vec((0..40_usize, any::<u8>()), 0..4);
        let packet = (0..400_u16, 0..4_u8, changes, 0..20_usize, 0..300_usize)
            .prop_map(|(sequence, kind, changes, cut, length)| Step::Packet { sequence, kind, changes, cut, length });
        let press = ("[0-9*#A-D]{1,4}", 0..2_000_u16).prop_map(|(digits, millis)| Step::Press(digits, millis));
        let negotiated = (codec(), codec()).prop_map(|(from, to)| Step::Negotiated(from, to));
        let step = prop_oneof![40 => packet, 1 => press, 1 => negotiated];
        let pause = prop_oneof![8 => 0..25_u64, 1 => 0..1_500_u64];
        prop::collection::vec((pause, step), 1..120)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever arrives: what leaves is marked as agreed, in one stream, and no number comes twice.
        #[test]
        fn broken_packets_break_nothing(first in any::<(bool, bool)>(), steps in steps()) {
            let codec = |opus: bool| if opus { Codec::Opus } else { Codec::Pcmu };
            let (mut path, start, mut millis) = (Path::new(ORIGIN), Instant::now(), 0);
            let (mut input, mut output) = (format(codec(first.0), 96), format(codec(first.1), 97));
            path.negotiated(input, output, start).expect("every codec fits");
            let mut numbers = std::collections::HashSet::new();
            for (pause, step) in steps {
                millis += pause;
                let now = start + Duration::from_millis(millis);
                let mut out = Vec::new();
                match step {
                    Step::Packet { sequence, kind, changes, cut, length } => {
                        let payload_type = [input.audio, input.audio, 101, 13][usize::from(kind)];
                        let payload = vec![0x55; if kind == 2 { 4 } else { length }];
                        let whole = Packet { payload: payload.into(), payload_type, ..packet(0, sequence) };
                        let mut bytes = whole.write().to_vec();
                        for (at, byte) in changes {
                            if let Some(changed) = bytes.get_mut(at) {
                                *changed = byte;
                            }
                        }
                        bytes.truncate(bytes.len() - cut.min(bytes.len()));
                        if let Ok(read) = Packet::parse(bytes.into()) {
                            out.extend(path.push(read, now));
                        }
                    }
                    Step::Press(digits, millis) => path.press(&Digits::new(&digits, millis).expect("digits"), now),
                    Step::Negotiated(from, to) => {
                        (input, output) = (format(from, 96), format(to, 97));
                        path.negotiated(input, output, now).expect("every codec fits");
                    }
                }
                out.extend(std::iter::from_fn(|| path.pull(now)));
                prop_assert!(path.deadline().is_none_or(|at| at > now), "nothing is left that is due");
                for packet in out {
                    prop_assert_eq!(packet.ssrc, ORIGIN.ssrc);
                    prop_assert!(output.kind(packet.payload_type).is_some(), "{:?}", packet);
                    prop_assert!(packet.payload.len() <= 1_276, "{:?}", packet);
                    prop_assert!(numbers.insert(packet.sequence), "{} twice", packet.sequence);
                }
            }
        }
    }
}
