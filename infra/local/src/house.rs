//! One house: everything started in its order, and stopped in the opposite one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use domain::{id::OperatorId, operator::Role, time::Timestamp};
use edge::env::{self, Env};
use embedded::Embedded;
use store::{
    Aws, Endpoints, Store,
    operators::{Listed, OperatorToken},
};

use crate::{
    demo,
    front::{self, Front},
    functions::Functions,
    inbox::{Inbox, Links},
    local_json::{self, Demo, LocalJson, Memory, Services},
    options::Options,
    phone::Phone,
    poller::Poller,
    provision::Provisioned,
    servers::{self, Servers},
    template::{TEMPLATE, Template, TemplateError},
    trunk::Place,
};

/// The printed sign-in address works once, and for a working day.
const SIGN_IN_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Calls that run when the house stops are hung up, and have this long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);
/// Whose token `local.json` holds.
const OPERATOR: &str = "local operator";
/// Pages on this machine may frame the widget beside those anywhere else by https.
const FRAME_ANCESTORS: &str = "https: http://localhost:* http://*.localhost:* http://127.0.0.1:*";

/// Why a house did not start: each a sentence for whoever typed the command.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error(
        "Port {port} is taken: stop what listens there, or choose another one with --port, such as --port {other}."
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// One to try instead.
        other: u16,
    },
    /// A port cannot be had for another reason.
    #[error("No port of this machine can be used: {0}.")]
    Port(io::Error),
    /// The state directory cannot be written.
    #[error("The state directory {} cannot be written: {cause}. Choose another one with --state.", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Another house holds the state directory.
    #[error(
        "The state directory {} is in use by another process: stop it, choose another one with --state, \
         or keep nothing with --ephemeral.", path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The trunk cannot be reached.
    #[error("--sip-trunk {address} cannot be used: {cause}.")]
    Trunk {
        /// What was given.
        address: String,
        /// Why.
        cause: io::Error,
    },
    /// The stand-ins did not start.
    #[error("The stand-ins for AWS did not start: {0}.")]
    StandIns(embedded::StartError),
    /// The template asks for something unknown.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Tables, queues or keys cannot be made or used.
    #[error("DynamoDB, SQS and KMS do not answer as they should: {0}.")]
    Services(#[from] store::Error),
    /// A function did not start.
    #[error("The function {name} did not start: {cause}.")]
    Function {
        /// Its name.
        name: &'static str,
        /// Why.
        cause: env::StartError,
    },
    /// The template has no such function.
    #[error("template.yaml: there is no function {0}")]
    NoFunction(&'static str),
    /// The template has no table.
    #[error("template.yaml: there is no table of the logical id Table")]
    NoTable,
    /// The demo could not be made.
    #[error("{0}")]
    Demo(String),
}

fn other_port(port: u16) -> u16 {
    if port < 60_000 { port + 10 } else { port - 10 }
}

/// A running house.
#[derive(Debug)]
pub struct House {
    /// Its addresses, tokens and names.
    pub local: LocalJson,
    inbox: Option<Inbox>,
    stand_ins: Option<Embedded>,
    front: Servers,
    behind: Servers,
    pollers: Vec<Poller>,
    media: media::State,
    _phone: Option<Phone>,
    directory: Option<PathBuf>,
}

impl House {
    /// Starts a house; when this returns, everything answers.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let now = edge::clock::now();
        let template = Template::parse(TEMPLATE)?;
        // Ports first: a second start on the same port says so before it looks for state that the first one holds.
        let taken = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AddrInUse => StartError::PortTaken { port: options.port, other: other_port(options.port) },
            _ => StartError::Port(cause),
        };
        let (port, listeners) = servers::listen(options.port).await.map_err(taken)?;
        // Its neighbour is easy to remember; when that is taken, any will do.
        let inbox_listener = match options.demo {
            true => Some(servers::listen_near(port).await.map_err(StartError::Port)?),
            false => None,
        };
        let inbox_port = inbox_listener.as_ref().map(|(port, _)| *port);
        let (media_port, media_listener) = servers::listen_near(0).await.map_err(StartError::Port)?;
        let media_url = format!("http://127.0.0.1:{media_port}");
        let (_, private_listener) = servers::listen_near(0).await.map_err(StartError::Port)?;
        let private = private_listener.local_addr().map_err(StartError::Port)?;

        let directory = options.state.clone();
        if let Some(path) = &directory {
            make_directory(path).map_err(|cause| StartError::State { path: path.clone(), cause })?;
        }
        let (stand_ins, endpoints) = services(&options).await?;
        let aws = Aws::local(endpoints.clone());
        let provisioned = Provisioned::make(&aws, &template, &options.stack_name).await?;

        let origin = |host: &str| format!("http://{host}:{port}");
        let mut instead: BTreeMap<String, String> = options.environment.clone();
        let mut allowed = options.allow_destinations.clone();
        allowed.extend(inbox_port.map(|port| format!("127.0.0.1/32:{port}")));
        for (variable, value) in [
            (env::WIDGET_ORIGIN, origin("localhost")),
            (env::CODE_ORIGIN, origin("code.localhost")),
            (env::CONSOLE_ORIGIN, origin("console.localhost")),
            (env::MEDIA_URL, media_url.clone()),
            (env::DEFAULT_FRAME_ANCESTORS, FRAME_ANCESTORS.to_owned()),
            (env::ALLOW_DESTINATIONS, allowed.join(",")),
        ] {
            instead.entry(variable.0.to_owned()).or_insert(value);
        }
        let (phone, trunk, place) = trunk(&options).await?;
        let mut functions =
            Functions::open(&template, &provisioned, &instead, &place.variables(), private, &aws).await?;

        let store = Store::open(&aws, provisioned.tables.get("Table").ok_or(StartError::NoTable)?);
        let keeps = directory.as_deref().filter(|_| !options.ephemeral);
        let mut memory: Memory = keeps.and_then(|path| local_json::read(path, local_json::MEMORY)).unwrap_or_default();
        let operator_token = operator(&store, &mut memory, now).await?;
        let code = edge::chance::hex::<16>();
        let signs_in = local_operator(now, Some(now.plus(SIGN_IN_LIFE).as_seconds()));
        store.put_sign_in(&console::hash(&code), &signs_in).await?;

        let mut behind = Servers::default();
        let mut demo = None;
        let mut inbox = None;
        let mut site = None;
        if let Some((inbox_port, listener)) = inbox_listener {
            let inbox_url = format!("http://127.0.0.1:{inbox_port}/in");
            let reach = Env::from_pairs(instead.clone()).reach();
            let reach = reach.map_err(|cause| StartError::Function { name: "Dispatch", cause })?;
            let (app, integration) =
                demo::seed(&store, &mut memory, &inbox_url, &trunk, &reach, now).await.map_err(StartError::Demo)?;
            let page_url = format!("{}/", origin("demo.localhost"));
            let links = Links { demo: page_url.clone(), console: origin("console.localhost") };
            let opened = Inbox::new(links, behind.stopping());
            behind.serve(listener, opened.clone().router());
            functions.tell(&opened);
            inbox = Some(opened);
            site = Some(demo::Site {
                origin: origin("localhost"),
                console: origin("console.localhost"),
                inbox: format!("http://127.0.0.1:{inbox_port}/"),
                app_id: app.id.to_string(),
                widget_key: app.widget_key.to_string(),
            });
            demo = Some(Demo {
                app_id: app.id,
                widget_key: app.widget_key.to_string(),
                page_url,
                integration_id: integration.id,
                inbox_url,
                inbox_api: format!("http://127.0.0.1:{inbox_port}/api/received"),
            });
        }
        if let Some(path) = keeps {
            let written = local_json::write(path, local_json::MEMORY, &memory);
            written.map_err(|cause| StartError::State { path: path.to_owned(), cause })?;
        }

        behind.serve(media_listener, media::router(functions.media.clone()));
        behind.serve(private_listener, media::private_router(functions.media.clone()));
        let hosts = Front {
            widget: front::api(&template, "WidgetApi", &functions.http),
            code: front::api(&template, "CodeApi", &functions.http),
            console: front::api(&template, "ConsoleApi", &functions.http),
            demo: site.map(demo::Site::router),
        };
        let hosts = hosts.router();
        let mut front = Servers::default();
        for listener in listeners {
            front.serve(listener, hosts.clone());
        }
        let pollers = functions.feed(&template, &provisioned, &aws);

        let local = LocalJson {
            origin: origin("localhost"),
            code_origin: origin("code.localhost"),
            console_origin: origin("console.localhost"),
            console_sign_in_url: format!("{}/sign-in?code={code}", origin("console.localhost")),
            media_url,
            media_private_url: format!("http://{private}"),
            sip_trunk: trunk.uri,
            operator_token,
            demo,
            aws: Services {
                dynamodb: endpoints.dynamodb,
                sqs: endpoints.sqs,
                kms: endpoints.kms,
                region: Aws::LOCAL_REGION.to_owned(),
            },
            tables: provisioned.tables,
            queues: provisioned.queue_urls,
            keys: provisioned.keys,
            pid: std::process::id(),
        };
        if let Some(path) = &directory {
            let written = local_json::write(path, local_json::NAME, &local);
            written.map_err(|cause| StartError::State { path: path.clone(), cause })?;
        }
        let media = functions.media;
        Ok(Self { local, inbox, stand_ins, front, behind, pollers, media, _phone: phone, directory })
    }

    /// The demo's inbox.
    pub fn inbox(&self) -> Option<&Inbox> {
        self.inbox.as_ref()
    }

    /// The stand-ins, when the house started its own: to look into, to break, to move in time.
    pub fn stand_ins(&self) -> Option<&Embedded> {
        self.stand_ins.as_ref()
    }

    /// Stops: no new requests, batches in hand are finished, everything is flushed.
    pub async fn shutdown(self) {
        if let Some(path) = &self.directory {
            local_json::remove(path);
        }
        self.front.stop().await;
        // What calls say at their end is still queued, and kept with the state.
        self.media.calls().drain(Duration::ZERO, FAREWELL).await;
        for poller in self.pollers {
            poller.stop().await;
        }
        // Deliveries of the last batch went there.
        self.behind.stop().await;
        if let Some(stand_ins) = self.stand_ins {
            stand_ins.shutdown().await;
        }
    }
}

