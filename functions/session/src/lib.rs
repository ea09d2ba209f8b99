//! Session tokens for visitors: whether an embed may have one, and what it says (contract section 3).

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::State as Extract,
    response::{IntoResponse, Response},
    routing::post,
};
use domain::{
    context::Context,
    design::{Published, preview::PreviewKey},
    hours::{self, Closed, Opening},
    id::{AppId, DestinationId, SessionId},
    limit::{Scope, shorten},
    profile::Profile,
    session::{Session, parse_routing_key},
    time::Timestamp,
    token::SigningKey,
    turn::{IceServer, Relays},
};
use edge::{
    chance,
    env::{self, Env, StartError},
    extract::{Bearer, CdnProof, ClientIp, Json, Now},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize, de::Visitor};
use store::{Aws, Limiter, Store, Vault, Verifier, visits::Wanted};

/// A process that lives long looks this often whether its key is due for rotation.
const KEY_LOOKED_AT_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// What the function holds between requests.
#[derive(Clone)]
pub struct State {
    store: Store,
    vault: Vault,
    verifier: Verifier,
    limiter: Limiter,
    media_url: Arc<str>,
    relays: Option<Arc<Relays>>,
    code_origin: Arc<str>,
    cdn: Option<CdnProof>,
    key: Arc<RwLock<HeldKey>>,
}

struct HeldKey {
    key: Arc<SigningKey>,
    looked_at: Timestamp,
}

impl State {
    /// Reads the configuration and unwraps the signing key, once.
    ///
    /// # Errors
    /// When a variable is missing, or the key cannot be had.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let vault = Vault::open(aws, env.required::<String>(env::KMS_KEY_ID)?);
        let limiter = Limiter::open(store.clone(), Scope::Session, env.limits(Scope::Session)?);
        let media_url = env.origin(env::MEDIA_URL)?.into();
        let relays = env.relays()?.map(Arc::new);
        let code_origin = env.origin(env::CODE_ORIGIN)?.into();
        let cdn = env.optional(env::CDN_PROOF_SHA256)?;
        let now = edge::clock::now();
        let key = store.signing_key(&vault, now, &chance::bytes()).await;
        let key = Arc::new(key.map_err(|error| StartError::Unavailable(error.to_string()))?);
        let verifier = Verifier::open(store.clone());
        let key = Arc::new(RwLock::new(HeldKey { key, looked_at: now }));
        Ok(Self { store, vault, verifier, limiter, media_url, relays, code_origin, cdn, key })
    }

    /// The key to sign with. When the table or the key service is away, the one at hand goes on.
    async fn signing_key(&self, now: Timestamp) -> Arc<SigningKey> {
        {
            let held = self.key.read().unwrap_or_else(PoisonError::into_inner);
            if now.since(held.looked_at) < KEY_LOOKED_AT_EVERY {
                return held.key.clone();
            }
        }
        let looked = self.store.signing_key(&self.vault, now, &chance::bytes()).await;
        let mut held = self.key.write().unwrap_or_else(PoisonError::into_inner);
        held.looked_at = now;
        match looked {
            Ok(key) => held.key = Arc::new(key),
            Err(error) => tracing::warn!(cause = %error, "token_key.not_renewed"),
        }
        held.key.clone()
    }

    /// Where calls go, and relays on the way for as long as a call may need them.
    fn media(&self, now: Timestamp) -> Media<'_> {
        let relays = self.relays.iter().map(|relays| relays.lend(now, &chance::bytes()));
        Media { url: &self.media_url, ice_servers: relays.collect() }
    }
}

/// The function's routes.
pub fn router(state: State) -> Router {
    let cdn = state.cdn.clone();
    let routes = Router::new().route("/v1/sessions", post(create)).route("/v1/sessions/renew", post(renew));
    reply::bordered(routes.with_state(state), cdn)
}

/// `POST /v1/sessions`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    app_id: String,
    widget_key: String,
    #[serde(default)]
    profile_id: Option<String>,
    #[serde(default)]
    routing_key: Option<String>,
    #[serde(default)]
    context: Option<Context>,
    #[serde(default)]
    preview: Preview,
}

/// What `preview` asks for: `true` marks the session's events as those of a preview, a preview's key shows the draft too.
#[derive(Default)]
enum Preview {
    #[default]
    No,
    Published,
    Draft(String),
}

impl<'de> Deserialize<'de> for Preview {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagOrKey;

        impl Visitor<'_> for FlagOrKey {
            type Value = Preview;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or the key of a preview")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Preview, E> {
                Ok(if flag { Preview::Published } else { Preview::No })
            }

            fn visit_str<E>(self, key: &str) -> Result<Preview, E> {
                Ok(Preview::Draft(key.to_owned()))
            }
        }

        deserializer.deserialize_any(FlagOrKey)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    #[serde(flatten)]
    token: Token,
    open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<Closed>,
    /// Whom a call of this session reaches: `call_started` names it.
    destination_id: Option<DestinationId>,
    media: Media<'a>,
    widget: Widget<'a>,
}

/// A fresh token, and relays that are good for as long again.
#[derive(Serialize)]
struct Renewed<'a> {
    #[serde(flatten)]
    token: Token,
    media: Media<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    session_id: SessionId,
    session_token: String,
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Media<'a> {
    url: &'a str,
    /// The media server has a public address of its own: relays are for visitors whose network lets nothing through to it.
    ice_servers: Vec<IceServer>,
}

