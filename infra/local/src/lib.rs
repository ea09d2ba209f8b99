//! The whole house in one process: every function behind a front that reads its routes from `template.yaml`, stand-ins
//! for DynamoDB, SQS and KMS under the real SDK, a poller in place of the event source mapping, a demo page and an inbox.
//!
//! `cargo run` starts one for people ([`options::Arguments`]); tests start as many as they like:
//!
//! ```no_run
//! # async fn test() -> Result<(), local::StartError> {
//! let house = local::House::start(local::Options::default()).await?;
//! println!("{}", house.local.origin);
//! house.shutdown().await;
//! # Ok(()) }
//! ```

pub mod demo;
pub mod front;
mod functions;
pub mod house;
pub mod inbox;
pub mod local_json;
pub mod options;
pub mod phone;
pub mod poller;
pub mod provision;
mod servers;
pub mod template;
mod trunk;

pub use house::{House, StartError};
pub use inbox::Inbox;
pub use local_json::LocalJson;
pub use options::Options;
