//! The browser's leg against a second `WebRTC` stack as the browser, on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::app::Codec;
use media::browser::{AcceptError, Accepted, BrowserLeg, Config, Event, MAX_CONTROL_BYTES, OfferError, WebRtc};
use media::rtp::Packet;
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use webrtc::{
    data_channel::DataChannelEvent,
    peer_connection::{SrtpProtectionProfile as Profile, StatsSelector},
};

#[path = "support/browser.rs"]
mod browser;

use browser::{SSRC, STRONG};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the browser saw.
#[derive(Debug)]
enum Seen {
    Rtp(u16, Bytes),
    Text(String),
    Open,
}

/// The browser, and what it sees.
struct Browser {
    browser: browser::Browser,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Deref for Browser {
    type Target = browser::Browser;

    fn deref(&self) -> &browser::Browser {
        &self.browser
    }
}

impl Browser {
    async fn new(codec: Codec) -> Self {
        Self::with_profiles(codec, &STRONG).await
    }

    async fn with_profiles(codec: Codec, profiles: &[Profile]) -> Self {
        let (sees, seen) = mpsc::unbounded_channel();
        let hears = sees.clone();
        let hears = move |packet: Packet| drop(hears.send(Seen::Rtp(packet.sequence, packet.payload)));
        let browser = browser::Browser::new(codec, profiles, hears).await;
        let channel = browser.channel.clone();
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                let _ = match event {
                    DataChannelEvent::OnOpen => sees.send(Seen::Open),
                    DataChannelEvent::OnMessage(message) => {
                        sees.send(Seen::Text(String::from_utf8_lossy(&message.data).into_owned()))
                    }
                    _ => Ok(()),
                };
            }
        });
        Self { browser, seen }
    }

    async fn speak(&self, payload_type: u8, sequence: u16, payload: &[u8]) {
        let (timestamp, payload) = (u32::from(sequence) * 160, Bytes::copy_from_slice(payload));
        self.microphone().speak(Packet { payload_type, marker: false, sequence, timestamp, ssrc: SSRC, payload }).await;
    }

    async fn next_packet(&mut self) -> (u16, Bytes) {
        loop {
            match self.seen.recv().await.expect("the browser lives") {
                Seen::Rtp(sequence, payload) => return (sequence, payload),
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

/// A call that stands.
async fn connect(webrtc: &WebRtc, browser: &Browser, codec: Codec) -> Accepted {
    let mut accepted = webrtc.accept(&browser.offer().await, codec).await.expect("an answer");
    browser.take(&accepted.answer).await;
    until_connected(&mut accepted.leg).await;
    accepted
}

async fn opened(browser: &mut Browser) {
    while !matches!(browser.seen.recv().await, Some(Seen::Open)) {}
}

/// Says something until it comes back. What is said before both have finished the handshake is lost.
async fn heard(browser: &mut Browser, accepted: &mut Accepted, number: u16) {
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = again.tick() => browser.speak(accepted.format.audio, number, b"audio").await,
            event = accepted.leg.recv() => match event {
                Event::Rtp(packet) if packet.sequence == number => {
                    assert_eq!(&packet.payload[..], b"audio");
                    accepted.leg.send_rtp(packet).await;
                }
                Event::Closed | Event::Failed => panic!("the leg ended"),
                _ => {}
            },
            seen = browser.seen.recv() => match seen.expect("the browser lives") {
                Seen::Rtp(sequence, _) if sequence == number => return,
                _ => {}
            },
        }
    }
}

/// The `host:port` of every candidate of an answer.
fn candidates(answer: &str) -> Vec<String> {
    let lines = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    lines.map(|line| line.split(' ').skip(4).take(2).collect::<Vec<_>>().join(":")).collect()
}

/// Waits until `condition` holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Of this process: nextest gives every test one of its own.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Runs a test with an end.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test]
async fn audio_and_control_go_both_ways() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let mut browser = Browser::new(Codec::Pcmu).await;
        let offer = browser.offer().await;
        let began = Instant::now();
        let Accepted { answer, format, mut leg } = webrtc.accept(&offer, Codec::Pcmu).await.expect("an answer");
        let answered = began.elapsed();
        browser.take(&answer).await;
        until_connected(&mut leg).await;
        println!("answered after {answered:?}, connected {:?} later", began.elapsed() - answered);
        opened(&mut browser).await;

        for number in 0..50 {
            let sound = [number as u8; 160];
            browser.speak(format.audio, number, &sound).await;
            let heard = next_rtp(&mut leg).await;
            assert_eq!((heard.sequence, &heard.payload[..]), (number, &sound[..]));
            leg.send_rtp(heard).await;
            assert_eq!(browser.next_packet().await, (number, Bytes::copy_from_slice(&sound)));
        }

        browser.channel.send_text("{\"type\":\"hang_up\"}").await.expect("an open channel");
        assert_eq!(next_control(&mut leg).await, "{\"type\":\"hang_up\"}");
        leg.send_control("{\"type\":\"ringing\"}".to_owned()).await;
        assert_eq!(browser.next_text().await, "{\"type\":\"ringing\"}");
        leg.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_said_before_the_channel_opens_is_kept() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let mut browser = Browser::new(Codec::Pcmu).await;
        let Accepted { answer, mut leg, .. } =
            webrtc.accept(&browser.offer().await, Codec::Pcmu).await.expect("an answer");
        for text in ["one", "two", "three"] {
            leg.send_control(text.to_owned()).await;
        }
        browser.take(&answer).await;
        until_connected(&mut leg).await;
        for text in ["one", "two", "three"] {
            assert_eq!(browser.next_text().await, text);
        }
        leg.close().await;
    })
    .await;
}

