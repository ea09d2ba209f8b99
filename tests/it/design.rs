//! What makes up a widget: designs and their versions, where it may stand, code of a customer's own, and what visitors
//! write into forms and surveys.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use domain::{
    call::Call,
    id::{AppId, CallId, DestinationId, SessionId},
    session::Session,
    time::Timestamp,
};
use futures_util::future::join_all;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use store::{Aws, Endpoints, Store, calls::Stored};

use crate::{
    isolation::rows,
    support::{
        house::{Answer, MadeApp, Running, client, eventually, pause},
        receiver::Receiver,
    },
};

/// A text that must not be found where it does not belong.
const CANARY: &str = "canary-of-a-visitor";

fn form() -> Value {
    json!({"fields": [
        {"id": "name", "kind": "text", "label": "Your name", "required": true},
        {"id": "about", "kind": "select", "label": "About", "options": ["Sales", "Help"]},
        {"id": "terms", "kind": "checkbox", "label": "Terms", "required": true},
    ]})
}

fn survey() -> Value {
    json!({"comment": true, "questions": [
        {"id": "q1", "kind": "rating", "label": "How was it?"},
        {"id": "q2", "kind": "rating", "label": "Did we help?"},
        {"id": "why", "kind": "choice", "label": "Why?", "options": ["Fast", "Kind"]},
    ]})
}

async fn put(house: &Running, app: &MadeApp, what: &str, body: Value) -> Answer {
    house.manage(Method::PUT, &format!("/apps/{}/{what}", app.id), Some(body)).await
}

async fn get(house: &Running, app: &MadeApp, what: &str) -> Value {
    house.manage(Method::GET, &format!("/apps/{}/{what}", app.id), None).await.expect(200).body["data"].take()
}

async fn post(house: &Running, app: &MadeApp, what: &str) -> Answer {
    house.manage(Method::POST, &format!("/apps/{}/{what}", app.id), None).await
}

/// Publishes this form and survey.
pub async fn ask(house: &Running, app: &MadeApp) {
    put(house, app, "form", form()).await.expect(200);
    put(house, app, "survey", survey()).await.expect(200);
    post(house, app, "design/publish").await.expect(201);
}

/// What a new visitor's widget is told.
async fn widget(house: &Running, app: &MadeApp) -> Value {
    house.session(app, json!({})).await.expect(201).body["data"]["widget"].take()
}

/// Sends form values.
async fn fill(house: &Running, token: &str, values: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({ "values": values }).to_string().into_bytes();
    house.send("localhost", Method::PUT, "/v1/form", &headers, Some(body)).await
}

pub fn table(house: &Running) -> Store {
    let at = &house.local().aws;
    let aws = Aws::local(Endpoints { dynamodb: at.dynamodb.clone(), sqs: at.sqs.clone(), kms: at.kms.clone() });
    Store::open(&aws, house.local().tables.values().next().expect("a table").as_str())
}

/// What the house's clock says.
async fn now(house: &Running) -> Timestamp {
    let answer = house.manage(Method::GET, "/apps?limit=1", None).await.expect(200);
    answer.body["meta"]["timestamp"].as_str().and_then(|text| text.parse().ok()).expect("a time")
}

/// A call of a session, as a media server writes it down; `over`: it ended. Its id.
pub async fn called(house: &Running, app: &MadeApp, session: &Answer, over: bool) -> String {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let number = [COUNT.fetch_add(1, Ordering::Relaxed); 10];
    let now = now(house).await;
    let app: AppId = app.id.parse().expect("an id");
    let id: SessionId = session.text("sessionId").parse().expect("an id");
    let session = Session {
        id,
        app,
        profile: None,
        routing_key: None,
        context: Default::default(),
        preview: false,
        draft: false,
    };
    let call = CallId::mint(now, &number);
    let profile = DestinationId::mint(now, &number);
    let mut stored = Stored { call: Call::start(call, &session, profile, now), owner: "server".into() };
    let store = table(house);
    store.begin_call(&session, &stored, 10, now).await.expect("asked").expect("begun");
    if over {
        stored.call.ended_at = Some(now);
        store.keep_call(app, &stored).await.expect("kept");
        store.release_call(app, id, call).await.expect("released");
    }
    call.to_string()
}

