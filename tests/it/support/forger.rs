//! A provider of sign-ins that does as the test says, and otherwise what OpenID Connect asks for: it holds whoever redeems
//! a code to the verifier, the client and the address that the code was asked for with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use axum::{
    Form, Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The client that codes are for.
pub const CLIENT: &str = "console";

/// How the token endpoint answers a code that is in order.
#[derive(Clone, Debug, Default)]
pub enum Tokens {
    /// With an ID token.
    #[default]
    Given,
    /// With one that nobody signed.
    Unsigned,
    /// With one that another key signed.
    Forged,
    /// With this, word for word.
    Word(StatusCode, String),
    /// By leading elsewhere.
    Elsewhere,
    /// Never.
    Never,
}

/// What it does next.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Claims other than the usual ones; `null` leaves one out.
    pub claims: Value,
    /// How it gives tokens.
    pub tokens: Tokens,
    /// What it says of itself otherwise.
    pub configuration: Value,
}

/// The provider. It ends with the test.
#[derive(Clone)]
pub struct Forger {
    port: u16,
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    plan: Plan,
    key: EcdsaKeyPair,
    /// By code: what the browser was sent with.
    codes: HashMap<String, BTreeMap<String, String>>,
    redeemed: u32,
    /// Redirects of the token endpoint that were followed.
    followed: u32,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key")
}

impl Forger {
    /// Starts on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inside = Inside { plan: Plan::default(), key: key(), codes: HashMap::new(), redeemed: 0, followed: 0 };
        let forger = Self { port, inside: Arc::new(Mutex::new(inside)) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/token", post(tokens))
            .route("/elsewhere", post(elsewhere).get(elsewhere))
            .with_state(forger.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        forger
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its issuer.
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Does this from now on.
    pub fn plan(&self, plan: Plan) {
        self.inside().plan = plan;
    }

    /// What somebody signs in as who came with these parameters: a code.
    pub fn code(&self, asked: &BTreeMap<String, String>) -> String {
        let mut inside = self.inside();
        let code = format!("code-{}", inside.codes.len());
        inside.codes.insert(code.clone(), asked.clone());
        code
    }

    /// How many codes were redeemed, in order or not.
    pub fn redeemed(&self) -> u32 {
        self.inside().redeemed
    }

    /// How often somebody went where the token endpoint led.
    pub fn followed(&self) -> u32 {
        self.inside().followed
    }
}

fn patched(mut document: Value, patch: &Value) -> Value {
    for (name, value) in patch.as_object().into_iter().flatten() {
        document[name] = value.clone();
    }
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    document
}

async fn configuration(State(forger): State<Forger>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", forger.issuer());
    let plain = json!({
        "issuer": forger.issuer(), "authorization_endpoint": at("/login?tenant=7"), "token_endpoint": at("/token"),
        "jwks_uri": at("/keys"), "end_session_endpoint": at("/logout"),
    });
    Json(patched(plain, &forger.inside().plan.configuration))
}

async fn keys(State(forger): State<Forger>) -> Json<Value> {
    let inside = forger.inside();
    let point = inside.key.public_key().as_ref();
    Json(json!({"keys": [
        {"kty": "OKP", "crv": "Ed448", "kid": "newer", "x": "AAAA"},
        {"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "x": encode(&point[1..33]), "y": encode(&point[33..])},
    ]}))
}

async fn elsewhere(State(forger): State<Forger>) {
    forger.inside().followed += 1;
}

async fn tokens(State(forger): State<Forger>, Form(form): Form<BTreeMap<String, String>>) -> Response {
    let (plan, asked) = {
        let mut inside = forger.inside();
        inside.redeemed += 1;
        (inside.plan.clone(), form.get("code").and_then(|code| inside.codes.remove(code)))
    };
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let Some(asked) = asked else { return refused("invalid_grant") };
    let hash = |text: &str| encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let same = |name: &str| form.get(name) == asked.get(name);
    let verifier = form.get("code_verifier").map(|verifier| hash(verifier));
    if verifier.as_ref() != asked.get("code_challenge") || !same("redirect_uri") || !same("client_id") {
        return refused("invalid_grant");
    }
    let token = |unsigned: bool, key: &EcdsaKeyPair| {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
        let usual = json!({
            "iss": forger.issuer(), "sub": "0001", "aud": CLIENT, "iat": now, "exp": now + 300,
            "nonce": asked.get("nonce"), "email": "ann@example.com", "email_verified": true,
            "cognito:groups": ["staff", "editor"],
        });
        let header = if unsigned { json!({"alg": "none"}) } else { json!({"alg": "ES256", "kid": "1"}) };
        let claims = patched(usual, &plan.claims);
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        if unsigned {
            return format!("{message}.");
        }
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).expect("signed");
        format!("{message}.{}", encode(signature.as_ref()))
    };
    let given =
        |token: String| Json(json!({"token_type": "Bearer", "access_token": "x", "id_token": token})).into_response();
    match &plan.tokens {
        Tokens::Given => given(token(false, &forger.inside().key)),
        Tokens::Unsigned => given(token(true, &forger.inside().key)),
        Tokens::Forged => given(token(false, &key())),
        Tokens::Word(status, text) => {
            (*status, [(header::CONTENT_TYPE, "application/json")], text.clone()).into_response()
        }
        Tokens::Elsewhere => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Tokens::Never => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            StatusCode::OK.into_response()
        }
    }
}
