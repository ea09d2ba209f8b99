//! TLS with a certification authority of the test's own. The client learns of it as of any other: by `SSL_CERT_FILE`, so
//! the tests run in a process of their own that is given one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::delivery::ErrorClass;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Names, Receiver, post, request};
use crate::http::Client;

const LIMIT: Duration = Duration::from_secs(10);
const NAME: &str = "hooks.example.com";
/// Where the process of its own finds its certificates.
const FOLDER: &str = "CLICK_TO_CALL_TEST_CERTIFICATES";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn issue(folder: &Path, file: &str, name: &str, years: (i32, i32), by: &CertifiedIssuer<'_, KeyPair>) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    fs::write(folder.join(format!("{file}.crt")), certificate.der()).expect("written");
    fs::write(folder.join(format!("{file}.key")), key.serialize_der()).expect("written");
}

/// The folder with certificates when this process was given one; else makes one and runs `test` again in a process that
/// is.
#[expect(clippy::disallowed_methods, reason = "a test hands a folder to itself")]
fn folder(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Some(folder.into());
    }
    let folder = std::env::temp_dir().join(format!("click-to-call-{}-{test}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (trusted, unknown) = (authority(), authority());
    let pem = STANDARD.encode(trusted.der());
    let roots = folder.join("roots.pem");
    fs::write(&roots, format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n")).expect("written");
    issue(&folder, "good", NAME, (2020, 4000), &trusted);
    issue(&folder, "expired", NAME, (2020, 2021), &trusted);
    issue(&folder, "early", NAME, (3900, 4000), &trusted);
    issue(&folder, "other", "other.example.com", (2020, 4000), &trusted);
    issue(&folder, "unknown", NAME, (2020, 4000), &unknown);
    let done = Command::new(std::env::current_exe().expect("this program"))
        .args([&format!("tests::tls::{test}"), "--exact", "--nocapture"])
        .env("SSL_CERT_FILE", roots)
        .env(FOLDER, &folder)
        .output()
        .expect("it runs");
    fs::remove_dir_all(&folder).expect("removed");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&done.stderr));
    None
}

fn acceptor(folder: &Path, file: &str) -> TlsAcceptor {
    let certificate = CertificateDer::from(fs::read(folder.join(format!("{file}.crt"))).expect("a certificate"));
    let key = PrivatePkcs8KeyDer::from(fs::read(folder.join(format!("{file}.key"))).expect("a key"));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
        .expect("a certificate with its key");
    TlsAcceptor::from(Arc::new(config))
}

/// What receivers saw: the name asked for in TLS, and the request.
type Seen = Arc<Mutex<Vec<(Option<String>, String)>>>;

async fn receiver(folder: &Path, file: &str, seen: Seen) -> Receiver {
    let acceptor = acceptor(folder, file);
    Receiver::open(move |stream: TcpStream| {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            let text = request(&mut stream).await?;
            seen.lock().expect("the requests").push((name, text));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
            stream.shutdown().await
        }
    })
    .await
}

#[tokio::test]
async fn certificates() {
    let Some(folder) = folder("certificates") else { return };
    for (file, expected) in [
        ("good", None),
        ("expired", Some(ErrorClass::Tls)),
        ("early", Some(ErrorClass::Tls)),
        ("other", Some(ErrorClass::Tls)),
        ("unknown", Some(ErrorClass::Tls)),
    ] {
        let seen = Seen::default();
        let receiver = receiver(&folder, file, seen.clone()).await;
        let names = Names::saying(&[&["127.0.0.1"]]);
        let client = Client::with_lookup(receiver.reach(), names.clone());
        let url = format!("https://{NAME}:{}/in", receiver.at.port());
        for attempt in 1..=2 {
            let outcome = post(&client, &url, LIMIT).await;
            assert_eq!(outcome.error, expected, "{file}");
            assert_eq!((names.asked(), receiver.connections()), (attempt, attempt), "{file}");
        }
        let seen = seen.lock().expect("the requests");
        assert_eq!(seen.len(), if expected.is_none() { 2 } else { 0 }, "{file}");
        for (name, text) in seen.iter() {
            assert_eq!(name.as_deref(), Some(NAME));
            assert!(text.contains(&format!("host: {NAME}:{}\r\n", receiver.at.port())), "{text}");
        }
    }
}

#[tokio::test]
async fn an_address_is_no_name_on_a_certificate() {
    let Some(folder) = folder("an_address_is_no_name_on_a_certificate") else { return };
    let seen = Seen::default();
    let receiver = receiver(&folder, "good", seen.clone()).await;
    let client = Client::with_lookup(receiver.reach(), Names::saying(&[]));
    let outcome = post(&client, &format!("https://{}/in", receiver.at), LIMIT).await;
    assert_eq!(outcome.error, Some(ErrorClass::Tls));
    assert!(seen.lock().expect("the requests").is_empty());
}

/// Receivers that never finish, or never begin, a handshake.
#[tokio::test]
async fn handshakes_that_come_to_nothing() {
    let plain = |text: &'static str| {
        Receiver::open(move |mut stream: TcpStream| async move { stream.write_all(text.as_bytes()).await })
    };
    let silent = Receiver::open(|mut stream: TcpStream| async move {
        // Until the client has had enough.
        request(&mut stream).await.map(drop)
    });
    let dripping = Receiver::open(|mut stream: TcpStream| async move {
        // The beginning of a record of 16 KB.
        stream.write_all(&[22, 3, 3, 0x40, 0]).await?;
        loop {
            stream.write_all(&[0]).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let closed = Receiver::open(|_| async { Ok::<_, io::Error>(()) });
    let (http, garbage) = (plain("HTTP/1.1 400 Bad\r\n\r\n"), plain("\0\0\0\0\0\0\0\0"));
    let short = Duration::from_millis(500);
    for (what, receiver, limit, at_most, expected) in [
        ("plain HTTP", http.await, short, short, &[ErrorClass::Tls] as &[_]),
        ("garbage", garbage.await, short, short, &[ErrorClass::Tls]),
        // Whether its end or its reset comes first is the system's affair.
        ("a close", closed.await, short, short, &[ErrorClass::Tls, ErrorClass::Reset]),
        ("a dripping handshake", dripping.await, short, short, &[ErrorClass::Timeout, ErrorClass::Tls]),
        ("silence, long limit", silent.await, LIMIT, Duration::from_secs(3), &[ErrorClass::Timeout]),
    ] {
        let client = Client::with_lookup(receiver.reach(), Names::saying(&[&["127.0.0.1"]]));
        let began = Instant::now();
        let outcome = post(&client, &format!("https://{NAME}:{}/in", receiver.at.port()), limit).await;
        let took = began.elapsed();
        assert!(outcome.error.is_some_and(|error| expected.contains(&error)), "{what}: {outcome:?}");
        assert!(took <= at_most + Duration::from_millis(500), "{what}: {took:?}");
        assert_eq!(receiver.connections(), 1, "{what}");
    }
}
