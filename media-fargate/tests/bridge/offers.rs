//! Offers as nobody should make them: an answer or a refusal, never a fault of ours, and nothing left behind.

use media::rtp::Codec;
use reqwest::Method;

use crate::{ground::until, server::Server};

pub const CHROMIUM: &str = include_str!("../chromium.sdp");
/// Of which the mutations come; the same in every run.
const SEED: u64 = 4_711;

/// Numbers that look random (Vigna's splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Self {
        Self(SEED)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    /// Bytes, lines and numbers changed, cut, doubled and swapped.
    pub fn mutate(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.splice(at..at, [b"\0", b"\n", b"-", b"9"][self.below(4)].iter().copied())),
                3 => {
                    let end = (at + 1 + self.below(40)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                    let (one, other) = (self.below(lines.len()), self.below(lines.len()));
                    match self.below(3) {
                        0 => lines.swap(one, other),
                        1 => lines.insert(one, lines[other]),
                        _ => drop(lines.remove(one)),
                    }
                    bytes = lines.concat();
                }
            }
            if bytes.is_empty() {
                bytes.push(b'v');
            }
        }
        bytes
    }
}

async fn nobody() -> Server {
    Server::start("sip:127.0.0.1:9", &[Codec::Pcmu, Codec::Pcma, Codec::Opus]).await
}

/// Posts an offer, and hangs up when there is an answer. The status.
async fn post(server: &Server, offer: Vec<u8>) -> u16 {
    let token = server.token();
    let answer = server.ask(Method::POST, "/v1/calls", &token, offer).await;
    let status = answer.status().as_u16();
    if status == 201 {
        let path = answer.headers()["location"].to_str().expect("an address").to_owned();
        assert_eq!(server.ask(Method::DELETE, &path, &token, "").await.status(), 204);
    } else {
        let text = answer.text().await.expect("a body");
        let body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert!(body["error"]["requestId"].is_string(), "{body}");
    }
    status
}

async fn all_over(server: &Server) {
    until("no call is left", async || (server.state.calls().count() == 0).then_some(())).await;
}

#[tokio::test]
async fn mutated_offers_are_answered_or_refused() {
    let (server, mut chance) = (nobody().await, Chance::new());
    let mut answered = 0;
    for _ in 0..200 {
        let offer = chance.mutate(CHROMIUM);
        let shown = String::from_utf8_lossy(&offer).into_owned();
        let status = post(&server, offer).await;
        assert!([201, 400].contains(&status), "{status}: {shown}");
        answered += usize::from(status == 201);
    }
    println!("{answered} of 200 mutations were answered");
    assert!((20..180).contains(&answered), "mutations of every kind: {answered} answered");
    all_over(&server).await;
}

#[tokio::test]
async fn odd_offers_have_their_answer() {
    let server = nobody().await;
    let data = CHROMIUM.find("m=application").expect("a data section");
    let audio = CHROMIUM.find("m=audio").expect("an audio section");
    let (head, sections) = CHROMIUM.split_at(audio);
    let candidates =
        |count: usize, line: &str| CHROMIUM.replace("a=rtcp-mux\r\n", &format!("a=rtcp-mux\r\n{}", line.repeat(count)));
    let host = "a=candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host generation 0\r\n";
    let mdns = "a=candidate:2 1 udp 2113937151 0d4c1d1f-0c5e-4d58-8a2e-6f1c7a0e9b11.local 50001 typ host\r\n";
    let video = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";
    let second_audio = CHROMIUM[audio..data].replace("a=mid:0", "a=mid:2");
    for (what, offer, status) in [
        ("as Chromium writes it", CHROMIUM.to_owned(), 201),
        ("line ends without CR", CHROMIUM.replace('\r', ""), 201),
        ("no line end at the end", CHROMIUM.trim_end().to_owned(), 201),
        ("a byte order mark", format!("\u{feff}{CHROMIUM}"), 400),
        ("nothing", String::new(), 400),
        ("blanks", " ".repeat(100), 400),
        ("UTF-16", CHROMIUM.chars().flat_map(|char| [char, '\0']).take(8_000).collect(), 400),
        ("a megabyte", CHROMIUM.repeat(300), 413),
        ("the longest that is read", format!("{CHROMIUM}{}", "a=x\r\n".repeat((8_192 - CHROMIUM.len()) / 5)), 201),
        ("50 candidates", candidates(50, host), 201),
        ("50 mDNS candidates", candidates(50, mdns), 201),
        ("64 candidates and one", candidates(64, "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n"), 400),
        ("no audio", format!("{head}{}", &CHROMIUM[data..]).replace("BUNDLE 0 1", "BUNDLE 1"), 400),
        ("only audio", CHROMIUM[..data].replace("BUNDLE 0 1", "BUNDLE 0"), 201),
        ("audio twice", format!("{}{second_audio}", &CHROMIUM[..data]).replace("BUNDLE 0 1", "BUNDLE 0 2"), 400),
        ("video and audio", format!("{head}{video}{sections}").replace("BUNDLE 0 1", "BUNDLE 2 0 1"), 400),
        ("video instead of data", format!("{}{video}", &CHROMIUM[..data]).replace("BUNDLE 0 1", "BUNDLE 0 2"), 400),
        (
            "data only in the bundle",
            CHROMIUM
                .replace("m=application 9", "m=application 0")
                .replace("a=mid:1\r\n", "a=mid:1\r\na=bundle-only\r\n"),
            201,
        ),
        ("data before audio", format!("{head}{}{}", &CHROMIUM[data..], &CHROMIUM[audio..data]), 201),
        ("port 0", CHROMIUM.replace("m=audio 9", "m=audio 0"), 400),
        ("a port that is none", CHROMIUM.replace("m=audio 9", "m=audio 99999999999"), 400),
        ("no bundle", CHROMIUM.replace("a=group:BUNDLE 0 1\r\n", ""), 400),
        ("a line of 7,000 characters", CHROMIUM.replace("s=-", &format!("s={}", "x".repeat(5_500))), 201),
        ("a codec nobody has", CHROMIUM.replace("SAVPF 111 63 9 0 8", "SAVPF 63 9"), 400),
    ] {
        assert_eq!(post(&server, offer.into_bytes()).await, status, "{what}");
    }
    assert_eq!(post(&server, b"v=0\r\n\xff\xfe".to_vec()).await, 400, "no UTF-8");
    all_over(&server).await;
}
