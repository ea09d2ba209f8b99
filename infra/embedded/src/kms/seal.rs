//! What a ciphertext is: version, key id, nonce, and AES-256-GCM's output with the encryption context authenticated.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::keys::Key;
use crate::wire::{Refusal, dashed, random};

const VERSION: u8 = 1;
const KEY_ID: std::ops::Range<usize> = 1..17;
const NONCE: std::ops::Range<usize> = 17..17 + NONCE_LEN;
const HEADER: usize = NONCE.end;

pub(super) fn seal(key: &Key, context: &BTreeMap<String, String>, plaintext: &[u8]) -> Result<Vec<u8>, Refusal> {
    let failed = |error| Refusal::internal("KMSInternalException", error);
    let nonce: [u8; NONCE_LEN] = random().map_err(failed)?;
    let mut sealed = plaintext.to_vec();
    let aad = Aad::from(authenticated(key, context));
    cipher(key)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).map_err(failed)?;
    Ok([&[VERSION][..], &key.id_bytes()?, &nonce, &sealed].concat())
}

pub(super) fn open(key: &Key, context: &BTreeMap<String, String>, blob: Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let nonce = Nonce::try_assume_unique_for_key(&blob[NONCE]).map_err(|_| invalid_ciphertext())?;
    let mut sealed = blob[HEADER..].to_vec();
    let aad = Aad::from(authenticated(key, context));
    let plaintext = cipher(key)?.open_in_place(nonce, aad, &mut sealed).map_err(|_| invalid_ciphertext())?;
    Ok(plaintext.to_vec())
}

/// The key that a blob says it was sealed with; nothing is proven yet.
pub(super) fn key_id(blob: &[u8]) -> Result<String, Refusal> {
    if blob.len() < HEADER + AES_256_GCM.tag_len() || blob[0] != VERSION {
        return Err(invalid_ciphertext());
    }
    let id = <[u8; 16]>::try_from(&blob[KEY_ID]).map_err(|_| invalid_ciphertext())?;
    Ok(dashed(&id))
}

fn cipher(key: &Key) -> Result<LessSafeKey, Refusal> {
    let key = UnboundKey::new(&AES_256_GCM, &key.material)
        .map_err(|error| Refusal::internal("KMSInternalException", error))?;
    Ok(LessSafeKey::new(key))
}

/// The key's id and the context; lengths keep `{"ab": "c"}` and `{"a": "bc"}` apart.
fn authenticated(key: &Key, context: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = key.id.as_bytes().to_vec();
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// AWS gives no message, so as not to say what is wrong.
fn invalid_ciphertext() -> Refusal {
    Refusal::new("InvalidCiphertextException", "")
}
