//! What waits in the queue when its call is erased is not sent, and leaves nothing behind.

use std::{collections::BTreeSet, time::Duration};

use domain::{
    app::App,
    audit::{Entry, Try},
    call::Call,
    context::Context,
    delivery::{Attempt, Due, Outcome, Refused, Status, Verdict},
    event::Event,
    id::{CallId, DestinationId, EventId, SessionId},
    integration::{Draft, Integration, Surroundings},
    reach::Reach,
    session::Session,
    time::Timestamp,
};
use embedded::{Config, Embedded};
use serde_json::json;
use store::{
    Aws, Endpoints, Store,
    calls::Stored,
    delivery_log::Filter,
    integrations::Change,
    provision::{self, TableSpec},
};

/// A text of the visitor's that nothing may hold afterwards.
const ORDER: &str = "canary-of-a-visitor";

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

fn entry(now: Timestamp) -> Entry {
    let (operator, target, ip) = ("ada".to_owned(), String::new(), [127, 0, 0, 1].into());
    Try { operator, action: "call.erase", target, ip, reason: None, detail: None }.granted(now, &[5; 10])
}

struct Ground {
    _embedded: Embedded,
    store: Store,
    app: App,
    integrations: Vec<Integration>,
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
        let store = Store::open(&aws, "table");
        let app = App::create("Shop", at(0), &[1; 10], &[1; 20]).expect("an app");
        store.create_app(&app, None).await.expect("stored");
        let (reach, secrets) = (Reach::default(), BTreeSet::new());
        let around = Surroundings { reach: &reach, own_hosts: &[], secrets: &secrets };
        let mut integrations = Vec::new();
        for number in 1..=2 {
            let draft: Draft = serde_json::from_value(json!({
                "name": "CRM", "url": "https://crm.example.com/", "events": ["call_started", "call_ended"],
            }))
            .expect("a draft");
            let made = Integration::create(draft, around, at(0), &[number; 10]).expect("an integration");
            store.create_integration(app.id, &made, None).await.expect("stored");
            integrations.push(made);
        }
        Self { _embedded: embedded, store, app, integrations }
    }

    /// A call that is over, and its session.
    async fn call(&self, number: u8) -> (Session, Call) {
        let session = Session {
            id: SessionId::mint(at(1), &[number; 10]),
            app: self.app.id,
            profile: None,
            routing_key: None,
            context: Context::sanitise([("order", ORDER)]).0,
            preview: false,
            draft: false,
        };
        let id = CallId::mint(at(2), &[number; 10]);
        let call = Call::start(id, &session, DestinationId::mint(at(0), &[9; 10]), at(2));
        let mut stored = Stored { call, owner: "server".into() };
        self.store.begin_call(&session, &stored, 10, at(2)).await.expect("asked").expect("begun");
        stored.call.ended_at = Some(at(3));
        self.store.keep_call(self.app.id, &stored).await.expect("kept");
        (session, stored.call)
    }

    /// The messages of the event that a call began, as they wait in the queue.
    fn waiting(&self, session: &Session, call: &Call) -> Vec<Due> {
        let event = Event::parse(&json!({
            "id": EventId::of_start(call.id), "name": "call_started", "timestamp": at(2),
            "data": {"destinationId": null, "routingKey": null, "hasFormValues": false},
        }));
        let envelope = event.expect("an event").envelope(&session.context);
        assert!(serde_json::to_string(&envelope).expect("JSON").contains(ORDER));
        Due::fan_out(self.app.id, session.id, &envelope, &self.integrations, at(2))
    }

    async fn claim(&self, due: &Due, holder: &str) -> Result<store::deliveries::Claim, Refused> {
        self.store.claim(due, holder.to_owned(), at(5), at(60)).await.expect("asked")
    }

    /// Nothing is to be found of these deliveries.
    async fn holds_nothing_of(&self, waiting: &[Due]) {
        for due in waiting {
            assert_eq!(self.store.delivery(self.app.id, due.delivery).await.expect("read"), None);
            assert!(self.store.whole_delivery(self.app.id, due.delivery).await.expect("read").is_none());
        }
        let log = self.store.deliveries(self.app.id, &Filter::default(), 100, None, at(10)).await.expect("read");
        assert!(!log.page.items.iter().any(|whole| waiting.iter().any(|due| due.delivery == whole.delivery.id)));
    }
}

