//! The key service: wraps secret bytes, and unwraps them only for the same purpose.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::aead::NONCE_LEN;
use aws_sdk_kms::{Client, primitives::Blob};
use domain::{
    id::{AppId, IntegrationId},
    time::Timestamp,
};
use zeroize::Zeroizing;

use crate::{
    Aws, Error,
    seal::{self, Of, Place},
};

/// An unwrapped data key is remembered this long at most.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// Data keys remembered at most.
const REMEMBERED: usize = 1_000;

/// What the key service binds to wrapped bytes (KMS encryption context): it unwraps them for nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The private half of the session token key with this id.
    SessionToken {
        /// The key id.
        kid: &'a str,
    },
    /// A secret or a signing key of one integration. Which one and which value is bound within what is sealed.
    IntegrationSecret {
        /// The app.
        app: AppId,
        /// The integration.
        integration: IntegrationId,
    },
    /// The password of an app's SIP provider.
    Provider {
        /// The app.
        app: AppId,
    },
}

impl Purpose<'_> {
    fn context(&self) -> HashMap<String, String> {
        match self {
            Self::SessionToken { kid } => HashMap::from([
                ("purpose".to_owned(), "session-token".to_owned()),
                ("kid".to_owned(), (*kid).to_owned()),
            ]),
            Self::IntegrationSecret { app, integration } => HashMap::from([
                ("purpose".to_owned(), "integration-secret".to_owned()),
                ("app".to_owned(), app.to_string()),
                ("integration".to_owned(), integration.to_string()),
            ]),
            Self::Provider { app } => {
                HashMap::from([("purpose".to_owned(), "provider".to_owned()), ("app".to_owned(), app.to_string())])
            }
        }
    }
}

impl Place<'_> {
    fn purpose(&self) -> Purpose<'static> {
        match self.of {
            Of::Integration(integration) => Purpose::IntegrationSecret { app: self.app, integration },
            Of::Provider => Purpose::Provider { app: self.app },
        }
    }
}

/// Fresh secret bytes, in clear and wrapped.
pub struct Fresh {
    /// 32 random bytes, wiped when dropped.
    pub clear: Zeroizing<Vec<u8>>,
    /// The same, wrapped: what may be stored.
    pub wrapped: Vec<u8>,
}

/// One key of the key service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Vault {
    client: Client,
    key: String,
    remembered: Option<Arc<Mutex<Remembered>>>,
}

/// Unwrapped data keys, by wrapped key and what it was wrapped for; and when each was unwrapped.
type Remembered = HashMap<(Vec<u8>, AppId, Of), (DataKey, Timestamp)>;

/// Wiped when dropped, silent in logs.
#[derive(Clone)]
struct DataKey(Arc<Zeroizing<Vec<u8>>>);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey")
    }
}

impl Vault {
    /// The key of this id or ARN.
    pub fn open(aws: &Aws, key: impl Into<String>) -> Self {
        Self { client: aws.kms(), key: key.into(), remembered: None }
    }

    /// The same, remembering unwrapped data keys for five minutes: for who opens the same values again and again.
    pub fn remembering(self) -> Self {
        Self { remembered: Some(Arc::default()), ..self }
    }

    /// Seals a value for its place, under a data key of its own.
    pub(crate) async fn seal(&self, clear: &[u8], place: Place<'_>) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|error| Error::unreadable("a secret", error))?;
        let Fresh { clear: data_key, wrapped } = self.generate(place.purpose()).await?;
        seal::seal(clear, place, &data_key, &wrapped, nonce).map_err(|error| Error::unreadable("a secret", error))
    }

    /// Opens what [`seal`](Self::seal) made for the same place.
    pub(crate) async fn open_sealed(
        &self,
        sealed: &[u8],
        place: Place<'_>,
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let unreadable = |error: seal::Closed| Error::unreadable("a secret", error);
        let wrapped = seal::wrapped(sealed).map_err(unreadable)?;
        let DataKey(data_key) = self.data_key(wrapped, place, now).await?;
        seal::open(sealed, place, &data_key).map_err(unreadable)
    }

    async fn data_key(&self, wrapped: &[u8], place: Place<'_>, now: Timestamp) -> Result<DataKey, Error> {
        let Place { app, of, .. } = place;
        let held = |remembered: &Arc<Mutex<Remembered>>| {
            let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            // Forgotten, not only passed over: what is not needed is not kept.
            remembered.retain(|_, (_, at)| now.since(*at) < REMEMBERED_FOR);
            remembered.get(&(wrapped.to_vec(), app, of)).map(|(key, _)| key.clone())
        };
        if let Some(key) = self.remembered.as_ref().and_then(held) {
            return Ok(key);
        }
        let key = DataKey(Arc::new(self.unwrap(wrapped.to_vec(), place.purpose()).await?));
        if let Some(remembered) = &self.remembered {
            let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            remembered.insert((wrapped.to_vec(), app, of), (key.clone(), now));
        }
        Ok(key)
    }

    /// Makes 32 random bytes, known to us and wrapped for storage, in one request.
    ///
    /// # Errors
    /// When the key service cannot be reached or refuses.
    pub async fn generate(&self, purpose: Purpose<'_>) -> Result<Fresh, Error> {
        let answer = self
            .client
            .generate_data_key()
            .key_id(&self.key)
            .number_of_bytes(32)
            .set_encryption_context(Some(purpose.context()))
            .send()
            .await
            .map_err(Error::unavailable("GenerateDataKey"))?;
        match (answer.plaintext, answer.ciphertext_blob) {
            (Some(clear), Some(wrapped)) => {
                Ok(Fresh { clear: Zeroizing::new(clear.into_inner()), wrapped: wrapped.into_inner() })
            }
            _ => Err(Error::Unavailable { operation: "GenerateDataKey", cause: "the answer is empty".to_owned() }),
        }
    }

    /// Unwraps what [`generate`](Self::generate) wrapped for the same purpose.
    ///
    /// # Errors
    /// When the key service cannot be reached or refuses.
    pub async fn unwrap(&self, wrapped: Vec<u8>, purpose: Purpose<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        let answer = self
            .client
            .decrypt()
            .key_id(&self.key)
            .ciphertext_blob(Blob::new(wrapped))
            .set_encryption_context(Some(purpose.context()))
            .send()
            .await
            .map_err(Error::unavailable("Decrypt"))?;
        let clear =
            answer.plaintext.ok_or(Error::Unavailable { operation: "Decrypt", cause: "the answer is empty".into() })?;
        Ok(Zeroizing::new(clear.into_inner()))
    }
}
