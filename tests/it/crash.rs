//! Dispatch is killed in the middle of its work, again and again: nothing is lost, and no kill doubles more than it had in
//! hand.
//!
//! The compiled function runs under a stand-in of the Runtime API; a small poller feeds it from the embedded queue as
//! Lambda would, one batch at a time. A kill is SIGKILL: nothing is finished, nothing is handed back, as when a host
//! dies. What was in hand reappears when its visibility ends, and is claimed again when the claim has run out.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    app::App,
    delivery::{Due, Status},
    event::Event,
    id::{AppId, EventId, SessionId},
    integration::{Draft, Integration, Surroundings},
    reach::Reach,
    time::Timestamp,
};
use embedded::{Config, Embedded};
use serde_json::{Value, json};
use store::{
    Aws, Endpoints, Queue, Store,
    provision::{self, QueueSpec, TableSpec},
    queue::Received,
};
use tokio::sync::Mutex;

use crate::{
    soak::full,
    support::{
        receiver::{Answer, Receiver},
        runtime_api::Function,
    },
};

const NOW: i64 = 1_800_000_000_000;
/// Between two events: dispatch, killed every second, is catching up for about half of the run.
const PACE: Duration = Duration::from_millis(20);
/// Here it is always catching up: every batch is a full one.
const FASTEST: Duration = Duration::from_millis(5);

struct Dice(u64);

impl Dice {
    /// A number below `end`, by xorshift.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Table, queue, key and one integration, over stand-ins of the services.
struct Ground {
    receiver: Receiver,
    store: Store,
    queue: Queue,
    app: App,
    integration: Integration,
    variables: Vec<(&'static str, String)>,
    _embedded: Embedded,
}

impl Ground {
    async fn new() -> Self {
        let receiver = Receiver::start().await;
        let allowed = format!("127.0.0.1/32:{}", receiver.port());
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let [dynamodb, sqs, kms] =
            [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let aws = Aws::local(Endpoints { dynamodb: dynamodb.clone(), sqs: sqs.clone(), kms: kms.clone() });
        let expiry = Some("expiresAt".to_owned());
        let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &spec).await.expect("a table");
        let attributes = vec![("VisibilityTimeout".to_owned(), "2".to_owned())];
        let made = provision::queue(&aws, &QueueSpec { name: "deliveries".into(), attributes }).await.expect("a queue");
        let key = provision::key(&aws, "alias/test").await.expect("a key");
        let (store, queue) = (Store::open(&aws, "table"), Queue::open(&aws, made.url.clone()));
        let at = Timestamp::from_millis(NOW);
        let app = App::create("Shop", at, &[1; 10], &[2; 20]).expect("an app");
        store.create_app(&app, None).await.expect("stored");
        let reach = Reach::with(vec![allowed.parse().expect("a network")]);
        let around = Surroundings { reach: &reach, own_hosts: &[], secrets: &Default::default() };
        let draft = json!({"name": "CRM", "url": receiver.url("/in"), "events": ["widget_loaded"], "timeoutMs": 200});
        let draft: Draft = serde_json::from_value(draft).expect("a draft");
        let integration = Integration::create(draft, around, at, &[3; 10]).expect("an integration");
        store.create_integration(app.id, &integration, None).await.expect("stored");
        let variables = vec![
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb),
            ("AWS_ENDPOINT_URL_SQS", sqs),
            ("AWS_ENDPOINT_URL_KMS", kms),
            ("C2C_TABLE", "table".to_owned()),
            ("C2C_DELIVERY_QUEUE_URL", made.url),
            ("C2C_KMS_KEY_ID", key),
            ("C2C_ALLOW_DESTINATIONS", allowed),
        ];
        Self { receiver, store, queue, app, integration, variables, _embedded: embedded }
    }
}

/// The first attempt of the event of this number.
fn due(app: AppId, integration: &Integration, number: usize) -> Due {
    let at = Timestamp::from_millis(NOW);
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&u64::try_from(number).expect("small").to_be_bytes());
    let (session, event) = (SessionId::mint(at, &[4; 10]), EventId::mint(at, &entropy));
    let body = json!({"id": event, "name": "widget_loaded", "data": {"isPreview": false}, "timestamp": at});
    let envelope = Event::parse(&body).expect("an event").envelope(&Default::default());
    Due::fan_out(app, session, &envelope, std::slice::from_ref(integration), at).remove(0)
}

