//! Deliveries: the claims that keep two workers off one attempt, and what is recorded of it. The log as lists show it is in
//! `delivery_log`.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure, Update, builders::UpdateBuilder};
use domain::{
    delivery::{Attempt, Due, Refused, Standing, Status, Verdict},
    id::{AppId, DeliveryId},
    time::Timestamp,
};
use serde::Deserialize;

use crate::{
    Error, Store,
    key::{EXPIRES, Key},
    limits::refused_row,
    table::{Row, from_row, number, string},
};

/// The right to make one attempt, until it runs out.
#[derive(Debug)]
pub struct Claim {
    pub(crate) app: AppId,
    pub(crate) delivery: DeliveryId,
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    holder: String,
}

impl Claim {
    /// Which attempt it is for.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// What a claim needs of an older row.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    status: Status,
    next_attempt: u32,
    next_attempt_at: Option<Timestamp>,
    #[serde(default = "one")]
    round: u32,
    claim: Option<String>,
}

fn one() -> u32 {
    1
}

/// One update of a row: as a request of its own, or as a part of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Writing {
    key: Key,
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Writing {
    fn new(key: Key, update: impl Into<String>, condition: impl Into<String>) -> Self {
        let (update, condition) = (update.into(), condition.into());
        Self { key, update, condition, names: HashMap::new(), values: HashMap::new() }
    }

    fn name(mut self, name: &str, attribute: &str) -> Self {
        self.names.insert(name.to_owned(), attribute.to_owned());
        self
    }

    fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// As a part of a transaction.
    pub(crate) fn part(self, table: &str) -> UpdateBuilder {
        Update::builder()
            .table_name(table)
            .set_key(Some(self.key.attributes()))
            .update_expression(self.update)
            .condition_expression(self.condition)
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values(Some(self.values))
    }
}

impl Store {
    /// Claims the attempt that `due` asks for until `until`. `holder` is fresh random text: a write that was repeated by
    /// the SDK recognises itself. The first attempt makes the row; the first of a resend opens it again.
    ///
    /// # Errors
    /// Outside: the table could not be asked. Inside: what to do instead.
    pub async fn claim(
        &self,
        due: &Due,
        holder: String,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Result<Claim, Refused>, Error> {
        let (app, delivery, attempt) = (due.app, due.delivery, due.attempt);
        let claim = Claim { app, delivery, round: due.round, attempt, holder };
        let writing = entered(due, Status::Pending, "claim = :claim, claimUntil = :until", "", now)?
            .value(":claim", string(&claim.holder))
            .value(":until", number(until.as_millis()));
        match self.apply(writing).await? {
            None => Ok(Ok(claim)),
            Some(row) => match decide(row, due.round, attempt)? {
                (_, Some(holder)) if holder == claim.holder => Ok(Ok(claim)),
                (refused, _) => Ok(Err(refused)),
            },
        }
    }

    /// Settles what `due` asks for as skipped, without an attempt: its integration is paused.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn skip(&self, due: &Due, now: Timestamp) -> Result<Result<(), Refused>, Error> {
        let writing =
            entered(due, Status::Skipped, "skippedAt = :at", " REMOVE claim, claimUntil, nextAttemptAt", now)?
                .value(":at", string(now));
        match self.apply(writing).await? {
            None => Ok(Ok(())),
            Some(row) => Ok(Err(decide(row, due.round, due.attempt)?.0)),
        }
    }

    /// The same where its integration is gone. Its row is made without the event's data: the call may have been erased in the
    /// meantime, and for want of the integration nothing marked that row. Nobody misses the data, for nothing is resent.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn skip_gone(&self, due: &Due, now: Timestamp) -> Result<Result<(), Refused>, Error> {
        let mut due = due.clone();
        due.envelope.data.clear();
        self.skip(&due, now).await
    }

    /// Records what a claimed attempt came to, and when the next is due.
    ///
    /// # Errors
    /// Outside: the table could not be asked. Inside: the claim had run out, or this very write arrived twice; what the
    /// row now asks for.
    pub async fn record(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        verdict: Verdict,
        next_attempt_at: Option<Timestamp>,
    ) -> Result<Result<(), Refused>, Error> {
        match self.apply(recorded(claim, attempt, verdict, next_attempt_at)?).await? {
            None => Ok(Ok(())),
            Some(row) => Ok(Err(decide(row, claim.round, claim.attempt)?.0)),
        }
    }

    /// Begins another round of attempts of a settled delivery, whose message is queued already; nothing, when its claim
    /// came first.
    ///
    /// # Errors
    /// When the table could not be asked.
    pub async fn reopen(&self, due: &Due, now: Timestamp) -> Result<bool, Error> {
        let writing = entered(due, Status::Pending, "nextAttemptAt = :at", " REMOVE claim, claimUntil", now)?;
        Ok(self.apply(writing.value(":at", string(now))).await?.is_none())
    }

    /// What the row of a claimed delivery asks for when it did not take a write.
    pub(crate) async fn refusal(&self, claim: &Claim) -> Result<Refused, Error> {
        let held: Option<Held> = self.get("a delivery", Key::delivery(claim.app, claim.delivery)).await?;
        Ok(Refused::decide(held.as_ref().map(Held::standing), claim.round, claim.attempt))
    }

    /// Makes one update; the row that refused it, if one did.
    async fn apply(&self, writing: Writing) -> Result<Option<Row>, Error> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(writing.key.attributes()))
            .update_expression(writing.update)
            .condition_expression(writing.condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .set_expression_attribute_names(Some(writing.names))
            .set_expression_attribute_values(Some(writing.values))
            .send()
            .await;
        let Err(error) = answer else { return Ok(None) };
        match refused_row(&error) {
            Some(row) => Ok(Some(row)),
            None => Err(Error::unavailable("UpdateItem")(error)),
        }
    }
}

