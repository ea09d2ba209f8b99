//! Other ways to reach the app's people.

use axum::response::Response;
use edge::{extract::Path, problem::Problem};
use maud::{Markup, html};
use serde_json::Value;

use super::{Part, Posted, Sheet, View};

const BUTTONS: Part =
    Part { page: "/design/buttons", place: "/buttons", title: "Buttons", model: Value::clone, fields };

pub(in crate::pages) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    BUTTONS.show(view, &app).await
}

pub(in crate::pages) async fn save(
    view: View,
    Path(app): Path<String>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    posted.list("buttons");
    BUTTONS.save(view, &app, posted).await
}

fn fields(sheet: &Sheet<'_>) -> Markup {
    html! {
        section {
            p.hint { "Other ways to reach you, below the call button and while you are closed. Up to six." }
            @for (index, row) in sheet.rows("buttons", 0).iter().enumerate() { (button(sheet, row, index + 1)) }
            (sheet.add("buttons", "Buttons", "Add a button"))
        }
    }
}

fn button(sheet: &Sheet<'_>, path: &str, number: usize) -> Markup {
    let actions =
        [("link", "Opens a page"), ("copy", "Copies a text"), ("call", "Dials a number"), ("email", "Begins an email")];
    let fields = html! {
        input type="hidden" name={ (path) ".id:keep" } value=(sheet.text(&format!("{path}.id")));
        div.columns {
            (sheet.line(&format!("{path}.label"), "Label"))
            (sheet.choice(&format!("{path}.action:choice"), "What it does", &actions))
            (sheet.line(&format!("{path}.value"), "With what").hint("https://…, a text, +49…, or an email address."))
        }
    };
    sheet.row(path, &format!("Button {number}"), fields, true)
}
