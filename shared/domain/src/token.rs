//! Session tokens: compact JWS (RFC 7515) with one pinned algorithm, Ed25519 (RFC 8037). Decides whether a token is
//! genuine, meant for us and in time. Verifiers hold only public keys, chosen by key id.

use std::{collections::BTreeMap, fmt, time::Duration};

use aws_lc_rs::{
    error::Unspecified,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{session::Session, time::Timestamp};

/// Clocks of two machines may differ by this much.
pub const LEEWAY: Duration = Duration::from_secs(60);
const AUDIENCE: &str = "click-to-call";
/// Longer texts are refused unread: a session's context is at most 2 KB.
const MAX_LENGTH: usize = 8_192;

/// Names a signing key: 1 to 32 characters of base64url.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub String);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Signs. Held by the session function alone.
pub struct SigningKey {
    id: KeyId,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// From 32 secret random bytes.
    ///
    /// # Errors
    /// When there are not exactly 32.
    pub fn from_seed(id: KeyId, seed: &[u8]) -> Result<Self, Unspecified> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Unspecified)?;
        Ok(Self { id, pair })
    }

    /// The public half, 32 bytes.
    pub fn public(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// Its key id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Signs a token for `session` that ends at `expiry`.
    pub fn sign(&self, session: &Session, now: Timestamp, expiry: Timestamp) -> String {
        let header = Header { alg: "EdDSA".to_owned(), typ: "JWT".to_owned(), kid: self.id.clone() };
        let claims = Claims {
            aud: AUDIENCE.to_owned(),
            iat: now.as_seconds(),
            nbf: now.as_seconds(),
            exp: expiry.as_seconds(),
            session: session.clone(),
        };
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = BASE64.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// The public keys a verifier knows.
#[derive(Clone, Debug, Default)]
pub struct VerifyingKeys(BTreeMap<KeyId, Vec<u8>>);

impl FromIterator<(KeyId, Vec<u8>)> for VerifyingKeys {
    fn from_iter<I: IntoIterator<Item = (KeyId, Vec<u8>)>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// Why a token was refused: for the log. The answer to the caller does not tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each says it in its text")]
pub enum Refusal {
    #[error("the session token is malformed")]
    Malformed,
    /// Worth a look at the key table: it may have been rotated.
    #[error("the session token names a key that is not known")]
    UnknownKey(KeyId),
    #[error("the session token's signature is wrong")]
    Forged,
    #[error("the session token has expired")]
    Expired,
    #[error("the session token is not valid yet")]
    TooEarly,
}

impl VerifyingKeys {
    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks a token and gives the session it speaks for, and when the token ends.
    ///
    /// # Errors
    /// Why it is refused. Nothing of its claims is trusted before the signature is right.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(Session, Timestamp), Refusal> {
        if token.len() > MAX_LENGTH {
            return Err(Refusal::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != "EdDSA" || header.kid.0.len() > 32 {
            return Err(Refusal::Malformed);
        }
        let Some(key) = self.0.get(&header.kid) else { return Err(Refusal::UnknownKey(header.kid)) };
        let signature = BASE64.decode(signature).map_err(|_| Refusal::Malformed)?;
        UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &signature).map_err(|_| Refusal::Forged)?;
        let claims: Claims = decode(claims)?;
        let (now, leeway) = (now.as_seconds(), i64::try_from(LEEWAY.as_secs()).unwrap_or(0));
        if claims.aud != AUDIENCE {
            Err(Refusal::Malformed)
        } else if now >= claims.exp.saturating_add(leeway) {
            Err(Refusal::Expired)
        } else if now < claims.nbf.saturating_sub(leeway) {
            Err(Refusal::TooEarly)
        } else {
            Ok((claims.session, Timestamp::from_millis(claims.exp.saturating_mul(1000))))
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: KeyId,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(flatten)]
    session: Session,
}

fn encode(part: &impl Serialize) -> String {
    // Strings, numbers and maps with string keys: JSON holds them all.
    BASE64.encode(serde_json::to_vec(part).unwrap_or_default())
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let bytes = BASE64.decode(part).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        context::Context,
        id::{AppId, SessionId},
    };

    fn now() -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(KeyId(name.into()), &[seed; 32]).expect("32 bytes")
    }

    fn known(key: &SigningKey) -> VerifyingKeys {
        [(key.id().clone(), key.public())].into_iter().collect()
    }

    fn session() -> Session {
        Session {
            id: SessionId::mint(now(), &[0; 10]),
            app: AppId::mint(now(), &[1; 10]),
            profile: None,
            routing_key: Some("sales".into()),
            context: Context::sanitise([("page", "pricing")]).0,
            preview: true,
            draft: true,
        }
    }

    fn later(seconds: u64) -> Timestamp {
        now().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        let key = key("k1", 1);
        let token = key.sign(&session(), now(), later(900));
        assert_eq!(known(&key).verify(&token, now()), Ok((session(), later(900))));
    }

    #[test]
    fn time_limits_with_leeway() {
        let key = key("k1", 1);
        let token = key.sign(&session(), later(300), later(900));
        let verify = |at| known(&key).verify(&token, at).map(|_| ());
        assert_eq!(verify(later(239)), Err(Refusal::TooEarly));
        assert_eq!(verify(later(240)), Ok(()));
        assert_eq!(verify(later(959)), Ok(()));
        assert_eq!(verify(later(960)), Err(Refusal::Expired));
    }

    #[test]
    fn forgeries_are_refused() {
        let ours = key("k1", 1);
        let keys = known(&ours);
        assert_eq!(keys.verify(&key("k1", 2).sign(&session(), now(), later(900)), now()), Err(Refusal::Forged));
        let stranger = key("k2", 2).sign(&session(), now(), later(900));
        assert_eq!(keys.verify(&stranger, now()), Err(Refusal::UnknownKey(KeyId("k2".into()))));
        let token = ours.sign(&session(), now(), later(900));
        let parts: Vec<_> = token.split('.').collect();
        for alg in ["none", "HS256", "ES256", "eddsa"] {
            let header = BASE64.encode(format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"k1"}}"#));
            let forged = format!("{header}.{}.{}", parts[1], parts[2]);
            assert_eq!(keys.verify(&forged, now()), Err(Refusal::Malformed), "{alg}");
        }
        for text in ["", ".", "..", "a.b.c", &parts[..2].join("."), &format!("{token}."), &"x".repeat(9_000)] {
            assert!(keys.verify(text, now()).is_err(), "{text}");
        }
        assert_eq!(VerifyingKeys::default().verify(&token, now()), Err(Refusal::UnknownKey(KeyId("k1".into()))));
    }

    proptest! {
        #[test]
        fn no_changed_byte_passes(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
            let key = key("k1", 1);
            let token = key.sign(&session(), now(), later(900));
            let at = at % token.len();
            let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(known(&key).verify(&changed, now()).is_err());
        }
    }
}
