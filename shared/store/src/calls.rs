//! Calls: the claims that bound how many run, and what is kept of each. Only the media server that runs a call writes it.
//!
//! A call begins with four writes that happen together: its row, the session's claim (a session has one call at a time),
//! its place among the app's running calls and its place in its server's list ([`crate::fleet`]). Claims of a server that
//! died are given back by another one, or give way by themselves once their call must be over.

use aws_sdk_dynamodb::{error::SdkError, types::AttributeValue};
use domain::{
    call::{Call, over_by},
    id::{AppId, CallId, SessionId},
    retention::{self, Retention},
    session::Session,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store, fleet,
    key::{EXPIRES, Key, Range},
    table::{Order, Page, Row, number, to_row},
    transaction::text,
};

/// A call as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The call.
    #[serde(flatten)]
    pub call: Call,
    /// Which media server runs or ran it.
    pub owner: String,
}

/// Why a call may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The session has a call that runs.
    Session,
    /// The app has as many calls as it may have at once.
    App,
}

/// A session's claim.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    call_id: CallId,
    call_until: i64,
    expires_at: i64,
}

/// An app's running calls.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    #[serde(default)]
    call_ids: Vec<CallId>,
}

impl Store {
    /// Begins a call of a session, of whose app at most `at_once` run at the same time.
    ///
    /// # Errors
    /// Outside: the table could not be asked. Inside: why not.
    pub async fn begin_call(
        &self,
        session: &Session,
        stored: &Stored,
        at_once: u32,
        now: Timestamp,
    ) -> Result<Result<(), Busy>, Error> {
        let row = self.call_row(session.app, stored).await?;
        let busy = match self.try_begin(session, stored, row.clone(), at_once, now).await? {
            Err(Busy::App) if self.forget_dead_calls(session.app, now).await? => {
                self.try_begin(session, stored, row, at_once, now).await?
            }
            decided => decided,
        };
        Ok(busy)
    }

    async fn try_begin(
        &self,
        session: &Session,
        stored: &Stored,
        row: Row,
        at_once: u32,
        now: Timestamp,
    ) -> Result<Result<(), Busy>, Error> {
        let Stored { call, owner } = stored;
        let until = call.over_by();
        let claim = Claim { call_id: call.id, call_until: until.as_millis(), expires_at: until.as_seconds() };
        let claim = to_row(&Key::session_call(call.session_id), &claim)?;
        let taken = [(":now", number(now.as_millis()))];
        let place = [(":call", ids(&[call.id])), (":most", number(at_once)), (":until", number(until.as_seconds()))];
        let committed = self
            .transaction()
            .put(claim, Some("attribute_not_exists(pk) OR callUntil < :now"), &taken)?
            .update(
                &Key::running_calls(session.app),
                "SET expiresAt = :until ADD callIds :call",
                Some("attribute_not_exists(callIds) OR size(callIds) < :most"),
                &place,
            )?
            .put(row, Some("attribute_not_exists(pk)"), &[])?
            .put(fleet::Running::row(session, call, owner)?, None, &[])?
            .commit()
            .await?;
        match committed.map_err(|refused| refused.first()) {
            Ok(()) => Ok(Ok(())),
            Err(Some(0)) => Ok(Err(Busy::Session)),
            Err(Some(1)) => Ok(Err(Busy::App)),
            Err(_) => Err(Error::Unavailable { operation: "TransactWriteItems", cause: "many at once".to_owned() }),
        }
    }

    /// Forgets calls of an app that must be over: their server died. Whether there were any.
    async fn forget_dead_calls(&self, app: AppId, now: Timestamp) -> Result<bool, Error> {
        let running: Running = self.get("running calls", Key::running_calls(app)).await?.unwrap_or_default();
        let dead: Vec<_> = running.call_ids.into_iter().filter(|call| over_by(*call) < now).collect();
        if dead.is_empty() {
            return Ok(false);
        }
        self.leave(app, &dead).await?;
        Ok(true)
    }

    /// Takes calls out of an app's running ones. A row that is not there, because the app was deleted, is not made again.
    async fn leave(&self, app: AppId, calls: &[CallId]) -> Result<(), Error> {
        let update = self.client.update_item().table_name(&self.table);
        let update = update.set_key(Some(Key::running_calls(app).attributes()));
        let update = update.condition_expression("attribute_exists(pk)");
        let update =
            update.update_expression("DELETE callIds :calls").expression_attribute_values(":calls", ids(calls));
        match update.send().await {
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(()),
            sent => sent.map(drop).map_err(Error::unavailable("UpdateItem")),
        }
    }

    /// The call that holds a session's claim.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn session_call(&self, session: SessionId) -> Result<Option<CallId>, Error> {
        let claim: Option<Claim> = self.get("a session's call", Key::session_call(session)).await?;
        Ok(claim.map(|claim| claim.call_id))
    }

    /// Gives a call's claims back: the session may call again.
    ///
    /// # Errors
    /// When the table cannot be reached. Doing it again does no harm.
    pub async fn release_call(&self, app: AppId, session: SessionId, call: CallId) -> Result<(), Error> {
        self.leave(app, &[call]).await?;
        let released =
            self.transaction().delete(&Key::session_call(session), Some("callId = :call"), &text(":call", call))?;
        // Refused: it is another call's by now, or was given back before.
        let _ = released.commit().await?;
        Ok(())
    }

    /// Removes a call that did not come about.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn withdraw_call(&self, app: AppId, Stored { call, owner }: &Stored) -> Result<(), Error> {
        self.release_call(app, call.session_id, call.id).await?;
        self.remove(&Key::call(app, call.id)).await?;
        self.settle_call(owner, call.id).await
    }

    /// Keeps what became of a call; nothing, when it was erased meanwhile.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn keep_call(&self, app: AppId, stored: &Stored) -> Result<(), Error> {
        let row = self.call_row(app, stored).await?;
        let kept = self.transaction().put(row, Some("attribute_exists(pk)"), &[])?;
        let _ = kept.commit().await?;
        Ok(())
    }

    /// A call's row, with its expiry from birth, as its app has it.
    async fn call_row(&self, app: AppId, stored: &Stored) -> Result<Row, Error> {
        let days = self.app(app).await?.map_or_else(Retention::default, |app| app.retention).calls;
        let mut row = to_row(&Key::call(app, stored.call.id), stored)?;
        let until = retention::until(stored.call.started_at, days);
        row.insert(EXPIRES.to_owned(), number(until.as_seconds()));
        Ok(row)
    }

    /// One call of one app.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn call(&self, app: AppId, id: CallId) -> Result<Option<Stored>, Error> {
        self.get("a call", Key::call(app, id)).await
    }

    /// Calls of one app, newest first, those before `before`.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn calls(&self, app: AppId, limit: u8, before: Option<CallId>) -> Result<Page<Call>, Error> {
        Ok(self
            .page::<Stored>("a call", Range::calls(app), Order::Newest, before, limit)
            .await?
            .map(|stored| stored.call))
    }
}

fn ids(calls: &[CallId]) -> AttributeValue {
    AttributeValue::Ss(calls.iter().map(ToString::to_string).collect())
}
