//! One event due at one integration: what travels through the queue, what a row remembers, who may attempt it, and what
//! an outcome leads to (contract section 4).

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use crate::{
    event::{Envelope, EventName},
    id::{AppId, DeliveryId, EventId, IntegrationId, SessionId},
    integration::Integration,
    retention, retry,
    time::Timestamp,
    trace::Trace,
};

/// Newest format of [`Due`] on the queue. A reader refuses a newer one, so that its message waits for a newer reader.
///
/// 1: an event's own attempts. 2: also names its round, that round's first attempt, or that it is a test. What version 1
/// can say is written as version 1, so functions of both versions may run side by side while a deployment lasts.
pub const DUE_VERSION: u8 = 2;
/// Bytes of an envelope at most.
pub const MAX_BODY: usize = 64 * 1024;
/// Bytes of an answer that are kept for the log.
pub const MAX_EXCERPT: usize = 2 * 1024;
/// An attempt's claim outlives its time limit by this: name resolution and the writes around it fit in.
const CLAIM_MARGIN: Duration = Duration::from_secs(5);
/// Days a delivery is kept when the app says nothing else.
pub const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The message that says: attempt this. It is written with the lowest version that can say it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Due {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The app it belongs to.
    pub app: AppId,
    /// Where it goes.
    pub integration: IntegrationId,
    /// What goes there.
    pub envelope: Envelope,
    /// When the event was accepted.
    pub accepted_at: Timestamp,
    /// Which attempt is due, from 1.
    pub attempt: u32,
    /// Which round of attempts it belongs to: 1 is the event's own, every resend begins another.
    #[serde(default = "one")]
    pub round: u32,
    /// The number of its round's first attempt. Numbers go on over rounds.
    #[serde(default = "one")]
    pub first: u32,
    /// Whether an operator only tries the integration: one attempt, whatever the integration's status, counted nowhere.
    #[serde(default)]
    pub test: bool,
    /// Days that its row is kept from acceptance on; none in messages of before: [`RETENTION`].
    #[serde(default)]
    pub keep_days: Option<u16>,
    /// The span that caused it, where traces are recorded.
    #[serde(default, deserialize_with = "Trace::leniently")]
    pub trace: Option<Trace>,
}

fn one() -> u32 {
    1
}

impl Serialize for Due {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let version = self.version();
        let fields = if version == 1 { 7 } else { 10 };
        let fields = fields + usize::from(self.keep_days.is_some()) + usize::from(self.trace.is_some());
        let mut message = serializer.serialize_struct("Due", fields)?;
        message.serialize_field("v", &version)?;
        message.serialize_field("delivery", &self.delivery)?;
        message.serialize_field("app", &self.app)?;
        message.serialize_field("integration", &self.integration)?;
        message.serialize_field("envelope", &self.envelope)?;
        message.serialize_field("acceptedAt", &self.accepted_at)?;
        message.serialize_field("attempt", &self.attempt)?;
        if version > 1 {
            message.serialize_field("round", &self.round)?;
            message.serialize_field("first", &self.first)?;
            message.serialize_field("test", &self.test)?;
        }
        // Who does not know it keeps the row for the time that was the only one then.
        if let Some(days) = self.keep_days {
            message.serialize_field("keepDays", &days)?;
        }
        if let Some(trace) = self.trace {
            message.serialize_field("trace", &trace)?;
        }
        message.end()
    }
}

impl Due {
    /// The first attempts of one accepted event: one for each integration that hears it.
    pub fn fan_out(
        app: AppId,
        session: SessionId,
        envelope: &Envelope,
        integrations: &[Integration],
        now: Timestamp,
    ) -> Vec<Self> {
        integrations
            .iter()
            .filter(|integration| integration.hears(envelope.name))
            .map(|integration| Self {
                delivery: DeliveryId::derive(session, envelope.id, integration.id),
                app,
                integration: integration.id,
                envelope: envelope.clone(),
                accepted_at: now,
                attempt: 1,
                round: 1,
                first: 1,
                test: false,
                keep_days: None,
                trace: None,
            })
            .collect()
    }

    /// The lowest version that can say this.
    fn version(&self) -> u8 {
        if self.round == 1 && self.first == 1 && !self.test { 1 } else { DUE_VERSION }
    }

    /// The message for the attempt after this one.
    pub fn next(&self) -> Self {
        Self { attempt: self.attempt + 1, ..self.clone() }
    }

