//! Log lines: JSON, one object a line, on standard output. Which levels: `RUST_LOG`, else `info`; of other people's
//! crates never more than `info`.

use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// The crates that are ours, and that know what may stand in a log.
const OURS: [&str; 11] =
    ["console", "dispatch", "domain", "edge", "embedded", "ingest", "local", "media", "session", "store", "widget"];

/// Begins logging; only the first call in a process counts.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_target(false);
    // Fails only when a subscriber is already there.
    let _ = lines.finish().with(discreet()).try_init();
}

/// Lets through what may be logged at all, whatever `RUST_LOG` asks for. Below `info` the SDK prints whole requests and
/// answers, and with them rows, messages and data keys; other crates print peers' addresses.
pub fn discreet() -> Targets {
    let others = Targets::new().with_default(LevelFilter::INFO);
    // The SIP stack prints whole messages at `info`, and whom they are about above it.
    others.with_targets(OURS.map(|name| (name, LevelFilter::TRACE))).with_target("rsipstack", LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn others_are_never_heard_below_info() {
        let discreet = discreet();
        for (target, level, heard) in [
            ("dispatch::attempt", Level::TRACE, true),
            ("store", Level::DEBUG, true),
            ("aws_smithy_runtime::client::orchestrator", Level::TRACE, false),
            ("aws_smithy_runtime::client::orchestrator", Level::DEBUG, false),
            ("axum::serve", Level::DEBUG, false),
            ("aws_config", Level::INFO, true),
            ("dynoxide", Level::ERROR, true),
            ("rsipstack::transport::udp", Level::INFO, false),
            ("rsipstack::dialog", Level::ERROR, false),
        ] {
            assert_eq!(discreet.would_enable(target, &level), heard, "{target} {level}");
        }
    }
}
