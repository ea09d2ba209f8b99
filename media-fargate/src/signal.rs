//! `/v1/calls`: how a widget, or any other client that speaks WHIP (RFC 9725), begins and ends a call.
//!
//! - `POST /v1/calls`: `Authorization: Bearer {session token}`, `Content-Type: application/sdp`, the offer (at most 8 KB,
//!   audio sendrecv, at most one data section, no trickle needed: our candidates are all in the answer and the browser's
//!   are learnt). 201, the answer, and `Location: /v1/calls/{callId}`. The contact centre is called once the browser is
//!   connected; what happens from then on is said on the data channel `control` ([`crate::control`]).
//! - `DELETE` on it hangs up: 204, also when it is over already. With `?errorCode=no_audio`, or another code that a widget
//!   can notice ([`ErrorCode::NOTICED`]), the call ended for that reason and not because its visitor wished so, as on the
//!   channel; anything else there is left aside. `PATCH` on it with a new offer (`application/sdp`) restarts
//!   ICE: 200 and the new answer, 410 when the call is over. Both need a token of the call's session; a renewed one will
//!   do. Either may reach another server than the one that runs the call, which then passes it on ([`crate::forward`]).
//!
//! Refusals are the contract's: 401 for the token, 409 `provider_inactive`, 409 `conflict` when the session has a call
//! already, 429 over the limits, 503 with `Retry-After` when this server is full or stops and knows no other with room, or
//! when the server that runs the call cannot be asked: nobody is told that a call is over that may well go on.
//!
//! Outside business hours it is 409 `conflict` with a detail whose code is `closed`.
//!
//! A session has one call at a time. Nothing is opened for a visitor before the token, the limits, the offer and the claim
//! were in order (security.md, "Media"). The end is reported as the event `evt_` + the call id's 26 characters
//! ([`domain::id::EventId::of_end`]); a widget that reports it uses the same id.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State as Extract},
    response::{IntoResponse, Response},
    routing::{any, delete, post},
};
use domain::{
    app::{Codec, Provider},
    call::Call,
    field::FieldError,
    hours::{self, Closed, Opening},
    id::{CallId, DestinationId},
    limit::{Exceeded, WINDOW, shorten},
    session::Session,
    time::Timestamp,
};
use edge::{
    chance,
    extract::{Bearer, ClientIp, Now, Path},
    problem::{Kind, Problem},
};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use store::calls::{Busy, Stored};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    State,
    bridge::{self, Bridge},
    browser::{AcceptError, MAX_OFFER_BYTES, Offer, OfferError},
    calls::{Command, Refusal},
    codes::ErrorCode,
    forward::{self, Answer, Owner, Unconnected},
    record::{Recorder, stubbornly},
    sip::{Credential, Invite, Trunk, headers},
};

pub(crate) const SDP: &str = "application/sdp";
/// How long an offer may take to come in: who sends one keeps a place from others.
const OFFER_LIMIT: Duration = Duration::from_secs(5);
/// How long a refusal waits for what was claimed to be given back.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(1);
/// How long a call may take to answer a new offer.
const RESTART_LIMIT: Duration = Duration::from_secs(3);
/// Other servers that are asked, one after the other, when this one is full.
const MAX_ASKED: usize = 2;
/// A call as young as this may hold its session's claim and run nowhere yet.
const SETTLING: Duration = Duration::from_secs(10);

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new().route("/v1/calls", post(create).options(preflight)).route("/v1/calls/{call}", any(change))
}

/// The routes for other media servers.
pub(crate) fn private_routes() -> Router<State> {
    let calls = Router::new().route("/calls", post(create_forwarded));
    calls.route("/calls/{call}", delete(forwarded).patch(forwarded).get(runs))
}

async fn preflight() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

