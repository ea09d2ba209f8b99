//! One server from its start to its end.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::ConnectInfo};
use edge::env;
use http::Request;
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, timeout},
};
use tower::ServiceExt;

use crate::{
    ground::{Directory, Ground, PATIENCE, TONE},
    visitor::{Visitor, took},
};

/// What the deployment is called.
const DEPLOYMENT: &str = "shop";

/// Numbers of CloudWatch's embedded metric format: each line's values by name, once it is what the format asks for.
fn metrics(lines: &[String]) -> Vec<Value> {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("every line is JSON"));
    let lines: Vec<_> = lines.filter(|line| line.get("_aws").is_some()).collect();
    for line in &lines {
        let millis = line["_aws"]["Timestamp"].as_i64().expect("a timestamp");
        assert!((edge::clock::now().as_millis() - millis).abs() < 600_000, "{line}");
        let directives = line["_aws"]["CloudWatchMetrics"].as_array().expect("directives");
        assert_eq!(directives.len(), 1);
        assert_eq!(
            (directives[0]["Namespace"].as_str(), directives[0]["Dimensions"].to_string()),
            (Some("ClickToCall"), r#"[["Deployment"]]"#.into())
        );
        assert_eq!(line["Deployment"], DEPLOYMENT);
        let named = directives[0]["Metrics"].as_array().expect("metrics");
        assert!((1..=100).contains(&named.len()));
        for metric in named {
            assert!(line[metric["Name"].as_str().expect("a name")].is_u64() && metric["Unit"].is_string(), "{line}");
        }
    }
    lines
}

/// Regular files that a process has open for writing.
fn written(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let number = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let writes = |number: &String| {
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        let is_file = fs::metadata(format!("/proc/{pid}/fd/{number}")).is_ok_and(|found| found.is_file());
        is_file && u32::from_str_radix(flags, 8).expect("octal") & 0o3 != 0
    };
    let open = entries.filter_map(Result::ok).map(number).filter(writes);
    open.filter_map(|number| fs::read_link(format!("/proc/{pid}/fd/{number}")).ok())
        .map(|path| path.display().to_string())
        .collect()
}

