//! Chromium calls: its microphone plays a tone, and it hears another one. It needs Chromium and the packages of
//! `tests/browser`, so these tests run when they are asked for (`tests/run browser`).

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use domain::event::EventName;
use media::rtp::Codec;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    clients::Softphone,
    ground::PATIENCE,
    phone::{Line, Phone, Sound},
    server::Server,
};

const VISITOR: f64 = 1_000.0;
const PHONE: f64 = 700.0;

/// The browser, which does what it is asked.
struct Chromium {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    sound: PathBuf,
}

impl Chromium {
    /// At the server's page.
    async fn start(server: &Server) -> Self {
        let sound = std::env::temp_dir().join(format!("c2c-tone-{}.wav", edge::chance::hex::<8>()));
        std::fs::write(&sound, tone()).expect("a file");
        let mut child = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/talk.mjs"))
            .arg(&server.page)
            .arg(&sound)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node runs");
        let (input, output) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Self { _child: child, input, output: BufReader::new(output).lines(), sound }
    }

    async fn ask(&mut self, question: Value) -> Value {
        self.input.write_all(format!("{question}\n").as_bytes()).await.expect("it listens");
        let answer = timeout(PATIENCE, self.output.next_line()).await.expect("in time").expect("text");
        let answer = answer.unwrap_or_else(|| panic!("{question} failed, as it says above"));
        serde_json::from_str(&answer).expect("a line of JSON")
    }

    /// Calls; the call's address.
    async fn calls(&mut self, server: &Server, tcp: bool) -> String {
        let given = json!({"media": server.url, "token": server.token(), "tcp": tcp});
        self.ask(json!(["begin", given])).await.as_str().expect("an address").to_owned()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.sound);
    }
}

