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
    /// What was negotiated, and what passes packets accordingly; none before there is a description.
    current: Option<(Format, Format, Box<dyn Transform>)>,
}

/// The two sides' codecs cannot be made into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the codecs of both sides do not fit")]
pub struct Unfit;

impl Path {
    /// Nothing passes yet. `origin` is random.
    pub fn new(origin: Origin) -> Self {
        Self { origin, sent_at: None, packets: 0, octets: 0, current: None }
    }

    /// From packets of `input` to packets of `output` from now on.
    ///
    /// # Errors
    /// When there is no way from one to the other; then nothing passes any more.
    pub fn negotiated(&mut self, input: Format, output: Format, now: Instant) -> Result<(), Unfit> {
        if let Some((before, after, transform)) = &mut self.current
            && (*before, *after) == (input, output)
        {
            transform.renegotiated();
            return Ok(());
        }
        self.current = None;
        self.origin.timestamp = self.timestamp(&output, now);
        let transform = transform(input, output, self.origin)?;
        self.current = Some((input, output, transform));
        Ok(())
    }

    /// A packet came. Gives what goes on at once.
    pub fn push(&mut self, packet: Packet, now: Instant) -> Option<Packet> {
        let (.., transform) = self.current.as_mut()?;
        let packet = transform.push(packet, now);
        self.sent(packet, now)
    }

    /// What goes on because it is time; to be asked again until there is nothing.
    pub fn pull(&mut self, now: Instant) -> Option<Packet> {
        let (.., transform) = self.current.as_mut()?;
        let packet = transform.pull(now);
        self.sent(packet, now)
    }

    /// When [`Path::pull`] next has something.
    pub fn deadline(&self) -> Option<Instant> {
        self.current.as_ref().and_then(|(.., transform)| transform.deadline())
    }

    /// Presses keys towards the sink.
    pub fn press(&mut self, digits: &Digits, now: Instant) {
        if let Some((.., transform)) = &mut self.current {
            transform.press(digits, now);
        }
    }

    /// What went on so far; `None`: nothing.
    pub fn total(&self, now: Instant) -> Option<Sent> {
        let (_, output, _) = self.current.as_ref()?;
        let Self { origin, packets, octets, sent_at, .. } = self;
        let timestamp = self.timestamp(output, now);
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
}
