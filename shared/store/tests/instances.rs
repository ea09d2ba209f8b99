//! What only shows when several instances of a function share one table: limits and token keys.

use std::{net::IpAddr, time::Duration};

use domain::{
    context::Context,
    id::{AppId, SessionId},
    limit::{Limits, Scope},
    session::Session,
    time::Timestamp,
};
use embedded::{Config, Embedded, Fault, Injection, Service};
use futures_util::future::join_all;
use store::{
    Aws, Endpoints, Limiter, Store, Vault, Verifier,
    provision::{self, TableSpec},
};

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
}

struct Ground {
    embedded: Embedded,
    aws: Aws,
}

impl Ground {
    async fn new() -> Self {
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let [dynamodb, sqs, kms] =
            [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
        let expiry = Some("expiresAt".to_owned());
        let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &spec).await.expect("a table");
        Self { embedded, aws }
    }

    fn store(&self) -> Store {
        Store::open(&self.aws, "table")
    }

    fn limiters(&self, count: usize, limits: Limits) -> Vec<Limiter> {
        (0..count).map(|_| Limiter::open(self.store(), Scope::Session, limits)).collect()
    }
}

fn app() -> AppId {
    AppId::mint(at(0), &[1; 10])
}

#[tokio::test]
async fn all_instances_together_admit_exactly_the_limit_in_each_window() {
    let ground = Ground::new().await;
    let limiters = ground.limiters(4, Limits { ip: 10, app: 1_000 });
    for window in [0, 61, 200] {
        let mut admitted = 0;
        for turn in 0..8 {
            let tries = join_all(limiters.iter().map(|limiter| limiter.admit_ip(IP, at(window + turn)))).await;
            admitted += tries.iter().filter(|admitted| admitted.is_ok()).count();
            for exceeded in tries.into_iter().filter_map(Result::err) {
                assert_eq!((exceeded.limit, exceeded.reset), (10, at(window + 60)));
            }
        }
        assert_eq!(admitted, 10, "window from {window}");
    }
}

#[tokio::test]
async fn many_cold_instances_do_not_use_up_an_apps_limit() {
    let ground = Ground::new().await;
    let limiters = ground.limiters(150, Limits { ip: 1_000, app: 3_000 });
    for limiter in &limiters {
        limiter.admit_app(app(), at(0)).await.expect("one request of each of 150 instances is far below 3,000");
    }
}

#[tokio::test]
async fn a_busy_instance_writes_seldom_and_admits_exactly_the_limit() {
    let ground = Ground::new().await;
    let limiter = &ground.limiters(1, Limits { ip: 1_000, app: 3_000 })[0];
    let mut admitted = 0;
    for _ in 0..3_100 {
        admitted += u32::from(limiter.admit_app(app(), at(1)).await.is_ok());
    }
    let writes = ground.embedded.counts()["dynamodb.UpdateItem"];
    assert_eq!(admitted, 3_000);
    assert!(writes < 130, "{writes} writes");
}

#[tokio::test]
async fn while_the_table_is_away_an_instance_counts_by_itself_and_then_returns_to_the_table() {
    let ground = Ground::new().await;
    let limits = Limits { ip: 5, app: 1_000 };
    let limiter = &ground.limiters(1, limits)[0];
    limiter.admit_ip(IP, at(0)).await.expect("the first");
    ground.embedded.inject(Service::DynamoDb, Injection::of(Fault::Unavailable));
    let alone = [1, 2, 3, 4, 5, 6].map(|second| limiter.admit_ip(IP, at(second)));
    let admitted = join_all(alone).await.iter().filter(|admitted| admitted.is_ok()).count();
    assert_eq!(admitted, 5, "its own bucket holds one limit");
    ground.embedded.clear(Service::DynamoDb);
    let mut admitted = 0;
    for second in 7..20 {
        admitted += u32::from(limiter.admit_ip(IP, at(second)).await.is_ok());
    }
    assert_eq!(admitted, 4, "the row still had four");
}

#[tokio::test]
async fn a_burst_of_first_starts_signs_with_keys_that_every_verifier_knows() {
    let ground = Ground::new().await;
    let key = provision::key(&ground.aws, "alias/test").await.expect("a key");
    let starts = (0..30u8).map(|index| {
        let (store, vault) = (ground.store(), Vault::open(&ground.aws, &key));
        async move { store.signing_key(&vault, at(i64::from(index % 3)), &[index; 10]).await.expect("a key") }
    });
    let keys = join_all(starts).await;
    let verifier = Verifier::open(ground.store());
    let session = Session {
        id: SessionId::mint(at(3), &[0; 10]),
        app: app(),
        profile: None,
        routing_key: None,
        context: Context::default(),
        preview: false,
    };
    for key in &keys {
        let token = key.sign(&session, at(3), at(903));
        verifier.verify(&token, at(3)).await.expect("the table answers").expect("a genuine token");
    }
    // Whoever starts later signs with one and the same.
    let vault = Vault::open(&ground.aws, &key);
    let later = ground.store().signing_key(&vault, at(10), &[99; 10]).await.expect("a key");
    let again = ground.store().signing_key(&vault, at(11), &[98; 10]).await.expect("a key");
    assert_eq!(later.id(), again.id());
    let month = i64::try_from(Duration::from_secs(31 * 24 * 60 * 60).as_secs()).expect("a number");
    let rotated = ground.store().signing_key(&vault, at(month), &[97; 10]).await.expect("a key");
    assert_ne!(rotated.id(), later.id());
}
