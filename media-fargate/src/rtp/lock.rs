//! Symmetric RTP: whom a leg without DTLS listens to, and where it sends (security.md, "Media").
//!
//! The description names an address, but behind a NAT the packets come from another port than it says, or from another
//! address: then from the one that speaks SIP for it, for a description with a private address is of no use to anybody
//! outside. So the first source at either of the two that sends what was negotiated is taken, and then nobody else. At any
//! other address nobody is heard, and nothing is sent there: whoever sprays packets at our ports neither hears nor speaks.
//! A packet that was protected with the call's key proves its source by itself, wherever that is. Only a new description
//! opens the choice again, and the end of a hold: in its silence a NAT may have forgotten the port.

use std::net::{IpAddr, SocketAddr};

use super::{Format, Packet};

/// Packets in a row that prove a source that the description does not name (RFC 3550, appendix A.1, `MIN_SEQUENTIAL`): one
/// stray packet wins no call.
const PROOF: u8 = 2;

/// Whom a leg listens to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lock {
    named: Option<SocketAddr>,
    /// Who speaks SIP for it.
    peer: Option<IpAddr>,
    locked: Option<SocketAddr>,
    /// To whom it was locked before the choice was opened again.
    last: Option<SocketAddr>,
    candidate: Option<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    next: u16,
    proofs: u8,
}

impl Lock {
    /// For a leg whose description names an address (`None`: it names none to send to), and whose SIP this host speaks.
    pub fn new(named: Option<SocketAddr>, peer: Option<IpAddr>) -> Self {
        Self { named, peer, ..Self::default() }
    }

    /// A new description. Only one that names another address opens the choice again: a refresh repeats the old one.
    pub fn renamed(&mut self, named: Option<SocketAddr>, peer: Option<IpAddr>) {
        if (named, peer) != (self.named, self.peer) {
            *self = Self::new(named, peer);
        }
    }

    /// Opens the choice again, for media flows again after a while of silence. Until somebody is heard, it is sent to who
    /// was heard last.
    pub fn reopen(&mut self) {
        self.last = self.locked.take().or(self.last);
        self.candidate = None;
    }

    /// Whether to hear a packet; an `authentic` one was protected with the call's key. The named address is believed at
    /// once, and takes over from a source that was only guessed; from then on it is the only one.
    pub fn admits(&mut self, source: SocketAddr, packet: &Packet, format: &Format, authentic: bool) -> bool {
        if self.locked == Some(source) {
            return true;
        }
        let known = format.kind(packet.payload_type).is_some();
        let settled = self.locked.is_some() && (self.locked == self.named || self.named != Some(source));
        if !known || settled {
            return false;
        }
        let may = authentic || self.expects(source.ip());
        let admitted = self.named == Some(source) || (may && self.proven(source, packet));
        if admitted {
            self.locked = Some(source);
            self.candidate = None;
        }
        admitted
    }

    /// Whether packets may come from this host, whatever the port.
    pub fn expects(&self, host: IpAddr) -> bool {
        let expected = [self.named.map(|named| named.ip()), self.peer];
        expected.into_iter().flatten().any(|expected| expected.to_canonical() == host.to_canonical())
    }

    fn proven(&mut self, source: SocketAddr, packet: &Packet) -> bool {
        let proofs = match self.candidate {
            Some(Candidate { source: seen, ssrc, next, proofs }) if seen == source => {
                let follows = ssrc == packet.ssrc && next == packet.sequence;
                if follows { proofs + 1 } else { 1 }
            }
            _ => 1,
        };
        self.candidate = Some(Candidate { source, ssrc: packet.ssrc, next: packet.sequence.wrapping_add(1), proofs });
        proofs >= PROOF
    }

    /// Where to send: to who is heard, or was heard last; before that, to the named address.
    pub fn target(&self) -> Option<SocketAddr> {
        self.locked.or(self.last).or(self.named)
    }

    /// Whom it is locked to, if to anybody.
    pub fn locked(&self) -> Option<SocketAddr> {
        self.locked
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::Codec, *};

    const FORMAT: Format = Format { codec: Codec::Pcmu, audio: 0, events: Some(101), comfort_noise: None };
    const NAMED: &str = "192.0.2.1:4000";
    /// The same host by another port, and who speaks SIP for it by two.
    const MOVED: &str = "192.0.2.1:4711";
    const NAT: &str = "198.51.100.7:5000";
    const OTHER: &str = "198.51.100.7:5002";
    const THIEF: &str = "203.0.113.66:6666";

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn packet(payload_type: u8, ssrc: u32, sequence: u16) -> Packet {
        Packet { payload_type, marker: false, sequence, timestamp: 0, ssrc, payload: Bytes::new() }
    }

