//! A visitor's browser without a browser: the library's protocols by themselves, one socket, one task. It costs this
//! process little, and no thread or timer of it stands between the socket and the clock.

use std::{
    f64::consts::TAU,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use domain::app::Codec;
use media::rtp::{clock_rate, static_payload_type};
use rtc::{
    data_channel::RTCDataChannelId,
    ice::mdns::MulticastDnsMode,
    interceptor::Registry,
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            interceptor_registry::configure_rtcp_reports, media_engine::MediaEngine,
            setting_engine::SettingEngineBuilder,
        },
        event::RTCPeerConnectionEvent,
        message::RTCMessage,
        sdp::RTCSessionDescription,
        state::RTCPeerConnectionState,
        transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate, RTCIceCandidateInit},
    },
    rtp,
    rtp_transceiver::{
        RTCRtpSenderId,
        rtp_sender::{
            RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
        },
    },
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Interval, interval, sleep_until},
};

use crate::{Failure, figures::Meter};

/// Between two packets.
const PTIME: Duration = Duration::from_millis(20);
/// Of PCMU.
const SAMPLES: usize = 160;
/// Bytes of 20 ms of Opus, at the 32 kbit/s that browsers choose for speech.
const OPUS_BYTES: usize = 80;
/// The payload type that browsers give to Opus.
const OPUS: u8 = 111;
/// Frames said over and over where they are listened to: a second.
const FRAMES: usize = 50;
/// A datagram at most.
const DATAGRAM: usize = 2_048;
/// When nothing is due.
const LATER: Duration = Duration::from_secs(60);

/// What a browser says: real audio where somebody decodes it, else frames as long.
///
/// # Errors
/// When there is no encoder.
pub fn frames(codec: Codec, decoded: bool) -> Result<Arc<[Bytes]>, Failure> {
    if !decoded {
        let length = if codec == Codec::Opus { OPUS_BYTES } else { SAMPLES };
        return Ok([Bytes::from(vec![0xff; length])].into());
    }
    let rate = clock_rate(Codec::Opus);
    let mut encoder = ropus::Encoder::builder(rate, ropus::Channels::Mono, ropus::Application::Voip)
        .bitrate(ropus::Bitrate::Bits(32_000))
        .inband_fec(ropus::InbandFec::Enabled)
        .packet_loss_perc(5)
        .build()?;
    let samples = rate as usize / 50;
    let frame = |number: usize| {
        let samples: Vec<i16> =
            (0..samples).map(|at| speech((number * samples + at) as f64 / f64::from(rate))).collect();
        let mut payload = [0; 1_275];
        let length = encoder.encode(&samples, &mut payload)?;
        Ok(Bytes::copy_from_slice(&payload[..length]))
    };
    (0..FRAMES).map(frame).collect()
}

/// A sample of what an encoder takes for a voice: a hum whose pitch and loudness go up and down, and its overtones.
fn speech(time: f64) -> i16 {
    let loudness = 0.55 + 0.45 * (TAU * 4.0 * time).sin();
    let phase = TAU * (140.0 * time + 2.0 * (TAU * 3.0 * time).sin());
    let hum: f64 = (1..=20_i32).map(|overtone| (phase * f64::from(overtone)).sin() / f64::from(overtone)).sum();
    (6_000.0 * loudness * hum) as i16
}

/// A microphone's stream.
pub struct Voice {
    codec: Codec,
    frames: Arc<[Bytes]>,
    meter: Arc<Meter>,
    header: rtp::header::Header,
    said: usize,
}

impl Voice {
    /// The stream of one browser.
    pub fn new(codec: Codec, frames: Arc<[Bytes]>, meter: Arc<Meter>) -> Self {
        let payload_type = static_payload_type(codec).unwrap_or(OPUS);
        let ssrc = u32::from_be_bytes(edge::chance::bytes());
        let header = rtp::header::Header { version: 2, payload_type, ssrc, ..rtp::header::Header::default() };
        Self { codec, frames, meter, header, said: 0 }
    }

    fn rtp_codec(&self) -> RTCRtpCodec {
        let (name, channels) = if self.codec == Codec::Opus { ("opus", 2) } else { ("PCMU", 0) };
        let (mime_type, clock_rate) = (format!("audio/{name}"), clock_rate(self.codec));
        RTCRtpCodec { mime_type, clock_rate, channels, ..RTCRtpCodec::default() }
    }

    fn next(&mut self) -> rtp::Packet {
        let mut payload = self.frames[self.said % self.frames.len()].to_vec();
        self.said += 1;
        self.header.sequence_number = self.header.sequence_number.wrapping_add(1);
        self.header.timestamp = self.header.timestamp.wrapping_add(clock_rate(self.codec) / 50);
        self.meter.sends(&self.meter.up, &mut payload);
        rtp::Packet { header: self.header.clone(), payload: payload.into() }
    }
}

/// The browser.
pub struct Browser {
    connection: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    microphone: RTCRtpSenderId,
    control: RTCDataChannelId,
    voice: Voice,
}

/// What the server says on `control`, as far as it matters here.
#[derive(PartialEq)]
enum Said {
    Answered,
    Ended(String),
}

