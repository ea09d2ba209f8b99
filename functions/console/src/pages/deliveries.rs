//! The delivery log.

use axum::response::Response;
use domain::{id::DeliveryId, operator::Role};
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, View,
    bits::{badge, figure, moment, pager, press, table},
    then,
};

const STATES: [(&str, &str); 5] =
    [("", "Any"), ("pending", "Pending"), ("delivered", "Delivered"), ("failed", "Failed"), ("skipped", "Skipped")];

/// `GET …/deliveries`.
pub(super) async fn list(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let asked = |name: &str| view.asked(name).unwrap_or_default();
    let (integration, status) = (asked("integrationId"), asked("status"));
    let filter = [("integrationId", integration.as_str()), ("status", status.as_str())];
    let filter: Vec<_> = filter.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let deliveries = view.list(&app.at("/deliveries"), 25, &filter).await?;
    // The log's cursor is none of this list's.
    let integrations = view.get(&app.at("/integrations?limit=100")).await?;
    let content = html! {
        h1 { "Deliveries" }
        form.asked method="get" action=(app.at("/deliveries")) {
            div.field {
                label for="of" { "Integration" }
                select #of name="integrationId" {
                    option value="" { "Any" }
                    @for known in integrations.as_array().map_or(&[][..], Vec::as_slice) {
                        option value=(figure(&known["id"])) selected[known["id"] == integration.as_str()] { (figure(&known["name"])) }
                    }
                }
            }
            div.field {
                label for="state" { "State" }
                select #state name="status" { @for (value, text) in STATES { option value=(value) selected[value == status] { (text) } } }
            }
            button.quiet type="submit" { "Show" }
        }
        section {
            @if deliveries.items.is_empty() { p.muted { "None. A delivery is one event on its way to one integration." } }
            @else { (rows(&app, &deliveries.items, "Deliveries")) }
            (pager(&view, &deliveries))
        }
    };
    Ok(app.page(&view, "/deliveries", "Deliveries", content))
}

/// Deliveries as a table.
pub(super) fn rows(app: &App, deliveries: &[Value], name: &str) -> Markup {
    let rows = html! {
        @for delivery in deliveries {
            tr {
                td {
                    a href=(app.at(&format!("/deliveries/{}", delivery["id"].as_str().unwrap_or_default()))) { (figure(&delivery["eventName"])) }
                    @if delivery["test"] == true { " " (badge("", "test")) }
                }
                td { (state(delivery)) }
                td { (delivery["attempts"].as_array().and_then(|attempts| attempts.last()).map_or_else(|| "–".to_owned(), result)) }
                td { (moment(&delivery["createdAt"])) }
            }
        }
    };
    table(name, &["Event", "State", "Last attempt", "Accepted"], rows)
}

fn state(delivery: &Value) -> Markup {
    match delivery["status"].as_str() {
        Some("delivered") => badge("good", "delivered"),
        Some("failed") => badge("bad", "failed"),
        Some("skipped") => badge("warn", "skipped"),
        _ => html! {
            (badge("warn", "pending"))
            @if !delivery["nextAttemptAt"].is_null() { br; span.muted { "next " (moment(&delivery["nextAttemptAt"])) } }
        },
    }
}

/// What an attempt came to: the status, or what went wrong.
pub(super) fn result(attempt: &Value) -> String {
    match (attempt["statusCode"].as_u64(), attempt["errorClass"].as_str()) {
        (Some(status), _) => format!("answered {status}"),
        (None, Some("dns")) => "the name was not found".to_owned(),
        (None, Some("connect")) => "nobody listens there".to_owned(),
        (None, Some("tls")) => "TLS failed".to_owned(),
        (None, Some("timeout")) => "no answer in time".to_owned(),
        (None, Some("reset")) => "the connection broke".to_owned(),
        (None, Some("redirect")) => "a redirect, which is not followed".to_owned(),
        (None, Some("blocked_address")) => "its address is none to send to".to_owned(),
        (None, Some("secret_missing")) => "a secret is missing".to_owned(),
        (None, other) => other.unwrap_or("–").to_owned(),
    }
}

fn place(app: &App, id: &str) -> Result<String, Problem> {
    let id: DeliveryId = id.parse().map_err(|_| Problem::not_found("delivery"))?;
    Ok(app.at(&format!("/deliveries/{id}")))
}

/// `GET …/deliveries/{delivery}`.
pub(super) async fn show(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    let delivery = view.get(&place).await?;
    let integration = delivery["integrationId"].as_str().unwrap_or_default();
    let sent = serde_json::to_string_pretty(&delivery["envelope"]).map_err(Problem::server_error)?;
    let rows = html! {
        @for attempt in delivery["attempts"].as_array().map_or(&[][..], Vec::as_slice) {
            tr {
                td { (figure(&attempt["number"])) }
                td { (moment(&attempt["at"])) }
                td { (result(attempt)) }
                td { (figure(&attempt["durationMs"])) " ms" }
                td { @if let Some(excerpt) = attempt["excerpt"].as_str() { code { (excerpt) } } @else { "–" } }
            }
        }
    };
    let content = html! {
        h1 { (figure(&delivery["eventName"])) " " (state(&delivery)) }
        section {
            dl {
                dt { "Accepted" } dd { (moment(&delivery["createdAt"])) }
                dt { "Integration" } dd { a.id href=(app.at(&format!("/integrations/{integration}"))) { (integration) } }
                dt { "Delivery id" } dd.id { (figure(&delivery["id"])) }
                dt { "Event id" } dd.id { (figure(&delivery["eventId"])) }
            }
            @if view.is(Role::Editor) && delivery["status"] != "pending" { div.actions { (press(&format!("{place}/resend"), "Resend", "quiet")) } }
        }
        section {
            h2 { "Attempts" }
            @if delivery["attempts"].as_array().is_none_or(Vec::is_empty) { p.muted { "None yet." } }
            @else { (table("Attempts", &["No.", "When", "Result", "Took", "Answer"], rows)) }
        }
        section { h2 { "What is sent" } pre tabindex="0" role="group" aria-label="What is sent" { (sent) } }
    };
    Ok(app.page(&view, "/deliveries", "Delivery", content))
}

/// `POST …/deliveries/{delivery}/resend`.
pub(super) async fn resend(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    view.send(Method::POST, &format!("{place}/resend"), &json!({})).await?;
    Ok(then(&place, "resent"))
}
