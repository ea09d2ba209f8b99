//! An app's SIP provider: where calls go out.

use axum::response::Response;
use domain::operator::Role;
use edge::{extract::Path, problem::Problem};
use http::Method;
use maud::html;
use serde_json::{Value, json};

use super::{App, Came, Entry, POLICY, Posted, View, apps::health, bits::danger, save as save_form, then};

/// What a form holds of what the API shows.
fn model(shown: Option<&Value>) -> Value {
    let Some(shown) = shown else { return json!({"transport": "udp", "codecs": ["PCMU", "PCMA"], "active": true}) };
    let mut model = shown.clone();
    if let Some(fields) = model.as_object_mut() {
        fields.remove("health");
        fields.remove("kind");
    }
    model
}

/// `GET …/provider`.
pub(super) async fn show(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let shown = view.find(&app.at("/provider")).await?;
    Ok(render(&view, &app, shown.as_ref(), &Entry::fresh(model(shown.as_ref()))))
}

fn render(view: &View, app: &App, shown: Option<&Value>, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let has_password = shown.is_some_and(|shown| shown["hasPassword"] == true);
    let was_typed = entry.value["password"].is_string();
    let password = if has_password && was_typed {
        "Type the new password again; left empty, the old one stays."
    } else if was_typed {
        "Type the password again; left empty, there is none."
    } else if has_password {
        "One is stored. Leave this empty to keep it; it is never shown."
    } else {
        "None is stored. It is never shown once it is."
    };
    let address = match has_password && !view.is(Role::Admin) {
        true => {
            " To lead to another host, type the password again below, or ask an admin: the stored one stays with its host."
        }
        false => "",
    };
    let fields = html! {
        section {
            h2 { "Where it is" }
            div.columns {
                (sheet.line("uri", "SIP address")
                    .hint(format!("sip: or sips:, a host, and a port if need be: sip:trunk.example.com:5060.{address}")))
                (sheet.choice("transport:choice", "Transport", &[("udp", "UDP"), ("tcp", "TCP"), ("tls", "TLS")]).hint("How SIP travels to it."))
            }
            (sheet.tick("srtp", "Protect the audio on the way (SRTP)").hint("Needs TLS, which hides the keys."))
            (sheet.tick("active", "Calls may be placed").hint("Switched off, visitors are told that calls are not available."))
        }
        section {
            h2 { "Who we are to it" }
            div.columns {
                (sheet.line("username:optional", "User name (optional)").hint("Where it asks for one."))
                (sheet.line("password:optional", "Password (optional)").typed("password").hint(password))
            }
            @if has_password { (sheet.tick("withoutPassword", "Forget the stored password")) }
            (sheet.line("callerId:optional", "Caller id (optional)").hint("The number or name that calls come from."))
        }
        section {
            h2 { "Details" }
            (sheet.line("codecs:words", "Codecs, the preferred one first").hint("Out of PCMU, PCMA and opus."))
            (sheet.area("contextHeaders:lines", "Context keys that calls tell (optional)", 3)
                .hint("One a line. Each travels as a SIP header X-C2C-Context-…, so that whoever answers sees what the call is about."))
        }
    };
    let content = html! {
        h1 { "Provider" }
        p.lead { "Your telephone system or SIP trunk. Visitors' calls go out to it; nobody can call in." }
        @if let Some(shown) = shown {
            section {
                h2 { "Health" }
                (health(shown))
                p.muted { "It is asked once a minute (SIP OPTIONS), without its password. Open this page again for the newest answer." }
            }
        } @else {
            p.muted { "None yet. Its handbook calls the address “SIP domain”, “registrar” or “proxy”; let our media server's address through its firewall." }
        }
        (super::form(view, &app.at("/provider"), entry, &sheet, fields, "Save provider"))
        @if shown.is_some() && view.is(Role::Editor) {
            section {
                h2 { "Remove" }
                (danger(&app.at("/provider/delete"), "Remove this provider", "Visitors can no longer call. The stored password is erased.", "Yes, remove it"))
            }
        }
    };
    app.page_with(view, "/provider", "Provider", entry.status(), POLICY, content)
}

/// `POST …/provider`.
pub(super) async fn save(view: View, Path(app): Path<String>, mut posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = app.at("/provider");
    let shown = view.find(&place).await?;
    let mut forgets = false;
    if let Some(fields) = posted.value.as_object_mut() {
        fields.insert("kind".to_owned(), "sip".into());
        forgets = fields.remove("withoutPassword").is_some_and(|forgets| forgets == true);
        if forgets && !fields.contains_key("password") {
            fields.insert("password".to_owned(), Value::Null);
        }
    }
    match save_form(&view, Method::PUT, &place, posted, &model(shown.as_ref())).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(mut entry) => {
            entry.value["withoutPassword"] = forgets.into();
            Ok(render(&view, &app, shown.as_ref(), &entry))
        }
    }
}

/// `POST …/provider/delete`.
pub(super) async fn delete(view: View, Path(app): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    posted.sure()?;
    view.send(Method::DELETE, &app.at("/provider"), &json!({})).await?;
    Ok(then(&app.at("/provider"), "deleted"))
}
