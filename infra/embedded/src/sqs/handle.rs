//! Receipt handles: what they mean, and deleting or hiding the message they are for.

use serde::Deserialize;
use serde_json::Value;

use super::queue::{Queue, invalid_parameter};
use super::store::{Store, failed};
use super::{Input, Sqs, find, name_in_url};
use crate::wire::{self, Answer, Refusal};

/// What operations on one received message read.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ByHandle {
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

/// Which message a receipt handle means, and which receive of it.
pub(super) struct Handle {
    pub(super) seq: i64,
    pub(super) receipt: String,
}

/// The state of the message that a handle means.
pub(super) enum Standing {
    /// Deleted, expired, or in another queue by now.
    Gone,
    /// Received again since: this handle is an old one.
    Superseded,
    /// Its visibility timeout has run out.
    Visible,
    /// Being worked on by the handle's holder.
    InFlight,
}

/// Why a handle is no handle at all.
fn handle_is_invalid(text: &str) -> Refusal {
    Refusal::new(
        "ReceiptHandleIsInvalid",
        format!("The input receipt handle \"{text}\" is not a valid receipt handle."),
    )
}

impl Handle {
    pub(super) fn text(queue: i64, seq: i64, receipt: &str) -> String {
        format!("{queue}-{seq}-{receipt}")
    }

    /// Refuses what was never a handle of this queue.
    pub(super) fn parse(text: &str, queue: &Queue) -> Result<Self, Refusal> {
        let parts: Vec<_> = text.split('-').collect();
        match parts[..] {
            [of, seq, receipt] if of.parse() == Ok(queue.id) && receipt.len() == 32 => {
                let seq = seq.parse().map_err(|_| handle_is_invalid(text))?;
                Ok(Handle { seq, receipt: receipt.to_owned() })
            }
            _ => Err(handle_is_invalid(text)),
        }
    }
}

/// What is done to one received message of a queue at a time.
pub(super) type Act = fn(&Store, &Queue, i64, &ByHandle) -> Result<(), Refusal>;

pub(super) fn delete_message(store: &Store, queue: &Queue, now_ms: i64, input: &ByHandle) -> Result<(), Refusal> {
    let handle = Handle::parse(&input.receipt_handle, queue)?;
    match store.standing(queue, &handle, now_ms).map_err(failed)? {
        Standing::InFlight | Standing::Visible => store.delete_message(&handle).map_err(failed),
        // As AWS has it: with an old handle the request succeeds, and the message stays.
        Standing::Gone | Standing::Superseded => Ok(()),
    }
}

pub(super) fn change_visibility(store: &Store, queue: &Queue, now_ms: i64, input: &ByHandle) -> Result<(), Refusal> {
    let seconds = input.visibility_timeout.unwrap_or(-1);
    if !(0..=43_200).contains(&seconds) {
        return Err(invalid_parameter(format!(
            "Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200."
        )));
    }
    let handle = Handle::parse(&input.receipt_handle, queue)?;
    match store.standing(queue, &handle, now_ms).map_err(failed)? {
        Standing::InFlight => store.hide_message(&handle, now_ms + seconds * 1000).map_err(failed),
        Standing::Visible => Err(Refusal::named(
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            "The specified message isn't in flight.",
        )),
        Standing::Gone | Standing::Superseded => Err(invalid_parameter(format!(
            "Value {} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for \
             visibility timeout change.",
            input.receipt_handle
        ))),
    }
}

/// One message by itself.
pub(super) fn one(sqs: &Sqs, body: &[u8], act: Act) -> Answer {
    let Input { queue_url, .. } = wire::input(body)?;
    let by_handle: ByHandle = wire::input(body)?;
    sqs.with(|store, now_ms| act(store, &find(store, &queue_url)?, now_ms, &by_handle))?;
    // Long polls sleep until the message was to come back, which may be sooner now.
    sqs.wake(name_in_url(&queue_url));
    Ok(Value::Null)
}
