//! The delivery log, and sending again what stands in it.

use axum::{
    extract::{FromRequestParts, State as Extract},
    response::Response,
};
use domain::{
    delivery::{Delivery, Due, Status},
    event::Envelope,
    field::FieldError,
    id::{AppId, DeliveryId, IntegrationId},
    integration,
    time::Timestamp,
};
use edge::{
    extract::{Json, Now, Path},
    problem::{Kind, Problem},
    reply,
};
use http::{StatusCode, request::Parts};
use serde::{Deserialize, Serialize};
use store::delivery_log::{Filter, Whole};

use crate::{
    State,
    access::{Change, Note, ResendDeliveries, ResendDelivery, Seen},
    integrations,
    list::Asked,
};

/// Deliveries that one request sends again at most.
const RESENT_AT_ONCE: u8 = 50;

/// Which page of the log is asked for, and of which deliveries.
pub(crate) struct AskedLog {
    asked: Asked,
    filter: Filter,
}

impl<S: Sync> FromRequestParts<S> for AskedLog {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut filter = Filter::default();
        let asked = Asked::parse(parts.uri.query().unwrap_or_default(), |name, value| {
            match name {
                "integrationId" => {
                    filter.integration =
                        Some(value.parse::<IntegrationId>().map_err(|_| "must be an integration's id")?)
                }
                "status" => {
                    filter.statuses = vec![status(value).ok_or("must be pending, delivered, failed or skipped")?]
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self { asked, filter })
    }
}

fn status(text: &str) -> Option<Status> {
    [
        ("pending", Status::Pending),
        ("delivered", Status::Delivered),
        ("failed", Status::Failed),
        ("skipped", Status::Skipped),
    ]
    .into_iter()
    .find_map(|(name, status)| (name == text).then_some(status))
}

pub(crate) async fn list(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    AskedLog { asked, filter }: AskedLog,
) -> Result<Response, Problem> {
    let before: Option<DeliveryId> = asked.after()?;
    let log = state.store.deliveries(app.id, &filter, asked.limit, before, now).await.map_err(Problem::unavailable)?;
    let pagination = asked.answer(log.page.has_more, log.next);
    let deliveries: Vec<Delivery> = log.page.items.into_iter().map(|whole| whole.delivery).collect();
    Ok(reply::page(now, deliveries, pagination))
}

/// A delivery with what was sent.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    delivery: Delivery,
    envelope: Envelope,
}

async fn find(state: &State, app: AppId, id: &str) -> Result<Whole, Problem> {
    let missing = || Problem::not_found("delivery");
    let id: DeliveryId = id.parse().map_err(|_| missing())?;
    state.store.whole_delivery(app, id).await.map_err(Problem::unavailable)?.ok_or_else(missing)
}

pub(crate) async fn read(
    Extract(state): Extract<State>,
    Now(now): Now,
    Seen(app): Seen,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let whole = find(&state, app.id, &id).await?;
    let envelope = whole.envelope().map_err(Problem::server_error)?;
    Ok(reply::data(StatusCode::OK, now, Shown { delivery: whole.delivery, envelope }))
}

/// What is sent goes to an active integration: anything else would be skipped once more.
async fn needs_active(state: &State, app: AppId, id: IntegrationId) -> Result<(), Problem> {
    let stored = state.store.integration(app, id).await.map_err(Problem::unavailable)?;
    match stored {
        Some(stored) if stored.integration.status == integration::Status::Active => Ok(()),
        Some(_) => Err(Problem::new(Kind::Conflict, "The integration is not active. Activate it first.")),
        None => Err(Problem::new(Kind::Conflict, "The integration of this delivery was deleted.")),
    }
}

/// Queues another round. The audit log knows of it before anything is sent. The message goes next, so that a delivery that
/// says `pending` is on its way; the message alone would open the row as well.
async fn again(state: &State, app: AppId, deliveries: &[Whole], note: &Note) -> Result<(), Problem> {
    let due = deliveries.iter().map(|whole| whole.again(app)).collect::<Result<Vec<Due>, _>>();
    let messages: Vec<_> = due.map_err(Problem::server_error)?.into_iter().map(|due| (due, 0)).collect();
    note.write(state).await?;
    state.queue.send(&messages).await.map_err(Problem::unavailable)?;
    for (due, _) in &messages {
        state.store.reopen(due, note.now).await.map_err(Problem::unavailable)?;
    }
    Ok(())
}

/// `POST …/deliveries/{id}/resend`: one more round of up to three attempts, of the same event under the same id.
pub(crate) async fn resend(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<ResendDelivery>,
    Path((_, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let whole = find(&state, app.id, &id).await?;
    if whole.delivery.status == Status::Pending {
        return Err(Problem::new(Kind::Conflict, "This delivery is still on its way."));
    }
    needs_active(&state, app.id, whole.delivery.integration_id).await?;
    again(&state, app.id, &[whole], &note).await?;
    let shown = find(&state, app.id, &id).await?;
    Ok(reply::data(StatusCode::ACCEPTED, note.now, shown.delivery))
}

/// Which deliveries are sent again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Since {
    since: Timestamp,
    cursor: Option<String>,
}

/// How many were, and where the next request goes on.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resent {
    resent: usize,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<DeliveryId>,
}

/// `POST …/integrations/{id}/resend`: everything that failed or was skipped since a time, newest first, a part a request.
pub(crate) async fn resend_since(
    Extract(state): Extract<State>,
    Change { app, note, .. }: Change<ResendDeliveries>,
    Path((_, id)): Path<(String, String)>,
    Json(asked): Json<Since>,
) -> Result<Response, Problem> {
    let integration = integrations::find(&state, &app, &id).await?.integration.id;
    let wrong = |_| Problem::field(FieldError::invalid("cursor", "must be a cursor of an earlier answer"));
    let before: Option<DeliveryId> = asked.cursor.map(|cursor| cursor.parse()).transpose().map_err(wrong)?;
    needs_active(&state, app.id, integration).await?;
    let filter = Filter {
        integration: Some(integration),
        statuses: vec![Status::Failed, Status::Skipped],
        since: Some(asked.since),
    };
    let log = state
        .store
        .deliveries(app.id, &filter, RESENT_AT_ONCE, before, note.now)
        .await
        .map_err(Problem::unavailable)?;
    let deliveries: Vec<_> = log.page.items.into_iter().filter(|whole| !whole.delivery.test).collect();
    again(&state, app.id, &deliveries, &note).await?;
    let resent = deliveries.len();
    Ok(reply::data(
        StatusCode::ACCEPTED,
        note.now,
        Resent { resent, has_more: log.page.has_more, next_cursor: log.next },
    ))
}
