//! One delivery, one attempt, one verdict (contract section 4).
//!
//! A message says which attempt is due. The attempt is claimed, made, recorded; a retry is queued, with its delay, before
//! the message is deleted. A crash anywhere in between can double an attempt, never lose one.
//!
//! What a crash doubles is what a receiver has and the table does not know yet. So the deliveries of a batch begin one
//! after the other, and what need not be known at once is written after the attempt.

mod answer;
mod attempt;
mod connect;
mod http;
pub mod notice;
mod own_resolver;
mod render;
mod resolve;
#[cfg(test)]
mod tests;
mod turns;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use domain::{
    id::{AppId, IntegrationId},
    time::Timestamp,
};
use edge::env::{self, Env, StartError};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use store::{Aws, Error, Fresh, Queue, Store, Vault, integrations::Stored, statistics::Tally};

use crate::{attempt::Unable, turns::Turns};

/// What an integration is, is read anew by every batch, and within a batch that takes longer than this: a pause and a change
/// hold at once.
const FRESH: Duration = Duration::from_millis(250);
/// Its secrets and signing keys are read anew when its revision changes, and after this long.
const KEPT: Duration = Duration::from_secs(2);
/// A delivery of a batch begins when those before it have ended, or when the one before it has had this long: fast
/// receivers are served one by one, and a kill doubles one delivery at most; slow ones overlap. Most attempts on loopback
/// take a quarter of it, those over the internet several times as long.
///
/// The last of ten begins at most 9 × 60 ms = 0.54 s late. With the longest POST of 10 s and four requests around it (a
/// look-up, claim, record, count) of at most 3.5 s each, a batch of the slowest receivers ends after 24.5 s at most, within
/// the function's 25 s (template.yaml, Dispatch).
const HEAD_START: Duration = Duration::from_millis(60);

/// What the function holds between batches.
#[derive(Clone)]
pub struct State {
    store: Store,
    queue: Queue,
    client: http::Client,
    own_name: own_resolver::OwnName,
    keeper: render::Keeper,
    tally: Tally,
    notices: notice::Notices,
    turns: Turns,
    integrations: Integrations,
}

type Integrations = Fresh<(AppId, IntegrationId), Option<Arc<Stored>>>;

/// Nothing read yet. Not sending is decided by what holds at this moment, never by an old value.
fn integrations() -> Integrations {
    Fresh::new(FRESH).never_stale()
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
            notices: notice::Notices::default(),
            keeper: render::Keeper::open(
                store.clone(),
                Vault::open(aws, env.required::<String>(env::KMS_KEY_ID)?),
                KEPT,
            ),
            store,
            queue: Queue::open(aws, queue_url),
            client: http::Client::new(env.reach()?),
            turns: Turns::default(),
            integrations: integrations(),
        })
    }

    /// The same, with somebody who hears its notices.
    #[must_use]
    pub fn telling(self, listener: impl Fn(notice::Notice) + Send + Sync + 'static) -> Self {
        Self { notices: notice::Notices::to(listener), ..self }
    }

    /// An integration, as this batch has read it, at most [`FRESH`] ago; `None` when it was deleted.
    async fn integration(&self, app: AppId, id: IntegrationId, now: Timestamp) -> Result<Option<Arc<Stored>>, Error> {
        let read = async { Ok(self.store.integration(app, id).await?.map(Arc::new)) };
        self.integrations.get((app, id), now, read).await
    }

    /// The next look at this integration is a fresh one.
    fn forget(&self, app: AppId, id: IntegrationId) {
        self.integrations.forget(&(app, id));
    }
}

/// Handles one batch: the answer names the messages that must come back, because we were unable, not the receiver.
pub async fn handle(state: &State, batch: SqsEvent) -> SqsBatchResponse {
    let state = &State { integrations: integrations(), ..state.clone() };
    let (mut under_way, mut failed) = (FuturesUnordered::new(), Vec::new());
    for message in batch.records {
        under_way.push(one(state, message));
        // Those under way go on in the meantime, and are not dropped when it is over.
        let until_all_have_ended = async {
            while let Some(ended) = under_way.next().await {
                failed.extend(ended);
            }
        };
        // Either way the next one begins.
        let _ = tokio::time::timeout(HEAD_START, until_all_have_ended).await;
    }
    failed.extend(under_way.collect::<Vec<_>>().await.into_iter().flatten());
    let mut answer = SqsBatchResponse::default();
    for id in failed {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        answer.batch_item_failures.push(failure);
    }
    answer
}

/// Handles one message; its id when it must come back.
async fn one(state: &State, message: SqsMessage) -> Option<String> {
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
}
