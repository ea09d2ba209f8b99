//! Apps, providers, profiles and operators through the management API, and what visitors see of it.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    house::{MadeApp, Running},
    receiver::Receiver,
};

#[tokio::test]
async fn an_app_is_renamed_rekeyed_and_deleted() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}", app.id);
    let renamed = house.manage(Method::PATCH, &path, Some(json!({"name": " Bakery "}))).await.expect(200);
    assert_eq!(renamed.text("name"), "Bakery");
    assert_eq!(house.manage(Method::PATCH, &path, Some(json!({}))).await.expect(200).text("name"), "Bakery");
    let refused = house.manage(Method::PATCH, &path, Some(json!({"name": null}))).await.expect(400);
    assert_eq!((refused.kind(), refused.field()), ("validation_error", "name"));
    let listed = house.manage(Method::GET, "/apps?limit=100", None).await.expect(200);
    assert!(listed.body["data"].as_array().expect("a list").contains(&json!({"appId": app.id, "name": "Bakery"})));

    let rekeyed = house.manage(Method::POST, &format!("{path}/rotate-key"), None).await.expect(200);
    house.session(&app, json!({})).await.expect(401);
    let app = MadeApp { key: rekeyed.text("widgetKey"), ..app };
    let token = house.token(&app, json!({})).await;

    let integration = house.integrate(&app, &receiver, &[], Value::Null).await;
    assert_eq!(house.manage(Method::DELETE, &path, None).await.expect(409).kind(), "conflict");
    house.manage(Method::POST, &format!("{path}/integrations/{integration}/deactivate"), None).await.expect(200);
    house.manage(Method::DELETE, &path, None).await.expect(204);
    for gone in [
        house.manage(Method::GET, &path, None).await,
        house.manage(Method::DELETE, &path, None).await,
        house.manage(Method::PATCH, &path, Some(json!({"name": "x"}))).await,
        house.manage(Method::GET, &format!("{path}/integrations"), None).await,
        house.session(&app, json!({})).await,
        house.public("/v1/sessions/renew", Some(&token), &json!({})).await,
    ] {
        assert_eq!(gone.expect(404).kind(), "app_not_found");
    }
    let listed = house.manage(Method::GET, "/apps?limit=100", None).await.expect(200);
    assert!(!listed.body.to_string().contains(&app.id));
}

#[tokio::test]
async fn an_app_is_not_deleted_while_an_integration_becomes_active() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    for _ in 0..10 {
        let app = house.app().await;
        let path = format!("/apps/{}", app.id);
        let draft = json!({"name": "CRM", "url": receiver.url("/in")});
        let integrations = format!("{path}/integrations");
        let (made, deleted) = tokio::join!(
            house.manage(Method::POST, &integrations, Some(draft)),
            house.manage(Method::DELETE, &path, None)
        );
        assert!(
            matches!((made.status, deleted.status), (201, 409) | (404 | 409, 204)),
            "{} {} {} {}",
            made.status,
            made.body,
            deleted.status,
            deleted.body
        );
    }
}

#[tokio::test]
async fn a_provider_can_be_removed() {
    let house = Running::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}/provider", app.id);
    house.manage(Method::DELETE, &path, None).await.expect(204);
    assert_eq!(house.manage(Method::GET, &path, None).await.expect(404).kind(), "not_found");
    assert_eq!(house.manage(Method::DELETE, &path, None).await.expect(404).kind(), "not_found");
    assert_eq!(house.session(&app, json!({})).await.expect(409).kind(), "provider_inactive");
}

