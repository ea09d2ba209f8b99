//! The calls that run here: how many there may be, how requests about one reach it, and how they all come to an end.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::id::{AppId, CallId, SessionId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{browser::AcceptError, codes::ErrorCode};

/// Requests waiting at one call; a call that takes none is stuck.
const MAX_WAITING: usize = 8;

/// A request about a running call.
#[derive(Debug)]
pub enum Command {
    /// The visitor hung up; or the widget did, for what it noticed.
    HangUp(Option<ErrorCode>),
    /// The browser has a new offer, for an ICE restart.
    Restart {
        /// The offer.
        offer: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<String, AcceptError>>,
    },
    /// The server stops.
    Drain,
    /// The app was deleted.
    Deleted,
}

/// Why no call begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server stops.
    #[error("the server is stopping")]
    Draining,
    /// As many calls run as may begin.
    #[error("the server has as many calls as it takes")]
    Full,
}

/// The registry. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// From this many on no new one begins.
    most: usize,
    draining: AtomicBool,
    running: Mutex<HashMap<CallId, Running>>,
    /// Places taken: calls that run, are about to, or are being written down.
    taken: watch::Sender<usize>,
}

#[derive(Debug)]
struct Running {
    app: AppId,
    session: SessionId,
    commands: mpsc::Sender<Command>,
}

impl Calls {
    /// For a server that can carry `capacity` calls. New ones begin up to four fifths of it, so that those that run stay
    /// sound (security.md, "Media").
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            most: (capacity * 4 / 5).max(1),
            draining: AtomicBool::new(false),
            running: Mutex::default(),
            taken: watch::Sender::new(0),
        }))
    }

    /// Whether a call may begin at present.
    ///
    /// # Errors
    /// Why none may.
    pub fn look(&self) -> Result<(), Refusal> {
        match self.count() < self.0.most {
            _ if self.is_draining() => Err(Refusal::Draining),
            true => Ok(()),
            false => Err(Refusal::Full),
        }
    }

    /// A place for a call, if one may begin.
    ///
    /// # Errors
    /// Why none may.
    pub fn admit(&self) -> Result<Place, Refusal> {
        if self.is_draining() {
            return Err(Refusal::Draining);
        }
        let admitted = self.0.taken.send_if_modified(|taken| {
            let admitted = *taken < self.0.most;
            *taken += usize::from(admitted);
            admitted
        });
        if admitted { Ok(Place { calls: self.clone(), call: None }) } else { Err(Refusal::Full) }
    }

    /// Where to send requests about a call of this session.
    pub fn find(&self, call: CallId, session: SessionId) -> Option<mpsc::Sender<Command>> {
        let running = self.running();
        running.get(&call).filter(|running| running.session == session).map(|running| running.commands.clone())
    }

    /// The apps whose calls run here.
    pub fn apps(&self) -> HashSet<AppId> {
        self.running().values().map(|running| running.app).collect()
    }

    /// Ends the calls of an app that was deleted.
    pub fn end_of_app(&self, app: AppId) {
        for running in self.running().values().filter(|running| running.app == app) {
            // One that takes no request is asked again with the next look.
            let _ = running.commands.try_send(Command::Deleted);
        }
    }

    /// Places taken.
    pub fn count(&self) -> usize {
        *self.0.taken.borrow()
    }

    /// Places taken, as they change.
    pub fn taken(&self) -> watch::Receiver<usize> {
        self.0.taken.subscribe()
    }

    /// From how many on no new one begins.
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// Whether the server is stopping.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Begins no more calls and waits for those that run, at most this long; then ends them and waits until they have
    /// said goodbye, at most `farewell`.
    pub async fn drain(&self, patience: Duration, farewell: Duration) {
        self.0.draining.store(true, Ordering::Relaxed);
        let mut taken = self.taken();
        let mut none_within =
            async |limit| tokio::time::timeout(limit, taken.wait_for(|taken| *taken == 0)).await.is_ok();
        if none_within(patience).await {
            return;
        }
        tracing::info!(calls = self.count(), "media.ending_calls");
        let commands: Vec<_> = self.running().values().map(|running| running.commands.clone()).collect();
        for command in commands {
            // One that takes no request is stuck, and ends with the process.
            let _ = command.try_send(Command::Drain);
        }
        if !none_within(farewell).await {
            tracing::warn!(calls = self.count(), "media.calls_left");
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<CallId, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    calls: Calls,
    call: Option<CallId>,
}

impl Place {
    /// Takes in requests about a call from now on.
    pub fn occupy(&mut self, call: CallId, app: AppId, session: SessionId) -> mpsc::Receiver<Command> {
        let (commands, received) = mpsc::channel(MAX_WAITING);
        self.call = Some(call);
        self.calls.running().insert(call, Running { app, session, commands });
        received
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.calls.running().remove(&call);
        }
        self.calls.0.taken.send_modify(|taken| *taken -= 1);
    }
}

