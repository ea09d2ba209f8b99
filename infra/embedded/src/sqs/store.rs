//! The queues and their messages in SQLite. The queues are also held in memory, since every request asks for one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::handle::{Handle, Standing};
use super::message::{Attributes, Message};
use super::queue::{Queue, arn};
use crate::state_dir::StateDir;
use crate::wire::{Refusal, hex, random};
use crate::{Service, StartError};

/// `visible_ms` is when a message may be received next; `receipt` is the newest receive's, so a message without one is
/// waiting, and one with one is in flight until it is visible again.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, attributes TEXT NOT NULL,
        created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, purged_ms INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS deleted_queues (name TEXT PRIMARY KEY, deleted_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER NOT NULL, id TEXT NOT NULL,
        body TEXT NOT NULL, body_md5 TEXT NOT NULL, attributes TEXT NOT NULL, trace TEXT,
        sent_ms INTEGER NOT NULL, visible_ms INTEGER NOT NULL,
        first_received_ms INTEGER, receives INTEGER NOT NULL DEFAULT 0, receipt TEXT, dead_from TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS due ON messages (queue, visible_ms, seq);";

pub(super) struct Store {
    connection: Connection,
    queues: BTreeMap<String, Queue>,
    _held: StateDir,
}

/// A message handed to a receiver.
pub(super) struct Received {
    pub(super) id: String,
    pub(super) handle: String,
    pub(super) body: String,
    pub(super) body_md5: String,
    pub(super) attributes: Attributes,
    pub(super) trace: Option<String>,
    pub(super) sent_ms: i64,
    pub(super) first_received_ms: i64,
    pub(super) receives: i64,
    pub(super) dead_from: Option<String>,
}

/// What a receive found.
pub(super) struct Found {
    pub(super) messages: Vec<Received>,
    /// When the next message becomes visible by itself.
    pub(super) next_ms: Option<i64>,
    /// The dead-letter queue that got messages.
    pub(super) fed: Option<String>,
}

pub(super) fn failed(error: rusqlite::Error) -> Refusal {
    Refusal::internal("InternalFailure", error)
}

type Stored<T> = rusqlite::Result<T>;

impl Store {
    pub(super) fn open(state: &StateDir) -> Result<Self, StartError> {
        let connection = state.open(Service::Sqs, TABLES)?;
        let queues = load(&connection)
            .map_err(|cause| StartError::Database { service: Service::Sqs, cause: cause.to_string() })?;
        Ok(Store { connection, queues, _held: state.clone() })
    }

    fn write(&mut self) -> Stored<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Writes all that `work` writes at once, which is quicker.
    pub(super) fn together(&self, work: impl FnOnce(&Store)) -> Stored<()> {
        let write = self.connection.unchecked_transaction()?;
        work(self);
        write.commit()
    }

    pub(super) fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.get(name)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    pub(super) fn create(&mut self, name: &str, attributes: BTreeMap<String, String>, now_ms: i64) -> Stored<()> {
        let mut queue = Queue {
            id: 0,
            name: name.to_owned(),
            attributes: BTreeMap::new(),
            created_ms: now_ms,
            modified_ms: now_ms,
            purged_ms: None,
        };
        queue.set(attributes);
        self.connection.execute(
            "INSERT INTO queues (name, attributes, created_ms, modified_ms) VALUES (?1, ?2, ?3, ?3)",
            params![name, serde_json::json!(queue.attributes).to_string(), now_ms],
        )?;
        queue.id = self.connection.last_insert_rowid();
        self.queues.insert(queue.name.clone(), queue);
        Ok(())
    }

    /// Keeps a changed queue.
    pub(super) fn update(&mut self, queue: Queue) -> Stored<()> {
        self.connection.execute(
            "UPDATE queues SET attributes = ?2, modified_ms = ?3, purged_ms = ?4 WHERE id = ?1",
            params![queue.id, serde_json::json!(queue.attributes).to_string(), queue.modified_ms, queue.purged_ms],
        )?;
        self.queues.insert(queue.name.clone(), queue);
        Ok(())
    }

    pub(super) fn delete(&mut self, queue: &Queue, now_ms: i64) -> Stored<()> {
        let write = self.write()?;
        write.execute("DELETE FROM messages WHERE queue = ?1", [queue.id])?;
        write.execute("DELETE FROM queues WHERE id = ?1", [queue.id])?;
        write.execute("INSERT OR REPLACE INTO deleted_queues VALUES (?1, ?2)", params![queue.name, now_ms])?;
        write.commit()?;
        self.queues.remove(&queue.name);
        Ok(())
    }

    pub(super) fn deleted_ms(&self, name: &str) -> Stored<Option<i64>> {
        let sql = "SELECT deleted_ms FROM deleted_queues WHERE name = ?1";
        self.connection.query_row(sql, [name], |row| row.get(0)).optional()
    }

    pub(super) fn purge(&mut self, queue: &Queue, now_ms: i64) -> Stored<()> {
        self.connection.execute("DELETE FROM messages WHERE queue = ?1", [queue.id])?;
        self.update(Queue { purged_ms: Some(now_ms), ..queue.clone() })
    }

    /// All or none.
    pub(super) fn send(&mut self, queue: &Queue, messages: &[Message], now_ms: i64) -> Stored<()> {
        let write = self.write()?;
        let mut insert = write.prepare_cached(
            "INSERT INTO messages (queue, id, body, body_md5, attributes, trace, sent_ms, visible_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for message in messages {
            let attributes = match message.attributes.is_empty() {
                true => String::new(),
                false => serde_json::json!(message.attributes).to_string(),
            };
            let visible_ms = now_ms + message.delay_ms;
            let Message { id, body, body_md5, trace, .. } = message;
            insert.execute(params![queue.id, id, body, body_md5, attributes, trace, now_ms, visible_ms])?;
        }
        drop(insert);
        write.commit()
    }

    /// Takes up to `most` due messages out of sight for `hidden_ms`. On the way, expired ones are deleted, and those
    /// received too often move to the dead-letter queue with their count and time of sending.
    pub(super) fn receive(&mut self, queue: &Queue, most: usize, hidden_ms: i64, now_ms: i64) -> Stored<Found> {
        let redrive = queue.redrive();
        let dead = redrive.as_ref().and_then(|redrive| Some((self.queues.get(redrive.target())?, redrive)));
        let dead = dead.map(|(target, redrive)| (target.id, target.name.clone(), redrive.most_receives()));
        let expired_ms = queue.expired_ms(now_ms);
        let mut found = Found { messages: Vec::new(), next_ms: None, fed: None };
        if !self.any_due(queue, now_ms)? {
            found.next_ms = self.next_visible(queue, now_ms)?;
            return Ok(found);
        }
        let write = self.write()?;
        // Until all that come first may be received.
        let due = loop {
            let due: Vec<(i64, i64, i64)> = write
                .prepare_cached(
                    "SELECT seq, receives, sent_ms FROM messages WHERE queue = ?1 AND visible_ms <= ?2
                     ORDER BY visible_ms, seq LIMIT ?3",
                )?
                .query_map(params![queue.id, now_ms, most], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
                .collect::<Stored<_>>()?;
            let mut gone = 0;
            for (seq, receives, sent_ms) in &due {
                match &dead {
                    _ if *sent_ms <= expired_ms => {
                        gone += write.prepare_cached("DELETE FROM messages WHERE seq = ?1")?.execute([seq])?;
                    }
                    Some((target, name, most_receives)) if receives >= most_receives => {
                        gone += write
                            .prepare_cached(
                                "UPDATE messages SET queue = ?2, visible_ms = ?3, receipt = NULL, dead_from = ?4
                                 WHERE seq = ?1",
                            )?
                            .execute(params![seq, target, now_ms, arn(&queue.name)])?;
                        found.fed = Some(name.clone());
                    }
                    _ => {}
                }
            }
            if gone == 0 {
                break due;
            }
        };
        for (seq, ..) in due {
            found.messages.push(take(&write, queue, seq, now_ms, hidden_ms)?);
        }
        write.commit()?;
        Ok(found)
    }

    fn any_due(&self, queue: &Queue, now_ms: i64) -> Stored<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM messages WHERE queue = ?1 AND visible_ms <= ?2)";
        self.connection.prepare_cached(sql)?.query_row(params![queue.id, now_ms], |row| row.get(0))
    }

    fn next_visible(&self, queue: &Queue, now_ms: i64) -> Stored<Option<i64>> {
        let sql = "SELECT min(visible_ms) FROM messages WHERE queue = ?1 AND visible_ms > ?2";
        self.connection.prepare_cached(sql)?.query_row(params![queue.id, now_ms], |row| row.get(0))
    }

    pub(super) fn standing(&self, queue: &Queue, handle: &Handle, now_ms: i64) -> Stored<Standing> {
        let row: Option<(Option<String>, i64, i64)> = self
            .connection
            .prepare_cached("SELECT receipt, visible_ms, sent_ms FROM messages WHERE seq = ?1 AND queue = ?2")?
            .query_row([handle.seq, queue.id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        Ok(match row {
            None => Standing::Gone,
            Some((.., sent_ms)) if sent_ms <= queue.expired_ms(now_ms) => Standing::Gone,
            Some((receipt, ..)) if receipt.as_deref() != Some(&handle.receipt) => Standing::Superseded,
            Some((_, visible_ms, _)) if visible_ms <= now_ms => Standing::Visible,
            Some(_) => Standing::InFlight,
        })
    }

    pub(super) fn delete_message(&self, handle: &Handle) -> Stored<()> {
        self.connection.prepare_cached("DELETE FROM messages WHERE seq = ?1")?.execute([handle.seq]).map(|_| ())
    }

    pub(super) fn hide_message(&self, handle: &Handle, until_ms: i64) -> Stored<()> {
        let sql = "UPDATE messages SET visible_ms = ?2 WHERE seq = ?1";
        self.connection.prepare_cached(sql)?.execute([handle.seq, until_ms]).map(|_| ())
    }

    /// How many messages are visible, in flight and delayed.
    pub(super) fn counts(&self, queue: &Queue, now_ms: i64) -> Stored<[i64; 3]> {
        self.connection
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE visible_ms <= ?2),
                        count(*) FILTER (WHERE visible_ms > ?2 AND receipt IS NOT NULL),
                        count(*) FILTER (WHERE visible_ms > ?2 AND receipt IS NULL)
                 FROM messages WHERE queue = ?1 AND sent_ms > ?3",
            )?
            .query_row(params![queue.id, now_ms, queue.expired_ms(now_ms)], |row| {
                Ok([row.get(0)?, row.get(1)?, row.get(2)?])
            })
    }

    /// Moves a dead-letter queue's waiting messages to `target`, or each to where it came from, as new messages.
    pub(super) fn move_messages(&mut self, from: &Queue, target: Option<&Queue>, now_ms: i64) -> Stored<usize> {
        let routes: Vec<(Option<String>, i64)> = match target {
            Some(target) => vec![(None, target.id)],
            None => self.queues.values().map(|queue| (Some(arn(&queue.name)), queue.id)).collect(),
        };
        let write = self.write()?;
        let mut moved = 0;
        for (source, id) in routes {
            moved += write.execute(
                "UPDATE messages SET queue = ?2, sent_ms = ?3, visible_ms = ?3, receives = 0, receipt = NULL,
                    first_received_ms = NULL, dead_from = NULL
                 WHERE queue = ?1 AND visible_ms <= ?3 AND (?4 IS NULL OR dead_from = ?4)",
                params![from.id, id, now_ms, source],
            )?;
        }
        write.commit()?;
        Ok(moved)
    }
}

