//! The keys and their aliases, kept in SQLite.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};

use super::seconds;
use crate::state_dir::StateDir;
use crate::wire::{Refusal, random, uuid};
use crate::{ACCOUNT_ID, REGION, Service, StartError};

pub(super) const ENABLED: &str = "Enabled";
pub(super) const DISABLED: &str = "Disabled";
pub(super) const PENDING_DELETION: &str = "PendingDeletion";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS keys (
        id TEXT PRIMARY KEY, material BLOB NOT NULL, description TEXT NOT NULL, state TEXT NOT NULL,
        created_ms INTEGER NOT NULL, deletion_ms INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS aliases (
        name TEXT PRIMARY KEY, key TEXT NOT NULL, created_ms INTEGER NOT NULL
    ) STRICT;";

pub(super) struct Keys {
    connection: Connection,
    _held: StateDir,
}

pub(super) struct Key {
    pub(super) id: String,
    pub(super) material: Vec<u8>,
    pub(super) state: String,
    description: String,
    created_ms: i64,
    deletion_ms: Option<i64>,
}

pub(super) struct Alias {
    pub(super) name: String,
    pub(super) key_id: String,
    pub(super) created_ms: i64,
}

/// The ARN of `key/…` or `alias/…`.
pub(super) fn arn(resource: &str) -> String {
    format!("arn:aws:kms:{REGION}:{ACCOUNT_ID}:{resource}")
}

impl Key {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Key {
            id: row.get(0)?,
            material: row.get(1)?,
            description: row.get(2)?,
            state: row.get(3)?,
            created_ms: row.get(4)?,
            deletion_ms: row.get(5)?,
        })
    }

    pub(super) fn arn(&self) -> String {
        arn(&format!("key/{}", self.id))
    }

    pub(super) fn id_bytes(&self) -> Result<[u8; 16], Refusal> {
        u128::from_str_radix(&self.id.replace('-', ""), 16)
            .map(u128::to_be_bytes)
            .map_err(|error| Refusal::internal("KMSInternalException", error))
    }

    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({
            "AWSAccountId": ACCOUNT_ID,
            "KeyId": self.id,
            "Arn": self.arn(),
            "CreationDate": seconds(self.created_ms),
            "Enabled": self.state == ENABLED,
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": self.state,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": false,
        });
        if let Some(ms) = self.deletion_ms {
            metadata["DeletionDate"] = seconds(ms).into();
        }
        metadata
    }
}

fn failed(error: rusqlite::Error) -> Refusal {
    Refusal::internal("KMSInternalException", error)
}

impl Keys {
    pub(super) fn open(state: &StateDir) -> Result<Self, StartError> {
        Ok(Keys { connection: state.open(Service::Kms, TABLES)?, _held: state.clone() })
    }

    pub(super) fn create(&mut self, description: &str, now_ms: i64) -> Result<Key, Refusal> {
        let unspecified = |error: aws_lc_rs::error::Unspecified| Refusal::internal("KMSInternalException", error);
        let key = Key {
            id: uuid().map_err(unspecified)?,
            material: random::<32>().map_err(unspecified)?.to_vec(),
            description: description.to_owned(),
            state: ENABLED.to_owned(),
            created_ms: now_ms,
            deletion_ms: None,
        };
        self.connection
            .execute(
                "INSERT INTO keys (id, material, description, state, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![key.id, key.material, key.description, key.state, key.created_ms],
            )
            .map_err(failed)?;
        Ok(key)
    }

    /// By id, key ARN, alias name or alias ARN.
    pub(super) fn find(&self, name: &str) -> Result<Key, Refusal> {
        let local = name.strip_prefix(&arn("")).unwrap_or(name);
        let (sql, local) = match local.starts_with("alias/") {
            true => ("SELECT keys.* FROM keys JOIN aliases ON aliases.key = keys.id WHERE aliases.name = ?1", local),
            false => ("SELECT * FROM keys WHERE id = ?1", local.strip_prefix("key/").unwrap_or(local)),
        };
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let key = statement.query_row([local], Key::read).optional().map_err(failed)?;
        key.ok_or_else(|| {
            let arn = if name.starts_with("arn:") { name.to_owned() } else { arn(&resource(local)) };
            Refusal::new("NotFoundException", format!("Key '{arn}' does not exist"))
        })
    }

    pub(super) fn all(&self) -> Result<Vec<Key>, Refusal> {
        let mut statement = self.connection.prepare_cached("SELECT * FROM keys ORDER BY id").map_err(failed)?;
        let rows = statement.query_map([], Key::read).map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }

    pub(super) fn set_state(&self, key: &Key, state: &str, deletion_ms: Option<i64>) -> Result<(), Refusal> {
        self.connection
            .execute("UPDATE keys SET state = ?2, deletion_ms = ?3 WHERE id = ?1", params![key.id, state, deletion_ms])
            .map(|_| ())
            .map_err(failed)
    }

    /// Keys whose deletion date has passed are gone, with their aliases.
    pub(super) fn destroy_due(&mut self, now_ms: i64) -> Result<(), Refusal> {
        let mut statement =
            self.connection.prepare_cached("DELETE FROM keys WHERE deletion_ms <= ?1").map_err(failed)?;
        if statement.execute([now_ms]).map_err(failed)? > 0 {
            self.connection
                .execute("DELETE FROM aliases WHERE key NOT IN (SELECT id FROM keys)", [])
                .map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn create_alias(&mut self, name: &str, key: &Key, now_ms: i64) -> Result<(), Refusal> {
        let made = self
            .connection
            .execute("INSERT OR IGNORE INTO aliases VALUES (?1, ?2, ?3)", params![name, key.id, now_ms])
            .map_err(failed)?;
        if made == 0 {
            let message = format!("An alias with the name {} already exists", arn(name));
            return Err(Refusal::new("AlreadyExistsException", message));
        }
        Ok(())
    }

    pub(super) fn delete_alias(&mut self, name: &str) -> Result<(), Refusal> {
        match self.connection.execute("DELETE FROM aliases WHERE name = ?1", [name]).map_err(failed)? {
            0 => Err(Refusal::new("NotFoundException", format!("Alias {} is not found.", arn(name)))),
            _ => Ok(()),
        }
    }

    pub(super) fn aliases(&self) -> Result<Vec<Alias>, Refusal> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name, key, created_ms FROM aliases ORDER BY name")
            .map_err(failed)?;
        let rows = statement
            .query_map([], |row| Ok(Alias { name: row.get(0)?, key_id: row.get(1)?, created_ms: row.get(2)? }))
            .map_err(failed)?;
        rows.collect::<Result<_, _>>().map_err(failed)
    }
}

fn resource(local: &str) -> String {
    if local.starts_with("alias/") { local.to_owned() } else { format!("key/{local}") }
}
