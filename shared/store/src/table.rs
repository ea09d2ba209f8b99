//! The table: typed reads and writes of rows by [`Key`]. Rows are maps of attributes, written and read by serde.

use std::collections::HashMap;

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Aws, Error,
    key::{Key, PK, Range, SK},
};

/// A row as the SDK has it.
pub(crate) type Row = HashMap<String, AttributeValue>;

/// The table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) client: Client,
    pub(crate) table: String,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Whether rows follow.
    pub has_more: bool,
}

impl<T> Page<T> {
    pub(crate) fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), has_more: self.has_more }
    }
}

impl Store {
    /// The table of this name. Opens nothing: the first request does.
    pub fn open(aws: &Aws, table: impl Into<String>) -> Self {
        Self { client: aws.dynamodb(), table: table.into() }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, what: &'static str, key: Key) -> Result<Option<T>, Error> {
        self.row(key).await?.map(|row| from_row(what, row)).transpose()
    }

    pub(crate) async fn row(&self, key: Key) -> Result<Option<Row>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(Error::unavailable("GetItem"))?;
        Ok(answer.item)
    }

    pub(crate) async fn put(&self, row: Row) -> Result<(), Error> {
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(row))
            .send()
            .await
            .map_err(Error::unavailable("PutItem"))?;
        Ok(())
    }

    /// One page of a range: `limit` rows in this order, those after `after` only.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        what: &'static str,
        range: Range,
        order: Order,
        after: Option<impl ToString>,
        limit: u8,
    ) -> Result<Page<T>, Error> {
        let Page { items, has_more } = self.page_of_rows(range, order, after, limit).await?;
        let items = items.into_iter().map(|row| from_row(what, row)).collect::<Result<_, _>>()?;
        Ok(Page { items, has_more })
    }

    /// The same without the rows that cannot be read, which the log tells of. It may be empty though rows follow.
    pub(crate) async fn readable_page<T: DeserializeOwned>(
        &self,
        what: &'static str,
        range: Range,
        order: Order,
        after: Option<impl ToString>,
        limit: u8,
    ) -> Result<Page<T>, Error> {
        let Page { items, has_more } = self.page_of_rows(range, order, after, limit).await?;
        let read = |row| from_row(what, row).inspect_err(|cause| tracing::error!(%cause, "row.unreadable")).ok();
        Ok(Page { items: items.into_iter().filter_map(read).collect(), has_more })
    }

    async fn page_of_rows(
        &self,
        range: Range,
        order: Order,
        after: Option<impl ToString>,
        limit: u8,
    ) -> Result<Page<Row>, Error> {
        let after = after.map(|after| after.to_string());
        // One row more tells whether others follow.
        let mut items = self.query(range, order, after.as_deref(), i32::from(limit) + 1).await?;
        let has_more = items.len() > usize::from(limit);
        items.truncate(limit.into());
        Ok(Page { items, has_more })
    }

    /// Reads at most `limit` rows of a range in the order of their sort keys, those after `after` only.
    pub(crate) async fn query(
        &self,
        range: Range,
        order: Order,
        after: Option<&str>,
        limit: i32,
    ) -> Result<Vec<Row>, Error> {
        // One condition on a sort key is all a query may have; the prefix is enforced by `begins_with` or by the bound.
        let (condition, bound) = match (after, order) {
            (None, _) if range.prefix.is_empty() => ("pk = :pk", None),
            (None, _) => ("pk = :pk AND begins_with(sk, :sk)", Some(range.prefix.to_owned())),
            (Some(after), Order::Oldest) => ("pk = :pk AND sk > :sk", Some(format!("{}{after}", range.prefix))),
            (Some(after), Order::Newest) => ("pk = :pk AND sk < :sk", Some(format!("{}{after}", range.prefix))),
        };
        let mut rows: Vec<Row> = Vec::new();
        let mut from = None;
        loop {
            let left = limit - i32::try_from(rows.len()).unwrap_or(limit);
            let mut request = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression(condition)
                .expression_attribute_values(":pk", AttributeValue::S(range.pk.clone()))
                .scan_index_forward(order == Order::Oldest)
                .consistent_read(true)
                .set_exclusive_start_key(from)
                .limit(left);
            if let Some(bound) = &bound {
                request = request.expression_attribute_values(":sk", AttributeValue::S(bound.clone()));
            }
            let answer = request.send().await.map_err(Error::unavailable("Query"))?;
            rows.extend(answer.items.unwrap_or_default());
            // An answer holds 1 MB at most: large rows come in several.
            from = answer.last_evaluated_key;
            if from.is_none() || i32::try_from(rows.len()).is_ok_and(|count| count >= limit) {
                break;
            }
        }
        rows.retain(|row| sort_key(row).is_some_and(|sk| sk.starts_with(range.prefix)));
        Ok(rows)
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Oldest,
    Newest,
}

/// Makes a row out of a value and its key.
pub(crate) fn to_row(key: &Key, value: &impl Serialize) -> Result<Row, Error> {
    let mut row: Row = serde_dynamo::to_item(value).map_err(|error| Error::unreadable("a value to store", error))?;
    row.extend(key.attributes());
    Ok(row)
}

/// Reads a value out of a row.
pub(crate) fn from_row<T: DeserializeOwned>(what: &'static str, mut row: Row) -> Result<T, Error> {
    row.remove(PK);
    row.remove(SK);
    serde_dynamo::from_item(row).map_err(|error| Error::unreadable(what, error))
}

fn sort_key(row: &Row) -> Option<&str> {
    row.get(SK)?.as_s().ok().map(String::as_str)
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn string(value: impl ToString) -> AttributeValue {
    AttributeValue::S(value.to_string())
}
