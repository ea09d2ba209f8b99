//! Signing in by OpenID Connect with the one provider that the deployment names: a code with PKCE, a state and a nonce, all
//! made of one secret that only the browser has. Decides where the browser is sent, whom the answer vouches for, and what
//! they may do. No token of the provider's is kept.

mod client;
mod id_token;

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use domain::{
    id::{Entropy, OperatorId},
    operator::Role,
    time::Timestamp,
};
use edge::{
    chance,
    env::{self, Env, StartError, Var},
};
use http::StatusCode;
use serde::Deserialize;
use url::{Host, Url};

pub(crate) use client::Away;
use client::Client;
use id_token::{Claims, Expected, Keys};

use crate::{operator::hash, operators};

/// How long what the provider says of itself is believed, in seconds.
const FRESH: u64 = 600;
const DEFAULT_SCOPE: &str = "openid email";
const DEFAULT_CLAIM: &str = "cognito:groups";
/// Characters of a code; longer ones are no provider's.
const MAX_CODE: usize = 4096;

/// The provider, as configured.
pub(crate) struct Provider {
    issuer: String,
    client_id: String,
    scope: String,
    groups_claim: String,
    group_prefix: String,
    redirect_uri: String,
    signed_out_uri: String,
    client: Client,
    known: Mutex<Option<(Timestamp, Arc<Metadata>)>>,
}

/// What the provider says of itself (OpenID Connect Discovery 1.0, RP-Initiated Logout 1.0, RFC 9207).
#[derive(Clone, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    end_session_endpoint: Option<Url>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Metadata {
    fn endpoints(&self) -> impl Iterator<Item = &Url> {
        [&self.authorization_endpoint, &self.token_endpoint, &self.jwks_uri]
            .into_iter()
            .chain(&self.end_session_endpoint)
    }
}

/// Whom the provider vouches for.
pub(crate) struct Person {
    /// Of one issuer and subject always the same.
    pub(crate) id: OperatorId,
    /// Who it is, for the audit log.
    pub(crate) name: String,
    /// What their groups make them; none of those may make them nothing.
    pub(crate) role: Option<Role>,
}

/// Why nobody was vouched for.
pub(crate) enum Failure {
    /// The provider is not there, or not well.
    Away(Away),
    /// The answer is not one to this browser's question, or was used before: another try may do.
    Stale(&'static str),
    /// The answer must not be believed, or the provider does not know us: another try will not help.
    Refused(String),
}

impl From<Away> for Failure {
    fn from(away: Away) -> Self {
        Self::Away(away)
    }
}

/// What comes back with the browser.
#[derive(Default, Deserialize)]
pub(crate) struct Answer {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

/// A secret of one sign-in, which the browser keeps in a cookie. State, nonce and PKCE's verifier are hashes of it: who
/// sees one of them in an address knows neither the secret nor the others.
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new() -> Self {
        Self(chance::hex::<32>())
    }

    /// Out of a cookie: anything else is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_one.then(|| Self(text.to_owned()))
    }

    /// For the cookie.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the table knows it by.
    pub(crate) fn hash(&self) -> String {
        self.part("begun")
    }

    fn part(&self, name: &str) -> String {
        hash(&format!("{name}:{}", self.0))
    }

    /// Whether an answer is one to this sign-in.
    pub(crate) fn is_answered_by(&self, answer: &Answer) -> bool {
        let state = answer.state.as_deref().unwrap_or_default();
        constant_time::verify_slices_are_equal(state.as_bytes(), self.part("state").as_bytes()).is_ok()
    }
}

