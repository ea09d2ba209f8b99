//! The sockets of a call on the trunk's side: one for RTP, one for RTCP, and whom they listen to.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::atomic::{AtomicU16, Ordering},
};

use tokio::net::UdpSocket;

/// Ports for media. A call takes an even one and the odd one above it (RFC 3550, section 11).
#[derive(Debug)]
pub struct Ports {
    ip: IpAddr,
    first: u16,
    pairs: u16,
    next: AtomicU16,
}

/// The two sockets of a call.
#[derive(Debug)]
pub struct Sockets {
    /// For RTP.
    pub rtp: UdpSocket,
    /// For RTCP, one port above.
    pub rtcp: UdpSocket,
}

impl Ports {
    /// Of `range` at `ip`.
    pub fn new(ip: IpAddr, range: RangeInclusive<u16>) -> Self {
        let first = range.start().saturating_add(range.start() % 2);
        let pairs = (u32::from(*range.end()) + 1).saturating_sub(u32::from(first)) / 2;
        Self { ip, first, pairs: u16::try_from(pairs).unwrap_or(u16::MAX), next: AtomicU16::new(0) }
    }

    /// Two sockets on free ports, starting after those taken last, so that late packets of a past call meet nobody.
    ///
    /// # Errors
    /// When no pair of ports is free.
    pub async fn take(&self) -> io::Result<Sockets> {
        for _ in 0..self.pairs {
            let pair = self.next.fetch_add(1, Ordering::Relaxed) % self.pairs;
            let port = self.first + 2 * pair;
            let Ok(rtp) = UdpSocket::bind((self.ip, port)).await else { continue };
            let Ok(rtcp) = UdpSocket::bind((self.ip, port + 1)).await else { continue };
            return Ok(Sockets { rtp, rtcp });
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// Whom a socket listens to: the address the description named, or the first source that sends when it sends from
/// elsewhere (NAT); then nobody else, until a new description. Packets from the named address always win.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latch {
    named: Option<SocketAddr>,
    heard: Option<SocketAddr>,
}

impl Latch {
    /// A new description names `address`; what it names may only be sent to when `reachable`.
    pub fn name(&mut self, address: Option<SocketAddr>, reachable: impl Fn(SocketAddr) -> bool) {
        let named = address.filter(|address| reachable(*address));
        if named != self.named {
            *self = Self { named, heard: None };
        }
    }

    /// Whether a packet from `source` is to be heard.
    pub fn admits(&mut self, source: SocketAddr) -> bool {
        if Some(source) == self.named || self.heard.is_none() {
            self.heard = Some(source);
        }
        self.heard == Some(source)
    }

    /// Where to send: to who is heard, before that to the named address.
    pub fn target(&self) -> Option<SocketAddr> {
        self.heard.or(self.named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn pairs_of_ports_are_even_and_odd_and_run_out() {
        let localhost = IpAddr::from([127, 0, 0, 1]);
        let ports = Ports::new(localhost, 47_001..=47_006);
        let mut taken = Vec::new();
        while let Ok(sockets) = ports.take().await {
            let (rtp, rtcp) = (sockets.rtp.local_addr().expect("bound"), sockets.rtcp.local_addr().expect("bound"));
            assert_eq!((rtp.port() % 2, rtcp.port()), (0, rtp.port() + 1));
            taken.push(sockets);
        }
        assert_eq!(taken.len(), 2, "47002 to 47005");
        taken.pop();
        assert!(ports.take().await.is_ok(), "what is given back can be taken again");
        assert!(Ports::new(localhost, 5..=5).take().await.is_err());
        assert_eq!(Ports::new(localhost, 65_534..=65_535).pairs, 1);
    }

    #[test]
    fn the_first_source_is_kept_and_the_named_one_wins() {
        let (named, nat, other) = (address("192.0.2.1:4000"), address("192.0.2.9:5000"), address("192.0.2.66:1"));
        let mut latch = Latch::default();
        latch.name(Some(named), |_| true);
        assert_eq!(latch.target(), Some(named));
        assert!(latch.admits(nat) && !latch.admits(other), "locked to the first");
        assert_eq!(latch.target(), Some(nat));
        assert!(latch.admits(named) && !latch.admits(nat), "the named one takes over");
        latch.name(Some(named), |_| true);
        assert!(!latch.admits(nat), "the same description changes nothing");
        latch.name(Some(other), |_| true);
        assert!(latch.admits(nat), "a new one begins again");
        latch.name(Some(address("10.0.0.1:4000")), |address| address.ip() != IpAddr::from([10, 0, 0, 1]));
        assert_eq!(latch.target(), None, "not an address to send to");
    }
}
