//! Calls and what visitors wrote. Never what was said.

use axum::response::Response;
use domain::{id::CallId, operator::Role};
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, Posted, View,
    apps::duration,
    bits::{badge, danger, figure, moment, pager, table},
    then,
};

/// `GET …/calls`.
pub(super) async fn list(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let calls = view.list(&app.at("/calls"), 25, &[]).await?;
    let content = html! {
        h1 { "Calls" }
        section {
            @if calls.items.is_empty() { p.muted { "No calls yet. They stand here as soon as a visitor taps “Call”." } }
            @else { (rows(&app, &calls.items, "Calls")) }
            (pager(&view, &calls))
        }
    };
    Ok(app.page(&view, "/calls", "Calls", content))
}

/// Calls as a table.
pub(super) fn rows(app: &App, calls: &[Value], name: &str) -> Markup {
    let rows = html! {
        @for call in calls {
            tr {
                td {
                    a href=(app.at(&format!("/calls/{}", call["id"].as_str().unwrap_or_default()))) { (moment(&call["startedAt"])) }
                    @if call["preview"] == true { " " (badge("", "preview")) }
                }
                td { (outcome(call)) }
                td { (duration(call)) }
                td { (figure(&call["routingKey"])) }
            }
        }
    };
    table(name, &["Started", "Outcome", "Duration", "Routing key"], rows)
}

fn outcome(call: &Value) -> Markup {
    match (call["errorCode"].as_str(), call["endedAt"].is_null(), call["answeredAt"].is_null()) {
        (Some(code), ..) => html! { (badge("bad", "failed")) " " (in_words(code)) },
        (None, true, true) => badge("warn", "ringing"),
        (None, true, false) => badge("warn", "running"),
        (None, false, true) => badge("", "not answered"),
        (None, false, false) => badge("good", "answered"),
    }
}

/// An error code for people.
fn in_words(code: &str) -> &str {
    match code {
        "mic_policy" => "The page does not let the widget use the microphone.",
        "mic_denied" => "The visitor did not allow the microphone.",
        "mic_missing" => "The visitor has no microphone.",
        "mic_busy" => "The visitor's microphone was in use.",
        "insecure_context" => "The page was not served over https.",
        "session_refused" => "The session was refused.",
        "provider_inactive" => "The provider was switched off.",
        "network_unreachable" => "The visitor's network let no call through.",
        "media_failed" => "The connection broke.",
        "no_audio" => "No sound came through.",
        "busy" => "Busy.",
        "rejected" => "Declined.",
        "no_answer" => "Nobody answered.",
        "destination_unavailable" => "The destination could not be reached.",
        "call_limit" => "Too many calls at once.",
        "internal" => "A fault of ours.",
        other => other,
    }
}

/// `GET …/calls/{call}`.
pub(super) async fn show(view: View, Path((app, call)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let id: CallId = call.parse().map_err(|_| Problem::not_found("call"))?;
    let call = view.get(&app.at(&format!("/calls/{id}"))).await?;
    let hung_up = match call["reason"].as_str() {
        Some("user_hangup") => "the visitor",
        Some("remote_hangup") => "the other side",
        _ => "–",
    };
    let content = html! {
        h1 { "Call of " (moment(&call["startedAt"])) }
        section {
            h2 { "What happened" }
            dl {
                dt { "Outcome" } dd { (outcome(&call)) }
                dt { "Answered" } dd { @if call["answeredAt"].is_null() { "–" } @else { (moment(&call["answeredAt"])) } }
                dt { "Ended" } dd { @if call["endedAt"].is_null() { "–" } @else { (moment(&call["endedAt"])) } }
                dt { "Duration" } dd { (duration(&call)) }
                dt { "Hung up by" } dd { (hung_up) }
                @if let Some(status) = call["sipStatus"].as_u64() { dt { "SIP status" } dd { (status) } }
                dt { "Profile" } dd { a.id href=(app.at(&format!("/profiles/{}", call["destinationId"].as_str().unwrap_or_default()))) { (figure(&call["destinationId"])) } }
                dt { "Routing key" } dd { (figure(&call["routingKey"])) }
                dt { "Call id" } dd.id { (id.to_string()) }
                dt { "Session id" } dd.id { (figure(&call["sessionId"])) }
            }
        }
        section { h2 { "How it sounded" } (quality(&call)) }
        section {
            h2 { "Form before the call" }
            @let values = call["formValues"].as_array().map_or(&[][..], Vec::as_slice);
            @if values.is_empty() { p.muted { "Nothing was asked, or nothing was written." } }
            @else { dl { @for answer in values { dt { (figure(&answer["label"])) } dd { (written(&answer["value"])) } } } }
        }
        section {
            h2 { "Survey after the call" }
            @if call["survey"].is_null() { p.muted { "None was sent." } } @else { (survey(&call["survey"])) }
        }
        @if view.is(Role::Admin) {
            section {
                h2 { "Erase" }
                (danger(
                    &app.at(&format!("/calls/{id}/erase")),
                    "Erase this call",
                    "The call, what its visitor wrote and the bodies of its deliveries are erased for good. The audit log keeps that it was done.",
                    "Yes, erase everything about this call",
                ))
            }
        }
    };
    Ok(app.page(&view, "/calls", "Call", content))
}

fn written(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => figure(other),
    }
}

