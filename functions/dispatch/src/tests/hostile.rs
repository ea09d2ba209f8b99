//! Receivers that do everything but answer: each gets exactly one POST and ends in its class, within the time limit.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use domain::delivery::{ErrorClass, MAX_EXCERPT};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Names, Receiver, post, request};
use crate::http::Client;

const LIMIT: Duration = Duration::from_millis(600);
/// What a receiver can push into buffers of the system before it notices that nobody reads.
const BUFFERS: u64 = 16 * 1024 * 1024;

/// What a receiver does after it has read the request.
#[derive(Clone, Debug)]
enum Manner {
    /// Writes this and closes.
    Says(Vec<u8>),
    /// Writes this and keeps the connection open.
    Keeps(Vec<u8>),
    /// Writes the first and resets the connection.
    Resets(Vec<u8>),
    /// Writes the first, then the second again and again.
    Repeats(Vec<u8>, Vec<u8>),
    /// Writes the first, then the second again and again, a little at a time.
    Drips(Vec<u8>, Vec<u8>),
}
use Manner::{Drips, Keeps, Repeats, Resets, Says};

impl Manner {
    async fn answer(self, mut stream: TcpStream, written: &AtomicU64) -> io::Result<()> {
        let (first, again, pause) = match self {
            Says(all) => return stream.write_all(&all).await,
            Keeps(all) => {
                stream.write_all(&all).await?;
                return request(&mut stream).await.map(drop);
            }
            Resets(all) => {
                stream.write_all(&all).await?;
                // Unread bytes of ours at the other end may go down with it: let it read them first.
                tokio::time::sleep(Duration::from_millis(50)).await;
                return stream.set_zero_linger();
            }
            Repeats(first, again) => (first, again, None),
            Drips(first, again) => (first, again, Some(Duration::from_millis(20))),
        };
        stream.write_all(&first).await?;
        loop {
            stream.write_all(&again).await?;
            written.fetch_add(again.len() as u64, Ordering::SeqCst);
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn ok(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes()
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn fields(count: usize) -> String {
    (0..count).map(|number| format!("x-{number}: y\r\n")).collect()
}

/// What came back: a status code and its class, if any, or a class alone.
type Came = (Option<u16>, Option<ErrorClass>);

fn manners() -> Vec<(&'static str, Manner, Came)> {
    use ErrorClass::{Http5xx, Redirect, Reset, Timeout};
    let (delivered, reset, timeout) = ((Some(200), None), (None, Some(Reset)), (None, Some(Timeout)));
    let long = "y".repeat(17 * 1024);
    vec![
        ("an answer", Says(ok("content-length: 2\r\n\r\nok")), delivered),
        ("keep-alive, then close", Says(ok("connection: keep-alive\r\ncontent-length: 2\r\n\r\nok")), delivered),
        ("kept alive", Keeps(ok("connection: keep-alive\r\ncontent-length: 2\r\n\r\nok")), delivered),
        ("a body up to the close", Says(ok("\r\nok")), delivered),
        ("one interim answer", Says(bytes("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")), delivered),
        ("silence", Keeps(vec![]), timeout),
        ("a close without answer", Says(vec![]), reset),
        ("a reset without answer", Resets(vec![]), reset),
        ("a reset mid-head", Resets(ok("content-le")), reset),
        ("a close mid-head", Says(ok("content-le")), reset),
        ("a reset mid-body", Resets(ok("content-length: 100\r\n\r\nok")), delivered),
        ("a dripping head", Drips(ok(""), bytes("x: y\r\n")), timeout),
        ("a dripping status line", Drips(bytes("HTTP/1.1 200 "), bytes("O")), timeout),
        ("a dripping body", Drips(ok("content-length: 10000\r\n\r\n"), bytes("o")), timeout),
        ("a dripping chunked body", Drips(ok("transfer-encoding: chunked\r\n\r\n"), bytes("1\r\no\r\n")), timeout),
        ("an endless head", Repeats(ok(""), bytes("x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")), reset),
        ("an endless field", Repeats(ok("x: "), vec![b'y'; 4096]), reset),
        ("an endless status line", Repeats(bytes("HTTP/1.1 200 "), vec![b'O'; 4096]), reset),
        ("a flood of interim answers", Repeats(vec![], bytes("HTTP/1.1 100 Continue\r\n\r\n")), timeout),
        ("dripping interim answers", Drips(vec![], bytes("HTTP/1.1 103 Early Hints\r\n\r\n")), timeout),
        ("a hundred fields", Says(ok(&format!("{}\r\n", fields(100)))), delivered),
        ("one field more", Says(ok(&format!("{}\r\n", fields(101)))), reset),
        ("thousands of fields", Says(ok(&format!("{}\r\n", fields(5_000)))), reset),
        ("a head of more than 16 KB", Says(ok(&format!("x: {long}\r\n\r\n"))), reset),
        ("a field of 15 KB", Says(ok(&format!("x: {}\r\n\r\n", "y".repeat(15 * 1024)))), delivered),
        ("HTTP/0.9", Says(bytes("<html>hello</html>")), reset),
        ("HTTP/3.7", Says(bytes("HTTP/3.7 200 OK\r\n\r\n")), reset),
        ("HTTP/2 spoken first", Says(bytes("\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64")), reset),
        ("another protocol", Says(bytes("220 mail.example.com ESMTP\r\n")), reset),
        ("garbage", Says((0..=255).cycle().take(4_000).collect()), reset),
        ("no status", Says(bytes("HTTP/1.1  OK\r\n\r\n")), reset),
        ("a status of two digits", Says(bytes("HTTP/1.1 20 OK\r\n\r\n")), reset),
        ("a field without a name", Says(ok(": y\r\n\r\n")), reset),
        ("NUL in a field", Says(ok("x: a\0b\r\n\r\n")), reset),
        ("two lengths", Says(ok("content-length: 2\r\ncontent-length: 3\r\n\r\nok")), reset),
        ("a negative length", Says(ok("content-length: -1\r\n\r\nok")), reset),
        ("a length without end", Says(ok("content-length: 99999999999999999999999\r\n\r\nok")), reset),
        ("a body shorter than its length", Says(ok("content-length: 100\r\n\r\nok")), delivered),
        ("a body longer than its length", Says(ok("content-length: 2\r\n\r\nok and more")), delivered),
        ("length and chunks", Says(ok("content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")), delivered),
        ("garbage for chunks", Says(ok("transfer-encoding: chunked\r\n\r\nzzzz\r\n")), delivered),
        ("a huge chunk", Says(ok("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n")), delivered),
        ("a huge body", Repeats(ok("content-length: 1000000000000\r\n\r\n"), vec![b'o'; 65_536]), delivered),
        (
            "a huge chunked body",
            Repeats(ok("transfer-encoding: chunked\r\n\r\n"), bytes(&"4\r\noooo\r\n".repeat(1_000))),
            delivered,
        ),
        ("a body without end", Repeats(ok("\r\n"), vec![b'o'; 65_536]), delivered),
        ("gzip that is none", Says(ok("content-encoding: gzip\r\ncontent-length: 2\r\n\r\nok")), delivered),
        ("204 with a body", Says(bytes("HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nok")), (Some(204), None)),
        ("304", Says(bytes("HTTP/1.1 304 Not\r\n\r\n")), (Some(304), Some(Redirect))),
        ("500", Says(bytes("HTTP/1.1 500 No\r\nretry-after: 60\r\n\r\n")), (Some(500), Some(Http5xx))),
        ("999", Says(bytes("HTTP/1.1 999 No\r\n\r\n")), (Some(999), Some(Http5xx))),
        ("an upgrade", Keeps(bytes("HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")), reset),
    ]
}

#[tokio::test]
async fn every_manner_ends_in_its_class() {
    let mut wrong = Vec::new();
    for (what, manner, expected) in manners() {
        let (requests, written) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let serve = {
            let (requests, written, manner) = (requests.clone(), written.clone(), manner.clone());
            move |mut stream: TcpStream| {
                let (requests, written, manner) = (requests.clone(), written.clone(), manner.clone());
                async move {
                    let text = request(&mut stream).await?;
                    requests.lock().expect("the requests").push(text);
                    manner.answer(stream, &written).await
                }
            }
        };
        let receiver = Receiver::open(serve).await;
        let client = Client::with_lookup(receiver.reach(), Names::saying(&[]));
        let began = Instant::now();
        let outcome = post(&client, &receiver.url(), LIMIT).await;
        let took = began.elapsed();
        let requests = requests.lock().expect("the requests").clone();
        let came = (outcome.status_code, outcome.error);
        let is_bounded = outcome.excerpt.as_deref().unwrap_or_default().len() <= 3 * MAX_EXCERPT
            && (matches!(outcome.error, Some(ErrorClass::Timeout)) || written.load(Ordering::SeqCst) < BUFFERS);
        let is_one = requests.len() == 1 && receiver.connections() == 1 && requests[0].starts_with("POST /in HTTP/1.1");
        if came != expected || took > LIMIT + Duration::from_millis(500) || !is_bounded || !is_one {
            wrong.push(format!("{what}: {came:?} instead of {expected:?} after {took:?}; {requests:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_never_followed() {
    let elsewhere = Receiver::open(|_| async { Ok(()) }).await;
    for code in [301, 302, 303, 307, 308] {
        let to = elsewhere.at;
        let receiver = Receiver::open(move |mut stream: TcpStream| async move {
            request(&mut stream).await?;
            let head = format!("HTTP/1.1 {code} Go\r\nlocation: http://{to}/\r\nset-cookie: a=b\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        });
        let receiver = receiver.await;
        let client = Client::with_lookup(receiver.reach(), Names::saying(&[]));
        let outcome = post(&client, &receiver.url(), LIMIT).await;
        assert_eq!((outcome.status_code, outcome.error), (Some(code), Some(ErrorClass::Redirect)));
        assert_eq!((receiver.connections(), elsewhere.connections()), (1, 0), "{code}");
    }
}

#[tokio::test]
async fn what_is_sent_and_what_is_kept() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let receiver = Receiver::open(move |mut stream: TcpStream| {
        let seen = seen.clone();
        async move {
            let text = request(&mut stream).await?;
            seen.lock().expect("the requests").push(text.to_lowercase());
            let body = "o".repeat(20_000);
            let head = "HTTP/1.1 503 No\r\nset-cookie: a=b\r\nretry-after: Sat, 31 Jan 2026 12:02:00 GMT\r\n";
            stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
        }
    });
    let receiver = receiver.await;
    let client = Client::with_lookup(receiver.reach(), Names::saying(&[]));
    for _ in 0..2 {
        let outcome = post(&client, &receiver.url(), LIMIT).await;
        assert_eq!(outcome.excerpt.map(|kept| kept.len()), Some(MAX_EXCERPT));
        let wait = outcome.retry_after.expect("a wait");
        assert!(wait > Duration::from_secs(115) && wait <= Duration::from_secs(120), "{wait:?}");
    }
    let requests = requests.lock().expect("the requests").clone();
    // A connection for each attempt, and nothing learnt from the first.
    assert_eq!((requests.len(), receiver.connections()), (2, 2));
    assert_eq!(requests[0], requests[1]);
    let (head, _) = requests[0].split_once("\r\n\r\n").expect("a head");
    let mut names: Vec<_> = head.lines().skip(1).map(|line| line.split(':').next().unwrap_or_default()).collect();
    names.sort_unstable();
    let expected =
        ["accept", "content-length", "content-type", "host", "user-agent", "webhook-id", "webhook-timestamp"];
    assert_eq!(names, expected);
    assert!(head.contains(&format!("host: {}", receiver.at)) && head.contains("user-agent: clicktocall-webhooks/1"));
}

#[tokio::test]
async fn a_port_nobody_listens_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("its address");
    drop(listener);
    let reach = domain::reach::Reach::with(vec![format!("127.0.0.1/32:{}", at.port()).parse().expect("a network")]);
    let client = Client::with_lookup(reach, Names::saying(&[]));
    let outcome = post(&client, &format!("http://{at}/"), LIMIT).await;
    assert_eq!(outcome.error, Some(ErrorClass::Connect));
}