/// A WAV file of a second of the visitor's tone; whole periods, so that it may be repeated.
fn tone() -> Vec<u8> {
    const RATE: u32 = 48_000;
    let sample = |at: u32| (8_000.0 * (std::f64::consts::TAU * VISITOR * f64::from(at) / f64::from(RATE)).sin()) as i16;
    let samples: Vec<u8> = (0..RATE).flat_map(|at| sample(at).to_le_bytes()).collect();
    let length = 2 * RATE;
    let mut file = b"RIFF".to_vec();
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend([RATE.to_le_bytes(), length.to_le_bytes()].concat());
    file.extend(b"\x02\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    file
}

/// A call to the telephone that stands: both hear each other.
async fn call(browser: Codec, trunk: Codec, tcp: bool) -> (Server, Chromium, String, Line, Sound) {
    let phone = Phone::new().await;
    let server = Server::start(&phone.uri(), &[browser, trunk]).await;
    let mut chromium = Chromium::start(&server).await;
    let began = async {
        let path = chromium.calls(&server, tcp).await;
        chromium.ask(json!(["told", "ringing"])).await;
        path
    };
    let answered = async {
        let line = phone.rings().await;
        line.ring().await;
        line
    };
    let (path, mut line) = tokio::join!(began, answered);
    let sound = line.answer(trunk, PHONE).await;
    chromium.ask(json!(["told", "answered"])).await;
    chromium.ask(json!(["hears", PHONE])).await;
    sound.ear.hears(VISITOR).await;
    (server, chromium, path, line, sound)
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn every_codec_is_heard_both_ways_and_keys_keep_their_length() {
    for (browser, trunk) in [
        (Codec::Pcmu, Codec::Pcmu),
        (Codec::Pcma, Codec::Pcma),
        (Codec::Opus, Codec::Opus),
        (Codec::Opus, Codec::Pcmu),
        (Codec::Pcmu, Codec::Pcma),
    ] {
        let (server, mut chromium, path, mut line, sound) = call(browser, trunk, false).await;
        chromium.ask(json!(["press", "5", 160])).await;
        let keys = sound.ear.keys(1).await;
        let lasted = keys[0].lasted;
        assert_eq!((keys[0].code, keys.len()), (5, 1), "{browser:?} and {trunk:?}");
        assert!((150..=180).contains(&lasted.as_millis()), "{browser:?} and {trunk:?}: {lasted:?}");
        chromium.ask(json!(["say", {"type": "digits", "digits": "8", "durationMs": 200}])).await;
        let key = sound.ear.keys(2).await[1].clone();
        assert_eq!((key.code, key.lasted), (8, Duration::from_millis(200)));

        assert_eq!(chromium.ask(json!(["remove", path])).await, 204);
        line.hung_up().await;
        assert_eq!(chromium.ask(json!(["told", "ended"])).await, json!({"type": "ended", "reason": "user_hangup"}));
        let row = server.over(&path).await;
        assert_eq!((row.reason.as_deref(), row.codec), (Some("user_hangup"), Some(trunk)));
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_softphone_and_chromium_hear_each_other() {
    for (browser, trunk) in [(Codec::Pcmu, Codec::Pcmu), (Codec::Opus, Codec::Pcma), (Codec::Opus, Codec::Opus)] {
        let softphone = Softphone::start(trunk).await;
        let server = Server::start(&softphone.uri(), &[browser, trunk]).await;
        let mut chromium = Chromium::start(&server).await;
        let path = chromium.calls(&server, false).await;
        chromium.ask(json!(["told", "answered"])).await;
        chromium.ask(json!(["hears", PHONE])).await;
        softphone.heard(VISITOR).await;
        chromium.ask(json!(["say", {"type": "hang_up"}])).await;
        let row = server.over(&path).await;
        assert_eq!((row.reason.as_deref(), row.codec), (Some("user_hangup"), Some(trunk)));
    }
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn hold_and_mute_silence_the_visitor_and_the_far_side_hangs_up() {
    let (server, mut chromium, path, mut line, sound) = call(Codec::Opus, Codec::Pcmu, false).await;
    for on in [true, false] {
        chromium.ask(json!(["say", {"type": "hold", "on": on}])).await;
        line.changed(&sound).await;
        chromium.ask(json!(["told", "hold"])).await;
        match on {
            true => sound.ear.hears_nothing().await,
            false => sound.ear.hears(VISITOR).await,
        }
    }
    chromium.ask(json!(["mute", true])).await;
    sound.ear.hears_nothing().await;
    chromium.ask(json!(["mute", false])).await;
    sound.ear.hears(VISITOR).await;
    chromium.ask(json!(["hears", PHONE])).await;

    line.hang_up().await;
    assert_eq!(chromium.ask(json!(["told", "ended"])).await, json!({"type": "ended", "reason": "remote_hangup"}));
    assert_eq!(server.over(&path).await.reason.as_deref(), Some("remote_hangup"));
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_browser_without_udp_talks_over_tcp() {
    let (server, mut chromium, path, mut line, sound) = call(Codec::Pcmu, Codec::Pcmu, true).await;
    assert_eq!(chromium.ask(json!(["protocol"])).await, "tcp");
    sound.ear.hears(VISITOR).await;
    chromium.ask(json!(["say", {"type": "hang_up"}])).await;
    line.hung_up().await;
    assert_eq!(server.over(&path).await.reason.as_deref(), Some("user_hangup"));
}

#[tokio::test]
#[ignore = "needs Chromium"]
async fn a_browser_that_is_killed_leaves_within_35_seconds_and_its_end_is_told_once() {
    let (server, mut chromium, path, mut line, _sound) = call(Codec::Pcmu, Codec::Pcmu, false).await;
    chromium.ask(json!(["kill"])).await;
    let began = Instant::now();
    line.hung_up_within(Duration::from_secs(35)).await;
    println!("BYE {:.1} s after the browser was killed", began.elapsed().as_secs_f64());
    let event = server.ground.queued().await;
    assert_eq!((event.name, &event.data["errorCode"]), (EventName::CallError, &json!("media_failed")));
    assert_eq!(server.over(&path).await.error_code.as_deref(), Some("media_failed"));
    assert_eq!(server.ground.next_queued().await, None, "the end is told once");
}
