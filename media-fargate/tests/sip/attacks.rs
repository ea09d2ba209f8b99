//! Far sides that do what no standard says. A call may fail by it, but it ends, alone, and in time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use domain::app::Transport;
use media::sip::{
    Agent, Config, Event, Failure, Leg, Trunk,
    agent::Unreachable,
    sdp::SdpError,
    target::{Lookup, Srv, TargetError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    expect,
    far::{Far, PATIENCE, header, response, speech},
    support::{agent, config, invite, next, over, packet, trunk},
    torture,
};

#[tokio::test]
async fn rubbish_is_passed_over() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    let ringing = response(&asked, "180 Ringing", "a", &far.contact(), "");
    let long = format!("X-Long: {}\r\n", "x".repeat(30_000));
    let many = "X-Many: y\r\n".repeat(4_000);
    for rubbish in [
        String::new(),
        "\0".repeat(100),
        "SIP/2.0 200 OK\r\n\r\n".to_owned(),
        "SIP/2.0 200".to_owned(),
        ringing.replace("180 Ringing", "99 Low"),
        ringing.replace("180 Ringing", "1800 High"),
        ringing.replace("180 Ringing", "-1 Less"),
        ringing.replace("180 Ringing", "999999999999 More"),
        ringing.replace("SIP/2.0 180", "SIP/3.0 180"),
        ringing.replace("SIP/2.0 180", "HTTP/1.1 180"),
        ringing.replace("CSeq:", "CSeq: x"),
        ringing.replace("CSeq:", "X-CSeq:"),
        ringing.replace("INVITE\r\n", "\u{0}\r\n"),
        ringing.replace("branch=z9hG4bK", "branch=z9hG4bKx"),
        ringing.replace("Via:", "X-Via:"),
        ringing.replace("Call-ID:", "X-Call-ID:"),
        ringing.replace("Content-Length: 0", "Content-Length: -1"),
        ringing.replace("Content-Length: 0", "Content-Length: 99999999999999999999"),
        ringing.replace("Contact: ", "Contact: <sip:[::1>\r\nContact: \"<<<;;;"),
        ringing.replace("Contact: ", &format!("{long}Contact: ")),
        ringing.replace("Contact: ", &format!("{many}Contact: ")),
        ringing.replace("\r\nFrom", ";received=nowhere;rport=99999999\r\nFrom"),
        ringing.replace("Contact: ", "Require: 100rel\r\nRSeq: 99999999999\r\nContact: "),
        ringing.replace("Content-Length: 0\r\n\r\n", "Content-Type: application/sdp\r\n\r\nnot a description"),
    ] {
        far.send(&rubbish, from).await;
    }
    far.send(response(&asked, "486 Busy Here", "a", "", ""), from).await;
    loop {
        match next(&mut leg).await {
            // Some of it is good enough for that.
            Event::Ringing => {}
            Event::Rejected { status } => break assert_eq!(status, 486),
            other => panic!("{other:?}"),
        }
    }
    over(&mut leg).await;
    assert!(agent.works() && agent.calls() == 0);
}

