//! The leg on top of the crate `webrtc`.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use domain::app::Codec;
use rtc::{
    crypto::{RTCCryptoProvider, SignatureScheme},
    ice::mdns::MulticastDnsMode,
    interceptor::Slot,
    media_stream::MediaStreamTrack,
    peer_connection::{
        certificate::CertificateParams, configuration::setting_engine::SctpMaxMessageSize, transport::RTCDtlsRole,
    },
    rtp_transceiver::rtp_sender::{
        RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
    },
    sdp::SessionDescription,
    statistics::{StatsSelector, report::RTCStatsReportEntry},
};
use tokio::sync::{Notify, mpsc};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::{
        track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
        track_remote::{TrackRemote, TrackRemoteEvent},
    },
    peer_connection::{
        CipherSuiteId, MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCCertificate,
        RTCConfigurationBuilder, RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription, Registry,
        SettingEngine, SettingEngineBuilder, SrtpProtectionProfile, configure_rtcp_reports,
    },
};

use super::{
    AcceptError, Accepted, BrowserLeg, CONTROL, Config, Event, MAX_CONTROL_BYTES, Offer, Stats,
    answer::Candidates,
    net::Net,
    offer::{OPUS_FORMAT, encoding},
    ports::{Port, Ports},
    reports::{Latest, Reports},
};
use crate::{
    quality::Flow,
    rtp::{Format, Packet},
};

/// How long candidates may take: they are our own sockets, so only a task that does not run takes longer.
const GATHERING: Duration = Duration::from_secs(2);
/// Ports tried when others are bound by somebody else.
const PORT_TRIES: usize = 8;
/// Data channels that are looked at; a browser opens one.
const MAX_CHANNELS: usize = 4;
/// Messages kept until the data channel is open.
const MAX_WAITING: usize = 32;
/// Bytes on their way on the data channel at most; a browser that reads nothing does not fill our memory.
const MAX_UNSENT: usize = 16 * MAX_CONTROL_BYTES;
/// Where our own hook sees every report, coming and going.
const NEXT_TO_THE_WIRE: Slot = Slot::CongestionControl;
/// SCTP's receive window.
const SCTP_WINDOW: u32 = 64 * 1_024;

/// What the process needs to answer browsers.
pub struct WebRtc {
    config: Config,
    ports: Arc<Ports>,
    certificate: RTCCertificate,
    crypto: Arc<dyn RTCCryptoProvider>,
}

impl WebRtc {
    /// Makes the process's certificate.
    ///
    /// # Errors
    /// When there is no key or certificate to be made.
    pub fn new(config: Config) -> Result<Self, AcceptError> {
        let crypto = rtc::crypto::default_provider().map_err(internal)?;
        let params = CertificateParams::new(Vec::new()).map_err(internal)?;
        let certificate = RTCCertificate::generate(crypto.crypto(), SignatureScheme::EcdsaP256Sha256, params);
        let ports = Ports::new(config.ports.clone());
        Ok(Self { config, ports, certificate: certificate.map_err(internal)?, crypto })
    }

    /// Answers an offer for a call in `codec`.
    ///
    /// # Errors
    /// When the offer is at fault, or no port or address is there to answer with.
    pub async fn accept(&self, offer: &str, codec: Codec) -> Result<Accepted, AcceptError> {
        let offer = Offer::read(offer, codec)?;
        for _ in 0..PORT_TRIES {
            let port = self.ports.take().ok_or(AcceptError::NoPort)?;
            // A port that somebody else bound rests with the others, and the next is tried.
            let Some(mut leg) = self.open(&offer, port).await? else { continue };
            let answer = leg.begin(&self.config.public).await?;
            if leg.candidates.has_udp() {
                return Ok(Accepted { answer, format: offer.format(), leg: Box::new(leg) });
            }
        }
        Err(AcceptError::NoPort)
    }

