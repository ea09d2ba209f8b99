//! Breakers: the count of failures in a row, the pause that follows, and how many deliveries succeeded.
//!
//! One small row an integration, made and deleted with it. Whatever changes an integration's status changes `generation`
//! in the integration's row and in this one, in one transaction, and sets `failures` to zero.
//!
//! - A delivery that ends `failed` is recorded and counted in one transaction on the condition that its claim still
//!   stands, so it counts exactly once. The one that would be the twentieth pauses the integration in that transaction.
//! - One that ends `delivered` adds to the row's statistics, which brings the count back; when it is above zero, one
//!   conditional update resets it. Deliveries of one instance that end at the same time share the request.
//!
//! Statistics are counters in the row: per hour for the last day (`h…`), per half day for the last week (`w…`); `d`
//! delivered, `f` failed. They stay in one write unit; what is too old is removed as it is met. They are a report, not a
//! ledger: a crash may lose or double one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_dynamodb::{
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{AttributeValue, ReturnValue, TransactWriteItem, Update},
};
use domain::{
    breaker::{Breaker, Effect, Pause, THRESHOLD},
    delivery::{Attempt, Refused, Verdict},
    id::{AppId, IntegrationId},
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    Error, Store,
    deliveries::{Claim, recorded},
    key::{Key, Range, SK},
    limits::refused_row,
    table::{Order, Row, number, string},
};

/// Tries when others write the same rows. A life takes twenty failures at most, so this is never reached by counting.
const TRIES: u64 = 60;
const HOUR_MILLIS: i64 = 60 * 60 * 1000;
const HALF_DAY_MILLIS: i64 = 12 * HOUR_MILLIS;
/// Counters per window.
const HOURS: i64 = 24;
const HALF_DAYS: i64 = 14;

/// Which life of which integration an attempt belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    /// The app.
    pub app: AppId,
    /// The integration.
    pub integration: IntegrationId,
    /// Its generation when the attempt began.
    pub generation: u64,
}

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

