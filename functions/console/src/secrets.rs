//! An integration's secrets: put, listed without their values, deleted, and shown once to an admin who says why. Every try
//! to be shown one is in the audit log, granted or refused (contract section 5).

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    field::{self, FieldError},
    limit::Exceeded,
    secret::{Given, MAX_REASON, MAX_SECRETS, REVEALS_PER_HOUR, SecretName},
};
use edge::{
    extract::{Json, Now, Path},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::{
    integrations::Stored,
    secrets::{HOUR, Owner, Reveal, Written},
};

use crate::{
    State,
    access::{Change, DeleteSecret, PutSecret, RevealSecret, Seen, raced},
    integrations,
    list::Asked,
};

/// A value to store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Value {
    value: Given,
}

/// Why a value is to be shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Why {
    reason: String,
}

/// A value, this once. It borrows: nothing of it stays behind but the answer itself.
#[derive(Serialize)]
struct Shown<'a> {
    value: &'a str,
}

pub(crate) fn owner(app: &App, stored: &Stored) -> Owner {
    Owner { app: app.id, integration: stored.integration.id }
}

fn missing() -> Problem {
    Problem::not_found("secret")
}

/// A name that cannot be one is as unknown as one that is not there.
fn name(text: &str) -> Result<SecretName, Problem> {
    text.parse().map_err(|_| missing())
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id)): Path<(String, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    let stored = integrations::find(&state, &app, &id).await?;
    let after: Option<SecretName> = asked.after()?;
    let secrets = state.store.secrets(owner(&app, &stored)).await.map_err(Problem::unavailable)?;
    let secrets = secrets.into_iter().map(|sealed| sealed.secret().clone());
    let mut secrets: Vec<_> =
        secrets.filter(|secret| after.as_ref().is_none_or(|after| secret.name > *after)).collect();
    let has_more = secrets.len() > usize::from(asked.limit);
    secrets.truncate(asked.limit.into());
    let pagination = asked.answer(has_more, secrets.last().map(|secret| &secret.name));
    Ok(reply::page(now, secrets, pagination))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id, secret)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let stored = integrations::find(&state, &app, &id).await?;
    let found = state.store.secret(owner(&app, &stored), &name(&secret)?).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, found.ok_or_else(missing)?.secret()))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutSecret>,
    Path((_, id, secret)): Path<(String, String, String)>,
    Json(Value { value }): Json<Value>,
) -> Result<Response, Problem> {
    let stored = integrations::find(&state, &app, &id).await?;
    let wrong = |error: domain::secret::NotAName| Problem::field(FieldError::invalid("name", error.to_string()));
    let name: SecretName = secret.parse().map_err(wrong)?;
    let value = value.check().map_err(Problem::field)?;
    let owner = owner(&app, &stored);
    let written = state.store.put_secret(&state.vault, owner, &name, &value, &note.granted()).await;
    match written.map_err(Problem::unavailable)? {
        Written::Done(secret) => {
            note.done();
            Ok(reply::data(StatusCode::OK, note.now, secret))
        }
        Written::Missing => Err(Problem::not_found("integration")),
        Written::Raced => Err(raced()),
        Written::TooMany => Err(Problem::new(
            Kind::Conflict,
            format!("An integration can have {MAX_SECRETS} secrets. Delete one first."),
        )),
    }
}

pub(crate) async fn delete(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<DeleteSecret>,
    Path((_, id, secret)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let stored = integrations::find(&state, &app, &id).await?;
    let name = name(&secret)?;
    let fields = stored.integration.fields_with(&name);
    if !fields.is_empty() {
        let details = fields.iter().map(|field| FieldError::invalid(field, "names this secret")).collect();
        let message = format!("The integration still names this secret in {}.", fields.join(", "));
        return Err(Problem::new(Kind::Conflict, message).about(details));
    }
    let written = state.store.delete_secret(app.id, &stored, &name, &note.granted()).await;
    match written.map_err(Problem::unavailable)? {
        Written::Done(()) => {
            note.done();
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Written::Missing => Err(missing()),
        Written::Raced | Written::TooMany => Err(raced()),
    }
}

pub(crate) async fn reveal(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<RevealSecret>,
    Path((_, id, secret)): Path<(String, String, String)>,
    why: Result<Json<Why>, Problem>,
) -> Result<Response, Problem> {
    let reason = why.and_then(|Json(why)| field::label("reason", &why.reason, MAX_REASON).map_err(Problem::field));
    let note = note.because(reason.as_ref().ok().cloned());
    let shown = async {
        let stored = integrations::find(&state, &app, &id).await.map_err(|problem| (problem, "unknown"))?;
        reason.map_err(|problem| (problem, "reason"))?;
        let name = name(&secret).map_err(|problem| (problem, "unknown"))?;
        let _one = state.revealing.lock().await;
        let tried = state.store.reveal(&state.vault, owner(&app, &stored), &name, &note.granted()).await;
        match tried.map_err(|error| (Problem::unavailable(error), "unavailable"))? {
            Reveal::Shown(value) => Ok(value),
            Reveal::Missing => Err((missing(), "unknown")),
            Reveal::ShownBefore => {
                let message = "This value was shown before. A value is shown once; store a new one to see it again.";
                Err((Problem::new(Kind::Conflict, message), "shown_before"))
            }
            Reveal::TooMany(reset) => {
                let exceeded = Exceeded { limit: REVEALS_PER_HOUR, reset };
                Err((Problem::limited_in(exceeded, HOUR, note.now), "too_many"))
            }
        }
    };
    match shown.await {
        Ok(value) => {
            note.done();
            Ok(reply::data(StatusCode::OK, note.now, Shown { value: value.expose() }))
        }
        Err((problem, word)) => Err(note.refuse(&state, word, problem).await),
    }
}
