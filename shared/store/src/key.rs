//! Every key of the one table. Constructors take ids, never strings, so a read that forgets whose rows it wants cannot
//! be written.
//!
//! | what | pk | sk | read by |
//! |---|---|---|---|
//! | app | `APP#{app}` | `APP` | widget, session, console |
//! | provider | `APP#{app}` | `PROVIDER` | session, console |
//! | what came of asking it last, and who asks it | `APP#{app}` | `PROVIDERHEALTH` | media, console |
//! | index of active providers | `PROVIDERS` | `{app}` | media (query) |
//! | integration | `APP#{app}` | `INTEGRATION#{id}` | ingest (query by prefix), dispatch, console |
//! | breaker and success rate of an integration | `APP#{app}` | `BREAKER#{id}` | dispatch, console (query by prefix) |
//! | business hours | `APP#{app}` | `HOURS` | session, media, console |
//! | profile | `APP#{app}` | `PROFILE#{id}` | session, media, console (query by prefix) |
//! | where a routing key leads; without a key: the default | `APP#{app}` | `ROUTE#{key}` | session, console |
//! | secret | `APP#{app}` | `SECRET#{integration}#{name}` | dispatch (query by prefix), console |
//! | values shown in an hour | `APP#{app}` | `REVEALS#{integration}#{hour}` | console |
//! | signing keys | `APP#{app}` | `SIGNING#{integration}` | dispatch, console |
//! | draft of a design | `APP#{app}` | `DRAFT` | console, session (previews), ingest (previews) |
//! | preview of a draft | `APP#{app}` | `PREVIEW#{sha-256 of the key}` | session, console |
//! | published design | `APP#{app}` | `PUBLISHED` | session, ingest, console |
//! | version of a design | `APP#{app}` | `DESIGN#{number}` | console (query by prefix, newest first) |
//! | custom code | `APP#{app}` | `CODE` | widget, console |
//! | who saves a page of the console at this moment | `APP#{app}` | `TURN#{sha-256 of its path}` | console |
//! | row of the audit log | `AUDIT#{app}`, `AUDIT#deployment` | `{id}` | console (query, newest first) |
//! | index of apps | `APPS` | `{app}` | console (query) |
//! | delivery, or a mark that it was erased | `DELIVERY#{app}#{day}#{shard}` | `{id}` | dispatch, console (query, newest first) |
//! | call | `CALLS#{app}` | `{id}` | media, ingest, console (query, newest first) |
//! | values of a session's form | `FORM#{app}#{session}` | `{millis}` | ingest, console (query, newest first) |
//! | survey after a call | `SURVEYS#{app}` | `{call}` | ingest, console (query, newest first) |
//! | calls of an app that run now | `APP#{app}` | `RUNNING` | media |
//! | a media server that is there, and until when | `SERVERS` | `{server}` | media (query) |
//! | call that a media server runs | `SERVER#{server}` | `{call}` | media (query) |
//! | the one call of a session that runs now | `SESSION#{session}` | `CALL` | media |
//! | rate limit | `LIMIT#{scope}#{ip or app}#{subject}` | `LIMIT` | every public function |
//! | tries to sign in from an address | `LIMIT#sign-in#ip#{address}` | `LIMIT` | console |
//! | public half of a token key | `TOKENKEY` | `{kid}` | session, ingest, media (query) |
//! | wrapped private half | `TOKENSEED` | `{kid}` | session (query) |
//! | operator token, console session | `OPERATOR#{sha-256 of the token}` | `OPERATOR` | console |
//! | list of operators | `OPERATORS` | `{id}` | console (query) |
//! | number of operators who are admins | `OPERATORS#ADMINS` | `OPERATORS#ADMINS` | console |
//! | operators' sessions that a provider vouched for | `OPERATOR#provider#{random}` | `OPERATOR` | console |
//! | sign-in with a provider, begun in a browser | `SIGNIN#{sha-256 of its cookie}` | `BEGUN` | console |
//! | one-time sign-in code | `SIGNIN#{sha-256 of the code}` | `SIGNIN` | console |
//!
//! Deliveries are spread: one partition takes 1,000 writes a second, a busy app makes more. Their day and shard follow
//! from their id, so that one read finds one row.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::{
    id::{AppId, AuditId, CallId, DeliveryId, DestinationId, IntegrationId, OperatorId, SessionId},
    limit::Scope,
    secret::SecretName,
    time::Timestamp,
};

use crate::audit::Log;

/// Rooms of one app's day.
pub(crate) const DELIVERY_SHARDS: u8 = 4;

/// Where a row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) pk: String,
    pub(crate) sk: String,
}

/// Rows that share a partition and the beginning of their sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) pk: String,
    pub(crate) prefix: &'static str,
}

impl Key {
    fn new(pk: String, sk: impl Into<String>) -> Self {
        Self { pk, sk: sk.into() }
    }

    pub(crate) fn app(app: AppId) -> Self {
        Self::new(app_partition(app), "APP")
    }

    pub(crate) fn provider(app: AppId) -> Self {
        Self::new(app_partition(app), "PROVIDER")
    }

