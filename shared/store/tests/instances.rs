//! What only shows when several instances of a function share one table: limits, token keys, secrets shown once.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use domain::{
    app::{App, Password, Provider},
    audit::{Entry, Outcome, Try},
    context::Context,
    id::{AppId, OperatorId, SessionId},
    integration::{Draft, Integration, Surroundings},
    limit::{Limits, Scope},
    operator::Role,
    reach::Reach,
    secret::{REVEALS_PER_HOUR, SecretName, SecretValue},
    session::Session,
    time::Timestamp,
};
use embedded::{Config, Embedded, Fault, Injection, Service};
use futures_util::future::join_all;
use store::{
    Aws, Endpoints, Error, Limiter, Store, Vault, Verifier,
    audit::Log,
    integrations::Change,
    operators::{Removal, Vouched},
    provision::{self, TableSpec},
    secrets::{Owner, Reveal, Written},
};

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000)
}

struct Ground {
    embedded: Embedded,
    aws: Aws,
}

/// A connection of its own.
fn connect(embedded: &Embedded) -> Aws {
    let [dynamodb, sqs, kms] = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
    Aws::local(Endpoints { dynamodb, sqs, kms })
}

impl Ground {
    async fn new() -> Self {
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let aws = connect(&embedded);
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
        draft: false,
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

fn row(number: u8) -> Entry {
    let who = Try {
        operator: "Ada".to_owned(),
        action: "test",
        target: String::new(),
        ip: IP,
        reason: Some("a receiver moves".to_owned()),
        detail: None,
    };
    who.granted(at(0), &[number; 10])
}

fn value(text: &str) -> SecretValue {
    SecretValue::stored(text.to_owned().into())
}

fn name(text: &str) -> SecretName {
    text.parse().expect(text)
}

/// Instances of the console: each with a connection of its own, and nothing that makes one wait for another.
struct Instances {
    ground: Ground,
    owner: Owner,
    each: Vec<(Store, Vault)>,
}

impl Instances {
    async fn new(count: usize) -> Self {
        let ground = Ground::new().await;
        let key = provision::key(&ground.aws, "alias/test").await.expect("a key");
        let app = App::create("Shop", at(0), &[1; 10], &[2; 20]).expect("an app");
        ground.store().create_app(&app, None).await.expect("stored");
        let draft = Draft { name: Some("CRM".into()), url: Some("https://example.com/in".into()), ..Draft::default() };
        let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &BTreeSet::new() };
        let integration = Integration::create(draft, around, at(0), &[3; 10]).expect("an integration");
        let made = ground.store().create_integration(app.id, &integration, None).await.expect("stored");
        assert_eq!(made, Change::Done);
        let instance = |_| {
            let aws = connect(&ground.embedded);
            (Store::open(&aws, "table"), Vault::open(&aws, &key))
        };
        let each = (0..count).map(instance).collect();
        Self { owner: Owner { app: app.id, integration: integration.id }, each, ground }
    }

    async fn put(&self, secret: &str, number: u8) {
        let (store, vault) = &self.each[0];
        let put = store.put_secret(vault, self.owner, &name(secret), &value("s3cret"), &row(number)).await;
        assert!(matches!(put, Ok(Written::Done(_))), "{put:?}");
    }

    /// A try to have a secret shown, as the console makes it: what is refused is written down afterwards.
    async fn reveal(&self, instance: usize, secret: &str, number: u8) -> Result<Reveal, Error> {
        let (store, vault) = &self.each[instance % self.each.len()];
        let granted = row(number);
        let revealed = store.reveal(vault, self.owner, &name(secret), &granted).await;
        if !matches!(revealed, Ok(Reveal::Shown(_))) {
            let refused = Entry { outcome: Outcome::Refused, ..granted };
            store.append_audit(Log::App(self.owner.app), &refused).await.expect("written down");
        }
        revealed
    }

    /// How many rows of these tries (their numbers are 100 and above) are in the audit log: granted, refused.
    async fn written(&self) -> (usize, usize) {
        let rows = self.ground.store().audit(Log::App(self.owner.app), 200, None).await.expect("the log").items;
        let of = |outcome| {
            let rows = rows.iter().filter(|entry| entry.id >= row(100).id && entry.outcome == outcome);
            rows.count()
        };
        (of(Outcome::Granted), of(Outcome::Refused))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_instances_at_once_one_is_shown_a_secret() {
    let instances = Instances::new(6).await;
    for round in 0..5 {
        instances.put("token", round).await;
        let tries = (0..12).map(|number| instances.reveal(number.into(), "token", 100 + round * 12 + number));
        let tries = join_all(tries).await;
        let shown =
            tries.iter().filter(|tried| matches!(tried, Ok(Reveal::Shown(value)) if value.expose() == "s3cret"));
        assert_eq!(shown.count(), 1, "{tries:?}");
        let others = tries.iter().filter(|tried| matches!(tried, Ok(Reveal::ShownBefore)));
        assert_eq!(others.count(), 11, "who is not shown it is told why: {tries:?}");
        let rounds = usize::from(round) + 1;
        assert_eq!(instances.written().await, (rounds, rounds * 11));
    }
    let transactions = instances.ground.embedded.counts()["dynamodb.TransactWriteItems"];
    let unopposed = 2 + 5 + 5;
    assert!(transactions > unopposed, "several came as far as the table: {transactions}");
}

#[tokio::test]
async fn a_lost_answer_costs_no_secret() {
    let instances = Instances::new(1).await;
    instances.put("token", 0).await;
    instances
        .ground
        .embedded
        .inject(Service::DynamoDb, Injection::of(Fault::LostAnswer).on("TransactWriteItems").times(1));
    let revealed = instances.reveal(0, "token", 100).await;
    assert!(matches!(revealed, Ok(Reveal::Shown(_))), "{revealed:?}");
    assert!(matches!(instances.reveal(0, "token", 101).await, Ok(Reveal::ShownBefore)));
    assert_eq!(instances.written().await, (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_instances_together_show_ten_secrets_in_an_hour() {
    let instances = Instances::new(4).await;
    for number in 0..14 {
        instances.put(&format!("s{number}"), number).await;
    }
    let names: Vec<String> = (0..14).map(|number| format!("s{number}")).collect();
    let tries = names.iter().enumerate().map(|(at, name)| {
        let number = 100 + u8::try_from(at).expect("a small number");
        instances.reveal(at, name, number)
    });
    let tries = join_all(tries).await;
    let shown = tries.iter().filter(|tried| matches!(tried, Ok(Reveal::Shown(_)))).count();
    let limited = tries.iter().filter(|tried| matches!(tried, Ok(Reveal::TooMany(_)))).count();
    assert_eq!((shown, limited), (usize::try_from(REVEALS_PER_HOUR).expect("ten"), 4), "{tries:?}");
    assert_eq!(instances.written().await, (10, 4));
}

#[tokio::test]
async fn a_providers_password_opens_for_its_app_alone_and_stays_with_its_user_name() {
    let Instances { ground, owner, each } = Instances::new(1).await;
    let ((store, vault), app) = (&each[0], owner.app);
    let provider = |username: Option<&str>| -> Provider {
        let known = serde_json::json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "tls",
            "username": username, "active": true});
        serde_json::from_value(known).expect("a provider")
    };
    let opened = || async {
        let found = store.provider_with_password(vault, app, at(1)).await.expect("it opens").expect("a provider");
        found.1.map(|password| password.expose().to_owned())
    };
    let put = |username, password: Password, number| async move {
        let before = store.stored_provider(app).await.expect("the table answers");
        let put = store.put_provider(vault, app, before, &provider(username), &password, &row(number)).await;
        put.map(|stored| stored.expect("nobody else changes it").has_password())
    };
    assert_eq!(put(Some("me"), Password::Becomes(value("one")), 100).await.ok(), Some(true));
    assert_eq!(opened().await.as_deref(), Some("one"));
    assert_eq!(put(Some("me"), Password::Stays, 101).await.ok(), Some(true));
    assert_eq!(opened().await.as_deref(), Some("one"));
    // Without the key service nothing is stored; what needs none works.
    ground.embedded.down(Service::Kms);
    assert!(put(Some("me"), Password::Becomes(value("two")), 102).await.is_err());
    assert_eq!(put(Some("me"), Password::Stays, 103).await.ok(), Some(true));
    assert!(store.provider_with_password(vault, app, at(1)).await.is_err());
    ground.embedded.clear(Service::Kms);
    assert_eq!(opened().await.as_deref(), Some("one"));
    assert_eq!(put(Some("you"), Password::Stays, 104).await.ok(), Some(false), "it was another user's");
    assert_eq!(opened().await, None);
    assert_eq!(put(Some("you"), Password::Becomes(value("three")), 105).await.ok(), Some(true));
    assert_eq!(put(Some("you"), Password::Ends, 106).await.ok(), Some(false));
    assert_eq!(opened().await, None);
    // Of two at once one is told that it came too late.
    let before = store.stored_provider(app).await.expect("the table answers");
    let both = [("me", 107), ("you", 108)].map(|(user, number)| {
        let (before, provider, password) = (before.clone(), provider(Some(user)), Password::Becomes(value(user)));
        async move { store.put_provider(vault, app, before, &provider, &password, &row(number)).await }
    });
    let both = join_all(both).await.into_iter().filter(|put| matches!(put, Ok(Some(_)))).count();
    assert_eq!(both, 1);
    let stored = store.stored_provider(app).await.expect("the table answers").expect("a provider");
    assert_eq!(opened().await, stored.provider.username, "user name and password belong together");
    let rows = store.audit(Log::App(app), 100, None).await.expect("the log").items;
    assert_eq!(rows.len(), 6 + both, "one row for each that was stored: {rows:?}");
}

#[tokio::test]
async fn first_sign_ins_at_once_all_begin_and_end_together() {
    let ground = Ground::new().await;
    let store = &ground.store();
    let id = OperatorId::mint(at(0), &[1; 10]);
    let person = &Vouched { id, name: "Ann".into(), role: Role::Admin, expires_at: at(100).as_seconds() };
    let begin = |number: u8| async move {
        let hash = format!("{number:064x}");
        store.begin_vouched_session(&hash, person, at(0), &[number; 10], &row(number)).await.expect("begun");
        store.operator(&hash, at(1)).await.expect("asked").expect("a session").begun_with.expect("a mark")
    };
    let marks = join_all((1..=8).map(begin)).await;
    assert!(marks.iter().all(|mark| *mark == marks[0]), "{marks:?}");
    // Removals at once: one of them did it.
    let removed = join_all((0..4).map(|_| store.remove_operator(id, None))).await;
    let done = removed.into_iter().filter(|removal| *removal.as_ref().expect("asked") == Removal::Done).count();
    assert_eq!((done, store.operator(&marks[0], at(1)).await.expect("asked")), (1, None));
    let anew = begin(9).await;
    assert_ne!(anew, marks[0]);
}
