//! Whether a provider is there.

use media::sip::{Credential, Trunk, ping::Why};

use crate::{
    sipp::{Sipp, Step::*, free_port},
    support::{agent, trunk},
};

#[tokio::test]
async fn a_provider_that_answers_is_up() {
    let agent = agent().await;
    for (line, status, up) in [("200 OK", 200, true), ("404 Not Found", 404, true), ("503 Out", 503, false)] {
        let far = Sipp::play(&[Begin("OPTIONS", &[("From", "sip:shop@127.0.0.1")]), Answer(line, "a", "", None)]);
        let outcome = agent.ping(&trunk(&far.uri())).await;
        assert_eq!(outcome.is_ok(), up, "{line}");
        assert!(
            matches!(outcome, Ok(answer) | Err(Why::Serving(answer)) if answer.status == status && !answer.round_trip.is_zero()),
            "{outcome:?}"
        );
        far.played().await;
    }
    let gone = trunk(&format!("sip:127.0.0.1:{}", free_port()));
    assert_eq!(agent.ping(&gone).await, Err(Why::Unreachable));
}

#[tokio::test]
async fn a_challenge_is_answered() {
    let far = Sipp::play(&[
        Begin("OPTIONS", &[]),
        Answer("401 Unauthorized", "a", "WWW-Authenticate: Digest realm=\"far\", nonce=\"n\"\n", None),
        Begin("OPTIONS", &[("Authorization", "joe")]),
        Answer("200 OK", "a", "", None),
    ]);
    let credential = Some(Credential { username: "joe".into(), password: "secret".to_owned().into() });
    let answer = agent().await.ping(&Trunk { credential, ..trunk(&far.uri()) }).await;
    assert!(matches!(answer, Ok(answer) if answer.status == 200), "{answer:?}");
    far.played().await;
}
