//! Calls through the running house: a visitor's browser on one side, the house's telephone on the other.

use std::time::{Duration, Instant};

use http::Method;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use webrtc::peer_connection::RTCPeerConnectionState;

use crate::support::{
    house::{MadeApp, Running, client, eventually, options},
    receiver::Receiver,
    visitor::{Visitor, share, took},
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
    let provider = json!({"kind": "sip", "uri": house.local().sip_trunk, "transport": "udp", "active": true});
    house.manage(Method::PUT, &format!("/apps/{}/provider", app.id), Some(provider)).await.expect(200);
    for (number, user) in ["echo", "goodbye", "busy", "decline", "nobody"].into_iter().enumerate() {
        let profile = json!({
            "name": user, "destination": format!("sip:{user}@127.0.0.1"), "routingKeys": [user], "default": number == 0,
        });
        house.manage(Method::POST, &format!("/apps/{}/profiles", app.id), Some(profile)).await.expect(201);
    }
    app
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
struct Call {
    visitor: Visitor,
    client: Client,
    token: String,
    path: String,
}

impl Call {
    /// Begins one to whom the routing key leads.
    async fn begin(house: &Running, app: &MadeApp, routing_key: &str) -> Self {
        let token = house.token(app, json!({"routingKey": routing_key, "context": {"page": "pricing"}})).await;
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

    async fn ask(&self, house: &Running, method: Method, offer: Option<&str>) -> Response {
        ask(house, &self.client, method, &self.path, &self.token, offer).await
    }

    /// The 26 characters of its id.
    fn body(&self) -> &str {
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
    let event = only_event(&house, &app, &receiver).await;
    assert_eq!(event["id"], format!("evt_{}", call.body()));
    assert_eq!((&event["name"], &event["data"]["reason"]), (&json!("call_ended"), &json!("user_hangup")));
    assert_eq!(event["data"]["context"], json!({"page": "pricing"}));
    house.stop().await;
}
