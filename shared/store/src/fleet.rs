//! Media servers that share the table: which are there, and which calls each of them has. A server says again and again
//! that it is there; one that has not for a while is looked after by another, which writes down how its calls ended.
//!
//! Nobody looks through the table for that: servers stand in a list of the deployment, and each one's calls in a partition
//! of its own. A server is called by what its calls' rows name as their owner.

use std::time::Duration;

use domain::{call::Call, id::CallId, session::Session, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Store,
    key::{EXPIRES, Key, Range},
    table::{Order, Page, Row, number, to_row},
};

/// How long rows of a server that nobody looks after are kept. Integrations want to hear of no call that ended before.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A media server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Its name.
    pub owner: String,
    /// Calls that it would begin, as it last said.
    pub room: usize,
    /// Until then it is believed to be there; milliseconds since the epoch.
    leased_until: i64,
}

impl Server {
    /// A server that has room for so many calls and is there until then.
    pub fn new(owner: impl Into<String>, room: usize, until: Timestamp) -> Self {
        Self { owner: owner.into(), room, leased_until: until.as_millis() }
    }

    /// Until then it is believed to be there; of one that is looked after, until then somebody does so.
    pub fn leased_until(&self) -> Timestamp {
        Timestamp::from_millis(self.leased_until)
    }

    /// Whether it has not said for a while that it is there.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.leased_until < now.as_millis()
    }
}

/// A call in the list of its server: what is needed to report its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its id.
    pub call_id: CallId,
    /// The visitor's session, with the context that events carry.
    pub session: Session,
}

impl Running {
    /// Its row in the list of the server that runs it.
    pub(crate) fn row(session: &Session, call: &Call, owner: &str) -> Result<Row, Error> {
        let key = Key::call_of_server(owner, call.id);
        kept(&key, &Self { call_id: call.id, session: session.clone() }, call.over_by())
    }
}

/// A row that goes by itself some time after this moment.
fn kept(key: &Key, value: &impl Serialize, after: Timestamp) -> Result<Row, Error> {
    let mut row = to_row(key, value)?;
    row.insert(EXPIRES.to_owned(), number(after.plus(KEPT).as_seconds()));
    Ok(row)
}

impl Store {
    /// A server says that it is there.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn lease_server(&self, server: &Server) -> Result<(), Error> {
        self.put(server_row(server)?).await
    }

    /// Takes it on until then to look after a server that is overdue. `false`: somebody else does, or it is there again.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn look_after_server(&self, server: &Server, until: Timestamp, now: Timestamp) -> Result<bool, Error> {
        let row = server_row(&Server::new(&server.owner, 0, until))?;
        let overdue = [(":now", number(now.as_millis()))];
        Ok(self.transaction().put(row, Some("leasedUntil < :now"), &overdue)?.commit().await?.is_ok())
    }

    /// Removes a server that is gone and whose calls are all written down; unless it is there again.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn forget_server(&self, owner: &str, until: Timestamp) -> Result<(), Error> {
        let ours = [(":until", number(until.as_millis()))];
        // Refused: it is not forgotten.
        let _ = self.transaction().delete(&Key::server(owner), Some("leasedUntil = :until"), &ours)?.commit().await?;
        Ok(())
    }

    /// One page of the servers. One whose row cannot be read is left out, and hides no other.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn servers(&self, limit: u8, after: Option<&str>) -> Result<Page<Server>, Error> {
        self.readable_page("a media server", Range::servers(), Order::Oldest, after, limit).await
    }

    /// One page of the calls in a server's list, oldest first. One whose row cannot be read is left out.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn calls_of_server(&self, owner: &str, limit: u8, after: Option<CallId>) -> Result<Page<Running>, Error> {
        self.readable_page("a running call", Range::calls_of_server(owner), Order::Oldest, after, limit).await
    }

    /// Takes a call out of its server's list: its end is written down and reported.
    ///
    /// # Errors
    /// When the table cannot be reached. Doing it again does no harm.
    pub async fn settle_call(&self, owner: &str, call: CallId) -> Result<(), Error> {
        self.remove(&Key::call_of_server(owner, call)).await
    }
}

fn server_row(server: &Server) -> Result<Row, Error> {
    kept(&Key::server(&server.owner), server, Timestamp::from_millis(server.leased_until))
}
