//! The trunk against real peers over loopback: sipp plays a provider, one scenario per outcome.

mod baresip;
mod calls;
mod faults;
mod intruders;
mod pings;
mod sessions;
mod sipp;
mod support;
mod tls;
mod torture;
