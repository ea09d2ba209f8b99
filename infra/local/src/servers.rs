//! Ports of this machine alone, and what is served on them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long a request may take to finish once the servers stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens on a port of both loopback addresses; 0 takes any. A machine without IPv6 gets one listener.
///
/// # Errors
/// When the port is taken on either: browsers try both, and must not meet somebody else on the other.
pub async fn listen(port: u16) -> io::Result<(u16, Vec<TcpListener>)> {
    let first = bind(Ipv4Addr::LOCALHOST.into(), port).await?;
    let taken = first.local_addr()?.port();
    match bind(Ipv6Addr::LOCALHOST.into(), taken).await {
        Ok(second) => Ok((taken, vec![first, second])),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != 0 => Err(error),
        Err(_) => Ok((taken, vec![first])),
    }
}

/// Listens on the port after this one when it is free, else on any; after 0, on any.
///
/// # Errors
/// When no port can be had.
pub async fn listen_near(port: u16) -> io::Result<(u16, TcpListener)> {
    let next = if port == 0 { 0 } else { port.checked_add(1).unwrap_or(0) };
    let listener = match bind(Ipv4Addr::LOCALHOST.into(), next).await {
        Ok(listener) => listener,
        Err(_) => bind(Ipv4Addr::LOCALHOST.into(), 0).await?,
    };
    Ok((listener.local_addr()?.port(), listener))
}

async fn bind(ip: IpAddr, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::new(ip, port)).await
}

/// Servers that stop together; when dropped, at once.
#[derive(Debug, Default)]
pub struct Servers {
    stopping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Serves a router; it learns its peer's address as connect info.
    pub fn serve(&mut self, listener: TcpListener, router: Router) {
        let stopping = self.stopping.clone();
        let listener = listener.tap_io(|connection| {
            // Without it answers are only slower.
            let _ = connection.set_nodelay(true);
        });
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        self.tasks.push(tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await;
            if let Err(cause) = served {
                tracing::error!(%cause, "house.stopped_serving");
            }
        }));
    }

    /// Is cancelled when these servers stop: for answers that would otherwise never end.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Takes no new connections and lets requests under way finish, for a while.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        for mut task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(PATIENCE, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}
