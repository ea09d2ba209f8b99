//! The visitor's side of a call: `WebRTC`.
