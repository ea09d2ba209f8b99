//! The form before a call, in the draft of an app's design. Without fields there is none.

use axum::{extract::State as Extract, response::Response};
use domain::form::Form;
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use store::designs::Part;

use crate::{
    State,
    access::{Change, PutForm, Seen},
    design::set,
};

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    let draft = state.store.draft(app.id).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, draft.content.form))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutForm>,
    Json(form): Json<Form>,
) -> Result<Response, Problem> {
    let form = form.check().map_err(Problem::fields)?;
    set(&state, &app, &note, Part::Form(&form)).await?;
    Ok(reply::data(StatusCode::OK, note.now, form))
}