    pub(crate) fn provider_health(app: AppId) -> Self {
        Self::new(app_partition(app), "PROVIDERHEALTH")
    }

    pub(crate) fn active_provider(app: AppId) -> Self {
        Self::new(PROVIDERS.to_owned(), app.to_string())
    }

    pub(crate) fn hours(app: AppId) -> Self {
        Self::new(app_partition(app), "HOURS")
    }

    pub(crate) fn integration(app: AppId, id: IntegrationId) -> Self {
        Self::new(app_partition(app), format!("{INTEGRATION}{id}"))
    }

    pub(crate) fn breaker(app: AppId, id: IntegrationId) -> Self {
        Self::new(app_partition(app), format!("{BREAKER}{id}"))
    }

    pub(crate) fn profile(app: AppId, id: DestinationId) -> Self {
        Self::new(app_partition(app), format!("{PROFILE}{id}"))
    }

    /// Where a routing key leads, or who asks for none. No routing key is empty.
    pub(crate) fn route(app: AppId, routing_key: Option<&str>) -> Self {
        Self::new(app_partition(app), format!("ROUTE#{}", routing_key.unwrap_or_default()))
    }

    pub(crate) fn secret(app: AppId, integration: IntegrationId, name: &SecretName) -> Self {
        Self::new(app_partition(app), format!("SECRET#{integration}#{name}"))
    }

    /// What the keys of an integration's secrets begin with.
    pub(crate) fn secrets(app: AppId, integration: IntegrationId) -> Self {
        Self::new(app_partition(app), format!("SECRET#{integration}#"))
    }

    pub(crate) fn reveals(app: AppId, integration: IntegrationId, hour: Timestamp) -> Self {
        Self::new(app_partition(app), format!("REVEALS#{integration}#{hour}"))
    }

    pub(crate) fn signing(app: AppId, integration: IntegrationId) -> Self {
        Self::new(app_partition(app), format!("SIGNING#{integration}"))
    }

    pub(crate) fn audit(log: Log, id: AuditId) -> Self {
        Self::new(audit_partition(log), id.to_string())
    }

    pub(crate) fn app_index(app: AppId) -> Self {
        Self::new(APPS.to_owned(), app.to_string())
    }

    pub(crate) fn delivery(app: AppId, id: DeliveryId) -> Self {
        Self::new(delivery_partition(app, id.minted_at(), id.shard(DELIVERY_SHARDS)), id.to_string())
    }

    pub(crate) fn call(app: AppId, id: CallId) -> Self {
        Self::new(call_partition(app), id.to_string())
    }

    pub(crate) fn draft(app: AppId) -> Self {
        Self::new(app_partition(app), "DRAFT")
    }

    pub(crate) fn preview(app: AppId, key_hash: &str) -> Self {
        Self::new(app_partition(app), format!("PREVIEW#{key_hash}"))
    }

    pub(crate) fn turn(app: AppId, page_hash: &str) -> Self {
        Self::new(app_partition(app), format!("TURN#{page_hash}"))
    }

    pub(crate) fn published(app: AppId) -> Self {
        Self::new(app_partition(app), "PUBLISHED")
    }

    pub(crate) fn design(app: AppId, version: u32) -> Self {
        Self::new(app_partition(app), format!("{DESIGN}{}", in_order(version)))
    }

    pub(crate) fn custom_code(app: AppId) -> Self {
        Self::new(app_partition(app), "CODE")
    }

    pub(crate) fn form_values(app: AppId, session: SessionId, at: Timestamp) -> Self {
        Self::new(form_partition(app, session), at_millis(at))
    }

    pub(crate) fn survey(app: AppId, call: CallId) -> Self {
        Self::new(survey_partition(app), call.to_string())
    }

    pub(crate) fn running_calls(app: AppId) -> Self {
        Self::new(app_partition(app), "RUNNING")
    }

    pub(crate) fn session_call(session: SessionId) -> Self {
        Self::new(format!("SESSION#{session}"), "CALL")
    }

    pub(crate) fn server(owner: &str) -> Self {
        Self::new(SERVERS.to_owned(), owner)
    }

    pub(crate) fn call_of_server(owner: &str, call: CallId) -> Self {
        Self::new(server_partition(owner), call.to_string())
    }

    pub(crate) fn limit_ip(scope: Scope, subject: &str) -> Self {
        Self::new(format!("LIMIT#{}#ip#{subject}", scope.as_str()), "LIMIT")
    }

    pub(crate) fn limit_app(scope: Scope, app: AppId) -> Self {
        Self::new(format!("LIMIT#{}#app#{app}", scope.as_str()), "LIMIT")
    }

    pub(crate) fn token_key(kid: &str) -> Self {
        Self::new(TOKEN_KEYS.to_owned(), kid)
    }

    pub(crate) fn token_seed(kid: &str) -> Self {
        Self::new(TOKEN_SEEDS.to_owned(), kid)
    }

