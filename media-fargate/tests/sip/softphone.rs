//! A softphone answers: baresip, which sends back what it hears.

use std::time::Duration;

use bytes::Bytes;
use media::{
    rtp::{Codec, Packet},
    sip::{Agent, Event, Invite, SipLeg, Trunk},
};

use crate::{
    baresip::Baresip,
    expect,
    support::{agent, call, next, trunk},
};

/// Its codecs, and that it plays what it hears.
const ECHO: &str = "rtp_ports 45000-46999\naudio_player aubridge,loop\naudio_source aubridge,loop\n\
    audio_alert aubridge,loop\nmodule g711.so\nmodule opus.so\nmodule aubridge.so\nmodule srtp.so\nmodule_app echo.so\n";

/// Speaks one codec, and knows its own voice: a tone of 500 Hz.
trait Voice {
    fn codec(&self) -> Codec;
    /// 20 milliseconds of it.
    fn speak(&mut self) -> Bytes;
    /// Whether a payload is loud.
    fn hears(&mut self, payload: &[u8]) -> bool;
}

/// G.711: loud samples of either law, positive and negative, and the two codes of silence.
struct Law(Codec);

impl Voice for Law {
    fn codec(&self) -> Codec {
        self.0
    }

    fn speak(&mut self) -> Bytes {
        let loud = if self.0 == Codec::Pcmu { [0x90, 0x10] } else { [0xba, 0x3a] };
        (0..160).map(|sample| loud[usize::from(sample / 8 % 2 == 0)]).collect()
    }

    fn hears(&mut self, payload: &[u8]) -> bool {
        let quiet = if self.0 == Codec::Pcmu { [0xff, 0x7f] } else { [0xd5, 0x55] };
        payload.iter().filter(|sample| !quiet.contains(sample)).count() > payload.len() / 2
    }
}

struct Opus(ropus::Encoder, ropus::Decoder);

impl Opus {
    fn new() -> Self {
        let encoder = ropus::Encoder::builder(48_000, ropus::Channels::Mono, ropus::Application::Voip);
        let decoder = ropus::Decoder::new(48_000, ropus::Channels::Mono);
        Self(encoder.build().expect("an encoder"), decoder.expect("a decoder"))
    }
}

impl Voice for Opus {
    fn codec(&self) -> Codec {
        Codec::Opus
    }

    fn speak(&mut self) -> Bytes {
        let tone: Vec<i16> = (0..960).map(|sample| if sample / 48 % 2 == 0 { 8_000 } else { -8_000 }).collect();
        let mut payload = [0; 400];
        let length = self.0.encode(&tone, &mut payload).expect("encoded");
        Bytes::copy_from_slice(&payload[..length])
    }

    fn hears(&mut self, payload: &[u8]) -> bool {
        let mut heard = vec![0_i16; 5_760];
        let samples = self.1.decode(payload, &mut heard, ropus::DecodeMode::Normal).expect("decoded");
        heard[..samples].iter().filter(|sample| sample.unsigned_abs() > 1_000).count() > samples / 2
    }
}

/// Calls the phone, speaks to it for a while, and hears itself.
async fn speaks_and_hears(phone: &Baresip, agent: &Agent, voice: &mut dyn Voice, protected: bool) {
    let codec = voice.codec();
    let trunk = Trunk { protected, ..trunk(&phone.uri()) };
    let destination = format!("sip:echo@127.0.0.1:{}", phone.port);
    let mut leg = agent.invite(Invite { destination, codecs: vec![codec], ..call(trunk) }).await.expect("ports");
    let format = loop {
        match next(&mut leg).await {
            Event::Ringing | Event::Early(_) => {}
            Event::Answered(media) => {
                assert_eq!((media.codec(), media.crypto.is_some()), (codec, protected));
                break media.send;
            }
            other => panic!("not answered: {other:?}"),
        }
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let (mut sent, mut heard) = (0_u16, 0);
    while heard < 25 && sent < 500 {
        tokio::select! {
            _ = ticks.tick() => {
                let timestamp = u32::from(sent) * format.clock_rate() / 50;
                let (payload_type, payload) = (format.audio, voice.speak());
                leg.send_rtp(&Packet { payload_type, marker: sent == 0, sequence: sent, timestamp, ssrc: 9, payload });
                sent += 1;
            }
            event = leg.recv() => if let Some(Event::Rtp(packet)) = event {
                heard += u32::from(voice.hears(&packet.payload));
            }
        }
    }
    assert_eq!(heard, 25, "{codec:?}: half a second of what was sent came back, after {sent} packets");
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
}

#[tokio::test]
async fn a_softphone_answers_and_sends_back_what_it_hears() {
    let (phone, agent) = (Baresip::start("echo", "", ECHO).await, agent().await);
    let voices: [&mut dyn Voice; 3] = [&mut Law(Codec::Pcmu), &mut Law(Codec::Pcma), &mut Opus::new()];
    for voice in voices {
        speaks_and_hears(&phone, &agent, voice, false).await;
    }
}

#[tokio::test]
async fn a_softphone_answers_with_a_key() {
    let (phone, agent) = (Baresip::start("echo", ";mediaenc=srtp-mand", ECHO).await, agent().await);
    speaks_and_hears(&phone, &agent, &mut Law(Codec::Pcmu), true).await;
}
