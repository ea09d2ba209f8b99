//! A queue: what is sent is held by SQS before the call returns.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    config::{Config, timeout::TimeoutConfig},
    types::{DeleteMessageBatchRequestEntry, MessageSystemAttributeName, SendMessageBatchRequestEntry},
};
use serde::Serialize;

use crate::{Aws, Error};

/// Messages one batch may hold.
pub const MAX_BATCH: usize = 10;
/// Sends of one batch, when SQS refuses some of its messages.
const SENDS: usize = 3;

/// One queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    url: String,
}

/// A message that was received and is now hidden from others for the queue's visibility timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// SQS's id for it.
    pub id: String,
    /// What deletes it.
    pub receipt: String,
    /// Its body.
    pub body: String,
    /// How often it has been received, this time included.
    pub receive_count: u32,
    /// When it was sent, in milliseconds since the epoch.
    pub sent_millis: i64,
}

impl Queue {
    /// The queue at this address.
    pub fn open(aws: &Aws, url: impl Into<String>) -> Self {
        Self { client: aws.sqs(), url: url.into() }
    }

    /// Sends every message, each after its delay in whole seconds. Messages go as JSON.
    ///
    /// # Errors
    /// When any message may not have been taken; some may have been.
    pub async fn send<M: Serialize>(&self, messages: &[(M, i32)]) -> Result<(), Error> {
        for batch in messages.chunks(MAX_BATCH) {
            let mut entries = Vec::with_capacity(batch.len());
            for (index, (message, delay)) in batch.iter().enumerate() {
                let body =
                    serde_json::to_string(message).map_err(|error| Error::unreadable("a message to send", error))?;
                let entry = SendMessageBatchRequestEntry::builder()
                    .id(index.to_string())
                    .message_body(body)
                    .set_delay_seconds((*delay > 0).then_some(*delay))
                    .build()
                    .map_err(Error::unavailable("SendMessageBatch"))?;
                entries.push(entry);
            }
            self.send_batch(entries).await?;
        }
        Ok(())
    }

    async fn send_batch(&self, mut entries: Vec<SendMessageBatchRequestEntry>) -> Result<(), Error> {
        let mut cause = String::new();
        for _ in 0..SENDS {
            let answer = self
                .client
                .send_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries.clone()))
                .send()
                .await
                .map_err(Error::unavailable("SendMessageBatch"))?;
            if answer.failed.is_empty() {
                return Ok(());
            }
            cause = answer.failed.iter().map(|failed| failed.code.as_str()).collect::<Vec<_>>().join(", ");
            entries.retain(|entry| answer.failed.iter().any(|failed| failed.id == entry.id));
        }
        Err(Error::Unavailable { operation: "SendMessageBatch", cause })
    }

    /// Receives up to `max` messages (at most 10), waiting up to `wait` (at most 20 s) for the first.
    ///
    /// # Errors
    /// When SQS cannot be reached.
    pub async fn receive(&self, max: i32, wait: Duration) -> Result<Vec<Received>, Error> {
        let patience = TimeoutConfig::builder()
            .operation_attempt_timeout(wait + Duration::from_secs(5))
            .operation_timeout(wait + Duration::from_secs(10))
            .build();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(max)
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(20))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .customize()
            .config_override(Config::builder().timeout_config(patience))
            .send()
            .await
            .map_err(Error::unavailable("ReceiveMessage"))?;
        let received = answer.messages.unwrap_or_default().into_iter().map(|message| {
            let attribute = |name| {
                message.attributes.as_ref().and_then(|all| all.get(&name)).and_then(|text: &String| text.parse().ok())
            };
            let count: Option<i64> = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
            let sent: Option<i64> = attribute(MessageSystemAttributeName::SentTimestamp);
            Received {
                receive_count: count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
                sent_millis: sent.unwrap_or(0),
                id: message.message_id.unwrap_or_default(),
                receipt: message.receipt_handle.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
            }
        });
        Ok(received.collect())
    }

    /// Deletes messages by their receipts.
    ///
    /// # Errors
    /// When any may not have been deleted; it will be received again.
    pub async fn delete(&self, receipts: &[String]) -> Result<(), Error> {
        for batch in receipts.chunks(MAX_BATCH) {
            let mut entries = Vec::with_capacity(batch.len());
            for (index, receipt) in batch.iter().enumerate() {
                let entry =
                    DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(receipt).build();
                entries.push(entry.map_err(Error::unavailable("DeleteMessageBatch"))?);
            }
            let answer = self
                .client
                .delete_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(Error::unavailable("DeleteMessageBatch"))?;
            if let Some(failed) = answer.failed.first() {
                return Err(Error::Unavailable { operation: "DeleteMessageBatch", cause: failed.code.clone() });
            }
        }
        Ok(())
    }
}
