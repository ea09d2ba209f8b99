//! Writes down what becomes of a call: its row, and the event that it is over. Beside the call, so that a slow table never
//! makes audio wait; stubborn, so that an outage of a few minutes loses nothing.

use std::time::Duration;

use domain::{app::Codec, call::Call, event::Event, session::Session, time::Timestamp};
use serde_json::Value;
use store::{Error, Events, Store, calls::Stored};
use tokio::sync::mpsc;

use crate::{
    call::{End, Row},
    codes::{ErrorCode, Reason},
    metrics::Metrics,
};

/// Tries of one write; with the waits between them some three minutes.
const TRIES: u32 = 9;
/// The wait before the second try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// What a call has to say about itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// For its row.
    Row {
        /// What happened.
        row: Row,
        /// The codec on the trunk, once it is known.
        codec: Option<Codec>,
        /// How each leg sounded, at the end.
        quality: Option<Value>,
    },
    /// It is over, and this is to be reported.
    End(End),
}

/// Writes one call down.
pub struct Recorder {
    /// The table.
    pub store: Store,
    /// What takes events in.
    pub events: Events,
    /// Counts ends.
    pub metrics: Metrics,
    /// The visitor's session.
    pub session: Session,
    /// The call's row as it is now.
    pub stored: Stored,
}

impl Recorder {
    /// Takes notes until there are no more. A call that stopped without an end (its task panicked) ended by a fault of ours.
    pub async fn run(mut self, mut notes: mpsc::UnboundedReceiver<Note>) {
        let mut reported = false;
        while let Some(note) = notes.recv().await {
            match note {
                Note::Row { row, codec, quality } => self.take(row, codec, quality).await,
                Note::End(end) => {
                    reported = true;
                    self.over(end).await;
                }
            }
        }
        if !reported {
            tracing::error!(call = %self.stored.call.id, "call.broken");
            self.settle(edge::clock::now()).await;
        }
    }

    /// Takes care of a call from which no more notes come: how it ended is reported as it was written down, and else that
    /// it broke, at this moment.
    pub async fn settle(mut self, at: Timestamp) {
        let end = match ended(&self.stored.call) {
            Some(end) => end,
            None => {
                let at = at.max(self.stored.call.started_at);
                let duration = at.since(self.stored.call.started_at).as_secs();
                let end = End::Error { duration, code: ErrorCode::Internal };
                self.close(end, at);
                end
            }
        };
        self.over(end).await;
    }

    async fn take(&mut self, row: Row, codec: Option<Codec>, quality: Option<Value>) {
        let call = &mut self.stored.call;
        call.codec = codec.or(call.codec);
        call.quality = quality.or(call.quality.take());
        match row {
            Row::Answered { after } => {
                call.answered_at = Some(call.started_at.plus(after));
                self.metrics.answered();
                stubbornly("call.answer_unwritten", || self.store.keep_call(self.session.app, &self.stored)).await;
            }
            Row::Ended { end, answered, status } => {
                call.answered_at = answered.map(|after| call.started_at.plus(after)).or(call.answered_at);
                call.sip_status = status;
                self.close(end, edge::clock::now());
            }
        }
    }

    fn close(&mut self, end: End, at: Timestamp) {
        let call = &mut self.stored.call;
        call.ended_at = Some(at);
        call.duration = Some(end.duration());
        match end {
            End::Hangup { reason, .. } => call.reason = Some(reason.as_str().to_owned()),
            End::Error { code, .. } => call.error_code = Some(code.as_str().to_owned()),
        }
    }

    /// Gives the claims back, reports the end and keeps the row, each for itself. Only once all of it is done nobody needs
    /// to look after the call any more.
    async fn over(&self, end: End) {
        self.metrics.ended(end);
        let (app, call) = (self.session.app, &self.stored.call);
        let ended_at = call.ended_at.unwrap_or_else(edge::clock::now);
        let envelope = event(&self.stored, end, ended_at).envelope(&self.session.context);
        let trace = edge::trace::begin(call.session_id);
        let (released, deliveries, kept) = tokio::join!(
            stubbornly("call.claim_kept", || self.store.release_call(app, call.session_id, call.id)),
            stubbornly("call.end_unreported", || self.events.accept(&self.session, &envelope, trace, ended_at)),
            stubbornly("call.row_unwritten", || self.store.keep_call(app, &self.stored)),
        );
        if released.and(deliveries).and(kept).is_some() {
            stubbornly("call.unsettled", || self.store.settle_call(&self.stored.owner, call.id)).await;
        }
        tracing::info!(
            %app, session = %call.session_id, call = %call.id, duration_s = end.duration(), event.name = %envelope.name,
            reason = call.reason, error.code = call.error_code, sip.status = call.sip_status,
            answered = call.answered_at.is_some(), preview = call.preview, deliveries,
            took_ms = ended_at.since(call.started_at).as_millis(), trace = trace.map(display), "call.ended"
        );
    }
}

/// How a call ended, if its row says so.
fn ended(call: &Call) -> Option<End> {
    let duration = call.duration.filter(|_| call.ended_at.is_some())?;
    let hung_up = call.reason.as_deref().and_then(Reason::parse).map(|reason| End::Hangup { duration, reason });
    let failed = || call.error_code.as_deref().and_then(ErrorCode::parse).map(|code| End::Error { duration, code });
    hung_up.or_else(failed)
}

fn event(stored: &Stored, end: End, at: Timestamp) -> Event {
    match end {
        End::Hangup { duration, reason } => Event::call_ended(stored.call.id, duration, reason.as_str(), at),
        End::Error { code, .. } => Event::call_error(stored.call.id, code.as_str(), code.message(), at),
    }
}

/// Tries until it is done; nothing, when it is given up.
pub(crate) async fn stubbornly<T, F: Future<Output = Result<T, Error>>>(
    what: &'static str,
    attempt: impl Fn() -> F,
) -> Option<T> {
    let mut wait = FIRST_WAIT;
    for tried in 1..=TRIES {
        match attempt().await {
            Ok(done) => return Some(done),
            Err(cause) if tried == TRIES => tracing::error!(what, %cause, "record.given_up"),
            Err(cause) => {
                tracing::warn!(what, %cause, "record.tried");
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
    None
}