fn figure(row: &Row, name: &str) -> u64 {
    row.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn breaker(row: &Row) -> Breaker {
    Breaker {
        failures: u32::try_from(figure(row, "failures")).unwrap_or(u32::MAX),
        generation: figure(row, "generation"),
    }
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
struct Counting {
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
    add: Vec<String>,
}

impl Counting {
    fn of(results: Results, now: Timestamp) -> Self {
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

    fn value(mut self, name: &str, value: AttributeValue) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Results {
    delivered: u32,
    failed: u32,
}

/// What a try of a transaction came to.
enum Tried {
    Done,
    /// Somebody else wrote at the same time.
    Conflict,
    /// These parts' conditions did not hold.
    Refused(Vec<bool>),
}

impl Store {
    /// Records a claimed delivery's last attempt and counts it, together. `pause`: the outcome asks for one by itself.
    ///
    /// # Errors
    /// Outside: the table could not be asked. Inside: as [`record`](Self::record).
    pub async fn record_failed(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        life: Life,
        pause: Option<Pause>,
        now: Timestamp,
    ) -> Result<Result<Effect, Refused>, Error> {
        let mut known = Breaker { failures: 0, generation: life.generation };
        for attempted in 0..TRIES {
            let (after, effect) = known.failed(life.generation, pause);
            if effect == Effect::Late {
                return Ok(self.record(claim, attempt, Verdict::Failed, None).await?.map(|()| effect));
            }
            let row = recorded(claim, attempt, Verdict::Failed, None)?.part(&self.table);
            let mut parts = vec![row, self.count(life, after, effect, now)];
            if let Effect::Paused(pause) = effect {
                parts.extend(self.pause(life, after, pause, now));
            }
            match self.try_all(parts).await? {
                Tried::Done => return Ok(Ok(effect)),
                Tried::Conflict => wait(claim, attempted).await,
                Tried::Refused(parts) if parts[0] => return Ok(Err(self.refusal(claim).await?)),
                Tried::Refused(_) => match self.breaker_row(life.app, life.integration).await? {
                    Some(row) => known = breaker(&row),
                    // Deleted with its integration: nothing to count on any more.
                    None => known = Breaker { failures: 0, generation: life.generation + 1 },
                },
            }
        }
        tracing::error!(app = %life.app, integration = %life.integration, "breaker.uncounted");
        Ok(self.record(claim, attempt, Verdict::Failed, None).await?.map(|()| Effect::Late))
    }

    /// The breaker's part: counts, or begins the next life.
    fn count(
        &self,
        life: Life,
        after: Breaker,
        effect: Effect,
        now: Timestamp,
    ) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        let counting =
            Counting::of(Results { delivered: 0, failed: 1 }, now).value(":generation", number(life.generation));
        let add = counting.add.join(", ");
        let (counting, update, condition) = match effect {
            Effect::Paused(pause) => {
                let counting = counting.value(":next", number(after.generation)).value(":zero", number(0));
                let update = format!("SET generation = :next, failures = :zero ADD {add}");
                if pause == Pause::Failures {
                    let last = counting.value(":last", number(THRESHOLD - 1));
                    (last, update, "generation = :generation AND failures >= :last")
                } else {
                    (counting, update, "generation = :generation")
                }
            }
            Effect::Counted | Effect::Late => {
                let counting = counting.value(":one", number(1)).value(":last", number(THRESHOLD - 1));
                let update = format!("ADD failures :one, {add}");
                (counting, update, "generation = :generation AND failures < :last")
            }
        };
        Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::breaker(life.app, life.integration).attributes()))
            .update_expression(update)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(counting.names))
            .set_expression_attribute_values(Some(counting.values))
    }

    /// The parts that pause an active integration.
    fn pause(
        &self,
        life: Life,
        after: Breaker,
        pause: Pause,
        now: Timestamp,
    ) -> [aws_sdk_dynamodb::types::builders::UpdateBuilder; 2] {
        let integration = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::integration(life.app, life.integration).attributes()))
            .update_expression(
                "SET #status = :paused, pausedReason = :reason, pausedAt = :now, generation = :next ADD revision :one",
            )
            .condition_expression("#status = :active AND generation = :generation")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":paused", string("paused"))
            .expression_attribute_values(":active", string("active"))
            .expression_attribute_values(":reason", string(pause.reason()))
            .expression_attribute_values(":now", string(now))
            .expression_attribute_values(":next", number(after.generation))
            .expression_attribute_values(":generation", number(life.generation))
            .expression_attribute_values(":one", number(1));
        let app = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::app(life.app).attributes()))
            .update_expression("ADD activeIntegrations :less")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":less", number(-1));
        [integration, app]
    }

    async fn try_all(&self, parts: Vec<aws_sdk_dynamodb::types::builders::UpdateBuilder>) -> Result<Tried, Error> {
        let mut request = self.client.transact_write_items();
        let many = parts.len();
        for part in parts {
            let part = part.build().map_err(Error::unavailable("TransactWriteItems"))?;
            request = request.transact_items(TransactWriteItem::builder().update(part).build());
        }
        let Err(error) = request.send().await else { return Ok(Tried::Done) };
        let reasons = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled.cancellation_reasons(),
            Some(TransactWriteItemsError::TransactionInProgressException(_)) => return Ok(Tried::Conflict),
            _ => return Err(Error::unavailable("TransactWriteItems")(error)),
        };
        let code = |index: usize| reasons.get(index).and_then(|reason| reason.code());
        let refused: Vec<_> = (0..many).map(|index| code(index) == Some("ConditionalCheckFailed")).collect();
        if refused.contains(&true) {
            Ok(Tried::Refused(refused))
        } else if (0..many).any(|index| code(index) == Some("TransactionConflict")) {
            Ok(Tried::Conflict)
        } else {
            Err(Error::unavailable("TransactWriteItems")(error))
        }
    }

    async fn breaker_row(&self, app: AppId, integration: IntegrationId) -> Result<Option<Row>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::breaker(app, integration).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(Error::unavailable("GetItem"))?;
        Ok(answer.item)
    }

    /// An integration's count; `None` when there is no such integration.
    ///
    /// # Errors
    /// When the table cannot be reached.
    pub async fn breaker(&self, app: AppId, integration: IntegrationId) -> Result<Option<Breaker>, Error> {
        Ok(self.breaker_row(app, integration).await?.as_ref().map(breaker))
    }

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

    /// Forgets the failures of this life.
    async fn reset(&self, life: Life) -> Result<(), Error> {
        for attempted in 0..TRIES {
            let answer = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::breaker(life.app, life.integration).attributes()))
                .update_expression("SET failures = :zero")
                .condition_expression("generation = :generation AND failures > :zero")
                .expression_attribute_values(":generation", number(life.generation))
                .expression_attribute_values(":zero", number(0))
                .send()
                .await;
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if refused_row(&error).is_some() => return Ok(()),
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

fn is_conflict(error: &aws_sdk_dynamodb::error::SdkError<UpdateItemError>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::TransactionConflictException(_)))
}

/// Others write the same row: a little later, not all at once.
async fn wait(claim: &Claim, attempted: u64) {
    pause_for(attempted, u64::from(claim.delivery.shard(29))).await;
}

async fn pause_for(attempted: u64, own: u64) {
    tokio::time::sleep(Duration::from_millis(2 + (own + attempted * 7) % 29)).await;
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
