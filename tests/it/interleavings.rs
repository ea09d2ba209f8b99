//! Claims, records, counts and pauses under random interleavings, against a model so simple that it cannot be wrong: the
//! results in the order in which they were stored, and the last twenty of them.
//!
//! The rows are here in memory with the conditions that the store writes under (`store::deliveries`,
//! `store::breakers`), and `domain::breaker` decides, so tens of thousands of runs take seconds. The same steps then
//! run, fewer, over a real table.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    slice,
    time::Duration,
};

use domain::{
    app::App,
    breaker::{Breaker, Effect, Pause, THRESHOLD},
    context::Context,
    delivery::{Attempt, Due, ErrorClass, Outcome, Refused, Verdict},
    event::Event,
    id::{EventId, SessionId},
    integration::{Draft, Integration, Status as IntegrationStatus, Surroundings},
    reach::Reach,
    time::Timestamp,
};
use embedded::{Config, Embedded};
use serde_json::json;
use store::{
    Aws, Endpoints, Store,
    breakers::Life,
    provision::{self, TableSpec},
    statistics::Tally,
};

/// Small, fast, and the same everywhere: SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("small")
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Pending,
    Delivered,
    Failed,
    Skipped,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    state: State,
    claim: Option<u64>,
    /// The claim has run out: another may take it, and until then its holder may still record.
    expired: bool,
}

/// What the table holds.
#[derive(Debug, Default)]
struct Table {
    deliveries: BTreeMap<usize, Row>,
    breaker: Breaker,
    active: bool,
    generation: u64,
}

/// A worker at one message, between two of its requests.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It has a message.
    Begun,
    /// It has read the integration.
    Read { active: bool, generation: u64 },
    /// It has claimed.
    Claimed { claim: u64, generation: u64 },
    /// It has its outcome, and records it.
    Records { claim: u64, generation: u64, good: bool, known: Option<Breaker> },
    /// A success is recorded, and has yet to look at the count.
    Counts { generation: u64 },
    /// It has looked, and the count was above zero.
    Resets { generation: u64 },
}

/// The model: what was stored, in order.
#[derive(Debug, Default)]
struct Model {
    generation: u64,
    active: bool,
    in_a_row: u32,
    counted: BTreeMap<usize, u32>,
}

struct World {
    dice: Dice,
    table: Table,
    model: Model,
    queue: VecDeque<usize>,
    workers: Vec<(usize, Step)>,
    next_claim: u64,
    posts_after_pause: usize,
    trips: usize,
}

impl World {
    fn new(seed: u64, deliveries: usize) -> Self {
        Self {
            dice: Dice(seed),
            table: Table { active: true, ..Table::default() },
            model: Model { active: true, ..Model::default() },
            queue: (0..deliveries).collect(),
            workers: Vec::new(),
            next_claim: 1,
            posts_after_pause: 0,
            trips: 0,
        }
    }

    /// One thing happens: a worker takes its next step, dies, a message comes again, a claim runs out, or the operator
    /// switches.
    fn happen(&mut self, failing: u64) {
        match self.dice.below(100) {
            0 if self.dice.percent(35) => self.switch(),
            1 if !self.workers.is_empty() => {
                // It dies; its message comes again, and its claim runs out.
                let (delivery, _) = self.workers.swap_remove(self.dice.below(self.workers.len()));
                self.queue.push_back(delivery);
                self.expire(delivery);
            }
            2 => {
                // Delivered at least once: sometimes twice. The claim may even have run out while its holder goes on.
                if let Some((delivery, _)) = self.workers.first().copied() {
                    self.queue.push_back(delivery);
                    if self.dice.percent(50) {
                        self.expire(delivery);
                    }
                }
            }
            3..=30 if self.workers.len() < 30 => {
                if let Some(delivery) = self.queue.pop_front() {
                    self.workers.push((delivery, Step::Begun));
                }
            }
            _ if !self.workers.is_empty() => {
                let at = self.dice.below(self.workers.len());
                let (delivery, step) = self.workers[at];
                match self.step(delivery, step, failing) {
                    Some(next) => self.workers[at].1 = next,
                    None => drop(self.workers.swap_remove(at)),
                }
            }
            _ => {
                if let Some(delivery) = self.queue.pop_front() {
                    self.workers.push((delivery, Step::Begun));
                }
            }
        }
    }

