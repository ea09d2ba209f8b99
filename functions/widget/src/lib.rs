//! The widget's host: the loader, the widget document, their assets. And the code host: customers' own code.
//!
//! What is served stands in `browser/`; build.rs makes assets of it. This file decides who gets which.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{RawQuery, State as Shared},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use domain::{app::App, custom_code::CustomCode, id::AppId, limit::Scope, time::Timestamp};
use edge::{
    env::{self, Env, StartError},
    extract::{CdnProof, ClientIp, Now, Path},
    problem::Problem,
    reply,
};
use store::{Aws, Fresh, Limiter, Store};

pub mod assets;
pub mod bundle;
pub mod code;
pub mod document;

use document::{Places, Refused};

/// A change of an app's pages shows after this long at the latest.
const FRESH: Duration = Duration::from_secs(3);

/// What the function holds while it lives.
#[derive(Clone)]
pub struct State {
    store: Store,
    apps: Fresh<AppId, Option<Arc<App>>>,
    codes: Fresh<AppId, Option<Arc<CustomCode>>>,
    limiter: Limiter,
    places: Places,
    cdn: Option<CdnProof>,
}

impl State {
    /// Opens what the function needs.
    ///
    /// # Errors
    /// When a variable is missing or cannot be used.
    #[expect(
        clippy::unused_async,
        reason = "every function is opened the same way, and most have something to wait for"
    )]
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let ancestors = env.text(env::DEFAULT_FRAME_ANCESTORS).unwrap_or_else(|| "https:".to_owned());
        Ok(Self {
            limiter: Limiter::open(store.clone(), Scope::Widget, env.limits(Scope::Widget)?),
            store,
            apps: Fresh::new(FRESH),
            codes: Fresh::new(FRESH),
            places: Places {
                widget: env.origin(env::WIDGET_ORIGIN)?,
                code: env.origin(env::CODE_ORIGIN)?,
                media: env.text(env::MEDIA_URL),
                ancestors: ancestors.split_whitespace().map(str::to_owned).collect(),
            },
            cdn: env.optional(env::CDN_PROOF_SHA256)?,
        })
    }
}

impl State {
    /// An app; one that is not there is asked for again each time.
    async fn app(&self, app: AppId, now: Timestamp) -> Result<Option<Arc<App>>, store::Error> {
        let read = async { Ok(self.store.app(app).await?.map(Arc::new)) };
        let found = self.apps.get(app, now, read).await?;
        if found.is_none() {
            self.apps.forget(&app);
        }
        Ok(found)
    }
}

/// The routes of the widget's host that need no session, and the one of the code host.
pub fn router(state: State) -> Router {
    let cdn = state.cdn.clone();
    let routes = Router::new()
        .route("/embed.js", get(|request: HeaderMap| async move { assets::loader(&request) }))
        .route("/widget/{app_id}", get(widget))
        .route("/a/{hash}/{file}", get(asset))
        .route("/code/{app_id}", get(custom_code))
        .route("/healthz", get(|| async { (StatusCode::OK, "ok") }))
        .with_state(state);
    reply::bordered(routes, cdn)
}

async fn asset(path: Result<Path<(String, String)>, Problem>, request: HeaderMap) -> Response {
    let found = path.ok().and_then(|Path((hash, file))| assets::asset(&hash, &file, &request));
    found.unwrap_or_else(|| Problem::not_found("asset").into_response())
}

/// The document; whatever is wrong, the visitor sees a screen inside the frame and never a bare error.
async fn widget(
    Shared(state): Shared<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    path: Result<Path<String>, Problem>,
    RawQuery(query): RawQuery,
    request: HeaderMap,
) -> Response {
    let refused = |why| document::refused(&state.places, why);
    if let Err(exceeded) = state.limiter.admit_ip(ip, now).await {
        return refused(Refused::TooMany(exceeded, now));
    }
    // Escapes that are no UTF-8 lead to no app either.
    let app = path.ok().and_then(|Path(app)| app.parse::<AppId>().ok());
    let Some(app) = app else { return refused(Refused::UnknownApp) };
    let app = match state.app(app, now).await {
        Ok(Some(app)) => app,
        Ok(None) => return refused(Refused::UnknownApp),
        Err(error) => {
            tracing::error!(app.id = %app, cause = %error, "widget.unavailable");
            return refused(Refused::Unavailable);
        }
    };
    if let Err(exceeded) = state.limiter.admit_app(app.id, now).await {
        return refused(Refused::TooMany(exceeded, now));
    }
    let lang = document::language(query.as_deref(), app.lang);
    document::document(&state.places, &app.frame_ancestors, lang, &request)
}

