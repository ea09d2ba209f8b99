//! Buttons of an app's own, in the draft of its design.

use axum::{extract::State as Extract, response::Response};
use domain::design::{Button, check_buttons};
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::designs::Part;

use crate::{
    State,
    access::{Change, PutButtons, Seen},
    design::set,
};

/// All of them, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Buttons {
    buttons: Vec<Button>,
}

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    let draft = state.store.draft(app.id).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, Buttons { buttons: draft.content.buttons }))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutButtons>,
    Json(Buttons { buttons }): Json<Buttons>,
) -> Result<Response, Problem> {
    let buttons = check_buttons(buttons).map_err(Problem::fields)?;
    set(&state, &app, &note, Part::Buttons(&buttons)).await?;
    Ok(reply::data(StatusCode::OK, note.now, Buttons { buttons }))
}
