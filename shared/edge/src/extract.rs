//! What handlers take out of a request: JSON with our errors, the moment, the client's address, the bearer token.

use std::{collections::BTreeMap, net::IpAddr};

use aws_lc_rs::{constant_time, digest};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request},
};
use domain::{field::FieldError, time::Timestamp};
use http::{Extensions, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lambda_http::request::RequestContext;
use serde::de::DeserializeOwned;

use crate::{
    clock,
    problem::{Kind, Problem},
};

/// Bytes of a body at most.
pub const MAX_BODY: usize = 64 * 1024;

/// The moment of this request, read once. Tests put a [`Timestamp`] into the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Now(pub Timestamp);

impl<S: Sync> FromRequestParts<S> for Now {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(*parts.extensions.get_or_insert_with(clock::now)))
    }
}

/// A JSON body of at most so many bytes, 64 KB unless something else is said.
#[derive(Debug)]
pub struct Json<T, const MOST: usize = MAX_BODY>(pub T);

impl<T: DeserializeOwned, S: Sync, const MOST: usize> FromRequest<S> for Json<T, MOST> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request, &[JSON], MOST).await?;
        parse_json(&body).map(Self).map_err(Problem::field)
    }
}

/// The texts of a path's parameters. A path whose escapes are no UTF-8 leads nowhere, like any other unknown one.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| no_path())
    }
}

/// What a path is answered that leads nowhere.
pub fn no_path() -> Problem {
    Problem::not_found("address here")
}

const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A body of at most so many bytes, sent as one of these types.
async fn read(request: Request, types: &[&str], most: usize) -> Result<Bytes, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !types.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Err(Problem::new(Kind::UnsupportedMediaType, "The body must be sent as application/json."));
    }
    let body = Limited::new(request.into_body(), most).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            Problem::new(Kind::PayloadTooLarge, format!("The body must be at most {most} bytes."))
        } else {
            Problem::field(FieldError::invalid("", "did not arrive whole"))
        }
    })?;
    Ok(body.to_bytes())
}

/// A JSON merge patch (RFC 7396): the fields given, and those that are given as `null`, which removes them. Whoever
/// applies it says of each whether it can be removed.
#[derive(Debug)]
pub struct Patch<T> {
    /// Every field is optional in it; one given as `null` is `None`.
    pub given: T,
    /// The names of the fields given as `null`.
    pub removed: Vec<String>,
}

impl<T> Patch<T> {
    /// What is wrong with removing a field that must stay.
    pub fn must_stay(field: &str) -> FieldError {
        FieldError::invalid(field, "cannot be null: it can be changed, not removed")
    }

    /// The fields given, where none may be removed.
    ///
    /// # Errors
    /// The fields given as `null`.
    pub fn without_removals(self) -> Result<T, Problem> {
        if self.removed.is_empty() {
            return Ok(self.given);
        }
        Err(Problem::fields(self.removed.iter().map(|field| Self::must_stay(field)).collect()))
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Patch<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request, &[JSON, MERGE_PATCH], MAX_BODY).await?;
        let given = parse_json(&body).map_err(Problem::field)?;
        let fields: BTreeMap<String, serde_json::Value> = parse_json(&body).map_err(Problem::field)?;
        let removed = fields.into_iter().filter(|(_, value)| value.is_null()).map(|(field, _)| field).collect();
        Ok(Self { given, removed })
    }
}

/// Parses JSON; the error names the field and never repeats the value given.
///
/// # Errors
/// The field and what it must be.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FieldError> {
    // serde takes an array for a struct, field by field; every body here is an object.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(FieldError::invalid("", "must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        if error.inner().is_data() { explain(path, &error.inner().to_string()) } else { not_json() }
    })?;
    reader.end().map_err(|_| not_json())?;
    Ok(parsed)
}

fn not_json() -> FieldError {
    FieldError { field: String::new(), message: "is not valid JSON".to_owned(), code: "malformed" }
}

