//! Breakers: the count of failures in a row, and the pause that follows. How many deliveries ended which way, which lies
//! in the same rows, is in `statistics`.
//!
//! One small row an integration, made and deleted with it. Whatever changes an integration's status changes `generation`
//! in the integration's row and in this one, in one transaction, and sets `failures` to zero.
//!
//! - A delivery that ends `failed` is recorded and counted in one transaction on the condition that its claim still
//!   stands, so it counts exactly once. The one that would be the twentieth pauses the integration in that transaction.
//! - One that ends `delivered` is recorded first, so that a crash rarely posts it twice; then it adds to the row's
//!   statistics, which brings the count back; when that is above zero, one conditional update resets it. A crash between
//!   the two leaves the count as it was.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{TransactWriteItem, Update, builders::UpdateBuilder},
};
use domain::{
    breaker::{Breaker, Effect, Pause, THRESHOLD},
    delivery::{Attempt, Refused, Verdict},
    id::{AppId, IntegrationId},
    time::Timestamp,
};

use crate::{
    Error, Store,
    deliveries::{Claim, recorded},
    key::Key,
    limits::refused_row,
    statistics::{Counting, Results, figure},
    table::{Row, number, string},
};

/// Tries when others write the same rows. A life takes twenty failures at most, so this is never reached by counting.
pub(crate) const TRIES: u64 = 60;

/// Which life of which integration an attempt belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    /// The app.
    pub app: AppId,
    /// The integration.
    pub integration: IntegrationId,
    /// Its generation when the attempt began.
    pub generation: u64,
}

pub(crate) fn breaker(row: &Row) -> Breaker {
    Breaker {
        failures: u32::try_from(figure(row, "failures")).unwrap_or(u32::MAX),
        generation: figure(row, "generation"),
    }
}

/// What a try of a transaction came to.
enum Tried {
    Done,
    /// Somebody else wrote at the same time.
    Conflict,
    /// These parts' conditions did not hold.
    Refused(Vec<bool>),
}

impl Store {
    /// Records a claimed delivery's last attempt and counts it, together. `pause`: the outcome asks for one by itself.
    ///
    /// # Errors
    /// Outside: the table could not be asked. Inside: as [`record`](Self::record).
    pub async fn record_failed(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        life: Life,
        pause: Option<Pause>,
        now: Timestamp,
    ) -> Result<Result<Effect, Refused>, Error> {
        let mut known = Breaker { failures: 0, generation: life.generation };
        for attempted in 0..TRIES {
            let (after, effect) = known.failed(life.generation, pause);
            if effect == Effect::Late {
                return Ok(self.record(claim, attempt, Verdict::Failed, None).await?.map(|()| effect));
            }
            let row = recorded(claim, attempt, Verdict::Failed, None)?.part(&self.table);
            let mut parts = vec![row, self.count(life, after, effect, now)];
            if let Effect::Paused(pause) = effect {
                parts.extend(self.pause(life, after, pause, now));
            }
            match self.try_all(parts).await? {
                Tried::Done => return Ok(Ok(effect)),
                Tried::Conflict => wait(claim, attempted).await,
                Tried::Refused(parts) if parts[0] => return Ok(Err(self.refusal(claim).await?)),
                Tried::Refused(_) => match self.breaker_row(life.app, life.integration).await? {
                    Some(row) => known = breaker(&row),
                    // Deleted with its integration: nothing to count on any more.
                    None => known = Breaker { failures: 0, generation: life.generation + 1 },
                },
            }
        }
        tracing::error!(app = %life.app, integration = %life.integration, "breaker.uncounted");
        Ok(self.record(claim, attempt, Verdict::Failed, None).await?.map(|()| Effect::Late))
    }

