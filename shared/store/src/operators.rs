//! Operator tokens, console sessions and one-time sign-in codes: only their hashes are stored. Beside them people whom an
//! OpenID Connect provider vouched for: each has one row that all their sessions end with.

use aws_sdk_dynamodb::types::ReturnValue;
use domain::{
    audit::Entry,
    id::{Entropy, OperatorId},
    operator::Role,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    audit::Log,
    key::{Key, Range},
    table::{Order, Page, from_row, number, string, to_row},
    transaction::Refused,
};

/// Who holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorToken {
    /// Who it is, for the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, in seconds since the epoch; a token of an integration with our API may have no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// For a console session: the SHA-256 of the token that it was begun with, and with which it ends; or the mark of the
    /// person whom a provider vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_with: Option<String>,
}

/// An operator as the list has it, and so the first one, whom the README's command makes. People whom a provider vouched for are
/// in it too, and removing one ends their sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its id.
    pub id: OperatorId,
    /// Who it is.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// The token's SHA-256 (lower-case hex), or a person's mark, which is the hash of nothing.
    pub token_hash: String,
}

impl Listed {
    fn is_vouched_for(&self) -> bool {
        self.token_hash.starts_with(MARK)
    }
}

/// Tries, each after another look, when others change the same person.
const TRIES: u8 = 2;
/// What begins the mark of a person whom a provider vouched for: no hash does, so no token leads to their row.
const MARK: &str = "provider#";

/// A person whom a provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Who: of one provider and subject always the same.
    pub id: OperatorId,
    /// Their name, for the audit log.
    pub name: String,
    /// What their groups make them.
    pub role: Role,
    /// When their sessions end, in seconds since the epoch.
    pub expires_at: i64,
}

/// That a sign-in with a provider was begun.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Begun {
    expires_at: i64,
}

/// How the end of an operator's token went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It holds no more.
    Done,
    /// It is the last of an admin.
    LastAdmin,
    /// It was not there.
    Gone,
}

impl OperatorToken {
    /// Whether it still holds. Rows outlive their expiry by hours or days.
    fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now.as_seconds() < end)
    }

    /// Whether this is the console session of somebody whom a provider vouched for.
    pub fn is_vouched_for(&self) -> bool {
        self.begun_with.as_deref().is_some_and(|begun_with| begun_with.starts_with(MARK))
    }
}

/// Whether a transaction was made; `false` when one of its conditions did not hold.
fn decided(outcome: Result<(), Refused>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(true),
        Err(refused) if refused.first().is_some() => Ok(false),
        Err(_) => Err(in_between()),
    }
}

fn in_between() -> Error {
    let cause = "another change of the operators came in between".to_owned();
    Error::Unavailable { operation: "TransactWriteItems", cause }
}

