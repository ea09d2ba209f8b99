//! Life-cycle events: which exist, what their data may hold, and the envelope they travel in (contract section 3,
//! "Events").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    context::Context,
    field::FieldError,
    id::{CallId, EventId},
    strict,
    survey::Filled,
    time::Timestamp,
};

/// The events a widget may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the contract's own")]
pub enum EventName {
    WidgetLoaded,
    CallStarted,
    CallEnded,
    CallError,
    SurveySubmitted,
    CustomButtonClicked,
}

strict::words!(EventName);

impl EventName {
    /// All of them, in the order of a call's life.
    pub const ALL: [Self; 6] = [
        Self::WidgetLoaded,
        Self::CallStarted,
        Self::CallEnded,
        Self::CallError,
        Self::SurveySubmitted,
        Self::CustomButtonClicked,
    ];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WidgetLoaded => "widget_loaded",
            Self::CallStarted => "call_started",
            Self::CallEnded => "call_ended",
            Self::CallError => "call_error",
            Self::SurveySubmitted => "survey_submitted",
            Self::CustomButtonClicked => "custom_button_clicked",
        }
    }

    fn fields(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::WidgetLoaded => &[("isPreview", Kind::Bool)],
            Self::CallStarted => {
                &[("destinationId", Kind::TextOrNull), ("routingKey", Kind::TextOrNull), ("hasFormValues", Kind::Bool)]
            }
            Self::CallEnded => &[("duration", Kind::Count), ("reason", Kind::OneOf(&["user_hangup", "remote_hangup"]))],
            Self::CallError => &[("errorCode", Kind::OneOf(&ERROR_CODES)), ("errorMessage", Kind::Text)],
            Self::SurveySubmitted => {
                &[("rating", Kind::Rating), ("answerCount", Kind::Count), ("hasComment", Kind::Bool)]
            }
            Self::CustomButtonClicked => {
                &[("label", Kind::Text), ("action", Kind::OneOf(&["link", "copy", "call", "email"]))]
            }
        }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventName {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            FieldError::unknown("name", format!("must be one of {known}"))
        })
    }
}

/// Why a call did not come about or broke off (contract section 3, "Error codes").
pub const ERROR_CODES: [&str; 16] = [
    "mic_policy",
    "mic_denied",
    "mic_missing",
    "mic_busy",
    "insecure_context",
    "session_refused",
    "provider_inactive",
    "network_unreachable",
    "media_failed",
    "no_audio",
    "busy",
    "rejected",
    "no_answer",
    "destination_unavailable",
    "call_limit",
    "internal",
];

/// Characters a text of an event's data may have: an event is a notice, not a store.
const MAX_TEXT: usize = 4_000;
const MAX_COUNT: u64 = u32::MAX as u64;

/// What one field of an event's data may hold.
enum Kind {
    Bool,
    /// A whole number that fits 32 bits.
    Count,
    /// A mean of ratings, 1 to 5, one decimal.
    Rating,
    Text,
    TextOrNull,
    OneOf(&'static [&'static str]),
}

impl Kind {
    fn check(&self, field: &str, value: &Value) -> Result<(), FieldError> {
        let (fits, expected) = match self {
            Self::Bool => (value.is_boolean(), "must be true or false".to_owned()),
            Self::Count => {
                let fits = value.as_u64().is_some_and(|count| count <= MAX_COUNT);
                (fits, format!("must be a whole number from 0 to {MAX_COUNT}"))
            }
            Self::Rating => {
                let fits = value.as_f64().is_some_and(|rating| {
                    (1.0..=5.0).contains(&rating) && ((rating * 10.0).round() - rating * 10.0).abs() < 1e-9
                });
                (fits, "must be a number from 1 to 5 with at most one decimal".to_owned())
            }
            Self::Text => {
                (value.as_str().is_some_and(is_text), format!("must be a text of at most {MAX_TEXT} characters"))
            }
            Self::TextOrNull => (
                value.is_null() || value.as_str().is_some_and(is_text),
                format!("must be null or a text of at most {MAX_TEXT} characters"),
            ),
            Self::OneOf(known) => (
                value.as_str().is_some_and(|text| known.contains(&text)),
                format!("must be one of {}", known.join(", ")),
            ),
        };
        if fits { Ok(()) } else { Err(FieldError::invalid(field, expected)) }
    }
}

fn is_text(text: &str) -> bool {
    text.chars().take(MAX_TEXT + 1).count() <= MAX_TEXT && !text.contains('\0')
}

/// An event whose name is known and whose data fits its table. Its context is not yet decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    id: EventId,
    name: EventName,
    data: Map<String, Value>,
    timestamp: Timestamp,
}

