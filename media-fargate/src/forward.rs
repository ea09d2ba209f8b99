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
    fmt,
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
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::AbortOnDropHandle;

/// Says which process answers.
pub const PROCESS: HeaderName = HeaderName::from_static("x-c2c-process");
/// How long another server may take: it waits for a call that may itself take three seconds to answer an offer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may take within one network.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Bytes of an answer at most; one with SDP has a few thousand.
const MAX_ANSWER: usize = 64 * 1_024;

/// Why there is no answer; for the log.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

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
    /// The owner did it, or says why not.
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
    let answer = exchange(owner.at, request).await?;
    let process = answer.headers().get(PROCESS).ok_or("no media server answered")?;
    if process != owner.process.as_str() {
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

/// Whether this very process answers.
pub async fn lives(owner: &Owner) -> bool {
    let Ok(request) = Request::get("/").body(Full::default()) else { return false };
    let answer = exchange(owner.at, request).await;
    answer.is_ok_and(|answer| answer.headers().get(PROCESS).is_some_and(|process| process == owner.process.as_str()))
}

/// One request on a connection of its own, and its whole answer. Nothing is resolved, followed or tried again.
///
/// # Errors
/// When there is no answer in time, or it is too large.
pub async fn exchange(at: SocketAddr, mut request: Request<Full<Bytes>>) -> Result<http::Response<Bytes>, Failure> {
    request.headers_mut().insert(header::HOST, HeaderValue::from_str(&at.to_string())?);
    let exchange = async {
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(at)).await??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        Ok(http::Response::from_parts(parts, body))
    };
    timeout(LIMIT, exchange).await?
}

#[cfg(test)]
mod tests {
    use super::*;

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
