//! Receivers as customers write them (`tests/receivers`), each a process of its own.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::Client;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::house::client;

const RECEIVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/receivers");
/// Starting an interpreter on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a receiver is written in.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    /// `node.mjs`.
    Node,
    /// `python.py`.
    Python,
    /// `rust.rs`.
    Rust,
}

impl Language {
    /// Runs its receiver with this secret, on a port of the system's choice.
    async fn run(self, secret: &str) -> Child {
        let (program, script) = match self {
            Self::Node => ("node".to_owned(), Some("node.mjs")),
            Self::Python => (python(), Some("python.py")),
            Self::Rust => (env!("CARGO_BIN_EXE_receiver").to_owned(), None),
        };
        self.needs(&program).await;
        let mut command = Command::new(program);
        command.current_dir(RECEIVERS).args(script).env("WEBHOOK_SECRET", secret).env("PORT", "0").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    }

    /// Says how to get what its receiver needs, if that is not there.
    async fn needs(self, program: &str) {
        let (proof, remedy) = match self {
            Self::Node => (["-e", "require.resolve('standardwebhooks')"], "npm ci --prefix tests/receivers"),
            Self::Python => (["-c", "import standardwebhooks"], "tests/run test"),
            Self::Rust => return,
        };
        let mut command = Command::new(program);
        command.current_dir(RECEIVERS).args(proof).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let is_there = command.status().await.is_ok_and(|status| status.success());
        assert!(is_there, "{program} or its package standardwebhooks is missing: `{remedy}` installs it");
    }
}

/// The interpreter of the virtual environment that `tests/run` keeps, or else the one of the machine.
fn python() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests/run says where it put the packages")]
    std::env::var("C2C_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// A running receiver.
pub struct Foreign {
    child: Child,
    port: u16,
    handled: Arc<Mutex<Vec<String>>>,
    client: Client,
}

impl Foreign {
    /// Starts one that trusts this key, and waits until it listens.
    pub async fn start(language: Language, key: &str) -> Self {
        let mut child = language.run(key).await;
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").expect("text");
        let first = first.unwrap_or_else(|| panic!("{language:?} ended before it listened"));
        let port = first.strip_prefix("listening on port ").and_then(|port| port.parse().ok());
        let handled = Arc::default();
        tokio::spawn(listen(lines, Arc::clone(&handled)));
        Self { child, port: port.unwrap_or_else(|| panic!("{first}")), handled, client: client(None) }
    }

    /// How a receiver ends that is given this secret and must not take it.
    pub async fn refuses(language: Language, secret: &str) -> ExitStatus {
        let mut child = language.run(secret).await;
        tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends in time").expect("a status")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it receives.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/in", self.port)
    }

    /// Posts this; the status of its answer.
    pub async fn post(&self, headers: &[(&str, String)], body: &[u8]) -> u16 {
        let mut request = self.client.post(self.url()).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.send().await.expect("it answers").status().as_u16()
    }

    /// What it said it has handled: each event's `webhook-id` and name.
    pub fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends its process.
    pub async fn stop(mut self) {
        self.child.kill().await.expect("killed");
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, handled: Arc<Mutex<Vec<String>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let line = line.strip_prefix("handled ").map_or_else(|| format!("not expected: {line}"), ToOwned::to_owned);
        handled.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
