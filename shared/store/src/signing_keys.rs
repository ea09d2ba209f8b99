//! Keys that sign an integration's deliveries: sealed like secrets, shown once when made. After a rotation the one before
//! signs too, until its receiver had a day to change over.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem, Update};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use domain::{
    audit::Entry,
    signature::{KEY_BYTES, OVERLAP, SigningSecret},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error, Store, Vault,
    audit::Log,
    key::Key,
    seal::{Of, Place},
    secrets::{Owner, Refused, Written},
    table::{number, to_row},
};

/// No secret can have this name.
const NAME: &str = "#signing";
/// Keys that sign at once; who rotates more often within a day loses the oldest.
const MOST: usize = 5;

/// An integration's keys as they are stored, the newest first.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct SigningKeys {
    version: u64,
    keys: Vec<SealedKey>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SealedKey {
    version: u64,
    sealed: String,
    created_at: Timestamp,
    /// Until when it signs; the newest has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
}

/// What a rotation made.
#[derive(Debug)]
pub struct Rotated {
    /// The new key.
    pub key: SigningSecret,
    /// Until when the key before it signs too.
    pub previous_until: Option<Timestamp>,
}

impl SigningKeys {
    /// These keys with a new one in front.
    fn rotated(mut self, sealed: String, now: Timestamp) -> Self {
        self.version += 1;
        for key in &mut self.keys {
            let end = now.plus(OVERLAP);
            key.until = Some(key.until.map_or(end, |until| until.min(end)));
        }
        self.keys.retain(|key| key.until.is_none_or(|until| now < until));
        self.keys.insert(0, SealedKey { version: self.version, sealed, created_at: now, until: None });
        self.keys.truncate(MOST);
        self
    }
}

impl Store {
    /// What an integration signs with; empty when no key was made.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn signing_keys(&self, owner: Owner) -> Result<SigningKeys, Error> {
        let found = self.get("signing keys", Key::signing(owner.app, owner.integration)).await?;
        Ok(found.unwrap_or_default())
    }

    /// Makes an integration's first key out of these random bytes, and switches signing on; or the next key.
    ///
    /// # Errors
    /// When the table or the key service cannot be reached: then nothing changes.
    pub async fn rotate_signing_key(
        &self,
        vault: &Vault,
        owner: Owner,
        bytes: Zeroizing<[u8; KEY_BYTES]>,
        entry: &Entry,
    ) -> Result<Written<Rotated>, Error> {
        let key = SigningSecret::from_bytes(Zeroizing::new(bytes.to_vec()));
        let key = key.map_err(|error| Error::unreadable("a signing key", error))?;
        let before = self.signing_keys(owner).await?;
        let place =
            Place { app: owner.app, of: Of::Integration(owner.integration), name: NAME, version: before.version + 1 };
        let sealed = vault.seal(key.expose().as_bytes(), place).await?;
        let is_first = before.version == 0;
        let version = before.version;
        let after = before.rotated(BASE64.encode(sealed), entry.at);
        let previous_until = after.keys.get(1).and_then(|key| key.until);
        let row = to_row(&Key::signing(owner.app, owner.integration), &after)?;
        let put = Put::builder().table_name(&self.table).set_item(Some(row));
        let put = if is_first {
            put.condition_expression("attribute_not_exists(pk)")
        } else {
            put.condition_expression("version = :version").expression_attribute_values(":version", number(version))
        };
        let put = put.build().map_err(Error::unavailable("TransactWriteItems"))?;
        let owned = if is_first { self.switch_signing_on(owner)? } else { self.revise(owner)? };
        let members =
            [TransactWriteItem::builder().put(put).build(), owned, self.audit_member(Log::App(owner.app), entry)?];
        Ok(match self.transact(members).await? {
            None => Written::Done(Rotated { key, previous_until }),
            Some(Refused::Condition(1)) => Written::Missing,
            Some(_) => Written::Raced,
        })
    }

    fn switch_signing_on(&self, owner: Owner) -> Result<TransactWriteItem, Error> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::integration(owner.app, owner.integration).attributes()))
            .update_expression("SET signing = :on, revision = revision + :one")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":on", aws_sdk_dynamodb::types::AttributeValue::Bool(true))
            .expression_attribute_values(":one", number(1))
            .build()
            .map_err(Error::unavailable("TransactWriteItems"))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

impl Vault {
    /// Opens the keys that sign at this moment, the newest first.
    ///
    /// # Errors
    /// When the key service cannot be reached, or a key does not open.
    pub async fn open_signing_keys(
        &self,
        owner: Owner,
        keys: &SigningKeys,
        now: Timestamp,
    ) -> Result<Vec<SigningSecret>, Error> {
        let mut opened = Vec::new();
        for key in keys.keys.iter().filter(|key| key.until.is_none_or(|until| now < until)) {
            let place =
                Place { app: owner.app, of: Of::Integration(owner.integration), name: NAME, version: key.version };
            let text = self.open_text(&key.sealed, place, now).await?;
            opened.push(SigningSecret::parse(&text).map_err(|error| Error::unreadable("a signing key", error))?);
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_the_key_before_for_a_day() {
        let at = |hours: i64| Timestamp::from_millis(hours * 3_600_000);
        let signing = |keys: &SigningKeys, now: Timestamp| -> Vec<String> {
            let keys = keys.keys.iter().filter(|key| key.until.is_none_or(|until| now < until));
            keys.map(|key| key.sealed.clone()).collect()
        };
        let keys = SigningKeys::default().rotated("a".into(), at(0)).rotated("b".into(), at(100));
        assert_eq!(signing(&keys, at(123)), ["b", "a"]);
        assert_eq!(signing(&keys, at(124)), ["b"]);
        let keys = keys.rotated("c".into(), at(110));
        assert_eq!(signing(&keys, at(123)), ["c", "b", "a"]);
        assert_eq!(signing(&keys, at(124)), ["c", "b"]);
        assert_eq!(signing(&keys, at(134)), ["c"]);
        let many = (0..9).fold(keys, |keys, _| keys.rotated("d".into(), at(111)));
        assert_eq!((many.keys.len(), many.version), (MOST, 12));
    }
}
