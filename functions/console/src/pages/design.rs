//! How an app's widget looks, what it says and asks: a draft in parts, seen by visitors once it is published.

pub(super) mod buttons;
pub(super) mod form;
pub(super) mod look;
pub(super) mod survey;

use axum::{extract::State as Extract, response::Response};
use domain::operator::Role;
use edge::{extract::Path, problem::Problem};
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, Came, Entry, POLICY, Posted, Sheet, View,
    bits::{badge, copyable, figure, moment, pager, press, table},
    save as save_form, then,
};
use crate::State;

/// A part of the draft: its place among the pages, its place in the API, and its form.
struct Part {
    page: &'static str,
    place: &'static str,
    title: &'static str,
    model: fn(&Value) -> Value,
    fields: fn(&Sheet<'_>) -> Markup,
}

impl Part {
    async fn show(&self, view: View, app: &str) -> Result<Response, Problem> {
        let app = App::of(&view, app).await?;
        let shown = view.get(&app.at(self.place)).await?;
        self.render(&view, &app, &Entry::fresh((self.model)(&shown))).await
    }

    async fn render(&self, view: &View, app: &App, entry: &Entry) -> Result<Response, Problem> {
        let draft = view.get(&app.at("/design")).await?;
        let sheet = entry.sheet(view);
        let fields = (self.fields)(&sheet);
        let content = html! {
            h1 { (self.title) }
            (standing(view, app, &draft))
            (super::form(view, &app.at(self.page), entry, &sheet, fields, "Save draft"))
        };
        Ok(app.page_with(view, self.page, self.title, entry.status(), POLICY, content))
    }

    async fn save(&self, view: View, app: &str, posted: Posted) -> Result<Response, Problem> {
        let app = App::of(&view, app).await?;
        let place = app.at(self.place);
        let shown = view.get(&place).await?;
        match save_form(&view, Method::PUT, &place, posted, &(self.model)(&shown)).await? {
            Came::Saved(_) => Ok(then(&app.at(self.page), "saved")),
            Came::Again(entry) => self.render(&view, &app, &entry).await,
        }
    }
}

/// How the draft stands to what visitors see, and what can be done about it.
fn standing(view: &View, app: &App, draft: &Value) -> Markup {
    let version = draft["publishedVersion"].as_u64().unwrap_or_default();
    html! {
        div.standing {
            p {
                @if draft["changed"] == true { (badge("warn", "draft")) " has changes that visitors do not see yet." }
                @else { (badge("good", "published")) " Visitors see what stands here." }
                @if version == 0 { span.muted { " Nothing was published yet." } }
                @else { span.muted { " Version " (version) ", " (moment(&draft["publishedAt"])) } }
            }
            @if view.is(Role::Editor) {
                div.actions {
                    (press(&app.at("/design/preview"), "Preview draft", "quiet"))
                    @if draft["changed"] == true { (press(&app.at("/design/publish"), "Publish", "")) }
                }
            }
        }
    }
}

/// Gives rows ids that have none: what a row is called in answers, unlike every other.
fn name_rows(value: &mut Value, list: &str, letter: &str) {
    let Some(rows) = value.get_mut(list).and_then(Value::as_array_mut) else { return };
    let taken: Vec<String> = rows.iter().filter_map(|row| row["id"].as_str().map(ToOwned::to_owned)).collect();
    let mut free = (1..).map(|number| format!("{letter}{number}")).filter(|id| !taken.contains(id));
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.entry("id").or_insert_with(|| free.next().unwrap_or_default().into());
    }
}

/// `POST …/design/publish`.
pub(super) async fn publish(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    view.send(Method::POST, &app.at("/design/publish"), &json!({})).await?;
    Ok(then(&app.at("/design/versions"), "published"))
}

/// `POST …/design/preview`: the draft in a widget, for an hour.
pub(super) async fn preview(
    Extract(state): Extract<State>,
    view: View,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let made = view.send(Method::POST, &app.at("/design/preview"), &json!({})).await?;
    let embed = view.get(&app.at("/embed")).await?;
    let url = made["url"].as_str().unwrap_or_default();
    // Pages that are named may show the widget, and no others: this one neither.
    let framed = embed["frameAncestors"].as_array().is_none_or(Vec::is_empty);
    let content = html! {
        h1 { "Preview" }
        p.lead { "The draft as it stands. Calls from here are real, and are marked as a preview; their events go to no integration." }
        div.preview {
            @if framed {
                iframe title="Preview of the widget" src=(url) width="380" height="600" allow="microphone; autoplay; speaker-selection; screen-wake-lock" {}
            }
            section {
                p { a.button href=(url) target="_blank" rel="noopener" { "Open in a window" } }
                @if !framed { p.muted { "Only the pages named under Embed may show the widget, so it opens in a window of its own." } }
                p { "Whoever has this address sees the draft until " (moment(&made["expiresAt"])) ":" }
                (copyable("preview", "the preview's address", url))
                p { a href=(app.at("/design")) { "Back to the draft" } }
            }
        }
    };
    let policy = format!("{POLICY}; frame-src {}", state.place.widget_origin);
    Ok(app.page_with(&view, "/design", "Preview", StatusCode::OK, &policy, content))
}

/// `GET …/design/versions`.
pub(super) async fn versions(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let draft = view.get(&app.at("/design")).await?;
    let versions = view.list(&app.at("/design/versions"), 25, &[]).await?;
    let now = &draft["publishedVersion"];
    let rows = html! {
        @for version in &versions.items {
            @let number = figure(&version["version"]);
            tr {
                td { (number) @if version["version"] == *now { " " (badge("good", "published")) } }
                td { (moment(&version["publishedAt"])) }
                td { (figure(&version["publishedBy"])) }
                td { @if let Some(from) = version["restoredFrom"].as_u64() { "Version " (from) " again" } @else { "–" } }
                td {
                    @if view.is(Role::Editor) && version["version"] != *now {
                        (press(&app.at(&format!("/design/versions/{number}/restore")), &format!("Restore {number}"), "quiet small"))
                    }
                }
            }
        }
    };
    let content = html! {
        h1 { "Versions" }
        (standing(&view, &app, &draft))
        p.lead { "What was published, newest first; 50 are kept. Restoring publishes one again under a new number and leaves the draft as it is." }
        section {
            @if versions.items.is_empty() { p.muted { "Nothing was published yet." } }
            @else { (table("Versions", &["Version", "Published", "By", "What", ""], rows)) }
            (pager(&view, &versions))
        }
    };
    Ok(app.page(&view, "/design/versions", "Versions", content))
}

/// `POST …/design/versions/{version}/restore`.
pub(super) async fn restore(view: View, Path((app, version)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let version: u32 = version.parse().map_err(|_| Problem::not_found("version"))?;
    view.send(Method::POST, &app.at(&format!("/design/versions/{version}/restore")), &json!({})).await?;
    Ok(then(&app.at("/design/versions"), "restored"))
}
