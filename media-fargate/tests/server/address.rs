//! Where a server stands that nobody tells: as a task on Fargate finds it out.

use std::net::{IpAddr, SocketAddr};

use axum::{Json, Router, routing::get};
use edge::env;
use reqwest::Method;
use rtc::stun::{
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, TransactionId},
    xoraddr::XorMappedAddress,
};
use serde_json::json;
use tokio::net::{TcpListener, UdpSocket};

use crate::{
    ground::{Ground, TONE},
    visitor::Visitor,
};

/// What STUN says, and what the metadata say.
const PUBLIC: &str = "203.0.113.7";
const PRIVATE: &str = "10.0.1.5";

/// The metadata of a container on Fargate (version 4), as far as they concern its network: its `…_URI_V4`.
async fn metadata() -> String {
    let container = json!({
        "DockerId": "cd189a933e5849daa93386466019ab50-2495160603", "Name": "media", "LaunchType": "FARGATE",
        "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [PRIVATE], "AttachmentIndex": 0,
            "MACAddress": "0a:de:f6:10:51:e5", "IPv4SubnetCIDRBlock": "10.0.1.0/24",
            "PrivateDNSName": "ip-10-0-1-5.us-west-2.compute.internal", "SubnetGatewayIpv4Address": "10.0.1.1/24"}],
    });
    let router = Router::new().route("/v4/cd189a93", get(|| async { Json(container) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{at}/v4/cd189a93")
}

/// A STUN server that sees everybody at [`PUBLIC`]. It loses the first request, and answers the next ones wrongly before
/// it answers them right.
async fn stun() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let at = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 1_500];
        for number in 0.. {
            let (length, from) = socket.recv_from(&mut buffer).await.expect("a request");
            let mut request = Message::new();
            request.unmarshal_binary(&buffer[..length]).expect("STUN");
            assert_eq!(request.typ, BINDING_REQUEST);
            if number == 0 {
                continue;
            }
            let wrong = answer(TransactionId::new(), "198.51.100.66");
            for datagram in
                [b"nonsense".to_vec(), buffer[..length].to_vec(), wrong, answer(request.transaction_id, PUBLIC)]
            {
                socket.send_to(&datagram, from).await.expect("sent");
            }
        }
    });
    at.to_string()
}

fn answer(asked: TransactionId, ip: &str) -> Vec<u8> {
    let mapped = XorMappedAddress { ip: ip.parse().expect("an address"), port: 4_711 };
    let mut message = Message::new();
    message.build(&[Box::new(asked), Box::new(BINDING_SUCCESS), Box::new(mapped)]).expect("a message");
    message.raw
}

/// The addresses of an answer's candidates, and its ports.
fn candidates(answer: &str) -> Vec<(IpAddr, u16)> {
    let lines = answer.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let fields = lines.map(|line| line.split(' ').collect::<Vec<_>>());
    fields.map(|fields| (fields[4].parse().expect("an address"), fields[5].parse().expect("a port"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_learns_both_its_addresses() {
    let (ground, silent) = (Ground::new().await, UdpSocket::bind("127.0.0.1:0").await.expect("a port"));
    let silent = silent.local_addr().map(|at| (silent, at)).expect("an address");
    let servers = format!("{}, {}", silent.1, stun().await);
    let metadata = metadata().await;
    let server = ground
        .server(&[
            (env::ECS_METADATA, &metadata),
            (env::MEDIA_STUN_SERVERS, &servers),
            (env::MEDIA_PORTS, "41000-41009"),
        ])
        .await;
    let (visitor, session) = (Visitor::new(TONE).await, ground.session());
    let offer = visitor.offer().await;
    let response = server.ask(Method::POST, "/v1/calls", &ground.token(&session), &offer).await;
    let path = response.headers()["location"].to_str().expect("text").to_owned();
    let answer = response.text().await.expect("SDP");
    let candidates = candidates(&answer);
    assert!(!candidates.is_empty() && !answer.contains("127.0.0.1"), "{answer}");
    for (ip, port) in candidates {
        assert_eq!((ip.to_string().as_str(), (41_000..=41_009).contains(&port)), (PUBLIC, true), "{answer}");
    }
    let row = ground.row(path.strip_prefix("/v1/calls/").expect("an address").parse().expect("an id")).await;
    let (at, process) = row.owner.split_once('#').expect("a process");
    let private: SocketAddr = at.strip_prefix("http://").expect("an address").parse().expect("an address");
    assert_eq!(private.ip().to_string(), PRIVATE);
    assert!(server.private_url.ends_with(&format!(":{}", private.port())));
    assert_eq!(process.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_wins_and_nobody_is_asked() {
    let ground = Ground::new().await;
    // Nobody listens there: a server that asked would not start.
    let nobody = "127.0.0.1:9";
    let server = ground
        .server(&[
            (env::MEDIA_PUBLIC_ADDRESSES, "192.0.2.1"),
            (env::MEDIA_STUN_SERVERS, nobody),
            (env::MEDIA_PRIVATE_URL, "http://10.9.8.7:9090"),
            (env::ECS_METADATA, "http://127.0.0.1:9/v4/x"),
        ])
        .await;
    let (visitor, session) = (Visitor::new(TONE).await, ground.session());
    let offer = visitor.offer().await;
    let response = server.ask(Method::POST, "/v1/calls", &ground.token(&session), &offer).await;
    let path = response.headers()["location"].to_str().expect("text").to_owned();
    let answer = response.text().await.expect("SDP");
    assert!(candidates(&answer).iter().all(|(ip, _)| ip.to_string() == "192.0.2.1"), "{answer}");
    let row = ground.row(path.strip_prefix("/v1/calls/").expect("an address").parse().expect("an id")).await;
    assert!(row.owner.starts_with("http://10.9.8.7:9090#"), "{}", row.owner);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_calls_from_elsewhere_and_is_passed_none_is_told_what_to_set() {
    let ground = Ground::new().await;
    let anywhere = (env::MEDIA_LISTEN, "0.0.0.0:0");
    for (variables, told) in [
        (vec![anywhere], true),
        (vec![anywhere, (env::MEDIA_PRIVATE_URL, "http://127.0.0.1:9090")], true),
        (vec![anywhere, (env::MEDIA_PRIVATE_URL, "http://10.9.8.7:9090")], false),
        (vec![], false),
    ] {
        // It says so before that it is ready.
        let lines = ground.server(&variables).await.lines();
        let said: Vec<_> = lines.iter().filter(|line| line.contains("media.cut_off")).collect();
        assert_eq!(said.len(), usize::from(told), "{variables:?}: {lines:?}");
        assert!(
            said.iter().all(|line| line.contains("WARN") && line.contains("set C2C_MEDIA_PRIVATE_URL to")),
            "{said:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_learn_its_address_does_not_start() {
    let ground = Ground::new().await;
    for (var, value, sentence) in [
        (
            env::MEDIA_STUN_SERVERS,
            "127.0.0.1:9",
            "C2C_MEDIA_STUN_SERVERS: none of these STUN servers says under which address this one is public.",
        ),
        (env::ECS_METADATA, "http://127.0.0.1:9/v4/x", "ECS_CONTAINER_METADATA_URI_V4: "),
    ] {
        let output = ground.command(&[(var, value)]).output().await.expect("run");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(sentence) && said.lines().count() == 1, "{said}");
    }
}
