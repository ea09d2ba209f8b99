//! A call: what is kept of it. Never what was said.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::Codec,
    id::{CallId, DestinationId, SessionId},
    session::Session,
    time::Timestamp,
};

/// A call takes at most this long (contract section 3, "Limits").
pub const LONGEST: Duration = Duration::from_secs(60 * 60);
/// Calls of one app at the same time, when nothing else is configured.
pub const AT_ONCE: u32 = 20;

/// One call of a visitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// The visitor's session.
    pub session_id: SessionId,
    /// The profile that was called.
    pub destination_id: DestinationId,
    /// The routing key that the embed asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// Whether it was placed from a preview in the console.
    #[serde(default)]
    pub preview: bool,
    /// When the visitor started it.
    pub started_at: Timestamp,
    /// When somebody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Timestamp>,
    /// When it ended; none while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whole seconds from start to end, as `call_ended` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
    /// Who hung up, as `call_ended` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it failed, as `call_error` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The final SIP status other than success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip_status: Option<u16>,
    /// The codec on the trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// How each leg sounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Value>,
}

impl Call {
    /// A call of `session` to `profile`, started now.
    pub fn start(id: CallId, session: &Session, profile: DestinationId, now: Timestamp) -> Self {
        Self {
            id,
            session_id: session.id,
            destination_id: profile,
            routing_key: session.routing_key.clone(),
            preview: session.preview,
            started_at: now,
            answered_at: None,
            ended_at: None,
            duration: None,
            reason: None,
            error_code: None,
            sip_status: None,
            codec: None,
            quality: None,
        }
    }

    /// From when on it is over in any case, whatever became of the server that ran it.
    pub fn over_by(&self) -> Timestamp {
        over_by(self.id)
    }
}

/// The same of an id alone: it says when its call was started.
pub fn over_by(call: CallId) -> Timestamp {
    // A server's clock, the ringing of a BYE, a slow table: generous, for it only matters when a server died.
    call.minted_at().plus(LONGEST + Duration::from_secs(5 * 60))
}
