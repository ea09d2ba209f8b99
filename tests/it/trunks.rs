//! Providers of every kind through the running house: what a visitor is told, what integrations are told, what is kept.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    calls::Call,
    far::{Far, PATIENCE, header, response, speech},
    support::{
        house::{MadeApp, Running, eventually, options, pause},
        receiver::Receiver,
    },
};

/// A house with an app, a profile that all calls go to, and a receiver of the ends of calls.
struct Ground {
    house: Running,
    app: MadeApp,
    profile: String,
    receiver: Receiver,
    heard: usize,
}

impl Ground {
    async fn new() -> Self {
        let house = Running::with(options(&[("C2C_LIMIT_CALLS_IP", "1000")])).await;
        let (app, receiver) = (house.app().await, Receiver::start().await);
        house.integrate(&app, &receiver, &["call_ended", "call_error"], json!({})).await;
        let profile = json!({"name": "Sales", "destination": "sip:sales@127.0.0.1", "default": true});
        let made = house.manage(Method::POST, &format!("/apps/{}/profiles", app.id), Some(profile)).await.expect(201);
        Self { profile: made.text("id"), house, app, receiver, heard: 0 }
    }

    fn provider_path(&self) -> String {
        format!("/apps/{}/provider", self.app.id)
    }

    /// Connects the app to a provider.
    async fn provider(&self, uri: &str, more: Value) {
        let mut draft = json!({"kind": "sip", "uri": uri, "transport": "udp", "active": true});
        draft.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.house.manage(Method::PUT, &self.provider_path(), Some(draft)).await.expect(200);
    }

    /// A provider of this test's own, connected.
    async fn far(&self, more: Value) -> Far {
        let far = Far::new().await;
        self.provider(&far.uri(), more).await;
        far
    }

    /// Sends calls to this destination from now on.
    async fn destination(&self, destination: &str) {
        let (path, change) =
            (format!("/apps/{}/profiles/{}", self.app.id, self.profile), json!({"destination": destination}));
        self.house.manage(Method::PATCH, &path, Some(change)).await.expect(200);
    }

    async fn call(&self) -> Call {
        Call::telling(&self.house, &self.app, json!({})).await
    }

