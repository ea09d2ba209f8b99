//! The trunk against real peers over loopback: sipp plays a provider, one scenario per outcome.

mod calls;
mod faults;
mod sessions;
mod sipp;
mod support;
