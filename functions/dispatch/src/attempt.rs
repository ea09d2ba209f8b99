//! One message: claim, attempt, record, queue what is next.

use std::time::Duration;

use aws_lambda_events::event::sqs::SqsMessage;
use domain::{
    breaker::{self, Effect, Pause},
    delivery::{Attempt, DUE_VERSION, Due, ErrorClass, Refused, Verdict},
    integration::Status,
    retry,
    template::Unfilled,
    time::Timestamp,
};
use edge::{chance, clock};
use store::{breakers::Life, deliveries::Claim, integrations::Stored};

use crate::{State, http::failed, notice::Notice};

/// Why a message must come back: we were unable. What a receiver does is an outcome, not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unable {
    #[error("the message is not a delivery: {0}")]
    Unreadable(String),
    #[error("the message is of version {0}, newer than this function")]
    Newer(u8),
    #[error("another worker is at it")]
    InFlight,
    #[error("our own resolver does not answer")]
    NoResolver,
    #[error(transparent)]
    CannotTry(#[from] crate::http::CannotTry),
    #[error(transparent)]
    Store(#[from] store::Error),
}

pub(crate) async fn handle(state: &State, message: &SqsMessage) -> Result<(), Unable> {
    let due = parse(message.body.as_deref().unwrap_or_default())?;
    let now = clock::now();
    let may_go = |stored: &Stored| due.test || stored.integration.status == Status::Active;
    let mut stored = state.integration(due.app, due.integration, now).await?;
    if !stored.as_deref().is_some_and(may_go) {
        // Not sending is decided by what holds at this moment.
        state.forget(due.app, due.integration);
        stored = state.integration(due.app, due.integration, now).await?;
    }
    let is_gone = stored.is_none();
    let Some(stored) = stored.filter(|stored| may_go(stored)) else { return skip(state, &due, is_gone, now).await };
    let integration = &stored.integration;
    let life = Life { app: due.app, integration: due.integration, generation: stored.generation };
    let until = Due::claim_until(now, integration.timeout());
    // Before the claim: when the key service is away, nobody holds what nobody can send.
    let ready = state.keeper.render(due.app, &stored, now).await?;
    let claim = match state.store.claim(&due, chance::hex::<8>(), now, until).await? {
        Ok(claim) => claim,
        Err(refused) => return follow(state, &due, refused, now).await,
    };

    let at = clock::now();
    let outcome = match ready {
        Ok(ready) => state.client.post(&ready, &due, at).await?,
        Err(Unfilled) => failed(ErrorClass::SecretMissing),
    };
    if outcome.error == Some(ErrorClass::Dns) && !state.own_name.resolves().await {
        return Err(Unable::NoResolver);
    }
    let verdict = outcome.judge(&due, &integration.retry_statuses);
    let ended = at.plus(outcome.took);
    let (next_at, delay) = match verdict {
        Verdict::Retry(wait) => (Some(ended.plus(wait)), retry::delay_seconds(wait)),
        Verdict::Delivered | Verdict::Failed => (None, 0),
    };
    let attempt = Attempt::record(due.attempt, at, &outcome);
    let recorded = match (verdict, outcome.error) {
        (Verdict::Failed, Some(error)) if !due.test && breaker::blames_receiver(error) => {
            fail(state, &claim, &attempt, (life, &integration.name), Pause::demanded(&outcome), ended).await?
        }
        _ => state.store.record(&claim, &attempt, verdict, next_at).await?,
    };
    // Only now: the sooner it was recorded, the rarer a crash that posts it once more.
    if verdict == Verdict::Delivered && !due.test {
        // That the count stays, or the statistics lack one, is no reason to post once more.
        if let Err(error) = state.tally.delivered(life, ended).await {
            tracing::warn!(app = %due.app, integration = %due.integration, %error, "breaker.not_reset");
        }
    }
    if verdict != Verdict::Delivered {
        // Another instance may have paused it: the next attempt looks.
        state.forget(due.app, due.integration);
    }
    tracing::info!(
        app = %due.app, integration = %due.integration, delivery = %due.delivery, event.id = %due.envelope.id,
        event.name = %due.envelope.name, attempt = due.attempt, host = integration.url.host(),
        status_code = outcome.status_code, error_class = outcome.error.map(|error| error.as_str()),
        duration_ms = attempt.duration_ms, verdict = ?verdict.status(), delay_s = delay, recorded = recorded.is_ok(),
        trace.parent = due.trace.map(display), "delivery.attempted"
    );
    match recorded {
        Err(refused) => follow(state, &due, refused, ended).await,
        Ok(()) if next_at.is_some() => Ok(state.queue.send(&[(due.next(), delay)]).await?),
        Ok(()) => Ok(()),
    }
}

fn parse(body: &str) -> Result<Due, Unable> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        v: u8,
    }
    let unreadable = |error: serde_json::Error| Unable::Unreadable(format!("{:?} error", error.classify()));
    let Versioned { v } = serde_json::from_str(body).map_err(unreadable)?;
    if v > DUE_VERSION {
        return Err(Unable::Newer(v));
    }
    serde_json::from_str(body).map_err(unreadable)
}

/// Records a delivery that failed, and counts it. Whoever pauses the integration by it says so.
async fn fail(
    state: &State,
    claim: &Claim,
    attempt: &Attempt,
    (life, name): (Life, &str),
    pause: Option<Pause>,
    now: Timestamp,
) -> Result<Result<(), Refused>, Unable> {
    let turn = state.turns.wait(life).await;
    let effect = match state.store.record_failed(claim, attempt, life, pause, now).await? {
        Ok(effect) => effect,
        Err(refused) => return Ok(Err(refused)),
    };
    drop(turn);
    match effect {
        Effect::Counted => {}
        Effect::Late => {
            if let Err(error) = state.tally.failed_late(life, now).await {
                tracing::warn!(app = %life.app, integration = %life.integration, %error, "breaker.not_reported");
            }
        }
        Effect::Paused(pause) => {
            state.notices.tell(Notice::paused(now, (life.app, life.integration), name, pause));
        }
    }
    Ok(Ok(()))
}

async fn skip(state: &State, due: &Due, is_gone: bool, now: Timestamp) -> Result<(), Unable> {
    let recorded = if is_gone { state.store.skip_gone(due, now).await? } else { state.store.skip(due, now).await? };
    tracing::info!(app = %due.app, integration = %due.integration, delivery = %due.delivery, "delivery.skipped");
    match recorded {
        Ok(()) => Ok(()),
        Err(refused) => follow(state, due, refused, now).await,
    }
}

/// Does what a row asks for that did not take our write.
async fn follow(state: &State, due: &Due, refused: Refused, now: Timestamp) -> Result<(), Unable> {
    tracing::info!(app = %due.app, delivery = %due.delivery, attempt = due.attempt, ?refused, "delivery.refused");
    match refused {
        Refused::Drop => Ok(()),
        Refused::InFlight => Err(Unable::InFlight),
        Refused::QueueNext(at) => {
            // Rounded up: this message comes beside the attempt's own, and must not be the earlier one.
            let wait = at.map(|at| at.since(now)).unwrap_or_default();
            let delay = retry::delay_seconds(wait + Duration::from_millis(999));
            Ok(state.queue.send(&[(due.next(), delay)]).await?)
        }
    }
}