#[tokio::test]
async fn a_design_is_drafted_published_and_brought_back() {
    let house = Running::start().await;
    let app = house.app().await;
    let plain = widget(&house, &app).await;
    assert_eq!((&plain["version"], &plain["lang"], &plain["form"]), (&json!(0), &json!("auto"), &Value::Null));
    assert_eq!(plain["codeOrigin"], house.local().code_origin.as_str());
    assert_eq!((&plain["customCode"], &plain["allowedOrigins"]), (&json!(false), &json!([])));

    let blocks = json!([{"kind": "text", "text": "Hello"}, {"kind": "disclosure", "text": "Calls cost nothing."}]);
    let texts =
        json!({"title": "Sprich mit uns", "error.busy.title": "Alle backen", "broken.media_failed.body": "Ruf an."});
    let look = json!({"lang": "de", "texts": texts, "theme": {"accent": "#0A7A4B"}, "blocks": blocks});
    let shown = put(&house, &app, "design", look).await.expect(200).body["data"].take();
    assert_eq!((&shown["publishedVersion"], &shown["changed"]), (&json!(0), &json!(true)));
    assert_eq!((&shown["theme"]["accent"], &shown["theme"]["onAccent"]), (&json!("#0a7a4b"), &json!("#ffffff")));
    put(&house, &app, "form", form()).await.expect(200);
    let button = json!({"label": "Mail", "action": "email", "value": "help@example.com"});
    put(&house, &app, "buttons", json!({"buttons": [button]})).await.expect(200);
    assert_eq!(widget(&house, &app).await, plain, "a draft is nobody's but the operators'");

    let first = post(&house, &app, "design/publish").await.expect(201).body["data"].take();
    assert_eq!(
        (&first["version"], &first["publishedBy"]),
        (&json!(1), &get(&house, &app, "design/versions").await[0]["publishedBy"])
    );
    let seen = widget(&house, &app).await;
    for (field, value) in
        [("version", json!(1)), ("lang", json!("de")), ("blocks", blocks), ("form", form()), ("survey", Value::Null)]
    {
        // Options stand only where there is something to choose.
        assert_eq!(seen[field], if field == "form" { get(&house, &app, "form").await } else { value }, "{field}");
    }
    assert_eq!(seen["texts"], texts);
    assert_eq!(seen["buttons"], json!([{"id": "b1", "label": "Mail", "action": "email", "value": "help@example.com"}]));
    assert_eq!(get(&house, &app, "design").await["changed"], json!(false));

    put(&house, &app, "design", json!({"lang": "ar"})).await.expect(200);
    put(&house, &app, "form", json!({"fields": []})).await.expect(200);
    post(&house, &app, "design/publish").await.expect(201);
    assert_eq!(widget(&house, &app).await["form"], Value::Null);
    let back = post(&house, &app, "design/versions/1/restore").await.expect(201).body["data"].take();
    assert_eq!((&back["version"], &back["restoredFrom"], &back["lang"]), (&json!(3), &json!(1), &json!("de")));
    let again = widget(&house, &app).await;
    assert_eq!((&again["version"], &again["form"]), (&json!(3), &seen["form"]));
    assert_eq!(get(&house, &app, "design").await["lang"], "ar", "the draft stays");
    let versions = get(&house, &app, "design/versions").await;
    let numbers: Vec<_> = versions.as_array().expect("a list").iter().map(|known| &known["version"]).collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(get(&house, &app, "design/versions/2").await["lang"], "ar");
    let next = house.manage(Method::GET, &format!("/apps/{}/design/versions?limit=1&cursor=3", app.id), None).await;
    assert_eq!((&next.body["data"][0]["version"], &next.body["pagination"]["nextCursor"]), (&json!(2), &json!("2")));
    for absent in ["4", "0", "01", "+1", "-1", "1.0", "99999999999", "abc", "%20"] {
        assert_eq!(post(&house, &app, &format!("design/versions/{absent}/restore")).await.status, 404, "{absent}");
        let path = format!("/apps/{}/design/versions/{absent}", app.id);
        assert_eq!(house.manage(Method::GET, &path, None).await.status, 404, "{absent}");
    }
    assert_eq!(widget(&house, &app).await["version"], 3);
}

