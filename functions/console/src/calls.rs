//! Calls, newest first: what became of them and how they sounded. Never what was said.

use axum::{extract::State as Extract, response::Response};
use domain::id::CallId;
use edge::{
    extract::{Now, Path},
    problem::Problem,
    reply,
};
use http::StatusCode;

use crate::{State, access::Seen, list::Asked};

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    asked: Asked,
) -> Result<Response, Problem> {
    let before: Option<CallId> = asked.after()?;
    let page = state.store.calls(app.id, asked.limit, before).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|call| call.id));
    Ok(reply::page(now, page.items, pagination))
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let missing = || Problem::not_found("call");
    let id: CallId = id.parse().map_err(|_| missing())?;
    let stored = state.store.call(app.id, id).await.map_err(Problem::unavailable)?.ok_or_else(missing)?;
    Ok(reply::data(StatusCode::OK, now, stored.call))
}
