//! The far side of the trunk: answers every call at once and sends back every packet, with the time of that in it.

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use domain::app::Codec;
use media::{
    rtp::Packet,
    sip::sdp::{Description, Direction, Local},
};
use tokio::{
    net::UdpSocket,
    task::{AbortHandle, JoinHandle, JoinSet},
};

use crate::figures::Meter;

const HERE: &str = "127.0.0.1";
/// A datagram at most.
const DATAGRAM: usize = 65_535;

/// The far side; it ends when dropped.
pub struct Trunk {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Trunk {
    /// Starts it on any port of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(codec: Codec, meter: Arc<Meter>) -> io::Result<Self> {
        let socket = UdpSocket::bind((HERE, 0)).await?;
        let address = socket.local_addr()?;
        let desk = Desk { socket, codec, meter, lines: HashMap::new(), echoes: JoinSet::new() };
        Ok(Self { address, task: tokio::spawn(desk.serve()) })
    }

    /// How a provider names it.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.address)
    }
}

impl Drop for Trunk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Desk {
    socket: UdpSocket,
    codec: Codec,
    meter: Arc<Meter>,
    /// By Call-ID: our answer, and what sends back.
    lines: HashMap<String, (String, AbortHandle)>,
    echoes: JoinSet<()>,
}

impl Desk {
    async fn serve(mut self) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            // An error tells of an earlier datagram that nobody took.
            let Ok((length, from)) = self.socket.recv_from(&mut buffer).await else { continue };
            while self.echoes.try_join_next().is_some() {}
            let Some(reply) = self.reply(&buffer[..length]).await else { continue };
            // What is lost is asked for again.
            let _ = self.socket.send_to(reply.as_bytes(), from).await;
        }
    }

    async fn reply(&mut self, datagram: &[u8]) -> Option<String> {
        let end = datagram.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let (head, body) = (std::str::from_utf8(&datagram[..end]).ok()?, &datagram[end + 4..]);
        let id = head.lines().find_map(|line| line.strip_prefix("Call-ID: "))?;
        match head.split(' ').next()? {
            // Also one that comes again, or renews the session.
            "INVITE" => {
                if !self.lines.contains_key(id) {
                    let line = self.answer(body).await?;
                    self.lines.insert(id.to_owned(), line);
                }
                Some(self.response(head, &self.lines.get(id)?.0))
            }
            "BYE" => {
                if let Some((_, echo)) = self.lines.remove(id) {
                    echo.abort();
                }
                Some(self.response(head, ""))
            }
            "OPTIONS" => Some(self.response(head, "")),
            _ => None,
        }
    }

    /// The answer to an offer, and what sends back from then on.
    async fn answer(&mut self, offer: &[u8]) -> Option<(String, AbortHandle)> {
        let (rtp, rtcp) = pair().await.ok()?;
        let local = Local {
            session: 1,
            version: 1,
            address: rtp.local_addr().ok()?,
            codecs: vec![self.codec],
            crypto: Vec::new(),
            direction: Direction::SendRecv,
        };
        let (answer, _) = local.answer(&Description::parse(offer).ok()?).ok()?;
        let meter = self.meter.clone();
        let echo = self.echoes.spawn(async move {
            echo(&rtp, &meter).await;
            drop(rtcp);
        });
        Some((answer, echo))
    }

    /// 200 to a request (RFC 3261, section 8.2.6).
    fn response(&self, request: &str, body: &str) -> String {
        let mut text = "SIP/2.0 200 OK\r\n".to_owned();
        for line in request.split("\r\n").skip(1) {
            let (name, value) = line.split_once(':').unwrap_or_default();
            if ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
                text += line;
                text += if name == "To" && !value.contains(";tag=") { ";tag=desk\r\n" } else { "\r\n" };
            }
        }
        if let Ok(address) = self.socket.local_addr() {
            text += &format!("Contact: <sip:desk@{address}>\r\n");
        }
        if !body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

/// Two ports in a row, for RTP and RTCP.
async fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    loop {
        let rtp = UdpSocket::bind((HERE, 0)).await?;
        let next = rtp.local_addr()?.port().saturating_add(1);
        if let Ok(rtcp) = UdpSocket::bind((HERE, next)).await {
            return Ok((rtp, rtcp));
        }
    }
}

async fn echo(rtp: &UdpSocket, meter: &Meter) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((length, from)) = rtp.recv_from(&mut buffer).await else { continue };
        let datagram = Bytes::copy_from_slice(&buffer[..length]);
        let Ok(packet) = Packet::parse(datagram) else { continue };
        meter.received(&meter.up, &packet.payload);
        let mut payload = packet.payload.to_vec();
        meter.sends(&meter.down, &mut payload);
        let reply = Packet { payload: payload.into(), ..packet };
        let _ = rtp.try_send_to(&reply.write(), from);
    }
}