async fn create(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    bearer: Result<Bearer, Problem>,
    request: Request,
) -> Result<Response, Problem> {
    let started = Instant::now();
    // Who has shown no token and no offer yet takes no place from others.
    let refusal = state.calls.look().err();
    let others = refusal.map(|_| state.fleet.some(MAX_ASKED)).unwrap_or_default();
    if let Some(refusal) = refusal.filter(|_| others.is_empty()) {
        return Err(full(&state, refusal));
    }
    state.limiter.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let bearer = bearer?;
    match refusal {
        None => begin(&state, Some(ip), &bearer, request, started, now).await,
        Some(refusal) => begin_elsewhere(&state, &others, &bearer, request, refusal, now).await,
    }
}

/// The same, passed on by a server that is full. It counted the visitor's address; and from here it goes nowhere.
async fn create_forwarded(
    Extract(state): Extract<State>,
    Now(now): Now,
    bearer: Result<Bearer, Problem>,
    request: Request,
) -> Result<Response, Problem> {
    begin(&state, None, &bearer?, request, Instant::now(), now).await
}

fn full(state: &State, refusal: Refusal) -> Problem {
    state.metrics.refused();
    Problem::new(Kind::Unavailable, format!("No call can begin here: {refusal}. Please try again shortly."))
}

/// Begins a call on another server. One that is full by now, or not there, is no reason not to ask the next; one that says
/// nothing is, for it may have begun the call.
async fn begin_elsewhere(
    state: &State,
    others: &[Owner],
    bearer: &Bearer,
    request: Request,
    refusal: Refusal,
    now: Timestamp,
) -> Result<Response, Problem> {
    session(state, bearer, now).await?;
    let offer = read_offer(request).await?;
    for other in others {
        match forward::forward(other, Method::POST, "/calls", &bearer.0, &offer).await {
            Ok(Answer::Owner(answer)) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => return Ok(answer),
            Ok(Answer::Owner(_) | Answer::Gone) => {}
            Err(cause) => {
                tracing::warn!(process = other.process(), %cause, "call.not_passed_on");
                if !cause.is::<Unconnected>() {
                    break;
                }
            }
        }
    }
    Err(full(state, refusal))
}