/// Columns: what the 200 lacks or has, and what the call comes to.
#[tokio::test]
async fn answers_that_cannot_be_used_end_the_call() {
    let agent = agent().await;
    type Made = fn(&Far, &str) -> String;
    type Expected = fn(&Event) -> bool;
    let cases: [(&str, Made, Expected); 8] = [
        (
            "no description",
            |far, asked| response(asked, "200 OK", "a", &far.contact(), ""),
            |event| matches!(event, Event::Failed(Failure::Media(SdpError::NoAudio))),
        ),
        (
            "a description that is none",
            |far, asked| response(asked, "200 OK", "a", &far.contact(), "hello"),
            |event| matches!(event, Event::Failed(Failure::Media(_))),
        ),
        (
            "no tag",
            |far, asked| far.accept(asked, ""),
            |event| matches!(event, Event::Failed(Failure::Unreachable(Unreachable))),
        ),
        (
            "video that nobody offered",
            |far, asked| {
                let media = "m=audio 9 RTP/AVP 0\r\nm=video 9 RTP/AVP 31\r\n";
                response(asked, "200 OK", "a", &far.contact(), &speech(media))
            },
            |event| matches!(event, Event::Answered(_)),
        ),
        (
            "video alone",
            |far, asked| response(asked, "200 OK", "a", &far.contact(), &speech("m=video 9 RTP/AVP 31\r\n")),
            |event| matches!(event, Event::Failed(Failure::Media(SdpError::NoAudio))),
        ),
        (
            "a codec that nobody offered",
            |far, asked| response(asked, "200 OK", "a", &far.contact(), &speech("m=audio 9 RTP/AVP 9\r\n")),
            |event| matches!(event, Event::Failed(Failure::Media(SdpError::NothingInCommon))),
        ),
        (
            "a contact that is none",
            |far, asked| far.accept(asked, "a").replace("<sip:far@", "<<sip://far@@"),
            |event| matches!(event, Event::Failed(_) | Event::Answered(_)),
        ),
        (
            "no contact",
            |far, asked| far.accept(asked, "a").replace("Contact:", "X-Contact:"),
            |event| matches!(event, Event::Answered(_)),
        ),
    ];
    for (what, answer, expected) in cases {
        let far = Far::new().await;
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        let (asked, from) = far.take("INVITE").await;
        far.send(answer(&far, &asked), from).await;
        let farewell = async {
            let (bye, from) = far.take("BYE").await;
            far.send(response(&bye, "200 OK", "", "", ""), from).await;
        };
        let ending = async {
            let event = next(&mut leg).await;
            assert!(expected(&event), "{what}: {event:?}");
            if matches!(event, Event::Answered(_)) {
                leg.hang_up();
            }
        };
        match what {
            // There is no session that could be ended.
            "no tag" => ending.await,
            "a contact that is none" => {
                drop(timeout(Duration::from_secs(5), async { tokio::join!(ending, farewell) }).await)
            }
            _ => drop(tokio::join!(ending, farewell)),
        }
        over(&mut leg).await;
    }
    assert!(agent.works());
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn a_repeated_answer_is_acknowledged_again() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    for _ in 0..3 {
        far.send(far.accept(&asked, "a"), from).await;
        let (ack, _) = far.take("ACK").await;
        assert!(ack.contains(";tag=a"), "{ack}");
    }
    expect!(&mut leg, Event::Answered(_));
    far.hang_up(&asked, 1, from).await;
    expect!(&mut leg, Event::Bye);
    over(&mut leg).await;
}

#[tokio::test]
async fn of_two_answers_at_once_one_is_ended() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    far.send(far.accept(&asked, "a"), from).await;
    far.send(far.accept(&asked, "b"), from).await;
    expect!(&mut leg, Event::Answered(_));
    let (bye, _) = far.take("BYE").await;
    assert!(header(&bye, "To").ends_with(";tag=b"), "{bye}");
    // The branch that lost hangs up as well: that is not the end of the other one.
    far.send(far.within(&asked, "BYE", 1, "b"), from).await;
    far.take("SIP/2.0 481").await;
    far.send(response(&bye, "200 OK", "", "", ""), from).await;
    far.hang_up(&asked, 1, from).await;
    expect!(&mut leg, Event::Bye);
    over(&mut leg).await;
}

