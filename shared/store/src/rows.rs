//! Several rows in one request.

use std::time::Duration;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use serde::de::DeserializeOwned;

use crate::{
    Error, Store,
    key::{Key, PK, SK},
    table::{Row, from_row},
};

const OPERATION: &str = "BatchGetItem";
/// The service may leave keys unread when a partition is busy. They are asked for again, each time after twice as long.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(25);

/// Rows that were read together. Each is as it was when it was read: this is no transaction.
pub(crate) struct Rows(Vec<Row>);

impl Store {
    /// Reads the rows of these keys, which must differ: the service takes up to 100.
    pub(crate) async fn rows(&self, keys: impl Iterator<Item = &Key>) -> Result<Rows, Error> {
        let keys = keys.map(Key::attributes).collect();
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let mut wanted = wanted.map_err(Error::unavailable(OPERATION))?;
        let mut rows = Vec::new();
        for tried in 0..TRIES {
            let request = self.client.batch_get_item().request_items(&self.table, wanted);
            let answer = request.send().await.map_err(Error::unavailable(OPERATION))?;
            rows.extend(answer.responses.into_iter().flatten().flat_map(|(_, rows)| rows));
            let Some(unread) = answer.unprocessed_keys.and_then(|mut unread| unread.remove(&self.table)) else {
                return Ok(Rows(rows));
            };
            wanted = unread;
            tokio::time::sleep(PAUSE * 2_u32.pow(tried)).await;
        }
        Err(Error::Unavailable { operation: OPERATION, cause: "keys stay unread: the table is busy".to_owned() })
    }
}

impl Rows {
    /// Reads one of them; `None` when the table has no row of this key.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, what: &'static str, key: &Key) -> Result<Option<T>, Error> {
        let is =
            |row: &Row, name, value: &str| row.get(name).and_then(|is| is.as_s().ok()).is_some_and(|is| is == value);
        let found = self.0.iter().position(|row| is(row, PK, &key.pk) && is(row, SK, &key.sk));
        found.map(|at| from_row(what, self.0.swap_remove(at))).transpose()
    }

    /// The same for a row that was read only if somebody asked for it.
    pub(crate) fn take_if<T: DeserializeOwned>(
        &mut self,
        what: &'static str,
        key: Option<&Key>,
    ) -> Result<Option<T>, Error> {
        key.map_or(Ok(None), |key| self.take(what, key))
    }
}
