//! The media server: ends the browser's `WebRTC` and calls the contact centre over SIP.
//!
//! [`signal`] takes calls in and [`calls`] knows those that run; each is a task of its own ([`bridge`]) that owns a leg to
//! the browser ([`browser`]) and one to the trunk ([`sip`]), asks [`call`] what to do and passes audio between them
//! ([`path`], [`rtp`]). [`record`] writes down what became of it.

pub mod bridge;
pub mod browser;
pub mod call;
pub mod calls;
pub mod codes;
pub mod control;
pub mod metrics;
pub mod path;
pub mod quality;
pub mod record;
pub mod rtp;
pub mod signal;
pub mod sip;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State as Extract},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use domain::limit::Scope;
use edge::{
    chance,
    env::{self, Env, StartError},
    extract::Peer,
    problem::{Kind, Problem},
    reply,
};
use http::{HeaderMap, HeaderValue, header};
use store::{Aws, Events, Limiter, Queue, Store, Vault, Verifier};

use crate::{browser::WebRtc, calls::Calls, metrics::Metrics, sip::Agent};

/// Calls that a server of two processors carries, with much to spare (media.md: 200 take half a core).
const CAPACITY: usize = 250;
/// Until running calls are ended when the server stops: below the 120 s that ECS waits at most.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(90);
/// Until calls that were ended have said goodbye and are written down.
pub const DRAIN_FAREWELL: Duration = Duration::from_secs(15);

/// What the server holds. Clones are the same one.
#[derive(Clone)]
pub struct State(Arc<Inside>);

/// The parts of [`State`].
pub struct Inside {
    verifier: Verifier,
    limiter: Limiter,
    store: Store,
    vault: Vault,
    events: Events,
    browsers: WebRtc,
    trunks: Agent,
    calls: Calls,
    metrics: Metrics,
    widget_origin: HeaderValue,
    /// Names this process in the rows of its calls.
    owner: String,
    /// Calls of one app at the same time.
    at_once: u32,
    /// Whether a load balancer stands in front.
    balanced: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("calls", &self.calls.count()).finish_non_exhaustive()
    }
}

impl Deref for State {
    type Target = Inside;

    fn deref(&self) -> &Inside {
        &self.0
    }
}

impl State {
    /// Reads the configuration and opens the sockets for SIP.
    ///
    /// # Errors
    /// When a variable is missing or wrong, or a socket cannot be had.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let origin = env.origin(env::WIDGET_ORIGIN)?;
        let widget_origin = HeaderValue::from_str(&origin)
            .map_err(|why| StartError::Invalid { var: env::WIDGET_ORIGIN, why: why.to_string() })?;
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let queue = Queue::open(aws, env.required::<String>(env::DELIVERY_QUEUE_URL)?);
        let (browsers, trunks) = (browsers(env)?, trunks(env).await?);
        Ok(Self(Arc::new(Inside {
            verifier: Verifier::open(store.clone()),
            limiter: Limiter::open(store.clone(), Scope::Calls, env.limits(Scope::Calls)?),
            vault: Vault::open(aws, env.required::<String>(env::KMS_KEY_ID)?),
            events: Events::open(store.clone(), queue),
            store,
            browsers: WebRtc::new(browsers).map_err(unavailable)?,
            trunks,
            calls: Calls::new(env.optional(env::MEDIA_CAPACITY)?.unwrap_or(CAPACITY)),
            metrics: Metrics::default(),
            widget_origin,
            owner: chance::hex::<8>(),
            at_once: env.optional(env::LIMIT_CALLS_AT_ONCE)?.unwrap_or(domain::call::AT_ONCE),
            balanced: env.optional(env::MEDIA_BALANCED)?.unwrap_or(false),
        })))
    }

    /// The calls that run here.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// What the server counts, as CloudWatch reads it out of the log.
    pub fn embedded_metrics(&self) -> String {
        self.metrics.embedded(&self.calls, edge::clock::now())
    }
}

fn unavailable(why: impl ToString) -> StartError {
    StartError::Unavailable(why.to_string())
}

/// How browsers are reached.
fn browsers(env: &Env) -> Result<browser::Config, StartError> {
    let mut addresses: Vec<IpAddr> = env.list(env::MEDIA_ADDRESSES)?;
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::UNSPECIFIED.into());
    }
    let (public, ports) = (env.list(env::MEDIA_PUBLIC_ADDRESSES)?, env.ports(env::MEDIA_PORTS)?);
    Ok(browser::Config { public, ports, ..browser::Config::new(addresses) })
}

/// The endpoint for trunks.
async fn trunks(env: &Env) -> Result<Agent, StartError> {
    let listen = env.optional(env::SIP_LISTEN)?.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060)));
    let public: Vec<IpAddr> = env.list(env::MEDIA_PUBLIC_ADDRESSES)?;
    let public = public.into_iter().find(IpAddr::is_ipv4).unwrap_or(listen.ip());
    if public.is_unspecified() {
        let why = "must name the address that trunks reach, where SIP is received on all".to_owned();
        return Err(StartError::Invalid { var: env::MEDIA_PUBLIC_ADDRESSES, why });
    }
    let rtp_ports = env.ports(env::RTP_PORTS)?.unwrap_or(30_000..=39_999);
    let dns = sip::target::system().map_err(unavailable)?;
    let config = sip::Config::new(listen, public, rtp_ports, env.reach()?, Arc::new(dns));
    Agent::start(config).await.map_err(unavailable)
}

/// The server's routes, to be served with the peer's address as connect info. Browsers call from the widget host and no
/// other origin.
pub fn router(state: State) -> Router {
    let routes = signal::routes()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(numbers))
        .with_state(state.clone());
    reply::bordered(routes, None)
        .layer(middleware::from_fn_with_state(state.clone(), client))
        .layer(middleware::map_response_with_state(state, allow_widget))
}

/// Whether new calls may come: what a load balancer asks.
async fn ready(Extract(state): Extract<State>) -> Result<&'static str, Problem> {
    let room = state.calls.count() < state.calls.most() && !state.calls.is_draining() && state.trunks.works();
    room.then_some("ready\n").ok_or_else(|| Problem::new(Kind::Unavailable, "No call can begin here now."))
}

async fn numbers(Extract(state): Extract<State>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.text(&state.calls)).into_response()
}

/// Who is at the other end.
async fn client(Extract(state): Extract<State>, mut request: Request, next: middleware::Next) -> Response {
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
    let ip = if state.balanced { forwarded(request.headers()) } else { connected };
    if let Some(ip) = ip {
        request.extensions_mut().insert(Peer(ip));
    }
    next.run(request).await
}

/// The last address of `X-Forwarded-For`: the balancer wrote it. Those before it are whatever the client says.
fn forwarded(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

async fn allow_widget(Extract(state): Extract<State>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, state.widget_origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("location, retry-after"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_balancer_wrote_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(forwarded(&headers), None);
        headers.append("x-forwarded-for", HeaderValue::from_static("10.0.0.1, 192.0.2.66"));
        headers.append("x-forwarded-for", HeaderValue::from_static("192.0.2.1,198.51.100.7"));
        assert_eq!(forwarded(&headers), Some([198, 51, 100, 7].into()));
        headers.append("x-forwarded-for", HeaderValue::from_static("nonsense"));
        assert_eq!(forwarded(&headers), None);
    }
}
