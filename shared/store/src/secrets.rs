//! Integrations' secrets: sealed when they come, opened for a delivery, shown once. What is shown, that it was, and how
//! many were this hour are one transaction.

use std::time::Duration;

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, Delete, Put, TransactWriteItem, Update},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use domain::{
    audit::Entry,
    id::{AppId, IntegrationId},
    secret::{MAX_SECRETS, REVEALS_PER_HOUR, SecretName, SecretValue},
    template::Values,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error, Store, Vault,
    audit::Log,
    integrations::Stored,
    key::{EXPIRES, Key},
    seal::{Of, Place},
    table::{from_row, number, string, to_row},
    transaction::{TRIES, wait},
};

/// The window of [`REVEALS_PER_HOUR`].
pub const HOUR: Duration = Duration::from_secs(60 * 60);

/// A secret as lists show it: everything but its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// Counts its values.
    pub version: u64,
    /// When its first value was stored.
    pub created_at: Timestamp,
    /// When this value was stored.
    pub updated_at: Timestamp,
    /// When this value was shown; it is not shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revealed_at: Option<Timestamp>,
}

/// A secret as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub struct Sealed {
    #[serde(flatten)]
    secret: Secret,
    sealed: String,
}

impl Sealed {
    /// What may be shown of it.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// Which integration of which app, as its own row says.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The app.
    pub app: AppId,
    /// The integration.
    pub integration: IntegrationId,
}

impl Owner {
    fn place<'a>(&self, name: &'a str, version: u64) -> Place<'a> {
        Place { app: self.app, of: Of::Integration(self.integration), name, version }
    }
}

/// How storing or deleting went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written<T> {
    /// It is done.
    Done(T),
    /// There is no such secret, or the integration is gone.
    Missing,
    /// Somebody else changed it, or the integration, meanwhile.
    Raced,
    /// The integration has as many secrets as it can.
    TooMany,
}

/// How a reveal went.
#[derive(Clone, Debug)]
pub enum Reveal {
    /// This once.
    Shown(SecretValue),
    /// There is no such secret.
    Missing,
    /// This value was shown before.
    ShownBefore,
    /// [`REVEALS_PER_HOUR`] were shown; the next hour begins then.
    TooMany(Timestamp),
}

/// Which members of a transaction said no; empty: nothing to do with conditions.
pub(crate) enum Refused {
    /// The first member whose condition failed.
    Condition(usize),
    /// Another transaction was at the same rows.
    Conflict,
}

pub(crate) fn refused(error: &SdkError<TransactWriteItemsError>) -> Option<Refused> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error.as_service_error()? else {
        return None;
    };
    let codes: Vec<_> = cancelled.cancellation_reasons().iter().map(|reason| reason.code()).collect();
    match codes.iter().position(|code| *code == Some("ConditionalCheckFailed")) {
        Some(member) => Some(Refused::Condition(member)),
        None => codes.contains(&Some("TransactionConflict")).then_some(Refused::Conflict),
    }
}

fn contended() -> Error {
    Error::Unavailable { operation: "TransactWriteItems", cause: "others kept writing the same rows".to_owned() }
}

impl Store {
    pub(crate) async fn transact(
        &self,
        members: impl IntoIterator<Item = TransactWriteItem>,
    ) -> Result<Option<Refused>, Error> {
        let members = Some(members.into_iter().collect());
        match self.client.transact_write_items().set_transact_items(members).send().await {
            Ok(_) => Ok(None),
            Err(error) => match refused(&error) {
                Some(refused) => Ok(Some(refused)),
                None => Err(Error::unavailable("TransactWriteItems")(error)),
            },
        }
    }

