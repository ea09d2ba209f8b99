//! Serves HTTP to whoever comes: to many at once, but not without bound, and to none for ever.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at the same time; further ones wait. Calls need descriptors as well, and are never without for these.
    most: usize,
    /// Until a request's head is there, from the connection's beginning or the answer before. Longer than load balancers
    /// keep a connection idle (AWS: 60 s): they would send a request into one that is closed.
    head: Duration,
}

const LIMITS: Limits = Limits { most: 2_048, head: Duration::from_secs(75) };
/// Until the next try when the system has no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop`, and then until requests under way are answered. A router learns its peer as connect info.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(LIMITS, listener, router, stop).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, router: Router, stop: CancellationToken) {
    let (places, connections) = (Arc::new(Semaphore::new(limits.most)), TaskTracker::new());
    let accept = async || {
        // Never closed, so there is always a place to wait for.
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        listener.accept().await.map(|(stream, peer)| (stream, peer, place))
    };
    while let Some(accepted) = stop.run_until_cancelled(accept()).await {
        match accepted {
            Ok((stream, peer, place)) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, limits.head, router, stop).await;
                    drop(place);
                });
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

async fn connection(stream: TcpStream, peer: SocketAddr, head: Duration, router: Router, stop: CancellationToken) {
    // Without it answers are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
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
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinHandle,
        time::{Instant, timeout},
    };

    use super::*;

    const HEAD: Duration = Duration::from_millis(300);
    const PATIENCE: Duration = Duration::from_secs(20);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: media\r\n\r\n";

    /// A server for two that says who asks.
    async fn server(head: Duration) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let says = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        let (router, stop) = (Router::new().route("/", get(says)), CancellationToken::new());
        let limits = Limits { most: 2, head };
        (at, stop.clone(), tokio::spawn(serve_within(limits, listener, router, stop)))
    }

    /// What comes until the connection is closed.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("it is closed in time").expect("text");
        text
    }

    #[tokio::test]
    async fn half_a_head_is_not_waited_for() {
        let (at, _stop, _server) = server(HEAD).await;
        let mut slow = TcpStream::connect(at).await.expect("connected");
        slow.write_all(b"GET / HT").await.expect("sent");
        let began = Instant::now();
        assert!(!rest(&mut slow).await.contains("200 OK"));
        assert!(began.elapsed() >= HEAD);
        // Nor is a second request, once the first is answered.
        let mut idle = TcpStream::connect(at).await.expect("connected");
        idle.write_all(REQUEST).await.expect("sent");
        let peer = idle.local_addr().expect("an address").to_string();
        let answer = rest(&mut idle).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(&peer), "{answer}");
    }

    #[tokio::test]
    async fn no_more_are_served_than_there_are_places() {
        let (at, _stop, _server) = server(PATIENCE).await;
        let mut idle =
            [TcpStream::connect(at).await.expect("connected"), TcpStream::connect(at).await.expect("connected")];
        // Both have their places.
        for stream in &mut idle {
            stream.write_all(REQUEST).await.expect("sent");
            let mut answer = [0; 1];
            timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer in time").expect("an answer");
        }
        let mut third = TcpStream::connect(at).await.expect("the system takes it");
        third.write_all(REQUEST).await.expect("sent");
        let mut answer = [0; 1];
        assert!(timeout(HEAD, third.read_exact(&mut answer)).await.is_err(), "there is no place");
        // As soon as one leaves there is.
        drop(idle);
        timeout(PATIENCE, third.read_exact(&mut answer)).await.expect("an answer in time").expect("an answer");
    }

    #[tokio::test]
    async fn stopping_closes_what_is_idle() {
        let (at, stop, server) = server(PATIENCE).await;
        let mut idle = TcpStream::connect(at).await.expect("connected");
        idle.write_all(REQUEST).await.expect("sent");
        let mut answer = [0; 1];
        timeout(PATIENCE, idle.read_exact(&mut answer)).await.expect("an answer in time").expect("an answer");
        stop.cancel();
        timeout(PATIENCE, server).await.expect("it stops").expect("it did not break");
        assert!(TcpStream::connect(at).await.is_err());
    }
}
