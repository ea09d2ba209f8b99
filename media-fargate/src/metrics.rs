//! What the server counts: for Prometheus as text, for CloudWatch as a log line in its embedded metric format.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use domain::time::Timestamp;
use edge::metric::{self, Place, Unit};

use crate::{call::End, calls::Calls, codes::ErrorCode};

/// Upper bounds in seconds of the answers' times; 0.1 is what is promised.
const BOUNDS: [f64; 6] = [0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// The counters. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    answered: AtomicU64,
    hung_up: AtomicU64,
    failed: [AtomicU64; ErrorCode::ALL.len()],
    refused: AtomicU64,
    /// Of those started and refused, as many as CloudWatch has heard of.
    told: [AtomicU64; 2],
    /// Offers answered, by [`BOUNDS`], the last for those above all; and their times together in microseconds.
    offers: [AtomicU64; BOUNDS.len() + 1],
    offer_micros: AtomicU64,
}

impl Metrics {
    /// An offer was answered and a call began, after this time.
    pub fn started(&self, took: Duration) {
        self.0.started.fetch_add(1, Relaxed);
        let slot = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.0.offers[slot].fetch_add(1, Relaxed);
        self.0.offer_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// No call began for want of room.
    pub fn refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
    }

    /// Somebody answered.
    pub fn answered(&self) {
        self.0.answered.fetch_add(1, Relaxed);
    }

    /// A call ended.
    pub fn ended(&self, end: End) {
        match end {
            End::Hangup { .. } => self.0.hung_up.fetch_add(1, Relaxed),
            End::Error { code, .. } => self.0.failed[code as usize].fetch_add(1, Relaxed),
        };
    }

    /// As Prometheus reads it.
    pub fn text(&self, calls: &Calls) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let read = |counter: &AtomicU64| counter.load(Relaxed) as f64;
        let plain = |value: f64| [(String::new(), value)];
        family("c2c_calls_active", "gauge", "Calls that run.", &plain(calls.count() as f64));
        family("c2c_calls_most", "gauge", "Calls from which on none begins.", &plain(calls.most() as f64));
        family("c2c_draining", "gauge", "1 while the server stops.", &plain(f64::from(u8::from(calls.is_draining()))));
        family("c2c_calls_started_total", "counter", "Calls begun.", &plain(read(&self.0.started)));
        family("c2c_calls_answered_total", "counter", "Calls that somebody answered.", &plain(read(&self.0.answered)));
        family("c2c_calls_refused_total", "counter", "Calls refused for want of room.", &plain(read(&self.0.refused)));
        let mut ended = vec![("{outcome=\"call_ended\"}".to_owned(), read(&self.0.hung_up))];
        let failed = ErrorCode::ALL.iter().zip(&self.0.failed);
        ended.extend(failed.map(|(code, count)| (format!("{{outcome=\"{}\"}}", code.as_str()), read(count))));
        family("c2c_calls_ended_total", "counter", "Calls that are over.", &ended);
        let mut below = 0.0;
        let mut offers = Vec::new();
        for (slot, count) in self.0.offers.iter().enumerate() {
            below += read(count);
            let bound = BOUNDS.get(slot).map_or("+Inf".to_owned(), f64::to_string);
            offers.push((format!("_bucket{{le=\"{bound}\"}}"), below));
        }
        offers.push(("_sum".to_owned(), read(&self.0.offer_micros) / 1e6));
        offers.push(("_count".to_owned(), below));
        family("c2c_offer_seconds", "histogram", "From an offer to its answer.", &offers);
        text
    }

    /// As CloudWatch reads it out of a log (embedded metric format): how many calls run, which decides how many servers
    /// there are, and how many began and were refused since the last such line. Without a place it is a plain line.
    pub fn embedded(&self, calls: &Calls, place: Option<&Place>, now: Timestamp) -> String {
        let since = |told: &AtomicU64, counter: &AtomicU64| {
            let counted = counter.load(Relaxed);
            counted - told.swap(counted, Relaxed).min(counted)
        };
        let [started, refused] = &self.0.told;
        let values = [
            ("ActiveCalls", Unit::Count, calls.count() as u64),
            ("CallsStarted", Unit::Count, since(started, &self.0.started)),
            ("CallsRefused", Unit::Count, since(refused, &self.0.refused)),
        ];
        let mut line = match place {
            Some(place) => metric::members(place, &values, now),
            None => values.iter().map(|(name, _, value)| ((*name).to_owned(), (*value).into())).collect(),
        };
        line.insert("message".to_owned(), "media.metrics".into());
        serde_json::Value::Object(line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::codes::Reason;

    #[test]
    fn every_sample_belongs_to_a_family() {
        let (metrics, calls) = (Metrics::default(), Calls::new(10));
        let _place = calls.admit().expect("a place");
        metrics.started(Duration::from_millis(30));
        metrics.started(Duration::from_secs(9));
        metrics.ended(End::Hangup { duration: 1, reason: Reason::UserHangup });
        metrics.ended(End::Error { duration: 1, code: ErrorCode::Internal });
        let text = metrics.text(&calls);
        for line in [
            "c2c_calls_active 1",
            "c2c_calls_started_total 2",
            "c2c_calls_ended_total{outcome=\"call_ended\"} 1",
            "c2c_calls_ended_total{outcome=\"internal\"} 1",
            "c2c_calls_ended_total{outcome=\"busy\"} 0",
            "c2c_offer_seconds_bucket{le=\"0.025\"} 0",
            "c2c_offer_seconds_bucket{le=\"0.05\"} 1",
            "c2c_offer_seconds_bucket{le=\"+Inf\"} 2",
            "c2c_offer_seconds_sum 9.03",
            "c2c_offer_seconds_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        let families: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let known =
            |line: &str| families.iter().any(|family| line.starts_with(family.split(' ').next().unwrap_or("?")));
        assert!(text.lines().all(|line| line.starts_with('#') || known(line)));
    }

    #[test]
    fn the_embedded_line_names_what_it_holds() {
        let (counts, calls) = (Metrics::default(), Calls::new(10));
        let _place = calls.admit().expect("a place");
        counts.started(Duration::ZERO);
        counts.refused();
        for (started, refused) in [(1, 1), (0, 0)] {
            let place = Place { deployment: "shop".to_owned(), function: "media" };
            let line = counts.embedded(&calls, Some(&place), Timestamp::from_millis(5));
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!((&directive["Dimensions"], &line["Deployment"]), (&json!([["Deployment"]]), &json!("shop")));
            let metrics = directive["Metrics"].as_array().expect("a list");
            assert!(metrics.iter().all(|metric| line[metric["Name"].as_str().expect("a name")].is_number()));
            let count = |name: &str| line[name].as_u64();
            assert_eq!((count("ActiveCalls"), line["_aws"]["Timestamp"].as_u64()), (Some(1), Some(5)));
            assert_eq!((count("CallsStarted"), count("CallsRefused")), (Some(started), Some(refused)));
        }
    }
}