    /// The breaker's part: counts, or begins the next life.
    fn count(&self, life: Life, after: Breaker, effect: Effect, now: Timestamp) -> UpdateBuilder {
        let counting =
            Counting::of(Results { delivered: 0, failed: 1 }, now).value(":generation", number(life.generation));
        let add = counting.add.join(", ");
        let (counting, update, condition) = match effect {
            Effect::Paused(pause) => {
                let counting = counting.value(":next", number(after.generation)).value(":zero", number(0));
                let update = format!("SET generation = :next, failures = :zero ADD {add}");
                if pause == Pause::Failures {
                    let last = counting.value(":last", number(THRESHOLD - 1));
                    (last, update, "generation = :generation AND failures >= :last")
                } else {
                    (counting, update, "generation = :generation")
                }
            }
            Effect::Counted | Effect::Late => {
                let counting = counting.value(":one", number(1)).value(":last", number(THRESHOLD - 1));
                let update = format!("ADD failures :one, {add}");
                (counting, update, "generation = :generation AND failures < :last")
            }
        };
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::breaker(life.app, life.integration).attributes()))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(counting.names))
            .set_expression_attribute_values(Some(counting.values))
    }

    /// The parts that pause an active integration.
    fn pause(&self, life: Life, after: Breaker, pause: Pause, now: Timestamp) -> [UpdateBuilder; 2] {
        let integration = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::integration(life.app, life.integration).attributes()))
            .update_expression(
                "SET #status = :paused, pausedReason = :reason, pausedAt = :now, generation = :next ADD revision :one",
            )
            .condition_expression("#status = :active AND generation = :generation")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":paused", string("paused"))
            .expression_attribute_values(":active", string("active"))
            .expression_attribute_values(":reason", string(pause.reason()))
            .expression_attribute_values(":now", string(now))
            .expression_attribute_values(":next", number(after.generation))
            .expression_attribute_values(":generation", number(life.generation))
            .expression_attribute_values(":one", number(1));
        let app = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::app(life.app).attributes()))
            .update_expression("ADD activeIntegrations :less")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":less", number(-1));
        [integration, app]
    }

    async fn try_all(&self, parts: Vec<UpdateBuilder>) -> Result<Tried, Error> {
        let mut request = self.client.transact_write_items();
        let many = parts.len();
        for part in parts {
            let part = part.build().map_err(Error::unavailable("TransactWriteItems"))?;
            request = request.transact_items(TransactWriteItem::builder().update(part).build());
        }
        let Err(error) = request.send().await else { return Ok(Tried::Done) };
        let reasons = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => return Ok(Tried::Conflict),
            _ => return Err(Error::unavailable("TransactWriteItems")(error)),
        };
        let code = |index: usize| reasons.get(index).and_then(|reason| reason.code());
        let refused: Vec<_> = (0..many).map(|index| code(index) == Some("ConditionalCheckFailed")).collect();
        if refused.contains(&true) {
            Ok(Tried::Refused(refused))
        } else if (0..many).any(|index| code(index) == Some("TransactionConflict")) {
            Ok(Tried::Conflict)
        } else {
            Err(Error::unavailable("TransactWriteItems")(error))
        }
    }

    pub(crate) async fn breaker_row(&self, app: AppId, integration: IntegrationId) -> Result<Option<Row>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::breaker(app, integration).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(Error::unavailable("GetItem"))?;
        Ok(answer.item)
    }

    /// An integration's count; `None` when there is no such integration.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn breaker(&self, app: AppId, integration: IntegrationId) -> Result<Option<Breaker>, Error> {
        Ok(self.breaker_row(app, integration).await?.as_ref().map(breaker))
    }

    /// Forgets the failures of this life.
    pub(crate) async fn reset(&self, life: Life) -> Result<(), Error> {
        for attempted in 0..TRIES {
            let answer = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::breaker(life.app, life.integration).attributes()))
                .update_expression("SET failures = :zero")
                .condition_expression("generation = :generation AND failures > :zero")
                .expression_attribute_values(":generation", number(life.generation))
                .expression_attribute_values(":zero", number(0))
                .send()
                .await;
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if refused_row(&error).is_some() => return Ok(()),
                Err(error) if is_conflict(&error) => pause_for(attempted, 0).await,
                Err(error) => return Err(Error::unavailable("UpdateItem")(error)),
            }
        }
        Err(Error::Unavailable { operation: "UpdateItem", cause: "too many writers of one breaker".to_owned() })
    }
}

pub(crate) fn is_conflict(error: &SdkError<UpdateItemError>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::TransactionConflictException(_)))
}

/// Others write the same row: a little later, not all at once.
async fn wait(claim: &Claim, attempted: u64) {
    pause_for(attempted, u64::from(claim.delivery.shard(29))).await;
}

pub(crate) async fn pause_for(attempted: u64, own: u64) {
    tokio::time::sleep(Duration::from_millis(2 + (own + attempted * 7) % 29)).await;
}
