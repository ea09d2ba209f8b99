//! Rate limits over all instances of a function: one conditional write a request, a local count in front of it that
//! saves writes, and stands in when the table is away.
//!
//! A row holds its window's start and count. An instance that spends what it took takes twice as much the next time, up to
//! a hundredth of an app's limit or a twentieth of an address's, and spends it locally; one that serves a single request
//! takes one. What other instances hold unspent may refuse an address's last few requests early; none is admitted late.
//! A refusal is remembered until its window ends, so refusals cost nothing.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use domain::{
    id::AppId,
    limit::{self, Exceeded, Limits, Scope, WINDOW},
    time::Timestamp,
};

use crate::{
    Error, Store,
    key::{EXPIRES, Key},
    table::{Row, number},
};

/// Windows held locally; the oldest half goes when it is full.
const HELD: usize = 10_000;
/// Tries when others write the same row.
const TRIES: u8 = 4;
/// What an app's limit is divided by for one instance's largest share.
const APP_SHARES: u32 = 100;
/// The same of an address's: its requests mostly reach few instances.
const IP_SHARES: u32 = 20;
/// A slow table must not make the request slow: beyond this it counts as away.
const PATIENCE: Duration = Duration::from_millis(700);

/// Admits or refuses requests of one scope.
#[derive(Clone)]
pub struct Limiter {
    store: Store,
    scope: Scope,
    limits: Limits,
    held: Arc<Mutex<HashMap<String, Window>>>,
}

/// What this instance knows about one row.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Timestamp,
    /// Admissions taken from the row and not yet spent.
    share: u32,
    /// What to take the next time.
    step: u32,
    /// Admitted while the table was away.
    alone: u32,
    /// Opened here while the table was away: the row's own window takes its place.
    invented: bool,
    full: bool,
}

impl Window {
    fn opened(start: Timestamp, share: u32) -> Self {
        Self { start, share, step: 1, alone: 0, invented: false, full: false }
    }

    fn is_open(&self, now: Timestamp) -> bool {
        now < self.start.plus(WINDOW)
    }
}

impl Limiter {
    /// A limiter for `scope` with these limits.
    pub fn open(store: Store, scope: Scope, limits: Limits) -> Self {
        Self { store, scope, limits, held: Arc::default() }
    }

    /// Counts a request from this address.
    ///
    /// # Errors
    /// When it is over the limit.
    pub async fn admit_ip(&self, ip: IpAddr, now: Timestamp) -> Result<(), Exceeded> {
        let most = (self.limits.ip / IP_SHARES).max(1);
        self.admit(Key::limit_ip(self.scope, &limit::subject(ip)), self.limits.ip, most, now).await
    }

    /// Counts a request to this app. Only for apps that exist: rows are made of it.
    ///
    /// # Errors
    /// When it is over the limit.
    pub async fn admit_app(&self, app: AppId, now: Timestamp) -> Result<(), Exceeded> {
        let most = (self.limits.app / APP_SHARES).max(1);
        self.admit(Key::limit_app(self.scope, app), self.limits.app, most, now).await
    }

