//! The console's pages, "Call Studio": rendered here, whole without scripts. Post, redirect, get. What they show and change
//! they ask the management API for (`pages/api.rs`); forms are written in `sheet.rs` and read in `posted.rs`.

mod api;
mod apps;
mod audit;
mod bits;
mod calls;
mod custom_code;
mod deliveries;
mod design;
mod embed;
mod hours;
mod integrations;
mod operators;
mod posted;
mod profiles;
pub(crate) mod provider;
mod retention;
mod secrets;
mod settings;
mod sheet;
pub(crate) mod sign_in;
mod trunk;
mod turn;

use axum::{
    Extension, Router,
    extract::{Request, State as Extract},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use domain::{id::AppId, operator::Role};
use edge::{
    problem::{Kind, Problem, Told},
    reply::RequestId,
};
use http::{HeaderName, Method, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use self::{
    api::{Routes, View},
    posted::Posted,
    sheet::Sheet,
    turn::Turn,
};
use crate::{State, operator};

const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("pages/console.js");
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// The pages, over these routes of the management API.
pub(crate) fn router(state: State, management: Router) -> Router {
    let app = Router::new()
        .route("/", get(apps::overview))
        .route("/settings", get(settings::show).post(settings::save))
        .route("/settings/rotate-key", post(settings::rotate_key))
        .route("/settings/delete", post(settings::delete))
        .route("/embed", get(embed::show).post(embed::save))
        .route("/design", get(design::look::show).post(design::look::save))
        .route("/design/form", get(design::form::show).post(design::form::save))
        .route("/design/survey", get(design::survey::show).post(design::survey::save))
        .route("/design/buttons", get(design::buttons::show).post(design::buttons::save))
        .route("/design/versions", get(design::versions))
        .route("/design/versions/{version}/restore", post(design::restore))
        .route("/design/publish", post(design::publish))
        .route("/design/preview", post(design::preview))
        .route("/hours", get(hours::show).post(hours::save))
        .route("/provider", get(trunk::show).post(trunk::save))
        .route("/provider/delete", post(trunk::delete))
        .route("/profiles", get(profiles::list).post(profiles::create))
        .route("/profiles/new", get(profiles::new))
        .route("/profiles/{profile}", get(profiles::show).post(profiles::save))
        .route("/profiles/{profile}/delete", post(profiles::delete))
        .route("/calls", get(calls::list))
        .route("/calls/{call}", get(calls::show))
        .route("/calls/{call}/erase", post(calls::erase))
        .route("/surveys", get(calls::surveys))
        .route("/audit", get(audit::of_app))
        .route("/integrations", get(integrations::list).post(integrations::create))
        .route("/integrations/new", get(integrations::new))
        .route("/integrations/{integration}", get(integrations::show).post(integrations::save))
        .route("/integrations/{integration}/activate", post(integrations::activate))
        .route("/integrations/{integration}/deactivate", post(integrations::deactivate))
        .route("/integrations/{integration}/delete", post(integrations::delete))
        .route("/integrations/{integration}/test", post(integrations::test))
        .route("/integrations/{integration}/resend", post(integrations::resend))
        .route("/integrations/{integration}/signing-key", post(secrets::signing_key))
        .route("/integrations/{integration}/secrets", get(secrets::list).post(secrets::put))
        .route("/integrations/{integration}/secrets/{secret}/reveal", post(secrets::reveal))
        .route("/integrations/{integration}/secrets/{secret}/delete", post(secrets::delete))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/{delivery}", get(deliveries::show))
        .route("/deliveries/{delivery}/resend", post(deliveries::resend))
        .route("/custom-code", get(custom_code::show).post(custom_code::save))
        .route("/retention", get(retention::show).post(retention::save))
        .route("/{*rest}", get(nowhere).post(nowhere));
    let guarded = Router::new()
        .route("/", get(apps::home))
        .route("/apps", post(apps::create))
        .nest("/apps/{app}", app)
        .route("/operators", get(operators::list).post(operators::create))
        .route("/operators/{operator}/delete", post(operators::delete))
        .route("/audit", get(audit::of_deployment))
        .layer(Extension(Routes(management)))
        .layer(middleware::from_fn_with_state(state.clone(), guard));
    guarded.route("/console.css", get(style)).route("/console.js", get(script)).with_state(state)
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")], STYLE)
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")], SCRIPT)
}

async fn nowhere(_: View) -> Problem {
    Problem::not_found("page")
}

/// Around every page: forms come from pages of our own, whoever is not signed in is led to where one signs in, and what
/// goes wrong is told as a page.
async fn guard(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(|RequestId(id)| id.clone()).unwrap_or_default();
    let (mut parts, body) = request.into_parts();
    let turn = Turn::at(parts.uri.path());
    parts.extensions.insert(turn.clone());
    let ours = [Method::GET, Method::HEAD].contains(&parts.method)
        || operator::is_same_origin(&parts, &state.place.console_origin);
    let mut response = if ours {
        next.run(Request::from_parts(parts, body)).await
    } else {
        Problem::new(Kind::Forbidden, "This form works from the console's own pages only.").into_response()
    };
    turn.end().await;
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    if problem.kind() == Kind::Unauthorized {
        return Redirect::to("/sign-in").into_response();
    }
    let mut told = tell(&problem, &id);
    told.extensions_mut().insert(problem);
    told.extensions_mut().insert(Told);
    told
}

fn tell(problem: &Problem, request_id: &str) -> Response {
    let status = problem.kind().status();
    let title = match problem.kind() {
        Kind::NotFound | Kind::AppNotFound => "There is nothing here",
        Kind::Forbidden => "You may not do this",
        Kind::Conflict => "This cannot be done now",
        _ if status.is_server_error() => "This did not work",
        _ => "This is not possible",
    };
    let content = html! {
        section.narrow {
            h1 { (title) }
            p { (problem.message()) }
            @if matches!(problem.kind(), Kind::NotFound | Kind::AppNotFound) {
                p.muted { "It may have been deleted, or the address may be mistyped." }
            }
            @if status.is_server_error() { p.muted { "Request id: " span.id { (request_id) } } }
            p { a.button href="/" { "All apps" } }
        }
    };
    page(status, title, None, content)
}

/// A page of no app.
fn page(status: StatusCode, title: &str, view: Option<&View>, content: Markup) -> Response {
    shell(status, title, view, None, POLICY, html! { (done(view)) (content) })
}

fn shell(
    status: StatusCode,
    title: &str,
    view: Option<&View>,
    nav: Option<Markup>,
    policy: &str,
    content: Markup,
) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Call Studio" }
                link rel="stylesheet" href="/console.css";
                script type="module" src="/console.js" {}
            }
            body {
                a.skip href="#main" { "Skip to the page" }
                header {
                    a.brand href="/" { "Call Studio" }
                    @if let Some(view) = view {
                        @if view.is(Role::Admin) {
                            nav.top aria-label="Deployment" { a href="/operators" { "Operators" } a href="/audit" { "Audit log" } }
                        }
                        form method="post" action="/sign-out" {
                            span.muted { (view.operator()) }
                            button.quiet.small type="submit" { "Sign out" }
                        }
                    }
                }
                @if let Some(nav) = nav { (nav) }
                main #main tabindex="-1" { (content) }
            }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    (status, headers, markup.into_string()).into_response()
}

