//! A provider behind TLS: its certificate is judged, and nothing is sent to one that fails.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use domain::app::Transport;
use media::sip::{
    Agent, Config, Event, Failure, Trunk,
    agent::Unreachable,
    sdp::{SdpError, Suite},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    attacks::message,
    expect,
    far::{Far, response, speech},
    support::{config, invite, trunk},
};

/// A provider, and the connection that is opened to it; none comes of one that is given up.
async fn provider(name: &str) -> (SocketAddr, CertificateDer<'static>, oneshot::Receiver<TlsStream<TcpStream>>) {
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
    let (opened, opening) = oneshot::channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        if let Ok(connection) = TlsAcceptor::from(Arc::new(rules)).accept(socket).await {
            let _ = opened.send(connection);
        }
    });
    (address, certificate, opening)
}

async fn placed(
    host: &str,
    port: u16,
    roots: Vec<CertificateDer<'static>>,
    protected: bool,
) -> (Agent, media::sip::Leg) {
    let agent = Agent::start(Config { roots, ..config() }).await.expect("an agent");
    let trunk = Trunk { transport: Transport::Tls, protected, ..trunk(&format!("sip:{host}:{port}")) };
    let leg = invite(&agent, trunk).await;
    (agent, leg)
}

#[tokio::test]
async fn a_provider_with_the_right_name_is_asked() {
    let (address, certificate, opening) = provider("trunk.test").await;
    let (agent, mut leg) = placed("trunk.test", address.port(), vec![certificate], false).await;
    let mut connection = opening.await.expect("a connection");
    let asked = message(&mut connection).await;
    assert!(asked.starts_with("INVITE sip:+493012345678@trunk.test"), "{asked}");
    assert!(asked.contains("SIP/2.0/TLS") && asked.contains(";transport=TLS>"), "{asked}");
    connection.write_all(response(&asked, "486 Busy Here", "a", "", "").as_bytes()).await.expect("sent");
    expect!(&mut leg, Event::Rejected { status: 486 });
    assert!(agent.works());
}

#[tokio::test]
async fn a_protected_call_from_its_beginning_to_its_end() {
    let (address, certificate, opening) = provider("trunk.test").await;
    let (_agent, mut leg) = placed("trunk.test", address.port(), vec![certificate], true).await;
    let mut connection = opening.await.expect("a connection");
    let asked = message(&mut connection).await;
    assert!(asked.contains("RTP/SAVP 0 8 101") && asked.contains("a=crypto:1 AEAD_AES_128_GCM inline:"), "{asked}");
    // It speaks the second suite alone.
    let key = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:{}\r\n", "A".repeat(40));
    let answer = speech(&format!("m=audio 9 RTP/SAVP 0\r\n{key}"));
    let answer = response(&asked, "200 OK", "a", "Contact: <sip:far@trunk.test;transport=tls>\r\n", &answer);
    connection.write_all(answer.as_bytes()).await.expect("sent");
    expect!(
        &mut leg,
        Event::Answered(media) if media.crypto.as_ref().is_some_and(|(ours, _)| ours.suite == Suite::AesCm128HmacSha1_80)
    );
    assert!(message(&mut connection).await.starts_with("ACK"));
    let bye = Far::new().await.within(&asked, "BYE", 1, "a").replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    connection.write_all(bye.as_bytes()).await.expect("sent");
    let answer = message(&mut connection).await;
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    expect!(&mut leg, Event::Bye);
}

#[tokio::test]
async fn an_answer_without_a_key_is_not_taken() {
    let (address, certificate, opening) = provider("trunk.test").await;
    let (_agent, mut leg) = placed("trunk.test", address.port(), vec![certificate], true).await;
    let mut connection = opening.await.expect("a connection");
    let asked = message(&mut connection).await;
    let contact = "Contact: <sip:far@trunk.test;transport=tls>\r\n";
    let answer = response(&asked, "200 OK", "a", contact, &speech("m=audio 9 RTP/AVP 0\r\n"));
    connection.write_all(answer.as_bytes()).await.expect("sent");
    assert!(message(&mut connection).await.starts_with("ACK"));
    let bye = message(&mut connection).await;
    assert!(bye.starts_with("BYE"), "{bye}");
    connection.write_all(response(&bye, "200 OK", "", "", "").as_bytes()).await.expect("sent");
    expect!(&mut leg, Event::Failed(Failure::Media(SdpError::NothingInCommon)));
}

#[tokio::test]
async fn others_are_not() {
    let (address, certificate, opening) = provider("trunk.test").await;
    let (_agent, mut leg) = placed("other.test", address.port(), vec![certificate], false).await;
    expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
    refused(opening).await;

    // Judged by the platform's roots, which do not know it.
    let (address, _, opening) = provider("trunk.test").await;
    let (_agent, mut leg) = placed("trunk.test", address.port(), Vec::new(), false).await;
    expect!(&mut leg, Event::Failed(Failure::Unreachable(Unreachable)));
    refused(opening).await;
}

/// No connection came about, or one over which nothing was said.
async fn refused(opening: oneshot::Receiver<TlsStream<TcpStream>>) {
    let said = async {
        match opening.await {
            Ok(mut connection) => connection.read(&mut [0; 16]).await.unwrap_or(0),
            Err(_) => 0,
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(2), said).await, Ok(0), "no request");
}
