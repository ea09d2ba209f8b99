//! Feeds a function from a queue as Lambda's event source mapping does: batches as they come, several at once, deleted
//! when they succeeded. What failed is left alone: it reappears when its visibility timeout ends, and goes to the dead
//! letters when it has been received too often, both of which the queue sees to.

use std::{collections::HashSet, sync::Arc, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use serde_json::Value;
use store::{Queue, queue::Received};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long one request for messages waits for the first; the longest that SQS allows.
const WAIT: Duration = Duration::from_secs(20);
/// Pause after a queue could not be asked.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Lambda begins with this many pollers for a standard queue.
pub const POLLERS: u16 = 5;

/// What is polled, and how.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The queue.
    pub queue: Queue,
    /// Its name in events.
    pub queue_arn: String,
    /// Messages handed over at once, at most.
    pub batch_size: u16,
    /// Batches under way at once, at most.
    pub concurrency: u16,
    /// Whether the function names the messages that failed.
    pub reports_failures: bool,
    /// How long the function may take over a batch.
    pub timeout: Duration,
}

/// A running poller. It goes on until [`Poller::stop`].
#[derive(Debug)]
pub struct Poller {
    stopping: CancellationToken,
    batches: TaskTracker,
}

impl Poller {
    /// Begins to feed `function`.
    pub fn start<F, R>(mapping: Mapping, function: F) -> Self
    where
        F: Fn(SqsEvent) -> R + Send + Sync + 'static,
        R: Future<Output = SqsBatchResponse> + Send + 'static,
    {
        let poller = Self { stopping: CancellationToken::new(), batches: TaskTracker::new() };
        let (stopping, batches) = (poller.stopping.clone(), poller.batches.clone());
        poller.batches.spawn(async move { poll(Arc::new(mapping), Arc::new(function), stopping, batches).await });
        poller
    }

    /// Takes no further batch, and returns when those in hand are done with.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.batches.close();
        self.batches.wait().await;
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

async fn poll<F, R>(mapping: Arc<Mapping>, function: Arc<F>, stopping: CancellationToken, batches: TaskTracker)
where
    F: Fn(SqsEvent) -> R + Send + Sync + 'static,
    R: Future<Output = SqsBatchResponse> + Send + 'static,
{
    let hands = Arc::new(Semaphore::new(mapping.concurrency.into()));
    loop {
        let batch = async {
            // The semaphore is never closed.
            let hand = Arc::clone(&hands).acquire_owned().await.ok()?;
            match mapping.queue.receive(mapping.batch_size.into(), WAIT).await {
                Ok(batch) => Some((hand, batch)),
                Err(error) => {
                    tracing::warn!(%error, "poller.cannot_receive");
                    tokio::time::sleep(BACK_OFF).await;
                    Some((hand, Vec::new()))
                }
            }
        };
        let Some(Some((hand, batch))) = stopping.run_until_cancelled(batch).await else { return };
        if batch.is_empty() {
            continue;
        }
        let (mapping, function) = (Arc::clone(&mapping), Arc::clone(&function));
        batches.spawn(async move {
            feed(&mapping, &*function, batch).await;
            drop(hand);
        });
    }
}

/// Hands one batch over and deletes what succeeded.
async fn feed<F, R>(mapping: &Mapping, function: &F, batch: Vec<Received>)
where
    F: Fn(SqsEvent) -> R,
    R: Future<Output = SqsBatchResponse> + Send + 'static,
{
    // A task of its own, so that a panic ends the invocation and not the poller.
    let mut invocation = tokio::spawn(function(event(mapping, &batch)));
    let answer = match tokio::time::timeout(mapping.timeout, &mut invocation).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(panicked)) => Err(panicked.to_string()),
        Err(_) => {
            invocation.abort();
            Err(format!("the function took longer than {} s", mapping.timeout.as_secs()))
        }
    };
    let failed = answer.and_then(|answer| {
        if !mapping.reports_failures {
            return Ok(HashSet::new());
        }
        let answer = serde_json::to_value(answer).map_err(|error| error.to_string())?;
        failures(&answer, &batch)
    });
    let failed = failed.unwrap_or_else(|why| {
        tracing::error!(why, messages = batch.len(), "poller.batch_failed");
        batch.iter().map(|message| message.id.clone()).collect()
    });
    let done: Vec<_> = batch.into_iter().filter(|message| !failed.contains(&message.id)).collect();
    if done.is_empty() {
        return;
    }
    let receipts: Vec<_> = done.into_iter().map(|message| message.receipt).collect();
    if let Err(error) = mapping.queue.delete(&receipts).await {
        tracing::warn!(%error, "poller.cannot_delete");
    }
}

