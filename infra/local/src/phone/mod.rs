//! A telephone at the far side of the local trunk: it answers, greets and sends back what it hears. Whom a call is for
//! decides what becomes of it:
//!
//! | user | what happens |
//! |---|---|
//! | `busy` | 486 |
//! | `decline` | 603 |
//! | `nobody` | rings until the caller gives up |
//! | a number from `300` to `699` | that status, after it rang |
//! | `goodbye` | answers, greets and hangs up |
//! | `silent` | answers and says nothing |
//! | any other | answers, greets and echoes |
//!
//! It listens on loopback and speaks to our own trunk alone: enough SIP for that, and no more.

mod message;
mod sound;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use media::{
    rtp::Codec,
    sip::sdp::{Description, Direction, Local, Media},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use message::{Message, finish};
pub use sound::GREETING;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A message at most: a datagram.
const MAX_MESSAGE: usize = 65_535;
/// From ringing to answering.
const RINGS_FOR: Duration = Duration::from_millis(20);
/// Until an answer is repeated, for want of its ACK (RFC 3261, T1); it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// An answer that is never acknowledged ends the call (64·T1).
const MOST_REPEATS: u32 = 11;
const ALLOW: (&str, &str) = ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS");

/// The telephone; it goes dead when dropped.
#[derive(Debug)]
pub struct Phone {
    address: SocketAddr,
    answering: JoinHandle<()>,
}

impl Phone {
    /// Plugs it in, on any port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((HERE, 0)).await?);
        let address = socket.local_addr()?;
        Ok(Self { address, answering: tokio::spawn(answer(socket)) })
    }

    /// Its address as a trunk: `sip:127.0.0.1:…`.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.address)
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

type Lines = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Message>>>>;

/// Brings every request to its line; an INVITE opens one.
async fn answer(socket: Arc<UdpSocket>) {
    let lines = Lines::default();
    let mut calls = tokio::task::JoinSet::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        // An error tells of an earlier datagram that nobody took.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        while calls.try_join_next().is_some() {}
        let Some(message) = Message::parse(&buffer[..length]) else { continue };
        let Some(id) = message.header("Call-ID").map(str::to_owned) else { continue };
        let line = lines.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let reply = match (line, message.method()) {
            (Some(line), _) => {
                // A line that is closing answers nothing; the far side asks again and is told so below.
                let _ = line.send(message);
                continue;
            }
            (None, "INVITE") if !message.is_within() => {
                let (sender, requests) = mpsc::unbounded_channel();
                lines.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), sender);
                let tag = edge::chance::hex::<8>();
                let line = Line { socket: socket.clone(), peer, invite: message, tag, requests, last: String::new() };
                let lines = lines.clone();
                calls.spawn(async move {
                    line.run().await;
                    lines.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                });
                continue;
            }
            (None, "ACK" | "SIP/2.0") => continue,
            (None, "OPTIONS") => message.response("200 OK", "phone", &[ALLOW], ""),
            (None, _) => message.response("481 Call/Transaction Does Not Exist", "phone", &[], ""),
        };
        let _ = socket.send_to(reply.as_bytes(), peer).await;
    }
}

/// One call.
struct Line {
    socket: Arc<UdpSocket>,
    peer: SocketAddr,
    invite: Message,
    tag: String,
    requests: mpsc::UnboundedReceiver<Message>,
    /// The last response to the INVITE, for its repeats.
    last: String,
}

/// What a caller did while we waited.
enum Waited {
    Acknowledged,
    Over,
    Nothing,
}

impl Line {
    async fn run(mut self) {
        self.respond("180 Ringing", "").await;
        match self.invite.user() {
            "busy" => self.refuse("486 Busy Here").await,
            "decline" => self.refuse("603 Decline").await,
            user if is_status(user) => self.refuse(&format!("{user} As Dialled")).await,
            "nobody" => while !matches!(self.wait(LONGEST_WAIT).await, Waited::Over) {},
            _ => {
                if !matches!(self.wait(RINGS_FOR).await, Waited::Over) {
                    self.talk().await;
                }
            }
        }
    }

    async fn say(&self, text: &str) {
        // What is lost is asked for again.
        let _ = self.socket.send_to(text.as_bytes(), self.peer).await;
    }

    fn contact(&self) -> String {
        self.socket.local_addr().map(|address| format!("<sip:phone@{address}>")).unwrap_or_default()
    }

    async fn respond(&mut self, status: &str, body: &str) {
        let contact = self.contact();
        self.last = self.invite.response(status, &self.tag, &[("Contact", &contact), ALLOW], body);
        self.say(&self.last).await;
    }

