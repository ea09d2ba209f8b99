//! The API's own description: complete, and true about who may do what.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;

use crate::support::house::Running;

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
