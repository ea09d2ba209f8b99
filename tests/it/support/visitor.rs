//! A visitor's browser: a second WebRTC stack that speaks a tone, listens for tones and knows the channel `control`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use media::rtp::law::Law;
use rtc::{
    ice::mdns::MulticastDnsMode,
    media_stream::MediaStreamTrack,
    rtp::{header::Header, packet::Packet},
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{interval, timeout},
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder, configure_rtcp_reports,
    },
};

const SSRC: u32 = 4_711;
/// Samples of 20 ms of G.711.
const SAMPLES: usize = 160;
/// Longer than anything waited for here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the browser knows so far.
#[derive(Default)]
struct Heard {
    /// Samples of everything it hears.
    samples: Vec<i16>,
    /// Messages on the channel.
    messages: Vec<Value>,
    state: Option<RTCPeerConnectionState>,
}

/// The browser. It ends with the test.
pub struct Visitor {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    gathered: Arc<Notify>,
    heard: Arc<Mutex<Heard>>,
    changed: watch::Receiver<u64>,
    _tasks: JoinSet<()>,
}

/// Where callbacks put what they learn.
#[derive(Clone)]
struct Ear {
    heard: Arc<Mutex<Heard>>,
    changed: Arc<watch::Sender<u64>>,
    gathered: Arc<Notify>,
}

impl Ear {
    fn learn(&self, what: impl FnOnce(&mut Heard)) {
        what(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|count| *count += 1);
    }

    fn packet(&self, packet: &Packet) {
        if packet.header.payload_type == 0 {
            self.learn(|heard| heard.samples.extend(packet.payload.iter().map(|byte| Law::Mu.decode(*byte))));
        }
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Ear {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.learn(|heard| heard.state = Some(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let ear = self.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    ear.packet(&packet);
                }
            }
        });
    }
}

impl Visitor {
    /// A browser that speaks a tone of `pitch` Hz in PCMU from now on.
    pub async fn new(pitch: f64) -> Self {
        let (changes, changed) = watch::channel(0);
        let gathered = Arc::new(Notify::new());
        let ear = Ear { heard: Arc::default(), changed: Arc::new(changes), gathered: gathered.clone() };
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        let rtp_codec =
            RTCRtpCodec { mime_type: "audio/telephone-event".to_owned(), clock_rate: 8_000, ..RTCRtpCodec::default() };
        let event = RTCRtpCodecParameters { rtp_codec, payload_type: 126 };
        engine.register_codec(event, RtpCodecKind::Audio).expect("a codec");
        let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_handler(Arc::new(ear.clone()))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        let track = Arc::new(microphone());
        connection.add_track(track.clone()).await.expect("a track");
        let channel = connection.create_data_channel("control", None).await.expect("a data channel");
        let mut tasks = JoinSet::new();
        tasks.spawn(speak(track, pitch));
        tasks.spawn(read(channel.clone(), ear.clone()));
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        Self { connection, channel, gathered, heard: ear.heard, changed, _tasks: tasks }
    }