/// A page with what is shown once; on one of its own when the page around it cannot be had, for it is never shown again.
fn with_once(view: Option<&View>, around: Result<Response, Problem>, back: &str, told: &Markup) -> Response {
    around.unwrap_or_else(|problem| {
        tracing::warn!(kind = ?problem.kind(), "page.shown_once_alone");
        page(StatusCode::CREATED, "Shown this once", view, html! { (told) p { a.button href=(back) { "Go on" } } })
    })
}

/// What the address says was just done.
fn done(view: Option<&View>) -> Markup {
    let word = view.and_then(|view| view.asked("done")).unwrap_or_default();
    let text = match word.as_str() {
        "saved" => "Saved.",
        "created" => "Created.",
        "deleted" => "Deleted.",
        "published" => "Published. New visitors see it from now on.",
        "restored" => "Restored and published. The draft stays as it was.",
        "erased" => "Erased.",
        "activated" => "Activated. Events are sent from now on.",
        "deactivated" => "Switched off. Nothing is sent any more.",
        "resent" => "On its way again.",
        _ => return html! {},
    };
    html! { p.done role="status" { (text) } }
}

/// Leads to a page that says what was done.
fn then(path: &str, word: &str) -> Response {
    Redirect::to(&format!("{path}?done={word}")).into_response()
}

