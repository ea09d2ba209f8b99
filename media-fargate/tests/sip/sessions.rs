//! Running sessions: hold from either side, changes, refreshes.

use domain::app::Codec;
use media::sip::{Event, Failure, sdp::Direction};

use crate::{
    expect,
    far::{Far, response, speech},
    sipp::{SPEECH, Sipp, Step::*},
    support::{agent, echoed, invite, over, trunk},
};

const OK: &str = "200 OK";
const HELD: Option<&str> = Some("m=audio [media_port] RTP/AVP 0\na=sendonly\n");
const NOWHERE: Option<&str> = Some("c=IN IP4 0.0.0.0\nm=audio [media_port] RTP/AVP 0\n");
const LISTENING: Option<&str> = Some("m=audio [media_port] RTP/AVP 0\na=recvonly\n");

#[tokio::test]
async fn the_far_side_holds_and_resumes_and_changes() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer(OK, "a", "", SPEECH),
        Take("ACK"),
        Send("INVITE", 10, "", HELD),
        ExpectBody("200", "a=recvonly"),
        Send("ACK", 10, "", None),
        Send("UPDATE", 11, "", SPEECH),
        ExpectBody("200", "a=sendrecv"),
        Send("INVITE", 12, "", NOWHERE),
        ExpectBody("200", "a=recvonly"),
        Send("ACK", 12, "", None),
        Send("INVITE", 13, "", Some("m=audio [media_port] RTP/AVP 8\n")),
        ExpectBody("200", "RTP/AVP 8"),
        Send("ACK", 13, "", None),
        // A codec nobody agreed on, and a transfer.
        Send("UPDATE", 14, "", Some("m=audio [media_port] RTP/AVP 18\n")),
        Expect("488"),
        Send("REFER", 15, "Refer-To: <sip:elsewhere@127.0.0.1>\n", None),
        Expect("405"),
        Send("OPTIONS", 16, "", None),
        Expect("200"),
        // An old number.
        Send("UPDATE", 12, "", None),
        Expect("500"),
        // An offer asked for; the answer comes with the ACK.
        Send("INVITE", 17, "", None),
        ExpectBody("200", "a=rtpmap:8 PCMA"),
        Send("ACK", 17, "", SPEECH),
        Take("BYE"),
        Reply(OK, "", None),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(
        &mut leg,
        Event::Answered(_),
        Event::Changed(media) if media.direction == Direction::RecvOnly,
        Event::Held,
        Event::Changed(media) if media.direction == Direction::SendRecv,
        Event::Resumed,
        Event::Changed(media) if media.remote.is_none(),
        Event::Held,
        Event::Changed(media) if media.codec() == Codec::Pcma,
        Event::Resumed,
        Event::Changed(media) if media.codec() == Codec::Pcmu,
    );
    assert!(echoed(&mut leg).await, "audio flows after all of it");
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
    far.played().await;
}

#[tokio::test]
async fn we_hold_and_resume_and_give_way_when_both_ask() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer(OK, "a", "", SPEECH),
        Take("ACK"),
        TakeBody("INVITE", "a=sendonly"),
        Reply(OK, "", LISTENING),
        Take("ACK"),
        TakeBody("INVITE", "a=sendrecv"),
        Reply("491 Request Pending", "", None),
        Take("ACK"),
        TakeBody("INVITE", "a=sendrecv"),
        Reply(OK, "", SPEECH),
        Take("ACK"),
        TakeBody("INVITE", "a=sendonly"),
        Reply("488 Not Acceptable Here", "", None),
        Take("ACK"),
        Take("BYE"),
        Reply(OK, "", None),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Answered(_));
    leg.hold(true);
    expect!(
        &mut leg,
        Event::Changed(media) if media.direction == Direction::SendOnly,
        Event::HoldAnswered { held: true, accepted: true },
    );
    leg.hold(false);
    expect!(
        &mut leg,
        Event::Changed(media) if media.direction == Direction::SendRecv,
        Event::HoldAnswered { held: false, accepted: true },
    );
    leg.hold(true);
    expect!(&mut leg, Event::HoldAnswered { held: true, accepted: false });
    leg.hang_up();
    expect!(&mut leg, Event::Ended);
    far.played().await;
}

