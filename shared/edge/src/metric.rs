//! Metrics, in CloudWatch's embedded format: a log line that tells of something counted says by a member `_aws` which of
//! its other members are metrics. One table, `LINES`, says which lines count what.
//!
//! Their only dimensions are the deployment and, for lines that any function may write, the function: what names an app, a
//! session or a call is never one, for each value of a dimension is a metric of its own.

use domain::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    env::{self, Env},
    line::Line,
};

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

impl Place {
    /// This function or server, in the deployment that the variables name; none, when they name none: then nothing is a
    /// metric.
    pub fn of(env: &Env, function: &'static str) -> Option<Self> {
        Some(Self { deployment: env.text(env::DEPLOYMENT)?, function })
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// CloudWatch's words for units.
    const UNITS: &str = "Seconds Microseconds Milliseconds Bytes Kilobytes Megabytes Gigabytes Terabytes Bits Kilobits \
        Megabits Gigabits Terabits Percent Count Bytes/Second Kilobytes/Second Megabytes/Second Gigabytes/Second \
        Terabytes/Second Bits/Second Kilobits/Second Megabits/Second Gigabits/Second Terabits/Second Count/Second None";

    /// What the specification of the embedded metric format and its JSON schema ask of a document; the values of its
    /// metrics.
    pub(crate) fn obeyed(line: &Value) -> Map<String, Value> {
        let sized = |text: &Value, most| text.as_str().is_some_and(|text| (1..=most).contains(&text.len()));
        let only = |object: &Value, known: &[&str]| {
            object.as_object().is_some_and(|members| members.keys().all(|name| known.contains(&name.as_str())))
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| panic!("no list: {line}"));
        let metadata = &line["_aws"];
        assert!(line.to_string().len() <= 256 * 1024 && only(metadata, &["Timestamp", "CloudWatchMetrics"]), "{line}");
        assert!(metadata["Timestamp"].is_i64() && metadata["Timestamp"].as_i64() > Some(0), "{line}");
        let mut values = Map::new();
        for directive in list(&metadata["CloudWatchMetrics"]) {
            assert!(only(&directive, &["Namespace", "Dimensions", "Metrics"]), "{directive}");
            assert!(sized(&directive["Namespace"], 1024) && !list(&directive["Dimensions"]).is_empty(), "{directive}");
            for set in list(&directive["Dimensions"]) {
                assert!(list(&set).len() <= 30, "{directive}");
                for dimension in list(&set) {
                    assert!(sized(&dimension, 250), "{directive}");
                    // The target of a reference is a member of the root, and never is the metadata.
                    assert!(sized(&line[dimension.as_str().expect("a text")], 1024), "{line}");
                }
            }
            let metrics = list(&directive["Metrics"]);
            assert!((1..=100).contains(&metrics.len()), "{directive}");
            for metric in metrics {
                assert!(
                    only(&metric, &["Name", "Unit", "StorageResolution"]) && sized(&metric["Name"], 1024),
                    "{metric}"
                );
                assert!(UNITS.split_whitespace().any(|unit| metric["Unit"] == unit), "{metric}");
                let name = metric["Name"].as_str().expect("a text");
                assert!(line[name].is_number(), "{name}: {line}");
                assert!(values.insert(name.to_owned(), line[name].clone()).is_none(), "{name} twice: {line}");
            }
        }
        values
    }

    #[test]
    fn a_document_of_any_metrics() {
        let place = Place { deployment: "shop".to_owned(), function: "media" };
        let members = members(&place, &[("ActiveCalls", Unit::Count, 3)], Timestamp::from_millis(7));
        let line = Value::Object(members);
        assert_eq!(Value::Object(obeyed(&line)), json!({"ActiveCalls": 3}));
        assert_eq!(
            line,
            json!({
                "_aws": {"Timestamp": 7, "CloudWatchMetrics": [{
                    "Namespace": "ClickToCall", "Dimensions": [["Deployment"]],
                    "Metrics": [{"Name": "ActiveCalls", "Unit": "Count"}],
                }]},
                "Deployment": "shop", "ActiveCalls": 3,
            })
        );
    }

    #[test]
    fn no_line_and_no_metric_of_a_line_stands_twice() {
        for (place, (line, metrics)) in LINES.iter().enumerate() {
            assert!(LINES[..place].iter().all(|(other, _)| other != line), "{line}");
            for (number, (metric, ..)) in metrics.iter().enumerate() {
                assert!(metrics[..number].iter().all(|(other, ..)| other != metric), "{metric}");
            }
        }
        assert!(OF_ANY.iter().all(|name| LINES.iter().any(|(line, _)| line == name)));
    }
}
