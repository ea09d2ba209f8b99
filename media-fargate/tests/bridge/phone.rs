//! The telephone at the far side of the trunk. It does what the test says and nothing by itself: enough SIP over UDP for
//! that, and no more.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use media::{
    rtp::{Codec, Packet},
    sip::sdp::{Description, Direction, Local, Media},
};
use tokio::{net::UdpSocket, task::JoinHandle, time::timeout};

use crate::{
    ground::PATIENCE,
    sound::{Ear, Mouth},
};

/// A message, as its lines.
#[derive(Clone, Debug)]
pub struct Message {
    head: Vec<String>,
    body: Vec<u8>,
    from: SocketAddr,
}

impl Message {
    fn parse(datagram: &[u8], from: SocketAddr) -> Option<Self> {
        let end = datagram.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&datagram[..end]).ok()?.split("\r\n").map(str::to_owned).collect();
        Some(Self { head, body: datagram[end + 4..].to_vec(), from })
    }

    /// `INVITE`; of a response `SIP/2.0`.
    pub fn method(&self) -> &str {
        self.head[0].split(' ').next().unwrap_or_default()
    }

    /// A header's value; none: empty.
    pub fn header(&self, name: &str) -> &str {
        let lines = self.head.iter().skip(1).filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The telephone.
pub struct Phone {
    socket: Arc<UdpSocket>,
}

impl Phone {
    pub async fn new() -> Self {
        Self { socket: Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port")) }
    }

    /// Its address as a trunk.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.socket.local_addr().expect("an address"))
    }

    /// Waits for a call.
    pub async fn rings(&self) -> Line {
        let mut line = Line { socket: self.socket.clone(), invite: None, tag: "a", number: 0, version: 0 };
        line.invite = Some(line.take("INVITE").await);
        line
    }
}

/// A call.
pub struct Line {
    socket: Arc<UdpSocket>,
    invite: Option<Message>,
    /// Our tag.
    pub tag: &'static str,
    /// Of our last request.
    number: u32,
    /// Of our last description.
    version: u64,
}

impl Line {
    fn invite(&self) -> &Message {
        self.invite.as_ref().expect("it rang")
    }

    /// Waits for a request, or a response that is final. Repeats of the INVITE and questions whether we are there are
    /// dealt with.
    pub async fn take(&mut self, method: &str) -> Message {
        self.take_within(PATIENCE, method).await
    }

    pub async fn take_within(&mut self, limit: Duration, method: &str) -> Message {
        let mut seen = Vec::new();
        let taken = async {
            let mut buffer = vec![0; 65_535];
            loop {
                let (length, from) = self.socket.recv_from(&mut buffer).await.expect("a datagram");
                let Some(message) = Message::parse(&buffer[..length], from) else { continue };
                let repeated =
                    self.invite.as_ref().is_some_and(|invite| invite.header("CSeq") == message.header("CSeq"));
                let provisional = message.head[0].starts_with("SIP/2.0 1");
                seen.push(message.head[0].clone());
                match message.method() {
                    "OPTIONS" => self.respond(&message, "200 OK", "").await,
                    "INVITE" if repeated => {}
                    _ if provisional => {}
                    taken if taken == method => return message,
                    _ => {}
                }
            }
        };
        let taken = timeout(limit, taken).await;
        taken.unwrap_or_else(|_| panic!("no {method}, but {seen:?}"))
    }

    /// Answers a request.
    pub async fn respond(&self, request: &Message, status: &str, body: &str) {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for line in &request.head[1..] {
            let (name, _) = line.split_once(':').expect("a header");
            match name.to_ascii_lowercase().as_str() {
                "to" if !line.contains(";tag=") => write!(text, "{line};tag={}\r\n", self.tag).expect("written"),
                "via" | "from" | "to" | "call-id" | "cseq" | "record-route" => {
                    write!(text, "{line}\r\n").expect("written");
                }
                _ => {}
            }
        }
        self.send(text, body, request.from).await;
    }

    async fn send(&self, mut text: String, body: &str, to: SocketAddr) {
        let here = self.socket.local_addr().expect("an address");
        write!(text, "Contact: <sip:phone@{here}>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n").expect("written");
        if !body.is_empty() {
            text.push_str("Content-Type: application/sdp\r\n");
        }
        write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).expect("written");
        self.socket.send_to(text.as_bytes(), to).await.expect("sent");
    }

    /// 180.
    pub async fn ring(&self) {
        self.respond(self.invite(), "180 Ringing", "").await;
    }

    /// Answers the INVITE with a description of this codec, and speaks a tone from then on.
    pub async fn describe(&mut self, status: &str, codec: Codec, pitch: f64) -> Sound {
        let invite = self.invite().clone();
        let sound = Sockets::new().await;
        let (answer, media) = self.described(&invite, codec, sound.address, Direction::SendRecv);
        self.respond(&invite, status, &answer).await;
        sound.speaks(media, pitch)
    }

    /// What our next description says.
    fn local(&mut self, codec: Codec, address: SocketAddr, direction: Direction) -> Local {
        self.version += 1;
        Local { session: 1, version: self.version, address, codecs: vec![codec], crypto: Vec::new(), direction }
    }

    fn described(
        &mut self,
        request: &Message,
        codec: Codec,
        address: SocketAddr,
        direction: Direction,
    ) -> (String, Media) {
        let local = self.local(codec, address, direction);
        let offer = Description::parse(&request.body).expect("an offer");
        local.answer(&offer).expect("the codec is offered")
    }

    /// Answers the call.
    pub async fn answer(&mut self, codec: Codec, pitch: f64) -> Sound {
        let sound = self.describe("200 OK", codec, pitch).await;
        self.take("ACK").await;
        sound
    }

    /// Takes a change of the session by the other side; its description.
    pub async fn changed(&mut self, sound: &Sound) -> String {
        let request = self.take("INVITE").await;
        let (answer, _) = self.described(&request, sound.codec, sound.address, Direction::SendRecv);
        self.respond(&request, "200 OK", &answer).await;
        self.take("ACK").await;
        request.body()
    }

    /// Refuses such a change.
    pub async fn refuses_change(&mut self) {
        let request = self.take("INVITE").await;
        self.respond(&request, "488 Not Acceptable Here", "").await;
        self.take("ACK").await;
    }

    /// Puts the other side on hold, or takes it back.
    pub async fn hold(&mut self, sound: &Sound, on: bool) {
        let direction = if on { Direction::SendOnly } else { Direction::SendRecv };
        let local = self.local(sound.codec, sound.address, direction);
        self.offers(&local).await;
    }

    /// Goes on with another port, and another codec.
    pub async fn moves(&mut self, codec: Codec, pitch: f64) -> Sound {
        let sockets = Sockets::new().await;
        let local = self.local(codec, sockets.address, Direction::SendRecv);
        let answer = self.offers(&local).await;
        let answer = Description::parse(&answer.body).expect("an answer");
        sockets.speaks(local.answered(&answer).expect("the codec is taken"), pitch)
    }

    /// Changes the session; the answer.
    async fn offers(&mut self, local: &Local) -> Message {
        self.request("INVITE", &local.offer()).await;
        let answer = self.take("SIP/2.0").await;
        assert!(answer.head[0].starts_with("SIP/2.0 200"), "{answer:?}");
        // The same number as its INVITE.
        self.number -= 1;
        self.request("ACK", "").await;
        answer
    }

    /// Hangs up.
    pub async fn hang_up(&mut self) {
        self.request("BYE", "").await;
        let answer = self.take("SIP/2.0").await;
        assert!(answer.head[0].starts_with("SIP/2.0 200"), "{answer:?}");
    }

    /// Waits until the other side hangs up.
    pub async fn hung_up(&mut self) {
        self.hung_up_within(PATIENCE).await;
    }

    pub async fn hung_up_within(&mut self, limit: Duration) {
        let bye = self.take_within(limit, "BYE").await;
        self.respond(&bye, "200 OK", "").await;
    }

    /// A request within the dialog: our tag is theirs of the INVITE's To.
    async fn request(&mut self, method: &str, body: &str) {
        self.number += 1;
        let invite = self.invite().clone();
        let here = self.socket.local_addr().expect("an address");
        let contact = invite.header("Contact").trim_start_matches('<').split('>').next().unwrap_or_default();
        let text = format!(
            "{method} {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{}\r\nMax-Forwards: 70\r\n\
             From: {};tag={}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n",
            edge::chance::hex::<8>(),
            invite.header("To"),
            self.tag,
            invite.header("From"),
            invite.header("Call-ID"),
            self.number,
        );
        self.send(text, body, invite.from).await;
    }
}