    /// The end of a call as everybody is told it: `(field, word)`; and what is kept of it.
    async fn ended(&mut self, call: &Call, field: &str, word: &str) -> Value {
        let told = call.visitor.told("ended").await;
        assert_eq!(told, json!({"type": "ended", field: word}));
        self.heard += 1;
        let (receiver, heard) = (&self.receiver, self.heard);
        eventually(PATIENCE, || receiver.received().len() >= heard).await;
        let event = self.receiver.received()[heard - 1].body.clone();
        let name = if field == "reason" { "call_ended" } else { "call_error" };
        assert_eq!(event["id"], format!("evt_{}", call.body()));
        assert_eq!((&event["name"], &event["data"][field]), (&json!(name), &json!(word)), "{event}");
        let row = call.over(&self.house, &self.app).await;
        assert_eq!(row[field], word, "{row}");
        row
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_its_word() {
    let mut ground = Ground::new().await;
    ground.provider(&ground.house.local().sip_trunk, json!({})).await;
    for (status, word) in [
        (486, "busy"),
        (600, "busy"),
        (403, "rejected"),
        (603, "rejected"),
        (607, "rejected"),
        (408, "no_answer"),
        (480, "no_answer"),
        (487, "no_answer"),
        (302, "destination_unavailable"),
        (401, "destination_unavailable"),
        (404, "destination_unavailable"),
        (484, "destination_unavailable"),
        (488, "destination_unavailable"),
        (500, "destination_unavailable"),
        (503, "destination_unavailable"),
    ] {
        ground.destination(&format!("sip:{status}@127.0.0.1")).await;
        let call = ground.call().await;
        let row = ground.ended(&call, "errorCode", word).await;
        assert_eq!(row["sipStatus"], status, "{row}");
        assert!(row.get("answeredAt").is_none(), "{row}");
    }
    ground.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers() {
    let mut ground = Ground::new().await;
    ground.provider(&ground.house.local().sip_trunk, json!({})).await;
    ground.destination("sip:nobody@127.0.0.1").await;
    let began = Instant::now();
    let call = ground.call().await;
    call.visitor.told("ringing").await;
    // A minute is how long it may ring.
    while call.visitor.messages().last().is_some_and(|last| last == "ringing") {
        assert!(began.elapsed() < Duration::from_secs(90), "given up");
        pause().await;
    }
    assert!(began.elapsed() > Duration::from_secs(55), "{:?}", began.elapsed());
    ground.ended(&call, "errorCode", "no_answer").await;
    ground.house.stop().await;
}

/// What a text's MD5 is (RFC 2617 digests are made of it), by the system's own tool.
fn md5(text: &str) -> String {
    let tool = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut tool = tool.expect("coreutils");
    tool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let out = tool.wait_with_output().expect("done").stdout;
    String::from_utf8_lossy(&out[..32]).into_owned()
}

/// Whether a request proves that its sender knows the password.
fn is_proven(request: &str, username: &str, password: &str) -> bool {
    let given = header(request, "Proxy-Authorization");
    let part = |name: &str| {
        let value = given.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("{name} in {given}")).1;
        value.split('"').next().unwrap_or_default()
    };
    let secret = md5(&format!("{username}:far:{password}"));
    let asked = md5(&format!("INVITE:{}", part("uri")));
    part("username") == username && part("response") == md5(&format!("{secret}:n1:{asked}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_open_the_way_or_do_not() {
    let mut ground = Ground::new().await;
    let far = ground.far(json!({"username": "joe", "password": "right horse"})).await;
    let challenge = "Proxy-Authenticate: Digest realm=\"far\", nonce=\"n1\"\r\n";
    let challenged = |invite: &str| response(invite, "407 Proxy Authentication Required", "x", challenge, "");
    for right in [true, false] {
        if !right {
            ground.provider(&far.uri(), json!({"username": "joe", "password": "wrong horse"})).await;
        }
        let call = ground.call().await;
        let (asked, from) = far.take("INVITE").await;
        assert!(!asked.contains("Proxy-Authorization"), "{asked}");
        far.send(challenged(&asked), from).await;
        let (asked, from) = far.take("INVITE").await;
        assert_eq!(is_proven(&asked, "joe", "right horse"), right, "{asked}");
        assert!(!asked.contains("horse"), "{asked}");
        if right {
            far.send(far.accept(&asked, "a"), from).await;
            call.visitor.told("answered").await;
            far.hang_up(&asked, 1, from).await;
            ground.ended(&call, "reason", "remote_hangup").await;
        } else {
            far.send(challenged(&asked), from).await;
            let row = ground.ended(&call, "errorCode", "destination_unavailable").await;
            assert_eq!(row["sipStatus"], 407, "{row}");
        }
    }
    ground.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contact_centre_is_told_whose_call_it_is() {
    let mut ground = Ground::new().await;
    let far = ground.far(json!({"contextHeaders": ["orderId", "plan"], "callerId": "shop"})).await;
    let context = json!({"orderId": "A\r\nX-Evil: 1\r\n\r\n \"é\" <>;", "plan": "x".repeat(300), "email": "visitor"});
    let session = json!({"context": context});
    let call = Call::telling(&ground.house, &ground.app, session).await;
    let (asked, from) = far.take("INVITE").await;
    assert_eq!(header(&asked, "X-C2C-Call-Id"), format!("call_{}", call.body()));
    let order = header(&asked, "X-C2C-Context-OrderId");
    assert!(order.starts_with('A') && order.ends_with("%20%22%C3%A9%22%20%3C%3E%3B"), "{order}");
    assert_eq!(header(&asked, "X-C2C-Context-Plan"), "x".repeat(256));
    assert!(!asked.contains("\nX-Evil") && !asked.contains("visitor"), "{asked}");
    assert!(header(&asked, "From").starts_with("<sip:shop@127.0.0.1>"), "{asked}");
    // It is too busy to care; a stranger says the same and is not heard.
    let stranger = Far::at("127.0.0.2:0").await;
    stranger.send(far.within(&asked, "BYE", 1, "a").replace("c2c", "nobody"), from).await;
    far.send(response(&asked, "486 Busy Here", "a", "", ""), from).await;
    ground.ended(&call, "errorCode", "busy").await;
    ground.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn early_audio_comes_before_the_answer() {
    let mut ground = Ground::new().await;
    let far = ground.far(json!({})).await;
    let call = ground.call().await;
    let (asked, from) = far.take("INVITE").await;
    let reliable = format!("{}Require: 100rel\r\nRSeq: 7\r\nContent-Type: application/sdp\r\n", far.contact());
    let early = speech("m=audio 9 RTP/AVP 0\r\n");
    far.send(response(&asked, "183 Session Progress", "a", &reliable, &early), from).await;
    let (acknowledged, _) = far.take("PRACK").await;
    assert_eq!(header(&acknowledged, "RAck"), "7 1 INVITE");
    far.send(response(&acknowledged, "200 OK", "", "", ""), from).await;
    call.visitor.told("early").await;
    far.send(response(&asked, "200 OK", "a", &far.contact(), ""), from).await;
    far.take("ACK").await;
    call.visitor.told("answered").await;
    far.hang_up(&asked, 1, from).await;
    ground.ended(&call, "reason", "remote_hangup").await;
    assert_eq!(call.visitor.messages(), ["early", "answered", "ended"]);
    ground.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contact_centre_holds_and_resumes() {
    let mut ground = Ground::new().await;
    let far = ground.far(json!({})).await;
    let call = ground.call().await;
    let (asked, from) = far.take("INVITE").await;
    far.send(far.accept(&asked, "a"), from).await;
    call.visitor.told("answered").await;
    let mut held = Vec::new();
    for (number, (theirs, ours, told)) in (1..).zip([
        ("sendonly", "recvonly", Some(true)),
        ("inactive", "inactive", None),
        ("sendrecv", "sendrecv", Some(false)),
        ("inactive", "inactive", Some(true)),
        ("recvonly", "sendonly", Some(false)),
    ]) {
        let offer = speech(&format!("m=audio 9 RTP/AVP 0\r\na={theirs}\r\n"));
        far.send(far.describing(&asked, "INVITE", number, "a", &offer), from).await;
        let (answer, _) = far.take("SIP/2.0 200").await;
        assert!(answer.contains(&format!("a={ours}\r\n")), "{theirs}: {answer}");
        far.send(far.within(&asked, "ACK", number, "a"), from).await;
        held.extend(told);
        let expected = held.len();
        let until = Instant::now() + PATIENCE;
        while call.visitor.messages().iter().filter(|kind| *kind == "held").count() < expected {
            assert!(Instant::now() < until, "{theirs}: {:?}", call.visitor.messages());
            pause().await;
        }
    }
    far.hang_up(&asked, 100, from).await;
    ground.ended(&call, "reason", "remote_hangup").await;
    assert_eq!(call.visitor.every("held").iter().map(|held| held["on"] == true).collect::<Vec<_>>(), held);
    ground.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_refreshed_and_calls_cancelled() {
    let mut ground = Ground::new().await;
    let far = ground.far(json!({})).await;
    let call = ground.call().await;
    let (asked, from) = far.take("INVITE").await;
    let timed = "Session-Expires: 3;refresher=uac\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n";
    far.send(far.accept(&asked, "a").replace("Contact:", &format!("{timed}Contact:")), from).await;
    for _ in 0..2 {
        let (refresh, _) = far.take("UPDATE").await;
        far.send(response(&refresh, "200 OK", "", "Session-Expires: 3;refresher=uac\r\n", ""), from).await;
    }
    far.hang_up(&asked, 1, from).await;
    ground.ended(&call, "reason", "remote_hangup").await;

    let call = ground.call().await;
    let (asked, from) = far.take("INVITE").await;
    far.send(response(&asked, "180 Ringing", "a", &far.contact(), ""), from).await;
    call.visitor.told("ringing").await;
    assert_eq!(call.ask(&ground.house, Method::DELETE, None).await.status(), 204);
    let (cancel, _) = far.take("CANCEL").await;
    far.send(response(&cancel, "200 OK", "", "", ""), from).await;
    far.send(response(&asked, "487 Request Terminated", "a", "", ""), from).await;
    far.take("ACK").await;
    let row = ground.ended(&call, "reason", "user_hangup").await;
    assert!(row.get("answeredAt").is_none(), "{row}");
    ground.house.stop().await;
}

/// The next request on a connection, body and all; questions whether we are there are passed over.
async fn request(connection: &mut TcpStream, bytes: &mut Vec<u8>) -> String {
    let read = timeout(PATIENCE, async {
        loop {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = header(head, "Content-Length").parse().expect("a length");
                if body.len() >= length {
                    let message = text[..head.len() + 4 + length].to_owned();
                    bytes.drain(..message.len());
                    if !message.starts_with("OPTIONS") {
                        return message;
                    }
                    continue;
                }
            }
            assert_ne!(connection.read_buf(bytes).await.expect("bytes"), 0, "a whole message: {text}");
        }
    });
    read.await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_over_tcp() {
    let mut ground = Ground::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let uri = format!("sip:{}", listener.local_addr().expect("bound"));
    ground.provider(&uri, json!({"transport": "tcp"})).await;
    let far = Far::new().await;
    let (mut connection, mut bytes) = (None, Vec::new());
    for hangs_up in ["visitor", "far side"] {
        let call = ground.call().await;
        // The second call comes over the first one's.
        let connection = match &mut connection {
            Some(connection) => connection,
            none => none.insert(timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection").0),
        };
        let asked = request(connection, &mut bytes).await;
        assert!(asked.starts_with("INVITE") && header(&asked, "Via").starts_with("SIP/2.0/TCP"), "{asked}");
        connection.write_all(far.accept(&asked, "a").as_bytes()).await.expect("sent");
        call.visitor.told("answered").await;
        assert!(request(connection, &mut bytes).await.starts_with("ACK"));
        if hangs_up == "visitor" {
            assert_eq!(call.ask(&ground.house, Method::DELETE, None).await.status(), 204);
            let bye = request(connection, &mut bytes).await;
            assert!(bye.starts_with("BYE"), "{bye}");
            connection.write_all(response(&bye, "200 OK", "", "", "").as_bytes()).await.expect("sent");
            ground.ended(&call, "reason", "user_hangup").await;
        } else {
            let bye = far.within(&asked, "BYE", 1, "a").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
            connection.write_all(bye.as_bytes()).await.expect("sent");
            ground.ended(&call, "reason", "remote_hangup").await;
        }
    }
    ground.house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_whether_their_provider_is_there() {
    let ground = Ground::new().await;
    let health = async |like: fn(&Value) -> bool| {
        let until = Instant::now() + 2 * PATIENCE;
        loop {
            let shown = ground.house.manage(Method::GET, &ground.provider_path(), None).await.expect(200);
            let health = shown.body["data"]["health"].clone();
            if like(&health) {
                return health;
            }
            assert!(Instant::now() < until, "{health}");
            pause().await;
        }
    };
    ground.provider(&ground.house.local().sip_trunk, json!({})).await;
    let up = health(|health| health["reachable"] == true).await;
    assert_eq!(up["sipStatus"], 200);
    assert!(up["rttMs"].is_u64() && up["checkedAt"].is_string() && up.get("reason").is_none(), "{up}");

    let gone = Far::new().await.uri();
    ground.provider(&gone, json!({"username": "joe", "password": "right horse"})).await;
    let down = health(|health| health["reachable"] == false).await;
    assert_eq!(down["reason"], "no_answer");
    assert!(down.get("sipStatus").is_none() && !down.to_string().contains("horse"), "{down}");

    // Nobody asks one that is switched off, and nothing old is said of it.
    ground.provider(&gone, json!({"active": false})).await;
    assert_eq!(health(|_| true).await, Value::Null);
    ground.house.stop().await;
}
