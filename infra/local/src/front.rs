//! What stands in for API Gateway: one port, a host for each API by the `Host` header, and on each host exactly the
//! template's routes. Whoever asks for any other host finds nothing, so that a name that an attacker points at this
//! machine (DNS rebinding) leads nowhere.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::any,
};
use edge::{extract::Peer, problem::Problem, reply};
use serde_json::json;
use tower::ServiceExt;

use crate::template::Template;

/// The hosts of one house.
#[derive(Clone, Debug)]
pub struct Front {
    /// `localhost` and the loopback addresses.
    pub widget: Router,
    /// `code.localhost`.
    pub code: Router,
    /// `console.localhost`.
    pub console: Router,
    /// `demo.localhost`; none without a demo.
    pub demo: Option<Router>,
}

impl Front {
    /// The whole front, to be served with the peer's address as connect info.
    pub fn router(self) -> Router {
        Router::new().fallback(lead).with_state(Arc::new(self))
    }

    fn host(&self, name: &str) -> Option<&Router> {
        match name {
            "localhost" | "127.0.0.1" | "[::1]" => Some(&self.widget),
            "code.localhost" => Some(&self.code),
            "console.localhost" => Some(&self.console),
            "demo.localhost" => self.demo.as_ref(),
            _ => None,
        }
    }
}

/// Leads a request to its host.
async fn lead(State(front): State<Arc<Front>>, request: Request) -> Response {
    let name = host_name(request.headers(), request.uri());
    match name.and_then(|name| front.host(&name).cloned()) {
        Some(host) => host.oneshot(request).await.unwrap_or_else(|never| match never {}),
        None => misdirected(),
    }
}

