//! Receiving: short and long polls, and how a received message is told.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::message::md5_of;
use super::queue::invalid_parameter;
use super::store::{Received, failed};
use super::{Sqs, find};
use crate::wire::{self, Answer, Refusal};

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    queue_url: String,
    max_number_of_messages: Option<i64>,
    wait_time_seconds: Option<i64>,
    visibility_timeout: Option<i64>,
    /// The older name of the next one; both count.
    attribute_names: Vec<String>,
    message_system_attribute_names: Vec<String>,
    message_attribute_names: Vec<String>,
}

fn within(name: &str, value: i64, least: i64, most: i64) -> Result<i64, Refusal> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(invalid_parameter(format!(
        "Value {value} for parameter {name} is invalid. Reason: Must be between {least} and {most}, if provided."
    )))
}

pub(super) async fn receive(sqs: &Sqs, body: &[u8]) -> Answer {
    let input: Input = wire::input(body)?;
    let most = within("MaxNumberOfMessages", input.max_number_of_messages.unwrap_or(1), 1, 10)? as usize;
    let wait = input.wait_time_seconds.map(|wait| within("WaitTimeSeconds", wait, 0, 20)).transpose()?;
    let hidden = input.visibility_timeout.map(|time| within("VisibilityTimeout", time, 0, 43_200)).transpose()?;
    let queue = sqs.with(|store, _| find(store, &input.queue_url))?;
    let waker = sqs.waker(&queue.name);
    let wait = wait.unwrap_or_else(|| queue.number("ReceiveMessageWaitTimeSeconds"));
    let deadline = Instant::now() + Duration::from_secs(wait as u64);

    loop {
        // Made before looking: it hears of what is sent in between too.
        let woken = waker.notified();
        let (found, now_ms) = sqs.with(|store, now_ms| {
            // Read again each time, since attributes may have changed, or the queue may be gone.
            let queue = find(store, &input.queue_url)?;
            let hidden_ms = hidden.unwrap_or_else(|| queue.number("VisibilityTimeout")) * 1000;
            Ok((store.receive(&queue, most, hidden_ms, now_ms).map_err(failed)?, now_ms))
        })?;
        if let Some(dead_letters) = &found.fed {
            sqs.wake(dead_letters);
        }
        if !found.messages.is_empty() || Instant::now() >= deadline || sqs.stopping.is_cancelled() {
            let messages: Vec<_> = found.messages.iter().map(|message| told(message, &input)).collect();
            return Ok(if messages.is_empty() { json!({}) } else { json!({ "Messages": messages }) });
        }
        let next =
            found.next_ms.map(|next_ms| Instant::now() + Duration::from_millis((next_ms - now_ms).max(1) as u64));
        tokio::select! {
            () = woken => {}
            () = sqs.stopping.cancelled() => {}
            () = tokio::time::sleep_until(next.map_or(deadline, |next| next.min(deadline))) => {}
        }
    }
}

fn told(message: &Received, input: &Input) -> Value {
    let mut answer = json!({
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": message.body_md5,
        "Body": message.body,
    });
    let asked = |name: &str| {
        let names = input.attribute_names.iter().chain(&input.message_system_attribute_names);
        names.into_iter().any(|asked| asked == "All" || asked == name)
    };
    let system = [
        ("SenderId", Some("AIDAEMBEDDED".to_owned())),
        ("SentTimestamp", Some(message.sent_ms.to_string())),
        ("ApproximateReceiveCount", Some(message.receives.to_string())),
        ("ApproximateFirstReceiveTimestamp", Some(message.first_received_ms.to_string())),
        ("AWSTraceHeader", message.trace.clone()),
        ("DeadLetterQueueSourceArn", message.dead_from.clone()),
    ];
    let system: serde_json::Map<_, _> = system
        .into_iter()
        .filter(|(name, _)| asked(name))
        .filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?))))
        .collect();
    if !system.is_empty() {
        answer["Attributes"] = Value::Object(system);
    }
    let mut attributes = message.attributes.clone();
    attributes.retain(|name, _| input.message_attribute_names.iter().any(|asked| covers(asked, name)));
    if let Some(md5) = md5_of(&attributes) {
        answer["MD5OfMessageAttributes"] = json!(md5);
        answer["MessageAttributes"] = json!(attributes);
    }
    answer
}

/// `All`, a name, or a prefix that ends in `.*`.
fn covers(asked: &str, name: &str) -> bool {
    asked == "All" || asked == name || asked.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
}
