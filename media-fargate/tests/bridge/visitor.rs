//! A visitor's browser: a second `WebRTC` stack that speaks a tone in any codec, presses keys and listens.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use media::{
    browser::CONTROL,
    rtp::{Codec, Format, Packet},
};
use rtc::{
    ice::mdns::MulticastDnsMode,
    media_stream::MediaStreamTrack,
    rtp::header::Header,
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
};
use serde_json::Value;
use tokio::{sync::Notify, task::JoinSet};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCSessionDescription, Registry, SettingEngineBuilder, configure_rtcp_reports,
    },
};

use crate::{
    ground::until,
    sound::{Ear, Mouth},
};

const SSRC: u32 = 4_711;

/// How the stack marks packets of a codec.
fn format(codec: Codec) -> Format {
    let (audio, events) = match codec {
        Codec::Pcmu => (0, 126),
        Codec::Pcma => (8, 126),
        Codec::Opus => (111, 110),
    };
    Format { codec, audio, events: Some(events), comfort_noise: None }
}

fn rtp_codec(codec: Codec) -> RTCRtpCodec {
    let (name, channels) = match codec {
        Codec::Pcmu => ("audio/PCMU", 0),
        Codec::Pcma => ("audio/PCMA", 0),
        Codec::Opus => ("audio/opus", 2),
    };
    let clock_rate = format(codec).clock_rate();
    RTCRtpCodec { mime_type: name.to_owned(), clock_rate, channels, ..RTCRtpCodec::default() }
}

/// The browser. It ends with the test.
pub struct Visitor {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    gathered: Arc<Notify>,
    pub ear: Ear,
    mouth: Arc<Mutex<Mouth>>,
    messages: Arc<Mutex<Vec<Value>>>,
    _tasks: JoinSet<()>,
}

struct Handler {
    gathered: Arc<Notify>,
    ear: Ear,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let ear = self.ear.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(rtc::rtp::Packet { header, payload }) = event {
                    let Header { payload_type, marker, sequence_number: sequence, timestamp, ssrc, .. } = header;
                    ear.push(&Packet { payload_type, marker, sequence, timestamp, ssrc, payload });
                }
            }
        });
    }
}

impl Visitor {
    /// A browser that speaks a tone of `pitch` Hz in a codec from now on.
    pub async fn new(codec: Codec, pitch: f64) -> Self {
        let (gathered, ear) = (Arc::new(Notify::new()), Ear::new(format(codec)));
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        for (payload_type, clock_rate) in [(110, 48_000), (126, 8_000)] {
            let mime_type = "audio/telephone-event".to_owned();
            let rtp_codec = RTCRtpCodec { mime_type, clock_rate, ..RTCRtpCodec::default() };
            let event = RTCRtpCodecParameters { rtp_codec, payload_type };
            engine.register_codec(event, RtpCodecKind::Audio).expect("a codec");
        }
        let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_handler(Arc::new(Handler { gathered: gathered.clone(), ear: ear.clone() }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        let coding = RTCRtpCodingParameters { ssrc: Some(SSRC), ..RTCRtpCodingParameters::default() };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec: rtp_codec(codec),
            ..RTCRtpEncodingParameters::default()
        };
        let name = || "microphone".to_owned();
        let track = MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        connection.add_track(track.clone()).await.expect("a track");
        let channel = connection.create_data_channel(CONTROL, None).await.expect("a data channel");
        let mouth = Arc::new(Mutex::new(Mouth::new(format(codec), pitch, SSRC)));
        let messages = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(speak(track, mouth.clone()));
        tasks.spawn(read(channel.clone(), messages.clone()));
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        Self { connection, channel, gathered, ear, mouth, messages, _tasks: tasks }
    }

    pub async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer).await.expect("an offer of its own");
        self.gathered.notified().await;
        let offer = self.connection.local_description().await.expect("the offer").sdp;
        // The stack leaves out what no track speaks.
        let keys = "a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=rtcp-mux\r\n";
        offer.replacen("UDP/TLS/RTP/SAVPF ", "UDP/TLS/RTP/SAVPF 110 126 ", 1).replacen("a=rtcp-mux\r\n", keys, 1)
    }

    /// Takes the answer.
    pub async fn take(&self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.to_owned()).expect("an answer");
        self.connection.set_remote_description(answer).await.expect("the answer is understood");
    }

    /// Says something on the channel.
    pub async fn say(&self, message: Value) {
        self.channel.send_text(&message.to_string()).await.expect("an open channel");
    }

    /// Presses a key, as a browser does by itself: in RTP.
    pub fn press(&self, code: u8, millis: u32) {
        self.mouth.lock().unwrap_or_else(PoisonError::into_inner).press(code, millis);
    }

    /// Waits for the next message that is no report; its type and what else it says.
    pub async fn told(&self) -> Value {
        until("a message", async || {
            let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            let next = messages.iter().position(|message| message["type"] != "quality")?;
            Some(messages.remove(next))
        })
        .await
    }
}

async fn speak(track: Arc<TrackLocalStaticRTP>, mouth: Arc<Mutex<Mouth>>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let Packet { payload_type, marker, sequence, timestamp, ssrc, payload } =
            mouth.lock().unwrap_or_else(PoisonError::into_inner).next();
        let header = Header {
            version: 2,
            payload_type,
            marker,
            sequence_number: sequence,
            timestamp,
            ssrc,
            ..Header::default()
        };
        // Before the connection stands, and after its end, nobody listens.
        let _ = track.write_rtp(rtc::rtp::Packet { header, payload }).await;
    }
}

async fn read(channel: Arc<dyn DataChannel>, messages: Arc<Mutex<Vec<Value>>>) {
    while let Some(event) = channel.poll().await {
        if let DataChannelEvent::OnMessage(message) = event {
            let message = serde_json::from_slice(&message.data).expect("JSON");
            messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        }
    }
}
