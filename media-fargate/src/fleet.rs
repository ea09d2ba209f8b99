//! The media servers that share a table. Each says again and again that it is there, and how many calls it would begin: one
//! that is full passes new calls on to another ([`crate::signal`]). When one has not said so for a while, and is not there
//! when it is asked, another writes down how its calls ended: integrations hear of it, and apps and sessions may call again.
//!
//! Should such a server run all the same, with no way to the table nor to the others, then its calls go on and end by
//! themselves. Whoever reports an end, it is one event, whose id follows from the call's.
//!
//! Beside that, each server looks whether its calls' apps are still there: calls of one that was deleted end. And what it
//! could not write down of its own calls, it tries again once they are over in any case.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use domain::{call::over_by, time::Timestamp};
use futures_util::{StreamExt, stream};
use store::{
    Error,
    fleet::{Running, Server},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

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
/// Own calls looked at once, the oldest.
const OLDEST: u8 = 16;
/// Between two times that a server is asked whether it is there.
const ASK_AGAIN: Duration = Duration::from_secs(3);

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
    // Each apart from the others: whatever there is to write down, the lease is renewed and the others' room is known.
    let (seen, others) = watch::channel(Vec::new());
    tokio::spawn(again(inside(), pace.every, move |state| look(state, seen.clone())));
    tokio::spawn(look_after_all(inside(), others, pace));
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

/// Reads which others there are, for all who ask that, and looks after the apps of our calls.
async fn look(state: State, seen: watch::Sender<Vec<Server>>) {
    match others(&state).await {
        Ok(others) => {
            let now = edge::clock::now();
            let roomy = others.iter().filter(|server| server.room > 0 && !server.is_overdue(now));
            state.fleet.learn(roomy.filter_map(|server| server.owner.parse().ok()));
            seen.send_replace(others);
        }
        Err(cause) => tracing::warn!(%cause, "fleet.unseen"),
    }
    end_calls_of_deleted_apps(&state).await;
}

async fn others(state: &State) -> Result<Vec<Server>, Error> {
    let own = state.owner.to_string();
    let mut servers: Vec<Server> = Vec::new();
    loop {
        let page = state.store.servers(PAGE, servers.last().map(|last| last.owner.as_str())).await?;
        // After a page without a readable row there is nowhere to go on.
        let ends = !page.has_more || page.items.is_empty();
        servers.extend(page.items);
        if ends || servers.len() >= MAX_SERVERS {
            servers.retain(|server| server.owner != own);
            return Ok(servers);
        }
    }
}

/// Writes down the ends of calls that run nowhere any more, each time that the others were seen: own ones, and those of
/// servers that are overdue. While that takes long, the others are seen again; the newest list counts.
async fn look_after_all(state: Weak<Inside>, mut others: watch::Receiver<Vec<Server>>, pace: Pace) {
    while others.changed().await.is_ok() {
        let Some(state) = state.upgrade().map(State) else { return };
        if let Err(cause) = look_after_own(&state).await {
            tracing::warn!(%cause, "fleet.unsettled");
        }
        let now = edge::clock::now();
        let seen = others.borrow_and_update().clone();
        for server in seen.into_iter().filter(|server| server.is_overdue(now)) {
            // What cannot be done for one may well be for the next.
            if let Err(cause) = look_after(&state, &server, pace).await {
                tracing::warn!(owner = server.owner, %cause, "fleet.unsettled");
            }
        }
    }
}

/// Writes down the ends of own calls that must be over and run here no more: the table was away for too long as they ended.
async fn look_after_own(state: &State) -> Result<(), Error> {
    let (own, now) = (state.owner.to_string(), edge::clock::now());
    let oldest = state.store.calls_of_server(&own, OLDEST, None).await?.items;
    let runs = |running: &Running| state.calls.find(running.call_id, running.session.id).is_some();
    let left = oldest.into_iter().filter(|running| over_by(running.call_id) < now && !runs(running));
    bury_all(state, &own, left.collect(), now).await;
    Ok(())
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
        && !forward::is_gone(owner, ASK_AGAIN).await
    {
        tracing::warn!(process = owner.process(), "fleet.overdue");
        return Ok(());
    }
    let (mut after, mut calls) = (None, 0);
    loop {
        let page = state.store.calls_of_server(&server.owner, PAGE, after).await?;
        after = page.items.last().map(|last| last.call_id);
        // Calls begun later are of a server that woke up after all, and will say so; or they wait until this lease is over.
        let known = |running: &Running| running.call_id.minted_at() <= server.leased_until();
        let left: Vec<_> = page.items.into_iter().filter(known).collect();
        calls += left.len();
        bury_all(state, &server.owner, left, server.leased_until()).await;
        if !page.has_more || after.is_none() {
            break;
        }
    }
    // One that stopped as it should has none.
    if calls > 0 {
        tracing::warn!(process = owner.as_ref().map(Owner::process), calls, "fleet.buried");
    }
    // What could not be written down is tried again once this lease is over.
    if state.store.calls_of_server(&server.owner, PAGE, None).await?.items.is_empty() {
        state.store.forget_server(&server.owner, until).await?;
    }
    Ok(())
}

/// Writes down and reports how calls ended that run nowhere any more, and that ran until then at the latest. What cannot be
/// done for one of them is tried again with the next look.
async fn bury_all(state: &State, owner: &str, calls: Vec<Running>, until: Timestamp) {
    let burials = calls.into_iter().map(|running| async move {
        let call = running.call_id;
        if let Err(cause) = bury(state, owner, running, until).await {
            tracing::warn!(%call, %cause, "fleet.unburied");
        }
    });
    stream::iter(burials).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn bury(
    state: &State,
    owner: &str,
    Running { call_id, session }: Running,
    until: Timestamp,
) -> Result<(), Error> {
    match state.store.call(session.app, call_id).await? {
        Some(stored) => {
            let (store, events, metrics) = (state.store.clone(), state.events.clone(), state.metrics.clone());
            let at = until.min(edge::clock::now()).min(over_by(call_id));
            Recorder { store, events, metrics, session, stored }.settle(at).await;
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
            Err(cause) => tracing::warn!(%app, %cause, "app.unseen"),
        }
    }
}
