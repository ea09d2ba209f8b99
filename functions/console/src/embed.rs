//! Where an app's widget may stand, who hears its events, and what its customer pastes. It holds at once: it is no part of the
//! design.

use axum::{extract::State as Extract, response::Response};
use domain::{
    app::App,
    embed::{Embed, Snippets},
    time::Timestamp,
};
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::Serialize;

use crate::{
    State,
    access::{Change, PutEmbed, Seen, raced},
};

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    embed: Embed,
    snippets: Snippets,
}

async fn show(state: &State, app: App, now: Timestamp) -> Result<Response, Problem> {
    let snippets = snippets(state, &app).await?;
    let embed = Embed { allowed_origins: app.allowed_origins, frame_ancestors: app.frame_ancestors };
    Ok(reply::data(StatusCode::OK, now, Shown { embed, snippets }))
}

/// What a customer pastes, in the looks of what the app has published.
pub(crate) async fn snippets(state: &State, app: &App) -> Result<Snippets, Problem> {
    let published = state.store.published(app.id).await.map_err(Problem::unavailable)?;
    let look = published.map(|known| known.content.look).unwrap_or_default();
    Ok(Snippets::of(&state.place.widget_origin, app.id, &app.widget_key, &look))
}

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    show(&state, app, now).await
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { mut app, note, .. }: Change<PutEmbed>,
    Json(embed): Json<Embed>,
) -> Result<Response, Problem> {
    let embed = embed.check().map_err(Problem::fields)?;
    if !state.store.put_embed(app.id, &embed, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    Embed { allowed_origins: app.allowed_origins, frame_ancestors: app.frame_ancestors } = embed;
    show(&state, app, note.now).await
}
