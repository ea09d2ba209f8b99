//! The server under load: the binary as it ships, over stand-ins in this process, with one app whose calls all go to one
//! trunk.

use std::{io, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use domain::{
    app::{App, Codec, Provider, ProviderKind, Transport},
    context::Context,
    id::{AppId, DestinationId, SessionId},
    profile::{self, Profile},
    session::Session,
    token::SigningKey,
};
use edge::{chance, clock, env};
use embedded::{Config, Embedded, REGION};
use store::{
    Aws, Endpoints, Store, Vault,
    profiles::Default,
    provision::{self, QueueSpec, TableSpec},
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::{interval, timeout},
};

use crate::{Failure, process::Process};

/// Longer than the server takes to start, and to forget a call.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// As good as no limit.
const UNLIMITED: &str = "1000000";

/// The running server; it ends when dropped.
pub struct Server {
    child: Child,
    origin: String,
    metrics: String,
    client: reqwest::Client,
    key: SigningKey,
    app: AppId,
    profile: DestinationId,
    _embedded: Embedded,
}

impl Server {
    /// Starts a server for this many calls at once, whose app's provider speaks `codecs` at the trunk `uri`.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start(binary: &Path, calls: usize, codecs: Vec<Codec>, uri: &str) -> Result<Self, Failure> {
        let embedded = Embedded::start(Config::default()).await?;
        let urls = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let [dynamodb, sqs, kms] = urls.clone();
        let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
        let expiry = Some("expiresAt".to_owned());
        let spec = TableSpec { name: "load".into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &spec).await?;
        let queue = provision::queue(&aws, &QueueSpec { name: "load".into(), attributes: Vec::new() }).await?;
        let wrapping = provision::key(&aws, "alias/load").await?;

        let (store, now) = (Store::open(&aws, "load"), clock::now());
        let app = App::create("Load", now, &chance::bytes(), &chance::bytes()).map_err(|_| "no app")?;
        store.create_app(&app, None).await?;
        let provider = Provider {
            kind: ProviderKind::Sip,
            uri: uri.to_owned(),
            transport: Transport::Udp,
            username: None,
            caller_id: None,
            codecs,
            srtp: false,
            context_headers: Vec::new(),
            active: true,
        };
        store.seed_provider(app.id, &provider).await?;
        let draft = profile::Draft {
            name: Some("Echo".into()),
            destination: Some("sip:echo@127.0.0.1".into()),
            ..profile::Draft::default()
        };
        let profile = Profile::create(&draft, now, &chance::bytes()).map_err(|_| "no profile")?;
        store.put_profile(app.id, None, &profile, Default::Stays, None).await?;
        let key = store.signing_key(&Vault::open(&aws, &wrapping), now, &chance::bytes()).await?;

        let (public, private) = (free_address().await?, free_address().await?);
        let [dynamodb, sqs, kms] = urls;
        let child = Command::new(binary)
            .env_clear()
            .envs([
                ("AWS_REGION", REGION),
                ("AWS_ACCESS_KEY_ID", "local"),
                ("AWS_SECRET_ACCESS_KEY", "local"),
                ("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb),
                ("AWS_ENDPOINT_URL_SQS", &sqs),
                ("AWS_ENDPOINT_URL_KMS", &kms),
                (env::TABLE.0, "load"),
                (env::DELIVERY_QUEUE_URL.0, &queue.url),
                (env::KMS_KEY_ID.0, &wrapping),
                (env::WIDGET_ORIGIN.0, "http://localhost"),
                (env::MEDIA_LISTEN.0, &public.to_string()),
                (env::MEDIA_PRIVATE_LISTEN.0, &private.to_string()),
                (env::MEDIA_PRIVATE_URL.0, &format!("http://{private}")),
                (env::MEDIA_ADDRESSES.0, "127.0.0.1"),
                (env::MEDIA_CAPACITY.0, &(2 * calls + 10).to_string()),
                (env::SIP_LISTEN.0, "127.0.0.1:0"),
                (env::RTP_PORTS.0, "10000-19999"),
                (env::ALLOW_DESTINATIONS.0, "127.0.0.1/32"),
                (env::LIMIT_CALLS_IP.0, UNLIMITED),
                (env::LIMIT_CALLS_APP.0, UNLIMITED),
                (env::LIMIT_CALLS_AT_ONCE.0, UNLIMITED),
            ])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (origin, metrics) = (format!("http://{public}"), format!("http://{private}/metrics"));
        let server =
            Self { child, origin, metrics, client, key, app: app.id, profile: profile.id, _embedded: embedded };
        server.becomes_idle().await?;
        Ok(server)
    }

    /// Its process.
    pub fn process(&self) -> Process {
        Process::of(self.child.id().unwrap_or_default())
    }

    /// Begins a call for a session of its own; the answer to the offer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn call(&self, offer: &str) -> Result<String, Failure> {
        let now = clock::now();
        let session = Session {
            id: SessionId::mint(now, &chance::bytes()),
            app: self.app,
            profile: Some(self.profile),
            routing_key: None,
            context: Context::default(),
            preview: false,
            draft: false,
        };
        let token = self.key.sign(&session, now, session.token_expiry(now).ok_or("no token")?);
        let request = self.client.post(format!("{}/v1/calls", self.origin)).bearer_auth(token);
        let answer = request.header("content-type", "application/sdp").body(offer.to_owned()).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status == 201 { Ok(text) } else { Err(format!("{status}: {text}").into()) }
    }

    /// Waits until it runs and has no call.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn becomes_idle(&self) -> Result<(), Failure> {
        let idle = async {
            let mut beat = interval(ASK_EVERY);
            loop {
                beat.tick().await;
                // Until it listens it refuses.
                let Ok(answer) = self.client.get(&self.metrics).send().await else { continue };
                if answer.text().await.is_ok_and(|text| text.contains("c2c_calls_active 0\n")) {
                    return;
                }
            }
        };
        timeout(PATIENCE, idle).await.map_err(|_| "the server does not come to rest".into())
    }
}

/// Free a moment ago, so free now: the server says nowhere which port it picked itself.
async fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").await?.local_addr()
}