fn quality(call: &Value) -> Markup {
    let Some(legs) = call["quality"].as_object() else { return html! { p.muted { "Nothing was measured." } } };
    let is_known = |name: &&str| legs.values().any(|leg| !leg[*name].is_null());
    let figures = ["mos", "worstMos", "loss", "jitterMs", "worstJitterMs", "rttMs", "worstRttMs"];
    let figures = figures.into_iter().filter(is_known);
    let rows = html! {
        @for name in figures {
            tr {
                th scope="row" { (measure(name)) }
                @for leg in ["browser", "trunk"] { td { (figure(&call["quality"][leg][name])) } }
            }
        }
    };
    html! {
        @if let Some(codec) = call["codec"].as_str() { p { "Codec on the trunk: " code { (codec) } } }
        (table("Quality", &["", "From the visitor", "From the trunk"], rows))
    }
}

fn measure(name: &str) -> &str {
    match name {
        "mos" => "Mean opinion score, 1 to 4.5",
        "worstMos" => "Its worst",
        "loss" => "Share of packets lost",
        "jitterMs" => "Jitter, ms",
        "worstJitterMs" => "Its worst, ms",
        "rttMs" => "Round trip, ms",
        "worstRttMs" => "Its worst, ms",
        other => other,
    }
}

fn survey(survey: &Value) -> Markup {
    html! {
        dl {
            dt { "Mean" } dd { (figure(&survey["rating"])) " of 5" }
            @for answer in survey["answers"].as_array().map_or(&[][..], Vec::as_slice) {
                dt { (figure(&answer["label"])) }
                dd { @if let Some(rating) = answer["rating"].as_u64() { (rating) " of 5" } @else { (figure(&answer["text"])) } }
            }
            @if let Some(comment) = survey["comment"].as_str() { dt { "Comment" } dd.prose { (comment) } }
        }
    }
}

/// `POST …/calls/{call}/erase`.
pub(super) async fn erase(
    view: View,
    Path((app, call)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let id: CallId = call.parse().map_err(|_| Problem::not_found("call"))?;
    posted.sure()?;
    view.send(Method::DELETE, &app.at(&format!("/calls/{id}")), &json!({})).await?;
    Ok(then(&app.at("/calls"), "erased"))
}

/// `GET …/surveys`.
pub(super) async fn surveys(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let surveys = view.list(&app.at("/surveys"), 25, &[]).await?;
    let rows = html! {
        @for survey in &surveys.items {
            tr {
                td { a href=(app.at(&format!("/calls/{}", survey["callId"].as_str().unwrap_or_default()))) { (moment(&survey["submittedAt"])) } @if survey["preview"] == true { " " (badge("", "preview")) } }
                td { (figure(&survey["rating"])) " of 5" }
                td { (survey["answers"].as_array().map_or(0, Vec::len)) }
                td.prose { (survey["comment"].as_str().unwrap_or("–")) }
            }
        }
    };
    let content = html! {
        h1 { "Surveys" }
        section {
            @if surveys.items.is_empty() {
                p.muted { "Nobody has answered a survey yet. " a href=(app.at("/design/survey")) { "What visitors are asked" } }
            } @else { (table("Surveys", &["Sent", "Mean", "Answers", "Comment"], rows)) }
            (pager(&view, &surveys))
        }
    };
    Ok(app.page(&view, "/surveys", "Surveys", content))
}