impl Browser {
    /// A browser with its socket, its microphone and its data channel.
    ///
    /// # Errors
    /// When there is no socket, or the library refuses.
    pub async fn open(voice: Voice) -> Result<Self, Failure> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let local = socket.local_addr()?;
        let mut engine = MediaEngine::default();
        let parameters =
            RTCRtpCodecParameters { rtp_codec: voice.rtp_codec(), payload_type: voice.header.payload_type };
        engine.register_codec(parameters, RtpCodecKind::Audio)?;
        let settings = SettingEngineBuilder::new().with_multicast_dns_mode(MulticastDnsMode::Disabled).build();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings)
            .with_interceptor_registry(configure_rtcp_reports(Registry::new()))
            .build(Instant::now())?;
        let coding = RTCRtpCodingParameters { ssrc: Some(voice.header.ssrc), ..RTCRtpCodingParameters::default() };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            codec: voice.rtp_codec(),
            ..RTCRtpEncodingParameters::default()
        };
        let name = || "microphone".to_owned();
        let track = MediaStreamTrack::new(name(), name(), name(), RtpCodecKind::Audio, vec![encoding]);
        let microphone = connection.add_track(track)?;
        let control = connection.create_data_channel(media::browser::CONTROL, None)?.id();
        Ok(Self { connection, socket, local, microphone, control, voice })
    }

    /// Its offer.
    ///
    /// # Errors
    /// When the library has none.
    pub fn offer(&mut self) -> Result<String, Failure> {
        let offer = self.connection.create_offer(None)?;
        self.connection.set_local_description(Instant::now(), offer)?;
        let base_config = CandidateConfig {
            network: "udp".to_owned(),
            address: self.local.ip().to_string(),
            port: self.local.port(),
            component: 1,
            ..CandidateConfig::default()
        };
        let candidate = CandidateHostConfig { base_config, ..CandidateHostConfig::default() }.new_candidate_host()?;
        self.connection.add_local_candidate(RTCIceCandidate::from(&candidate).to_json()?)?;
        self.connection.add_local_candidate(RTCIceCandidateInit::default())?;
        Ok(self.connection.local_description().ok_or("no offer")?.sdp)
    }

    /// Takes the answer.
    ///
    /// # Errors
    /// When the library does not.
    pub fn take(&mut self, answer: String) -> Result<(), Failure> {
        Ok(self.connection.set_remote_description(Instant::now(), RTCSessionDescription::answer(answer)?)?)
    }

    /// From the answer on: connects, speaks once it is told `answered`, and hangs up when it is to.
    ///
    /// # Errors
    /// When the call breaks or ends otherwise.
    pub async fn talk(mut self, mut hang_up: watch::Receiver<bool>, answered: impl FnOnce()) -> Result<(), Failure> {
        let (mut answered, mut beat, mut leaving) = (Some(answered), None, false);
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match self.news()? {
                Some(Said::Answered) => {
                    beat = Some(interval(PTIME));
                    if let Some(tell) = answered.take() {
                        tell();
                    }
                }
                Some(Said::Ended(_)) if leaving => return self.leave(),
                Some(Said::Ended(message)) => return Err(format!("the call ended: {message}").into()),
                None => {}
            }
            self.flush();
            let now = Instant::now();
            let due = self.connection.poll_timeout().unwrap_or(now + LATER);
            if due <= now {
                self.connection.handle_timeout(now)?;
                continue;
            }
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, from) = received?;
                    self.hear(&buffer[..length], from)?;
                }
                () = tick(beat.as_mut()) => {
                    let packet = self.voice.next();
                    let mut microphone = self.connection.rtp_sender(self.microphone).ok_or("no microphone")?;
                    microphone.write_rtp(Instant::now(), packet)?;
                }
                () = sleep_until(due.into()) => self.connection.handle_timeout(Instant::now())?,
                _ = hang_up.wait_for(|up| *up), if !leaving && answered.is_none() => {
                    let mut control = self.connection.data_channel(self.control).ok_or("no channel")?;
                    control.send_text(Instant::now(), r#"{"type":"hang_up"}"#)?;
                    (leaving, beat) = (true, None);
                }
            }
        }
    }

    fn hear(&mut self, datagram: &[u8], from: SocketAddr) -> Result<(), Failure> {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let message = BytesMut::from(datagram);
        Ok(self.connection.handle_read(TaggedBytesMut { now: Instant::now(), transport, message })?)
    }

    /// What came of what was heard.
    fn news(&mut self) -> Result<Option<Said>, Failure> {
        use RTCPeerConnectionState::{Closed, Failed};
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state @ (Failed | Closed)) = event {
                return Err(format!("the connection is {state}").into());
            }
        }
        let mut said = None;
        while let Some(tagged) = self.connection.poll_read() {
            match tagged.message {
                RTCMessage::RtpPacket(_, packet) => self.voice.meter.received(&self.voice.meter.down, &packet.payload),
                RTCMessage::DataChannelMessage(_, message) => said = read(&message.data).or(said),
                _ => {}
            }
        }
        Ok(said)
    }

    /// Sends what is to be sent.
    fn flush(&mut self) {
        while let Some(packet) = self.connection.poll_write() {
            // A full buffer loses the packet, as a network would; what must arrive is sent again.
            let _ = self.socket.try_send_to(&packet.message, packet.transport.peer_addr);
        }
    }

    fn leave(mut self) -> Result<(), Failure> {
        self.connection.close()?;
        self.flush();
        Ok(())
    }
}

fn read(message: &[u8]) -> Option<Said> {
    let text = std::str::from_utf8(message).ok()?;
    let message: serde_json::Value = serde_json::from_str(text).ok()?;
    match message["type"].as_str()? {
        "answered" => Some(Said::Answered),
        "ended" => Some(Said::Ended(text.to_owned())),
        _ => None,
    }
}

async fn tick(beat: Option<&mut Interval>) {
    match beat {
        Some(beat) => drop(beat.tick().await),
        None => std::future::pending().await,
    }
}
