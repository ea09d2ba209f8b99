//! An app's design: the draft that operators work at, publishing it, its versions, bringing one back. The form, the survey and
//! buttons are parts of it with addresses of their own (`form.rs`, `survey.rs`, `buttons.rs`).

use axum::{extract::State as Extract, response::Response};
use domain::{
    app::App,
    design::{
        Content, Look, Published,
        preview::{LIFE, PreviewKey},
    },
    embed::address,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{Json, Now, Path},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::Serialize;
use store::designs::{Part, Restored, Version};

use crate::{
    State,
    access::{Change, Note, PreviewDesign, PublishDesign, PutDesign, RestoreDesign, Seen, raced},
    list::Asked,
};

/// The draft's look, and how the whole draft stands to what is published.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownDraft {
    #[serde(flatten)]
    look: Look,
    /// 0: nothing is, and widgets have the defaults.
    published_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    /// Whether publishing would change anything.
    changed: bool,
}

impl ShownDraft {
    fn new(draft: Content, published: Option<Version>) -> Self {
        let changed = published.as_ref().map_or(draft != Content::default(), |known| known.content != draft);
        let published_version = published.as_ref().map_or(0, |known| known.version);
        Self { look: draft.look, published_version, published_at: published.map(|known| known.published_at), changed }
    }
}

/// A version in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    version: u32,
    published_at: Timestamp,
    published_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_from: Option<u32>,
}

impl From<&Version> for Summary {
    fn from(known: &Version) -> Self {
        let Version { version, published_at, published_by, restored_from, .. } = known.clone();
        Self { version, published_at, published_by, restored_from }
    }
}

/// A version with what widgets are told of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(flatten)]
    design: Published<'a>,
    published_at: Timestamp,
    published_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    restored_from: Option<u32>,
}

fn show(status: StatusCode, now: Timestamp, known: &Version) -> Response {
    let design = Published::new(known.version, &known.content);
    let Version { published_at, published_by, restored_from, .. } = known;
    let (published_at, restored_from) = (*published_at, *restored_from);
    reply::data(status, now, Shown { design, published_at, published_by, restored_from })
}

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    let (draft, published) = tokio::join!(state.store.draft(app.id), state.store.published(app.id));
    let draft = draft.map_err(Problem::unavailable)?.content;
    let published = published.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, ShownDraft::new(draft, published)))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutDesign>,
    Json(look): Json<Look>,
) -> Result<Response, Problem> {
    let look = look.check().map_err(Problem::fields)?;
    set(&state, &app, &note, Part::Look(&look)).await?;
    read(Extract(state), Now(note.now), Seen(app)).await
}

/// Sets a part of an app's draft.
pub(crate) async fn set(state: &State, app: &App, note: &Note, part: Part<'_>) -> Result<(), Problem> {
    if !state.store.put_draft(app.id, part, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    Ok(())
}

/// `POST …/design/publish`: from now on new sessions have what the draft holds.
pub(crate) async fn publish(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PublishDesign>,
) -> Result<Response, Problem> {
    let made = state.store.publish(app.id, &note.granted()).await.map_err(Problem::unavailable)?.ok_or_else(raced)?;
    note.done();
    Ok(show(StatusCode::CREATED, note.now, &made))
}

/// Where a draft is to be seen, and for how long.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    url: String,
    expires_at: Timestamp,
}

/// `POST …/design/preview`: for an hour, who has the address sees the draft as it is when the widget is loaded.
pub(crate) async fn preview(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PreviewDesign>,
) -> Result<Response, Problem> {
    let (key, expires_at) = (PreviewKey::mint(&chance::bytes()), note.now.plus(LIFE));
    if !state.store.open_preview(app.id, &key, expires_at, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    let url = format!("{}&preview={}", address(&state.place.widget_origin, app.id, &app.widget_key), key.as_str());
    Ok(reply::data(StatusCode::CREATED, note.now, Preview { url, expires_at }))
}

pub(crate) async fn versions(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    asked: Asked,
) -> Result<Response, Problem> {
    let page = state.store.designs(app.id, asked.limit, asked.after()?).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|known| known.version));
    Ok(reply::page(now, page.items.iter().map(Summary::from).collect(), pagination))
}

/// A version's number; what cannot be one is as unknown as one that is not there.
fn number(text: &str) -> Result<u32, Problem> {
    let number = text.parse().ok().filter(|_| !text.starts_with(['+', '0']));
    number.ok_or_else(|| Problem::not_found("version"))
}

pub(crate) async fn version(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let known = state.store.design(app.id, number(&version)?).await.map_err(Problem::unavailable)?;
    let known = known.ok_or_else(|| Problem::not_found("version"))?;
    Ok(show(StatusCode::OK, now, &known))
}

/// `POST …/design/versions/{version}/restore`: what was published then is published again, under a number of its own. The
/// draft stays: nobody's work is lost.
pub(crate) async fn restore(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<RestoreDesign>,
    Path((_, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let version = number(&version)?;
    let note = note.about(format!("{}/versions/{version}", app.id));
    match state.store.restore(app.id, version, &note.granted()).await.map_err(Problem::unavailable)? {
        Restored::Done(made) => {
            note.done();
            Ok(show(StatusCode::CREATED, note.now, &made))
        }
        Restored::Unknown => Err(Problem::not_found("version")),
        Restored::Raced => Err(raced()),
    }
}