/// A pair of ports without a voice yet.
struct Sockets {
    rtp: Arc<UdpSocket>,
    address: SocketAddr,
}

impl Sockets {
    async fn new() -> Self {
        let rtp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = rtp.local_addr().expect("an address");
        Self { rtp: Arc::new(rtp), address }
    }

    fn speaks(self, media: Media, pitch: f64) -> Sound {
        let Self { rtp, address } = self;
        let ear = Ear::new(media.receive);
        let ssrc = u32::from(address.port());
        let mouth = Arc::new(Mutex::new(Mouth::new(media.send, pitch, ssrc)));
        let to = media.remote.expect("an address to speak to");
        let (hearing, speaking, socket) = (ear.clone(), mouth.clone(), rtp.clone());
        let listening = tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((length, _)) = socket.recv_from(&mut buffer).await {
                let packet = Packet::parse(buffer[..length].to_vec().into()).expect("RTP");
                hearing.push(&packet);
            }
        });
        let talking = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            loop {
                ticks.tick().await;
                let packet = speaking.lock().unwrap_or_else(PoisonError::into_inner).next();
                // An error tells of an earlier packet that nobody took.
                let _ = rtp.send_to(&packet.write(), to).await;
            }
        });
        Sound { ear, mouth, codec: media.codec(), address, tasks: [listening, talking] }
    }
}

/// What is said and heard on a line; over when dropped.
pub struct Sound {
    pub ear: Ear,
    mouth: Arc<Mutex<Mouth>>,
    codec: Codec,
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Sound {
    pub fn press(&self, code: u8, millis: u32) {
        self.mouth.lock().unwrap_or_else(PoisonError::into_inner).press(code, millis);
    }
}

impl Drop for Sound {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
