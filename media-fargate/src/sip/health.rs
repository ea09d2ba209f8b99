//! Which providers are there, for their operators to see: every active one is asked now and then, by one of the media
//! servers that share the table, and what it answers is written down when it changed, and every few minutes.
//!
//! Each server goes through the list of active ones, a page at each look, and takes on whom nobody asks; whom it has taken
//! on it asks every minute, wherever in the list it is.
//!
//! Nobody asks with a provider's password: one that wants it says so, which is an answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use domain::{app::ProviderHealth, id::AppId, time::Timestamp};
use store::{
    Error, Store,
    provider_health::{Active, Watch},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    agent::{Agent, WeakAgent},
    ping::{Answer, Why},
    target::Trunk,
};

/// Providers read from the list at once; the next look goes on after them.
const PAGE: u8 = 100;
/// Providers asked at once.
const AT_ONCE: usize = 16;

/// How often what is done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Looks at the list of active providers: within this time a provider that was saved is asked.
    pub look: Duration,
    /// Between two questions to one provider.
    pub ask: Duration,
    /// How long one who takes a provider on has it; nobody else asks it until then, also when that server died.
    pub lease: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { look: Duration::from_secs(10), ask: Duration::from_secs(60), lease: Duration::from_secs(300) }
    }
}

/// Asks active providers for as long as the agent lives; `watcher` names this process in the table.
pub fn start(store: Store, agent: &Agent, watcher: impl Into<String>, pace: Pace) {
    let watcher = Watcher { store, agent: agent.downgrade(), name: watcher.into(), pace };
    tokio::spawn(watcher.run());
}

#[derive(Clone)]
struct Watcher {
    store: Store,
    agent: WeakAgent,
    name: String,
    pace: Pace,
}

/// What is known of one provider.
#[derive(Clone, Debug)]
struct Known {
    /// Of which of its changes this speaks.
    revision: u64,
    /// When to look after it again.
    next: Timestamp,
    /// Who asks it, and until when.
    ours: bool,
    until: Timestamp,
    health: Option<ProviderHealth>,
}

impl Watcher {
    async fn run(self) {
        let (mut known, mut after, mut spread) = (HashMap::<AppId, Known>::new(), None, false);
        let mut looks = interval(self.pace.look);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if self.agent.upgrade().is_none() {
                return;
            }
            let page = match self.store.active_providers(PAGE, after).await {
                Ok(page) => page,
                Err(cause) => {
                    tracing::debug!(%cause, "provider.list_unread");
                    continue;
                }
            };
            let now = edge::clock::now();
            after = page.items.last().map(|last| last.app_id).filter(|_| page.has_more);
            // Servers that were started together go through a long list each from a place of its own.
            if !spread && let Some(seen) = after {
                (after, spread) = (Some(somewhere_behind(seen, now)), true);
            }
            // Those that are in the list no more are forgotten once nobody looked after them for a lease.
            known.retain(|_, known| known.next.plus(self.pace.lease) > now);
            let mut due = Vec::new();
            for active in page.items {
                match known.remove(&active.app_id) {
                    Some(fresh) if fresh.revision == active.revision && fresh.next > now => {
                        known.insert(active.app_id, fresh);
                    }
                    before => due.push((active, before)),
                }
            }
            let ours = known.extract_if(|_, known| known.ours && known.next <= now);
            due.extend(ours.map(|(app_id, known)| (Active { app_id, revision: known.revision }, Some(known))));
            known.extend(self.look_after(due).await);
        }
    }

    /// A few at once. Whom this server has taken on stays so when a check fails, wherever in the list it is.
    async fn look_after(&self, due: Vec<(Active, Option<Known>)>) -> Vec<(AppId, Known)> {
        let (turns, mut checks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
        for (active, before) in due {
            let (watcher, turns) = (self.clone(), turns.clone());
            checks.spawn(async move {
                let (_turn, mut before) = (turns.acquire_owned().await.ok()?, before);
                let known = watcher.check(active, &mut before).await.unwrap_or_else(|cause| {
                    tracing::debug!(app = %active.app_id, %cause, "provider.unchecked");
                    before.map(|before| watcher.again(before))
                });
                known.map(|known| (active.app_id, known))
            });
        }
        let mut known = Vec::new();
        while let Some(checked) = checks.join_next().await {
            // One whose check broke, or that is nobody's yet, is looked after when the list comes to it again.
            known.extend(checked.ok().flatten());
        }
        known
    }

    /// Looked after with the next look; the lease is then renewed, so that nothing of this try is relied on.
    fn again(&self, before: Known) -> Known {
        let now = edge::clock::now();
        Known { next: now.plus(self.pace.look), until: now, ..before }
    }

    /// Asks one provider, if that is ours to do. `before` says what was known of it, and also when this fails whether it
    /// is ours. `None`: it is to be forgotten.
    async fn check(
        &self,
        Active { app_id, revision }: Active,
        before: &mut Option<Known>,
    ) -> Result<Option<Known>, Error> {
        // First of all: a lease on one that was deleted would make a row that nobody removes.
        let provider = self.store.provider(app_id).await?.filter(|provider| provider.active);
        let (Some(provider), Some(agent)) = (provider, self.agent.upgrade()) else { return Ok(None) };
        let now = edge::clock::now();
        let next = now.plus(self.pace.ask);
        let same = before.as_ref().filter(|before| before.revision == revision);
        let lasting = same.filter(|before| before.ours && before.until > next.plus(self.pace.ask));
        let renewed = lasting.is_none();
        let (until, known) = match lasting {
            Some(before) => (before.until, before.health.clone()),
            None => {
                let until = now.plus(self.pace.lease);
                match self.store.watch_provider(app_id, &self.name, until, now).await? {
                    Watch::Ours(health) => {
                        *before = Some(Known { revision, next, ours: true, until, health: health.clone() });
                        (until, health)
                    }
                    // A change of the provider frees it at once, and is seen by its revision.
                    Watch::Theirs(until) => {
                        return Ok(Some(Known { revision, next: until, ours: false, until, health: None }));
                    }
                }
            }
        };
        let health = read(agent.ping(&Trunk::of(&provider, None)).await, edge::clock::now());
        let changed = known.as_ref().is_none_or(|known| health.differs(known));
        if (changed || renewed) && !self.store.keep_provider_health(app_id, &self.name, &health).await? {
            return Ok(None);
        }
        tell(app_id, known.as_ref(), &health);
        Ok(Some(Known { revision, next, ours: true, until, health: Some(health) }))
    }
}