/// Begins a call here, of a visitor at this address if it is known.
async fn begin(
    state: &State,
    client: Option<IpAddr>,
    bearer: &Bearer,
    request: Request,
    started: Instant,
    now: Timestamp,
) -> Result<Response, Problem> {
    let session = session(state, bearer, now).await?;
    state.limiter.admit_app(session.app, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let offer = read_offer(request).await?;
    let (profile, (provider, trunk)) =
        tokio::try_join!(destination(state, &session, now), trunk(state, &session, now))?;
    let codec = codec(&offer, &provider)?;
    let mut place = state.calls.admit().map_err(|refusal| full(state, refusal))?;

    let (state, token) = (state.clone(), bearer.0.clone());
    let beginning = async move {
        let id = CallId::mint(now, &chance::bytes());
        let call = Call::start(id, &session, profile.0, now);
        let stored = Stored { call, owner: state.owner.to_string() };
        claim(&state, &session, &token, &stored, now).await?;
        // In a task of its own: should an offer break the library, what was claimed is given back as well.
        let answering = state.clone();
        let accepting = tokio::spawn(async move { answering.browsers.accept(&offer, codec).await });
        let accepted = match accepting.await.unwrap_or_else(|broken| Err(AcceptError::Internal(broken.to_string()))) {
            Ok(accepted) => accepted,
            Err(error) => {
                // The session may try again as soon as it hears of it, unless the table is slow.
                let _ = timeout(WITHDRAW_LIMIT, withdraw(&state, &session, stored)).await;
                return Err(unanswered(error));
            }
        };

        let answer = accepted.answer.clone();
        let (routing_key, allowed) = (session.routing_key.as_deref(), &provider.context_headers);
        let extras = headers::extras(&id.to_string(), routing_key, &session.context, allowed);
        let (destination, codecs) = (profile.1, offered(codec, &provider));
        let invite = Invite { trunk, destination, codecs, extras };
        let commands = place.occupy(id, session.app, session.id);
        let bridge = Bridge::new(started, accepted, commands, Arc::new(state.trunks.clone()), invite);
        tracing::info!(
            app = %session.app, session = %session.id, call = %id, ?codec, preview = session.preview, client = client.map(shorten),
            took_ms = started.elapsed().as_millis(), "call.begun"
        );
        let (store, events, metrics) = (state.store.clone(), state.events.clone(), state.metrics.clone());
        bridge::start(bridge, Recorder { store, events, metrics, session, stored }, place);
        state.metrics.started(started.elapsed());
        let headers = [(header::CONTENT_TYPE, SDP.to_owned()), (header::LOCATION, format!("/v1/calls/{id}"))];
        Ok((StatusCode::CREATED, headers, answer).into_response())
    };
    // To its end also when the visitor goes away meanwhile: a claim without a call would hold the session for an hour.
    tokio::spawn(beginning).await.map_err(Problem::server_error)?
}

/// The session that a token speaks for.
async fn session(state: &State, bearer: &Bearer, now: Timestamp) -> Result<Session, Problem> {
    let verified = state.verifier.verify(&bearer.0, now).await.map_err(Problem::unavailable)?;
    Ok(verified.map_err(Problem::token_refused)?.session().clone())
}

async fn read_offer(request: Request) -> Result<String, Problem> {
    if !is_sdp(request.headers()) {
        return Err(Problem::new(Kind::UnsupportedMediaType, "The body must be sent as application/sdp."));
    }
    let too_large =
        || Problem::new(Kind::PayloadTooLarge, format!("The body must be at most {MAX_OFFER_BYTES} bytes."));
    let body: Body = request.into_body();
    let bytes = timeout(OFFER_LIMIT, axum::body::to_bytes(body, MAX_OFFER_BYTES)).await;
    let late = |_| Problem::new(Kind::ValidationError, "The offer did not come in within 5 seconds.");
    let bytes = bytes.map_err(late)?.map_err(|_| too_large())?;
    String::from_utf8(bytes.into()).map_err(|_| unusable(OfferError::Malformed))
}

fn is_sdp(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP)
}

fn unusable(error: OfferError) -> Problem {
    Problem::new(Kind::ValidationError, format!("The offer cannot be answered: {error}."))
}

fn unanswered(error: AcceptError) -> Problem {
    match error {
        AcceptError::Offer(error) => unusable(error),
        // What the library says about an offer quotes it.
        AcceptError::Refused(_) => Problem::new(Kind::ValidationError, "The offer cannot be answered."),
        AcceptError::NoPort | AcceptError::NoCandidate | AcceptError::Internal(_) => Problem::unavailable(error),
    }
}

/// Whom the session reaches: only ever a stored profile of its app, and only while it takes calls. The session may have
/// begun before it closed.
async fn destination(state: &State, session: &Session, now: Timestamp) -> Result<(DestinationId, String), Problem> {
    let nowhere =
        || Problem::new(Kind::Conflict, "This session leads to no profile of the app, so nobody can be called.");
    let id = session.profile.ok_or_else(nowhere)?;
    let read = tokio::try_join!(state.store.profile(session.app, id), state.store.hours(session.app));
    let (found, hours) = read.map_err(Problem::unavailable)?;
    let profile = found.ok_or_else(nowhere)?.profile;
    match hours::decide(hours.as_ref(), Some(&profile.hours), now) {
        Opening::Open => Ok((profile.id, profile.destination)),
        Opening::Closed(closed) => Err(outside_hours(&closed)),
    }
}

/// Told apart from the other conflicts by the detail's code: a widget then begins a session anew and shows that it is closed.
fn outside_hours(closed: &Closed) -> Problem {
    let again = closed.opens_at.map_or_else(String::new, |at| format!(" It opens again at {at}."));
    let message = format!("It is closed at the moment, so no call can begin.{again}");
    let detail = FieldError { field: "hours".into(), message: "is closed at the moment".into(), code: "closed" };
    Problem::new(Kind::Conflict, message).about(vec![detail])
}

