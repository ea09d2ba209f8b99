//! One visit of the widget: what a session holds and how long it lives (contract section 3).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    context::Context,
    field::FieldError,
    id::{AppId, DestinationId, SessionId},
    time::Timestamp,
};

/// A session lives at most this long, however often its token is renewed.
pub const LIFE: Duration = Duration::from_secs(8 * 60 * 60);
/// One token lives this long.
pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// What a visitor's session is about. It is stored nowhere: its token carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    #[serde(rename = "sub")]
    pub id: SessionId,
    /// The app whose widget it is.
    #[serde(rename = "app")]
    pub app: AppId,
    /// The profile the embed asks for.
    #[serde(rename = "prf", default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<DestinationId>,
    /// The routing key the embed asks for.
    #[serde(rename = "rtk", default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// What the embedding page told.
    #[serde(rename = "ctx", default, skip_serializing_if = "Context::is_empty")]
    pub context: Context,
    /// Whether it is a preview in the console: its events are never forwarded.
    #[serde(rename = "prv", default)]
    pub preview: bool,
    /// Whether that preview shows the draft: then what its visitor writes is held to the draft's questions.
    #[serde(rename = "drf", default, skip_serializing_if = "std::ops::Not::not")]
    pub draft: bool,
}

impl Session {
    /// When it began: its id says so, and the server mints it.
    pub fn started_at(&self) -> Timestamp {
        self.id.minted_at()
    }

    /// When a token handed out at `now` ends; `None` once the session's own life is over.
    pub fn token_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let end = self.started_at().plus(LIFE);
        (now < end).then(|| now.plus(TOKEN_LIFE).min(end))
    }
}

/// Checks a routing key: 1 to 64 characters of letters, digits and `_ . -`, so that it fits a header as it is.
///
/// # Errors
/// The field's error when it is anything else.
pub fn parse_routing_key(text: &str) -> Result<String, FieldError> {
    let fits = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(FieldError::invalid("routingKey", "must be 1 to 64 letters, digits, underscores, dots or hyphens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_outlives_its_session() {
        let start = Timestamp::from_millis(1_000_000);
        let session = Session {
            id: SessionId::mint(start, &[0; 10]),
            app: AppId::mint(start, &[1; 10]),
            profile: None,
            routing_key: None,
            context: Context::default(),
            preview: false,
            draft: false,
        };
        assert_eq!(session.token_expiry(start), Some(start.plus(TOKEN_LIFE)));
        let late = start.plus(LIFE - Duration::from_secs(60));
        assert_eq!(session.token_expiry(late), Some(start.plus(LIFE)));
        assert_eq!(session.token_expiry(start.plus(LIFE)), None);
    }

    #[test]
    fn routing_keys_fit_a_header() {
        assert!(parse_routing_key("sales.de-1_x").is_ok());
        for bad in ["", "a b", "a\r\nVia: x", "é", &"x".repeat(65)] {
            assert!(parse_routing_key(bad).is_err(), "{bad}");
        }
    }
}
