//! Log lines: JSON, one object a line, on standard output. Which levels: `RUST_LOG`, else `info`; of other people's
//! crates never more than `info`. A line that counts something is a document of metrics as well ([`crate::metric`]), where
//! the deployment has a name; one that is about a session may be a span of its trace ([`crate::trace`]).

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    clock,
    env::{DEPLOYMENT, Env},
    line::Line,
    metric::{self, Place},
    trace,
};

/// The crates that are ours, and that know what may stand in a log.
const OURS: [&str; 11] =
    ["console", "dispatch", "domain", "edge", "embedded", "ingest", "local", "media", "session", "store", "widget"];

/// Begins logging as this function or server; only the first call in a process counts. `RUST_LOG` above `info` silences
/// metrics and traces with the lines that they are read from.
pub fn init(function: &'static str) {
    let env = Env::process();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().fmt_fields(JsonFields::new()).event_format(Lines::of(&env, function));
    let traced = trace::start(&env, function);
    // Fails only when a subscriber is already there.
    let _ = lines.with_env_filter(filter).finish().with(discreet()).with(traced.spans).try_init();
    if let Some(why) = traced.fault {
        tracing::warn!(why, "traces.off");
    }
}

/// Lets through what may be logged at all, whatever `RUST_LOG` asks for. Below `info` the SDK prints whole requests and
/// answers, and with them rows, messages and data keys; other crates print peers' addresses.
pub fn discreet() -> Targets {
    let others = Targets::new().with_default(LevelFilter::INFO);
    // The SIP stack prints whole messages at `info`, and whom they are about above it.
    others.with_targets(OURS.map(|name| (name, LevelFilter::TRACE))).with_target("rsipstack", LevelFilter::OFF)
}

/// How a line is written.
struct Lines {
    json: Format<Json>,
    /// Where its metrics come from; none: lines are lines.
    place: Option<Place>,
}

impl Lines {
    fn of(env: &Env, function: &'static str) -> Self {
        let place = env.text(DEPLOYMENT).map(|deployment| Place { deployment, function });
        Self { json: format::format().json().flatten_event(true).with_target(false), place }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let counted = |place| metric::of_line(place, &Line::name(event), || Line::read(event), clock::now());
        let Some(members) = self.place.as_ref().and_then(counted) else {
            return self.json.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.json.format_event(ctx, Writer::new(&mut line), event)?;
        let members = serde_json::Value::Object(members).to_string();
        // Both are objects with members: one is made of them.
        let opened = line.trim_end().strip_suffix('}').ok_or(fmt::Error)?;
        writeln!(writer, "{opened},{}", &members[1..])
    }
}
