//! Profiles: whom visitors can reach.

use axum::response::Response;
use domain::{id::DestinationId, operator::Role};
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, Came, Entry, Posted, Sheet, View,
    bits::{badge, danger, figure, pager, table},
    hours, save as save_form, then,
};

fn model(shown: &Value) -> Value {
    let mut model = shown.clone();
    if let Some(fields) = model.as_object_mut() {
        fields.remove("id");
        fields.remove("createdAt");
    }
    model
}

fn place(app: &App, id: &str) -> Result<String, Problem> {
    let id: DestinationId = id.parse().map_err(|_| Problem::not_found("profile"))?;
    Ok(app.at(&format!("/profiles/{id}")))
}

/// `GET …/profiles`.
pub(super) async fn list(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let profiles = view.list(&app.at("/profiles"), 100, &[]).await?;
    let rows = html! {
        @for profile in &profiles.items {
            tr {
                td {
                    a href=(app.at(&format!("/profiles/{}", profile["id"].as_str().unwrap_or_default()))) { (figure(&profile["name"])) }
                    @if profile["default"] == true { " " (badge("good", "default")) }
                }
                td.id { (figure(&profile["destination"])) }
                td { (profile["routingKeys"].as_array().map_or(0, Vec::len)) }
                td { (match profile["hours"]["mode"].as_str() { Some("custom") => "its own", Some("always") => "always open", _ => "the app's" }) }
            }
        }
    };
    let content = html! {
        h1 { "Profiles" }
        p.lead { "Whom visitors can reach. The default is called unless an embed names another one." }
        section {
            @if profiles.items.is_empty() { p.muted { "None yet. Make one and let it be the default, then visitors can call." } }
            @else { (table("Profiles", &["Name", "Destination", "Routing keys", "Hours"], rows)) (pager(&view, &profiles)) }
            @if view.is(Role::Editor) { p { a.button href=(app.at("/profiles/new")) { "New profile" } } }
        }
    };
    Ok(app.page(&view, "/profiles", "Profiles", content))
}

fn fields(sheet: &Sheet<'_>) -> Markup {
    html! {
        section {
            h2 { "Who it is" }
            (sheet.line("name", "Name").hint("For you and your colleagues."))
            (sheet.line("destination", "Destination").hint("sip:sales@pbx.example.com or tel:+493012345678."))
            (sheet.line("routingKeys:words", "Routing keys (optional)").hint("Names that an embed can ask for with routingKey, blanks between them."))
            (sheet.tick("default", "The default: called unless an embed names another profile"))
        }
        (hours::fields(sheet, "hours.", &[("inherit", "As the app"), ("always", "Always open"), ("custom", "As set below")]))
    }
}

/// `GET …/profiles/new`.
pub(super) async fn new(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    Ok(render_new(&view, &app, &Entry::fresh(json!({}))))
}

fn render_new(view: &View, app: &App, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let fields = fields(&sheet);
    let content = html! {
        h1 { "New profile" }
        (super::form(view, &app.at("/profiles"), entry, &sheet, fields, "Create profile"))
    };
    app.page_with(view, "/profiles", "New profile", entry.status(), super::POLICY, content)
}

/// `POST …/profiles`.
pub(super) async fn create(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    match save_form(&view, Method::POST, &app.at("/profiles"), posted, &json!({})).await? {
        Came::Saved(_) => Ok(then(&app.at("/profiles"), "created")),
        Came::Again(entry) => Ok(render_new(&view, &app, &entry)),
    }
}

/// `GET …/profiles/{profile}`.
pub(super) async fn show(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    let shown = view.get(&place).await?;
    Ok(render(&view, &app, &place, &shown, &Entry::fresh(model(&shown))))
}

fn render(view: &View, app: &App, place: &str, shown: &Value, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let fields = fields(&sheet);
    let name = shown["name"].as_str().unwrap_or_default();
    let content = html! {
        h1 { (name) }
        p.muted.id { (figure(&shown["id"])) }
        (super::form(view, place, entry, &sheet, fields, "Save profile"))
        @if view.is(Role::Editor) {
            section {
                h2 { "Delete" }
                (danger(&format!("{place}/delete"), "Delete this profile", "Embeds that name it or one of its routing keys can no longer call.", "Yes, delete it"))
            }
        }
    };
    app.page_with(view, "/profiles", name, entry.status(), super::POLICY, content)
}

/// `POST …/profiles/{profile}`.
pub(super) async fn save(
    view: View,
    Path((app, id)): Path<(String, String)>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    let shown = view.get(&place).await?;
    hours_whole(&mut posted.value);
    match save_form(&view, Method::PATCH, &place, posted, &model(&shown)).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(entry) => Ok(render(&view, &app, &place, &shown, &entry)),
    }
}

/// A profile is changed in parts, so what was emptied must say so.
fn hours_whole(value: &mut Value) {
    let Some(hours) = value.get_mut("hours").and_then(Value::as_object_mut) else { return };
    for name in ["timezone", "message", "exceptions"] {
        hours.entry(name).or_insert(Value::Null);
    }
}

/// `POST …/profiles/{profile}/delete`.
pub(super) async fn delete(
    view: View,
    Path((app, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    posted.sure()?;
    view.send(Method::DELETE, &place(&app, &id)?, &json!({})).await?;
    Ok(then(&app.at("/profiles"), "deleted"))
}
