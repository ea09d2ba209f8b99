//! The API's own description: complete, and true about who may do what.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    design,
    support::{
        house::{Answer, Running, loaded},
        receiver::{self, Receiver},
    },
};

/// One operation of the document.
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, with names in braces.
    pub path: String,
    /// The role it needs; empty: none.
    pub role: String,
    /// All that the document says of it.
    pub described: Value,
}

impl Operation {
    /// Its path with these ids in place of their names; others become one that nobody has.
    pub fn at(&self, ids: &[(&str, &str)]) -> String {
        let part = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => {
                let known = ids.iter().find(|(known, _)| *known == name);
                known.map_or_else(|| unknown(name), |(_, id)| (*id).to_owned())
            }
            None => part.to_owned(),
        };
        self.path.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    /// Whether its path names an app.
    pub fn is_of_an_app(&self) -> bool {
        self.path.contains("{appId}")
    }
}

/// An id of the right form that nobody has.
pub fn unknown(name: &str) -> String {
    let prefix = match name {
        "appId" => "app",
        "integrationId" => "int",
        "deliveryId" => "dlv",
        "profileId" => "dest",
        "callId" => "call",
        "operatorId" => "op",
        _ => return "unknown".to_owned(),
    };
    format!("{prefix}_00000000000000000000000000")
}

/// Every operation of the document.
pub async fn operations(house: &Running) -> Vec<Operation> {
    let document = house.send("console.localhost", Method::GET, "/api/v1/openapi.json", &[], None).await.expect(200);
    assert_eq!(document.headers["content-type"], "application/json");
    let paths = document.body["paths"].as_object().expect("paths").clone();
    let mut operations = Vec::new();
    for (path, item) in paths {
        for (method, described) in item.as_object().expect("operations").clone() {
            let method = method.to_uppercase().parse().expect("a method");
            let role = described["x-role"].as_str().unwrap_or_default().to_owned();
            operations.push(Operation { method, path: path.clone(), role, described });
        }
    }
    operations
}

/// The document itself.
pub async fn document(house: &Running) -> Value {
    house.send("console.localhost", Method::GET, "/api/v1/openapi.json", &[], None).await.expect(200).body
}

/// Where a value is not as a schema says; nowhere when it fits. Knows the words that say which fields there are and of
/// which kinds: what a type and its likeness in the document can disagree about.
fn misfits(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect("what is referred to");
        return misfits(document, schema, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().any(|choice| misfits(document, choice, value, at).is_empty());
        return if fits { Vec::new() } else { vec![format!("{at}: none of {schema}")] };
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("{at}: a kind that is not known here: {other:?} in {schema}"),
    };
    if !kinds.iter().any(is) {
        return vec![format!("{at}: {value} is no {kinds:?}")];
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return vec![format!("{at}: {value} is none of {}", schema["enum"])];
    }
    let mut wrong = Vec::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{at}.{name} is missing"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => wrong.extend(misfits(document, schema, field, &format!("{at}.{name}"))),
            None if schema["additionalProperties"] == false => wrong.push(format!("{at}.{name} is not described")),
            None => {}
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(misfits(document, &schema["items"], item, &format!("{at}[{index}]")));
    }
    wrong
}

/// Insists that an answer is as the document says of this operation.
#[track_caller]
pub fn insist(document: &Value, method: &Method, path: &str, answer: &Answer) {
    let path = format!("/api/v1{}", path.split('?').next().unwrap_or_default());
    let fits = |template: &str| {
        let (mut given, mut named) = (path.split('/'), template.split('/'));
        given.by_ref().zip(named.by_ref()).all(|(given, named)| given == named || named.starts_with('{'))
            && path.split('/').count() == template.split('/').count()
    };
    let item = document["paths"].as_object().expect("paths").iter().find(|(template, _)| fits(template));
    let operation = &item.unwrap_or_else(|| panic!("{path} is not described")).1[method.as_str().to_lowercase()];
    let mut described = &operation["responses"][answer.status.to_string()];
    if let Some(reference) = described["$ref"].as_str() {
        described = document.pointer(reference.trim_start_matches('#')).expect("what is referred to");
    }
    assert!(described.is_object(), "{method} {path}: {} is not described", answer.status);
    let schema = &described["content"]["application/json"]["schema"];
    if schema.is_null() {
        return assert_eq!(answer.body, Value::Null, "{method} {path}");
    }
    let wrong = misfits(document, schema, &answer.body, "");
    assert!(wrong.is_empty(), "{method} {path}: {wrong:?} in {}", answer.body);
}