#[tokio::test]
async fn a_goodbye_that_overtakes_the_answer_ends_the_call() {
    let (agent, far) = (agent().await, Far::new().await);
    for bye_first in [true, false] {
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        let (asked, from) = far.take("INVITE").await;
        let mut messages = [far.within(&asked, "BYE", 1, "a"), far.accept(&asked, "a")];
        if !bye_first {
            messages.reverse();
        }
        for message in messages {
            far.send(message, from).await;
        }
        expect!(&mut leg, Event::Answered(_), Event::Bye);
        over(&mut leg).await;
    }
    // When there is no answer after all, there was nothing to end.
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    far.send(far.within(&asked, "BYE", 1, "a"), from).await;
    far.send(response(&asked, "480 Gone", "a", "", ""), from).await;
    far.take("SIP/2.0 481").await;
    expect!(&mut leg, Event::Rejected { status: 480 });
    over(&mut leg).await;
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn who_knows_a_calls_names_and_is_elsewhere_is_not_believed() {
    let (agent, far, other) = (agent().await, Far::new().await, Far::at("127.0.0.2:0").await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    far.send(far.accept(&asked, "a"), from).await;
    expect!(&mut leg, Event::Answered(_));
    for known in [false, true] {
        // Another provider's machine, at last: one that we ask things ourselves.
        if known {
            let (agent, asked) = (agent.clone(), trunk(&other.uri()));
            tokio::spawn(async move { agent.ping(&asked).await });
            other.take("OPTIONS").await;
        }
        let elsewhere = speech("m=audio 9 RTP/AVP 0\r\n").replace("127.0.0.1", "127.0.0.2");
        for (method, number) in [("INVITE", 5), ("UPDATE", 6), ("OPTIONS", 7), ("BYE", 8)] {
            other.send(other.describing(&asked, method, number, "a", &elsewhere), from).await;
        }
        // Everything before this was handled when it is answered.
        far.send(far.within(&asked, "OPTIONS", 2 + u32::from(known), "a"), from).await;
        far.take("SIP/2.0 200").await;
        while let Ok((message, _)) = timeout(Duration::from_millis(50), other.next()).await {
            assert!(message.starts_with("OPTIONS"), "an answer: {message}");
        }
    }
    assert_eq!(agent.calls(), 1);
    // Who is where the call is, and knows less, is told.
    let ours = header(&asked, "From").rsplit_once(";tag=").expect("a tag").1;
    for (number, known, guess) in [(9, ours, "guess"), (10, ";tag=a\r\n", ";tag=guess\r\n")] {
        far.send(far.within(&asked, "BYE", number, "a").replace(known, guess), from).await;
        far.take("SIP/2.0 481").await;
    }
    far.hang_up(&asked, 11, from).await;
    expect!(&mut leg, Event::Bye);
}

/// A provider of two machines.
struct Siblings(u16);

#[async_trait]
impl Lookup for Siblings {
    async fn srv(&self, _: &str) -> Result<Vec<Srv>, TargetError> {
        let server = |priority, target: &str| Srv { priority, weight: 0, port: self.0, target: target.to_owned() };
        Ok(vec![server(1, "one.example"), server(2, "two.example")])
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, TargetError> {
        Ok(match name {
            "one.example" => vec![[127, 0, 0, 1].into()],
            "two.example" => vec![[127, 0, 0, 3].into()],
            _ => vec![[127, 0, 0, 4].into()],
        })
    }
}

/// Columns: who hangs up, and what the answer says of it.
#[tokio::test]
async fn a_call_may_be_ended_from_wherever_its_provider_is() {
    let far = Far::new().await;
    let agent = Agent::start(Config { dns: Arc::new(Siblings(far.address().port())), ..config() }).await;
    let agent = agent.expect("an agent");
    for (place, contact, route) in [
        // The other server of the name, which says nothing of itself.
        ("127.0.0.3:0", "", ""),
        ("127.0.0.4:0", "sip:far@named.example", ""),
        ("127.0.0.5:0", "sip:far@127.0.0.5", ""),
        ("127.0.0.6:0", "", "Record-Route: <sip:127.0.0.7;lr>, <sip:127.0.0.6;lr>\r\n"),
    ] {
        let other = Far::at(place).await;
        let mut leg = invite(&agent, trunk("sip:trunk.example")).await;
        let (asked, from) = far.take("INVITE").await;
        let mut answer = far.accept(&asked, "a").replace("Content-Type", &format!("{route}Content-Type"));
        if !contact.is_empty() {
            answer = answer.replace(&far.contact(), &format!("Contact: <{contact}>\r\n"));
        }
        far.send(answer, from).await;
        expect!(&mut leg, Event::Answered(_));
        let bye = other.within(&asked, "BYE", 5, "a");
        // Sent again until it is answered, as UDP asks for.
        let ended = async {
            loop {
                other.send(&bye, from).await;
                if let Ok((answer, _)) = timeout(Duration::from_millis(500), other.next()).await {
                    break answer;
                }
            }
        };
        let answer = timeout(PATIENCE, ended).await.expect(place);
        assert!(answer.starts_with("SIP/2.0 200"), "{place}: {answer}");
        expect!(&mut leg, Event::Bye);
    }
}

/// Sends audio to a leg, which speaks all the while: whether it hears, and is heard.
async fn converses(leg: &mut Leg, socket: &UdpSocket, to: SocketAddr) -> (bool, bool) {
    let mut hears = false;
    for number in 0..10 {
        socket.send_to(&packet(number).write(), to).await.expect("sent");
        let event = timeout(Duration::from_millis(30), leg.recv()).await;
        hears |= matches!(event, Ok(Some(Event::Rtp(_))));
        leg.send_rtp(&packet(number));
    }
    (hears, timeout(Duration::from_millis(100), socket.recv_from(&mut [0; 2_048])).await.is_ok())
}

/// Columns: the address in the description, and whose audio it really is.
#[tokio::test]
async fn before_the_trunk_has_spoken_no_stranger_hears_the_caller() {
    let (agent, far) = (agent().await, Far::new().await);
    for (named, real) in [
        ("127.0.0.1", "127.0.0.1:0"),
        // A media server apart from signalling.
        ("127.0.0.3", "127.0.0.3:0"),
        // A provider behind NAT: nobody reaches what it names, and audio comes from where its SIP does.
        ("10.0.0.9", "127.0.0.1:0"),
    ] {
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        let (asked, from) = far.take("INVITE").await;
        let port = asked.lines().find_map(|line| line.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
        let audio = SocketAddr::new(from.ip(), port.expect("a port"));
        let (head, description) =
            far.accept(&asked, "a").split_once("\r\n\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a body");
        let description = description.replace("c=IN IP4 127.0.0.1", &format!("c=IN IP4 {named}"));
        let head = head.rsplit_once("Content-Length").expect("a length").0.to_owned();
        far.send(format!("{head}Content-Length: {}\r\n\r\n{description}", description.len()), from).await;
        expect!(&mut leg, Event::Answered(_));
        let [stranger, real] = [UdpSocket::bind("127.0.0.2:0").await, UdpSocket::bind(real).await];
        let stranger = stranger.expect("a socket");
        assert_eq!(converses(&mut leg, &stranger, audio).await, (false, false), "{named}");
        assert_eq!(converses(&mut leg, &real.expect("a socket"), audio).await, (true, true), "{named}");
        assert_eq!(converses(&mut leg, &stranger, audio).await, (false, false), "{named}");
        far.hang_up(&asked, 1, from).await;
        expect!(&mut leg, Event::Bye);
    }
}

#[tokio::test]
async fn a_call_survives_damaged_messages() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    far.send(far.accept(&asked, "a"), from).await;
    expect!(&mut leg, Event::Answered(_));
    let names = ["UPDATE", "INVITE", "OPTIONS", "INFO", "ACK", "CANCEL"];
    let mut whole: Vec<_> =
        names.into_iter().zip(10..).map(|(name, number)| far.within(&asked, name, number, "a")).collect();
    whole.extend([far.accept(&asked, "a"), response(&asked, "180 Ringing", "a", "", "")]);
    whole.extend(torture::MESSAGES.map(|message| message.replace('\n', "\r\n")));
    // A generator of its own, so that every run damages the same way.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..500 {
        let mut message = whole[draw(whole.len())].clone().into_bytes();
        for _ in 0..=draw(6) {
            let at = draw(message.len().max(1));
            match draw(3) {
                _ if message.is_empty() => break,
                0 => message[at] = draw(256) as u8,
                1 => drop(message.drain(at..(at + draw(12)).min(message.len()))),
                _ => message.insert(at, b";:,<>@\"\r\n "[draw(10)]),
            }
        }
        // It would be the end of it, and rightly.
        if !message.windows(3).any(|word| word == b"BYE") {
            far.send(&message, from).await;
        }
        if round % 50 == 49 {
            far.send(far.within(&asked, "OPTIONS", 1_000 + round, "a"), from).await;
            far.take("SIP/2.0 200").await;
        }
    }
    far.hang_up(&asked, 5_000, from).await;
    loop {
        match next(&mut leg).await {
            Event::Changed(_) | Event::Held | Event::Resumed => {}
            Event::Bye => break,
            other => panic!("{other:?}"),
        }
    }
    over(&mut leg).await;
    assert!(agent.works() && agent.calls() == 0);
}

#[tokio::test]
async fn a_fork_without_end_is_heard_no_more() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    for branch in 0..100 {
        // The stack takes the same number twice for a repeat, whatever the branch.
        let reliable = format!("{}Require: 100rel\r\nRSeq: {}\r\n", far.contact(), branch + 1);
        far.send(response(&asked, "183 Session Progress", &format!("p{branch}"), &reliable, ""), from).await;
    }
    far.send(far.accept(&asked, "a"), from).await;
    for branch in 0..100 {
        far.send(far.accept(&asked, &format!("f{}", branch / 2)), from).await;
    }
    expect!(&mut leg, Event::Answered(_));
    // What it was asked within the time of a few retransmissions; every request has a number of its own.
    let mut asked_of_it = std::collections::HashSet::new();
    let _ = timeout(Duration::from_secs(2), async {
        loop {
            let (message, _) = far.next().await;
            if ["PRACK", "BYE"].iter().any(|method| message.starts_with(method)) {
                asked_of_it.insert(header(&message, "CSeq").to_owned());
            }
        }
    })
    .await;
    let count = |method: &str| asked_of_it.iter().filter(|number| number.ends_with(method)).count();
    assert_eq!((count("PRACK"), count("BYE")), (16, 16));
    far.hang_up(&asked, 1, from).await;
    expect!(&mut leg, Event::Bye);
    over(&mut leg).await;
}

#[tokio::test]
async fn offers_without_end_are_put_off() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    far.send(far.accept(&asked, "a"), from).await;
    expect!(&mut leg, Event::Answered(_));
    let (mut taken, mut refused) = (0, 0);
    for number in 1..=20 {
        let offer = speech("m=audio 9 RTP/AVP 0\r\n");
        far.send(far.describing(&asked, "INVITE", number, "a", &offer), from).await;
        loop {
            let (answer, _) = far.take("SIP/2.0").await;
            // Answers that are not acknowledged are repeated.
            if header(&answer, "CSeq") == format!("{number} INVITE") && !answer.starts_with("SIP/2.0 100") {
                if answer.starts_with("SIP/2.0 200") {
                    taken += 1
                } else {
                    refused += 1
                }
                assert!(answer.starts_with("SIP/2.0 200") || answer.starts_with("SIP/2.0 500"), "{answer}");
                break;
            }
        }
    }
    assert_eq!((taken, refused), (4, 16));
    far.send(far.within(&asked, "BYE", 100, "a"), from).await;
    expect!(&mut leg, Event::Bye);
}

