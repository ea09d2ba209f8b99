//! What stands between reqwest and the network for one attempt: it is told the judged addresses and no others, and the
//! peer is compared with them before a byte of the request is written.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt, TryFutureExt, err, ok, ready};
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower::{BoxError, Layer, Service};

use crate::resolve::Unresolved;

/// The addresses of one attempt's host.
#[derive(Clone)]
pub(crate) struct Judged {
    host: Arc<str>,
    targets: Vec<SocketAddr>,
}

impl Judged {
    pub(crate) fn new(host: &str, targets: Vec<SocketAddr>) -> Self {
        Self { host: host.into(), targets }
    }

    fn was_meant(&self, peer: SocketAddr) -> bool {
        let same = |target: &SocketAddr| target.ip().to_canonical() == peer.ip().to_canonical();
        self.targets.iter().any(|target| same(target) && target.port() == peer.port())
    }
}

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        if name.as_str() != &*self.host {
            return Box::pin(err(Unresolved::Blocked.into()));
        }
        let targets: Addrs = Box::new(self.targets.clone().into_iter());
        Box::pin(ok(targets))
    }
}

impl<S> Layer<S> for Judged {
    type Service = Compared<S>;

    fn layer(&self, inner: S) -> Compared<S> {
        Compared { inner, judged: self.clone() }
    }
}

/// A connector that gives up connections to anybody who was not meant.
#[derive(Clone)]
pub(crate) struct Compared<S> {
    inner: S,
    judged: Judged,
}

impl<S, Request> Service<Request> for Compared<S>
where
    S: Service<Request, Response: Connection + Send + 'static, Error = BoxError, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let judged = self.judged.clone();
        let compare = move |connection: S::Response| {
            let mut extras = http::Extensions::new();
            connection.connected().get_extras(&mut extras);
            let peer = extras.get::<HttpInfo>().map(HttpInfo::remote_addr);
            let was_meant = peer.is_some_and(|peer| judged.was_meant(peer));
            ready(if was_meant { Ok(connection) } else { Err(Unresolved::Blocked.into()) })
        };
        self.inner.call(request).and_then(compare).boxed()
    }
}
