//! KMS: symmetric keys, their aliases and states, and envelope encryption, in AWS's JSON 1.1 protocol.

mod keys;
mod seal;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::state_dir::StateDir;
use crate::wire::{self, Answer, Refusal};
use crate::{Service, StartError};
use keys::{Key, Keys};

pub(crate) struct Kms {
    /// `None` once closed.
    keys: Mutex<Option<Keys>>,
    clock: Arc<Clock>,
}

pub(crate) fn router(kms: Arc<Kms>) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::max(wire::LARGEST_BODY)).with_state(kms)
}

async fn handle(State(kms): State<Arc<Kms>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    wire::respond(Service::Kms, kms.call(wire::operation(&headers), &body))
}

/// Every member that any of the operations reads; the SDKs check which belong to which.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    key_id: Option<String>,
    description: String,
    key_spec: Option<String>,
    customer_master_key_spec: Option<String>,
    key_usage: Option<String>,
    alias_name: String,
    target_key_id: String,
    number_of_bytes: Option<usize>,
    encryption_context: BTreeMap<String, String>,
    plaintext: Option<String>,
    ciphertext_blob: Option<String>,
    pending_window_in_days: Option<i64>,
    source_key_id: Option<String>,
    source_encryption_context: BTreeMap<String, String>,
    destination_key_id: Option<String>,
    destination_encryption_context: BTreeMap<String, String>,
}

impl Kms {
    pub(crate) fn open(state: &StateDir, clock: Arc<Clock>) -> Result<Self, StartError> {
        Ok(Kms { keys: Mutex::new(Some(Keys::open(state)?)), clock })
    }

