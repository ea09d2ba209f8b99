//! The console's pages: rendered here, without scripts. Post, redirect, get.

use std::{net::IpAddr, time::Duration};

use axum::{
    Form,
    extract::{FromRequestParts, Query, State as Extract, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use domain::{
    app::App,
    delivery::{Delivery, Status as DeliveryStatus},
    integration::{Integration, Status},
    operator::Role,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{ClientIp, Now, Path},
    problem::{Kind, Problem},
};
use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use store::{audit::Log, delivery_log::Filter, operators::OperatorToken};

use crate::{
    State,
    access::{self, Note, SIGN_IN, SIGN_OUT},
    operator::{self, COOKIE, Operator},
};

/// A console session ends after a working day.
const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// What one signs in to, in the audit log.
const PAGES: &str = "console";
/// Deliveries shown on an app's page.
const LATEST: u8 = 25;
const STYLE: &str = include_str!("console.css");
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

fn page(status: StatusCode, title: &str, operator: Option<&str>, content: Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Call Studio" }
                link rel="stylesheet" href="/console.css";
            }
            body {
                header {
                    a.brand href="/" { "Call Studio" }
                    @if let Some(name) = operator {
                        form method="post" action="/sign-out" {
                            span.muted { (name) }
                            button.quiet type="submit" { "Sign out" }
                        }
                    }
                }
                main { (content) }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    (status, headers, markup.into_string()).into_response()
}

/// The style sheet.
pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")], STYLE)
}

/// Who looks at a page; whoever is not signed in is led to where one signs in.
pub(crate) struct Viewer(Operator);

impl FromRequestParts<State> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        match Operator::from_request_parts(parts, state).await {
            Ok(operator) => Ok(Self(operator)),
            Err(problem) if problem.kind() == Kind::Unauthorized => Err(Redirect::to("/sign-in").into_response()),
            Err(problem) => Err(problem.into_response()),
        }
    }
}

/// `GET /`: the apps.
pub(crate) async fn home(Extract(state): Extract<State>, Viewer(operator): Viewer) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let apps = state.store.apps(100, None).await.map_err(Problem::unavailable)?;
    let content = html! {
        h1 { "Apps" }
        @if apps.items.is_empty() {
            section.empty {
                h2 { "No app yet" }
                p { "An app is one widget with its own settings. Create the first one through the management API:" }
                pre { code { "POST " (state.place.console_origin) "/api/v1/apps  {\"name\": \"My shop\"}" } }
            }
        } @else {
            ul.cards {
                @for app in &apps.items {
                    li { a href={ "/apps/" (app.app_id) } { strong { (app.name) } br; span.muted.id { (app.app_id) } } }
                }
            }
            @if apps.has_more { p.muted { "The first 100 apps are shown; the management API lists all." } }
        }
    };
    Ok(page(StatusCode::OK, "Apps", Some(operator.name()), content))
}

/// `GET /apps/{app}`: one app, how to embed it, its integrations, its latest deliveries.
pub(crate) async fn app(
    Extract(state): Extract<State>,
    Now(now): Now,
    Viewer(operator): Viewer,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = match access::find(&state, &id).await {
        Ok(app) => app,
        Err(problem) if problem.kind() == Kind::AppNotFound => {
            let content = html! { h1 { "There is no such app" } p { a href="/" { "All apps" } } };
            return Ok(page(StatusCode::NOT_FOUND, "Not found", Some(operator.name()), content));
        }
        Err(problem) => return Err(problem),
    };
    let everything = Filter::default();
    let (provider, integrations, deliveries) = tokio::join!(
        state.store.provider(app.id),
        state.store.integrations(app.id),
        state.store.deliveries(app.id, &everything, LATEST, None, now)
    );
    let provider = provider.map_err(Problem::unavailable)?;
    let integrations = integrations.map_err(Problem::unavailable)?;
    let deliveries = deliveries.map_err(Problem::unavailable)?.page;
    let deliveries: Vec<Delivery> = deliveries.items.into_iter().map(|whole| whole.delivery).collect();
    let content = html! {
        nav { a href="/" { "← Apps" } }
        h1 { (app.name) }
        section {
            h2 { "Embed" }
            p { "Put this into your page, just before its closing body tag:" }
            pre { code { (snippet(&state.place.widget_origin, &app)) } }
            @match &provider {
                Some(provider) if provider.active => p { (badge("good", "active")) " Calls go to " code { (provider.uri) } "." },
                Some(_) => p { (badge("warn", "inactive")) " The provider is switched off: visitors are told that calls are not available." },
                None => p { (badge("warn", "no provider")) " Without a provider visitors are told that calls are not available." },
            }
        }
        section {
            h2 { "Integrations" }
            @if integrations.is_empty() {
                p.muted { "None yet. An integration receives this app's events at an address of yours." }
            }
            @for stored in &integrations { (integration(&stored.integration)) }
        }
        section {
            h2 { "Latest deliveries" }
            @if deliveries.is_empty() {
                p.muted { "None yet. Open the widget once: it sends widget_loaded to every integration that selected it." }
            } @else {
                (log(&deliveries, now))
            }
        }
    };
    Ok(page(StatusCode::OK, &app.name, Some(operator.name()), content))
}

fn snippet(widget_origin: &str, app: &App) -> String {
    let App { id, widget_key, .. } = app;
    format!(
        "<script async src=\"{widget_origin}/embed.js\"\n  data-app-id=\"{id}\"\n  data-key=\"{widget_key}\"></script>"
    )
}

