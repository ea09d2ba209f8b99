//! The trunk: calls placed on an app's SIP provider.

pub mod headers;
pub mod sdp;
pub mod target;
pub mod timer;
