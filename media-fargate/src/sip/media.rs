//! The sockets of a call on the trunk's side: one for RTP, one for RTCP.

use std::{
    io,
    net::IpAddr,
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
