//! Which IP addresses and ports a delivery may be sent to (security.md, "Outgoing deliveries"). The one list.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Whether an address is one that anybody on the internet can reach. Everything else is refused: IPv4's special-purpose
/// registry (IANA, RFC 6890), multicast and reserved space; of IPv6 only global unicast (2000::/3), without the blocks
/// that translate to IPv4 or stand in documents.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(v4) => is_public_v4(v4),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    const SPECIAL: [([u8; 4], u8); 16] = [
        ([0, 0, 0, 0], 8),       // this network
        ([10, 0, 0, 0], 8),      // private
        ([100, 64, 0, 0], 10),   // carrier-grade NAT
        ([127, 0, 0, 0], 8),     // loopback
        ([169, 254, 0, 0], 16),  // link-local, metadata services
        ([172, 16, 0, 0], 12),   // private
        ([192, 0, 0, 0], 24),    // IETF protocol assignments
        ([192, 0, 2, 0], 24),    // documentation
        ([192, 31, 196, 0], 24), // AS112
        ([192, 52, 193, 0], 24), // AMT
        ([192, 88, 99, 0], 24),  // 6to4 relays
        ([192, 168, 0, 0], 16),  // private
        ([192, 175, 48, 0], 24), // AS112
        ([198, 18, 0, 0], 15),   // benchmarks
        ([198, 51, 100, 0], 24), // documentation
        ([203, 0, 113, 0], 24),  // documentation
    ];
    let bits = u32::from(ip);
    // 224.0.0.0 and above: multicast, reserved, broadcast.
    bits < 0xe000_0000 && !SPECIAL.iter().any(|(net, prefix)| Net::within(bits, u32::from_be_bytes(*net), *prefix))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200) // 2001::/23: Teredo, ORCHID, benchmarks
        && !(a == 0x2001 && b == 0x0db8) // documentation
        && a != 0x2002 // 6to4
        && !(a == 0x3fff && b < 0x1000) // documentation
        && a != 0x3ffe // the retired 6bone
}

/// Ports a delivery may go to: 443, 8443, and those from 1024 up that no other well-known service speaks on.
pub fn is_allowed_port(port: u16) -> bool {
    const SERVICES: [u16; 33] = [
        1025, 1433, 1521, 1723, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5060, 5061, 5432, 5671, 5672,
        5900, 5984, 6000, 6379, 6443, 6666, 6667, 8086, 9092, 9200, 9300, 10250, 11211, 15672, 27017,
    ];
    port == 443 || (port >= 1024 && !SERVICES.contains(&port))
}

/// A network, and optionally one port in it, that may be reached although it is not public; over `http` too. Only the
/// local house has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    base: IpAddr,
    prefix: u8,
    port: Option<u16>,
}

impl Net {
    /// Whether it holds this address and port.
    pub fn contains(&self, ip: IpAddr, port: u16) -> bool {
        let inside = match (ip.to_canonical(), self.base) {
            (IpAddr::V4(ip), IpAddr::V4(base)) => Self::within(u32::from(ip), u32::from(base), self.prefix),
            (IpAddr::V6(ip), IpAddr::V6(base)) => {
                self.prefix == 0 || (u128::from(ip) ^ u128::from(base)) >> (128 - u32::from(self.prefix)) == 0
            }
            _ => false,
        };
        inside && self.port.is_none_or(|only| only == port)
    }

    fn within(ip: u32, base: u32, prefix: u8) -> bool {
        prefix == 0 || (ip ^ base) >> (32 - u32::from(prefix)) == 0
    }
}

