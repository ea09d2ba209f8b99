//! Apps: their list, making one, and what one sees of it first.

use axum::response::Response;
use domain::operator::Role;
use edge::{extract::Path, problem::Problem};
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, Came, Entry, Posted, View,
    bits::{badge, lasted, moment, pager, table},
    calls, page, save, then,
};

/// `GET /`.
pub(super) async fn home(view: View) -> Result<Response, Problem> {
    show(&view, Entry::fresh(json!({}))).await
}

async fn show(view: &View, entry: Entry) -> Result<Response, Problem> {
    let apps = view.list("/apps", 100, &[]).await?;
    let sheet = entry.sheet(view);
    let name = html! { (sheet.line("name", "Name").hint("For you and your colleagues; visitors do not see it.")) };
    let content = html! {
        h1 { "Apps" }
        @if apps.items.is_empty() { p.lead { "An app is one widget with its own settings. Create the first one to begin." } }
        @else {
            ul.cards {
                @for app in &apps.items {
                    @let id = app["appId"].as_str().unwrap_or_default();
                    li { a href={ "/apps/" (id) } { strong { (app["name"].as_str().unwrap_or_default()) } br; span.muted.id { (id) } } }
                }
            }
            (pager(view, &apps))
        }
        @if view.is(Role::Editor) {
            section {
                h2 { "New app" }
                (super::form(view, "/apps", &entry, &sheet, name, "Create app"))
            }
        }
    };
    Ok(page(entry.status(), "Apps", Some(view), content))
}

/// `POST /apps`.
pub(super) async fn create(view: View, posted: Posted) -> Result<Response, Problem> {
    match save(&view, Method::POST, "/apps", posted, &json!({})).await? {
        Came::Saved(app) => Ok(then(&format!("/apps/{}", app["appId"].as_str().unwrap_or_default()), "created")),
        Came::Again(entry) => show(&view, entry).await,
    }
}

/// One thing to do before visitors can call.
struct Step {
    done: bool,
    text: &'static str,
    /// What is so, or what to do.
    note: String,
    place: &'static str,
}

/// `GET /apps/{app}`: whether everything is set up, and what happened lately.
pub(super) async fn overview(view: View, Path(id): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &id).await?;
    let (provider, profiles, design, embed, calls, integrations) = (
        app.at("/provider"),
        app.at("/profiles"),
        app.at("/design"),
        app.at("/embed"),
        app.at("/calls"),
        app.at("/integrations"),
    );
    let (provider, profiles, design, embed, calls, integrations) = tokio::try_join!(
        view.find(&provider),
        view.list(&profiles, 100, &[]),
        view.get(&design),
        view.get(&embed),
        view.list(&calls, 5, &[]),
        view.list(&integrations, 50, &[]),
    )?;
    let steps = [phone(provider.as_ref()), target(&profiles.items), look(&design), placed(&embed)];
    let content = html! {
        h1 { (app.name()) }
        section {
            h2 { "Set up" }
            ol.steps {
                @for step in &steps {
                    li {
                        (if step.done { badge("good", "done") } else { badge("warn", "to do") })
                        div { a href=(app.at(step.place)) { (step.text) } p.muted { (step.note) } }
                    }
                }
            }
        }
        @if let Some(provider) = &provider { section { h2 { "Provider" } (health(provider)) } }
        section {
            h2 { "Latest calls" }
            @if calls.items.is_empty() { p.muted { "No calls yet." } }
            @else { (calls::rows(&app, &calls.items, "Latest calls")) p { a href=(app.at("/calls")) { "All calls" } } }
        }
        section {
            h2 { "Integrations" }
            @if integrations.items.is_empty() {
                p.muted { "None yet. An integration receives this app's events at an address of yours. " a href=(app.at("/integrations")) { "Integrations" } }
            } @else { (rates(&app, &integrations.items)) }
        }
    };
    Ok(app.page_with(&view, "", "Overview", StatusCode::OK, super::POLICY, content))
}

fn phone(provider: Option<&Value>) -> Step {
    let active = provider.is_some_and(|provider| provider["active"] == true);
    let note = match provider {
        Some(provider) if active => format!("Calls go to {}.", provider["uri"].as_str().unwrap_or_default()),
        Some(_) => "It is switched off: visitors are told that calls are not available.".to_owned(),
        None => {
            "Say where your telephone system is. Without it visitors are told that calls are not available.".to_owned()
        }
    };
    Step { done: active, text: "Connect a provider", note, place: "/provider" }
}

