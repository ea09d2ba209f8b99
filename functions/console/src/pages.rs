//! The console's pages: rendered here, without scripts. Post, redirect, get.

pub(crate) mod sign_in;

use axum::{
    extract::{FromRequestParts, State as Extract},
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
    extract::{Now, Path},
    problem::{Kind, Problem},
};
use http::{HeaderName, StatusCode, header, request::Parts};
use maud::{DOCTYPE, Markup, html};
use store::delivery_log::Filter;

use crate::{State, access, operator::Operator};

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
