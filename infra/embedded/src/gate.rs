//! The gate each request passes before its service sees it: counts it, and lets tests make the service fail.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::uses::{self, Use};
use crate::wire::{self, Refusal};

/// One of the three services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The table.
    DynamoDb,
    /// The queues.
    Sqs,
    /// The keys.
    Kms,
}

impl Service {
    /// The prefix of its names in [`crate::Embedded::counts`].
    pub fn name(self) -> &'static str {
        match self {
            Service::DynamoDb => "dynamodb",
            Service::Sqs => "sqs",
            Service::Kms => "kms",
        }
    }

    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Service::DynamoDb => "com.amazonaws.dynamodb.v20120810",
            Service::Sqs => "com.amazonaws.sqs",
            Service::Kms => "com.amazonaws.kms",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Service::DynamoDb | Service::Sqs => "application/x-amz-json-1.0",
            Service::Kms => "application/x-amz-json-1.1",
        }
    }
}

/// How a request fails on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answer 500 and do nothing.
    InternalError,
    /// Answer 503 and do nothing.
    Unavailable,
    /// Answer that the caller is too fast, in the service's own words, and do nothing.
    Throttled,
    /// Do what was asked, then answer 500: the caller cannot know that it was done.
    LostAnswer,
}

/// A [`Fault`], and which requests meet it.
#[derive(Clone, Debug)]
pub struct Injection {
    fault: Fault,
    operation: Option<String>,
    left: Option<u32>,
}

impl Injection {
    /// Every request meets `fault` until cleared.
    pub fn of(fault: Fault) -> Self {
        Injection { fault, operation: None, left: None }
    }

    /// Only requests for this operation, such as `SendMessageBatch`.
    #[must_use]
    pub fn on(self, operation: impl Into<String>) -> Self {
        Injection { operation: Some(operation.into()), ..self }
    }

    /// Only the next `count` matching requests. An SDK's own retries are requests too.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Injection { left: Some(count), ..self }
    }
}

#[derive(Debug)]
pub(crate) struct Gate {
    service: Service,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<String, u64>,
    uses: BTreeMap<Use, u64>,
    injections: Vec<Injection>,
    down: bool,
    /// Cancelling it breaks the connections accepted so far.
    connections: CancellationToken,
}

impl Gate {
    pub(crate) fn new(service: Service) -> Arc<Self> {
        Arc::new(Gate { service, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.inner().counts.clone()
    }

    pub(crate) fn uses(&self) -> BTreeMap<Use, u64> {
        self.inner().uses.clone()
    }

    pub(crate) fn forget_counts(&self) {
        self.inner().counts.clear();
    }

    pub(crate) fn inject(&self, injection: Injection) {
        self.inner().injections.push(injection);
    }

    /// No more faults, and up again.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner();
        inner.injections.clear();
        inner.down = false;
    }

    pub(crate) fn down(&self) {
        self.inner().down = true;
        self.break_connections();
    }

    pub(crate) fn break_connections(&self) {
        std::mem::take(&mut self.inner().connections).cancel();
    }

    /// Counts a request and says how it fails, if it does.
    fn admit(&self, operation: &str) -> Option<Fault> {
        let mut inner = self.inner();
        *inner.counts.entry(format!("{}.{operation}", self.service.name())).or_default() += 1;
        let due = inner.injections.iter().position(|injection| {
            injection.left != Some(0) && injection.operation.as_deref().is_none_or(|name| name == operation)
        })?;
        let injection = &mut inner.injections[due];
        injection.left = injection.left.map(|left| left - 1);
        Some(injection.fault)
    }

    fn refusal(&self, fault: Fault) -> Refusal {
        let message = "a fault made on purpose";
        let (shape, status) = match (fault, self.service) {
            (Fault::Unavailable, _) => ("ServiceUnavailable", 503),
            (Fault::Throttled, Service::DynamoDb) => ("ProvisionedThroughputExceededException", 400),
            (Fault::Throttled, Service::Sqs) => ("RequestThrottled", 400),
            (Fault::Throttled, Service::Kms) => ("ThrottlingException", 400),
            (_, Service::DynamoDb) => ("InternalServerError", 500),
            (_, Service::Sqs) => ("InternalFailure", 500),
            (_, Service::Kms) => ("KMSInternalException", 500),
        };
        Refusal { status, ..Refusal::new(shape, message) }
    }
}

/// Serves `router` behind `gate` until `stopping`, then finishes the requests under way.
pub(crate) fn serve(
    listener: TcpListener,
    router: Router,
    gate: Arc<Gate>,
    stopping: CancellationToken,
) -> JoinHandle<()> {
    let app = router.layer(from_fn_with_state(Arc::clone(&gate), pass));
    tokio::spawn(async move {
        let served = axum::serve(Door { listener, gate }, app).with_graceful_shutdown(stopping.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(cause = %error, "embedded.failed");
        }
    })
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    if !is_loopback(request.headers()) {
        return (StatusCode::FORBIDDEN, "Only this machine's own programs may ask here.\n").into_response();
    }
    let fault = gate.admit(wire::operation(request.headers()));
    let Some(request) = noted(&gate, request).await else { return StatusCode::BAD_REQUEST.into_response() };
    let Some(fault) = fault else { return next.run(request).await };
    if fault == Fault::LostAnswer {
        next.run(request).await;
    }
    wire::respond(gate.service, Err(gate.refusal(fault))).map(Body::new)
}

/// The same request, with what it needs noted; `None` when its body breaks off or is too large. It is read to its end here,
/// so that the connection stays usable after a refusal as it does with AWS.
async fn noted(gate: &Gate, request: Request) -> Option<Request> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, wire::LARGEST_BODY).await.ok()?;
    let uses = uses::of(gate.service, &head.headers, &body);
    let mut inner = gate.inner();
    uses.into_iter().for_each(|one| *inner.uses.entry(one).or_default() += 1);
    drop(inner);
    Some(Request::from_parts(head, Body::from(body)))
}

/// Whether a request names this machine. A page that rebinds its own name to loopback still says that name.
fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Accepts connections that the gate can break.
struct Door {
    listener: TcpListener,
    gate: Arc<Gate>,
}

impl axum::serve::Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let inner = self.gate.inner();
                    if inner.down {
                        continue;
                    }
                    // Without it an answer may wait for the peer's delayed acknowledgement.
                    let _ = stream.set_nodelay(true);
                    let cut = inner.connections.clone();
                    return (Line { stream, wake: Box::pin(cut.clone().cancelled_owned()), cut }, peer);
                }
                // Out of file descriptors, most likely: some will be given back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when the gate says so, even while idle or in a long poll.
struct Line {
    stream: TcpStream,
    cut: CancellationToken,
    wake: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn check(&self) -> io::Result<()> {
        if self.cut.is_cancelled() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.wake.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.check());
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