#[cfg(test)]
mod tests {
    use domain::time::Timestamp;

    use super::*;

    fn app() -> AppId {
        AppId::mint(Timestamp::from_millis(0), &[1; 10])
    }

    fn ids(number: u8) -> (CallId, SessionId) {
        let now = Timestamp::from_millis(0);
        (CallId::mint(now, &[number; 10]), SessionId::mint(now, &[number; 10]))
    }

    #[tokio::test]
    async fn places_run_out_at_four_fifths_and_come_back() {
        let calls = Calls::new(5);
        let places: Vec<_> = (0..4).map(|_| calls.admit().expect("a place")).collect();
        assert_eq!((calls.admit().expect_err("full"), calls.count()), (Refusal::Full, 4));
        assert_eq!(calls.look(), Err(Refusal::Full));
        drop(places);
        assert_eq!(calls.look(), Ok(()));
        assert_eq!(calls.count(), 0);
        assert!(calls.admit().is_ok());
    }

    #[tokio::test]
    async fn only_its_session_reaches_a_call() {
        let calls = Calls::new(5);
        let ((call, session), (_, other)) = (ids(1), ids(2));
        let mut place = calls.admit().expect("a place");
        let mut commands = place.occupy(call, app(), session);
        assert!(calls.find(call, other).is_none());
        calls.find(call, session).expect("it runs").send(Command::HangUp(None)).await.expect("it listens");
        assert!(matches!(commands.recv().await, Some(Command::HangUp(None))));
        drop(place);
        assert!(calls.find(call, session).is_none());
    }

    #[tokio::test]
    async fn calls_of_one_app_end_without_the_others() {
        let calls = Calls::new(5);
        let other = AppId::mint(Timestamp::from_millis(0), &[2; 10]);
        let begun = [app(), other, app()].into_iter().zip(1..).map(|(app, number)| {
            let (mut place, (call, session)) = (calls.admit().expect("a place"), ids(number));
            let commands = place.occupy(call, app, session);
            (place, commands)
        });
        let mut begun: Vec<_> = begun.collect();
        assert_eq!(calls.apps(), HashSet::from([app(), other]));
        calls.end_of_app(app());
        let told: Vec<_> = begun.iter_mut().map(|(_, commands)| commands.try_recv().ok()).collect();
        assert!(matches!(told[..], [Some(Command::Deleted), None, Some(Command::Deleted)]), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_then_ends_what_is_left() {
        let calls = Calls::new(5);
        let (call, session) = ids(1);
        let mut place = calls.admit().expect("a place");
        let mut commands = place.occupy(call, app(), session);
        let talking = tokio::spawn(async move {
            let asked_at = tokio::time::Instant::now();
            let asked = commands.recv().await;
            drop(place);
            (matches!(asked, Some(Command::Drain)), asked_at.elapsed().as_secs())
        });
        calls.drain(Duration::from_secs(30), Duration::from_secs(5)).await;
        assert_eq!(talking.await.expect("it ended"), (true, 30));
        assert_eq!((calls.admit().expect_err("draining"), calls.count()), (Refusal::Draining, 0));
        assert_eq!(calls.look(), Err(Refusal::Draining));
    }
}