/// An app whose pages are looked at.
struct App {
    id: AppId,
    shown: Value,
}

/// The parts of an app.
const TABS: [(&str, &str); 7] = [
    ("", "Overview"),
    ("/design", "Design"),
    ("/hours", "Hours"),
    ("/calls", "Calls"),
    ("/integrations", "Integrations"),
    ("/embed", "Embed"),
    ("/settings", "Settings"),
];
/// The pages of parts that have several. The first decides the part.
const PAGES: [&[(&str, &str)]; 4] = [
    &[
        ("/design", "Look"),
        ("/design/form", "Form"),
        ("/design/survey", "Survey"),
        ("/design/buttons", "Buttons"),
        ("/design/versions", "Versions"),
    ],
    &[("/calls", "Calls"), ("/surveys", "Surveys")],
    &[("/integrations", "Integrations"), ("/deliveries", "Deliveries")],
    &[
        ("/settings", "General"),
        ("/provider", "Provider"),
        ("/profiles", "Profiles"),
        ("/custom-code", "Custom code"),
        ("/retention", "Retention"),
        ("/audit", "Audit log"),
    ],
];

impl App {
    /// The app of a page's address.
    async fn of(view: &View, id: &str) -> Result<Self, Problem> {
        let id: AppId = id.parse().map_err(|_| Problem::app_not_found())?;
        Ok(Self { id, shown: view.get(&format!("/apps/{id}")).await? })
    }

    /// A place of this app: the same in the management API and among the pages.
    fn at(&self, rest: &str) -> String {
        format!("/apps/{}{rest}", self.id)
    }

    fn name(&self) -> &str {
        self.shown["name"].as_str().unwrap_or_default()
    }

    /// One of its pages. `place`: which, as in [`PAGES`].
    fn page(&self, view: &View, place: &str, title: &str, content: Markup) -> Response {
        self.page_with(view, place, title, StatusCode::OK, POLICY, content)
    }

    fn page_with(
        &self,
        view: &View,
        place: &str,
        title: &str,
        status: StatusCode,
        policy: &str,
        content: Markup,
    ) -> Response {
        let siblings = PAGES.into_iter().find(|pages| pages.iter().any(|(path, _)| *path == place));
        let tab = siblings.map_or(place, |pages| pages[0].0);
        let current = |is: bool| is.then_some("page");
        let nav = html! {
            nav.app aria-label="App" {
                div {
                    a.name href=(self.at("")) { (self.name()) }
                    ul {
                        @for (path, name) in TABS {
                            li { a href=(self.at(path)) aria-current=[current(path == tab)] { (name) } }
                        }
                    }
                }
            }
        };
        let content = html! {
            @if let Some(pages) = siblings {
                nav.pages aria-label=(TABS.iter().find(|(path, _)| *path == tab).map_or("Pages", |(_, name)| name)) {
                    ul { @for (path, name) in pages { li { a href=(self.at(path)) aria-current=[current(*path == place)] { (name) } } } }
                }
            }
            (done(Some(view)))
            (content)
        };
        shell(status, &format!("{title} · {}", self.name()), Some(view), Some(nav), policy, content)
    }
}

/// What a form is filled with.
struct Entry {
    value: Value,
    stamp: String,
    problem: Option<Problem>,
    focus: Option<String>,
}

