//! An app's integrations.

use std::collections::BTreeSet;

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    id::IntegrationId,
    integration::{DEFAULT_TIMEOUT_MILLIS, Draft, Integration, MAX_ACTIVE, Status, Surroundings},
    operator::Role,
    secret::SecretName,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{Json, Now, Patch},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::Serialize;
use store::{
    breakers::SuccessRate,
    integrations::{Change, MAX_INTEGRATIONS, Stored},
    secrets::Owner,
};

use crate::{State, apps, list::Asked, operator::Operator, path::Path};

/// An integration, and how its deliveries ended lately.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    integration: Integration,
    success_rate: [SuccessRate; 2],
}

pub(crate) async fn find(state: &State, app: &App, id: &str) -> Result<Stored, Problem> {
    let missing = || Problem::not_found("integration");
    let id: IntegrationId = id.parse().map_err(|_| missing())?;
    state.store.integration(app.id, id).await.map_err(Problem::unavailable)?.ok_or_else(missing)
}

fn surroundings<'a>(state: &'a State, secrets: &'a BTreeSet<SecretName>) -> Surroundings<'a> {
    Surroundings { reach: &state.place.reach, own_hosts: &state.place.own_hosts, secrets }
}

/// The names that templates of this integration may use.
async fn secret_names(state: &State, app: &App, id: IntegrationId) -> Result<BTreeSet<SecretName>, Problem> {
    let owner = Owner { app: app.id, integration: id };
    let secrets = state.store.secrets(owner).await.map_err(Problem::unavailable)?;
    Ok(secrets.into_iter().map(|sealed| sealed.secret().name.clone()).collect())
}

fn done(change: Change) -> Result<(), Problem> {
    match change {
        Change::Done => Ok(()),
        Change::TooManyActive => {
            let message = format!("An app can have {MAX_ACTIVE} active integrations. Deactivate one first.");
            Err(Problem::new(Kind::Conflict, message))
        }
        Change::TooMany => {
            let message =
                format!("An app can have {MAX_INTEGRATIONS} integrations, inactive ones included. Delete one first.");
            Err(Problem::new(Kind::Conflict, message))
        }
        Change::Raced => Err(Problem::new(Kind::Conflict, "Somebody else changed it at the same time. Read it again.")),
    }
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
    let after: Option<IntegrationId> = asked.after()?;
    let stored = state.store.integrations(app.id).await.map_err(Problem::unavailable)?;
    let mut integrations: Vec<Integration> = stored.into_iter().map(|stored| stored.integration).collect();
    integrations.retain(|integration| after.is_none_or(|after| integration.id > after));
    let has_more = integrations.len() > usize::from(asked.limit);
    integrations.truncate(asked.limit.into());
    let pagination = asked.answer(has_more, integrations.last().map(|integration| integration.id));
    let mut rates = state.store.success_rates(app.id, now).await.map_err(Problem::unavailable)?;
    let shown = integrations.into_iter().map(|integration| {
        let success_rate = rates.remove(&integration.id).unwrap_or_else(SuccessRate::nothing);
        Shown { integration, success_rate }
    });
    Ok(reply::page(now, shown.collect(), pagination))
}

pub(crate) async fn create(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let integration = Integration::create(draft, surroundings(&state, &BTreeSet::new()), now, &chance::bytes())
        .map_err(Problem::fields)?;
    done(state.store.create_integration(app.id, &integration).await.map_err(Problem::unavailable)?)?;
    tracing::info!(app = %app.id, integration = %integration.id, operator = operator.name(), "integration.created");
    Ok(reply::data(StatusCode::CREATED, now, integration))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
    let integration = find(&state, &app, &id).await?.integration;
    let success_rate = state.store.success_rate(app.id, integration.id, now).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, Shown { integration, success_rate }))
}

pub(crate) async fn change(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
    patch: Patch<Draft>,
) -> Result<Response, Problem> {
    let mut draft = patch.given;
    let mut errors = Vec::new();
    for field in &patch.removed {
        match field.as_str() {
            "events" => draft.events = Some(Default::default()),
            "headers" => draft.headers = Some(Vec::new()),
            "timeoutMs" => draft.timeout_ms = Some(DEFAULT_TIMEOUT_MILLIS),
            "retryStatuses" => draft.retry_statuses = Some(Default::default()),
            other => errors.push(Patch::<Draft>::must_stay(other)),
        }
    }
    if !errors.is_empty() {
        // First whether there is such a thing, and whether this operator may change it.
        operator.needs(Role::Editor)?;
        find(&state, &apps::find(&state, &app).await?, &id).await?;
        return Err(Problem::fields(errors));
    }
    apply(&state, now, &operator, (&app, &id), draft).await
}

pub(crate) async fn activate(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let draft = Draft { status: Some(Status::Active), ..Draft::default() };
    apply(&state, now, &operator, (&app, &id), draft).await
}

pub(crate) async fn deactivate(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let draft = Draft { status: Some(Status::Inactive), ..Draft::default() };
    apply(&state, now, &operator, (&app, &id), draft).await
}

async fn apply(
    state: &State,
    now: Timestamp,
    operator: &Operator,
    (app, id): (&str, &str),
    draft: Draft,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(state, app).await?;
    let before = find(state, &app, id).await?;
    // A template that did not change may name what has disappeared meanwhile.
    let secrets = match draft.url.is_some() || draft.headers.is_some() {
        true => secret_names(state, &app, before.integration.id).await?,
        false => BTreeSet::new(),
    };
    let after = before.integration.clone().change(draft, surroundings(state, &secrets)).map_err(Problem::fields)?;
    if after != before.integration {
        done(state.store.change_integration(app.id, &before, &after).await.map_err(Problem::unavailable)?)?;
        tracing::info!(app = %app.id, integration = %after.id, operator = operator.name(), "integration.changed");
    }
    Ok(reply::data(StatusCode::OK, now, after))
}

pub(crate) async fn delete(
    Extract(state): Extract<State>,
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let before = find(&state, &app, &id).await?;
    done(state.store.delete_integration(app.id, &before).await.map_err(Problem::unavailable)?)?;
    // Nothing can ask for them any more; that they also go from the table is no reason to say that it failed.
    let owner = Owner { app: app.id, integration: before.integration.id };
    if let Err(error) = state.store.forget_secrets(owner).await {
        tracing::warn!(app = %app.id, integration = %owner.integration, %error, "secrets.left");
    }
    tracing::info!(app = %app.id, integration = %before.integration.id, operator = operator.name(), "integration.deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}
