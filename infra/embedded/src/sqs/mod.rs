//! SQS: standard queues in AWS's JSON 1.0 protocol. This file holds the operations on queues, and sends;
//! `receive`, `handle` and `batch` hold the others.

mod batch;
mod handle;
mod message;
mod queue;
mod receive;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::state_dir::StateDir;
use crate::wire::{self, Answer, Refusal};
use crate::{ACCOUNT_ID, Service, StartError};
use handle::{change_visibility, delete_message};
use message::Draft;
use queue::{Queue, check_attributes, check_name, invalid_parameter, is_attribute, name_in_arn, unknown_attribute};
use store::{Store, failed};

pub(crate) struct Sqs {
    /// `None` once closed. Held for one statement or transaction at a time, never over an await.
    store: Mutex<Option<Store>>,
    clock: Arc<Clock>,
    /// Wakes a queue's long polls when it may have something to receive.
    wakers: Mutex<HashMap<String, Arc<Notify>>>,
    stopping: CancellationToken,
    url: OnceLock<String>,
}

pub(crate) fn router(sqs: Arc<Sqs>) -> Router {
    Router::new().fallback(handle).layer(DefaultBodyLimit::max(wire::LARGEST_BODY)).with_state(sqs)
}

async fn handle(State(sqs): State<Arc<Sqs>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    wire::respond(Service::Sqs, sqs.call(wire::operation(&headers), &body).await)
}

/// What operations on a queue as a whole read.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    queue_url: String,
    queue_name: String,
    queue_name_prefix: String,
    max_results: Option<usize>,
    next_token: Option<String>,
    attribute_names: Vec<String>,
    source_arn: String,
    destination_arn: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Attributed {
    queue_url: String,
    queue_name: String,
    attributes: BTreeMap<String, String>,
}

impl Sqs {
    pub(crate) fn open(state: &StateDir, clock: Arc<Clock>, stopping: CancellationToken) -> Result<Self, StartError> {
        let store = Mutex::new(Some(Store::open(state)?));
        Ok(Sqs { store, clock, wakers: Mutex::default(), stopping, url: OnceLock::new() })
    }

    /// The address that queue URLs begin with.
    pub(crate) fn answer_at(&self, url: &str) {
        self.url.get_or_init(|| url.to_owned());
    }

    pub(crate) fn time_has_passed(&self) {
        lock(&self.wakers).values().for_each(|waker| waker.notify_waiters());
    }

    pub(crate) fn close(&self) {
        lock(&self.store).take();
    }

    /// Works on the store with the time of this moment.
    fn with<T>(&self, work: impl FnOnce(&mut Store, i64) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut store = lock(&self.store);
        let store = store.as_mut().ok_or_else(|| Refusal::internal("InternalFailure", "shut down"))?;
        work(store, self.clock.now_ms())
    }

    fn waker(&self, queue: &str) -> Arc<Notify> {
        Arc::clone(lock(&self.wakers).entry(queue.to_owned()).or_default())
    }

    fn wake(&self, queue: &str) {
        self.waker(queue).notify_waiters();
    }

    fn queue_url(&self, name: &str) -> Value {
        let url = self.url.get().map_or("", String::as_str);
        json!({ "QueueUrl": format!("{url}/{ACCOUNT_ID}/{name}") })
    }

