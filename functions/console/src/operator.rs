//! Who is asking: an operator, by bearer token or by the console's cookie. The only place that makes an [`Operator`].

use aws_lc_rs::digest;
use axum::extract::FromRequestParts;
use domain::{operator::Role, time::Timestamp};
use edge::{
    chance,
    extract::{Bearer, Now},
    problem::{Kind, Problem},
};
use http::{Method, header, request::Parts};
use store::operators::OperatorToken;

use crate::State;

/// The console's cookie. `__Host-`: this host only, secure, whole path. Links on other sites' pages carry it, so that they
/// lead a signed-in operator in; forms and scripts of theirs do not, and are refused by origin besides.
pub(crate) const COOKIE: &str = "__Host-c2c";
/// Longer texts are refused unread.
const MAX_TOKEN: usize = 256;

/// A new operator's token.
pub fn mint_token() -> String {
    format!("c2c_{}", chance::hex::<32>())
}

/// A text's SHA-256 in lower-case hex: what is stored in place of tokens and codes.
pub fn hash(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The proof that an operator asks, and what they may do.
#[derive(Clone)]
pub(crate) struct Operator(OperatorToken);

impl Operator {
    /// Who it is.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Lets pass who has at least this role.
    pub(crate) fn needs(&self, role: Role) -> Result<(), Problem> {
        if self.0.role >= role {
            return Ok(());
        }
        let message = format!("This needs the role {role:?}; yours is {:?}.", self.0.role).to_lowercase();
        Err(Problem::new(Kind::Forbidden, message))
    }
}

impl FromRequestParts<State> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let Now(now) = Now::from_request_parts(parts, state).await?;
        let token = if parts.headers.contains_key(header::AUTHORIZATION) {
            Bearer::from_request_parts(parts, state).await?.0
        } else {
            let cookie = cookie(parts);
            let cookie =
                cookie.ok_or_else(|| Problem::unauthorized("An operator's token or console session is needed."))?;
            if parts.method != Method::GET && !is_same_origin(parts, &state.place.console_origin) {
                return Err(Problem::new(
                    Kind::Forbidden,
                    "A console session works from the console's own pages only.",
                ));
            }
            cookie
        };
        let found = find(state, &token, now).await?;
        found.map(Self).ok_or_else(|| Problem::unauthorized("The operator's token is unknown or has ended."))
    }
}

/// Who holds a token.
pub(crate) async fn find(state: &State, token: &str, now: Timestamp) -> Result<Option<OperatorToken>, Problem> {
    if token.len() > MAX_TOKEN {
        return Ok(None);
    }
    let found = state.store.operator(&hash(token), now).await.map_err(Problem::unavailable)?;
    let Some(begun_with) = found.as_ref().and_then(|found| found.begun_with.as_deref()) else { return Ok(found) };
    // A console session ends with the token, or the person, that it was begun with, and may never do more.
    let still = state.store.operator(begun_with, now).await.map_err(Problem::unavailable)?;
    Ok(found.zip(still).map(|(found, still)| OperatorToken { role: found.role.min(still.role), ..found }))
}

/// The console session's token, out of the cookie.
pub(crate) fn cookie(parts: &Parts) -> Option<String> {
    named_cookie(parts, COOKIE)
}

/// A cookie's value.
pub(crate) fn named_cookie(parts: &Parts, wanted: &str) -> Option<String> {
    let cookies = parts.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

/// Whether a browser says that a page of the console itself made the request.
pub(crate) fn is_same_origin(parts: &Parts, console_origin: &str) -> bool {
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => text("origin") == Some(console_origin),
    }
}
