//! Surveys after calls: one of each call, kept under the call's id.

use domain::{
    id::{AppId, CallId, SessionId},
    retention,
    survey::Filled,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    key::{EXPIRES, Key, Range},
    table::{Order, Page, number, to_row},
};

/// A survey that was filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The call that it is about.
    pub call_id: CallId,
    /// The visitor's session.
    pub session_id: SessionId,
    /// When it was sent.
    pub submitted_at: Timestamp,
    /// Whether it was sent from a preview in the console.
    #[serde(default)]
    pub preview: bool,
    /// What it holds.
    #[serde(flatten)]
    pub filled: Filled,
}

/// What became of a survey that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// It is stored: now, or already, as it stands here.
    Same(Stored),
    /// The call has another one.
    Other,
    /// The call is gone.
    NoCall,
}

impl Store {
    /// Keeps the survey of a call, for `days`, unless it has one.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_survey(&self, app: AppId, survey: Stored, days: u16) -> Result<Kept, Error> {
        let mut row = to_row(&Key::survey(app, survey.call_id), &survey)?;
        let until = retention::until(survey.submitted_at, days);
        row.insert(EXPIRES.to_owned(), number(until.as_seconds()));
        // Not of a call that is being erased.
        let transaction = self.transaction().check(&Key::call(app, survey.call_id), "attribute_exists(pk)")?;
        let transaction = transaction.put(row, Some("attribute_not_exists(pk)"), &[])?;
        match transaction.commit().await?.map_err(|refused| refused.first()) {
            Ok(()) => Ok(Kept::Same(survey)),
            Err(Some(0)) => Ok(Kept::NoCall),
            Err(Some(_)) => match self.survey(app, survey.call_id).await? {
                Some(known) if known.filled == survey.filled => Ok(Kept::Same(known)),
                Some(_) => Ok(Kept::Other),
                None => Ok(Kept::NoCall),
            },
            Err(None) => Err(Error::Unavailable { operation: "TransactWriteItems", cause: "many at once".to_owned() }),
        }
    }

    /// The survey of one call.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn survey(&self, app: AppId, call: CallId) -> Result<Option<Stored>, Error> {
        self.get("a survey", Key::survey(app, call)).await
    }

    /// Surveys of one app, that of the newest call first, those before `before`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn surveys(&self, app: AppId, limit: u8, before: Option<CallId>) -> Result<Page<Stored>, Error> {
        self.page("a survey", Range::surveys(app), Order::Newest, before, limit).await
    }
}