/// The host asked for, in lower case and without its port.
pub(crate) fn host_name(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = match (uri.authority(), values.next(), values.next()) {
        (Some(authority), _, _) => authority.as_str(),
        (None, Some(value), None) => value.to_str().ok()?,
        _ => return None,
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    Some(name.to_ascii_lowercase())
}

/// No host of this house was asked for. Status 421 keeps it apart from a host that has no such route.
pub(crate) fn misdirected() -> Response {
    let error = json!({"error": {
        "type": "not_found",
        "message": "This house answers for localhost, code.localhost, console.localhost and demo.localhost only.",
        "timestamp": edge::clock::now(),
        "requestId": edge::chance::hex::<16>(),
    }});
    (StatusCode::MISDIRECTED_REQUEST, axum::Json(error)).into_response()
}

/// The routers of one API's functions, mounted at the template's routes. Everything else is not found.
pub fn api(template: &Template, api: &str, functions: &BTreeMap<String, Router>) -> Router {
    let mut paths: BTreeMap<String, HashMap<String, Router>> = BTreeMap::new();
    for (name, function) in &template.functions {
        for route in function.routes.iter().filter(|route| route.api == api) {
            if let Some(router) = functions.get(name) {
                // `{proxy+}` takes the rest of a path, and stands at its end.
                let path = match route.path.strip_suffix("+}").and_then(|path| path.rsplit_once('{')) {
                    Some((before, name)) => format!("{before}{{*{name}}}"),
                    None => route.path.clone(),
                };
                paths.entry(path).or_default().insert(route.method.clone(), router.clone());
            }
        }
    }
    let mounted = paths.into_iter().fold(Router::new(), |mounted, (path, methods)| {
        mounted.route(&path, any(invoke).with_state(Arc::new(methods)))
    });
    reply::bordered(mounted, None)
}

/// Hands a request to the function whose route it is, as it would come over the wire: what this front knows about it
/// (its own path parameters, say) stays here.
async fn invoke(State(methods): State<Arc<HashMap<String, Router>>>, request: Request) -> Response {
    let function = methods.get(request.method().as_str()).or_else(|| methods.get("ANY"));
    let Some(function) = function.cloned() else { return Problem::not_found("address here").into_response() };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
    let (parts, body) = request.into_parts();
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    *request.headers_mut() = parts.headers;
    if let Some(peer) = peer {
        request.extensions_mut().insert(Peer(peer));
    }
    function.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// A page or file of the house itself.
pub(crate) fn file(kind: &'static str, policy: &str, content: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
    ];
    (headers, Body::from(content)).into_response()
}

/// Whether a request only looks.
pub(crate) fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use axum::{extract::Path, routing::get};
    use domain::time::Timestamp;

    use super::*;
    use crate::template::TEMPLATE;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)), 4711);

    /// Functions that answer with their name, what they were asked for and by whom.
    fn front() -> Router {
        let template = Template::parse(TEMPLATE).expect("the template");
        let function = |name: &'static str| {
            let answer = move |request: Request| async move {
                let peer = request.extensions().get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
                format!("{name} {} {} {peer}", request.method(), request.uri())
            };
            (name.to_owned(), Router::new().fallback(answer))
        };
        let mut functions: BTreeMap<_, _> = ["Session", "Ingest", "Console"].map(function).into();
        // A function sees its own path parameters and no others.
        let widget = Router::new()
            .route("/widget/{app}", get(|Path(app): Path<String>| async move { app }))
            .route("/a/{hash}/{file}", get(|Path((hash, file)): Path<(String, String)>| async move { hash + &file }))
            .fallback(|| async { "Widget" });
        functions.insert("Widget".to_owned(), widget);
        let host = |name| api(&template, name, &functions);
        Front {
            widget: host("WidgetApi"),
            code: host("CodeApi"),
            console: host("ConsoleApi"),
            demo: Some(Router::new().fallback(|| async { "Demo" })),
        }
        .router()
    }

    async fn ask(method: Method, host: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header(header::HOST, host);
        let request = request.extension(ConnectInfo(PEER)).body(Body::empty()).expect("a request");
        let answer = front().oneshot(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn every_route_leads_to_its_function_and_nothing_else_does() {
        for (method, host, path, expected) in [
            (Method::GET, "localhost:8080", "/embed.js", Some("Widget")),
            (Method::GET, "127.0.0.1:8080", "/widget/app_1?key=x", Some("app_1")),
            (Method::GET, "[::1]:8080", "/a/h/f.js", Some("hf.js")),
            (Method::POST, "LocalHost", "/v1/sessions", Some("Session POST /v1/sessions 198.51.100.7")),
            (Method::POST, "localhost", "/v1/sessions/renew", Some("Session POST /v1/sessions/renew 198.51.100.7")),
            (Method::POST, "localhost", "/v1/events", Some("Ingest POST /v1/events 198.51.100.7")),
            (Method::GET, "console.localhost:8080", "/", Some("Console GET / 198.51.100.7")),
            (
                Method::PATCH,
                "console.localhost",
                "/api/v1/apps/a/integrations/b?x=1",
                Some("Console PATCH /api/v1/apps/a/integrations/b?x=1 198.51.100.7"),
            ),
            (Method::GET, "code.localhost", "/healthz", Some("Widget")),
            (Method::GET, "demo.localhost", "/any", Some("Demo")),
            (Method::GET, "localhost", "/v1/events", None),
            (Method::POST, "localhost", "/embed.js", None),
            (Method::GET, "localhost", "/widget/app_1/more", None),
            (Method::GET, "localhost", "/api/v1/apps", None),
            (Method::GET, "console.localhost", "/embed.js", None),
            (Method::POST, "code.localhost", "/v1/sessions", None),
        ] {
            let (status, body) = ask(method.clone(), host, path).await;
            match expected {
                Some(expected) => assert_eq!((status, body.as_str()), (200, expected), "{method} {host} {path}"),
                None => {
                    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                    assert_eq!((status, &body["error"]["type"]), (404, &json!("not_found")), "{method} {host} {path}");
                }
            }
        }
    }

    #[tokio::test]
    async fn other_hosts_find_nothing() {
        for host in ["example.com", "localhost.example.com", "evil.localhost", "127.0.0.1.nip.io", "0.0.0.0", ""] {
            let (status, body) = ask(Method::GET, host, "/embed.js").await;
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(status, 421, "{host}");
            assert!(body["error"]["requestId"].is_string() && body["error"]["message"].is_string(), "{host}");
            let timestamp = body["error"]["timestamp"].clone();
            assert!(serde_json::from_value::<Timestamp>(timestamp).is_ok(), "{host}");
        }
        let request = Request::get("/embed.js").body(Body::empty()).expect("a request");
        assert_eq!(front().oneshot(request).await.expect("an answer").status(), StatusCode::MISDIRECTED_REQUEST);
    }
}