impl Store {
    /// Who holds the token with this SHA-256 (lower-case hex); `None` when nobody does, or no longer.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn operator(&self, token_hash: &str, now: Timestamp) -> Result<Option<OperatorToken>, Error> {
        let found: Option<OperatorToken> = self.get("an operator", Key::operator(token_hash)).await?;
        Ok(found.filter(|operator| operator.is_current(now)))
    }

    /// Begins a console session: stores its holder under the SHA-256 of its token (lower-case hex).
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn begin_session(&self, token_hash: &str, holder: &OperatorToken, entry: &Entry) -> Result<(), Error> {
        let transaction = self.transaction().put(to_row(&Key::operator(token_hash), holder)?, None, &[])?;
        transaction.noted(Log::Deployment, Some(entry))?.commit().await?.map_err(|_| in_between())
    }

    /// Begins the console session of a person whom a provider vouches for. All their sessions end together when they are
    /// removed; one that begins later brings none of those back, for it has another mark, made of `entropy`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn begin_vouched_session(
        &self,
        token_hash: &str,
        person: &Vouched,
        now: Timestamp,
        entropy: &Entropy,
        entry: &Entry,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            if self.try_vouched_session(token_hash, person, now, entropy, entry).await? {
                return Ok(());
            }
        }
        Err(in_between())
    }

    /// `false`: another sign-in or a removal of this person came in between.
    async fn try_vouched_session(
        &self,
        token_hash: &str,
        person: &Vouched,
        now: Timestamp,
        entropy: &Entropy,
        entry: &Entry,
    ) -> Result<bool, Error> {
        let known: Option<Listed> = self.get("an operator", Key::operator_index(person.id)).await?;
        let fresh = || entropy.iter().fold(MARK.to_owned(), |mark, byte| format!("{mark}{byte:02x}"));
        // A sign-in or a removal that comes in between is not written over: their old mark would be valid again.
        let (mark, unchanged, values) = match known {
            Some(known) => {
                let value = string(&known.token_hash);
                (known.token_hash, "tokenHash = :mark", vec![(":mark", value)])
            }
            None => (fresh(), "attribute_not_exists(pk)", Vec::new()),
        };
        let Vouched { id, name, role, expires_at } = person.clone();
        let listed = Listed { id, name: name.clone(), role, created_at: now, token_hash: mark.clone() };
        let holder = OperatorToken { name, role, created_at: now, expires_at: Some(expires_at), begun_with: None };
        let session = OperatorToken { begun_with: Some(mark.clone()), ..holder.clone() };
        let transaction = self
            .transaction()
            .put(to_row(&Key::operator_index(id), &listed)?, Some(unchanged), &values)?
            .put(to_row(&Key::operator(&mark), &holder)?, None, &[])?
            .put(to_row(&Key::operator(token_hash), &session)?, None, &[])?;
        decided(transaction.noted(Log::Deployment, Some(entry))?.commit().await?)
    }

    /// Ends a console session. One that has ended already is no error.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn end_session(&self, token_hash: &str, entry: &Entry) -> Result<(), Error> {
        let key = Key::operator(token_hash);
        let transaction = self.transaction().delete(&key, Some("attribute_exists(pk)"), &[])?;
        match transaction.noted(Log::Deployment, Some(entry))?.commit().await? {
            Err(refused) if refused.first().is_none() => Err(in_between()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Stores a new operator: the token's holder and the list's entry, together.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn create_operator(&self, operator: &Listed, entry: Option<&Entry>) -> Result<(), Error> {
        let Listed { name, role, created_at, .. } = operator.clone();
        let holder = OperatorToken { name, role, created_at, expires_at: None, begun_with: None };
        let mut transaction = self
            .transaction()
            .put(to_row(&Key::operator_index(operator.id), operator)?, None, &[])?
            .put(to_row(&Key::operator(&operator.token_hash), &holder)?, None, &[])?;
        if role == Role::Admin {
            transaction = transaction.update(&Key::admins(), "ADD admins :one", None, &[(":one", number(1))])?;
        }
        transaction.noted(Log::Deployment, entry)?.commit().await?.map_err(|_| in_between())
    }

    /// Operators in the order in which they were made, those after `after`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn operators(&self, limit: u8, after: Option<OperatorId>) -> Result<Page<Listed>, Error> {
        self.page("an operator", Range::operators(), Order::Oldest, after, limit).await
    }

    /// Ends an operator's token, unless it is the last one of an admin: of several ended at once, one remains.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn remove_operator(&self, id: OperatorId, entry: Option<&Entry>) -> Result<Removal, Error> {
        for _ in 0..TRIES {
            let found: Option<Listed> = self.get("an operator", Key::operator_index(id)).await?;
            let Some(found) = found else { return Ok(Removal::Gone) };
            if let Some(decided) = self.try_removal(&found, entry).await? {
                return Ok(decided);
            }
        }
        Err(in_between())
    }

    /// Removes an operator as found; `None`: they were removed in between, and may have come again with another mark.
    async fn try_removal(&self, found: &Listed, entry: Option<&Entry>) -> Result<Option<Removal>, Error> {
        let mark = [(":mark", string(&found.token_hash))];
        let mut transaction = self
            .transaction()
            .delete(&Key::operator_index(found.id), Some("tokenHash = :mark"), &mark)?
            .delete(&Key::operator(&found.token_hash), None, &[])?;
        // Who only a provider vouches for is not counted: the last token of an admin opens the console without it.
        if found.role == Role::Admin && !found.is_vouched_for() {
            let values = [(":less", number(-1)), (":one", number(1))];
            transaction = transaction.update(&Key::admins(), "ADD admins :less", Some("admins > :one"), &values)?;
        }
        match transaction.noted(Log::Deployment, entry)?.commit().await? {
            Ok(()) => Ok(Some(Removal::Done)),
            Err(refused) if refused.first() == Some(0) => Ok(None),
            Err(refused) if refused.first().is_some() => Ok(Some(Removal::LastAdmin)),
            Err(_) => Err(in_between()),
        }
    }

    /// Stores who may sign in with the one-time code of this SHA-256 (lower-case hex).
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_sign_in(&self, code_hash: &str, operator: &OperatorToken) -> Result<(), Error> {
        self.put(to_row(&Key::sign_in(code_hash), operator)?).await
    }

    /// Redeems a one-time code: of many tries at once, one finds it.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn redeem_sign_in(&self, code_hash: &str, now: Timestamp) -> Result<Option<OperatorToken>, Error> {
        let found: Option<OperatorToken> = self.take(Key::sign_in(code_hash)).await?;
        Ok(found.filter(|operator| operator.is_current(now)))
    }

    /// Stores that a browser whose cookie has this SHA-256 (lower-case hex) begins to sign in with a provider, and until
    /// when (seconds since the epoch) it may come back.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_begun_sign_in(&self, cookie_hash: &str, expires_at: i64) -> Result<(), Error> {
        self.put(to_row(&Key::begun_sign_in(cookie_hash), &Begun { expires_at })?).await
    }

    /// Whether a sign-in was begun with this cookie: of many tries at once, one finds it.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn take_begun_sign_in(&self, cookie_hash: &str, now: Timestamp) -> Result<bool, Error> {
        let found: Option<Begun> = self.take(Key::begun_sign_in(cookie_hash)).await?;
        Ok(found.is_some_and(|begun| now.as_seconds() < begun.expires_at))
    }

    /// Deletes a row and gives what it held.
    async fn take<T: serde::de::DeserializeOwned>(&self, key: Key) -> Result<Option<T>, Error> {
        let answer = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .return_values(ReturnValue::AllOld)
            .send()
            .await
            .map_err(Error::unavailable("DeleteItem"))?;
        answer.attributes.map(|row| from_row("an operator", row)).transpose()
    }
}
