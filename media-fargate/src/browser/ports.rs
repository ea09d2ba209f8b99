//! The range of ports calls are bound to: one port for each call, UDP and TCP alike. The one that rested longest is next,
//! so that what an ended call's browser still sends seldom reaches another call.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

/// The free ports.
#[derive(Debug)]
pub(super) struct Ports(Option<Mutex<VecDeque<u16>>>);

impl Ports {
    /// The ports of a range, or those that the operating system picks.
    pub(super) fn new(range: Option<RangeInclusive<u16>>) -> Arc<Self> {
        Arc::new(Self(range.map(|range| Mutex::new(range.collect()))))
    }

    /// Takes a port; none when all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Port> {
        let number = match &self.0 {
            Some(free) => free.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?,
            None => 0,
        };
        Some(Port { number, ports: self.clone() })
    }
}

/// A port taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    ports: Arc<Ports>,
}

impl Port {
    /// Its number; 0 lets the operating system pick.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(free) = &self.ports.0 {
            free.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_rests_before_it_is_taken_again() {
        let ports = Ports::new(Some(4_000..=4_002));
        let first = ports.take().expect("a port");
        assert_eq!(first.number(), 4_000);
        drop(first);
        let held: Vec<u16> = (0..3).filter_map(|_| ports.take()).map(|port| port.number()).collect();
        assert_eq!(held, [4_001, 4_002, 4_000], "each given back at once, after the others");
        let all: Vec<Port> = (0..3).filter_map(|_| ports.take()).collect();
        assert!(ports.take().is_none(), "all three are taken");
        drop(all);
        assert!(ports.take().is_some());
    }

    #[test]
    fn without_a_range_the_system_picks() {
        assert_eq!(Ports::new(None).take().map(|port| port.number()), Some(0));
    }
}
