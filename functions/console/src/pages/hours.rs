//! Business hours: of an app, and as fields of a profile.

use axum::{extract::State as Extract, response::Response};
use domain::{
    hours::{Opening, clock, decide, zone_names},
    time::Timestamp,
};
use edge::{
    extract::{Now, Path},
    problem::Problem,
};
use http::Method;
use maud::{Markup, html};
use serde_json::Value;

use super::{App, Came, Entry, Posted, Sheet, View, bits::badge, save as save_form, then};
use crate::State;

const DAYS: [(&str, &str); 7] = [
    ("mon", "Monday"),
    ("tue", "Tuesday"),
    ("wed", "Wednesday"),
    ("thu", "Thursday"),
    ("fri", "Friday"),
    ("sat", "Saturday"),
    ("sun", "Sunday"),
];

/// `GET …/hours`.
pub(super) async fn show(
    Extract(state): Extract<State>,
    Now(now): Now,
    view: View,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let shown = view.get(&app.at("/hours")).await?;
    render(&state, now, &view, &app, &Entry::fresh(shown)).await
}

async fn render(state: &State, now: Timestamp, view: &View, app: &App, entry: &Entry) -> Result<Response, Problem> {
    let hours = state.store.hours(app.id).await.map_err(Problem::unavailable)?;
    let zone = serde_json::to_value(&hours).map_err(Problem::server_error)?;
    let zone = zone["timezone"].as_str().unwrap_or("UTC");
    let sheet = entry.sheet(view);
    let fields = fields(&sheet, "", &[("always", "Always open"), ("custom", "As set below")]);
    let content = html! {
        h1 { "Business hours" }
        p.lead {
            @match decide(hours.as_ref(), None, now) {
                Opening::Open => { (badge("good", "open now")) }
                Opening::Closed(closed) => {
                    (badge("warn", "closed now"))
                    @if let Some(label) = &closed.label { " " (label) "." }
                    @match closed.opens_at {
                        Some(at) => { " Opens " time datetime=(at) { (clock(zone, at)) } "." }
                        None => " Does not open again.",
                    }
                }
            }
            " " span.muted { "It is " (clock(zone, now)) " (" (zone) "). Profiles may have hours of their own." }
        }
        (super::form(view, &app.at("/hours"), entry, &sheet, fields, "Save hours"))
    };
    Ok(app.page_with(view, "/hours", "Business hours", entry.status(), super::POLICY, content))
}

/// The fields of hours; `below`: the path that they stand under, with its dot.
pub(super) fn fields(sheet: &Sheet<'_>, below: &str, modes: &[(&str, &str)]) -> Markup {
    let at = |name: &str| format!("{below}{name}");
    let zones = zone_names();
    let zones: Vec<(&str, &str)> =
        std::iter::once(("", "Please choose")).chain(zones.iter().map(|zone| (zone.as_str(), zone.as_str()))).collect();
    html! {
        section {
            h2 { "When it is open" }
            div.columns {
                (sheet.choice(&at("mode:choice"), "Open", modes))
                (sheet.choice(&at("timezone:optional"), "Time zone", &zones))
            }
            (sheet.line(&at("message:optional"), "What visitors read while it is closed")
                .hint("Empty: the widget's own words in the visitor's language. The time of opening is shown beside it."))
        }
        section {
            h2 { "Week" }
            p.hint { "A window that closes before it opens ends on the next day. Leave a window empty to be closed." }
            @for (day, name) in DAYS { (windows(sheet, &at(&format!("weekly.{day}")), name, true)) }
        }
        section {
            h2 { "Exceptions" }
            p.hint { "Holidays and other dates whose hours take the place of the week's." }
            @for (index, row) in sheet.rows(&at("exceptions"), 0).iter().enumerate() { (exception(sheet, row, index + 1)) }
            (sheet.add(&at("exceptions"), "Exceptions", "Add an exception"))
        }
    }
}

fn windows(sheet: &Sheet<'_>, path: &str, name: &str, may_add: bool) -> Markup {
    html! {
        fieldset.day {
            legend { (name) }
            @for row in sheet.rows(path, 1) {
                div.window {
                    (sheet.line(&format!("{row}.open"), "Opens").typed("time"))
                    span aria-hidden="true" { "–" }
                    (sheet.line(&format!("{row}.close"), "Closes").typed("time"))
                }
            }
            @if may_add { (sheet.add(path, name, "Add a window")) }
        }
    }
}

fn exception(sheet: &Sheet<'_>, path: &str, number: usize) -> Markup {
    let fields = html! {
        div.columns {
            (sheet.line(&format!("{path}.date"), "Date").typed("date"))
            (sheet.line(&format!("{path}.label:optional"), "Name (optional)").hint("Visitors read it that day: Christmas."))
        }
        (sheet.tick(&format!("{path}.closed"), "Closed all day"))
        (windows(sheet, &format!("{path}.windows"), "Or open", true))
    };
    sheet.row(path, &format!("Exception {number}"), fields, false)
}

/// `POST …/hours`.
pub(super) async fn save(
    Extract(state): Extract<State>,
    Now(now): Now,
    view: View,
    Path(app): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = app.at("/hours");
    let shown: Value = view.get(&place).await?;
    match save_form(&view, Method::PUT, &place, posted, &shown).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(entry) => render(&state, now, &view, &app, &entry).await,
    }
}
