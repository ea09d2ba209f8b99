//! Calls through the running house: a visitor's browser on one side, the house's telephone on the other.

use std::time::{Duration, Instant};

use domain::id::CallId;
use http::Method;
use local::Options;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use store::fleet::Server;
use webrtc::peer_connection::RTCPeerConnectionState;

use crate::{
    design::{called, table},
    sessions::expired,
    support::{
        house::{MadeApp, Running, client, eventually, options, pause},
        receiver::Receiver,
        visitor::{Visitor, share, took},
    },
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// The visitor's tone: none of the greeting's.
const TONE: f64 = 1_000.0;

/// What calls tell integrations.
const EVENTS: [&str; 2] = ["call_ended", "call_error"];

/// An app whose visitors reach the house's telephone, each by a routing key.
async fn app(house: &Running) -> MadeApp {
    let app = house.app().await;
    connect(house, &app).await;
    app
}

/// Connects an app to the house's telephone.
async fn connect(house: &Running, app: &MadeApp) {
    let provider = json!({"kind": "sip", "uri": house.local().sip_trunk, "transport": "udp", "active": true});
    house.manage(Method::PUT, &format!("/apps/{}/provider", app.id), Some(provider)).await.expect(200);
    for (number, user) in ["echo", "goodbye", "busy", "decline", "nobody"].into_iter().enumerate() {
        let profile = json!({
            "name": user, "destination": format!("sip:{user}@127.0.0.1"), "routingKeys": [user], "default": number == 0,
        });
        house.manage(Method::POST, &format!("/apps/{}/profiles", app.id), Some(profile)).await.expect(201);
    }
}

/// A call of an app that took place and is over: its id.
pub async fn past(house: &Running, app: &MadeApp) -> String {
    connect(house, app).await;
    let call = Call::begin(house, app, "echo").await;
    call.visitor.told("quality").await;
    assert_eq!(call.ask(house, Method::DELETE, None).await.status(), 204);
    call.over(house, app).await["id"].as_str().expect("an id").to_owned()
}

/// A request to the media server.
async fn ask(
    house: &Running,
    client: &Client,
    method: Method,
    path: &str,
    token: &str,
    offer: Option<&str>,
) -> Response {
    let request = client.request(method, format!("{}{path}", house.local().media_url));
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = match offer {
        Some(offer) => request.header("content-type", "application/sdp").body(offer.to_owned()),
        None => request,
    };
    request.send().await.expect("the media server answers")
}

/// A call that a visitor began.
pub struct Call {
    /// Their browser.
    pub visitor: Visitor,
    client: Client,
    token: String,
    path: String,
}

impl Call {
    /// Begins one to whom the routing key leads.
    pub async fn begin(house: &Running, app: &MadeApp, routing_key: &str) -> Self {
        Self::telling(house, app, json!({"routingKey": routing_key, "context": {"page": "pricing"}})).await
    }

    /// Begins one of a session that says this.
    pub async fn telling(house: &Running, app: &MadeApp, session: Value) -> Self {
        let token = house.token(app, session).await;
        let (visitor, client) = (Visitor::new(TONE).await, client(None));
        let offer = visitor.offer().await;
        let began = Instant::now();
        let answer = ask(house, &client, Method::POST, "/v1/calls", &token, Some(&offer)).await;
        took("answered", began);
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.headers()["content-type"], "application/sdp");
        let path = answer.headers()["location"].to_str().expect("text").to_owned();
        visitor.take(&answer.text().await.expect("an answer")).await;
        visitor.becomes(RTCPeerConnectionState::Connected).await;
        took("connected", began);
        Self { visitor, client, token, path }
    }

    /// A request about it.
    pub async fn ask(&self, house: &Running, method: Method, offer: Option<&str>) -> Response {
        ask(house, &self.client, method, &self.path, &self.token, offer).await
    }

    /// What is kept of it, once it is over.
    pub async fn over(&self, house: &Running, app: &MadeApp) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let path = format!("/apps/{}/calls/call_{}", app.id, self.body());
            let call = house.manage(Method::GET, &path, None).await.expect(200).body["data"].take();
            if call["endedAt"].is_string() {
                return call;
            }
            assert!(Instant::now() < until, "not over: {call}");
            pause().await;
        }
    }

    /// The 26 characters of its id.
    pub fn body(&self) -> &str {
        self.path.strip_prefix("/v1/calls/call_").expect("a call's address")
    }
}

