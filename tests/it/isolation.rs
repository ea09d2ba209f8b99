//! Who may do what, over every operation that `openapi.json` names: roles, and apps apart from each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    openapi::{Operation, document, insist, operations, unknown},
    support::{
        house::{Answer, Running, loaded},
        receiver::Receiver,
    },
};

/// The smallest body that fits a schema.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        return example(document, &document["components"]["schemas"][name]);
    }
    if let Some(value) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
        return value.clone();
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match schema["type"].as_str().or_else(|| schema["type"][0].as_str()) {
        Some("object") => {
            let fields = required.map(|name| (name.to_owned(), example(document, &schema["properties"][name])));
            Value::Object(fields.collect())
        }
        Some("array") => json!([]),
        Some("string") => json!("x"),
        Some("boolean") => json!(false),
        Some("integer") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        other => panic!("no example of {other:?}: {schema}"),
    }
}

async fn ask(house: &Running, document: &Value, operation: &Operation, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
    let body = (!schema.is_null()).then(|| example(document, schema).to_string().into_bytes());
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    house.send("console.localhost", operation.method.clone(), path, &headers, body).await
}

#[tokio::test]
async fn every_operation_needs_its_role() {
    let house = Running::start().await;
    let document = document(&house).await;
    let mut tokens = Vec::new();
    for role in ["viewer", "editor", "admin"] {
        let made = house.manage(Method::POST, "/operators", Some(json!({"name": role, "role": role}))).await;
        tokens.push((role, made.expect(201).text("token")));
    }
    let mut seen = 0;
    for operation in operations(&house).await.iter().filter(|operation| !operation.role.is_empty()) {
        let needed = tokens.iter().position(|(role, _)| *role == operation.role).expect("a known role");
        for (rank, (role, token)) in tokens.iter().enumerate() {
            let path = operation.at(&[]);
            let answer = ask(&house, &document, operation, &path, token).await;
            let described = format!("{} {path} as {role}: {} {}", operation.method, answer.status, answer.body);
            if rank < needed {
                assert_eq!((answer.status, answer.kind()), (403, "forbidden"), "{described}");
            } else {
                assert!(![400, 401, 403, 415].contains(&answer.status) && answer.status < 500, "{described}");
            }
            assert!(operation.described["responses"].get(answer.status.to_string()).is_some(), "{described}");
            seen += 1;
        }
        let nobody = ask(&house, &document, operation, &operation.at(&[]), "c2c_nobody").await;
        assert_eq!((nobody.status, nobody.kind()), (401, "unauthorized"));
    }
    assert!(seen >= 3 * 20, "{seen}");
}

