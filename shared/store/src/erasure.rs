//! Erasing what is known of a call (data-subject requests): deliveries of its events with their bodies, what its visitor
//! wrote into the form, its survey, and last the call itself: when something fails before, the call is still there to be
//! erased again.
//!
//! What waits in the queue cannot be taken back, and a first attempt makes its own row. So a mark stands where that row would
//! be: who comes to claim it is told that all is done, nothing is sent, and the message goes.

use std::time::Duration;

use domain::{
    audit::Entry,
    call::Call,
    delivery::{Delivery, Status},
    id::{AppId, DeliveryId, EventId},
    time::Timestamp,
};
use futures_util::future::try_join_all;

use crate::{
    Error, Store,
    audit::Log,
    deliveries::status_value,
    key::{DELIVERY_SHARDS, EXPIRES, Key, Range},
    table::{Row, from_row, number, string},
};

/// A message is kept for 14 days at most, among the dead letters; put back from there, it may be so again (template.yaml).
const MARKED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The attribute that a mark has and a delivery has not.
const ERASED: &str = "erased";

/// Whether a row in the place of a delivery says that it was erased.
pub(crate) fn is_mark(row: &Row) -> bool {
    row.contains_key(ERASED)
}

impl Store {
    /// Erases a call that is over. Form values are the session's, and go with the first of its calls that is erased.
    /// `false`: it was gone already.
    ///
    /// # Errors
    /// When the table cannot be reached: then some of it may be gone, and it can be asked for again.
    pub async fn erase_call(&self, app: AppId, call: &Call, entry: &Entry) -> Result<bool, Error> {
        let events = EventId::about(call.id);
        let integrations = self.integrations(app).await?;
        for stored in integrations {
            let ids = events.map(|event| DeliveryId::derive(call.session_id, event, stored.integration.id));
            try_join_all(ids.map(|id| self.mark_erased(app, id, entry.at))).await?;
        }
        // Those to integrations that are gone. A delivery's time is its event's, and that is the call's; or the session's start, when a clock was astray.
        for at in [call.id.minted_at(), call.session_id.minted_at()] {
            for shard in 0..DELIVERY_SHARDS {
                self.forget_deliveries(app, &events, at, shard).await?;
            }
        }
        self.forget_form_values(app, call.session_id).await?;
        let transaction = self.transaction().delete(&Key::call(app, call.id), Some("attribute_exists(pk)"), &[])?;
        let transaction = transaction.delete(&Key::survey(app, call.id), None, &[])?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }

    /// Leaves of a delivery, whether there is a row of it or not, nothing but that it was erased. No attempt can be claimed:
    /// none is numbered 0.
    async fn mark_erased(&self, app: AppId, id: DeliveryId, now: Timestamp) -> Result<(), Error> {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::delivery(app, id).attributes()))
            .update_expression(
                "SET #erased = :at, #status = :skipped, nextAttempt = :none, #expires = :expires REMOVE #id, integrationId, \
                 eventId, eventName, createdAt, envelope, attempts, claim, claimUntil, nextAttemptAt, round, test, skippedAt",
            )
            .expression_attribute_names("#erased", ERASED)
            .expression_attribute_names("#expires", EXPIRES)
            .expression_attribute_names("#id", "id")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":at", string(now))
            .expression_attribute_values(":skipped", status_value(Status::Skipped))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":expires", number(now.plus(MARKED).as_seconds()))
            .send()
            .await
            .map_err(Error::unavailable("UpdateItem"))?;
        Ok(())
    }

    /// Deletes the deliveries of some events in one room, among those of one millisecond. An attempt that is still due
    /// finds no row, and is not made.
    async fn forget_deliveries(&self, app: AppId, events: &[EventId], at: Timestamp, shard: u8) -> Result<(), Error> {
        let (first, last) = (DeliveryId::mint(at, &[0; 10]), DeliveryId::mint(at, &[u8::MAX; 10]));
        let mut from = None;
        loop {
            let answer = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", string(Range::deliveries(app, at, shard).pk))
                .expression_attribute_values(":first", string(first))
                .expression_attribute_values(":last", string(last))
                .set_exclusive_start_key(from)
                .consistent_read(true)
                .send()
                .await
                .map_err(Error::unavailable("Query"))?;
            for row in answer.items.unwrap_or_default().into_iter().filter(|row| !is_mark(row)) {
                let delivery: Delivery = from_row("a delivery", row)?;
                if events.contains(&delivery.event_id) {
                    self.remove(&Key::delivery(app, delivery.id)).await?;
                }
            }
            from = answer.last_evaluated_key;
            if from.is_none() {
                return Ok(());
            }
        }
    }
}
