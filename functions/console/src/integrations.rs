//! An app's integrations.

use std::collections::BTreeSet;

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    field::FieldError,
    id::IntegrationId,
    integration::{DEFAULT_TIMEOUT_MILLIS, Draft, Integration, MAX_ACTIVE, Status, Surroundings},
    secret::SecretName,
};
use edge::{
    chance,
    extract::{Json, Now, Patch, Path},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::Serialize;
use store::{
    integrations::{Change as Written, MAX_INTEGRATIONS, Stored},
    secrets::Owner,
    statistics::SuccessRate,
};

use crate::{
    State,
    access::{
        ActivateIntegration, Change, ChangeIntegration, CreateIntegration, DeactivateIntegration, DeleteIntegration,
        Note, Seen, raced,
    },
    list::Asked,
    operator::Operator,
};

/// An integration, and how its deliveries ended lately.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    integration: Integration,
    /// Of the shortest window.
    success_rate: SuccessRate,
    success_rates: [SuccessRate; 2],
}

impl Shown {
    fn new(integration: Integration, success_rates: [SuccessRate; 2]) -> Self {
        let [success_rate, _] = success_rates;
        Self { integration, success_rate, success_rates }
    }
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

fn done(written: Written) -> Result<(), Problem> {
    match written {
        Written::Done => Ok(()),
        Written::TooManyActive => {
            let message = format!("An app can have {MAX_ACTIVE} active integrations. Deactivate one first.");
            Err(Problem::new(Kind::Conflict, message))
        }
        Written::TooMany => {
            let message =
                format!("An app can have {MAX_INTEGRATIONS} integrations, inactive ones included. Delete one first.");
            Err(Problem::new(Kind::Conflict, message))
        }
        Written::Raced => Err(raced()),
    }
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    asked: Asked,
) -> Result<Response, Problem> {
    let after: Option<IntegrationId> = asked.after()?;
    let stored = state.store.integrations(app.id).await.map_err(Problem::unavailable)?;
    let mut integrations: Vec<Integration> = stored.into_iter().map(|stored| stored.integration).collect();
    integrations.retain(|integration| after.is_none_or(|after| integration.id > after));
    let has_more = integrations.len() > usize::from(asked.limit);
    integrations.truncate(asked.limit.into());
    let pagination = asked.answer(has_more, integrations.last().map(|integration| integration.id));
    let mut rates = state.store.success_rates(app.id, now).await.map_err(Problem::unavailable)?;
    let shown = integrations.into_iter().map(|integration| {
        let rates = rates.remove(&integration.id).unwrap_or_else(SuccessRate::nothing);
        Shown::new(integration, rates)
    });
    Ok(reply::page(now, shown.collect(), pagination))
}

pub(crate) async fn create(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<CreateIntegration>,
    Json(draft): Json<Draft>,
) -> Result<Response, Problem> {
    let integration = Integration::create(draft, surroundings(&state, &BTreeSet::new()), note.now, &chance::bytes())
        .map_err(Problem::fields)?;
    let note = note.about(integration.id);
    let written = state.store.create_integration(app.id, &integration, Some(&note.granted())).await;
    done(written.map_err(Problem::unavailable)?)?;
    note.done();
    Ok(reply::data(StatusCode::CREATED, note.now, integration))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let integration = find(&state, &app, &id).await?.integration;
    let rates = state.store.success_rate(app.id, integration.id, now).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, Shown::new(integration, rates)))
}

pub(crate) async fn change(
    Extract(state): Extract<State>,
    Change { app, operator, note, .. }: Change<ChangeIntegration>,
    Path((_, id)): Path<(String, String)>,
    patch: Patch<Draft>,
) -> Result<Response, Problem> {
    let before = find(&state, &app, &id).await?;
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
        return Err(Problem::fields(errors));
    }
    apply(&state, &app, &operator, note, &before, draft).await
}

pub(crate) async fn activate(
    Extract(state): Extract<State>,
    Change { app, operator, note, .. }: Change<ActivateIntegration>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let draft = Draft { status: Some(Status::Active), ..Draft::default() };
    apply(&state, &app, &operator, note, &find(&state, &app, &id).await?, draft).await
}

pub(crate) async fn deactivate(
    Extract(state): Extract<State>,
    Change { app, operator, note, .. }: Change<DeactivateIntegration>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let draft = Draft { status: Some(Status::Inactive), ..Draft::default() };
    apply(&state, &app, &operator, note, &find(&state, &app, &id).await?, draft).await
}

async fn apply(
    state: &State,
    app: &App,
    operator: &Operator,
    note: Note,
    before: &Stored,
    draft: Draft,
) -> Result<Response, Problem> {
    // A template that did not change may name what has disappeared meanwhile.
    let secrets = match draft.url.is_some() || draft.headers.is_some() {
        true => secret_names(state, app, before.integration.id).await?,
        false => BTreeSet::new(),
    };
    let after = before.integration.clone().change(draft, surroundings(state, &secrets)).map_err(Problem::fields)?;
    // Also those that no template names yet: the next change could.
    let give = (!secrets.is_empty()).then(|| {
        let message = "leads to another host, which would receive the secrets stored here. That needs the role admin; or delete \
                       the secrets first";
        FieldError::invalid("url", message)
    });
    let places = [before.integration.url.place(), after.url.place()];
    let note = note.moved(state, operator, places, give).await?;
    if after != before.integration {
        let written = state.store.change_integration(app.id, before, &after, Some(&note.granted())).await;
        done(written.map_err(Problem::unavailable)?)?;
        note.done();
    }
    Ok(reply::data(StatusCode::OK, note.now, after))
}

pub(crate) async fn delete(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<DeleteIntegration>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let before = find(&state, &app, &id).await?;
    let written = state.store.delete_integration(app.id, &before, &note.granted()).await;
    done(written.map_err(Problem::unavailable)?)?;
    note.done();
    // Nothing can ask for them any more; that they also go from the table is no reason to say that it failed.
    let owner = Owner { app: app.id, integration: before.integration.id };
    if let Err(error) = state.store.forget_secrets(owner).await {
        tracing::warn!(app = %app.id, integration = %owner.integration, %error, "secrets.left");
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
