//! Whose fault it is that a name was not found. A name that does not resolve while others do is its owner's; when nothing
//! resolves, it is ours: then there is no outcome, nothing is recorded and the breaker counts nothing.

use std::time::Duration;

use url::Url;

const DEADLINE: Duration = Duration::from_secs(2);

/// The name by which we ask: our own queue's host, which must resolve for this function to work at all.
#[derive(Clone, Debug)]
pub(crate) struct OwnName(String);

impl OwnName {
    /// The host of the queue's address.
    pub(crate) fn of(queue_url: &str) -> Self {
        let host = Url::parse(queue_url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
        Self(host.unwrap_or_default())
    }

    /// Whether our resolver finds it. Asked only after a name was not found.
    pub(crate) async fn resolves(&self) -> bool {
        let found = tokio::time::timeout(DEADLINE, tokio::net::lookup_host((self.0.as_str(), 443))).await;
        found.is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.next().is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_queue_lends_its_name() {
        assert!(OwnName::of("http://127.0.0.1:4566/000000000000/due").resolves().await);
        // Reserved: no resolver knows it, as no resolver knows anything when it is down.
        assert!(!OwnName::of("https://sqs.invalid/000000000000/due").resolves().await);
        assert!(!OwnName::of("nonsense").resolves().await);
    }
}
