//! Signing in and out: with an operator's token, or with a link that works once.

use std::{net::IpAddr, time::Duration};

use axum::{
    Form,
    extract::{FromRequestParts, Query, State as Extract, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use domain::{limit, time::Timestamp};
use edge::{
    chance,
    extract::{ClientIp, Now},
    problem::{Kind, Problem},
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use maud::html;
use serde::Deserialize;
use store::{audit::Log, operators::OperatorToken};

use super::{page, provider};
use crate::{
    State,
    access::{Note, SIGN_IN, SIGN_OUT},
    operator::{self, COOKIE},
};

/// A console session ends after a working day.
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// What a console session's token begins with; no operator's does.
const SESSION: &str = "cs_";
/// What one signs in to, in the audit log.
pub(super) const PAGES: &str = "console";

#[derive(Deserialize)]
pub(crate) struct Code {
    code: Option<String>,
}

/// `GET /sign-in`: a form for a token; with a one-time code, straight in.
pub(crate) async fn show(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    asked: Result<Query<Code>, QueryRejection>,
) -> Result<Response, Problem> {
    let code = asked.ok().and_then(|Query(asked)| asked.code);
    let Some(code) = code else { return Ok(form(&state, StatusCode::OK, None)) };
    if let Some(told) = over_limit(&state, ip, now).await {
        return Ok(told);
    }
    let redeemed = state.store.redeem_sign_in(&operator::hash(&code), now).await.map_err(Problem::unavailable)?;
    match redeemed {
        Some(found) => begin(&state, found, ip, now).await,
        None => Ok(form(&state, StatusCode::UNAUTHORIZED, Some("This link was used already, or is too old."))),
    }
}

#[derive(Deserialize)]
pub(crate) struct Entered {
    token: String,
}

/// `POST /sign-in`: a token was typed.
pub(crate) async fn enter_token(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    SameOrigin: SameOrigin,
    entered: Result<Form<Entered>, axum::extract::rejection::FormRejection>,
) -> Result<Response, Problem> {
    // Nobody guesses a token of 32 random bytes; whoever tries is not served for long.
    if let Some(told) = over_limit(&state, ip, now).await {
        return Ok(told);
    }
    let Ok(Form(entered)) = entered else {
        return Ok(form(&state, StatusCode::BAD_REQUEST, Some("Please enter a token.")));
    };
    match operator::find(&state, entered.token.trim(), now).await? {
        Some(found) => {
            let begun_with = found.begun_with.clone().unwrap_or_else(|| operator::hash(entered.token.trim()));
            begin(&state, OperatorToken { begun_with: Some(begun_with), ..found }, ip, now).await
        }
        None => {
            tracing::info!(ip = limit::shorten(ip), "sign_in.unknown_token");
            Ok(form(&state, StatusCode::UNAUTHORIZED, Some("This token is unknown or has ended.")))
        }
    }
}

/// What somebody is told who tries too often.
pub(super) async fn over_limit(state: &State, ip: IpAddr, now: Timestamp) -> Option<Response> {
    let exceeded = state.sign_ins.admit_ip(ip, now).await.err()?;
    tracing::info!(ip = limit::shorten(ip), "sign_in.limited");
    let seconds = exceeded.retry_after(now);
    let text = format!("That was too often. Please wait {seconds} seconds, and try again.");
    let mut response = form(state, StatusCode::TOO_MANY_REQUESTS, Some(&text));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    Some(response)
}

/// Lets a form pass that one of our own pages sent.
pub(crate) struct SameOrigin;

impl FromRequestParts<State> for SameOrigin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        if operator::is_same_origin(parts, &state.place.console_origin) {
            Ok(Self)
        } else {
            Err(Problem::new(Kind::Forbidden, "This form works from the console's own pages only."))
        }
    }
}

/// The cookie's token, when there is one.
pub(crate) struct Session(Option<String>);

impl FromRequestParts<State> for Session {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self, Self::Rejection> {
        Ok(Self(operator::cookie(parts)))
    }
}

/// `POST /sign-out`.
pub(crate) async fn sign_out(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    SameOrigin: SameOrigin,
    Session(session): Session,
) -> Result<Response, Problem> {
    // An operator's own token opens the console as well: it is not ended by this.
    let session = session.filter(|token| token.starts_with(SESSION));
    let hash = session.map(|token| operator::hash(&token)).unwrap_or_default();
    if let Some(holder) = state.store.operator(&hash, now).await.map_err(Problem::unavailable)? {
        let note = Note::new(Log::Deployment, &holder.name, SIGN_OUT, ip, now).about(PAGES);
        state.store.end_session(&hash, &note.granted()).await.map_err(Problem::unavailable)?;
        note.done();
        if let Some(provider) = state.provider.as_ref().filter(|_| holder.is_vouched_for())
            && let Some(exit) = provider.exit(now).await
        {
            let mut response = provider::leave(exit.as_str());
            add_cookie(&mut response, "", Duration::ZERO);
            return Ok(response);
        }
    }
    Ok(session_cookie("", Duration::ZERO, "/sign-in"))
}

/// Begins a console session for who showed a token or a code.
async fn begin(state: &State, found: OperatorToken, ip: IpAddr, now: Timestamp) -> Result<Response, Problem> {
    let token = mint_session();
    let end = now.plus(SESSION_LIFE).as_seconds();
    let session =
        OperatorToken { created_at: now, expires_at: Some(found.expires_at.unwrap_or(end).min(end)), ..found };
    let note = Note::new(Log::Deployment, &session.name, SIGN_IN, ip, now).about(PAGES);
    let begun = state.store.begin_session(&operator::hash(&token), &session, &note.granted()).await;
    begun.map_err(Problem::unavailable)?;
    note.done();
    Ok(session_cookie(&token, SESSION_LIFE, "/"))
}

/// A new console session's token.
pub(super) fn mint_session() -> String {
    format!("{SESSION}{}", chance::hex::<32>())
}

/// Leads on, with this session's token in the cookie.
pub(super) fn session_cookie(token: &str, life: Duration, then: &str) -> Response {
    let mut response = Redirect::to(then).into_response();
    add_cookie(&mut response, token, life);
    response
}

fn add_cookie(response: &mut Response, token: &str, life: Duration) {
    let cookie = format!("{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}", life.as_secs());
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn form(state: &State, status: StatusCode, error: Option<&str>) -> Response {
    let content = html! {
        section.narrow {
            h1 { "Sign in" }
            @if let Some(error) = error { p role="alert" class="alert" { (error) } }
            @if state.provider.is_some() {
                p { a.button href="/sign-in/provider" { "Sign in with your organisation" } }
                p.muted { "Or with a token:" }
            }
            form method="post" action="/sign-in" {
                label for="token" { "Operator token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus[state.provider.is_none()] maxlength="256";
                button type="submit" { "Sign in" }
            }
        }
    };
    page(status, "Sign in", None, content)
}
