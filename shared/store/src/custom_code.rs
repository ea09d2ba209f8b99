//! Apps' custom code. That an app has any stands with the app, where sessions look: only then widgets load it.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{audit::Entry, custom_code::CustomCode, id::AppId};

use crate::{Error, Store, apps::EXISTS, audit::Log, key::Key, table::to_row};

impl Store {
    /// An app's custom code; `None` when it never had any.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn custom_code(&self, app: AppId) -> Result<Option<CustomCode>, Error> {
        self.get("custom code", Key::custom_code(app)).await
    }

    /// Sets an app's custom code. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_custom_code(&self, app: AppId, code: &CustomCode, entry: &Entry) -> Result<bool, Error> {
        let has = [(":has", AttributeValue::Bool(!code.is_empty()))];
        let transaction = self.transaction().update(&Key::app(app), "SET customCode = :has", Some(EXISTS), &has)?;
        let transaction = transaction.put(to_row(&Key::custom_code(app), code)?, None, &[])?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }
}