    /// Sends a final response until it is acknowledged; whether it was.
    async fn conclude(&mut self, status: &str, body: &str) -> bool {
        let mut wait = FIRST_WAIT;
        for _ in 0..MOST_REPEATS {
            self.respond(status, body).await;
            match self.wait(wait).await {
                Waited::Acknowledged => return true,
                Waited::Over => return false,
                Waited::Nothing => wait = (wait * 2).min(LONGEST_WAIT),
            }
        }
        false
    }

    async fn refuse(&mut self, status: &str) {
        self.conclude(status, "").await;
    }

    /// Answers what comes before the call stands.
    async fn wait(&mut self, limit: Duration) -> Waited {
        let waiting = async {
            while let Some(request) = self.requests.recv().await {
                match request.method() {
                    "ACK" => return Waited::Acknowledged,
                    "INVITE" => self.say(&self.last).await,
                    "CANCEL" => {
                        self.say(&request.response("200 OK", &self.tag, &[], "")).await;
                        // Its ACK finds nobody, which is as good.
                        self.say(&self.invite.response("487 Request Terminated", &self.tag, &[], "")).await;
                        return Waited::Over;
                    }
                    "BYE" => {
                        self.say(&request.response("200 OK", &self.tag, &[], "")).await;
                        return Waited::Over;
                    }
                    _ => {}
                }
            }
            Waited::Over
        };
        timeout(limit, waiting).await.unwrap_or(Waited::Nothing)
    }

    async fn talk(&mut self) {
        let (speaks, hangs_up) = (self.invite.user() != "silent", self.invite.user() == "goodbye");
        let Ok((rtp, _rtcp)) = sound::sockets(HERE).await else { return self.refuse("503 Service Unavailable").await };
        let Ok(address) = rtp.local_addr() else { return };
        let mut local = Local {
            session: 1,
            version: 1,
            address,
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            crypto: Vec::new(),
            direction: Direction::SendRecv,
        };
        let Some((answer, media)) = described(&local, &self.invite) else {
            return self.refuse("488 Not Acceptable Here").await;
        };
        if !self.conclude("200 OK", &answer).await {
            return;
        }
        let (media, heard) = watch::channel(media);
        let (greeted, mut greeting) = oneshot::channel();
        let speaking = sound::speak(&rtp, heard, || {
            // Who does not hang up does not wait for it.
            let _ = greeted.send(());
        });
        tokio::pin!(speaking);
        loop {
            tokio::select! {
                () = &mut speaking, if speaks => return,
                _ = &mut greeting, if hangs_up => return self.hang_up().await,
                request = self.requests.recv() => {
                    let Some(request) = request else { return };
                    match request.method() {
                        "BYE" => return self.say(&request.response("200 OK", &self.tag, &[], "")).await,
                        "INVITE" if request.number() == self.invite.number() => self.say(&self.last).await,
                        "INVITE" => {
                            local.version += 1;
                            let contact = self.contact();
                            let reply = match described(&local, &request) {
                                Some((answer, changed)) => {
                                    media.send_replace(changed);
                                    request.response("200 OK", &self.tag, &[("Contact", &contact), ALLOW], &answer)
                                }
                                None => request.response("488 Not Acceptable Here", &self.tag, &[], ""),
                            };
                            self.say(&reply).await;
                        }
                        "ACK" => {}
                        _ => self.say(&request.response("200 OK", &self.tag, &[ALLOW], "")).await,
                    }
                }
            }
        }
    }

    /// BYE (RFC 3261, section 15): our tag is theirs of the INVITE's To.
    async fn hang_up(&mut self) {
        let header = |name| self.invite.header(name).unwrap_or_default();
        let contact = header("Contact").trim_start_matches('<').split('>').next().unwrap_or_default();
        let (from, to) = (format!("{};tag={}", header("To"), self.tag), header("From"));
        let branch = edge::chance::hex::<8>();
        let Ok(here) = self.socket.local_addr() else { return };
        let head = format!(
            "BYE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: 1 BYE\r\n",
            header("Call-ID")
        );
        let bye = finish(head, &[], "");
        for _ in 0..MOST_REPEATS {
            self.say(&bye).await;
            let answered = async {
                while let Some(message) = self.requests.recv().await {
                    if message.status().is_some_and(|status| status >= 200) {
                        return;
                    }
                }
            };
            if timeout(FIRST_WAIT, answered).await.is_ok() {
                return;
            }
        }
    }
}

/// Whether somebody dialled what a call can be refused with.
fn is_status(user: &str) -> bool {
    user.parse::<u16>().is_ok_and(|status| (300..700).contains(&status))
}

/// Our answer to an offer, and what was agreed.
fn described(local: &Local, request: &Message) -> Option<(String, Media)> {
    let offer = Description::parse(&request.body).ok()?;
    local.answer(&offer).ok()
}