#[tokio::test]
async fn a_draft_is_seen_by_who_holds_a_key_of_its_app() {
    let house = Running::start().await;
    let (app, other) = (house.app().await, house.app().await);
    put(&house, &app, "design", json!({"texts": {"title": "Soon"}})).await.expect(200);
    put(&house, &app, "form", form()).await.expect(200);
    let made = post(&house, &app, "design/preview").await.expect(201);
    let lives = made.text("expiresAt").parse::<Timestamp>().expect("a time").since(now(&house).await);
    assert!((3_590..=3_600).contains(&lives.as_secs()), "{lives:?}");
    let (address, key) = made.body["data"]["url"].as_str().and_then(|url| url.split_once("&preview=")).expect("a key");
    assert_eq!(address, format!("{}/widget/{}?key={}", house.local().origin, app.id, app.key));

    let session = house.session(&app, json!({"preview": key})).await.expect(201);
    let seen = &session.body["data"]["widget"];
    assert_eq!((&seen["version"], &seen["texts"]["title"]), (&json!(0), &json!("Soon")));
    assert_eq!(seen["form"], get(&house, &app, "form").await);
    // What its visitor writes is held to the draft; a session that only says that it is a preview has what is published.
    let values = json!({"name": "Ada", "terms": true});
    fill(&house, &session.text("sessionToken"), &values).await.expect(204);
    let marked = house.session(&app, json!({"preview": true})).await.expect(201);
    assert_eq!(
        (&marked.body["data"]["widget"]["texts"], &marked.body["data"]["widget"]["form"]),
        (&json!({}), &Value::Null)
    );
    assert_eq!(fill(&house, &marked.text("sessionToken"), &values).await.expect(400).field(), "values.name");

    // It is the draft as it is now, and two may look at once.
    post(&house, &app, "design/preview").await.expect(201);
    put(&house, &app, "design", json!({"texts": {"title": "Sooner"}})).await.expect(200);
    let later = house.session(&app, json!({"preview": key})).await.expect(201);
    assert_eq!(later.body["data"]["widget"]["texts"]["title"], "Sooner");
    for (app, key) in [(&other, key), (&app, &key[..key.len() - 1]), (&app, ""), (&app, "true"), (&app, "prv_")] {
        let refused = house.session(app, json!({"preview": key})).await.expect(410);
        assert_eq!(refused.kind(), "gone", "{key}");
        assert_eq!(refused.body["error"]["message"], "This preview has expired. Open it again from the console.");
    }
    // A key takes the place of no other proof.
    assert_eq!(house.session(&app, json!({"preview": key, "widgetKey": "wrong"})).await.status, 401);
    let log = get(&house, &app, "audit").await;
    assert!(log.as_array().expect("a list").iter().any(|row| row["action"] == "design.preview"), "{log}");
    assert!(!log.to_string().contains(key));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_publish_at_once_make_one_version_each_or_none() {
    let house = Running::start().await;
    let app = house.app().await;
    for _ in 0..3 {
        let before = get(&house, &app, "design").await["publishedVersion"].as_u64().expect("a number");
        let answers = join_all((0..8).map(|_| post(&house, &app, "design/publish"))).await;
        let made: Vec<u64> = answers
            .iter()
            .filter(|answer| answer.status == 201)
            .map(|answer| answer.body["data"]["version"].as_u64().expect("a number"))
            .collect();
        assert!(answers.iter().all(|answer| [201, 409].contains(&answer.status)), "{answers:?}");
        let mut numbers = made.clone();
        numbers.sort_unstable();
        let expected: Vec<u64> = (before + 1..=before + numbers.len() as u64).collect();
        assert!(!made.is_empty());
        assert_eq!(numbers, expected, "no number twice, none left out");
        assert_eq!(widget(&house, &app).await["version"], json!(before + made.len() as u64));
    }
}

#[tokio::test]
async fn the_newest_fifty_versions_are_kept() {
    let house = Running::start().await;
    let app = house.app().await;
    for version in 1..=52 {
        assert_eq!(post(&house, &app, "design/publish").await.expect(201).body["data"]["version"], version);
    }
    let path = |version: u32| format!("/apps/{}/design/versions/{version}", app.id);
    for (version, status) in [(1, 404), (2, 404), (3, 200), (52, 200)] {
        house.manage(Method::GET, &path(version), None).await.expect(status);
    }
    post(&house, &app, "design/versions/2/restore").await.expect(404);
    let list = house.manage(Method::GET, &format!("/apps/{}/design/versions?limit=100", app.id), None).await;
    assert_eq!(list.body["data"].as_array().expect("a list").len(), 50);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let house = Running::start().await;
    let app = house.app().await;
    let long = "x".repeat(70_000);
    for (what, body, status, field) in [
        ("design", json!({"theme": {"accent": "#777777"}}), 400, "theme.onAccent"),
        ("design", json!({"theme": {"accent": 7}}), 400, "theme.accent"),
        ("design", json!({"theme": []}), 400, "theme"),
        ("design", json!({"theme": null}), 400, "theme"),
        ("design", json!({"theme": {"colour": "#000000"}}), 400, "theme.colour"),
        ("design", json!({"lang": "it"}), 400, "lang"),
        ("design", json!({"lang": {"de": null}}), 400, "lang"),
        ("design", json!({"texts": []}), 400, "texts"),
        ("design", json!({"texts": {"title": 7}}), 400, "texts.title"),
        ("design", json!({"texts": {"nobody": "x"}}), 400, "texts.nobody"),
        ("design", json!({"texts": {"error.nobody.title": "x"}}), 400, "texts.error.nobody.title"),
        ("design", json!({"blocks": [["text", "x"]]}), 400, "blocks[0]"),
        ("design", json!({"blocks": [{"kind": "html", "text": "x"}]}), 400, "blocks[0].kind"),
        (
            "design",
            json!({"blocks": [{"kind": "image", "url": "http://a.example/a.png", "alt": ""}]}),
            400,
            "blocks[0].url",
        ),
        ("design", json!({"texts": {"title": long}}), 413, ""),
        ("design", json!([]), 400, ""),
        ("form", json!({}), 400, "fields"),
        ("form", json!({"fields": {}}), 400, "fields"),
        ("form", json!({"fields": [{"id": "a", "kind": "file", "label": "A"}]}), 400, "fields[0].kind"),
        ("form", json!({"fields": [{"id": "a", "kind": "select", "label": "A"}]}), 400, "fields[0].options"),
        ("survey", json!({"questions": [], "comment": true}), 400, "questions"),
        (
            "survey",
            json!({"questions": [{"id": "a", "kind": "rating", "label": "A", "required": true}]}),
            400,
            "questions[0].required",
        ),
        (
            "buttons",
            json!({"buttons": [{"label": "A", "action": "link", "value": "javascript:alert(1)"}]}),
            400,
            "buttons[0].value",
        ),
        ("buttons", json!({"buttons": [{"label": "A", "action": "open", "value": "x"}]}), 400, "buttons[0].action"),
        ("embed", json!({"allowedOrigins": ["*"]}), 400, "allowedOrigins[0]"),
        ("embed", json!({"allowedOrigins": ["https://a.example/"]}), 400, "allowedOrigins[0]"),
        ("embed", json!({"allowedOrigins": "https://a.example"}), 400, "allowedOrigins"),
        ("embed", json!({"frameAncestors": ["https://a.example; script-src *"]}), 400, "frameAncestors[0]"),
        ("embed", json!({"frameAncestors": ["https://a.example\r\nset-cookie: a=b"]}), 400, "frameAncestors[0]"),
        ("custom-code", json!({"headHtml": "x".repeat(65_537)}), 400, "headHtml"),
        ("custom-code", json!({"bodyEndHtml": "é".repeat(32_769)}), 400, "bodyEndHtml"),
        ("custom-code", json!({"headHtml": "x".repeat(1_100_000)}), 413, ""),
        ("custom-code", json!({"headHtml": null}), 400, "headHtml"),
        ("retention", json!({"calls": 0}), 400, "calls"),
        ("retention", json!({"deliveries": 91}), 400, "deliveries"),
        ("retention", json!({"surveys": -1}), 400, "surveys"),
        ("retention", json!({"surveys": 1.5}), 400, "surveys"),
    ] {
        let before = get(&house, &app, what).await;
        let shown = body.to_string().chars().take(100).collect::<String>();
        let refused = put(&house, &app, what, body).await;
        assert_eq!((refused.status, refused.field()), (status, field), "{what} {shown}: {}", refused.body);
        assert_eq!(get(&house, &app, what).await, before, "{what} {shown}");
    }
    let told = put(&house, &app, "design", json!({"theme": {"accent": "#777777"}})).await;
    assert!(told.body["error"]["message"].as_str().is_some_and(|text| text.contains("4.47:1")), "{}", told.body);
    assert_eq!(told.body["error"]["details"][0]["code"], "low_contrast");
}

/// A page as a browser would ask for it.
async fn page(house: &Running, host: &str, path: &str, tag: Option<&str>) -> Response {
    let port = house.local().origin.rsplit(':').next().expect("a port");
    let request = client(None).get(format!("http://127.0.0.1:{port}{path}")).header("host", format!("{host}:{port}"));
    let request = if let Some(tag) = tag { request.header("if-none-match", tag) } else { request };
    request.send().await.expect("an answer")
}

fn policy(answer: &Response) -> String {
    answer.headers()["content-security-policy"].to_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_widget_stands_where_its_app_says() {
    let house = Running::start().await;
    let (app, other) = (house.app().await, house.app().await);
    let shown = get(&house, &app, "embed").await;
    assert_eq!((&shown["allowedOrigins"], &shown["frameAncestors"]), (&json!([]), &json!([])));
    for way in ["iframe", "loader", "link"] {
        let snippet = shown["snippets"][way].as_str().expect("HTML");
        assert!(
            snippet.contains(&app.id) && snippet.contains(&app.key) && snippet.contains(&house.local().origin),
            "{snippet}"
        );
    }
    let embed = json!({
        "allowedOrigins": ["https://Shop.Example.com:443", "http://demo.localhost:8080"],
        "frameAncestors": ["https://*.example.com", "http://localhost:3000"],
    });
    let kept = put(&house, &app, "embed", embed).await.expect(200).body["data"].take();
    assert_eq!(kept["allowedOrigins"], json!(["https://shop.example.com", "http://demo.localhost:8080"]));
    assert_eq!(kept, get(&house, &app, "embed").await);
    assert_eq!(widget(&house, &app).await["allowedOrigins"], kept["allowedOrigins"]);
    let document = page(&house, "localhost", &format!("/widget/{}", app.id), None).await;
    assert!(
        policy(&document).contains("frame-ancestors https://*.example.com http://localhost:3000;"),
        "{}",
        policy(&document)
    );
    let document = page(&house, "localhost", &format!("/widget/{}", other.id), None).await;
    assert!(!policy(&document).contains("example.com"), "{}", policy(&document));
    // Left out is empty: none hears, and whoever may by default frames.
    let emptied = put(&house, &app, "embed", json!({})).await.expect(200).body["data"].take();
    assert_eq!((&emptied["allowedOrigins"], &emptied["frameAncestors"]), (&json!([]), &json!([])));
}

/// The loader's button looks as the widget that is published; the document says which language that speaks.
#[tokio::test]
async fn what_is_published_shows_before_there_is_a_session() {
    let house = Running::start().await;
    let (app, other) = (house.app().await, house.app().await);
    let theme = json!({"position": "bottom-left", "accent": "#0a7a4b", "onAccent": "#ffffff"});
    put(&house, &app, "design", json!({"lang": "de", "theme": theme})).await.expect(200);
    let (path, plain) = (format!("/widget/{}", app.id), format!("/widget/{}", other.id));
    let spoken = async |path: &str| {
        let html = page(&house, "localhost", path, None).await.text().await.expect("text");
        let file = html.split_once("\"modulepreload\" href=\"").and_then(|(_, rest)| rest.split_once("\">"));
        file.map(|(file, _)| file.rsplit('/').next().unwrap_or_default().to_owned())
    };
    let loader = async || get(&house, &app, "embed").await["snippets"]["loader"].as_str().expect("HTML").to_owned();
    assert!(loader().await.contains("data-position=\"bottom-right\""), "a draft is nobody's but the operators'");
    post(&house, &app, "design/publish").await.expect(201);
    let shown = loader().await;
    for part in ["position=\"bottom-left\"", "accent=\"#0a7a4b\"", "on-accent=\"#ffffff\"", "label=\"Anrufen\""] {
        assert!(shown.contains(&format!("data-{part}")), "{shown}");
    }
    assert_eq!(spoken(&path).await.as_deref(), Some("de.js"));
    assert_eq!(spoken(&plain).await, None);
    assert_eq!(spoken(&format!("{plain}?key=x&lang=ar")).await.as_deref(), Some("ar.js"));
    assert_eq!(spoken(&format!("{path}?lang=en")).await, None);
}

#[tokio::test]
async fn custom_code_is_served_on_its_own_host_alone() {
    let house = Running::start().await;
    let (app, other) = (house.app().await, house.app().await);
    let path = format!("/code/{}", app.id);
    assert_eq!(page(&house, "code.localhost", &format!("/code/{}", other.id), None).await.status(), 404);
    let head = "</script></head></html><meta name=a content=\"<b>&amp;\">";
    let code = json!({"headHtml": head, "bodyEndHtml": "<script>c2c.on('*', console.log)</script>"});
    put(&house, &app, "custom-code", code.clone()).await.expect(200);
    assert_eq!(get(&house, &app, "custom-code").await, code);
    assert_eq!(widget(&house, &app).await["customCode"], json!(true));

    let document = page(&house, "code.localhost", &path, None).await;
    assert_eq!(document.status(), 200);
    let headers = document.headers().clone();
    assert!(policy(&document).starts_with("sandbox allow-scripts; default-src 'none';"), "{}", policy(&document));
    assert!(policy(&document).contains(&format!("frame-ancestors {} ", house.local().origin)), "{}", policy(&document));
    for (name, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("cache-control", "public, max-age=60"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(!headers.contains_key("set-cookie") && !headers.contains_key("access-control-allow-origin"));
    let html = document.text().await.expect("text");
    let (bridge, at) = (html.find("c2c").expect("the bridge"), html.find(head).expect("their HTML, as it is"));
    assert!(bridge < at && html.contains("c2c.on('*', console.log)"), "{html}");
    let tag = headers["etag"].to_str().expect("text");
    assert_eq!(page(&house, "code.localhost", &path, Some(tag)).await.status(), 304);
    assert_eq!(page(&house, "code.localhost", &path, Some("W/\"other\"")).await.status(), 200);

    for (host, path) in [
        ("localhost", path.as_str()),
        ("console.localhost", &path),
        ("demo.localhost", &path),
        ("code.localhost", "/"),
        ("code.localhost", "/code/"),
        ("code.localhost", "/code/nonsense"),
        ("code.localhost", "/code/app_00000000000000000000000000"),
        ("code.localhost", "/code/%FF"),
        ("code.localhost", "/embed.js"),
        ("code.localhost", &format!("/widget/{}", app.id)),
        ("code.localhost", "/v1/sessions"),
        ("code.localhost", "/api/v1/openapi.json"),
    ] {
        assert_eq!(page(&house, host, path, None).await.status(), 404, "{host} {path}");
    }
    // As much as there may be, written in JSON's longest way.
    let area = "<".repeat(65_536);
    let text = format!("{{\"headHtml\":\"{}\",\"bodyEndHtml\":\"{area}\"}}", "\\u003c".repeat(65_536));
    let bearer = format!("Bearer {}", house.local().operator_token);
    let sent = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let address = format!("/api/v1/apps/{}/custom-code", other.id);
    house.send("console.localhost", Method::PUT, &address, &sent, Some(text.into_bytes())).await.expect(200);
    assert_eq!(get(&house, &other, "custom-code").await["headHtml"], area);
    put(&house, &other, "custom-code", json!({})).await.expect(200);
    assert_eq!(widget(&house, &other).await["customCode"], json!(false));
}

#[tokio::test]
async fn what_a_visitor_writes_is_kept_with_the_call_and_leaves_with_it() {
    let house = Running::start().await;
    let (app, receiver) = (house.app().await, Receiver::start().await);
    house.integrate(&app, &receiver, &["survey_submitted"], json!({})).await;
    let session = house.session(&app, json!({"context": {"page": "pricing"}})).await.expect(201);
    let token = session.text("sessionToken");
    // Nothing is asked before it is published.
    fill(&house, &token, &json!({})).await.expect(204);
    assert_eq!(fill(&house, &token, &json!({"name": "x"})).await.expect(400).field(), "values.name");
    ask(&house, &app).await;
    put(&house, &app, "retention", json!({"calls": 7, "surveys": 8, "deliveries": 9})).await.expect(200);

    let good = json!({"name": CANARY, "about": "Help", "terms": true});
    for (values, field) in [
        (json!({"terms": true}), "values.name"),
        (json!({"name": CANARY, "terms": false}), "values.terms"),
        (json!({"name": CANARY, "terms": true, "about": "Else"}), "values.about"),
        (json!({"name": "é".repeat(501), "terms": true}), "values.name"),
        (json!({"name": CANARY, "terms": true, "more": 1}), "values.more"),
        (json!(["x"]), "values"),
        (json!(null), "values"),
    ] {
        assert_eq!(fill(&house, &token, &values).await.expect(400).field(), field, "{values}");
    }
    assert_eq!(fill(&house, "nonsense", &good).await.status, 401);
    assert_eq!(fill(&house, &token, &json!({"name": "x".repeat(70_000)})).await.status, 413);
    fill(&house, &token, &good).await.expect(204);
    fill(&house, &token, &good).await.expect(204);

    let call = called(&house, &app, &session, true).await;
    // Later than clocks may differ.
    let began = now(&house).await;
    while now(&house).await.since(began) < Duration::from_millis(1_100) {
        pause().await;
    }
    let later = json!({"name": format!("{CANARY} again"), "terms": true});
    fill(&house, &token, &later).await.expect(204);
    let shown = get(&house, &app, &format!("calls/{call}")).await;
    let values: Vec<_> = shown["formValues"].as_array().expect("a list").iter().map(|value| &value["value"]).collect();
    assert_eq!(values, [&json!(CANARY), &json!("Help"), &json!(true)], "of before the call: {shown}");
    assert_eq!(shown["formValues"][0]["label"], "Your name");

    let answers = json!([{"questionId": "q1", "rating": 5}, {"questionId": "q2", "rating": 4}, {"questionId": "why", "text": "Kind"}]);
    let body = json!({"callId": call, "answers": answers, "comment": CANARY});
    let stranger = house.session(&app, json!({})).await.expect(201).text("sessionToken");
    let elsewhere = house.app().await;
    ask(&house, &elsewhere).await;
    let foreign = house.token(&elsewhere, json!({})).await;
    for (token, body, status, field) in [
        (&stranger, body.clone(), 404, ""),
        (&foreign, body.clone(), 404, ""),
        (&token, json!({"callId": "call_00000000000000000000000000", "answers": answers}), 404, ""),
        (&token, json!({"callId": "nonsense", "answers": answers}), 404, ""),
        (&token, json!({"callId": call, "answers": []}), 400, "answers"),
        (&token, json!({"callId": call, "answers": {}}), 400, "answers"),
        (&token, json!({"callId": call, "answers": [["q1", 5]]}), 400, "answers[0]"),
        (&token, json!({"callId": call, "answers": [{"questionId": "q1", "rating": 6}]}), 400, "answers[0].rating"),
        (&token, json!({"callId": call, "answers": [{"questionId": "q1", "rating": "5"}]}), 400, "answers[0].rating"),
        (&token, json!({"callId": call, "answers": answers, "comment": "é".repeat(2_001)}), 400, "comment"),
        (&token, json!({"answers": answers}), 400, "callId"),
        (&token, json!({"callId": 7, "answers": answers}), 400, "callId"),
    ] {
        let refused = house.public("/v1/surveys", Some(token), &body).await;
        assert_eq!((refused.status, refused.field()), (status, field), "{body}: {}", refused.body);
    }
    let sent = house.public("/v1/surveys", Some(&token), &body).await.expect(201);
    let again = house.public("/v1/surveys", Some(&token), &body).await.expect(201);
    assert_eq!(sent.body["data"], again.body["data"]);
    let changed = json!({"callId": call, "answers": [{"questionId": "q1", "rating": 1}]});
    house.public("/v1/surveys", Some(&token), &changed).await.expect(409);
    house.settled(&app, Duration::from_secs(10)).await;
    let received = receiver.received();
    assert_eq!(received.len(), 1, "{received:?}");
    let event = &received[0].body;
    assert_eq!((&event["name"], &event["id"]), (&json!("survey_submitted"), &sent.body["data"]["eventId"]));
    assert_eq!(
        event["data"],
        json!({"rating": 4.5, "answerCount": 3, "hasComment": true, "context": {"page": "pricing"}})
    );
    let listed = get(&house, &app, "surveys").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(
        (&listed[0]["callId"], &listed[0]["rating"], &listed[0]["comment"]),
        (&json!(call), &json!(4.5), &json!(CANARY))
    );
    assert_eq!(get(&house, &app, &format!("calls/{call}")).await["survey"], listed[0]);
    assert_eq!(get(&house, &elsewhere, "surveys").await, json!([]));

    // Each row knows its end.
    let kept = rows(&house).await;
    let now = now(&house).await.as_seconds();
    for (beginning, days) in [("\"FORM#", 7), ("\"CALLS#", 7), ("\"SURVEYS#", 8), ("\"DELIVERY#", 9)] {
        let of: Vec<_> = kept.iter().filter(|(key, _)| key.starts_with(beginning) && key.contains(&app.id)).collect();
        assert!(!of.is_empty(), "{beginning}");
        for (key, row) in of {
            let end: i64 = row["expiresAt"]["N"].as_str().and_then(|end| end.parse().ok()).expect("an end");
            assert!((now + days * 86_400 - end).abs() < 120, "{key}: {end}, {now}");
        }
    }
    let held = |kept: &std::collections::BTreeMap<String, Value>| {
        kept.iter().filter(|(_, row)| row.to_string().contains(CANARY)).map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(held(&kept).len(), 3, "two forms and a survey: {:?}", held(&kept));

    // A call that runs is not erased; one that is over is, with all that is known of it.
    let running = called(&house, &app, &house.session(&app, json!({})).await.expect(201), false).await;
    let at = |call: &str| format!("/apps/{}/calls/{call}", app.id);
    house.manage(Method::DELETE, &at(&running), None).await.expect(409);
    house.manage(Method::DELETE, &at(&call), None).await.expect(204);
    house.manage(Method::GET, &at(&call), None).await.expect(404);
    house.manage(Method::DELETE, &at(&call), None).await.expect(404);
    house.manage(Method::GET, &at(&running), None).await.expect(200);
    assert_eq!(get(&house, &app, "surveys").await, json!([]));
    assert_eq!(house.deliveries(&app).await, Vec::<Value>::new());
    assert_eq!(held(&rows(&house).await), Vec::<String>::new());
    house.public("/v1/surveys", Some(&token), &body).await.expect(404);
}

#[tokio::test]
async fn a_previews_survey_is_told_to_nobody() {
    let house = Running::start().await;
    let (app, receiver) = (house.app().await, Receiver::start().await);
    house.integrate(&app, &receiver, &["survey_submitted"], json!({})).await;
    ask(&house, &app).await;
    let body = |call: &str| json!({"callId": call, "answers": [{"questionId": "q1", "rating": 3}]});
    let preview = house.session(&app, json!({"preview": true})).await.expect(201);
    let call = called(&house, &app, &preview, true).await;
    house.public("/v1/surveys", Some(&preview.text("sessionToken")), &body(&call)).await.expect(201);
    // The same of a visitor is told: what is not would have been by then.
    let visit = house.session(&app, json!({})).await.expect(201);
    let call = called(&house, &app, &visit, true).await;
    house.public("/v1/surveys", Some(&visit.text("sessionToken")), &body(&call)).await.expect(201);
    eventually(Duration::from_secs(10), || !receiver.received().is_empty()).await;
    house.settled(&app, Duration::from_secs(10)).await;
    assert_eq!(receiver.received().len(), 1);
    let previews: BTreeSet<_> = get(&house, &app, "surveys")
        .await
        .as_array()
        .expect("a list")
        .iter()
        .map(|survey| survey["preview"].as_bool().expect("whether"))
        .collect();
    assert_eq!(previews, BTreeSet::from([false, true]));
}

#[tokio::test]
async fn a_session_sends_its_form_so_often_and_no_more() {
    let house = Running::start().await;
    let app = house.app().await;
    ask(&house, &app).await;
    let token = house.token(&app, json!({})).await;
    for number in 0..20 {
        fill(&house, &token, &json!({"name": number.to_string(), "terms": true})).await.expect(204);
    }
    fill(&house, &token, &json!({"name": "one more", "terms": true})).await.expect(409);
    fill(&house, &token, &json!({"name": "19", "terms": true})).await.expect(204);
    let other = house.token(&app, json!({})).await;
    fill(&house, &other, &json!({"name": "somebody", "terms": true})).await.expect(204);
}
