//! Apps.

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    app::{App, WidgetKey},
    audit::Entry,
    embed::Embed,
    id::AppId,
    retention::Retention,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    audit::Log,
    key::{Key, Range},
    table::{Order, Page, number, string, to_row},
    transaction::text,
};

/// An app as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The app's id.
    pub app_id: AppId,
    /// Its name.
    pub name: String,
}

/// An app's row. A deleted one is kept, and is found by nobody.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    #[serde(flatten)]
    app: App,
    #[serde(default)]
    deleted_at: Option<Timestamp>,
}

impl Kept {
    /// The app, unless it is deleted.
    pub(crate) fn present(self) -> Option<App> {
        self.deleted_at.is_none().then_some(self.app)
    }
}

/// How the deletion of an app went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// Integrations of it are active.
    HasActive,
}

/// The app is there and not deleted.
pub(crate) const EXISTS: &str = "attribute_exists(pk) AND attribute_not_exists(deletedAt)";

impl Store {
    /// Stores a new app and its place in the list, together or not at all. The row that tells of it is in both audit logs:
    /// an app's own is not found any more once it is deleted.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn create_app(&self, app: &App, entry: Option<&Entry>) -> Result<(), Error> {
        let summary = Summary { app_id: app.id, name: app.name.clone() };
        let rows = [to_row(&Key::app(app.id), app)?, to_row(&Key::app_index(app.id), &summary)?];
        let transaction = rows.into_iter().try_fold(self.transaction(), |all, row| all.put(row, None, &[]))?;
        let transaction = transaction.noted(Log::App(app.id), entry)?.noted(Log::Deployment, entry)?;
        transaction.commit().await?.map_err(|_| Error::Unavailable {
            operation: "TransactWriteItems",
            cause: "met another write of the same new app".to_owned(),
        })
    }

    /// Gives an app another name, here and in the list. `false`: it is gone, or somebody else changed it meanwhile.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn rename_app(&self, app: AppId, name: &str, entry: &Entry) -> Result<bool, Error> {
        let values = [(":name", string(name))];
        let transaction = self.transaction();
        let transaction = transaction.update(&Key::app(app), "SET #name = :name", Some(EXISTS), &values)?;
        let index = Key::app_index(app);
        let transaction = transaction.update(&index, "SET #name = :name", Some("attribute_exists(pk)"), &values)?;
        let transaction = transaction.noted(Log::App(app), Some(entry))?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Gives an app another widget key; embeds with the old one get no session from now on. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn rotate_widget_key(&self, app: AppId, key: &WidgetKey, entry: &Entry) -> Result<bool, Error> {
        let transaction = self.transaction();
        let transaction =
            transaction.update(&Key::app(app), "SET widgetKey = :key", Some(EXISTS), &text(":key", key))?;
        let transaction = transaction.noted(Log::App(app), Some(entry))?;
        Ok(transaction.commit().await?.is_ok())
    }

    /// Sets where an app's widget may stand and who hears it. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_embed(&self, app: AppId, embed: &Embed, entry: &Entry) -> Result<bool, Error> {
        let texts = |texts: &[String]| AttributeValue::L(texts.iter().map(string).collect());
        let values = [(":origins", texts(&embed.allowed_origins)), (":ancestors", texts(&embed.frame_ancestors))];
        let update = "SET allowedOrigins = :origins, frameAncestors = :ancestors";
        let transaction = self.transaction().update(&Key::app(app), update, Some(EXISTS), &values)?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }

    /// Sets how long what is about an app's visitors is kept, for what is made from now on. `false`: the app is gone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_retention(&self, app: AppId, retention: Retention, entry: &Entry) -> Result<bool, Error> {
        let days: AttributeValue = serde_dynamo::to_attribute_value(retention)
            .map_err(|error| Error::unreadable("a value to store", error))?;
        let values = [(":days", days)];
        let transaction = self.transaction().update(&Key::app(app), "SET #retention = :days", Some(EXISTS), &values)?;
        Ok(transaction.noted(Log::App(app), Some(entry))?.commit().await?.is_ok())
    }

    /// Deletes an app that has no active integration: it leaves the list and is found no more. Its rows are kept.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delete_app(&self, app: AppId, entry: &Entry) -> Result<Deletion, Error> {
        let idle = "(attribute_not_exists(activeIntegrations) OR activeIntegrations <= :none)";
        let values = [(":none", number(0)), (":now", string(entry.at))];
        let transaction = self.transaction().delete(&Key::app_index(app), None, &[])?;
        let transaction = transaction.delete(&Key::active_provider(app), None, &[])?;
        let condition = format!("{EXISTS} AND {idle}");
        let transaction = transaction.update(&Key::app(app), "SET deletedAt = :now", Some(&condition), &values)?;
        let transaction = transaction.noted(Log::App(app), Some(entry))?.noted(Log::Deployment, Some(entry))?;
        match transaction.commit().await? {
            Ok(()) => Ok(Deletion::Done),
            // Whoever came first has deleted it.
            Err(_) if self.app(app).await?.is_none() => Ok(Deletion::Done),
            Err(refused) if refused.first().is_some() => Ok(Deletion::HasActive),
            Err(_) => Err(Error::Unavailable {
                operation: "TransactWriteItems",
                cause: "other changes of the app came in between".to_owned(),
            }),
        }
    }

    /// One app; `None` when there is none of this id.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn app(&self, app: AppId) -> Result<Option<App>, Error> {
        let kept: Option<Kept> = self.get("an app", Key::app(app)).await?;
        Ok(kept.and_then(Kept::present))
    }

    /// Apps in the order in which they were made, those after `after`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn apps(&self, limit: u8, after: Option<AppId>) -> Result<Page<Summary>, Error> {
        self.page("an app's summary", Range::apps(), Order::Oldest, after, limit).await
    }
}