/// A customer's own code. It belongs to a load of the widget: it counts for the address, and not for the app again.
async fn custom_code(
    Shared(state): Shared<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    path: Result<Path<String>, Problem>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    state.limiter.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let app: AppId = path?.0.parse().map_err(|_| Problem::app_not_found())?;
    let app = state.app(app, now).await.map_err(Problem::unavailable)?.ok_or_else(Problem::app_not_found)?;
    let missing = || Problem::not_found("custom code");
    if !app.custom_code {
        return Err(missing());
    }
    let read = async { Ok(state.store.custom_code(app.id).await?.map(Arc::new)) };
    let code = state.codes.get(app.id, now, read).await.map_err(Problem::unavailable)?.ok_or_else(missing)?;
    Ok(code::document(&state.places, &app.frame_ancestors, &code, &request))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, header};
    use edge::extract::Peer;
    use store::Endpoints;
    use tower::ServiceExt;

    use super::*;

    /// A router whose table is not there: enough for everything that does not ask it.
    async fn answer(path: &str) -> Response {
        let nowhere = "http://127.0.0.1:1".to_owned();
        let aws = Aws::local(Endpoints { dynamodb: nowhere.clone(), sqs: nowhere.clone(), kms: nowhere });
        let env = Env::from_pairs([
            ("C2C_TABLE", "t"),
            ("C2C_WIDGET_ORIGIN", "http://localhost:1"),
            ("C2C_CODE_ORIGIN", "http://code.localhost:1"),
        ]);
        let state = State::open(&env, &aws).await.expect("the variables are set");
        let mut request = Request::get(path).body(Body::empty()).expect("a request");
        request.extensions_mut().insert(Peer([127, 0, 0, 1].into()));
        router(state).oneshot(request).await.expect("routers do not fail")
    }

    #[tokio::test]
    async fn routes_answer() {
        for (path, status) in [
            ("/embed.js".to_owned(), 200),
            (format!("/a/{}/main.js", assets::HASH), 200),
            (format!("/a/{}/call.js", assets::HASH), 200),
            (format!("/a/{}/ar.js", assets::HASH), 200),
            (format!("/a/{}/widget.css", assets::HASH), 200),
            (format!("/a/{}/widget.html", assets::HASH), 404),
            ("/a/0/main.js".to_owned(), 404),
            ("/healthz".to_owned(), 200),
            ("/widget/nonsense".to_owned(), 404),
            ("/widget/%3Cscript%3E".to_owned(), 404),
            ("/code/nonsense".to_owned(), 404),
            ("/code/app_01jd0000000000000000000000".to_owned(), 503),
        ] {
            assert_eq!(answer(&path).await.status(), status, "{path}");
        }
    }

    #[tokio::test]
    async fn a_table_that_is_away_is_a_screen_that_asks_to_try_again() {
        let answer = answer("/widget/app_01jd0000000000000000000000").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    }

    /// Every event that the widget's state machine reports is one that the server takes: both read these vectors.
    #[test]
    fn the_server_takes_what_the_widget_reports() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/states.json")).expect("vectors");
        let events = vectors.as_array().expect("a list").iter().flat_map(|vector| vector["events"].as_array());
        let mut names = std::collections::BTreeSet::new();
        for event in events.flatten() {
            let body = serde_json::json!({
                "id": event.get("id").unwrap_or(&"evt_01jd3v9zk0abcdefghjkmnpqrs".into()), "name": event["name"],
                "data": event["data"], "timestamp": "2026-01-31T12:00:00.000Z",
            });
            let event = domain::event::Event::parse(&body).expect("an event of the contract");
            names.insert(event.name());
        }
        assert_eq!(names.len(), domain::event::EventName::ALL.len(), "{names:?}");
    }

    /// The loader's button says what the widget's own does.
    #[test]
    fn the_loaders_button_speaks_the_widgets_languages() {
        for (name, _) in assets::DOCUMENTS.iter().filter(|(name, _)| *name != "en") {
            let lang = domain::design::Lang::of_tag(name).expect("a language");
            let file = assets::ASSETS.iter().find(|asset| asset.name == format!("{name}.js")).expect("its file");
            let text = std::str::from_utf8(file.plain).expect("text");
            assert!(text.contains(&format!("\ncall: \"{}\",", domain::embed::call_us(lang))), "{name}");
        }
    }

    /// The widget cleans the context by the same rules as the server: both read these vectors.
    #[test]
    fn the_server_cleans_context_as_the_widget_does() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/context.json")).expect("vectors");
        for vector in vectors.as_array().expect("a list") {
            let query = vector["query"].as_str().expect("a query").as_bytes();
            let pairs: Vec<_> = url::form_urlencoded::parse(query).into_owned().collect();
            let (context, losses) =
                domain::context::Context::sanitise(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
            let expected = serde_json::json!({ "context": context, "dropped": losses.dropped, "cut": losses.cut });
            assert_eq!(expected, vector["expected"], "{}", vector["name"]);
        }
    }
}
