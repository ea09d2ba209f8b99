//! Takes life-cycle events in: valid ones of known sessions are accepted once all their deliveries are safely queued
//! (contract section 3, "Events"). And what visitors write into forms and surveys.

mod answers;

use std::net::IpAddr;

use axum::{
    Router,
    extract::State as Extract,
    response::Response,
    routing::{post, put},
};
use domain::{event::Event, id::EventId, limit::Scope, time::Timestamp};
use edge::{
    env::{self, Env, StartError},
    extract::{Bearer, CdnProof, ClientIp, Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use store::{Aws, Events, Limiter, Queue, Store, Verifier, token_keys::Visitor};

/// What the function holds between requests.
#[derive(Clone)]
pub struct State {
    store: Store,
    events: Events,
    verifier: Verifier,
    limiter: Limiter,
    cdn: Option<CdnProof>,
}

impl State {
    /// Reads the configuration, and the keys that tokens are verified with.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let queue = Queue::open(aws, env.required::<String>(env::DELIVERY_QUEUE_URL)?);
        let limiter = Limiter::open(store.clone(), Scope::Events, env.limits(Scope::Events)?);
        let cdn = env.optional(env::CDN_PROOF_SHA256)?;
        let verifier = Verifier::open(store.clone());
        verifier.prepare(edge::clock::now()).await;
        Ok(Self { events: Events::open(store.clone(), queue), verifier, limiter, store, cdn })
    }

    /// Whose session it is that asks, within the limits of its address and its app.
    async fn visitor(&self, ip: IpAddr, bearer: Result<Bearer, Problem>, now: Timestamp) -> Result<Visitor, Problem> {
        self.limiter.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
        let verified = self.verifier.verify(&bearer?.0, now).await.map_err(Problem::unavailable)?;
        let visitor = verified.map_err(Problem::token_refused)?;
        let app = visitor.session().app;
        self.limiter.admit_app(app, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
        Ok(visitor)
    }
}

/// The function's routes.
pub fn router(state: State) -> Router {
    let cdn = state.cdn.clone();
    let routes = Router::new()
        .route("/v1/events", post(accept))
        .route("/v1/form", put(answers::form))
        .route("/v1/surveys", post(answers::survey));
    reply::bordered(routes.with_state(state), cdn)
}

/// What the widget is told: the event's id, and to how many integrations it is on its way.
#[derive(Serialize)]
struct Accepted {
    id: EventId,
    deliveries: usize,
}

async fn accept(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    bearer: Result<Bearer, Problem>,
    body: Result<Json<Value>, Problem>,
) -> Result<Response, Problem> {
    let visitor = state.visitor(ip, bearer, now).await?;
    let session = visitor.session();
    let Json(body) = body?;
    let event = Event::parse(&body).map_err(Problem::fields)?;
    let envelope = event.envelope(&session.context);
    let trace = edge::trace::begin(session.id);
    let deliveries = state.events.accept(session, &envelope, trace, now).await.map_err(Problem::unavailable)?;
    tracing::info!(
        app = %session.app, session = %session.id, event.id = %envelope.id, event.name = %envelope.name,
        preview = session.preview, deliveries, trace = trace.map(display), "event.accepted"
    );
    Ok(reply::data(StatusCode::ACCEPTED, now, Accepted { id: envelope.id, deliveries }))
}
