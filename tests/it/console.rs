//! The management API as far as it goes: apps, providers, integrations, deliveries; permission; apps apart from each other.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{house::Running, receiver::Receiver};

#[tokio::test]
async fn only_operators_get_in() {
    let house = Running::start().await;
    for headers in [
        &[][..],
        &[("authorization", "Bearer nonsense")],
        &[("authorization", "Basic eDp5")],
        &[("cookie", "__Host-c2c=x")],
    ] {
        let refused = house.send("console.localhost", Method::GET, "/api/v1/apps", headers, None).await.expect(401);
        assert_eq!(refused.kind(), "unauthorized");
    }
    assert_eq!(house.manage(Method::GET, "/nothing/here", None).await.expect(404).kind(), "not_found");
    // The management API stands on its own host only, and strange hosts are nobody's.
    house.send("localhost", Method::GET, "/api/v1/apps", &[], None).await.expect(404);
    house.send("rebound.example.com", Method::GET, "/healthz", &[], None).await.expect(421);
}

#[tokio::test]
async fn at_most_three_integrations_are_active() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}/integrations", app.id);
    let draft = json!({"name": "CRM", "url": receiver.url("/in"), "events": []});
    // Several at once, as an impatient operator's double click.
    let answers = join_all((0..6).map(|_| house.manage(Method::POST, &path, Some(draft.clone())))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).map(|answer| answer.text("id")).collect();
    assert!(made.len() <= 3 && answers.iter().all(|answer| [201, 409].contains(&answer.status)), "{answers:?}");
    for _ in made.len()..3 {
        house.manage(Method::POST, &path, Some(draft.clone())).await.expect(201);
    }
    assert_eq!(house.manage(Method::POST, &path, Some(draft.clone())).await.expect(409).kind(), "conflict");
    let mut inactive = draft.clone();
    inactive["status"] = json!("inactive");
    let fourth = house.manage(Method::POST, &path, Some(inactive)).await.expect(201).text("id");
    house.manage(Method::POST, &format!("{path}/{fourth}/activate"), None).await.expect(409);
    let listed = house.manage(Method::GET, &path, None).await.expect(200);
    let first = listed.body["data"][0]["id"].as_str().expect("an id").to_owned();
    house.manage(Method::DELETE, &format!("{path}/{first}"), None).await.expect(204);
    house.manage(Method::POST, &format!("{path}/{fourth}/activate"), None).await.expect(200);
    house.manage(Method::GET, &format!("{path}/{first}"), None).await.expect(404);
}

#[tokio::test]
async fn an_app_has_no_more_integrations_than_are_read() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}/integrations", app.id);
    let draft = json!({"name": "Spare", "url": receiver.url("/in"), "status": "inactive"});
    for _ in 0..50 {
        house.manage(Method::POST, &path, Some(draft.clone())).await.expect(201);
    }
    let refused = house.manage(Method::POST, &path, Some(draft.clone())).await.expect(409);
    assert!(
        refused.body["error"]["message"].as_str().is_some_and(|message| message.contains("50")),
        "{}",
        refused.body
    );
    let listed = house.manage(Method::GET, &format!("{path}?limit=100"), None).await.expect(200);
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(50));
}

#[tokio::test]
async fn another_apps_ids_are_as_unknown_as_unknown_ones() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let (app, other) = (house.app().await, house.app().await);
    let foreign = house.integrate(&other, &receiver, &[], Value::Null).await;
    let message = |answer: crate::support::house::Answer| answer.expect(404).body["error"]["message"].clone();
    for (method, path, body) in [
        (Method::GET, "/integrations/ID", None),
        (Method::PATCH, "/integrations/ID", Some(json!({"name": "Mine now"}))),
        (Method::DELETE, "/integrations/ID", None),
        (Method::POST, "/integrations/ID/activate", None),
        (Method::POST, "/integrations/ID/deactivate", None),
    ] {
        let at = |id: &str| format!("/apps/{}{}", app.id, path.replace("ID", id));
        let told = message(house.manage(method.clone(), &at(&foreign), body.clone()).await);
        assert_eq!(told, message(house.manage(method, &at("int_00000000000000000000000000"), body).await), "{path}");
    }
    let unchanged =
        house.manage(Method::GET, &format!("/apps/{}/integrations/{foreign}", other.id), None).await.expect(200);
    assert_eq!(unchanged.text("name"), "CRM");
}

