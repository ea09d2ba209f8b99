//! What is measured, and how it is said.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How finely delays are told apart.
const STEP: Duration = Duration::from_micros(10);
/// Delays from here on, 2 s, are told apart no further.
const STEPS: usize = 200_000;
/// Bytes of the time that a packet was sent at, as it travels in the packet.
const STAMP: usize = 8;

/// Milliseconds, as far as they matter.
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

/// How long things took.
#[derive(Default)]
pub struct Spread {
    steps: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Spread {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        let step = usize::try_from(took.as_nanos() / STEP.as_nanos()).unwrap_or(STEPS).min(STEPS);
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += 1;
        self.count += 1;
        self.longest = self.longest.max(took);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What this share took at most, to the step above.
    fn within(&self, share: f64) -> Duration {
        let wanted = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        let found = self.steps.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(Duration::ZERO, |step| (STEP * (step as u32 + 1)).min(self.longest))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [self.within(0.5), self.within(0.99), self.longest].map(milliseconds);
        write!(f, "p50 {half} ms, p99 {most} ms, longest {all} ms")
    }
}

/// One direction of all calls.
#[derive(Default)]
pub struct Flow {
    sent: AtomicU64,
    received: AtomicU64,
    delays: Mutex<Spread>,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received) = (self.sent.load(Relaxed), self.received.load(Relaxed));
        write!(f, "{sent} packets sent, {received} received")?;
        let delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        match delays.count() {
            0 => Ok(()),
            _ => write!(f, ", {} lost; one way {delays}", sent as i64 - received as i64),
        }
    }
}

/// Both directions of all calls, while they are measured. A packet counts when it was sent meanwhile: the time that stands
/// in it says so at the other end. Where the server makes other packets of them, they are only counted.
pub struct Meter {
    /// From browsers to the trunk.
    pub up: Flow,
    /// From the trunk to browsers.
    pub down: Flow,
    epoch: Instant,
    from: AtomicU64,
    to: AtomicU64,
    running: AtomicBool,
    stamps: bool,
}

impl Meter {
    /// Nothing counts yet. `stamps`: what is sent arrives as it is.
    pub fn new(stamps: bool) -> Self {
        Self {
            up: Flow::default(),
            down: Flow::default(),
            epoch: Instant::now(),
            from: AtomicU64::new(u64::MAX),
            to: AtomicU64::new(u64::MAX),
            running: AtomicBool::new(false),
            stamps,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// From now on packets count.
    pub fn start(&self) {
        self.from.store(self.now(), Relaxed);
        self.running.store(true, Relaxed);
    }

    /// Packets sent from now on do not count.
    pub fn stop(&self) {
        self.to.store(self.now(), Relaxed);
        self.running.store(false, Relaxed);
    }

    /// A packet is about to be sent.
    pub fn sends(&self, flow: &Flow, payload: &mut [u8]) {
        if let Some(stamp) = payload.first_chunk_mut::<STAMP>().filter(|_| self.stamps) {
            *stamp = self.now().to_be_bytes();
        }
        flow.sent.fetch_add(u64::from(self.running.load(Relaxed)), Relaxed);
    }

    /// A packet came.
    pub fn received(&self, flow: &Flow, payload: &[u8]) {
        if !self.stamps {
            flow.received.fetch_add(u64::from(self.running.load(Relaxed)), Relaxed);
            return;
        }
        let Some(stamp) = payload.first_chunk::<STAMP>().map(|stamp| u64::from_be_bytes(*stamp)) else { return };
        if (self.from.load(Relaxed)..self.to.load(Relaxed)).contains(&stamp) {
            flow.received.fetch_add(1, Relaxed);
            let took = Duration::from_nanos(self.now().saturating_sub(stamp));
            flow.delays.lock().unwrap_or_else(PoisonError::into_inner).add(took);
        }
    }
}
