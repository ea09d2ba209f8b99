//! The house as the process that `cargo run` starts, over stand-ins that the test holds: to look into, and to break.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use embedded::{Config, Embedded};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::{
    house::{StateDir, pause},
    runtime_api::binary,
    uses,
};

/// The process. It ends with the test.
pub struct Process {
    child: Child,
    /// What the house keeps its state in.
    pub stand_ins: Embedded,
    /// What `local.json` says.
    pub local: Value,
    directory: StateDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        uses::keep(&self.stand_ins);
    }
}

impl Process {
    /// Starts it with these arguments and variables; returns when it is ready.
    pub async fn start(name: &str, arguments: &[String], variables: &[(&str, &str)]) -> Self {
        let directory = StateDir::new(name);
        let at = |name: &str| directory.path().join(name);
        let config = Config { state_dir: Some(at("services")), ..Config::default() };
        let stand_ins = Embedded::start(config).await.expect("stand-ins");
        let file = |name: &str| Stdio::from(File::create(at(name)).expect("a file"));
        let child = Command::new(binary("local"))
            .args(["--port", "0", "--state"])
            .arg(at("house"))
            .args(arguments)
            .env_clear()
            .envs([
                ("AWS_ENDPOINT_URL_DYNAMODB", stand_ins.dynamodb_url()),
                ("AWS_ENDPOINT_URL_SQS", stand_ins.sqs_url()),
                ("AWS_ENDPOINT_URL_KMS", stand_ins.kms_url()),
            ])
            .envs(variables.iter().copied())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut process = Self { child, stand_ins, local: Value::Null, directory };
        let until = Instant::now() + Duration::from_secs(60);
        while !process.printed().contains("\nready ") {
            assert!(Instant::now() < until, "not ready: {}", process.logged());
            pause().await;
        }
        let local = fs::read(process.path("house/local.json")).expect("local.json");
        process.local = serde_json::from_slice(&local).expect("JSON");
        process
    }

    /// A text of `local.json`, by its pointer.
    pub fn says(&self, pointer: &str) -> String {
        self.local.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}")).to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What it wrote for people and scripts.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.path("stdout")).expect("a file")
    }

    /// Its log so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.path("stderr")).expect("a file")
    }

    /// The stand-ins' files as they lie on the disk, with their names.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.path("services")).expect("a directory").map(|entry| entry.expect("an entry"));
        entries
            .map(|entry| (entry.file_name().display().to_string(), fs::read(entry.path()).expect("a file")))
            .collect()
    }

    /// Asks it to stop as `kill` does, and waits until it has; whether it ended well.
    pub async fn stop(&mut self) -> bool {
        let id = self.child.id().expect("it runs").to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
        assert!(asked.success());
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        ended.expect("it stops in time").expect("a process").success()
    }
}
