//! The test button: one event made up for one integration, sent as every other is: through the queue, by dispatch, which
//! is the only door to the outside. The console waits for what came of it.

use std::time::Duration;

use axum::{extract::State as Extract, response::Response};
use domain::{
    context::Context,
    delivery::{Attempt, Due, Status},
    event::{Event, EventName},
    id::{DeliveryId, EventId, SessionId},
};
use edge::{
    chance,
    extract::{Json, Path},
    problem::{Kind, Problem},
    reply,
};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    State,
    access::{Change, TestIntegration},
    integrations,
};

/// What the way there and back may take beside the attempt itself.
const PATIENCE: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// What is to be sent; the integration's first event unless it says so.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    event: Option<EventName>,
}

/// What came of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Came {
    delivery_id: DeliveryId,
    status: Status,
    attempt: Attempt,
}

/// `POST …/integrations/{id}/test`: works whatever the integration's status is.
pub(crate) async fn test(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<TestIntegration>,
    Path((_, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Json<Wanted>, Problem>,
) -> Result<Response, Problem> {
    let integration = integrations::find(&state, &app, &id).await?.integration;
    let wanted = if headers.contains_key(header::CONTENT_TYPE) { body?.0 } else { Wanted::default() };
    let name = wanted.event.or_else(|| integration.events.first().copied()).unwrap_or(EventName::WidgetLoaded);
    let now = note.now;
    let (session, event) = (SessionId::mint(now, &chance::bytes()), EventId::mint(now, &chance::bytes()));
    let made_up = json!({"id": event, "name": name, "data": sample(name), "timestamp": now});
    let envelope = Event::parse(&made_up).map_err(|_| Problem::server_error("the sample event is wrong"))?;
    let due = Due {
        delivery: DeliveryId::derive(session, event, integration.id),
        app: app.id,
        integration: integration.id,
        envelope: envelope.envelope(&Context::default()),
        accepted_at: now,
        attempt: 1,
        round: 1,
        first: 1,
        test: true,
        keep_days: Some(app.retention.deliveries),
        trace: None,
    };
    let delivery_id = due.delivery;
    note.write(&state).await?;
    state.queue.send(&[(due, 0)]).await.map_err(Problem::unavailable)?;
    let came = tokio::time::timeout(integration.timeout() + PATIENCE, async {
        loop {
            let row = state.store.delivery(app.id, delivery_id).await.map_err(Problem::unavailable)?;
            if let Some(mut row) = row.filter(|row| row.status != Status::Pending) {
                return Ok(row.attempts.pop().map(|attempt| Came { delivery_id, status: row.status, attempt }));
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    });
    match came.await {
        Ok(came) => match came? {
            Some(came) => Ok(reply::data(StatusCode::OK, now, came)),
            None => Err(Problem::new(Kind::Conflict, "The integration was deleted meanwhile.")),
        },
        Err(_) => Err(Problem::unavailable(format!("the test {delivery_id} was not made in time"))),
    }
}

/// Data of an event as a widget sends it.
fn sample(name: EventName) -> Value {
    match name {
        EventName::WidgetLoaded => json!({"isPreview": false}),
        EventName::CallStarted => json!({"destinationId": null, "routingKey": null, "hasFormValues": false}),
        EventName::CallEnded => json!({"duration": 42, "reason": "user_hangup"}),
        EventName::CallError => json!({"errorCode": "busy", "errorMessage": "A test from the console."}),
        EventName::SurveySubmitted => json!({"rating": 4.5, "answerCount": 2, "hasComment": false}),
        EventName::CustomButtonClicked => json!({"label": "Test", "action": "link"}),
    }
}

#[cfg(test)]
mod tests {
    use domain::time::Timestamp;

    use super::*;

    #[test]
    fn every_sample_is_an_event() {
        let now = Timestamp::from_millis(1);
        for name in EventName::ALL {
            let made_up =
                json!({"id": EventId::mint(now, &[0; 10]), "name": name, "data": sample(name), "timestamp": now});
            assert!(Event::parse(&made_up).is_ok(), "{name}");
        }
    }
}
