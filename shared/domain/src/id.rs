//! Ids: a prefix that names the kind and 26 characters of lower-case Crockford base32, ordered by time (a ULID's body:
//! 10 characters of milliseconds, 16 of randomness). Contract, notation.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;
const TIME_LENGTH: usize = 10;

/// The 80 random bits of one id. Whoever mints brings them; rules draw no randomness.
pub type Entropy = [u8; 10];

/// The text is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {prefix}_ followed by 26 characters of lower-case Crockford base32")]
pub struct NotAnId {
    prefix: &'static str,
}

/// The 26 characters behind the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Body([u8; LENGTH]);

impl Body {
    fn new(millis: u64, entropy: &Entropy) -> Self {
        let mut body = [b'0'; LENGTH];
        write_base32(&mut body[..TIME_LENGTH], u128::from(millis));
        let mut wide = [0; 16];
        wide[6..].copy_from_slice(entropy);
        write_base32(&mut body[TIME_LENGTH..], u128::from_be_bytes(wide));
        Self(body)
    }

    fn parse(text: &str) -> Option<Self> {
        let body: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        body.iter().all(|character| ALPHABET.contains(character)).then_some(Self(body))
    }

    fn millis(&self) -> u64 {
        self.0[..TIME_LENGTH].iter().fold(0, |sum, character| {
            let digit = ALPHABET.iter().position(|known| known == character).unwrap_or(0);
            sum << 5 | digit as u64
        })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The same but for these bits of the last character.
    fn neighbour(mut self, bits: usize) -> Self {
        let digit = ALPHABET.iter().position(|known| *known == self.0[LENGTH - 1]).unwrap_or(0);
        self.0[LENGTH - 1] = ALPHABET[(digit ^ bits) & 31];
        self
    }
}

fn write_base32(into: &mut [u8], mut number: u128) {
    for place in into.iter_mut().rev() {
        *place = ALPHABET[(number & 31) as usize];
        number >>= 5;
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Body);

        impl $name {
            /// A new id, ordered after those minted earlier.
            pub fn mint(now: Timestamp, entropy: &Entropy) -> Self {
                Self(Body::new(u64::try_from(now.as_millis()).unwrap_or(0), entropy))
            }

            /// When it says it was minted. Only as true as who minted it: a visitor mints event ids.
            pub fn minted_at(&self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0.millis()).unwrap_or(i64::MAX))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let body = text.strip_prefix(concat!($prefix, "_")).and_then(Body::parse);
                body.map(Self).ok_or(NotAnId { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// Names an app.
    AppId = "app";
    /// Names an integration of an app.
    IntegrationId = "int";
    /// Names a profile: the event's `destinationId`.
    DestinationId = "dest";
    /// Names one session of one visitor.
    SessionId = "ses";
    /// Names an event. Minted by the widget; within a session it is the key of idempotence.
    EventId = "evt";
    /// Names a call of a session.
    CallId = "call";
    /// Names a delivery; derived, see [`DeliveryId::derive`].
    DeliveryId = "dlv";
    /// Names a row of the audit log.
    AuditId = "aud";
    /// Names an operator's token.
    OperatorId = "op";
}

impl SessionId {
    /// Its time and randomness as one number: the ULID. The two bits that the text could hold above it are none of it.
    pub fn bits(&self) -> u128 {
        self.0.0.iter().fold(0, |sum, character| {
            let digit = ALPHABET.iter().position(|known| known == character).unwrap_or(0);
            sum << 5 | digit as u128
        })
    }
}

/// A session lives at most this long (contract section 3), in milliseconds.
const SESSION_MILLIS: u64 = 8 * 60 * 60 * 1000;

impl EventId {
    /// The id of the event that `call` is over: the same 26 characters. Who sees a call end reports it, the widget, the
    /// media server or both; integrations hear of it once.
    pub fn of_end(call: CallId) -> Self {
        Self(call.0)
    }

    /// The id of the event that `call` began: differs from the former in the lowest bit.
    pub fn of_start(call: CallId) -> Self {
        Self(call.0.neighbour(1))
    }

    /// The id of the event that the survey after `call` was filled in: differs in the second lowest bit.
    pub fn of_survey(call: CallId) -> Self {
        Self(call.0.neighbour(2))
    }

    /// Every event that is about `call` and nothing else.
    pub fn about(call: CallId) -> [Self; 3] {
        [Self::of_start(call), Self::of_end(call), Self::of_survey(call)]
    }
}

impl DeliveryId {
    /// The one id of `event`'s delivery to `integration`: repeats of the event meet in it.
    ///
    /// Its time is the event id's when that lies inside the session's life, else the session's start: a visitor mints
    /// event ids, and must not be able to place rows anywhere in the app's delivery log.
    pub fn derive(session: SessionId, event: EventId, integration: IntegrationId) -> Self {
        let started = session.0.millis();
        let claimed = event.0.millis();
        let millis = if (started..=started + SESSION_MILLIS).contains(&claimed) { claimed } else { started };
        let hash = digest::digest(&digest::SHA256, format!("{session}/{event}/{integration}").as_bytes());
        let mut entropy = Entropy::default();
        let length = entropy.len();
        entropy.copy_from_slice(&hash.as_ref()[..length]);
        Self(Body::new(millis, &entropy))
    }

    /// Which of `shards` rooms of its day holds it: the same for the same id, evenly spread over many.
    pub fn shard(&self, shards: u8) -> u8 {
        let last = self.0.0[LENGTH - 2..].iter().fold(0u16, |sum, byte| sum * 32 + u16::from(*byte));
        u8::try_from(last % u16::from(shards.max(1))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn refuses_other_kinds_and_other_alphabets() {
        let good = "app_01jd3v9zk0abcdefghjkmnpqrs";
        assert_eq!(good.parse::<AppId>().expect("an app id").to_string(), good);
        for bad in [
            "",
            "app_",
            "01jd3v9zk0abcdefghjkmnpqrs",
            "int_01jd3v9zk0abcdefghjkmnpqrs",
            "app_01jd3v9zk0abcdefghjkmnpqr",
            "app_01jd3v9zk0abcdefghjkmnpqrss",
            "app_01JD3V9ZK0ABCDEFGHJKMNPQRS",
            "app_01jd3v9zk0abcdefghjkmnpqri",
            "app_01jd3v9zk0abcdefghjkmnpqré",
            "app_01jd3v9zk0abcdefghjkmnpq/.",
        ] {
            assert!(bad.parse::<AppId>().is_err(), "{bad}");
        }
    }

    /// As the widget derives it (tests/vectors).
    #[test]
    fn events_about_a_call_have_ids_made_of_its_own() {
        let vectors = include_str!("../../../tests/vectors/call-events.json");
        let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).expect("JSON");
        assert!(!vectors.is_empty());
        for vector in vectors {
            let call: CallId = vector["call"].as_str().and_then(|call| call.parse().ok()).expect("a call id");
            assert_eq!(EventId::of_start(call).to_string(), vector["started"]);
            assert_eq!(EventId::of_end(call).to_string(), vector["ended"]);
            assert_eq!(EventId::of_survey(call).to_string(), vector["surveyed"]);
        }
    }

    #[test]
    fn a_delivery_id_cannot_be_placed_outside_its_session() {
        let session = SessionId::mint(at(1_000_000), &[1; 10]);
        let integration = IntegrationId::mint(at(5), &[2; 10]);
        let derive = |millis| DeliveryId::derive(session, EventId::mint(at(millis), &[3; 10]), integration).minted_at();
        assert_eq!(derive(1_500_000), at(1_500_000));
        assert_eq!(derive(999_999), at(1_000_000));
        assert_eq!(derive(i64::from(i32::MAX) * 1000), at(1_000_000));
    }

    proptest! {
        #[test]
        fn text_and_back(millis in 0i64..253_402_300_799_000, entropy: Entropy) {
            let id = EventId::mint(at(millis), &entropy);
            prop_assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
            prop_assert_eq!(id.minted_at(), at(millis));
        }

        #[test]
        fn later_ids_sort_later(a in 0i64..1 << 47, b in 0i64..1 << 47, x: Entropy, y: Entropy) {
            prop_assume!(a < b);
            prop_assert!(AppId::mint(at(a), &x).to_string() < AppId::mint(at(b), &y).to_string());
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = text.parse::<AppId>();
        }
    }
}
