//! What visitors wrote into the form before a call. A row each time, in the session's own partition: a call shows what was
//! written last before it began, and what is written after it belongs to the next.

use domain::{
    call::Call,
    form::Answered,
    id::{AppId, SessionId},
    retention,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    key::{EXPIRES, Key, Range, SK, at_millis},
    table::{Order, number, to_row},
};

/// Times that one session may send its form.
pub const MAX_TIMES: u8 = 20;
/// The clocks of the functions and of the media server may differ by this.
const SKEW: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Written {
    values: Vec<Answered>,
}

impl Store {
    /// Keeps what a visitor wrote, for `days`. `false`: this session has written too often.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn put_form_values(
        &self,
        app: AppId,
        session: SessionId,
        values: Vec<Answered>,
        days: u16,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let range = Range::form_values(app, session);
        let before = self.page::<Written>("form values", range, Order::Newest, None::<String>, MAX_TIMES).await?;
        if before.items.first().is_some_and(|last| last.values == values) {
            return Ok(true);
        }
        if before.items.len() >= usize::from(MAX_TIMES) {
            return Ok(false);
        }
        let mut row = to_row(&Key::form_values(app, session, now), &Written { values })?;
        row.insert(EXPIRES.to_owned(), number(retention::until(now, days).as_seconds()));
        self.put(row).await?;
        Ok(true)
    }

    /// What the visitor of a call had written when it began.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn form_values(&self, app: AppId, call: &Call) -> Result<Vec<Answered>, Error> {
        let range = Range::form_values(app, call.session_id);
        let after = at_millis(call.started_at.plus(SKEW));
        let page = self.page::<Written>("form values", range, Order::Newest, Some(after), 1).await?;
        Ok(page.items.into_iter().next().map(|written| written.values).unwrap_or_default())
    }

    /// Forgets all that the visitor of a session wrote into forms.
    pub(crate) async fn forget_form_values(&self, app: AppId, session: SessionId) -> Result<(), Error> {
        let rows = self.query(Range::form_values(app, session), Order::Oldest, None, i32::from(u8::MAX)).await?;
        for row in rows {
            let Some(sk) = row.get(SK).and_then(|sk| sk.as_s().ok()) else { continue };
            let millis = sk.parse().map_err(|error| Error::unreadable("form values", error))?;
            self.remove(&Key::form_values(app, session, Timestamp::from_millis(millis))).await?;
        }
        Ok(())
    }

    /// Deletes a row, if it is there.
    pub(crate) async fn remove(&self, key: &Key) -> Result<(), Error> {
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key.attributes()));
        delete.send().await.map_err(Error::unavailable("DeleteItem"))?;
        Ok(())
    }
}
