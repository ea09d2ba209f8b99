//! Integrations. Their number that is active is kept with the app and changes in the same transaction, so that two
//! requests at once cannot make a fourth. Every change of status begins the next life of its breaker, there too.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};
use domain::{
    audit::Entry,
    breaker::Breaker,
    id::{AppId, IntegrationId},
    integration::{Integration, MAX_ACTIVE, Status},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    audit::Log,
    key::{Key, Range},
    table::{Order, from_row, number, to_row},
    transaction::{TRIES, request_token, wait},
};

/// Integrations of one app at most, inactive ones included: ingest reads them all.
pub const MAX_INTEGRATIONS: u32 = 50;

/// By how much a change moves an app's counts.
#[derive(Clone, Copy)]
struct Steps {
    active: i32,
    all: i32,
}

/// An integration and the revision that a change of it must name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The integration.
    #[serde(flatten)]
    pub integration: Integration,
    /// Counts its changes.
    pub revision: u64,
    /// Counts its changes of status: which life of its breaker this is.
    #[serde(default)]
    pub generation: u64,
}

/// How a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is stored.
    Done,
    /// Three are active already.
    TooManyActive,
    /// There are [`MAX_INTEGRATIONS`] already.
    TooMany,
    /// Somebody else changed or deleted it meanwhile, or the app is gone.
    Raced,
}

