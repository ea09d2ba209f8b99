//! The management API, asked from within: pages read and change what they show through the same handlers that programs
//! use. So there is one set of rules, one audit log, one permission; a page adds none of its own.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::FromRequestParts,
    response::Response,
};
use domain::{field::FieldError, operator::Role};
use edge::{
    extract::on_behalf,
    problem::{Kind, Problem},
};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri, header, request::Parts};
use serde_json::Value;
use tower::ServiceExt;

use crate::{State, operator::Operator};

/// The routes of the management API; an extension of every request for a page.
#[derive(Clone)]
pub(super) struct Routes(pub(super) Router);

/// Who looks at a page, and what they ask of the management API.
pub(super) struct View {
    operator: Operator,
    routes: Router,
    headers: HeaderMap,
    known: Extensions,
    method: Method,
    /// What was asked for.
    pub(super) uri: Uri,
}

impl FromRequestParts<State> for View {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let operator = Operator::from_request_parts(parts, state).await?;
        operator.needs(Role::Viewer)?;
        // For what comes after: who it is was looked up once.
        parts.extensions.insert(operator.clone());
        let Routes(routes) = parts.extensions.get().cloned().ok_or_else(|| Problem::server_error("no routes"))?;
        let mut headers = parts.headers.clone();
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self {
            operator,
            routes,
            headers,
            known: on_behalf(&parts.extensions),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
        })
    }
}

/// A page of a list.
pub(super) struct Listed {
    pub(super) items: Vec<Value>,
    /// What asks for the next page.
    pub(super) next: Option<String>,
}

impl View {
    /// Who it is.
    pub(super) fn operator(&self) -> &str {
        self.operator.name()
    }

    /// Whether they have this role.
    pub(super) fn is(&self, role: Role) -> bool {
        self.operator.needs(role).is_ok()
    }

    /// A parameter of the query, decoded.
    pub(super) fn asked(&self, name: &str) -> Option<String> {
        let query = self.uri.query().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Reads one thing.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Problem> {
        self.ask(Method::GET, path, None).await.map(|mut answer| answer["data"].take())
    }

    /// Reads one thing that need not be there.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>, Problem> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(problem) if problem.kind() == Kind::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Reads a page of a list, from where the page's own address says; after a change from the beginning.
    pub(super) async fn list(&self, path: &str, limit: u8, more: &[(&str, &str)]) -> Result<Listed, Problem> {
        let cursor = self.asked("cursor").filter(|_| self.method != Method::POST);
        let cursor = cursor.as_deref().map(|cursor| ("cursor", cursor));
        let query = {
            let mut query = url::form_urlencoded::Serializer::new(format!("limit={limit}"));
            query.extend_pairs(more).extend_pairs(cursor).finish()
        };
        let mut answer = self.ask(Method::GET, &format!("{path}?{query}"), None).await?;
        let Value::Array(items) = answer["data"].take() else { return Err(Problem::server_error("no list")) };
        let next = answer["pagination"]["nextCursor"].as_str().map(ToOwned::to_owned);
        Ok(Listed { items, next })
    }

    /// Changes something.
    pub(super) async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, Problem> {
        self.ask(method, path, Some(body)).await.map(|mut answer| answer["data"].take())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Problem> {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder().method(method).uri(format!("/api/v1{path}")).body(body);
        let mut request = request.map_err(Problem::server_error)?;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.known.clone();
        let answer = self.routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        read(answer).await
    }
}

async fn read(mut answer: Response) -> Result<Value, Problem> {
    if let Some(problem) = answer.extensions_mut().remove::<Problem>() {
        return Err(problem);
    }
    let status = answer.status();
    if !status.is_success() {
        return Err(Problem::server_error(format!("the management API answered {status}")));
    }
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.map_err(Problem::server_error)?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(Problem::server_error)
}

/// What a form is told when it cannot be read.
pub(super) fn unreadable() -> Problem {
    Problem::field(FieldError::invalid("", "could not be read as a form"))
}
