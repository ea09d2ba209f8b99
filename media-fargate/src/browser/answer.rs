//! Our answer: the library's, with the candidates that a browser can reach.
//!
//! The library lists its own sockets, twice (once more for RTCP, which is multiplexed here), and active TCP candidates that
//! never connect. Behind a NAT its addresses are private.

use std::net::IpAddr;

use rtc::sdp::{SessionDescription, description::common::Attribute};

/// The candidates of a call, as every answer of it lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates(Vec<String>);

impl Candidates {
    /// Those of the library's answer that a browser can reach, each at the public address of its family where there is one.
    pub(super) fn of(sdp: &SessionDescription, public: &[IpAddr]) -> Self {
        let all = sdp.media_descriptions.iter().flat_map(|media| &media.attributes);
        let mut candidates: Vec<String> = Vec::new();
        for line in all.filter(|a| a.is_ice_candidate()).filter_map(|a| a.value.as_deref()) {
            for candidate in reachable(line, public) {
                if !candidates.contains(&candidate) {
                    candidates.push(candidate);
                }
            }
        }
        Self(candidates)
    }

    /// Whether there is none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one over UDP: without, the port was somebody else's.
    pub(super) fn has_udp(&self) -> bool {
        self.0
            .iter()
            .any(|candidate| candidate.split(' ').nth(2).is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp")))
    }

    /// The answer with these candidates and no others; the bundle's first section carries them for all.
    pub(super) fn write_into(&self, sdp: &mut SessionDescription) {
        for media in &mut sdp.media_descriptions {
            media.attributes.retain(|attribute| !["candidate", "end-of-candidates"].contains(&attribute.key.as_str()));
        }
        let Some(first) = sdp.media_descriptions.first_mut() else { return };
        let candidates = self.0.iter().map(|candidate| Attribute::new("candidate".to_owned(), Some(candidate.clone())));
        first.attributes.extend(candidates);
        first.attributes.push(Attribute::new("end-of-candidates".to_owned(), None));
    }
}

/// `foundation component protocol priority address port typ …` (RFC 8839, section 5.1) as the browser gets to see it.
fn reachable(line: &str, public: &[IpAddr]) -> Vec<String> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [foundation, component, protocol, priority, address, port, rest @ ..] = fields.as_slice() else {
        return Vec::new();
    };
    let Ok(own) = address.parse::<IpAddr>() else { return Vec::new() };
    if *component != "1" || rest.contains(&"active") || own.is_unspecified() {
        return Vec::new();
    }
    let at = |address: IpAddr| format!("{foundation} 1 {protocol} {priority} {address} {port} {}", rest.join(" "));
    match public {
        [] => vec![at(own)],
        public => {
            public.iter().filter(|address| address.is_ipv4() == own.is_ipv4()).map(|address| at(*address)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2130706431 10.0.0.7 4000 typ host\r\na=candidate:1 2 udp 2130706431 10.0.0.7 4000 typ host\r\n\
        a=candidate:2 1 tcp 1671430143 10.0.0.7 4000 typ host tcptype passive\r\n\
        a=candidate:3 1 tcp 1667235839 10.0.0.7 9 typ host tcptype active\r\n\
        a=candidate:4 1 udp 2130706431 fd00::7 4000 typ host\r\na=end-of-candidates\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\n\
        a=candidate:1 1 udp 2130706431 10.0.0.7 4000 typ host\r\n";

    fn parse(sdp: &str) -> SessionDescription {
        SessionDescription::unmarshal(&mut Cursor::new(sdp)).expect("SDP")
    }

    fn candidates(public: &[&str]) -> Vec<String> {
        let public: Vec<IpAddr> = public.iter().map(|address| address.parse().expect("an address")).collect();
        Candidates::of(&parse(ANSWER), &public).0
    }

    #[test]
    fn each_socket_is_named_once() {
        assert_eq!(
            candidates(&[]),
            [
                "1 1 udp 2130706431 10.0.0.7 4000 typ host",
                "2 1 tcp 1671430143 10.0.0.7 4000 typ host tcptype passive",
                "4 1 udp 2130706431 fd00::7 4000 typ host",
            ]
        );
    }

    #[test]
    fn public_addresses_stand_for_private_ones() {
        assert_eq!(
            candidates(&["192.0.2.1"]),
            [
                "1 1 udp 2130706431 192.0.2.1 4000 typ host",
                "2 1 tcp 1671430143 192.0.2.1 4000 typ host tcptype passive"
            ]
        );
        assert_eq!(candidates(&["192.0.2.1", "2001:db8::1"]).len(), 3);
    }

    #[test]
    fn the_first_section_carries_them_all() {
        let mut sdp = parse(ANSWER);
        let candidates = Candidates::of(&sdp, &["192.0.2.1".parse().expect("an address")]);
        assert!(candidates.has_udp());
        candidates.write_into(&mut sdp);
        let text = sdp.marshal();
        assert_eq!(text.matches("a=candidate:").count(), 2, "{text}");
        assert!(!text.contains("10.0.0.7"), "{text}");
        assert!(text.find("a=end-of-candidates") < text.find("m=application"), "{text}");
    }

    #[test]
    fn without_udp_it_shows() {
        let tcp_only = ANSWER.replace(" udp ", " tcp ");
        assert!(!Candidates::of(&parse(&tcp_only), &[]).has_udp());
    }
}
