//! Metrics, in CloudWatch's embedded format: a log line that tells of something counted says by a member `_aws` which of
//! its other members are metrics. One table, [`LINES`], says which lines count what.
//!
//! Their only dimensions are the deployment and, for lines that any function may write, the function: what names an app, a
//! session or a call is never one, for each value of a dimension is a metric of its own.

use domain::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::line::Line;

/// CloudWatch's namespace of all of them.
pub const NAMESPACE: &str = "ClickToCall";
/// The dimension that tells deployments of one account apart.
pub const DEPLOYMENT: &str = "Deployment";
/// The dimension that tells functions apart.
pub const FUNCTION: &str = "Function";

/// What a metric is counted in, in CloudWatch's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are CloudWatch's own")]
pub enum Unit {
    Count,
    Milliseconds,
    Seconds,
}

/// One metric with its value.
pub type Measured = (&'static str, Unit, u64);

/// Where metrics come from.
#[derive(Clone, Debug)]
pub struct Place {
    /// The deployment's name.
    pub deployment: String,
    /// The function or server.
    pub function: &'static str,
}

/// What one line adds to a metric.
enum Adds {
    /// One.
    One,
    /// One, when the line says anything about this.
    With(&'static str),
    /// One, when the line says nothing about this.
    Without(&'static str),
    /// One, when the line says just this.
    Says(&'static str, &'static str),
    /// The number that the line says.
    Number(&'static str),
}

impl Adds {
    fn value(&self, line: &Line) -> Option<u64> {
        match self {
            Self::One => Some(1),
            Self::With(field) => line.has(field).then_some(1),
            Self::Without(field) => (!line.has(field)).then_some(1),
            Self::Says(field, text) => (line.text(field) == Some(text)).then_some(1),
            Self::Number(field) => line.number(field),
        }
    }
}

/// A line's message, and what it adds to which metrics.
type Counted = (&'static str, &'static [(&'static str, Unit, Adds)]);

/// Every line that counts. A line about a preview counts nothing: nobody visited.
const LINES: &[Counted] = &[
    ("session.created", &[("SessionsCreated", Unit::Count, Adds::One)]),
    (
        "event.accepted",
        &[("EventsAccepted", Unit::Count, Adds::One), ("DeliveriesQueued", Unit::Count, Adds::Number("deliveries"))],
    ),
    ("survey.kept", &[("SurveysKept", Unit::Count, Adds::One)]),
    (
        "delivery.attempted",
        &[
            ("DeliveriesAttempted", Unit::Count, Adds::One),
            ("AttemptTime", Unit::Milliseconds, Adds::Number("duration_ms")),
            ("AttemptsFailed", Unit::Count, Adds::With("error_class")),
            ("DeliveriesDelivered", Unit::Count, Adds::Says("verdict", "Delivered")),
            ("DeliveriesFailed", Unit::Count, Adds::Says("verdict", "Failed")),
        ],
    ),
    ("delivery.skipped", &[("DeliveriesSkipped", Unit::Count, Adds::One)]),
    ("delivery.returned", &[("DeliveriesReturned", Unit::Count, Adds::One)]),
    ("delivery.poison", &[("DeliveriesPoisonous", Unit::Count, Adds::One)]),
    ("integration.paused", &[("IntegrationsPaused", Unit::Count, Adds::One)]),
    ("request.failed", &[("RequestsFailed", Unit::Count, Adds::One)]),
    // A call that ended well has a reason, one that failed an error code.
    (
        "call.ended",
        &[
            ("CallsEnded", Unit::Count, Adds::One),
            ("CallsFailed", Unit::Count, Adds::Without("reason")),
            ("CallTime", Unit::Seconds, Adds::Number("duration_s")),
        ],
    ),
    ("call.broken", &[("CallsBroken", Unit::Count, Adds::One)]),
    ("record.given_up", &[("CallsBroken", Unit::Count, Adds::One)]),
    ("sip.stopped", &[("CallsBroken", Unit::Count, Adds::One)]),
];

/// Lines that any function may write: these are counted for each as well.
const OF_ANY: [&str; 1] = ["request.failed"];

/// The members that make a line with this message a document of metrics; `None` when it counts nothing.
pub(crate) fn of_line(
    place: &Place,
    name: &str,
    line: impl FnOnce() -> Line,
    now: Timestamp,
) -> Option<Map<String, Value>> {
    let (_, metrics) = LINES.iter().find(|(known, _)| *known == name)?;
    let line = line();
    if line.holds("preview") {
        return None;
    }
    let measured = metrics.iter().filter_map(|(name, unit, adds)| Some((*name, *unit, adds.value(&line)?)));
    let measured: Vec<Measured> = measured.collect();
    if measured.is_empty() {
        return None;
    }
    let mut members = members(place, &measured, now);
    if OF_ANY.contains(&name) {
        members["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = json!([[DEPLOYMENT], [DEPLOYMENT, FUNCTION]]);
        members.insert(FUNCTION.to_owned(), place.function.into());
    }
    Some(members)
}

/// The members that make any JSON object a document of these metrics.
pub fn members(place: &Place, measured: &[Measured], now: Timestamp) -> Map<String, Value> {
    let metrics: Vec<_> =
        measured.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": format!("{unit:?}")})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [[DEPLOYMENT]], "Metrics": metrics});
    let mut members = Map::new();
    members.insert("_aws".to_owned(), json!({"Timestamp": now.as_millis(), "CloudWatchMetrics": [directive]}));
    members.insert(DEPLOYMENT.to_owned(), place.deployment.as_str().into());
    members.extend(measured.iter().map(|(name, _, value)| ((*name).to_owned(), (*value).into())));
    members
}
