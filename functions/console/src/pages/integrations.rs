//! Integrations: addresses that receive an app's events.

use axum::response::Response;
use domain::{event::EventName, id::IntegrationId, operator::Role, time::Timestamp};
use edge::{
    extract::{Now, Path},
    problem::Problem,
};
use http::{Method, StatusCode};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    App, Came, Entry, POLICY, Posted, Sheet, View,
    apps::{rate, status},
    bits::{badge, danger, figure, moment, press, table},
    deliveries, save as save_form, then,
};

fn model(shown: &Value) -> Value {
    let fields = ["name", "url", "events", "headers", "timeoutMs", "retryStatuses"];
    fields.into_iter().map(|field| (field.to_owned(), shown[field].clone())).collect()
}

/// An integration's place, the same in the management API and among the pages.
pub(super) fn place(app: &App, id: &str) -> Result<String, Problem> {
    let id: IntegrationId = id.parse().map_err(|_| Problem::not_found("integration"))?;
    Ok(app.at(&format!("/integrations/{id}")))
}

/// `GET …/integrations`.
pub(super) async fn list(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let integrations = view.list(&app.at("/integrations"), 100, &[]).await?;
    let rows = html! {
        @for integration in &integrations.items {
            tr {
                td { a href=(app.at(&format!("/integrations/{}", integration["id"].as_str().unwrap_or_default()))) { (figure(&integration["name"])) } }
                td { (status(integration)) }
                td { (integration["events"].as_array().map_or(0, Vec::len)) }
                td { (rate(&integration["successRates"][0])) }
                td { (rate(&integration["successRates"][1])) }
            }
        }
    };
    let content = html! {
        h1 { "Integrations" }
        p.lead { "Addresses of yours that receive this app's events, each as one POST. Three may be active at once." }
        section {
            @if integrations.items.is_empty() { p.muted { "None yet." } }
            @else { (table("Integrations", &["Name", "State", "Events", "Last 24 hours", "Last 7 days"], rows)) }
            @if view.is(Role::Editor) { p { a.button href=(app.at("/integrations/new")) { "New integration" } } }
        }
    };
    Ok(app.page(&view, "/integrations", "Integrations", content))
}

/// What is said of the address of an integration that holds secrets.
fn about_secrets(view: &View) -> &'static str {
    match view.is(Role::Admin) {
        true => " The secrets stored here go where it leads.",
        false => " The secrets stored here go where it leads: to another host only an admin may lead it.",
    }
}

fn fields(sheet: &Sheet<'_>, about_secrets: &str) -> Markup {
    let events = EventName::ALL.map(|name| (name.as_str(), name.as_str()));
    html! {
        section {
            h2 { "Where to" }
            (sheet.line("name", "Name").hint("For you and your colleagues."))
            (sheet.line("url", "Address").holding("https://")
                .hint(format!("Begins with https://. In its path and query {{secret.name}} stands for a secret of this integration.{about_secrets}")))
            (sheet.set("events", "Events", &events).hint("Nothing is sent that is not ticked."))
        }
        section {
            h2 { "Headers" }
            p.hint { "Sent with every delivery. Write {secret.name} for what nobody may read here." }
            @for (index, row) in sheet.rows("headers", 0).iter().enumerate() { (header(sheet, row, index + 1)) }
            (sheet.add("headers", "Headers", "Add a header"))
        }
        section {
            h2 { "Patience" }
            (sheet.line("timeoutMs:number", "Time limit of one attempt, in milliseconds").typed("number").hint("100 to 10,000; empty at first: 5,000."))
            (sheet.set("retryStatuses", "Also try again after", &[("408", "408 Request Timeout"), ("425", "425 Too Early"), ("429", "429 Too Many Requests")])
                .hint("5xx and no answer are always tried again, up to three attempts."))
        }
    }
}

fn header(sheet: &Sheet<'_>, path: &str, number: usize) -> Markup {
    let fields = html! {
        div.columns { (sheet.line(&format!("{path}.name"), "Name")) (sheet.line(&format!("{path}.value"), "Value")) }
    };
    sheet.row(path, &format!("Header {number}"), fields, false)
}

/// Statuses are numbers in the API, and texts in boxes.
fn numbers(posted: &mut Posted) {
    let statuses = posted.value.get_mut("retryStatuses").and_then(Value::as_array_mut).into_iter().flatten();
    for status in statuses {
        if let Some(number) = status.as_str().and_then(|text| text.parse::<u16>().ok()) {
            *status = number.into();
        }
    }
}

/// `GET …/integrations/new`.
pub(super) async fn new(view: View, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    Ok(render_new(&view, &app, &Entry::fresh(json!({}))))
}

