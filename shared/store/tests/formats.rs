//! Rows that earlier versions wrote are read, and those of the next version will be: fields that nobody knows yet change
//! nothing. And the version before reads what is written now: each row has all fields that rows of its kind had then.
//!
//! `tests/vectors/formats/rows-N.jsonl` holds rows as `tests/measure/beside.py` finds them in a table: those of format 1 are
//! of the first version. A change that gives rows a new form adds a file.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
    types::AttributeValue,
};
use domain::{
    app::App,
    audit::Try,
    delivery::{Attempt, Due, Outcome, Status, Verdict},
    id::OperatorId,
    integration::{Draft, Integration, Surroundings},
    limit::{Limits, Scope},
    operator::Role,
    profile::{self, Profile},
    reach::Reach,
    time::Timestamp,
};
use embedded::{Config, Embedded};
use serde_json::{Value, json};
use store::{
    Aws, Endpoints, Limiter, Store,
    audit::Log,
    delivery_log::Filter,
    fleet::Server,
    operators::Listed,
    provision::{self, TableSpec},
};

type Row = HashMap<String, AttributeValue>;

const FORMATS: [&str; 1] = [include_str!("../../../tests/vectors/formats/rows-1.jsonl")];
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

/// Shortly after the rows were written.
fn now() -> Timestamp {
    Timestamp::from_millis(1_795_290_300_000)
}

/// An attribute as DynamoDB's JSON has it.
fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value.as_object().and_then(|one| one.iter().next()).expect("a type and a value");
    let text = || value.as_str().expect("a text").to_owned();
    match kind.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "BOOL" => AttributeValue::Bool(value.as_bool().expect("a truth")),
        "L" => AttributeValue::L(value.as_array().expect("a list").iter().map(attribute).collect()),
        "M" => AttributeValue::M(row(value)),
        other => panic!("an attribute of type {other}"),
    }
}

