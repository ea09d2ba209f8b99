//! Operators and their tokens.

use axum::response::Response;
use domain::id::OperatorId;
use edge::{extract::Path, problem::Problem};
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    Came, Entry, Posted, View,
    bits::{copyable, figure, moment, pager, table},
    page, save as save_form, then, with_once,
};

/// `GET /operators`.
pub(super) async fn list(view: View) -> Result<Response, Problem> {
    let entry = Entry::fresh(json!({}));
    render(&view, entry.status(), &entry, None).await
}

async fn render(view: &View, status: StatusCode, entry: &Entry, made: Option<&Markup>) -> Result<Response, Problem> {
    let operators = view.list("/operators", 100, &[]).await?;
    let sheet = entry.sheet(view);
    let roles = [
        ("viewer", "Viewer: looks at everything but secrets"),
        ("editor", "Editor: also changes things"),
        ("admin", "Admin: also reveals secrets, erases, and manages operators"),
    ];
    let fields = html! { div.columns { (sheet.line("name", "Name")) (sheet.choice("role:choice", "Role", &roles)) } };
    let rows = html! { @for operator in &operators.items { (row(operator)) } };
    let content = html! {
        h1 { "Operators" }
        @if let Some(made) = made { (made) }
        section { (table("Operators", &["Name", "Role", "Made", ""], rows)) (pager(view, &operators)) }
        section { h2 { "New operator" } (super::form(view, "/operators", entry, &sheet, fields, "Create operator")) }
    };
    Ok(page(status, "Operators", Some(view), content))
}

fn row(operator: &Value) -> Markup {
    let name = operator["name"].as_str().unwrap_or_default();
    let action = format!("/operators/{}/delete", operator["id"].as_str().unwrap_or_default());
    html! {
        tr {
            td { (name) br; span.muted.id { (figure(&operator["id"])) } }
            td { (figure(&operator["role"])) }
            td { (moment(&operator["createdAt"])) }
            td {
                details.danger {
                    summary { "End" span.unseen { " " (name) } }
                    form method="post" action=(action) {
                        input type="hidden" name="sure:flag" value="on";
                        p { "The token stops working, and sessions begun with it end." }
                        button.danger.small type="submit" { "End this operator" span.unseen { ": " (name) } }
                    }
                }
            }
        }
    }
}

/// `POST /operators`.
pub(super) async fn create(view: View, posted: Posted) -> Result<Response, Problem> {
    match save_form(&view, Method::POST, "/operators", posted, &json!({})).await? {
        Came::Saved(made) => {
            let told = html! {
                section.once {
                    h2 { "The token of " (figure(&made["name"])) }
                    p { "It is shown this once. Hand it over by a safe way; whoever has it signs in with it." }
                    (copyable("token", "the operator's token", made["token"].as_str().unwrap_or_default()))
                }
            };
            let around = render(&view, StatusCode::CREATED, &Entry::fresh(json!({})), Some(&told)).await;
            Ok(with_once(Some(&view), around, "/operators", &told))
        }
        Came::Again(entry) => render(&view, entry.status(), &entry, None).await,
    }
}

/// `POST /operators/{operator}/delete`.
pub(super) async fn delete(view: View, Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let id: OperatorId = id.parse().map_err(|_| Problem::not_found("operator"))?;
    posted.sure()?;
    view.send(Method::DELETE, &format!("/operators/{id}"), &json!({})).await?;
    Ok(then("/operators", "deleted"))
}
