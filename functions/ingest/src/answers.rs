//! What visitors write: the form before a call, the survey after it. Kept with the session and its call, under the app's
//! retention; neither stands in an event or in the log.

use axum::{
    extract::State as Extract,
    response::{IntoResponse, Response},
};
use domain::{
    app::App,
    design::Content,
    event::Event,
    id::{CallId, EventId},
    session::Session,
    survey::Given,
};
use edge::{
    extract::{Bearer, ClientIp, Json, Now},
    problem::{Kind, Problem},
    reply,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::surveys::{Kept, Stored};

use crate::State;

/// What the app asks the session's visitor now, and how long it keeps the answers.
async fn asked(state: &State, session: &Session) -> Result<(App, Content), Problem> {
    let content = async {
        // A token says that it is about the draft only where somebody held a key of it.
        if session.draft {
            return Ok(state.store.draft(session.app).await?.content);
        }
        Ok(state.store.published(session.app).await?.map(|known| known.content).unwrap_or_default())
    };
    let (found, content) = tokio::join!(state.store.app(session.app), content);
    let found = found.map_err(Problem::unavailable)?.ok_or_else(Problem::app_not_found)?;
    Ok((found, content.map_err(|error: store::Error| Problem::unavailable(error))?))
}

/// `PUT /v1/form`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Form {
    values: Map<String, Value>,
}

pub(crate) async fn form(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    bearer: Result<Bearer, Problem>,
    body: Result<Json<Form>, Problem>,
) -> Result<Response, Problem> {
    let visitor = state.visitor(ip, bearer, now).await?;
    let session = visitor.session();
    let Json(Form { values }) = body?;
    let (app, content) = asked(&state, session).await?;
    let values = content.form.answer(&values).map_err(Problem::fields)?;
    let fields = values.len();
    if fields > 0 {
        let kept = state.store.put_form_values(app.id, session.id, values, app.retention.calls, now).await;
        if !kept.map_err(Problem::unavailable)? {
            return Err(Problem::new(Kind::Conflict, "The form was sent too often. Begin a new session."));
        }
    }
    tracing::info!(app = %app.id, session = %session.id, fields, preview = session.preview, "form.kept");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /v1/surveys`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Survey {
    call_id: String,
    answers: Vec<Given>,
    #[serde(default)]
    comment: Option<String>,
}

/// What the widget is told: the id of the event that others hear of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Submitted {
    call_id: CallId,
    event_id: EventId,
}

/// Stored first, then told: whoever asks again, because an answer was lost, finds it stored and tells of it again, which
/// integrations hear once.
pub(crate) async fn survey(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    bearer: Result<Bearer, Problem>,
    body: Result<Json<Survey>, Problem>,
) -> Result<Response, Problem> {
    let visitor = state.visitor(ip, bearer, now).await?;
    let session = visitor.session();
    let Json(Survey { call_id, answers, comment }) = body?;
    // An id that cannot be one, and another session's call, are as unknown as one that is not there.
    let missing = || Problem::not_found("call");
    let call_id: CallId = call_id.parse().map_err(|_| missing())?;
    let (asked, call) = tokio::join!(asked(&state, session), state.store.call(session.app, call_id));
    let (app, content) = asked?;
    call.map_err(Problem::unavailable)?.filter(|known| known.call.session_id == session.id).ok_or_else(missing)?;
    if content.survey.questions.is_empty() {
        return Err(Problem::not_found("survey"));
    }
    let filled = content.survey.fill(answers, comment.as_deref()).map_err(Problem::fields)?;
    let survey = Stored { call_id, session_id: session.id, submitted_at: now, preview: session.preview, filled };
    let kept = state.store.put_survey(app.id, survey, app.retention.surveys).await.map_err(Problem::unavailable)?;
    let stored = match kept {
        Kept::Same(stored) => stored,
        Kept::Other => return Err(Problem::new(Kind::Conflict, "The survey of this call was sent before.")),
        Kept::NoCall => return Err(missing()),
    };
    let event = Event::survey_submitted(call_id, &stored.filled, stored.submitted_at);
    let envelope = event.envelope(&session.context);
    let trace = edge::trace::begin(session.id);
    let deliveries = state.events.accept(session, &envelope, trace, now).await.map_err(Problem::unavailable)?;
    tracing::info!(
        app = %app.id, session = %session.id, call.id = %call_id, preview = session.preview, deliveries,
        trace = trace.map(display), "survey.kept"
    );
    Ok(reply::data(StatusCode::CREATED, now, Submitted { call_id, event_id: envelope.id }))
}
