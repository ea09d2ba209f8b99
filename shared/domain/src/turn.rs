//! TURN (RFC 8656): relays for visitors whose network lets nothing else through, and credentials for them that end by
//! themselves, as most TURN servers know them (draft-uberti-behave-turn-rest-00): the user name is the moment of its end
//! and something random, which says nothing about anybody; the password is an HMAC of it under a secret that the server
//! shares with us.

use std::{fmt, net::Ipv6Addr, num::NonZeroU16, str::FromStr, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{call, session::TOKEN_LIFE, time::Timestamp, token::LEEWAY};

/// How long a credential is good: a call may begin when its session's token is about to end, and lasts at most
/// [`call::LONGEST`]; a lost connection may need the relay until then.
pub const LIFE: Duration = Duration::from_secs(TOKEN_LIFE.as_secs() + LEEWAY.as_secs() + call::LONGEST.as_secs());
/// Bytes of a shared secret at least: whoever has a credential can try secrets at leisure.
pub const MIN_SECRET: usize = 16;

/// Where a relay is (RFC 7065): `turn:` or `turns:`, a host, a port or none, a transport or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address(String);

/// The text is no address of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be addresses such as turn:turn.example.com:3478?transport=udp")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let rest = text.strip_prefix("turn:").or_else(|| text.strip_prefix("turns:")).ok_or(NotAnAddress)?;
        let (place, transport) = rest.split_once("?transport=").unwrap_or((rest, "udp"));
        let (host, after) = match place.strip_prefix('[') {
            Some(place) => {
                let (host, after) = place.split_once(']').ok_or(NotAnAddress)?;
                (host.parse::<Ipv6Addr>().is_ok(), after)
            }
            None => {
                let (host, after) = place.split_at(place.find(':').unwrap_or(place.len()));
                let fits = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
                (fits && !host.is_empty(), after)
            }
        };
        let is_port = |port: &str| !port.starts_with('+') && port.parse::<NonZeroU16>().is_ok();
        let port = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        if host && port && ["udp", "tcp"].contains(&transport) { Ok(Self(text.to_owned())) } else { Err(NotAnAddress) }
    }
}

/// The secret that the relays share with us. It is shown nowhere.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

/// The secret is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be at least {MIN_SECRET} bytes")]
pub struct TooShort;

impl FromStr for Secret {
    type Err = TooShort;

    fn from_str(text: &str) -> Result<Self, TooShort> {
        if text.len() < MIN_SECRET { Err(TooShort) } else { Ok(Self(Zeroizing::new(text.to_owned()))) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The relays of a deployment.
#[derive(Clone, Debug)]
pub struct Relays {
    urls: Vec<Address>,
    secret: Secret,
}

/// Relays with a credential, as `RTCPeerConnection` takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are WebRTC's own")]
pub struct IceServer {
    pub urls: Vec<Address>,
    pub username: String,
    pub credential: String,
}

impl Relays {
    /// These relays, which share this secret.
    pub fn new(urls: Vec<Address>, secret: Secret) -> Self {
        Self { urls, secret }
    }

    /// The relays with a credential of [`LIFE`], made of random bytes.
    pub fn lend(&self, now: Timestamp, entropy: &[u8; 10]) -> IceServer {
        let random: String = entropy.iter().map(|byte| format!("{byte:02x}")).collect();
        let username = format!("{}:{random}", now.plus(LIFE).as_seconds());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.0.as_bytes());
        let credential = BASE64.encode(hmac::sign(&key, username.as_bytes()));
        IceServer { urls: self.urls.clone(), username, credential }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_relays() {
        for good in [
            "turn:turn.example.com",
            "turn:192.0.2.1:3478",
            "turns:turn.example.com:443?transport=tcp",
            "turn:[2001:db8::1]:3478?transport=udp",
            "turn:[2001:db8::1]",
        ] {
            assert_eq!(good.parse(), Ok(Address(good.to_owned())));
        }
        for bad in [
            "",
            "turn:",
            "stun:turn.example.com",
            "turn://turn.example.com",
            "turn:user@turn.example.com",
            "turn:turn.example.com:0",
            "turn:turn.example.com:+80",
            "turn:turn.example.com:65536",
            "turn:turn.example.com?transport=sctp",
            "turn:turn.example.com/x",
            "turn:[2001:db8::1]x",
            "turn:[nonsense]:1",
            "turn:a b",
        ] {
            assert_eq!(bad.parse::<Address>(), Err(NotAnAddress), "{bad}");
        }
    }

    /// By another hand: `printf %s 1700004560:00…00 | openssl dgst -sha1 -hmac … -binary | base64`.
    #[test]
    fn a_credential_is_the_hmac_of_its_end() {
        let relays = Relays::new(vec![], "north northwest wind".parse().expect("long enough"));
        let lent = relays.lend(Timestamp::from_millis(1_700_000_000_999), &[0; 10]);
        assert_eq!(lent.username, "1700004560:00000000000000000000");
        assert_eq!(lent.credential, "KzosWc39tbwejA8N1W/tS+qFg30=");
        assert!(!format!("{relays:?}").contains("north"));
        assert_eq!("fifteen letters".parse::<Secret>().expect_err("short"), TooShort);
    }
}
