//! The SIP endpoint of the process: sockets and connections, transactions, and what comes in unasked. It takes no calls:
//! a provider that calls it is refused, strangers are not answered; requests about calls of ours go to their legs. It listens on UDP alone: over TCP and TLS a
//! provider speaks on the connection that was opened to it (RFC 5923), which stays open for longer than any call.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use async_trait::async_trait;
use domain::{app::Transport, reach::Reach};
use rsipstack::{
    EndpointBuilder, Error,
    dialog::authenticate::{AuthRetry, Credential as Digest, handle_client_authenticate},
    platform::tls::set_client_connector,
    sip::{
        Auth, Header, HeadersExt, Host, HostWithPort, Method, Param, Request, Response, Scheme, SipMessage, StatusCode,
        StatusCodeKind, Uri, transport::Transport as Wire, typed,
    },
    transaction::{
        Endpoint, Transaction, TransactionReceiver,
        endpoint::EndpointOption,
        endpoint::TargetLocator,
        key::{TransactionKey, TransactionRole},
    },
    transport::{
        PlatformTlsConnection, SipAddr, SipConnection, TransportLayer, tcp::TcpConnection,
        transport_layer::DomainResolver, udp::UdpConnection,
    },
};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    dialog::{Dialog, Sequence},
    door::{Door, Guarded, Inspector, LegId, about, lock},
    media::Ports,
    requests::Requests,
    target::{Credential, Hop, Lookup, TargetError, admits},
    tls,
};

/// What we understand.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK";
/// Extensions we speak.
pub const SUPPORTED: &str = "100rel, timer";
const USER_AGENT: &str = "ClickToCall/1";
const CALL_ID_SUFFIX: &str = "click-to-call";
/// To open a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// A connection without a byte for this long is closed; longer than any call, so that its BYE still comes through.
const STREAM_IDLE: Duration = Duration::from_secs(2 * 3_600);
/// To open a connection that UDP could do without, and how long it is not tried again when that failed.
const OPTIONAL_CONNECT: Duration = Duration::from_secs(1);
const NOT_AGAIN_FOR: Duration = Duration::from_secs(600);
/// Addresses remembered for that at most.
const MAX_REFUSALS: usize = 1_024;
/// Requests being answered at once.
const MAX_ANSWERING: usize = 256;
/// Hosts of a dialog that are looked at: more than it can need.
const MAX_FOLLOWED: usize = 16;
/// Requests about one call waiting for its leg.
const MAX_WAITING: usize = 8;

/// How an agent is set up.
pub struct Config {
    /// Where UDP is received; RTP is received on the same address.
    pub listen: SocketAddr,
    /// The address trunks reach us at.
    pub public: IpAddr,
    /// Ports for RTP; a call takes an even one and the odd one above it.
    pub rtp_ports: RangeInclusive<u16>,
    /// Where SIP and RTP may be sent.
    pub reach: Reach,
    /// The DNS.
    pub dns: Arc<dyn Lookup>,
    /// Root certificates that trunks are judged by; empty: the platform's.
    pub roots: Vec<CertificateDer<'static>>,
    /// The estimate of a round trip that retransmissions and timeouts are made of (RFC 3261, T1).
    pub t1: Duration,
    /// A hop that has answered nothing for this long is given up when there is another.
    pub patience: Duration,
}