impl Provider {
    /// The provider that the configuration names, if it names one.
    ///
    /// # Errors
    /// When its issuer cannot be one, or it is named by half.
    pub(crate) fn open(env: &Env, console_origin: &str) -> Result<Option<Self>, StartError> {
        let text = |var: Var| env.text(var);
        let Some(issuer) = text(env::OIDC_ISSUER) else {
            let half = text(env::OIDC_CLIENT_ID).is_some();
            return if half { Err(StartError::Missing(env::OIDC_ISSUER)) } else { Ok(None) };
        };
        if !issuer.parse().is_ok_and(|url| is_trusted(&url)) {
            let why = "must be an https address without a query, such as https://login.example.com".to_owned();
            return Err(StartError::Invalid { var: env::OIDC_ISSUER, why });
        }
        Ok(Some(Self {
            issuer,
            client_id: env.required(env::OIDC_CLIENT_ID)?,
            scope: text(env::OIDC_SCOPE).unwrap_or_else(|| DEFAULT_SCOPE.to_owned()),
            groups_claim: text(env::OIDC_GROUPS_CLAIM).unwrap_or_else(|| DEFAULT_CLAIM.to_owned()),
            group_prefix: text(env::OIDC_GROUP_PREFIX).unwrap_or_default(),
            redirect_uri: format!("{console_origin}/sign-in/callback"),
            signed_out_uri: format!("{console_origin}/sign-in"),
            client: Client::default(),
            known: Mutex::default(),
        }))
    }

    /// Its issuer.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What the provider says of itself, asked again when that is some minutes old.
    async fn metadata(&self, now: Timestamp) -> Result<Arc<Metadata>, Away> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, metadata)) = known.filter(|(at, _)| now.since(*at).as_secs() < FRESH) {
            return Ok(metadata);
        }
        let at = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let at = at.parse().map_err(|_| Away("the issuer is no address".to_owned()))?;
        let metadata: Metadata = self.client.document("configuration", &at).await?;
        // Who answers for another issuer could have its tokens believed here (mix-up).
        if metadata.issuer != self.issuer {
            return Err(Away("configuration: it is another issuer's".to_owned()));
        }
        if !metadata.endpoints().all(|url| url.scheme() == at.scheme() && is_trusted_endpoint(url)) {
            return Err(Away("configuration: an address in it is not safe".to_owned()));
        }
        let metadata = Arc::new(metadata);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// Where a browser goes that begins to sign in.
    ///
    /// # Errors
    /// When the provider is away.
    pub(crate) async fn entrance(&self, secret: &Secret, now: Timestamp) -> Result<Url, Away> {
        let mut url = self.metadata(now).await?.authorization_endpoint.clone();
        let challenge = digest::digest(&digest::SHA256, secret.part("verifier").as_bytes());
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &self.scope)
            .append_pair("state", &secret.part("state"))
            .append_pair("nonce", &secret.part("nonce"))
            .append_pair("code_challenge", &BASE64_URL_SAFE_NO_PAD.encode(challenge))
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Whom the provider vouches for in this answer, which has been found to be one to this sign-in.
    ///
    /// # Errors
    /// When it vouches for nobody who may be believed.
    pub(crate) async fn vouched(&self, secret: &Secret, answer: Answer, now: Timestamp) -> Result<Person, Failure> {
        let metadata = self.metadata(now).await?;
        match &answer.iss {
            Some(iss) if *iss != self.issuer => return Err(Failure::Refused("issuer of the answer".to_owned())),
            None if metadata.authorization_response_iss_parameter_supported => {
                return Err(Failure::Refused("no issuer in the answer".to_owned()));
            }
            _ => {}
        }
        if let Some(error) = answer.error {
            return Err(match error.as_str() {
                "access_denied" => Failure::Stale("access_denied"),
                "temporarily_unavailable" | "server_error" => Failure::Away(Away(error)),
                other => Failure::Refused(format!("the provider says: {}", word(other))),
            });
        }
        let code = answer.code.filter(|code| code.len() <= MAX_CODE).ok_or(Failure::Stale("no_code"))?;
        let token = self.redeem(&metadata, secret, &code).await?;
        let keys: Keys = self.client.document("keys", &metadata.jwks_uri).await?;
        let nonce = secret.part("nonce");
        let expected = Expected { issuer: &self.issuer, client_id: &self.client_id, nonce: &nonce };
        let claims = id_token::verify(&token, &keys, &expected, now);
        claims.map(|claims| self.person(&claims)).map_err(|fault| Failure::Refused(format!("ID token: {fault}")))
    }

    /// The ID token that the provider gives for a code.
    async fn redeem(&self, metadata: &Metadata, secret: &Secret, code: &str) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Tokens {
            id_token: String,
        }
        #[derive(Default, Deserialize)]
        struct Refusal {
            error: String,
        }
        let verifier = secret.part("verifier");
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect_uri),
            ("client_id", &self.client_id),
            ("code_verifier", &verifier),
        ];
        let (status, body) = self.client.post("tokens", &metadata.token_endpoint, &fields).await?;
        if status == StatusCode::OK {
            let tokens = serde_json::from_slice::<Tokens>(&body);
            return tokens.map(|tokens| tokens.id_token).map_err(|_| Failure::Refused("no ID token".to_owned()));
        }
        if !status.is_client_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Failure::Away(Away(format!("tokens: status {}", status.as_u16()))));
        }
        let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
        Err(match refusal.error.as_str() {
            "invalid_grant" => Failure::Stale("invalid_grant"),
            other => Failure::Refused(format!("tokens: status {}, {}", status.as_u16(), word(other))),
        })
    }

    fn person(&self, claims: &Claims) -> Person {
        let subject = claims.subject();
        let hash = digest::digest(&digest::SHA256, format!("{}\n{subject}", self.issuer).as_bytes());
        let mut entropy = Entropy::default();
        let length = entropy.len();
        entropy.copy_from_slice(&hash.as_ref()[..length]);
        let id = OperatorId::mint(Timestamp::from_millis(0), &entropy);
        let label = |text: &str| operators::name(text).ok();
        let name = claims.email().and_then(label).or_else(|| label(subject)).unwrap_or_else(|| id.to_string());
        Person { id, name, role: role(&claims.list(&self.groups_claim), &self.group_prefix) }
    }

    /// Where a browser goes so that it is signed out at the provider too, as far as that is known.
    pub(crate) async fn exit(&self, now: Timestamp) -> Option<Url> {
        let metadata = self.metadata(now).await;
        let metadata = metadata.inspect_err(|away| tracing::warn!(cause = %away, "sign_out.here_only")).ok()?;
        let mut url = metadata.end_session_endpoint.clone()?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.client_id)
            .append_pair("post_logout_redirect_uri", &self.signed_out_uri)
            // Cognito's own name for the same.
            .append_pair("logout_uri", &self.signed_out_uri);
        Some(url)
    }
}

