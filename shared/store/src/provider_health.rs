//! Whether providers are there: which are to be asked, who asks them, and what came of it.
//!
//! Active providers stand in a list of the deployment, so that nobody has to look through all apps. Several media servers
//! read it; the one whose lease lies in a provider's row asks it. A change of the provider removes that row, and with it
//! both the lease and what was known of another address.

use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::{app::ProviderHealth, id::AppId, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    key::{Key, Range},
    limits::refused_row,
    table::{Order, Page, from_row, number, string},
};

const WHAT: &str = "a provider's health";

/// An active provider, as the list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// Whose it is.
    pub app_id: AppId,
    /// Counts its changes.
    pub revision: u64,
}

/// Who asks a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// We do; and what was known so far.
    Ours(Option<ProviderHealth>),
    /// Somebody else, until then.
    Theirs(Timestamp),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    health: Option<ProviderHealth>,
    /// Milliseconds since the epoch.
    watched_until: Option<i64>,
}

impl Store {
    /// What came of asking an app's provider last; `None`: nobody has asked yet.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn provider_health(&self, app: AppId) -> Result<Option<ProviderHealth>, Error> {
        let row: Option<Row> = self.get(WHAT, Key::provider_health(app)).await?;
        Ok(row.and_then(|row| row.health))
    }

    /// One page of the active providers.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn active_providers(&self, limit: u8, after: Option<AppId>) -> Result<Page<Active>, Error> {
        self.page("an active provider", Range::active_providers(), Order::Oldest, after, limit).await
    }

    /// Takes it on to ask a provider until then, unless another watcher has. Whoever calls has just seen that there is
    /// one: this makes the row, and only a change of a provider removes it.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn watch_provider(
        &self,
        app: AppId,
        watcher: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Watch, Error> {
        let free = "attribute_not_exists(watchedUntil) OR watchedUntil < :now OR watcher = :watcher";
        let taken = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::provider_health(app).attributes()))
            .update_expression("SET watcher = :watcher, watchedUntil = :until")
            .condition_expression(free)
            .expression_attribute_values(":watcher", string(watcher))
            .expression_attribute_values(":until", number(until.as_millis()))
            .expression_attribute_values(":now", number(now.as_millis()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match taken {
            Ok(taken) => Ok(Watch::Ours(from_row::<Row>(WHAT, taken.attributes.unwrap_or_default())?.health)),
            Err(error) => {
                let row = refused_row(&error).ok_or_else(|| Error::unavailable("UpdateItem")(error))?;
                let until = from_row::<Row>(WHAT, row)?.watched_until.unwrap_or_default();
                Ok(Watch::Theirs(Timestamp::from_millis(until)))
            }
        }
    }

    /// Keeps what came of asking. `false`: it is no longer this watcher's, or the provider changed meanwhile.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn keep_provider_health(
        &self,
        app: AppId,
        watcher: &str,
        health: &ProviderHealth,
    ) -> Result<bool, Error> {
        let value = serde_dynamo::to_attribute_value(health).map_err(|error| Error::unreadable(WHAT, error))?;
        let kept = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::provider_health(app).attributes()))
            .update_expression("SET health = :health")
            .condition_expression("watcher = :watcher")
            .expression_attribute_values(":health", value)
            .expression_attribute_values(":watcher", string(watcher))
            .send()
            .await;
        match kept {
            Ok(_) => Ok(true),
            Err(error) if refused_row(&error).is_some() => Ok(false),
            Err(error) => Err(Error::unavailable("UpdateItem")(error)),
        }
    }
}
