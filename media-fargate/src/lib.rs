//! The media server: ends the browser's `WebRTC` and calls the contact centre over SIP.
//!
//! [`signal`] takes calls in and [`calls`] knows those that run; each is a task of its own ([`bridge`]) that owns a leg to
//! the browser ([`browser`]) and one to the trunk ([`sip`]), asks [`call`] what to do and passes audio between them
//! ([`path`], [`rtp`]). [`record`] writes down what became of it. Where the server stands, [`address`] finds out; calls that
//! another one runs are that one's ([`forward`]), and those of one that died are settled by the others ([`fleet`]).

pub mod address;
pub mod bridge;
pub mod browser;
pub mod call;
pub mod calls;
pub mod codes;
pub mod control;
pub mod fleet;
pub mod forward;
pub mod metrics;
pub mod path;
pub mod protection;
pub mod quality;
pub mod record;
pub mod rtp;
pub mod serve;
pub mod signal;
pub mod sip;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::{Deref, RangeInclusive},
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
    metric::Place,
    problem::{Kind, Problem},
    reply,
};
use http::{HeaderMap, HeaderValue, header};
use store::{Aws, Events, Limiter, Queue, Store, Vault, Verifier};

use crate::{browser::WebRtc, calls::Calls, fleet::Fleet, forward::Owner, metrics::Metrics, sip::Agent};

/// Calls that a server of two processors carries: audio that passes through takes 1.1 of them (README, "What a call takes").
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
    /// For requests about calls that run. They weigh what events do, and like those go on when the table is away: nobody
    /// is kept from hanging up.
    changes: Limiter,
    store: Store,
    vault: Vault,
    events: Events,
    browsers: WebRtc,
    trunks: Agent,
    calls: Calls,
    fleet: Fleet,
    metrics: Metrics,
    widget_origin: HeaderValue,
    /// Names this process in the rows of its calls.
    owner: Owner,
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
    /// Reads the configuration, finds out where the server stands and opens the sockets for SIP. [`private_router`] is served
    /// at `private`.
    ///
    /// # Errors
    /// When a variable is missing or wrong, or a socket cannot be had.
    pub async fn open(env: &Env, aws: &Aws, private: SocketAddr) -> Result<Self, StartError> {
        let origin = env.origin(env::WIDGET_ORIGIN)?;
        let widget_origin = HeaderValue::from_str(&origin)
            .map_err(|why| StartError::Invalid { var: env::WIDGET_ORIGIN, why: why.to_string() })?;
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let queue = Queue::open(aws, env.required::<String>(env::DELIVERY_QUEUE_URL)?);
        let vault = Vault::open(aws, env.required::<String>(env::KMS_KEY_ID)?);
        let limiter = |scope| Ok::<_, StartError>(Limiter::open(store.clone(), scope, env.limits(scope)?));
        let (limiter, changes) = (limiter(Scope::Calls)?, limiter(Scope::Events)?);
        let ports = ports(env)?;
        // What takes time comes after what can be wrong.
        let public = address::public(env).await?;
        let private = address::private(env, private).await?;
        let owner = Owner::new(private, chance::hex::<16>())
            .map_err(|why| StartError::Invalid { var: env::MEDIA_PRIVATE_URL, why: why.to_string() })?;
        let trunks = trunks(env, &public, ports.rtp).await?;
        sip::health::start(store.clone(), &trunks, chance::hex::<8>(), sip::health::Pace::default());
        let browsers = browser::Config { public, ports: ports.browsers, ..browser::Config::new(addresses(env)?) };
        let state = Self(Arc::new(Inside {
            verifier: Verifier::open(store.clone()),
            limiter,
            changes,
            vault,
            events: Events::open(store.clone(), queue),
            store,
            browsers: WebRtc::new(browsers).map_err(unavailable)?,
            trunks,
            calls: Calls::new(env.optional(env::MEDIA_CAPACITY)?.unwrap_or(CAPACITY)),
            fleet: Fleet::default(),
            metrics: Metrics::default(),
            widget_origin,
            owner,
            at_once: env.optional(env::LIMIT_CALLS_AT_ONCE)?.unwrap_or(domain::call::AT_ONCE),
            balanced: env.optional(env::MEDIA_BALANCED)?.unwrap_or(false),
        }));
        fleet::start(&state, fleet::Pace::default());
        Ok(state)
    }

    /// The calls that run here.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Where other media servers are told to ask.
    pub fn private(&self) -> SocketAddr {
        self.owner.at()
    }

    /// Calls that would begin here now.
    fn room(&self) -> usize {
        let begins = !self.calls.is_draining() && self.trunks.works();
        if begins { self.calls.most().saturating_sub(self.calls.count()) } else { 0 }
    }

    /// What the server counts, as CloudWatch reads it out of the log.
    pub fn embedded_metrics(&self, place: Option<&Place>) -> String {
        self.metrics.embedded(&self.calls, place, edge::clock::now())
    }
}

