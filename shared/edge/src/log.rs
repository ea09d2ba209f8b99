//! Log lines: JSON, one object a line, on standard output. Which levels: `RUST_LOG`, else `info`.

use tracing_subscriber::EnvFilter;

/// Begins logging; only the first call in a process counts.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_target(false);
    // Fails only when a subscriber is already there.
    let _ = subscriber.try_init();
}
