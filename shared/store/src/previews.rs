//! Previews of drafts: a row for each key, which ends with it. Several operators may look at one draft at once.

use domain::{
    audit::Entry,
    design::{Content, preview::PreviewKey},
    id::AppId,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Store, apps::EXISTS, audit::Log, key::Key, table::to_row};

/// When a preview ends, in seconds since the epoch.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preview {
    expires_at: i64,
}

impl Store {
    /// Lets who holds `key` see an app's draft until then. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn open_preview(
        &self,
        app: AppId,
        key: &PreviewKey,
        until: Timestamp,
        entry: &Entry,
    ) -> Result<bool, Error> {
        let row = to_row(&Key::preview(app, &key.hash()), &Preview { expires_at: until.as_seconds() })?;
        let transaction = self.transaction().check(&Key::app(app), EXISTS)?.put(row, None, &[])?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }

    /// An app's draft, as it is now, for who holds this key; `None` when the key opens nothing, or no longer: rows outlive
    /// their expiry by hours or days.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn preview(&self, app: AppId, key: &PreviewKey, now: Timestamp) -> Result<Option<Content>, Error> {
        let opened = self.get::<Preview>("a preview", Key::preview(app, &key.hash()));
        let (opened, draft) = tokio::try_join!(opened, self.draft(app))?;
        Ok(opened.filter(|preview| now.as_seconds() < preview.expires_at).map(|_| draft.content))
    }
}
