//! Answers: the success envelope, and the layer around every router that gives each request an id, renders problems and
//! turns a panic into one error answer (contract section 1).

use std::panic::AssertUnwindSafe;

use axum::{
    Extension, Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use domain::time::Timestamp;
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{
    chance, clock,
    extract::{self, CdnProof},
    problem::{Problem, Told},
    trace,
};

#[derive(Serialize)]
struct Envelope<T> {
    data: T,
    meta: Meta,
    #[serde(skip_serializing_if = "Option::is_none")]
    pagination: Option<Pagination>,
}

#[derive(Serialize)]
struct Meta {
    timestamp: Timestamp,
}

/// Where a list stands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// Items asked for.
    pub limit: u8,
    /// Whether more follow.
    pub has_more: bool,
    /// What asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `{"data": …, "meta": …}`.
pub fn data<T: Serialize>(status: StatusCode, now: Timestamp, data: T) -> Response {
    (status, axum::Json(Envelope { data, meta: Meta { timestamp: now }, pagination: None })).into_response()
}

/// One page of a list.
pub fn page<T: Serialize>(now: Timestamp, items: Vec<T>, pagination: Pagination) -> Response {
    let envelope = Envelope { data: items, meta: Meta { timestamp: now }, pagination: Some(pagination) };
    axum::Json(envelope).into_response()
}

/// A router with the border around it: unknown routes answer 404, problems are rendered and logged once, a panic is one
/// answer with status 500, nothing is cached unless a handler says so. `cdn`: how a request proves that it came through
/// the CDN, where there is one.
pub fn bordered(router: Router, cdn: Option<CdnProof>) -> Router {
    let nowhere = || async { Problem::not_found("address here") };
    let router = router.fallback(nowhere).method_not_allowed_fallback(nowhere).layer(middleware::from_fn(border));
    match cdn {
        Some(proof) => router.layer(Extension(proof)),
        None => router,
    }
}

/// The request's id, as an extension of the request: for what tells its problems in words of its own.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

async fn border(mut request: Request, next: Next) -> Response {
    let id = extract::request_id(&request).unwrap_or_else(chance::hex::<16>);
    let now = request.extensions().get::<Timestamp>().copied();
    request.extensions_mut().insert(RequestId(id.clone()));
    // A handler that panicked has lost its own state only; what is shared lives behind locks that recover.
    let mut response = match AssertUnwindSafe(trace::timed(next.run(request))).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Problem::server_error("the handler panicked").into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem.log(&id);
        if response.extensions_mut().remove::<Told>().is_none() {
            response = problem.render(&id, now.unwrap_or_else(clock::now));
        }
    }
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.entry("x-request-id").or_insert(id);
    }
    response
}