fn batch(messages: &[Received]) -> Value {
    let records = messages.iter().map(|message| {
        json!({
            "messageId": message.id, "receiptHandle": message.receipt, "body": message.body,
            "attributes": {"ApproximateReceiveCount": message.receive_count.to_string()}, "messageAttributes": {},
            "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:deliveries",
            "awsRegion": "us-east-1"
        })
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

/// Hands one batch over and deletes what was done with, unless the function dies over it.
async fn feed(queue: &Queue, function: &Mutex<Function>, messages: Vec<Received>) {
    let invoked = {
        let function = function.lock().await;
        function.hand(batch(&messages)).await
    };
    let Ok(Ok(Ok(answer))) = tokio::time::timeout(Duration::from_secs(5), invoked).await else { return };
    let failed: HashSet<&str> = answer["batchItemFailures"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|failure| failure["itemIdentifier"].as_str())
        .collect();
    let done: Vec<_> = messages.iter().filter(|message| !failed.contains(message.id.as_str())).collect();
    let receipts: Vec<_> = done.into_iter().map(|message| message.receipt.clone()).collect();
    if !receipts.is_empty() {
        queue.delete(&receipts).await.expect("deleted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_dispatch_loses_nothing() {
    if full() {
        kill(2_000, 50, PACE).await;
        kill(2_000, 50, FASTEST).await;
    } else {
        kill(300, 10, PACE).await;
    }
}

/// Fast receivers are served one by one; slow ones do not wait for each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_slow_receivers_takes_little_longer_than_one() {
    let ground = Ground::new().await;
    let function = Function::start("dispatch", &ground.variables).await;
    let mut took = Vec::new();
    // The first batch finds nothing at hand.
    for (round, millis) in [1, 1, 150].into_iter().enumerate() {
        ground.receiver.answer((0..10).map(|_| Answer::status(200).after(Duration::from_millis(millis))));
        let messages = (0..10).map(|number| Received {
            id: number.to_string(),
            receipt: String::new(),
            body: serde_json::to_string(&due(ground.app.id, &ground.integration, 10 * round + number)).expect("JSON"),
            receive_count: 1,
            sent_millis: 0,
        });
        let began = Instant::now();
        let answer = function.invoke(batch(&messages.collect::<Vec<_>>())).await.expect("an answer");
        assert_eq!(answer["batchItemFailures"], json!([]));
        took.push(began.elapsed());
    }
    println!("a batch of ten: {:.0?} at 1 ms, {:.0?} at 150 ms", took[1], took[2]);
    // One after the other they would take 1.5 s and the requests beside.
    assert!(took[2] < Duration::from_millis(1_200), "{took:?}");
}

/// Sends this many events at this pace, and kills dispatch so often meanwhile.
async fn kill(events: usize, kills: usize, pace: Duration) {
    let ground = Ground::new().await;
    let (queue, store, app) = (ground.queue.clone(), ground.store.clone(), ground.app.id);
    let function = Arc::new(Mutex::new(Function::start("dispatch", &ground.variables).await));
    let over = Arc::new(AtomicBool::new(false));
    let polling = {
        let (queue, function, over) = (queue.clone(), Arc::clone(&function), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let messages = queue.receive(10, Duration::from_secs(1)).await.expect("the queue answers");
                if !messages.is_empty() {
                    feed(&queue, &function, messages).await;
                }
            }
        })
    };
    // Events come at a steady pace over the whole run, and so do the kills, at moments of their own.
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = {
        let (queue, sent, integration) = (queue.clone(), Arc::clone(&sent), ground.integration.clone());
        tokio::spawn(async move {
            for number in 0..events {
                queue.send(&[(due(app, &integration, number), 0)]).await.expect("sent");
                sent.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(pace).await;
            }
        })
    };
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let mut killed = 0;
    for kill in 0..kills {
        // Somewhere in this kill's share of the run, and some way into a batch.
        let share = events / kills;
        let from = kill * share + usize::try_from(dice.below(u64::try_from(share).expect("small"))).expect("small");
        while sent.load(Ordering::Relaxed) < from {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(dice.below(40_000))).await;
        let mut function = function.lock().await;
        function.kill().await;
        *function = Function::start("dispatch", &ground.variables).await;
        killed += 1;
    }
    sending.await.expect("all are sent");

    let webhook = |received: &crate::support::receiver::Received| {
        received.headers["webhook-id"].to_str().expect("text").to_owned()
    };
    let until = Instant::now() + Duration::from_secs(120);
    let arrived = loop {
        let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
        ground.receiver.received().iter().for_each(|received| *arrived.entry(webhook(received)).or_default() += 1);
        if arrived.len() == events {
            break arrived;
        }
        assert!(Instant::now() < until, "{} of {events} arrived", arrived.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // What arrived is also settled, soon: by who posted it, or by who came after.
    let mut open: Vec<_> = arrived.keys().map(|id| id.parse().expect("a delivery's id")).collect();
    while !open.is_empty() {
        let mut still = Vec::new();
        for id in open {
            let row = store.delivery(app, id).await.expect("read").expect("a row");
            match row.status {
                Status::Delivered => {}
                Status::Pending => still.push(id),
                other => panic!("{id} is {other:?}"),
            }
        }
        open = still;
        assert!(Instant::now() < until, "{} are still pending", open.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    over.store(true, Ordering::Relaxed);
    polling.await.expect("the poller ends");
    let posts = ground.receiver.received().len();
    let duplicates = posts - events;
    println!("{events} events at {pace:?}, {killed} kills: {} lost, {duplicates} duplicates", events - arrived.len());
    // A kill doubles what the receiver has and the table does not know yet: one delivery of a batch, or none.
    assert!(duplicates <= killed, "{duplicates} duplicates of {killed} kills");
}
