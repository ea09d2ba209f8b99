//! What comes in unasked: calls, transfers, damaged messages. Whatever it is, the agent goes on answering.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, time::timeout};

use crate::{
    support::{agent, trunk},
    torture,
};

/// Somebody whom the agent sent a request to once, and who now asks it things.
struct Stranger(UdpSocket, SocketAddr);

impl Stranger {
    async fn of(agent: &media::sip::Agent) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let (agent, asked) = (agent.clone(), trunk(&format!("sip:{}", socket.local_addr().expect("bound"))));
        let address = agent.address();
        tokio::spawn(async move { agent.ping(&asked).await });
        socket.recv_from(&mut [0; 4_096]).await.expect("a question");
        Self(socket, address)
    }

    async fn send(&self, message: &[u8]) {
        self.0.send_to(message, self.1).await.expect("sent");
    }

    /// The answer to a request of this method with this branch; answers to others are passed over.
    async fn ask(&self, method: &str, branch: &str, extra: &str) -> Option<String> {
        let port = self.0.local_addr().expect("bound").port();
        let message = format!(
            "{method} sip:c2c@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:stranger@127.0.0.1>;tag={branch}\r\nTo: <sip:c2c@127.0.0.1>{extra}\r\n\
             Call-ID: {branch}@stranger\r\nCSeq: 1 {method}\r\nContact: <sip:stranger@127.0.0.1:{port}>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut buffer = vec![0; 8192];
        // A datagram may be lost among so many: it is sent again, as every client would.
        for _ in 0..5 {
            self.send(message.as_bytes()).await;
            let answered = timeout(Duration::from_secs(1), async {
                loop {
                    let (length, _) = self.0.recv_from(&mut buffer).await.expect("received");
                    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if answer.contains(&format!("z9hG4bK{branch};")) {
                        return answer;
                    }
                }
            });
            if let Ok(answer) = answered.await {
                return Some(answer);
            }
        }
        None
    }
}

const METHODS: [&str; 11] =
    ["OPTIONS", "INVITE", "ACK", "BYE", "CANCEL", "REFER", "REGISTER", "MESSAGE", "UPDATE", "SUBSCRIBE", "PUBLISH"];

#[tokio::test]
async fn strangers_are_not_answered() {
    let agent = agent().await;
    let peer = Stranger::of(&agent).await;
    let stranger = Stranger(UdpSocket::bind("127.0.0.2:0").await.expect("a socket"), agent.address());
    let port = stranger.0.local_addr().expect("bound").port();
    for (number, method) in METHODS.into_iter().enumerate() {
        for to in ["", ";tag=none"] {
            let message = format!(
                "{method} sip:c2c@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:{port};branch=z9hG4bK{number}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:stranger@127.0.0.2>;tag=s\r\nTo: <sip:c2c@127.0.0.1>{to}\r\n\
                 Call-ID: {number}{to}@stranger\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
            );
            stranger.send(message.as_bytes()).await;
        }
    }
    stranger.send(b"\r\n\r\n").await;
    // Everything before this was handled when it is answered.
    let answer = peer.ask("OPTIONS", "barrier", "").await;
    assert!(answer.is_some_and(|answer| answer.starts_with("SIP/2.0 200")));
    let heard = stranger.0.try_recv_from(&mut [0; 64]);
    assert!(heard.is_err(), "no answer: {heard:?}");
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn providers_that_call_us_are_refused() {
    let agent = agent().await;
    let stranger = Stranger::of(&agent).await;
    for (method, extra, status) in [
        ("OPTIONS", "", "200 OK"),
        ("INVITE", "", "403 Forbidden"),
        ("INVITE", ";tag=none", "481 "),
        ("BYE", ";tag=none", "481 "),
        ("BYE", "", "481 "),
        ("CANCEL", "", "481 "),
        ("REFER", "", "405 "),
        ("REGISTER", "", "405 "),
        ("MESSAGE", "", "405 "),
        ("UPDATE", ";tag=none", "481 "),
    ] {
        let branch = format!("{method}{}", extra.len());
        let answer = stranger.ask(method, &branch, extra).await.unwrap_or_default();
        assert!(answer.starts_with(&format!("SIP/2.0 {status}")), "{method}{extra}: {answer}");
        assert!(answer.contains("User-Agent: ClickToCall/1"), "{answer}");
        if method == "OPTIONS" {
            assert!(answer.contains("Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK"), "{answer}");
        }
    }
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn torture_messages_hurt_nobody() {
    let agent = agent().await;
    let stranger = Stranger::of(&agent).await;
    for (index, message) in torture::MESSAGES.iter().enumerate() {
        let message = message.replace('\n', "\r\n");
        stranger.send(message.as_bytes()).await;
        // Cut in the middle, and with bytes that are no text.
        stranger.send(&message.as_bytes()[..message.len() / 2]).await;
        stranger
            .send(
                &[&message.as_bytes()[..message.len() / 3], b"\xff\xfe\0", &message.as_bytes()[message.len() / 3..]]
                    .concat(),
            )
            .await;
        let answer = stranger.ask("OPTIONS", &format!("alive{index}"), "").await;
        assert!(answer.is_some_and(|answer| answer.starts_with("SIP/2.0 200")), "answers after message {index}");
    }
    assert!(agent.works());
}

#[tokio::test]
async fn damaged_messages_hurt_nobody() {
    let agent = agent().await;
    let stranger = Stranger::of(&agent).await;
    // A generator of its own, so that every run damages the same way.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..2_000 {
        let mut message = torture::MESSAGES[draw(torture::MESSAGES.len())].replace('\n', "\r\n").into_bytes();
        for _ in 0..=draw(8) {
            let at = draw(message.len().max(1));
            if message.is_empty() {
                break;
            }
            match draw(3) {
                0 => message[at] = draw(256) as u8,
                1 => drop(message.drain(at..(at + draw(16)).min(message.len()))),
                _ => message.truncate(at.max(1)),
            }
        }
        if !message.is_empty() {
            stranger.send(&message).await;
        }
        if round % 50 == 49 {
            let answer = stranger.ask("OPTIONS", &format!("round{round}"), "").await;
            assert!(answer.is_some_and(|answer| answer.starts_with("SIP/2.0 200")), "answers after round {round}");
        }
    }
    assert!(agent.works());
}
