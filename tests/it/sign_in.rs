//! Signing in to the console with an organisation's own provider (OpenID Connect): a certified one, and one that forges. And
//! what holds for every way in: limits, cookies, an end that an admin can make.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use reqwest::{
    Client, Method, Url,
    header::{HeaderMap, SET_COOKIE},
};
use serde_json::{Value, json};
use store::{Aws, Endpoints, Store};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{
    forger::{CLIENT, Forger, Plan, Tokens},
    house::{Running, client, options},
};

const PROVIDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/provider");
/// Starting an interpreter on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SESSION: &str = "__Host-c2c";
const BEGUN: &str = "__Host-c2c-sign-in";

/// A page, as a browser gets it.
struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A cookie that it sets, with its attributes.
    fn cookie(&self, name: &str) -> Option<&str> {
        let mut cookies = self.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.find(|cookie| cookie.split('=').next() == Some(name))
    }

    /// The same without them, ready to be sent.
    fn pair(&self, name: &str) -> Option<String> {
        let pair = self.cookie(name)?.split(';').next()?;
        (!pair.ends_with('=')).then(|| pair.to_owned())
    }
}

/// A browser at the console of a house.
struct Browser<'a> {
    house: &'a Running,
    client: Client,
}

/// A sign-in that was begun.
struct Begun {
    cookie: String,
    asked: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    fn new(house: &'a Running) -> Self {
        Self { house, client: client(None) }
    }

    fn host(&self) -> &str {
        self.house.local().console_origin.strip_prefix("http://").expect("an origin")
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &'static str) -> Page {
        let port = self.host().rsplit(':').next().expect("a port");
        let mut request = self.client.request(method, format!("http://127.0.0.1:{port}{path}"));
        for (name, value) in headers.iter().chain(&[("host", self.host())]) {
            request = request.header(*name, *value);
        }
        let answer = request.body(body).send().await.expect("the console answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Page { status, headers, text: answer.text().await.expect("a whole page") }
    }

    async fn get(&self, path: &str, cookie: &str) -> Page {
        self.ask(Method::GET, path, &[("cookie", cookie)], "").await
    }

    /// Follows the button.
    async fn begin(&self) -> Begun {
        let away = self.get("/sign-in/provider", "").await;
        assert_eq!(away.status, 303, "{}", away.text);
        let cookie = away.cookie(BEGUN).expect("a cookie");
        for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Max-Age=600"] {
            assert!(cookie.contains(flag), "{cookie}");
        }
        let at: Url = away.header("location").parse().expect("an address");
        let asked = at.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        Begun { cookie: away.pair(BEGUN).expect("a cookie"), asked }
    }

    /// Comes back with this code.
    async fn end(&self, begun: &Begun, code: &str) -> Page {
        let path = format!("/sign-in/callback?code={code}&state={}", begun.asked["state"]);
        self.get(&path, &begun.cookie).await
    }

    /// From the button to the end.
    async fn sign_in(&self, forger: &Forger) -> Page {
        let begun = self.begin().await;
        let code = forger.code(&begun.asked);
        self.end(&begun, &code).await
    }

    /// What the management API answers to a session.
    async fn manages(&self, session: &str) -> u16 {
        self.get("/api/v1/apps", session).await.status
    }