    fn expire(&mut self, delivery: usize) {
        if let Some(row) = self.table.deliveries.get_mut(&delivery).filter(|row| row.state == State::Pending) {
            row.expired = true;
        }
    }

    /// `change_integration`: status, generation and breaker in one transaction.
    fn switch(&mut self) {
        self.table.active = !self.table.active;
        self.table.breaker = self.table.breaker.renewed();
        self.table.generation = self.table.breaker.generation;
        (self.model.active, self.model.in_a_row) = (self.table.active, 0);
        self.model.generation += 1;
    }

    fn step(&mut self, delivery: usize, step: Step, failing: u64) -> Option<Step> {
        match step {
            Step::Begun => Some(Step::Read { active: self.table.active, generation: self.table.generation }),
            Step::Read { active, generation } => {
                let row = self.table.deliveries.get(&delivery).copied();
                let free = row.is_none_or(|row| row.state == State::Pending && (row.claim.is_none() || row.expired));
                match (free, active) {
                    (true, true) => {
                        let claim = self.next_claim;
                        self.next_claim += 1;
                        self.table
                            .deliveries
                            .insert(delivery, Row { state: State::Pending, claim: Some(claim), expired: false });
                        Some(Step::Claimed { claim, generation })
                    }
                    (true, false) => {
                        self.table
                            .deliveries
                            .insert(delivery, Row { state: State::Skipped, claim: None, expired: false });
                        None
                    }
                    (false, _) => {
                        if row.is_some_and(|row| row.state == State::Pending) {
                            // Somebody is at it: the message comes again.
                            self.queue.push_back(delivery);
                        }
                        None
                    }
                }
            }
            Step::Claimed { claim, generation } => {
                self.posts_after_pause += usize::from(!self.table.active);
                let good = !self.dice.percent(failing);
                Some(Step::Records { claim, generation, good, known: None })
            }
            Step::Counts { generation } if self.table.breaker.succeeded(generation).is_some() => {
                Some(Step::Resets { generation })
            }
            // Looked, and there was nothing to forget: the model's row of failures ends here.
            Step::Counts { generation } => {
                self.model_succeeds(generation);
                None
            }
            Step::Resets { generation } => {
                // `generation = :generation AND failures > :zero`
                if let Some(after) = self.table.breaker.succeeded(generation) {
                    self.table.breaker = after;
                }
                self.model_succeeds(generation);
                None
            }
            Step::Records { claim, generation, good, known } => self.record(delivery, claim, generation, good, known),
        }
    }

    /// One try of `record` or `record_failed`: its transaction's conditions, and what it then knows.
    fn record(
        &mut self,
        delivery: usize,
        claim: u64,
        generation: u64,
        good: bool,
        known: Option<Breaker>,
    ) -> Option<Step> {
        let holds = self.table.deliveries.get(&delivery).is_some_and(|row| row.claim == Some(claim));
        if good {
            if holds {
                self.settle(delivery, State::Delivered);
            }
            return Some(Step::Counts { generation });
        }
        let (after, effect) = known.unwrap_or(Breaker { failures: 0, generation }).failed(generation, None);
        let condition = match effect {
            Effect::Late => true,
            Effect::Counted => {
                self.table.breaker.generation == generation && self.table.breaker.failures < THRESHOLD - 1
            }
            Effect::Paused(_) => {
                self.table.breaker.generation == generation
                    && self.table.breaker.failures >= THRESHOLD - 1
                    && self.table.active
                    && self.table.generation == generation
            }
        };
        if !holds {
            return None;
        }
        if !condition {
            // It reads the row, and tries again.
            let known = Some(self.table.breaker);
            return Some(Step::Records { claim, generation, good, known });
        }
        self.settle(delivery, State::Failed);
        match effect {
            Effect::Late => {}
            Effect::Counted => self.table.breaker.failures += 1,
            Effect::Paused(_) => {
                self.trips += 1;
                (self.table.breaker, self.table.active, self.table.generation) = (after, false, after.generation);
            }
        }
        // The model knows nothing of all that.
        if generation == self.model.generation {
            *self.model.counted.entry(delivery).or_default() += 1;
            self.model.in_a_row += 1;
            if self.model.in_a_row == 20 {
                self.model = Model {
                    generation: self.model.generation + 1,
                    active: false,
                    in_a_row: 0,
                    counted: std::mem::take(&mut self.model.counted),
                };
            }
        }
        None
    }