    async fn call(&self, operation: &str, body: &[u8]) -> Answer {
        match operation {
            "SendMessage" => self.send(body),
            "SendMessageBatch" => batch::send(self, body),
            "ReceiveMessage" => receive::receive(self, body).await,
            "DeleteMessage" => handle::one(self, body, delete_message),
            "DeleteMessageBatch" => batch::each(self, body, delete_message),
            "ChangeMessageVisibility" => handle::one(self, body, change_visibility),
            "ChangeMessageVisibilityBatch" => batch::each(self, body, change_visibility),
            "CreateQueue" => self.create_queue(wire::input(body)?),
            "SetQueueAttributes" => self.set_attributes(wire::input(body)?),
            "GetQueueAttributes" => self.get_attributes(wire::input(body)?),
            "GetQueueUrl" => {
                let input: Input = wire::input(body)?;
                self.with(|store, _| find(store, &input.queue_name).map(|queue| self.queue_url(&queue.name)))
            }
            "ListQueues" => self.list_queues(wire::input(body)?),
            "DeleteQueue" => {
                let input: Input = wire::input(body)?;
                self.with(|store, now_ms| store.delete(&find(store, &input.queue_url)?, now_ms).map_err(failed))?;
                self.wake(name_in_url(&input.queue_url));
                Ok(Value::Null)
            }
            "PurgeQueue" => self.purge_queue(wire::input(body)?),
            "StartMessageMoveTask" => self.move_messages(wire::input(body)?),
            other => Err(Refusal::new("UnknownOperationException", format!("this stand-in does not offer {other:?}"))),
        }
    }

    fn create_queue(&self, input: Attributed) -> Answer {
        check_name(&input.queue_name)?;
        check_attributes(&input.attributes)?;
        self.with(|store, now_ms| {
            let name = &input.queue_name;
            if let Some(queue) = store.queue(name) {
                return match queue.matches(&input.attributes) {
                    true => Ok(self.queue_url(name)),
                    false => Err(Refusal::named(
                        "QueueNameExists",
                        "QueueAlreadyExists",
                        format!(
                            "A queue already exists with the same name and a different value for an attribute: {name}"
                        ),
                    )),
                };
            }
            if store.deleted_ms(name).map_err(failed)?.is_some_and(|deleted_ms| now_ms < deleted_ms + 60_000) {
                return Err(Refusal::named(
                    "QueueDeletedRecently",
                    "AWS.SimpleQueueService.QueueDeletedRecently",
                    "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
                ));
            }
            check_dead_letter_target(store, &input.attributes)?;
            store.create(name, input.attributes, now_ms).map_err(failed)?;
            Ok(self.queue_url(name))
        })
    }

    fn set_attributes(&self, input: Attributed) -> Answer {
        check_attributes(&input.attributes)?;
        self.with(|store, now_ms| {
            let mut queue = find(store, &input.queue_url)?;
            check_dead_letter_target(store, &input.attributes)?;
            queue.set(input.attributes);
            queue.modified_ms = now_ms;
            store.update(queue).map_err(failed)?;
            Ok(Value::Null)
        })
    }

    fn get_attributes(&self, input: Input) -> Answer {
        self.with(|store, now_ms| {
            let queue = find(store, &input.queue_url)?;
            let mut all = queue.describe();
            let [visible, in_flight, delayed] = store.counts(&queue, now_ms).map_err(failed)?;
            all.insert("ApproximateNumberOfMessages".to_owned(), visible.to_string());
            all.insert("ApproximateNumberOfMessagesNotVisible".to_owned(), in_flight.to_string());
            all.insert("ApproximateNumberOfMessagesDelayed".to_owned(), delayed.to_string());
            for name in &input.attribute_names {
                if name != "All" && !all.contains_key(name) && !is_attribute(name) {
                    return Err(unknown_attribute(name));
                }
            }
            if !input.attribute_names.iter().any(|name| name == "All") {
                all.retain(|name, _| input.attribute_names.contains(name));
            }
            Ok(json!({ "Attributes": all }))
        })
    }

    fn list_queues(&self, input: Input) -> Answer {
        let most = input.max_results.unwrap_or(1000);
        if !(1..=1000).contains(&most) {
            return Err(invalid_parameter("MaxResults must be between 1 and 1000."));
        }
        self.with(|store, _| {
            let mut names = store
                .queues()
                .map(|queue| &queue.name)
                .filter(|name| name.starts_with(&input.queue_name_prefix))
                .filter(|name| input.next_token.as_ref().is_none_or(|last| *name > last));
            let page: Vec<_> = names.by_ref().take(most).collect();
            let urls: Vec<_> = page.iter().map(|name| self.queue_url(name)["QueueUrl"].take()).collect();
            let mut answer = json!({ "QueueUrls": urls });
            // Without MaxResults AWS gives no token either.
            if input.max_results.is_some() && names.next().is_some() {
                answer["NextToken"] = json!(page.last());
            }
            Ok(answer)
        })
    }