    /// Whether it lets the session make an app.
    async fn writes(&self, session: &str) -> u16 {
        let headers = [("cookie", session), ("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
        self.ask(Method::POST, "/api/v1/apps", &headers, r#"{"name": "Theirs"}"#).await.status
    }
}

async fn house(issuer: &str, more: &[(&str, &str)]) -> Running {
    let mut variables =
        vec![("C2C_OIDC_ISSUER", issuer), ("C2C_OIDC_CLIENT_ID", CLIENT), ("C2C_LIMIT_SIGN_IN_IP", "1000")];
    variables.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    variables.extend(more);
    Running::with(options(&variables)).await
}

fn plan(claims: Value) -> Plan {
    Plan { claims, ..Plan::default() }
}

async fn audited(house: &Running) -> Vec<Value> {
    let audit = house.manage(Method::GET, "/audit", None).await.expect(200);
    audit.body["data"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn who_is_in_a_group_gets_in() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    let form = browser.get("/sign-in", "").await.text;
    assert!(form.contains("href=\"/sign-in/provider\"") && form.contains("name=\"token\""), "{form}");

    let begun = browser.begin().await;
    let origin = &house.local().console_origin;
    for (name, value) in [
        ("tenant", "7"),
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", &format!("{origin}/sign-in/callback")),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(begun.asked[name], value, "{name}");
    }
    let code = forger.code(&begun.asked);
    let back = browser.end(&begun, &code).await;
    assert_eq!((back.status, back.header("location")), (303, "/"), "{}", back.text);
    assert!(back.cookie(BEGUN).is_some_and(|cookie| cookie.contains("Max-Age=0")), "the sign-in is over");
    let cookie = back.cookie(SESSION).expect("a session");
    for flag in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Max-Age=43200"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    let session = back.pair(SESSION).expect("a session");
    let home = browser.get("/", &session).await;
    assert!(home.status == 200 && home.text.contains("ann@example.com"), "{}", home.text);
    assert_eq!((browser.manages(&session).await, browser.writes(&session).await), (200, 201), "an editor");
    assert_eq!(browser.get("/api/v1/operators", &session).await.status, 403, "and no admin");

    let row = audited(&house).await.into_iter().find(|row| row["action"] == "operator.sign_in").expect("a row");
    assert_eq!((&row["operator"], &row["outcome"]), (&json!("ann@example.com"), &json!("granted")), "{row}");
    assert_eq!((&row["ip"], &row["reason"]), (&json!("127.0.0.1"), &json!(format!("by {}", forger.issuer()))), "{row}");
    assert!(row["target"].as_str().is_some_and(|target| target.starts_with("console/op_")), "{row}");
}

#[tokio::test]
async fn an_answer_is_taken_once_and_by_the_browser_that_asked() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    let begun = browser.begin().await;
    let code = forger.code(&begun.asked);

    // Somebody else's address: with no cookie, with another browser's, with a state made up, with the nonce for a state.
    let other = browser.begin().await;
    let right = format!("/sign-in/callback?code={code}&state={}", begun.asked["state"]);
    let forged = format!("/sign-in/callback?code={code}&state={}", begun.asked["nonce"]);
    let twice = format!("{right}&state={}", begun.asked["state"]);
    let none = format!("/sign-in/callback?code={code}");
    for (path, cookie) in [
        (&right, ""),
        (&right, &other.cookie),
        (&right, &format!("{BEGUN}={}", "0".repeat(64))),
        (&right, &format!("{BEGUN}=x")),
        (&forged, &begun.cookie),
        (&twice, &begun.cookie),
        (&none, &begun.cookie),
    ] {
        let refused = browser.get(path, cookie).await;
        assert_eq!(refused.status, 401, "{path} {cookie}");
        assert!(refused.cookie(SESSION).is_none() && refused.cookie(BEGUN).is_none(), "nothing is begun, or ended");
        let id = refused.header("x-request-id");
        assert!(!id.is_empty() && refused.text.contains(id) && refused.text.contains("Try again"), "{}", refused.text);
        assert!(!refused.text.contains(&code) && !refused.text.contains(&begun.asked["state"]), "{}", refused.text);
    }
    assert_eq!(forger.redeemed(), 0, "no code was shown to the provider");

    // None of that ended the sign-in; its own answer does, and is worth nothing after it.
    assert_eq!(browser.end(&begun, &code).await.status, 303);
    let again = forger.code(&begun.asked);
    for code in [&code, &again] {
        let refused = browser.end(&begun, code).await;
        assert!(refused.status == 401 && refused.cookie(SESSION).is_none(), "{}", refused.text);
    }
    assert_eq!(forger.redeemed(), 1);

    // A code of another sign-in: its verifier is another browser's.
    let stolen = forger.code(&other.asked);
    let mine = browser.begin().await;
    let refused = browser.end(&mine, &stolen).await;
    assert!(refused.status == 401 && refused.cookie(SESSION).is_none(), "{}", refused.text);
}

#[tokio::test]
async fn a_token_that_is_not_for_this_sign_in_lets_nobody_in() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    let word = |status, text: &str| Tokens::Word(status, text.to_owned());
    let plans = [
        plan(json!({"nonce": "another"})),
        plan(json!({"nonce": null})),
        plan(json!({"iss": "https://login.example.com"})),
        plan(json!({"aud": "shop"})),
        plan(json!({"aud": [CLIENT, "shop"]})),
        plan(json!({"azp": "shop"})),
        plan(json!({"exp": 1_700_000_000})),
        plan(json!({"iat": 1_700_000_000})),
        plan(json!({"iat": 4_000_000_000_u64})),
        plan(json!({"sub": null})),
        Plan { tokens: Tokens::Unsigned, ..Plan::default() },
        Plan { tokens: Tokens::Forged, ..Plan::default() },
        Plan { tokens: word(StatusCode::OK, r#"{"access_token": "x", "token_type": "Bearer"}"#), ..Plan::default() },
        Plan { tokens: word(StatusCode::OK, r#"{"id_token": "x"}"#), ..Plan::default() },
        Plan { tokens: word(StatusCode::OK, "<html>"), ..Plan::default() },
        Plan { tokens: word(StatusCode::UNAUTHORIZED, r#"{"error": "invalid_client"}"#), ..Plan::default() },
    ];
    for plan in plans {
        forger.plan(plan.clone());
        let refused = browser.sign_in(&forger).await;
        assert!(refused.status == 401 && refused.cookie(SESSION).is_none(), "{plan:?}: {}", refused.text);
        assert!(refused.text.contains("nobody was let in"), "{plan:?}: {}", refused.text);
        assert!(refused.text.contains(refused.header("x-request-id")), "{plan:?}: {}", refused.text);
    }
    forger.plan(Plan::default());
    assert_eq!(browser.sign_in(&forger).await.status, 303, "and then the right one does");
}

#[tokio::test]
async fn what_the_provider_says_in_the_address_is_heard_and_not_repeated() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    for (query, told) in [
        ("error=access_denied&error_description=%3Cb%3Eevil%3C%2Fb%3E", "cancelled"),
        ("error=%3Cscript%3Eevil&code=x", "nobody was let in"),
        ("error=server_error", "does not answer"),
        ("code=x&iss=https%3A%2F%2Fevil.example.com", "nobody was let in"),
        ("", "cancelled"),
        ("code=x", "cancelled"),
    ] {
        let begun = browser.begin().await;
        let path = format!("/sign-in/callback?{query}&state={}", begun.asked["state"]);
        let page = browser.get(&path, &begun.cookie).await;
        assert!([401, 503].contains(&page.status) && page.text.contains(told), "{query}: {}", page.text);
        assert!(!page.text.contains("evil"), "{query}: {}", page.text);
    }
    // Where the provider names itself in the address, it must.
    forger.plan(Plan {
        configuration: json!({"authorization_response_iss_parameter_supported": true}),
        ..Plan::default()
    });
    let second = self::house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&second);
    let refused = browser.sign_in(&forger).await;
    assert!(refused.status == 401 && refused.text.contains("nobody was let in"), "{}", refused.text);
    let begun = browser.begin().await;
    let code = forger.code(&begun.asked);
    let path = format!("/sign-in/callback?code={code}&state={}&iss={}", begun.asked["state"], forger.issuer());
    assert_eq!(browser.get(&path, &begun.cookie).await.status, 303);
}

#[tokio::test]
async fn a_provider_that_is_not_well_is_told_as_that() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    let word = |status, text: String| Plan { tokens: Tokens::Word(status, text), ..Plan::default() };
    let huge = json!({"id_token": "x".repeat(1_000_000)}).to_string();
    for plan in [
        word(StatusCode::OK, huge),
        word(StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        word(StatusCode::TOO_MANY_REQUESTS, String::new()),
        Plan { tokens: Tokens::Elsewhere, ..Plan::default() },
        Plan { tokens: Tokens::Never, ..Plan::default() },
    ] {
        forger.plan(plan);
        let began = Instant::now();
        let page = browser.sign_in(&forger).await;
        assert_eq!((page.status, page.header("retry-after")), (503, "10"), "{}", page.text);
        assert!(page.cookie(SESSION).is_none() && page.text.contains("Try again"), "{}", page.text);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    assert_eq!(forger.followed(), 0, "no code is taken where a redirect leads");

    // What is another's configuration, or leads where nothing is encrypted, is none.
    for configuration in [
        json!({"issuer": "https://login.example.com"}),
        json!({"token_endpoint": "http://login.example.com/token"}),
        json!({"jwks_uri": "https://login.example.com/keys"}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"token_endpoint": null}),
    ] {
        forger.plan(Plan { configuration: configuration.clone(), ..Plan::default() });
        let second = self::house(&forger.issuer(), &[]).await;
        let page = Browser::new(&second).get("/sign-in/provider", "").await;
        assert_eq!((page.status, page.header("location")), (503, ""), "{configuration}");
        assert!(page.text.contains(page.header("x-request-id")), "{}", page.text);
    }
    let nobody = self::house("http://127.0.0.1:1", &[]).await;
    let page = Browser::new(&nobody).get("/sign-in/provider", "").await;
    assert_eq!((page.status, page.header("retry-after")), (503, "10"), "{}", page.text);
}

#[tokio::test]
async fn who_is_in_no_group_is_told_whom_to_ask() {
    let forger = Forger::start().await;
    let named =
        [("C2C_OIDC_GROUPS_CLAIM", "roles"), ("C2C_OIDC_GROUP_PREFIX", "c2c-"), ("C2C_OIDC_SCOPE", "openid roles")];
    let house = house(&forger.issuer(), &named).await;
    let browser = Browser::new(&house);
    assert_eq!(browser.begin().await.asked["scope"], "openid roles");
    for roles in [json!(null), json!([]), json!(["admin", "c2c-", "c2c-Admin"]), json!({"c2c-admin": true}), json!(7)] {
        forger.plan(plan(json!({"roles": roles})));
        let page = browser.sign_in(&forger).await;
        assert!(page.status == 403 && page.cookie(SESSION).is_none(), "{roles}: {}", page.text);
        assert!(page.text.contains("ann@example.com") && page.text.contains("Ask whoever"), "{}", page.text);
        let row = audited(&house).await.remove(0);
        assert_eq!((&row["action"], &row["outcome"]), (&json!("operator.sign_in"), &json!("refused")), "{row}");
    }
    forger.plan(plan(json!({"roles": "c2c-viewer"})));
    let session = browser.sign_in(&forger).await.pair(SESSION).expect("a session");
    assert_eq!((browser.manages(&session).await, browser.writes(&session).await), (200, 403), "a viewer");
    // Who comes back and is in none any more has no older session left either.
    forger.plan(plan(json!({"roles": []})));
    assert_eq!((browser.sign_in(&forger).await.status, browser.manages(&session).await), (403, 401));
}

#[tokio::test]
async fn an_admin_ends_all_sessions_of_a_person() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    let sign_in = async || browser.sign_in(&forger).await.pair(SESSION).expect("a session");
    forger.plan(plan(json!({"cognito:groups": ["admin"]})));
    let (first, second) = (sign_in().await, sign_in().await);
    assert_eq!((browser.writes(&first).await, browser.writes(&second).await), (201, 201));

    // With fewer rights from now on, earlier sessions have no more either.
    forger.plan(plan(json!({"cognito:groups": ["viewer"]})));
    let third = sign_in().await;
    for session in [&first, &second, &third] {
        assert_eq!((browser.manages(session).await, browser.writes(session).await), (200, 403));
    }
    // And no session has more than it began with.
    forger.plan(plan(json!({"cognito:groups": ["editor"]})));
    assert_eq!((browser.writes(&sign_in().await).await, browser.writes(&third).await), (201, 403));

    let listed = house.manage(Method::GET, "/operators", None).await.expect(200);
    let people: Vec<_> = listed.body["data"].as_array().expect("a list").iter().collect();
    let ann: Vec<_> = people.iter().filter(|one| one["name"] == "ann@example.com").collect();
    assert_eq!((people.len(), ann.len(), &ann[0]["role"]), (2, 1, &json!("editor")), "{people:?}");
    let path = format!("/operators/{}", ann[0]["id"].as_str().expect("an id"));
    house.manage(Method::DELETE, &path, None).await.expect(204);
    for session in [&first, &second, &third] {
        assert_eq!(browser.manages(session).await, 401);
    }
    // Who still is in a group may begin anew; what was ended stays so.
    let fourth = sign_in().await;
    assert_eq!((browser.manages(&fourth).await, browser.manages(&first).await), (200, 401));
    // A provider's admins do not count as the last token's.
    let local = people.iter().find(|one| one["name"] != "ann@example.com").expect("the local operator");
    let path = format!("/operators/{}", local["id"].as_str().expect("an id"));
    house.manage(Method::DELETE, &path, None).await.expect(409);
}

#[tokio::test]
async fn signing_out_goes_on_to_the_provider() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[]).await;
    let browser = Browser::new(&house);
    let session = browser.sign_in(&forger).await.pair(SESSION).expect("a session");
    let headers = [("cookie", session.as_str()), ("sec-fetch-site", "same-origin")];
    let page = browser.ask(Method::POST, "/sign-out", &headers, "").await;
    assert!(page.status == 200 && page.cookie(SESSION).is_some_and(|cookie| cookie.contains("Max-Age=0")));
    let exit: Url = page.header("refresh").strip_prefix("0; url=").expect("an address").parse().expect("an address");
    assert!(exit.as_str().starts_with(&format!("{}/logout?", forger.issuer())), "{exit}");
    let back = format!("{}/sign-in", house.local().console_origin);
    let said: BTreeMap<_, _> = exit.query_pairs().into_owned().collect();
    assert_eq!(
        (said["client_id"].as_str(), &said["post_logout_redirect_uri"], &said["logout_uri"]),
        (CLIENT, &back, &back)
    );
    assert_eq!(browser.manages(&session).await, 401);
    // Once more, and with nothing: there is nobody to sign out anywhere.
    let page = browser.ask(Method::POST, "/sign-out", &headers, "").await;
    assert_eq!((page.status, page.header("location")), (303, "/sign-in"));
}

#[tokio::test]
async fn a_sign_in_that_took_too_long_is_over() {
    let house = Running::start().await;
    let services = &house.local().aws;
    let (dynamodb, sqs, kms) = (services.dynamodb.clone(), services.sqs.clone(), services.kms.clone());
    let table = house.local().tables["Table"].clone();
    let store = Store::open(&Aws::local(Endpoints { dynamodb, sqs, kms }), table);
    let now = domain::time::Timestamp::from_millis(1_795_000_000_000);
    let after = |seconds| now.plus(Duration::from_secs(seconds));
    for (late, expected) in [(599, true), (600, false)] {
        store.put_begun_sign_in("hash", after(600).as_seconds()).await.expect("stored");
        assert_eq!(store.take_begun_sign_in("hash", after(late)).await.expect("read"), expected, "{late}");
        assert!(!store.take_begun_sign_in("hash", now).await.expect("read"), "once");
    }
    // It is no link that signs anybody in.
    store.put_begun_sign_in(&console::hash("x"), i64::MAX).await.expect("stored");
    assert_eq!(Browser::new(&house).get("/sign-in?code=x", "").await.status, 401);
}

#[tokio::test]
async fn without_a_provider_there_is_the_token_alone() {
    let house = Running::start().await;
    let browser = Browser::new(&house);
    assert!(!browser.get("/sign-in", "").await.text.contains("/sign-in/provider"));
    for path in ["/sign-in/provider", "/sign-in/callback?code=x&state=y"] {
        let page = browser.get(path, "").await;
        assert_eq!((page.status, page.header("location")), (303, "/sign-in"), "{path}");
    }
}

#[tokio::test]
async fn who_tries_too_often_waits() {
    let forger = Forger::start().await;
    let house = house(&forger.issuer(), &[("C2C_LIMIT_SIGN_IN_IP", "4")]).await;
    let browser = Browser::new(&house);
    let own = [("sec-fetch-site", "same-origin"), ("content-type", "application/x-www-form-urlencoded")];
    for _ in 0..2 {
        assert_eq!(browser.ask(Method::POST, "/sign-in", &own, "token=c2c_guess").await.status, 401);
    }
    assert_eq!(browser.get("/sign-in?code=guess", "").await.status, 401);
    assert_eq!(browser.get("/sign-in/callback", "").await.status, 401);
    for (method, path) in [
        (Method::POST, "/sign-in"),
        (Method::GET, "/sign-in?code=guess"),
        (Method::GET, "/sign-in/provider"),
        (Method::GET, "/sign-in/callback"),
    ] {
        let page = browser.ask(method, path, &own, "token=c2c_guess").await;
        let wait: u64 = page.header("retry-after").parse().expect("seconds");
        assert!(page.status == 429 && (1..=60).contains(&wait), "{path}: {}", page.text);
        assert!(page.text.contains(&format!("wait {wait} seconds")), "{path}: {}", page.text);
    }
    // Another address has tries of its own, and the form itself is always there.
    assert_eq!(browser.get("/sign-in", "").await.status, 200);
    let other = Browser { house: &house, client: client(Some("127.0.0.2".parse().expect("an address"))) };
    assert_eq!(other.ask(Method::POST, "/sign-in", &own, "token=c2c_guess").await.status, 401);
}

/// A certified provider (`tests/provider`), a process of its own.
struct Certified {
    _child: Child,
    issuer: String,
    lines: Lines<BufReader<ChildStdout>>,
    input: tokio::process::ChildStdin,
}

impl Certified {
    async fn start() -> Self {
        let remedy = "node or its package oidc-provider is missing: `npm ci --prefix tests/provider` installs it";
        let mut child = Command::new("node")
            .current_dir(PROVIDER)
            .arg("provider.mjs")
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect(remedy);
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let input = child.stdin.take().expect("a pipe");
        let mut provider = Self { _child: child, issuer: String::new(), lines, input };
        let port = provider.says("listening on port ").await.expect(remedy);
        provider.issuer = format!("http://127.0.0.1:{port}");
        provider
    }

    /// The rest of its next line that begins so.
    async fn says(&mut self, beginning: &str) -> Option<String> {
        let read = async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Some(rest.to_owned());
                }
            }
            None
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a line in time")
    }

    /// Tells it which console it serves.
    async fn serve(&mut self, console: &str) {
        self.input.write_all(format!("{console}\n").as_bytes()).await.expect("it reads");
        self.says("ready").await.expect("it is ready");
    }

    /// What a person does there, from this address on: gives a name and consents. Where they are led at the end.
    async fn visit(&self, from: &str, name: &str, console: &str) -> String {
        let client = client(None);
        let mut jar = BTreeMap::<String, String>::new();
        let mut at: Url = from.parse().expect("an address");
        let mut form: Option<String> = None;
        for _ in 0..20 {
            let request = match form.take() {
                Some(form) => {
                    client.post(at.clone()).header("content-type", "application/x-www-form-urlencoded").body(form)
                }
                None => client.get(at.clone()),
            };
            let cookies: Vec<_> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let answer = request.header("cookie", cookies.join("; ")).send().await.expect("it answers");
            for cookie in answer.headers().get_all(SET_COOKIE) {
                let pair = cookie.to_str().expect("text").split(';').next().expect("a pair");
                let (name, value) = pair.split_once('=').expect("a pair");
                jar.insert(name.to_owned(), value.to_owned());
            }
            if let Some(to) = answer.headers().get("location") {
                at = at.join(to.to_str().expect("text")).expect("an address");
                if at.as_str().starts_with(console) {
                    return at.to_string();
                }
                continue;
            }
            let text = answer.text().await.expect("a page");
            form = Some(if text.contains("name=\"login\"") {
                format!("prompt=login&login={name}&password=x")
            } else if text.contains("value=\"consent\"") {
                "prompt=consent".to_owned()
            } else {
                panic!("not expected: {text}")
            });
        }
        panic!("led in circles to {at}")
    }
}

#[tokio::test]
async fn a_certified_provider_is_understood() {
    let mut provider = Certified::start().await;
    let house = house(&provider.issuer, &[]).await;
    let console = house.local().console_origin.clone();
    provider.serve(&console).await;
    let browser = Browser::new(&house);
    let visit = async |name: &str| {
        let away = browser.get("/sign-in/provider", "").await;
        let back = provider.visit(away.header("location"), name, &console).await;
        let path = back.strip_prefix(&console).expect("the console").to_owned();
        (browser.get(&path, &away.pair(BEGUN).expect("a cookie")).await, path)
    };
    let (back, path) = visit("ann").await;
    assert_eq!((back.status, back.header("location")), (303, "/"), "{}", back.text);
    assert!(path.contains("iss="), "it names itself in the address: {path}");
    let session = back.pair(SESSION).expect("a session");
    assert!(browser.get("/", &session).await.text.contains("ann@example.com"));
    assert_eq!(browser.writes(&session).await, 201, "an editor");
    let (refused, _) = visit("bob").await;
    assert!(refused.status == 403 && refused.text.contains("bob@example.com"), "{}", refused.text);

    // It knows the address where it is led for signing out.
    let headers = [("cookie", session.as_str()), ("sec-fetch-site", "same-origin")];
    let page = browser.ask(Method::POST, "/sign-out", &headers, "").await;
    let exit = page.header("refresh").strip_prefix("0; url=").expect("an address");
    let asks = client(None).get(exit).send().await.expect("it answers");
    assert_eq!(asks.status(), 200);
    assert!(asks.text().await.expect("a page").contains("/session/end/confirm"));
}
