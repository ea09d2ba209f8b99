//! The media server as a container.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use edge::env::Env;
use media::{DRAIN_FAREWELL, DRAIN_PATIENCE, State};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const PORT: u16 = 8080;
/// Between two lines of metrics.
const METRICS_EVERY: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    edge::log::init();
    let mut terminated = signal(SignalKind::terminate())?;
    let state = State::open(&Env::process(), &store::Aws::from_process().await).await?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    tracing::info!(port = PORT, "media.ready");
    let metrics = tokio::spawn(say_metrics(state.clone()));
    let stop = CancellationToken::new();
    let router = media::router(state.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());
    terminated.recv().await;
    // Requests are served to the end: running calls are hung up and restarted by them, new ones are refused.
    state.calls().drain(DRAIN_PATIENCE, DRAIN_FAREWELL).await;
    stop.cancel();
    metrics.abort();
    serving.await??;
    Ok(())
}

/// A line a minute on standard output, where CloudWatch finds it.
async fn say_metrics(state: State) {
    let mut ticks = tokio::time::interval(METRICS_EVERY);
    loop {
        ticks.tick().await;
        println!("{}", state.embedded_metrics());
    }
}