fn unavailable(why: impl ToString) -> StartError {
    StartError::Unavailable(why.to_string())
}

/// Where browsers' media is received.
fn addresses(env: &Env) -> Result<Vec<IpAddr>, StartError> {
    let addresses: Vec<IpAddr> = env.list(env::MEDIA_ADDRESSES)?;
    Ok(if addresses.is_empty() { vec![Ipv4Addr::UNSPECIFIED.into()] } else { addresses })
}

/// Which ports media uses.
struct MediaPorts {
    browsers: Option<RangeInclusive<u16>>,
    rtp: RangeInclusive<u16>,
}

fn ports(env: &Env) -> Result<MediaPorts, StartError> {
    let browsers = env.ports(env::MEDIA_PORTS)?;
    let rtp = env.ports(env::RTP_PORTS)?.unwrap_or(30_000..=39_999);
    let shared = |range: &RangeInclusive<u16>| range.start() <= rtp.end() && rtp.start() <= range.end();
    if browsers.as_ref().is_some_and(shared) {
        let why = format!("shares ports with {}, {}-{}", env::RTP_PORTS.0, rtp.start(), rtp.end());
        return Err(StartError::Invalid { var: env::MEDIA_PORTS, why });
    }
    Ok(MediaPorts { browsers, rtp })
}

/// The endpoint for trunks.
async fn trunks(env: &Env, public: &[IpAddr], rtp_ports: RangeInclusive<u16>) -> Result<Agent, StartError> {
    let listen = env.optional(env::SIP_LISTEN)?.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060)));
    let public = public.iter().copied().find(IpAddr::is_ipv4).unwrap_or(listen.ip());
    if public.is_unspecified() {
        let why = format!("must name the address that trunks reach, or {} who tells it", env::MEDIA_STUN_SERVERS.0);
        return Err(StartError::Invalid { var: env::MEDIA_PUBLIC_ADDRESSES, why });
    }
    let dns = sip::target::system().map_err(unavailable)?;
    let config = sip::Config::new(listen, public, rtp_ports, env.reach()?, Arc::new(dns));
    Agent::start(config).await.map_err(unavailable)
}

/// What browsers and a load balancer ask, to be served with the peer's address as connect info. Browsers call from the
/// widget host and no other origin.
pub fn router(state: State) -> Router {
    let routes = signal::routes()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(state.clone());
    reply::bordered(routes, None)
        .layer(middleware::from_fn_with_state(state.clone(), client))
        .layer(middleware::map_response_with_state(state, allow_widget))
}

/// What other media servers ask about calls of this one, and the metrics; to be served with the peer's address as connect
/// info, at an address where no balancer and no browser leads. Who comes from elsewhere than a private network finds
/// nothing.
pub fn private_router(state: State) -> Router {
    let routes = signal::private_routes().route("/metrics", get(numbers)).with_state(state.clone());
    reply::bordered(routes.layer(middleware::from_fn(only_private)), None)
        .layer(middleware::map_response_with_state(state, name_process))
}

/// Whether new calls may come: what a load balancer asks.
async fn ready(Extract(state): Extract<State>) -> Result<&'static str, Problem> {
    (state.room() > 0)
        .then_some("ready\n")
        .ok_or_else(|| Problem::new(Kind::Unavailable, "No call can begin here now."))
}

async fn numbers(Extract(state): Extract<State>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], state.metrics.text(&state.calls)).into_response()
}

fn connected(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical())
}

async fn only_private(request: Request, next: middleware::Next) -> Response {
    if connected(&request).is_some_and(forward::is_private) {
        return next.run(request).await;
    }
    Problem::not_found("address here").into_response()
}

/// Says which process answers ([`forward`]).
async fn name_process(Extract(state): Extract<State>, mut response: Response) -> Response {
    if let Ok(process) = HeaderValue::from_str(state.owner.process()) {
        response.headers_mut().insert(forward::PROCESS, process);
    }
    response
}

/// Who is at the other end.
async fn client(Extract(state): Extract<State>, mut request: Request, next: middleware::Next) -> Response {
    let balanced = forwarded(request.headers()).filter(|_| state.balanced);
    // Who goes round the balancer is who is connected.
    let ip = balanced.or_else(|| connected(&request));
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
