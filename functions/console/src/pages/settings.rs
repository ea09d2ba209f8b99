//! An app itself: its name, its key, its end.

use axum::response::Response;
use domain::operator::Role;
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::html;
use serde_json::{Value, json};

use super::{
    App, Came, Entry, Posted, View,
    bits::{copyable, danger, moment},
    save as save_form, then,
};

fn model(shown: &Value) -> Value {
    json!({"name": shown["name"]})
}

/// `GET …/settings`.
pub(super) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    Ok(render(&view, &app, &Entry::fresh(model(&app.shown))))
}

fn render(view: &View, app: &App, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let fields = html! { (sheet.line("name", "Name").hint("For you and your colleagues; visitors do not see it.")) };
    let content = html! {
        h1 { "Settings" }
        section { h2 { "Name" } (super::form(view, &app.at("/settings"), entry, &sheet, fields, "Save name")) }
        section {
            h2 { "Id and key" }
            p { "Both stand in every embed. They are no secrets: what protects you is where the widget may stand, and limits." }
            (copyable("id", "the app's id", &app.id.to_string()))
            (copyable("key", "the widget key", app.shown["widgetKey"].as_str().unwrap_or_default()))
            p.muted { "Made " (moment(&app.shown["createdAt"])) "." }
            @if view.is(Role::Admin) {
                (danger(&app.at("/settings/rotate-key"), "Make a new widget key", "Every embed with the old key stops working at once. Put the new one into your pages.", "Yes, make a new key"))
            }
        }
        @if view.is(Role::Admin) {
            section {
                h2 { "Delete" }
                (danger(&app.at("/settings/delete"), "Delete this app", "Its widget stops working at once, and its settings, profiles and secrets are erased. Switch its integrations off first.", "Yes, delete this app for good"))
            }
        }
    };
    app.page_with(view, "/settings", "Settings", entry.status(), super::POLICY, content)
}

/// `POST …/settings`.
pub(super) async fn save(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    match save_form(&view, Method::PATCH, &app.at(""), posted, &model(&app.shown)).await? {
        Came::Saved(_) => Ok(then(&app.at("/settings"), "saved")),
        Came::Again(entry) => Ok(render(&view, &app, &entry)),
    }
}

/// `POST …/settings/rotate-key`.
pub(super) async fn rotate_key(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    posted.sure()?;
    view.send(Method::POST, &app.at("/rotate-key"), &json!({})).await?;
    Ok(then(&app.at("/embed"), "saved"))
}

/// `POST …/settings/delete`.
pub(super) async fn delete(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    posted.sure()?;
    view.send(Method::DELETE, &app.at(""), &json!({})).await?;
    Ok(then("/", "deleted"))
}
