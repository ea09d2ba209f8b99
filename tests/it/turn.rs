//! Relays: what a session lends its visitor, held to a real TURN server (coturn).

use std::{
    net::UdpSocket,
    process::Stdio,
    time::{Duration, Instant},
};

use domain::{
    time::Timestamp,
    turn::{IceServer, LIFE, Relays},
};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::house::{Running, StateDir, options};

const SECRET: &str = "north northwest wind";

/// A TURN server that knows this secret; it ends with the test.
struct Coturn {
    port: u16,
    _process: Child,
    _files: StateDir,
}

impl Coturn {
    async fn start(secret: &str) -> Self {
        let files = StateDir::new("coturn");
        std::fs::create_dir_all(files.path()).expect("a directory");
        let file = |name: &str| files.path().join(name).to_str().expect("text").to_owned();
        let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let process = Command::new("turnserver")
            .args(["-n", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--allow-loopback-peers"])
            .args(["--listening-port", &port.to_string(), "--min-port", "43000", "--max-port", "43999"])
            .args(["--use-auth-secret", "--static-auth-secret", secret, "--realm", "example.com"])
            .args(["--no-cli", "--no-tls", "--no-dtls", "--userdb", &file("db"), "--pidfile", &file("pid")])
            .args(["--log-file", &file("log"), "--simple-log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("turnserver (Debian: apt-get install coturn)");
        let started = Self { port, _process: process, _files: files };
        tokio::task::spawn_blocking(move || answers(port)).await.expect("it answers");
        started
    }

    fn url(&self) -> String {
        format!("turn:127.0.0.1:{}?transport=udp", self.port)
    }

    /// Two clients that send each other a packet through relays of their own; whether all of them came.
    async fn relays(&self, username: &str, credential: &str) -> bool {
        let client = Command::new("turnutils_uclient")
            .args(["-y", "-c", "-n", "1", "-m", "1", "-p", &self.port.to_string()])
            .args(["-u", username, "-w", credential, "127.0.0.1"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(30), client).await.expect("it ends").expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let (came, refused) =
            (said.contains("tot_send_msgs=2, tot_recv_msgs=2"), said.contains("Cannot complete Allocation"));
        assert!(came != refused, "it says which: {said}");
        came
    }
}

/// Waits for the answer to a STUN binding request (RFC 8489).
fn answers(port: u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"twelve bytes"].concat();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        // Refused while nobody listens there yet.
        let _ = socket.send_to(&request, ("127.0.0.1", port));
        if socket.recv(&mut [0; 512]).is_ok() {
            return;
        }
        assert!(Instant::now() < until, "no TURN server on {port}");
    }
}

fn lent(body: &Value) -> (String, String) {
    let [server] = body["data"]["media"]["iceServers"].as_array().expect("a list").as_slice() else { panic!("{body}") };
    let text = |name: &str| server[name].as_str().expect(name).to_owned();
    (text("username"), text("credential"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lends_relays_that_work_and_nothing_else_does() {
    let coturn = Coturn::start(SECRET).await;
    let house = Running::with(options(&[("C2C_TURN_URLS", &coturn.url()), ("C2C_TURN_SECRET", SECRET)])).await;
    let app = house.app().await;
    let given = house.session(&app, json!({})).await.expect(201);
    assert_eq!(given.body["data"]["media"]["iceServers"][0]["urls"], json!([coturn.url()]));
    let (username, credential) = lent(&given.body);
    let now: Timestamp = given.body["meta"]["timestamp"].as_str().expect("a time").parse().expect("a time");
    let (ends, random) = username.split_once(':').expect("its end and something random");
    assert_eq!(ends, now.plus(LIFE).as_seconds().to_string());
    assert!(random.len() == 20 && !given.text("sessionId").contains(random), "{random}");
    assert!(!given.body.to_string().contains(SECRET));
    assert!(coturn.relays(&username, &credential).await, "what was lent");

    let renewed = house.public("/v1/sessions/renew", Some(&given.text("sessionToken")), &json!({})).await.expect(200);
    let (other, good) = lent(&renewed.body);
    assert_ne!(other, username);
    assert!(coturn.relays(&other, &good).await, "what was lent again");

    let now = Timestamp::from_millis(now.as_millis() - i64::try_from(LIFE.as_millis()).expect("millis") - 1_000);
    let lend =
        |secret: &str| -> IceServer { Relays::new(vec![], secret.parse().expect("long enough")).lend(now, &[7; 10]) };
    let over = lend(SECRET);
    assert!(!coturn.relays(&over.username, &over.credential).await, "what has ended");
    assert!(!coturn.relays(&username, &good).await, "another's");
    let longer = format!("{}:{random}", now.plus(10 * LIFE).as_seconds());
    assert!(!coturn.relays(&longer, &credential).await, "what somebody made longer");
    let forged = Relays::new(vec![], "south southeast wind".parse().expect("long enough"));
    let forged = forged.lend(now.plus(LIFE), &[7; 10]);
    assert!(!coturn.relays(&forged.username, &forged.credential).await, "another secret's");
}

#[tokio::test]
async fn without_relays_none_are_lent() {
    let house = Running::start().await;
    let app = house.app().await;
    let given = house.session(&app, json!({})).await.expect(201);
    assert_eq!(given.body["data"]["media"]["iceServers"], json!([]));
}
