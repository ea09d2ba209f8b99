//! How many deliveries of each integration ended which way.
//!
//! Statistics are counters in the breaker's row: per hour for the last day (`h…`), per half day for the last week (`w…`);
//! `d` delivered, `f` failed. They stay in one write unit; what is too old is removed as it is met. They are a report, not
//! a ledger: a crash may lose or double one. Deliveries of one instance that end at the same time share a request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use domain::{
    id::{AppId, IntegrationId},
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    Error, Store,
    breakers::{Life, TRIES, breaker, is_conflict, pause_for},
    key::{Key, Range, SK},
    limits::refused_row,
    table::{Order, Row, number},
};

const HOUR_MILLIS: i64 = 60 * 60 * 1000;
const HALF_DAY_MILLIS: i64 = 12 * HOUR_MILLIS;
/// Counters per window.
const HOURS: i64 = 24;
const HALF_DAYS: i64 = 14;

/// How many deliveries of a window ended which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// `24h` or `7d`. A window moves in steps: of an hour, and of half a day.
    pub window: &'static str,
    /// Deliveries that ended `delivered`.
    pub delivered: u64,
    /// Deliveries that ended `failed`.
    pub failed: u64,
}

impl SuccessRate {
    /// Of an integration that has sent nothing.
    pub fn nothing() -> [Self; 2] {
        rates(&Row::new(), Timestamp::from_millis(0))
    }
}

fn hour(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(HOUR_MILLIS)
}

fn half_day(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(HALF_DAY_MILLIS)
}

/// A number in a row; none is zero.
pub(crate) fn figure(row: &Row, name: &str) -> u64 {
    row.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The counters in a row: window, outcome, number of the hour or half day, attribute.
fn counters(row: &Row) -> impl Iterator<Item = (char, char, i64, &String)> {
    row.keys().filter_map(|name| {
        let mut letters = name.chars();
        let (window, outcome) = (letters.next()?, letters.next()?);
        let number = letters.as_str().parse().ok()?;
        (matches!(window, 'h' | 'w') && matches!(outcome, 'd' | 'f')).then_some((window, outcome, number, name))
    })
}

fn is_current(window: char, number: i64, now: Timestamp) -> bool {
    match window {
        'h' => number > hour(now) - HOURS,
        _ => number > half_day(now) - HALF_DAYS,
    }
}

fn rates(row: &Row, now: Timestamp) -> [SuccessRate; 2] {
    let sum = |wanted: char, of: char| {
        let fitting = counters(row).filter(|(window, outcome, number, _)| {
            *window == wanted && *outcome == of && is_current(*window, *number, now)
        });
        fitting.map(|(.., name)| figure(row, name)).sum()
    };
    [("24h", 'h'), ("7d", 'w')].map(|(window, letter)| SuccessRate {
        window,
        delivered: sum(letter, 'd'),
        failed: sum(letter, 'f'),
    })
}

/// An update of a breaker row that also counts results.
pub(crate) struct Counting {
    pub(crate) names: HashMap<String, String>,
    pub(crate) values: HashMap<String, AttributeValue>,
    pub(crate) add: Vec<String>,
}

impl Counting {
    pub(crate) fn of(results: Results, now: Timestamp) -> Self {
        let mut counting = Self { names: HashMap::new(), values: HashMap::new(), add: Vec::new() };
        for (outcome, number_of) in [('d', results.delivered), ('f', results.failed)] {
            if number_of == 0 {
                continue;
            }
            counting.values.insert(format!(":{outcome}"), number(number_of));
            for (window, at) in [('h', hour(now)), ('w', half_day(now))] {
                counting.names.insert(format!("#{window}{outcome}"), format!("{window}{outcome}{at}"));
                counting.add.push(format!("#{window}{outcome} :{outcome}"));
            }
        }
        counting
    }

    pub(crate) fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }
}

/// Deliveries that ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Results {
    pub(crate) delivered: u32,
    pub(crate) failed: u32,
}