/// Names are the document's matter; what counts is where they stand.
fn anonymous(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else_is() {
    let house = Running::start().await;
    let operations = operations(&house).await;
    let mut paths: Vec<String> = console::api_paths();
    paths.extend(operations.iter().map(|operation| operation.path.clone()));
    let mut paths: Vec<String> = paths.iter().map(|path| anonymous(path)).collect();
    paths.sort();
    paths.dedup();
    assert!(paths.len() > 5, "{paths:?}");
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    for (path, method) in paths.iter().flat_map(|path| methods.iter().map(move |method| (path, method))) {
        let described = operations.iter().any(|known| known.method == *method && anonymous(&known.path) == *path);
        // Where there is a route, somebody without a token is asked for one; where there is none, nobody is.
        let answer = house.send("console.localhost", method.clone(), &path.replace("{}", "x"), &[], None).await;
        let exists = if path.ends_with("/openapi.json") { answer.status == 200 } else { answer.status == 401 };
        assert!(exists || answer.status == 404, "{method} {path}: {}", answer.body);
        assert_eq!(described, exists, "{method} {path}");
    }
    let ids: Vec<_> = operations.iter().map(|operation| operation.described["operationId"].as_str()).collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
}

#[tokio::test]
async fn nothing_else_answers() {
    let house = Running::start().await;
    let bearer = format!("Bearer {}", house.local().operator_token);
    let headers = [("authorization", bearer.as_str())];
    let ask = |method, path| house.send("console.localhost", method, path, &headers, None);
    // A method that a path does not have is no address (the contract has no 405), and neither is a broken escape.
    let refused = join_all([
        ask(Method::DELETE, "/api/v1/apps"),
        ask(Method::OPTIONS, "/api/v1/apps"),
        ask(Method::TRACE, "/api/v1/apps"),
        ask(Method::GET, "/api/v1/apps/"),
        ask(Method::GET, "/api/v1/apps/%FF"),
        ask(Method::GET, "/api/v1"),
    ])
    .await;
    for answer in refused {
        assert_eq!((answer.status, answer.kind()), (404, "not_found"), "{}", answer.body);
    }
    let head = ask(Method::HEAD, "/api/v1/apps").await;
    assert_eq!((head.status, &head.headers["content-type"]), (200, &"application/json".parse().expect("a header")));
    house.send("console.localhost", Method::HEAD, "/api/v1/apps", &[], None).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_read_is_as_described() {
    let house = Running::start().await;
    let document = document(&house).await;
    let receiver = Receiver::start().await;
    let app = house.app().await;
    let call = crate::calls::past(&house, &app).await;
    let ask = async |method: Method, path: &str, body: Option<Value>| {
        let answer = house.manage(method.clone(), path, body).await;
        insist(&document, &method, path, &answer);
        answer
    };
    let at = |path: &str| format!("/apps/{}{path}", app.id);
    let provider = json!({"kind": "sip", "uri": "sip:trunk.example.com", "transport": "tls", "username": "me",
        "password": "canary-1", "callerId": "+493012345678", "codecs": ["opus", "PCMA"], "active": true});
    ask(Method::PUT, &at("/provider"), Some(provider)).await.expect(200);
    let draft = json!({"name": "Sales", "destination": "tel:+493012345678", "routingKeys": ["sales"], "default": true});
    let profile = ask(Method::POST, &at("/profiles"), Some(draft)).await.expect(201).text("id");
    let more = json!({"headers": [{"name": "X-A", "value": "b"}], "retryStatuses": [429]});
    let integration = house.integrate(&app, &receiver, &["widget_loaded"], more).await;
    let one = at(&format!("/integrations/{integration}"));
    ask(Method::PUT, &format!("{one}/secrets/token"), Some(json!({"value": "canary-2"}))).await.expect(200);
    let reveal = format!("{one}/secrets/token/reveal");
    ask(Method::POST, &reveal, Some(json!({"reason": "moving"}))).await.expect(200);
    ask(Method::POST, &reveal, Some(json!({"reason": "again"}))).await.expect(409);
    ask(Method::POST, &format!("{one}/signing-key"), Some(json!({}))).await.expect(201);
    ask(Method::POST, &format!("{one}/signing-key"), Some(json!({}))).await.expect(201);
    let token = house.token(&app, json!({"context": {"order": "A-1"}})).await;
    house.public("/v1/events", Some(&token), &loaded()).await.expect(202);
    let delivery = house.settled(&app, Duration::from_secs(10)).await["id"].as_str().expect("an id").to_owned();
    receiver.answer([receiver::Answer::status(500)]);
    ask(Method::POST, &format!("{one}/test"), None).await.expect(200);
    ask(Method::POST, "/operators", Some(json!({"name": "Ada", "role": "editor"}))).await.expect(201);
    ask(Method::POST, "/apps", Some(json!({"name": ""}))).await.expect(400);
    let look = json!({"lang": "ar", "texts": {"title": "x"}, "blocks": [{"kind": "text", "text": "x"}]});
    ask(Method::PUT, &at("/design"), Some(look)).await.expect(200);
    let button = json!({"label": "x", "action": "copy", "value": "x"});
    ask(Method::PUT, &at("/buttons"), Some(json!({"buttons": [button]}))).await.expect(200);
    let embed = json!({"allowedOrigins": ["https://shop.example.com"], "frameAncestors": ["https://*.example.com"]});
    ask(Method::PUT, &at("/embed"), Some(embed)).await.expect(200);
    ask(Method::PUT, &at("/custom-code"), Some(json!({"headHtml": "<p>"}))).await.expect(200);
    ask(Method::PUT, &at("/retention"), Some(json!({"calls": 7}))).await.expect(200);
    design::ask(&house, &app).await;
    ask(Method::POST, &at("/design/versions/1/restore"), None).await.expect(201);
    let session = house.session(&app, json!({})).await.expect(201);
    let form = json!({"values": {"name": "Ada", "terms": true}}).to_string().into_bytes();
    let bearer = format!("Bearer {}", session.text("sessionToken"));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    house.send("localhost", Method::PUT, "/v1/form", &headers, Some(form)).await.expect(204);
    let told = design::called(&house, &app, &session, true).await;
    let answers = json!([{"questionId": "q1", "rating": 5}, {"questionId": "why", "text": "Kind"}]);
    let survey = json!({"callId": told, "answers": answers, "comment": "x"});
    house.public("/v1/surveys", Some(&session.text("sessionToken")), &survey).await.expect(201);
    let shown = ask(Method::GET, &at(&format!("/calls/{told}")), None).await.expect(200);
    assert_eq!(shown.body["data"]["formValues"].as_array().map(Vec::len), Some(2), "{}", shown.body);
    let ids = [
        ("appId", app.id.as_str()),
        ("integrationId", &integration),
        ("profileId", &profile),
        ("deliveryId", &delivery),
        ("callId", &call),
        ("name", "token"),
        ("version", "1"),
    ];
    let (mut read, mut text) = (0, String::new());
    for operation in operations(&house).await {
        let path = operation.at(&ids);
        if operation.method != Method::GET || operation.role.is_empty() {
            continue;
        }
        let answer = ask(Method::GET, path.trim_start_matches("/api/v1"), None).await.expect(200);
        assert_ne!(answer.body["data"], json!([]), "{path} shows something");
        text += &answer.body.to_string();
        read += 1;
    }
    assert!(read >= 16, "{read}");
    assert!(text.contains("\"hasPassword\":true") && !text.contains("canary"), "no secret: {text}");
}