/// The published design, and what stands beside it: nothing of it is secret, everybody may begin a session.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Widget<'a> {
    #[serde(flatten)]
    design: Published<'a>,
    custom_code: bool,
    code_origin: &'a str,
    /// Pages that are told of events.
    allowed_origins: &'a [String],
}

async fn create(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    body: Result<Json<Asked>, Problem>,
) -> Result<Response, Problem> {
    state.limiter.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let Json(asked) = body?;
    // An id that cannot be one is as unknown as one that is not there.
    let app: AppId = asked.app_id.parse().map_err(|_| Problem::app_not_found())?;
    let routing_key = asked.routing_key.as_deref().map(parse_routing_key).transpose();
    let ended = || Problem::new(Kind::Gone, "This preview has expired. Open it again from the console.");
    let preview = match &asked.preview {
        Preview::Draft(key) => Some(PreviewKey::parse(key).ok_or_else(ended)),
        Preview::No | Preview::Published => None,
    };
    let wanted = Wanted {
        // What cannot be an id is as unknown as one that is not there.
        profile: asked.profile_id.as_deref().and_then(|id| id.parse().ok()),
        routing_key: routing_key.as_ref().ok().and_then(Option::as_deref),
        preview: preview.as_ref().and_then(|key| key.as_ref().ok()),
    };
    let found = state.store.visit(app, wanted, now).await.map_err(Problem::unavailable)?;
    let found = found.ok_or_else(Problem::app_not_found)?;
    if !found.app.widget_key.admits(&asked.widget_key) {
        return Err(Problem::unauthorized("The widget key does not belong to this app."));
    }
    let profile = async {
        match asked.profile_id {
            // One that an embed names and the app does not have is a mistake.
            Some(_) => found.profile.map(Some).ok_or_else(|| Problem::not_found("profile")),
            None => profile(&state, app, found.routed).await,
        }
    };
    let (admitted, profile) = tokio::join!(state.limiter.admit_app(app, now), profile);
    admitted.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let routing_key = routing_key.map_err(Problem::field)?;
    let profile = profile?;
    // A key that opens nothing never shows what is published.
    let (version, content) = match preview.transpose()? {
        None => found.design.unwrap_or_default(),
        Some(_) => found.design.ok_or_else(ended)?,
    };
    if !found.provider.is_some_and(|provider| provider.active) {
        return Err(Problem::new(
            Kind::ProviderInactive,
            "This app has no active VoIP provider, so no call can be made.",
        ));
    }
    let closed = match hours::decide(found.hours.as_ref(), profile.as_ref().map(|profile| &profile.hours), now) {
        Opening::Open => None,
        Opening::Closed(closed) => Some(closed),
    };
    let session = Session {
        id: SessionId::mint(now, &chance::bytes()),
        app,
        profile: profile.map(|profile| profile.id),
        routing_key,
        context: asked.context.unwrap_or_default(),
        preview: !matches!(asked.preview, Preview::No),
        draft: matches!(asked.preview, Preview::Draft(_)),
    };
    let token = token(&state, &session, now).await?;
    let (open, preview) = (closed.is_none(), session.preview);
    tracing::info!(app = %app, session = %session.id, open, preview, client = shorten(ip), "session.created");
    let widget = Widget {
        design: Published::new(version, &content),
        custom_code: found.app.custom_code,
        code_origin: &state.code_origin,
        allowed_origins: &found.app.allowed_origins,
    };
    let given = Given { token, open, closed, destination_id: session.profile, media: state.media(now), widget };
    Ok(reply::data(StatusCode::CREATED, now, given))
}

/// Where the routing key or the app's default leads. A profile that is there no longer does not keep a visitor out.
async fn profile(state: &State, app: AppId, id: Option<DestinationId>) -> Result<Option<Profile>, Problem> {
    let Some(id) = id else { return Ok(None) };
    Ok(state.store.profile(app, id).await.map_err(Problem::unavailable)?.map(|found| found.profile))
}

async fn renew(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    bearer: Result<Bearer, Problem>,
) -> Result<Response, Problem> {
    state.limiter.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let verified = state.verifier.verify(&bearer?.0, now).await.map_err(Problem::unavailable)?;
    let visitor = verified.map_err(Problem::token_refused)?;
    let session = visitor.session();
    state.store.app(session.app).await.map_err(Problem::unavailable)?.ok_or_else(Problem::app_not_found)?;
    state.limiter.admit_app(session.app, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let token = token(&state, session, now).await?;
    tracing::info!(app = %session.app, session = %session.id, "session.renewed");
    let renewed = Renewed { token, media: state.media(now) };
    Ok(reply::data(StatusCode::OK, now, renewed).into_response())
}

async fn token(state: &State, session: &Session, now: Timestamp) -> Result<Token, Problem> {
    let expires_at = session
        .token_expiry(now)
        .ok_or_else(|| Problem::unauthorized("The session has lived its 8 hours; begin a new one."))?;
    let session_token = state.signing_key(now).await.sign(session, now, expires_at);
    Ok(Token { session_id: session.id, session_token, expires_at })
}
