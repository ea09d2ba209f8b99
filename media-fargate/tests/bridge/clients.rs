//! Others at both ends: a WHIP client that knows nothing of us, and a softphone.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use media::rtp::Codec;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    baresip::Baresip,
    ground::{PATIENCE, until},
    phone::Phone,
    server::Server,
    sound::share,
    visitor::Visitor,
};

const VISITOR: f64 = 1_000.0;
const PHONE: f64 = 700.0;

/// The interpreter of the virtual environment that `tests/run` keeps, or else the one of the machine.
fn python() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests/run says where it put the packages")]
    std::env::var("C2C_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// It neither opens a data channel nor offers keys, and has one codec.
#[tokio::test]
async fn a_plain_whip_client_calls() {
    for (name, codec, leaves) in [("PCMU", Codec::Pcmu, "deletes"), ("opus", Codec::Opus, "closes")] {
        let phone = Phone::new().await;
        let server = Server::start(&phone.uri(), &[Codec::Pcmu, Codec::Opus]).await;
        let mut client = tokio::process::Command::new(python())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/whip.py"))
            .args([&server.url, &server.token(), name, leaves, &VISITOR.to_string(), &PHONE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python runs");
        let mut stdin = client.stdin.take().expect("its input");
        let call = async {
            let mut line = phone.rings().await;
            let sound = line.answer(codec, PHONE).await;
            sound.ear.hears(VISITOR).await;
            stdin.write_all(b"heard\n").await.expect("it listens");
            let began = Instant::now();
            line.hung_up().await;
            assert!(began.elapsed() < Duration::from_secs(2), "{leaves}: noticed after {:?}", began.elapsed());
        };
        let output = async {
            let output = timeout(PATIENCE, client.wait_with_output()).await.expect("in time").expect("it ran");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "aiortc of tests/requirements.txt: {errors}");
            serde_json::from_slice::<Value>(&output.stdout).expect("a line of JSON")
        };
        let (seen, ()) = tokio::join!(output, call);
        let ended = if leaves == "deletes" { json!(204) } else { Value::Null };
        assert_eq!((&seen["begun"], &seen["ended"]), (&json!(201), &ended), "{seen}");
        assert_eq!(seen["state"], "connected", "{seen}");
        let row = server.over(seen["path"].as_str().expect("an address")).await;
        assert_eq!((row.reason.as_deref(), row.codec), (Some("user_hangup"), Some(codec)));
    }
}

/// baresip: it answers by itself, plays a tone and writes down what it hears.
pub struct Softphone(Baresip);

impl Softphone {
    /// One that knows this codec, and listens.
    pub async fn start(codec: Codec) -> Self {
        let (module, name) = match codec {
            Codec::Pcmu => ("g711", "pcmu/8000/1"),
            Codec::Pcma => ("g711", "pcma/8000/1"),
            Codec::Opus => ("opus", "opus/48000/2"),
        };
        let lines = format!(
            "rtp_ports 47000-48999\naudio_player aubridge,none\naudio_source ausine,{PHONE}\naudio_alert aubridge,none\n\
             ausrc_srate 48000\nausrc_channels 2\nauplay_srate 8000\nauplay_channels 1\n\
             module {module}.so\nmodule aubridge.so\nmodule ausine.so\nmodule sndfile.so\n"
        );
        Self(Baresip::start("sales", &format!(";audio_codecs={name}"), &lines).await)
    }

    /// Its address as a trunk.
    pub fn uri(&self) -> String {
        self.0.uri()
    }

    /// Waits until what it wrote down holds a tone of this pitch.
    pub async fn heard(&self, pitch: f64) {
        until(&format!("baresip heard {pitch} Hz"), async || {
            let files = fs::read_dir(&self.0.files).ok()?.filter_map(Result::ok).map(|entry| entry.path());
            let dump = files.into_iter().find(|path| path.to_string_lossy().ends_with("-dec.wav"))?;
            let samples = wave(&fs::read(dump).ok()?)?;
            samples.chunks_exact(1_600).any(|part| share(part, pitch) > 0.8).then_some(())
        })
        .await;
    }
}

/// The samples of a WAV file at 8 kHz: every sixth of 48 kHz, left of stereo.
fn wave(bytes: &[u8]) -> Option<Vec<i16>> {
    let number = |at: usize| Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (channels, rate) = (usize::from(number(22)?), usize::from(number(24)?));
    let every = (rate / 8_000).max(1) * channels.max(1);
    let samples = bytes.get(44..)?.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
    Some(samples.step_by(every).collect())
}

#[tokio::test]
async fn a_softphone_and_a_visitor_hear_each_other() {
    for (browser, trunk) in [(Codec::Pcmu, Codec::Pcmu), (Codec::Opus, Codec::Opus), (Codec::Opus, Codec::Pcma)] {
        let softphone = Softphone::start(trunk).await;
        let server = Server::start(&softphone.uri(), &[browser, trunk]).await;
        let visitor = Visitor::new(browser, VISITOR).await;
        let (path, answer) = server.begin(&server.token(), visitor.offer().await).await;
        visitor.take(&answer).await;
        while visitor.told().await["type"] != "answered" {}
        visitor.ear.hears(PHONE).await;
        softphone.heard(VISITOR).await;
        visitor.say(json!({"type": "hang_up"})).await;
        let row = server.over(&path).await;
        assert_eq!((row.reason.as_deref(), row.codec), (Some("user_hangup"), Some(trunk)));
    }
}