    pub(crate) fn operator(token_hash: &str) -> Self {
        Self::new(format!("OPERATOR#{token_hash}"), "OPERATOR")
    }

    pub(crate) fn operator_index(id: OperatorId) -> Self {
        Self::new(OPERATORS.to_owned(), id.to_string())
    }

    pub(crate) fn admins() -> Self {
        Self::new("OPERATORS#ADMINS".to_owned(), "OPERATORS#ADMINS")
    }

    pub(crate) fn sign_in(code_hash: &str) -> Self {
        Self::new(format!("SIGNIN#{code_hash}"), "SIGNIN")
    }

    pub(crate) fn begun_sign_in(cookie_hash: &str) -> Self {
        Self::new(format!("SIGNIN#{cookie_hash}"), "BEGUN")
    }

    /// As the SDK wants it.
    pub(crate) fn attributes(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            (PK.to_owned(), AttributeValue::S(self.pk.clone())),
            (SK.to_owned(), AttributeValue::S(self.sk.clone())),
        ])
    }
}

impl Range {
    pub(crate) fn integrations(app: AppId) -> Self {
        Self { pk: app_partition(app), prefix: INTEGRATION }
    }

    pub(crate) fn breakers(app: AppId) -> Self {
        Self { pk: app_partition(app), prefix: BREAKER }
    }

    pub(crate) fn profiles(app: AppId) -> Self {
        Self { pk: app_partition(app), prefix: PROFILE }
    }

    pub(crate) fn operators() -> Self {
        Self { pk: OPERATORS.to_owned(), prefix: "" }
    }

    pub(crate) fn apps() -> Self {
        Self { pk: APPS.to_owned(), prefix: "" }
    }

    pub(crate) fn active_providers() -> Self {
        Self { pk: PROVIDERS.to_owned(), prefix: "" }
    }

    pub(crate) fn servers() -> Self {
        Self { pk: SERVERS.to_owned(), prefix: "" }
    }

    pub(crate) fn calls_of_server(owner: &str) -> Self {
        Self { pk: server_partition(owner), prefix: "" }
    }

    pub(crate) fn deliveries(app: AppId, day: Timestamp, shard: u8) -> Self {
        Self { pk: delivery_partition(app, day, shard), prefix: "" }
    }

    pub(crate) fn calls(app: AppId) -> Self {
        Self { pk: call_partition(app), prefix: "" }
    }

    pub(crate) fn designs(app: AppId) -> Self {
        Self { pk: app_partition(app), prefix: DESIGN }
    }

    pub(crate) fn form_values(app: AppId, session: SessionId) -> Self {
        Self { pk: form_partition(app, session), prefix: "" }
    }

    pub(crate) fn surveys(app: AppId) -> Self {
        Self { pk: survey_partition(app), prefix: "" }
    }

    pub(crate) fn audit(log: Log) -> Self {
        Self { pk: audit_partition(log), prefix: "" }
    }

    pub(crate) fn token_keys() -> Self {
        Self { pk: TOKEN_KEYS.to_owned(), prefix: "" }
    }

    pub(crate) fn token_seeds() -> Self {
        Self { pk: TOKEN_SEEDS.to_owned(), prefix: "" }
    }
}

/// The partition key's attribute.
pub(crate) const PK: &str = "pk";
/// The sort key's attribute.
pub(crate) const SK: &str = "sk";
/// The attribute that holds a row's expiry, in seconds since the epoch.
pub(crate) const EXPIRES: &str = "expiresAt";

const APPS: &str = "APPS";
const BREAKER: &str = "BREAKER#";
const DESIGN: &str = "DESIGN#";
const INTEGRATION: &str = "INTEGRATION#";
const OPERATORS: &str = "OPERATORS";
const PROFILE: &str = "PROFILE#";
const PROVIDERS: &str = "PROVIDERS";
const SERVERS: &str = "SERVERS";
const TOKEN_KEYS: &str = "TOKENKEY";
const TOKEN_SEEDS: &str = "TOKENSEED";

fn app_partition(app: AppId) -> String {
    format!("APP#{app}")
}

fn call_partition(app: AppId) -> String {
    format!("CALLS#{app}")
}

fn server_partition(owner: &str) -> String {
    format!("SERVER#{owner}")
}

fn form_partition(app: AppId, session: SessionId) -> String {
    format!("FORM#{app}#{session}")
}

fn survey_partition(app: AppId) -> String {
    format!("SURVEYS#{app}")
}

/// A number as sort keys have it: in the order of numbers.
pub(crate) fn in_order(number: u32) -> String {
    format!("{number:010}")
}

/// A moment as sort keys have it.
pub(crate) fn at_millis(at: Timestamp) -> String {
    format!("{:015}", at.as_millis())
}

fn audit_partition(log: Log) -> String {
    match log {
        Log::App(app) => format!("AUDIT#{app}"),
        Log::Deployment => "AUDIT#deployment".to_owned(),
    }
}

fn delivery_partition(app: AppId, day: Timestamp, shard: u8) -> String {
    format!("DELIVERY#{app}#{}#{shard}", day.day())
}
