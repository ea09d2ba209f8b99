//! The far side of the trunk: answers every call at once, sends its audio back, and counts who says goodbye.

use std::{fmt::Write as _, sync::Arc};

use tokio::{net::UdpSocket, sync::watch, task::JoinSet, time::timeout};

use crate::ground::PATIENCE;

/// A telephone. It ends with the test.
pub struct Telephone {
    port: u16,
    goodbyes: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Telephone {
    pub async fn start() -> Self {
        let [sip, audio] = [socket().await, socket().await];
        let port = |socket: &UdpSocket| socket.local_addr().expect("an address").port();
        let (counted, goodbyes) = watch::channel(0);
        let (sip_port, audio_port) = (port(&sip), port(&audio));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = sip.recv_from(&mut buffer).await {
                let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if let Some(answer) = answer(&request, sip_port, audio_port) {
                    let _ = sip.send_to(answer.as_bytes(), from).await;
                }
                counted.send_modify(|count| *count += usize::from(request.starts_with("BYE ")));
            }
        });
        tasks.spawn(async move {
            let mut buffer = vec![0; 2_048];
            loop {
                // An error tells of an earlier packet that nobody took.
                let Ok((length, from)) = audio.recv_from(&mut buffer).await else { continue };
                let _ = audio.send_to(&buffer[..length], from).await;
            }
        });
        Self { port: sip_port, goodbyes, _tasks: tasks }
    }

    /// Its address as a trunk.
    pub fn uri(&self) -> String {
        format!("sip:127.0.0.1:{}", self.port)
    }

    /// Who has said goodbye so far.
    pub fn goodbyes(&self) -> usize {
        *self.goodbyes.borrow()
    }

    /// Waits until so many have.
    pub async fn hears_goodbyes(&self, count: usize) {
        let mut goodbyes = self.goodbyes.clone();
        let heard = timeout(PATIENCE, goodbyes.wait_for(|heard| *heard >= count)).await;
        heard.expect("a BYE in time").expect("the telephone lives");
    }
}

async fn socket() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a port"))
}

fn answer(request: &str, port: u16, audio: u16) -> Option<String> {
    let method = request.split(' ').next()?;
    if ["ACK", "SIP/2.0"].contains(&method) {
        return None;
    }
    let head = request.split("\r\n\r\n").next()?;
    let mut text = "SIP/2.0 200 OK\r\n".to_owned();
    for line in head.lines().skip(1) {
        let name = line.split(':').next()?.to_ascii_lowercase();
        let tag = if name == "to" && !line.contains(";tag=") { ";tag=far" } else { "" };
        if ["via", "from", "to", "call-id", "cseq", "record-route"].contains(&name.as_str()) {
            writeln!(text, "{line}{tag}\r").ok()?;
        }
    }
    let body = match method {
        "INVITE" => format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {audio} RTP/AVP 0\r\n\
             a=rtpmap:0 PCMU/8000\r\n"
        ),
        _ => String::new(),
    };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    write!(
        text,
        "Contact: <sip:far@127.0.0.1:{port}>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    Some(text)
}
