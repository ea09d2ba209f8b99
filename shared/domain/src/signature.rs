//! Signatures of deliveries after Standard Webhooks v1: HMAC-SHA256 over `id.timestamp.body`, keys written `whsec_…`.

use std::{fmt, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

/// The header that carries signatures.
pub const HEADER: &str = "webhook-signature";
/// After a rotation the key before it signs as well, for this long.
pub const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of a key that we make.
pub const KEY_BYTES: usize = 32;
const PREFIX: &str = "whsec_";
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that signs one integration's deliveries. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

/// The text or the bytes are no signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key is whsec_ and base64 of 24 to 64 bytes")]
pub struct NotAKey;

impl SigningSecret {
    /// A key of these bytes.
    ///
    /// # Errors
    /// When there are fewer than 24 or more than 64.
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Result<Self, NotAKey> {
        if BYTES.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NotAKey) }
    }

    /// Reads a key as receivers are given it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let bytes = BASE64.decode(text.strip_prefix(PREFIX).ok_or(NotAKey)?).map_err(|_| NotAKey)?;
        Self::from_bytes(Zeroizing::new(bytes))
    }

    /// The key as receivers are given it. Never log it.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 4 * self.0.len().div_ceil(3)));
        text.push_str(PREFIX);
        BASE64.encode_string(&*self.0, &mut text);
        text
    }

    /// One signature, with its version.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

/// The value of [`HEADER`]: one signature for each key, blanks between them.
pub fn sign(keys: &[SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_specification() {
        let key = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a key");
        let (id, timestamp, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&key), id, timestamp, body), expected);
        let other = SigningSecret::from_bytes(Zeroizing::new(vec![7; 32])).expect("a key");
        let both = sign(&[other, key], id, timestamp, body);
        assert_eq!(both.split(' ').nth(1), Some(expected));
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        for length in [24, 32, 64] {
            let key = SigningSecret::from_bytes(Zeroizing::new(vec![9; length])).expect("a key");
            let text = key.expose();
            assert_eq!(*SigningSecret::parse(&text).expect("a key").0, vec![9; length]);
            assert_eq!(format!("{key:?}"), "SigningSecret");
        }
        for length in [0, 23, 65] {
            assert!(SigningSecret::from_bytes(Zeroizing::new(vec![9; length])).is_err(), "{length}");
        }
        for text in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert_eq!(SigningSecret::parse(text).err(), Some(NotAKey), "{text}");
        }
    }
}
