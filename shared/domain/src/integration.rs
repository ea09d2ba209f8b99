//! A customer's integration: where events go, which ones, with which headers (contract section 4).

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    destination::Destination,
    event::EventName,
    field::{self, FieldError},
    id::{Entropy, IntegrationId},
    reach::Reach,
    secret::SecretName,
    strict,
    template::{Template, Unfilled, Values, Writing},
    time::Timestamp,
};

/// Integrations of one app that may be active at once.
pub const MAX_ACTIVE: usize = 3;
/// Answers that an integration may want to be tried again; other 4xx are final.
pub const RETRIABLE_STATUSES: [u16; 3] = [408, 425, 429];
const MAX_HEADERS: usize = 20;
const MAX_HEADER_VALUE: usize = 4_096;
const TIMEOUT_MILLIS: std::ops::RangeInclusive<u64> = 100..=10_000;
/// Milliseconds of one attempt when nothing else is said.
pub const DEFAULT_TIMEOUT_MILLIS: u64 = 5_000;
const REFUSED_HEADERS: [&str; 25] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "metadata",
    "metadata-flavor",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-aws-ec2-metadata-token",
    "x-aws-ec2-metadata-token-ttl-seconds",
    "x-google-metadata-request",
    "x-identity-header",
    "x-real-ip",
    "webhook-id",
    "cookie",
];
const REFUSED_PREFIXES: [&str; 4] = ["proxy-", "x-forwarded-", "webhook-", "x-amzn-"];

/// Whether events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum Status {
    /// Events are sent.
    Active,
    /// The service stopped it; why stands beside it.
    Paused,
    /// The customer switched it off.
    Inactive,
}

/// One header sent with every delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

strict::words!(Status);
strict::objects!(Header);

/// One integration of one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Integration {
    /// Its id.
    pub id: IntegrationId,
    /// Its name, for operators.
    pub name: String,
    /// Where deliveries go.
    pub url: Destination,
    /// Which events it hears; none by default.
    pub events: BTreeSet<EventName>,
    /// Headers of its own.
    pub headers: Vec<Header>,
    /// The time limit of one attempt, in milliseconds, body included.
    pub timeout_ms: u64,
    /// Whether events are sent.
    pub status: Status,
    /// Why it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_reason: Option<String>,
    /// When it was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// Answers that are tried again, out of [`RETRIABLE_STATUSES`]; none by default.
    #[serde(default)]
    pub retry_statuses: BTreeSet<u16>,
    /// Whether deliveries are signed.
    pub signing: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What an operator may set: a whole integration on creation, some of it on a change.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields of Integration")]
pub struct Draft {
    pub name: Option<String>,
    pub url: Option<String>,
    pub events: Option<BTreeSet<EventName>>,
    pub headers: Option<Vec<Header>>,
    pub timeout_ms: Option<u64>,
    pub retry_statuses: Option<Vec<u16>>,
    pub status: Option<Status>,
    pub signing: Option<bool>,
}

/// What checking a draft needs to know about the deployment.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// What deliveries may reach.
    pub reach: &'a Reach,
    /// The deployment's own host names.
    pub own_hosts: &'a [String],
    /// The secrets that the integration has; none before it is made.
    pub secrets: &'a BTreeSet<SecretName>,
}