fn badge(kind: &str, text: &str) -> Markup {
    html! { span class={ "badge " (kind) } { (text) } }
}

fn integration(integration: &Integration) -> Markup {
    let (kind, status) = match integration.status {
        Status::Active => ("good", "active"),
        Status::Paused => ("bad", "paused"),
        Status::Inactive => ("warn", "inactive"),
    };
    html! {
        article {
            h3 { (integration.name) " " (badge(kind, status)) }
            p.muted { "Sends to " code { (integration.url.host()) } ", waits up to " (integration.timeout_ms) " ms." }
            @if let Some(reason) = &integration.paused_reason { p { (reason) } }
            @if integration.events.is_empty() {
                p { "No event is selected." }
            } @else {
                ul.tags { @for event in &integration.events { li { (event) } } }
            }
        }
    }
}

fn log(deliveries: &[Delivery], now: Timestamp) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Latest deliveries" {
            table {
                thead { tr { th scope="col" { "Event" } th scope="col" { "State" } th scope="col" { "Attempts" } th scope="col" { "Accepted" } } }
                tbody {
                    @for delivery in deliveries {
                        tr {
                            td { (delivery.event_name) br; span.muted.id { (delivery.id) } }
                            td {
                                @match delivery.status {
                                    DeliveryStatus::Delivered => (badge("good", "delivered")),
                                    DeliveryStatus::Pending => (badge("warn", "pending")),
                                    DeliveryStatus::Failed => (badge("bad", "failed")),
                                    DeliveryStatus::Skipped => (badge("warn", "skipped")),
                                }
                                @if let Some(at) = delivery.next_attempt_at.filter(|at| *at > now) {
                                    br; span.muted { "next in " (at.since(now).as_secs()) " s" }
                                }
                            }
                            td {
                                @for attempt in &delivery.attempts {
                                    div {
                                        @if let Some(code) = attempt.status_code { (code) } @else if let Some(error) = attempt.error_class { (error.as_str()) }
                                        span.muted { " in " (attempt.duration_ms) " ms" }
                                    }
                                }
                            }
                            td { time datetime=(delivery.created_at) { (delivery.created_at) } }
                        }
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Code {
    code: Option<String>,
}

/// `GET /sign-in`: a form for a token; with a one-time code, straight in.
pub(crate) async fn sign_in(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    asked: Result<Query<Code>, QueryRejection>,
) -> Result<Response, Problem> {
    let code = asked.ok().and_then(|Query(asked)| asked.code);
    let Some(code) = code else { return Ok(form(StatusCode::OK, None)) };
    let redeemed = state.store.redeem_sign_in(&operator::hash(&code), now).await.map_err(Problem::unavailable)?;
    match redeemed {
        Some(found) => begin(&state, found, ip, now).await,
        None => Ok(form(StatusCode::UNAUTHORIZED, Some("This link was used already, or is too old."))),
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
    let Ok(Form(entered)) = entered else { return Ok(form(StatusCode::BAD_REQUEST, Some("Please enter a token."))) };
    match operator::find(&state, entered.token.trim(), now).await? {
        Some(found) => {
            let begun_with = found.begun_with.clone().unwrap_or_else(|| operator::hash(entered.token.trim()));
            begin(&state, OperatorToken { begun_with: Some(begun_with), ..found }, ip, now).await
        }
        None => Ok(form(StatusCode::UNAUTHORIZED, Some("This token is unknown or has ended."))),
    }
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
    let hash = session.map(|token| operator::hash(&token)).unwrap_or_default();
    if let Some(holder) = state.store.operator(&hash, now).await.map_err(Problem::unavailable)? {
        let note = Note::new(Log::Deployment, &holder.name, SIGN_OUT, ip, now).about(PAGES);
        state.store.end_session(&hash, &note.granted()).await.map_err(Problem::unavailable)?;
        note.done();
    }
    Ok(set_cookie("", Duration::ZERO, "/sign-in"))
}

/// Begins a console session for who showed a token or a code.
async fn begin(state: &State, found: OperatorToken, ip: IpAddr, now: Timestamp) -> Result<Response, Problem> {
    let token = format!("cs_{}", chance::hex::<32>());
    let end = now.plus(SESSION_LIFE).as_seconds();
    let session =
        OperatorToken { created_at: now, expires_at: Some(found.expires_at.unwrap_or(end).min(end)), ..found };
    let note = Note::new(Log::Deployment, &session.name, SIGN_IN, ip, now).about(PAGES);
    let begun = state.store.begin_session(&operator::hash(&token), &session, &note.granted()).await;
    begun.map_err(Problem::unavailable)?;
    note.done();
    Ok(set_cookie(&token, SESSION_LIFE, "/"))
}

fn set_cookie(token: &str, life: Duration, then: &str) -> Response {
    let cookie = format!("{COOKIE}={token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}", life.as_secs());
    let mut response = Redirect::to(then).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

fn form(status: StatusCode, error: Option<&str>) -> Response {
    let content = html! {
        section.narrow {
            h1 { "Sign in" }
            @if let Some(error) = error { p role="alert" class="alert" { (error) } }
            form method="post" action="/sign-in" {
                label for="token" { "Operator token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus maxlength="256";
                button type="submit" { "Sign in" }
            }
        }
    };
    page(status, "Sign in", None, content)
}