/// The app's provider, and as a call needs it.
async fn trunk(state: &State, session: &Session, now: Timestamp) -> Result<(Provider, Trunk), Problem> {
    let found =
        state.store.provider_with_password(&state.vault, session.app, now).await.map_err(Problem::unavailable)?;
    let Some((provider, password)) = found.filter(|(provider, _)| provider.active) else {
        let message = "This app has no active VoIP provider, so no call can be made.";
        return Err(Problem::new(Kind::ProviderInactive, message));
    };
    let credential = provider
        .username
        .clone()
        .zip(password)
        .map(|(username, password)| Credential { username, password: Zeroizing::new(password.expose().to_owned()) });
    let trunk = Trunk {
        uri: provider.uri.clone(),
        transport: provider.transport,
        caller_id: provider.caller_id.clone(),
        credential,
        protected: provider.srtp,
    };
    Ok((provider, trunk))
}

/// The codec of the browser's side: the provider's first that the browser offers, for the answer goes out before anybody
/// is called. Should the trunk then choose another one, audio is transcoded: a provider whose list begins with Opus and
/// goes on with G.711 has Opus on the internet, with its forward error correction, and G.711 on the trunk.
fn codec(offer: &str, provider: &Provider) -> Result<Codec, Problem> {
    let mut first = OfferError::Codec;
    for codec in &provider.codecs {
        match Offer::read(offer, *codec) {
            Ok(_) => return Ok(*codec),
            Err(OfferError::Codec) => {}
            Err(error) => {
                first = error;
                break;
            }
        }
    }
    Err(unusable(first))
}

/// What the trunk is offered: the browser's codec before the provider's others, so that audio passes as it is when that
/// can be.
fn offered(codec: Codec, provider: &Provider) -> Vec<Codec> {
    let others = provider.codecs.iter().copied().filter(|other| *other != codec);
    std::iter::once(codec).chain(others).collect()
}

/// Claims the session for a call, and a place among the app's.
async fn claim(state: &State, session: &Session, token: &str, stored: &Stored, now: Timestamp) -> Result<(), Problem> {
    let begin = async || {
        let begun = state.store.begin_call(session, stored, state.at_once, now).await;
        begun.map_err(|error| {
            // It may have been written, and only the answer was lost.
            withdraw(state, session, stored.clone());
            Problem::unavailable(error)
        })
    };
    let begun = match begin().await? {
        Err(Busy::Session) if take_over(state, session, token, now).await? => begin().await?,
        begun => begun,
    };
    begun.map_err(|busy| match busy {
        Busy::Session => Problem::new(Kind::Conflict, "This session has a call that runs. End it first."),
        // When a place becomes free nobody knows; a window is as good a guess as any.
        Busy::App => Problem::limited(Exceeded { limit: state.at_once, reset: now.plus(WINDOW) }, now),
    })
}

/// Releases the session's claim if the call that holds it runs no more, such as one whose server died: its visitor shall
/// not wait until it must be over. A visitor who calls again has let go of the call before, so it ends for a server that
/// cannot be asked as well; should it run after all, it ends by itself for want of a browser, and its row then tells how.
async fn take_over(state: &State, session: &Session, token: &str, now: Timestamp) -> Result<bool, Problem> {
    let Some(id) = state.store.session_call(session.id).await.map_err(Problem::unavailable)? else { return Ok(true) };
    let held = stored(state, session, id).await?.filter(|_| now.since(id.minted_at()) > SETTLING);
    let Some(stored) = held else { return Ok(false) };
    if stored.owner == state.owner.to_string() {
        if state.calls.find(id, session.id).is_some() {
            return Ok(false);
        }
    } else {
        match ask_owner(&stored, Method::GET, "", token, "").await {
            Ok(Answer::Owner(answer)) if answer.status() != StatusCode::NOT_FOUND => return Ok(false),
            Ok(Answer::Owner(_)) => {}
            Ok(Answer::Gone) | Err(_) => bury(state, session.clone(), id, now).await?,
        }
    }
    tracing::warn!(session = %session.id, call = %id, "call.claim_taken");
    state.store.release_call(session.app, session.id, id).await.map_err(Problem::unavailable)?;
    Ok(true)
}

