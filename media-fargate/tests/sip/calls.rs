//! Outcomes of a call: answered, refused, given up.

use domain::app::{Codec, Transport};
use media::sip::{Credential, Event, Trunk};

use crate::{
    expect,
    sipp::{SPEECH, Sipp, Step::*},
    support::{agent, echoed, invite, over, trunk},
};

const OK: &str = "200 OK";

#[tokio::test]
async fn an_answer_and_audio_both_ways() {
    let ladder = [
        Invite(&[]),
        Answer("180 Ringing", "a", "", None),
        Answer(OK, "a", "", SPEECH),
        Take("ACK"),
        Take("BYE"),
        Reply(OK, "", None),
    ];
    for transport in [Transport::Udp, Transport::Tcp] {
        let far = if transport == Transport::Udp { Sipp::play(&ladder) } else { Sipp::play_tcp(&ladder).await };
        let agent = agent().await;
        let mut leg = invite(&agent, Trunk { transport, ..trunk(&far.uri()) }).await;
        expect!(&mut leg, Event::Ringing, Event::Answered(media) if media.codec() == Codec::Pcmu);
        assert!(echoed(&mut leg).await, "{transport:?}: what was sent comes back");
        leg.hang_up();
        expect!(&mut leg, Event::Ended);
        over(&mut leg).await;
        far.played().await;
        assert_eq!(agent.calls(), 0, "nothing is left of the call");
    }
}

#[tokio::test]
async fn what_the_far_side_is_told() {
    let far = Sipp::play(&[
        Invite(&[
            ("X-C2C-Call-Id", "call_1"),
            ("X-C2C-Context-OrderId", "A%201"),
            ("From", "sip:shop@127.0.0.1"),
            ("To", "sip:.493012345678@127.0.0.1"),
            ("Call-ID", "@click-to-call"),
            ("User-Agent", "ClickToCall/1"),
            ("Supported", "100rel, timer"),
            ("Session-Expires", "1800"),
            ("Content-Type", "application/sdp"),
        ]),
        Answer("100 Trying", "a", "", None),
        Answer("486 Busy Here", "a", "", None),
        Take("ACK"),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Rejected { status: 486 });
    far.played().await;
}

#[tokio::test]
async fn challenges_are_answered_once() {
    const ANSWERED: [&[(&str, &str)]; 2] = [&[("Authorization", "Digest")], &[("Proxy-Authorization", "Digest")]];
    for (status, answered, challenge) in [
        (
            "401 Unauthorized",
            ANSWERED[0],
            "WWW-Authenticate: Digest realm=\"far\", nonce=\"n1\", qop=\"auth\", algorithm=MD5\n",
        ),
        ("407 Proxy Authentication Required", ANSWERED[1], "Proxy-Authenticate: Digest realm=\"far\", nonce=\"n1\"\n"),
    ] {
        let credential = |password: &str| Credential { username: "joe".into(), password: password.to_owned().into() };
        let far = Sipp::play(&[
            Invite(&[]),
            Answer(status, "x", challenge, None),
            Take("ACK"),
            // sipp proves only what stands in Authorization.
            if answered == ANSWERED[0] { Credentials } else { Invite(answered) },
            Answer(OK, "a", "", SPEECH),
            Take("ACK"),
            Take("BYE"),
            Reply(OK, "", None),
        ]);
        let agent = agent().await;
        let mut leg = invite(&agent, Trunk { credential: Some(credential("secret")), ..trunk(&far.uri()) }).await;
        expect!(&mut leg, Event::Answered(_));
        leg.hang_up();
        expect!(&mut leg, Event::Ended);
        far.played().await;

        let far = Sipp::play(&[
            Invite(&[]),
            Answer(status, "x", challenge, None),
            Take("ACK"),
            Invite(answered),
            Answer(status, "y", challenge, None),
            Take("ACK"),
            Pause(700),
        ]);
        let mut leg = invite(&agent, Trunk { credential: Some(credential("wrong")), ..trunk(&far.uri()) }).await;
        expect!(&mut leg, Event::Rejected { status: 401 | 407 });
        far.played().await;

        let far = Sipp::play(&[Invite(&[]), Answer(status, "x", challenge, None), Take("ACK"), Pause(700)]);
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        expect!(&mut leg, Event::Rejected { status: 401 | 407 });
        far.played().await;
    }
}

#[tokio::test]
async fn early_audio_is_acknowledged() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer("183 Session Progress", "a", "Require: 100rel\nRSeq: 7\n", SPEECH),
        TakeHeader("PRACK", "RAck", "7 1 INVITE"),
        Reply(OK, "", None),
        Pause(1_000),
        // Without a description: the one before was the answer.
        Answer(OK, "a", "", None),
        Take("ACK"),
        Take("BYE"),
        Reply(OK, "", None),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Early(media) if media.send.events == Some(101));
    assert!(echoed(&mut leg).await, "audio before the answer");
    expect!(&mut leg, Event::Answered(media) if media.codec() == Codec::Pcmu);
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
    far.played().await;
}

