//! An app's business hours. Those of a profile are a field of it.

use axum::{extract::State as Extract, response::Response};
use domain::hours::{Draft, Hours};
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;

use crate::{
    State,
    access::{Change, PutHours, Seen, raced},
};

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    let hours = state.store.hours(app.id).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, hours.unwrap_or_else(Hours::always)))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutHours>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    let hours = Hours::of_app(draft).map_err(Problem::fields)?;
    if !state.store.put_hours(app.id, &hours, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    Ok(reply::data(StatusCode::OK, note.now, hours))
}
