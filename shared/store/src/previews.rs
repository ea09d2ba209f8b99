//! Previews of drafts: a row for each key, which ends with it. Several operators may look at one draft at once.

use domain::{audit::Entry, design::preview::PreviewKey, id::AppId, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Error, Store, apps::EXISTS, audit::Log, key::Key, table::to_row};

/// When a preview ends, in seconds since the epoch.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preview {
    expires_at: i64,
}

impl Preview {
    /// Whether it can still be opened: rows outlive their expiry by hours or days.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        now.as_seconds() < self.expires_at
    }
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
}