/// What a form was read as: whoever saves later is told if it is not the same any more.
fn stamp(value: &Value) -> String {
    operator::hash(&value.to_string())
}

impl Entry {
    /// Nothing was typed yet.
    fn fresh(value: Value) -> Self {
        Self { stamp: stamp(&value), value, problem: None, focus: None }
    }

    fn status(&self) -> StatusCode {
        self.problem.as_ref().map_or(StatusCode::OK, |problem| problem.kind().status())
    }

    fn sheet(&self, view: &View) -> Sheet<'_> {
        let locked = !view.is(Role::Editor);
        Sheet::new(&self.value, self.problem.as_ref(), self.focus.as_deref(), locked)
    }
}

/// What became of a form.
enum Came {
    /// It was saved; what the API answered.
    Saved(Value),
    /// It is shown again, with everything that was typed.
    Again(Entry),
}

/// Saves a form that was read as `now` stands, unless a row was only moved or something is wrong.
async fn save(view: &View, method: Method, path: &str, mut posted: Posted, now: &Value) -> Result<Came, Problem> {
    let stamp = stamp(now);
    let again =
        |posted: Posted, stamp, problem, focus| Came::Again(Entry { value: posted.value, stamp, problem, focus });
    if let Some(focus) = posted.moved_rows() {
        let read = std::mem::take(&mut posted.read);
        return Ok(again(posted, read, None, Some(focus)));
    }
    // Who may not change it is told so by who decides that.
    if posted.read != stamp && view.is(Role::Editor) {
        let message = "Somebody else changed this after you opened it. What you typed stands below: save it again to put it in \
                       the place of theirs, or open the page anew to see what they wrote.";
        return Ok(again(posted, stamp, Some(Problem::new(Kind::Conflict, message)), None));
    }
    match view.send(method, path, &posted.value).await {
        Ok(answer) => Ok(Came::Saved(answer)),
        Err(problem) if is_about_the_form(&problem) => Ok(again(posted, stamp, Some(problem), None)),
        Err(problem) => Err(problem),
    }
}

fn is_about_the_form(problem: &Problem) -> bool {
    match problem.kind() {
        Kind::ValidationError | Kind::Conflict | Kind::PayloadTooLarge | Kind::RateLimitExceeded => true,
        // Of one field: the others may be changed.
        Kind::Forbidden => !problem.details().is_empty(),
        _ => false,
    }
}

/// A form: what is wrong with it, its fields, and the button that saves it. Who may not change it sees it locked.
fn form(view: &View, action: &str, entry: &Entry, sheet: &Sheet<'_>, fields: Markup, button: &str) -> Markup {
    let locked = !view.is(Role::Editor);
    html! {
        (sheet.summary())
        form method="post" action=(action) novalidate {
            // What the return key presses: browsers take the first button.
            @if !locked { button.unseen type="submit" name="act" value="save" tabindex="-1" aria-hidden="true" {} }
            input type="hidden" name="read" value=(entry.stamp);
            fieldset.whole disabled[locked] { (fields) }
            @if locked {
                p.muted { "Your role lets you look at this, not change it." }
            } @else {
                div.actions { button type="submit" name="act" value="save" { (button) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn what_is_shown_once_is_shown_also_when_the_page_around_it_fails() {
        let told = html! { code { "c2c_secret" } };
        let alone = with_once(None, Err(Problem::unavailable("the table is away")), "/operators", &told);
        assert_eq!(alone.status(), StatusCode::CREATED);
        assert_eq!(alone.headers()["cross-origin-resource-policy"], "same-origin");
        let body = to_bytes(alone.into_body(), usize::MAX).await.expect("a body");
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("<code>c2c_secret</code>") && body.contains("href=\"/operators\""), "{body}");
        let whole = page(StatusCode::OK, "Whole", None, html! {});
        assert_eq!(with_once(None, Ok(whole), "/", &told).status(), StatusCode::OK);
    }
}