/// Turns serde's sentence, which quotes the value, into one that does not.
fn explain(path: String, sentence: &str) -> FieldError {
    let sentence = sentence.rsplit_once(" at line ").map_or(sentence, |(sentence, _)| sentence);
    let quoted = |prefix: &str| sentence.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
    let below = |name: &str| match path.strip_suffix(name).filter(|rest| rest.is_empty() || rest.ends_with('.')) {
        // For unknown and repeated fields the path already ends in the name.
        Some(_) => path.clone(),
        None if path.is_empty() => name.to_owned(),
        None => format!("{path}.{name}"),
    };
    if let Some(name) = quoted("missing field `") {
        FieldError::required(below(name))
    } else if let Some(name) = quoted("unknown field `") {
        FieldError::unknown(below(name), "is not a known field")
    } else if let Some(name) = quoted("duplicate field `") {
        FieldError::invalid(below(name), "stands more than once")
    } else if let Some((_, expected)) = sentence.rsplit_once(", expected ") {
        FieldError::invalid(path, format!("must be {}", in_words(&expected.replace('`', ""))))
    } else {
        FieldError::invalid(path, sentence)
    }
}

/// What serde expects, without words of our code.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "a JSON object",
        _ if expected.starts_with("struct ") => "a JSON object",
        other => other,
    }
}

/// Inserted by the local front as a request extension: the address of who is connected.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// The SHA-256 of what the CDN proves itself with; inserted as an extension by routers that stand behind one.
#[derive(Clone, Debug)]
pub struct CdnProof(Vec<u8>);

impl std::str::FromStr for CdnProof {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be a SHA-256 in hex, 64 characters";
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong);
        }
        let byte = |index: usize| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong);
        (0..32).map(byte).collect::<Result<_, _>>().map(Self)
    }
}

/// The client's address: the peer (locally), API Gateway's `sourceIp`, or the CDN's viewer address when the request
/// proves that it came through the CDN. Never a header that a client can write.
#[derive(Clone, Copy, Debug)]
pub struct ClientIp(pub IpAddr);

impl<S: Sync> FromRequestParts<S> for ClientIp {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if let Some(Peer(ip)) = parts.extensions.get() {
            return Ok(Self(*ip));
        }
        let viewer = viewer_address(parts);
        let source = match parts.extensions.get::<RequestContext>() {
            Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref(),
            _ => None,
        };
        let ip = viewer.or_else(|| source.and_then(|ip| ip.parse().ok()));
        ip.map(Self).ok_or_else(|| Problem::server_error("the request has no client address"))
    }
}

/// `CloudFront-Viewer-Address` is `address:port`, IPv6 without brackets.
fn viewer_address(parts: &Parts) -> Option<IpAddr> {
    let CdnProof(expected) = parts.extensions.get()?;
    let shown = digest::digest(&digest::SHA256, parts.headers.get("x-c2c-cdn-proof")?.as_bytes());
    constant_time::verify_slices_are_equal(shown.as_ref(), expected).ok()?;
    let viewer = parts.headers.get("cloudfront-viewer-address")?.to_str().ok()?;
    viewer.rsplit_once(':')?.0.parse().ok()
}

/// What a request knows that is made on behalf of another one, in this process: the moment, and who is connected. Nothing
/// else of the other's: neither its route nor what its path held.
pub fn on_behalf(of: &Extensions) -> Extensions {
    let mut extensions = Extensions::new();
    copy::<Timestamp>(of, &mut extensions);
    copy::<Peer>(of, &mut extensions);
    copy::<CdnProof>(of, &mut extensions);
    copy::<RequestContext>(of, &mut extensions);
    extensions
}

fn copy<T: Clone + Send + Sync + 'static>(from: &Extensions, to: &mut Extensions) {
    if let Some(value) = from.get::<T>() {
        to.insert(value.clone());
    }
}

/// The token of `Authorization: Bearer …`.
#[derive(Clone)]
pub struct Bearer(pub String);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let missing = || Problem::unauthorized("The Authorization header must be: Bearer, a blank, the token.");
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(missing()) };
        let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
            return Err(missing());
        }
        Ok(Self(token.trim().to_owned()))
    }
}