    /// A connection on `port` that knows the offer; none when the port cannot be bound.
    async fn open(&self, offer: &Offer, port: Port) -> Result<Option<Leg>, AcceptError> {
        let net = Net::default();
        let stopped = net.stopped();
        let (signals, received) = mpsc::unbounded_channel();
        let (control, gathered) = (Arc::new(Control::default()), Arc::new(Notify::new()));
        let watcher = Watcher {
            signals,
            control: Arc::downgrade(&control),
            gathered: gathered.clone(),
            channels: AtomicUsize::new(0),
        };
        let mut ssrc = [0; 4];
        self.crypto.random().fill(&mut ssrc).map_err(internal)?;
        let ssrc = u32::from_be_bytes(ssrc);
        let (reports, reported) = Reports::about(ssrc);
        let bind: Vec<SocketAddr> =
            self.config.addresses.iter().map(|ip| SocketAddr::new(*ip, port.number())).collect();
        let built = PeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::new().with_certificates(vec![self.certificate.clone()]).build(),
            )
            .with_media_engine(media_engine(offer.format())?)
            .with_setting_engine(self.settings())
            .with_interceptor_registry(configure_rtcp_reports(Registry::new().with(NEXT_TO_THE_WIRE, reports)))
            .with_data_channel_send_buffer_limit(MAX_UNSENT)
            .with_runtime(Arc::new(net))
            .with_handler(Arc::new(watcher))
            .with_udp_addrs(bind.clone())
            .with_tcp_addrs(bind)
            .build()
            .await;
        let Ok(connection) = built else { return Ok(None) };
        Ok(Some(Leg {
            connection: Arc::new(connection),
            offer: tokio::sync::Mutex::new(offer.clone()),
            candidates: Candidates::default(),
            gathered,
            out: TrackOut { track: Arc::new(local_track(offer.format().codec, ssrc)), ssrc },
            signals: received,
            track: None,
            channel: None,
            control,
            stopped,
            reported,
            clock: offer.format().clock_rate(),
            ended: false,
            port: Some(port),
        }))
    }

    fn settings(&self) -> SettingEngine {
        let Config { disconnected_after, failed_after, check_every, ice_lite, .. } = self.config;
        SettingEngineBuilder::new()
            .with_crypto_provider(self.crypto.clone())
            .with_dtls_cipher_suites(vec![
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
            ])
            // Of these the client's order decides.
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            // As client, its first flight would wait for the next timer.
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_timeouts(Some(disconnected_after), Some(failed_after), Some(check_every))
            .with_lite(ice_lite)
            .with_include_loopback_candidate(self.config.addresses.iter().any(IpAddr::is_loopback))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_CONTROL_BYTES as u32))
            .with_sctp_max_receive_buffer_size(SCTP_WINDOW)
            .build()
    }
}

fn internal(error: impl std::fmt::Display) -> AcceptError {
    AcceptError::Internal(error.to_string())
}

fn refused(error: impl std::fmt::Display) -> AcceptError {
    AcceptError::Refused(error.to_string())
}

/// The call's one codec, and telephone events with its clock.
fn media_engine(format: Format) -> Result<MediaEngine, AcceptError> {
    let events = format.events.map(|payload_type| (telephone_event(format.codec), payload_type));
    let mut engine = MediaEngine::default();
    for (rtp_codec, payload_type) in [(rtp_codec(format.codec), format.audio)].into_iter().chain(events) {
        let parameters = RTCRtpCodecParameters { rtp_codec, payload_type };
        engine.register_codec(parameters, RtpCodecKind::Audio).map_err(internal)?;
    }
    Ok(engine)
}

fn rtp_codec(codec: Codec) -> RTCRtpCodec {
    let (name, clock_rate, channels) = encoding(codec);
    let sdp_fmtp_line = if codec == Codec::Opus { OPUS_FORMAT } else { "" }.to_owned();
    // The library counts one channel as none.
    let channels = if channels == 1 { 0 } else { channels };
    RTCRtpCodec { mime_type: format!("audio/{name}"), clock_rate, channels, sdp_fmtp_line, rtcp_feedback: Vec::new() }
}

fn telephone_event(codec: Codec) -> RTCRtpCodec {
    let (_, clock_rate, _) = encoding(codec);
    RTCRtpCodec { mime_type: "audio/telephone-event".to_owned(), clock_rate, ..RTCRtpCodec::default() }
}

fn local_track(codec: Codec, ssrc: u32) -> TrackLocalStaticRTP {
    let parameters = RTCRtpCodingParameters { ssrc: Some(ssrc), ..RTCRtpCodingParameters::default() };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: parameters,
        codec: rtp_codec(codec),
        ..RTCRtpEncodingParameters::default()
    };
    let name = || "call".to_owned();
    TrackLocalStaticRTP::new(MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]))
}

/// What the library's callbacks tell the leg.
enum Signal {
    State(RTCPeerConnectionState),
    Track(Arc<dyn TrackRemote>),
    Control(Arc<dyn DataChannel>),
}

/// Listens to the library. Called on the connection's own task, so it passes on and never waits; it holds nothing that
/// holds the connection, which would never be freed.
struct Watcher {
    signals: mpsc::UnboundedSender<Signal>,
    control: Weak<Control>,
    gathered: Arc<Notify>,
    channels: AtomicUsize,
}

