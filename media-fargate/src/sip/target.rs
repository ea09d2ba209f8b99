//! Whom a call goes to and by which hops: the profile's destination decides the request's address, the app's provider
//! where it is sent (RFC 3263 without NAPTR: the provider's configuration names the transport). Nothing of a visitor has
//! a say in either.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use domain::{
    app::{Provider, Transport},
    reach::{Reach, is_public},
};
use hickory_resolver::{TokioResolver, net::NetError, proto::rr::RData};
use rsipstack::sip::{self, Auth, Host, HostWithPort, Scheme, Uri};
use zeroize::Zeroizing;

/// Hops tried for one call at most.
pub const MAX_HOPS: usize = 8;
/// All questions to the DNS for one call.
const DEADLINE: Duration = Duration::from_secs(3);

/// What a trunk asks callers for.
#[derive(Clone)]
pub struct Credential {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: Zeroizing<String>,
}

/// An app's SIP provider as a call needs it.
#[derive(Clone)]
pub struct Trunk {
    /// Where it is: `sip:host[:port]` or `sips:host[:port]`.
    pub uri: String,
    /// How SIP travels to it.
    pub transport: Transport,
    /// The number or name calls come from.
    pub caller_id: Option<String>,
    /// What it asks callers for.
    pub credential: Option<Credential>,
    /// Whether it wants RTP protected by keys in the description.
    pub protected: bool,
}

/// Why there is nowhere to send a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The profile's destination or the provider's address cannot be read.
    #[error("an address cannot be read")]
    Malformed,
    /// The provider's name has no address.
    #[error("the provider's name has no address")]
    NotFound,
    /// The resolver did not answer.
    #[error("the resolver did not answer")]
    Unresolved,
    /// An address of the provider is not one to send to (security.md).
    #[error("an address of the provider is blocked")]
    Blocked,
}

/// One place to send a request to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// The name a certificate must be for: the provider's own, not what the DNS made of it (RFC 5922).
    pub name: String,
}

/// An answer to a question for servers (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Among equals: how likely to be first.
    pub weight: u16,
    /// The server's port.
    pub port: u16,
    /// The server's name.
    pub target: String,
}

/// Questions to the DNS. No answer is an empty one; an error means that the question could not be put.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// The servers behind a service's name.
    async fn srv(&self, name: &str) -> Result<Vec<Srv>, TargetError>;
    /// The addresses of a host.
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, TargetError>;
}

/// The system's resolver, as `/etc/resolv.conf` describes it.
///
/// # Errors
/// When that cannot be read.
pub fn system() -> Result<TokioResolver, NetError> {
    TokioResolver::builder_tokio()?.build()
}

#[async_trait]
impl Lookup for TokioResolver {
    async fn srv(&self, name: &str) -> Result<Vec<Srv>, TargetError> {
        let Some(found) = answered(self.srv_lookup(format!("{name}.")).await)? else { return Ok(Vec::new()) };
        let read = |data: &RData| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
            }),
            _ => None,
        };
        Ok(found.answers().iter().filter_map(|record| read(&record.data)).collect())
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, TargetError> {
        let found = answered(self.lookup_ip(format!("{name}.")).await)?;
        Ok(found.map(|found| found.iter().collect()).unwrap_or_default())
    }
}

fn answered<T>(answer: Result<T, NetError>) -> Result<Option<T>, TargetError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_nx_domain() || error.is_no_records_found() => Ok(None),
        Err(_) => Err(TargetError::Unresolved),
    }
}

impl Trunk {
    /// An app's provider, and what it asks callers for.
    pub fn of(provider: &Provider, credential: Option<Credential>) -> Self {
        Self {
            uri: provider.uri.clone(),
            transport: provider.transport,
            caller_id: provider.caller_id.clone(),
            credential,
            protected: provider.srtp,
        }
    }

    fn address(&self) -> Result<Uri, TargetError> {
        Uri::try_from(self.uri.as_str()).map_err(|_| TargetError::Malformed)
    }

    /// How SIP travels to it: `sips:` means TLS whatever else is configured.
    pub fn transport(&self) -> Transport {
        if self.uri.starts_with("sips:") { Transport::Tls } else { self.transport }
    }