impl Held {
    fn standing(&self) -> Standing {
        let Self { status, next_attempt, next_attempt_at, round, .. } = *self;
        Standing { status, next_attempt, next_attempt_at, round }
    }
}

/// What enters a row for a message: it must be the one that is due, and nobody at it. `set` and `then` go on with the
/// update.
fn entered(due: &Due, status: Status, set: &str, then: &str, now: Timestamp) -> Result<Writing, Error> {
    let mut condition = "(#status = :pending AND nextAttempt = :attempt AND #round AND \
                         (attribute_not_exists(claimUntil) OR claimUntil < :now))"
        .replace("#round", if due.round == 1 { "attribute_not_exists(round)" } else { "round = :round" });
    let mut update = format!("SET #status = :status, nextAttempt = :attempt, {set}");
    if due.is_original() {
        // A later attempt of a row that is gone was erased: nothing may be sent any more.
        condition = format!("attribute_not_exists(pk) OR {condition}");
        update += ", #id = :id, integrationId = :integration, eventId = :event, eventName = :name, \
                   createdAt = :created, envelope = :envelope, #expires = :expires";
        if due.test {
            update += ", test = :test";
        }
    }
    if due.round > 1 {
        update += ", round = :round";
        if due.attempt == due.first {
            let before = if due.round == 2 { "attribute_not_exists(round)" } else { "round = :before" };
            condition +=
                &format!(" OR (attribute_exists(pk) AND #status <> :pending AND nextAttempt = :attempt AND {before})");
        }
    }
    let mut writing = Writing::new(Key::delivery(due.app, due.delivery), update + then, condition)
        .name("#status", "status")
        .value(":status", status_value(status))
        .value(":pending", status_value(Status::Pending))
        .value(":attempt", number(due.attempt))
        .value(":now", number(now.as_millis()));
    if due.round > 1 {
        writing = writing.value(":round", number(due.round));
        if due.attempt == due.first && due.round > 2 {
            writing = writing.value(":before", number(due.round - 1));
        }
    }
    if due.is_original() {
        let envelope = serde_json::to_string(&due.envelope).map_err(|error| Error::unreadable("an envelope", error))?;
        writing = writing
            .name("#id", "id")
            .name("#expires", EXPIRES)
            .value(":id", string(due.delivery))
            .value(":integration", string(due.integration))
            .value(":event", string(due.envelope.id))
            .value(":name", string(due.envelope.name))
            .value(":created", string(due.accepted_at))
            .value(":envelope", AttributeValue::S(envelope))
            .value(":expires", number(due.kept_until().as_seconds()));
        if due.test {
            writing = writing.value(":test", AttributeValue::Bool(true));
        }
    }
    Ok(writing)
}

/// What records an attempt, on the condition that its claim still stands.
pub(crate) fn recorded(
    claim: &Claim,
    attempt: &Attempt,
    verdict: Verdict,
    next_attempt_at: Option<Timestamp>,
) -> Result<Writing, Error> {
    let entry: AttributeValue =
        serde_dynamo::to_attribute_value(attempt).map_err(|error| Error::unreadable("an attempt", error))?;
    let (set_next, remove_next) =
        if next_attempt_at.is_some() { (", nextAttemptAt = :at", "") } else { ("", ", nextAttemptAt") };
    let update = format!(
        "SET attempts = list_append(if_not_exists(attempts, :none), :attempt), #status = :status, \
         nextAttempt = :next{set_next} REMOVE claim, claimUntil{remove_next}"
    );
    let writing = Writing::new(Key::delivery(claim.app, claim.delivery), update, "claim = :claim")
        .name("#status", "status")
        .value(":status", status_value(verdict.status()))
        .value(":claim", string(&claim.holder))
        .value(":none", AttributeValue::L(Vec::new()))
        .value(":attempt", AttributeValue::L(vec![entry]))
        .value(":next", number(claim.attempt + 1));
    Ok(match next_attempt_at {
        Some(at) => writing.value(":at", string(at)),
        None => writing,
    })
}

pub(crate) fn status_value(status: Status) -> AttributeValue {
    string(match status {
        Status::Pending => "pending",
        Status::Delivered => "delivered",
        Status::Failed => "failed",
        Status::Skipped => "skipped",
    })
}

/// What the row that refused a write asks for, and who holds it.
fn decide(row: Row, round: u32, attempt: u32) -> Result<(Refused, Option<String>), Error> {
    if row.is_empty() {
        return Ok((Refused::decide(None, round, attempt), None));
    }
    let held: Held = from_row("a delivery", row)?;
    Ok((Refused::decide(Some(held.standing()), round, attempt), held.claim))
}
