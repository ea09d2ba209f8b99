//! Who may do what, over every operation that `openapi.json` names: roles, and apps apart from each other.

use std::{collections::BTreeMap, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    openapi::{Operation, operations, unknown},
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

async fn document(house: &Running) -> Value {
    house.send("console.localhost", Method::GET, "/api/v1/openapi.json", &[], None).await.expect(200).body
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
async fn rows(house: &Running) -> BTreeMap<String, Value> {
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
    let foreign = [
        ("integrationId", integration.as_str()),
        ("profileId", profile.as_str()),
        ("deliveryId", delivery.as_str()),
        ("name", "token"),
    ];
    let document = document(&house).await;
    let admin = house.local().operator_token.clone();
    let of_other = |rows: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
        rows.into_iter().filter(|(key, _)| key.contains(&other.id)).collect()
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
