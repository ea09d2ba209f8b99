//! Serves HTTP to whoever comes: to many at once, but not without bound, and to none for ever.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// Connections at the same time; further ones wait. Calls need descriptors as well, and are never without for these.
const MOST: usize = 2_048;
/// Until a request's head is there, from the connection's beginning or the answer before. Longer than load balancers keep
/// a connection idle (AWS: 60 s): they would send a request into one that is closed.
const HEAD_LIMIT: Duration = Duration::from_secs(75);
/// Until the next try when the system has no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop`, and then until requests under way are answered. A router learns its peer as connect info.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let (places, connections) = (Arc::new(Semaphore::new(MOST)), TaskTracker::new());
    let accept = async || {
        // Never closed, so there is always a place to wait for.
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        listener.accept().await.map(|(stream, peer)| (stream, peer, place))
    };
    while let Some(accepted) = stop.run_until_cancelled(accept()).await {
        match accepted {
            Ok((stream, peer, place)) => {
                connections.spawn(connection(stream, peer, place, router.clone(), stop.clone()));
            }
            Err(cause) => {
                tracing::warn!(%cause, "media.not_accepted");
                sleep(PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    router: Router,
    stop: CancellationToken,
) {
    // Without it answers are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    // What goes wrong on a connection concerns its client alone.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(cause) = ended {
        tracing::debug!(%cause, "media.connection_broken");
    }
    drop(place);
}
