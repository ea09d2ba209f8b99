//! Memory: the only crate that names the AWS SDK. No SDK type leaves it.
//!
//! [`Aws`] is the connection, [`Store`] the table, [`Queue`] a queue, [`Vault`] the key service. Each function opens
//! what it needs and no more: what is not opened is not linked into its binary.

pub mod apps;
pub mod audit;
mod aws;
pub mod breakers;
pub mod calls;
pub mod custom_code;
pub mod deliveries;
pub mod delivery_log;
pub mod designs;
pub mod erasure;
pub mod events;
pub mod fleet;
pub mod forms;
pub mod fresh;
pub mod hours;
pub mod integrations;
mod key;
pub mod limits;
pub mod operators;
pub mod previews;
pub mod profiles;
pub mod provider_health;
pub mod providers;
pub mod provision;
pub mod queue;
mod rows;
mod seal;
pub mod secrets;
pub mod signing_keys;
pub mod statistics;
pub mod surveys;
mod table;
pub mod token_keys;
mod transaction;
mod turns;
pub mod vault;
pub mod visits;

pub use aws::{Aws, Endpoints};
pub use events::Events;
pub use fresh::Fresh;
pub use limits::Limiter;
pub use queue::Queue;
pub use table::Store;
pub use token_keys::Verifier;
pub use vault::Vault;

/// Our own inability: the table, a queue or the key service did not do what it is there for. Never a caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be reached, refused us or failed; trying again later may help.
    #[error("{operation}: {cause}")]
    Unavailable {
        /// The SDK operation.
        operation: &'static str,
        /// What the SDK says, its causes included; holds no stored values.
        cause: String,
    },
    /// What is stored there cannot be read; trying again will not help.
    #[error("{what} is stored in a form that cannot be read: {cause}")]
    Unreadable {
        /// Which kind of row or message.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

impl Error {
    fn unavailable<E>(operation: &'static str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        // Each cause's own sentence. The SDK's fuller form shows whole answers, and with them what is stored.
        move |error| {
            let mut cause = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                cause = format!("{cause}: {error}");
                source = error.source();
            }
            Self::Unavailable { operation, cause }
        }
    }

    fn unreadable(what: &'static str, cause: impl ToString) -> Self {
        Self::Unreadable { what, cause: cause.to_string() }
    }
}
