//! One INVITE to one hop, until it is over: challenges, reliable provisional responses (RFC 3262), forks (the first 2xx
//! wins, every other ends at once), and giving up (CANCEL as soon as it may be sent; a 2xx that crosses it is ended).

use std::{collections::HashMap, pin::pin, sync::Arc};

use rsipstack::{
    dialog::authenticate::AuthRetry,
    sip::{Header, Headers, HeadersExt, Method, Request, Response, SipMessage, StatusCodeKind},
    transaction::Transaction,
};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;

use super::{
    agent::{Shared, authenticated, made_here},
    dialog::{Dialog, Sequence},
    target::{Credential, Hop},
};

/// Branches of one call that are listened to; a far side that forks without end is heard no more.
pub(super) const MAX_BRANCHES: usize = 16;
/// Reliable provisional responses that are acknowledged in one call.
const MAX_RELIABLE: usize = 64;

/// What became of an INVITE.
#[derive(Debug)]
pub enum Progress {
    /// A response of the far side: provisional ones, then one final one.
    Response(Box<Response>),
    /// It said nothing, or cannot be reached.
    Silence,
}

/// An INVITE on its way.
pub struct Inviting {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hop: Hop,
    pub(crate) credential: Option<Credential>,
    pub(crate) sequence: Sequence,
    /// Tells it to give up.
    pub(crate) give_up: CancellationToken,
    /// Where it reports; nobody listens any more once the call was given up.
    pub(crate) progress: mpsc::Sender<Progress>,
}

impl Inviting {
    /// Sends the request and stays until no response to it can come any more. Ends by itself.
    pub async fn run(self, request: Request) {
        let Ok(transaction) = self.shared.transaction(request, &self.hop).await else {
            let _ = self.progress.send(Progress::Silence).await;
            return;
        };
        let mut state = State::default();
        let mut current = Some(transaction);
        let mut retry = AuthRetry::new();
        while let Some(mut transaction) = current.take() {
            if transaction.send().await.is_err() {
                let _ = self.progress.send(Progress::Silence).await;
                return;
            }
            while let Some(response) = self.next(&mut transaction, &mut state).await {
                let credential = self.credential.as_ref().filter(|_| !self.give_up.is_cancelled());
                current = authenticated(&transaction, &response, credential, &mut retry, &self.sequence).await;
                if current.is_some() {
                    break;
                }
                self.take(&transaction.original, response, &mut state).await;
            }
        }
    }

    /// The next response. A `receive` begun is never dropped half-way: it may be acknowledging a response.
    async fn next(&self, transaction: &mut Transaction, state: &mut State) -> Option<Response> {
        let request = transaction.original.clone();
        loop {
            let mut receive = pin!(transaction.receive());
            let message = loop {
                let give_up = async {
                    self.give_up.cancelled().await;
                };
                tokio::select! {
                    message = &mut receive => break message,
                    () = give_up, if state.proceeding && !state.cancelled => self.cancel(&request, state),
                }
            };
            match message? {
                SipMessage::Response(response) => return Some(response),
                SipMessage::Request(_) => {}
            }
        }
    }

    async fn take(&self, request: &Request, response: Response, state: &mut State) {
        match response.status_code.kind() {
            StatusCodeKind::Provisional => {
                state.proceeding = true;
                if self.give_up.is_cancelled() {
                    self.cancel(request, state);
                } else {
                    self.acknowledge(request, &response, state);
                    let _ = self.progress.send(Progress::Response(Box::new(response))).await;
                }
            }
            StatusCodeKind::Successful => {
                let dialog = Dialog::new(request, &response, &self.sequence);
                let tag = dialog.as_ref().map(|dialog| dialog.remote_tag().to_owned()).unwrap_or_default();
                match &state.confirmed {
                    Some(first) if *first == tag => {}
                    Some(_) if state.ended.contains(&tag) || state.ended.len() >= MAX_BRANCHES => {}
                    None if !self.give_up.is_cancelled() => {
                        state.confirmed = Some(tag);
                        // Nobody to give it to: given up in this very moment.
                        if self.progress.send(Progress::Response(Box::new(response))).await.is_err() {
                            self.end(dialog, None);
                        }
                    }
                    None => {
                        state.confirmed = Some(tag);
                        self.end(dialog, Some(self.progress.clone()));
                    }
                    Some(_) => {
                        state.ended.push(tag);
                        self.end(dialog, None);
                    }
                }
            }
            _ if state.confirmed.is_some() => {}
            _ => {
                let silent = made_here(&response);
                if silent {
                    self.shared.forget_connection(&self.hop);
                }
                let progress = if silent { Progress::Silence } else { Progress::Response(Box::new(response)) };
                let _ = self.progress.send(progress).await;
            }
        }
    }

