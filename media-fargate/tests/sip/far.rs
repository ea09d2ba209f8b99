//! A far side for what sipp does not do: it sees and sends bytes.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, time::timeout};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The lines of a message that a response repeats.
const REPEATED: [&str; 5] = ["Via", "From", "To", "Call-ID", "CSeq"];

/// A header's value.
pub fn header<'m>(message: &'m str, name: &str) -> &'m str {
    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {message}")).trim()
}

/// A response to a request, as the branch of this tag; an empty one: none. `rest`: more headers, each with its end.
pub fn response(request: &str, status: &str, tag: &str, rest: &str, body: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in REPEATED {
        let tagged = if name == "To" && !tag.is_empty() { format!(";tag={tag}") } else { String::new() };
        text.push_str(&format!("{name}: {}{tagged}\r\n", header(request, name)));
    }
    format!("{text}{rest}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A provider's socket.
pub struct Far {
    socket: UdpSocket,
}

impl Far {
    /// At a port of its own.
    pub async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    /// At this address.
    pub async fn at(address: &str) -> Self {
        Self { socket: UdpSocket::bind(address).await.expect("a socket") }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Its address as a provider's.
    pub fn uri(&self) -> String {
        format!("sip:{}", self.address())
    }

    /// The next request of this method, and where it came from; others, and repeats of them, are passed over.
    pub async fn take(&self, method: &str) -> (String, SocketAddr) {
        let taken = timeout(PATIENCE, async {
            loop {
                let (message, from) = self.next().await;
                if message.starts_with(method) {
                    return (message, from);
                }
            }
        });
        taken.await.unwrap_or_else(|_| panic!("{method} in time"))
    }

    /// The next message.
    pub async fn next(&self) -> (String, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        let (length, from) = self.socket.recv_from(&mut buffer).await.expect("received");
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
    }

    /// Whether a message waits.
    pub fn heard_nothing(&self) -> bool {
        self.socket.try_recv_from(&mut [0; 16]).is_err()
    }

    /// Sends bytes.
    pub async fn send(&self, message: impl AsRef<[u8]>, to: SocketAddr) {
        self.socket.send_to(message.as_ref(), to).await.expect("sent");
    }

    /// Our contact, as a header's line.
    pub fn contact(&self) -> String {
        format!("Contact: <sip:far@{}>\r\n", self.address())
    }

    /// The 2xx to an INVITE, with a description that takes G.711.
    pub fn accept(&self, invite: &str, tag: &str) -> String {
        let rest = format!("{}Content-Type: application/sdp\r\n", self.contact());
        response(invite, "200 OK", tag, &rest, &speech("m=audio 9 RTP/AVP 0\r\n"))
    }

    /// A request inside the dialog that an INVITE of ours began.
    pub fn within(&self, invite: &str, method: &str, number: u32, tag: &str) -> String {
        self.describing(invite, method, number, tag, "")
    }

    /// The same with a description; an empty one: none.
    pub fn describing(&self, invite: &str, method: &str, number: u32, tag: &str, description: &str) -> String {
        let kind = if description.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let contact = header(invite, "Contact").trim_start_matches('<').split('>').next().unwrap_or_default();
        format!(
            "{method} {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK{method}{number}{tag};rport\r\n\
             Max-Forwards: 70\r\nFrom: {};tag={tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n\
             {}{kind}Content-Length: {}\r\n\r\n{description}",
            self.address(),
            header(invite, "To"),
            header(invite, "From"),
            header(invite, "Call-ID"),
            self.contact(),
            description.len(),
        )
    }

    /// Hangs up, whatever came before, and sees that it is acknowledged.
    pub async fn hang_up(&self, invite: &str, number: u32, to: SocketAddr) {
        self.send(self.within(invite, "BYE", number, "a"), to).await;
        self.take("SIP/2.0 200").await;
    }
}

/// A description with these media.
pub fn speech(media: &str) -> String {
    format!("v=0\r\no=far 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{media}")
}