#[tokio::test]
async fn messages_have_a_length_and_channels_a_name() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let mut browser = Browser::new(Codec::Pcmu).await;
        let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
        opened(&mut browser).await;

        let other = browser.connection.create_data_channel("chat", None).await.expect("another channel");
        let _ = other.send_text("nobody listens").await;
        let _ = browser.channel.send_text(&"x".repeat(MAX_CONTROL_BYTES + 1)).await;
        browser.channel.send_text(&"y".repeat(MAX_CONTROL_BYTES)).await.expect("an open channel");
        assert_eq!(next_control(&mut accepted.leg).await, "y".repeat(MAX_CONTROL_BYTES));
        accepted.leg.send_control("z".repeat(MAX_CONTROL_BYTES + 1)).await;
        accepted.leg.send_control("short".to_owned()).await;
        assert_eq!(browser.next_text().await, "short");
        accepted.leg.close().await;
    })
    .await;
}

#[tokio::test]
async fn the_answer_has_one_codec_and_the_event_of_its_clock() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        for (codec, maps) in [
            (Codec::Pcmu, ["0 PCMU/8000", "126 telephone-event/8000"]),
            (Codec::Pcma, ["8 PCMA/8000", "126 telephone-event/8000"]),
            (Codec::Opus, ["111 opus/48000/2", "110 telephone-event/48000"]),
        ] {
            let offer = Browser::new(codec).await.offer_with_keys().await;
            let Accepted { answer, format, leg } = webrtc.accept(&offer, codec).await.expect("an answer");
            let answered: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")).collect();
            assert_eq!(answered, maps);
            assert_eq!(format.events, browser::format(codec).events);
            assert!(answer.contains("a=setup:passive"), "the server waits for the handshake");
            leg.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_codec_is_heard() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        for codec in [Codec::Pcmu, Codec::Pcma, Codec::Opus] {
            let mut browser = Browser::new(codec).await;
            let mut accepted = connect(&webrtc, &browser, codec).await;
            heard(&mut browser, &mut accepted, 7).await;
            accepted.leg.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_ice_restart_changes_credentials_and_keeps_the_call() {
    for ice_lite in [true, false] {
        within(async {
            let webrtc = WebRtc::new(Config { ice_lite, ..config() }).expect("a certificate");
            let mut browser = Browser::new(Codec::Pcmu).await;
            let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
            opened(&mut browser).await;
            heard(&mut browser, &mut accepted, 1).await;

            let offer = browser.restart().await;
            let answer = accepted.leg.restart(&offer).await.expect("an answer");
            let credentials = |sdp: &str| sdp.lines().find(|line| line.starts_with("a=ice-ufrag")).map(str::to_owned);
            assert_ne!(credentials(&answer), credentials(&accepted.answer));
            assert_eq!(candidates(&answer), candidates(&accepted.answer));
            let again = accepted.leg.restart(&offer).await;
            assert_eq!(again, Err(AcceptError::Offer(OfferError::Restart)), "the same offer twice");
            browser.take(&answer).await;
            until_connected(&mut accepted.leg).await;
            heard(&mut browser, &mut accepted, 2).await;
            browser.channel.send_text("still here").await.expect("an open channel");
            assert_eq!(next_control(&mut accepted.leg).await, "still here");
            accepted.leg.close().await;
        })
        .await;
    }
}

#[tokio::test]
async fn closing_frees_sockets_and_tasks() {
    within(async {
        let webrtc = WebRtc::new(Config { ports: Some(21_000..=21_009), ..config() }).expect("a certificate");
        let browser = Browser::new(Codec::Pcmu).await;
        let offer = browser.offer().await;
        let (files, running) = (open_files(), tasks());
        for round in 0..30 {
            let Accepted { leg, .. } = webrtc.accept(&offer, Codec::Pcmu).await.expect("a port is free again");
            assert!(open_files() > files && tasks() > running);
            if round % 2 == 0 {
                leg.close().await;
                leg.close().await;
            }
            drop(leg);
            eventually("all files closed", || open_files() == files).await;
            eventually("all tasks ended", || tasks() == running).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_call_that_stood_leaves_nothing_either() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let (files, running) = (open_files(), tasks());
        for _ in 0..5 {
            let mut browser = Browser::new(Codec::Pcmu).await;
            let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
            heard(&mut browser, &mut accepted, 1).await;
            accepted.leg.close().await;
            assert_eq!(accepted.leg.recv().await, Event::Closed);
            assert_eq!(accepted.leg.recv().await, Event::Closed, "and stays so");
            browser.connection.close().await.expect("the browser closes");
        }
        eventually("all files closed", || open_files() == files).await;
        eventually("all tasks ended", || tasks() == running).await;
    })
    .await;
}

#[tokio::test]
async fn a_browser_that_leaves_is_told_at_once() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let mut browser = Browser::new(Codec::Pcmu).await;
        let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
        opened(&mut browser).await;
        let began = Instant::now();
        browser.connection.close().await.expect("the browser closes");
        while accepted.leg.recv().await != Event::Closed {}
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    })
    .await;
}