    /// Sends the CANCEL of an INVITE that has been answered provisionally: before that it may not be sent (RFC 3261,
    /// section 9.1).
    fn cancel(&self, request: &Request, state: &mut State) {
        if std::mem::replace(&mut state.cancelled, true) {
            return;
        }
        let Some(cancel) = cancel(request) else { return };
        let (shared, hop, sequence) = (self.shared.clone(), self.hop.clone(), self.sequence.clone());
        // Its own answer says nothing: what counts is the INVITE's.
        tokio::spawn(async move { shared.ask(cancel, &hop, None, &sequence).await });
    }

    /// Ends a session that nobody wants, and reports when that is done.
    fn end(&self, dialog: Option<Dialog>, report: Option<mpsc::Sender<Progress>>) {
        let Some(dialog) = dialog else { return };
        let (shared, hop, credential) = (self.shared.clone(), self.hop.clone(), self.credential.clone());
        tokio::spawn(async move {
            let _ = shared.ask_within(&dialog, Method::Bye, Vec::new(), Vec::new(), &hop, credential.as_ref()).await;
            if let Some(report) = report {
                let _ = report.send(Progress::Silence).await;
            }
        });
    }

    /// Sends the PRACK of a reliable provisional response, once, in order (RFC 3262, section 4).
    fn acknowledge(&self, request: &Request, response: &Response, state: &mut State) {
        let Some(rseq) = response.rseq_value().filter(|_| response.header_contains_token("Require", "100rel")) else {
            return;
        };
        let (Some(dialog), Ok(cseq)) = (Dialog::new(request, response, &self.sequence), response.cseq_header()) else {
            return;
        };
        let last = state.reliable.get(dialog.remote_tag()).copied();
        let full = state.acknowledged >= MAX_RELIABLE || (last.is_none() && state.reliable.len() >= MAX_BRANCHES);
        if full || last.is_some_and(|last| rseq != last.wrapping_add(1)) {
            return;
        }
        state.acknowledged += 1;
        state.reliable.insert(dialog.remote_tag().to_owned(), rseq);
        let rack = format!("{rseq} {}", cseq.value());
        let (shared, hop, credential) = (self.shared.clone(), self.hop.clone(), self.credential.clone());
        tokio::spawn(async move {
            let extra = vec![Header::RAck(rack.into())];
            let acknowledged = shared.ask_within(&dialog, Method::PRack, extra, Vec::new(), &hop, credential.as_ref());
            if acknowledged.await.is_err() {
                tracing::warn!("sip.prack_unanswered");
            }
        });
    }
}

#[derive(Default)]
struct State {
    /// Whether a provisional response has come.
    proceeding: bool,
    /// Whether the CANCEL has been sent.
    cancelled: bool,
    /// The remote tag of the dialog the first 2xx made.
    confirmed: Option<String>,
    /// Other branches that were answered as well, and ended.
    ended: Vec<String>,
    /// The last reliable response of every branch.
    reliable: HashMap<String, u32>,
    /// How many of them were acknowledged.
    acknowledged: usize,
}

/// The CANCEL of a request: the same but for method and body (RFC 3261, section 9.1).
fn cancel(request: &Request) -> Option<Request> {
    let kept = |header: &&Header| {
        matches!(
            header,
            Header::Via(_)
                | Header::From(_)
                | Header::To(_)
                | Header::CallId(_)
                | Header::MaxForwards(_)
                | Header::Route(_)
                | Header::UserAgent(_)
        )
    };
    let mut headers = Headers::from(request.headers.iter().filter(kept).cloned().collect::<Vec<_>>());
    let seq = request.cseq_header().ok()?.seq().ok()?;
    headers.push(rsipstack::sip::typed::CSeq { seq, method: Method::Cancel }.into());
    headers.push(Header::ContentLength(0.into()));
    Some(Request { method: Method::Cancel, headers, body: Vec::new(), ..request.clone() })
}

/// Waits for `receiver`, at most `limit`; `None` in the outer layer: the time is over.
pub(crate) async fn within<T>(limit: Option<time::Duration>, receiver: &mut mpsc::Receiver<T>) -> Option<Option<T>> {
    match limit {
        Some(limit) => time::timeout(limit, receiver.recv()).await.ok(),
        None => Some(receiver.recv().await),
    }
}
