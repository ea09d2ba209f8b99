//! Whether a provider is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use domain::time::Timestamp;
use media::sip::{
    Credential, Trunk,
    ping::{Health, Why, watch},
};

use crate::{
    sipp::{Sipp, Step::*, free_port},
    support::{agent, trunk},
};

#[tokio::test]
async fn a_provider_that_answers_is_up() {
    let agent = agent().await;
    for (line, outcome) in [("200 OK", Ok(())), ("404 Not Found", Ok(())), ("503 Out", Err(Why::Status(503)))] {
        let far = Sipp::play(&[Begin("OPTIONS", &[("From", "sip:shop@127.0.0.1")]), Answer(line, "a", "", None)]);
        assert_eq!(agent.ping(&trunk(&far.uri())).await, outcome, "{line}");
        far.played().await;
    }
    let gone = trunk(&format!("sip:127.0.0.1:{}", free_port()));
    assert_eq!(agent.ping(&gone).await, Err(Why::Unreachable));
}

#[tokio::test]
async fn its_health_is_watched() {
    let far = Sipp::play(&[
        Begin("OPTIONS", &[]),
        Answer("401 Unauthorized", "a", "WWW-Authenticate: Digest realm=\"far\", nonce=\"n\"\n", None),
        Begin("OPTIONS", &[("Authorization", "joe")]),
        // It answers this one question, and then no more.
        Answer("200 OK", "a", "", None),
    ]);
    let credential = Some(Credential { username: "joe".into(), password: "secret".to_owned().into() });
    let now = Arc::new(AtomicI64::new(0));
    let clock = move || Timestamp::from_millis(now.fetch_add(1, Ordering::Relaxed));
    let asked = Trunk { credential, ..trunk(&far.uri()) };
    let mut health = watch(agent().await, asked, Duration::from_millis(300), clock);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        tokio::time::timeout(Duration::from_secs(10), health.changed()).await.expect("in time").expect("watched");
        seen.push(*health.borrow_and_update());
    }
    assert!(matches!(seen[0], Health::Up { .. }), "{seen:?}");
    assert!(matches!(seen[1], Health::Down { why: Why::Unreachable, .. }), "{seen:?}");
}