#[tokio::test]
async fn a_providers_password_is_stored_sealed_and_shown_to_nobody() {
    let house = Running::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}/provider", app.id);
    let put = async |more: Value| {
        let mut draft = json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "tls", "active": true});
        draft.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = house.manage(Method::PUT, &path, Some(draft)).await;
        assert!(!answer.body.to_string().contains("canary"), "{}", answer.body);
        answer
    };
    for (more, has_password) in [
        (json!({}), false),
        (json!({"username": "me"}), false),
        (json!({"username": "me", "password": "canary 1"}), true),
        (json!({"username": "me", "callerId": "shop"}), true),
        (json!({"username": "you"}), false),
        (json!({"username": "you", "password": "canary 2"}), true),
        (json!({"username": "you", "password": null}), false),
        (json!({"username": "you", "password": "canary 3"}), true),
        (json!({}), false),
    ] {
        let stored = put(more.clone()).await.expect(200).body["data"].clone();
        assert_eq!((&stored["hasPassword"], stored.get("username")), (&json!(has_password), more.get("username")));
        let mut shown = house.manage(Method::GET, &path, None).await.expect(200).body["data"].take();
        // Whether it is there may be known by now.
        shown.as_object_mut().expect("an object").remove("health");
        assert_eq!(shown, stored, "{more}");
    }
    for (more, field) in [
        (json!({"password": "canary"}), "username"),
        (json!({"username": "me", "password": ""}), "password"),
        (json!({"username": "me", "password": "canary\n"}), "password"),
        (json!({"username": "me", "password": ["canary"]}), "password"),
        (json!({"username": "m e"}), "username"),
        (json!({"hasPassword": true}), "hasPassword"),
    ] {
        let refused = put(more.clone()).await.expect(400);
        assert_eq!((refused.kind(), refused.field()), ("validation_error", field), "{more}");
    }
}

#[tokio::test]
async fn without_the_key_service_no_password_is_stored() {
    let house = Running::start().await;
    let app = house.app().await;
    let path = format!("/apps/{}/provider", app.id);
    let before = house.manage(Method::GET, &path, None).await.expect(200).body["data"].clone();
    let draft = json!({"kind": "sip", "uri": "sip:other.example.com", "transport": "tls", "active": true,
        "username": "me", "password": "canary"});
    // Another emulator of AWS cannot be broken from here.
    let stand_ins = house.stand_ins().expect("a house with stand-ins of its own");
    stand_ins.down(embedded::Service::Kms);
    let refused = house.manage(Method::PUT, &path, Some(draft)).await.expect(503);
    assert!(!refused.body.to_string().contains("canary"), "{}", refused.body);
    stand_ins.clear(embedded::Service::Kms);
    assert_eq!(house.manage(Method::GET, &path, None).await.expect(200).body["data"], before);
}

#[tokio::test]
async fn an_integrations_patch_is_a_merge_patch() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let more = json!({"headers": [{"name": "X-A", "value": "b"}], "timeoutMs": 900});
    let id = house.integrate(&app, &receiver, &["call_ended"], more).await;
    let path = format!("/apps/{}/integrations/{id}", app.id);
    let changed = house
        .manage(Method::PATCH, &path, Some(json!({"events": null, "headers": null, "timeoutMs": null})))
        .await
        .expect(200);
    let data = &changed.body["data"];
    assert_eq!((&data["events"], &data["headers"], &data["timeoutMs"]), (&json!([]), &json!([]), &json!(5000)));
    assert_eq!(data["name"], "CRM");
    for field in ["name", "url", "status"] {
        let refused = house.manage(Method::PATCH, &path, Some(json!({field: null}))).await.expect(400);
        assert_eq!((refused.kind(), refused.field()), ("validation_error", field));
    }
    let bearer = format!("Bearer {}", house.local().operator_token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/merge-patch+json")];
    let at = format!("/api/v1{path}");
    let body = Some(br#"{"name": "ERP"}"#.to_vec());
    let changed = house.send("console.localhost", Method::PATCH, &at, &headers, body.clone()).await.expect(200);
    assert_eq!(changed.text("name"), "ERP");
    house.send("console.localhost", Method::POST, "/api/v1/apps", &headers, body).await.expect(415);
}

async fn profile(house: &Running, app: &MadeApp, more: Value) -> crate::support::house::Answer {
    let mut draft = json!({"name": "Sales", "destination": "sip:sales@pbx.example.com"});
    for (name, value) in more.as_object().into_iter().flatten() {
        draft[name] = value.clone();
    }
    house.manage(Method::POST, &format!("/apps/{}/profiles", app.id), Some(draft)).await
}

/// The profile that a session's token carries.
async fn reached(house: &Running, app: &MadeApp, asked: Value) -> Value {
    let token = house.token(app, asked).await;
    let payload = token.split('.').nth(1).expect("a payload").to_owned();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sextets = payload.chars().map(|character| alphabet.find(character).expect("base64url"));
    let bits: Vec<usize> = sextets.flat_map(|sextet| (0..6).rev().map(move |bit| sextet >> bit & 1)).collect();
    let bytes = bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit));
    let bytes: Vec<u8> = bytes.map(|byte| u8::try_from(byte).expect("a byte")).collect();
    serde_json::from_slice::<Value>(&bytes).expect("JSON")["prf"].clone()
}

