//! Transcoding between Opus and G.711, at 8 kHz on both sides: Opus resamples inside, and the trunk has no more.
//!
//! Opus is for the internet side, where packets get lost: it is sent with in-band FEC, and what is lost of it is taken from
//! the next packet's copy, or concealed. Output leaves every 20 ms, whatever the input does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ropus::{DecodeMode, opus::decoder::opus_packet_get_nb_samples};

use super::{
    Codec, Format, Kind, Origin, PTIME, Packet, Transform,
    dtmf::{Event, Keypad},
    jitter::{Counts, JitterBuffer, Slot},
    law::Law,
    source::{Arrival, Source},
    ticks,
};
use crate::control::Digits;

/// Samples per second between decoder and encoder.
const RATE: u32 = 8_000;
/// Samples of one outgoing packet: 20 ms.
const SAMPLES: usize = 160;
/// Samples of the longest packet that Opus makes: 120 ms.
const MAX_SAMPLES: usize = 960;
/// Bits per second of speech in narrow band, with room for the copies.
const BITRATE: u32 = 24_000;
/// Loss in percent that the encoder's copies are made for.
const EXPECTED_LOSS: u8 = 10;
/// Bytes of the longest frame that Opus makes, RFC 6716, 3.4.
const MAX_PAYLOAD: usize = 1_275 + 1;
/// Nearly the quality of 10 for half the time.
const COMPLEXITY: u8 = 5;
/// A telephone event whose end was lost is over after this long.
const EVENT_LIMIT: Duration = Duration::from_millis(100);

