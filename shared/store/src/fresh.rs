//! Values held for a few seconds: most requests then cost no read of the table, and, where an old value will do, none
//! fails while it is away.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::time::Timestamp;

use crate::Error;

/// Values held at most; beyond it stale ones go, and if none is, all.
const MOST: usize = 1_000;
/// While the table is away an old value is better than none, up to this age.
const STALE_FOR: Duration = Duration::from_secs(15 * 60);

/// Remembers what was read. Cheap to clone.
pub struct Fresh<K, V> {
    fresh_for: Duration,
    stale_for: Duration,
    held: Arc<Mutex<HashMap<K, (V, Timestamp)>>>,
}

impl<K, V> Clone for Fresh<K, V> {
    fn clone(&self) -> Self {
        Self { fresh_for: self.fresh_for, stale_for: self.stale_for, held: self.held.clone() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Fresh<K, V> {
    /// Holds values for this long. A change elsewhere shows after it at the latest.
    pub fn new(fresh_for: Duration) -> Self {
        Self { fresh_for, stale_for: STALE_FOR, held: Arc::default() }
    }

    /// The same, for what must not be decided by an old value: while the table is away there is none.
    #[must_use]
    pub fn never_stale(self) -> Self {
        Self { stale_for: Duration::ZERO, ..self }
    }

    /// The value at hand, or what `read` gives; when that fails, the old value, up to a quarter of an hour, unless it
    /// must [never be stale](Self::never_stale).
    ///
    /// # Errors
    /// When it cannot be read and none is held.
    pub async fn get<R>(&self, key: K, now: Timestamp, read: R) -> Result<V, Error>
    where
        R: Future<Output = Result<V, Error>>,
    {
        let held = self.held().get(&key).cloned();
        if let Some((value, _)) = held.as_ref().filter(|(_, read_at)| now.since(*read_at) < self.fresh_for) {
            return Ok(value.clone());
        }
        match (read.await, held.filter(|(_, read_at)| now.since(*read_at) < self.stale_for)) {
            (Ok(value), _) => {
                self.keep(key, value.clone(), now);
                Ok(value)
            }
            (Err(error), Some((value, _))) => {
                tracing::warn!(cause = %error, "read.stale");
                Ok(value)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Forgets a value that is known to have changed.
    pub fn forget(&self, key: &K) {
        self.held().remove(key);
    }

    fn keep(&self, key: K, value: V, now: Timestamp) {
        let mut held = self.held();
        if held.len() >= MOST {
            held.retain(|_, (_, read_at)| now.since(*read_at) < self.fresh_for);
        }
        if held.len() >= MOST {
            held.clear();
        }
        held.insert(key, (value, now));
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<K, (V, Timestamp)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Error {
        Error::Unavailable { operation: "Query", cause: "away".to_owned() }
    }

    #[tokio::test]
    async fn a_fresh_value_is_not_read_again_and_a_stale_one_outlives_an_outage() {
        let fresh: Fresh<u8, u8> = Fresh::new(Duration::from_secs(3));
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        assert!(fresh.get(1, at(0), async { Err(away()) }).await.is_err());
        assert_eq!(fresh.get(1, at(0), async { Ok(10) }).await.expect("read"), 10);
        assert_eq!(fresh.get(1, at(2), async { Ok(20) }).await.expect("held"), 10);
        assert_eq!(fresh.get(1, at(4), async { Err(away()) }).await.expect("stale"), 10);
        assert_eq!(fresh.get(1, at(4), async { Ok(30) }).await.expect("read"), 30);
        assert!(fresh.get(1, at(4 + 900), async { Err(away()) }).await.is_err());
        fresh.forget(&1);
        assert_eq!(fresh.get(1, at(5), async { Ok(40) }).await.expect("read"), 40);
    }

    #[tokio::test]
    async fn what_must_never_be_stale_fails_with_the_table() {
        let fresh: Fresh<u8, u8> = Fresh::new(Duration::from_secs(3)).never_stale();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        assert_eq!(fresh.get(1, at(0), async { Ok(10) }).await.expect("read"), 10);
        assert_eq!(fresh.get(1, at(2), async { Err(away()) }).await.expect("held"), 10);
        assert!(fresh.get(1, at(3), async { Err(away()) }).await.is_err());
        assert_eq!(fresh.get(1, at(3), async { Ok(20) }).await.expect("read"), 20);
    }

    #[tokio::test]
    async fn it_never_grows_without_bound() {
        let fresh: Fresh<usize, ()> = Fresh::new(Duration::from_secs(3));
        for key in 0..3 * MOST {
            fresh.get(key, Timestamp::from_millis(0), async { Ok(()) }).await.expect("read");
        }
        assert!(fresh.held().len() <= MOST);
    }
}
