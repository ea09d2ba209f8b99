//! A customer's server that does what none should: it sends back whatever it was sent, in every writing it knows, and
//! misbehaves as the first part of the path says.

use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Bytes of an answer that dispatch reads, and that it keeps.
const READ: usize = 16 * 1024;
const KEPT: usize = 2 * 1024;

/// Ways to send back what came that end with an excerpt in the log.
pub const ECHOES: [&str; 17] = [
    "plain",
    "json",
    "json-in-json",
    "base64",
    "hex",
    "percent",
    "percent-twice",
    "html",
    "border",
    "inside",
    "chunks",
    "cut",
    "cut-escape",
    "long",
    "error",
    "refusal",
    "redirect",
];
/// Ways to end an exchange without an answer.
pub const BREAKS: [&str; 5] = ["reset", "garbage", "bad-field", "big-head", "silence"];

/// The server. It ends with the test.
pub struct Hostile {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hostile {
    /// Starts on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Self { port, requests }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything it was sent, as it came.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One exchange. What goes wrong with the connection is what was wanted.
async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read(&mut stream).await else { return };
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let head = request.split("\r\n\r\n").next().unwrap_or_default();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let way = target.split('/').nth(1).unwrap_or_default();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value).to_owned()
    };
    // As it came, and as a framework would show it.
    let echo = format!("{head}\n{}", decoded(target));
    let secret = field("x-key");
    let json = |text: &str| serde_json::Value::from(text).to_string();
    let filled = |until: usize| "x".repeat(until);
    let body = match way {
        "json" => format!("{{\"you sent\": {}}}", json(&echo)),
        "json-in-json" => json(&json(&echo)),
        "base64" => STANDARD.encode(&echo),
        "hex" => echo.bytes().map(|byte| format!("{byte:02x}")).collect(),
        "percent" => percent(&echo),
        "percent-twice" => percent(&percent(&echo)),
        "html" => echo.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;"),
        // Over the border of what is kept, and again: masks are shorter than what they hide.
        "border" => format!("{}{secret}{}{secret}", filled(KEPT - 20), filled(11)),
        "inside" => (0..600).map(|_| format!("{secret} ")).collect(),
        // What is read ends within an escape.
        "long" => {
            let long: String = (0..8).map(|_| percent(&field("x-long"))).collect();
            let ends = |before: &usize| long.as_bytes()[READ - before - 2] == b'%';
            filled((0..64).find(ends).expect("an escape")) + &long
        }
        "cut" => format!("you sent {}", &secret[..secret.len() - 3]),
        "cut-escape" => {
            let written = percent(&secret);
            let escape = written.rfind('%').expect("something to escape");
            format!("you sent {}", &written[..escape + 2])
        }
        _ => echo.clone(),
    };
    let sized = |status: &str, more: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\n{more}Connection: close\r\nContent-Length: {length}\r\n\r\n")
    };
    let answer = match way {
        "silence" => return std::future::pending().await,
        "reset" => return,
        "garbage" => format!("{echo}\r\n\r\n"),
        "bad-field" => format!("HTTP/1.1 200 OK\r\nX-Echo: {secret}\u{1}\0\r\n\r\n"),
        "big-head" => {
            format!("HTTP/1.1 200 OK\r\n{}\r\n", format!("X-Echo: {secret}\r\n").repeat(90).replace(": ", &filled(300)))
        }
        "error" => sized("500 Oh", "", body.len()) + &body,
        "refusal" => sized(&format!("422 {secret}"), "", body.len()) + &body,
        "redirect" => {
            sized("302 Found", &format!("Location: http://127.0.0.1/{}\r\n", percent(&secret)), body.len()) + &body
        }
        "cut" | "cut-escape" => sized("200 OK", "", body.len() + 1_000) + &body,
        "chunks" => {
            let chunks: String = body.chars().map(|one| format!("{:x}\r\n{one}\r\n", one.len_utf8())).collect();
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
        }
        _ => sized("200 OK", "", body.len()) + &body,
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A whole request: its head, and as much body as that promises.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        // The beginning of a TLS handshake is answered as if it were a request.
        if bytes.starts_with(b"\x16") {
            return Some(String::new());
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(text.into_owned());
        }
    }
}

fn percent(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = (byte == b'%').then(|| after.get(..2)).flatten().and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
