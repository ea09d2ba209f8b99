//! Code of the customer's own.

use axum::response::Response;
use domain::custom_code::MAX_BYTES;
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::{Markup, html};

use super::{App, Came, Entry, Posted, Sheet, View, save as save_form, then};

/// `GET …/custom-code`.
pub(super) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let shown = view.get(&app.at("/custom-code")).await?;
    Ok(render(&view, &app, &Entry::fresh(shown)))
}

fn area(sheet: &Sheet<'_>, name: &str, label: &str, hint: &str) -> Markup {
    html! {
        div.code { (sheet.area(name, label, 12).hint(hint)) }
        p.muted { c2c-bytes for={ "f-" (name) } most=(MAX_BYTES) { (sheet.text(name).len()) " of " (MAX_BYTES) " bytes" } }
    }
}

fn render(view: &View, app: &App, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let fields = html! {
        section {
            (area(&sheet, "headHtml", "End of the head", "HTML; scripts stand in script elements."))
            (area(&sheet, "bodyEndHtml", "End of the body", "HTML that comes after everything else."))
        }
    };
    let content = html! {
        h1 { "Custom code" }
        p.lead {
            "It runs beside the widget in a document and on a host of its own: without storage, cookies, microphone or a way into your page. It hears events with "
            code { "c2c.on(\"call_ended\", …)" } " and tells your page something with " code { "c2c.emit(\"lead\", …)" } ". It holds as soon as it is saved."
        }
        (super::form(view, &app.at("/custom-code"), entry, &sheet, fields, "Save code"))
    };
    app.page_with(view, "/custom-code", "Custom code", entry.status(), super::POLICY, content)
}

/// `POST …/custom-code`.
pub(super) async fn save(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = app.at("/custom-code");
    let shown = view.get(&place).await?;
    match save_form(&view, Method::PUT, &place, posted, &shown).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(entry) => Ok(render(&view, &app, &entry)),
    }
}
