//! What somebody should hear of without having looked: that an integration was paused. It is one log line, and goes to
//! whoever listens besides.
//!
//! A notice is told once the pause stands in the table, by the one delivery that caused it. A crash between the two loses
//! the notice, not the pause.

use std::sync::Arc;

use domain::{
    breaker::Pause,
    id::{AppId, IntegrationId},
    time::Timestamp,
};
use serde::Serialize;

/// An integration was paused by the service itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// When.
    pub at: Timestamp,
    /// The app.
    pub app_id: AppId,
    /// The integration.
    pub integration_id: IntegrationId,
    /// The integration's name.
    pub name: String,
    /// Why, in words for an operator.
    pub reason: &'static str,
}

impl Notice {
    /// A pause of this integration.
    pub fn paused(at: Timestamp, (app_id, integration_id): (AppId, IntegrationId), name: &str, pause: Pause) -> Self {
        Self { at, app_id, integration_id, name: name.to_owned(), reason: pause.reason() }
    }
}

/// Hears notices. It is called in the middle of a delivery, which waits for it.
type Listener = Arc<dyn Fn(Notice) + Send + Sync>;

/// Where notices go beside the log: nowhere, unless somebody listens. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Notices(Option<Listener>);

impl Notices {
    pub(crate) fn to(listener: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    pub(crate) fn tell(&self, notice: Notice) {
        tracing::warn!(
            app = %notice.app_id, integration = %notice.integration_id, reason = notice.reason, "integration.paused"
        );
        if let Some(listener) = &self.0 {
            listener(notice);
        }
    }
}
