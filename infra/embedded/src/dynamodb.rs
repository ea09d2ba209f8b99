//! DynamoDB: the `dynoxide` engine behind the gate, and its expiry of old rows.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::response::Response;
use dynoxide::Database;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::state_dir::StateDir;
use crate::wire::{self, Refusal};
use crate::{Service, StartError};

/// The engine serves only on a listener of its own, so the gate forwards to it.
struct Forward {
    client: Client<HttpConnector, Body>,
    authority: Authority,
}

pub(crate) struct DynamoDb {
    database: Database,
    engine: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    /// Ends the engine when dropped: after the gate in front of it, at a shutdown.
    stop: DropGuard,
}

fn failed(cause: impl ToString) -> StartError {
    StartError::Database { service: Service::DynamoDb, cause: cause.to_string() }
}

impl DynamoDb {
    pub(crate) async fn open(state: &StateDir, sweep_every: Duration) -> Result<(Self, Router), StartError> {
        let database = match state.file(Service::DynamoDb) {
            Some(path) => Database::new(&path.to_string_lossy()).map_err(failed)?,
            None => Database::memory().map_err(failed)?,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopping = CancellationToken::new();
        let engine = tokio::spawn({
            let (database, stopping, held) = (database.clone(), stopping.clone(), state.clone());
            async move {
                if let Err(cause) =
                    dynoxide::server::serve_with_shutdown(listener, database, stopping.cancelled_owned()).await
                {
                    tracing::error!(cause, "embedded.failed");
                }
                drop(held);
            }
        });
        let sweeper = tokio::spawn({
            let (database, stopping) = (database.clone(), stopping.clone());
            async move {
                while stopping.run_until_cancelled(tokio::time::sleep(sweep_every)).await.is_some() {
                    sweep(database.clone()).await;
                }
            }
        });

        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let authority = address.to_string().parse().map_err(failed)?;
        let forward = Forward { client: Client::builder(TokioExecutor::new()).build(connector), authority };
        let router = Router::new().fallback(forward_on).with_state(Arc::new(forward));
        Ok((DynamoDb { database, engine, sweeper, stop: stopping.drop_guard() }, router))
    }

    /// Deletes rows past their expiry now; AWS does so within days.
    pub(crate) async fn sweep(&self) -> usize {
        sweep(self.database.clone()).await
    }

    /// Ends the engine; its database closes, and flushes, with the last request.
    pub(crate) async fn stopped(self, patience: Duration) {
        drop(self.stop);
        let _ = tokio::time::timeout(patience, async { tokio::join!(self.engine, self.sweeper) }).await;
    }
}

async fn sweep(database: Database) -> usize {
    match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
        Ok(Ok(gone)) => gone,
        Ok(Err(cause)) => {
            tracing::error!(%cause, "embedded.failed");
            0
        }
        Err(_) => 0,
    }
}

async fn forward_on(State(forward): State<Arc<Forward>>, mut request: Request) -> Response {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(forward.authority.clone());
    uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    match Uri::from_parts(uri) {
        Ok(uri) => *request.uri_mut() = uri,
        Err(cause) => return wire::respond(Service::DynamoDb, Err(Refusal::internal("InternalServerError", cause))),
    }
    match forward.client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(cause) => wire::respond(Service::DynamoDb, Err(Refusal::internal("InternalServerError", cause))),
    }
}
