//! What a media server stands on: the stand-ins with an app in their table, and the process itself.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use domain::{
    app::{App, Codec, Provider, ProviderKind, Transport},
    audit::Try,
    context::Context,
    delivery::Due,
    event::{Envelope, EventName},
    id::{AppId, CallId, DestinationId, SessionId},
    integration::{self, Integration, Status, Surroundings},
    profile::{Draft, Profile},
    reach::Reach,
    session::Session,
    token::SigningKey,
};
use edge::{
    chance, clock,
    env::{self, Var},
};
use embedded::{Config, Embedded, REGION};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use store::{
    Aws, Endpoints, Queue, Store, Vault,
    apps::Deletion,
    calls::Stored,
    profiles,
    provision::{self, QueueSpec, TableSpec},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use webrtc::peer_connection::RTCPeerConnectionState;

use crate::{telephone::Telephone, visitor::Visitor};

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The visitor's tone.
pub const TONE: f64 = 1_000.0;
/// For limits that are not what is tested.
const UNLIMITED: &str = "1000000";

/// The stand-ins, an app whose trunk is a telephone, and the key that signs its visitors' tokens.
pub struct Ground {
    pub telephone: Telephone,
    pub store: Store,
    pub app: AppId,
    queue: Queue,
    key: SigningKey,
    profile: DestinationId,
    variables: Vec<(String, String)>,
    aws: Aws,
    client: Client,
    embedded: Embedded,
}

impl Ground {
    pub async fn new() -> Self {
        let (telephone, embedded) = (Telephone::start().await, Embedded::start(Config::default()).await);
        let embedded = embedded.expect("stand-ins");
        let urls = [embedded.dynamodb_url(), embedded.sqs_url(), embedded.kms_url()].map(ToOwned::to_owned);
        let [dynamodb, sqs, kms] = urls.clone();
        let aws = Aws::local(Endpoints { dynamodb, sqs, kms });
        let expiry = Some("expiresAt".to_owned());
        let table = TableSpec { name: "table".into(), partition: "pk".into(), sort: "sk".into(), expiry };
        provision::table(&aws, &table).await.expect("a table");
        let queue = provision::queue(&aws, &QueueSpec { name: "queue".into(), attributes: Vec::new() }).await;
        let queue_url = queue.expect("a queue").url;
        let wrapping = provision::key(&aws, "alias/key").await.expect("a key");

        let (store, now) = (Store::open(&aws, "table"), clock::now());
        let app = App::create("Shop", now, &chance::bytes(), &chance::bytes()).expect("an app");
        store.create_app(&app, None).await.expect("stored");
        let provider = Provider {
            kind: ProviderKind::Sip,
            uri: telephone.uri(),
            transport: Transport::Udp,
            username: None,
            caller_id: None,
            codecs: vec![Codec::Pcmu],
            srtp: false,
            context_headers: Vec::new(),
            active: true,
        };
        store.seed_provider(app.id, &provider).await.expect("stored");
        let destination = Some("sip:sales@127.0.0.1".to_owned());
        let draft = Draft { name: Some("Sales".into()), destination, ..Draft::default() };
        let profile = Profile::create(&draft, now, &chance::bytes()).expect("a profile");
        store.put_profile(app.id, None, &profile, profiles::Default::Stays, None).await.expect("stored");
        let key = store.signing_key(&Vault::open(&aws, &wrapping), now, &chance::bytes()).await.expect("a key");

        let [dynamodb, sqs, kms] = urls;
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = vec![
            own("AWS_REGION", REGION),
            own("AWS_ACCESS_KEY_ID", "local"),
            own("AWS_SECRET_ACCESS_KEY", "local"),
            own("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb),
            own("AWS_ENDPOINT_URL_SQS", &sqs),
            own("AWS_ENDPOINT_URL_KMS", &kms),
            own(env::TABLE.0, "table"),
            own(env::DELIVERY_QUEUE_URL.0, &queue_url),
            own(env::KMS_KEY_ID.0, &wrapping),
            own(env::WIDGET_ORIGIN.0, "http://localhost"),
            own(env::MEDIA_LISTEN.0, "127.0.0.1:0"),
            own(env::MEDIA_PRIVATE_LISTEN.0, "127.0.0.1:0"),
            own(env::MEDIA_ADDRESSES.0, "127.0.0.1"),
            own(env::SIP_LISTEN.0, "127.0.0.1:0"),
            own(env::RTP_PORTS.0, "20000-29999"),
            own(env::ALLOW_DESTINATIONS.0, "127.0.0.1/32"),
            own(env::LIMIT_CALLS_IP.0, UNLIMITED),
            own(env::LIMIT_CALLS_APP.0, UNLIMITED),
            own(env::LIMIT_EVENTS_IP.0, UNLIMITED),
        ];
        let client = Client::builder().no_proxy().build().expect("a client");
        let (app, profile, queue) = (app.id, profile.id, Queue::open(&aws, queue_url));
        Self { telephone, store, app, queue, key, profile, variables, aws, client, embedded }
    }

    /// A server with the ground's variables, changed by these.
    pub async fn server(&self, variables: &[(Var, &str)]) -> Server {
        Server::start(self.command(variables), self.client.clone()).await
    }

    /// The same in a directory of its own, where alone it could write, if it might write a single byte to any file.
    pub async fn server_without_files(&self, directory: &Path, variables: &[(Var, &str)]) -> Server {
        let bare = self.command(variables);
        let mut command = Command::new("/bin/sh");
        // Whoever writes to a regular file over the limit is killed.
        command.args(["-c", "ulimit -f 0; exec \"$0\""]).arg(bare.as_std().get_program()).env_clear();
        command.envs(bare.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(directory).env("TMPDIR", directory).env("HOME", directory);
        Server::start(command, self.client.clone()).await
    }

    /// The command for one; an empty value takes a variable away.
    pub fn command(&self, variables: &[(Var, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_media"));
        command.env_clear().envs(self.variables.iter().cloned());
        for (var, value) in variables {
            command.env(var.0, value);
        }
        command
    }

    /// What a server holds, in this process.
    pub async fn state(&self) -> media::State {
        let env = env::Env::from_pairs(self.variables.clone());
        media::State::open(&env, &self.aws, ([127, 0, 0, 1], 9090).into()).await.expect("a server")
    }

    /// A new visitor's session.
    pub fn session(&self) -> Session {
        Session {
            id: SessionId::mint(clock::now(), &chance::bytes()),
            app: self.app,
            profile: Some(self.profile),
            routing_key: None,
            context: Context::default(),
            preview: false,
            draft: false,
        }
    }

    pub fn token(&self, session: &Session) -> String {
        let now = clock::now();
        self.key.sign(session, now, session.token_expiry(now).expect("a young session"))
    }

    /// From now on an integration hears how calls end.
    pub async fn hears_ends(&self) {
        let around = Surroundings { reach: &Reach::default(), own_hosts: &[], secrets: &Default::default() };
        let draft = integration::Draft {
            name: Some("CRM".into()),
            url: Some("https://example.com/events".into()),
            events: Some([EventName::CallEnded, EventName::CallError].into()),
            status: Some(Status::Active),
            ..integration::Draft::default()
        };
        let made = Integration::create(draft, around, clock::now(), &chance::bytes()).expect("an integration");
        self.store.create_integration(self.app, &made, None).await.expect("stored");
    }

    /// The next event that is on its way to it, if there is one within a second.
    pub async fn next_end(&self) -> Option<Envelope> {
        let received = self.queue.receive(1, Duration::from_secs(1)).await.expect("asked");
        let message = received.first()?;
        Some(serde_json::from_str::<Due>(&message.body).expect("a message").envelope)
    }

    /// The app's provider takes no new calls.
    pub async fn switch_off_provider(&self) {
        let provider = self.store.provider(self.app).await.expect("read").expect("a provider");
        self.store.seed_provider(self.app, &Provider { active: false, ..provider }).await.expect("stored");
    }

    /// Deletes the app.
    pub async fn delete_app(&self) {
        let (operator, target, ip) = ("o".to_owned(), self.app.to_string(), [127, 0, 0, 1].into());
        let deletion = Try { operator, action: "app.delete", target, ip, reason: None, detail: None };
        let entry = deletion.granted(clock::now(), &chance::bytes());
        assert_eq!(self.store.delete_app(self.app, &entry).await.expect("asked"), Deletion::Done);
    }

    /// How often something was done in these partitions of the table, such as `PutItem` in `SERVERS`.
    pub fn uses(&self, action: &str, on: &str) -> u64 {
        let uses = self.embedded.uses().into_iter();
        uses.filter(|(used, _)| used.action == format!("dynamodb:{action}") && used.on == on)
            .map(|(_, count)| count)
            .sum()
    }

    /// What is kept of a call.
    pub async fn row(&self, id: CallId) -> Stored {
        self.store.call(self.app, id).await.expect("read").expect("a row")
    }

    /// What is kept of a call, once it is over.
    pub async fn over(&self, id: CallId) -> Stored {
        let over = async {
            loop {
                let row = self.row(id).await;
                if row.call.ended_at.is_some() {
                    return row;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, over).await.expect("it ends in time")
    }
}

/// A running server.
pub struct Server {
    child: Child,
    client: Client,
    /// Where browsers ask.
    pub url: String,
    /// Where its like ask.
    pub private_url: String,
    lines: Arc<Mutex<Vec<String>>>,
    told: watch::Receiver<usize>,
}

impl Server {
    async fn start(mut command: Command, client: Client) -> Self {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it starts");
        let lines = Arc::default();
        let (tell, told) = watch::channel(0);
        tokio::spawn(listen(child.stdout.take().expect("a pipe"), Arc::clone(&lines), tell));
        let mut server = Self { child, client, url: String::new(), private_url: String::new(), lines, told };
        let ready = server.says("media.ready").await;
        let at = |name: &str| format!("http://127.0.0.1:{}", ready[name]);
        (server.url, server.private_url) = (at("port"), at("private.port"));
        server
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Everything it has said on standard output.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line with this message, and gives it.
    pub async fn says(&self, message: &str) -> Value {
        let mut told = self.told.clone();
        let line = async {
            loop {
                let lines = self.lines().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
                if let Some(line) = lines.into_iter().find(|line| line["message"] == message) {
                    return line;
                }
                told.changed().await.unwrap_or_else(|_| panic!("it ended without {message}: {:?}", self.lines()));
            }
        };
        timeout(PATIENCE, line).await.unwrap_or_else(|_| panic!("no {message} in {:?}", self.lines()))
    }

    /// Tells it to stop.
    pub async fn terminate(&self) {
        let killed = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().await;
        assert!(killed.expect("a signal").success());
    }

    /// Kills it without a word.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a signal");
    }

    /// How it ends.
    pub async fn ends(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("a status")
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    /// One of the numbers that it shows its network.
    pub async fn number(&self, name: &str) -> f64 {
        let response = self.client.get(format!("{}/metrics", self.private_url)).send().await.expect("an answer");
        let text = response.text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    pub async fn ask(&self, method: Method, path: &str, token: &str, offer: &str) -> Response {
        self.ask_at(&self.url, method, path, token, offer).await
    }

    /// The same at its private address.
    pub async fn ask_privately(&self, method: Method, path: &str, token: &str) -> Response {
        self.ask_at(&self.private_url, method, path, token, "").await
    }

    async fn ask_at(&self, url: &str, method: Method, path: &str, token: &str, offer: &str) -> Response {
        let request = self.client.request(method, format!("{url}{path}")).bearer_auth(token);
        let request = request.header("content-type", "application/sdp").body(offer.to_owned());
        request.send().await.expect("an answer")
    }

    /// A visitor's call that the telephone has answered.
    pub async fn call(&self, ground: &Ground) -> Call {
        self.call_of(ground, &ground.session()).await
    }

    /// The same of this session.
    pub async fn call_of(&self, ground: &Ground, session: &Session) -> Call {
        match self.try_call(ground, session).await {
            Ok(call) => call,
            Err(answer) => panic!("{}", answer.text().await.expect("text")),
        }
    }

    /// The same, or the answer when no call begins.
    pub async fn try_call(&self, ground: &Ground, session: &Session) -> Result<Call, Response> {
        let (token, visitor) = (ground.token(session), Visitor::new(TONE).await);
        let response = self.ask(Method::POST, "/v1/calls", &token, &visitor.offer().await).await;
        if response.status() != 201 {
            return Err(response);
        }
        let path = response.headers().get("location").cloned();
        let answer = response.text().await.expect("text");
        let path = path.expect("an address").to_str().expect("text").to_owned();
        let id = path.strip_prefix("/v1/calls/").expect("a call's address").parse().expect("an id");
        visitor.take(&answer).await;
        visitor.becomes(RTCPeerConnectionState::Connected).await;
        visitor.told("answered").await;
        Ok(Call { id, path, token, visitor })
    }
}

async fn listen(pipe: impl AsyncRead + Unpin, lines: Arc<Mutex<Vec<String>>>, tell: watch::Sender<usize>) {
    let mut said = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = said.next_line().await {
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        tell.send_modify(|count| *count += 1);
    }
}

/// A call that somebody answered.
pub struct Call {
    pub id: CallId,
    /// `/v1/calls/call_…`
    pub path: String,
    pub token: String,
    pub visitor: Visitor,
}

/// An empty directory; gone when dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("c2c-media-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What lies in it.
    pub fn entries(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).expect("read").map(|entry| entry.expect("an entry").path()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