#[tokio::test]
async fn refusals_come_through() {
    let agent = agent().await;
    for (line, code) in [
        ("486 Busy Here", 486),
        ("603 Decline", 603),
        ("404 Not Found", 404),
        ("480 Temporarily Unavailable", 480),
        ("302 Moved Temporarily", 302),
    ] {
        let moved = "Contact: <sip:elsewhere@127.0.0.1:9>\n";
        let headers = if code == 302 { moved } else { "" };
        let far = Sipp::play(&[
            Invite(&[]),
            Answer("180 Ringing", "a", "", None),
            Answer(line, "a", headers, None),
            Take("ACK"),
        ]);
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        expect!(&mut leg, Event::Ringing, Event::Rejected { status } if status == code);
        over(&mut leg).await;
        far.played().await;
    }
    assert_eq!(agent.calls(), 0);
}

#[tokio::test]
async fn a_ringing_call_is_cancelled() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer("180 Ringing", "a", "", None),
        Take("CANCEL"),
        Reply(OK, "", None),
        Answer("487 Request Terminated", "a", "", None),
        Take("ACK"),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Ringing);
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
    far.played().await;
    assert_eq!(agent.calls(), 0);
}

/// Whoever waits for a provisional answer before they take a call back learns of each kind.
#[tokio::test]
async fn whatever_comes_before_the_answer_says_that_the_call_arrived() {
    let agent = agent().await;
    for line in ["181 Call Is Being Forwarded", "182 Queued", "183 Session Progress", "199 Early Dialog Terminated"] {
        let far = Sipp::play(&[
            Invite(&[]),
            Answer(line, "a", "", None),
            Take("CANCEL"),
            Reply(OK, "", None),
            Answer("487 Request Terminated", "a", "", None),
            Take("ACK"),
        ]);
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        assert!(matches!(leg.recv().await, Some(Event::Trying)), "{line}");
        leg.hang_up();
        expect!(&mut leg, Event::Ended);
        far.played().await;
    }
}

#[tokio::test]
async fn an_answer_that_crosses_the_cancel_is_ended() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer("180 Ringing", "a", "", None),
        Take("CANCEL"),
        Reply(OK, "", None),
        Answer(OK, "a", "", SPEECH),
        Take("ACK"),
        Take("BYE"),
        Reply(OK, "", None),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Ringing);
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
    far.played().await;
}

#[tokio::test]
async fn a_leg_that_is_dropped_hangs_up() {
    let far = Sipp::play(&[Invite(&[]), Answer(OK, "a", "", SPEECH), Take("ACK"), Take("BYE"), Reply(OK, "", None)]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Answered(_));
    drop(leg);
    far.played().await;
}

#[tokio::test]
async fn the_far_side_hangs_up() {
    let ladder =
        [Invite(&[]), Answer(OK, "a", "", SPEECH), Take("ACK"), Pause(200), Send("BYE", 1, "", None), Expect("200")];
    for transport in [Transport::Udp, Transport::Tcp] {
        let far = if transport == Transport::Udp { Sipp::play(&ladder) } else { Sipp::play_tcp(&ladder).await };
        let agent = agent().await;
        let mut leg = invite(&agent, Trunk { transport, ..trunk(&far.uri()) }).await;
        expect!(&mut leg, Event::Answered(_), Event::Bye);
        over(&mut leg).await;
        far.played().await;
        assert_eq!(agent.calls(), 0, "{transport:?}");
    }
}

#[tokio::test]
async fn of_two_branches_the_first_answer_wins() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer("180 Ringing", "b", "", None),
        Answer("183 Session Progress", "a", "", SPEECH),
        Answer(OK, "a", "", SPEECH),
        Take("ACK"),
        Pause(200),
        Answer(OK, "b", "", SPEECH),
        Take("ACK"),
        TakeHeader("BYE", "To", "tag=b"),
        Reply(OK, "", None),
        Send("BYE", 1, "", None),
        Expect("200"),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Ringing, Event::Early(_), Event::Answered(_));
    // The far side ends the call only after it has seen the late branch end.
    expect!(&mut leg, Event::Bye);
    far.played().await;
}

#[tokio::test]
async fn many_calls_leave_nothing_behind() {
    const CALLS: u32 = 60;
    let far = Sipp::play_many(
        CALLS,
        &[
            Invite(&[]),
            Answer("180 Ringing", "a", "", None),
            Answer(OK, "a", "", SPEECH),
            Take("ACK"),
            Take("BYE"),
            Reply(OK, "", None),
        ],
    );
    let agent = agent().await;
    let mut legs = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let (agent, trunk) = (agent.clone(), trunk(&far.uri()));
        legs.spawn(async move {
            let mut leg = invite(&agent, trunk).await;
            expect!(&mut leg, Event::Ringing, Event::Answered(_));
            leg.hang_up();
            expect!(&mut leg, Event::Ended);
            over(&mut leg).await;
        });
    }
    while let Some(ended) = legs.join_next().await {
        ended.expect("a call from its beginning to its end");
    }
    far.played().await;
    assert_eq!(agent.calls(), 0);
    assert!(agent.works());
}
