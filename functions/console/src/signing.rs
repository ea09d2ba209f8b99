//! An integration's signing key: made or rotated, and shown in that one answer.

use axum::{extract::State as Extract, response::Response};
use domain::{audit::Try, operator::Role, signature::KEY_BYTES, time::Timestamp};
use edge::{
    chance,
    extract::{ClientIp, Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::secrets::Written;
use zeroize::Zeroizing;

use crate::{State, apps, integrations, operator::Operator, path::Path, secrets};

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
    Now(now): Now,
    operator: Operator,
    ClientIp(ip): ClientIp,
    Path((app, id)): Path<(String, String)>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let stored = integrations::find(&state, &app, &id).await?;
    let who = Try {
        operator: operator.name().to_owned(),
        action: "signing_key.rotate",
        target: format!("{}/signing-key", stored.integration.id),
        ip,
        reason: None,
    };
    let (bytes, entropy) = (Zeroizing::new(chance::bytes::<KEY_BYTES>()), chance::bytes());
    let owner = secrets::owner(&app, &stored);
    let made = state.store.rotate_signing_key(&state.vault, owner, bytes, &who, (now, &entropy)).await;
    match made.map_err(Problem::unavailable)? {
        Written::Done(made) => {
            tracing::info!(app = %app.id, integration = %owner.integration, operator = operator.name(), "signing_key.rotated");
            let key = made.key.expose();
            let made = Made { key: &key, created_at: now, previous_key_until: made.previous_until };
            Ok(reply::data(StatusCode::CREATED, now, made))
        }
        Written::Missing => Err(Problem::not_found("integration")),
        Written::Raced | Written::TooMany => Err(secrets::raced()),
    }
}