impl Event {
    /// Parses what a widget posted. `data.context` may stand there and is ignored: the server's own takes its place.
    ///
    /// # Errors
    /// Every field that is wrong, missing or not known.
    pub fn parse(body: &Value) -> Result<Self, Vec<FieldError>> {
        let Some(body) = body.as_object() else {
            return Err(vec![FieldError::invalid("", "must be a JSON object with id, name, data and timestamp")]);
        };
        let mut errors = Vec::new();
        for field in body.keys().filter(|field| !["id", "name", "data", "timestamp"].contains(&field.as_str())) {
            errors.push(FieldError::unknown(field, "is not a known field"));
        }
        let id = text(body, "id", &mut errors).and_then(|text| keep(text.parse::<EventId>(), "id", &mut errors));
        let timestamp =
            text(body, "timestamp", &mut errors).and_then(|text| keep(text.parse(), "timestamp", &mut errors));
        let name = text(body, "name", &mut errors).and_then(|text| match text.parse::<EventName>() {
            Ok(name) => Some(name),
            Err(error) => {
                errors.push(error);
                None
            }
        });
        let data = match body.get("data") {
            None => {
                errors.push(FieldError::required("data"));
                None
            }
            Some(Value::Object(data)) => Some(data),
            Some(_) => {
                errors.push(FieldError::invalid("data", "must be an object"));
                None
            }
        };
        let data = name.zip(data).map(|(name, data)| check_data(name, data, &mut errors));
        match (id, name, data, timestamp) {
            (Some(id), Some(name), Some(data), Some(timestamp)) if errors.is_empty() => {
                Ok(Self { id, name, data, timestamp })
            }
            _ => Err(errors),
        }
    }

    /// A call ended as calls do, as a server saw it: the same event as the widget's report of it.
    pub fn call_ended(call: CallId, duration: u64, reason: &'static str, timestamp: Timestamp) -> Self {
        let data = [("duration", duration.min(MAX_COUNT).into()), ("reason", reason.into())];
        Self::made(EventName::CallEnded, call, data, timestamp)
    }

    /// A call did not come about or broke off, as a server saw it: the same event as the widget's report of it.
    pub fn call_error(call: CallId, code: &'static str, message: &str, timestamp: Timestamp) -> Self {
        let data = [("errorCode", code.into()), ("errorMessage", message.into())];
        Self::made(EventName::CallError, call, data, timestamp)
    }

    fn made(name: EventName, call: CallId, data: [(&str, Value); 2], timestamp: Timestamp) -> Self {
        let data = data.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        Self { id: EventId::of_end(call), name, data, timestamp }
    }

    /// The survey after a call was filled in: what it came to, never what was said.
    pub fn survey_submitted(call: CallId, filled: &Filled, timestamp: Timestamp) -> Self {
        let data = [
            ("rating", filled.rating.into()),
            ("answerCount", filled.answers.len().into()),
            ("hasComment", filled.comment.is_some().into()),
        ];
        let data = data.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        Self { id: EventId::of_survey(call), name: EventName::SurveySubmitted, data, timestamp }
    }

    /// The widget's id for it.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Which event it is.
    pub fn name(&self) -> EventName {
        self.name
    }

    /// The envelope that goes out: the data with the session's own context.
    pub fn envelope(self, context: &Context) -> Envelope {
        let mut data = self.data;
        let context = context.pairs().map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
        data.insert("context".to_owned(), Value::Object(context));
        Envelope { id: self.id, name: self.name, data, timestamp: self.timestamp }
    }
}

fn text<'a>(body: &'a Map<String, Value>, field: &str, errors: &mut Vec<FieldError>) -> Option<&'a str> {
    match body.get(field) {
        Some(Value::String(text)) => return Some(text),
        None => errors.push(FieldError::required(field)),
        Some(_) => errors.push(FieldError::invalid(field, "must be a string")),
    }
    None
}

fn keep<T, E: fmt::Display>(parsed: Result<T, E>, field: &str, errors: &mut Vec<FieldError>) -> Option<T> {
    parsed.map_err(|error| errors.push(FieldError::invalid(field, error.to_string()))).ok()
}

fn check_data(name: EventName, data: &Map<String, Value>, errors: &mut Vec<FieldError>) -> Map<String, Value> {
    let fields = name.fields();
    for field in data.keys().filter(|field| *field != "context" && fields.iter().all(|(known, _)| known != field)) {
        errors.push(FieldError::unknown(format!("data.{field}"), format!("is not a field of {name}")));
    }
    let mut checked = Map::new();
    for (field, kind) in fields {
        let path = format!("data.{field}");
        match data.get(*field) {
            None => errors.push(FieldError::required(path)),
            Some(value) => match kind.check(&path, value) {
                Ok(()) => {
                    checked.insert((*field).to_owned(), value.clone());
                }
                Err(error) => errors.push(error),
            },
        }
    }
    checked
}