    fn model_succeeds(&mut self, generation: u64) {
        if generation == self.model.generation {
            self.model.in_a_row = 0;
        }
    }

    fn settle(&mut self, delivery: usize, state: State) {
        self.table.deliveries.insert(delivery, Row { state, claim: None, expired: false });
    }

    fn check(&self, seed: u64) {
        let table = &self.table;
        assert_eq!(
            (table.active, table.breaker.generation, table.breaker.failures, table.generation),
            (self.model.active, self.model.generation, self.model.in_a_row, self.model.generation),
            "seed {seed}"
        );
        assert!(table.breaker.failures < THRESHOLD, "seed {seed}");
    }
}

#[test]
fn ten_thousand_interleavings_and_more_agree_with_the_model() {
    let (mut trips, mut skipped, mut failed) = (0, 0, 0);
    for seed in 0..20_000u64 {
        let mut world = World::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d), 80);
        let failing = [100, 99, 97, 90, 50][usize::try_from(seed % 5).expect("small")];
        let mut left = 20_000;
        while !(world.queue.is_empty() && world.workers.is_empty()) && left > 0 {
            world.happen(failing);
            world.check(seed);
            left -= 1;
        }
        assert!(left > 0, "seed {seed}: it does not end");
        // Every delivery has ended, and each failure counted once.
        assert_eq!(world.table.deliveries.len(), 80, "seed {seed}");
        for (delivery, row) in &world.table.deliveries {
            assert!(row.state != State::Pending, "seed {seed}: {delivery} is pending");
            let counted = world.model.counted.get(delivery).copied().unwrap_or(0);
            assert!(
                counted <= u32::from(row.state == State::Failed),
                "seed {seed}: {delivery} counted {counted} times"
            );
            skipped += usize::from(row.state == State::Skipped);
            failed += usize::from(row.state == State::Failed);
        }
        trips += world.trips;
    }
    // The runs do what they are for.
    assert!(trips > 5_000 && skipped > 10_000 && failed > 100_000, "{trips} {skipped} {failed}");
    println!("20,000 interleavings: {trips} trips, {failed} failed, {skipped} skipped");
}

