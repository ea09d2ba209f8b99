//! A queue: its name, its attributes and what they may be set to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::wire::Refusal;
use crate::{ACCOUNT_ID, REGION};

/// AWS's limit for one message and for all messages of one batch.
pub(super) const LARGEST_MESSAGE: i64 = 1_048_576;

/// Attributes that are whole numbers: least, most, default.
const NUMBERS: [(&str, i64, i64, i64); 6] = [
    ("DelaySeconds", 0, 900, 0),
    ("KmsDataKeyReusePeriodSeconds", 60, 86_400, 300),
    ("MaximumMessageSize", 1024, LARGEST_MESSAGE, LARGEST_MESSAGE),
    ("MessageRetentionPeriod", 60, 1_209_600, 345_600),
    ("ReceiveMessageWaitTimeSeconds", 0, 20, 0),
    ("VisibilityTimeout", 0, 43_200, 30),
];

/// Attributes that are text; setting one to nothing removes it.
const TEXTS: [&str; 5] = ["KmsMasterKeyId", "Policy", "RedriveAllowPolicy", "RedrivePolicy", "SqsManagedSseEnabled"];

#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) id: i64,
    pub(super) name: String,
    /// Only what was set; defaults are not stored.
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) created_ms: i64,
    pub(super) modified_ms: i64,
    pub(super) purged_ms: Option<i64>,
}

/// Where messages go after too many receives.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Redrive {
    dead_letter_target_arn: String,
    /// A number, or a number as text: CloudFormation sends either.
    max_receive_count: Value,
}

impl Redrive {
    pub(super) fn target(&self) -> &str {
        name_in_arn(&self.dead_letter_target_arn)
    }

    pub(super) fn most_receives(&self) -> i64 {
        match &self.max_receive_count {
            Value::String(text) => text.parse().unwrap_or(0),
            other => other.as_i64().unwrap_or(0),
        }
    }
}

pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT_ID}:{name}")
}

pub(super) fn name_in_arn(arn: &str) -> &str {
    arn.rsplit_once(':').map_or(arn, |(_, name)| name)
}

/// Refuses what is no standard queue's name.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.ends_with(".fifo") {
        return Err(invalid_parameter(format!("{name:?} is a FIFO queue; this stand-in offers standard queues only.")));
    }
    if !is_identifier(name) {
        return Err(invalid_parameter(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ));
    }
    Ok(())
}

/// What queue names and batch entry ids look like.
pub(super) fn is_identifier(text: &str) -> bool {
    (1..=80).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

pub(super) fn invalid_parameter(message: impl Into<String>) -> Refusal {
    Refusal::named("InvalidParameterValueException", "InvalidParameterValue", message)
}

pub(super) fn unknown_attribute(name: &str) -> Refusal {
    Refusal::new("InvalidAttributeName", format!("Unknown Attribute {name}."))
}

/// Whether it can be set on a queue.
pub(super) fn is_attribute(name: &str) -> bool {
    TEXTS.contains(&name) || NUMBERS.iter().any(|(known, ..)| *known == name)
}

fn invalid_attribute(name: &str) -> Refusal {
    Refusal::new("InvalidAttributeValue", format!("Invalid value for the parameter {name}."))
}

/// Whether a text attribute can have this value; nothing removes it.
fn fits(name: &str, value: &str) -> bool {
    match name {
        _ if value.is_empty() => true,
        "SqsManagedSseEnabled" => ["true", "false"].contains(&value),
        "Policy" | "RedriveAllowPolicy" | "RedrivePolicy" => serde_json::from_str::<Value>(value).is_ok(),
        _ => true,
    }
}

/// Refuses attributes that do not exist or cannot have their value. A dead-letter target's existence is not looked at.
pub(super) fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in attributes {
        if let Some((_, least, most, _)) = NUMBERS.iter().find(|(known, ..)| known == name) {
            if !value.parse::<i64>().is_ok_and(|number| (*least..=*most).contains(&number)) {
                return Err(invalid_attribute(name));
            }
        } else if name == "FifoQueue" {
            return Err(invalid_parameter("FifoQueue: this stand-in offers standard queues only."));
        } else if !is_attribute(name) {
            return Err(unknown_attribute(name));
        } else if !fits(name, value) {
            return Err(invalid_attribute(name));
        }
    }
    if let Some(policy) = attributes.get("RedrivePolicy").filter(|policy| !policy.is_empty()) {
        let redrive = serde_json::from_str::<Redrive>(policy).ok();
        if !redrive.is_some_and(|redrive| (1..=1000).contains(&redrive.most_receives())) {
            return Err(invalid_parameter(format!(
                "Value {policy} for parameter RedrivePolicy is invalid. Reason: it needs a deadLetterTargetArn, and a \
                 maxReceiveCount between 1 and 1000."
            )));
        }
    }
    Ok(())
}

impl Queue {
    /// A numeric attribute, or its default.
    pub(super) fn number(&self, name: &str) -> i64 {
        let set = self.attributes.get(name).and_then(|value| value.parse().ok());
        set.unwrap_or_else(|| NUMBERS.iter().find(|(known, ..)| *known == name).map_or(0, |(.., default)| *default))
    }

    pub(super) fn redrive(&self) -> Option<Redrive> {
        serde_json::from_str(self.attributes.get("RedrivePolicy")?).ok()
    }

    /// Messages sent at or before this time are past the retention period.
    pub(super) fn expired_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.number("MessageRetentionPeriod") * 1000
    }

    /// Takes on checked attributes.
    pub(super) fn set(&mut self, attributes: BTreeMap<String, String>) {
        self.attributes.extend(attributes);
        self.attributes.retain(|_, value| !value.is_empty());
    }

    /// Whether a second creation asks for the same queue: attributes it does not name are not compared.
    pub(super) fn matches(&self, asked: &BTreeMap<String, String>) -> bool {
        let described = self.describe();
        asked.iter().all(|(name, value)| described.get(name).map_or(value.is_empty(), |have| have == value))
    }

    /// All attributes but the approximate counts.
    pub(super) fn describe(&self) -> BTreeMap<String, String> {
        let encrypted_by_kms = self.attributes.contains_key("KmsMasterKeyId");
        let mut all: BTreeMap<_, _> = NUMBERS
            .iter()
            .filter(|(name, ..)| encrypted_by_kms || *name != "KmsDataKeyReusePeriodSeconds")
            .map(|(name, .., default)| ((*name).to_owned(), default.to_string()))
            .collect();
        all.insert("SqsManagedSseEnabled".to_owned(), (!encrypted_by_kms).to_string());
        all.insert("QueueArn".to_owned(), arn(&self.name));
        all.insert("CreatedTimestamp".to_owned(), (self.created_ms / 1000).to_string());
        all.insert("LastModifiedTimestamp".to_owned(), (self.modified_ms / 1000).to_string());
        all.extend(self.attributes.clone());
        all
    }
}
