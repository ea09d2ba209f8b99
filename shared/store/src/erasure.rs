//! Erasing what is known of a call (data-subject requests): deliveries of its events with their bodies, what its visitor
//! wrote into the form, its survey, and last the call itself: when something fails before, the call is still there to be
//! erased again.

use domain::{
    audit::Entry,
    call::Call,
    delivery::Delivery,
    id::{AppId, DeliveryId, EventId},
    time::Timestamp,
};

use crate::{
    Error, Store,
    audit::Log,
    key::{DELIVERY_SHARDS, Key, Range},
    table::{from_row, string},
};

impl Store {
    /// Erases a call that is over. Form values are the session's, and go with the first of its calls that is erased.
    /// `false`: it was gone already.
    ///
    /// # Errors
    /// When the table cannot be reached: then some of it may be gone, and it can be asked for again.
    pub async fn erase_call(&self, app: AppId, call: &Call, entry: &Entry) -> Result<bool, Error> {
        // A delivery's time is its event's, and that is the call's; or the session's start, when a clock was astray.
        for at in [call.id.minted_at(), call.session_id.minted_at()] {
            for shard in 0..DELIVERY_SHARDS {
                self.forget_deliveries(app, &EventId::about(call.id), at, shard).await?;
            }
        }
        self.forget_form_values(app, call.session_id).await?;
        let transaction = self.transaction().delete(&Key::call(app, call.id), Some("attribute_exists(pk)"), &[])?;
        let transaction = transaction.delete(&Key::survey(app, call.id), None, &[])?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
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
            for row in answer.items.unwrap_or_default() {
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
