//! The media server. It serves its health today; calls come with the media plane. Until then every request for a call is
//! refused with `unavailable`, so that the widget tells its visitor the truth.

pub mod browser;
pub mod call;
pub mod codes;
pub mod control;
pub mod quality;
pub mod rtp;
pub mod sip;

use std::sync::Arc;

use axum::{
    Router,
    extract::State as Extract,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge::{
    env::{self, Env, StartError},
    extract::{Bearer, Now},
    problem::Problem,
    reply,
};
use http::{HeaderValue, StatusCode, header};
use store::{Aws, Store, Verifier};

/// What the server holds.
#[derive(Clone)]
pub struct State {
    verifier: Verifier,
    widget_origin: Arc<HeaderValue>,
}

impl State {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let origin = env.origin(env::WIDGET_ORIGIN)?;
        let widget_origin = HeaderValue::from_str(&origin)
            .map_err(|why| StartError::Invalid { var: env::WIDGET_ORIGIN, why: why.to_string() })?;
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        Ok(Self { verifier: Verifier::open(store), widget_origin: Arc::new(widget_origin) })
    }
}

/// The server's routes. Browsers call from the widget host and no other origin.
pub fn router(state: State) -> Router {
    let origin = state.widget_origin.clone();
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/calls", post(refuse).options(preflight))
        .with_state(state);
    reply::bordered(routes, None).layer(axum::middleware::map_response(move |mut response: Response| {
        let origin = origin.clone();
        async move {
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, (*origin).clone());
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
            response
        }
    }))
}

async fn preflight() -> impl IntoResponse {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed)
}

async fn refuse(Extract(state): Extract<State>, Now(now): Now, bearer: Result<Bearer, Problem>) -> Problem {
    let token = match bearer {
        Ok(token) => token,
        Err(problem) => return problem,
    };
    match state.verifier.verify(&token.0, now).await {
        Ok(Ok(_)) => Problem::unavailable("no media plane is built in"),
        Ok(Err(refusal)) => Problem::token_refused(refusal),
        Err(error) => Problem::unavailable(error),
    }
}
