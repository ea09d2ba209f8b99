//! Where the widget may stand, who hears it, and what one pastes.

use axum::response::Response;
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::html;
use serde_json::{Value, json};

use super::{App, Came, Entry, Posted, View, bits::copyable, save as save_form, then};

fn model(shown: &Value) -> Value {
    json!({"allowedOrigins": shown["allowedOrigins"], "frameAncestors": shown["frameAncestors"]})
}

/// `GET …/embed`.
pub(super) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let shown = view.get(&app.at("/embed")).await?;
    Ok(render(&view, &app, &shown, &Entry::fresh(model(&shown))))
}

fn render(view: &View, app: &App, shown: &Value, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let fields = html! {
        (sheet.area("frameAncestors:lines", "Pages that may show the widget", 4)
            .hint("One origin a line, such as https://shop.example.com, or https://*.example.com for all hosts below one. Empty: any https page.")
            .holding("https://shop.example.com"))
        (sheet.area("allowedOrigins:lines", "Pages that hear its events", 4)
            .hint("One exact origin a line. They are told by postMessage what happens in the widget. Empty: nobody is told.")
            .holding("https://shop.example.com"))
    };
    let snippet = |name: &str| shown["snippets"][name].as_str().unwrap_or_default();
    let content = html! {
        h1 { "Embed" }
        section {
            h2 { "A button on your page" }
            p { "Put this just before the closing body tag. It waits until your page is idle, draws one button, and loads nothing else before it is tapped." }
            (copyable("loader", "the button's snippet", snippet("loader")))
            p.muted {
                "Attributes " code { "data-context-…" } " tell what the call is about, such as " code { "data-context-order=\"A-1\"" }
                ": at most 20 of them and 2,048 bytes. What is more, or has a name that cannot be one, is left out and never stops a visitor."
            }
        }
        section {
            h2 { "A frame at its place" }
            p { "For a contact page. The frame hands on the microphone; it loads when it comes into view." }
            (copyable("iframe", "the frame's snippet", snippet("iframe")))
        }
        section {
            h2 { "A plain link" }
            p { "Opens the widget in a window of its own: for mails, and for pages that frame nothing." }
            (copyable("link", "the link's snippet", snippet("link")))
        }
        section {
            h2 { "Where it may stand" }
            (super::form(view, &app.at("/embed"), entry, &sheet, fields, "Save"))
        }
    };
    app.page_with(view, "/embed", "Embed", entry.status(), super::POLICY, content)
}

/// `POST …/embed`.
pub(super) async fn save(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = app.at("/embed");
    let shown = view.get(&place).await?;
    match save_form(&view, Method::PUT, &place, posted, &model(&shown)).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(entry) => Ok(render(&view, &app, &shown, &entry)),
    }
}
