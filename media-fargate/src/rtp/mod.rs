//! RTP between the two sides of a call, without sockets and clocks: packets go in with the time they came, packets come
//! out when they are due. What a leg receives (the source) goes through one [`Transform`] to the other leg (the sink):
//! a [`relay::Relay`] where both sides speak the same codec, a [`transcode::Transcoder`] where they do not.

pub mod dtmf;
pub mod jitter;
pub mod law;
pub mod lock;
pub mod packet;
pub mod relay;
pub mod rtcp;
pub mod source;
pub mod transcode;

use std::time::{Duration, Instant};

pub use domain::app::Codec;
pub use packet::Packet;

use crate::control::Digits;

/// Audio in one packet, everywhere where it is ours to choose (RFC 3551, section 4.2).
pub const PTIME: Duration = Duration::from_millis(20);
/// The payload type of comfort noise (RFC 3389), which has an 8 kHz clock.
pub const COMFORT_NOISE: u8 = 13;

/// Samples per second that timestamps of `codec` count (RFC 3551, section 6; RFC 7587, section 4.1).
pub fn clock_rate(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 8_000,
        Codec::Opus => 48_000,
    }
}

/// The payload type that needs no negotiation (RFC 3551, section 6).
pub fn static_payload_type(codec: Codec) -> Option<u8> {
    match codec {
        Codec::Pcmu => Some(0),
        Codec::Pcma => Some(8),
        Codec::Opus => None,
    }
}

/// `time` in ticks of a clock of `rate`.
fn ticks(time: Duration, rate: u32) -> u64 {
    let ticks = time.as_micros().saturating_mul(u128::from(rate)) / 1_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// How packets of one direction of a leg are marked: what was negotiated, and nothing else is heard or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The codec of the audio.
    pub codec: Codec,
    /// Its payload type.
    pub audio: u8,
    /// The payload type of telephone events (RFC 4733), whose clock is the audio's.
    pub events: Option<u8>,
    /// The payload type of comfort noise.
    pub comfort_noise: Option<u8>,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Audio.
    Audio,
    /// A telephone event.
    Event,
    /// Comfort noise.
    ComfortNoise,
}

impl Format {
    /// What a packet with this payload type carries; `None`: what was not negotiated.
    pub fn kind(&self, payload_type: u8) -> Option<Kind> {
        match Some(payload_type) {
            audio if audio == Some(self.audio) => Some(Kind::Audio),
            events if events == self.events => Some(Kind::Event),
            noise if noise == self.comfort_noise => Some(Kind::ComfortNoise),
            _ => None,
        }
    }

    /// The payload type for what a packet carries; `None`: the other side did not agree to it.
    pub fn payload_type(&self, kind: Kind) -> Option<u8> {
        match kind {
            Kind::Audio => Some(self.audio),
            Kind::Event => self.events,
            Kind::ComfortNoise => self.comfort_noise,
        }
    }

    /// Samples per second of its timestamps.
    pub fn clock_rate(&self) -> u32 {
        clock_rate(self.codec)
    }
}

/// Where an outgoing stream begins. All random (RFC 3550, section 5.1); whoever owns the call brings them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The stream's SSRC.
    pub ssrc: u32,
    /// Its first sequence number.
    pub sequence: u16,
    /// Its first timestamp.
    pub timestamp: u32,
}

/// What makes one leg's stream into the other's.
pub trait Transform: Send {
    /// A packet came from the source. Gives what goes to the sink at once.
    fn push(&mut self, packet: Packet, now: Instant) -> Option<Packet>;

    /// What goes to the sink because it is time; to be asked again until there is nothing.
    fn pull(&mut self, now: Instant) -> Option<Packet>;

    /// When [`Transform::pull`] next has something; `None`: not before something else happens.
    fn deadline(&self) -> Option<Instant>;

    /// Presses keys for the visitor. Keys that the other side did not agree to hear are dropped.
    fn press(&mut self, digits: &Digits, now: Instant);

    /// The session was negotiated anew: another source may take over without waiting for the old one to be silent.
    fn renegotiated(&mut self);
}