    /// The provider's own address, without a user.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn host(&self) -> Result<HostWithPort, TargetError> {
        Ok(self.address()?.host_with_port)
    }

    /// Where requests about `destination` are addressed to: a number belongs to the provider, an address to itself.
    ///
    /// # Errors
    /// When it is neither.
    pub fn request_uri(&self, destination: &str) -> Result<Uri, TargetError> {
        if let Some(number) = destination.strip_prefix("tel:") {
            let digits = number.strip_prefix('+').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(TargetError::Malformed);
            }
            return Ok(Uri {
                scheme: Some(self.address()?.scheme.unwrap_or(Scheme::Sip)),
                auth: Some(Auth { user: number.to_owned(), password: None }),
                host_with_port: self.host()?,
                params: vec![sip::Param::User("phone".into())],
                headers: Vec::new(),
            });
        }
        let uri = Uri::try_from(destination).map_err(|_| TargetError::Malformed)?;
        let plain = uri.params.is_empty() && uri.headers.is_empty();
        let known = matches!(uri.scheme, Some(Scheme::Sip | Scheme::Sips));
        if plain && known { Ok(uri) } else { Err(TargetError::Malformed) }
    }

    /// Whom calls come from: the provider's caller id at the provider's own host, unless it names another; anonymous
    /// without one.
    ///
    /// # Errors
    /// When the provider's address cannot be read.
    pub fn from(&self) -> Result<Uri, TargetError> {
        let caller = self.caller_id.as_deref().unwrap_or("anonymous");
        let (user, host) = match caller.rsplit_once('@') {
            Some((user, host)) => (user, HostWithPort::try_from(host).map_err(|_| TargetError::Malformed)?),
            None => (caller, HostWithPort { port: None, ..self.host()? }),
        };
        let auth = Some(Auth { user: user.to_owned(), password: None });
        Ok(Uri { scheme: Some(Scheme::Sip), auth, host_with_port: host, ..Uri::default() })
    }

    /// The hops to it, in the order in which to try them; `draw` draws a number below its argument.
    ///
    /// # Errors
    /// When there is none, or one of them is not to be sent to.
    pub async fn hops(
        &self,
        dns: &dyn Lookup,
        reach: &Reach,
        draw: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> Result<Vec<Hop>, TargetError> {
        let find = self.find(dns, draw);
        let (name, addresses) = tokio::time::timeout(DEADLINE, find).await.map_err(|_| TargetError::Unresolved)??;
        if addresses.is_empty() {
            return Err(TargetError::NotFound);
        }
        if !addresses.iter().all(|address| admits(reach, *address)) {
            return Err(TargetError::Blocked);
        }
        let transport = self.transport();
        Ok(addresses.into_iter().take(MAX_HOPS).map(|address| Hop { transport, address, name: name.clone() }).collect())
    }

    async fn find(
        &self,
        dns: &dyn Lookup,
        draw: &mut (dyn FnMut(u32) -> u32 + Send),
    ) -> Result<(String, Vec<SocketAddr>), TargetError> {
        let HostWithPort { host, port } = self.host()?;
        let (service, default) = match self.transport() {
            Transport::Udp => ("_sip._udp", 5060),
            Transport::Tcp => ("_sip._tcp", 5060),
            Transport::Tls => ("_sips._tcp", 5061),
        };
        let port = port.map(|port| port.0);
        let name = match host {
            Host::IpAddr(ip) => {
                return Ok((ip.to_string(), vec![SocketAddr::new(ip, port.unwrap_or(default))]));
            }
            Host::Domain(name) => name.0,
        };
        let mut addresses = Vec::new();
        let servers = match port {
            Some(_) => Vec::new(),
            None => order(dns.srv(&format!("{service}.{name}")).await?, draw),
        };
        if servers.is_empty() {
            let found = dns.addresses(&name).await?;
            addresses.extend(found.into_iter().map(|ip| SocketAddr::new(ip, port.unwrap_or(default))));
        }
        for server in servers.into_iter().take(MAX_HOPS) {
            // One server without an address does not make the others unreachable.
            let found = dns.addresses(&server.target).await.unwrap_or_default();
            addresses.extend(found.into_iter().map(|ip| SocketAddr::new(ip, server.port)));
        }
        Ok((name, addresses))
    }
}