#[tokio::test]
async fn profiles_are_reached_by_id_by_routing_key_and_by_default() {
    let house = Running::start().await;
    let (app, other) = (house.app().await, house.app().await);
    assert_eq!(reached(&house, &app, json!({})).await, Value::Null);
    let sales = profile(&house, &app, json!({"routingKeys": ["sales", "b2b"], "default": true})).await.expect(201);
    let (sales, data) = (sales.text("id"), sales.body["data"].clone());
    assert_eq!((&data["default"], &data["routingKeys"]), (&json!(true), &json!(["b2b", "sales"])));
    let help = profile(&house, &app, json!({"name": "Help", "destination": "tel:+493012345678"})).await;
    let help = help.expect(201).text("id");
    assert_eq!(reached(&house, &app, json!({})).await, json!(sales));
    assert_eq!(reached(&house, &app, json!({"profileId": help})).await, json!(help));
    assert_eq!(reached(&house, &app, json!({"routingKey": "b2b"})).await, json!(sales));
    let one = |id: &str| format!("/apps/{}/profiles/{id}", app.id);
    // Another default takes over; a routing key moves only once it is free.
    let taken = json!({"routingKeys": ["b2b"]});
    assert_eq!(house.manage(Method::PATCH, &one(&help), Some(taken.clone())).await.expect(409).kind(), "conflict");
    house.manage(Method::PATCH, &one(&sales), Some(json!({"routingKeys": ["sales"]}))).await.expect(200);
    house.manage(Method::PATCH, &one(&help), Some(taken)).await.expect(200);
    house.manage(Method::PATCH, &one(&help), Some(json!({"default": true}))).await.expect(200);
    assert_eq!(house.manage(Method::GET, &one(&sales), None).await.expect(200).body["data"]["default"], false);
    assert_eq!(reached(&house, &app, json!({"routingKey": "b2b"})).await, json!(help));
    assert_eq!(reached(&house, &app, json!({"routingKey": "nobody"})).await, json!(help));
    assert_eq!(house.session(&other, json!({"profileId": help})).await.expect(404).kind(), "not_found");
    // The same routing key is another app's business.
    profile(&house, &other, json!({"routingKeys": ["sales", "b2b"]})).await.expect(201);
    let listed = house.manage(Method::GET, &format!("/apps/{}/profiles?limit=1", app.id), None).await.expect(200);
    let cursor = listed.body["pagination"]["nextCursor"].as_str().expect("a cursor").to_owned();
    let next = format!("/apps/{}/profiles?limit=1&cursor={cursor}", app.id);
    let next = house.manage(Method::GET, &next, None).await.expect(200);
    let (first, second) = (&listed.body["data"][0], &next.body["data"][0]);
    assert_eq!((&first["id"], &second["id"]), (&json!(sales), &json!(help)));
    assert_eq!(next.body["pagination"]["hasMore"], false);
    // Whatever led to it ends with it.
    house.manage(Method::DELETE, &one(&help), None).await.expect(204);
    assert_eq!(reached(&house, &app, json!({"routingKey": "b2b"})).await, Value::Null);
    house.manage(Method::PATCH, &one(&sales), Some(json!({"routingKeys": ["b2b"], "default": true}))).await.expect(200);
    let cleared = house.manage(Method::PATCH, &one(&sales), Some(json!({"routingKeys": null, "default": null}))).await;
    let cleared = cleared.expect(200).body["data"].clone();
    assert_eq!((&cleared["default"], &cleared["routingKeys"]), (&json!(false), &json!([])));
    assert_eq!(reached(&house, &app, json!({})).await, Value::Null);
    for (body, field) in [
        (json!({"name": null}), "name"),
        (json!({"destination": null}), "destination"),
        (json!({"destination": "https://example.com"}), "destination"),
        (json!({"hours": {"mode": "custom"}}), "hours.timezone"),
    ] {
        assert_eq!(house.manage(Method::PATCH, &one(&sales), Some(body)).await.expect(400).field(), field);
    }
}

