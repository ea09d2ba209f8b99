//! Who may save a page of the console at this moment. Saves of one page come one after the other, so that what is written over is
//! what the form was read as.

use std::time::Duration;

use aws_sdk_dynamodb::error::SdkError;
use domain::{id::AppId, time::Timestamp};
use serde::Serialize;

use crate::{
    Error, Store,
    key::Key,
    table::{number, string, to_row},
};

/// How long a turn lasts that nobody ends: as long as the console may take for an answer.
const LONGEST: Duration = Duration::from_secs(20);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Turn<'a> {
    holder: &'a str,
    expires_at: i64,
}

impl Store {
    /// Takes the turn at a page of an app, for whoever `holder` names; `false`: somebody else has it.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn take_turn(&self, app: AppId, page: &str, holder: &str, now: Timestamp) -> Result<bool, Error> {
        let turn = Turn { holder, expires_at: now.plus(LONGEST).as_seconds() };
        // Rows outlive their expiry by hours or days; and a try whose answer was lost is tried again.
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_row(&Key::turn(app, page), &turn)?))
            .condition_expression("attribute_not_exists(pk) OR expiresAt < :now OR holder = :holder")
            .expression_attribute_values(":now", number(now.as_seconds()))
            .expression_attribute_values(":holder", string(holder));
        match put.send().await {
            Ok(_) => Ok(true),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(false),
            Err(error) => Err(Error::unavailable("PutItem")(error)),
        }
    }

    /// Ends a turn. One that is somebody else's by now goes on.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn end_turn(&self, app: AppId, page: &str, holder: &str) -> Result<(), Error> {
        let delete = self.client.delete_item().table_name(&self.table);
        let delete = delete.set_key(Some(Key::turn(app, page).attributes())).condition_expression("holder = :holder");
        match delete.expression_attribute_values(":holder", string(holder)).send().await {
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(()),
            sent => sent.map(drop).map_err(Error::unavailable("DeleteItem")),
        }
    }
}
