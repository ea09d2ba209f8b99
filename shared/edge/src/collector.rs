//! The way to the operator's own collector of traces: HTTP, or HTTPS by the machine's root certificates. What guards
//! customers' addresses ([`domain::reach`]) does not apply: nobody but the operator names a collector.

use std::{io, sync::OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_http::{HttpClient, HttpError};

/// Bytes of an answer that are read.
const MOST: usize = 64 * 1024;

type Connection = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client that keeps its connection.
#[derive(Debug, Default)]
pub(crate) struct Collector(OnceLock<Connection>);

impl Collector {
    /// Made at its first use: reading the root certificates is no work for a start. Nor for the thread that answers, which
    /// it would keep for as long as it takes.
    async fn client(&self) -> io::Result<&Connection> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let made = tokio::task::spawn_blocking(connection).await.map_err(io::Error::other)??;
        Ok(self.0.get_or_init(|| made))
    }
}

fn connection() -> io::Result<Connection> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)?;
    let connector = connector.https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client().await?;
        let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
        let body = Limited::new(body, MOST).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}
