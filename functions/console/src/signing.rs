//! An integration's signing key: made or rotated, and shown in that one answer.

use axum::{extract::State as Extract, response::Response};
use domain::{signature::KEY_BYTES, time::Timestamp};
use edge::{
    chance,
    extract::{Json, Path},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::secrets::Written;
use zeroize::Zeroizing;

use crate::{
    State,
    access::{Change, RotateSigningKey, raced},
    integrations, secrets,
};

/// Nothing is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// The new key, this once.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    key: &'a str,
    created_at: Timestamp,
    /// Until when the key before it signs too.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_key_until: Option<Timestamp>,
}

pub(crate) async fn rotate(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<RotateSigningKey>,
    Path((_, id)): Path<(String, String)>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Problem> {
    let stored = integrations::find(&state, &app, &id).await?;
    let bytes = Zeroizing::new(chance::bytes::<KEY_BYTES>());
    let owner = secrets::owner(&app, &stored);
    let made = state.store.rotate_signing_key(&state.vault, owner, bytes, &note.granted()).await;
    match made.map_err(Problem::unavailable)? {
        Written::Done(made) => {
            note.done();
            let key = made.key.expose();
            let made = Made { key: &key, created_at: note.now, previous_key_until: made.previous_until };
            Ok(reply::data(StatusCode::CREATED, note.now, made))
        }
        Written::Missing => Err(Problem::not_found("integration")),
        Written::Raced | Written::TooMany => Err(raced()),
    }
}
