//! A softphone answers: baresip, which sends back what it hears.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use media::{
    rtp::{Codec, Packet},
    sip::{Agent, Event, Invite, SipLeg, Trunk},
};

use crate::{
    expect,
    sipp::free_port,
    support::{agent, call, next, trunk},
};

struct Baresip {
    child: Child,
    files: PathBuf,
    port: u16,
}

impl Baresip {
    /// A phone whose account says this as well.
    fn start(account: &str) -> Self {
        let port = free_port();
        let files = std::env::temp_dir().join(format!("c2c-baresip-{}-{port}", std::process::id()));
        fs::create_dir_all(&files).expect("a directory");
        let config = format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{port}\nrtp_ports 45000-46999\ncall_max_calls 4\n\
             audio_player aubridge,loop\naudio_source aubridge,loop\naudio_alert aubridge,loop\n\
             audio_buffer 20-160\nmodule_path /usr/lib/baresip/modules\n\
             module g711.so\nmodule aubridge.so\nmodule srtp.so\nmodule_app account.so\nmodule_app echo.so\n"
        );
        fs::write(files.join("config"), config).expect("a file");
        fs::write(files.join("accounts"), format!("<sip:echo@127.0.0.1>;regint=0;answermode=auto{account}\n"))
            .expect("a file");
        fs::write(files.join("contacts"), "").expect("a file");
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
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("== baresip\n{}", fs::read_to_string(self.files.join("log")).unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// A packet of a loud square wave, 500 Hz.
fn tone(sequence: u16, payload_type: u8, loud: [u8; 2]) -> Packet {
    let payload = (0..160).map(|sample| loud[usize::from(sample / 8 % 2 == 0)]).collect();
    Packet { payload_type, marker: false, sequence, timestamp: u32::from(sequence) * 160, ssrc: 9, payload }
}

/// Calls the phone, speaks to it for a while, and hears itself.
async fn speaks_and_hears(phone: &Baresip, agent: &Agent, codec: Codec, protected: bool) {
    // Loud samples of either law, positive and negative.
    let (number, loud) = if codec == Codec::Pcmu { (0, [0x90, 0x10]) } else { (8, [0xba, 0x3a]) };
    let trunk = Trunk { protected, ..trunk(&format!("sip:127.0.0.1:{}", phone.port)) };
    let destination = format!("sip:echo@127.0.0.1:{}", phone.port);
    let mut leg = agent.invite(Invite { destination, codecs: vec![codec], ..call(trunk) }).await.expect("ports");
    loop {
        match next(&mut leg).await {
            Event::Ringing | Event::Early(_) => {}
            Event::Answered(media) => {
                assert_eq!((media.codec(), media.send.audio, media.crypto.is_some()), (codec, number, protected));
                break;
            }
            other => panic!("not answered: {other:?}"),
        }
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let (mut sent, mut heard) = (0, 0);
    while heard < 25 && sent < 500 {
        tokio::select! {
            _ = ticks.tick() => {
                leg.send_rtp(&tone(sent, number, loud));
                sent += 1;
            }
            event = leg.recv() => if let Some(Event::Rtp(packet)) = event {
                // Both laws invert or toggle bits: what is loud has few of the codes of silence.
                let quiet = if codec == Codec::Pcmu { [0xff, 0x7f] } else { [0xd5, 0x55] };
                let loud = packet.payload.iter().filter(|sample| !quiet.contains(sample)).count();
                heard += u32::from(packet.payload_type == number && loud > packet.payload.len() / 2);
            }
        }
    }
    assert_eq!(heard, 25, "half a second of what was sent came back, after {sent} packets");
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
}

#[tokio::test]
async fn a_softphone_answers_and_sends_back_what_it_hears() {
    let (phone, agent) = (Baresip::start(""), agent().await);
    for codec in [Codec::Pcmu, Codec::Pcma] {
        speaks_and_hears(&phone, &agent, codec, false).await;
    }
}

#[tokio::test]
async fn a_softphone_answers_with_a_key() {
    let (phone, agent) = (Baresip::start(";mediaenc=srtp-mand"), agent().await);
    speaks_and_hears(&phone, &agent, Codec::Pcmu, true).await;
}