impl Config {
    /// With the RFC's times.
    pub fn new(
        listen: SocketAddr,
        public: IpAddr,
        rtp_ports: RangeInclusive<u16>,
        reach: Reach,
        dns: Arc<dyn Lookup>,
    ) -> Self {
        let (t1, patience) = (Duration::from_millis(500), Duration::from_secs(4));
        Self { listen, public, rtp_ports, reach, dns, roots: Vec::new(), t1, patience }
    }
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket cannot be had.
    #[error("SIP cannot be received: {0}")]
    Socket(#[from] std::io::Error),
    /// There are no root certificates.
    #[error("trunks' certificates cannot be judged: {0}")]
    Roots(#[from] rustls::Error),
    /// The stack refused.
    #[error("the SIP stack does not start: {0}")]
    Stack(#[from] Error),
}

/// A request found no way to its hop, or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider cannot be reached")]
pub struct Unreachable;

/// The endpoint; clones are the same one. It stops when the last is dropped.
#[derive(Clone)]
pub struct Agent {
    pub(crate) shared: Arc<Shared>,
    _running: Arc<DropGuard>,
}

impl Agent {
    /// Opens the sockets and begins to answer.
    ///
    /// # Errors
    /// When the address is taken, or there are no root certificates.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        set_client_connector(Arc::new(tls::Connector(Arc::new(tls::rules(&config.roots)?))));
        let stop = CancellationToken::new();
        let socket = UdpSocket::bind(config.listen).await?;
        let listen = socket.local_addr()?;
        let contact = SocketAddr::new(config.public, listen.port());
        let sockets = TransportLayer::new_with_domain_resolver(stop.child_token(), Box::new(NoNames));
        sockets.set_stream_idle_timeout(STREAM_IDLE);
        let door = Arc::<Door>::default();
        let guarded = Arc::new(Guarded::new(socket, door.clone()));
        let udp = UdpConnection::from_socket(guarded, Some(contact), Some(stop.child_token())).await?;
        sockets.add_transport(SipConnection::Udp(udp));
        let t1 = config.t1;
        let option =
            EndpointOption { t1, t1x64: t1 * 64, callid_suffix: Some(CALL_ID_SUFFIX.into()), ..Default::default() };
        let locator = Locator { dns: config.dns.clone(), reach: config.reach.clone() };
        let endpoint = EndpointBuilder::new()
            .with_user_agent(USER_AGENT)
            .with_cancel_token(stop.clone())
            .with_transport_layer(sockets)
            .with_option(option)
            .with_target_locator(Box::new(locator))
            .with_transport_inspector(Box::new(Inspector(door.clone())))
            .build();
        let incoming = endpoint.incoming_transactions()?;
        let shared = Arc::new(Shared {
            endpoint: endpoint.inner.clone(),
            contact,
            ports: Ports::new(listen.ip(), config.rtp_ports),
            dns: config.dns,
            reach: config.reach,
            patience: config.patience,
            door,
            connections: Mutex::default(),
            no_tcp: Mutex::default(),
            stop: stop.clone(),
        });
        tokio::spawn(serve(endpoint, stop.clone()));
        tokio::spawn(answer_all(shared.clone(), incoming, stop.clone()));
        Ok(Self { shared, _running: Arc::new(stop.drop_guard()) })
    }

    /// Where trunks reach it over UDP.
    pub fn address(&self) -> SocketAddr {
        self.shared.contact
    }

    /// Whether it still works; an agent that does not has lost its sockets.
    pub fn works(&self) -> bool {
        !self.shared.stop.is_cancelled()
    }

    /// Calls whose requests it takes in.
    pub fn calls(&self) -> usize {
        self.shared.door.legs()
    }

    /// The same agent, for who does not want to keep it alive.
    pub fn downgrade(&self) -> WeakAgent {
        WeakAgent { shared: Arc::downgrade(&self.shared), running: Arc::downgrade(&self._running) }
    }
}

/// An agent as long as others hold it.
#[derive(Clone)]
pub struct WeakAgent {
    shared: Weak<Shared>,
    running: Weak<DropGuard>,
}

impl WeakAgent {
    /// The agent; `None`: it was dropped.
    pub fn upgrade(&self) -> Option<Agent> {
        Some(Agent { shared: self.shared.upgrade()?, _running: self.running.upgrade()? })
    }
}

/// Runs the stack; an agent whose stack ended does not work.
async fn serve(endpoint: Endpoint, stop: CancellationToken) {
    let stopped = stop.clone().drop_guard();
    endpoint.serve().await;
    if !stop.is_cancelled() {
        tracing::error!("sip.stopped");
    }
    drop(stopped);
}

pub(crate) struct Shared {
    endpoint: Arc<rsipstack::transaction::endpoint::EndpointInner>,
    contact: SocketAddr,
    pub(crate) ports: Ports,
    pub(crate) dns: Arc<dyn Lookup>,
    pub(crate) reach: Reach,
    pub(crate) patience: Duration,
    door: Arc<Door>,
    connections: Mutex<Vec<(Hop, SipConnection)>>,
    /// Who took no connection though UDP works, and when.
    no_tcp: Mutex<HashMap<SocketAddr, Instant>>,
    stop: CancellationToken,
}

fn wire(transport: Transport) -> Wire {
    match transport {
        Transport::Udp => Wire::Udp,
        Transport::Tcp => Wire::Tcp,
        Transport::Tls => Wire::Tls,
    }
}

impl Shared {
    /// The address trunks reach us at.
    pub(crate) fn public(&self) -> IpAddr {
        self.contact.ip()
    }

    /// A fresh `Via`.
    pub(crate) fn via(&self, transport: Transport) -> Result<typed::Via, Unreachable> {
        let address = SipAddr::new(wire(transport), self.contact.into());
        self.endpoint.get_via(Some(address), None).map_err(|_| Unreachable)
    }

    /// Our `Contact`.
    pub(crate) fn contact(&self, transport: Transport) -> Header {
        let uri = Uri {
            scheme: Some(Scheme::Sip),
            auth: Some(Auth { user: "c2c".into(), password: None }),
            host_with_port: HostWithPort::from(self.contact),
            params: (transport != Transport::Udp).then(|| Param::Transport(wire(transport))).into_iter().collect(),
            headers: Vec::new(),
        };
        typed::Contact::from(uri).into()
    }

    /// `User-Agent`.
    pub(crate) fn user_agent(&self) -> Header {
        Header::UserAgent(self.endpoint.user_agent.as_str().into())
    }

    /// A call's id that nobody else uses.
    pub(crate) fn call_id(&self) -> String {
        let option = &self.endpoint.option;
        rsipstack::transaction::make_call_id(option.callid_suffix.as_deref(), option.callid_format).value().to_owned()
    }

    /// Takes in requests about a call until the registration is dropped: those from these addresses, and from those that
    /// its dialogs name ([`Registration::follow`]).
    pub(super) fn register(self: &Arc<Self>, call_id: &str, tag: &str, peers: &[IpAddr]) -> (Registration, Requests) {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let id = (call_id.to_owned(), tag.to_owned());
        self.door.open(id.clone(), sender, peers);
        (Registration { shared: self.clone(), id }, Requests::new(receiver))
    }

    /// A client transaction to `hop`, its connection open.
    pub(crate) async fn transaction(&self, request: Request, hop: &Hop) -> Result<Transaction, Unreachable> {
        let key = TransactionKey::from_request(&request, TransactionRole::Client).map_err(|_| Unreachable)?;
        self.door.meet(hop.address.ip());
        let connection = match hop.transport {
            Transport::Udp => None,
            Transport::Tcp | Transport::Tls => Some(self.connection(hop).await?),
        };
        let mut transaction = Transaction::new_client(key, request, self.endpoint.clone(), connection);
        transaction.destination = Some(SipAddr::new(wire(hop.transport), hop.address.into()));
        Ok(transaction)
    }

    /// An open connection to `hop`: the one there is, or a new one.
    async fn connection(&self, hop: &Hop) -> Result<SipConnection, Unreachable> {
        let alive = |connection: &SipConnection| connection.cancel_token().is_some_and(|token| !token.is_cancelled());
        {
            let mut connections = lock(&self.connections);
            connections.retain(|(_, connection)| alive(connection));
            if let Some((_, connection)) = connections.iter().find(|(known, _)| known == hop) {
                return Ok(connection.clone());
            }
        }
        let address = SipAddr::new(wire(hop.transport), hop.address.into());
        let token = Some(self.stop.child_token());
        let opening = async {
            Ok::<_, Error>(match hop.transport {
                Transport::Tls => {
                    SipConnection::TlsPlatform(PlatformTlsConnection::connect(&address, Some(&hop.name), token).await?)
                }
                Transport::Udp | Transport::Tcp => SipConnection::Tcp(TcpConnection::connect(&address, token).await?),
            })
        };
        let connection = match timeout(CONNECT_DEADLINE, opening).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                tracing::warn!(transport = ?hop.transport, cause = %Short(&error), "sip.not_connected");
                return Err(Unreachable);
            }
            Err(_) => return Err(Unreachable),
        };
        self.endpoint.transport_layer.add_connection(connection.clone());
        lock(&self.connections).push((hop.clone(), connection.clone()));
        Ok(connection)
    }

