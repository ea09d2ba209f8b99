//! The survey after a call.

use axum::response::Response;
use edge::{extract::Path, problem::Problem};
use maud::{Markup, html};
use serde_json::Value;

use super::{Part, Posted, Sheet, View, name_rows};

const SURVEY: Part =
    Part { page: "/design/survey", place: "/survey", title: "Survey after a call", model: Value::clone, fields };

pub(in crate::pages) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    SURVEY.show(view, &app).await
}

pub(in crate::pages) async fn save(
    view: View,
    Path(app): Path<String>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    name_rows(&mut posted.value, "questions", "q");
    posted.list("questions");
    SURVEY.save(view, &app, posted).await
}

fn fields(sheet: &Sheet<'_>) -> Markup {
    html! {
        section {
            p.hint { "Answers stand with their call; events tell the mean of the ratings alone. Without questions there is no survey." }
            @for (index, row) in sheet.rows("questions", 0).iter().enumerate() { (question(sheet, row, index + 1)) }
            (sheet.add("questions", "Questions", "Add a question"))
        }
        section { (sheet.tick("comment", "Visitors may add a comment")) }
    }
}

fn question(sheet: &Sheet<'_>, path: &str, number: usize) -> Markup {
    let kinds = [("rating", "Rating from 1 to 5"), ("choice", "One out of some")];
    let fields = html! {
        input type="hidden" name={ (path) ".id:keep" } value=(sheet.text(&format!("{path}.id")));
        div.columns {
            (sheet.line(&format!("{path}.label"), "Question"))
            (sheet.choice(&format!("{path}.kind:choice"), "Kind", &kinds))
        }
        div.only-choice { (sheet.area(&format!("{path}.options:lines"), "Options", 3).hint("One a line.")) }
    };
    html! { div.kinds { (sheet.row(path, &format!("Question {number}"), fields, true)) } }
}