    /// When its row is to be forgotten.
    pub fn kept_until(&self) -> Timestamp {
        self.keep_days.map_or_else(|| self.accepted_at.plus(RETENTION), |days| retention::until(self.accepted_at, days))
    }

    /// Whether it is the first attempt of the event's own round: the one that makes the row.
    pub fn is_original(&self) -> bool {
        self.round == 1 && self.attempt == 1
    }

    /// Which attempt of its round it is, from 1.
    pub fn attempt_in_round(&self) -> u32 {
        self.attempt.saturating_sub(self.first) + 1
    }

    /// Until when an attempt with this time limit, begun now, keeps others off.
    pub fn claim_until(now: Timestamp, time_limit: Duration) -> Timestamp {
        now.plus(time_limit + CLAIM_MARGIN)
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// An attempt is due or under way.
    Pending,
    /// A 2xx came back.
    Delivered,
    /// No attempt is left, or none would help.
    Failed,
    /// The integration was paused, switched off or deleted before it was sent.
    Skipped,
}

/// Why an attempt did not come to a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum ErrorClass {
    Dns,
    Connect,
    Tls,
    Timeout,
    Reset,
    #[serde(rename = "http_4xx")]
    Http4xx,
    #[serde(rename = "http_5xx")]
    Http5xx,
    Redirect,
    BlockedAddress,
    SecretMissing,
}

impl ErrorClass {
    /// Its name in logs and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Http4xx => "http_4xx",
            Self::Http5xx => "http_5xx",
            Self::Redirect => "redirect",
            Self::BlockedAddress => "blocked_address",
            Self::SecretMissing => "secret_missing",
        }
    }

    /// Whether another attempt may help.
    fn is_retried(self) -> bool {
        matches!(self, Self::Dns | Self::Connect | Self::Tls | Self::Timeout | Self::Reset | Self::Http5xx)
    }
}

/// What one POST came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status code, when an answer came.
    pub status_code: Option<u16>,
    /// What went wrong, unless it was a 2xx.
    pub error: Option<ErrorClass>,
    /// The receiver's `Retry-After`, when it sent one.
    pub retry_after: Option<Duration>,
    /// The beginning of the answer's body.
    pub excerpt: Option<String>,
    /// From the first look at the name to the last byte of the answer.
    pub took: Duration,
}

impl Outcome {
    /// The class of an answer's status code; `None` for 2xx.
    pub fn classify(status_code: u16) -> Option<ErrorClass> {
        match status_code {
            200..=299 => None,
            300..=399 => Some(ErrorClass::Redirect),
            400..=499 => Some(ErrorClass::Http4xx),
            _ => Some(ErrorClass::Http5xx),
        }
    }

    /// What follows from it. `retry_statuses`: the 4xx answers that the integration wants to be tried again.
    pub fn judge(&self, due: &Due, retry_statuses: &BTreeSet<u16>) -> Verdict {
        let Some(error) = self.error else { return Verdict::Delivered };
        let is_retried = error.is_retried() || self.status_code.is_some_and(|code| retry_statuses.contains(&code));
        match retry::wait(due.delivery, due.attempt_in_round(), self.retry_after) {
            Some(wait) if is_retried && !due.test => Verdict::Retry(wait),
            _ => Verdict::Failed,
        }
    }
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Delivered,
    /// Another attempt after this wait.
    Retry(Duration),
    /// Given up.
    Failed,
}

impl Verdict {
    /// Where the delivery then stands.
    pub fn status(self) -> Status {
        match self {
            Self::Delivered => Status::Delivered,
            Self::Retry(_) => Status::Pending,
            Self::Failed => Status::Failed,
        }
    }
}

/// One POST, as the delivery log shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// The status code, when an answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// The beginning of the answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

impl Attempt {
    /// The log's entry for an outcome.
    pub fn record(number: u32, at: Timestamp, outcome: &Outcome) -> Self {
        Self {
            number,
            at,
            duration_ms: u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
            status_code: outcome.status_code,
            error_class: outcome.error,
            excerpt: outcome.excerpt.clone(),
        }
    }
}