/// The ids that a function's answer names as failed. AWS's rules: an empty or absent list is a success of all; a list
/// that cannot be understood (an id that is absent, empty, null or not of this batch) is a failure of all.
fn failures(answer: &Value, batch: &[Received]) -> Result<HashSet<String>, String> {
    let list = match answer {
        Value::Null => return Ok(HashSet::new()),
        Value::Object(fields) => fields.get("batchItemFailures").unwrap_or(&Value::Null),
        _ => return Err("the answer is no object".to_owned()),
    };
    let list = match list {
        Value::Null => return Ok(HashSet::new()),
        Value::Array(list) => list,
        _ => return Err("batchItemFailures is no list".to_owned()),
    };
    let named = list.iter().map(|failure| match failure["itemIdentifier"].as_str() {
        Some(id) if batch.iter().any(|message| message.id == id) => Ok(id.to_owned()),
        Some(id) => Err(format!("the answer names {id:?}, which is not in the batch")),
        None => Err("the answer has a failure without itemIdentifier".to_owned()),
    });
    named.collect()
}

/// The event as Lambda builds it.
fn event(mapping: &Mapping, batch: &[Received]) -> SqsEvent {
    let records = batch.iter().map(|received| {
        let mut message = SqsMessage::default();
        message.message_id = Some(received.id.clone());
        message.receipt_handle = Some(received.receipt.clone());
        message.body = Some(received.body.clone());
        message.attributes = [
            ("ApproximateReceiveCount", received.receive_count.to_string()),
            ("SentTimestamp", received.sent_millis.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        message.event_source = Some("aws:sqs".to_owned());
        message.event_source_arn = Some(mapping.queue_arn.clone());
        message.aws_region = Some(store::Aws::LOCAL_REGION.to_owned());
        message
    });
    let mut event = SqsEvent::default();
    event.records = records.collect();
    event
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use embedded::{Config, Embedded};
    use serde_json::json;
    use store::{
        Aws, Endpoints,
        provision::{self, QueueSpec},
    };
    use tokio::sync::mpsc;

    use super::*;

    struct House {
        embedded: Embedded,
        mapping: Mapping,
        dead: Queue,
    }

    /// A real queue with dead letters; `most` receives.
    async fn house(most: u32) -> House {
        let embedded = Embedded::start(Config::default()).await.expect("stand-ins");
        let aws = Aws::local(Endpoints {
            dynamodb: embedded.dynamodb_url().to_owned(),
            sqs: embedded.sqs_url().to_owned(),
            kms: embedded.kms_url().to_owned(),
        });
        let dead = QueueSpec { name: "dead".to_owned(), attributes: Vec::new() };
        let dead = provision::queue(&aws, &dead).await.expect("a queue");
        let redrive = json!({"deadLetterTargetArn": dead.arn, "maxReceiveCount": most}).to_string();
        let attributes = [("VisibilityTimeout", "90"), ("RedrivePolicy", &redrive)];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let made = provision::queue(&aws, &QueueSpec { name: "due".to_owned(), attributes }).await.expect("a queue");
        let mapping = Mapping {
            queue: Queue::open(&aws, made.url),
            queue_arn: made.arn,
            batch_size: 10,
            concurrency: 2,
            reports_failures: true,
            timeout: Duration::from_secs(5),
        };
        House { embedded, mapping, dead: Queue::open(&aws, dead.url) }
    }

    impl House {
        async fn send(&self, bodies: impl IntoIterator<Item = u32>) {
            let messages: Vec<_> = bodies.into_iter().map(|body| (body, 0)).collect();
            self.mapping.queue.send(&messages).await.expect("sent");
        }

        /// Starts a poller whose function answers with what `answer` makes of a batch; what it saw comes out.
        fn poll(
            &self,
            answer: impl Fn(&SqsEvent) -> SqsBatchResponse + Send + Sync + 'static,
        ) -> (Poller, mpsc::UnboundedReceiver<SqsEvent>) {
            let (seen, sees) = mpsc::unbounded_channel();
            let poller = Poller::start(self.mapping.clone(), move |event| {
                let answer = answer(&event);
                seen.send(event).expect("the test listens");
                async move { answer }
            });
            (poller, sees)
        }

        /// What is in the queue once every visibility timeout has passed.
        async fn left(&self) -> Vec<String> {
            self.embedded.advance(Duration::from_secs(91));
            let left = self.mapping.queue.receive(10, Duration::ZERO).await.expect("received");
            let mut bodies: Vec<_> = left.into_iter().map(|message| message.body).collect();
            bodies.sort();
            bodies
        }
    }

    fn failed(ids: impl IntoIterator<Item = String>) -> SqsBatchResponse {
        let failures: Vec<_> = ids.into_iter().map(|id| json!({"itemIdentifier": id})).collect();
        serde_json::from_value(json!({"batchItemFailures": failures})).expect("an answer")
    }

    fn ids_of(event: &SqsEvent, body: &str) -> Vec<String> {
        let of_body = event.records.iter().filter(|record| record.body.as_deref() == Some(body));
        of_body.filter_map(|record| record.message_id.clone()).collect()
    }

    #[tokio::test]
    async fn what_succeeded_is_deleted_and_looks_as_on_lambda() {
        let house = house(5).await;
        house.send(0..3).await;
        let (poller, mut seen) = house.poll(|_| SqsBatchResponse::default());
        let mut records = Vec::new();
        while records.len() < 3 {
            records.extend(seen.recv().await.expect("a batch").records);
        }
        poller.stop().await;
        assert!(house.left().await.is_empty());
        let record = serde_json::to_value(&records[0]).expect("JSON");
        assert_eq!(record["eventSource"], "aws:sqs");
        assert_eq!(record["eventSourceARN"], house.mapping.queue_arn);
        assert_eq!(record["attributes"]["ApproximateReceiveCount"], "1");
        assert!(record["messageId"].is_string() && record["receiptHandle"].is_string());
    }

    #[tokio::test]
    async fn what_failed_comes_back_alone() {
        let house = house(5).await;
        house.send(0..4).await;
        let (poller, mut seen) = house.poll(|event| failed(ids_of(event, "2")));
        let mut count = 0;
        while count < 4 {
            count += seen.recv().await.expect("a batch").records.len();
        }
        poller.stop().await;
        assert_eq!(house.left().await, ["2"]);
    }

    #[tokio::test]
    async fn an_answer_that_names_strangers_fails_the_whole_batch() {
        for stranger in ["", "not-in-the-batch"] {
            let house = house(5).await;
            house.send(0..3).await;
            let (poller, mut seen) = house.poll(move |_| failed([stranger.to_owned()]));
            let mut count = 0;
            while count < 3 {
                count += seen.recv().await.expect("a batch").records.len();
            }
            poller.stop().await;
            assert_eq!(house.left().await, ["0", "1", "2"], "{stranger:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_and_a_long_run_fail_the_whole_batch() {
        for panics in [true, false] {
            let mut house = house(5).await;
            house.mapping.timeout = Duration::from_millis(50);
            house.send([7]).await;
            let (begun, mut begins) = mpsc::unbounded_channel();
            let poller = Poller::start(house.mapping.clone(), move |_| {
                begun.send(()).expect("the test listens");
                async move {
                    assert!(!panics, "as the test asks");
                    std::future::pending().await
                }
            });
            begins.recv().await.expect("a batch");
            poller.stop().await;
            assert_eq!(house.left().await, ["7"]);
        }
    }

    #[tokio::test]
    async fn without_reports_an_answer_is_a_success() {
        let mut house = house(5).await;
        house.mapping.reports_failures = false;
        house.send([1]).await;
        let (poller, mut seen) = house.poll(|event| failed(ids_of(event, "1")));
        seen.recv().await.expect("a batch");
        poller.stop().await;
        assert!(house.left().await.is_empty());
    }

    #[tokio::test]
    async fn what_fails_too_often_goes_to_the_dead_letters() {
        let house = house(2).await;
        house.send([9]).await;
        let (poller, mut seen) = house.poll(|event| failed(ids_of(event, "9")));
        for count in ["1", "2"] {
            let record = seen.recv().await.expect("a batch").records.remove(0);
            assert_eq!(record.attributes["ApproximateReceiveCount"], count);
            house.embedded.advance(Duration::from_secs(91));
        }
        let dead = house.dead.receive(1, Duration::from_secs(5)).await.expect("received");
        assert_eq!(dead.into_iter().map(|message| message.body).collect::<Vec<_>>(), ["9"]);
        poller.stop().await;
    }

    #[tokio::test]
    async fn at_most_so_many_batches_at_once_and_a_stop_waits_for_them() {
        let mut house = house(5).await;
        house.mapping.batch_size = 1;
        house.send(0..4).await;
        let (begun, mut begins) = mpsc::unbounded_channel();
        let open = Arc::new(Semaphore::new(0));
        let finished = Arc::new(Mutex::new(0));
        let poller = Poller::start(house.mapping.clone(), {
            let (open, finished) = (Arc::clone(&open), Arc::clone(&finished));
            move |_| {
                begun.send(()).expect("the test listens");
                let (open, finished) = (Arc::clone(&open), Arc::clone(&finished));
                async move {
                    open.acquire().await.expect("never closed").forget();
                    *finished.lock().expect("no panic") += 1;
                    SqsBatchResponse::default()
                }
            }
        });
        begins.recv().await.expect("the first");
        begins.recv().await.expect("the second");
        // Both hands are full: no third begins however long one waits; stopping asks for none either.
        let stopped = tokio::spawn(poller.stop());
        open.add_permits(10);
        stopped.await.expect("stopped");
        assert_eq!(*finished.lock().expect("no panic"), 2);
        assert!(begins.try_recv().is_err());
    }

    #[test]
    fn answers() {
        let received = |id: &str| Received {
            id: id.to_owned(),
            receipt: String::new(),
            body: String::new(),
            receive_count: 1,
            sent_millis: 0,
        };
        let batch = [received("a"), received("b")];
        for (answer, expected) in [
            (json!(null), Ok(vec![])),
            (json!({}), Ok(vec![])),
            (json!({"batchItemFailures": null}), Ok(vec![])),
            (json!({"batchItemFailures": []}), Ok(vec![])),
            (json!({"batchItemFailures": [{"itemIdentifier": "b"}]}), Ok(vec!["b"])),
            (json!({"batchItemFailures": [{"itemIdentifier": ""}]}), Err(())),
            (json!({"batchItemFailures": [{"itemIdentifier": null}]}), Err(())),
            (json!({"batchItemFailures": [{"itemIdentifer": "a"}]}), Err(())),
            (json!({"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "c"}]}), Err(())),
            (json!({"batchItemFailures": "a"}), Err(())),
            (json!("a"), Err(())),
        ] {
            let found = failures(&answer, &batch).map_err(|_| ());
            assert_eq!(found, expected.map(|ids| ids.into_iter().map(ToOwned::to_owned).collect()), "{answer}");
        }
    }
}