/// A provider over TCP, and the INVITE it is sent.
async fn stream(listener: &TcpListener) -> (TcpStream, String) {
    let (mut connection, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection");
    let invite = message(&mut connection).await;
    (connection, invite)
}

/// The next message of a connection, body and all.
pub async fn message(connection: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, async {
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n")
                && body.len() >= header(head, "Content-Length").parse().expect("a length")
            {
                return text;
            }
            assert_ne!(connection.read_buf(&mut bytes).await.expect("bytes"), 0, "a whole message: {text}");
        }
    });
    read.await.expect("in time")
}

#[tokio::test]
async fn a_slow_connection_is_waited_for_and_one_that_floods_is_left() {
    let agent = Agent::start(Config { t1: Duration::from_millis(50), ..config() }).await;
    let agent = agent.expect("an agent");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("bound");
    let trunk = Trunk { transport: Transport::Tcp, ..trunk(&format!("sip:{address}")) };

    let mut leg = invite(&agent, trunk.clone()).await;
    let (mut connection, asked) = stream(&listener).await;
    connection.set_nodelay(true).expect("a socket");
    for byte in response(&asked, "486 Busy Here", "a", "", "").bytes() {
        connection.write_all(&[byte]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    expect!(&mut leg, Event::Rejected { status: 486 });
    let ack = message(&mut connection).await;
    assert!(ack.starts_with("ACK"), "{ack}");

    // The same connection; then a head without an end, a length beyond all bounds, one that is no number, rubbish.
    for flood in [
        format!("SIP/2.0 180 Ringing\r\n{}", "X: y\r\n".repeat(100_000)),
        "SIP/2.0 180 Ringing\r\nContent-Length: 18446744073709551615\r\n\r\n".to_owned(),
        "SIP/2.0 180 Ringing\r\nContent-Length: 4000000000\r\n\r\n".to_owned() + &"x".repeat(200_000),
        "SIP/2.0 180 Ringing\r\nContent-Length: many\r\n\r\n".to_owned(),
        "\u{7f}\u{0}rubbish\r\n\r\n".to_owned(),
    ] {
        let mut leg = invite(&agent, trunk.clone()).await;
        // A connection that still stands is taken again.
        let asked = tokio::select! {
            asked = message(&mut connection) => asked,
            (fresh, asked) = stream(&listener) => { connection = fresh; asked }
        };
        assert!(asked.starts_with("INVITE"), "{asked}");
        // It may be closed before all of it is through.
        let _ = connection.write_all(flood.as_bytes()).await;
        expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
        drop(connection);
        // And the next call finds a connection that works.
        let mut leg = invite(&agent, trunk.clone()).await;
        let asked;
        (connection, asked) = stream(&listener).await;
        connection.write_all(response(&asked, "486 Busy Here", "a", "", "").as_bytes()).await.expect("sent");
        expect!(&mut leg, Event::Rejected { status: 486 });
        let ack = message(&mut connection).await;
        assert!(ack.starts_with("ACK"), "{ack}");
    }
    assert!(agent.works());
}
