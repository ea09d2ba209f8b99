//! The keys that sign session tokens. The public halves lie in the table for every verifier; the private halves lie
//! there wrapped by the key service, which unwraps them for the session function alone.
//!
//! Rotation: a session function that starts and finds the newest key older than 30 days makes a new one. The public half
//! is written first; a verifier that meets an unknown key id looks again. Old public halves expire by themselves, long
//! after the last token they signed.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use domain::{
    id::Entropy,
    session::Session,
    time::Timestamp,
    token::{KeyId, Refusal, SigningKey, VerifyingKeys},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store, Vault,
    key::{Key, Range},
    table::{Order, from_row, to_row},
    vault::Purpose,
};

/// A key signs for this long before the next start of a session function replaces it.
const SIGNS_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A public half stays this long: a warm function may go on signing with a key after its successor was made.
const VERIFIES_FOR: Duration = Duration::from_secs(60 * 24 * 60 * 60);
/// Public keys read: two or three, but each instance of a first burst may have made one.
const KEYS: i32 = 1_000;
/// Tokens with made-up key ids must not become reads of the table; a key made meanwhile is known this soon.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicRow {
    kid: KeyId,
    public: String,
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeedRow {
    kid: KeyId,
    wrapped: String,
    created_at: Timestamp,
    expires_at: i64,
}

impl Store {
    /// The key to sign with: the newest, unwrapped; or a new one when there is none or it is due for rotation.
    ///
    /// # Errors
    /// When the table or the key service cannot be reached: without it no token can be given.
    pub async fn signing_key(&self, vault: &Vault, now: Timestamp, entropy: &Entropy) -> Result<SigningKey, Error> {
        let is_young = |row: &SeedRow| now.since(row.created_at) < SIGNS_FOR;
        if let Some(row) = self.newest_seed().await?.filter(is_young) {
            return unwrap(vault, row).await;
        }
        let made = self.make_key(vault, now, entropy).await?;
        // Of several instances that made one at once, all sign with the newest.
        match self.newest_seed().await?.filter(|row| row.kid != *made.id()) {
            Some(row) => unwrap(vault, row).await,
            None => Ok(made),
        }
    }

    async fn newest_seed(&self) -> Result<Option<SeedRow>, Error> {
        let newest = self.query(Range::token_seeds(), Order::Newest, None, 1).await?.pop();
        newest.map(|row| from_row("a token key", row)).transpose()
    }

    async fn make_key(&self, vault: &Vault, now: Timestamp, entropy: &Entropy) -> Result<SigningKey, Error> {
        // Ids sort by time, so that the newest is the last.
        let tail: String = entropy.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let kid = KeyId(format!("{:012x}{tail}", now.as_millis()));
        let fresh = vault.generate(Purpose::SessionToken { kid: &kid.0 }).await?;
        let key = SigningKey::from_seed(kid.clone(), &fresh.clear)
            .map_err(|error| Error::unreadable("a token key", error))?;
        let expires_at = now.plus(VERIFIES_FOR).as_seconds();
        let public = PublicRow { kid: kid.clone(), public: BASE64.encode(key.public()), expires_at };
        self.put(to_row(&Key::token_key(&kid.0), &public)?).await?;
        let seed = SeedRow { kid: kid.clone(), wrapped: BASE64.encode(&fresh.wrapped), created_at: now, expires_at };
        self.put(to_row(&Key::token_seed(&kid.0), &seed)?).await?;
        tracing::info!(kid = %kid, "token_key.made");
        Ok(key)
    }

    async fn verifying_keys(&self, now: Timestamp) -> Result<VerifyingKeys, Error> {
        let mut keys = Vec::new();
        for row in self.query(Range::token_keys(), Order::Newest, None, KEYS).await? {
            let row: PublicRow = from_row("a token key", row)?;
            let public = BASE64.decode(&row.public).map_err(|error| Error::unreadable("a token key", error))?;
            if row.expires_at > now.as_seconds() {
                keys.push((row.kid, public));
            }
        }
        Ok(keys.into_iter().collect())
    }
}

async fn unwrap(vault: &Vault, row: SeedRow) -> Result<SigningKey, Error> {
    let wrapped = BASE64.decode(&row.wrapped).map_err(|error| Error::unreadable("a token key", error))?;
    let seed = vault.unwrap(wrapped, Purpose::SessionToken { kid: &row.kid.0 }).await?;
    SigningKey::from_seed(row.kid, &seed).map_err(|error| Error::unreadable("a token key", error))
}

/// Checks session tokens by public keys held in memory: no network call but for a key id never seen.
#[derive(Clone)]
pub struct Verifier {
    store: Store,
    held: Arc<RwLock<Held>>,
}

#[derive(Default)]
struct Held {
    keys: VerifyingKeys,
    looked_at: Option<Timestamp>,
}

/// The proof that a caller holds a session: there is no other way to one than [`Verifier::verify`].
#[derive(Clone, Debug)]
pub struct Visitor {
    session: Session,
    expires_at: Timestamp,
}

impl Visitor {
    /// The visitor's session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// When the token shown ends.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

impl Verifier {
    /// A verifier with no key yet: the first token makes it look.
    pub fn open(store: Store) -> Self {
        Self { store, held: Arc::default() }
    }

    /// Looks already now, so that the first token does not wait for keys, nor for the connection to the table. A key that
    /// is made the moment after is looked for as if this had not been; so is every key when the table is away.
    pub async fn prepare(&self, now: Timestamp) {
        match self.store.verifying_keys(now).await {
            Ok(keys) => self.held.write().unwrap_or_else(PoisonError::into_inner).keys = keys,
            Err(error) => tracing::warn!(cause = %error, "token_keys.not_read"),
        }
    }

    /// Checks a token.
    ///
    /// # Errors
    /// Outside: the table could not be asked for a key. Inside: why the token is refused.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Result<Visitor, Refusal>, Error> {
        let first = self.try_held(token, now);
        if !matches!(first, Err(Refusal::UnknownKey(_))) || !self.may_look(now) {
            return Ok(first);
        }
        let keys = self.store.verifying_keys(now).await?;
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Held { keys, looked_at: Some(now) };
        Ok(self.try_held(token, now))
    }

    fn try_held(&self, token: &str, now: Timestamp) -> Result<Visitor, Refusal> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.keys.verify(token, now).map(|(session, expires_at)| Visitor { session, expires_at })
    }

    fn may_look(&self, now: Timestamp) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.looked_at.is_none_or(|at| now.since(at) >= LOOK_AGAIN)
    }
}
