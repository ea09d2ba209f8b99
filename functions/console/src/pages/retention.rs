//! How long what is about visitors is kept.

use axum::response::Response;
use domain::retention::{MAX_DAYS, MAX_DELIVERY_DAYS};
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::html;

use super::{App, Came, Entry, Posted, View, save as save_form, then};

/// `GET …/retention`.
pub(super) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let shown = view.get(&app.at("/retention")).await?;
    Ok(render(&view, &app, &Entry::fresh(shown)))
}

fn render(view: &View, app: &App, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let days = |most: u16| format!("Days, 1 to {most}.");
    let fields = html! {
        div.columns {
            (sheet.line("calls:number", "Calls and form values").hint(days(MAX_DAYS)).typed("number"))
            (sheet.line("surveys:number", "Survey answers").hint(days(MAX_DAYS)).typed("number"))
            (sheet.line("deliveries:number", "Deliveries, with what was sent").hint(days(MAX_DELIVERY_DAYS)).typed("number"))
        }
    };
    let content = html! {
        h1 { "Retention" }
        p.lead { "How long what is about visitors is kept. A change holds for what is made from now on. One call can be erased at any time on its own page." }
        section { (super::form(view, &app.at("/retention"), entry, &sheet, fields, "Save")) }
    };
    app.page_with(view, "/retention", "Retention", entry.status(), super::POLICY, content)
}

/// `POST …/retention`.
pub(super) async fn save(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = app.at("/retention");
    let shown = view.get(&place).await?;
    match save_form(&view, Method::PUT, &place, posted, &shown).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(entry) => Ok(render(&view, &app, &entry)),
    }
}
