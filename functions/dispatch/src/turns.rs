//! Whose turn it is to count a failure. Failures of one integration are counted in one row: those that end in this process
//! at the same moment go one after the other, rather than have the table turn all but one away. So the one that pauses the
//! integration waits for nobody's second try.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use store::breakers::Life;
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

/// Lines, one for each life of an integration. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<Life, Weak<Queue<()>>>>>);

impl Turns {
    /// Waits for those before; the turn lasts as long as what this gives.
    pub(crate) async fn wait(&self, life: Life) -> OwnedMutexGuard<()> {
        let line = {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.retain(|_, line| line.strong_count() > 0);
            let line = lines.get(&life).and_then(Weak::upgrade).unwrap_or_default();
            lines.insert(life, Arc::downgrade(&line));
            line
        };
        line.lock_owned().await
    }
}
