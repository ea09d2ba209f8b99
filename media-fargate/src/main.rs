//! The media server as a container. `media --healthcheck` asks the one that runs beside it whether it serves: the container
//! holds no other program that could.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use edge::{
    env::{self, Env, StartError, Var},
    metric::Place,
    trace,
};
use http::Request;
use http_body_util::Full;
use media::{
    DRAIN_FAREWELL, State,
    forward::exchange,
    protection::{self, Agent},
    serve::serve,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// What logs, metrics and traces call it.
const FUNCTION: &str = "media";
/// Where browsers ask, when nothing else is configured.
const PORT: u16 = 8080;
/// Where other media servers ask, and who reads metrics.
const PRIVATE_PORT: u16 = 9090;
/// Between two lines of metrics.
const METRICS_EVERY: Duration = Duration::from_secs(60);
/// How long requests under way may take once no call runs.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let env = Env::process();
    if std::env::args().nth(1).as_deref() == Some("--healthcheck") {
        return if serves(&env).await { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    edge::log::init(FUNCTION);
    match run(&env).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("The media server cannot start: {why}.");
            ExitCode::FAILURE
        }
    }
}

async fn run(env: &Env) -> Result<(), StartError> {
    // Before anything that takes time: who is told to stop while starting stops, in its order, once that is done.
    let signals = |kind| signal(kind).map_err(|why| StartError::Unavailable(why.to_string()));
    let mut stops = [signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?];
    let patience = env.optional(env::MEDIA_DRAIN_SECONDS)?.map_or(media::DRAIN_PATIENCE, Duration::from_secs);
    let public = listen(env, env::MEDIA_LISTEN, PORT).await?;
    let private = listen(env, env::MEDIA_PRIVATE_LISTEN, PRIVATE_PORT).await?;
    let (at, private_at) = (address(&public)?, address(&private)?);
    let state = State::open(env, &store::Aws::from_process().await, private_at).await?;
    tell_if_cut_off(state.private(), at);

    let stop = CancellationToken::new();
    let serving = [(public, media::router(state.clone())), (private, media::private_router(state.clone()))]
        .map(|(listener, router)| tokio::spawn(serve(listener, router, stop.clone())));
    if let Some(agent) = Agent::from_env(env)? {
        tokio::spawn(protection::keep(agent, state.calls().clone(), protection::Pace::default()));
    }
    tokio::spawn(trace::keep_flushing());
    let place = Place::of(env, FUNCTION);
    tracing::info!(port = at.port(), private.port = private_at.port(), "media.ready");
    until(&mut stops, &state, place.as_ref()).await;
    // Requests are served to the end: running calls are hung up and restarted by them, new ones are refused.
    state.calls().drain(patience, DRAIN_FAREWELL).await;
    println!("{}", state.embedded_metrics(place.as_ref()));
    stop.cancel();
    let answered = async {
        for server in serving {
            // One that broke has nothing left to answer.
            let _ = server.await;
        }
    };
    // A client that takes longer does not keep the process.
    let _ = timeout(LAST_ANSWERS, answered).await;
    trace::flush(trace::PATIENCE).await;
    tracing::info!("media.stopped");
    Ok(())
}

/// A server that is alone may well be so; nobody else could tell its operator, for requests to it just fail.
fn tell_if_cut_off(private: SocketAddr, at: SocketAddr) {
    if media::address::is_cut_off(private.ip(), at.ip()) {
        let advice = format!(
            "If there are several media servers, set {} to this one's address in their network, such as \
             http://10.0.1.5:9090: what they pass on to this address stays on their own machine.",
            env::MEDIA_PRIVATE_URL.0
        );
        tracing::warn!(address = %private, advice, "media.cut_off");
    }
}

/// Whether the server that has the same configuration answers.
async fn serves(env: &Env) -> bool {
    let Ok(mut at) = place(env, env::MEDIA_LISTEN, PORT) else { return false };
    if at.ip().is_unspecified() {
        at.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let Ok(request) = Request::get("/healthz").body(Full::default()) else { return false };
    exchange(at, request).await.is_ok_and(|answer| answer.status().is_success())
}

fn place(env: &Env, var: Var, port: u16) -> Result<SocketAddr, StartError> {
    Ok(env.optional(var)?.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
}

async fn listen(env: &Env, var: Var, port: u16) -> Result<TcpListener, StartError> {
    let at = place(env, var, port)?;
    TcpListener::bind(at)
        .await
        .map_err(|cause| StartError::Invalid { var, why: format!("{at} cannot be listened at: {cause}") })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|why| StartError::Unavailable(why.to_string()))
}

/// Until the process is told to stop. Meanwhile, and at that moment, a line of metrics goes to standard output, where
/// CloudWatch finds it.
async fn until([terminated, interrupted]: &mut [Signal; 2], state: &State, place: Option<&Place>) {
    let mut ticks = tokio::time::interval(METRICS_EVERY);
    loop {
        let stops = tokio::select! {
            _ = ticks.tick() => false,
            _ = terminated.recv() => true,
            _ = interrupted.recv() => true,
        };
        println!("{}", state.embedded_metrics(place));
        if stops {
            return;
        }
    }
}