#[tokio::test]
async fn a_routing_key_leads_to_one_profile_whoever_comes_first() {
    let house = Running::start().await;
    let app = house.app().await;
    let drafts = (0..8).map(|_| profile(&house, &app, json!({"routingKeys": ["sales"], "default": true})));
    let answers = join_all(drafts).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(made.len() <= 1 && answers.iter().all(|answer| [201, 409].contains(&answer.status)), "{answers:?}");
    let listed = house.manage(Method::GET, &format!("/apps/{}/profiles", app.id), None).await.expect(200);
    assert_eq!(listed.body["data"].as_array().expect("a list").len(), made.len());
}

#[tokio::test]
async fn operators_come_and_go_and_one_admin_stays() {
    let house = Running::start().await;
    let listed = house.manage(Method::GET, "/operators", None).await.expect(200);
    let first = listed.body["data"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(listed.body["data"].as_array().expect("a list").len(), 1);
    assert!(!listed.body.to_string().contains("oken"), "no token, no hash: {}", listed.body);
    let refused = house.manage(Method::DELETE, &format!("/operators/{first}"), None).await.expect(409);
    assert_eq!(refused.kind(), "conflict");
    let made = house.manage(Method::POST, "/operators", Some(json!({"name": "Ada", "role": "admin"}))).await;
    let (id, token) = (made.clone().expect(201).text("id"), made.text("token"));
    let bearer = format!("Bearer {token}");
    let apps = |headers: Vec<(&'static str, String)>| {
        let house = &house;
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            house.send("console.localhost", Method::GET, "/api/v1/apps", &headers, None).await
        }
    };
    apps(vec![("authorization", bearer.clone())]).await.expect(200);
    // A console session begun with a token ends with it.
    let form = [("content-type", "application/x-www-form-urlencoded"), ("sec-fetch-site", "same-origin")];
    let body = Some(format!("token={token}").into_bytes());
    let begun = house.send("console.localhost", Method::POST, "/sign-in", &form, body).await.expect(303);
    let cookie = begun.headers["set-cookie"].to_str().expect("text").split(';').next().expect("a pair").to_owned();
    apps(vec![("cookie", cookie.clone())]).await.expect(200);
    // Both end both at once: one stays.
    let ends = [&first, &id].map(|id| format!("/operators/{id}"));
    let (at, headers) = (format!("/api/v1{}", ends[1]), [("authorization", bearer.as_str())]);
    let (one, two) = tokio::join!(
        house.manage(Method::DELETE, &ends[0], None),
        house.send("console.localhost", Method::DELETE, &at, &headers, None)
    );
    assert!(!(one.status == 204 && two.status == 204), "{} {}", one.body, two.body);
    let survivor = if one.status == 204 { bearer.clone() } else { format!("Bearer {}", house.local().operator_token) };
    let listed = apps(vec![("authorization", survivor.clone())]).await;
    assert_eq!(listed.status, 200);
    if one.status != 204 {
        if two.status != 204 {
            house.manage(Method::DELETE, &ends[1], None).await.expect(204);
        }
        apps(vec![("authorization", bearer)]).await.expect(401);
        apps(vec![("cookie", cookie)]).await.expect(401);
        house.manage(Method::DELETE, &ends[1], None).await.expect(404);
    }
}