    pub(crate) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Keys>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, operation: &str, body: &[u8]) -> Answer {
        let input: Input = wire::input(body)?;
        let mut keys = self.lock();
        let keys = keys.as_mut().ok_or_else(|| Refusal::internal("KMSInternalException", "shut down"))?;
        let now_ms = self.clock.now_ms();
        keys.destroy_due(now_ms)?;
        match operation {
            "CreateKey" => create_key(keys, input, now_ms),
            "DescribeKey" => Ok(json!({ "KeyMetadata": keys.find(&name(input.key_id)?)?.metadata() })),
            "ListKeys" => {
                let keys = keys.all()?;
                let keys: Vec<_> = keys.iter().map(|key| json!({ "KeyId": key.id, "KeyArn": key.arn() })).collect();
                Ok(json!({ "Keys": keys, "Truncated": false }))
            }
            "CreateAlias" => create_alias(keys, &input, now_ms),
            "DeleteAlias" => keys.delete_alias(&input.alias_name).map(|()| Value::Null),
            "ListAliases" => list_aliases(keys, input),
            "EnableKey" => change_state(keys, input, keys::ENABLED),
            "DisableKey" => change_state(keys, input, keys::DISABLED),
            "ScheduleKeyDeletion" => schedule_deletion(keys, input, now_ms),
            "CancelKeyDeletion" => cancel_deletion(keys, input),
            "Encrypt" => {
                let plaintext = bytes("plaintext", input.plaintext.as_deref(), 4096)?;
                let key = usable(keys.find(&name(input.key_id)?)?)?;
                let sealed = seal::seal(&key, &input.encryption_context, &plaintext)?;
                Ok(json!({
                    "CiphertextBlob": BASE64_STANDARD.encode(sealed),
                    "KeyId": key.arn(),
                    "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                }))
            }
            "Decrypt" => {
                let (key, plaintext) =
                    open(keys, input.ciphertext_blob.as_deref(), input.key_id, &input.encryption_context)?;
                Ok(json!({
                    "Plaintext": BASE64_STANDARD.encode(plaintext),
                    "KeyId": key.arn(),
                    "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                }))
            }
            "ReEncrypt" => {
                let (source, plaintext) = open(
                    keys,
                    input.ciphertext_blob.as_deref(),
                    input.source_key_id,
                    &input.source_encryption_context,
                )?;
                let key = usable(keys.find(&name(input.destination_key_id)?)?)?;
                let sealed = seal::seal(&key, &input.destination_encryption_context, &plaintext)?;
                Ok(json!({
                    "CiphertextBlob": BASE64_STANDARD.encode(sealed),
                    "KeyId": key.arn(),
                    "SourceKeyId": source.arn(),
                    "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                    "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                }))
            }
            "GenerateDataKey" => data_key(keys, input).map(|(mut answer, plaintext)| {
                answer["Plaintext"] = BASE64_STANDARD.encode(plaintext).into();
                answer
            }),
            "GenerateDataKeyWithoutPlaintext" => data_key(keys, input).map(|(answer, _)| answer),
            "GenerateRandom" => Ok(json!({ "Plaintext": BASE64_STANDARD.encode(random(input.number_of_bytes)?) })),
            other => Err(Refusal::new("UnknownOperationException", format!("this stand-in does not offer {other:?}"))),
        }
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationException", message)
}

fn name(key_id: Option<String>) -> Result<String, Refusal> {
    key_id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| invalid("Value at 'keyId' failed to satisfy constraint: Member must not be null"))
}

/// A blob of 1 to `most` bytes.
fn bytes(member: &str, text: Option<&str>, most: usize) -> Result<Vec<u8>, Refusal> {
    let bytes = BASE64_STANDARD
        .decode(text.unwrap_or_default())
        .map_err(|error| Refusal::new("SerializationException", error.to_string()))?;
    if bytes.is_empty() || bytes.len() > most {
        return Err(invalid(format!(
            "Value at '{member}' failed to satisfy constraint: Member must have length between 1 and {most}"
        )));
    }
    Ok(bytes)
}

/// Refuses keys that must not be used.
fn usable(key: Key) -> Result<Key, Refusal> {
    match key.state.as_str() {
        keys::ENABLED => Ok(key),
        keys::DISABLED => Err(Refusal::new("DisabledException", format!("{} is disabled.", key.arn()))),
        _ => Err(pending_deletion(&key)),
    }
}

fn pending_deletion(key: &Key) -> Refusal {
    Refusal::new("KMSInvalidStateException", format!("{} is pending deletion.", key.arn()))
}

fn create_key(keys: &mut Keys, input: Input, now_ms: i64) -> Answer {
    let spec = input.key_spec.or(input.customer_master_key_spec);
    if spec.is_some_and(|spec| spec != "SYMMETRIC_DEFAULT")
        || input.key_usage.is_some_and(|usage| usage != "ENCRYPT_DECRYPT")
    {
        return Err(Refusal::new(
            "UnsupportedOperationException",
            "this stand-in offers only SYMMETRIC_DEFAULT keys for ENCRYPT_DECRYPT",
        ));
    }
    Ok(json!({ "KeyMetadata": keys.create(&input.description, now_ms)?.metadata() }))
}

fn create_alias(keys: &mut Keys, input: &Input, now_ms: i64) -> Answer {
    let alias = input.alias_name.as_str();
    let Some(rest) = alias.strip_prefix("alias/") else {
        return Err(invalid("Alias must start with the prefix \"alias/\"."));
    };
    if rest.is_empty() || rest.len() > 250 || !rest.chars().all(|c| c.is_ascii_alphanumeric() || "/_-".contains(c)) {
        return Err(Refusal::new("InvalidAliasNameException", format!("the alias name {alias:?} is not valid")));
    }
    if rest.starts_with("aws/") {
        return Err(Refusal::new("NotAuthorizedException", "alias/aws/ is reserved for AWS's own keys"));
    }
    let key = keys.find(&input.target_key_id)?;
    if key.state == keys::PENDING_DELETION {
        return Err(pending_deletion(&key));
    }
    keys.create_alias(alias, &key, now_ms).map(|()| Value::Null)
}

fn list_aliases(keys: &Keys, input: Input) -> Answer {
    let of = input.key_id.map(|id| keys.find(&id)).transpose()?;
    let aliases: Vec<_> = keys
        .aliases()?
        .into_iter()
        .filter(|alias| of.as_ref().is_none_or(|key| key.id == alias.key_id))
        .map(|alias| {
            json!({
                "AliasName": alias.name,
                "AliasArn": keys::arn(&alias.name),
                "TargetKeyId": alias.key_id,
                "CreationDate": seconds(alias.created_ms),
                "LastUpdatedDate": seconds(alias.created_ms),
            })
        })
        .collect();
    Ok(json!({ "Aliases": aliases, "Truncated": false }))
}

fn change_state(keys: &Keys, input: Input, state: &str) -> Answer {
    let key = keys.find(&name(input.key_id)?)?;
    if key.state == keys::PENDING_DELETION {
        return Err(pending_deletion(&key));
    }
    keys.set_state(&key, state, None).map(|()| Value::Null)
}

fn schedule_deletion(keys: &Keys, input: Input, now_ms: i64) -> Answer {
    let key = keys.find(&name(input.key_id)?)?;
    let days = input.pending_window_in_days.unwrap_or(30);
    if !(7..=30).contains(&days) {
        return Err(invalid("PendingWindowInDays must be between 7 and 30"));
    }
    if key.state == keys::PENDING_DELETION {
        return Err(pending_deletion(&key));
    }
    let deletion_ms = now_ms + days * 24 * 60 * 60 * 1000;
    keys.set_state(&key, keys::PENDING_DELETION, Some(deletion_ms))?;
    Ok(json!({
        "KeyId": key.arn(),
        "DeletionDate": seconds(deletion_ms),
        "KeyState": keys::PENDING_DELETION,
        "PendingWindowInDays": days,
    }))
}

fn cancel_deletion(keys: &Keys, input: Input) -> Answer {
    let key = keys.find(&name(input.key_id)?)?;
    if key.state != keys::PENDING_DELETION {
        let message = format!("{} is not pending deletion.", key.arn());
        return Err(Refusal::new("KMSInvalidStateException", message));
    }
    keys.set_state(&key, keys::DISABLED, None)?;
    Ok(json!({ "KeyId": key.arn() }))
}

/// Decrypts with the key that the blob names, and insists on `expected` if there is one.
fn open(
    keys: &Keys,
    blob: Option<&str>,
    expected: Option<String>,
    context: &BTreeMap<String, String>,
) -> Result<(Key, Vec<u8>), Refusal> {
    let blob = bytes("ciphertextBlob", blob, 6144)?;
    let expected = expected.map(|id| keys.find(&id)).transpose()?;
    let key_id = seal::key_id(&blob)?;
    if expected.is_some_and(|key| key.id != key_id) {
        let message = "The key ID in the request does not identify a CMK that can perform this operation.";
        return Err(Refusal::new("IncorrectKeyException", message));
    }
    let key = usable(keys.find(&key_id)?)?;
    let plaintext = seal::open(&key, context, blob)?;
    Ok((key, plaintext))
}

/// The answer without the plaintext, and the plaintext.
fn data_key(keys: &Keys, input: Input) -> Result<(Value, Vec<u8>), Refusal> {
    let length = match (input.key_spec.as_deref(), input.number_of_bytes) {
        (Some("AES_256"), None) => 32,
        (Some("AES_128"), None) => 16,
        (None, Some(length)) => length,
        _ => return Err(invalid("Please specify either number of bytes or key spec.")),
    };
    let key = usable(keys.find(&name(input.key_id)?)?)?;
    let plaintext = random(Some(length))?;
    let sealed = seal::seal(&key, &input.encryption_context, &plaintext)?;
    Ok((json!({ "CiphertextBlob": BASE64_STANDARD.encode(sealed), "KeyId": key.arn() }), plaintext))
}

fn random(length: Option<usize>) -> Result<Vec<u8>, Refusal> {
    let length = length.unwrap_or(0);
    if !(1..=1024).contains(&length) {
        return Err(invalid(
            "Value at 'numberOfBytes' failed to satisfy constraint: Member must be between 1 and 1024",
        ));
    }
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| Refusal::internal("KMSInternalException", error))?;
    Ok(bytes)
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}