/// API Gateway's id for the request, when it came from there.
pub(crate) fn request_id(request: &Request) -> Option<String> {
    match request.extensions().get::<RequestContext>()? {
        RequestContext::ApiGatewayV2(context) => context.request_id.clone(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Body {
        #[expect(dead_code, reason = "only parsed")]
        app_id: domain::id::AppId,
        #[expect(dead_code, reason = "only parsed")]
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        count: u8,
    }

    fn error(text: &str) -> (String, String, &'static str) {
        let error = parse_json::<Body>(text.as_bytes()).expect_err(text);
        (error.field, error.message, error.code)
    }

    #[test]
    fn errors_speak_of_json_and_not_of_types_of_ours() {
        let id = "app_01jd3v9zk0abcdefghjkmnpqrs";
        let count = |count: &str| error(&format!(r#"{{"appId": "{id}", "inner": {{"count": {count}}}}}"#)).1;
        assert_eq!(error("null").1, "must be a JSON object");
        for wrong in ["-1", "1.5"] {
            assert_eq!(count(wrong), "must be a whole number");
        }
    }

    #[test]
    fn errors_name_the_field_and_never_the_value() {
        let id = "app_01jd3v9zk0abcdefghjkmnpqrs";
        for (text, field, code) in [
            ("", "", "malformed"),
            ("{", "", "malformed"),
            ("{} x", "appId", "required"),
            ("[]", "", "invalid"),
            (r#" ["app_01jd3v9zk0abcdefghjkmnpqrs", null]"#, "", "invalid"),
            ("{}", "appId", "required"),
            (r#"{"appId": 7}"#, "appId", "invalid"),
            (r#"{"appId": "s3cret"}"#, "appId", "invalid"),
            (&format!(r#"{{"appId": "{id}", "inner": "s, expected s3cret"}}"#), "inner", "invalid"),
            (&format!(r#"{{"appId": "{id}", "s3cret": 1}}"#), "s3cret", "unknown"),
            (&format!(r#"{{"appId": "{id}", "appId": "{id}"}}"#), "appId", "invalid"),
            (&format!(r#"{{"appId": "{id}", "inner": {{"count": "s3cret"}}}}"#), "inner.count", "invalid"),
            (&format!(r#"{{"appId": "{id}", "inner": {{"count": 300}}}}"#), "inner.count", "invalid"),
            (&format!(r#"{{"appId": "{id}", "inner": {{}}}}"#), "inner.count", "required"),
            (&format!(r#"{{"appId": "{id}"}} trailing"#), "", "malformed"),
        ] {
            let (named, message, coded) = error(text);
            assert_eq!((named.as_str(), coded), (field, code), "{text}: {message}");
            assert!(!message.contains("s3cret") && !message.contains("300"), "{text}: {message}");
        }
    }

    #[tokio::test]
    async fn a_viewer_address_counts_only_with_the_proof() {
        let proof: CdnProof =
            // SHA-256 of "open sesame"
            "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb".parse().expect("a hash");
        for (shown, viewer, expected) in [
            (Some("open sesame"), Some("198.51.100.7:4711"), Some("198.51.100.7")),
            (Some("open sesame"), Some("2001:db8::7:4711"), Some("2001:db8::7")),
            (Some("open says me"), Some("198.51.100.7:4711"), None),
            (None, Some("198.51.100.7:4711"), None),
            (Some("open sesame"), Some("nonsense"), None),
        ] {
            let mut request = http::Request::builder();
            if let Some(shown) = shown {
                request = request.header("x-c2c-cdn-proof", shown);
            }
            if let Some(viewer) = viewer {
                request = request.header("cloudfront-viewer-address", viewer);
            }
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            parts.extensions.insert(proof.clone());
            let found = viewer_address(&parts);
            assert_eq!(found, expected.map(|ip| ip.parse().expect(ip)), "{shown:?} {viewer:?}");
        }
    }
}
