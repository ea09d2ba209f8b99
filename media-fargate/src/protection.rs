//! A task that has calls asks ECS to leave it alone (task scale-in protection): neither a smaller service nor a new version
//! begins with it.
//!
//! Not for ever: a server that is never without a call would hold a deployment up for good. Protection lapses after as long
//! as a call may last, and is asked for again some minutes later; whoever is stopped in between ends its calls as always.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use domain::call::LONGEST;
use edge::env::{self, Env, StartError};
use http::{Request, Uri, header};
use http_body_util::Full;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    calls::Calls,
    forward::{Failure, exchange},
};

/// How long what lasts.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Protection; whole minutes are what ECS takes.
    pub protected: Duration,
    /// From its lapse until it is asked for again: a deployment's turn.
    pub open: Duration,
    /// Until ECS is asked again that did not answer as it should.
    pub again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { protected: LONGEST, open: Duration::from_secs(300), again: Duration::from_secs(15) }
    }
}

/// The part of ECS that stands beside a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    at: SocketAddr,
    path: String,
}

impl Agent {
    /// The agent of this task; none outside ECS.
    ///
    /// # Errors
    /// When its address cannot be read.
    pub fn from_env(env: &Env) -> Result<Option<Self>, StartError> {
        let read = |text: String| {
            let uri: Uri = text.strip_prefix("http:").and_then(|_| text.parse().ok())?;
            let at = SocketAddr::new(uri.host()?.parse().ok()?, uri.port_u16().unwrap_or(80));
            Some(Self { at, path: format!("{}/task-protection/v1/state", uri.path().trim_end_matches('/')) })
        };
        let wrong = || StartError::Invalid { var: env::ECS_AGENT, why: "must be http:// and an address".to_owned() };
        env.text(env::ECS_AGENT).map(|text| read(text).ok_or_else(wrong)).transpose()
    }

    /// Protects this task for so long, or from now on no more.
    async fn set(&self, protected: Option<Duration>) -> Result<(), Failure> {
        let asked = match protected {
            Some(time) => json!({"ProtectionEnabled": true, "ExpiresInMinutes": (time.as_secs() / 60).max(1)}),
            None => json!({"ProtectionEnabled": false}),
        };
        let request = Request::put(&self.path).header(header::CONTENT_TYPE, "application/json");
        let answer = exchange(self.at, request.body(Full::<Bytes>::from(asked.to_string()))?).await?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("ECS answers {}", answer.status()).into()) }
    }
}

/// Keeps this task protected while it has calls, until it ends.
pub async fn keep(agent: Agent, calls: Calls, pace: Pace) {
    let mut taken = calls.taken();
    // The sender lives as long as the calls that are held here.
    while taken.wait_for(|taken| *taken > 0).await.is_ok() {
        if let Err(cause) = agent.set(Some(pace.protected)).await {
            tracing::warn!(%cause, "media.not_protected");
            sleep(pace.again).await;
            continue;
        }
        if timeout(pace.protected, taken.wait_for(|taken| *taken == 0)).await.is_err() {
            sleep(pace.open).await;
        } else if let Err(cause) = agent.set(None).await {
            // It lapses by itself.
            tracing::warn!(%cause, "media.still_protected");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    };

    use axum::{Json, Router, routing::put};
    use http::StatusCode;
    use serde_json::Value;
    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;

    /// An agent that refuses what it is asked first; and what it was asked.
    async fn agent() -> (Agent, mpsc::UnboundedReceiver<Value>) {
        let (asked, hears) = mpsc::unbounded_channel();
        let refuses = Arc::new(AtomicBool::new(true));
        let answer = async move |Json(body): Json<Value>| {
            asked.send(body).expect("somebody hears");
            if refuses.swap(false, Relaxed) { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK }
        };
        let router = Router::new().route("/api/7d0c/task-protection/v1/state", put(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let env =
            Env::from_pairs([(env::ECS_AGENT.0, format!("http://{}/api/7d0c", listener.local_addr().expect("one")))]);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (Agent::from_env(&env).expect("an address").expect("an agent"), hears)
    }

    async fn next(hears: &mut mpsc::UnboundedReceiver<Value>) -> Value {
        timeout(Duration::from_secs(5), hears.recv()).await.expect("in time").expect("asked")
    }

    #[tokio::test]
    async fn a_task_is_protected_while_it_has_calls() {
        let ((agent, mut hears), calls) = (agent().await, Calls::new(10));
        let short = Duration::from_millis(300);
        tokio::spawn(keep(agent, calls.clone(), Pace { protected: short, open: short, again: short / 10 }));
        let on = json!({"ProtectionEnabled": true, "ExpiresInMinutes": 1});
        let place = calls.admit().expect("a place");
        assert_eq!(next(&mut hears).await, on);
        assert_eq!(next(&mut hears).await, on, "a refusal is not the end of it");
        assert_eq!(next(&mut hears).await, on, "protection that lapsed is asked for again");
        drop(place);
        assert_eq!(next(&mut hears).await, json!({"ProtectionEnabled": false}));
        let _place = calls.admit().expect("a place");
        assert_eq!(next(&mut hears).await, on);
    }

    #[test]
    fn outside_ecs_nobody_is_asked() {
        let read = |url: &str| Agent::from_env(&Env::from_pairs([(env::ECS_AGENT.0, url)]));
        assert_eq!(read("").expect("not set"), None);
        assert!(read("http://localhost/api").is_err(), "a name would have to be resolved");
        assert!(read("169.254.170.2").is_err());
        let agent = read("http://169.254.170.2/api/7d0c").expect("an address").expect("an agent");
        assert_eq!(
            (agent.at.to_string().as_str(), agent.path.as_str()),
            ("169.254.170.2:80", "/api/7d0c/task-protection/v1/state")
        );
    }
}
