//! Whether providers are there: an OPTIONS now and then, and what its outcomes add up to.

use std::{fmt, time::Duration};

use domain::{reach::Reach, time::Timestamp};
use rsipstack::sip::{Header, Headers, Method, Param, Request, Scheme, Uri, Version, typed};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    agent::{Agent, Unreachable},
    dialog::Sequence,
    target::{TargetError, Trunk},
};

/// How often a provider is asked.
pub const EVERY: Duration = Duration::from_secs(60);
/// How long one hop may take to answer: four datagrams.
const DEADLINE: Duration = Duration::from_secs(4);

/// Why a provider counts as down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its address leads nowhere.
    Target(TargetError),
    /// No hop answers.
    Unreachable,
    /// It says itself that it cannot serve (5xx).
    Status(u16),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::Unreachable => Unreachable.fmt(f),
            Self::Status(status) => write!(f, "the provider answers {status}"),
        }
    }
}

/// Whether a provider is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    /// It answers.
    Up {
        /// Since when without a break.
        since: Timestamp,
    },
    /// It does not.
    Down {
        /// Since when.
        since: Timestamp,
        /// Why, as seen last.
        why: Why,
    },
}

impl Health {
    /// After one more outcome.
    pub fn after(self, outcome: Result<(), Why>, now: Timestamp) -> Self {
        match (self, outcome) {
            (Self::Up { since }, Ok(())) => Self::Up { since },
            (_, Ok(())) => Self::Up { since: now },
            (Self::Down { since, .. }, Err(why)) => Self::Down { since, why },
            (_, Err(why)) => Self::Down { since: now, why },
        }
    }
}

/// What a status says about a provider: who refuses the question is there to refuse it.
fn judged(status: u16) -> Result<(), Why> {
    if (500..600).contains(&status) && status != 501 { Err(Why::Status(status)) } else { Ok(()) }
}

impl Agent {
    /// Asks a provider whether it is there: its hops in order, until one says so.
    ///
    /// # Errors
    /// What the last hop failed with.
    pub async fn ping(&self, trunk: &Trunk) -> Result<(), Why> {
        let shared = &self.shared;
        let mut draw = |below: u32| u32::from_be_bytes(edge::chance::bytes()) % below.max(1);
        let reach: &Reach = &shared.reach;
        let hops = trunk.hops(shared.dns.as_ref(), reach, &mut draw).await.map_err(Why::Target)?;
        let mut outcome = Err(Why::Unreachable);
        for hop in hops {
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
            let request = Request { method: Method::Options, uri, version: Version::V2, headers, body: Vec::new() };
            let sequence = Sequence::after(1);
            let asked = shared.ask(request, &hop, trunk.credential.as_ref(), &sequence);
            outcome = match timeout(DEADLINE, asked).await {
                Ok(Ok(response)) => judged(response.status_code.code()),
                Ok(Err(Unreachable)) | Err(_) => Err(Why::Unreachable),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// Asks a provider again and again for as long as anybody listens; `clock` tells the time.
pub fn watch(
    agent: Agent,
    trunk: Trunk,
    every: Duration,
    clock: impl Fn() -> Timestamp + Send + 'static,
) -> watch::Receiver<Health> {
    let (health, watched) = watch::channel(Health::default());
    tokio::spawn(async move {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = health.closed() => return,
            }
            let outcome = agent.ping(&trunk).await;
            let now = clock();
            health.send_if_modified(|health| {
                let before = std::mem::replace(health, health.after(outcome, now));
                before != *health
            });
        }
    });
    watched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_add_up() {
        let at = Timestamp::from_millis;
        let (busy, gone) = (Why::Status(503), Why::Unreachable);
        let mut health = Health::default();
        for (outcome, now, expected) in [
            (Err(gone), 1, Health::Down { since: at(1), why: gone }),
            (Err(busy), 2, Health::Down { since: at(1), why: busy }),
            (Ok(()), 3, Health::Up { since: at(3) }),
            (Ok(()), 4, Health::Up { since: at(3) }),
            (Err(gone), 5, Health::Down { since: at(5), why: gone }),
        ] {
            health = health.after(outcome, at(now));
            assert_eq!(health, expected, "{now}");
        }
        assert_eq!(Health::Unknown.after(Ok(()), at(9)), Health::Up { since: at(9) });
    }

    #[test]
    fn who_refuses_is_there() {
        for status in [200, 401, 403, 404, 405, 501, 603] {
            assert_eq!(judged(status), Ok(()), "{status}");
        }
        for status in [500, 502, 503, 504] {
            assert_eq!(judged(status), Err(Why::Status(status)), "{status}");
        }
        assert_eq!(Why::Status(503).to_string(), "the provider answers 503");
    }
}
