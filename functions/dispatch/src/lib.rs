//! One delivery, one attempt, one verdict (contract section 4).
//!
//! A message says which attempt is due. The attempt is claimed, made, recorded; a retry is queued, with its delay, before
//! the message is deleted. A crash anywhere in between can double an attempt, never lose one.

mod answer;
mod attempt;
mod connect;
mod http;
mod own_resolver;
mod render;
mod resolve;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use domain::{
    id::{AppId, IntegrationId},
    time::Timestamp,
};
use edge::env::{self, Env, StartError};
use futures_util::{FutureExt, future::join_all};
use store::{Aws, Error, Queue, Store, Vault, breakers::Tally, integrations::Stored};

use crate::attempt::Unable;

/// A change in the console holds for waiting deliveries after this long at the latest.
const FRESH: Duration = Duration::from_secs(2);
/// Integrations held; beyond it stale ones go.
const INTEGRATIONS: usize = 1_000;

/// What the function holds between batches.
#[derive(Clone)]
pub struct State {
    store: Store,
    queue: Queue,
    client: http::Client,
    own_name: own_resolver::OwnName,
    keeper: render::Keeper,
    tally: Tally,
    held: Arc<Mutex<HashMap<(AppId, IntegrationId), Held>>>,
}

struct Held {
    integration: Option<Arc<Stored>>,
    read_at: Timestamp,
}

impl State {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When a variable is missing or wrong.
    pub async fn open(env: &Env, aws: &Aws) -> Result<Self, StartError> {
        let store = Store::open(aws, env.required::<String>(env::TABLE)?);
        let queue_url = env.required::<String>(env::DELIVERY_QUEUE_URL)?;
        Ok(Self {
            own_name: own_resolver::OwnName::of(&queue_url),
            tally: Tally::open(store.clone()),
            keeper: render::Keeper::open(
                store.clone(),
                Vault::open(aws, env.required::<String>(env::KMS_KEY_ID)?),
                FRESH,
            ),
            store,
            queue: Queue::open(aws, queue_url),
            client: http::Client::new(env.reach()?),
            held: Arc::default(),
        })
    }

    /// An integration, at most [`FRESH`] old; `None` when it was deleted.
    async fn integration(&self, app: AppId, id: IntegrationId, now: Timestamp) -> Result<Option<Arc<Stored>>, Error> {
        let is_fresh = |held: &Held| now.since(held.read_at) < FRESH;
        {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = held.get(&(app, id)).filter(|held| is_fresh(held)) {
                return Ok(held.integration.clone());
            }
        }
        let integration = self.store.integration(app, id).await?.map(Arc::new);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= INTEGRATIONS {
            held.retain(|_, held| is_fresh(held));
        }
        held.insert((app, id), Held { integration: integration.clone(), read_at: now });
        Ok(integration)
    }

    /// The next look at this integration is a fresh one.
    fn forget(&self, app: AppId, id: IntegrationId) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&(app, id));
    }
}

/// Handles one batch: the answer names the messages that must come back, because we were unable, not the receiver.
pub async fn handle(state: &State, batch: SqsEvent) -> SqsBatchResponse {
    let one = |message: SqsMessage| async move {
        let id = message.message_id.clone().unwrap_or_default();
        let receives = message.attributes.get("ApproximateReceiveCount").cloned().unwrap_or_default();
        // A panic loses this message's try, not the batch.
        let handled = AssertUnwindSafe(attempt::handle(state, &message)).catch_unwind().await;
        let cause = match handled {
            Ok(Ok(())) => return None,
            // It comes back until the queue has had enough of it and puts it aside (template.yaml, maxReceiveCount).
            Ok(Err(error @ (Unable::Unreadable(_) | Unable::Newer(_)))) => {
                tracing::error!(message.id = id, receives, cause = %error, "delivery.poison");
                return Some(id);
            }
            Ok(Err(error @ Unable::InFlight)) => {
                tracing::info!(message.id = id, receives, cause = %error, "delivery.waiting");
                return Some(id);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the handler panicked".to_owned(),
        };
        tracing::error!(message.id = id, receives, cause, "delivery.returned");
        Some(id)
    };
    let failed = join_all(batch.records.into_iter().map(one)).await;
    let mut answer = SqsBatchResponse::default();
    for id in failed.into_iter().flatten() {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        answer.batch_item_failures.push(failure);
    }
    answer
}
