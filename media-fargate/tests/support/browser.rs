//! A visitor's browser: a second `WebRTC` stack with one codec, one track and the data channel. What comes in goes to who
//! made it.

use std::sync::Arc;

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
use tokio::sync::Notify;
use webrtc::{
    data_channel::DataChannel,
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCSessionDescription, Registry, SettingEngineBuilder, SrtpProtectionProfile as Profile,
        configure_rtcp_reports,
    },
};

/// The stream it speaks in.
pub const SSRC: u32 = 4_711;
/// How it encrypts when nothing else is asked for.
pub const STRONG: [Profile; 2] = [Profile::Srtp_Aead_Aes_128_Gcm, Profile::Srtp_Aes128_Cm_Hmac_Sha1_80];

/// How the stack marks packets of a codec.
pub fn format(codec: Codec) -> Format {
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

/// The browser.
pub struct Browser {
    pub connection: Arc<dyn PeerConnection>,
    pub channel: Arc<dyn DataChannel>,
    track: Arc<TrackLocalStaticRTP>,
    gathered: Arc<Notify>,
}

/// Takes packets in.
type Hears = Arc<dyn Fn(Packet) + Send + Sync>;

struct Handler {
    gathered: Arc<Notify>,
    hears: Hears,
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let hears = self.hears.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(rtc::rtp::Packet { header, payload }) = event {
                    let Header { payload_type, marker, sequence_number: sequence, timestamp, ssrc, .. } = header;
                    hears(Packet { payload_type, marker, sequence, timestamp, ssrc, payload });
                }
            }
        });
    }
}

impl Browser {
    /// One that speaks a codec, encrypts by one of these and gives every packet it hears to `hears`.
    pub async fn new(codec: Codec, profiles: &[Profile], hears: impl Fn(Packet) + Send + Sync + 'static) -> Self {
        let gathered = Arc::new(Notify::new());
        let mut engine = MediaEngine::default();
        engine.register_default_codecs().expect("codecs");
        for (payload_type, clock_rate) in [(110, 48_000), (126, 8_000)] {
            let mime_type = "audio/telephone-event".to_owned();
            let rtp_codec = RTCRtpCodec { mime_type, clock_rate, ..RTCRtpCodec::default() };
            let event = RTCRtpCodecParameters { rtp_codec, payload_type };
            engine.register_codec(event, RtpCodecKind::Audio).expect("a codec");
        }
        let settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_srtp_protection_profiles(profiles.to_vec())
            .build();
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .with_handler(Arc::new(Handler { gathered: gathered.clone(), hears: Arc::new(hears) }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(SSRC), ..RTCRtpCodingParameters::default() };
        let codec = rtp_codec(codec);
        let encoding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..RTCRtpEncodingParameters::default() };
        let name = || "microphone".to_owned();
        let track = MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        connection.add_track(track.clone()).await.expect("a track");
        let channel = connection.create_data_channel(CONTROL, None).await.expect("a data channel");
        Self { connection: Arc::new(connection), channel, track, gathered }
    }

    /// What it speaks with.
    pub fn microphone(&self) -> Microphone {
        Microphone(self.track.clone())
    }

    pub async fn offer(&self) -> String {
        let offer = self.connection.create_offer(None).await.expect("an offer");
        self.connection.set_local_description(offer).await.expect("an offer of its own");
        self.gathered.notified().await;
        self.connection.local_description().await.expect("the offer").sdp
    }

    /// The same, with the keys of both clocks, as browsers have them. The stack leaves out what no track speaks.
    pub async fn offer_with_keys(&self) -> String {
        let keys = "a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\na=rtcp-mux\r\n";
        let offer = self.offer().await.replacen("UDP/TLS/RTP/SAVPF ", "UDP/TLS/RTP/SAVPF 110 126 ", 1);
        offer.replacen("a=rtcp-mux\r\n", keys, 1)
    }

    /// A new offer with new credentials.
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
}

/// The track.
#[derive(Clone)]
pub struct Microphone(Arc<TrackLocalStaticRTP>);

impl Microphone {
    /// Sends a packet. Before the connection stands, and after its end, nobody listens.
    pub async fn speak(&self, packet: Packet) {
        let Packet { payload_type, marker, sequence, timestamp, ssrc, payload } = packet;
        let header = Header {
            version: 2,
            payload_type,
            marker,
            sequence_number: sequence,
            timestamp,
            ssrc,
            ..Header::default()
        };
        let _ = self.0.write_rtp(rtc::rtp::Packet { header, payload }).await;
    }
}