/// Gives back what a call claimed that did not come about, also when nobody waits for it.
fn withdraw(state: &State, session: &Session, stored: Stored) -> JoinHandle<()> {
    let (store, app) = (state.store.clone(), session.app);
    tokio::spawn(async move {
        stubbornly("call.claim_kept", || store.withdraw_call(app, &stored)).await;
    })
}

/// What is wanted of a call that runs.
enum Wish {
    /// `DELETE`, for what the widget noticed if it says so.
    HangUp(Option<ErrorCode>),
    /// `PATCH`: this offer is to be answered.
    Restart(String),
}

impl Wish {
    async fn read(request: Request) -> Result<Self, Problem> {
        match *request.method() {
            Method::DELETE => Ok(Self::HangUp(noticed(request.uri()))),
            _ => read_offer(request).await.map(Self::Restart),
        }
    }

    /// What is answered when the call is over.
    fn late(&self) -> Result<Response, Problem> {
        match self {
            Self::HangUp(_) => Ok(StatusCode::NO_CONTENT.into_response()),
            Self::Restart(_) => Err(Problem::new(Kind::Gone, "This call is over.")),
        }
    }
}

/// What its query says that ended a call. No code of ours needs an escape.
fn noticed(uri: &Uri) -> Option<ErrorCode> {
    let code = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("errorCode="))?;
    ErrorCode::noticed(code)
}

/// `DELETE` and `PATCH`.
async fn change(
    Extract(state): Extract<State>,
    Now(now): Now,
    ClientIp(ip): ClientIp,
    Path(id): Path<String>,
    bearer: Result<Bearer, Problem>,
    request: Request,
) -> Result<Response, Problem> {
    match *request.method() {
        Method::OPTIONS => return Ok(preflight().await),
        Method::DELETE | Method::PATCH => {}
        _ => return Err(Problem::not_found("address here")),
    }
    state.changes.admit_ip(ip, now).await.map_err(|exceeded| Problem::limited(exceeded, now))?;
    let bearer = bearer?;
    let session = session(&state, &bearer, now).await?;
    let id: CallId = id.parse().map_err(|_| Problem::not_found("call"))?;
    let wish = Wish::read(request).await?;
    match here(&state, &session, id, &wish).await? {
        Some(done) => Ok(done),
        None => elsewhere(&state, session, &bearer.0, id, wish, now).await,
    }
}

/// The same, passed on by a server that looked whose call it is. It counted the request; and from here it goes nowhere.
async fn forwarded(
    Extract(state): Extract<State>,
    Now(now): Now,
    Path(id): Path<String>,
    bearer: Result<Bearer, Problem>,
    request: Request,
) -> Result<Response, Problem> {
    let session = session(&state, &bearer?, now).await?;
    let id: CallId = id.parse().map_err(|_| Problem::not_found("call"))?;
    let wish = Wish::read(request).await?;
    here(&state, &session, id, &wish).await?.map_or_else(|| wish.late(), Ok)
}

/// Whether a call of the token's session runs here: 204, or 404.
async fn runs(
    Extract(state): Extract<State>,
    Now(now): Now,
    Path(id): Path<String>,
    bearer: Result<Bearer, Problem>,
) -> Result<StatusCode, Problem> {
    let session = session(&state, &bearer?, now).await?;
    let found = id.parse().ok().and_then(|id| state.calls.find(id, session.id));
    found.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| Problem::not_found("call"))
}