fn target(profiles: &[Value]) -> Step {
    let default = profiles.iter().find(|profile| profile["default"] == true);
    let note = match (default, profiles.len()) {
        (Some(profile), _) => format!("Visitors reach {}.", profile["name"].as_str().unwrap_or_default()),
        (None, 0) => "Say whom visitors reach.".to_owned(),
        (None, many) => format!("{many} made, none of them the default: only embeds that name one can call."),
    };
    Step { done: default.is_some(), text: "Say whom visitors reach", note, place: "/profiles" }
}

fn look(design: &Value) -> Step {
    let version = design["publishedVersion"].as_u64().unwrap_or_default();
    let changed = design["changed"] == true;
    let note = match (version, changed) {
        (0, _) => "Nothing is published: visitors see the widget as it comes.".to_owned(),
        (version, true) => format!("Version {version} is published; the draft has changes that are not."),
        (version, false) => format!("Version {version} is published."),
    };
    Step { done: version > 0 && !changed, text: "Make it yours", note, place: "/design" }
}

fn placed(embed: &Value) -> Step {
    let framed = embed["frameAncestors"].as_array().is_some_and(|pages| !pages.is_empty());
    let note = if framed {
        "Named pages may show it."
    } else {
        "Any https page may show it. Copy the snippet into yours; naming your pages keeps others out."
    };
    Step { done: framed, text: "Put it into your page", note: note.to_owned(), place: "/embed" }
}

/// Whether a provider was there when it was last asked.
pub(super) fn health(provider: &Value) -> Markup {
    let health = &provider["health"];
    html! {
        @if provider["active"] != true { p { (badge("warn", "switched off")) } }
        @else if health.is_null() { p { (badge("", "not asked yet")) " It is asked once a minute whether it is there." } }
        @else {
            p {
                @if health["reachable"] == true { (badge("good", "reachable")) } @else { (badge("bad", "not reachable")) }
                " asked " (moment(&health["checkedAt"]))
                @if let Some(status) = health["sipStatus"].as_u64() { ", answered " (status) }
                @if let Some(time) = health["rttMs"].as_u64() { " in " (time) " ms" }
                "."
            }
            @if let Some(reason) = health["reason"].as_str() { p { (fault(reason)) } }
        }
    }
}

fn fault(reason: &str) -> &str {
    match reason {
        "address_unreadable" => "Its address cannot be read. Check the SIP address.",
        "name_not_found" => "Its name has no address in the DNS. Check the host in the SIP address.",
        "resolver_silent" => "The DNS did not answer. This usually passes.",
        "address_blocked" => "Its address is a private one, which calls are not sent to.",
        "no_answer" => "Nothing answers there. Check host, port and transport, and whether a firewall lets us in.",
        "server_error" => "It answers that it cannot serve. Ask your provider.",
        other => other,
    }
}

fn rates(app: &App, integrations: &[Value]) -> Markup {
    let rows = html! {
        @for integration in integrations {
            tr {
                td { a href=(app.at(&format!("/integrations/{}", integration["id"].as_str().unwrap_or_default()))) { (integration["name"].as_str().unwrap_or_default()) } }
                td { (status(integration)) }
                td { (rate(&integration["successRates"][0])) }
                td { (rate(&integration["successRates"][1])) }
            }
        }
    };
    table("Integrations", &["Name", "State", "Last 24 hours", "Last 7 days"], rows)
}

/// An integration's state.
pub(super) fn status(integration: &Value) -> Markup {
    match integration["status"].as_str() {
        Some("active") => badge("good", "active"),
        Some("paused") => badge("bad", "paused"),
        _ => badge("", "off"),
    }
}

/// How deliveries ended.
pub(super) fn rate(rate: &Value) -> String {
    let of = |name: &str| rate[name].as_u64().unwrap_or_default();
    match of("delivered") + of("failed") {
        0 => "–".to_owned(),
        all => format!("{} of {all} delivered", of("delivered")),
    }
}

/// How long a call took; a dash while it runs.
pub(super) fn duration(call: &Value) -> String {
    call["duration"].as_u64().map_or_else(|| "–".to_owned(), lasted)
}