#[tokio::test]
async fn of_a_burst_of_wishes_to_hold_the_last_one_counts() {
    let (agent, far) = (agent().await, Far::new().await);
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    let (asked, from) = far.take("INVITE").await;
    let accept = |request: &str, direction: &str| {
        let rest = format!("{}Content-Type: application/sdp\r\n", far.contact());
        let tag = if request.contains(";tag=a\r\n") { "" } else { "a" };
        response(request, OK, tag, &rest, &speech(&format!("m=audio 9 RTP/AVP 0\r\na={direction}\r\n")))
    };
    // Before the answer: it waits for it.
    leg.hold(true);
    far.send(accept(&asked, "sendrecv"), from).await;
    expect!(&mut leg, Event::Answered(_));
    let toggle = |leg: &media::sip::Leg, first: bool| {
        for number in 0..9 {
            leg.hold(first == (number % 2 == 0));
        }
    };
    // While one wish is being asked for, others overtake it.
    let (first, _) = far.take("INVITE").await;
    assert!(first.contains("a=sendonly"), "{first}");
    toggle(&leg, false);
    far.send(accept(&first, "recvonly"), from).await;
    expect!(&mut leg, Event::Changed(media) if media.direction == Direction::SendOnly);
    let (second, _) = far.take("INVITE").await;
    assert!(second.contains("a=sendrecv"), "{second}");
    toggle(&leg, true);
    far.send(response(&second, "491 Request Pending", "", "", ""), from).await;
    // What is wanted at last is so already: nothing more is asked.
    expect!(&mut leg, Event::HoldAnswered { held: true, accepted: true });
    // While two requests that crossed have their time, too.
    leg.hold(false);
    let (third, _) = far.take("INVITE").await;
    assert!(third.contains("a=sendrecv"), "{third}");
    far.send(response(&third, "491 Request Pending", "", "", ""), from).await;
    far.take("ACK").await;
    toggle(&leg, false);
    let (fourth, _) = far.take("INVITE").await;
    assert!(fourth.contains("a=sendrecv"), "{fourth}");
    far.send(accept(&fourth, "sendrecv"), from).await;
    expect!(
        &mut leg,
        Event::Changed(media) if media.direction == Direction::SendRecv,
        Event::HoldAnswered { held: false, accepted: true },
    );
    far.hang_up(&asked, 1, from).await;
    expect!(&mut leg, Event::Bye);
}

#[tokio::test]
async fn a_request_that_crosses_ours_is_put_off() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer(OK, "a", "", SPEECH),
        Take("ACK"),
        Take("INVITE"),
        Send("UPDATE", 10, "", SPEECH),
        Expect("491"),
        Pause(100),
        Send("BYE", 11, "", None),
        Expect("200"),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Answered(_));
    leg.hold(true);
    expect!(&mut leg, Event::Bye);
    far.played().await;
}

#[tokio::test]
async fn sessions_are_refreshed() {
    // With UPDATE where it is understood, with a re-INVITE where it is not; a far side that wants more is followed.
    let agent = agent().await;
    let far = Sipp::play(&[
        Invite(&[]),
        Answer(OK, "a", "Allow: INVITE, ACK, BYE, UPDATE\nSession-Expires: 3;refresher=uac\n", SPEECH),
        Take("ACK"),
        TakeHeader("UPDATE", "Session-Expires", "3;refresher=uac"),
        Reply("422 Session Interval Too Small", "Min-SE: 4\n", None),
        TakeHeader("UPDATE", "Session-Expires", "4;refresher=uac"),
        Reply(OK, "Session-Expires: 4;refresher=uac\n", None),
        TakeHeader("UPDATE", "Session-Expires", "4;refresher=uac"),
        Reply(OK, "", None),
        Take("BYE"),
        Reply(OK, "", None),
    ]);
    let with_update = async {
        let mut leg = invite(&agent, trunk(&far.uri())).await;
        expect!(&mut leg, Event::Answered(_));
        tokio::time::sleep(std::time::Duration::from_millis(4_500)).await;
        leg.hang_up();
        expect!(&mut leg, Event::Ended);
    };
    let other = Sipp::play(&[
        Invite(&[]),
        Answer(OK, "a", "Session-Expires: 3;refresher=uac\n", SPEECH),
        Take("ACK"),
        TakeHeader("INVITE", "Session-Expires", "3;refresher=uac"),
        Reply(OK, "Session-Expires: 3;refresher=uac\n", SPEECH),
        Take("ACK"),
        Take("INVITE"),
        Reply("481 Gone", "", None),
        Take("ACK"),
        Take("BYE"),
        Reply("481 Gone", "", None),
    ]);
    let with_reinvite = async {
        let mut leg = invite(&agent, trunk(&other.uri())).await;
        expect!(&mut leg, Event::Answered(_), Event::Failed(Failure::Lost));
        over(&mut leg).await;
    };
    tokio::join!(with_update, with_reinvite);
    far.played().await;
    other.played().await;
}

#[tokio::test]
async fn a_session_nobody_refreshes_is_ended() {
    let far = Sipp::play(&[
        Invite(&[]),
        Answer(OK, "a", "Session-Expires: 3;refresher=uas\n", SPEECH),
        Take("ACK"),
        Send("UPDATE", 10, "Session-Expires: 3;refresher=uac\n", None),
        Expect("422"),
        Take("BYE"),
        Reply(OK, "", None),
    ]);
    let agent = agent().await;
    let mut leg = invite(&agent, trunk(&far.uri())).await;
    expect!(&mut leg, Event::Answered(_), Event::Failed(Failure::Lost));
    far.played().await;
}
