//! The media servers that share a table. Each says again and again that it is there, and how many calls it would begin: one
//! that is full passes new calls on to another ([`crate::signal`]). When one has not said so for a while, and is not there
//! when it is asked, another writes down how its calls ended: integrations hear of it, and apps and sessions may call again.
//!
//! Should such a server run all the same, with no way to the table nor to the others, then its calls go on and end by
//! themselves. Whoever reports an end, it is one event, whose id follows from the call's.
//!
//! Beside that, each server looks whether its calls' apps are still there: calls of one that was deleted end.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use store::{
    Error,
    fleet::{Running, Server},
};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Inside, State,
    forward::{self, Owner},
    record::Recorder,
};

/// Rows read at once.
const PAGE: u8 = 100;
/// Servers looked at, at most; more than one table has.
const MAX_SERVERS: usize = 2_000;
/// Calls of one server written down at the same time.
const AT_ONCE: usize = 16;

/// How often what is done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two times that a server says that it is there, and that it looks at the others.
    pub every: Duration,
    /// How long it is believed.
    pub lease: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(10), lease: Duration::from_secs(30) }
    }
}

/// The other servers with room for calls, as they last said. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fleet(Arc<Mutex<Vec<Owner>>>);

impl Fleet {
    /// So many of them, beginning with one at random: who is full shall not send all its visitors to the same one.
    pub(crate) fn some(&self, count: usize) -> Vec<Owner> {
        let roomy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = usize::from(u16::from_be_bytes(edge::chance::bytes()));
        (0..roomy.len().min(count)).map(|number| roomy[(first + number) % roomy.len()].clone()).collect()
    }

    fn learn(&self, servers: impl Iterator<Item = Owner>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = servers.collect();
    }
}

/// Says that the server is there and looks at the others, each in its time, for as long as the server lives.
pub(crate) fn start(state: &State, pace: Pace) {
    let inside = || Arc::downgrade(&state.0);
    tokio::spawn(again(inside(), pace.every, move |state| async move {
        let until = edge::clock::now().plus(pace.lease);
        let server = Server::new(state.owner.to_string(), state.room(), until);
        if let Err(cause) = state.store.lease_server(&server).await {
            tracing::warn!(%cause, "fleet.unleased");
        }
    }));
    // Apart from that: whatever it finds to do, the lease is renewed.
    tokio::spawn(again(inside(), pace.every, move |state| async move {
        if let Err(cause) = look(&state, pace).await {
            tracing::warn!(%cause, "fleet.unseen");
        }
        end_calls_of_deleted_apps(&state).await;
    }));
}

async fn again<F: Future<Output = ()>>(state: Weak<Inside>, every: Duration, act: impl Fn(State) -> F) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inside) = state.upgrade() else { return };
        act(State(inside)).await;
    }
}

async fn look(state: &State, pace: Pace) -> Result<(), Error> {
    let own = state.owner.to_string();
    let others: Vec<_> = servers(state).await?.into_iter().filter(|server| server.owner != own).collect();
    let now = edge::clock::now();
    let (overdue, there): (Vec<_>, Vec<_>) = others.into_iter().partition(|server| server.is_overdue(now));
    let roomy = there.iter().filter(|server| server.room > 0);
    state.fleet.learn(roomy.filter_map(|server| server.owner.parse().ok()));
    for server in overdue {
        look_after(state, &server, pace).await?;
    }
    Ok(())
}

async fn servers(state: &State) -> Result<Vec<Server>, Error> {
    let mut servers: Vec<Server> = Vec::new();
    loop {
        let page = state.store.servers(PAGE, servers.last().map(|last| last.owner.as_str())).await?;
        servers.extend(page.items);
        if !page.has_more || servers.len() >= MAX_SERVERS {
            return Ok(servers);
        }
    }
}

/// Writes down the ends of a server's calls when it is gone, and then forgets it.
async fn look_after(state: &State, server: &Server, pace: Pace) -> Result<(), Error> {
    let now = edge::clock::now();
    let until = now.plus(pace.lease);
    if !state.store.look_after_server(server, until, now).await? {
        return Ok(());
    }
    let owner: Option<Owner> = server.owner.parse().ok();
    if let Some(owner) = &owner
        && forward::lives(owner).await
    {
        tracing::warn!(process = owner.process(), "fleet.overdue");
        return Ok(());
    }
    let (mut after, mut calls) = (None, 0);
    loop {
        let page = state.store.calls_of_server(&server.owner, PAGE, after).await?;
        after = page.items.last().map(|last| last.call_id);
        calls += page.items.len();
        let burials = page.items.into_iter().map(|running| bury(state, &server.owner, running));
        let buried: Vec<_> = stream::iter(burials).buffer_unordered(AT_ONCE).collect().await;
        buried.into_iter().collect::<Result<(), Error>>()?;
        if !page.has_more {
            break;
        }
    }
    // One that stopped as it should has none.
    if calls > 0 {
        tracing::warn!(process = owner.as_ref().map(Owner::process), calls, "fleet.buried");
    }
    // What could not be written down is tried again once this lease is over.
    if state.store.calls_of_server(&server.owner, 1, None).await?.items.is_empty() {
        state.store.forget_server(&server.owner, until).await?;
    }
    Ok(())
}

/// Writes down and reports how a call of a server that is gone ended.
async fn bury(state: &State, owner: &str, Running { call_id, session }: Running) -> Result<(), Error> {
    match state.store.call(session.app, call_id).await? {
        Some(stored) => {
            let started = Instant::now().checked_sub(edge::clock::now().since(stored.call.started_at));
            let (store, events, metrics) = (state.store.clone(), state.events.clone(), state.metrics.clone());
            let started = started.unwrap_or_else(Instant::now);
            Recorder { store, events, metrics, session, stored, started }.settle().await;
        }
        // It was erased: nothing is left to tell.
        None => {
            state.store.release_call(session.app, session.id, call_id).await?;
            state.store.settle_call(owner, call_id).await?;
        }
    }
    Ok(())
}

async fn end_calls_of_deleted_apps(state: &State) {
    for app in state.calls.apps() {
        match state.store.app(app).await {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::info!(%app, "app.deleted_with_calls");
                state.calls.end_of_app(app);
            }
            // Whether it is there nobody knows; its calls go on.
            Err(_) => return,
        }
    }
}
