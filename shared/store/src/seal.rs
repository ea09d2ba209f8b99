//! The stored form of a secret: AES-256-GCM under a fresh data key, bound to its place, and committed to that key. The
//! format is fixed by the vectors in `tests/vectors/sealed.json`.
//!
//! `1 | length of wrapped (2) | wrapped data key | commitment (32) | nonce (12) | ciphertext and tag`
//!
//! Both the cipher's key and the commitment are derived from the data key by HKDF-SHA256. A ciphertext that opens under
//! two keys, which GCM alone would allow, fails at the commitment.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time,
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use domain::id::{AppId, IntegrationId};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const COMMITMENT: usize = 32;
const KEY_LABEL: &[u8] = b"click-to-call sealed v1 key";
const COMMITMENT_LABEL: &[u8] = b"click-to-call sealed v1 commitment";

/// Whose a sealed value is, within its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    /// An integration's.
    Integration(IntegrationId),
    /// The SIP provider's.
    Provider,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integration(id) => id.fmt(f),
            // No id looks like this.
            Self::Provider => f.write_str("provider"),
        }
    }
}

/// Where a sealed value belongs: it opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) app: AppId,
    pub(crate) of: Of,
    /// The secret's name, or a word that no secret can have.
    pub(crate) name: &'a str,
    /// Counts the values of that name.
    pub(crate) version: u64,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        let parts = [
            "click-to-call sealed",
            &VERSION.to_string(),
            &self.app.to_string(),
            &self.of.to_string(),
            self.name,
            &self.version.to_string(),
        ];
        // Lengths first: no two places have the same bytes.
        parts.iter().flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.bytes())).collect()
    }
}

/// It does not open: another place, another key, changed or cut bytes. Which one, nobody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not open")]
pub(crate) struct Closed;

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

fn derive(data_key: &[u8], label: &[u8]) -> Result<Zeroizing<[u8; 32]>, Closed> {
    let mut derived = Zeroizing::new([0; 32]);
    let extracted = Salt::new(HKDF_SHA256, &[]).extract(data_key);
    let label = [label];
    let expanded = extracted.expand(&label, Length).map_err(|_| Closed)?;
    expanded.fill(&mut *derived).map_err(|_| Closed)?;
    Ok(derived)
}

fn cipher(data_key: &[u8]) -> Result<LessSafeKey, Closed> {
    let key = derive(data_key, KEY_LABEL)?;
    UnboundKey::new(&AES_256_GCM, &*key).map(LessSafeKey::new).map_err(|_| Closed)
}

