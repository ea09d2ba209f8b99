//! The form before a call.

use axum::response::Response;
use edge::{extract::Path, problem::Problem};
use maud::{Markup, html};
use serde_json::Value;

use super::{Part, Posted, Sheet, View, name_rows};

const FORM: Part =
    Part { page: "/design/form", place: "/form", title: "Form before a call", model: Value::clone, fields };

pub(in crate::pages) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    FORM.show(view, &app).await
}

pub(in crate::pages) async fn save(
    view: View,
    Path(app): Path<String>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    name_rows(&mut posted.value, "fields", "f");
    posted.list("fields");
    FORM.save(view, &app, posted).await
}

fn fields(sheet: &Sheet<'_>) -> Markup {
    html! {
        section {
            p.hint { "What visitors write stands with their call, and in no event. Without fields there is no form." }
            @for (index, row) in sheet.rows("fields", 0).iter().enumerate() { (field(sheet, row, index + 1)) }
            (sheet.add("fields", "Fields", "Add a field"))
        }
    }
}

fn field(sheet: &Sheet<'_>, path: &str, number: usize) -> Markup {
    let kinds = [
        ("text", "Text"),
        ("email", "Email address"),
        ("phone", "Phone number"),
        ("select", "One out of some"),
        ("checkbox", "Box to tick"),
    ];
    let fields = html! {
        input type="hidden" name={ (path) ".id:keep" } value=(sheet.text(&format!("{path}.id")));
        div.columns {
            (sheet.line(&format!("{path}.label"), "What visitors read"))
            (sheet.choice(&format!("{path}.kind:choice"), "Kind", &kinds))
        }
        div.only-choice { (sheet.area(&format!("{path}.options:lines"), "Options", 3).hint("One a line.")) }
        (sheet.tick(&format!("{path}.required"), "No call begins without it"))
    };
    html! { div.kinds { (sheet.row(path, &format!("Field {number}"), fields, true)) } }
}
