//! Several rows in one request.

use std::time::Duration;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::{
    Error, Store,
    key::{Key, PK, SK},
    table::{Row, from_row},
};

const OPERATION: &str = "BatchGetItem";
/// The service may leave keys unread when a partition is busy. They are asked for again, each time after twice as long.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(25);
/// For all tries together: who waits is told in time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Rows that were read together. Each is as it was when it was read: this is no transaction.
pub(crate) struct Rows(Vec<Row>);

impl Store {
    /// Reads the rows of these keys, which must differ: the service takes up to 100.
    pub(crate) async fn rows(&self, keys: impl Iterator<Item = &Key>) -> Result<Rows, Error> {
        let keys = keys.map(Key::attributes).collect();
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let read = self.read_all(wanted.map_err(Error::unavailable(OPERATION))?);
        timeout(PATIENCE, read).await.unwrap_or_else(|_| Err(busy()))
    }

    async fn read_all(&self, mut wanted: KeysAndAttributes) -> Result<Rows, Error> {
        let mut rows = Vec::new();
        for tried in 0..TRIES {
            if tried > 0 {
                sleep(PAUSE * 2_u32.pow(tried)).await;
            }
            let request = self.client.batch_get_item().request_items(&self.table, wanted);
            let answer = request.send().await.map_err(Error::unavailable(OPERATION))?;
            rows.extend(answer.responses.into_iter().flatten().flat_map(|(_, rows)| rows));
            let Some(unread) = answer.unprocessed_keys.and_then(|mut unread| unread.remove(&self.table)) else {
                return Ok(Rows(rows));
            };
            wanted = unread;
        }
        Err(busy())
    }
}

fn busy() -> Error {
    Error::Unavailable { operation: OPERATION, cause: "keys stay unread: the table is busy".to_owned() }
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

#[cfg(test)]
mod tests {
    use domain::id::AppId;
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{Aws, Endpoints};

    /// One request to the table: the keys that it asks for.
    async fn asked(connection: &mut BufReader<TcpStream>) -> Vec<Value> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            connection.read_line(&mut line).await.expect("a line");
            if line == "\r\n" {
                break;
            }
            if let Some(said) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await.expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        body["RequestItems"]["table"]["Keys"].as_array().expect("keys").clone()
    }

    /// Reads three rows of a table that reads `at_once` of what it is asked for; how many it was asked for, each time.
    async fn of_a_busy_table(at_once: usize) -> (Vec<usize>, Result<[bool; 3], Error>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = format!("http://{}", listener.local_addr().expect("an address"));
        let table = tokio::spawn(async move {
            let (mut connection, mut asks) = (BufReader::new(listener.accept().await.expect("a client").0), Vec::new());
            while u32::try_from(asks.len()).is_ok_and(|asks| asks < TRIES) {
                let mut read = asked(&mut connection).await;
                asks.push(read.len());
                let unread = read.split_off(at_once.min(read.len()));
                let left = if unread.is_empty() { json!({}) } else { json!({"table": {"Keys": unread}}) };
                let body = json!({"Responses": {"table": read}, "UnprocessedKeys": left}).to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                connection.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
                if left == json!({}) {
                    break;
                }
            }
            asks
        });
        let store = Store::open(&Aws::local(Endpoints { dynamodb: at.clone(), sqs: at.clone(), kms: at }), "table");
        let app: AppId = "app_00000000000000000000000000".parse().expect("an id");
        let keys = [Key::app(app), Key::provider(app), Key::hours(app)];
        let found = store
            .rows(keys.iter())
            .await
            .map(|mut rows| keys.map(|key| rows.take::<Value>("a row", &key).expect("readable").is_some()));
        (table.await.expect("served"), found)
    }

    #[tokio::test]
    async fn what_a_busy_table_leaves_unread_is_asked_for_again() {
        let (asked, found) = of_a_busy_table(1).await;
        assert_eq!((asked, found.expect("read")), (vec![3, 2, 1], [true; 3]));
        let (asked, found) = of_a_busy_table(0).await;
        assert_eq!(asked, vec![3; 4]);
        assert!(matches!(found, Err(Error::Unavailable { operation: OPERATION, .. })));
    }
}