    /// A member that lets a transaction pass only while the integration exists, and makes another revision of it: whoever
    /// holds its secrets reads them anew.
    pub(crate) fn revise(&self, owner: Owner) -> Result<TransactWriteItem, Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::integration(owner.app, owner.integration).attributes()))
            .update_expression("SET revision = revision + :one")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":one", number(1))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Everything stored for an integration's templates, by name, in one query.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn secrets(&self, owner: Owner) -> Result<Vec<Sealed>, Error> {
        let Key { pk, sk } = Key::secrets(owner.app, owner.integration);
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :sk)")
            .expression_attribute_values(":pk", AttributeValue::S(pk))
            .expression_attribute_values(":sk", AttributeValue::S(sk))
            .consistent_read(true)
            .send()
            .await
            .map_err(Error::unavailable("Query"))?;
        answer.items.unwrap_or_default().into_iter().map(|row| from_row("a secret", row)).collect()
    }

    /// One secret.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn secret(&self, owner: Owner, name: &SecretName) -> Result<Option<Sealed>, Error> {
        self.get("a secret", Key::secret(owner.app, owner.integration, name)).await
    }

    /// Stores a value, sealed: a new secret, or a new version of one, not shown yet.
    ///
    /// # Errors
    /// When the table or the key service cannot be reached: then nothing is stored.
    pub async fn put_secret(
        &self,
        vault: &Vault,
        owner: Owner,
        name: &SecretName,
        value: &SecretValue,
        entry: &Entry,
    ) -> Result<Written<Secret>, Error> {
        let before = self.secret(owner, name).await?.map(|sealed| sealed.secret);
        if before.is_none() && self.secrets(owner).await?.len() >= MAX_SECRETS {
            return Ok(Written::TooMany);
        }
        let version = before.as_ref().map_or(0, |secret| secret.version) + 1;
        let sealed = vault.seal(value.expose().as_bytes(), owner.place(name.as_str(), version)).await?;
        let secret = Secret {
            name: name.clone(),
            version,
            created_at: before.as_ref().map_or(entry.at, |secret| secret.created_at),
            updated_at: entry.at,
            revealed_at: None,
        };
        let key = Key::secret(owner.app, owner.integration, name);
        let row = to_row(&key, &Sealed { secret: secret.clone(), sealed: BASE64.encode(sealed) })?;
        let put = Put::builder().table_name(&self.table).set_item(Some(row));
        let put = match &before {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(before) => put
                .condition_expression("version = :version")
                .expression_attribute_values(":version", number(before.version)),
        };
        let put = put.build().map_err(Error::unavailable("TransactWriteItems"))?;
        let members = [
            TransactWriteItem::builder().put(put).build(),
            self.revise(owner)?,
            self.audit_member(Log::App(owner.app), entry)?,
        ];
        Ok(match self.transact(members).await? {
            None => Written::Done(secret),
            Some(Refused::Condition(1)) => Written::Missing,
            Some(_) => Written::Raced,
        })
    }

    /// Deletes a secret that the integration, as `stored` has it, does not name.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delete_secret(
        &self,
        app: AppId,
        stored: &Stored,
        name: &SecretName,
        entry: &Entry,
    ) -> Result<Written<()>, Error> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(Key::secret(app, stored.integration.id, name).attributes()))
            .condition_expression("attribute_exists(pk)")
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        // Who changes the integration at this moment, to name the secret, has read an older revision and must look again.
        let touch = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::integration(app, stored.integration.id).attributes()))
            .update_expression("SET revision = revision + :one")
            .condition_expression("revision = :revision")
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":revision", number(stored.revision))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        let members = [
            TransactWriteItem::builder().delete(delete).build(),
            TransactWriteItem::builder().update(touch).build(),
            self.audit_member(Log::App(app), entry)?,
        ];
        Ok(match self.transact(members).await? {
            None => Written::Done(()),
            Some(Refused::Condition(0)) => Written::Missing,
            Some(_) => Written::Raced,
        })
    }

    /// Deletes everything sealed of an integration that is gone. Without its integration nothing of it can be asked for.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn forget_secrets(&self, owner: Owner) -> Result<(), Error> {
        let secrets = self.secrets(owner).await?.into_iter();
        let keys = secrets.map(|sealed| Key::secret(owner.app, owner.integration, &sealed.secret.name));
        for key in keys.chain([Key::signing(owner.app, owner.integration)]) {
            self.erase(&key).await?;
        }
        Ok(())
    }

    /// The same of an app that is gone: of all its integrations, and its provider with the password.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn forget_app_secrets(&self, app: AppId) -> Result<(), Error> {
        for stored in self.integrations(app).await? {
            self.forget_secrets(Owner { app, integration: stored.integration.id }).await?;
        }
        self.erase(&Key::provider(app)).await
    }

    async fn erase(&self, key: &Key) -> Result<(), Error> {
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key.attributes()));
        delete.send().await.map(drop).map_err(Error::unavailable("DeleteItem"))
    }

    /// Shows a value: once, [`REVEALS_PER_HOUR`] at most, and only when all of that is written down, the row of the audit
    /// log included.
    ///
    /// # Errors
    /// When the table or the key service cannot be reached: then nothing is shown.
    pub async fn reveal(&self, vault: &Vault, owner: Owner, name: &SecretName, entry: &Entry) -> Result<Reveal, Error> {
        let now = entry.at;
        for tried in 0..TRIES {
            let Some(Sealed { secret, sealed }) = self.secret(owner, name).await? else { return Ok(Reveal::Missing) };
            if secret.revealed_at.is_some() {
                return Ok(Reveal::ShownBefore);
            }
            let value = vault.open_text(&sealed, owner.place(name.as_str(), secret.version), now).await?;
            let members = [
                self.shown(owner, name, &sealed, now)?,
                self.counted(owner, now)?,
                self.audit_member(Log::App(owner.app), entry)?,
            ];
            match self.transact(members).await? {
                None => return Ok(Reveal::Shown(SecretValue::stored(value))),
                Some(Refused::Condition(1)) => return Ok(Reveal::TooMany(hour(now).plus(HOUR))),
                // Somebody was quicker, or stored another value: the row says which.
                Some(_) => wait(tried).await,
            }
        }
        Err(contended())
    }

    fn shown(&self, owner: Owner, name: &SecretName, sealed: &str, now: Timestamp) -> Result<TransactWriteItem, Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::secret(owner.app, owner.integration, name).attributes()))
            .update_expression("SET revealedAt = :now")
            .condition_expression("sealed = :sealed AND attribute_not_exists(revealedAt)")
            .expression_attribute_values(":now", string(now))
            .expression_attribute_values(":sealed", string(sealed))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn counted(&self, owner: Owner, now: Timestamp) -> Result<TransactWriteItem, Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::reveals(owner.app, owner.integration, hour(now)).attributes()))
            .update_expression("ADD shown :one SET #expires = :expires")
            .condition_expression("attribute_not_exists(shown) OR shown < :most")
            .expression_attribute_names("#expires", EXPIRES)
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":most", number(REVEALS_PER_HOUR))
            .expression_attribute_values(":expires", number(hour(now).plus(2 * HOUR).as_seconds()))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

