//! The audit log: rows are added, never changed. Roles in the template allow nothing else.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use domain::{
    audit::Entry,
    id::{AppId, AuditId},
};

use crate::{
    Error, Store,
    key::{Key, Range},
    table::{Order, Page, to_row},
    transaction::Transaction,
};

/// Whose log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// One app's.
    App(AppId),
    /// What is about no app that is there: operators and their sessions, apps that come and go.
    Deployment,
}

impl Transaction<'_> {
    /// Adds the row that tells of what the transaction does, so that neither is there without the other. `None` where no
    /// operator does it: what is set up around a house, and tests.
    pub(crate) fn noted(self, log: Log, entry: Option<&Entry>) -> Result<Self, Error> {
        let Some(entry) = entry else { return Ok(self) };
        self.put(to_row(&Key::audit(log, entry.id), entry)?, Some("attribute_not_exists(pk)"), &[])
    }
}

impl Store {
    /// Adds a row.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn append_audit(&self, log: Log, entry: &Entry) -> Result<(), Error> {
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_row(&Key::audit(log, entry.id), entry)?))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await
            .map_err(Error::unavailable("PutItem"))?;
        Ok(())
    }

    /// The same as a member of a transaction: what it tells of and the row stand together or not at all.
    pub(crate) fn audit_member(&self, log: Log, entry: &Entry) -> Result<TransactWriteItem, Error> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(to_row(&Key::audit(log, entry.id), entry)?))
            .condition_expression("attribute_not_exists(pk)")
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// A log's rows, newest first, those older than `before`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn audit(&self, log: Log, limit: u8, before: Option<AuditId>) -> Result<Page<Entry>, Error> {
        self.page("a row of the audit log", Range::audit(log), Order::Newest, before, limit).await
    }
}
