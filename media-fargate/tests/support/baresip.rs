//! baresip, a softphone that answers by itself.

use std::{
    fs,
    net::UdpSocket,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{sleep, timeout};

/// Longer than it takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running one. It ends with the test, which shows its log when it fails.
pub struct Baresip {
    child: Child,
    /// Where it writes.
    pub files: PathBuf,
    /// Where it takes calls.
    pub port: u16,
}

impl Baresip {
    /// One that answers for a user, whose account says this as well and whose configuration these lines; it listens.
    pub async fn start(user: &str, account: &str, lines: &str) -> Self {
        const TRIES: usize = 5;
        for _ in 0..TRIES {
            let mut phone = Self::plugged_in(user, account, lines);
            if timeout(PATIENCE, phone.is_ready()).await.expect("baresip is ready") {
                return phone;
            }
        }
        panic!("{TRIES} ports were somebody else's");
    }

    /// Its address as a trunk.
    pub fn uri(&self) -> String {
        format!("sip:127.0.0.1:{}", self.port)
    }

    fn plugged_in(user: &str, account: &str, lines: &str) -> Self {
        let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let files = std::env::temp_dir().join(format!("c2c-baresip-{}-{port}", std::process::id()));
        fs::create_dir_all(&files).expect("a directory");
        let config = format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{port}\ncall_max_calls 4\naudio_buffer 20-160\nsnd_path {}\n\
             module_path /usr/lib/baresip/modules\n{lines}module_app account.so\n",
            files.display()
        );
        let account = format!("<sip:{user}@127.0.0.1>;regint=0;answermode=auto{account}\n");
        for (file, text) in [("config", config.as_str()), ("accounts", &account), ("contacts", "")] {
            fs::write(files.join(file), text).expect("a file");
        }
        let log = fs::File::create(files.join("log")).expect("a file");
        let child = Command::new("baresip")
            .arg("-f")
            .arg(&files)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("baresip answers (Debian: apt-get install baresip)");
        Self { child, files, port }
    }

    /// Whether it listens; not, when it ended because its port is taken.
    async fn is_ready(&mut self) -> bool {
        loop {
            let ended = self.child.try_wait().expect("a child").is_some();
            if ended || self.log().contains("baresip is ready") {
                return !ended;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.join("log")).unwrap_or_default()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("== baresip\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}
