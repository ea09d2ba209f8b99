//! An integration's secrets: put, listed without their values, deleted, and shown once to an admin who says why. Every try
//! to be shown one is in the audit log, granted or refused (contract section 5).

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    audit::Try,
    field::{self, FieldError},
    limit::Exceeded,
    operator::Role,
    secret::{Given, MAX_REASON, MAX_SECRETS, REVEALS_PER_HOUR, SecretName},
    time::Timestamp,
};
use edge::{
    chance,
    extract::{ClientIp, Json, Now},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use store::{
    audit::Log,
    integrations::Stored,
    secrets::{HOUR, Owner, Reveal, Written},
};

use crate::{State, apps, integrations, list::Asked, operator::Operator, path::Path};

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

pub(crate) fn raced() -> Problem {
    Problem::new(Kind::Conflict, "Somebody else changed it at the same time. Read it again.")
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
    operator: Operator,
    Path((app, id)): Path<(String, String)>,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
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
    operator: Operator,
    Path((app, id, secret)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
    let stored = integrations::find(&state, &app, &id).await?;
    let found = state.store.secret(owner(&app, &stored), &name(&secret)?).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, found.ok_or_else(missing)?.secret()))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    ClientIp(ip): ClientIp,
    Path((app, id, secret)): Path<(String, String, String)>,
    Json(Value { value }): Json<Value>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let stored = integrations::find(&state, &app, &id).await?;
    let wrong = |error: domain::secret::NotAName| Problem::field(FieldError::invalid("name", error.to_string()));
    let name: SecretName = secret.parse().map_err(wrong)?;
    let value = value.check().map_err(Problem::field)?;
    let who = Try {
        operator: operator.name().to_owned(),
        action: "secret.put",
        target: target(&stored, name.as_str()),
        ip,
        reason: None,
    };
    let entropy = chance::bytes();
    let written =
        state.store.put_secret(&state.vault, owner(&app, &stored), &name, &value, &who, (now, &entropy)).await;
    match written.map_err(Problem::unavailable)? {
        Written::Done(secret) => {
            tracing::info!(app = %app.id, integration = %stored.integration.id, secret = %name, operator = operator.name(), "secret.put");
            Ok(reply::data(StatusCode::OK, now, secret))
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
    Now(now): Now,
    operator: Operator,
    ClientIp(ip): ClientIp,
    Path((app, id, secret)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    operator.needs(Role::Editor)?;
    let app = apps::find(&state, &app).await?;
    let stored = integrations::find(&state, &app, &id).await?;
    let name = name(&secret)?;
    let fields = stored.integration.fields_with(&name);
    if !fields.is_empty() {
        let details = fields.iter().map(|field| FieldError::invalid(field, "names this secret")).collect();
        let message = format!("The integration still names this secret in {}.", fields.join(", "));
        return Err(Problem::new(Kind::Conflict, message).about(details));
    }
    let who = Try {
        operator: operator.name().to_owned(),
        action: "secret.delete",
        target: target(&stored, name.as_str()),
        ip,
        reason: None,
    };
    let entropy = chance::bytes();
    let written = state.store.delete_secret(app.id, &stored, &name, &who, (now, &entropy)).await;
    match written.map_err(Problem::unavailable)? {
        Written::Done(()) => {
            tracing::info!(app = %app.id, integration = %stored.integration.id, secret = %name, operator = operator.name(), "secret.deleted");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Written::Missing => Err(missing()),
        Written::Raced | Written::TooMany => Err(raced()),
    }
}

/// What an audit row is about.
fn target(stored: &Stored, secret: &str) -> String {
    format!("{}/secrets/{secret}", stored.integration.id)
}

pub(crate) async fn reveal(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    ClientIp(ip): ClientIp,
    Path((app, id, secret)): Path<(String, String, String)>,
    why: Result<Json<Why>, Problem>,
) -> Result<Response, Problem> {
    let found = async {
        let app = apps::find(&state, &app).await?;
        let stored = integrations::find(&state, &app, &id).await?;
        Ok((app, stored))
    };
    let (app, stored) = match found.await {
        Ok(found) => found,
        // There is no log that it could stand in. Who may not reveal does not learn what there is.
        Err(problem) => return operator.needs(Role::Admin).and(Err(problem)),
    };
    let reason = why.and_then(|Json(why)| field::label("reason", &why.reason, MAX_REASON).map_err(Problem::field));
    // What cannot name a secret is not repeated into the log: it may be anything, a value too.
    let known = secret.parse::<SecretName>().ok();
    let who = Try {
        operator: operator.name().to_owned(),
        action: "secret.reveal",
        target: target(&stored, known.as_ref().map_or("", SecretName::as_str)),
        ip,
        reason: reason.as_ref().ok().cloned(),
    };
    let refused = |problem: Problem, word: &'static str| Refusal { problem, word };
    let shown = async {
        operator.needs(Role::Admin).map_err(|problem| refused(problem, "role"))?;
        reason.map_err(|problem| refused(problem, "reason"))?;
        let name = known.ok_or_else(|| refused(missing(), "unknown"))?;
        let entropy = chance::bytes();
        let _one = state.revealing.lock().await;
        let tried = state.store.reveal(&state.vault, owner(&app, &stored), &name, &who, (now, &entropy)).await;
        match tried.map_err(|error| refused(Problem::unavailable(error), "unavailable"))? {
            Reveal::Shown(value) => Ok(value),
            Reveal::Missing => Err(refused(missing(), "unknown")),
            Reveal::ShownBefore => {
                let message = "This value was shown before. A value is shown once; store a new one to see it again.";
                Err(refused(Problem::new(Kind::Conflict, message), "shown_before"))
            }
            Reveal::TooMany(reset) => {
                let exceeded = Exceeded { limit: REVEALS_PER_HOUR, reset };
                Err(refused(Problem::limited_in(exceeded, HOUR, now), "too_many"))
            }
        }
    };
    match shown.await {
        Ok(value) => {
            tracing::info!(app = %app.id, integration = %stored.integration.id, operator = operator.name(), "secret.revealed");
            Ok(reply::data(StatusCode::OK, now, Shown { value: value.expose() }))
        }
        Err(refusal) => Err(write_down(&state, &app, &who, refusal, now).await),
    }
}

/// Why a try was refused: to the operator, and to the audit log.
struct Refusal {
    problem: Problem,
    word: &'static str,
}

/// Writes a refused try into the audit log, and gives what the operator is told.
async fn write_down(state: &State, app: &App, who: &Try, refusal: Refusal, now: Timestamp) -> Problem {
    tracing::info!(app = %app.id, operator = who.operator, target = who.target, why = refusal.word, "secret.refused");
    let entry = who.refused(refusal.word, now, &chance::bytes());
    match state.store.append_audit(Log::App(app.id), &entry).await {
        Ok(()) => refusal.problem,
        Err(error) => Problem::unavailable(error),
    }
}
