//! AWS's JSON protocols, 1.0 and 1.1: the operation in `X-Amz-Target`, one JSON object each way, and refusals in the
//! shape the SDKs parse.

use std::fmt::Write;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::gate::Service;

/// A message of one mebibyte, escaped at its worst, fits; DynamoDB's own limit is 16 MB.
pub(crate) const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// What an operation answers.
pub(crate) type Answer = Result<Value, Refusal>;

/// An error as AWS words it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The modelled name, sent as `__type`.
    pub(crate) shape: &'static str,
    /// What SQS's older protocol called it where the names differ, sent as `x-amzn-query-error`.
    pub(crate) older: Option<&'static str>,
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    /// The caller is at fault.
    pub(crate) fn new(shape: &'static str, message: impl Into<String>) -> Self {
        Refusal { shape, older: None, status: 400, message: message.into() }
    }

    /// The caller is at fault, and SQS's older name is the one the SDK goes by.
    pub(crate) fn named(shape: &'static str, older: &'static str, message: impl Into<String>) -> Self {
        Refusal { older: Some(older), ..Refusal::new(shape, message) }
    }

    /// The stand-in is at fault.
    pub(crate) fn internal(shape: &'static str, cause: impl ToString) -> Self {
        let message = cause.to_string();
        tracing::error!(cause = %message, "embedded.failed");
        Refusal { status: 500, ..Refusal::new(shape, message) }
    }

    /// The name callers match on.
    pub(crate) fn code(&self) -> &'static str {
        self.older.unwrap_or(self.shape)
    }
}

/// The operation's name without its service prefix; empty when the header is missing.
pub(crate) fn operation(headers: &HeaderMap) -> &str {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    target.rsplit_once('.').map_or(target, |(_, name)| name)
}

/// The request's object as the operation reads it.
pub(crate) fn input<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Refusal::new("SerializationException", error.to_string()))
}

/// Puts an answer on the wire.
pub(crate) fn respond(service: Service, answer: Answer) -> Response<Body> {
    let mut response = Response::builder().header(header::CONTENT_TYPE, service.content_type());
    if let Ok(id) = uuid() {
        response = response.header("x-amzn-requestid", id);
    }
    let body = match answer {
        Ok(value) => value.to_string(),
        Err(refusal) => {
            response = response.status(refusal.status);
            if service == Service::Sqs {
                let whose = if refusal.status < 500 { "Sender" } else { "Receiver" };
                response = response.header("x-amzn-query-error", format!("{};{whose}", refusal.code()));
            }
            json!({ "__type": format!("{}#{}", service.namespace(), refusal.shape), "message": refusal.message })
                .to_string()
        }
    };
    response.body(Body::from(Bytes::from(body))).unwrap_or_default()
}

/// `N` bytes nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], aws_lc_rs::error::Unspecified> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(bytes)
}

/// A random (version 4) UUID.
pub(crate) fn uuid() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(dashed(&bytes))
}

/// Sixteen bytes in a UUID's spelling.
pub(crate) fn dashed(bytes: &[u8; 16]) -> String {
    let text = hex(bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