fn render_new(view: &View, app: &App, entry: &Entry) -> Response {
    let sheet = entry.sheet(view);
    let fields = html! {
        (fields(&sheet, ""))
        section {
            (sheet.choice("status:choice", "Begin", &[("active", "Active: send from now on"), ("inactive", "Switched off")])
                .hint("Secrets and the signing key are added once it is made: begin switched off if it needs them."))
        }
    };
    let content = html! {
        h1 { "New integration" }
        (super::form(view, &app.at("/integrations"), entry, &sheet, fields, "Create integration"))
    };
    app.page_with(view, "/integrations", "New integration", entry.status(), POLICY, content)
}

/// `POST …/integrations`.
pub(super) async fn create(view: View, Path(app): Path<String>, mut posted: Posted) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    numbers(&mut posted);
    // What the page does not send is what an integration begins with.
    match save_form(&view, Method::POST, &app.at("/integrations"), posted, &json!({})).await? {
        Came::Saved(made) => Ok(then(&place(&app, made["id"].as_str().unwrap_or_default())?, "created")),
        Came::Again(entry) => Ok(render_new(&view, &app, &entry)),
    }
}

/// `GET …/integrations/{integration}`.
pub(super) async fn show(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    let shown = view.get(&place).await?;
    render(&view, &app, &place, &shown, &Entry::fresh(model(&shown)), None).await
}

/// One integration; `told`: what was just found out about it.
pub(super) async fn render(
    view: &View,
    app: &App,
    place: &str,
    shown: &Value,
    entry: &Entry,
    told: Option<Markup>,
) -> Result<Response, Problem> {
    let id = shown["id"].as_str().unwrap_or_default();
    let latest = view.list(&app.at("/deliveries"), 5, &[("integrationId", id)]).await?;
    let secrets = view.list(&format!("{place}/secrets"), 1, &[]).await?.items;
    let sheet = entry.sheet(view);
    let fields = fields(&sheet, if secrets.is_empty() { "" } else { about_secrets(view) });
    let name = shown["name"].as_str().unwrap_or_default();
    let content = html! {
        h1 { (name) " " (status(shown)) }
        @if let Some(told) = told { (told) }
        section {
            h2 { "State" }
            @if let Some(reason) = shown["pausedReason"].as_str() { p { (badge("bad", "paused")) " " (reason) " " span.muted { (moment(&shown["pausedAt"])) } } }
            dl {
                dt { "Last 24 hours" } dd { (rate(&shown["successRates"][0])) }
                dt { "Last 7 days" } dd { (rate(&shown["successRates"][1])) }
                dt { "Signing" } dd { @if shown["signing"] == true { (badge("good", "on")) } @else { (badge("warn", "off")) " Receivers cannot tell that a delivery is ours." } }
                dt { "Id" } dd.id { (id) }
            }
            @if view.is(Role::Editor) { (actions(place, shown)) }
            p { a href={ (place) "/secrets" } { "Secrets" } }
        }
        section {
            h2 { "Latest deliveries" }
            @if latest.items.is_empty() { p.muted { "None yet. Send a test to see one." } }
            @else {
                (deliveries::rows(app, &latest.items, "Latest deliveries"))
                p { a href=(app.at(&format!("/deliveries?integrationId={id}"))) { "All its deliveries" } }
            }
            @if view.is(Role::Editor) { (resend_form(place)) }
        }
        (super::form(view, place, entry, &sheet, fields, "Save integration"))
        @if view.is(Role::Editor) {
            section {
                h2 { "Delete" }
                (danger(&format!("{place}/delete"), "Delete this integration", "Nothing more is sent, and its secrets are erased. Its deliveries stay in the log.", "Yes, delete it"))
            }
        }
    };
    Ok(app.page_with(view, "/integrations", name, entry.status(), POLICY, content))
}

fn actions(place: &str, shown: &Value) -> Markup {
    let signing = if shown["signing"] == true { "Change signing key" } else { "Make signing key" };
    html! {
        div.actions {
            @if shown["status"] == "active" { (press(&format!("{place}/deactivate"), "Switch off", "quiet")) }
            @else { (press(&format!("{place}/activate"), "Activate", "")) }
            (press(&format!("{place}/test"), "Send a test", "quiet"))
            (press(&format!("{place}/signing-key"), signing, "quiet"))
        }
    }
}