/// The highest role that groups of these names are.
fn role(groups: &[&str], prefix: &str) -> Option<Role> {
    let role = |group: &&str| match group.strip_prefix(prefix)? {
        "viewer" => Some(Role::Viewer),
        "editor" => Some(Role::Editor),
        "admin" => Some(Role::Admin),
        _ => None,
    };
    groups.iter().filter_map(role).max()
}

/// An issuer: reached by TLS, or on this machine.
fn is_trusted(url: &Url) -> bool {
    is_trusted_endpoint(url) && url.query().is_none()
}

fn is_trusted_endpoint(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    plain && (url.scheme() == "https" || here && url.scheme() == "http")
}

/// An error code of the provider's for the log, if it is one.
fn word(code: &str) -> &str {
    let is_word = code.len() <= 60 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_word && !code.is_empty() { code } else { "no known error" }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://console.example.com";

    fn open(pairs: &[(&str, &str)]) -> Result<Option<Provider>, StartError> {
        Provider::open(&Env::from_pairs(pairs.iter().copied()), ORIGIN)
    }

    #[test]
    fn a_provider_is_named_whole_or_not_at_all() {
        let good = ("C2C_OIDC_ISSUER", "https://login.example.com/tenant");
        let client = ("C2C_OIDC_CLIENT_ID", "console");
        assert!(open(&[]).expect("none").is_none());
        assert!(open(&[("C2C_OIDC_GROUPS_CLAIM", "groups")]).expect("none").is_none());
        assert_eq!(open(&[good, client]).expect("one").expect("one").scope, "openid email");
        assert!(open(&[("C2C_OIDC_ISSUER", "http://127.0.0.1:9400"), client]).expect("for one machine").is_some());
        for (pairs, var) in [
            (&[good][..], "C2C_OIDC_CLIENT_ID"),
            (&[client], "C2C_OIDC_ISSUER"),
            (&[client, ("C2C_OIDC_ISSUER", "login.example.com")], "C2C_OIDC_ISSUER"),
            (&[client, ("C2C_OIDC_ISSUER", "http://login.example.com")], "C2C_OIDC_ISSUER"),
            (&[client, ("C2C_OIDC_ISSUER", "http://127.0.0.1.example.com")], "C2C_OIDC_ISSUER"),
            (&[client, ("C2C_OIDC_ISSUER", "https://ann@login.example.com")], "C2C_OIDC_ISSUER"),
            (&[client, ("C2C_OIDC_ISSUER", "https://login.example.com?x=1")], "C2C_OIDC_ISSUER"),
            (&[client, ("C2C_OIDC_ISSUER", "https://login.example.com#x")], "C2C_OIDC_ISSUER"),
        ] {
            let error = open(pairs).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(var), "{pairs:?}: {error}");
        }
    }

    #[test]
    fn groups_make_roles() {
        for (groups, prefix, expected) in [
            (&["viewer"][..], "", Some(Role::Viewer)),
            (&["staff", "viewer", "admin", "editor"], "", Some(Role::Admin)),
            (&["Admin", "admins", "admin ", "x-admin"], "", None),
            (&["c2c-editor", "admin"], "c2c-", Some(Role::Editor)),
            (&["c2c-c2c-editor"], "c2c-", None),
            (&[], "", None),
        ] {
            assert_eq!(role(groups, prefix), expected, "{groups:?} {prefix:?}");
        }
    }

    #[test]
    fn what_is_in_an_address_tells_nothing_of_the_rest() {
        let secret = Secret::new();
        let parts = ["state", "nonce", "verifier", "begun"].map(|name| secret.part(name));
        for (index, part) in parts.iter().enumerate() {
            assert!(part.len() == 64 && part != secret.as_str(), "{part}");
            assert!(!parts[index + 1..].contains(part));
        }
        let answer = |state: &str| Answer { state: Some(state.to_owned()), ..Answer::default() };
        assert!(secret.is_answered_by(&answer(&parts[0])));
        for wrong in ["", &parts[1], &parts[0][1..], &Secret::new().part("state")] {
            assert!(!secret.is_answered_by(&answer(wrong)), "{wrong}");
        }
        assert!(!secret.is_answered_by(&Answer::default()));
        assert!(Secret::parse(secret.as_str()).is_some());
        for wrong in ["", "x", &"g".repeat(64), &"a".repeat(65)] {
            assert!(Secret::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn one_subject_is_one_person() {
        let provider = open(&[("C2C_OIDC_ISSUER", "https://login.example.com"), ("C2C_OIDC_CLIENT_ID", "console")]);
        let provider = provider.expect("one").expect("one");
        let person = |claims: &str| provider.person(&serde_json::from_str(claims).map(Claims::of).expect("claims"));
        let ann =
            person(r#"{"sub": "1", "email": "ann@example.com", "email_verified": true, "cognito:groups": ["viewer"]}"#);
        let renamed = person(r#"{"sub": "1", "email": "ann@example.org"}"#);
        let other = person(r#"{"sub": "2", "email": "ann@example.com", "cognito:groups": "admin"}"#);
        assert_eq!((ann.name.as_str(), ann.role), ("ann@example.com", Some(Role::Viewer)));
        assert_eq!((renamed.id == ann.id, renamed.role), (true, None));
        assert_eq!((other.id == ann.id, other.role), (false, Some(Role::Admin)));
        for email in ["a\\nb", "\u{202e}nna"] {
            let strange = person(&format!(r#"{{"sub": "3", "email": "{email}", "email_verified": true}}"#));
            assert_eq!(strange.name, "3", "{email:?}");
        }
        assert_eq!(other.name, "2");
    }

    #[test]
    fn words_of_the_provider_are_logged_only_if_they_are_words() {
        for (text, logged) in
            [("invalid_client", "invalid_client"), ("", "no known error"), ("evil\nline", "no known error")]
        {
            assert_eq!(word(text), logged);
        }
    }
}