/// Seals `clear`. The data key must be fresh, the nonce random.
pub(crate) fn seal(
    clear: &[u8],
    place: Place<'_>,
    data_key: &[u8],
    wrapped: &[u8],
    nonce: [u8; NONCE_LEN],
) -> Result<Vec<u8>, Closed> {
    let length = u16::try_from(wrapped.len()).map_err(|_| Closed)?;
    let mut sealed = vec![VERSION];
    sealed.extend_from_slice(&length.to_be_bytes());
    sealed.extend_from_slice(wrapped);
    sealed.extend_from_slice(&*derive(data_key, COMMITMENT_LABEL)?);
    sealed.extend_from_slice(&nonce);
    // Encrypted in place, in a buffer that is wiped whatever happens.
    let mut buffer = Zeroizing::new(Vec::with_capacity(clear.len() + AES_256_GCM.tag_len()));
    buffer.extend_from_slice(clear);
    let aad = Aad::from(place.bytes());
    let tag = cipher(data_key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut buffer)
        .map_err(|_| Closed)?;
    sealed.extend_from_slice(&buffer);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// The wrapped data key in a sealed value: what the key service unwraps.
pub(crate) fn wrapped(sealed: &[u8]) -> Result<&[u8], Closed> {
    parts(sealed).map(|(wrapped, _)| wrapped)
}

fn parts(sealed: &[u8]) -> Result<(&[u8], &[u8]), Closed> {
    let [VERSION, high, low, rest @ ..] = sealed else { return Err(Closed) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    rest.split_at_checked(length).ok_or(Closed)
}

/// Opens what [`seal`] made for the same place.
pub(crate) fn open(sealed: &[u8], place: Place<'_>, data_key: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let (_, rest) = parts(sealed)?;
    let (commitment, rest) = rest.split_at_checked(COMMITMENT).ok_or(Closed)?;
    let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).ok_or(Closed)?;
    constant_time::verify_slices_are_equal(commitment, &*derive(data_key, COMMITMENT_LABEL)?).map_err(|_| Closed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Closed)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length =
        cipher(data_key)?.open_in_place(nonce, Aad::from(place.bytes()), &mut buffer).map_err(|_| Closed)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Vector {
        name: String,
        app: AppId,
        integration: IntegrationId,
        secret: String,
        version: u64,
        data_key: String,
        wrapped: String,
        nonce: String,
        clear: String,
        sealed: String,
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../../../tests/vectors/sealed.json")).expect("vectors")
    }

    fn bytes(text: &str) -> Vec<u8> {
        BASE64.decode(text).expect("base64")
    }

    impl Vector {
        fn place(&self) -> Place<'_> {
            Place { app: self.app, of: Of::Integration(self.integration), name: &self.secret, version: self.version }
        }
    }

    #[test]
    fn the_format_is_the_one_of_the_vectors() {
        for vector in vectors() {
            let (data_key, nonce) = (bytes(&vector.data_key), bytes(&vector.nonce).try_into().expect("12 bytes"));
            let sealed = seal(vector.clear.as_bytes(), vector.place(), &data_key, &bytes(&vector.wrapped), nonce);
            assert_eq!(BASE64.encode(sealed.expect("sealed")), vector.sealed, "{}", vector.name);
            let sealed = bytes(&vector.sealed);
            assert_eq!(wrapped(&sealed), Ok(bytes(&vector.wrapped).as_slice()));
            assert_eq!(*open(&sealed, vector.place(), &data_key).expect("opened"), vector.clear.as_bytes());
        }
    }

    #[test]
    fn nothing_opens_elsewhere_or_changed() {
        let vector = &vectors()[0];
        let (sealed, key, place) = (bytes(&vector.sealed), bytes(&vector.data_key), vector.place());
        let other_app = "app_00000000000000000000000000".parse().expect("an id");
        let other_integration = "int_00000000000000000000000000".parse().expect("an id");
        for elsewhere in [
            Place { app: other_app, ..place },
            Place { of: Of::Integration(other_integration), ..place },
            Place { of: Of::Provider, ..place },
            Place { name: "other", ..place },
            Place { version: place.version + 1, ..place },
        ] {
            assert_eq!(open(&sealed, elsewhere, &key).err(), Some(Closed), "{elsewhere:?}");
        }
        assert!(open(&sealed, place, &[0; 32]).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let is_wrapped_key = (3..3 + bytes(&vector.wrapped).len()).contains(&at);
            // The wrapped key is checked by the key service, with the context; all else here.
            assert_eq!(open(&changed, place, &key).is_ok(), is_wrapped_key, "byte {at}");
            assert!(open(&sealed[..at], place, &key).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_ciphertext_is_committed_to_its_key() {
        let vector = &vectors()[0];
        let (key, other) = (bytes(&vector.data_key), [7; 32]);
        let under = |key: &[u8]| seal(b"x", vector.place(), key, b"w", [1; NONCE_LEN]).expect("sealed");
        // One key's commitment before the other's ciphertext.
        let mixed = [&under(&key)[..4 + COMMITMENT], &under(&other)[4 + COMMITMENT..]].concat();
        assert!(open(&mixed, vector.place(), &key).is_err() && open(&mixed, vector.place(), &other).is_err());
    }
}