    /// Its offer.
    pub async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer).await.expect("an offer of its own");
        self.gathered.notified().await;
        self.connection.local_description().await.expect("the offer").sdp
    }

    /// A new offer, for an ICE restart.
    pub async fn restart(&self) -> String {
        self.connection.restart_ice().await.expect("a restart");
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer.clone()).await.expect("an offer of its own");
        offer.sdp
    }

    /// Takes the answer.
    pub async fn take(&self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.to_owned()).expect("an answer");
        self.connection.set_remote_description(answer).await.expect("the answer is understood");
    }

    /// Says something on the channel.
    pub async fn say(&self, message: &Value) {
        self.channel.send_text(&message.to_string()).await.expect("an open channel");
    }

    /// Closes the connection, as a page that goes away does.
    pub async fn leave(&self) {
        self.connection.close().await.expect("closed");
    }

    /// Waits until what it heard makes `condition` true.
    async fn until(&self, what: &str, condition: impl Fn(&Heard) -> bool) {
        let mut changed = self.changed.clone();
        let holds = async {
            while !condition(&self.heard.lock().unwrap_or_else(PoisonError::into_inner)) {
                changed.changed().await.expect("the browser lives");
            }
        };
        if timeout(PATIENCE, holds).await.is_err() {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            let Heard { samples, messages, state, .. } = &*heard;
            panic!("{what}: {} samples, {messages:?}, {state:?}", samples.len());
        }
    }

    /// Waits for a message of this type, and gives it.
    pub async fn told(&self, kind: &str) -> Value {
        self.until(kind, |heard| heard.messages.iter().any(|message| message["type"] == kind)).await;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.messages.iter().find(|message| message["type"] == kind).cloned().expect("it was there")
    }

    /// All messages of this type so far.
    pub fn every(&self, kind: &str) -> Vec<Value> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.messages.iter().filter(|message| message["type"] == kind).cloned().collect()
    }

    /// The types of all messages so far, without reports.
    pub fn messages(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds = heard.messages.iter().filter_map(|message| message["type"].as_str());
        kinds.filter(|kind| *kind != "quality").map(str::to_owned).collect()
    }

    /// Waits until the connection is in this state.
    pub async fn becomes(&self, state: RTCPeerConnectionState) {
        self.until("the connection's state", |heard| heard.state == Some(state)).await;
    }

    /// Forgets what it heard so far and waits until it hears a tone of `pitch` for a tenth of a second.
    pub async fn hears(&self, pitch: f64) {
        const LENGTH: usize = 800;
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).samples.clear();
        let sounds = |heard: &Heard| {
            heard.samples.len() >= LENGTH && share(&heard.samples[heard.samples.len() - LENGTH..], pitch) > 0.8
        };
        self.until(&format!("a tone of {pitch} Hz"), sounds).await;
    }

    /// Waits until nothing has come for half a second.
    pub async fn hears_nothing(&self) {
        let mut changed = self.changed.clone();
        let silence = async {
            loop {
                let before = self.heard.lock().unwrap_or_else(PoisonError::into_inner).samples.len();
                let more = async {
                    while self.heard.lock().unwrap_or_else(PoisonError::into_inner).samples.len() == before {
                        changed.changed().await.expect("the browser lives");
                    }
                };
                if timeout(Duration::from_millis(500), more).await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, silence).await.expect("silence");
    }

    /// Waits for as many samples as this many milliseconds have; all so far.
    pub async fn samples(&self, millis: usize) -> Vec<i16> {
        self.until("audio", |heard| heard.samples.len() >= millis * 8).await;
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).samples.clone()
    }
}

fn microphone() -> TrackLocalStaticRTP {
    let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(SSRC), ..RTCRtpCodingParameters::default() };
    let codec = RTCRtpCodec { mime_type: "audio/PCMU".to_owned(), clock_rate: 8_000, ..RTCRtpCodec::default() };
    let encoding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..RTCRtpEncodingParameters::default() };
    let name = || "microphone".to_owned();
    TrackLocalStaticRTP::new(MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]))
}

async fn speak(track: Arc<TrackLocalStaticRTP>, pitch: f64) {
    let mut ticks = interval(Duration::from_millis(20));
    for number in 0u32.. {
        ticks.tick().await;
        let sample = |index: usize| {
            let time = (f64::from(number) * SAMPLES as f64 + index as f64) / 8_000.0;
            Law::Mu.encode((8_000.0 * (std::f64::consts::TAU * pitch * time).sin()) as i16)
        };
        let header = Header {
            version: 2,
            sequence_number: number as u16,
            timestamp: number.wrapping_mul(SAMPLES as u32),
            ssrc: SSRC,
            ..Header::default()
        };
        // Before the connection stands, and after its end, nobody listens.
        let _ = track.write_rtp(Packet { header, payload: (0..SAMPLES).map(sample).collect() }).await;
    }
}

async fn read(channel: Arc<dyn DataChannel>, ear: Ear) {
    while let Some(event) = channel.poll().await {
        if let DataChannelEvent::OnMessage(message) = event {
            let message = serde_json::from_slice(&message.data).expect("JSON");
            ear.learn(|heard| heard.messages.push(message));
        }
    }
}

/// The share of a tone in all the sound there is, 0 to 1 (Goertzel's algorithm).
pub fn share(samples: &[i16], pitch: f64) -> f64 {
    let turn = 2.0 * (std::f64::consts::TAU * pitch / 8_000.0).cos();
    let (mut before, mut last, mut energy) = (0.0, 0.0, 0.0);
    for sample in samples {
        let sample = f64::from(*sample);
        (before, last) = (last, sample + turn * last - before);
        energy += sample * sample;
    }
    let power = before * before + last * last - turn * before * last;
    if energy < samples.len() as f64 { 0.0 } else { 2.0 * power / (energy * samples.len() as f64) }
}

/// How long something took, for the record.
pub fn took(what: &str, began: Instant) {
    println!("{what}: {:.1} ms", began.elapsed().as_secs_f64() * 1_000.0);
}