/// Asks it of a call of this session that runs here; nothing, when there is none.
async fn here(state: &State, session: &Session, id: CallId, wish: &Wish) -> Result<Option<Response>, Problem> {
    let Some(commands) = state.calls.find(id, session.id) else { return Ok(None) };
    let stuck = || Problem::new(Kind::Unavailable, "The call does not answer. Please try again shortly.");
    let (answer, answered) = oneshot::channel();
    let command = match wish {
        Wish::HangUp(noticed) => Command::HangUp(*noticed),
        Wish::Restart(offer) => Command::Restart { offer: offer.clone(), answer },
    };
    match commands.try_send(command) {
        Ok(()) => {}
        // It ended at this very moment.
        Err(mpsc::error::TrySendError::Closed(_)) => return wish.late().map(Some),
        Err(mpsc::error::TrySendError::Full(_)) => return Err(stuck()),
    }
    if matches!(wish, Wish::HangUp(_)) {
        return Ok(Some(StatusCode::NO_CONTENT.into_response()));
    }
    match timeout(RESTART_LIMIT, answered).await {
        Ok(Ok(answer)) => Ok(Some(([(header::CONTENT_TYPE, SDP)], answer.map_err(unanswered)?).into_response())),
        // A call that ended meanwhile answers nothing.
        Ok(Err(_)) => wish.late().map(Some),
        Err(_) => Err(stuck()),
    }
}

/// A call that does not run here: over, another server's, or nobody's.
async fn elsewhere(
    state: &State,
    session: Session,
    token: &str,
    id: CallId,
    wish: Wish,
    now: Timestamp,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("call");
    let stored = stored(state, &session, id).await?.ok_or_else(unknown)?;
    if is_over(&stored, now) || stored.owner == state.owner.to_string() {
        return wish.late();
    }
    let (method, query, offer) = match &wish {
        Wish::HangUp(Some(noticed)) => (Method::DELETE, format!("?errorCode={}", noticed.as_str()), ""),
        Wish::HangUp(None) => (Method::DELETE, String::new(), ""),
        Wish::Restart(offer) => (Method::PATCH, String::new(), offer.as_str()),
    };
    match ask_owner(&stored, method, &query, token, offer).await {
        Ok(Answer::Owner(response)) => Ok(response),
        Ok(Answer::Gone) => {
            bury(state, session, id, now).await?;
            wish.late()
        }
        Err(cause) => {
            tracing::warn!(call = %id, %cause, "call.owner_unreached");
            let message = "The server that runs this call cannot be asked. Please try again shortly.";
            Err(Problem::new(Kind::Unavailable, message))
        }
    }
}

async fn ask_owner(
    stored: &Stored,
    method: Method,
    query: &str,
    token: &str,
    offer: &str,
) -> Result<Answer, forward::Failure> {
    let path = format!("/calls/{}{query}", stored.call.id);
    forward::forward(&stored.owner.parse::<Owner>()?, method, &path, token, offer).await
}

/// What is kept of a call of this session.
async fn stored(state: &State, session: &Session, id: CallId) -> Result<Option<Stored>, Problem> {
    let found = state.store.call(session.app, id).await.map_err(Problem::unavailable)?;
    Ok(found.filter(|stored| stored.call.session_id == session.id))
}

fn is_over(stored: &Stored, now: Timestamp) -> bool {
    stored.call.ended_at.is_some() || stored.call.over_by() < now
}

/// Writes down that a call ended with the server that ran it, unless that had time to do so itself: the session may call
/// again, and its integrations hear of the end.
async fn bury(state: &State, session: Session, id: CallId, now: Timestamp) -> Result<(), Problem> {
    let left = stored(state, &session, id).await?.filter(|stored| !is_over(stored, now));
    if let Some(stored) = left {
        let (store, events, metrics) = (state.store.clone(), state.events.clone(), state.metrics.clone());
        tokio::spawn(Recorder { store, events, metrics, session, stored }.settle(now));
    }
    Ok(())
}