#[tokio::test]
async fn wrong_fields_are_named() {
    let house = Running::start().await;
    let app = house.app().await;
    let integrations = format!("/apps/{}/integrations", app.id);
    let provider = format!("/apps/{}/provider", app.id);
    for (method, path, body, field) in [
        (Method::POST, "/apps", json!({}), "name"),
        (Method::POST, "/apps", json!({"name": ""}), "name"),
        (Method::POST, "/apps", json!({"name": "x", "tenant": 1}), "tenant"),
        (Method::POST, "/apps", json!({"name": format!("{:101}", "x")}), "name"),
        (Method::POST, &integrations, json!({"url": "https://example.com"}), "name"),
        (Method::POST, &integrations, json!({"name": "x", "url": "https://localhost"}), "url"),
        (
            Method::POST,
            &integrations,
            json!({"name": "x", "url": "https://example.com", "events": ["nope"]}),
            "events[0]",
        ),
        (Method::POST, &integrations, json!({"name": "x", "url": "https://example.com", "timeoutMs": 1}), "timeoutMs"),
        (
            Method::POST,
            &integrations,
            json!({"name": "x", "url": "https://example.com", "headers": [["A", "b"]]}),
            "headers[0]",
        ),
        (
            Method::POST,
            &integrations,
            json!({"name": "x", "url": "https://example.com", "status": {"active": null}}),
            "status",
        ),
        (Method::PUT, &provider, json!({"kind": "sip", "uri": "x", "transport": "udp", "active": true}), "uri"),
        (
            Method::PUT,
            &provider,
            json!({"kind": "sip", "uri": "sip:x.example", "transport": "sctp", "active": true}),
            "transport",
        ),
    ] {
        let refused = house.manage(method, path, Some(body.clone())).await.expect(400);
        assert_eq!((refused.kind(), refused.field()), ("validation_error", field), "{body}: {}", refused.body);
    }
    house.manage(Method::GET, "/apps?limit=0", None).await.expect(400);
    house.manage(Method::GET, "/apps?limit=+5", None).await.expect(400);
    house.manage(Method::GET, "/apps?cursor=nonsense", None).await.expect(400);
}

#[tokio::test]
async fn lists_have_pages() {
    let house = Running::start().await;
    for number in 0..5 {
        house.manage(Method::POST, "/apps", Some(json!({"name": format!("App {number}")}))).await.expect(201);
    }
    let mut names = Vec::new();
    let mut path = "/apps?limit=2".to_owned();
    loop {
        let page = house.manage(Method::GET, &path, None).await.expect(200);
        let items = page.body["data"].as_array().expect("a list").clone();
        assert!(items.len() <= 2);
        names.extend(items.into_iter().map(|item| item["name"].as_str().expect("a name").to_owned()));
        if page.body["pagination"]["hasMore"] == json!(false) {
            break;
        }
        path = format!("/apps?limit=2&cursor={}", page.body["pagination"]["nextCursor"].as_str().expect("a cursor"));
    }
    names.retain(|name| name.starts_with("App "));
    assert_eq!(names, ["App 0", "App 1", "App 2", "App 3", "App 4"]);
}

