//! Chromium calls, and hears itself: real offers, a real microphone's code path, real checks. It needs Chromium and the
//! packages of `tests/browser`, so these tests run when they are asked for (`tests/run browser`).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, patch, post},
};
use domain::app::Codec;
use media::browser::{Accepted, BrowserLeg, Config, Event, Stats, WebRtc};
use media::rtp::{Format, Packet};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::Command,
    sync::{mpsc, oneshot},
    time::Instant,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than a call here takes with a browser's start.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a call was like on our side.
#[derive(Debug, Default)]
struct Report {
    packets: u32,
    /// Of telephone events: the digit and the longest duration seen, in units of the clock.
    digit: Option<(u8, u16)>,
    stats: Stats,
    /// From the answer to a restart until connected again, and the longest silence of audio.
    restarted_after: Option<Duration>,
    silence: Duration,
    closed_after: Option<Duration>,
}

impl Report {
    fn hear(&mut self, packet: &Packet, format: &Format) {
        self.packets += 1;
        if Some(packet.payload_type) != format.events {
            return;
        }
        if let [digit, _, high, low] = packet.payload[..] {
            let duration = u16::from_be_bytes([high, low]);
            self.digit = Some((digit, self.digit.map_or(duration, |(_, longest)| longest.max(duration))));
        }
    }
}

/// An offer of a restart, and where its answer goes.
type Restart = (String, oneshot::Sender<Result<String, u16>>);

#[derive(Clone)]
struct Server {
    webrtc: Arc<WebRtc>,
    codec: Codec,
    calls: Arc<Mutex<HashMap<usize, mpsc::Sender<Restart>>>>,
    reports: mpsc::Sender<Report>,
}

async fn begin(State(server): State<Server>, offer: String) -> Response {
    let Accepted { answer, format, leg } = match server.webrtc.accept(&offer, server.codec).await {
        Ok(accepted) => accepted,
        Err(error) => {
            return (StatusCode::from_u16(error.status()).expect("a status"), error.to_string()).into_response();
        }
    };
    let (restarts, received) = mpsc::channel(1);
    let mut calls = server.calls.lock().expect("no panic elsewhere");
    let id = calls.len();
    calls.insert(id, restarts);
    tokio::spawn(echo(leg, format, received, server.reports.clone()));
    (StatusCode::CREATED, [(header::LOCATION, format!("/calls/{id}"))], answer).into_response()
}

async fn restart(State(server): State<Server>, Path(id): Path<usize>, offer: String) -> Response {
    let call = server.calls.lock().expect("no panic elsewhere").get(&id).cloned().expect("a call");
    let (reply, answer) = oneshot::channel();
    call.send((offer, reply)).await.expect("the call lives");
    match answer.await.expect("the call lives") {
        Ok(answer) => answer.into_response(),
        Err(status) => StatusCode::from_u16(status).expect("a status").into_response(),
    }
}

/// Sends back what it hears until the browser leaves.
async fn echo(
    mut leg: Box<dyn BrowserLeg>,
    format: Format,
    mut restarts: mpsc::Receiver<Restart>,
    reports: mpsc::Sender<Report>,
) {
    let mut report = Report::default();
    let (mut last, mut restarted) = (Instant::now(), None::<Instant>);
    leg.send_control("early".to_owned()).await;
    loop {
        tokio::select! {
            event = leg.recv() => match event {
                Event::Rtp(packet) => {
                    report.hear(&packet, &format);
                    if report.packets > 1 {
                        report.silence = report.silence.max(last.elapsed());
                    }
                    last = Instant::now();
                    if report.packets % 50 == 0 {
                        report.stats = leg.stats().await;
                    }
                    leg.send_rtp(packet).await;
                }
                Event::Control(text) => leg.send_control(text).await,
                Event::Closed | Event::Failed => break,
                Event::Connected => report.restarted_after = restarted.map(|began| began.elapsed()),
                Event::Disconnected => {}
            },
            Some((offer, reply)) = restarts.recv() => {
                let _ = reply.send(leg.restart(&offer).await.map_err(|error| error.status()));
                restarted = Some(Instant::now());
            }
        }
    }
    report.closed_after = Some(last.elapsed());
    leg.close().await;
    let _ = reports.send(report).await;
}