/// The one event that came in, once nothing else is on its way.
async fn only_event(house: &Running, app: &MadeApp, receiver: &Receiver) -> Value {
    eventually(PATIENCE, || !receiver.received().is_empty()).await;
    house.settled(app, PATIENCE).await;
    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:?}");
    received[0].body.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_hears_the_greeting_and_themselves_and_hangs_up() {
    let house = Running::start().await;
    let (app, receiver) = (app(&house).await, Receiver::start().await);
    house.integrate(&app, &receiver, &EVENTS, json!({})).await;
    let began = Instant::now();
    let call = Call::begin(&house, &app, "echo").await;
    call.visitor.told("answered").await;
    took("answered by the telephone", began);

    let greeting = call.visitor.samples(600).await;
    for (note, pitch) in local::phone::GREETING.into_iter().enumerate() {
        // The middle of each note: the first packets may have been lost while the relay began.
        let part = &greeting[note * 1_600 + 500..note * 1_600 + 1_100];
        assert!(share(part, pitch) > 0.8, "{pitch} Hz: {}", share(part, pitch));
    }
    call.visitor.hears(TONE).await;
    took("heard themselves", began);
    let quality = call.visitor.told("quality").await;
    assert!(quality["mos"].as_f64().is_some_and(|mos| mos > 4.0), "{quality}");

    let answer = call.ask(&house, Method::DELETE, None).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(call.visitor.told("ended").await, json!({"type": "ended", "reason": "user_hangup"}));
    assert_eq!(call.visitor.messages(), ["ringing", "answered", "ended"]);
    let event = only_event(&house, &app, &receiver).await;
    assert_eq!(event["id"], format!("evt_{}", call.body()));
    assert_eq!((&event["name"], &event["data"]["reason"]), (&json!("call_ended"), &json!("user_hangup")));
    assert_eq!(event["data"]["context"], json!({"page": "pricing"}));

    let row = call.over(&house, &app).await;
    assert_eq!(
        (&row["reason"], &row["codec"], &row["routingKey"]),
        (&json!("user_hangup"), &json!("PCMU"), &json!("echo"))
    );
    assert_eq!(row["duration"], event["data"]["duration"]);
    assert!(row["answeredAt"].is_string() && row.get("errorCode").is_none(), "{row}");
    for leg in ["browser", "trunk"] {
        assert!(row["quality"][leg]["mos"].as_f64().is_some_and(|mos| mos > 4.0), "{row}");
        assert_eq!(row["quality"][leg]["loss"], 0.0, "{row}");
    }
    // The widget saw the same end, and says so: it is the same event.
    let report = json!({"id": event["id"], "name": "call_ended", "timestamp": event["timestamp"],
        "data": {"duration": 3, "reason": "user_hangup"}});
    house.public("/v1/events", Some(&call.token), &report).await.expect(202);
    house
        .public(
            "/v1/events",
            Some(&call.token),
            &json!({"id": "evt_01jd3v9zk00000000000000777", "name": "call_error",
        "timestamp": event["timestamp"], "data": {"errorCode": "mic_busy", "errorMessage": "Another call"}}),
        )
        .await
        .expect(202);
    eventually(PATIENCE, || receiver.received().len() >= 2).await;
    let received: Vec<_> = receiver.received().iter().map(|received| received.body["name"].clone()).collect();
    assert_eq!(received, ["call_ended", "call_error"], "the second report of the end went nowhere");

    // It is over; asking again changes nothing, and the session may call again.
    assert_eq!(call.ask(&house, Method::DELETE, None).await.status(), 204);
    // Nobody is at the other end any more.
    call.visitor.becomes(RTCPeerConnectionState::Disconnected).await;
    assert_eq!(call.ask(&house, Method::PATCH, Some("v=0")).await.status(), 410);
    let again = Visitor::new(TONE).await;
    let offer = again.offer().await;
    let answer = ask(&house, &call.client, Method::POST, "/v1/calls", &call.token, Some(&offer)).await;
    assert_eq!(answer.status(), 201);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_as_whoever_ends_it_says() {
    let house = Running::start().await;
    let (app, receiver) = (app(&house).await, Receiver::start().await);
    house.integrate(&app, &receiver, &EVENTS, json!({})).await;
    for (number, (user, ended, row)) in [
        ("goodbye", json!({"reason": "remote_hangup"}), json!({"reason": "remote_hangup"})),
        ("busy", json!({"errorCode": "busy"}), json!({"errorCode": "busy", "sipStatus": 486})),
        ("decline", json!({"errorCode": "rejected"}), json!({"errorCode": "rejected", "sipStatus": 603})),
    ]
    .into_iter()
    .enumerate()
    {
        let call = Call::begin(&house, &app, user).await;
        let mut told = call.visitor.told("ended").await;
        told.as_object_mut().expect("an object").remove("type");
        assert_eq!(told, ended, "{user}");
        eventually(PATIENCE, || receiver.received().len() > number).await;
        let event = receiver.received()[number].body.clone();
        assert_eq!(event["id"], format!("evt_{}", call.body()));
        let (name, field) = if user == "goodbye" { ("call_ended", "reason") } else { ("call_error", "errorCode") };
        assert_eq!((&event["name"], &event["data"][field]), (&json!(name), &ended[field]), "{user}");
        let kept = call.over(&house, &app).await;
        for field in ["reason", "errorCode", "sipStatus"] {
            assert_eq!(kept[field], row[field], "{user}: {kept}");
        }
    }
    house.stop().await;
    assert_eq!(receiver.received().len(), 3, "each end once");
}

/// Its server was killed, and its visitor never calls again.
#[tokio::test(flavor = "multi_thread")]
async fn integrations_hear_of_a_call_whose_server_died() {
    let house = Running::start().await;
    let (app, receiver) = (app(&house).await, Receiver::start().await);
    house.integrate(&app, &receiver, &EVENTS, json!({})).await;
    let session = house.session(&app, json!({"context": {"page": "pricing"}})).await;
    let id = called(&house, &app, &session, false).await;
    let begun = id.parse::<CallId>().expect("a call's id").minted_at();
    table(&house).lease_server(&Server::new("server", 0, begun)).await.expect("stored");
    eventually(Duration::from_secs(60), || !receiver.received().is_empty()).await;
    let event = receiver.received()[0].body.clone();
    assert_eq!(event["id"], format!("evt_{}", id.strip_prefix("call_").expect("a call's id")));
    assert_eq!((&event["name"], &event["data"]["errorCode"]), (&json!("call_error"), &json!("internal")));
    house.stop().await;
    assert_eq!(receiver.received().len(), 1, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_leaves_in_every_way() {
    let house = Running::start().await;
    let (app, receiver) = (app(&house).await, Receiver::start().await);
    house.integrate(&app, &receiver, &EVENTS, json!({})).await;
    // On the channel, in the middle of a call.
    let call = Call::begin(&house, &app, "echo").await;
    call.visitor.told("answered").await;
    call.visitor.say(&json!({"type": "hang_up"})).await;
    assert_eq!(call.visitor.told("ended").await["reason"], "user_hangup");
    assert!(call.over(&house, &app).await["answeredAt"].is_string());
    // While it rings.
    let ringing = Call::begin(&house, &app, "nobody").await;
    ringing.visitor.told("ringing").await;
    assert_eq!(ringing.ask(&house, Method::DELETE, None).await.status(), 204);
    assert_eq!(ringing.visitor.told("ended").await["reason"], "user_hangup");
    assert!(ringing.over(&house, &app).await.get("answeredAt").is_none());
    // Without a word: the page goes away.
    let gone = Call::begin(&house, &app, "echo").await;
    gone.visitor.told("answered").await;
    let began = Instant::now();
    gone.visitor.leave().await;
    let row = gone.over(&house, &app).await;
    took("a page that goes away is noticed", began);
    assert_eq!(row["reason"], "user_hangup");

    eventually(PATIENCE, || receiver.received().len() >= 3).await;
    let mut ids: Vec<_> = receiver.received().iter().map(|received| received.body["id"].clone()).collect();
    let mut expected = [&call, &ringing, &gone].map(|call| json!(format!("evt_{}", call.body()))).to_vec();
    ids.sort_by_key(Value::to_string);
    expected.sort_by_key(Value::to_string);
    assert_eq!(ids, expected);
    let list = house.manage(Method::GET, &format!("/apps/{}/calls?limit=2", app.id), None).await.expect(200);
    assert_eq!(list.body["data"][0]["id"], format!("call_{}", gone.body()), "newest first");
    assert_eq!(list.body["pagination"]["hasMore"], true);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_held_and_its_ice_restarted() {
    let house = Running::start().await;
    let app = app(&house).await;
    let call = Call::begin(&house, &app, "echo").await;
    call.visitor.hears(TONE).await;
    call.visitor.say(&json!({"type": "hold", "on": true})).await;
    call.visitor.hears_nothing().await;
    call.visitor.say(&json!({"type": "hold", "on": false})).await;
    call.visitor.hears(TONE).await;

    let offer = call.visitor.restart().await;
    let answer = call.ask(&house, Method::PATCH, Some(&offer)).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/sdp".parse().expect("a header"))
    );
    let repeated = call.ask(&house, Method::PATCH, Some(&offer)).await;
    assert_eq!(repeated.status(), 400, "the same offer twice");
    call.visitor.take(&answer.text().await.expect("an answer")).await;
    call.visitor.hears(TONE).await;
    call.visitor.say(&json!({"type": "hang_up"})).await;
    assert_eq!(call.visitor.told("ended").await["reason"], "user_hangup");
    house.stop().await;
}

/// What an answer says is wrong.
async fn kind(answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"));
    (status, body["error"]["type"].as_str().expect("a type").to_owned())
}

fn refusal(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_call_is_refused() {
    let house = Running::with(options(&[("C2C_LIMIT_CALLS_IP", "1000")])).await;
    let app = app(&house).await;
    let (client, visitor) = (client(None), Visitor::new(TONE).await);
    let (token, offer) = (house.token(&app, json!({})).await, visitor.offer().await);
    let post = async |token: &str, offer: Option<&str>| {
        kind(ask(&house, &client, Method::POST, "/v1/calls", token, offer).await).await
    };
    let forged = format!("{}x{}", &token[..token.len() - 10], &token[token.len() - 9..]);
    let expired = expired(&house, &app).await;
    for token in ["", "nonsense", &forged, &expired] {
        assert_eq!(post(token, Some(&offer)).await, refusal(401, "unauthorized"), "{token}");
    }
    assert_eq!(post(&token, None).await, refusal(415, "unsupported_media_type"));
    assert_eq!(post(&token, Some(&"x".repeat(8_193))).await, refusal(413, "payload_too_large"));
    for wrong in ["", "v=0", &offer.replace("sendrecv", "recvonly"), &offer.replace("sha-256", "sha-1")] {
        assert_eq!(post(&token, Some(wrong)).await, refusal(400, "validation_error"), "{wrong}");
    }
    // Nothing of that claimed the session; a call does, until it is over.
    let call = Call::begin(&house, &app, "nobody").await;
    assert_eq!(post(&call.token, Some(&offer)).await, refusal(409, "conflict"));
    let other = house.token(&app, json!({})).await;
    for (path, token) in [(call.path.as_str(), &other), ("/v1/calls/call_00000000000000000000000000", &call.token)] {
        for method in [Method::DELETE, Method::PATCH] {
            let answer = ask(&house, &client, method, path, token, Some(&offer)).await;
            assert_eq!(kind(answer).await, refusal(404, "not_found"), "another session's, or nobody's");
        }
    }
    assert_eq!(kind(ask(&house, &client, Method::GET, &call.path, &call.token, None).await).await.0, 404);
    assert_eq!(call.ask(&house, Method::DELETE, None).await.status(), 204);

    // Whom nobody can be reached for.
    let provider = format!("/apps/{}/provider", app.id);
    let inactive = json!({"kind": "sip", "uri": house.local().sip_trunk, "transport": "udp", "active": false});
    house.manage(Method::PUT, &provider, Some(inactive)).await.expect(200);
    assert_eq!(post(&token, Some(&offer)).await, refusal(409, "provider_inactive"));
    let bare = house.app().await;
    let nobody = house.token(&bare, json!({})).await;
    assert_eq!(post(&nobody, Some(&offer)).await, refusal(409, "conflict"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_limited() {
    let variables = [("C2C_LIMIT_CALLS_IP", "4"), ("C2C_LIMIT_CALLS_AT_ONCE", "1"), ("C2C_MEDIA_CAPACITY", "3")];
    let house = Running::with(options(&variables)).await;
    let (first_app, second_app) = (app(&house).await, app(&house).await);
    let ready = async || ask(&house, &client(None), Method::GET, "/readyz", "", None).await.status().as_u16();
    let (client, visitor) = (client(None), Visitor::new(TONE).await);
    let offer = visitor.offer().await;
    let post = async |token: &str| ask(&house, &client, Method::POST, "/v1/calls", token, Some(&offer)).await;

    let first = Call::begin(&house, &first_app, "nobody").await;
    // One of an app at once.
    let token = house.token(&first_app, json!({})).await;
    let refused = post(&token).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(kind(refused).await, refusal(429, "rate_limit_exceeded"));
    assert_eq!(ready().await, 200);
    // Four fifths of three on this server: two.
    let second = Call::begin(&house, &second_app, "nobody").await;
    let refused = post(&token).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!((kind(refused).await, ready().await), (refusal(503, "unavailable"), 503));
    // The address that browsers know shows no metrics.
    assert_eq!(ask(&house, &client, Method::GET, "/metrics", "", None).await.status(), 404);
    let metrics = client.get(format!("{}/metrics", house.local().media_private_url)).send().await.expect("it answers");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("c2c_calls_active 2\n") && metrics.contains("c2c_calls_refused_total 1\n"), "{metrics}");
    for call in [&first, &second] {
        assert_eq!(call.ask(&house, Method::DELETE, None).await.status(), 204);
        call.visitor.told("ended").await;
    }
    // Places come back when the calls are written down.
    first.over(&house, &first_app).await;
    second.over(&house, &second_app).await;
    let until = Instant::now() + PATIENCE;
    while ready().await != 200 {
        assert!(Instant::now() < until, "the places come back");
        pause().await;
    }
    // The fourth of this address in this minute, and the fifth.
    assert_eq!(post(&token).await.status(), 201);
    assert_eq!(kind(post(&token).await).await, refusal(429, "rate_limit_exceeded"));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_calls_the_telephone_or_the_trunk_it_is_pointed_at() {
    let elsewhere = local::phone::Phone::start().await.expect("a telephone");
    let trunk = elsewhere.uri().replace("sip:", "sip:sales@");
    for sip_trunk in [None, Some(trunk)] {
        let house = Running::with(Options { sip_trunk: sip_trunk.clone(), ..options(&[]) }).await;
        assert_eq!(house.local().sip_trunk == elsewhere.uri(), sip_trunk.is_some());
        let demo = house.local().demo.as_ref().expect("a demo");
        let app = MadeApp { id: demo.app_id.to_string(), key: demo.widget_key.clone() };
        let call = Call::begin(&house, &app, "whoever").await;
        call.visitor.hears(TONE).await;
        house.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_stops_hangs_up() {
    let house = Running::start().await;
    let app = app(&house).await;
    let call = Call::begin(&house, &app, "echo").await;
    call.visitor.hears(TONE).await;
    house.stop().await;
    assert_eq!(call.visitor.told("ended").await, json!({"type": "ended", "errorCode": "internal"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_widget_host_may_call() {
    let house = Running::start().await;
    let client = client(None);
    for (method, path) in
        [(Method::OPTIONS, "/v1/calls"), (Method::OPTIONS, "/v1/calls/call_x"), (Method::POST, "/v1/calls")]
    {
        let answer = ask(&house, &client, method, path, "", None).await;
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        assert_eq!(header("access-control-allow-origin"), house.local().origin);
        assert!(header("access-control-expose-headers").contains("location"));
        if answer.status() == 204 {
            assert_eq!(header("access-control-allow-headers"), "authorization, content-type");
            assert_eq!(header("access-control-allow-methods"), "POST, PATCH, DELETE");
        }
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_or_is_refused_while_a_call_begins_may_call_again() {
    use embedded::{Fault, Injection, Service};

    // A visitor who is still held asks again every 20 ms.
    let limits = [("C2C_LIMIT_CALLS_IP", "10000"), ("C2C_LIMIT_CALLS_APP", "10000")];
    let house = Running::with(options(&limits)).await;
    let stand_ins = house.stand_ins().expect("the embedded stand-ins");
    let (app, client, visitor) = (app(&house).await, client(None), Visitor::new(TONE).await);
    let refused = house.token(&app, json!({})).await;
    let offer = visitor.offer().await;
    let post = async |token: &str| ask(&house, &client, Method::POST, "/v1/calls", token, Some(&offer)).await.status();
    let lost = Injection::of(Fault::LostAnswer).on("TransactWriteItems");
    let claims = || stand_ins.counts()["dynamodb.TransactWriteItems"];

    // The claim is written, its answer on the way: the visitor closes the page. How soon the claim is asked for again is
    // chance; who was answered before that was not gone, and the next one tries.
    let mut gone = None;
    for _ in 0..10 {
        let (token, before) = (house.token(&app, json!({})).await, claims());
        stand_ins.inject(Service::DynamoDb, lost.clone().times(1));
        let away = tokio::select! {
            _ = post(&token) => false,
            () = eventually(PATIENCE, || claims() > before) => true,
        };
        if away {
            gone = Some(token);
            break;
        }
    }
    let gone = gone.expect("a visitor who was gone before the answer");
    // Nobody ever learns whether the claim was written: it is given back.
    stand_ins.inject(Service::DynamoDb, lost);
    assert_eq!(post(&refused).await, 503);
    stand_ins.clear(Service::DynamoDb);
    for (who, token) in [("refused", refused), ("gone", gone)] {
        let until = Instant::now() + 2 * PATIENCE;
        while post(&token).await != 201 {
            assert!(Instant::now() < until, "who was {who} may call again");
            pause().await;
        }
    }
    house.stop().await;
}
