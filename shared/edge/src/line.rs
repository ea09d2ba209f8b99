//! A log line, taken apart: what it says happened, and the facts beside it. Metrics and spans are other readings of the
//! same lines, so that what a dashboard counts, what a trace shows and what the log says cannot differ.

use std::fmt::Debug;

use serde_json::Value;
use tracing::{
    Event,
    field::{Field, Visit},
};

/// What a line says beside its message.
pub(crate) struct Line(Vec<(&'static str, Value)>);

impl Line {
    /// What happened, such as `event.accepted`: the line's message.
    pub(crate) fn name(event: &Event<'_>) -> String {
        let mut message = Message(String::new());
        event.record(&mut message);
        message.0
    }

    /// All its facts.
    pub(crate) fn read(event: &Event<'_>) -> Self {
        let mut line = Self(Vec::new());
        event.record(&mut line);
        line
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| *name == field).map(|(_, value)| value)
    }

    /// Whether it says anything about this.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Whether it says that this is so.
    pub(crate) fn holds(&self, field: &str) -> bool {
        self.get(field) == Some(&Value::Bool(true))
    }

    /// A text.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    /// A number of zero or above.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.get(field).and_then(Value::as_u64)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != "message" {
            self.0.push((field.name(), format!("{value:?}").into()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.push((field.name(), value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.push((field.name(), value.into()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.0.push((field.name(), u64::try_from(value).unwrap_or(u64::MAX).into()));
    }
}
