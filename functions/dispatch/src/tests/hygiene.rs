//! Nothing that is logged or formatted shows an address, a header's value, or what a receiver said.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{
    delivery::ErrorClass,
    reach::Reach,
    secret::SecretValue,
    template::{Unfilled, Values},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tracing_subscriber::fmt::MakeWriter;
use zeroize::Zeroizing;

use super::{Names, Receiver, due, integration, now, request};
use crate::{
    attempt::Unable,
    http::{CannotTry, Client},
    render::Ready,
    resolve::Unresolved,
};

const CANARY: &str = "c4nary-5ecret-value";
const LIMIT: Duration = Duration::from_millis(400);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the log")).into_owned()
    }
}

/// A request with the canary in its path, its query and a header, both typed and as a secret.
fn ready(host: &str) -> Ready {
    let url = format!("{host}/{CANARY}-p/{{secret.key}}?q={CANARY}-q&k={{secret.key}}");
    let headers = json!([{"name": "x-key", "value": "Bearer {secret.key}"}]);
    let integration = integration(&url, headers, LIMIT).expect("an integration");
    let secret = SecretValue::stored(Zeroizing::new(CANARY.to_owned()));
    let values = Values::from([("key".parse().expect("a name"), secret)]);
    assert!(!format!("{integration:?}").contains(CANARY), "{integration:?}");
    Ready::render(&integration, &values, Vec::new()).unwrap_or_else(|Unfilled| panic!("{host} can be filled"))
}

#[tokio::test]
async fn whatever_happens_the_log_shows_no_address_and_no_header() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(writer)
        .finish();
    // It is there: what is logged is caught.
    let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    tracing::trace!("caught");
    assert!(log.text().contains("caught"));

    let echo = Receiver::open(|mut stream: TcpStream| async move {
        let text = request(&mut stream).await?;
        let said = format!("HTTP/1.1 400 {CANARY}\r\nx: {CANARY}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(said.as_bytes()).await
    });
    let (echo, closing) = (echo.await, Receiver::open(|_| async { Ok(()) }).await);
    let silent = Receiver::open(|mut stream: TcpStream| async move {
        request(&mut stream).await?;
        request(&mut stream).await.map(drop)
    });
    let silent = silent.await;
    let names = || Names::saying(&[&["127.0.0.1"]]);
    for (host, reach, names, expected) in [
        (format!("http://{}", echo.at), echo.reach(), names(), &[ErrorClass::Http4xx] as &[_]),
        (format!("http://{}", closing.at), closing.reach(), names(), &[ErrorClass::Reset]),
        (format!("http://{}", silent.at), silent.reach(), names(), &[ErrorClass::Timeout]),
        (
            format!("https://a.example:{}", closing.at.port()),
            closing.reach(),
            names(),
            &[ErrorClass::Tls, ErrorClass::Reset],
        ),
        (
            "http://127.0.0.1:1".to_owned(),
            "127.0.0.1".parse().map(|net| Reach::with(vec![net])).expect("a net"),
            names(),
            &[ErrorClass::Connect],
        ),
        ("https://a.example".to_owned(), Reach::default(), names(), &[ErrorClass::BlockedAddress]),
        ("https://a.example".to_owned(), Reach::default(), Names::saying(&[]), &[ErrorClass::Dns]),
    ] {
        let outcome = Client::with_lookup(reach, names).post(&ready(&host), &due(), now()).await.expect("a try");
        assert!(outcome.error.is_some_and(|error| expected.contains(&error)), "{host}: {outcome:?}");
        let kept = format!("{outcome:?}").replace(&format!("{CANARY}-p"), "").replace(&format!("{CANARY}-q"), "");
        assert!(!kept.contains(CANARY), "{kept}");
    }
    assert!(!log.text().contains(CANARY), "{}", log.text());
}

#[test]
fn errors_say_what_is_wrong_and_not_with_what() {
    let unknown = || Unresolved::Unknown(io::ErrorKind::NotFound.into());
    for (error, shown) in [
        (format!("{} {:?}", CannotTry, CannotTry), "the outgoing client could not be made ready CannotTry"),
        (format!("{} {:?}", unknown(), unknown()), "the name has no address Unknown(Kind(NotFound))"),
        (
            format!("{} {:?}", Unresolved::Blocked, Unresolved::Blocked),
            "the name leads to an address that may not be dialled Blocked",
        ),
        (format!("{}", Unable::from(CannotTry)), "the outgoing client could not be made ready"),
    ] {
        assert_eq!(error, shown);
    }
}