fn row(value: &Value) -> Row {
    value.as_object().expect("an object").iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn rows(format: &str) -> Vec<Row> {
    format.lines().map(|line| row(&serde_json::from_str(line).expect("JSON"))).collect()
}

fn text(row: &Row, name: &str) -> String {
    row[name].as_s().expect("a text").clone()
}

/// What a row is about: its keys without what makes it one of many.
fn kind(row: &Row) -> (String, String) {
    let first = |name: &str| text(row, name).split(['#', '_']).next().unwrap_or_default().to_owned();
    (first("pk"), first("sk"))
}

struct Table {
    _embedded: Embedded,
    client: Client,
    store: Store,
}

impl Table {
    async fn of(rows: &[Row]) -> Self {
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let [dynamodb, sqs, kms] =
            [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let config = Builder::new().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1"));
        let config = config.credentials_provider(Credentials::new("local", "local", None, None, "local"));
        let client = Client::from_conf(config.endpoint_url(&dynamodb).build());
        let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
        let expiry = Some("expiresAt".to_owned());
        let spec = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &spec).await.expect("a table");
        for row in rows {
            client.put_item().table_name("table").set_item(Some(row.clone())).send().await.expect("stored");
        }
        Self { _embedded: embedded, client, store: Store::open(&aws, "table") }
    }

    async fn rows(&self) -> Vec<Row> {
        self.client.scan().table_name("table").send().await.expect("the table").items.expect("rows")
    }

    /// All that can be read of the app "Shop", as text.
    async fn read(&self) -> String {
        let store = &self.store;
        let apps = store.apps(100, None).await.expect("apps").items;
        let id = apps.iter().find(|one| one.name == "Shop").expect("the app").app_id;
        let app = store.app(id).await.expect("read").expect("the app");
        let provider = store.provider(id).await.expect("read").expect("a provider");
        let profiles = store.profiles(id, 100, None).await.expect("read").items;
        let routes = [store.route(id, None).await.expect("read"), store.route(id, Some("sales")).await.expect("read")];
        assert_eq!(routes, [Some(profiles[0].id); 2]);
        let integrations = store.integrations(id).await.expect("read");
        let rates = store.success_rates(id, now()).await.expect("read");
        let mut breakers = Vec::new();
        let mut rated = Vec::new();
        for stored in &integrations {
            breakers.push(store.breaker(id, stored.integration.id).await.expect("read").expect("a breaker"));
            rated.push(&rates[&stored.integration.id]);
        }
        let log = store.deliveries(id, &Filter::default(), 100, None, now()).await.expect("read").page.items;
        let operators = store.operators(100, None).await.expect("read").items;
        let holder = store.operator(&operators[0].token_hash, now()).await.expect("read").expect("a token's row");
        let audit = store.audit(Log::App(id), 100, None).await.expect("read").items;
        assert_eq!((app.name.as_str(), provider.uri.as_str()), ("Shop", "sip:trunk.example.com"));
        let names: Vec<_> = integrations.iter().map(|one| one.integration.name.as_str()).collect();
        assert_eq!((names, profiles.len(), audit.len()), (vec!["CRM", "Dead"], 1, 3));
        let of = |status| log.iter().filter(|one| one.delivery.status == status).count();
        assert_eq!((of(Status::Delivered), of(Status::Skipped), log.len()), (2, 3, 5));
        assert!(log.iter().any(|one| one.delivery.attempts.len() == 2));
        assert_eq!((operators.len(), operators[0].name.as_str(), holder.role), (1, "Ann", Role::Viewer));
        // Windows that began go on.
        let limiter = Limiter::open(store.clone(), Scope::Session, Limits { ip: 100, app: 100 });
        limiter.admit_app(id, now()).await.expect("admitted");
        format!(
            "{app:?} {provider:?} {profiles:?} {integrations:?} {breakers:?} {rated:?} {log:?} {operators:?} {holder:?} {audit:?}"
        )
    }
}

#[tokio::test]
async fn rows_of_every_version_are_read() {
    for format in FORMATS {
        Table::of(&rows(format)).await.read().await;
    }
}

#[tokio::test]
async fn what_the_next_version_adds_changes_nothing() {
    for format in FORMATS {
        let before = rows(format);
        let mut after = before.clone();
        for row in &mut after {
            let new = Row::from([("a".to_owned(), AttributeValue::L(Vec::new()))]);
            row.insert("addedLater".to_owned(), AttributeValue::M(new));
        }
        assert_eq!(Table::of(&before).await.read().await, Table::of(&after).await.read().await);
    }
}

/// Writes a row of each kind that there was then, as far as no key service is needed.
async fn write(table: &Table) {
    let store = &table.store;
    let app = App::create("Shop", now(), &[1; 10], &[2; 20]).expect("an app");
    store.create_app(&app, None).await.expect("stored");
    let provider =
        json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "udp", "codecs": ["PCMU"], "active": true});
    store.seed_provider(app.id, &serde_json::from_value(provider).expect("a provider")).await.expect("stored");
    let draft = json!({"name": "Sales", "destination": "sip:sales@trunk.example.com", "routingKeys": ["sales"]});
    let draft: profile::Draft = serde_json::from_value(draft).expect("a draft");
    let profile = Profile::create(&draft, now(), &[4; 10]).expect("a profile");
    let default = store::profiles::Default::Becomes;
    store.put_profile(app.id, None, &profile, default, None).await.expect("stored");
    let draft = json!({"name": "CRM", "url": "https://example.com/in", "events": ["widget_loaded"]});
    let draft: Draft = serde_json::from_value(draft).expect("a draft");
    let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &BTreeSet::new() };
    let integration = Integration::create(draft, around, now(), &[3; 10]).expect("an integration");
    store.create_integration(app.id, &integration, None).await.expect("stored");
    let due: Due = serde_json::from_value(json!({
        "v": 1, "delivery": "dlv_01m7zt5e2f9msq45sex58ycf0h", "app": app.id, "integration": integration.id,
        "envelope": {"id": "evt_01m7zt5e2f9msq45sex58ycf0h", "name": "widget_loaded", "data": {}, "timestamp": now()},
        "acceptedAt": now(), "attempt": 1,
    }))
    .expect("a message");
    let until = now().plus(Duration::from_secs(10));
    let claim = store.claim(&due, "holder".into(), now(), until).await.expect("the table").expect("claimed");
    let outcome =
        Outcome { status_code: Some(204), error: None, retry_after: None, excerpt: None, took: Duration::ZERO };
    let attempt = Attempt::record(1, now(), &outcome);
    store.record(&claim, &attempt, Verdict::Delivered, None).await.expect("the table").expect("recorded");
    let operator = Listed {
        id: OperatorId::mint(now(), &[5; 10]),
        name: "Ann".to_owned(),
        role: Role::Admin,
        created_at: now(),
        token_hash: "00".repeat(32),
    };
    store.create_operator(&operator, None).await.expect("stored");
    let tried = Try {
        operator: "Ann".to_owned(),
        action: "test",
        target: "CRM".to_owned(),
        ip: IP,
        reason: None,
        detail: None,
    };
    store.append_audit(Log::App(app.id), &tried.granted(now(), &[6; 10])).await.expect("stored");
    let limiter = Limiter::open(store.clone(), Scope::Session, Limits { ip: 100, app: 100 });
    limiter.admit_app(app.id, now()).await.expect("admitted");
}

