//! The browser's leg against a second `WebRTC` stack as the browser, on loopback.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use domain::app::Codec;
use media::browser::{Accepted, BrowserLeg, CONTROL, Config, Event, Packet, WebRtc};
use rtc::{
    ice::mdns::MulticastDnsMode,
    media_stream::MediaStreamTrack,
    rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
};
use tokio::sync::{Notify, mpsc};
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

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SSRC: u32 = 4_711;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the browser saw.
#[derive(Debug)]
enum Seen {
    Rtp(Packet),
    Text(String),
    Open,
}

/// The browser: makes offers, has one track and the data channel.
struct Browser {
    connection: Arc<dyn PeerConnection>,
    track: Arc<TrackLocalStaticRTP>,
    channel: Arc<dyn DataChannel>,
    gathered: Arc<Notify>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

struct Handler {
    gathered: Arc<Notify>,
    seen: mpsc::UnboundedSender<Seen>,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let _ = seen.send(Seen::Rtp(packet));
                }
            }
        });
    }
}

impl Browser {
    async fn new(codec: &str, clock_rate: u32) -> Self {
        let (gathered, (seen, received)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_handler(Arc::new(Handler { gathered: gathered.clone(), seen: seen.clone() }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        let coding = RTCRtpCodingParameters { ssrc: Some(SSRC), ..RTCRtpCodingParameters::default() };
        let channels = if codec == "audio/opus" { 2 } else { 0 };
        let codec = RTCRtpCodec { mime_type: codec.to_owned(), clock_rate, channels, ..RTCRtpCodec::default() };
        let encoding =
            RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..RTCRtpEncodingParameters::default() };
        let name = || "microphone".to_owned();
        let track = MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        connection.add_track(track.clone()).await.expect("a track");
        let channel = connection.create_data_channel(CONTROL, None).await.expect("a data channel");
        let reader = channel.clone();
        tokio::spawn(async move {
            while let Some(event) = reader.poll().await {
                let _ = match event {
                    DataChannelEvent::OnOpen => seen.send(Seen::Open),
                    DataChannelEvent::OnMessage(message) => {
                        seen.send(Seen::Text(String::from_utf8_lossy(&message.data).into_owned()))
                    }
                    _ => Ok(()),
                };
            }
        });
        Self { connection: Arc::new(connection), track, channel, gathered, seen: received }
    }

    async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer).await.expect("an offer of its own");
        self.gathered.notified().await;
        self.connection.local_description().await.expect("the offer").sdp
    }

    async fn hear(&self, answer: &str) {
        let answer = RTCSessionDescription::answer(answer.to_owned()).expect("an answer");
        self.connection.set_remote_description(answer).await.expect("our answer is understood");
    }

    async fn speak(&self, packet: Packet) {
        self.track.write_rtp(packet).await.expect("a connection that is open");
    }

    async fn next_packet(&mut self) -> Packet {
        loop {
            match self.seen.recv().await.expect("the browser lives") {
                Seen::Rtp(packet) => return packet,
                _ => continue,
            }
        }
    }

    async fn next_text(&mut self) -> String {
        loop {
            match self.seen.recv().await.expect("the browser lives") {
                Seen::Text(text) => return text,
                _ => continue,
            }
        }
    }
}

fn config() -> Config {
    Config::new(vec![LOOPBACK])
}

fn packet(payload_type: u8, sequence_number: u16, payload: &[u8]) -> Packet {
    let header = rtc::rtp::header::Header {
        version: 2,
        payload_type,
        sequence_number,
        timestamp: u32::from(sequence_number) * 160,
        ssrc: SSRC,
        ..Default::default()
    };
    Packet { header, payload: Bytes::copy_from_slice(payload) }
}

async fn until_connected(leg: &mut Box<dyn BrowserLeg>) {
    while leg.recv().await != Event::Connected {}
}

async fn next_rtp(leg: &mut Box<dyn BrowserLeg>) -> Packet {
    loop {
        match leg.recv().await {
            Event::Rtp(packet) => return packet,
            Event::Closed | Event::Failed => panic!("the leg ended"),
            _ => continue,
        }
    }
}

async fn next_control(leg: &mut Box<dyn BrowserLeg>) -> String {
    loop {
        match leg.recv().await {
            Event::Control(text) => return text,
            Event::Closed | Event::Failed => panic!("the leg ended"),
            _ => continue,
        }
    }
}

/// Runs a test with an end.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test]
async fn audio_and_control_go_both_ways() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let mut browser = Browser::new("audio/PCMU", 8_000).await;
        let offer = browser.offer().await;
        let began = Instant::now();
        let Accepted { answer, audio, mut leg } = webrtc.accept(&offer, Codec::Pcmu).await.expect("an answer");
        let answered = began.elapsed();
        browser.hear(&answer).await;
        until_connected(&mut leg).await;
        println!("answered after {answered:?}, connected {:?} later", began.elapsed() - answered);

        for number in 0..50 {
            let payload = [number as u8; 160];
            browser.speak(packet(audio.payload_type, number, &payload)).await;
            let heard = next_rtp(&mut leg).await;
            assert_eq!((heard.header.sequence_number, &heard.payload[..]), (number, &payload[..]));
            leg.send_rtp(heard).await;
            let back = browser.next_packet().await;
            assert_eq!((back.header.sequence_number, &back.payload[..]), (number, &payload[..]));
        }

        browser.channel.send_text("{\"type\":\"hang_up\"}").await.expect("an open channel");
        assert_eq!(next_control(&mut leg).await, "{\"type\":\"hang_up\"}");
        leg.send_control("{\"type\":\"ringing\"}".to_owned()).await;
        assert_eq!(browser.next_text().await, "{\"type\":\"ringing\"}");
        leg.close().await;
    })
    .await;
}