/// Every row of the table, by its key, read past everything of ours.
pub async fn rows(house: &Running) -> BTreeMap<String, Value> {
    let table = house.local().tables.values().next().expect("a table");
    let scan = json!({"TableName": table, "ConsistentRead": true}).to_string();
    let credential =
        "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0";
    let answer = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = answer
        .post(&house.local().aws.dynamodb)
        .header("authorization", credential)
        .header("x-amz-date", "20260101T000000Z")
        .header("x-amz-target", "DynamoDB_20120810.Scan")
        .header("content-type", "application/x-amz-json-1.0")
        .body(scan)
        .send()
        .await
        .expect("the table answers");
    let answer: Value = answer.json().await.expect("JSON");
    assert!(answer["LastEvaluatedKey"].is_null(), "the table is read in one page");
    let rows = answer["Items"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    rows.map(|row| (format!("{} {}", row["pk"]["S"], row["sk"]["S"]), row.clone())).collect()
}

#[tokio::test]
async fn another_apps_ids_are_as_unknown_as_unknown_ones() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let (mine, other) = (house.app().await, house.app().await);
    let integration = house.integrate(&other, &receiver, &["widget_loaded"], Value::Null).await;
    let token = house.token(&other, json!({})).await;
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    let delivery = house.settled(&other, Duration::from_secs(10)).await;
    let draft = json!({"name": "Sales", "destination": "tel:+493012345678", "routingKeys": ["sales"], "default": true});
    let profile =
        house.manage(Method::POST, &format!("/apps/{}/profiles", other.id), Some(draft)).await.expect(201).text("id");
    let delivery = delivery["id"].as_str().expect("an id").to_owned();
    let session = house.session(&other, json!({})).await.expect(201);
    let call = crate::design::called(&house, &other, &session, true).await;
    let foreign = [
        ("integrationId", integration.as_str()),
        ("profileId", profile.as_str()),
        ("deliveryId", delivery.as_str()),
        ("callId", call.as_str()),
        ("name", "token"),
    ];
    let document = document(&house).await;
    let admin = house.local().operator_token.clone();
    let of_other = |rows: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        // How a provider is, the media server finds out by itself.
        rows.into_iter().filter(|(key, _)| key.contains(&other.id) && !key.contains("PROVIDERHEALTH")).collect()
    };
    let before = of_other(rows(&house).await);
    assert!(before.len() >= 5, "{before:?}");
    let (mut one, mut app) = (0, 0);
    for operation in operations(&house).await.iter().filter(|operation| operation.is_of_an_app()) {
        let refused = |answer: Answer, path: &str| {
            assert_eq!(answer.status, 404, "{} {path}: {}", operation.method, answer.body);
            let error = &answer.body["error"];
            (error["type"].clone(), error["message"].clone(), error["details"].clone())
        };
        // Under an app that nobody has, everything is unknown, whatever else is named.
        let nowhere = operation.at(&foreign);
        let unknown_app = operation.at(&[]);
        let told = refused(ask(&house, &document, operation, &nowhere, &admin).await, &nowhere);
        assert_eq!(told, refused(ask(&house, &document, operation, &unknown_app, &admin).await, &unknown_app));
        assert_eq!(told.0, "app_not_found", "{nowhere}");
        app += 1;
        // Under an app of one's own, another's things are as unknown as those that nobody has.
        let own = ("appId", mine.id.as_str());
        let theirs = operation.at(&[&[own], &foreign[..]].concat());
        if foreign.iter().any(|(name, _)| *name != "name" && operation.path.contains(name)) {
            let nobodys = operation.at(&[own, ("name", "token")]);
            let told = refused(ask(&house, &document, operation, &theirs, &admin).await, &theirs);
            assert_eq!(told, refused(ask(&house, &document, operation, &nobodys, &admin).await, &nobodys), "{theirs}");
            one += 1;
        }
        // And no cursor leads a list into another's.
        let parameters = operation.described["parameters"].as_array().cloned().unwrap_or_default();
        if operation.method == Method::GET && parameters.iter().any(|parameter| parameter["name"] == "cursor") {
            for cursor in [&integration, &profile, &delivery] {
                let path = format!("{theirs}?cursor={cursor}");
                let answer = ask(&house, &document, operation, &path, &admin).await;
                let text = answer.body.to_string();
                assert!([400, 404].contains(&answer.status) || answer.body["data"] == json!([]), "{path}: {text}");
            }
        }
    }
    assert!(app >= 18 && one >= 9, "{app} {one}");
    assert_eq!(of_other(rows(&house).await), before, "no row of the other app has changed");
    assert_eq!(receiver.received().len(), 1, "and nothing was sent for it");
    assert_eq!(unknown("appId"), "app_00000000000000000000000000");
}