/// The same over a real table: claims, records and switches of many deliveries in a random order, the model asked after
/// each.
#[tokio::test]
async fn the_table_agrees_with_the_model() {
    let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
    let aws = Aws::local(Endpoints {
        dynamodb: embedded.dynamodb_url().to_owned(),
        sqs: embedded.sqs_url().to_owned(),
        kms: embedded.kms_url().to_owned(),
    });
    let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry: None };
    provision::table(&aws, &spec).await.expect("a table");
    let store = Store::open(&aws, "table");
    let tally = Tally::open(store.clone());
    let at = Timestamp::from_millis(1_800_000_000_000);
    let app = App::create("Shop", at, &[1; 10], &[2; 20]).expect("an app");
    store.create_app(&app, None).await.expect("stored");
    let (reach, secrets) = (Reach::default(), BTreeSet::default());
    let around = Surroundings { reach: &reach, own_hosts: &[], secrets: &secrets };
    let draft = json!({"name": "CRM", "url": "https://example.com/in", "events": ["widget_loaded"]});
    let draft: Draft = serde_json::from_value(draft).expect("a draft");
    let integration = Integration::create(draft, around, at, &[3; 10]).expect("an integration");
    store.create_integration(app.id, &integration, None).await.expect("stored");
    let outcome = |error| Outcome { status_code: None, error, retry_after: None, excerpt: None, took: Duration::ZERO };

    let mut dice = Dice(7);
    let mut model = Model { active: true, ..Model::default() };
    let (mut held, mut number, mut trips) = (Vec::new(), 0u64, 0);
    for turn in 0..600 {
        let stored = store.integration(app.id, integration.id).await.expect("read").expect("a row");
        match dice.below(100) {
            0 => {
                let mut after = stored.integration.clone();
                after.status = if model.active { IntegrationStatus::Inactive } else { IntegrationStatus::Active };
                store.change_integration(app.id, &stored, &after, None).await.expect("changed");
                model.generation += 1;
                (model.active, model.in_a_row) = (!model.active, 0);
            }
            1..=45 if model.active && held.len() < 12 => {
                number += 1;
                let mut entropy = [0; 10];
                entropy[..8].copy_from_slice(&number.to_be_bytes());
                let body = json!({
                    "id": EventId::mint(at, &entropy), "name": "widget_loaded", "data": {"isPreview": false}, "timestamp": at
                });
                let envelope = Event::parse(&body).expect("an event").envelope(&Context::default());
                let session = SessionId::mint(at, &[4; 10]);
                let due = Due::fan_out(app.id, session, &envelope, slice::from_ref(&integration), at).remove(0);
                let until = Due::claim_until(at, Duration::from_secs(1));
                let claim =
                    store.claim(&due, format!("holder {number}"), at, until).await.expect("asked").expect("free");
                let life = Life { app: app.id, integration: integration.id, generation: stored.generation };
                held.push((claim, life));
            }
            _ if !model.active && held.is_empty() => {
                let after = Integration { status: IntegrationStatus::Active, ..stored.integration.clone() };
                store.change_integration(app.id, &stored, &after, None).await.expect("changed");
                model.generation += 1;
                (model.active, model.in_a_row) = (true, 0);
            }
            _ if !held.is_empty() => {
                let (claim, life) = held.swap_remove(dice.below(held.len()));
                let is_now = life.generation == model.generation;
                if dice.percent(3) {
                    let attempt = Attempt::record(1, at, &outcome(None));
                    store.record(&claim, &attempt, Verdict::Delivered, None).await.expect("asked").expect("recorded");
                    tally.delivered(life, at).await.expect("counted");
                    model.in_a_row = if is_now { 0 } else { model.in_a_row };
                } else {
                    let attempt = Attempt::record(1, at, &outcome(Some(ErrorClass::Timeout)));
                    let effect = store.record_failed(&claim, &attempt, life, None, at).await.expect("asked");
                    let expected = match (is_now, model.in_a_row) {
                        (false, _) => Effect::Late,
                        (true, 19) => Effect::Paused(Pause::Failures),
                        (true, _) => Effect::Counted,
                    };
                    assert_eq!(effect, Ok(expected), "turn {turn}");
                    // The same once more, as after an answer that was lost: it does not count again.
                    let again = store.record_failed(&claim, &attempt, life, None, at).await.expect("asked");
                    assert_eq!(again, Err(Refused::Drop), "turn {turn}");
                    if is_now && model.in_a_row == 19 {
                        (model.generation, model.active, model.in_a_row) = (model.generation + 1, false, 0);
                        trips += 1;
                    } else {
                        model.in_a_row += u32::from(is_now);
                    }
                }
            }
            _ => {}
        }
        let (breaker, stored) =
            tokio::join!(store.breaker(app.id, integration.id), store.integration(app.id, integration.id));
        let (breaker, stored) = (breaker.expect("read").expect("a row"), stored.expect("read").expect("a row"));
        let is_active = stored.integration.status == IntegrationStatus::Active;
        assert_eq!(
            (breaker.failures, breaker.generation, stored.generation, is_active),
            (model.in_a_row, model.generation, model.generation, model.active),
            "turn {turn}"
        );
    }
    assert!(trips >= 2, "{trips}");
}
