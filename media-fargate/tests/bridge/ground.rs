//! What calls stand on: a table, a queue and an app that wants to hear of ends.

use std::time::{Duration, Instant};

use domain::{
    call::Call,
    event::{Envelope, EventName},
    id::{AppId, CallId},
    integration::{Draft, Integration, Status, Surroundings},
    reach::Reach,
};
use embedded::{Config, Embedded};
use store::{
    Aws, Endpoints, Queue, Store,
    provision::{self, QueueSpec, TableSpec},
};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The table's name.
pub const TABLE: &str = "table";

/// The stand-ins and what is in them.
pub struct Ground {
    pub embedded: Embedded,
    pub aws: Aws,
    pub store: Store,
    pub queue: Queue,
    pub queue_url: String,
    pub app: AppId,
}

impl Ground {
    pub async fn new() -> Self {
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let urls = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let [dynamodb, sqs, kms] = urls;
        let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
        let expiry = Some("expiresAt".to_owned());
        let spec = TableSpec { name: TABLE.into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &spec).await.expect("a table");
        let made = provision::queue(&aws, &QueueSpec { name: "queue".into(), attributes: Vec::new() }).await;
        let queue_url = made.expect("a queue").url;
        let queue = Queue::open(&aws, queue_url.clone());
        let (store, now) = (Store::open(&aws, TABLE), edge::clock::now());
        let app = domain::app::App::create("Shop", now, &[1; 10], &[2; 20]).expect("an app");
        store.create_app(&app, None).await.expect("stored");
        let app = app.id;
        let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &Default::default() };
        let draft = Draft {
            name: Some("CRM".into()),
            url: Some("https://example.com/events".into()),
            events: Some([EventName::CallEnded, EventName::CallError].into()),
            status: Some(Status::Active),
            ..Draft::default()
        };
        let integration = Integration::create(draft, around, now, &[3; 10]).expect("an integration");
        store.create_integration(app, &integration, None).await.expect("stored");
        Self { embedded, aws, store, queue, queue_url, app }
    }

    /// The next event that is queued.
    pub async fn queued(&self) -> Envelope {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(envelope) = self.next_queued().await {
                return envelope;
            }
            assert!(Instant::now() < until, "no event is queued");
        }
    }

    /// The same, if there is one within a second.
    pub async fn next_queued(&self) -> Option<Envelope> {
        let received = self.queue.receive(1, Duration::from_secs(1)).await.unwrap_or_default();
        let message = received.first()?;
        let due: domain::delivery::Due = serde_json::from_str(&message.body).expect("a message");
        Some(due.envelope)
    }

    pub async fn row(&self, id: CallId) -> Call {
        self.store.call(self.app, id).await.expect("read").expect("a row").call
    }
}

/// Looks until there is something.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// The same, no longer than this.
pub async fn within<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