/// All rows of an audit log, newest first.
async fn audit(house: &Running, path: &str) -> Vec<Value> {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = house.manage(Method::GET, &format!("{path}?limit=20{cursor}"), None).await.expect(200).body;
        rows.extend(page["data"].as_array().expect("a list").iter().cloned());
        match page["pagination"]["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn actions(rows: &[Value], outcome: &str) -> BTreeSet<String> {
    let rows = rows.iter().filter(|row| row["outcome"] == outcome);
    rows.map(|row| row["action"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn every_change_is_written_down_and_so_is_every_try_that_a_role_does_not_allow() {
    let house = Running::start().await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let made = house.manage(Method::POST, "/operators", Some(json!({"name": "Vera", "role": "viewer"}))).await;
    let (vera, token) = (made.clone().expect(201).text("id"), made.text("token"));
    let document = document(&house).await;

    // Somebody who may only look tries everything.
    let mut tried = 0;
    for operation in operations(&house).await.iter().filter(|operation| operation.method != Method::GET) {
        let path = operation.at(&[("appId", &app.id), ("name", "token")]);
        let refused = ask(&house, &document, operation, &path, &token).await.expect(403);
        insist(&document, &operation.method, path.trim_start_matches("/api/v1"), &refused);
        tried += 1;
    }
    let own = format!("/apps/{}/audit", app.id);
    let of = |rows: &[Value], outcome: &str| -> Vec<Value> {
        rows.iter().filter(|row| row["outcome"] == outcome).cloned().collect()
    };
    let (rows, others) = (audit(&house, &own).await, audit(&house, "/audit").await);
    let refused = [of(&rows, "refused"), of(&others, "refused")].concat();
    assert_eq!(refused.len(), tried, "{refused:?}");
    assert!(refused.iter().all(|row| row["operator"] == "Vera" && row["refusal"] == "role"), "{refused:?}");
    assert!(refused.iter().all(|row| row["ip"] == "127.0.0.1"), "{refused:?}");
    let all = actions(&refused, "refused");
    assert_eq!(all.len(), tried, "an action has one name: {all:?}");

    // Somebody who may do it does it, and it works.
    let at = |path: &str| format!("/apps/{}{path}", app.id);
    let manage = async |method: Method, path: String, body: Option<Value>| {
        let answer = house.manage(method.clone(), &path, body).await;
        insist(&document, &method, &path, &answer);
        answer
    };
    let draft = json!({"name": "Sales", "destination": "tel:+493012345678"});
    let profile = manage(Method::POST, at("/profiles"), Some(draft)).await.expect(201).text("id");
    let integration = house.integrate(&app, &receiver, &["widget_loaded"], Value::Null).await;
    let visitor = house.token(&app, json!({})).await;
    house.public("/v1/events", Some(&visitor), &loaded()).await.expect(202);
    let delivery = house.settled(&app, Duration::from_secs(10)).await["id"].as_str().expect("an id").to_owned();
    let (one, secret) = (at(&format!("/integrations/{integration}")), "/secrets/token");
    let session = house.session(&app, json!({})).await.expect(201);
    let call = crate::design::called(&house, &app, &session, true).await;
    for (method, path, body, status) in [
        (Method::PATCH, at(""), Some(json!({"name": "Bakery"})), 200),
        (Method::POST, at("/rotate-key"), None, 200),
        (Method::PUT, at("/hours"), Some(json!({"mode": "always"})), 200),
        (Method::PUT, at("/design"), Some(json!({"lang": "de"})), 200),
        (Method::PUT, at("/form"), Some(json!({"fields": []})), 200),
        (Method::PUT, at("/survey"), Some(json!({"questions": []})), 200),
        (Method::PUT, at("/buttons"), Some(json!({"buttons": []})), 200),
        (Method::PUT, at("/embed"), Some(json!({"allowedOrigins": ["https://shop.example.com"]})), 200),
        (Method::PUT, at("/custom-code"), Some(json!({"headHtml": "<p>"})), 200),
        (Method::PUT, at("/retention"), Some(json!({"calls": 7})), 200),
        (Method::POST, at("/design/publish"), None, 201),
        (Method::POST, at("/design/preview"), None, 201),
        (Method::POST, at("/design/versions/1/restore"), None, 201),
        (Method::DELETE, at(&format!("/calls/{call}")), None, 204),
        (Method::PATCH, at(&format!("/profiles/{profile}")), Some(json!({"default": true})), 200),
        (Method::DELETE, at(&format!("/profiles/{profile}")), None, 204),
        (Method::PATCH, one.clone(), Some(json!({"name": "ERP"})), 200),
        (Method::PUT, format!("{one}{secret}"), Some(json!({"value": "canary-1"})), 200),
        (Method::POST, format!("{one}{secret}/reveal"), Some(json!({"reason": "moving"})), 200),
        (Method::DELETE, format!("{one}{secret}"), None, 204),
        (Method::POST, format!("{one}/test"), None, 200),
        (Method::POST, at(&format!("/deliveries/{delivery}/resend")), None, 202),
        (Method::POST, format!("{one}/resend"), Some(json!({"since": "2026-01-01T00:00:00Z"})), 202),
        (Method::POST, format!("{one}/signing-key"), Some(json!({})), 201),
        (Method::POST, format!("{one}/deactivate"), None, 200),
        (Method::POST, format!("{one}/activate"), None, 200),
        (Method::DELETE, one.clone(), None, 204),
        (Method::DELETE, at("/provider"), None, 204),
        (Method::DELETE, format!("/operators/{vera}"), None, 204),
    ] {
        manage(method, path, body).await.expect(status);
    }
    // What changes nothing is no change.
    let before = audit(&house, &own).await.len();
    house.manage(Method::PATCH, &at(""), Some(json!({}))).await.expect(200);
    let rows = audit(&house, &own).await;
    assert_eq!(rows.len(), before);
    house.manage(Method::DELETE, &at(""), None).await.expect(204);
    house.manage(Method::GET, &own, None).await.expect(404);
    let others = audit(&house, "/audit").await;
    let granted = [of(&rows, "granted"), of(&others, "granted")].concat();
    assert_eq!(actions(&granted, "granted"), all);
    let target = |action: &str| {
        let row = granted.iter().find(|row| row["action"] == action).unwrap_or_else(|| panic!("no {action}"));
        row["target"].as_str().expect("text").to_owned()
    };
    for (action, expected) in [
        ("app.create", app.id.as_str()),
        ("app.delete", &app.id),
        ("provider.put", &app.id),
        ("profile.delete", &profile),
        ("integration.create", &integration),
        ("integration.resend", &integration),
        ("delivery.resend", &delivery),
        ("call.erase", &call),
        ("design.restore", &format!("{}/versions/1", app.id)),
        ("secret.reveal", &format!("{integration}/secrets/token")),
        ("operator.create", &vera),
        ("operator.delete", &vera),
    ] {
        assert_eq!(target(action), expected, "{action}");
    }
    let text = json!([rows, others]).to_string();
    assert!(!text.contains("canary") && !text.contains("whsec_") && !text.contains(&token), "no secret: {text}");
}
