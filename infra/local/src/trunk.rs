//! Where the demo's calls go: to the telephone of the house, or to a trunk that the command line names.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use edge::env;
use tokio::net::{UdpSocket, lookup_host};

/// Ports for media of trunks: below those that the operating system picks from.
const RTP_PORTS: &str = "20000-32767";
/// Where SIP is spoken when a trunk does not say.
const SIP_PORT: u16 = 5060;

/// How the media server stands in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Where it sends SIP and media from.
    from: IpAddr,
    /// What it may reach beside the public internet.
    reaches: IpAddr,
}

impl Place {
    /// On this machine alone.
    pub(crate) fn loopback() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { from: loopback, reaches: loopback }
    }

    /// So that it reaches a trunk, which may well stand in this machine's own network.
    ///
    /// # Errors
    /// When the trunk's name has no address, or no way leads there.
    pub(crate) async fn towards(trunk: &str) -> io::Result<Self> {
        let host = trunk.rsplit_once('@').map_or_else(|| trunk.trim_start_matches("sip:"), |(_, host)| host);
        let named = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        let target = if named { host.to_owned() } else { format!("{host}:{SIP_PORT}") };
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "its name has no IPv4 address");
        let trunk = lookup_host(target).await?.find(SocketAddr::is_ipv4).ok_or_else(unknown)?;
        // Sends nothing: the operating system only says which of its addresses it would send from.
        let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        probe.connect(trunk).await?;
        Ok(Self { from: probe.local_addr()?.ip(), reaches: trunk.ip() })
    }

    /// The media server's variables. Browsers are on this machine.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        [
            (env::MEDIA_ADDRESSES, Ipv4Addr::LOCALHOST.to_string()),
            (env::SIP_LISTEN, SocketAddr::new(self.from, 0).to_string()),
            (env::RTP_PORTS, RTP_PORTS.to_owned()),
            (env::ALLOW_DESTINATIONS, format!("{}/32", self.reaches)),
        ]
        .map(|(variable, value)| (variable.0.to_owned(), value))
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_trunk_is_reached_from_the_address_that_leads_there() {
        for trunk in ["sip:127.0.0.1", "sip:sales@127.0.0.1:5070", "sip:127.0.0.1:5070"] {
            let variables = Place::towards(trunk).await.expect(trunk).variables();
            assert_eq!(variables[env::SIP_LISTEN.0], "127.0.0.1:0");
            assert_eq!(variables[env::ALLOW_DESTINATIONS.0], "127.0.0.1/32");
        }
    }
}
