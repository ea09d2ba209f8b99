//! A softphone answers: baresip, which sends back what it hears.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use domain::app::Codec;
use media::sip::{Event, Invite, SipLeg};

use crate::{
    expect,
    sipp::free_port,
    support::{agent, call, trunk},
};

struct Baresip {
    child: Child,
    files: PathBuf,
    port: u16,
}

impl Baresip {
    fn start() -> Self {
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
        fs::write(files.join("accounts"), "<sip:echo@127.0.0.1>;regint=0;answermode=auto\n").expect("a file");
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
fn tone(number: u16, payload_type: u8, loud: [u8; 2]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * 160).to_be_bytes());
    packet.extend(9_u32.to_be_bytes());
    packet.extend((0..160).map(|sample| loud[usize::from(sample / 8 % 2 == 0)]));
    packet
}

#[tokio::test]
async fn a_softphone_answers_and_sends_back_what_it_hears() {
    let phone = Baresip::start();
    let agent = agent().await;
    // Loud samples of either law, positive and negative.
    for (codec, number, loud) in [(Codec::Pcmu, 0_u8, [0x90, 0x10]), (Codec::Pcma, 8, [0xba, 0x3a])] {
        let invite = Invite {
            destination: format!("sip:echo@127.0.0.1:{}", phone.port),
            codecs: vec![codec],
            ..call(trunk(&format!("sip:127.0.0.1:{}", phone.port)))
        };
        let mut leg = agent.invite(invite).await.expect("ports");
        loop {
            match crate::support::next(&mut leg).await {
                Event::Ringing | Event::Early(_) => {}
                Event::Answered(media) => {
                    assert_eq!((media.codec, media.send.audio), (codec, number));
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
                event = leg.recv() => if let Some(Event::Rtp { data, .. }) = event {
                    // Both laws invert or toggle bits: what is loud has few of the codes near silence.
                    let quiet = match codec { Codec::Pcmu => [0xff, 0x7f], _ => [0xd5, 0x55] };
                    let samples = data.get(12..).unwrap_or_default();
                    let loud = samples.iter().filter(|sample| !quiet.contains(sample)).count();
                    heard += u32::from(data[1] & 0x7f == number && loud > samples.len() / 2);
                }
            }
        }
        assert_eq!(heard, 25, "half a second of what was sent came back, after {sent} packets");
        leg.hang_up();
        expect!(&mut leg, Event::Ended);
    }
}