/// One call: what Chromium saw and what we saw.
async fn call(config: Config, codec: Codec, options: Value) -> (Value, Report) {
    let (reports, mut received) = mpsc::channel(4);
    let webrtc = Arc::new(WebRtc::new(config).expect("a certificate"));
    let server = Server { webrtc, codec, calls: Arc::default(), reports };
    let router = Router::new()
        .route("/", get(|| async { Html("<!doctype html><title>call</title>") }))
        .route("/calls", post(begin))
        .route("/calls/{id}", patch(restart))
        .with_state(server);
    let listener = TcpListener::bind(SocketAddr::new(LOOPBACK, 0)).await.expect("a port");
    let address = format!("http://{}/", listener.local_addr().expect("an address"));
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chromium.mjs");
    let node = Command::new("node").arg(script).arg(&address).arg(options.to_string()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, node).await.expect("in time").expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    let report = tokio::time::timeout(PATIENCE, received.recv()).await.expect("in time").expect("a report");
    serving.abort();
    println!(
        "{codec:?}: answered {:.1} ms, connected {:.1} ms, channel {:.1} ms, echo {:.1} ms, {} lost; {} {} {}; {report:?}",
        seen["answered"],
        seen["connected"],
        seen["open"],
        seen["echo"],
        seen["lost"],
        seen["protocol"],
        seen["srtp"],
        seen["dtls"],
    );
    (seen, report)
}

fn options() -> Value {
    json!({"tcp": false, "restart": false, "seconds": 3})
}

fn config(ice_lite: bool) -> Config {
    Config { ice_lite, ..Config::new(vec![LOOPBACK]) }
}

/// Three seconds of 20 ms packets, less what the start takes.
fn assert_heard(seen: &Value, report: &Report) {
    assert!(seen["received"].as_u64().is_some_and(|packets| packets >= 120), "{seen}");
    assert!(seen["energy"].as_f64().is_some_and(|energy| energy > 0.001), "{seen}");
    assert_eq!(seen["lost"], 0, "{seen}");
    assert!(report.packets >= 120, "{report:?}");
    assert!(
        report.closed_after.is_some_and(|after| after < Duration::from_secs(1)),
        "closing is told at once: {report:?}"
    );
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn every_codec_is_heard_and_digits_keep_their_length() {
    for (codec, mime, clock) in
        [(Codec::Pcmu, "audio/PCMU", 8), (Codec::Pcma, "audio/PCMA", 8), (Codec::Opus, "audio/opus", 48)]
    {
        let (seen, report) = call(config(true), codec, options()).await;
        assert_heard(&seen, &report);
        assert_eq!(seen["codec"], mime);
        // Chromium's order decides: a tag of 10 bytes is shorter than one of 16.
        assert_eq!(seen["srtp"], "SRTP_AES128_CM_HMAC_SHA1_80");
        let (digit, duration) = report.digit.expect("a digit");
        assert_eq!(digit, 5);
        assert!((110 * clock..=130 * clock).contains(&duration), "{duration} units of {clock} kHz");
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_restart_goes_on_with_new_credentials() {
    for lite in [true, false] {
        let options = json!({"tcp": false, "restart": true, "seconds": 3});
        let (seen, report) = call(config(lite), Codec::Pcmu, options).await;
        // Audio of less than a second, whichever way it was lost, and however slow the machine is: what comes back has the
        // numbers it was sent with.
        assert!(seen["lost"].as_i64().is_some_and(|lost| lost < 50), "{seen} {report:?}");
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_browser_without_udp_calls_over_tcp() {
    let (seen, report) = call(config(true), Codec::Pcmu, json!({"tcp": true, "restart": false, "seconds": 3})).await;
    assert_heard(&seen, &report);
    assert_eq!(seen["protocol"], "tcp");
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn full_ice_works_as_well() {
    let (seen, report) = call(config(false), Codec::Opus, options()).await;
    assert_heard(&seen, &report);
}
