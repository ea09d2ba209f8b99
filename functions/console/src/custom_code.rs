//! An app's custom code. It holds at once: it is no part of the design.

use axum::{extract::State as Extract, response::Response};
use domain::custom_code::CustomCode;
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;

use crate::{
    State,
    access::{Change, PutCustomCode, Seen, raced},
};

/// Bytes of a body: two areas of 64 KB, every byte of them escaped in JSON's longest way.
const MAX_BODY: usize = 1024 * 1024;

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    let code = state.store.custom_code(app.id).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, code.unwrap_or_default()))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutCustomCode>,
    Json(code): Json<CustomCode, MAX_BODY>,
) -> Result<Response, Problem> {
    let code = code.check().map_err(Problem::fields)?;
    if !state.store.put_custom_code(app.id, &code, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    Ok(reply::data(StatusCode::OK, note.now, code))
}
