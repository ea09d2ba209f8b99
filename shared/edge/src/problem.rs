//! What a caller is told when something is wrong, and what only the log hears (contract section 1).

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use domain::{field::FieldError, limit::Exceeded, time::Timestamp};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// The error types of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum Kind {
    ValidationError,
    Unauthorized,
    Forbidden,
    NotFound,
    AppNotFound,
    Conflict,
    ProviderInactive,
    Gone,
    PayloadTooLarge,
    UnsupportedMediaType,
    RateLimitExceeded,
    ServerError,
    Unavailable,
}

impl Kind {
    /// Its status code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::ValidationError => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::AppNotFound => StatusCode::NOT_FOUND,
            Self::Conflict | Self::ProviderInactive => StatusCode::CONFLICT,
            Self::Gone => StatusCode::GONE,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Something is wrong. The caller sees kind, message and details; the cause goes to the log alone.
#[derive(Clone, Debug)]
pub struct Problem(Box<Inside>);

#[derive(Clone, Debug)]
struct Inside {
    kind: Kind,
    message: String,
    details: Vec<FieldError>,
    exceeded: Option<(Exceeded, Duration, Timestamp)>,
    cause: Option<String>,
}

/// Seconds after which a caller may try again when we could not serve.
const RETRY_AFTER: u64 = 5;

impl Problem {
    /// A problem of this kind, in words for a person.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inside { kind, message: message.into(), details: Vec::new(), exceeded: None, cause: None }))
    }

    fn caused(kind: Kind, message: &str, cause: impl ToString) -> Self {
        let mut problem = Self::new(kind, message);
        problem.0.cause = Some(cause.to_string());
        problem
    }

    /// Fields that are wrong.
    pub fn fields(details: Vec<FieldError>) -> Self {
        let message = match details.as_slice() {
            [FieldError { field, message, .. }] if field.is_empty() => format!("The body {message}."),
            [FieldError { field, message, .. }] => format!("{field} {message}."),
            many => format!("{} fields are wrong; see details.", many.len()),
        };
        let mut problem = Self::new(Kind::ValidationError, message);
        problem.0.details = details;
        problem
    }

    /// The same with the fields that it is about.
    pub fn about(mut self, details: Vec<FieldError>) -> Self {
        self.0.details = details;
        self
    }

    /// One field that is wrong.
    pub fn field(detail: FieldError) -> Self {
        Self::fields(vec![detail])
    }

    /// There is nothing of this name here: unknown, or somebody else's.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("There is no such {what}."))
    }

    /// There is no such app.
    pub fn app_not_found() -> Self {
        Self::new(Kind::AppNotFound, "There is no app with this id.")
    }

    /// The caller did not prove who they are.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(Kind::Unauthorized, message)
    }

    /// A session token that does not hold. Which of its faults it is, is for the log.
    pub fn token_refused(why: impl ToString) -> Self {
        tracing::debug!(why = why.to_string(), "token.refused");
        Self::new(Kind::Unauthorized, "The session token is not valid, or has ended. Begin a new session.")
    }

    /// Too many requests.
    pub fn limited(exceeded: Exceeded, now: Timestamp) -> Self {
        Self::limited_in(exceeded, domain::limit::WINDOW, now)
    }

    /// Too many requests, counted in windows of another length.
    pub fn limited_in(exceeded: Exceeded, window: Duration, now: Timestamp) -> Self {
        let seconds = exceeded.retry_after_in(window, now);
        let message = format!("Too many requests. Try again in {seconds} s.");
        let mut problem = Self::new(Kind::RateLimitExceeded, message);
        problem.0.exceeded = Some((exceeded, window, now));
        problem
    }

    /// Something we need is away. The cause is for the log.
    pub fn unavailable(cause: impl ToString) -> Self {
        let message = "The service cannot do this right now. Please try again shortly.";
        Self::caused(Kind::Unavailable, message, cause)
    }

    /// A fault of ours. The cause is for the log.
    pub fn server_error(cause: impl ToString) -> Self {
        let message = "Something went wrong on our side. The request id helps us to find it.";
        Self::caused(Kind::ServerError, message, cause)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the caller is told.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The fields that it is about.
    pub fn details(&self) -> &[FieldError] {
        &self.0.details
    }

    /// The one log line.
    pub(crate) fn log(&self, request_id: &str) {
        let status = self.0.kind.status();
        match &self.0.cause {
            Some(cause) => {
                tracing::error!(request.id = request_id, status = status.as_u16(), cause, "request.failed");
            }
            None => {
                // The name of an unknown field is whatever the caller wrote.
                let known = self.0.details.iter().filter(|detail| detail.code != "unknown");
                let fields: Vec<_> = known.map(|detail| detail.field.as_str()).collect();
                tracing::debug!(request.id = request_id, status = status.as_u16(), kind = ?self.0.kind, ?fields, "request.refused");
            }
        }
    }

    /// The answer.
    pub(crate) fn render(&self, request_id: &str, now: Timestamp) -> Response {
        let body = Envelope {
            error: Body {
                kind: self.0.kind,
                message: &self.0.message,
                timestamp: now,
                request_id,
                details: &self.0.details,
            },
        };
        let mut response = (self.0.kind.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some((exceeded, window, now)) = self.0.exceeded {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(exceeded.retry_after_in(window, now)));
            headers.insert("x-ratelimit-limit", HeaderValue::from(exceeded.limit));
            headers.insert("x-ratelimit-remaining", HeaderValue::from(0));
            headers.insert("x-ratelimit-reset", HeaderValue::from(exceeded.reset.as_seconds()));
            headers.insert("x-ratelimit-window", HeaderValue::from(window.as_secs()));
        } else if self.0.kind == Kind::Unavailable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        } else if self.0.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: Kind,
    message: &'a str,
    timestamp: Timestamp,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    details: &'a [FieldError],
}

/// In a response's extensions: what the caller is told of the problem beside it stands in the response already.
#[derive(Clone, Copy, Debug)]
pub struct Told;

/// Carried to [`reply::bordered`](crate::reply::bordered), which knows the request's id and renders it.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