/// A delivery as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Where it goes.
    pub integration_id: IntegrationId,
    /// The event.
    pub event_id: EventId,
    /// The event's name.
    pub event_name: EventName,
    /// Where it stands.
    pub status: Status,
    /// When the event was accepted.
    pub created_at: Timestamp,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
    /// Whether an operator only tried the integration.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
    /// Every POST.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// What a row says about who may attempt: read when a claim did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where the delivery stands.
    pub status: Status,
    /// The attempt that is due next, from 1.
    pub next_attempt: u32,
    /// When it is due.
    pub next_attempt_at: Option<Timestamp>,
    /// The round it stands in, from 1.
    pub round: u32,
}

/// What to do with a message whose attempt could not be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Settled, erased, or superseded by a later message: the message is dropped.
    Drop,
    /// This attempt was made and recorded, but whoever made it may have died before it queued the next: queue it again,
    /// due then.
    QueueNext(Option<Timestamp>),
    /// Another worker is at it. The message stays, and is looked at again when it reappears.
    InFlight,
}

impl Refused {
    /// Decides by what the row says; `None`: there is no row.
    pub fn decide(row: Option<Standing>, round: u32, attempt: u32) -> Self {
        match row {
            Some(row) if row.round != round => Self::Drop,
            Some(row) if row.status == Status::Pending && row.next_attempt == attempt => Self::InFlight,
            Some(row) if row.status == Status::Pending && row.next_attempt == attempt + 1 => {
                Self::QueueNext(row.next_attempt_at)
            }
            _ => Self::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempt `attempt` of a round that began with `first`.
    fn due(first: u32, attempt: u32) -> Due {
        let at = Timestamp::from_millis(1);
        let (session, integration) = (SessionId::mint(at, &[0; 10]), IntegrationId::mint(at, &[2; 10]));
        let event = EventId::mint(at, &[1; 10]);
        let envelope = serde_json::json!({"id": event, "name": "widget_loaded", "data": {}, "timestamp": at});
        serde_json::from_value(serde_json::json!({
            "v": 1, "delivery": DeliveryId::derive(session, event, integration), "app": AppId::mint(at, &[3; 10]),
            "integration": integration, "envelope": envelope, "acceptedAt": at, "attempt": attempt, "first": first,
        }))
        .expect("a message")
    }

    fn outcome(error: Option<ErrorClass>) -> Outcome {
        Outcome { status_code: None, error, retry_after: None, excerpt: None, took: Duration::ZERO }
    }

    #[test]
    fn what_is_retried_and_what_is_not() {
        use ErrorClass::*;
        for (error, retried) in [
            (Dns, true),
            (Connect, true),
            (Tls, true),
            (Timeout, true),
            (Reset, true),
            (Http5xx, true),
            (Http4xx, false),
            (Redirect, false),
            (BlockedAddress, false),
            (SecretMissing, false),
        ] {
            let none = BTreeSet::new();
            let retries = |due: &Due| matches!(outcome(Some(error)).judge(due, &none), Verdict::Retry(_));
            assert_eq!(retries(&due(1, 1)), retried, "{error:?}");
            assert!(!retries(&due(1, 3)), "{error:?}");
            // A resend has three attempts of its own; a test has one.
            assert_eq!((retries(&due(4, 4)), retries(&due(4, 5))), (retried, retried), "{error:?}");
            assert!(!retries(&due(4, 6)) && !retries(&Due { test: true, ..due(1, 1) }), "{error:?}");
        }
        assert_eq!(outcome(None).judge(&due(1, 3), &BTreeSet::new()), Verdict::Delivered);
    }

    #[test]
    fn an_integration_may_opt_in_to_some_answers() {
        let answered = |code| Outcome { status_code: Some(code), ..outcome(Outcome::classify(code)) };
        let opted = BTreeSet::from([408, 429]);
        for (code, retried) in [(408, true), (429, true), (425, false), (400, false), (410, false), (500, true)] {
            let verdict = answered(code).judge(&due(1, 1), &opted);
            assert_eq!(matches!(verdict, Verdict::Retry(_)), retried, "{code}");
            assert_eq!(answered(code).judge(&due(1, 3), &opted), Verdict::Failed, "{code}");
        }
        let slow = Outcome { retry_after: Some(Duration::from_secs(60)), ..answered(429) };
        assert_eq!(slow.judge(&due(1, 1), &opted), Verdict::Retry(Duration::from_secs(60)));
        assert_eq!(slow.judge(&due(1, 1), &BTreeSet::new()), Verdict::Failed);
    }

    /// What the first version wrote, byte for byte.
    const FIRST: &str = concat!(
        r#"{"v":1,"delivery":"dlv_00000000019zzx8t5wwgga8j6x","app":"app_00000000010c1g60r30c1g60r3","integration":"int_0000000001081040g2081040g2","#,
        r#""envelope":{"id":"evt_0000000001040g2081040g2081","name":"widget_loaded","data":{},"timestamp":"1970-01-01T00:00:00.001Z"},"#,
        r#""acceptedAt":"1970-01-01T00:00:00.001Z","attempt":2}"#
    );

    #[test]
    fn messages_of_before_are_read_and_plain_ones_stay_as_they_were() {
        let plain = due(1, 2);
        assert_eq!((plain.round, plain.first, plain.test, plain.attempt_in_round()), (1, 1, false, 2));
        assert_eq!(serde_json::to_string(&plain).expect("JSON"), FIRST);
        assert_eq!(serde_json::from_str::<Due>(FIRST).expect("a message"), plain);
        assert_eq!(plain.kept_until(), plain.accepted_at.plus(RETENTION));
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = Due { trace: Some(trace.parse().expect("a trace")), ..plain.clone() };
        let written = serde_json::to_string(&traced).expect("JSON");
        assert!(written.contains(r#""v":1"#) && written.contains(trace), "{written}");
        assert_eq!(serde_json::from_str::<Due>(&written).expect("a message"), traced);
        // One that cannot be read costs the trace, not the delivery.
        for strange in [r#""01-later-01""#, "7", "null", "{}"] {
            let written = written.replace(&format!("{trace:?}"), strange);
            assert_eq!(serde_json::from_str::<Due>(&written).expect(strange), plain);
        }
        let short = Due { keep_days: Some(7), ..plain };
        let written = serde_json::to_string(&short).expect("JSON");
        assert!(written.contains(r#""v":1"#), "readers of before need not know: {written}");
        assert_eq!(serde_json::from_str::<Due>(&written).expect("a message"), short);
        assert_eq!(short.kept_until().since(short.accepted_at), Duration::from_secs(7 * 24 * 60 * 60));
    }

    #[test]
    fn what_the_first_version_cannot_say_is_not_for_its_readers() {
        let plain = due(1, 2);
        for other in [
            Due { round: 2, first: 4, attempt: 5, ..plain.clone() },
            Due { round: 2, ..plain.clone() },
            Due { first: 2, ..plain.clone() },
            Due { test: true, ..plain },
        ] {
            let written = serde_json::to_value(&other).expect("JSON");
            // A reader of the first version refuses what is above 1.
            assert_eq!(written["v"], 2, "{written}");
            assert_eq!(serde_json::from_value::<Due>(written).expect("a message"), other);
            assert_eq!(serde_json::to_value(other.next()).expect("JSON")["v"], 2);
        }
    }

    #[test]
    fn status_codes() {
        for (code, class) in [
            (200, None),
            (204, None),
            (299, None),
            (301, Some(ErrorClass::Redirect)),
            (400, Some(ErrorClass::Http4xx)),
            (429, Some(ErrorClass::Http4xx)),
            (500, Some(ErrorClass::Http5xx)),
            (599, Some(ErrorClass::Http5xx)),
        ] {
            assert_eq!(Outcome::classify(code), class, "{code}");
        }
    }

    #[test]
    fn a_refused_claim_loses_and_doubles_nothing() {
        let at = Some(Timestamp::from_millis(9));
        let row = |status, next_attempt| Some(Standing { status, next_attempt, next_attempt_at: at, round: 1 });
        for (row, attempt, expected) in [
            (None, 1, Refused::Drop),
            (row(Status::Pending, 1), 1, Refused::InFlight),
            (row(Status::Pending, 2), 1, Refused::QueueNext(at)),
            (row(Status::Pending, 3), 1, Refused::Drop),
            (row(Status::Pending, 1), 2, Refused::Drop),
            (row(Status::Delivered, 2), 1, Refused::Drop),
            (row(Status::Failed, 2), 1, Refused::Drop),
            (row(Status::Skipped, 1), 1, Refused::Drop),
        ] {
            assert_eq!(Refused::decide(row, 1, attempt), expected, "{row:?} {attempt}");
            // A message of another round has nothing to say here.
            assert_eq!(Refused::decide(row, 2, attempt), Refused::Drop, "{row:?} {attempt}");
        }
    }
}