/// A NAT in front of the server: datagrams to one address are passed on to another.
struct Nat {
    sockets: Arc<(UdpSocket, UdpSocket)>,
    passing: Vec<JoinHandle<()>>,
}

impl Nat {
    async fn between(public: SocketAddr, server: SocketAddr) -> Self {
        let outside = UdpSocket::bind(public).await.expect("the public address");
        let inside = UdpSocket::bind((LOOPBACK, 0)).await.expect("an address inside");
        inside.connect(server).await.expect("a server");
        let sockets = Arc::new((outside, inside));
        let peer = Arc::new(std::sync::Mutex::new(None));
        let (forth, back) = ((sockets.clone(), peer.clone()), (sockets.clone(), peer));
        let forth = tokio::spawn(async move {
            let ((sockets, peer), mut buffer) = (forth, [0; 2_048]);
            while let Ok((length, from)) = sockets.0.recv_from(&mut buffer).await {
                *peer.lock().expect("no panic elsewhere") = Some(from);
                let _ = sockets.1.send(&buffer[..length]).await;
            }
        });
        let back = tokio::spawn(async move {
            let ((sockets, peer), mut buffer) = (back, [0; 2_048]);
            while let Ok(length) = sockets.1.recv(&mut buffer).await {
                let to = *peer.lock().expect("no panic elsewhere");
                if let Some(to) = to {
                    let _ = sockets.0.send_to(&buffer[..length], to).await;
                }
            }
        });
        Self { sockets, passing: vec![forth, back] }
    }

    /// Sends a datagram in the browser's name.
    async fn forge(&self, datagram: &[u8]) {
        self.sockets.1.send(datagram).await.expect("sent");
    }

    /// As when a cable is pulled.
    fn cut(self) {
        self.passing.iter().for_each(JoinHandle::abort);
        drop(self.sockets);
    }
}

const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));

fn behind_nat(port: u16) -> Config {
    Config {
        public: vec![PUBLIC],
        ports: Some(port..=port),
        disconnected_after: Duration::from_secs(1),
        failed_after: Duration::from_secs(1),
        check_every: Duration::from_millis(200),
        ..config()
    }
}

