//! A provider behind TLS: its certificate is judged, and nothing is sent to one that fails.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use domain::app::Transport;
use media::sip::{Agent, Config, Event, Failure, Trunk, agent::Unreachable};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

use crate::{
    expect,
    support::{config, invite, trunk},
};

/// A provider that is busy; says what it was asked, once.
async fn busy(name: &str) -> (SocketAddr, CertificateDer<'static>, oneshot::Receiver<String>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let certificate = cert.der().clone();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let rules = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("bound");
    let (asked, asking) = oneshot::channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        let Ok(mut connection) = tokio_rustls::TlsAcceptor::from(Arc::new(rules)).accept(socket).await else { return };
        let mut request = Vec::new();
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            if connection.read_buf(&mut request).await.expect("bytes") == 0 {
                return;
            }
        }
        let request = String::from_utf8(request).expect("text");
        let header = |name: &str| request.lines().find(|line| line.starts_with(name)).expect(name).to_owned();
        let response = format!(
            "SIP/2.0 486 Busy Here\r\n{}\r\n{}\r\n{};tag=a\r\n{}\r\n{}\r\nContent-Length: 0\r\n\r\n",
            header("Via:"),
            header("From:"),
            header("To:"),
            header("Call-ID:"),
            header("CSeq:"),
        );
        connection.write_all(response.as_bytes()).await.expect("sent");
        let _ = asked.send(request);
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest).await;
    });
    (address, certificate, asking)
}

async fn placed(host: &str, port: u16, roots: Vec<CertificateDer<'static>>) -> (Agent, media::sip::Leg) {
    let agent = Agent::start(Config { roots, ..config() }).await.expect("an agent");
    let trunk = Trunk { transport: Transport::Tls, ..trunk(&format!("sip:{host}:{port}")) };
    let leg = invite(&agent, trunk).await;
    (agent, leg)
}

#[tokio::test]
async fn a_provider_with_the_right_name_is_asked() {
    let (address, certificate, asking) = busy("trunk.test").await;
    let (agent, mut leg) = placed("trunk.test", address.port(), vec![certificate]).await;
    expect!(&mut leg, Event::Rejected { status: 486 });
    let request = asking.await.expect("a request");
    assert!(request.starts_with("INVITE sip:+493012345678@trunk.test"), "{request}");
    assert!(request.contains("SIP/2.0/TLS") && request.contains(";transport=TLS>"), "{request}");
    assert!(agent.works());
}

#[tokio::test]
async fn others_are_not() {
    let (address, certificate, asking) = busy("trunk.test").await;
    let (_agent, mut leg) = placed("other.test", address.port(), vec![certificate]).await;
    expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
    assert!(tokio::time::timeout(Duration::from_secs(2), asking).await.is_ok_and(|asked| asked.is_err()), "no request");

    // Judged by the platform's roots, which do not know it.
    let (address, _, asking) = busy("trunk.test").await;
    let (_agent, mut leg) = placed("trunk.test", address.port(), Vec::new()).await;
    expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
    assert!(tokio::time::timeout(Duration::from_secs(2), asking).await.is_ok_and(|asked| asked.is_err()), "no request");
}
