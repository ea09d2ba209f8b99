//! Business hours: set by operators, kept by sessions and by calls (contract section 7). What is open when is `domain`'s
//! to test; here it is the real clock, so that windows lie hours before and after it.

use std::time::Duration;

use domain::time::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::house::{Answer, MadeApp, Running, client, loaded};

const HOUR: Duration = Duration::from_secs(3_600);

/// What the house takes for now.
async fn now(house: &Running) -> Timestamp {
    let answer = house.manage(Method::GET, "/apps", None).await.expect(200);
    answer.body["meta"]["timestamp"].as_str().expect("a time").parse().expect("a time")
}

/// Every day from so many hours after now until so many hours after now, in UTC.
fn daily(now: Timestamp, from: u32, until: u32) -> Value {
    let clock = |hours: u32| now.plus(hours * HOUR).to_string()[11..16].to_owned();
    let window = json!([{"open": clock(from), "close": clock(until)}]);
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    days.into_iter().map(|day| (day.to_owned(), window.clone())).collect::<serde_json::Map<_, _>>().into()
}

fn custom(weekly: Value) -> Value {
    json!({"mode": "custom", "timezone": "UTC", "weekly": weekly})
}

async fn put(house: &Running, app: &MadeApp, hours: &Value) -> Answer {
    house.manage(Method::PUT, &format!("/apps/{}/hours", app.id), Some(hours.clone())).await
}

async fn profile(house: &Running, app: &MadeApp, name: &str, hours: Value) -> String {
    let draft = json!({"name": name, "destination": "sip:sales@pbx.example.com", "routingKeys": [name],
        "default": name == "sales", "hours": hours});
    house.manage(Method::POST, &format!("/apps/{}/profiles", app.id), Some(draft)).await.expect(201).text("id")
}