/// When the hour began.
fn hour(now: Timestamp) -> Timestamp {
    let hour = i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(now.as_millis() / hour * hour)
}

impl Vault {
    /// Opens those of an integration's secrets that are named.
    ///
    /// # Errors
    /// When the key service cannot be reached. A name without a secret is no error: it is missing from the answer.
    pub async fn open_secrets<'a>(
        &self,
        owner: Owner,
        sealed: &[Sealed],
        named: impl IntoIterator<Item = &'a SecretName>,
        now: Timestamp,
    ) -> Result<Values, Error> {
        let mut values = Values::new();
        for name in named {
            if let Some(Sealed { secret, sealed }) = sealed.iter().find(|sealed| sealed.secret.name == *name) {
                let text = self.open_text(sealed, owner.place(name.as_str(), secret.version), now).await?;
                values.insert(name.clone(), SecretValue::stored(text));
            }
        }
        Ok(values)
    }

    pub(crate) async fn open_text(
        &self,
        sealed: &str,
        place: Place<'_>,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, Error> {
        let unreadable = |cause: &dyn std::fmt::Display| Error::unreadable("a secret", cause);
        let sealed = BASE64.decode(sealed).map_err(|error| unreadable(&error))?;
        let clear = self.open_sealed(&sealed, place, now).await?;
        let text = std::str::from_utf8(&clear).map_err(|_| unreadable(&"it is no text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_begin_on_the_hour() {
        let at = |text: &str| text.parse::<Timestamp>().expect(text);
        assert_eq!(hour(at("2026-01-31T12:59:59.999Z")), at("2026-01-31T12:00:00.000Z"));
        assert_eq!(hour(at("2026-01-31T13:00:00.000Z")), at("2026-01-31T13:00:00.000Z"));
    }

    #[test]
    fn a_row_holds_no_value() {
        let secret = Secret {
            name: "token".parse().expect("a name"),
            version: 3,
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
            revealed_at: None,
        };
        let (app, integration) = ("app_00000000000000000000000000", "int_00000000000000000000000000");
        let (app, integration) = (app.parse().expect("an id"), integration.parse().expect("an id"));
        let key = Key::secret(app, integration, &secret.name);
        let row = to_row(&key, &Sealed { secret: secret.clone(), sealed: "AQ==".to_owned() }).expect("a row");
        let back: Sealed = from_row("a secret", row).expect("read");
        assert_eq!((back.secret, back.sealed.as_str()), (secret, "AQ=="));
    }
}