fn resend_form(place: &str) -> Markup {
    html! {
        details {
            summary { "Resend what failed or was skipped" }
            form.asked method="post" action={ (place) "/resend" } {
                div.field {
                    label for="hours" { "Since" }
                    select #hours name="hours:number" {
                        option value="1" { "an hour ago" }
                        option value="24" { "a day ago" }
                        option value="168" { "a week ago" }
                    }
                }
                button.quiet type="submit" { "Resend" }
            }
        }
    }
}

/// `POST …/integrations/{integration}`.
pub(super) async fn save(
    view: View,
    Path((app, id)): Path<(String, String)>,
    mut posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    let shown = view.get(&place).await?;
    numbers(&mut posted);
    posted.list("headers");
    match save_form(&view, Method::PATCH, &place, posted, &model(&shown)).await? {
        Came::Saved(_) => Ok(then(&place, "saved")),
        Came::Again(entry) => render(&view, &app, &place, &shown, &entry, None).await,
    }
}

async fn act(view: &View, app: &str, id: &str, verb: &str) -> Result<(App, String, Value), Problem> {
    let app = App::of(view, app).await?;
    let place = place(&app, id)?;
    let answer = view.send(Method::POST, &format!("{place}/{verb}"), &json!({})).await?;
    Ok((app, place, answer))
}

/// `POST …/integrations/{integration}/activate`.
pub(super) async fn activate(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let (_, place, _) = act(&view, &app, &id, "activate").await?;
    Ok(then(&place, "activated"))
}

/// `POST …/integrations/{integration}/deactivate`.
pub(super) async fn deactivate(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let (_, place, _) = act(&view, &app, &id, "deactivate").await?;
    Ok(then(&place, "deactivated"))
}

/// `POST …/integrations/{integration}/test`: what came of it is shown at once.
pub(super) async fn test(view: View, Path((app, id)): Path<(String, String)>) -> Result<Response, Problem> {
    let (app, place, came) = act(&view, &app, &id, "test").await?;
    let attempt = &came["attempt"];
    let told = html! {
        section.once role="status" {
            h2 { "Test" }
            p {
                @if came["status"] == "delivered" { (badge("good", "delivered")) } @else { (badge("bad", "failed")) }
                " " (deliveries::result(attempt)) " in " (figure(&attempt["durationMs"])) " ms. "
                a href=(app.at(&format!("/deliveries/{}", came["deliveryId"].as_str().unwrap_or_default()))) { "What was sent" }
            }
            @if let Some(excerpt) = attempt["excerpt"].as_str() { pre tabindex="0" role="group" aria-label="What was answered" { (excerpt) } }
        }
    };
    let shown = view.get(&place).await?;
    render(&view, &app, &place, &shown, &Entry::fresh(model(&shown)), Some(told)).await
}

/// `POST …/integrations/{integration}/resend`: a part at a time, from the newest on.
pub(super) async fn resend(
    Now(now): Now,
    view: View,
    Path((app, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    let place = place(&app, &id)?;
    let hours = posted.value["hours"].as_i64().filter(|hours| (1..=168).contains(hours)).unwrap_or(1);
    let from = Timestamp::from_millis(now.as_millis() - hours * 3_600_000);
    // What is gone on with began at a time of its own.
    let since = if posted.text("since").is_empty() { from.to_string() } else { posted.text("since").to_owned() };
    let mut body = json!({"since": since});
    if !posted.text("after").is_empty() {
        body["cursor"] = posted.text("after").into();
    }
    let came = view.send(Method::POST, &format!("{place}/resend"), &body).await?;
    let told = html! {
        section.once role="status" {
            h2 { "Resend" }
            p { (figure(&came["resent"])) " deliveries are on their way again." }
            @if let Some(next) = came["nextCursor"].as_str() {
                form method="post" action={ (place) "/resend" } {
                    input type="hidden" name="since" value=(since);
                    input type="hidden" name="after" value=(next);
                    button.quiet type="submit" { "Go on with older ones" }
                }
            }
        }
    };
    let shown = view.get(&place).await?;
    render(&view, &app, &place, &shown, &Entry::fresh(model(&shown)), Some(told)).await
}

/// `POST …/integrations/{integration}/delete`.
pub(super) async fn delete(
    view: View,
    Path((app, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let app = App::of(&view, &app).await?;
    posted.sure()?;
    view.send(Method::DELETE, &place(&app, &id)?, &json!({})).await?;
    Ok(then(&app.at("/integrations"), "deleted"))
}

/// What an integration is told, or shown, this once: its own page with `told` above everything else.
pub(super) async fn once(view: &View, app: &App, place: &str, told: Markup) -> Result<Response, Problem> {
    let shown = view.get(place).await?;
    let mut answer = render(view, app, place, &shown, &Entry::fresh(model(&shown)), Some(told)).await?;
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer)
}