    /// Whether somebody whom UDP reaches takes a connection as well. Who does not is not asked again for a while: many
    /// trunks drop what they do not expect, and every call would wait for that.
    pub(crate) async fn takes_tcp(&self, hop: &Hop) -> bool {
        if lock(&self.no_tcp).get(&hop.address).is_some_and(|refused| refused.elapsed() < NOT_AGAIN_FOR) {
            return false;
        }
        let takes = timeout(OPTIONAL_CONNECT, self.connection(hop)).await.is_ok_and(|opened| opened.is_ok());
        if !takes {
            self.avoid_tcp(hop);
        }
        takes
    }

    /// A connection to somebody whom UDP reaches is no use for a while.
    pub(crate) fn avoid_tcp(&self, hop: &Hop) {
        let mut refusals = lock(&self.no_tcp);
        if refusals.len() >= MAX_REFUSALS {
            refusals.retain(|_, refused| refused.elapsed() < NOT_AGAIN_FOR);
            if refusals.len() >= MAX_REFUSALS {
                refusals.clear();
            }
        }
        refusals.insert(hop.address, Instant::now());
    }

    /// The connection to `hop` says nothing: the next request opens another one. Calls that have this one keep it.
    pub(crate) fn forget_connection(&self, hop: &Hop) {
        lock(&self.connections).retain(|(known, _)| known != hop);
    }

