//! Black-box tests: the running house over HTTP, and the binaries that ship.

mod architecture;
mod breaker;
mod calls;
mod canary;
mod console;
mod crash;
mod deliveries;
mod design;
mod events;
#[path = "../../media-fargate/tests/sip/far.rs"]
#[allow(dead_code, reason = "the media server's own tests use the rest of it")]
mod far;
mod hours;
mod interleavings;
mod isolation;
mod lambda;
mod limits;
mod manage;
mod openapi;
mod poison;
mod receivers;
mod resend;
mod secrets;
mod sessions;
mod sign_in;
mod soak;
mod support;
mod traces;
mod trunks;
mod turn;
