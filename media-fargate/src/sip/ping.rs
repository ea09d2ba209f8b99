//! Whether a provider is there: an OPTIONS, and what its outcome means. [`super::health`] asks again and again.

use std::time::Duration;

use domain::{app::ProviderFault, reach::Reach};
use rsipstack::sip::{Header, Headers, Method, Param, Request, Scheme, Uri, Version, typed};
use tokio::time::{Instant, timeout};

use super::{
    agent::{Agent, Unreachable},
    dialog::Sequence,
    target::{Hop, TargetError, Trunk},
};

/// How long one hop may take to answer: four datagrams.
const DEADLINE: Duration = Duration::from_secs(4);

/// What a provider answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The SIP status.
    pub status: u16,
    /// From the question to the answer, the opening of a connection included.
    pub round_trip: Duration,
}

/// Why a provider counts as down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its address leads nowhere.
    Target(TargetError),
    /// No hop answers.
    Unreachable,
    /// It says itself that it cannot serve (5xx).
    Serving(Answer),
}

impl Why {
    /// Its name for operators.
    pub fn fault(self) -> ProviderFault {
        match self {
            Self::Target(TargetError::Malformed) => ProviderFault::AddressUnreadable,
            Self::Target(TargetError::NotFound) => ProviderFault::NameNotFound,
            Self::Target(TargetError::Unresolved) => ProviderFault::ResolverSilent,
            Self::Target(TargetError::Blocked) => ProviderFault::AddressBlocked,
            Self::Unreachable => ProviderFault::NoAnswer,
            Self::Serving(_) => ProviderFault::ServerError,
        }
    }
}

/// What an answer says about a provider: who refuses the question is there to refuse it.
fn judged(answer: Answer) -> Result<Answer, Why> {
    if (500..600).contains(&answer.status) && answer.status != 501 { Err(Why::Serving(answer)) } else { Ok(answer) }
}

impl Agent {
    /// Asks a provider whether it is there: its hops in order, until one says so.
    ///
    /// # Errors
    /// What the last hop failed with.
    pub async fn ping(&self, trunk: &Trunk) -> Result<Answer, Why> {
        let shared = &self.shared;
        let mut draw = |below: u32| u32::from_be_bytes(edge::chance::bytes()) % below.max(1);
        let reach: &Reach = &shared.reach;
        let hops = trunk.hops(shared.dns.as_ref(), reach, &mut draw).await.map_err(Why::Target)?;
        let mut outcome = Err(Why::Unreachable);
        for hop in hops {
            let request = self.question(trunk, &hop)?;
            let (asked_at, sequence) = (Instant::now(), Sequence::after(1));
            let asked = shared.ask(request, &hop, trunk.credential.as_ref(), &sequence);
            outcome = match timeout(DEADLINE, asked).await {
                Ok(Ok(response)) => {
                    judged(Answer { status: response.status_code.code(), round_trip: asked_at.elapsed() })
                }
                Ok(Err(Unreachable)) | Err(_) => Err(Why::Unreachable),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn question(&self, trunk: &Trunk, hop: &Hop) -> Result<Request, Why> {
        let shared = &self.shared;
        let host = trunk.host().map_err(Why::Target)?;
        let uri = Uri { scheme: Some(Scheme::Sip), host_with_port: host, ..Uri::default() };
        let from = typed::From::from(trunk.from().map_err(Why::Target)?);
        let via = shared.via(hop.transport).map_err(|_| Why::Unreachable)?;
        let to = typed::To { display_name: None, uri: uri.clone(), params: Vec::<Param>::new() };
        let headers = Headers::from(vec![
            via.into(),
            Header::MaxForwards(70.into()),
            from.with_tag(rsipstack::transaction::make_tag()).into(),
            to.into(),
            Header::CallId(shared.call_id().into()),
            typed::CSeq { seq: 1, method: Method::Options }.into(),
            shared.contact(hop.transport),
            shared.user_agent(),
            Header::Accept("application/sdp".into()),
            Header::ContentLength(0.into()),
        ]);
        Ok(Request { method: Method::Options, uri, version: Version::V2, headers, body: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_refuses_is_there() {
        let answer = |status| Answer { status, round_trip: Duration::ZERO };
        for status in [200, 401, 403, 404, 405, 501, 603] {
            assert_eq!(judged(answer(status)), Ok(answer(status)), "{status}");
        }
        for status in [500, 502, 503, 504] {
            assert_eq!(judged(answer(status)), Err(Why::Serving(answer(status))), "{status}");
        }
    }
}
