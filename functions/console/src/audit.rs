//! The audit log of an app, newest first.

use axum::{extract::State as Extract, response::Response};
use domain::{id::AuditId, operator::Role};
use edge::{extract::Now, problem::Problem, reply};
use store::audit::Log;

use crate::{State, apps, list::Asked, operator::Operator, path::Path};

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    operator: Operator,
    Path(app): Path<String>,
    asked: Asked,
) -> Result<Response, Problem> {
    operator.needs(Role::Viewer)?;
    let app = apps::find(&state, &app).await?;
    let before: Option<AuditId> = asked.after()?;
    let page = state.store.audit(Log::App(app.id), asked.limit, before).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|entry| entry.id));
    Ok(reply::page(now, page.items, pagination))
}