/// Looks every few milliseconds what a process writes to, until dropped.
struct Watch {
    seen: Arc<Mutex<(usize, BTreeSet<String>)>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let seen = Arc::new(Mutex::new((0, BTreeSet::new())));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                let files = written(pid);
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.0 += 1;
                noted.1.extend(files);
            }
        });
        Self { seen, task }
    }

    /// How often it looked, and at what.
    fn stop(self) -> (usize, BTreeSet<String>) {
        self.task.abort();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_drains_and_stops_and_leaves_no_file() {
    let (ground, directory) = (Ground::new().await, Directory::new());
    let variables = [(env::MEDIA_DRAIN_SECONDS, "5"), (env::DEPLOYMENT, DEPLOYMENT)];
    let mut server = ground.server_without_files(directory.path(), &variables).await;
    // What is not allowed to a process of these limits: the check below could otherwise not fail.
    assert!(
        fs::read_to_string(format!("/proc/{}/limits", server.pid()))
            .expect("its limits")
            .lines()
            .any(|line| { line.starts_with("Max file size") && line.split_whitespace().nth(3) == Some("0") })
    );
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 404), ("/nothing", 404)] {
        assert_eq!(server.get(path).await.0, status, "{path}");
    }
    let watch = Watch::start(server.pid());
    let call = server.call(&ground).await;
    call.visitor.hears(TONE).await;
    assert_eq!(server.number("c2c_calls_active").await, 1.0);

    server.terminate().await;
    let began = Instant::now();
    let stops = async { while server.get("/readyz").await.0 != 503 {} };
    timeout(PATIENCE, stops).await.expect("it stops taking calls");
    assert_eq!(server.get("/healthz").await.0, 200);
    let late = Visitor::new(TONE).await;
    let refused = server.ask(Method::POST, "/v1/calls", &ground.token(&ground.session()), &late.offer().await).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // The call that runs goes on until the time is over.
    call.visitor.hears(TONE).await;
    assert_eq!(ground.telephone.goodbyes(), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "too slow a machine to see it go on");
    let ended = call.visitor.told("ended").await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    ground.telephone.hears_goodbyes(1).await;
    let (looks, files) = watch.stop();
    assert!(looks > 20 && files.is_empty(), "{looks} looks: {files:?}");
    assert!(server.ends().await.success());
    took("from SIGTERM to the end, 5 s of it patience", began);
    assert_eq!(directory.entries(), Vec::<std::path::PathBuf>::new());
    let row = ground.over(call.id).await.call;
    assert!(row.duration.is_some() && row.answered_at.is_some(), "{ended} {row:?}");

    let lines = server.lines();
    let metrics = metrics(&lines);
    let active: Vec<_> = metrics.iter().filter_map(|line| line["ActiveCalls"].as_u64()).collect();
    assert_eq!(active, [0, 1, 0], "at the start, at SIGTERM, at the end");
    let sum = |name: &str| metrics.iter().filter_map(|line| line[name].as_u64()).sum::<u64>();
    // What a server ends because it stops is a failure, as the call's row says.
    assert_eq!((sum("CallsStarted"), sum("CallsEnded"), sum("CallsFailed")), (1, 1, 1));
    // Neither a number nor an address of the visitor's is in the log, nor any of what was said.
    for secret in [call.token.as_str(), "ice-pwd", "candidate:", "sales@"] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_as_soon_as_the_last_call_is_over() {
    let ground = Ground::new().await;
    let mut server = ground.server(&[(env::MEDIA_DRAIN_SECONDS, "600")]).await;
    let call = server.call(&ground).await;
    server.terminate().await;
    let stops = async { while server.get("/readyz").await.0 != 503 {} };
    timeout(PATIENCE, stops).await.expect("it stops taking calls");
    // A client that never finishes its request does not keep it either.
    let port = server.url.rsplit(':').next().expect("a port");
    let mut slow = TcpStream::connect(format!("127.0.0.1:{port}")).await.expect("connected");
    slow.write_all(b"POST /v1/calls HTTP/1.1\r\nHost: a\r\n").await.expect("sent");
    assert_eq!(server.ask(Method::DELETE, &call.path, &call.token, "").await.status(), 204);
    assert!(server.ends().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_one_sentence() {
    let ground = Ground::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|at| (taken, at.to_string())).expect("an address");
    for (var, value, sentence) in [
        (env::TABLE, "", "C2C_TABLE must be set."),
        (env::KMS_KEY_ID, "", "C2C_KMS_KEY_ID must be set."),
        (
            env::WIDGET_ORIGIN,
            "calls.example.com",
            "C2C_WIDGET_ORIGIN: must be an origin such as https://calls.example.com.",
        ),
        (env::MEDIA_PORTS, "5-3", "C2C_MEDIA_PORTS: must be ports such as 20000-24999."),
        (env::MEDIA_PORTS, "19000-20000", "C2C_MEDIA_PORTS: shares ports with C2C_RTP_PORTS, 20000-29999."),
        (env::MEDIA_LISTEN, &taken.1, "cannot be listened at: Address already in use (os error 98)."),
        (env::MEDIA_DRAIN_SECONDS, "soon", "C2C_MEDIA_DRAIN_SECONDS: invalid digit found in string."),
        (env::MEDIA_PUBLIC_ADDRESSES, "here", "C2C_MEDIA_PUBLIC_ADDRESSES: invalid IP address syntax."),
        (
            env::SIP_LISTEN,
            "0.0.0.0:0",
            "C2C_MEDIA_PUBLIC_ADDRESSES: must name the address that trunks reach, or C2C_MEDIA_STUN_SERVERS who tells it.",
        ),
        (
            env::MEDIA_PRIVATE_URL,
            "http://198.51.100.7:9090",
            "C2C_MEDIA_PRIVATE_URL: must be an address of a private network, such as http://10.0.1.5:9090.",
        ),
    ] {
        let output = timeout(PATIENCE, ground.command(&[(var, value)]).output()).await.expect("it ends").expect("run");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("The media server cannot start: ") && said.ends_with(&format!("{sentence}\n")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_container_checks_its_own_health() {
    let ground = Ground::new().await;
    let server = ground.server(&[]).await;
    let at = server.url.strip_prefix("http://").expect("an address").to_owned();
    let healthy = async |at: &str| {
        let mut command = ground.command(&[(env::MEDIA_LISTEN, at)]);
        timeout(PATIENCE, command.arg("--healthcheck").status()).await.expect("it ends").expect("run").success()
    };
    assert!(healthy(&at).await);
    drop(server);
    assert!(!healthy("127.0.0.1:9").await);
}

/// 50 offers, one after the other, in whatever build this is.
#[tokio::test(flavor = "multi_thread")]
async fn offers_are_answered_soon() {
    let ground = Ground::new().await;
    let server = ground.server(&[(env::MEDIA_CAPACITY, "200"), (env::LIMIT_CALLS_AT_ONCE, "100")]).await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let (visitor, token) = (Visitor::new(TONE).await, ground.token(&ground.session()));
        let offer = visitor.offer().await;
        let began = Instant::now();
        assert_eq!(server.ask(Method::POST, "/v1/calls", &token, &offer).await.status(), 201);
        times.push(began.elapsed());
    }
    let first = times[0].as_secs_f64() * 1_000.0;
    times.sort_unstable();
    let millis = |index: usize| times[index].as_secs_f64() * 1_000.0;
    let (half, most) = (millis(24), millis(49));
    println!("answer to an offer: p50 {half:.1} ms, p99 {most:.1} ms of {}, the first {first:.1} ms", times.len());
    // Far above what is promised of a release build on a quiet machine (100 ms), far below what would be a fault.
    assert!(times[24] < Duration::from_secs(1), "{times:?}");
    assert_eq!(server.number("c2c_offer_seconds_count").await, 50.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_takes_no_place_from_others() {
    let ground = Ground::new().await;
    let server = ground.server(&[]).await;
    let token = ground.token(&ground.session());
    let mut slow =
        TcpStream::connect(server.url.strip_prefix("http://").expect("an address")).await.expect("connected");
    let head = format!(
        "POST /v1/calls HTTP/1.1\r\nHost: media\r\nAuthorization: Bearer {token}\r\nContent-Type: application/sdp\r\n\
         Content-Length: 2000\r\n\r\nv=0\r\n"
    );
    let began = Instant::now();
    slow.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1_024];
    let read = slow.read(&mut answer);
    tokio::pin!(read);
    let mut looks = 0;
    let length = loop {
        tokio::select! {
            length = &mut read => break length.expect("an answer"),
            active = server.number("c2c_calls_active") => {
                assert_eq!(active, 0.0);
                looks += 1;
            }
        }
        assert!(began.elapsed() < PATIENCE, "no answer");
    };
    assert!(looks > 0 && began.elapsed() >= Duration::from_secs(5), "{looks} looks, {:?}", began.elapsed());
    assert!(String::from_utf8_lossy(&answer[..length]).starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn the_private_door_is_closed_to_the_world() {
    let ground = Ground::new().await;
    let router = media::private_router(ground.state().await);
    for (peer, status) in [
        ("10.0.1.6:4711", 200),
        ("127.0.0.1:4711", 200),
        ("[fd00::6]:4711", 200),
        ("203.0.113.9:4711", 404),
        ("[::ffff:203.0.113.9]:4711", 404),
        ("[2001:db8::9]:4711", 404),
        ("169.254.169.254:80", 404),
    ] {
        let mut request = Request::get("/metrics").body(Body::empty()).expect("a request");
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer.parse().expect(peer)));
        let answer = router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{peer}");
    }
    // And to whoever comes from nowhere.
    let answer = router.oneshot(Request::get("/metrics").body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.expect("an answer").status(), 404);
}