/// The stand-ins, unless the services are elsewhere.
async fn services(options: &Options) -> Result<(Option<Embedded>, Endpoints), StartError> {
    if let Some(endpoints) = &options.endpoints {
        return Ok((None, endpoints.clone()));
    }
    let config = embedded::Config {
        state_dir: options.state.clone().filter(|_| !options.ephemeral),
        sweep_every: options.sweep_every,
    };
    let stand_ins = Embedded::start(config).await.map_err(|error| match error {
        embedded::StartError::InUse { path } => StartError::InUse { path },
        embedded::StartError::StateDir { path, cause } => StartError::State { path, cause },
        other => StartError::StandIns(other),
    })?;
    let endpoints = Endpoints {
        dynamodb: stand_ins.dynamodb_url().to_owned(),
        sqs: stand_ins.sqs_url().to_owned(),
        kms: stand_ins.kms_url().to_owned(),
    };
    Ok((Some(stand_ins), endpoints))
}

/// Where calls go, and how the media server stands for that.
async fn trunk(options: &Options) -> Result<(Option<Phone>, demo::Trunk, Place), StartError> {
    match &options.sip_trunk {
        Some(address) => {
            let failed = |cause| StartError::Trunk { address: address.clone(), cause };
            Ok((None, demo::Trunk::elsewhere(address), Place::towards(address).await.map_err(failed)?))
        }
        None => {
            let phone = Phone::start().await.map_err(StartError::Port)?;
            let trunk = demo::Trunk::phone(phone.uri());
            Ok((Some(phone), trunk, Place::loopback()))
        }
    }
}

/// Keys, tokens and customers' data lie in it: for its owner alone.
fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn local_operator(now: Timestamp, expires_at: Option<i64>) -> OperatorToken {
    OperatorToken { name: OPERATOR.to_owned(), role: Role::Admin, created_at: now, expires_at, begun_with: None }
}

/// The local operator's token: that of an earlier run while the table knows it, else a new one.
async fn operator(store: &Store, memory: &mut Memory, now: Timestamp) -> Result<String, store::Error> {
    if let Some(token) = &memory.operator_token
        && store.operator(&console::hash(token), now).await?.is_some()
    {
        return Ok(token.clone());
    }
    let token = console::mint_token();
    let listed = Listed {
        id: OperatorId::mint(now, &edge::chance::bytes()),
        name: OPERATOR.to_owned(),
        role: Role::Admin,
        created_at: now,
        token_hash: console::hash(&token),
    };
    store.create_operator(&listed, None).await?;
    memory.operator_token = Some(token.clone());
    Ok(token)
}
