//! HTTP to what a deployment's operator names: the collector of traces, the provider of sign-ins. HTTPS by the machine's
//! root certificates. What guards customers' addresses ([`domain::reach`]) does not apply: no customer names these.

use std::{io, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::sync::OnceCell;

/// To reach an address; the whole exchange is limited by who asks.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Header fields of an answer.
const MAX_FIELDS: usize = 100;
/// Bytes of a collector's answer that are read.
const MAX_COLLECTED: usize = 64 * 1024;

type Connections = Pool<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that keeps its connections. It follows no redirect and asks no proxy.
#[derive(Debug, Default)]
pub struct Client(OnceCell<Connections>);

/// Why there is no answer. The text is for the log: it holds no address and nothing secret.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failed {
    /// The machine's root certificates cannot be read.
    #[error("no root certificates: {0}")]
    NoRoots(String),
    /// Nobody could be reached there: name, connection or TLS.
    #[error("cannot be reached")]
    Unreachable,
    /// The exchange ended before its time.
    #[error("broke off")]
    Broken,
    /// The answer has more bytes than were asked for.
    #[error("over {0} bytes")]
    TooLong(usize),
}

impl Client {
    /// Sends a request, and reads an answer of at most `most` bytes. Sets no time limit but for the connection.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(&self, request: Request<Bytes>, most: usize) -> Result<Response<Bytes>, Failed> {
        let refused = |error: hyper_util::client::legacy::Error| {
            if error.is_connect() { Failed::Unreachable } else { Failed::Broken }
        };
        let answer = self.connections().await?.request(request.map(Full::new)).await.map_err(refused)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, most)
            .collect()
            .await
            .map_err(|error| if error.is::<LengthLimitError>() { Failed::TooLong(most) } else { Failed::Broken })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// Made at its first use: reading the root certificates is no work for a start. Nor for the thread that answers, which
    /// it would keep for as long as it takes.
    async fn connections(&self) -> Result<&Connections, Failed> {
        let read = || async { tokio::task::spawn_blocking(connections).await.map_err(io::Error::other)? };
        self.0.get_or_try_init(read).await.map_err(|error| Failed::NoRoots(error.to_string()))
    }
}

fn connections() -> io::Result<Connections> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_DEADLINE));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let secure = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)?;
    let connector = secure.https_or_http().enable_http1().wrap_connector(connector);
    Ok(Pool::builder(TokioExecutor::new()).http1_max_headers(MAX_FIELDS).build(connector))
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(self.send(request, MAX_COLLECTED).await?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// What comes of asking somebody who answers these bytes and hangs up.
    async fn asked(answer: &'static str) -> Result<Response<Bytes>, Failed> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.expect("a client");
            let mut head = [0; 1024];
            let _ = connection.read(&mut head).await.expect("a request");
            connection.write_all(answer.as_bytes()).await.expect("written");
        });
        Client::default().send(Request::get(at).body(Bytes::new()).expect("a request"), 4).await
    }

    #[tokio::test]
    async fn an_answer_is_taken_as_it_is_or_not_at_all() {
        let whole = asked("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd").await.expect("an answer");
        assert_eq!((whole.status().as_u16(), whole.body().as_ref()), (200, b"abcd".as_slice()));
        // Where it leads, nobody goes.
        let elsewhere = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(asked(elsewhere).await.expect("an answer").status().as_u16(), 302);
        for (answer, failed) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde", Failed::TooLong(4)),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", Failed::TooLong(4)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", Failed::Broken),
            ("", Failed::Broken),
        ] {
            assert_eq!(asked(answer).await.expect_err("no answer"), failed, "{answer}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = format!("http://{}/", listener.local_addr().expect("an address"));
        drop(listener);
        let request = Request::get(at).body(Bytes::new()).expect("a request");
        assert_eq!(Client::default().send(request, 4).await.expect_err("nobody"), Failed::Unreachable);
    }
}