#[tokio::test]
async fn what_still_waits_for_its_first_attempt_is_not_sent() {
    let ground = Ground::new().await;
    let ((session, call), (other_session, other)) = (ground.call(1).await, ground.call(2).await);
    let (waiting, others) = (ground.waiting(&session, &call), ground.waiting(&other_session, &other));
    assert_eq!(waiting.len(), 2);
    assert!(ground.store.erase_call(ground.app.id, &call, &entry(at(4))).await.expect("asked"));
    for due in &waiting {
        assert_eq!(ground.claim(due, "first").await.expect_err("erased"), Refused::Drop);
        assert_eq!(ground.store.skip(due, at(5)).await.expect("asked"), Err(Refused::Drop));
    }
    ground.holds_nothing_of(&waiting).await;
    assert!(!ground.store.erase_call(ground.app.id, &call, &entry(at(6))).await.expect("asked"), "it is gone");
    // Another call's go on.
    for due in &others {
        ground.claim(due, "other").await.expect("claimed");
    }
}

#[tokio::test]
async fn what_is_being_tried_waits_for_a_retry_or_is_resent_ends_there() {
    let ground = Ground::new().await;
    let (session, call) = ground.call(1).await;
    let waiting = ground.waiting(&session, &call);
    // One is under way; the other failed once, waits for its retry, and an operator has it sent again.
    let under_way = ground.claim(&waiting[0], "one").await.expect("claimed");
    let failed = ground.claim(&waiting[1], "two").await.expect("claimed");
    let outcome = Outcome {
        status_code: Some(500),
        error: None,
        retry_after: None,
        excerpt: Some(ORDER.into()),
        took: Duration::ZERO,
    };
    let attempt = Attempt::record(1, at(5), &outcome);
    let verdict = Verdict::Retry(Duration::from_secs(5));
    ground.store.record(&failed, &attempt, verdict, Some(at(10))).await.expect("asked").expect("recorded");
    let whole = ground.store.whole_delivery(ground.app.id, waiting[1].delivery).await.expect("read").expect("a row");
    let again = whole.again(ground.app.id).expect("a message");

    assert!(ground.store.erase_call(ground.app.id, &call, &entry(at(6))).await.expect("asked"));
    let recorded = ground.store.record(&under_way, &attempt, verdict, Some(at(10))).await.expect("asked");
    assert_eq!(recorded.expect_err("erased"), Refused::Drop, "no retry follows");
    for due in [&waiting[0], &waiting[0].next(), &waiting[1].next(), &again] {
        assert_eq!(ground.claim(due, "late").await.expect_err("erased"), Refused::Drop, "{due:?}");
    }
    assert!(!ground.store.reopen(&again, at(7)).await.expect("asked"));
    ground.holds_nothing_of(&waiting).await;
}

#[tokio::test]
async fn what_still_waits_for_an_integration_that_is_gone_is_kept_without_its_data() {
    let ground = Ground::new().await;
    let (session, call) = ground.call(1).await;
    let waiting = ground.waiting(&session, &call);
    let gone = ground.integrations[0].id;
    let stored = ground.store.integration(ground.app.id, gone).await.expect("read").expect("one");
    let change = ground.store.delete_integration(ground.app.id, &stored, &entry(at(3))).await.expect("asked");
    assert_eq!(change, Change::Done);
    assert!(ground.store.erase_call(ground.app.id, &call, &entry(at(4))).await.expect("asked"));
    let due = waiting.iter().find(|due| due.integration == gone).expect("one");
    ground.store.skip_gone(due, at(5)).await.expect("asked").expect("skipped");
    let kept = ground.store.whole_delivery(ground.app.id, due.delivery).await.expect("read").expect("a row");
    assert_eq!(kept.delivery.status, Status::Skipped);
    assert!(kept.envelope().expect("an envelope").data.is_empty());
}