    /// Sends a request and waits for its final response; a challenge is answered once.
    pub(crate) async fn ask(
        &self,
        request: Request,
        hop: &Hop,
        credential: Option<&Credential>,
        sequence: &Sequence,
    ) -> Result<Response, Unreachable> {
        let mut transaction = self.transaction(request, hop).await?;
        let mut retry = AuthRetry::new();
        transaction.send().await.map_err(|_| Unreachable)?;
        while let Some(message) = transaction.receive().await {
            let SipMessage::Response(response) = message else { continue };
            if response.status_code.kind() == StatusCodeKind::Provisional {
                continue;
            }
            match authenticated(&transaction, &response, credential, &mut retry, sequence).await {
                Some(again) => {
                    transaction = again;
                    transaction.send().await.map_err(|_| Unreachable)?;
                }
                None if made_here(&response) => return Err(Unreachable),
                None => return Ok(response),
            }
        }
        Err(Unreachable)
    }

    /// Sends a request inside a dialog.
    pub(crate) async fn ask_within(
        &self,
        dialog: &Dialog,
        method: Method,
        extra: Vec<Header>,
        body: Vec<u8>,
        hop: &Hop,
        credential: Option<&Credential>,
    ) -> Result<Response, Unreachable> {
        let mut headers = vec![self.contact(hop.transport), self.user_agent()];
        headers.extend(extra);
        let request = dialog.request(method, self.via(hop.transport)?, headers, body);
        let hop = self.hop_of(dialog, hop).await;
        self.ask(request, &hop, credential, dialog.sequence()).await
    }

    /// Where requests of a dialog go: over the connection there is; over UDP to the first route or the target when that
    /// is an address to send to, else to where the call began (a target behind NAT names an address nobody reaches).
    async fn hop_of(&self, dialog: &Dialog, hop: &Hop) -> Hop {
        if hop.transport != Transport::Udp {
            return hop.clone();
        }
        let located = locate(self.dns.as_ref(), &self.reach, dialog.next_hop(), hop.address).await;
        Hop { address: located.unwrap_or(hop.address), ..hop.clone() }
    }
}

/// Takes a call's requests in while it lives.
pub(crate) struct Registration {
    shared: Arc<Shared>,
    id: LegId,
}

impl Registration {
    /// Takes in requests of whom a dialog names: where ours within it are sent to, the far side's may come from.
    pub(crate) fn follow(&self, dialog: &Dialog) {
        let (mut names, mut hosts) = (Vec::new(), dialog.hosts().collect::<Vec<_>>());
        hosts.truncate(MAX_FOLLOWED);
        for host in hosts {
            match host {
                Host::IpAddr(ip) => self.shared.door.hear(&self.id, *ip),
                Host::Domain(name) => names.push(name.0.clone()),
            }
        }
        if names.is_empty() {
            return;
        }
        let (shared, id) = (self.shared.clone(), self.id.clone());
        tokio::spawn(async move {
            for name in names {
                let found = timeout(CONNECT_DEADLINE, shared.dns.addresses(&name)).await;
                // A name without an address adds nobody.
                found.into_iter().flatten().flatten().for_each(|ip| shared.door.hear(&id, ip));
            }
        });
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.door.close(&self.id);
    }
}

/// The request again, with the answer to a challenge; `None`: the response is final. A second challenge is one, unless
/// it says that only the nonce was stale.
pub(crate) async fn authenticated(
    transaction: &Transaction,
    response: &Response,
    credential: Option<&Credential>,
    retry: &mut AuthRetry,
    sequence: &Sequence,
) -> Option<Transaction> {
    let challenged = matches!(response.status_code, StatusCode::Unauthorized | StatusCode::ProxyAuthenticationRequired);
    let credential = credential.filter(|_| challenged)?;
    if !retry.should_answer(response) {
        return None;
    }
    let digest = Digest {
        username: credential.username.clone(),
        password: credential.password.to_string(),
        ..Digest::default()
    };
    let mut again = handle_client_authenticate(sequence.next(), transaction, response.clone(), &digest).await.ok()?;
    // A token, which the stack quotes (RFC 3261, section 25.1).
    let unquoted = |value: &str| value.replace("qop=\"auth\"", "qop=auth");
    for header in again.original.headers.iter_mut() {
        match header {
            Header::Authorization(value) => value.replace(unquoted(value.value())),
            Header::ProxyAuthorization(value) => value.replace(unquoted(value.value())),
            _ => {}
        }
    }
    Some(again)
}