/// Whether SIP may be sent there: a public address, on a port no other well-known service below 1024 has; or what was
/// explicitly allowed.
pub fn admits(reach: &Reach, address: SocketAddr) -> bool {
    let (ip, port) = (address.ip(), address.port());
    (is_public(ip) && (port >= 1024 || port == 443)) || reach.allows(ip, port)
}

/// Servers in the order of RFC 2782: by priority; among equals at random, as likely as their weight. A single server
/// called `.` says that there is no service.
fn order(servers: Vec<Srv>, draw: &mut (dyn FnMut(u32) -> u32 + Send)) -> Vec<Srv> {
    let mut by_priority: BTreeMap<u16, Vec<Srv>> = BTreeMap::new();
    for server in servers.into_iter().filter(|server| !server.target.is_empty()) {
        by_priority.entry(server.priority).or_default().push(server);
    }
    let mut ordered = Vec::new();
    for mut equals in by_priority.into_values() {
        // Those without weight come first, so that they are drawn only by a zero.
        equals.sort_by_key(|server| server.weight);
        while !equals.is_empty() {
            let total: u32 = equals.iter().map(|server| u32::from(server.weight)).sum();
            let drawn = draw(total + 1);
            let mut sum = 0;
            let chosen = equals.iter().position(|server| {
                sum += u32::from(server.weight);
                sum >= drawn
            });
            ordered.push(equals.remove(chosen.unwrap_or(0)));
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DNS of this test's own.
    #[derive(Default)]
    struct Zone {
        servers: Vec<(&'static str, Srv)>,
        hosts: Vec<(&'static str, &'static str)>,
    }

    #[async_trait]
    impl Lookup for Zone {
        async fn srv(&self, name: &str) -> Result<Vec<Srv>, TargetError> {
            Ok(self.servers.iter().filter(|(known, _)| *known == name).map(|(_, srv)| srv.clone()).collect())
        }

        async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, TargetError> {
            if name == "broken.example" {
                return Err(TargetError::Unresolved);
            }
            let found = self.hosts.iter().filter(|(known, _)| *known == name);
            Ok(found.map(|(_, ip)| ip.parse().expect("an address")).collect())
        }
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv { priority, weight, port, target: target.to_owned() }
    }

    fn trunk(uri: &str, transport: Transport) -> Trunk {
        Trunk { uri: uri.to_owned(), transport, caller_id: None, credential: None, protected: false }
    }

    async fn hops(zone: &Zone, uri: &str, transport: Transport) -> Result<Vec<String>, TargetError> {
        let found = trunk(uri, transport).hops(zone, &Reach::default(), &mut |_| 0).await?;
        Ok(found.into_iter().map(|hop| format!("{} {}", hop.address, hop.name)).collect())
    }

    #[tokio::test]
    async fn hops_of_a_provider() {
        let zone = Zone {
            servers: vec![
                ("_sip._udp.trunk.example", srv(20, 0, 5070, "b.example")),
                ("_sip._udp.trunk.example", srv(10, 0, 5080, "a.example")),
                ("_sip._udp.trunk.example", srv(30, 0, 5090, "broken.example")),
                ("_sips._tcp.trunk.example", srv(1, 0, 5061, "a.example")),
                ("_sip._tcp.none.example", srv(0, 0, 0, "")),
            ],
            hosts: vec![
                ("a.example", "93.184.216.1"),
                ("b.example", "93.184.216.2"),
                ("b.example", "93.184.216.3"),
                ("trunk.example", "93.184.216.9"),
                ("inside.example", "93.184.216.9"),
                ("inside.example", "10.0.0.1"),
            ],
        };
        use Transport::{Tcp, Tls, Udp};
        for (uri, transport, expected) in [
            (
                "sip:trunk.example",
                Udp,
                Ok(vec![
                    "93.184.216.1:5080 trunk.example",
                    "93.184.216.2:5070 trunk.example",
                    "93.184.216.3:5070 trunk.example",
                ]),
            ),
            ("sip:trunk.example:5066", Udp, Ok(vec!["93.184.216.9:5066 trunk.example"])),
            ("sip:trunk.example", Tcp, Ok(vec!["93.184.216.9:5060 trunk.example"])),
            ("sip:trunk.example", Tls, Ok(vec!["93.184.216.1:5061 trunk.example"])),
            ("sips:trunk.example", Udp, Ok(vec!["93.184.216.1:5061 trunk.example"])),
            ("sip:a.example", Tls, Ok(vec!["93.184.216.1:5061 a.example"])),
            ("sip:93.184.216.5", Tcp, Ok(vec!["93.184.216.5:5060 93.184.216.5"])),
            ("sip:[2606:4700::1]:5061", Tls, Ok(vec!["[2606:4700::1]:5061 2606:4700::1"])),
            ("sip:nowhere.example", Udp, Err(TargetError::NotFound)),
            ("sip:none.example", Tcp, Err(TargetError::NotFound)),
            ("sip:broken.example", Tcp, Err(TargetError::Unresolved)),
            ("sip:inside.example", Udp, Err(TargetError::Blocked)),
            ("sip:127.0.0.1", Udp, Err(TargetError::Blocked)),
            ("sip:169.254.169.254:80", Tcp, Err(TargetError::Blocked)),
            ("sip:93.184.216.5:53", Udp, Err(TargetError::Blocked)),
        ] {
            let expected = expected.map(|hops: Vec<&str>| hops.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(hops(&zone, uri, transport).await, expected, "{uri}");
        }
    }

    #[tokio::test]
    async fn the_system_knows_itself() {
        let found = system().expect("a resolver").addresses("localhost").await.expect("an answer");
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test]
    async fn what_is_allowed_may_be_reached() {
        let reach = Reach::with(vec!["127.0.0.1/32:5060".parse().expect("a network")]);
        let found = trunk("sip:127.0.0.1", Transport::Udp).hops(&Zone::default(), &reach, &mut |_| 0).await;
        assert_eq!(found.map(|hops| hops.len()), Ok(1));
        let found = trunk("sip:127.0.0.1:5070", Transport::Udp).hops(&Zone::default(), &reach, &mut |_| 0).await;
        assert_eq!(found, Err(TargetError::Blocked));
    }

    #[test]
    fn equals_are_drawn_by_weight() {
        let servers = || vec![srv(1, 10, 1, "a"), srv(1, 30, 2, "b"), srv(1, 0, 3, "c")];
        let names = |drawn: u32| {
            let mut draws = [drawn, 0, 0].into_iter();
            let ordered = order(servers(), &mut |bound| draws.next().unwrap_or(0).min(bound - 1));
            ordered.into_iter().map(|server| server.target).collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["c", "a", "b"]);
        assert_eq!(names(1), ["a", "c", "b"]);
        assert_eq!(names(10), ["a", "c", "b"]);
        assert_eq!(names(11), ["b", "c", "a"]);
        assert_eq!(names(40), ["b", "c", "a"]);
    }

    #[test]
    fn addresses_of_requests() {
        let trunk = trunk("sip:trunk.example:5070", Transport::Udp);
        for (destination, uri) in [
            ("tel:+493012345678", Some("sip:+493012345678@trunk.example:5070;user=phone")),
            ("sip:sales@pbx.example", Some("sip:sales@pbx.example")),
            ("sip:pbx.example:5080", Some("sip:pbx.example:5080")),
            ("tel:+49;ext=1", None),
            ("tel:110", None),
            ("sip:a@b;maddr=10.0.0.1", None),
            ("sip:a@b?Replaces=x", None),
            ("https://pbx.example", None),
        ] {
            assert_eq!(trunk.request_uri(destination).ok().map(|uri| uri.to_string()).as_deref(), uri, "{destination}");
        }
    }

    #[test]
    fn callers_come_from_the_provider_alone() {
        let mut trunk = trunk("sip:trunk.example:5070", Transport::Udp);
        for (caller, from) in [
            (None, "sip:anonymous@trunk.example"),
            (Some("+4930123"), "sip:+4930123@trunk.example"),
            (Some("shop@voice.example"), "sip:shop@voice.example"),
        ] {
            trunk.caller_id = caller.map(str::to_owned);
            assert_eq!(trunk.from().map(|uri| uri.to_string()), Ok(from.to_owned()));
        }
    }
}
