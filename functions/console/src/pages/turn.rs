//! Saves of one page come one after the other: a form is compared with what it was read as, and nothing may change between that
//! and its being saved. Programs that use the management API name what they change, and wait for nobody.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{id::AppId, time::Timestamp};
use edge::{
    chance,
    problem::{Kind, Problem},
};
use store::Store;
use tokio::{runtime::Handle, time::Instant};

use crate::operator;

/// How long a save waits for those before it.
const PATIENCE: Duration = Duration::from_secs(3);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// A request's turn at its page: an extension of it, so that it ends whatever becomes of the request.
#[derive(Clone)]
pub(super) struct Turn {
    /// Whose page, and which.
    place: Option<(AppId, String)>,
    held: Arc<Mutex<Option<Held>>>,
}

/// A turn that was taken, or may have been.
struct Held {
    store: Store,
    app: AppId,
    page: String,
    holder: String,
    ended: bool,
}

impl Turn {
    /// At the page of this path. Where there is no app, nothing is there to be saved.
    pub(super) fn at(path: &str) -> Self {
        let app = path.strip_prefix("/apps/").and_then(|rest| rest.split('/').next()?.parse().ok());
        // Whatever stands in a path, it makes no key too long for the table.
        Self { place: app.map(|app| (app, operator::hash(path))), held: Arc::default() }
    }

    /// Waits for it.
    pub(super) async fn take(&self, store: &Store, now: Timestamp) -> Result<(), Problem> {
        let Some((app, page)) = self.place.clone() else { return Ok(()) };
        let (holder, until) = (chance::hex::<16>(), Instant::now() + PATIENCE);
        // From the first try on: one whose answer is lost may have taken it.
        let held = Held { store: store.clone(), app, page: page.clone(), holder: holder.clone(), ended: false };
        *self.slot() = Some(held);
        while !store.take_turn(app, &page, &holder, now).await.map_err(Problem::unavailable)? {
            if Instant::now() > until {
                let message = "Somebody else is saving this page at this moment. Go back, and save yours again.";
                return Err(Problem::new(Kind::Conflict, message));
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        Ok(())
    }

    /// Ends it, if it was taken.
    pub(super) async fn end(&self) {
        let held = self.slot().take();
        if let Some(mut held) = held {
            held.ended = true;
            end(&held.store, held.app, &held.page, &held.holder).await;
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    /// The browser went away in the middle, such as when somebody pressed twice: the next one need not wait.
    fn drop(&mut self) {
        let Some(runtime) = Handle::try_current().ok().filter(|_| !self.ended) else { return };
        let (store, app) = (self.store.clone(), self.app);
        let (page, holder) = (std::mem::take(&mut self.page), std::mem::take(&mut self.holder));
        runtime.spawn(async move { end(&store, app, &page, &holder).await });
    }
}

async fn end(store: &Store, app: AppId, page: &str, holder: &str) {
    // It ends by itself, a little later.
    if let Err(error) = store.end_turn(app, page, holder).await {
        tracing::warn!(%app, %error, "turn.left");
    }
}
