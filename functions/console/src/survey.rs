//! The survey after a call, in the draft of an app's design (without questions there is none), and what visitors answered.

use axum::{extract::State as Extract, response::Response};
use domain::{id::CallId, survey::Survey};
use edge::{
    extract::{Json, Now},
    problem::Problem,
    reply,
};
use http::StatusCode;
use store::designs::Part;

use crate::{
    State,
    access::{Change, PutSurvey, Seen},
    design::set,
    list::Asked,
};

pub(crate) async fn read(Extract(state): Extract<State>, Now(now): Now, Seen(app): Seen) -> Result<Response, Problem> {
    let draft = state.store.draft(app.id).await.map_err(Problem::unavailable)?;
    Ok(reply::data(StatusCode::OK, now, draft.content.survey))
}

pub(crate) async fn put(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<PutSurvey>,
    Json(survey): Json<Survey>,
) -> Result<Response, Problem> {
    let survey = survey.check().map_err(Problem::fields)?;
    set(&state, &app, &note, Part::Survey(&survey)).await?;
    Ok(reply::data(StatusCode::OK, note.now, survey))
}

/// `GET …/surveys`: what visitors answered, that of the newest call first.
pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    asked: Asked,
) -> Result<Response, Problem> {
    let before: Option<CallId> = asked.after()?;
    let page = state.store.surveys(app.id, asked.limit, before).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(page.has_more, page.items.last().map(|survey| survey.call_id));
    Ok(reply::page(now, page.items, pagination))
}