    fn purge_queue(&self, input: Input) -> Answer {
        self.with(|store, now_ms| {
            let queue = find(store, &input.queue_url)?;
            if queue.purged_ms.is_some_and(|purged_ms| now_ms < purged_ms + 60_000) {
                return Err(Refusal::named(
                    "PurgeQueueInProgress",
                    "AWS.SimpleQueueService.PurgeQueueInProgress",
                    format!("Only one PurgeQueue operation on {} is allowed every 60 seconds.", queue.name),
                ));
            }
            store.purge(&queue, now_ms).map_err(failed)?;
            Ok(Value::Null)
        })
    }

    /// AWS moves in the background; here all is moved before the answer.
    fn move_messages(&self, input: Input) -> Answer {
        let task = wire::uuid().map_err(|error| Refusal::internal("InternalFailure", error))?;
        self.with(|store, now_ms| {
            let missing = || {
                Refusal::new(
                    "ResourceNotFoundException",
                    "The resource that you specified for the SourceArn parameter doesn't exist.",
                )
            };
            let from = store.queue(name_in_arn(&input.source_arn)).cloned().ok_or_else(missing)?;
            let is_target = |queue: &Queue| queue.redrive().is_some_and(|redrive| redrive.target() == from.name);
            if !store.queues().any(is_target) {
                return Err(invalid_parameter("Source queue must be configured as a Dead Letter Queue."));
            }
            let target =
                input.destination_arn.as_deref().map(|arn| store.queue(name_in_arn(arn)).cloned().ok_or_else(missing));
            store.move_messages(&from, target.transpose()?.as_ref(), now_ms).map_err(failed)
        })?;
        self.time_has_passed();
        Ok(json!({ "TaskHandle": task }))
    }

    fn send(&self, body: &[u8]) -> Answer {
        let Input { queue_url, .. } = wire::input(body)?;
        let draft: Draft = wire::input(body)?;
        let queue = self.with(|store, _| find(store, &queue_url))?;
        let message = draft.accept(&queue)?;
        let answer = sent(&message);
        self.with(|store, now_ms| store.send(&queue, &[message], now_ms).map_err(failed))?;
        self.wake(&queue.name);
        Ok(answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A queue URL's last part; its host may be an older one, since ports change with each start.
fn name_in_url(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(_, name)| name)
}

/// The queue of a URL or name.
fn find(store: &Store, url: &str) -> Result<Queue, Refusal> {
    store.queue(name_in_url(url)).cloned().ok_or_else(|| {
        Refusal::named(
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "The specified queue does not exist.",
        )
    })
}

fn check_dead_letter_target(store: &Store, attributes: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let policy = attributes.get("RedrivePolicy");
    let redrive = policy.and_then(|policy| serde_json::from_str::<queue::Redrive>(policy).ok());
    if redrive.is_some_and(|redrive| store.queue(redrive.target()).is_none()) {
        return Err(invalid_parameter(format!(
            "Value {} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.",
            policy.map_or("", String::as_str)
        )));
    }
    Ok(())
}

/// What a sender is told of its message.
fn sent(message: &message::Message) -> Value {
    let mut answer = json!({ "MessageId": message.id, "MD5OfMessageBody": message.body_md5 });
    let [attributes, system] = &message.md5s;
    for (name, md5) in [("MD5OfMessageAttributes", attributes), ("MD5OfMessageSystemAttributes", system)] {
        if let Some(md5) = md5 {
            answer[name] = json!(md5);
        }
    }
    answer
}
