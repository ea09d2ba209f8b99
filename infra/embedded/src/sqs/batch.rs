//! Operations on up to ten entries, each of which succeeds or fails by itself.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::handle::{Act, ByHandle};
use super::message::Draft;
use super::queue::{LARGEST_MESSAGE, is_identifier};
use super::store::{Store, failed};
use super::{Sqs, find, name_in_url, sent};
use crate::wire::{self, Answer, Refusal};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<T> {
    queue_url: String,
    #[serde(default = "Vec::new")]
    entries: Vec<Entry<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<T> {
    id: String,
    #[serde(flatten)]
    what: T,
}

/// The batch, if its entries are few and told apart by their ids.
fn batch<T: DeserializeOwned>(body: &[u8]) -> Result<Batch<T>, Refusal> {
    let batch: Batch<T> = wire::input(body)?;
    let entries = &batch.entries;
    if entries.is_empty() {
        return Err(Refusal::named(
            "EmptyBatchRequest",
            "AWS.SimpleQueueService.EmptyBatchRequest",
            "There should be at least one entry in the request.",
        ));
    }
    if entries.len() > 10 {
        return Err(Refusal::named(
            "TooManyEntriesInBatchRequest",
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            format!("Maximum number of entries per request are 10. You have sent {}.", entries.len()),
        ));
    }
    if !entries.iter().all(|entry| is_identifier(&entry.id)) {
        return Err(Refusal::named(
            "InvalidBatchEntryId",
            "AWS.SimpleQueueService.InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 \
             letters long.",
        ));
    }
    let mut ids = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !ids.insert(&entry.id)) {
        return Err(Refusal::named(
            "BatchEntryIdsNotDistinct",
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            format!("Id {} repeated.", twice.id),
        ));
    }
    Ok(batch)
}

/// What became of the entries, as it is answered.
#[derive(Default)]
struct Outcomes {
    successful: Vec<Value>,
    failed: Vec<Value>,
}

impl Outcomes {
    fn fail(&mut self, id: &str, refusal: &Refusal) {
        self.failed.push(json!({
            "Id": id,
            "SenderFault": refusal.status < 500,
            "Code": refusal.code(),
            "Message": refusal.message,
        }));
    }

    fn answer(self) -> Value {
        json!({ "Successful": self.successful, "Failed": self.failed })
    }
}

pub(super) fn send(sqs: &Sqs, body: &[u8]) -> Answer {
    let Batch { queue_url, entries } = batch::<Draft>(body)?;
    let queue = sqs.with(|store, _| find(store, &queue_url))?;
    let size: i64 = entries.iter().map(|entry| entry.what.size()).sum();
    if size > LARGEST_MESSAGE {
        return Err(Refusal::named(
            "BatchRequestTooLong",
            "AWS.SimpleQueueService.BatchRequestTooLong",
            format!("Batch requests cannot be longer than {LARGEST_MESSAGE} bytes. You have sent {size} bytes."),
        ));
    }
    let mut outcomes = Outcomes::default();
    let mut messages = Vec::with_capacity(entries.len());
    for Entry { id, what } in entries {
        match what.accept(&queue) {
            Ok(message) => {
                let mut answer = sent(&message);
                answer["Id"] = json!(id);
                outcomes.successful.push(answer);
                messages.push(message);
            }
            Err(refusal) => outcomes.fail(&id, &refusal),
        }
    }
    sqs.with(|store, now_ms| store.send(&queue, &messages, now_ms).map_err(failed))?;
    sqs.wake(&queue.name);
    Ok(outcomes.answer())
}

/// Does the same to each entry's message.
pub(super) fn each(sqs: &Sqs, body: &[u8], act: Act) -> Answer {
    let Batch { queue_url, entries } = batch::<ByHandle>(body)?;
    let mut outcomes = Outcomes::default();
    sqs.with(|store, now_ms| {
        let queue = find(store, &queue_url)?;
        let one_by_one = |store: &Store| {
            for Entry { id, what } in &entries {
                match act(store, &queue, now_ms, what) {
                    Ok(()) => outcomes.successful.push(json!({ "Id": id })),
                    Err(refusal) => outcomes.fail(id, &refusal),
                }
            }
        };
        store.together(one_by_one).map_err(failed)
    })?;
    sqs.wake(name_in_url(&queue_url));
    Ok(outcomes.answer())
}
