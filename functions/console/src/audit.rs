//! The audit logs, newest first: one of each app, and one of what is about no app.

use axum::{extract::State as Extract, response::Response};
use domain::{id::AuditId, operator::Role, time::Timestamp};
use edge::{extract::Now, problem::Problem, reply};
use store::audit::Log;

use crate::{State, access::Seen, list::Asked, operator::Operator};

/// `GET …/apps/{app}/audit`.
pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    asked: Asked,
) -> Result<Response, Problem> {
    page(&state, now, Log::App(app.id), &asked).await
}

/// `GET /audit`: operators and their sessions, and apps that came and went.
pub(crate) async fn list_deployment(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Admin)?;
    page(&state, now, Log::Deployment, &asked).await
}

async fn page(state: &State, now: Timestamp, log: Log, asked: &Asked) -> Result<Response, Problem> {
    let before: Option<AuditId> = asked.after()?;
    let page = state.store.audit(log, asked.limit, before).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|entry| entry.id));
    Ok(reply::page(now, page.items, pagination))
}
