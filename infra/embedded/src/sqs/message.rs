//! A message on its way in: what it may hold, and the digests SQS gives of it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::queue::{Queue, invalid_parameter};
use crate::wire::{Refusal, uuid};

/// A message attribute's type and value.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attribute {
    data_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<String>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
}

pub(super) type Attributes = BTreeMap<String, Attribute>;

/// What a caller sends, alone or in a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Draft {
    pub(super) message_body: String,
    pub(super) delay_seconds: Option<i64>,
    pub(super) message_attributes: Attributes,
    pub(super) message_system_attributes: Attributes,
}

/// A message that may be stored.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: String,
    pub(super) body_md5: String,
    pub(super) attributes: Attributes,
    pub(super) trace: Option<String>,
    /// `MD5OfMessageAttributes` and `MD5OfMessageSystemAttributes`.
    pub(super) md5s: [Option<String>; 2],
    pub(super) delay_ms: i64,
}

impl Draft {
    /// What counts towards the size limits.
    pub(super) fn size(&self) -> i64 {
        let attributes = self.message_attributes.iter();
        let attributes = attributes.map(|(name, value)| name.len() + value.data_type.len() + value.bytes().len());
        (self.message_body.len() + attributes.sum::<usize>()) as i64
    }

    /// The message that `queue` would hold, or why it would not.
    pub(super) fn accept(self, queue: &Queue) -> Result<Message, Refusal> {
        if self.message_body.is_empty() {
            return Err(Refusal::named(
                "MissingRequiredParameterException",
                "MissingParameter",
                "The request must contain the parameter MessageBody.",
            ));
        }
        let most = queue.number("MaximumMessageSize");
        if self.size() > most {
            return Err(invalid_parameter(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {most} bytes."
            )));
        }
        check_text(&self.message_body)?;
        let delay = self.delay_seconds.unwrap_or_else(|| queue.number("DelaySeconds"));
        if !(0..=900).contains(&delay) {
            return Err(invalid_parameter(format!(
                "Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
            )));
        }
        check_attributes(&self.message_attributes)?;
        if self.message_system_attributes.keys().any(|name| name != "AWSTraceHeader") {
            return Err(invalid_parameter("The only message system attribute is AWSTraceHeader."));
        }
        let trace = self.message_system_attributes.get("AWSTraceHeader");
        Ok(Message {
            id: uuid().map_err(|error| Refusal::internal("InternalFailure", error))?,
            body_md5: md5_hex(self.message_body.as_bytes()),
            body: self.message_body,
            trace: trace.and_then(|header| header.string_value.clone()),
            md5s: [md5_of(&self.message_attributes), md5_of(&self.message_system_attributes)],
            attributes: self.message_attributes,
            delay_ms: delay * 1000,
        })
    }
}

impl Attribute {
    fn is_binary(&self) -> bool {
        self.data_type.split('.').next() == Some("Binary")
    }

    fn bytes(&self) -> Vec<u8> {
        match (self.is_binary(), &self.string_value, &self.binary_value) {
            (false, Some(text), _) => text.clone().into_bytes(),
            (true, _, Some(text)) => BASE64_STANDARD.decode(text).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}

/// The characters of XML 1.0, which are the ones SQS takes.
fn check_text(text: &str) -> Result<(), Refusal> {
    // Rust's chars are never surrogates, so only these are left to refuse.
    let outside = |c: char| (c < '\u{20}' && !['\t', '\n', '\r'].contains(&c)) || ['\u{fffe}', '\u{ffff}'].contains(&c);
    if text.contains(outside) {
        let message = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | \
                       #xE000 to #xFFFD | #x10000 to #x10FFFF";
        return Err(Refusal::new("InvalidMessageContents", message));
    }
    Ok(())
}

fn check_attributes(attributes: &Attributes) -> Result<(), Refusal> {
    if attributes.len() > 10 {
        let message = format!("Number of message attributes [{}] exceeds the allowed maximum [10].", attributes.len());
        return Err(invalid_parameter(message));
    }
    for (name, attribute) in attributes {
        let lower = name.to_ascii_lowercase();
        let named = (1..=256).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !(name.starts_with('.') || name.ends_with('.') || name.contains(".."))
            && !(lower.starts_with("aws.") || lower.starts_with("amazon."));
        if !named {
            return Err(invalid_parameter(format!("Invalid message attribute name {name:?}.")));
        }
        let kind = attribute.data_type.split('.').next().unwrap_or_default();
        if !["String", "Number", "Binary"].contains(&kind) || attribute.data_type.len() > 256 {
            return Err(invalid_parameter(format!(
                "The message attribute '{name}' has an invalid message attribute type, the set of supported type \
                 prefixes is Binary, Number, and String."
            )));
        }
        let value = attribute.bytes();
        if value.is_empty() {
            return Err(invalid_parameter(format!(
                "The message attribute '{name}' must contain a non-empty message attribute value of type {kind}."
            )));
        }
        match (kind, &attribute.string_value) {
            ("String", Some(text)) => check_text(text)?,
            ("Number", Some(text)) if text.parse::<f64>().is_err() => {
                let message = format!("Can't cast the value of message (user) attribute '{name}' to a number.");
                return Err(invalid_parameter(message));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn md5_hex(bytes: &[u8]) -> String {
    format!("{:x}", md5::compute(bytes))
}

/// The digest of attributes in the order of their names: name, type, one byte for the kind of value, value, each text
/// led by its length in four bytes.
pub(super) fn md5_of(attributes: &Attributes) -> Option<String> {
    let mut digest = md5::Context::new();
    let mut part = |bytes: &[u8], kind: &[u8]| {
        digest.consume(kind);
        digest.consume((bytes.len() as u32).to_be_bytes());
        digest.consume(bytes);
    };
    for (name, attribute) in attributes {
        part(name.as_bytes(), &[]);
        part(attribute.data_type.as_bytes(), &[]);
        part(&attribute.bytes(), if attribute.is_binary() { &[2] } else { &[1] });
    }
    (!attributes.is_empty()).then(|| format!("{:x}", digest.compute()))
}
