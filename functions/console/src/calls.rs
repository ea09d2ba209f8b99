//! Calls, newest first: what became of them, how they sounded, what their visitors wrote. Never what was said.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    call::Call,
    form::Answered,
    id::{AppId, CallId},
};
use edge::{
    extract::{Now, Path},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::Serialize;
use store::surveys::Stored as Survey;

use crate::{
    State,
    access::{Change, EraseCall, Seen},
    list::Asked,
};

/// A call with what its visitor wrote.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    call: Call,
    /// Into the form before it.
    form_values: Vec<Answered>,
    /// Into the survey after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    survey: Option<Survey>,
}

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

async fn find(state: &State, app: AppId, id: &str) -> Result<Call, Problem> {
    let missing = || Problem::not_found("call");
    let id: CallId = id.parse().map_err(|_| missing())?;
    let stored = state.store.call(app, id).await.map_err(Problem::unavailable)?;
    stored.map(|stored| stored.call).ok_or_else(missing)
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let call = find(&state, app.id, &id).await?;
    let (values, survey) = tokio::join!(state.store.form_values(app.id, &call), state.store.survey(app.id, call.id));
    let (form_values, survey) = (values.map_err(Problem::unavailable)?, survey.map_err(Problem::unavailable)?);
    Ok(reply::data(StatusCode::OK, now, Shown { call, form_values, survey }))
}

/// `DELETE …/calls/{id}`: everything that is known of a call, for who asks to be forgotten.
pub(crate) async fn erase(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<EraseCall>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let call = find(&state, app.id, &id).await?;
    if call.ended_at.is_none() && note.now < call.over_by() {
        return Err(Problem::new(Kind::Conflict, "The call is still running. Erase it once it is over."));
    }
    if !state.store.erase_call(app.id, &call, &note.granted()).await.map_err(Problem::unavailable)? {
        return Err(Problem::not_found("call"));
    }
    note.done();
    Ok(StatusCode::NO_CONTENT.into_response())
}
