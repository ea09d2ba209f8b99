//! Tones and keys: how they are packed, and how they are recognised. Written apart from the server's own code for keys, so
//! that both sides cannot be wrong in the same way.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use media::rtp::{Codec, Format, Packet, law::Law};

use crate::ground::until;

/// Samples per second: both codecs are used at the telephone's rate.
const RATE: u32 = 8_000;
/// Samples of 20 ms.
const SAMPLES: u32 = 160;
/// Milliseconds of a packet.
const PTIME: u32 = 20;
/// The end of a key is sent three times (RFC 4733, section 2.5.1.4).
const ENDS: u32 = 3;

/// Speaks a tone, packet by packet, and presses keys.
pub struct Mouth {
    format: Format,
    pitch: f64,
    ssrc: u32,
    opus: Option<ropus::Encoder>,
    number: u32,
    key: Option<Press>,
}

struct Press {
    code: u8,
    began: u32,
    millis: u32,
    packets: u32,
}

impl Mouth {
    pub fn new(format: Format, pitch: f64, ssrc: u32) -> Self {
        let encoder = || {
            ropus::Encoder::builder(RATE, ropus::Channels::Mono, ropus::Application::Voip).build().expect("an encoder")
        };
        let opus = (format.codec == Codec::Opus).then(encoder);
        Self { format, pitch, ssrc, opus, number: 0, key: None }
    }

    /// Presses a key from the next packet on.
    pub fn press(&mut self, code: u8, millis: u32) {
        self.key = Some(Press { code, began: self.timestamp(), millis, packets: 0 });
    }

    fn timestamp(&self) -> u32 {
        self.number * (self.format.clock_rate() / 1_000 * PTIME)
    }

    /// The next 20 milliseconds.
    pub fn next(&mut self) -> Packet {
        let (marker, timestamp) = (self.number == 0, self.timestamp());
        let audio = Packet {
            payload_type: self.format.audio,
            marker,
            sequence: self.number as u16,
            timestamp,
            ssrc: self.ssrc,
            payload: self.tone(),
        };
        self.number += 1;
        match &mut self.key {
            None => audio,
            Some(key) => {
                key.packets += 1;
                let lasted = (key.packets * PTIME).min(key.millis);
                let ended = lasted == key.millis;
                let [high, low] = ((lasted * (self.format.clock_rate() / 1_000)) as u16).to_be_bytes();
                let payload = Bytes::copy_from_slice(&[key.code, if ended { 0x8a } else { 0x0a }, high, low]);
                let (payload_type, timestamp) = (self.format.events.expect("keys were negotiated"), key.began);
                let marker = key.packets == 1;
                if key.packets * PTIME >= key.millis + (ENDS - 1) * PTIME {
                    self.key = None;
                }
                Packet { payload_type, marker, timestamp, payload, ..audio }
            }
        }
    }

    fn tone(&mut self) -> Bytes {
        let sample = |index: u32| {
            let time = f64::from(self.number * SAMPLES + index) / f64::from(RATE);
            (8_000.0 * (std::f64::consts::TAU * self.pitch * time).sin()) as i16
        };
        let samples: Vec<i16> = (0..SAMPLES).map(sample).collect();
        match &mut self.opus {
            None => {
                let law = Law::of(self.format.codec).expect("G.711");
                samples.into_iter().map(|sample| law.encode(sample)).collect()
            }
            Some(encoder) => {
                let mut payload = [0; 400];
                let length = encoder.encode(&samples, &mut payload).expect("encoded");
                Bytes::copy_from_slice(&payload[..length])
            }
        }
    }
}

/// What came in.
struct Heard {
    format: Format,
    opus: Option<ropus::Decoder>,
    samples: Vec<i16>,
    packets: usize,
    /// Keys in the order in which they began.
    keys: Vec<Key>,
    /// The streams it came in.
    streams: BTreeSet<u32>,
    /// The number of the last packet, and how often one was not the next.
    last: Option<u16>,
    jumps: usize,
}

/// A key that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub code: u8,
    pub lasted: Duration,
    pub ended: bool,
    began: u32,
}

/// Listens. Clones hear the same.
#[derive(Clone)]
pub struct Ear(Arc<Mutex<Heard>>);

