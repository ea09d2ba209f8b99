//! Apps' SIP providers, and the passwords that they ask for: sealed when they come, opened by who places calls.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use domain::{
    app::{Password, Provider},
    audit::Entry,
    id::AppId,
    secret::SecretValue,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store, Vault,
    audit::Log,
    key::Key,
    provider_health::Active,
    seal::{Of, Place},
    table::{Row, number, to_row},
};

/// A provider as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub struct Stored {
    /// The provider.
    #[serde(flatten)]
    pub provider: Provider,
    /// Counts its changes.
    #[serde(default)]
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<Sealed>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Sealed {
    /// The revision that it came with.
    version: u64,
    sealed: String,
}

impl Stored {
    /// Whether a password is stored with it.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }
}

fn place(app: AppId, version: u64) -> Place<'static> {
    Place { app, of: Of::Provider, name: "password", version }
}

impl Store {
    /// An app's provider; `None` when none is configured.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn provider(&self, app: AppId) -> Result<Option<Provider>, Error> {
        Ok(self.stored_provider(app).await?.map(|stored| stored.provider))
    }

    /// The same, and whether it has a password.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn stored_provider(&self, app: AppId) -> Result<Option<Stored>, Error> {
        self.get("a provider", Key::provider(app)).await
    }

    /// An app's provider with its password, for who places a call. Never log it.
    ///
    /// # Errors
    /// When the table or the key service cannot be reached, or the password does not open.
    pub async fn provider_with_password(
        &self,
        vault: &Vault,
        app: AppId,
        now: Timestamp,
    ) -> Result<Option<(Provider, Option<SecretValue>)>, Error> {
        let Some(Stored { provider, password, .. }) = self.stored_provider(app).await? else { return Ok(None) };
        let password = match password {
            Some(Sealed { version, sealed }) => Some(vault.open_text(&sealed, place(app, version), now).await?),
            None => None,
        };
        Ok(Some((provider, password.map(SecretValue::stored))))
    }

    /// Sets an app's provider, if it is still as `before` says; what is stored then. A password that stays stays with its user
    /// name: another one has none. `None`: somebody else changed it meanwhile. Whoever calls has made sure that the app exists.
    ///
    /// # Errors
    /// When the table or the key service cannot be reached: then nothing is stored.
    pub async fn put_provider(
        &self,
        vault: &Vault,
        app: AppId,
        before: Option<Stored>,
        provider: &Provider,
        password: &Password,
        entry: &Entry,
    ) -> Result<Option<Stored>, Error> {
        let known = before.as_ref().map_or(0, |before| before.revision);
        let revision = known + 1;
        let password = match password {
            Password::Ends => None,
            Password::Stays => {
                before.filter(|before| before.provider.username == provider.username).and_then(|before| before.password)
            }
            Password::Becomes(value) => {
                let sealed = vault.seal(value.expose().as_bytes(), place(app, revision)).await?;
                Some(Sealed { version: revision, sealed: BASE64.encode(sealed) })
            }
        };
        let after = Stored { provider: provider.clone(), revision, password };
        let row = to_row(&Key::provider(app), &after)?;
        let transaction = match known {
            0 => self.transaction().put(row, Some("attribute_not_exists(revision)"), &[])?,
            known => self.transaction().put(row, Some("revision = :revision"), &[(":revision", number(known))])?,
        };
        // What was known of another address says nothing about this one.
        let transaction = transaction.delete(&Key::provider_health(app), None, &[])?;
        let transaction = match provider.active {
            true => transaction.put(active(app, revision)?, None, &[])?,
            false => transaction.delete(&Key::active_provider(app), None, &[])?,
        };
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok().then_some(after))
    }

    /// Gives an app that has no provider one without a password: what is set up around a house, and tests.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn seed_provider(&self, app: AppId, provider: &Provider) -> Result<(), Error> {
        let stored = Stored { provider: provider.clone(), revision: 1, password: None };
        self.put(to_row(&Key::provider(app), &stored)?).await?;
        if provider.active {
            self.put(active(app, stored.revision)?).await?;
        }
        Ok(())
    }

    /// Removes an app's provider, and its password with it. `false`: there was none.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delete_provider(&self, app: AppId, entry: &Entry) -> Result<bool, Error> {
        let transaction = self.transaction().delete(&Key::provider(app), Some("attribute_exists(pk)"), &[])?;
        let transaction = transaction.delete(&Key::provider_health(app), None, &[])?;
        let transaction = transaction.delete(&Key::active_provider(app), None, &[])?;
        let transaction = transaction.noted(Log::App(app), Some(entry))?;
        Ok(transaction.commit().await?.is_ok())
    }
}

/// An active provider's place in the list of those that are asked whether they are there.
fn active(app: AppId, revision: u64) -> Result<Row, Error> {
    to_row(&Key::active_provider(app), &Active { app_id: app, revision })
}