/// Asks the media server for a call, with an offer that it cannot use: 400 says that nothing else was in the way.
async fn call(house: &Running, token: &str) -> Answer {
    let request = client(None).post(format!("{}/v1/calls", house.local().media_url)).body("v=0\r\n");
    let request = request.header("content-type", "application/sdp").header("authorization", format!("Bearer {token}"));
    let response = request.send().await.expect("the media server answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, body: response.json().await.expect("JSON") }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_calls_keep_business_hours() {
    let house = Running::start().await;
    let app = house.app().await;
    let now = now(&house).await;
    let sales = profile(&house, &app, "sales", json!(null)).await;
    profile(&house, &app, "night", json!({"mode": "always"})).await;
    profile(
        &house,
        &app,
        "lunch",
        json!({"message": "Lunch", "mode": "custom", "timezone": "UTC", "weekly": daily(now, 1, 2)}),
    )
    .await;
    let given = house.session(&app, json!({})).await.expect(201);
    assert_eq!((&given.body["data"]["open"], given.body["data"].get("closed")), (&json!(true), None));
    let early = given.text("sessionToken");
    call(&house, &early).await.expect(400);

    // Closed from now on, for those who come and for those who are here.
    let hours = json!({"mode": "custom", "timezone": "utc", "weekly": daily(now, 3, 5), "message": " Back soon "});
    let stored = put(&house, &app, &hours).await.expect(200);
    assert_eq!((stored.text("timezone"), stored.text("message")), ("UTC".to_owned(), "Back soon".to_owned()));
    let opens: Timestamp = format!("{}:00Z", &now.plus(3 * HOUR).to_string()[..16]).parse().expect("a time");
    for more in [json!({}), json!({"routingKey": "sales"}), json!({"profileId": sales}), json!({"preview": true})] {
        let given = house.session(&app, more.clone()).await.expect(201);
        let closed = json!({"message": "Back soon", "opensAt": opens});
        assert_eq!((&given.body["data"]["open"], &given.body["data"]["closed"]), (&json!(false), &closed), "{more}");
        assert_eq!(given.text("destinationId"), sales);
    }
    house.public("/v1/events", Some(&early), &loaded()).await.expect(202);
    let refused = call(&house, &early).await.expect(409);
    assert_eq!((refused.kind(), &refused.body["error"]["details"][0]["code"]), ("conflict", &json!("closed")));
    let night = house.session(&app, json!({"routingKey": "night"})).await.expect(201);
    assert_eq!(night.body["data"]["open"], true);
    call(&house, &night.text("sessionToken")).await.expect(400);
    let lunch = house.session(&app, json!({"routingKey": "lunch"})).await.expect(201);
    assert_eq!(
        (&lunch.body["data"]["open"], &lunch.body["data"]["closed"]["message"]),
        (&json!(false), &json!("Lunch"))
    );

    // A holiday has a name; then it opens again for who was here all along.
    let days = [0, 24, 48].map(|hours| now.plus(hours * HOUR).to_string()[..10].to_owned());
    let holidays = days.map(|date| json!({"date": date, "label": "Christmas", "closed": true}));
    let mut hours = custom(json!({}));
    hours["exceptions"] = json!(holidays);
    put(&house, &app, &hours).await.expect(200);
    let given = house.session(&app, json!({})).await.expect(201);
    assert_eq!(given.body["data"]["closed"], json!({"message": "", "label": "Christmas"}));
    put(&house, &app, &json!({"mode": "always"})).await.expect(200);
    call(&house, &early).await.expect(400);
}

#[tokio::test]
async fn operators_set_business_hours() {
    let house = Running::start().await;
    let (app, other) = (house.app().await, house.app().await);
    let path = format!("/apps/{}/hours", app.id);
    let read = house.manage(Method::GET, &path, None).await.expect(200);
    assert_eq!(read.body["data"], json!({"mode": "always", "weekly": {}, "exceptions": []}));
    let mut hours = custom(json!({"mon": [{"open": "22:00", "close": "02:00"}]}));
    hours["exceptions"] = json!([{"date": "2026-12-25", "label": "Christmas", "closed": true}]);
    assert_eq!(put(&house, &app, &hours).await.expect(200).body["data"], hours);
    assert_eq!(house.manage(Method::GET, &path, None).await.expect(200).body["data"], hours);
    for (wrong, field) in [
        (json!({}), "mode"),
        (json!({"mode": "inherit"}), "mode"),
        (json!({"mode": "sometimes"}), "mode"),
        (json!({"mode": "custom"}), "timezone"),
        (json!({"mode": "custom", "timezone": "../../etc/localtime"}), "timezone"),
        (json!({"mode": "custom", "timezone": "x".repeat(60_000)}), "timezone"),
        (json!({"mode": "custom", "timezone": "UTC", "weekly": []}), "weekly"),
        (json!({"mode": "custom", "timezone": "UTC", "weekly": {"monday": []}}), "weekly.monday"),
        (custom(json!({"mon": [{"open": "9:00", "close": "10:00"}]})), "weekly.mon[0].open"),
        (custom(json!({"mon": [{"open": "09:00", "close": "24:00"}]})), "weekly.mon[0].close"),
        (
            custom(json!({"mon": [{"open": "22:00", "close": "02:00"}], "tue": [{"open": "01:00", "close": "03:00"}]})),
            "weekly.tue",
        ),
        (json!({"mode": "always", "exceptions": [{"date": "2026-02-30", "closed": true}]}), "exceptions[0].date"),
    ] {
        let refused = put(&house, &app, &wrong).await.expect(400);
        assert_eq!((refused.kind(), refused.field()), ("validation_error", field));
        assert!(refused.body.to_string().len() < 2_000, "what is wrong is not repeated");
    }
    put(&house, &app, &json!({"mode": "always", "message": "x".repeat(66_000)})).await.expect(413);
    assert_eq!(house.manage(Method::GET, &path, None).await.expect(200).body["data"], hours, "nothing was stored");

    // Nobody else's are touched; who may not change them does not.
    let others = house.manage(Method::GET, &format!("/apps/{}/hours", other.id), None).await.expect(200);
    assert_eq!(others.body["data"]["mode"], "always");
    let viewer = json!({"name": "Vera", "role": "viewer"});
    let viewer = house.manage(Method::POST, "/operators", Some(viewer)).await.expect(201).text("token");
    let viewer = format!("Bearer {viewer}");
    for (method, status) in [(Method::GET, 200), (Method::PUT, 403)] {
        let headers = [("authorization", viewer.as_str()), ("content-type", "application/json")];
        let body = (method == Method::PUT).then(|| br#"{"mode": "always"}"#.to_vec());
        house.send("console.localhost", method, &format!("/api/v1{path}"), &headers, body).await.expect(status);
    }
    let rows = house.manage(Method::GET, &format!("/apps/{}/audit", app.id), None).await.expect(200);
    let rows = rows.body["data"].as_array().expect("a list").clone();
    let of =
        |outcome: &str| rows.iter().filter(|row| row["action"] == "hours.put" && row["outcome"] == outcome).count();
    assert_eq!((of("granted"), of("refused")), (1, 1), "{rows:?}");
    house.manage(Method::DELETE, &format!("/apps/{}", app.id), None).await.expect(204);
    assert_eq!(put(&house, &app, &hours).await.expect(404).kind(), "app_not_found");
}

#[tokio::test]
async fn a_profile_has_hours_of_its_own_until_they_are_taken_away() {
    let house = Running::start().await;
    let app = house.app().await;
    let later = custom(daily(now(&house).await, 3, 5));
    let id = profile(&house, &app, "sales", later).await;
    let path = format!("/apps/{}/profiles/{id}", app.id);
    let patch = async |hours: Value| house.manage(Method::PATCH, &path, Some(json!({"hours": hours}))).await;
    let open = async || house.session(&app, json!({})).await.expect(201).body["data"]["open"].clone();
    assert_eq!(open().await, false);
    let changed = patch(json!({"mode": "always"})).await.expect(200);
    assert_eq!(changed.body["data"]["hours"]["weekly"]["mon"].as_array().map(Vec::len), Some(1), "the rest stays");
    assert_eq!(open().await, true);
    let refused = patch(json!({"mode": "custom", "timezone": null})).await.expect(400);
    assert_eq!(refused.field(), "hours.timezone");
    let taken = patch(json!(null)).await.expect(200);
    assert_eq!(taken.body["data"]["hours"], json!({"mode": "inherit", "weekly": {}, "exceptions": []}));
    assert_eq!(open().await, true);
}
