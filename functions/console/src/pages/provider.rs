//! Signing in with the organisation's own provider: away to it, and back. Whatever goes wrong is told kindly, with the
//! request's id; what exactly it was is for the log, without codes and tokens.

use std::time::Duration;

use axum::{
    Extension,
    extract::{FromRequestParts, Query, State as Extract, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use domain::time::Timestamp;
use edge::{
    chance,
    extract::{ClientIp, Now},
    problem::Problem,
    reply::RequestId,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use maud::html;
use store::{audit::Log, operators::Vouched};

use super::{
    page,
    sign_in::{PAGES, SESSION_LIFE, mint_session, over_limit, session_cookie},
};
use crate::{
    State,
    access::{Note, SIGN_IN},
    oidc::{Answer, Failure, Person, Provider, Secret},
    operator,
};

/// Keeps a sign-in's secret while the browser is away. `__Host-`: no other host can give a browser one of its own making.
/// The way back is a link on another site, so `Lax`.
const COOKIE: &str = "__Host-c2c-sign-in";
/// How long somebody may be away: for a password, a second factor, and a telephone that must be found first.
const AWAY: Duration = Duration::from_secs(10 * 60);
/// Seconds after which a provider that was away is worth another try.
const RETRY_AFTER: u64 = 10;

/// The secret of the sign-in that this browser began.
pub(crate) struct Begun(Option<Secret>);

impl FromRequestParts<State> for Begun {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Self::Rejection> {
        Ok(Self(operator::named_cookie(parts, COOKIE).and_then(|text| Secret::parse(&text))))
    }
}

fn cookie(secret: &str, life: Duration) -> String {
    format!("{COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}", life.as_secs())
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// `GET /sign-in/provider`: away.
pub(crate) async fn begin(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    Extension(request): Extension<RequestId>,
) -> Result<Response, Problem> {
    let Some(provider) = &state.provider else { return Ok(Redirect::to("/sign-in").into_response()) };
    if let Some(told) = over_limit(&state, ip, now).await {
        return Ok(told);
    }
    let secret = Secret::new();
    let entrance = match provider.entrance(&secret, now).await {
        Ok(entrance) => entrance,
        Err(away) => return Ok(told(&Failure::Away(away), &request)),
    };
    let until = now.plus(AWAY).as_seconds();
    state.store.put_begun_sign_in(&secret.hash(), until).await.map_err(Problem::unavailable)?;
    let mut response = Redirect::to(entrance.as_str()).into_response();
    set_cookie(&mut response, &cookie(secret.as_str(), AWAY));
    Ok(response)
}

/// `GET /sign-in/callback`: back, with an answer.
pub(crate) async fn end(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    Extension(request): Extension<RequestId>,
    Begun(secret): Begun,
    answer: Result<Query<Answer>, QueryRejection>,
) -> Result<Response, Problem> {
    let Some(provider) = &state.provider else { return Ok(Redirect::to("/sign-in").into_response()) };
    if let Some(told) = over_limit(&state, ip, now).await {
        return Ok(told);
    }
    let answer = answer.map(|Query(answer)| answer).unwrap_or_default();
    // Another site can send a browser here: without this browser's own state it is no answer, and ends no sign-in.
    let Some(secret) = secret.filter(|secret| secret.is_answered_by(&answer)) else {
        return Ok(told(&Failure::Stale("not_begun_here"), &request));
    };
    let mut response = match state.store.take_begun_sign_in(&secret.hash(), now).await.map_err(Problem::unavailable)? {
        true => match provider.vouched(&secret, answer, now).await {
            Ok(person) => enter(&state, provider, person, ip, now).await?,
            Err(failure) => told(&failure, &request),
        },
        false => told(&Failure::Stale("used_or_late"), &request),
    };
    set_cookie(&mut response, &cookie("", Duration::ZERO));
    Ok(response)
}

/// Begins a console session for who has a role; who has none is told whom to ask.
async fn enter(
    state: &State,
    provider: &Provider,
    person: Person,
    ip: std::net::IpAddr,
    now: Timestamp,
) -> Result<Response, Problem> {
    // A name may be anybody's: the id beside it never is.
    let note = Note::new(Log::Deployment, &person.name, SIGN_IN, ip, now);
    let note = note.about(format!("{PAGES}/{}", person.id)).because(Some(format!("by {}", provider.issuer())));
    let Some(role) = person.role else {
        // Whoever was in a group before has sessions of that time.
        state.store.remove_operator(person.id, None).await.map_err(Problem::unavailable)?;
        let page = no_role(&person.name);
        let refused = note.refuse(state, "no_group", Problem::unauthorized("no group")).await;
        return if refused.kind() == edge::problem::Kind::Unauthorized { Ok(page) } else { Err(refused) };
    };
    let expires_at = now.plus(SESSION_LIFE).as_seconds();
    let vouched = Vouched { id: person.id, name: person.name, role, expires_at };
    let token = mint_session();
    let (hash, entropy, entry) = (operator::hash(&token), chance::bytes(), note.granted());
    state.store.begin_vouched_session(&hash, &vouched, now, &entropy, &entry).await.map_err(Problem::unavailable)?;
    note.done();
    Ok(session_cookie(&token, SESSION_LIFE, "/"))
}

fn no_role(name: &str) -> Response {
    let content = html! {
        section.narrow {
            h1 { "You have no access yet" }
            p { "Your organisation knows you as " strong { (name) } ", but you are in none of the groups that may use Call Studio." }
            p { "Ask whoever manages your organisation's accounts to put you into the group for viewers, editors or admins. Then sign in again." }
            p { a.button href="/sign-in/provider" { "Sign in again" } }
            p { a href="/sign-in" { "Sign in another way" } }
        }
    };
    page(StatusCode::FORBIDDEN, "No access yet", None, content)
}

/// What a person reads when nobody was vouched for.
fn told(failure: &Failure, RequestId(request): &RequestId) -> Response {
    let (status, title, text, hint) = match failure {
        Failure::Away(away) => {
            tracing::warn!(request.id = request, cause = %away, "sign_in.provider_away");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "Your organisation's sign-in does not answer",
                "Nothing is wrong with your account. Please try again in a moment.",
                "If it lasts, tell whoever looks after Call Studio",
            )
        }
        Failure::Stale(why) => {
            tracing::info!(request.id = request, why, "sign_in.stale");
            (
                StatusCode::UNAUTHORIZED,
                "That did not work",
                "The sign-in was cancelled, took too long, was used already, or was begun in another window. Please try again.",
                "If it happens again, tell whoever looks after Call Studio",
            )
        }
        Failure::Refused(why) => {
            tracing::warn!(request.id = request, why, "sign_in.refused");
            (
                StatusCode::UNAUTHORIZED,
                "We could not sign you in",
                "What your organisation's sign-in answered could not be verified, so nobody was let in.",
                "Please tell whoever looks after Call Studio",
            )
        }
    };
    let content = html! {
        section.narrow {
            h1 { (title) }
            p role="alert" { (text) }
            p { a.button href="/sign-in/provider" { "Try again" } }
            p { a href="/sign-in" { "Sign in another way" } }
            p.muted { (hint) ", and name this request: " code { (request) } "." }
        }
    };
    let mut response = page(status, title, None, content);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
    }
    response
}

/// Signed out here, and on to where one is signed out of the provider. A page, not a redirect: browsers hold redirects
/// after a form to the policy that the form's page has for forms, which names no other host.
pub(crate) fn leave(exit: &str) -> Response {
    let content = html! {
        section.narrow {
            h1 { "You are signed out" }
            p { "You are being signed out of your organisation too." }
            p { a.button href=(exit) { "Continue" } }
        }
    };
    let mut response = page(StatusCode::OK, "Signed out", None, content);
    if let Ok(refresh) = HeaderValue::from_str(&format!("0; url={exit}")) {
        response.headers_mut().insert("refresh", refresh);
    }
    response
}