#[tokio::test]
async fn of_two_saves_of_a_page_at_once_one_is_told_of_the_other() {
    let house = Running::start().await;
    let app = house.app().await;
    let bearer = format!("Bearer {}", house.local().operator_token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-site", "same-origin"),
    ];
    let mut name = "Shop".to_owned();
    for round in 0..20 {
        // Both have read the same page.
        let read = console::hash(&json!({"name": name}).to_string());
        let names = [format!("Left {round}"), format!("Right {round}")];
        let saves = names.clone().map(|name| {
            let body = format!("read={read}&act=save&name={}", name.replace(' ', "+"));
            let (house, path, headers) = (&house, format!("/apps/{}/settings", app.id), &headers);
            async move {
                house.send("console.localhost", Method::POST, &path, headers, Some(body.into_bytes())).await.status
            }
        });
        let came = join_all(saves).await;
        let winner = came.iter().position(|status| *status == 303).expect("one is saved");
        assert_eq!(came[1 - winner], 409, "round {round}: {came:?}");
        name = house.manage(Method::GET, &format!("/apps/{}", app.id), None).await.expect(200).text("name");
        assert_eq!(name, names[winner]);
    }
}

#[tokio::test]
async fn who_may_save_nothing_takes_no_turn() {
    let house = Running::start().await;
    let Some(stand_ins) = house.stand_ins() else { return };
    let app = house.app().await;
    let viewer = json!({"name": "Vera", "role": "viewer"});
    let viewer = house.manage(Method::POST, "/operators", Some(viewer)).await.expect(201).text("token");
    let read = console::hash(&json!({"name": "Shop"}).to_string());
    let path = format!("/apps/{}/settings", app.id);
    let written = || {
        let of_console = stand_ins.uses().into_iter().filter(|(one, _)| one.by == "Console" && one.on == "APP");
        of_console.filter(|(one, _)| one.action == "dynamodb:PutItem").map(|(_, count)| count).sum::<u64>()
    };
    for (token, status, turns) in [(viewer.as_str(), 403, 0), (house.local().operator_token.as_str(), 303, 1)] {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", "same-origin"),
        ];
        let (before, body) = (written(), format!("read={read}&act=save&name=Shop").into_bytes());
        assert_eq!(house.send("console.localhost", Method::POST, &path, &headers, Some(body)).await.status, status);
        assert_eq!(written() - before, turns);
    }
}

#[tokio::test]
async fn the_sign_in_link_works_once() {
    let house = Running::start().await;
    let link = house.local().console_sign_in_url.clone();
    let path = link.strip_prefix(&house.local().console_origin).expect("on the console's host").to_owned();
    let first = house.send("console.localhost", Method::GET, &path, &[], None).await;
    assert_eq!((first.status, &first.headers["location"]), (303, &"/".parse().expect("a header")));
    let cookie = first.headers["set-cookie"].to_str().expect("text").to_owned();
    assert!(
        ["__Host-c2c=", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"]
            .iter()
            .all(|part| cookie.contains(part)),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    house.send("console.localhost", Method::GET, &path, &[], None).await.expect(401);
    house.send("console.localhost", Method::GET, "/", &[("cookie", &cookie)], None).await.expect(200);
    house.send("console.localhost", Method::GET, "/api/v1/apps", &[("cookie", &cookie)], None).await.expect(200);
    // A page of another site cannot write with it.
    let cross = [("cookie", cookie.as_str()), ("content-type", "application/json"), ("sec-fetch-site", "cross-site")];
    house
        .send("console.localhost", Method::POST, "/api/v1/apps", &cross, Some(b"{\"name\":\"x\"}".to_vec()))
        .await
        .expect(403);
    let own = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(house.send("console.localhost", Method::POST, "/sign-out", &own, None).await.status, 303);
    house.send("console.localhost", Method::GET, "/api/v1/apps", &[("cookie", &cookie)], None).await.expect(401);
    let audit = house.manage(Method::GET, "/audit", None).await.expect(200);
    let actions: Vec<_> = audit.body["data"].as_array().expect("a list").iter().map(|row| &row["action"]).collect();
    assert_eq!(actions, ["operator.sign_out", "operator.sign_in"], "who signed in, and when, is known: {}", audit.body);
}
