//! A request about a call that another media server runs goes on to that server, once, over the private network; and so
//! does a new call that finds this one full.
//!
//! The call's row names its [`Owner`]: where it is asked on the private network, and which process it is. Such requests
//! come in by a listener of their own ([`crate::private_router`]), whose handlers check the visitor's token again and never
//! forward, so that none travels twice and a client can neither ask for it nor pretend it.
//!
//! Every answer of that listener says which process gave it. Another one than the owner proves that the owner is gone, and
//! its calls with it. Anything else, such as silence, proves nothing: the call may well run, and nobody is told that it is
//! over. It ends by itself half a minute after its browser lets go.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// Says which process answers.
pub const PROCESS: HeaderName = HeaderName::from_static("x-c2c-process");
/// How long another server may take: it waits for a call that may itself take three seconds to answer an offer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take within one network.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of an answer at most; one with SDP has a few thousand.
const MAX_ANSWER: usize = 64 * 1_024;

/// How often a process that does not answer is asked before it counts as gone: one that is busy for a moment is not.
const ASKED: u32 = 3;

/// Why there is no answer; for the log.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A [`Failure`] that did nothing: nobody took the connection, so no request went out.
#[derive(Debug, thiserror::Error)]
#[error("no connection: {0}")]
pub struct Unconnected(io::Error);

/// A process that runs calls. Written `http://10.0.1.5:9090#7d0c…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    at: SocketAddr,
    process: String,
}

impl Owner {
    /// A process of this random name, asked at this address.
    ///
    /// # Errors
    /// When the address is of no private network.
    pub fn new(at: SocketAddr, process: String) -> Result<Self, NotPrivate> {
        if is_private(at.ip()) && at.port() != 0 { Ok(Self { at, process }) } else { Err(NotPrivate) }
    }

    /// Where it is asked.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Its name.
    pub fn process(&self) -> &str {
        &self.process
    }
}

/// Text that names no address of a private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address of a private network, such as http://10.0.1.5:9090")]
pub struct NotPrivate;

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}#{}", self.at, self.process)
    }
}

impl FromStr for Owner {
    type Err = NotPrivate;

    fn from_str(text: &str) -> Result<Self, NotPrivate> {
        let (url, process) = text.split_once('#').ok_or(NotPrivate)?;
        Self::new(parse_url(url)?, process.to_owned())
    }
}

/// The address in `http://10.0.1.5:9090`: a literal one, so that no resolver has a say in where requests go.
///
/// # Errors
/// When it is none.
pub fn parse_url(url: &str) -> Result<SocketAddr, NotPrivate> {
    url.strip_prefix("http://").and_then(|at| at.trim_end_matches('/').parse().ok()).ok_or(NotPrivate)
}

/// Whether an address is of this machine or a private network (RFC 1918, RFC 4193). Link-local ones are not: there live
/// metadata services.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback(),
    }
}

/// What another server said.
#[derive(Debug)]
pub enum Answer {
    /// The owner did it, or says why not. A call is begun by whichever media server stands in its place.
    Owner(Response),
    /// Another process stands in the owner's place.
    Gone,
}

/// Sends a request to another server: `POST` with an offer begins a call there; about a call of its own, `DELETE`, `PATCH`
/// with an offer, or `GET`, which asks whether it runs.
///
/// # Errors
/// When nobody answered, or somebody who is no media server.
pub async fn forward(owner: &Owner, method: Method, path: &str, token: &str, offer: &str) -> Result<Answer, Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, crate::signal::SDP)
        .body(Full::new(Bytes::from(offer.to_owned())))?;
    let begins = request.method() == Method::POST;
    let answer = exchange(owner.at, request).await?;
    // For a new call one server is as good as another.
    if !is_of(&answer, owner)? && !begins {
        return Ok(Answer::Gone);
    }
    let (parts, body) = answer.into_parts();
    let mut response = (parts.status, Body::from(body)).into_response();
    // What a client is told, and nothing else that the other server's border added.
    for name in [header::CONTENT_TYPE, header::LOCATION, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(Answer::Owner(response))
}

/// Whether a process is there no more: another one answers in its place, or no media server does, though it was asked
/// three times, with so much time between.
pub async fn is_gone(owner: &Owner, between: Duration) -> bool {
    for asked in 1..=ASKED {
        if let Ok(lives) = lives(owner).await {
            return !lives;
        }
        if asked < ASKED {
            sleep(between).await;
        }
    }
    true
}

