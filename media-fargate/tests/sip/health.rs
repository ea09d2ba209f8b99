//! Whether providers are there, as it is written down: by one of several servers, when it changes.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use domain::{
    app::{App, Codec, Provider, ProviderFault, ProviderHealth, ProviderKind, Transport},
    audit::Try,
    id::AppId,
    time::Timestamp,
};
use embedded::{Config, Embedded, Fault, Injection, Service};
use media::sip::{
    Agent,
    health::{self, Pace},
};
use store::{
    Aws, Endpoints, Store,
    provider_health::Watch,
    provision::{self, TableSpec},
};

use crate::{
    far::{Far, PATIENCE, response},
    support::agent,
};

const PACE: Pace =
    Pace { look: Duration::from_millis(50), ask: Duration::from_millis(100), lease: Duration::from_millis(4_000) };

struct Ground {
    embedded: Embedded,
    store: Store,
    app: AppId,
}

impl Ground {
    async fn new() -> Self {
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let urls = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let [dynamodb, sqs, kms] = urls;
        let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
        let expiry = Some("expiresAt".to_owned());
        let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &spec).await.expect("a table");
        let store = Store::open(&aws, "table");
        let app = App::create("Shop", edge::clock::now(), &[1; 10], &[2; 20]).expect("an app");
        store.create_app(&app, None).await.expect("stored");
        Self { embedded, store, app: app.id }
    }

    async fn provider(&self, at: SocketAddr) {
        self.provider_of(self.app, &at.to_string()).await;
    }

    async fn provider_of(&self, app: AppId, at: &str) {
        let provider = Provider {
            kind: ProviderKind::Sip,
            uri: format!("sip:{at}"),
            transport: Transport::Udp,
            username: None,
            caller_id: None,
            codecs: vec![Codec::Pcmu],
            srtp: false,
            context_headers: Vec::new(),
            active: true,
        };
        self.store.seed_provider(app, &provider).await.expect("stored");
    }

    /// What is written down, once it is like this.
    async fn becomes(&self, like: impl Fn(&ProviderHealth) -> bool) -> ProviderHealth {
        let until = Instant::now() + PATIENCE;
        loop {
            let health = self.store.provider_health(self.app).await.expect("read");
            if let Some(health) = health.as_ref().filter(|health| like(health)) {
                return health.clone();
            }
            assert!(Instant::now() < until, "{health:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes the provider out of the list of active ones, as if the list were so long that nobody comes to it.
    async fn unlist(&self) {
        let key = format!(r#"{{"pk": {{"S": "PROVIDERS"}}, "sk": {{"S": "{}"}}}}"#, self.app);
        let body = format!(r#"{{"TableName": "table", "Key": {key}, "ReturnValues": "ALL_OLD"}}"#);
        let credential = "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, \
                          SignedHeaders=host, Signature=0";
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client
            .post(self.embedded.dynamodb_url())
            .header("authorization", credential)
            .header("x-amz-date", "20260101T000000Z")
            .header("x-amz-target", "DynamoDB_20120810.DeleteItem")
            .header("content-type", "application/x-amz-json-1.0");
        let answer = request.body(body).send().await.expect("the table answers").text().await.expect("text");
        assert!(answer.contains("revision"), "it was in the list: {answer}");
    }

    async fn delete_provider(&self) {
        let deletion = Try {
            operator: "Ada".to_owned(),
            action: "provider.delete",
            target: String::new(),
            ip: [192, 0, 2, 1].into(),
            reason: None,
            detail: None,
        };
        let entry = deletion.granted(edge::clock::now(), &[1; 10]);
        assert!(self.store.delete_provider(self.app, &entry).await.expect("deleted"));
    }

    /// Waits until the table was asked so many more times.
    async fn requests(&self, operation: &str, more: u64) {
        let count = || self.embedded.counts().get(operation).copied().unwrap_or_default();
        let (before, until) = (count(), Instant::now() + PATIENCE);
        while count() < before + more {
            assert!(Instant::now() < until, "{} times {operation}", count() - before);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn watch(&self, agent: &Agent, name: &str) {
        health::start(self.store.clone(), agent, name, PACE);
    }
}

/// A provider that answers every question with the status set, and remembers who asked.
struct Oracle {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    askers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Oracle {
    async fn new() -> Self {
        let far = Far::new().await;
        let oracle = Self { address: far.address(), status: Arc::new(AtomicU16::new(200)), askers: Arc::default() };
        let (status, askers) = (oracle.status.clone(), oracle.askers.clone());
        tokio::spawn(async move {
            loop {
                let (question, from) = far.next().await;
                assert!(question.starts_with("OPTIONS"), "{question}");
                askers.lock().expect("whole").push(from);
                let status = status.load(Ordering::Relaxed);
                far.send(response(&question, &format!("{status} As told"), "a", "", ""), from).await;
            }
        });
        oracle
    }

    fn asked(&self) -> usize {
        self.askers.lock().expect("whole").len()
    }

    /// Waits for so many more questions; who asked them.
    async fn asks(&self, more: usize) -> HashSet<SocketAddr> {
        let (before, until) = (self.asked(), Instant::now() + PATIENCE);
        while self.asked() < before + more {
            assert!(Instant::now() < until, "asked {} times", self.asked() - before);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.askers.lock().expect("whole")[before..].iter().copied().collect()
    }
}

#[tokio::test]
async fn one_of_several_servers_asks_and_another_goes_on_when_it_dies() {
    let (ground, oracle) = (Ground::new().await, Oracle::new().await);
    let servers = [agent().await, agent().await, agent().await];
    for (number, server) in servers.iter().enumerate() {
        ground.watch(server, &format!("server {number}"));
    }
    // Saved while they run.
    ground.provider(oracle.address).await;
    let health = ground.becomes(|_| true).await;
    assert_eq!((health.reachable, health.sip_status, health.reason), (true, Some(200), None));
    assert!(health.rtt_ms.is_some_and(|rtt| rtt < 1_000), "{health:?}");

    let (before, began) = (ground.embedded.counts(), Instant::now());
    let asking = oracle.asks(20).await;
    assert_eq!(asking.len(), 1, "one asks");
    // The lease is renewed, and with it the health, before it ends; the others try when it would have.
    let leases = began.elapsed().as_secs_f64() / (PACE.lease - 2 * PACE.ask).as_secs_f64();
    let writes = ground.embedded.counts()["dynamodb.UpdateItem"] - before["dynamodb.UpdateItem"];
    assert!(writes as f64 <= 4.0 * (leases + 1.0), "{writes} writes in {leases} leases");

    let dies = asking.into_iter().next().expect("one");
    let servers: Vec<_> = servers.into_iter().filter(|server| server.address() != dies).collect();
    assert_eq!(servers.len(), 2);
    let until = Instant::now() + PATIENCE;
    while oracle.asks(1).await.contains(&dies) {
        assert!(Instant::now() < until, "who died is not heard any more");
    }
    let asking = oracle.asks(4).await;
    assert!(asking.len() == 1 && !asking.contains(&dies), "one of the others: {asking:?}");
}

#[tokio::test]
async fn who_is_taken_on_is_asked_in_time_however_long_the_list_is() {
    let (ground, oracle, server) = (Ground::new().await, Oracle::new().await, agent().await);
    ground.provider(oracle.address).await;
    // Two pages more, that somebody else looks after.
    let (now, app) = (edge::clock::now(), |number| AppId::mint(edge::clock::now(), &[number; 10]));
    for app in (0..=210).map(app) {
        ground.provider_of(app, &oracle.address.to_string()).await;
        let theirs = ground.store.watch_provider(app, "another", now.plus(Duration::from_secs(600)), now).await;
        assert_eq!(theirs.expect("asked"), Watch::Ours(None));
    }
    let pace = Pace { ask: Duration::from_millis(10), lease: Duration::from_secs(60), ..PACE };
    health::start(ground.store.clone(), &server, "server", pace);
    oracle.asks(2).await;
    let asked = oracle.asked();
    ground.requests("dynamodb.Query", 10).await;
    let asked = oracle.asked() - asked;
    assert!(asked >= 8, "asked {asked} times in ten looks");
}

#[tokio::test]
async fn who_is_taken_on_stays_so_when_the_table_fails() {
    let (often, renewing) = (PACE, Pace { ask: PACE.lease / 4, lease: PACE.lease / 2, ..PACE });
    for (operation, pace) in [("GetItem", often), ("UpdateItem", renewing)] {
        let (ground, oracle, server) = (Ground::new().await, Oracle::new().await, agent().await);
        ground.provider(oracle.address).await;
        health::start(ground.store.clone(), &server, "server", pace);
        ground.becomes(|health| health.reachable).await;
        ground.unlist().await;
        // A page that was on its way is through.
        ground.requests("dynamodb.Query", 2).await;
        // One request fails with all its tries.
        ground.embedded.inject(Service::DynamoDb, Injection::of(Fault::InternalError).on(operation).times(3));
        ground.requests(&format!("dynamodb.{operation}"), 3).await;
        oracle.asks(2).await;
    }
}

#[tokio::test]
async fn of_a_deleted_provider_nothing_stays() {
    let (ground, oracle, server) = (Ground::new().await, Oracle::new().await, agent().await);
    ground.provider(oracle.address).await;
    // Its lease is due whenever it is to be asked; and it is deleted between two times.
    let ask = Duration::from_millis(1_000);
    let pace = Pace { ask, lease: 2 * ask, ..PACE };
    health::start(ground.store.clone(), &server, "server", pace);
    ground.becomes(|health| health.reachable).await;
    oracle.asks(1).await;
    let asked = oracle.asked();
    ground.delete_provider().await;
    let looks = (2 * ask).div_duration_f64(pace.look).ceil() as u64;
    ground.requests("dynamodb.Query", looks).await;
    assert_eq!(oracle.asked(), asked, "nobody asks it any more");
    // A row would have a lease that ends after this.
    let (long_ago, app) = (Timestamp::from_millis(0), ground.app);
    let row = ground.store.watch_provider(app, "another", long_ago, long_ago).await.expect("asked");
    assert_eq!(row, Watch::Ours(None), "there is no row");
}

#[tokio::test]
async fn what_changes_is_written_down() {
    let (ground, oracle, server) = (Ground::new().await, Oracle::new().await, agent().await);
    ground.provider(oracle.address).await;
    ground.watch(&server, "server");
    let up = ground.becomes(|health| health.reachable).await;
    oracle.status.store(503, Ordering::Relaxed);
    let down = ground.becomes(|health| !health.reachable).await;
    assert_eq!((down.sip_status, down.reason), (Some(503), Some(ProviderFault::ServerError)));
    assert!(down.checked_at > up.checked_at);
    // It wants to know who asks: it is there.
    oracle.status.store(401, Ordering::Relaxed);
    let up = ground.becomes(|health| health.reachable).await;
    assert_eq!((up.sip_status, up.reason), (Some(401), None));
    // The same is written down again now and then.
    ground.becomes(|health| health.checked_at.since(up.checked_at) > PACE.ask).await;

    ground.delete_provider().await;
    assert_eq!(ground.store.provider_health(ground.app).await.expect("read"), None);
    // Whatever was on its way is through after a few looks; then nobody asks, and nothing is written down.
    tokio::time::sleep(4 * PACE.ask).await;
    let asked = oracle.asked();
    tokio::time::sleep(4 * PACE.ask).await;
    assert_eq!(oracle.asked(), asked);
    assert_eq!(ground.store.provider_health(ground.app).await.expect("read"), None);
}

#[tokio::test]
async fn nobody_asks_once_the_agent_is_gone() {
    let (ground, oracle, server) = (Ground::new().await, Oracle::new().await, agent().await);
    ground.provider(oracle.address).await;
    ground.watch(&server, "server");
    oracle.asks(2).await;
    drop(server);
    tokio::time::sleep(3 * PACE.ask).await;
    let asked = oracle.asked();
    tokio::time::sleep(3 * PACE.ask).await;
    assert_eq!(oracle.asked(), asked);
}