fn load(connection: &Connection) -> Stored<BTreeMap<String, Queue>> {
    let mut statement =
        connection.prepare("SELECT id, name, attributes, created_ms, modified_ms, purged_ms FROM queues")?;
    let queues = statement.query_map([], |row| {
        let attributes: String = row.get(2)?;
        Ok(Queue {
            id: row.get(0)?,
            name: row.get(1)?,
            attributes: serde_json::from_str(&attributes).unwrap_or_default(),
            created_ms: row.get(3)?,
            modified_ms: row.get(4)?,
            purged_ms: row.get(5)?,
        })
    })?;
    queues.map(|queue| queue.map(|queue| (queue.name.clone(), queue))).collect()
}

fn take(write: &Transaction<'_>, queue: &Queue, seq: i64, now_ms: i64, hidden_ms: i64) -> Stored<Received> {
    let receipt = hex(&random::<16>().map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?);
    let mut statement = write.prepare_cached(
        "UPDATE messages SET receipt = ?2, visible_ms = ?3, receives = receives + 1,
            first_received_ms = coalesce(first_received_ms, ?4)
         WHERE seq = ?1
         RETURNING id, body, body_md5, attributes, trace, sent_ms, first_received_ms, receives, dead_from",
    )?;
    statement.query_row(params![seq, receipt, now_ms + hidden_ms, now_ms], |row: &Row<'_>| {
        let attributes: String = row.get(3)?;
        Ok(Received {
            id: row.get(0)?,
            handle: Handle::text(queue.id, seq, &receipt),
            body: row.get(1)?,
            body_md5: row.get(2)?,
            attributes: serde_json::from_str(&attributes).unwrap_or_default(),
            trace: row.get(4)?,
            sent_ms: row.get(5)?,
            first_received_ms: row.get(6)?,
            receives: row.get(7)?,
            dead_from: row.get(8)?,
        })
    })
}
