//! `cargo run`: starts the house, says where it is, and stops it at Ctrl-C or SIGTERM.

use std::{collections::BTreeMap, io::IsTerminal, path::Path, process::ExitCode};

use clap::Parser;
use edge::{env::Env, trace};
use local::{House, LocalJson, Options, options::Arguments};
use tokio::signal;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Heard only when something is wrong, unless `RUST_LOG` says otherwise; the rest are our own lines.
const QUIET: [&str; 4] = ["aws_config", "aws_smithy_runtime", "dynoxide", "hyper"];

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Log lines go to standard error: what stands on standard output can be read by a script.
    let env = Env::process();
    let ours = Targets::new().with_default(LevelFilter::INFO).with_targets(QUIET.map(|of| (of, LevelFilter::WARN)));
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_target(false);
    let log = log.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).finish();
    let traced = trace::start(&env, "click-to-call");
    let log = log.with(edge::log::asked_for(&env, ours)).with(edge::log::discreet());
    log.with(traced.spans).init();
    if let Some(fault) = traced.fault {
        return refuse(&format!("{fault}."));
    }
    tokio::spawn(trace::keep_flushing());

    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let options = match Options::from_process(arguments, &variables) {
        Ok(options) => options,
        Err(sentence) => return refuse(&sentence),
    };
    let state = options.state.clone();
    let house = match House::start(options).await {
        Ok(house) => house,
        Err(error) => return refuse(&error.to_string()),
    };
    println!("{}", welcome(&house.local, state.as_deref()));

    asked_to_stop().await;
    eprintln!("Stopping. Deliveries in hand are finished first; once more stops at once.");
    tokio::select! {
        () = house.shutdown() => {
            trace::flush(trace::PATIENCE).await;
            ExitCode::SUCCESS
        }
        () = asked_to_stop() => ExitCode::FAILURE,
    }
}

fn refuse(sentence: &str) -> ExitCode {
    eprintln!("{sentence}");
    ExitCode::FAILURE
}

/// Where to look. The last line is for scripts, too.
fn welcome(local: &LocalJson, state: Option<&Path>) -> String {
    let mut lines = Vec::new();
    let mut line = |what: &str, place: &str| lines.push(format!("  {what:<10} {place}"));
    if let Some(demo) = &local.demo {
        line("Demo page", &demo.page_url);
        line("Inbox", &demo.inbox_url);
    }
    line("Console", &local.console_sign_in_url);
    if let Some(state) = state {
        line("For tools", &state.join(local::local_json::NAME).display().to_string());
    }
    format!("\n{}\n\nready {}", lines.join("\n"), local.origin)
}

/// Returns at Ctrl-C or, where there is one, SIGTERM.
async fn asked_to_stop() {
    let interrupted = async {
        // Without a handler the default remains: the process ends.
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