impl Store {
    /// One integration of one app.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn integration(&self, app: AppId, id: IntegrationId) -> Result<Option<Stored>, Error> {
        self.get("an integration", Key::integration(app, id)).await
    }

    /// All integrations of one app, oldest first.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn integrations(&self, app: AppId) -> Result<Vec<Stored>, Error> {
        let rows = self
            .query(Range::integrations(app), Order::Oldest, None, i32::try_from(MAX_INTEGRATIONS).unwrap_or(i32::MAX))
            .await?;
        rows.into_iter().map(|row| from_row("an integration", row)).collect()
    }

    /// Stores a new integration.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn create_integration(
        &self,
        app: AppId,
        integration: &Integration,
        entry: Option<&Entry>,
    ) -> Result<Change, Error> {
        let key = Key::integration(app, integration.id);
        let row = to_row(&key, &Stored { integration: integration.clone(), revision: 1, generation: 0 })?;
        let put =
            Put::builder().table_name(&self.table).set_item(Some(row)).condition_expression("attribute_not_exists(pk)");
        let put = put.build().map_err(Error::unavailable("TransactWriteItems"))?;
        let steps = Steps { active: i32::from(integration.status == Status::Active), all: 1 };
        let breaker = to_row(&Key::breaker(app, integration.id), &Breaker::default())?;
        let breaker = Put::builder().table_name(&self.table).set_item(Some(breaker)).build();
        let breaker = breaker.map_err(Error::unavailable("TransactWriteItems"))?;
        let breaker = Some(TransactWriteItem::builder().put(breaker).build());
        let beside = self.beside(app, breaker, entry)?;
        self.write(app, steps, TransactWriteItem::builder().put(put).build(), &beside).await
    }

    /// Replaces an integration, if it is still as `before` says.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn change_integration(
        &self,
        app: AppId,
        before: &Stored,
        after: &Integration,
        entry: Option<&Entry>,
    ) -> Result<Change, Error> {
        let key = Key::integration(app, after.id);
        let lives_on = after.status == before.integration.status;
        let generation = before.generation + u64::from(!lives_on);
        let row = to_row(&key, &Stored { integration: after.clone(), revision: before.revision + 1, generation })?;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(row))
            .condition_expression("revision = :revision")
            .expression_attribute_values(":revision", number(before.revision))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        let active = |status| i32::from(status == Status::Active);
        let steps = Steps { active: active(after.status) - active(before.integration.status), all: 0 };
        let breaker = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::breaker(app, after.id).attributes()))
            .update_expression("SET generation = :generation, failures = :zero")
            .expression_attribute_values(":generation", number(generation))
            .expression_attribute_values(":zero", number(0))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        let breaker = (!lives_on).then(|| TransactWriteItem::builder().update(breaker).build());
        let beside = self.beside(app, breaker, entry)?;
        self.write(app, steps, TransactWriteItem::builder().put(put).build(), &beside).await
    }

    /// Deletes an integration, if it is still as `before` says.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delete_integration(&self, app: AppId, before: &Stored, entry: &Entry) -> Result<Change, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(Key::integration(app, before.integration.id).attributes()))
            .condition_expression("revision = :revision")
            .expression_attribute_values(":revision", number(before.revision))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        let steps = Steps { active: -i32::from(before.integration.status == Status::Active), all: -1 };
        let breaker = Key::breaker(app, before.integration.id).attributes();
        let breaker = Delete::builder().table_name(&self.table).set_key(Some(breaker)).build();
        let breaker = breaker.map_err(Error::unavailable("TransactWriteItems"))?;
        let breaker = Some(TransactWriteItem::builder().delete(breaker).build());
        let beside = self.beside(app, breaker, Some(entry))?;
        self.write(app, steps, TransactWriteItem::builder().delete(delete).build(), &beside).await
    }

    /// What is written beside an integration's row: its breaker's, and the audit log's.
    fn beside(
        &self,
        app: AppId,
        breaker: Option<TransactWriteItem>,
        entry: Option<&Entry>,
    ) -> Result<Vec<TransactWriteItem>, Error> {
        let entry = entry.map(|entry| self.audit_member(Log::App(app), entry)).transpose()?;
        Ok(breaker.into_iter().chain(entry).collect())
    }

    /// Writes the integration's row and what belongs to it, and moves the app's counts by `steps`, together.
    async fn write(
        &self,
        app: AppId,
        steps: Steps,
        row: TransactWriteItem,
        beside: &[TransactWriteItem],
    ) -> Result<Change, Error> {
        let token = request_token();
        for attempted in 0..TRIES {
            if let Some(change) = self.write_once(app, steps, row.clone(), beside, token.clone()).await? {
                return Ok(change);
            }
            wait(attempted).await;
        }
        Ok(Change::Raced)
    }

    /// One try; `None` when another transaction was at the same rows.
    async fn write_once(
        &self,
        app: AppId,
        steps: Steps,
        row: TransactWriteItem,
        beside: &[TransactWriteItem],
        token: Option<String>,
    ) -> Result<Option<Change>, Error> {
        let most_active = i64::try_from(MAX_ACTIVE).unwrap_or(i64::MAX) - i64::from(steps.active);
        let mut condition = crate::apps::EXISTS.to_owned();
        let mut count = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::app(app).attributes()))
            .update_expression("ADD activeIntegrations :active, integrations :all")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_values(":active", number(steps.active))
            .expression_attribute_values(":all", number(steps.all));
        if steps.active > 0 {
            condition += " AND (attribute_not_exists(activeIntegrations) OR activeIntegrations <= :mostActive)";
            count = count.expression_attribute_values(":mostActive", number(most_active));
        }
        if steps.all > 0 {
            condition += " AND (attribute_not_exists(integrations) OR integrations < :most)";
            count = count.expression_attribute_values(":most", number(MAX_INTEGRATIONS));
        }
        let count = count.condition_expression(condition).build().map_err(Error::unavailable("TransactWriteItems"))?;
        let count = TransactWriteItem::builder().update(count).build();
        let all: Vec<_> = [row, count].into_iter().chain(beside.iter().cloned()).collect();
        let members = all.len();
        let request = self.client.transact_write_items().set_transact_items(Some(all));
        let Err(error) = request.set_client_request_token(token).send().await else {
            return Ok(Some(Change::Done));
        };
        let cancelled = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                Some(cancelled.cancellation_reasons())
            }
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => return Ok(None),
            _ => None,
        };
        let failed = |index: usize| {
            cancelled.and_then(|reasons| reasons.get(index)).and_then(|reason| reason.code()).map(ToOwned::to_owned)
        };
        match (failed(0).as_deref(), failed(1).as_deref()) {
            (Some("ConditionalCheckFailed"), _) => Ok(Some(Change::Raced)),
            (_, Some("ConditionalCheckFailed")) => {
                let app = cancelled.and_then(|reasons| reasons.get(1)).and_then(|reason| reason.item());
                let count =
                    |name: &str| app.and_then(|app| app.get(name)?.as_n().ok()?.parse::<i64>().ok()).unwrap_or(0);
                Ok(Some(match app {
                    None => Change::Raced,
                    Some(_) if steps.all > 0 && count("integrations") >= i64::from(MAX_INTEGRATIONS) => Change::TooMany,
                    Some(_) if steps.active > 0 => Change::TooManyActive,
                    Some(_) => Change::Raced,
                }))
            }
            _ if (0..members).any(|index| failed(index).as_deref() == Some("TransactionConflict")) => Ok(None),
            _ => Err(Error::unavailable("TransactWriteItems")(error)),
        }
    }
}
