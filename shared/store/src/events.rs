//! Accepting events: one is accepted once all its deliveries are safely queued (contract section 3, "Events"), whoever
//! reports it.

use std::{sync::Arc, time::Duration};

use domain::{
    delivery::Due, event::Envelope, id::AppId, integration::Integration, retention::Retention, session::Session,
    time::Timestamp, trace::Trace,
};

use crate::{Error, Fresh, Queue, Store};

/// A change in the console holds for new events after this long at the latest.
const FRESH: Duration = Duration::from_secs(1);

/// Takes events in. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    store: Store,
    queue: Queue,
    listeners: Fresh<AppId, Arc<Listeners>>,
}

/// Who hears an app's events, and how long the deliveries are kept.
struct Listeners {
    integrations: Vec<Integration>,
    /// None: as long as they are where nothing else is said.
    keep_days: Option<u16>,
}

impl Events {
    /// Reads integrations from `store`, sends deliveries to `queue`.
    pub fn open(store: Store, queue: Queue) -> Self {
        Self { store, queue, listeners: Fresh::new(FRESH) }
    }

    /// Queues an event of a session for every integration that hears it; to how many. Events of a preview go nowhere.
    /// Its deliveries are told of the span that caused them, if that is recorded.
    ///
    /// # Errors
    /// When a delivery may not be queued: the same event may be accepted again, and is delivered once.
    pub async fn accept(
        &self,
        session: &Session,
        envelope: &Envelope,
        trace: Option<Trace>,
        now: Timestamp,
    ) -> Result<usize, Error> {
        if session.preview {
            return Ok(0);
        }
        let read = async {
            let (stored, app) = tokio::try_join!(self.store.integrations(session.app), self.store.app(session.app))?;
            let integrations = stored.into_iter().map(|stored| stored.integration).collect();
            let keep_days = app.map(|app| app.retention.deliveries);
            let keep_days = keep_days.filter(|days| *days != Retention::default().deliveries);
            Ok(Arc::new(Listeners { integrations, keep_days }))
        };
        let Listeners { integrations, keep_days } = &*self.listeners.get(session.app, now, read).await?;
        let due = Due::fan_out(session.app, session.id, envelope, integrations, now);
        let messages: Vec<_> = due.into_iter().map(|due| (Due { keep_days: *keep_days, trace, ..due }, 0)).collect();
        if !messages.is_empty() {
            self.queue.send(&messages).await?;
        }
        Ok(messages.len())
    }
}
