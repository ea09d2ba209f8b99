//! Who tried what.

use axum::response::Response;
use edge::{extract::Path, problem::Problem};
use http::StatusCode;
use maud::{Markup, html};

use super::{
    App, View,
    api::Listed,
    bits::{badge, figure, moment, pager, table},
    page,
};

/// `GET …/audit`.
pub(super) async fn of_app(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let rows = view.list(&app.at("/audit"), 50, &[]).await?;
    Ok(app.page(
        &view,
        "/audit",
        "Audit log",
        log(&view, &rows, "Every change of this app that somebody tried, granted or refused."),
    ))
}

/// `GET /audit`.
pub(super) async fn of_deployment(view: View) -> Result<Response, Problem> {
    let rows = view.list("/audit", 50, &[]).await?;
    let content = log(
        &view,
        &rows,
        "Who signed in and out, operators, and apps that came and went. What is about one app stands in its own log.",
    );
    Ok(page(StatusCode::OK, "Audit log", Some(&view), content))
}

fn log(view: &View, listed: &Listed, lead: &str) -> Markup {
    let rows = html! {
        @for row in &listed.items {
            tr {
                td { (moment(&row["at"])) }
                td { (figure(&row["operator"])) br; span.muted.id { (figure(&row["ip"])) } }
                td {
                    code { (figure(&row["action"])) } br; span.muted.id { (figure(&row["target"])) }
                    @if let Some(detail) = row["detail"].as_str() { br; span.prose { (detail) } }
                }
                td {
                    @if row["outcome"] == "granted" { (badge("good", "granted")) } @else { (badge("bad", "refused")) }
                    @if let Some(why) = row["refusal"].as_str() { " " (why.replace('_', " ")) }
                    @if let Some(reason) = row["reason"].as_str() { br; span.prose { "“" (reason) "”" } }
                }
            }
        }
    };
    html! {
        h1 { "Audit log" }
        p.lead { (lead) }
        section {
            @if listed.items.is_empty() { p.muted { "Nothing yet." } }
            @else { (table("Audit log", &["When", "Who", "What", "Outcome"], rows)) }
            (pager(view, listed))
        }
    }
}