/// Written `CIDR` or `CIDR:PORT`; an IPv6 network with a port stands in brackets: `[::1/128]:9000`.
impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: must be CIDR or CIDR:PORT, such as 127.0.0.1/32:9000");
        let (cidr, port) = if let Some(rest) = text.strip_prefix('[') {
            let (cidr, port) = rest.split_once(']').ok_or_else(wrong)?;
            (cidr, port.strip_prefix(':'))
        } else if text.matches(':').count() == 1 {
            text.split_once(':').map_or((text, None), |(cidr, port)| (cidr, Some(port)))
        } else {
            (text, None)
        };
        let port = port.map(|port| port.parse().map_err(|_| wrong())).transpose()?;
        let (base, prefix) = match cidr.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse::<u8>().map_err(|_| wrong())?)),
            None => (cidr, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let full = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(full);
        if prefix > full { Err(wrong()) } else { Ok(Self { base, prefix, port }) }
    }
}

/// What an outgoing client may reach: public addresses, and what was explicitly allowed beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach(Vec<Net>);

impl Reach {
    /// Public addresses and these networks.
    pub fn with(nets: Vec<Net>) -> Self {
        Self(nets)
    }

    /// Whether this address and port may be dialled.
    pub fn admits(&self, ip: IpAddr, port: u16) -> bool {
        (is_public(ip) && is_allowed_port(port)) || self.allows(ip, port)
    }

    /// Whether this address and port were explicitly allowed.
    pub fn allows(&self, ip: IpAddr, port: u16) -> bool {
        self.0.iter().any(|net| net.contains(ip, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_every_range() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.31.196.0", "192.31.196.255"),
            ("192.52.193.0", "192.52.193.255"),
            ("192.88.99.0", "192.88.99.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("192.175.48.0", "192.175.48.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
        ] {
            let (first, last): (Ipv4Addr, Ipv4Addr) = (first.parse().expect(first), last.parse().expect(last));
            for inside in [first, last] {
                assert!(!is_public(inside.into()), "{inside}");
                assert!(!is_public(inside.to_ipv6_mapped().into()), "::ffff:{inside}");
            }
            if u32::from(first) > 0 {
                assert!(is_public(Ipv4Addr::from(u32::from(first) - 1).into()), "before {first}");
            }
            assert!(is_public(Ipv4Addr::from(u32::from(last) + 1).into()), "after {last}");
        }
        for ip in ["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"] {
            assert!(!is_public(ip.parse().expect(ip)), "{ip}");
        }
    }

    #[test]
    fn of_ipv6_only_global_unicast() {
        for ip in ["2001:200::1", "2606:4700::1111", "2a00:1450::1", "2003::1", "3ffd::1"] {
            assert!(is_public(ip.parse().expect(ip)), "{ip}");
        }
        for ip in [
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "1fff:ffff::1",
            "2001::1",
            "2001:1ff:ffff::",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "3fff:fff::1",
            "3ffe::1",
            "4000::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(ip.parse().expect(ip)), "{ip}");
        }
    }

    #[test]
    fn allowed_networks() {
        for (net, ip, port, inside) in [
            ("127.0.0.1/32:9000", "127.0.0.1", 9000, true),
            ("127.0.0.1/32:9000", "127.0.0.1", 9001, false),
            ("127.0.0.0/8", "127.9.9.9", 22, true),
            ("127.0.0.1", "127.0.0.2", 22, false),
            ("127.0.0.1", "::ffff:127.0.0.1", 22, true),
            ("[::1/128]:9000", "::1", 9000, true),
            ("::1", "::1", 80, true),
            ("0.0.0.0/0", "::1", 80, false),
        ] {
            let net: Net = net.parse().expect(net);
            assert_eq!(net.contains(ip.parse().expect(ip), port), inside, "{net:?} {ip}:{port}");
        }
        for bad in ["", "localhost", "127.0.0.1/33", "127.0.0.1:x", "127.0.0.1/8:70000", "[::1"] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_but_the_public_by_default() {
        let reach = Reach::default();
        assert!(reach.admits("93.184.216.34".parse().expect("an address"), 443));
        assert!(!reach.admits("93.184.216.34".parse().expect("an address"), 22));
        assert!(!reach.admits("127.0.0.1".parse().expect("an address"), 443));
    }
}
