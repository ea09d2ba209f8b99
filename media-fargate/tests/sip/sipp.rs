//! sipp as a far side: a scenario is a ladder of steps, written to a file and played by one process that fails when the
//! other side does anything else.

use std::{
    fmt::Write as _,
    fs,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// One rung of a ladder, seen from the provider.
pub enum Step {
    /// Takes an INVITE in, some of whose headers must match, and remembers what answers to it need.
    Invite(&'static [(&'static str, &'static str)]),
    /// The same with another request.
    Begin(&'static str, &'static [(&'static str, &'static str)]),
    /// Takes a request in.
    Take(&'static str),
    /// Takes a request in, one of whose headers must match.
    TakeHeader(&'static str, &'static str, &'static str),
    /// Takes a request in whose body must match.
    TakeBody(&'static str, &'static str),
    /// Takes the INVITE in again, whose credentials must be those of `joe` with `secret`.
    Credentials,
    /// Answers the first INVITE with this status, as the branch of this tag, with these headers and perhaps a description.
    Answer(&'static str, &'static str, &'static str, Option<&'static str>),
    /// Answers a request inside the dialog.
    Reply(&'static str, &'static str, Option<&'static str>),
    /// Sends a request inside the dialog: method, number, headers, perhaps a description.
    Send(&'static str, u32, &'static str, Option<&'static str>),
    /// Takes a response in.
    Expect(&'static str),
    /// Takes a response in whose body must match.
    ExpectBody(&'static str, &'static str),
    /// Milliseconds of silence.
    Pause(u32),
}

use Step::{Answer, Begin, Credentials, Expect, ExpectBody, Invite, Pause, Reply, Send, Take, TakeBody, TakeHeader};

/// A description that takes G.711, and what else its lines say.
pub const SPEECH: Option<&str> = Some("m=audio [media_port] RTP/AVP 0 101\na=rtpmap:101 telephone-event/8000\n");

impl Step {
    fn write(&self, text: &mut String) {
        let _ = match self {
            Invite(headers) => return Begin("INVITE", headers).write(text),
            Begin(method, headers) => {
                let _ = writeln!(text, "<recv request=\"{method}\"><action>");
                remember(text);
                for (header, pattern) in *headers {
                    check(text, pattern, &format!("hdr\" header=\"{header}:"));
                }
                text.write_str("</action></recv>")
            }
            Take(method) => write!(text, r#"<recv request="{method}"/>"#),
            TakeHeader(method, header, pattern) => {
                let _ = writeln!(text, "<recv request=\"{method}\"><action>");
                check(text, pattern, &format!("hdr\" header=\"{header}:"));
                text.write_str("</action></recv>")
            }
            TakeBody(method, pattern) => {
                let _ = writeln!(text, "<recv request=\"{method}\"><action>");
                check(text, pattern, "body");
                text.write_str("</action></recv>")
            }
            Credentials => {
                text.push_str("<recv request=\"INVITE\" next=\"1\" test=\"5\"><action>\n");
                text.push_str("<verifyauth assign_to=\"5\" username=\"joe\" password=\"secret\"/>\n");
                remember(text);
                text.push_str("</action></recv>\n");
                Answer("403 Forbidden", "x", "", None).write(text);
                Take("ACK").write(text);
                text.write_str("<label id=\"1\"/>")
            }
            Answer(status, tag, headers, description) => {
                let contact = "Contact: <sip:[local_ip]:[local_port];transport=[transport]>\n";
                // The INVITE's own headers, even after other requests were taken in.
                let head = format!(
                    "SIP/2.0 {status}\nVia:[$6]\nFrom:[$1]\nTo:[$2];tag={tag}\n[last_Call-ID:]\nCSeq:[$7]\n{contact}{headers}"
                );
                message(text, &head, *description)
            }
            Reply(status, headers, description) => message(
                text,
                &format!(
                    "SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n\
                     Contact: <sip:[local_ip]:[local_port];transport=[transport]>\n{headers}"
                ),
                *description,
            ),
            Send(method, number, headers, description) => message(
                text,
                &format!(
                    "{method} [$3] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
                     From:[$2];tag=a\nTo:[$1]\nCall-ID: [call_id]\nCSeq: {number} {method}\nMax-Forwards: 70\n\
                     Contact: <sip:[local_ip]:[local_port];transport=[transport]>\n{headers}"
                ),
                *description,
            ),
            Expect(status) => write!(text, r#"<recv response="{status}"/>"#),
            ExpectBody(status, pattern) => {
                let _ = writeln!(text, "<recv response=\"{status}\"><action>");
                check(text, pattern, "body");
                text.write_str("</action></recv>")
            }
            Pause(milliseconds) => write!(text, r#"<pause milliseconds="{milliseconds}"/>"#),
        };
        text.push('\n');
    }
}

/// What later messages are made of.
fn remember(text: &mut String) {
    for (header, pattern, variable) in
        [("From", ".*", 1), ("To", ".*", 2), ("Contact", "sip:[^>]*", 3), ("Via", ".*", 6), ("CSeq", ".*", 7)]
    {
        let _ = writeln!(
            text,
            "<ereg regexp=\"{pattern}\" search_in=\"hdr\" header=\"{header}:\" assign_to=\"{variable}\"/>"
        );
    }
}

fn check(text: &mut String, pattern: &str, place: &str) {
    let _ = writeln!(text, "<ereg regexp=\"{pattern}\" search_in=\"{place}\" check_it=\"true\" assign_to=\"4\"/>");
}

fn message(text: &mut String, head: &str, description: Option<&str>) -> std::fmt::Result {
    let body = description.map(|media| {
        let connection = if media.contains("c=") { "" } else { "c=IN IP[media_ip_type] [media_ip]\n" };
        format!("v=0\no=far 1 1 IN IP[local_ip_type] [local_ip]\ns=-\n{connection}t=0 0\n{media}")
    });
    let kind = if body.is_some() { "Content-Type: application/sdp\n" } else { "" };
    write!(text, "<send><![CDATA[\n{head}{kind}Content-Length: [len]\n\n{}]]></send>", body.unwrap_or_default())
}

/// A far side that is playing.
pub struct Sipp {
    child: Child,
    files: PathBuf,
    /// The port it is reached at.
    pub port: u16,
}

/// A port nobody has at the moment, over UDP or TCP.
pub fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("bound");
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}

impl Sipp {
    /// Plays a ladder once over UDP, echoing the audio it hears.
    pub fn play(steps: &[Step]) -> Self {
        Self::over("u1", 1, steps)
    }

    /// Plays a ladder as often as `calls` says, all at once if they come so.
    pub fn play_many(calls: u32, steps: &[Step]) -> Self {
        Self::over("u1", calls, steps)
    }

    /// The same over TCP, once it listens.
    pub async fn play_tcp(steps: &[Step]) -> Self {
        let far = Self::over("t1", 1, steps);
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
        while tokio::net::TcpStream::connect(("127.0.0.1", far.port)).await.is_err() {
            assert!(tokio::time::Instant::now() < until, "sipp listens");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        far
    }

    /// Plays a ladder over `transport` (`u1` or `t1`).
    fn over(transport: &str, calls: u32, steps: &[Step]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let files = std::env::temp_dir().join(format!("c2c-sipp-{}-{number}", std::process::id()));
        fs::create_dir_all(&files).expect("a directory");
        let mut text = String::from("<?xml version=\"1.0\"?>\n<scenario name=\"ladder\">\n");
        let uses = |wanted: fn(&Step) -> bool| steps.iter().any(wanted);
        for step in steps {
            step.write(&mut text);
        }
        let mut variables = vec!["1", "2", "3", "6", "7"];
        if uses(|step| {
            matches!(step, TakeHeader(..) | TakeBody(..) | ExpectBody(..) | Invite([_, ..]) | Begin(_, [_, ..]))
        }) {
            variables.push("4");
        }
        if uses(|step| matches!(step, Credentials)) {
            variables.push("5");
        }
        let _ = write!(text, "<Reference variables=\"{}\"/>\n</scenario>\n", variables.join(","));
        fs::write(files.join("ladder.xml"), text).expect("a file");
        let port = free_port();
        let child = Command::new("sipp")
            .args([
                "-sf",
                "ladder.xml",
                "-i",
                "127.0.0.1",
                "-mi",
                "127.0.0.1",
                "-m",
                &calls.to_string(),
                "-t",
                transport,
            ])
            .args(["-p", &port.to_string(), "-mp", &(free_port() & !1).to_string(), "-rtp_echo"])
            .args(["-nostdin", "-timeout", "25s", "-timeout_error", "-trace_err", "-error_file", "errors.log"])
            .args(["-trace_msg", "-message_file", "messages.log"])
            .current_dir(&files)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sipp plays the provider (Debian: apt-get install sip-tester)");
        Self { child, files, port }
    }

    /// The address of the provider it plays.
    pub fn uri(&self) -> String {
        format!("sip:127.0.0.1:{}", self.port)
    }

    /// Waits until the whole ladder has been played.
    pub async fn played(mut self) {
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        assert!(status.success(), "the ladder is played: {status}");
    }
}

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for name in ["ladder.xml", "messages.log", "errors.log"] {
                eprintln!("== {name}\n{}", fs::read_to_string(self.files.join(name)).unwrap_or_default());
            }
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}