    async fn admit(&self, key: Key, limit: u32, most: u32, now: Timestamp) -> Result<(), Exceeded> {
        if let Some(decided) = self.spend_held(&key, limit, now) {
            return decided;
        }
        let error = match tokio::time::timeout(PATIENCE, self.take(&key, limit, most, now)).await {
            Ok(Ok(decided)) => return decided,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the table is slow".to_owned(),
        };
        tracing::warn!(scope = self.scope.as_str(), error, "limit.alone");
        self.admit_alone(&key, limit, now)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, Window>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides from what is held, when that suffices.
    fn spend_held(&self, key: &Key, limit: u32, now: Timestamp) -> Option<Result<(), Exceeded>> {
        let mut held = self.held();
        let window = held.get_mut(&key.pk).filter(|window| window.is_open(now))?;
        if let Some(left) = window.share.checked_sub(1) {
            window.share = left;
            return Some(Ok(()));
        }
        window.full.then_some(Err(Exceeded { limit, reset: window.start.plus(WINDOW) }))
    }

    /// Keeps what a write or a refusal taught about a row's window.
    fn learn(&self, key: &Key, taught: Window, now: Timestamp) {
        let mut held = self.held();
        if held.len() >= HELD {
            held.retain(|_, window| window.is_open(now));
        }
        if held.len() >= HELD {
            let mut starts: Vec<_> = held.values().map(|window| window.start).collect();
            starts.sort_unstable();
            let middle = starts[starts.len() / 2];
            held.retain(|_, window| window.start > middle);
        }
        let entry = held.entry(key.pk.clone()).or_insert(Window::opened(taught.start, 0));
        if entry.start < taught.start || (entry.invented && !taught.invented) {
            *entry = Window { alone: entry.alone, ..taught };
        } else if entry.start == taught.start {
            // Another request of this instance may have brought a share meanwhile: none is lost.
            entry.share = entry.share.saturating_add(taught.share);
            entry.step = entry.step.max(taught.step);
            entry.full |= taught.full;
        }
    }

    /// Takes admissions out of the row: in its open window, or by opening one.
    async fn take(&self, key: &Key, limit: u32, most: u32, now: Timestamp) -> Result<Result<(), Exceeded>, Error> {
        let window = self.held().get(&key.pk).copied().filter(|window| window.is_open(now) && !window.invented);
        let mut known = window.map(|window| window.start);
        let mut share = window.map_or(1, |window| window.step).clamp(1, most.min(limit));
        for _ in 0..TRIES {
            let refused_by = match known {
                Some(start) => self.add(key, start, share, limit).await?,
                None => self.open_window(key, share, now).await?,
            };
            let Some(row) = refused_by else {
                // Its own request spends one of them; the next share is larger.
                let taken = Window { step: (share * 2).min(most), ..Window::opened(known.unwrap_or(now), share - 1) };
                self.learn(key, taken, now);
                return Ok(Ok(()));
            };
            let (start, count) = read(&row);
            let window = Window::opened(start, 0);
            if !window.is_open(now) {
                known = None;
            } else if count >= limit {
                self.learn(key, Window { full: true, ..window }, now);
                return Ok(Err(Exceeded { limit, reset: start.plus(WINDOW) }));
            } else {
                (known, share) = (Some(start), share.min(limit - count));
            }
        }
        Err(Error::Unavailable { operation: "UpdateItem", cause: "too many writers of one limit".to_owned() })
    }

    async fn open_window(&self, key: &Key, share: u32, now: Timestamp) -> Result<Option<Row>, Error> {
        let over = now.as_millis() - i64::try_from(WINDOW.as_millis()).unwrap_or(0);
        let values = [
            (":start", number(now.as_millis())),
            (":share", number(share)),
            (":expires", number(now.plus(2 * WINDOW).as_seconds())),
            (":over", number(over)),
        ];
        let update = "SET windowStart = :start, admitted = :share, #expires = :expires";
        self.update(key, update, "attribute_not_exists(pk) OR windowStart <= :over", &values, true).await
    }

    async fn add(&self, key: &Key, start: Timestamp, share: u32, limit: u32) -> Result<Option<Row>, Error> {
        let values = [
            (":start", number(start.as_millis())),
            (":share", number(share)),
            (":most", number(limit.saturating_sub(share))),
        ];
        let condition = "windowStart = :start AND admitted <= :most";
        self.update(key, "ADD admitted :share", condition, &values, false).await
    }

    /// `None` when written; else the row that refused it.
    async fn update(
        &self,
        key: &Key,
        update: &str,
        condition: &str,
        values: &[(&str, AttributeValue)],
        names_expiry: bool,
    ) -> Result<Option<Row>, Error> {
        let mut request = self
            .store
            .client
            .update_item()
            .table_name(&self.store.table)
            .set_key(Some(key.attributes()))
            .update_expression(update)
            .condition_expression(condition)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (name, value) in values {
            request = request.expression_attribute_values(*name, value.clone());
        }
        if names_expiry {
            request = request.expression_attribute_names("#expires", EXPIRES);
        }
        match request.send().await {
            Ok(_) => Ok(None),
            Err(error) => match refused_row(&error) {
                Some(row) => Ok(Some(row)),
                None => Err(Error::unavailable("UpdateItem")(error)),
            },
        }
    }

    /// The table is away: this instance counts by itself. Load and events go on (security.md, "Public endpoints").
    fn admit_alone(&self, key: &Key, limit: u32, now: Timestamp) -> Result<(), Exceeded> {
        if self.held().get(&key.pk).is_none_or(|window| !window.is_open(now)) {
            self.learn(key, Window { invented: true, ..Window::opened(now, 0) }, now);
        }
        let mut held = self.held();
        let Some(window) = held.get_mut(&key.pk) else { return Ok(()) };
        if window.alone >= limit {
            return Err(Exceeded { limit, reset: window.start.plus(WINDOW) });
        }
        window.alone += 1;
        Ok(())
    }
}

/// The old row that a failed condition sent back.
pub(crate) fn refused_row(
    error: &aws_sdk_dynamodb::error::SdkError<aws_sdk_dynamodb::operation::update_item::UpdateItemError>,
) -> Option<Row> {
    use aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException;
    match error.as_service_error()? {
        ConditionalCheckFailedException(failed) => Some(failed.item.clone().unwrap_or_default()),
        _ => None,
    }
}

fn read(row: &Row) -> (Timestamp, u32) {
    let number =
        |name: &str| row.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse::<i64>().ok());
    let start = Timestamp::from_millis(number("windowStart").unwrap_or(0));
    (start, u32::try_from(number("admitted").unwrap_or(0)).unwrap_or(u32::MAX))
}
