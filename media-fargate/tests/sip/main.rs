//! The trunk against real peers over loopback: sipp plays a provider, one scenario per outcome.

mod attacks;
mod calls;
mod far;
mod faults;
mod health;
mod intruders;
mod large;
mod pings;
mod sessions;
mod sipp;
mod softphone;
mod support;
mod tls;
mod torture;

#[path = "../support/baresip.rs"]
mod baresip;