impl Store {
    /// How one integration's deliveries ended lately.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn success_rate(
        &self,
        app: AppId,
        integration: IntegrationId,
        now: Timestamp,
    ) -> Result<[SuccessRate; 2], Error> {
        Ok(rates(&self.breaker_row(app, integration).await?.unwrap_or_default(), now))
    }

    /// The same of all integrations of an app.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn success_rates(
        &self,
        app: AppId,
        now: Timestamp,
    ) -> Result<HashMap<IntegrationId, [SuccessRate; 2]>, Error> {
        let range = Range::breakers(app);
        let rows = self.query(range.clone(), Order::Oldest, None, 100).await?;
        let of_row = |row: &Row| {
            let id = row.get(SK)?.as_s().ok()?.strip_prefix(range.prefix)?.parse().ok()?;
            Some((id, rates(row, now)))
        };
        Ok(rows.iter().filter_map(of_row).collect())
    }

    /// Adds results to an integration's statistics; what its row then says. `None` when there is none any more.
    async fn add(&self, life: Life, results: Results, now: Timestamp) -> Result<Option<Row>, Error> {
        let counting = Counting::of(results, now);
        for attempted in 0..TRIES {
            let answer = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::breaker(life.app, life.integration).attributes()))
                .update_expression(format!("ADD {}", counting.add.join(", ")))
                .condition_expression("attribute_exists(pk)")
                .set_expression_attribute_names(Some(counting.names.clone()))
                .set_expression_attribute_values(Some(counting.values.clone()))
                .return_values(ReturnValue::AllNew)
                .send()
                .await;
            match answer {
                Ok(answer) => return Ok(Some(answer.attributes.unwrap_or_default())),
                Err(error) if refused_row(&error).is_some() => return Ok(None),
                Err(error) if is_conflict(&error) => pause_for(attempted, 0).await,
                Err(error) => return Err(Error::unavailable("UpdateItem")(error)),
            }
        }
        Err(Error::Unavailable { operation: "UpdateItem", cause: "too many writers of one breaker".to_owned() })
    }

    /// Removes counters that no window holds any more.
    async fn prune(&self, life: Life, row: &Row, now: Timestamp) -> Result<(), Error> {
        let old: Vec<_> = counters(row).filter(|(window, _, at, _)| !is_current(*window, *at, now)).collect();
        if old.is_empty() {
            return Ok(());
        }
        let names: HashMap<_, _> =
            old.iter().enumerate().map(|(index, (.., name))| (format!("#o{index}"), (*name).clone())).collect();
        let all: Vec<_> = names.keys().cloned().collect();
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(Key::breaker(life.app, life.integration).attributes()))
            .update_expression(format!("REMOVE {}", all.join(", ")))
            .condition_expression("attribute_exists(pk)")
            .set_expression_attribute_names(Some(names));
        // Whoever writes next does it otherwise.
        request.send().await.map(drop).or_else(|error| match is_conflict(&error) || refused_row(&error).is_some() {
            true => Ok(()),
            false => Err(Error::unavailable("UpdateItem")(error)),
        })
    }
}

/// Results of one instance on their way to the rows. Those that end while a write is under way go together with the next.
#[derive(Clone, Debug)]
pub struct Tally {
    store: Store,
    desks: Arc<Mutex<HashMap<Life, Arc<Desk>>>>,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    results: Results,
    /// How many batches of results were taken from here.
    taken: u64,
}

impl Tally {
    /// Nothing counted yet.
    pub fn open(store: Store) -> Self {
        Self { store, desks: Arc::default() }
    }

    /// Counts a delivery that ended `delivered`: when this returns, the failures before it are forgotten.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn delivered(&self, life: Life, now: Timestamp) -> Result<(), Error> {
        self.add(life, Results { delivered: 1, failed: 0 }, now).await
    }

    /// Counts one that ended `failed` and belongs to an older life: for the statistics alone.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn failed_late(&self, life: Life, now: Timestamp) -> Result<(), Error> {
        self.add(life, Results { delivered: 0, failed: 1 }, now).await
    }

    async fn add(&self, life: Life, results: Results, now: Timestamp) -> Result<(), Error> {
        let desk = {
            let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
            desks.entry(life).or_default().clone()
        };
        let mine = {
            let mut waiting = desk.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.results.delivered += results.delivered;
            waiting.results.failed += results.failed;
            waiting.taken
        };
        let written = desk.writing.lock().await;
        let all = {
            let mut waiting = desk.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.taken > mine {
                // Whoever wrote before took these along.
                return Ok(());
            }
            waiting.taken += 1;
            std::mem::take(&mut waiting.results)
        };
        let done = self.write(life, all, now).await;
        drop(written);
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        // This function and the map hold it: nobody waits at it.
        if Arc::strong_count(&desk) == 2 {
            desks.remove(&life);
        }
        done
    }

    async fn write(&self, life: Life, results: Results, now: Timestamp) -> Result<(), Error> {
        let Some(row) = self.store.add(life, results, now).await? else { return Ok(()) };
        if results.delivered > 0 && breaker(&row).succeeded(life.generation).is_some() {
            self.store.reset(life).await?;
        }
        self.store.prune(life, &row, now).await
    }
}