/// A place in the list behind this one: ids are in the order of their time.
fn somewhere_behind(seen: AppId, now: Timestamp) -> AppId {
    let share = f64::from(u32::from_be_bytes(edge::chance::bytes())) / f64::from(u32::MAX);
    AppId::mint(seen.minted_at().plus(now.since(seen.minted_at()).mul_f64(share)), &edge::chance::bytes())
}

/// Once for each change.
fn tell(app: AppId, before: Option<&ProviderHealth>, health: &ProviderHealth) {
    let (was, is) = (before.map(|before| before.reachable), health.reachable);
    if !is && was != Some(false) {
        let reason = health.reason.map(domain::app::ProviderFault::as_str);
        tracing::warn!(%app, reason, sip.status = health.sip_status, "provider.unreachable");
    } else if is && was == Some(false) {
        tracing::info!(%app, rtt_ms = health.rtt_ms, "provider.reachable");
    }
}

/// An outcome as operators see it.
fn read(outcome: Result<Answer, Why>, checked_at: Timestamp) -> ProviderHealth {
    let answer = match outcome {
        Ok(answer) | Err(Why::Serving(answer)) => Some(answer),
        Err(Why::Target(_) | Why::Unreachable) => None,
    };
    ProviderHealth {
        reachable: outcome.is_ok(),
        checked_at,
        sip_status: answer.map(|answer| answer.status),
        rtt_ms: answer.map(|answer| u32::try_from(answer.round_trip.as_millis()).unwrap_or(u32::MAX)),
        reason: outcome.err().map(Why::fault),
    }
}

#[cfg(test)]
mod tests {
    use domain::app::ProviderFault;

    use super::{super::target::TargetError, *};

    #[test]
    fn servers_go_on_in_places_of_their_own() {
        let (from, now) = (Timestamp::from_millis(1_000_000), Timestamp::from_millis(3_000_000));
        let seen = AppId::mint(from, &[0; 10]);
        let places: Vec<_> = (0..64).map(|_| somewhere_behind(seen, now)).collect();
        assert!(places.iter().all(|place| *place > seen && place.minted_at() <= now), "{places:?}");
        // One in 2^63 tries finds them all in one half.
        let early = places.iter().filter(|place| place.minted_at().as_millis() < 2_000_000).count();
        assert!((1..64).contains(&early), "{early} of 64");
        assert_eq!(somewhere_behind(AppId::mint(now, &[0; 10]), from).minted_at(), now, "a clock behind another's");
    }

    #[test]
    fn outcomes_as_operators_see_them() {
        let at = Timestamp::from_millis(7);
        let answer = |status| Answer { status, round_trip: Duration::from_micros(12_345) };
        for (outcome, reachable, status, reason) in [
            (Ok(answer(200)), true, Some(200), None),
            (Ok(answer(401)), true, Some(401), None),
            (Err(Why::Serving(answer(503))), false, Some(503), Some(ProviderFault::ServerError)),
            (Err(Why::Unreachable), false, None, Some(ProviderFault::NoAnswer)),
            (Err(Why::Target(TargetError::Malformed)), false, None, Some(ProviderFault::AddressUnreadable)),
            (Err(Why::Target(TargetError::NotFound)), false, None, Some(ProviderFault::NameNotFound)),
            (Err(Why::Target(TargetError::Unresolved)), false, None, Some(ProviderFault::ResolverSilent)),
            (Err(Why::Target(TargetError::Blocked)), false, None, Some(ProviderFault::AddressBlocked)),
        ] {
            let health = read(outcome, at);
            assert_eq!(
                (health.reachable, health.sip_status, health.reason),
                (reachable, status, reason),
                "{outcome:?}"
            );
            assert_eq!((health.checked_at, health.rtt_ms), (at, status.map(|_| 12)), "{outcome:?}");
        }
    }
}
