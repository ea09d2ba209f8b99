//! An app's business hours: a row of its own, since only sessions and calls ask for them. A profile's are in its row.

use domain::{audit::Entry, hours::Hours, id::AppId};

use crate::{Error, Store, apps::EXISTS, audit::Log, key::Key, table::to_row};

impl Store {
    /// An app's business hours; `None` when it never said any.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn hours(&self, app: AppId) -> Result<Option<Hours>, Error> {
        self.get("business hours", Key::hours(app)).await
    }

    /// Sets an app's business hours. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_hours(&self, app: AppId, hours: &Hours, entry: &Entry) -> Result<bool, Error> {
        let row = to_row(&Key::hours(app), hours)?;
        let transaction = self.transaction().check(&Key::app(app), EXISTS)?.put(row, None, &[])?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }
}