    /// Columns: what is named; packets (source, payload type, SSRC, sequence) and whether each is heard; where to send.
    #[test]
    fn who_is_heard() {
        type Heard = ((&'static str, u8, u32, u16), bool);
        let cases: [(&str, &[Heard], &str); 9] = [
            (NAMED, &[], NAMED),
            (NAMED, &[((NAMED, 0, 1, 1), true), ((NAT, 0, 1, 2), false), ((NAT, 0, 1, 3), false)], NAMED),
            (
                NAMED,
                &[
                    ((NAT, 0, 1, 9), false),
                    ((NAT, 0, 1, 10), true),
                    ((THIEF, 0, 2, 1), false),
                    ((THIEF, 0, 2, 2), false),
                ],
                NAT,
            ),
            // What was not negotiated proves nothing, not even of the named address.
            (NAMED, &[((THIEF, 96, 2, 1), false), ((THIEF, 96, 2, 2), false), ((NAMED, 9, 1, 1), false)], NAMED),
            // Neither does anything at another address, however long it goes on.
            (
                NAMED,
                &[
                    ((THIEF, 0, 2, 1), false),
                    ((THIEF, 0, 2, 2), false),
                    ((THIEF, 0, 2, 3), false),
                    ((NAT, 0, 1, 1), false),
                ],
                NAMED,
            ),
            (NAMED, &[((MOVED, 0, 1, 1), false), ((MOVED, 0, 1, 2), true)], MOVED),
            // Two sources in turn prove neither; a stray packet, another stream or a gap begins again.
            (
                NAMED,
                &[
                    ((NAT, 0, 1, 1), false),
                    ((OTHER, 0, 2, 1), false),
                    ((NAT, 0, 1, 2), false),
                    ((OTHER, 0, 2, 2), false),
                ],
                NAMED,
            ),
            (
                NAMED,
                &[((NAT, 0, 1, 1), false), ((NAT, 0, 3, 2), false), ((NAT, 0, 3, 4), false), ((NAT, 101, 3, 5), true)],
                NAT,
            ),
            // The named one takes over from a guess, for good.
            (
                NAMED,
                &[
                    ((NAT, 0, 2, u16::MAX), false),
                    ((NAT, 0, 2, 0), true),
                    ((NAMED, 0, 1, 50), true),
                    ((NAT, 0, 2, 1), false),
                    ((NAT, 0, 2, 2), false),
                    // Whoever is locked may send anything; the transform looks at it.
                    ((NAMED, 77, 1, 51), true),
                ],
                NAMED,
            ),
        ];
        for (number, (named, packets, target)) in cases.into_iter().enumerate() {
            let mut lock = Lock::new(Some(address(named)), Some(address(NAT).ip()));
            for ((source, payload_type, ssrc, sequence), heard) in packets {
                let packet = packet(*payload_type, *ssrc, *sequence);
                let admitted = lock.admits(address(source), &packet, &FORMAT, false);
                assert_eq!(admitted, *heard, "case {number}: {source} {payload_type} {ssrc} {sequence}");
            }
            assert_eq!(lock.target(), Some(address(target)), "case {number}");
        }
    }

    fn hears(lock: &mut Lock, source: &str, sequence: u16) -> bool {
        lock.admits(address(source), &packet(0, 1, sequence), &FORMAT, false)
    }

    #[test]
    fn after_a_silence_another_port_may_take_over() {
        let mut lock = Lock::new(Some(address(NAMED)), Some(address(NAT).ip()));
        assert!(!hears(&mut lock, NAT, 1) && hears(&mut lock, NAT, 2));
        assert!(!hears(&mut lock, OTHER, 3) && !hears(&mut lock, OTHER, 4), "one at a time");
        lock.reopen();
        assert_eq!((lock.locked(), lock.target()), (None, Some(address(NAT))));
        lock.reopen();
        assert_eq!(lock.target(), Some(address(NAT)), "again without a packet between");
        assert!(!hears(&mut lock, THIEF, 5) && !hears(&mut lock, THIEF, 6), "an address of nobody's");
        assert!(!hears(&mut lock, OTHER, 7) && hears(&mut lock, OTHER, 8));
        assert_eq!(lock.target(), Some(address(OTHER)));
        assert!(!hears(&mut lock, NAT, 9) && !hears(&mut lock, NAT, 10), "the choice is made");
    }

    #[test]
    fn who_has_the_key_is_heard_from_anywhere() {
        let mut lock = Lock::new(Some(address(NAMED)), None);
        let mut admits = |sequence| lock.admits(address(THIEF), &packet(0, 1, sequence), &FORMAT, true);
        assert_eq!([admits(1), admits(2), admits(3)], [false, true, true]);
        assert_eq!(lock.target(), Some(address(THIEF)));
    }

    #[test]
    fn only_another_description_opens_the_choice() {
        let peer = Some(address(NAT).ip());
        let mut lock = Lock::new(None, peer);
        assert_eq!(lock.target(), None);
        assert!(!hears(&mut lock, THIEF, 1) && !hears(&mut lock, THIEF, 2), "an address of nobody's");
        assert!(!hears(&mut lock, NAT, 1) && hears(&mut lock, NAT, 2));
        lock.renamed(None, peer);
        assert_eq!(lock.locked(), Some(address(NAT)));
        lock.renamed(Some(address(NAMED)), peer);
        assert_eq!((lock.locked(), lock.target()), (None, Some(address(NAMED))));
        assert!(hears(&mut lock, NAMED, 1));
        lock.renamed(Some(address(NAMED)), peer);
        assert!(!hears(&mut lock, NAT, 3) && !hears(&mut lock, NAT, 4));
    }
}