impl Ear {
    pub fn new(format: Format) -> Self {
        let decoder = || ropus::Decoder::new(RATE, ropus::Channels::Mono).expect("a decoder");
        Self(Arc::new(Mutex::new(Heard {
            format,
            opus: (format.codec == Codec::Opus).then(decoder),
            samples: Vec::new(),
            packets: 0,
            keys: Vec::new(),
            streams: BTreeSet::new(),
            last: None,
            jumps: 0,
        })))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, packet: &Packet) {
        let mut heard = self.heard();
        let heard = &mut *heard;
        heard.packets += 1;
        heard.streams.insert(packet.ssrc);
        heard.jumps += usize::from(heard.last.is_some_and(|last| packet.sequence != last.wrapping_add(1)));
        heard.last = Some(packet.sequence);
        if Some(packet.payload_type) == heard.format.events {
            heard.key(packet);
            return;
        }
        assert_eq!(packet.payload_type, heard.format.audio, "a payload type that was negotiated");
        match (&mut heard.opus, Law::of(heard.format.codec)) {
            (Some(opus), _) => {
                let mut samples = [0; 960];
                let count = opus.decode(&packet.payload, &mut samples, ropus::DecodeMode::Normal).expect("Opus");
                heard.samples.extend(&samples[..count]);
            }
            (None, law) => {
                let law = law.expect("G.711");
                heard.samples.extend(packet.payload.iter().map(|byte| law.decode(*byte)));
            }
        }
    }

    /// Waits for a tone from now on: a fifth of a second in which there is hardly anything else.
    pub async fn hears(&self, pitch: f64) {
        const LENGTH: usize = 1_600;
        self.heard().samples.clear();
        until(&format!("a tone of {pitch} Hz"), async || {
            let heard = self.heard();
            let begin = heard.samples.len().checked_sub(LENGTH)?;
            (share(&heard.samples[begin..], pitch) > 0.8).then_some(())
        })
        .await;
    }

    /// Waits until no packet, or no sound, has come for half a second.
    pub async fn hears_nothing(&self) {
        until("silence", async || {
            let before = self.heard().samples.len();
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.heard().samples[before..].iter().all(|sample| sample.unsigned_abs() < 100).then_some(())
        })
        .await;
    }

    /// Waits until this many keys were pressed and let go.
    pub async fn keys(&self, count: usize) -> Vec<Key> {
        until("keys", async || {
            let heard = self.heard();
            (heard.keys.iter().filter(|key| key.ended).count() >= count).then(|| heard.keys.clone())
        })
        .await
    }

    /// Streams that were heard, and breaks in the run of their numbers.
    pub fn streams_and_jumps(&self) -> (usize, usize) {
        let heard = self.heard();
        (heard.streams.len(), heard.jumps)
    }
}

impl Heard {
    /// RFC 4733, section 2.3.
    fn key(&mut self, packet: &Packet) {
        let [code, flags, high, low] = packet.payload[..] else { panic!("four bytes") };
        let ticks = u64::from(u16::from_be_bytes([high, low]));
        let lasted = Duration::from_micros(ticks * 1_000_000 / u64::from(self.format.clock_rate()));
        let ended = flags & 0x80 != 0;
        match self.keys.iter_mut().find(|key| key.began == packet.timestamp) {
            Some(key) => {
                assert_eq!(key.code, code, "one key at a time");
                (key.lasted, key.ended) = (key.lasted.max(lasted), key.ended || ended);
            }
            None => self.keys.push(Key { code, lasted, ended, began: packet.timestamp }),
        }
    }
}

/// The share of a tone in all the sound there is, 0 to 1 (Goertzel's algorithm).
pub fn share(samples: &[i16], pitch: f64) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * pitch / f64::from(RATE)).cos();
    let (mut before, mut last, mut energy) = (0.0, 0.0, 0.0);
    for sample in samples {
        let sample = f64::from(*sample);
        (before, last) = (last, sample + turn * last - before);
        energy += sample * sample;
    }
    let power = before * before + last * last - turn * before * last;
    if energy < 1_000.0 * samples.len() as f64 { 0.0 } else { 2.0 * power / (energy * samples.len() as f64) }
}
