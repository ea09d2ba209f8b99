//! What the telephone says: a short greeting of three notes, then everything it hears.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use media::{
    rtp::{Format, Packet, law::Law},
    sip::sdp::Media,
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// The greeting: notes in Hz, each this many packets of 20 ms long.
pub const GREETING: [f64; 3] = [523.25, 659.25, 783.99];
const NOTE_PACKETS: u32 = 10;
/// Samples of a packet of 20 ms.
const SAMPLES: u32 = 160;
/// A third of the loudest.
const AMPLITUDE: f64 = 10_000.0;
/// A packet of audio at most: an Ethernet frame.
const MAX_PACKET: usize = 1_500;

/// Two sockets in a row for RTP and RTCP.
pub(super) async fn sockets(ip: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    loop {
        let rtp = UdpSocket::bind((ip, 0)).await?;
        let port = rtp.local_addr()?.port();
        // Odd ones are for RTCP (RFC 3550, section 11).
        if port % 2 == 0
            && let Ok(rtcp) = UdpSocket::bind((ip, port + 1)).await
        {
            return Ok((rtp, rtcp));
        }
    }
}

/// A stream of our own.
struct Stream {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
}

impl Stream {
    fn packet(&mut self, format: &Format, payload: Bytes) -> Bytes {
        let Self { ssrc, sequence, timestamp } = *self;
        self.sequence = sequence.wrapping_add(1);
        self.timestamp = timestamp.wrapping_add(SAMPLES);
        Packet { payload_type: format.audio, marker: false, sequence, timestamp, ssrc, payload }.write()
    }
}

/// Greets, says so, and echoes until it is dropped. `media` may change meanwhile: on hold nothing is sent.
pub(super) async fn speak(socket: &UdpSocket, media: watch::Receiver<Media>, greeted: impl FnOnce()) {
    let [a, b, c, d] = edge::chance::bytes();
    let mut stream = Stream { ssrc: u32::from_be_bytes([a, b, c, d]), sequence: 0, timestamp: 0 };
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..NOTE_PACKETS * GREETING.len() as u32 {
        ticks.tick().await;
        let format = media.borrow().send;
        let packet = stream.packet(&format, note(&format, number));
        send(socket, &media, &packet).await;
    }
    greeted();
    let mut buffer = [0; MAX_PACKET];
    // What came during the greeting is not repeated.
    while socket.try_recv(&mut buffer).is_ok() {}
    loop {
        // An error tells of an earlier packet that nobody took.
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        let heard = Packet::parse(Bytes::copy_from_slice(&buffer[..length]));
        let format = media.borrow().send;
        if let Ok(heard) = heard
            && heard.payload_type == media.borrow().receive.audio
        {
            let packet = stream.packet(&format, heard.payload);
            send(socket, &media, &packet).await;
        }
    }
}

async fn send(socket: &UdpSocket, media: &watch::Receiver<Media>, packet: &[u8]) {
    let target: Option<SocketAddr> = {
        let media = media.borrow();
        media.remote.filter(|_| media.direction.sends())
    };
    if let Some(target) = target {
        // What cannot be sent is lost, as packets are.
        let _ = socket.send_to(packet, target).await;
    }
}

/// The audio of one packet of the greeting.
fn note(format: &Format, number: u32) -> Bytes {
    let pitch = GREETING[(number / NOTE_PACKETS) as usize % GREETING.len()];
    let law = Law::of(format.codec).unwrap_or(Law::Mu);
    let sample = |index: u32| {
        let time = f64::from(number * SAMPLES + index) / 8_000.0;
        // `as` rounds towards zero, and the amplitude fits.
        law.encode((AMPLITUDE * (std::f64::consts::TAU * pitch * time).sin()) as i16)
    };
    (0..SAMPLES).map(sample).collect()
}
