//! What calls cost the media server. On Linux:
//!
//! - `cargo bench -p media --bench load -- --calls 200 --seconds 120`: that many at once,
//! - `… -- --calls 50 --seconds 30 --transcode`: Opus in the browsers, G.711 on the trunk,
//! - `… -- --sequential 1000`: one after the other, whether anything is left behind.
//!
//! The server is the binary as it ships, a process of its own. This process is everybody else, on loopback: the services
//! it stores in, browsers that send fifty packets a second, and the trunk's far side, which sends back what it hears.
//! Both ends are here and have one clock, so the delay of each way is measured by itself: the server's, with the waking up
//! of this process in it.

mod browser;
mod figures;
mod process;
mod server;
mod trunk;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use domain::app::Codec;
use tokio::{
    sync::{oneshot, watch},
    task::{JoinError, JoinSet},
    time::{interval, sleep, timeout},
};

use crate::{
    browser::{Browser, Voice},
    figures::{Meter, Spread, milliseconds},
    process::Process,
    server::Server,
    trunk::Trunk,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Longer than setting up or ending a call takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until a new load has come to rest.
const SETTLES: Duration = Duration::from_secs(2);
/// A packet that took longer counts as lost.
const LATEST: Duration = Duration::from_secs(1);
/// One of many calls, one after the other, from its answer on.
const SHORT_CALL: Duration = Duration::from_millis(100);
/// After how many of them it is looked whether anything is left behind.
const LOOKS: [usize; 6] = [1, 10, 100, 250, 500, 1_000];

/// What calls cost the media server.
#[derive(Parser)]
struct Arguments {
    /// Calls at the same time
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Seconds they are measured for, once all are answered
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Calls begun in a second
    #[arg(long, default_value_t = 10)]
    ramp: u32,
    /// Codec of both sides
    #[arg(long, value_enum, default_value_t = Choice::Pcmu)]
    codec: Choice,
    /// Opus in the browsers, PCMU on the trunk
    #[arg(long)]
    transcode: bool,
    /// Instead: this many calls, one after the other
    #[arg(long)]
    sequential: Option<usize>,
    /// Another build of the server, to compare
    #[arg(long, default_value = env!("CARGO_BIN_EXE_media"), hide_default_value = true)]
    server: PathBuf,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    Pcmu,
    Opus,
}

impl Arguments {
    /// The codecs of the browsers and of the trunk.
    fn codecs(&self) -> (Codec, Codec) {
        match (self.transcode, self.codec) {
            (true, _) => (Codec::Opus, Codec::Pcmu),
            (false, Choice::Pcmu) => (Codec::Pcmu, Codec::Pcmu),
            (false, Choice::Opus) => (Codec::Opus, Codec::Opus),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (browsers, trunks) = arguments.codecs();
    let meter = Arc::new(Meter::new(browsers == trunks));
    let trunk = Trunk::start(trunks, meter.clone()).await?;
    let mut codecs = vec![browsers, trunks];
    codecs.dedup();
    let server = Arc::new(Server::start(&arguments.server, arguments.calls, codecs, &trunk.uri()).await?);
    let house = House { server, meter, codec: browsers, frames: browser::frames(browsers, browsers != trunks)? };
    match arguments.sequential {
        Some(calls) => house.one_by_one(calls).await,
        None => house.at_once(&arguments).await,
    }
}

/// Everything that a call needs.
#[derive(Clone)]
struct House {
    server: Arc<Server>,
    meter: Arc<Meter>,
    codec: Codec,
    /// What browsers say, over and over.
    frames: Arc<[Bytes]>,
}

impl House {
    /// Begins a call that lasts until it is told to end. Once the far side has answered it tells how long the server took
    /// to answer the offer.
    fn begin(
        &self,
        calls: &mut JoinSet<Result<(), Failure>>,
        hang_up: watch::Receiver<bool>,
    ) -> oneshot::Receiver<Duration> {
        let (tell, answered) = oneshot::channel();
        let house = self.clone();
        calls.spawn(async move {
            let voice = Voice::new(house.codec, house.frames, house.meter.clone());
            let mut browser = Browser::open(voice).await?;
            let (offer, began) = (browser.offer()?, Instant::now());
            let answer = timeout(PATIENCE, house.server.call(&offer)).await??;
            let took = began.elapsed();
            browser.take(answer)?;
            let answered = || {
                // Who begins calls waits for it, or has given up.
                let _ = tell.send(took);
            };
            browser.talk(hang_up, answered).await
        });
        answered
    }

    /// A short call, to its end.
    async fn short_call(&self) -> Result<(), Failure> {
        let (mut calls, (hang_up, listens)) = (JoinSet::new(), watch::channel(false));
        if timeout(PATIENCE, self.begin(&mut calls, listens)).await?.is_ok() {
            sleep(SHORT_CALL).await;
        }
        hang_up.send_replace(true);
        ended(timeout(PATIENCE, calls.join_next()).await?)
    }

    async fn one_by_one(&self, calls: usize) -> Result<(), Failure> {
        println!("{calls} calls one after the other, each {} ms long", SHORT_CALL.as_millis());
        println!("{:>6}  {:>8}  {:>8}  {:>6}  {:>7}", "calls", "RSS", "PSS", "files", "threads");
        let began = Instant::now();
        for number in 1..=calls {
            self.short_call().await.map_err(|failure| format!("call {number}: {failure}"))?;
            if LOOKS.contains(&number) || number == calls {
                self.server.becomes_idle().await?;
                let now = self.server.process().read()?;
                let (rss, pss) = (now.rss.to_string(), now.pss.to_string());
                println!("{number:>6}  {rss:>8}  {pss:>8}  {:>6}  {:>7}", now.files, now.threads);
            }
        }
        println!("after {:.0} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    async fn at_once(&self, arguments: &Arguments) -> Result<(), Failure> {
        let Arguments { calls: wanted, seconds, ramp, .. } = *arguments;
        // What the first call loads stays, and belongs to no call.
        self.short_call().await?;
        self.server.becomes_idle().await?;
        let (server, client) = (self.server.process(), Process::own());
        let idle = server.read()?;

        let (mut calls, (hang_up, listens)) = (JoinSet::new(), watch::channel(false));
        let mut beat = interval(Duration::from_secs(1) / ramp.max(1));
        let mut begun = Vec::new();
        for _ in 0..wanted {
            beat.tick().await;
            begun.push(self.begin(&mut calls, listens.clone()));
        }
        let mut offers = Spread::default();
        for answered in begun {
            if let Ok(took) = timeout(PATIENCE, answered).await? {
                offers.add(took);
            }
        }
        let standing = offers.count();
        if standing < wanted as u64 {
            eprintln!("{} calls did not come about, such as:", wanted as u64 - standing);
            while let Some(Err(failure)) = calls.try_join_next().map(|call| ended(Some(call))) {
                eprintln!("  {failure}");
            }
        }
        sleep(SETTLES).await;

        let (before, began) = ((server.read()?, client.read()?), Instant::now());
        self.meter.start();
        sleep(Duration::from_secs(seconds)).await;
        self.meter.stop();
        let (after, took) = ((server.read()?, client.read()?), began.elapsed());
        sleep(LATEST).await;
        hang_up.send_replace(true);
        let mut broken = 0;
        while let Some(call) = timeout(PATIENCE, calls.join_next()).await? {
            if let Err(failure) = ended(Some(call)) {
                eprintln!("a call broke: {failure}");
                broken += 1;
            }
        }

        let share = |cpu: Duration| 100.0 * cpu.as_secs_f64() / took.as_secs_f64();
        let (cpu, own) = (share(after.0.cpu - before.0.cpu), share(after.1.cpu - before.1.cpu));
        let each = standing.max(1) as f64;
        let memory = (after.0.pss.kilobytes() - idle.pss.kilobytes()) / 1_024.0;
        let how =
            if arguments.transcode { "transcoded to PCMU".into() } else { format!("{:?}, passed through", self.codec) };
        println!("{wanted} calls at once, {how}, measured for {:.0} s", took.as_secs_f64());
        println!("  connected          {standing}, {broken} broke; an offer's answer {offers}");
        println!("  server: CPU        {:.3} % of a core per call ({cpu:.1} % in all)", cpu / each);
        println!(
            "  server: memory     {:.3} MB per call (PSS; {} at rest, {} now)",
            memory / each,
            idle.pss,
            after.0.pss
        );
        println!("  server: files      {:.1} per call", (after.0.files - idle.files) as f64 / each);
        println!("  browsers to trunk  {}", self.meter.up);
        println!("  trunk to browsers  {}", self.meter.down);
        println!("  (this process      {own:.1} % of a core; a packet over {} ms late is lost)", milliseconds(LATEST));
        if broken > 0 || standing < wanted as u64 { Err("not all calls stood".into()) } else { Ok(()) }
    }
}

fn ended(call: Option<Result<Result<(), Failure>, JoinError>>) -> Result<(), Failure> {
    call.ok_or("no call")??
}
