//! How long what is about an app's visitors is kept: for what is made from now on.

use axum::{extract::State as Extract, response::Response};
use domain::retention::Retention;
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;

use crate::{
    State,
    access::{Change, PutRetention, Seen, raced},
};

pub(crate) async fn read(Now(now): Now, Seen(app): Seen) -> Response {
    reply::data(StatusCode::OK, now, app.retention)
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutRetention>,
    Json(retention): Json<Retention>,
) -> Result<Response, Problem> {
    let retention = retention.check().map_err(Problem::fields)?;
    if !state.store.put_retention(app.id, retention, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(raced());
    }
    note.done();
    Ok(reply::data(StatusCode::OK, note.now, retention))
}