impl Watcher {
    fn tell(&self, signal: Signal) {
        // Nobody listens any more when the leg is gone.
        let _ = self.signals.send(signal);
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Watcher {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.tell(Signal::State(state));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        if self.channels.fetch_add(1, Ordering::Relaxed) >= MAX_CHANNELS {
            return;
        }
        let Some(control) = self.control.upgrade() else { return };
        let named = channel.label().await.is_ok_and(|label| label == CONTROL);
        if named && control.open(&channel).await {
            self.tell(Signal::Control(channel));
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        self.tell(Signal::Track(track));
    }
}

/// The data channel, and what waits for it.
#[derive(Default)]
struct Control(tokio::sync::Mutex<Channel>);

#[derive(Default)]
struct Channel {
    open: Option<Arc<dyn DataChannel>>,
    waiting: VecDeque<String>,
}

impl Control {
    /// Takes the channel and sends what waited; false when there was one before.
    async fn open(&self, channel: &Arc<dyn DataChannel>) -> bool {
        let Channel { open, waiting } = &mut *self.0.lock().await;
        if open.is_some() {
            return false;
        }
        for message in waiting.drain(..) {
            write(&**channel, &message).await;
        }
        *open = Some(channel.clone());
        true
    }

    async fn send(&self, message: String) {
        let Channel { open, waiting } = &mut *self.0.lock().await;
        match open {
            Some(channel) => write(&**channel, &message).await,
            None if waiting.len() < MAX_WAITING => waiting.push_back(message),
            None => {}
        }
    }
}

async fn write(channel: &dyn DataChannel, message: &str) {
    if let Err(error) = channel.try_send_text(message).await {
        tracing::debug!(%error, "browser.control_unsent");
    }
}

/// What we send: one stream for the whole call.
struct TrackOut {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
}

struct Leg {
    connection: Arc<dyn PeerConnection>,
    /// The last offer taken.
    offer: tokio::sync::Mutex<Offer>,
    candidates: Candidates,
    gathered: Arc<Notify>,
    out: TrackOut,
    signals: mpsc::UnboundedReceiver<Signal>,
    track: Option<Arc<dyn TrackRemote>>,
    channel: Option<Arc<dyn DataChannel>>,
    control: Arc<Control>,
    stopped: Arc<Notify>,
    reported: Latest,
    clock: u32,
    ended: bool,
    port: Option<Port>,
}

/// What a leg waits for.
enum Happened {
    Signal(Signal),
    Track(Option<TrackRemoteEvent>),
    Channel(Option<DataChannelEvent>),
    Stopped,
}

impl Leg {
    /// The first answer.
    async fn begin(&mut self, public: &[IpAddr]) -> Result<String, AcceptError> {
        self.connection.add_track(self.out.track.clone()).await.map_err(internal)?;
        self.negotiate(&*self.offer.lock().await).await?;
        tokio::time::timeout(GATHERING, self.gathered.notified()).await.map_err(|_| AcceptError::NoCandidate)?;
        let mut answer = self.local().await?;
        self.candidates = Candidates::of(&answer, public);
        if self.candidates.is_empty() {
            return Err(AcceptError::NoCandidate);
        }
        self.candidates.write_into(&mut answer);
        Ok(answer.marshal())
    }

    async fn negotiate(&self, offer: &Offer) -> Result<(), AcceptError> {
        let offer = RTCSessionDescription::offer(offer.to_sdp()).map_err(refused)?;
        self.connection.set_remote_description(offer).await.map_err(refused)?;
        let answer = self.connection.create_answer(None).await.map_err(refused)?;
        self.connection.set_local_description(answer).await.map_err(internal)
    }

    async fn local(&self) -> Result<SessionDescription, AcceptError> {
        let description = self.connection.local_description().await.ok_or(AcceptError::NoCandidate)?;
        description.unmarshal().map_err(internal)
    }

    /// Waits for the next that happens; nothing is lost when this is cancelled.
    async fn next(&mut self) -> Happened {
        let Self { signals, track, channel, stopped, .. } = self;
        let packet = async {
            match track {
                Some(track) => track.poll().await,
                None => std::future::pending().await,
            }
        };
        let message = async {
            match channel {
                Some(channel) => channel.poll().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(signal) = signals.recv() => Happened::Signal(signal),
            event = packet => Happened::Track(event),
            event = message => Happened::Channel(event),
            () = stopped.notified() => Happened::Stopped,
        }
    }

    /// What the owner of the leg hears of it.
    fn take(&mut self, happened: Happened) -> Option<Event> {
        match happened {
            Happened::Signal(Signal::State(RTCPeerConnectionState::Connected)) => Some(Event::Connected),
            Happened::Signal(Signal::State(RTCPeerConnectionState::Disconnected)) => Some(Event::Disconnected),
            Happened::Signal(Signal::State(RTCPeerConnectionState::Failed)) => Some(Event::Failed),
            Happened::Signal(Signal::State(RTCPeerConnectionState::Closed)) | Happened::Stopped => self.end(),
            Happened::Signal(Signal::State(_)) => None,
            Happened::Signal(Signal::Track(track)) => {
                self.track = Some(track);
                None
            }
            Happened::Signal(Signal::Control(channel)) => {
                self.channel = Some(channel);
                None
            }
            Happened::Track(Some(TrackRemoteEvent::OnRtpPacket(packet))) => Some(Event::Rtp(incoming(packet))),
            Happened::Track(Some(_)) => None,
            Happened::Track(None) => {
                self.track = None;
                None
            }
            Happened::Channel(Some(DataChannelEvent::OnMessage(message))) => control_message(&message.data),
            // The widget keeps it open as long as it lives, and a browser that closes its connection closes it as well.
            Happened::Channel(Some(DataChannelEvent::OnClose) | None) => self.end(),
            Happened::Channel(Some(_)) => None,
        }
    }

    fn end(&mut self) -> Option<Event> {
        (self.track, self.channel, self.ended) = (None, None, true);
        Some(Event::Closed)
    }
}

fn incoming(packet: rtc::rtp::Packet) -> Packet {
    let rtc::rtp::Packet { header, payload } = packet;
    Packet {
        payload_type: header.payload_type,
        marker: header.marker,
        sequence: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
        payload,
    }
}

fn outgoing(packet: Packet, ssrc: u32) -> rtc::rtp::Packet {
    let header = rtc::rtp::header::Header {
        version: 2,
        marker: packet.marker,
        payload_type: packet.payload_type,
        sequence_number: packet.sequence,
        timestamp: packet.timestamp,
        ssrc,
        ..Default::default()
    };
    rtc::rtp::Packet { header, payload: packet.payload }
}

fn control_message(bytes: &[u8]) -> Option<Event> {
    if bytes.len() > MAX_CONTROL_BYTES {
        return None;
    }
    std::str::from_utf8(bytes).ok().map(|text| Event::Control(text.to_owned()))
}

#[async_trait]
impl BrowserLeg for Leg {
    async fn recv(&mut self) -> Event {
        while !self.ended {
            let happened = self.next().await;
            if let Some(event) = self.take(happened) {
                return event;
            }
        }
        Event::Closed
    }

    async fn send_rtp(&self, packet: Packet) {
        // Fails only when the connection is closed, which `recv` tells.
        let _ = self.out.track.write_rtp(outgoing(packet, self.out.ssrc)).await;
    }

    async fn send_control(&self, message: String) {
        if message.len() <= MAX_CONTROL_BYTES {
            self.control.send(message).await;
        }
    }

    async fn restart(&self, offer: &str) -> Result<String, AcceptError> {
        let mut last = self.offer.lock().await;
        let offer = Offer::read(offer, last.format().codec)?;
        offer.restarts(&last)?;
        self.negotiate(&offer).await?;
        *last = offer;
        let mut answer = self.local().await?;
        self.candidates.write_into(&mut answer);
        Ok(answer.marshal())
    }

    async fn stats(&self) -> Stats {
        let report = self.connection.get_stats(Instant::now(), StatsSelector::None).await;
        let counted = report.iter().fold(Stats::default(), |stats, entry| add(stats, entry, self.clock));
        let reported = self.reported.get();
        let sent = Flow { lost: reported.lost, jitter: ticks(f64::from(reported.jitter), self.clock), ..counted.sent };
        Stats { round_trip: reported.round_trip.or(counted.round_trip), sent, ..counted }
    }

    async fn close(&self) {
        // It fails only when it is closed already.
        let _ = self.connection.close().await;
        self.control.0.lock().await.open = None;
    }
}

impl Drop for Leg {
    /// A leg dropped in the middle of a call frees its sockets nevertheless.
    fn drop(&mut self) {
        let (connection, port) = (self.connection.clone(), self.port.take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = connection.close().await;
                drop(port);
            });
        }
    }
}

/// Seconds, where the library gives some.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// Jitter as it stands in RTCP, in units of the codec's clock.
fn ticks(value: f64, clock: u32) -> Duration {
    seconds(value / f64::from(clock))
}

/// Adds one entry of the library's report. Its jitter is as it stands in RTCP, no matter what it says.
fn add(stats: Stats, entry: &RTCStatsReportEntry, clock: u32) -> Stats {
    match entry {
        RTCStatsReportEntry::InboundRtp(inbound) => {
            let counted = &inbound.received_rtp_stream_stats;
            let (packets, lost) = (counted.packets_received, counted.packets_lost);
            Stats { received: Flow { packets, lost, jitter: ticks(counted.jitter, clock) }, ..stats }
        }
        RTCStatsReportEntry::OutboundRtp(outbound) => {
            Stats { sent: Flow { packets: outbound.sent_rtp_stream_stats.packets_sent, ..stats.sent }, ..stats }
        }
        RTCStatsReportEntry::IceCandidatePair(pair) if pair.nominated => {
            let round_trip = Some(seconds(pair.current_round_trip_time)).filter(|time| !time.is_zero());
            Stats { round_trip, ..stats }
        }
        _ => stats,
    }
}