/// The names and types of attributes that all these rows of one kind have.
fn common(rows: &[&Row]) -> BTreeMap<String, &'static str> {
    let of = |row: &Row| row.iter().map(|(name, value)| (name.clone(), type_of(value))).collect::<BTreeMap<_, _>>();
    let mut all = rows.iter().map(|row| of(row));
    let first = all.next().unwrap_or_default();
    all.fold(first, |common, next| common.into_iter().filter(|(name, kind)| next.get(name) == Some(kind)).collect())
}

fn type_of(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::S(_) => "S",
        AttributeValue::N(_) => "N",
        AttributeValue::Bool(_) => "BOOL",
        AttributeValue::L(_) => "L",
        AttributeValue::M(_) => "M",
        _ => "another",
    }
}

#[tokio::test]
async fn a_server_whose_row_nobody_can_read_hides_no_other() {
    let table = Table::of(&[]).await;
    for owner in ["a", "c"] {
        table.store.lease_server(&Server::new(owner, 1, now())).await.expect("stored");
    }
    let mut broken = table.rows().await.remove(0);
    broken.insert("sk".into(), AttributeValue::S("b".into()));
    broken.insert("room".into(), AttributeValue::S("much".into()));
    table.client.put_item().table_name("table").set_item(Some(broken)).send().await.expect("stored");
    let page = table.store.servers(10, None).await.expect("read");
    assert_eq!(page.items, ["a", "c"].map(|owner| Server::new(owner, 1, now())));
    let first = table.store.servers(2, None).await.expect("read");
    assert_eq!((first.items.len(), first.has_more), (1, true));
}

#[tokio::test]
async fn the_version_before_finds_all_fields_that_it_knows() {
    let now_written = Table::of(&[]).await;
    write(&now_written).await;
    let now_written = now_written.rows().await;
    let before = rows(FORMATS[FORMATS.len() - 1]);
    let mut compared = BTreeSet::new();
    for row in &now_written {
        let kind = kind(row);
        let then: Vec<_> = before.iter().filter(|row| self::kind(row) == kind).collect();
        let has: BTreeMap<_, _> = row.iter().map(|(name, value)| (name.clone(), type_of(value))).collect();
        for (name, known) in common(&then) {
            assert_eq!(has.get(&name), Some(&known), "{kind:?} lacks {name}: {row:?}");
        }
        if !then.is_empty() {
            compared.insert(kind);
        }
    }
    let compared: Vec<_> = compared.iter().map(|(pk, sk)| format!("{pk} {sk}")).collect();
    let expected = [
        "APP APP",
        "APP BREAKER",
        "APP INTEGRATION",
        "APP PROFILE",
        "APP PROVIDER",
        "APP ROUTE",
        "APPS app",
        "AUDIT aud",
        "DELIVERY dlv",
        "LIMIT LIMIT",
        "OPERATOR OPERATOR",
        "OPERATORS OPERATORS",
        "OPERATORS op",
    ];
    assert_eq!(compared.join(", "), expected.join(", "));
}
