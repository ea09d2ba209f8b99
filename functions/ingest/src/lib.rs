//! Takes life-cycle events in: valid ones of known sessions are accepted once all their deliveries are safely queued
//! (contract section 3, "Events").

use axum::{Router, extract::State as Extract, response::Response, routing::post};
use domain::{event::Event, id::EventId, limit::Scope};
use edge::{
    env::{self, Env, StartError},
    extract::{Bearer, CdnProof, ClientIp, Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use store::{Aws, Events, Limiter, Queue, Store, Verifier};

/// What the function holds between requests.
#[derive(Clone)]
pub struct State {
    events: Events,
    verifier: Verifier,
    limiter: Limiter,
    cdn: Option<CdnProof>,
}

impl State {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let queue = Queue::open(aws, env.required::<String>(env::DELIVERY_QUEUE_URL)?);
        Ok(Self {
            events: Events::open(store.clone(), queue),
            verifier: Verifier::open(store.clone()),
            limiter: Limiter::open(store, Scope::Events, env.limits(Scope::Events)?),
            cdn: env.optional(env::CDN_PROOF_SHA256)?,
        })
    }
}

/// The function's routes.
pub fn router(state: State) -> Router {
    let cdn = state.cdn.clone();
    reply::bordered(Router::new().route("/v1/events", post(accept)).with_state(state), cdn)
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
    state.limiter.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let verified = state.verifier.verify(&bearer?.0, now).await.map_err(Problem::unavailable)?;
    let visitor = verified.map_err(Problem::token_refused)?;
    let session = visitor.session();
    state.limiter.admit_app(session.app, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let Json(body) = body?;
    let event = Event::parse(&body).map_err(Problem::fields)?;
    let envelope = event.envelope(&session.context);
    let deliveries = state.events.accept(session, &envelope, now).await.map_err(Problem::unavailable)?;
    tracing::info!(
        app = %session.app, session = %session.id, event.id = %envelope.id, event.name = %envelope.name,
        preview = session.preview, deliveries, "event.accepted"
    );
    Ok(reply::data(StatusCode::ACCEPTED, now, Accepted { id: envelope.id, deliveries }))
}