/// What travels: to the parent page, to custom code, to integrations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The event's id.
    pub id: EventId,
    /// The event's name.
    pub name: EventName,
    /// Its data, `context` among it.
    pub data: Map<String, Value>,
    /// When it happened, as the widget says.
    pub timestamp: Timestamp,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "evt_01jd3v9zk0abcdefghjkmnpqrs";
    const AT: &str = "2026-01-31T12:00:00.000Z";

    fn good() -> Vec<(&'static str, Value)> {
        vec![
            ("widget_loaded", json!({"isPreview": false})),
            ("call_started", json!({"destinationId": null, "routingKey": "sales", "hasFormValues": true})),
            ("call_ended", json!({"duration": 61, "reason": "remote_hangup"})),
            ("call_error", json!({"errorCode": "mic_denied", "errorMessage": "The microphone was refused"})),
            ("survey_submitted", json!({"rating": 4.3, "answerCount": 3, "hasComment": false})),
            ("custom_button_clicked", json!({"label": "Write to us", "action": "email"})),
        ]
    }

    fn parse(name: &str, data: &Value) -> Result<Event, Vec<FieldError>> {
        Event::parse(&json!({"id": ID, "name": name, "data": data, "timestamp": AT}))
    }

    #[test]
    fn every_event_of_the_table_is_accepted_and_gets_the_servers_context() {
        let (context, _) = Context::sanitise([("page", "pricing")]);
        for (name, mut data) in good() {
            data["context"] = json!({"forged": "yes"});
            let envelope = parse(name, &data).expect(name).envelope(&context);
            assert_eq!(
                serde_json::to_value(&envelope).expect("an object")["data"]["context"],
                json!({"page": "pricing"})
            );
            assert_eq!(envelope.name.as_str(), name);
        }
    }

    #[test]
    fn every_field_is_required_and_no_other_is_known() {
        for (name, data) in good() {
            for field in data.as_object().expect("an object").keys() {
                let mut less = data.clone();
                less.as_object_mut().expect("an object").remove(field);
                let errors = parse(name, &less).expect_err(name);
                assert_eq!((errors[0].field.as_str(), errors[0].code), (&*format!("data.{field}"), "required"));
                let mut wrong = data.clone();
                wrong[field] = json!([]);
                assert_eq!(parse(name, &wrong).expect_err(name)[0].field, format!("data.{field}"));
            }
            let mut more = data.clone();
            more["extra"] = json!(1);
            assert_eq!(parse(name, &more).expect_err(name)[0].code, "unknown");
        }
    }

    #[test]
    fn values_at_the_edges() {
        for (name, data, fits) in [
            ("call_ended", json!({"duration": 0, "reason": "user_hangup"}), true),
            ("call_ended", json!({"duration": -1, "reason": "user_hangup"}), false),
            ("call_ended", json!({"duration": 1.5, "reason": "user_hangup"}), false),
            ("call_ended", json!({"duration": 1, "reason": "bored"}), false),
            ("survey_submitted", json!({"rating": 1, "answerCount": 1, "hasComment": true}), true),
            ("survey_submitted", json!({"rating": 5.1, "answerCount": 1, "hasComment": true}), false),
            ("survey_submitted", json!({"rating": 4.25, "answerCount": 1, "hasComment": true}), false),
            ("call_error", json!({"errorCode": "sunspots", "errorMessage": "x"}), false),
            ("call_error", json!({"errorCode": "busy", "errorMessage": "x".repeat(4_001)}), false),
            ("call_started", json!({"destinationId": 7, "routingKey": null, "hasFormValues": true}), false),
        ] {
            assert_eq!(parse(name, &data).is_ok(), fits, "{name} {data}");
        }
    }

    #[test]
    fn what_a_server_reports_is_what_a_widget_may_report() {
        let call: CallId = "call_01jd3v9zk0abcdefghjkmnpqrs".parse().expect("an id");
        let at: Timestamp = AT.parse().expect("a time");
        for event in [
            Event::call_ended(call, 61, "remote_hangup", at),
            Event::call_ended(call, u64::MAX, "user_hangup", at),
            Event::call_error(call, "no_answer", "Nobody answered.", at),
            Event::survey_submitted(call, &Filled { rating: 4.3, answers: Vec::new(), comment: None }, at),
        ] {
            let body = json!({"id": event.id, "name": event.name, "data": event.data, "timestamp": AT});
            assert_eq!(Event::parse(&body), Ok(event));
        }
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let errors =
            Event::parse(&json!({"id": "evt_1", "name": "call_begun", "data": 3, "more": 1})).expect_err("wrong");
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["more", "id", "timestamp", "name", "data"]);
        assert_eq!(Event::parse(&json!([])).expect_err("wrong")[0].field, "");
    }
}
