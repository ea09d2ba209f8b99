//! The management API and the console's pages (contract section 6). A file a resource; `operator` makes the only proof of
//! permission, `access` says what each role may do with it.

mod access;
mod apps;
mod audit;
mod buttons;
mod calls;
mod custom_code;
mod deliveries;
mod design;
mod embed;
mod form;
mod hours;
mod integrations;
mod list;
mod oidc;
mod openapi;
mod operator;
mod operators;
mod pages;
mod profiles;
mod retention;
mod secrets;
mod signing;
mod survey;
mod trial;

use std::sync::Arc;

use axum::{
    Router,
    routing::{MethodRouter, delete, get, post},
};
use domain::{limit::Scope, reach::Reach};
use edge::{
    env::{self, Env, StartError},
    extract::CdnProof,
    reply,
};
use store::{Aws, Limiter, Queue, Store, Vault};

pub use operator::{hash, mint_token};

/// What the function holds between requests.
#[derive(Clone)]
pub struct State {
    store: Store,
    queue: Queue,
    vault: Vault,
    /// One reveal at a time: who comes second finds the first one's mark, and asks the key service for nothing.
    revealing: Arc<tokio::sync::Mutex<()>>,
    place: Arc<Place>,
    /// Whom people may sign in with, when the deployment names one.
    provider: Option<Arc<oidc::Provider>>,
    sign_ins: Limiter,
    cdn: Option<CdnProof>,
}

/// What the console knows about its deployment.
struct Place {
    widget_origin: String,
    console_origin: String,
    reach: Reach,
    own_hosts: Vec<String>,
}

impl State {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let widget_origin = env.origin(env::WIDGET_ORIGIN)?;
        let console_origin = env.origin(env::CONSOLE_ORIGIN)?;
        let origins = [&widget_origin, &console_origin, &env.origin(env::CODE_ORIGIN)?, &env.origin(env::MEDIA_URL)?];
        let own_hosts = origins.into_iter().map(|origin| host(origin).to_owned()).collect();
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        Ok(Self {
            provider: oidc::Provider::open(env, &console_origin)?.map(Arc::new),
            sign_ins: Limiter::open(store.clone(), Scope::SignIn, env.limits(Scope::SignIn)?),
            store,
            queue: Queue::open(aws, env.required::<String>(env::DELIVERY_QUEUE_URL)?),
            vault: Vault::open(aws, env.required::<String>(env::KMS_KEY_ID)?),
            revealing: Arc::default(),
            place: Arc::new(Place { widget_origin, console_origin, reach: env.reach()?, own_hosts }),
            cdn: env.optional(env::CDN_PROOF_SHA256)?,
        })
    }
}

/// The host in an origin.
fn host(origin: &str) -> &str {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

/// Routes and, beside them, their paths: a router does not tell.
struct Routes {
    router: Router<State>,
    paths: Vec<String>,
}

impl Routes {
    fn new() -> Self {
        Self { router: Router::new(), paths: Vec::new() }
    }

    fn route(mut self, path: &str, methods: MethodRouter<State>) -> Self {
        self.paths.push(path.to_owned());
        Self { router: self.router.route(path, methods), ..self }
    }

    fn nest(mut self, prefix: &str, inner: Self) -> Self {
        self.paths.extend(inner.paths.iter().map(|path| format!("{prefix}{}", path.trim_end_matches('/'))));
        Self { router: self.router.nest(prefix, inner.router), ..self }
    }
}

/// The paths of the management API, as the router has them.
pub fn api_paths() -> Vec<String> {
    routes().paths.into_iter().filter(|path| path.starts_with("/api/")).collect()
}

/// The function's routes.
pub fn router(state: State) -> Router {
    let cdn = state.cdn.clone();
    let management = routes().router.with_state(state.clone());
    reply::bordered(management.clone().merge(pages::router(state, management)), cdn)
}

fn routes() -> Routes {
    let one_app = Routes::new()
        .route("/", get(apps::read).patch(apps::change).delete(apps::delete))
        .route("/rotate-key", post(apps::rotate_key))
        .route("/provider", get(apps::read_provider).put(apps::put_provider).delete(apps::delete_provider))
        .route("/hours", get(hours::read).put(hours::put))
        .route("/profiles", get(profiles::list).post(profiles::create))
        .route("/profiles/{profile}", get(profiles::read).patch(profiles::change).delete(profiles::delete))
        .route("/integrations", get(integrations::list).post(integrations::create))
        .route(
            "/integrations/{integration}",
            get(integrations::read).patch(integrations::change).delete(integrations::delete),
        )
        .route("/integrations/{integration}/activate", post(integrations::activate))
        .route("/integrations/{integration}/deactivate", post(integrations::deactivate))
        .route("/integrations/{integration}/resend", post(deliveries::resend_since))
        .route("/integrations/{integration}/test", post(trial::test))
        .route("/integrations/{integration}/secrets", get(secrets::list))
        .route(
            "/integrations/{integration}/secrets/{secret}",
            get(secrets::read).put(secrets::put).delete(secrets::delete),
        )
        .route("/integrations/{integration}/secrets/{secret}/reveal", post(secrets::reveal))
        .route("/integrations/{integration}/signing-key", post(signing::rotate))
        .route("/audit", get(audit::list))
        .route("/calls", get(calls::list))
        .route("/calls/{call}", get(calls::read).delete(calls::erase))
        .route("/surveys", get(survey::list))
        .route("/design", get(design::read).put(design::put))
        .route("/design/publish", post(design::publish))
        .route("/design/preview", post(design::preview))
        .route("/design/versions", get(design::versions))
        .route("/design/versions/{version}", get(design::version))
        .route("/design/versions/{version}/restore", post(design::restore))
        .route("/form", get(form::read).put(form::put))
        .route("/survey", get(survey::read).put(survey::put))
        .route("/buttons", get(buttons::read).put(buttons::put))
        .route("/embed", get(embed::read).put(embed::put))
        .route("/custom-code", get(custom_code::read).put(custom_code::put))
        .route("/retention", get(retention::read).put(retention::put))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{delivery}", get(deliveries::read))
        .route("/deliveries/{delivery}/resend", post(deliveries::resend));
    Routes::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/v1/openapi.json", get(openapi::serve))
        .route("/api/v1/apps", get(apps::list).post(apps::create))
        .nest("/api/v1/apps/{app}", one_app)
        .route("/api/v1/audit", get(audit::list_deployment))
        .route("/api/v1/operators", get(operators::list).post(operators::create))
        .route("/api/v1/operators/{operator}", delete(operators::delete))
        .route("/sign-in", get(pages::sign_in::show).post(pages::sign_in::enter_token))
        .route("/sign-in/provider", get(pages::provider::begin))
        .route("/sign-in/callback", get(pages::provider::end))
        .route("/sign-out", post(pages::sign_in::sign_out))
}
