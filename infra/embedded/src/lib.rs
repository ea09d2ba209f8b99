//! Stand-ins for DynamoDB, SQS and KMS, started in process on loopback ports. The real AWS SDK clients speak to them
//! over HTTP with any credentials in region [`REGION`]; only the addresses differ from AWS.
//!
//! ```no_run
//! # async fn house() -> Result<(), embedded::StartError> {
//! let embedded = embedded::Embedded::start(embedded::Config::default()).await?;
//! println!("{} {} {}", embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url());
//! embedded.shutdown().await;
//! # Ok(()) }
//! ```

mod clock;
mod dynamodb;
mod gate;
mod kms;
mod sqs;
mod state_dir;
mod uses;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use gate::{Fault, Injection, Service};
pub use uses::Use;

/// The account that owns everything here.
pub const ACCOUNT_ID: &str = "000000000000";
/// The region everything here is in.
pub const REGION: &str = "us-east-1";

/// How long a shutdown waits for requests under way, and then for each further step.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state is kept over restarts; `None` keeps it in memory. One process holds a directory at a time.
    pub state_dir: Option<PathBuf>,
    /// How often expired rows are deleted.
    pub sweep_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config { state_dir: None, sweep_every: Duration::from_secs(60) }
    }
}

/// Why the stand-ins did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be made or written.
    #[error("the state directory {} cannot be used: {cause}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// Another process, or another `Embedded`, holds the state directory.
    #[error("the state directory {} is in use by another process: stop it, or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A service's database does not open.
    #[error("the {} database cannot be opened: {cause}", service.name())]
    Database {
        /// Whose database.
        service: Service,
        /// What the database said.
        cause: String,
    },
    /// No loopback port could be had.
    #[error("no loopback port for {}: {cause}", service.name())]
    Port {
        /// Who wanted it.
        service: Service,
        /// What the operating system said.
        cause: std::io::Error,
    },
}

/// A service on its port.
struct Served {
    gate: Arc<gate::Gate>,
    url: String,
    task: JoinHandle<()>,
}

impl Served {
    async fn start(service: Service, router: Router, stopping: &CancellationToken) -> Result<Self, StartError> {
        let port = |cause| StartError::Port { service, cause };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(port)?;
        let url = format!("http://{}", listener.local_addr().map_err(port)?);
        let gate = gate::Gate::new(service);
        let task = gate::serve(listener, router, Arc::clone(&gate), stopping.clone());
        Ok(Served { gate, url, task })
    }

    /// Waits for the requests under way; whoever is still connected after that is cut off.
    async fn stopped(mut self) {
        if tokio::time::timeout(PATIENCE, &mut self.task).await.is_err() {
            self.gate.break_connections();
            let _ = tokio::time::timeout(PATIENCE, &mut self.task).await;
        }
    }
}

/// The running stand-ins. Dropping it stops them too, without waiting for them.
pub struct Embedded {
    services: [Served; 3],
    dynamodb: dynamodb::DynamoDb,
    sqs: Arc<sqs::Sqs>,
    kms: Arc<kms::Kms>,
    clock: Arc<clock::Clock>,
    _stop: tokio_util::sync::DropGuard,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.services.iter().map(|served| &served.url)).finish()
    }
}

impl Embedded {
    /// Starts all three services, each on a loopback port of its own.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let state = state_dir::StateDir::take(config.state_dir.as_deref())?;
        let stopping = CancellationToken::new();
        // Also stops what has already started when a later step fails.
        let stop = stopping.clone().drop_guard();
        let clock = Arc::new(clock::Clock::default());

        let sqs = Arc::new(sqs::Sqs::open(&state, Arc::clone(&clock), stopping.clone())?);
        let kms = Arc::new(kms::Kms::open(&state, Arc::clone(&clock))?);
        // The last one, since its engine runs from here on.
        let (dynamodb, table_router) = dynamodb::DynamoDb::open(&state, config.sweep_every).await?;
        let services = [
            Served::start(Service::DynamoDb, table_router, &stopping).await?,
            Served::start(Service::Sqs, sqs::router(Arc::clone(&sqs)), &stopping).await?,
            Served::start(Service::Kms, kms::router(Arc::clone(&kms)), &stopping).await?,
        ];
        sqs.answer_at(&services[1].url);
        Ok(Embedded { services, dynamodb, sqs, kms, clock, _stop: stop })
    }

    fn served(&self, service: Service) -> &Served {
        &self.services[service as usize]
    }

    /// The address for DynamoDB clients.
    pub fn dynamodb_url(&self) -> &str {
        &self.served(Service::DynamoDb).url
    }

    /// The address for SQS clients.
    pub fn sqs_url(&self) -> &str {
        &self.served(Service::Sqs).url
    }

    /// The address for KMS clients.
    pub fn kms_url(&self) -> &str {
        &self.served(Service::Kms).url
    }

    /// How many requests came in, by service and operation: `sqs.SendMessageBatch`. Failed ones count too.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.services.iter().flat_map(|served| served.gate.counts()).collect()
    }

    /// What requests so far needed to be allowed, and how often. Failed ones count too; nothing makes it forget.
    pub fn uses(&self) -> BTreeMap<Use, u64> {
        self.services.iter().flat_map(|served| served.gate.uses()).collect()
    }

    /// Starts counting from zero.
    pub fn forget_counts(&self) {
        self.services.iter().for_each(|served| served.gate.forget_counts());
    }

    /// Makes requests to the service fail.
    pub fn inject(&self, service: Service, injection: Injection) {
        self.served(service).gate.inject(injection);
    }

    /// Breaks the service's connections, long polls included, and every new one, until [`Embedded::clear`].
    pub fn down(&self, service: Service) {
        self.served(service).gate.down();
    }

    /// Ends the service's faults, and brings it up again.
    pub fn clear(&self, service: Service) {
        self.served(service).gate.clear();
    }

    /// Moves the clock of SQS and KMS ahead: delays, visibility timeouts and retention pass. Rows of the table expire
    /// by the machine's clock.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.sqs.time_has_passed();
    }

    /// Deletes the table's expired rows now, and says how many.
    pub async fn sweep_ttl(&self) -> usize {
        self.dynamodb.sweep().await
    }

    /// Stops everything: long polls answer at once, requests under way finish, state is flushed, the state directory
    /// is free again. Takes a few seconds at most, however clients behave.
    pub async fn shutdown(self) {
        let Embedded { services, dynamodb, sqs, kms, _stop, .. } = self;
        drop(_stop);
        let [table, queues, keys] = services;
        tokio::join!(table.stopped(), queues.stopped(), keys.stopped());
        dynamodb.stopped(PATIENCE).await;
        sqs.close();
        kms.close();
    }
}