/// Whether this very process answers, and not another media server.
async fn lives(owner: &Owner) -> Result<bool, Failure> {
    let answer = exchange(owner.at, Request::get("/").body(Full::default())?).await?;
    is_of(&answer, owner)
}

/// Whether an answer is of this very process, and not of another media server.
fn is_of(answer: &http::Response<Bytes>, owner: &Owner) -> Result<bool, Failure> {
    let process = answer.headers().get(PROCESS).ok_or("no media server answered")?;
    Ok(process == owner.process.as_str())
}

/// One request on a connection of its own, and its whole answer. Nothing is resolved, followed or tried again.
///
/// # Errors
/// When there is no answer in time, or it is too large; [`Unconnected`] when nobody was asked.
pub async fn exchange(at: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<http::Response<Bytes>, Failure> {
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(&at.to_string())?);
    let exchange = async {
        let stream = connect(at).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(http::Response::from_parts(parts, body))
    };
    timeout(LIMIT, exchange).await?
}

async fn connect(at: SocketAddr) -> Result<TcpStream, Unconnected> {
    let connected = timeout(CONNECT_LIMIT, TcpStream::connect(at)).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Unconnected)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What takes one connection after the other and answers each as said: as a process of this name; as nobody's server
    /// (an empty name); or not at all.
    async fn answering(answers: Vec<Option<&'static str>>) -> Owner {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let Some(process) = answer else { continue };
                assert!(stream.read(&mut [0; 1_024]).await.expect("a request") > 0);
                let header = if process.is_empty() { String::new() } else { format!("{PROCESS}: {process}\r\n") };
                let text = format!("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n{header}\r\n");
                stream.write_all(text.as_bytes()).await.expect("it listens");
            }
        });
        Owner::new(at, "7d0c".to_owned()).expect("this machine's")
    }

    #[tokio::test]
    async fn a_process_is_gone_when_another_answers_or_none_three_times() {
        for (answers, gone) in [
            (vec![Some("7d0c")], false),
            (vec![None, Some(""), Some("7d0c")], false),
            (vec![None, None, None, Some("7d0c")], true),
            (vec![Some("0123")], true),
            (vec![None, Some("0123")], true),
            (vec![], true),
        ] {
            let owner = answering(answers.clone()).await;
            assert_eq!(is_gone(&owner, Duration::from_millis(1)).await, gone, "{answers:?}");
        }
    }

    #[tokio::test]
    async fn only_who_took_no_connection_cannot_have_begun_a_call() {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let closed = Owner::new(closed, "7d0c".to_owned()).expect("this machine's");
        for (owner, unconnected) in [(closed, true), (answering(vec![None]).await, false)] {
            let failure = forward(&owner, Method::POST, "/calls", "", "").await.expect_err("no answer");
            assert_eq!(failure.is::<Unconnected>(), unconnected, "{failure}");
        }
    }

    #[tokio::test]
    async fn a_call_is_begun_by_whichever_media_server_answers() {
        for (method, gone) in [(Method::POST, false), (Method::GET, true), (Method::DELETE, true)] {
            let owner = answering(vec![Some("0123")]).await;
            let answer = forward(&owner, method.clone(), "/calls", "", "").await.expect("an answer");
            assert_eq!(matches!(answer, Answer::Gone), gone, "{method}");
        }
        let nobody = answering(vec![Some("")]).await;
        assert!(forward(&nobody, Method::POST, "/calls", "", "").await.is_err(), "no media server");
    }

    #[test]
    fn owners_stand_in_private_networks_alone() {
        for text in ["http://10.0.1.5:9090#7d0c", "http://[fd00::5]:9090#7d0c", "http://127.0.0.1:1#7d0c"] {
            let owner: Owner = text.parse().expect(text);
            assert_eq!((owner.to_string().as_str(), owner.process()), (text, "7d0c"));
        }
        for text in [
            "http://8.8.8.8:80#7d0c",
            "http://169.254.169.254:80#7d0c",
            "http://[fe80::1]:80#7d0c",
            "http://[::ffff:8.8.8.8]:80#7d0c",
            "http://0.0.0.0:80#7d0c",
            "http://10.0.1.5:0#7d0c",
            "http://10.0.1.5#7d0c",
            "http://10.0.1.5:80@8.8.8.8:80#7d0c",
            "http://example.com:80#7d0c",
            "https://10.0.1.5:80#7d0c",
            "http://10.0.1.5:80",
            "7d0c",
            "",
        ] {
            assert_eq!(text.parse::<Owner>(), Err(NotPrivate), "{text}");
        }
    }
}
