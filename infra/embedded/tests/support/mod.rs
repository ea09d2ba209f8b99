//! Clients over the wire, to the stand-ins or to what the environment names instead, and waiting for conditions.

#![expect(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use embedded::{Config, Embedded};

/// A macro, since the three crates' configurations are three types.
macro_rules! client {
    ($sdk:ident, $url:expr) => {
        $sdk::Client::from_conf(
            $sdk::Config::builder()
                .behavior_version($sdk::config::BehaviorVersion::latest())
                .region($sdk::config::Region::new(embedded::REGION))
                .credentials_provider($sdk::config::Credentials::new("test", "test", None, None, "tests"))
                .retry_config($sdk::config::retry::RetryConfig::disabled())
                .endpoint_url($url)
                .build(),
        )
    };
}

pub fn dynamodb(url: &str) -> aws_sdk_dynamodb::Client {
    client!(aws_sdk_dynamodb, url)
}

pub fn sqs(url: &str) -> aws_sdk_sqs::Client {
    client!(aws_sdk_sqs, url)
}

pub fn kms(url: &str) -> aws_sdk_kms::Client {
    client!(aws_sdk_kms, url)
}

/// The same client, trying as often as `attempts` says.
pub fn sqs_trying(url: &str, attempts: u32) -> aws_sdk_sqs::Client {
    let retry = RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(Duration::from_millis(10));
    let config = sqs(url).config().to_builder().retry_config(retry).build();
    aws_sdk_sqs::Client::from_conf(config)
}

#[expect(clippy::disallowed_methods, reason = "the suite's one door to the environment")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The emulator to judge instead of the stand-in, if the environment names one.
pub fn other(service: &str) -> Option<String> {
    variable(&format!("AWS_ENDPOINT_URL_{service}"))
}

/// Says that a test does not apply, and why, when another emulator is judged.
#[macro_export]
macro_rules! only_here {
    ($service:literal, $reason:literal) => {
        if support::other($service).is_some() {
            eprintln!("skipped: {}", $reason);
            return;
        }
    };
}

pub async fn start() -> Embedded {
    Embedded::start(Config::default()).await.expect("the stand-ins start in memory")
}

pub async fn start_in(dir: &Path) -> Embedded {
    Embedded::start(Config { state_dir: Some(dir.to_owned()), ..Config::default() }).await.expect("a free directory")
}

/// An SQS client and, unless another emulator is judged, the house it speaks to.
pub async fn queues() -> (aws_sdk_sqs::Client, Option<Embedded>) {
    match other("SQS") {
        Some(url) => (sqs(&url), None),
        None => {
            let embedded = start().await;
            (sqs(embedded.sqs_url()), Some(embedded))
        }
    }
}

/// A KMS client and, unless another emulator is judged, the house it speaks to.
pub async fn keys() -> (aws_sdk_kms::Client, Option<Embedded>) {
    match other("KMS") {
        Some(url) => (kms(&url), None),
        None => {
            let embedded = start().await;
            (kms(embedded.kms_url()), Some(embedded))
        }
    }
}

/// A name nothing else has, also not in an emulator that other runs have used.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let started = std::time::Instant::now();
    // The address of a local differs between processes, the counter within one.
    let salt = format!("{started:?}").bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{prefix}-{}-{salt:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that goes with the value.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique("embedded"));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks again until there is an answer, for ten seconds.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("ten seconds passed without {what}"),
    }
}
