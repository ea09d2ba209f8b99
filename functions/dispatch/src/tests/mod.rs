//! The outgoing client against hostile addresses and receivers: what it dials, sends, reads, and says.

mod addresses;
mod hostile;
mod hygiene;
mod tls;

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    delivery::{Due, Outcome},
    id::{AppId, DeliveryId, EventId, IntegrationId, SessionId},
    integration::Integration,
    reach::Reach,
    template::Values,
    time::Timestamp,
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

use crate::{http::Client, render::Ready, resolve::Lookup};

/// A resolver that answers every name with what it was given, one answer after the other; the last one stays.
#[derive(Default)]
struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn saying(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().expect("an address")).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }

    /// From now on it says this.
    fn say(&self, answer: &[IpAddr]) {
        *self.answers.lock().expect("the answers") = VecDeque::from([answer.to_vec()]);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Lookup for Names {
    fn look_up<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().expect("the answers");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        async move { answer.ok_or_else(|| io::ErrorKind::NotFound.into()) }.boxed()
    }
}

/// What counts connections to it; each is held by what `serve` makes of it.
struct Receiver {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    /// Listens on every address of the machine, so that no spelling of it stays unseen.
    async fn open<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a port");
        let at = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.local_addr().expect("its port").port());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { at, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A reach that allows this receiver alone.
    fn reach(&self) -> Reach {
        Reach::with(vec![format!("127.0.0.1/32:{}", self.at.port()).parse().expect("a network")])
    }

    fn url(&self) -> String {
        format!("http://{}/in", self.at)
    }
}

/// Reads a request to its end.
async fn request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_none_or(|length| length.parse() == Ok(body.len())) {
                return Ok(text);
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(text);
        }
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_769_860_800_000)
}

/// An integration as it stands in the table: nobody checks its address again.
fn integration(url: &str, headers: Value, timeout: Duration) -> Option<Integration> {
    serde_json::from_value(json!({
        "id": IntegrationId::mint(now(), &[2; 10]), "name": "A receiver", "url": url, "events": ["widget_loaded"],
        "headers": headers, "timeoutMs": timeout.as_millis() as u64, "status": "active", "signing": false,
        "createdAt": now(),
    }))
    .ok()
}

fn ready(url: &str, timeout: Duration) -> Option<Ready> {
    Ready::render(&integration(url, json!([]), timeout)?, &Values::new(), Vec::new()).ok()
}

fn due() -> Due {
    let (session, integration) = (SessionId::mint(now(), &[0; 10]), IntegrationId::mint(now(), &[2; 10]));
    let event = EventId::mint(now(), &[1; 10]);
    let envelope = json!({"id": event, "name": "widget_loaded", "data": {}, "timestamp": now()});
    serde_json::from_value(json!({
        "v": 1, "delivery": DeliveryId::derive(session, event, integration), "app": AppId::mint(now(), &[3; 10]),
        "integration": integration, "envelope": envelope, "acceptedAt": now(), "attempt": 1,
    }))
    .expect("a message")
}

async fn post(client: &Client, url: &str, timeout: Duration) -> Outcome {
    let ready = ready(url, timeout).expect("an address that can be filled");
    client.post(&ready, &due(), now()).await.expect("a try")
}
