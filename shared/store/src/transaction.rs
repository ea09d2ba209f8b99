//! Several writes that happen together or not at all.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};

use crate::{
    Error, Store,
    key::Key,
    table::{Row, string},
};

const OPERATION: &str = "TransactWriteItems";
/// Tries when others write the same rows at the same moment: about 350 ms in all.
pub(crate) const TRIES: u64 = 20;

/// Writes to be made together. Each has a condition, so that a refusal can name it by its number.
pub(crate) struct Transaction<'a> {
    store: &'a Store,
    writes: Vec<TransactWriteItem>,
}

/// The numbers of the writes whose condition did not hold; empty when the transaction met another one at every try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(Vec<usize>);

impl Refused {
    /// The first write that was refused.
    pub(crate) fn first(&self) -> Option<usize> {
        self.0.first().copied()
    }
}

type Values<'v> = &'v [(&'v str, AttributeValue)];

impl Store {
    pub(crate) fn transaction(&self) -> Transaction<'_> {
        Transaction { store: self, writes: Vec::new() }
    }
}

fn values(values: Values<'_>) -> Option<Row> {
    let values: Row = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Some(values).filter(|values| !values.is_empty())
}

impl Transaction<'_> {
    /// Stores a row.
    pub(crate) fn put(mut self, row: Row, condition: Option<&str>, with: Values<'_>) -> Result<Self, Error> {
        let put = Put::builder().table_name(&self.store.table).set_item(Some(row));
        let put = put.set_condition_expression(condition.map(ToOwned::to_owned));
        let put = put.set_expression_attribute_values(values(with)).build().map_err(Error::unavailable(OPERATION))?;
        self.writes.push(TransactWriteItem::builder().put(put).build());
        Ok(self)
    }

    /// Changes a row.
    pub(crate) fn update(
        mut self,
        key: &Key,
        update: &str,
        condition: Option<&str>,
        with: Values<'_>,
    ) -> Result<Self, Error> {
        let change = Update::builder().table_name(&self.store.table).set_key(Some(key.attributes()));
        let change = change.update_expression(update).set_condition_expression(condition.map(ToOwned::to_owned));
        // Attributes whose names are reserved words are written `#name`.
        let words =
            update.split(|at: char| !at.is_ascii_alphanumeric() && at != '#').filter(|word| word.starts_with('#'));
        let names: HashMap<String, String> = words.map(|word| (word.to_owned(), word[1..].to_owned())).collect();
        let change = change.set_expression_attribute_names(Some(names).filter(|names| !names.is_empty()));
        let change =
            change.set_expression_attribute_values(values(with)).build().map_err(Error::unavailable(OPERATION))?;
        self.writes.push(TransactWriteItem::builder().update(change).build());
        Ok(self)
    }

    /// Deletes a row.
    pub(crate) fn delete(mut self, key: &Key, condition: Option<&str>, with: Values<'_>) -> Result<Self, Error> {
        let delete = Delete::builder().table_name(&self.store.table).set_key(Some(key.attributes()));
        let delete = delete.set_condition_expression(condition.map(ToOwned::to_owned));
        let delete =
            delete.set_expression_attribute_values(values(with)).build().map_err(Error::unavailable(OPERATION))?;
        self.writes.push(TransactWriteItem::builder().delete(delete).build());
        Ok(self)
    }

    /// Only looks whether a condition holds.
    pub(crate) fn check(mut self, key: &Key, condition: &str) -> Result<Self, Error> {
        let check = ConditionCheck::builder().table_name(&self.store.table).set_key(Some(key.attributes()));
        let check = check.condition_expression(condition).build().map_err(Error::unavailable(OPERATION))?;
        self.writes.push(TransactWriteItem::builder().condition_check(check).build());
        Ok(self)
    }

    /// Makes them. Another transaction at the same rows says nothing about the conditions: it is tried again.
    pub(crate) async fn commit(self) -> Result<Result<(), Refused>, Error> {
        let token = request_token();
        for attempted in 0..TRIES {
            if let Some(decided) = self.try_once(token.clone()).await? {
                return Ok(decided);
            }
            wait(attempted).await;
        }
        Ok(Err(Refused(Vec::new())))
    }

    /// One try; `None` when another transaction was at the same rows.
    async fn try_once(&self, token: Option<String>) -> Result<Option<Result<(), Refused>>, Error> {
        let request = self.store.client.transact_write_items().set_transact_items(Some(self.writes.clone()));
        let Err(error) = request.set_client_request_token(token).send().await else { return Ok(Some(Ok(()))) };
        let cancelled = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled,
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => return Ok(None),
            _ => return Err(Error::unavailable(OPERATION)(error)),
        };
        let codes: Vec<_> = cancelled.cancellation_reasons().iter().map(|reason| reason.code()).collect();
        let refused: Vec<usize> = (0..codes.len()).filter(|at| codes[*at] == Some("ConditionalCheckFailed")).collect();
        if !refused.is_empty() {
            return Ok(Some(Err(Refused(refused))));
        }
        if codes.contains(&Some("TransactionConflict")) {
            return Ok(None);
        }
        Err(Error::unavailable(OPERATION)(error))
    }
}

/// One for all tries of a transaction: a try whose answer was lost is recognised as done, and does not meet its own work.
/// `None`, without random numbers: then the SDK makes one for each try.
pub(crate) fn request_token() -> Option<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Between two tries, in steps that keep two writers from meeting again and again.
pub(crate) async fn wait(attempted: u64) {
    tokio::time::sleep(Duration::from_millis(3 + attempted * 11 % 29)).await;
}

/// Expression values of one text.
pub(crate) fn text(name: &'static str, value: impl ToString) -> [(&'static str, AttributeValue); 1] {
    [(name, string(value))]
}