impl Integration {
    /// A new integration out of a draft; active unless the draft says otherwise.
    ///
    /// # Errors
    /// Every field that is wrong or missing.
    pub fn create(
        draft: Draft,
        around: Surroundings<'_>,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        for (given, name) in [(draft.name.is_some(), "name"), (draft.url.is_some(), "url")] {
            if !given {
                errors.push(FieldError::required(name));
            }
        }
        let url = draft.url.as_deref().map(|url| Destination::parse(url, around.reach, around.own_hosts));
        let url = match url {
            Some(Ok(url)) => url,
            Some(Err(error)) => {
                errors.push(error);
                errors.extend(draft.errors(around.secrets));
                return Err(errors);
            }
            None => {
                errors.extend(draft.errors(around.secrets));
                return Err(errors);
            }
        };
        let blank = Self {
            id: IntegrationId::mint(now, entropy),
            name: String::new(),
            url,
            events: BTreeSet::new(),
            headers: Vec::new(),
            timeout_ms: DEFAULT_TIMEOUT_MILLIS,
            status: Status::Active,
            paused_reason: None,
            paused_at: None,
            retry_statuses: BTreeSet::new(),
            signing: false,
            created_at: now,
        };
        let made = blank.change(draft, around);
        match made {
            Ok(made) if errors.is_empty() => Ok(made),
            Ok(_) => Err(errors),
            Err(more) => Err(errors.into_iter().chain(more).collect()),
        }
    }

    /// The same integration with the fields a draft gives changed (merge patch).
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn change(mut self, draft: Draft, around: Surroundings<'_>) -> Result<Self, Vec<FieldError>> {
        let mut errors = draft.errors(around.secrets);
        if let Some(url) = &draft.url {
            match Destination::parse(url, around.reach, around.own_hosts) {
                Ok(url) => {
                    errors.extend(unknown("url", &url.secrets(), around.secrets));
                    self.url = url;
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        if let Some(name) = draft.name {
            self.name = name.trim().to_owned();
        }
        self.events = draft.events.unwrap_or(self.events);
        self.headers = draft.headers.unwrap_or(self.headers);
        self.timeout_ms = draft.timeout_ms.unwrap_or(self.timeout_ms);
        self.retry_statuses = draft.retry_statuses.map_or(self.retry_statuses, BTreeSet::from_iter);
        if let Some(status) = draft.status {
            self.status = status;
            self.paused_reason = None;
            self.paused_at = None;
        }
        self.signing = draft.signing.unwrap_or(self.signing);
        Ok(self)
    }

    /// Every secret that the address or a header names.
    pub fn secrets(&self) -> BTreeSet<SecretName> {
        let headers = self.headers.iter().filter_map(|header| Template::parse(&header.value).ok());
        let headers = headers.flat_map(|template| template.names().into_iter().cloned().collect::<Vec<_>>());
        self.url.secrets().into_iter().cloned().chain(headers).collect()
    }

    /// The fields that name this secret.
    pub fn fields_with(&self, secret: &SecretName) -> Vec<String> {
        let names =
            |header: &Header| Template::parse(&header.value).is_ok_and(|template| template.names().contains(secret));
        let headers = self.headers.iter().enumerate().filter(|(_, header)| names(header));
        let url = self.url.secrets().contains(secret).then(|| "url".to_owned());
        url.into_iter().chain(headers.map(|(index, _)| format!("headers[{index}].value"))).collect()
    }

    /// The headers with their secrets, in order. Never log them.
    ///
    /// # Errors
    /// When a secret is missing, or cannot stand in a header.
    pub fn fill_headers(&self, values: &Values) -> Result<Vec<(&str, Zeroizing<String>)>, Unfilled> {
        let fill = |header: &Header| {
            let filled = Template::parse(&header.value).map_err(|_| Unfilled)?.fill(Writing::Plain, values)?;
            if is_header_value(&filled) { Ok(filled) } else { Err(Unfilled) }
        };
        self.headers.iter().map(|header| Ok((header.name.as_str(), fill(header)?))).collect()
    }

    /// Whether an event called `name` is due here. While it is paused, too: what is not sent is kept as skipped.
    pub fn hears(&self, name: EventName) -> bool {
        self.status != Status::Inactive && self.events.contains(&name)
    }

    /// The time limit of one attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl Draft {
    /// What is wrong with the fields given, the address apart.
    fn errors(&self, secrets: &BTreeSet<SecretName>) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(Err(error)) = self.name.as_ref().map(|name| field::label("name", name, 100)) {
            errors.push(error);
        }
        if self.timeout_ms.is_some_and(|millis| !TIMEOUT_MILLIS.contains(&millis)) {
            errors.push(FieldError::invalid("timeoutMs", "must be from 100 to 10000 milliseconds"));
        }
        for (index, code) in self.retry_statuses.iter().flatten().enumerate() {
            if !RETRIABLE_STATUSES.contains(code) {
                errors.push(FieldError::invalid(format!("retryStatuses[{index}]"), "must be 408, 425 or 429"));
            }
        }
        if self.status == Some(Status::Paused) {
            errors.push(FieldError::invalid("status", "must be active or inactive; only the service pauses"));
        }
        let headers = self.headers.as_deref().unwrap_or_default();
        if headers.len() > MAX_HEADERS {
            errors.push(FieldError::invalid("headers", format!("must be at most {MAX_HEADERS}")));
        }
        let mut seen = BTreeSet::new();
        for (index, header) in headers.iter().enumerate() {
            if let Err(message) = check_header_name(&header.name) {
                errors.push(FieldError::invalid(format!("headers[{index}].name"), message));
            } else if !seen.insert(header.name.to_ascii_lowercase()) {
                errors.push(FieldError::invalid(format!("headers[{index}].name"), "stands more than once"));
            }
            let field = format!("headers[{index}].value");
            match (check_header_value(&header.value), Template::parse(&header.value)) {
                (Err(message), _) => errors.push(FieldError::invalid(field, message)),
                (Ok(()), Err(error)) => errors.push(FieldError::invalid(field, error.to_string())),
                (Ok(()), Ok(template)) => errors.extend(unknown(&field, &template.names(), secrets)),
            }
        }
        errors
    }
}

fn unknown(field: &str, named: &BTreeSet<&SecretName>, known: &BTreeSet<SecretName>) -> Option<FieldError> {
    let missing: Vec<_> = named.iter().filter(|name| !known.contains(**name)).map(|name| name.as_str()).collect();
    let message = || format!("names a secret that this integration does not have: {}", missing.join(", "));
    (!missing.is_empty()).then(|| FieldError::unknown(field, message()))
}

fn check_header_name(name: &str) -> Result<(), &'static str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !(1..=128).contains(&name.len()) || !name.bytes().all(token) {
        return Err("must be a header name of at most 128 characters");
    }
    let name = name.to_ascii_lowercase();
    if REFUSED_HEADERS.contains(&name.as_str()) || REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err("is set by the service or by the transport and cannot be changed");
    }
    Ok(())
}