/// Opus refused its settings; they are constants, so it never should.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Those of the encoder.
    #[error("the Opus encoder: {0}")]
    Encoder(#[from] ropus::EncoderBuildError),
    /// Those of the decoder.
    #[error("the Opus decoder: {0}")]
    Decoder(#[from] ropus::DecoderInitError),
}

/// Makes audio of one codec into audio of another, in one direction.
pub struct Transcoder {
    input: Format,
    output: Format,
    source: Source,
    buffer: JitterBuffer,
    decoder: Decoder,
    /// Decoded and not yet sent.
    samples: Vec<i16>,
    encoder: Encoder,
    keypad: Keypad,
    event: Option<Passing>,
    ssrc: u32,
    sequence: u16,
    /// Of the next packet.
    timestamp: u32,
    /// When that is due; `None`: nothing came yet.
    due: Option<Instant>,
    /// Nothing was sent before the next packet.
    fresh: bool,
}

/// A telephone event on its way through.
#[derive(Clone, Copy, Debug)]
struct Passing {
    /// Its timestamp as it comes, and as it goes.
    input: u32,
    output: u32,
    /// Until then audio gives way to it.
    until: Instant,
}

impl Transcoder {
    /// From packets of `input` to packets of `output`.
    ///
    /// # Errors
    /// When a codec cannot be made ready.
    pub fn new(input: Format, output: Format, origin: Origin) -> Result<Self, CodecError> {
        Ok(Self {
            input,
            output,
            source: Source::default(),
            buffer: JitterBuffer::default(),
            decoder: Decoder::new(input.codec)?,
            samples: Vec::with_capacity(SAMPLES + MAX_SAMPLES),
            encoder: Encoder::new(output.codec)?,
            keypad: Keypad::new(output.clock_rate()),
            event: None,
            ssrc: origin.ssrc,
            sequence: origin.sequence,
            timestamp: origin.timestamp,
            due: None,
            fresh: true,
        })
    }

    /// Frames that were not simply played.
    pub fn counts(&self) -> Counts {
        self.buffer.counts()
    }

    fn audio(&mut self, index: i64, payload: Bytes, now: Instant) {
        if let Some(samples) = self.decoder.samples(&payload) {
            let micros = samples as u64 * 1_000_000 / u64::from(RATE);
            self.buffer.push(index, payload, Duration::from_micros(micros));
            self.due.get_or_insert(now);
        }
    }

    /// An event passes at once, on our clock. Numbers are given as packets leave, so one that comes twice does no harm.
    fn event(&mut self, packet: &Packet, now: Instant) -> Option<Packet> {
        let payload_type = self.output.events?;
        let event = Event::parse(&packet.payload)?;
        let begun = self.event.filter(|known| known.input == packet.timestamp).map(|known| known.output);
        let timestamp = begun.unwrap_or_else(|| self.timestamp_at(now));
        let until = if event.end { now } else { now + EVENT_LIMIT };
        self.event = Some(Passing { input: packet.timestamp, output: timestamp, until });
        self.due.get_or_insert(now);
        let event = event.on_clock(self.input.clock_rate(), self.output.clock_rate());
        Some(self.packet(payload_type, begun.is_none(), timestamp, event.write()))
    }

    /// The timestamp of this moment: that of the packet before it, at the latest.
    fn timestamp_at(&self, now: Instant) -> u32 {
        let Some(due) = self.due else { return self.timestamp };
        let rate = self.output.clock_rate();
        let ahead = ticks(due.saturating_duration_since(now), rate);
        let behind = ticks(now.saturating_duration_since(due), rate);
        // `as` truncates: timestamps count modulo 2^32.
        self.timestamp.wrapping_add(behind as u32).wrapping_sub(ahead as u32)
    }

    fn packet(&mut self, payload_type: u8, marker: bool, timestamp: u32, payload: Bytes) -> Packet {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Packet { payload_type, marker, sequence, timestamp, ssrc: self.ssrc, payload }
    }

    /// The next 20 ms; `None`: there is nothing to hear.
    fn frame(&mut self) -> Option<[i16; SAMPLES]> {
        while self.samples.len() < SAMPLES {
            match self.buffer.pop() {
                Slot::Frame(payload) => self.decoder.decode(&payload, &mut self.samples),
                Slot::Recover(successor) => self.decoder.recover(&successor, &mut self.samples),
                Slot::Lost => self.decoder.conceal(&mut self.samples),
                Slot::Nothing if self.samples.is_empty() => return None,
                Slot::Nothing => self.samples.resize(SAMPLES, 0),
            }
        }
        let frame = self.samples.first_chunk().copied()?;
        self.samples.drain(..SAMPLES);
        Some(frame)
    }

    /// One step of the outgoing clock: a packet, or silence.
    fn step(&mut self, due: Instant) -> Option<Packet> {
        let timestamp = self.timestamp;
        // `as` truncates: timestamps count modulo 2^32.
        self.timestamp = timestamp.wrapping_add(ticks(PTIME, self.output.clock_rate()) as u32);
        self.due = Some(due + PTIME);
        let frame = self.frame();
        let gives_way = self.keypad.is_down() || self.event.is_some_and(|event| due < event.until);
        let payload = frame.filter(|_| !gives_way).and_then(|frame| self.encoder.encode(&frame));
        let marker = std::mem::replace(&mut self.fresh, payload.is_none());
        Some(self.packet(self.output.audio, marker, timestamp, payload?))
    }
}

impl Transform for Transcoder {
    fn push(&mut self, packet: Packet, now: Instant) -> Option<Packet> {
        let place = self.source.place(&packet, now)?;
        if place.arrival == Arrival::First {
            self.buffer.reset();
        }
        match self.input.kind(packet.payload_type) {
            Some(Kind::Audio) => self.audio(place.index, packet.payload, now),
            Some(Kind::Event) => return self.event(&packet, now),
            Some(Kind::ComfortNoise) | None => {}
        }
        None
    }

    fn pull(&mut self, now: Instant) -> Option<Packet> {
        if let Some(payload_type) = self.output.events
            && let Some(press) = self.keypad.pull(self.timestamp_at(now), now)
        {
            self.due.get_or_insert(now);
            return Some(self.packet(payload_type, press.marker, press.timestamp, press.event.write()));
        }
        while let Some(due) = self.due.filter(|due| *due <= now) {
            if let Some(packet) = self.step(due) {
                return Some(packet);
            }
        }
        None
    }

    fn deadline(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.keypad.deadline()).min()
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

/// Payloads to samples.
enum Decoder {
    Opus {
        decoder: Box<ropus::Decoder>,
        /// Samples of the last frame: as many are missing when one is lost.
        last: usize,
    },
    G711 {
        law: Law,
        /// The last frame, for want of a better one.
        last: Vec<i16>,
    },
}

impl Decoder {
    fn new(codec: Codec) -> Result<Self, CodecError> {
        Ok(match Law::of(codec) {
            Some(law) => Self::G711 { law, last: vec![0; SAMPLES] },
            None => Self::Opus { decoder: ropus::Decoder::new(RATE, ropus::Channels::Mono)?.into(), last: SAMPLES },
        })
    }

    /// How many samples a payload holds; `None`: none, or it is broken.
    fn samples(&self, payload: &[u8]) -> Option<usize> {
        let samples = match self {
            Self::Opus { .. } => opus_samples(payload)?,
            Self::G711 { .. } => payload.len(),
        };
        (1..=MAX_SAMPLES).contains(&samples).then_some(samples)
    }

    fn decode(&mut self, payload: &[u8], into: &mut Vec<i16>) {
        match self {
            Self::Opus { last, .. } => {
                *last = opus_samples(payload).unwrap_or(SAMPLES);
                self.opus(payload, DecodeMode::Normal, into);
            }
            Self::G711 { law, last } => {
                last.clear();
                last.extend(payload.iter().map(|byte| law.decode(*byte)));
                into.extend_from_slice(last);
            }
        }
    }

    /// The frame before `successor`, from the copy in it; without one, Opus conceals.
    fn recover(&mut self, successor: &[u8], into: &mut Vec<i16>) {
        match self {
            Self::Opus { .. } => self.opus(successor, DecodeMode::Fec, into),
            Self::G711 { .. } => self.conceal(into),
        }
    }

    /// A frame that is not here. G.711: the last one again, each time half as loud.
    fn conceal(&mut self, into: &mut Vec<i16>) {
        match self {
            Self::Opus { .. } => self.opus(&[], DecodeMode::Normal, into),
            Self::G711 { last, .. } => {
                last.iter_mut().for_each(|sample| *sample /= 2);
                into.extend_from_slice(last);
            }
        }
    }

    fn opus(&mut self, payload: &[u8], mode: DecodeMode, into: &mut Vec<i16>) {
        let Self::Opus { decoder, last } = self else { return };
        let begin = into.len();
        into.resize(begin + *last, 0);
        let decoded = decoder.decode(payload, &mut into[begin..], mode);
        // What was broken on its way, though its head was not, is concealed.
        if decoded.is_err() && decoder.decode(&[], &mut into[begin..], DecodeMode::Normal).is_err() {
            into[begin..].fill(0);
        }
    }
}

/// How many samples an Opus packet holds, by its head; `None`: it is broken.
fn opus_samples(packet: &[u8]) -> Option<usize> {
    opus_packet_get_nb_samples(packet, RATE as i32).ok()?.try_into().ok()
}

/// Samples to payloads.
enum Encoder {
    Opus(Box<ropus::Encoder>),
    G711(Law),
}

impl Encoder {
    fn new(codec: Codec) -> Result<Self, CodecError> {
        if let Some(law) = Law::of(codec) {
            return Ok(Self::G711(law));
        }
        let encoder = ropus::Encoder::builder(RATE, ropus::Channels::Mono, ropus::Application::Voip)
            .bitrate(ropus::Bitrate::Bits(BITRATE))
            .complexity(COMPLEXITY)
            .signal(ropus::Signal::Voice)
            .inband_fec(ropus::InbandFec::Enabled)
            .packet_loss_perc(EXPECTED_LOSS)
            .build()?;
        Ok(Self::Opus(encoder.into()))
    }

    /// `None`: Opus refused, which it does not for a frame of a length that it knows.
    fn encode(&mut self, frame: &[i16; SAMPLES]) -> Option<Bytes> {
        match self {
            Self::Opus(encoder) => {
                let mut payload = [0; MAX_PAYLOAD];
                let length = encoder.encode(frame, &mut payload).ok()?;
                Some(Bytes::copy_from_slice(&payload[..length]))
            }
            Self::G711(law) => Some(frame.iter().map(|sample| law.encode(*sample)).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    const ORIGIN: Origin = Origin { ssrc: 99, sequence: 65_530, timestamp: u32::MAX - 500 };
    const TONE: f64 = 1_000.0;
    const LOUD: f64 = 8_000.0;

    fn format(codec: Codec) -> Format {
        let audio = match codec {
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::Opus => 111,
        };
        Format { codec, audio, events: Some(101), comfort_noise: None }
    }

    fn transcoder(from: Codec, to: Codec) -> Transcoder {
        Transcoder::new(format(from), format(to), ORIGIN).expect("codecs")
    }

    /// 20 ms of a tone, from the frame with this number.
    fn tone(number: u64) -> [i16; SAMPLES] {
        std::array::from_fn(|at| {
            let time = (number * SAMPLES as u64 + at as u64) as f64 / f64::from(RATE);
            (LOUD * (TAU * TONE * time).sin()) as i16
        })
    }

    /// The power of one frequency (Goertzel) and of all.
    fn power(samples: &[i16], frequency: f64) -> (f64, f64) {
        let coefficient = 2.0 * (TAU * frequency / f64::from(RATE)).cos();
        let (mut one, mut two) = (0.0, 0.0);
        for sample in samples {
            (one, two) = (f64::from(*sample) + coefficient * one - two, one);
        }
        let count = samples.len() as f64;
        let at = (one * one + two * two - coefficient * one * two) * 2.0 / (count * count);
        let all = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / count;
        (at, all)
    }

    /// Sends a tone through, 20 ms by 20 ms, without the packets that `lost` names; gives what comes out.
    fn through(transcoder: &mut Transcoder, from: Codec, frames: u64, lost: impl Fn(u64) -> bool) -> Vec<Packet> {
        sent(transcoder, from, frames, tone, lost)
    }

    fn sent(
        transcoder: &mut Transcoder,
        from: Codec,
        frames: u64,
        signal: impl Fn(u64) -> [i16; SAMPLES],
        lost: impl Fn(u64) -> bool,
    ) -> Vec<Packet> {
        let mut encoder = Encoder::new(from).expect("an encoder");
        let step = format(from).clock_rate() / 50;
        let (start, mut packets) = (Instant::now(), Vec::new());
        for number in 0..frames {
            let now = start + PTIME * number as u32;
            let payload = encoder.encode(&signal(number)).expect("a payload");
            let sequence = 65_000u16.wrapping_add(number as u16);
            let timestamp = (step * number as u32).wrapping_sub(5_000);
            let packet =
                Packet { payload_type: format(from).audio, marker: false, sequence, timestamp, ssrc: 1, payload };
            if !lost(number) {
                packets.extend(transcoder.push(packet, now));
            }
            packets.extend(std::iter::from_fn(|| transcoder.pull(now)));
        }
        packets
    }

    fn decoded(codec: Codec, packets: &[Packet]) -> Vec<i16> {
        let mut decoder = Decoder::new(codec).expect("a decoder");
        let mut samples = Vec::new();
        packets.iter().for_each(|packet| decoder.decode(&packet.payload, &mut samples));
        samples
    }

    /// Checks numbers and clock, and gives the share of the power that is at the tone, and the loudness against the tone's.
    fn heard(to: Codec, packets: &[Packet]) -> (f64, f64) {
        for (number, packet) in packets.iter().enumerate() {
            let step = format(to).clock_rate() / 50;
            let timestamp = packets[0].timestamp.wrapping_add(step * number as u32);
            assert_eq!((packet.ssrc, packet.payload_type), (ORIGIN.ssrc, format(to).audio));
            assert_eq!((packet.sequence, packet.timestamp), (ORIGIN.sequence.wrapping_add(number as u16), timestamp));
            assert_eq!(packet.marker, number == 0);
        }
        // By pieces of 50 ms, for a concealment may shift the tone.
        let samples = decoded(to, packets);
        let pieces: Vec<_> = samples[8_000..].chunks_exact(400).map(|piece| power(piece, TONE)).collect();
        let (at, all) = pieces.iter().fold((0.0, 0.0), |sum, piece| (sum.0 + piece.0, sum.1 + piece.1));
        (at / all, all / pieces.len() as f64 / (LOUD * LOUD / 2.0))
    }

    const WAYS: [(Codec, Codec); 5] = [
        (Codec::Pcmu, Codec::Opus),
        (Codec::Pcma, Codec::Opus),
        (Codec::Opus, Codec::Pcmu),
        (Codec::Opus, Codec::Pcma),
        (Codec::Opus, Codec::Opus),
    ];

    #[test]
    fn a_tone_comes_out_as_it_went_in() {
        for (from, to) in WAYS {
            let packets = through(&mut transcoder(from, to), from, 300, |_| false);
            assert!(packets.len() >= 297, "{from:?} {to:?}: {}", packets.len());
            let (purity, loudness) = heard(to, &packets);
            assert!(purity > 0.98, "{from:?} to {to:?}: {purity}");
            assert!((0.8..1.25).contains(&loudness), "{from:?} to {to:?}: {loudness}");
        }
    }

    /// One packet of twenty, now and then two in a row: nearly 5 %.
    fn lossy(number: u64) -> bool {
        number > 10 && (number.is_multiple_of(25) || number % 100 == 1)
    }

    #[test]
    fn loss_is_mended() {
        for (from, to, purest) in [(Codec::Opus, Codec::Pcmu, 0.94), (Codec::Pcmu, Codec::Opus, 0.97)] {
            let mut transcoder = transcoder(from, to);
            let packets = through(&mut transcoder, from, 500, lossy);
            let lost = (0..500).filter(|number| lossy(*number)).count();
            assert_eq!(lost, 23);
            let counts = transcoder.counts();
            assert_eq!(((counts.lost + counts.dry) as usize, counts.late, counts.dropped), (lost, 0, 0), "{counts:?}");
            assert!(packets.len() >= 497, "{}", packets.len());
            let (purity, loudness) = heard(to, &packets);
            assert!(purity > purest, "{from:?} to {to:?}: {purity}");
            assert!((0.8..1.25).contains(&loudness), "{from:?} to {to:?}: {loudness}");
        }
    }

    /// A tone that changes its pitch with every frame: no decoder can guess it.
    fn melody(number: u64) -> [i16; SAMPLES] {
        std::array::from_fn(|at| (LOUD * (TAU * pitch(number) * at as f64 / f64::from(RATE)).sin()) as i16)
    }

    fn pitch(number: u64) -> f64 {
        300.0 + 400.0 * (number % 7) as f64
    }

    /// What the successor's copy gives is nearer to what was lost than a guess.
    #[test]
    fn recovery_is_better_than_concealment() {
        let lost = |number: u64| number % 10 == 5;
        let purity = |samples: &[i16]| {
            let frames = samples.chunks_exact(SAMPLES).zip(0..).filter(|(_, number)| lost(*number));
            let powers: Vec<_> = frames.map(|(frame, number)| power(frame, pitch(number))).collect();
            powers.iter().map(|(at, all)| at / all.max(1.0)).sum::<f64>() / powers.len() as f64
        };

        let packets = sent(&mut transcoder(Codec::Opus, Codec::Pcmu), Codec::Opus, 200, melody, lost);
        let recovered = purity(&decoded(Codec::Pcmu, &packets));

        let mut encoder = Encoder::new(Codec::Opus).expect("an encoder");
        let mut decoder = Decoder::new(Codec::Opus).expect("a decoder");
        let mut samples = Vec::new();
        for number in 0..200 {
            let payload = encoder.encode(&melody(number)).expect("a payload");
            if lost(number) { decoder.conceal(&mut samples) } else { decoder.decode(&payload, &mut samples) }
        }
        let concealed = purity(&samples);
        assert!(recovered > concealed + 0.2, "{recovered} {concealed}");
    }

    #[test]
    fn another_source_is_heard_from_its_beginning() {
        let mut transcoder = transcoder(Codec::Pcmu, Codec::Opus);
        let spoken = through(&mut transcoder, Codec::Pcmu, 20, |_| false);
        let later = Instant::now() + Duration::from_secs(1);
        let mut packets = Vec::new();
        for number in 0..20u16 {
            let now = later + PTIME * u32::from(number);
            let payload = Bytes::from(vec![0x55; SAMPLES]);
            let timestamp = 160 * u32::from(number);
            let packet = Packet { payload_type: 0, marker: false, sequence: number, timestamp, ssrc: 2, payload };
            packets.extend(transcoder.push(packet, now));
            packets.extend(std::iter::from_fn(|| transcoder.pull(now)));
        }
        let (last, first) = (spoken.last().expect("audio"), packets.first().expect("audio"));
        assert_eq!(first.sequence, last.sequence.wrapping_add(1));
        assert!(packets.len() >= 19, "{}", packets.len());
        assert_eq!(transcoder.counts().late, 0);
    }

    #[test]
    fn events_pass_with_their_time_on_the_other_clock() {
        for (from, to, duration, expected) in
            [(Codec::Opus, Codec::Pcmu, 5_760, 960), (Codec::Pcma, Codec::Opus, 960, 5_760)]
        {
            let mut transcoder = transcoder(from, to);
            let spoken = through(&mut transcoder, from, 20, |_| false);
            let now = Instant::now() + Duration::from_secs(3_600);
            let event = |end, duration| Event { code: 5, end, volume: 10, duration }.write();
            let packet = |sequence: u16, payload| Packet {
                payload_type: 101,
                marker: sequence == 0,
                sequence: 65_020u16.wrapping_add(sequence),
                timestamp: 77_777,
                ssrc: 1,
                payload,
            };
            let sent = [(0, false, duration / 3), (1, true, duration), (2, true, duration)];
            let out: Vec<_> = sent
                .map(|(sequence, end, duration)| {
                    transcoder.push(packet(sequence, event(end, duration)), now).expect("an event")
                })
                .into();
            let next = spoken.last().expect("audio").sequence.wrapping_add(1);
            for (number, packet) in out.iter().enumerate() {
                assert_eq!((packet.payload_type, packet.marker), (101, number == 0));
                assert_eq!((packet.sequence, packet.timestamp), (next.wrapping_add(number as u16), out[0].timestamp));
            }
            let last = Event::parse(&out[2].payload).expect("an event");
            assert_eq!((last.digit(), last.end, last.duration), (Some('5'), true, expected));
        }
    }

    #[test]
    fn keys_and_events_take_the_place_of_audio() {
        let mut transcoder = transcoder(Codec::Pcmu, Codec::Opus);
        let start = Instant::now();
        let mut sent = Vec::new();
        for number in 0..100u32 {
            let now = start + PTIME * number;
            if number == 20 {
                transcoder.press(&Digits::new("7", 100).expect("digits"), now);
            }
            let payload = Bytes::from(vec![0x55; SAMPLES]);
            let sequence = number as u16;
            let packet = Packet { payload_type: 0, marker: false, sequence, timestamp: 160 * number, ssrc: 1, payload };
            sent.extend(transcoder.push(packet, now));
            sent.extend(std::iter::from_fn(|| transcoder.pull(now)));
        }
        let events: Vec<_> = sent.iter().filter(|packet| packet.payload_type == 101).collect();
        assert_eq!(events.len(), 7, "100 ms and two more of its end");
        assert_eq!(
            Event::parse(&events[6].payload).map(|event| (event.digit(), event.duration)),
            Some((Some('7'), 4_800))
        );
        for (one, two) in sent.iter().zip(&sent[1..]) {
            assert_eq!(two.sequence, one.sequence.wrapping_add(1));
            assert!(two.timestamp.wrapping_sub(one.timestamp) < 48_000);
        }
        let after =
            sent.iter().skip_while(|packet| packet.payload_type != 101).find(|packet| packet.payload_type != 101);
        assert!(after.expect("audio again").marker);
        // The key was down for 120 ms: 100 of its own, and the repetitions of its end.
        let silent = 48_000 / 50 * 6;
        assert_eq!(after.expect("audio again").timestamp.wrapping_sub(events[0].timestamp), silent);
    }

    #[test]
    fn output_is_paced_and_a_late_driver_sends_no_burst() {
        let mut transcoder = transcoder(Codec::Pcmu, Codec::Pcma);
        assert_eq!(transcoder.deadline(), None);
        let start = Instant::now();
        let packet = |number: u16| Packet {
            payload_type: 0,
            marker: false,
            sequence: number,
            timestamp: 160 * u32::from(number),
            ssrc: 1,
            payload: Bytes::from(vec![0xff; SAMPLES]),
        };
        // A burst comes; what leaves keeps time.
        (0..4).for_each(|number| assert_eq!(transcoder.push(packet(number), start), None));
        for number in 0..4 {
            let due = start + PTIME * number;
            assert_eq!(transcoder.deadline(), Some(due));
            assert!(transcoder.pull(due).is_some());
            assert_eq!(transcoder.pull(due + PTIME / 2), None);
        }
        (4..8).for_each(|number| drop(transcoder.push(packet(number), start + PTIME * 4)));
        let late = start + Duration::from_secs(10);
        let burst: Vec<_> = std::iter::from_fn(|| transcoder.pull(late)).collect();
        assert!(burst.len() <= 10, "{}", burst.len());
        assert!(transcoder.deadline() > Some(late));
        let behind = transcoder.timestamp.wrapping_sub(ORIGIN.timestamp);
        assert_eq!(behind, 8_000 * 10 + 160, "the clock went on");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever comes, nothing panics, numbers run on and the clock keeps its steps.
        #[test]
        fn nothing_makes_it_panic(
            way in prop::sample::select(WAYS.to_vec()),
            packets in prop::collection::vec((0..60u64, 0..300u16, prop::collection::vec(any::<u8>(), 0..400), prop::bool::weighted(0.1)), 0..120),
        ) {
            let (from, to) = way;
            let mut transcoder = transcoder(from, to);
            let (mut now, mut next) = (Instant::now(), ORIGIN.sequence);
            for (pause, sequence, payload, event) in packets {
                now += Duration::from_millis(pause);
                let payload_type = if event { 101 } else { format(from).audio };
                let timestamp = u32::from(sequence) * 160;
                let packet = Packet { payload_type, marker: false, sequence, timestamp, ssrc: 1, payload: payload.into() };
                let passed = transcoder.push(packet, now);
                let pulled: Vec<_> = std::iter::from_fn(|| transcoder.pull(now)).collect();
                for packet in passed.into_iter().chain(pulled) {
                    prop_assert_eq!(packet.sequence, next);
                    prop_assert!(!packet.payload.is_empty());
                    next = next.wrapping_add(1);
                }
            }
        }
    }
}
