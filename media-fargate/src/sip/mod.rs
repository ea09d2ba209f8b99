//! The trunk: calls placed on an app's SIP provider. [`Agent`] is the endpoint of the process, [`SipLeg`] places calls
//! with it, [`Leg`] is one call.

pub mod agent;
pub mod dialog;
mod door;
pub mod headers;
pub mod health;
pub mod invite;
pub mod leg;
pub mod media;
pub mod ping;
mod place;
mod requests;
pub mod sdp;
mod session;
pub mod srtp;
pub mod target;
pub mod timer;
pub mod tls;

pub use agent::{Agent, Config};
pub use leg::{Event, Failure, Invite, Leg, SipLeg};
pub use target::{Credential, Trunk};