#[tokio::test]
async fn behind_a_nat_the_public_address_is_told_and_a_cut_line_is_noticed() {
    within(async {
        let port = 21_100;
        let nat = Nat::between(SocketAddr::new(PUBLIC, port), SocketAddr::new(LOOPBACK, port)).await;
        let webrtc = WebRtc::new(behind_nat(port)).expect("a certificate");
        let mut browser = Browser::new(Codec::Pcmu).await;
        let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
        assert_eq!(candidates(&accepted.answer), vec![format!("{PUBLIC}:{port}"); 2], "UDP and TCP, nothing private");
        assert!(!accepted.answer.contains("127.0.0.1"), "{}", accepted.answer);
        heard(&mut browser, &mut accepted, 1).await;

        // An alert that anybody could write ends nothing.
        for level in [1, 2] {
            nat.forge(&[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, level, 0, 2, level, 0]).await;
        }
        heard(&mut browser, &mut accepted, 2).await;
        nat.cut();
        let began = Instant::now();
        while accepted.leg.recv().await != Event::Disconnected {}
        let disconnected = began.elapsed();
        while accepted.leg.recv().await != Event::Failed {}
        println!("disconnected after {disconnected:?}, failed after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        accepted.leg.close().await;
    })
    .await;
}

#[tokio::test]
async fn ports_come_from_the_range_and_run_out() {
    within(async {
        let webrtc = WebRtc::new(Config { ports: Some(21_200..=21_202), ..config() }).expect("a certificate");
        let taken = UdpSocket::bind((LOOPBACK, 21_200)).await.expect("a port that somebody else has");
        let browser = Browser::new(Codec::Pcmu).await;
        let offer = browser.offer().await;
        let first = webrtc.accept(&offer, Codec::Pcmu).await.expect("the next port");
        assert_eq!(candidates(&first.answer), ["127.0.0.1:21201"; 2]);
        let second = webrtc.accept(&offer, Codec::Pcmu).await.expect("the one after");
        assert_eq!(candidates(&second.answer), ["127.0.0.1:21202"; 2]);
        let none = webrtc.accept(&offer, Codec::Pcmu).await.err();
        assert_eq!(none, Some(AcceptError::NoPort));
        assert_eq!(AcceptError::NoPort.status(), 503);
        drop((taken, first));
        while webrtc.accept(&offer, Codec::Pcmu).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn media_is_encrypted_as_agreed_and_not_weaker() {
    within(async {
        let disconnected_after = Duration::from_secs(1);
        let webrtc = WebRtc::new(Config { disconnected_after, ..config() }).expect("a certificate");
        for (profiles, name) in [
            (vec![Profile::Srtp_Aead_Aes_128_Gcm, Profile::Srtp_Aes128_Cm_Hmac_Sha1_80], "SRTP_AEAD_AES_128_GCM"),
            (
                vec![Profile::Srtp_Aes128_Cm_Hmac_Sha1_32, Profile::Srtp_Aes128_Cm_Hmac_Sha1_80],
                "SRTP_AES128_CM_HMAC_SHA1_80",
            ),
        ] {
            let mut browser = Browser::with_profiles(Codec::Pcmu, &profiles).await;
            let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
            heard(&mut browser, &mut accepted, 1).await;
            let report = browser.connection.get_stats(Instant::now(), StatsSelector::None).await;
            let transport = report.transport().expect("a transport");
            assert_eq!(transport.srtp_cipher, name);
            assert_eq!(transport.dtls_cipher, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
            accepted.leg.close().await;
        }

        let weak = Browser::with_profiles(Codec::Pcmu, &[Profile::Srtp_Aes128_Cm_Hmac_Sha1_32]).await;
        let mut accepted = webrtc.accept(&weak.offer().await, Codec::Pcmu).await.expect("an answer");
        weak.take(&accepted.answer).await;
        let event = accepted.leg.recv().await;
        assert!(matches!(event, Event::Disconnected | Event::Failed | Event::Closed), "no handshake, but {event:?}");
        accepted.leg.close().await;
    })
    .await;
}

/// A whole ClientHello (RFC 6347, section 4.2; RFC 5764, section 4.1.1), as anybody could send it.
fn client_hello(random: [u8; 32]) -> Vec<u8> {
    const EXTENSIONS: [&[u8]; 6] = [
        // Groups, point formats and signatures of ECDSA, SRTP's profiles, extended master secret, renegotiation.
        &[0, 10, 0, 4, 0, 2, 0, 23],
        &[0, 11, 0, 2, 1, 0],
        &[0, 13, 0, 4, 0, 2, 4, 3],
        &[0, 14, 0, 7, 0, 4, 0, 7, 0, 1, 0],
        &[0, 23, 0, 0],
        &[0xff, 1, 0, 1, 0],
    ];
    let extensions = EXTENSIONS.concat();
    let mut hello = vec![0xfe, 0xfd];
    hello.extend(random);
    // No session, no cookie, one cipher suite, no compression.
    hello.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, u8::try_from(extensions.len()).expect("short")]);
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).expect("short");
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, length + 12];
    record.extend([1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
    record.extend(hello);
    record
}

/// Calls that begin at once, each with somebody who sends it nothing but ClientHellos.
#[tokio::test]
async fn a_flood_of_client_hellos_loses_no_call() {
    const CALLS: usize = 10;
    within(async {
        let webrtc = Arc::new(WebRtc::new(config()).expect("a certificate"));
        let sent = Arc::new(AtomicUsize::new(0));
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let (webrtc, sent) = (webrtc.clone(), sent.clone());
            calls.spawn(async move {
                let mut browser = Browser::new(Codec::Pcmu).await;
                let mut accepted = webrtc.accept(&browser.offer().await, Codec::Pcmu).await.expect("an answer");
                let flood = tokio::spawn(flood(udp(&accepted.answer), sent));
                browser.take(&accepted.answer).await;
                until_connected(&mut accepted.leg).await;
                heard(&mut browser, &mut accepted, 1).await;
                flood.abort();
                accepted.leg.close().await;
            });
        }
        while let Some(call) = calls.join_next().await {
            call.expect("it connects and is heard");
        }
        let sent = sent.load(Ordering::Relaxed);
        println!("{CALLS} calls among {sent} ClientHellos");
        assert!(sent > 1_000, "a flood, and not {sent} ClientHellos");
    })
    .await;
}

/// Where an answer receives UDP.
fn udp(answer: &str) -> SocketAddr {
    let candidate = answer.lines().find(|line| line.contains(" udp ")).expect("a candidate");
    let address: Vec<&str> = candidate.split(' ').skip(4).take(2).collect();
    address.join(":").parse().expect("an address")
}

async fn flood(target: SocketAddr, sent: Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.expect("a socket");
    for number in 0..20_000_u32 {
        let mut random = [0; 32];
        random[..4].copy_from_slice(&number.to_be_bytes());
        let _ = socket.send_to(&client_hello(random), target).await;
        sent.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn how_the_leg_fares_is_counted_both_ways() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let mut browser = Browser::new(Codec::Pcmu).await;
        let mut accepted = connect(&webrtc, &browser, Codec::Pcmu).await;
        heard(&mut browser, &mut accepted, 0).await;
        // Reports come about once a second (RFC 3550, section 6.2). Every tenth packet is lost, each way.
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let mut stats = accepted.leg.stats().await;
        let mut number = 0;
        while stats.sent.lost < 5 || stats.received.lost < 5 || stats.round_trip.is_none() {
            ticks.tick().await;
            number += 1;
            if number % 10 == 0 {
                continue;
            }
            browser.speak(0, number, &[0xff; 160]).await;
            let packet = next_rtp(&mut accepted.leg).await;
            accepted.leg.send_rtp(packet).await;
            stats = accepted.leg.stats().await;
        }
        println!("{stats:?} after {number} packets");
        assert!(stats.received.packets >= 50 && stats.sent.packets >= 50, "{stats:?}");
        assert!(
            stats.received.lost <= i64::from(number / 10) && stats.sent.lost <= i64::from(number / 10),
            "{stats:?}"
        );
        assert!(stats.received.jitter < Duration::from_millis(40), "{stats:?}");
        assert!(stats.round_trip.is_some_and(|time| time < Duration::from_millis(200)), "{stats:?}");
        accepted.leg.close().await;
    })
    .await;
}

#[tokio::test]
async fn offers_that_cannot_be_answered_leave_nothing_behind() {
    within(async {
        let webrtc = WebRtc::new(config()).expect("a certificate");
        let browser = Browser::new(Codec::Pcmu).await;
        let offer = browser.offer().await;
        let (files, running) = (open_files(), tasks());
        let lines: Vec<&str> = offer.split_inclusive("\r\n").collect();
        for missing in 0..lines.len() {
            let rest = || lines.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, line)| *line);
            let doubled: String = rest().chain([lines[missing]; 2]).collect();
            for text in
                [rest().collect::<String>(), doubled, offer.replacen(lines[missing], &lines[missing].to_uppercase(), 1)]
            {
                match webrtc.accept(&text, Codec::Pcmu).await {
                    Ok(accepted) => accepted.leg.close().await,
                    Err(error) => assert!([400, 422].contains(&error.status()), "{error}: {text}"),
                }
            }
        }
        eventually("all files closed", || open_files() == files).await;
        eventually("all tasks ended", || tasks() == running).await;
    })
    .await;
}