fn check_header_value(value: &str) -> Result<(), &'static str> {
    if value.len() > MAX_HEADER_VALUE {
        return Err("must be at most 4,096 characters");
    }
    if !is_header_value(value) {
        return Err("must be visible ASCII characters, without blanks at its ends");
    }
    Ok(())
}

fn is_header_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) && value.trim() == value
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn create(draft: serde_json::Value) -> Result<Integration, Vec<String>> {
        let draft: Draft = serde_json::from_value(draft).map_err(|error| vec![error.to_string()])?;
        let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &BTreeSet::new() };
        Integration::create(draft, around, Timestamp::from_millis(1), &[0; 10])
            .map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn defaults() {
        let made = create(json!({"name": " CRM ", "url": "https://example.com/in"})).expect("a good draft");
        assert_eq!((made.name.as_str(), made.timeout_ms, made.status), ("CRM", 5_000, Status::Active));
        assert!(made.events.is_empty() && !made.hears(EventName::WidgetLoaded));
    }

    #[test]
    fn wrong_fields_are_named() {
        let base = || json!({"name": "CRM", "url": "https://example.com/in"});
        for (field, value, named) in [
            ("name", json!("  "), "name"),
            ("url", json!("http://example.com"), "url"),
            ("url", json!("https://example.com/{secret.token}"), "url"),
            ("timeoutMs", json!(99), "timeoutMs"),
            ("timeoutMs", json!(10_001), "timeoutMs"),
            ("status", json!("paused"), "status"),
            ("retryStatuses", json!([429, 410]), "retryStatuses[1]"),
            ("retryStatuses", json!([500]), "retryStatuses[0]"),
            ("headers", json!([{"name": "Host", "value": "x"}]), "headers[0].name"),
            ("headers", json!([{"name": "Webhook-Signature", "value": "x"}]), "headers[0].name"),
            ("headers", json!([{"name": "X-Forwarded-For", "value": "x"}]), "headers[0].name"),
            ("headers", json!([{"name": "a b", "value": "x"}]), "headers[0].name"),
            ("headers", json!([{"name": "A", "value": "x"}, {"name": "a", "value": "y"}]), "headers[1].name"),
            ("headers", json!([{"name": "A", "value": "x\r\nB: y"}]), "headers[0].value"),
            ("headers", json!([{"name": "A", "value": "{secret.gone}"}]), "headers[0].value"),
            ("headers", json!(vec![json!({"name": "A", "value": "x"}); 21]), "headers"),
        ] {
            let mut draft = base();
            draft[field] = value.clone();
            assert_eq!(create(draft).expect_err(field)[0], named, "{field} {value}");
        }
        assert_eq!(create(json!({})).expect_err("nothing given"), ["name", "url"]);
        assert!(create(json!({"name": "a", "url": "https://a.example", "events": ["call_begun"]})).is_err());
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &BTreeSet::new() };
        let made =
            create(json!({"name": "CRM", "url": "https://example.com/in", "events": ["call_ended"]})).expect("good");
        let draft = serde_json::from_value(json!({"status": "inactive"})).expect("a draft");
        let changed = made.clone().change(draft, around).expect("a good change");
        assert_eq!(changed, Integration { status: Status::Inactive, ..made });
        assert!(!changed.hears(EventName::CallEnded));
        let paused = Integration { status: Status::Paused, paused_reason: Some("why".into()), ..changed };
        assert!(paused.hears(EventName::CallEnded) && !paused.hears(EventName::CallStarted));
        let draft =
            serde_json::from_value(json!({"status": "active", "retryStatuses": [429, 408, 429]})).expect("good");
        let active = paused.change(draft, around).expect("a good change");
        assert_eq!((active.paused_reason, active.retry_statuses), (None, BTreeSet::from([408, 429])));
    }

    #[test]
    fn secrets_that_exist_may_be_named() {
        let secrets: BTreeSet<SecretName> = ["a", "b"].iter().map(|name| name.parse().expect("a name")).collect();
        let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &secrets };
        let made = create(json!({"name": "CRM", "url": "https://example.com/in"})).expect("good");
        let change =
            |draft: serde_json::Value| made.clone().change(serde_json::from_value(draft).expect("a draft"), around);
        let changed = change(json!({"url": "https://example.com/{secret.a}", "signing": true, "headers": [
            {"name": "X", "value": "plain"}, {"name": "Authorization", "value": "Bearer {secret.b}{secret.a}"}]}));
        let changed = changed.expect("good");
        let name = |text: &str| text.parse::<SecretName>().expect(text);
        assert!(changed.signing && changed.secrets() == secrets);
        assert_eq!(changed.fields_with(&name("a")), ["url", "headers[1].value"]);
        assert_eq!(changed.fields_with(&name("b")), ["headers[1].value"]);
        let values = crate::template::values(&[("a", "1"), ("b", "2 3")]);
        let filled = changed.fill_headers(&values).expect("filled");
        assert_eq!((filled[1].0, filled[1].1.as_str()), ("Authorization", "Bearer 2 31"));
        assert!(changed.fill_headers(&crate::template::values(&[("a", "1")])).is_err());
        for (draft, field) in [
            (json!({"url": "https://example.com/{secret.c}"}), "url"),
            (json!({"url": "https://{secret.a}.example.com/"}), "url"),
            (json!({"headers": [{"name": "X", "value": "{secret.c}"}]}), "headers[0].value"),
            (json!({"headers": [{"name": "X", "value": "{secret.a"}]}), "headers[0].value"),
        ] {
            let errors = change(draft.clone()).expect_err("refused");
            assert_eq!(errors[0].field, field, "{draft}");
        }
    }
}