/// Whether the stack itself wrote a final response, for want of another: a real one names its end.
pub(crate) fn made_here(response: &Response) -> bool {
    let written = matches!(response.status_code, StatusCode::RequestTimeout | StatusCode::ServiceUnavailable);
    written && !response.to_header().is_ok_and(|to| matches!(to.tag(), Ok(Some(_))))
}

/// Answers whatever comes in.
async fn answer_all(shared: Arc<Shared>, mut incoming: TransactionReceiver, stop: CancellationToken) {
    let answering = Arc::new(Semaphore::new(MAX_ANSWERING));
    loop {
        let transaction = tokio::select! {
            () = stop.cancelled() => return,
            transaction = incoming.recv() => transaction,
        };
        let Some(transaction) = transaction else { return };
        // At the limit the request is dropped; its sender sends it again.
        let Ok(permit) = answering.clone().try_acquire_owned() else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            answer(&shared, transaction).await;
            drop(permit);
        });
    }
}

async fn answer(shared: &Shared, mut transaction: Transaction) {
    let request = &transaction.original;
    let leg = about(request).map(|id| shared.door.leg(&id));
    let (status, headers) = match (request.method, leg) {
        (Method::Bye | Method::Invite | Method::Update, Some(Some(leg))) => match leg.try_send(transaction) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(refused)) => {
                transaction = refused;
                (StatusCode::ServiceUnavailable, vec![Header::RetryAfter("2".into())])
            }
            Err(mpsc::error::TrySendError::Closed(refused)) => {
                transaction = refused;
                (StatusCode::CallTransactionDoesNotExist, Vec::new())
            }
        },
        (_, Some(None)) => (StatusCode::CallTransactionDoesNotExist, Vec::new()),
        (Method::Options, _) => (
            StatusCode::OK,
            vec![
                Header::Allow(ALLOW.into()),
                Header::Accept("application/sdp".into()),
                Header::Supported(SUPPORTED.into()),
            ],
        ),
        // Nobody can be called here.
        (Method::Invite, None) => (StatusCode::Forbidden, Vec::new()),
        (Method::Bye | Method::Update | Method::PRack, _) => (StatusCode::CallTransactionDoesNotExist, Vec::new()),
        // Among them REFER: calls are not transferred by a far side.
        _ => (StatusCode::MethodNotAllowed, vec![Header::Allow(ALLOW.into())]),
    };
    // A response that cannot be sent is asked for again by a retransmission.
    let _ = transaction.reply_with(status, headers, None).await;
}

/// Where `uri` leads, when that is an address to send to of the same family as `like`.
async fn locate(dns: &dyn Lookup, reach: &Reach, uri: &Uri, like: SocketAddr) -> Option<SocketAddr> {
    let port = uri.host_with_port.port.map_or(5060, |port| port.0);
    let found = match &uri.host_with_port.host {
        Host::IpAddr(ip) => vec![*ip],
        Host::Domain(name) => timeout(CONNECT_DEADLINE, dns.addresses(&name.0)).await.ok()?.ok()?,
    };
    let mut found = found.into_iter().map(|ip| SocketAddr::new(ip, port));
    found.find(|address| address.is_ipv4() == like.is_ipv4() && (*address == like || admits(reach, *address)))
}

/// Where the stack sends the ACK of a 2xx over UDP; when it is nowhere, it goes to where the call began.
struct Locator {
    dns: Arc<dyn Lookup>,
    reach: Reach,
}

#[async_trait]
impl TargetLocator for Locator {
    async fn locate(&self, uri: &Uri) -> rsipstack::Result<SipAddr> {
        let like = SocketAddr::from(([0, 0, 0, 0], 0));
        let found = locate(self.dns.as_ref(), &self.reach, uri, like).await;
        let found = found.ok_or_else(|| Error::DnsResolutionError(TargetError::Blocked.to_string()))?;
        Ok(SipAddr::new(Wire::Udp, found.into()))
    }
}

/// Names in messages of others are not asked for.
struct NoNames;

#[async_trait]
impl DomainResolver for NoNames {
    async fn resolve(&self, _: &SipAddr) -> rsipstack::Result<SipAddr> {
        Err(Error::DnsResolutionError("not asked".into()))
    }
}

/// An error without addresses: its kind alone.
struct Short<'a>(&'a Error);

impl std::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Error::IoError(error) => write!(f, "{}", error.kind()),
            _ => f.write_str("connection error"),
        }
    }
}
