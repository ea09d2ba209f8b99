//! An integration's secrets and its signing key. Values are shown once, to who may see them and says why.

use axum::response::Response;
use domain::{field::FieldError, operator::Role, secret::SecretName};
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, Came, Entry, POLICY, Posted, View,
    bits::{badge, copyable, figure, moment, table},
    integrations, is_about_the_form, save as save_form, then, with_once,
};

/// `GET …/integrations/{integration}/secrets`.
pub(super) async fn list(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = integrations::place(&app, &id)?;
    let entry = Entry::fresh(json!({}));
    render(&view, &app, &place, &entry, None).await
}

async fn render(
    view: &View,
    app: &App,
    place: &str,
    entry: &Entry,
    told: Option<&Markup>,
) -> Result<Response, Problem> {
    let integration = view.get(place).await?;
    let secrets = view.list(&format!("{place}/secrets"), 100, &[]).await?;
    let sheet = entry.sheet(view);
    let fields = html! {
        div.columns {
            (sheet.line("name", "Name").hint("A letter, then letters, digits and _. The name of one that is stored replaces its value."))
            (sheet.line("value", "Value").typed("password").hint("Visible ASCII characters, at most 4,096."))
        }
    };
    let rows = html! { @for secret in &secrets.items { (row(view, place, secret)) } };
    let content = html! {
        h1 { "Secrets" }
        p.lead { "Of " a href=(place) { (figure(&integration["name"])) } ". Write {secret.name} in its headers, or in the path or query of its address." }
        @if let Some(told) = told { (told) }
        section {
            @if secrets.items.is_empty() { p.muted { "None yet." } }
            @else { (table("Secrets", &["Name", "Stored", "Shown", ""], rows)) }
        }
        section { h2 { "Store a secret" } (super::form(view, &format!("{place}/secrets"), entry, &sheet, fields, "Store secret")) }
    };
    Ok(app.page_with(view, "/integrations", "Secrets", entry.status(), POLICY, content))
}

fn row(view: &View, place: &str, secret: &Value) -> Markup {
    let name = secret["name"].as_str().unwrap_or_default();
    html! {
        tr {
            td { code { (name) } }
            td { (moment(&secret["updatedAt"])) }
            td { @if secret["revealedAt"].is_null() { "–" } @else { (moment(&secret["revealedAt"])) } }
            td {
                @if view.is(Role::Admin) && secret["revealedAt"].is_null() {
                    details {
                        summary { "Reveal" span.unseen { " " (name) } }
                        form method="post" action={ (place) "/secrets/" (name) "/reveal" } {
                            div.field {
                                label for={ "why-" (name) } { "Why?" }
                                p.hint id={ "why-" (name) "-hint" } { "It stands in the audit log. A value is shown once." }
                                input id={ "why-" (name) } name="reason" autocomplete="off" maxlength="500" aria-describedby={ "why-" (name) "-hint" };
                            }
                            button.quiet.small type="submit" { "Reveal" span.unseen { " " (name) } }
                        }
                    }
                }
                @if view.is(Role::Editor) {
                    details.danger {
                        summary { "Delete" span.unseen { " " (name) } }
                        form method="post" action={ (place) "/secrets/" (name) "/delete" } {
                            input type="hidden" name="sure:flag" value="on";
                            button.danger.small type="submit" { "Delete for good" span.unseen { ": " (name) } }
                        }
                    }
                }
            }
        }
    }
}

/// `POST …/integrations/{integration}/secrets`.
pub(super) async fn put(
    view: View,
    Path((app, id)): Path<(String, String)>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = integrations::place(&app, &id)?;
    let typed = json!({"name": posted.text("name")});
    let came = match posted.text("name").parse::<SecretName>() {
        Ok(name) => {
            posted.value = json!({"value": posted.text("value")});
            save_form(&view, Method::PUT, &format!("{place}/secrets/{name}"), posted, &json!({})).await?
        }
        Err(wrong) => {
            let problem = Problem::field(FieldError::invalid("name", wrong.to_string()));
            Came::Again(Entry { problem: Some(problem), ..Entry::fresh(json!({})) })
        }
    };
    match came {
        Came::Saved(_) => Ok(then(&format!("{place}/secrets"), "saved")),
        Came::Again(entry) => render(&view, &app, &place, &Entry { value: typed, ..entry }, None).await,
    }
}

/// A secret's place. What cannot be a name is as unknown as one that is not there.
fn at(place: &str, secret: &str) -> Result<String, Problem> {
    let name: SecretName = secret.parse().map_err(|_| Problem::not_found("secret"))?;
    Ok(format!("{place}/secrets/{name}"))
}

/// `POST …/secrets/{secret}/reveal`.
pub(super) async fn reveal(
    view: View,
    Path((app, id, secret)): Path<(String, String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = integrations::place(&app, &id)?;
    let path = format!("{}/reveal", at(&place, &secret)?);
    let entry = Entry::fresh(json!({}));
    match view.send(Method::POST, &path, &json!({"reason": posted.text("reason")})).await {
        Ok(shown) => {
            let told = html! {
                section.once {
                    h2 { "The value of " (secret) }
                    p { "It is shown this once. The audit log says that you have seen it." }
                    (copyable("revealed", "the value", shown["value"].as_str().unwrap_or_default()))
                }
            };
            let around = render(&view, &app, &place, &entry, Some(&told)).await;
            Ok(with_once(Some(&view), around, &format!("{place}/secrets"), &told))
        }
        Err(problem) if is_about_the_form(&problem) => {
            render(&view, &app, &place, &Entry { problem: Some(problem), ..entry }, None).await
        }
        Err(problem) => Err(problem),
    }
}

/// `POST …/secrets/{secret}/delete`.
pub(super) async fn delete(
    view: View,
    Path((app, id, secret)): Path<(String, String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = integrations::place(&app, &id)?;
    posted.sure()?;
    view.send(Method::DELETE, &at(&place, &secret)?, &json!({})).await?;
    Ok(then(&format!("{place}/secrets"), "deleted"))
}

/// `POST …/integrations/{integration}/signing-key`: the new key, this once.
pub(super) async fn signing_key(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = integrations::place(&app, &id)?;
    let made = view.send(Method::POST, &format!("{place}/signing-key"), &json!({})).await?;
    let told = html! {
        section.once {
            h2 { "The signing key " (badge("good", "new")) }
            p { "It is shown this once: put it where your receiver verifies deliveries. Signing is on from now on." }
            (copyable("signing-key", "the signing key", made["key"].as_str().unwrap_or_default()))
            @if !made["previousKeyUntil"].is_null() {
                p { "The key before it signs as well until " (moment(&made["previousKeyUntil"])) ", so that nothing is lost while you change it." }
            }
        }
    };
    let around = integrations::once(&view, &app, &place, told.clone()).await;
    Ok(with_once(Some(&view), around, &place, &told))
}
