//! The adaptive jitter buffer: packets come when the network lets them, audio leaves when it is time.
//!
//! It adapts by what happens, not by a forecast. Running dry, or a frame that came too late, makes it longer: a gap is
//! concealed and nothing is skipped for it. When every frame comes much before its time it gets shorter: one is left out.
//! Both move by one frame at a time, between [`MIN`] and [`MAX`].

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

/// Audio that is gathered before any is played, and kept in hand at the least.
pub const MIN: Duration = Duration::from_millis(40);
/// Audio that is held at most; the oldest goes first.
pub const MAX: Duration = Duration::from_millis(120);

/// Frames that are held at most: [`MAX`] of the shortest (RFC 6716, section 2.1.4).
const MAX_FRAMES: usize = 48;
/// Frames whose arrival is watched before the buffer gets shorter: two seconds of the usual ones.
const WINDOW: u32 = 100;
/// Frames concealed in a row before a dry buffer counts as silence.
const MAX_DRY: i64 = 5;
/// Missing frames that are worth concealing once what follows has come; more is a break, not a loss.
const MAX_GAP: i64 = 10;

/// What is played next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// This frame.
    Frame(Bytes),
    /// A frame that was lost, whose successor is here and may carry a copy of it (in-band FEC).
    Recover(Bytes),
    /// A frame that is not here: to be concealed.
    Lost,
    /// Nothing: there is silence, or not enough to begin.
    Nothing,
}

/// What became of frames that were not simply played.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came after their time.
    pub late: u64,
    /// Were not there in their time.
    pub lost: u64,
    /// Gaps that were concealed because nothing at all was there, or to make the buffer longer.
    pub dry: u64,
    /// Were left out to make the buffer shorter.
    pub dropped: u64,
}

#[derive(Clone, Debug)]
struct Frame {
    payload: Bytes,
    duration: Duration,
}

/// A jitter buffer.
#[derive(Clone, Debug, Default)]
pub struct JitterBuffer {
    /// Whether frames are played; otherwise they are gathered.
    playing: bool,
    frames: BTreeMap<i64, Frame>,
    /// Audio in hand.
    level: Duration,
    /// The frame to be played next; what is before it comes too late. `None`: no frame was played yet.
    next: Option<i64>,
    /// Frames concealed since the last one that was there. They took the time of frames, so as many may be missing.
    dry: i64,
    /// A frame came too late, so the buffer should be longer.
    short: bool,
    /// How much before its time a frame came at the least, of as many as were watched.
    least: Option<Duration>,
    watched: u32,
    counts: Counts,
}

impl JitterBuffer {
    /// Forgets what it holds: another source begins. The counts go on.
    pub fn reset(&mut self) {
        *self = Self { counts: self.counts, ..Self::default() };
    }

    /// The frame with this number came; no number comes twice.
    pub fn push(&mut self, index: i64, payload: Bytes, duration: Duration) {
        if self.next.is_some_and(|next| index < next) {
            self.counts.late += 1;
            self.short = true;
            return;
        }
        self.watch(index, duration);
        self.level += duration;
        self.frames.insert(index, Frame { payload, duration });
        while self.level > MAX && self.frames.len() > 1 || self.frames.len() > MAX_FRAMES {
            self.leave_out();
        }
    }

    /// What is played next. To be asked each time as much audio was played as the last answer stands for.
    pub fn pop(&mut self) -> Slot {
        if !self.playing && self.level < MIN {
            return Slot::Nothing;
        }
        if self.frames.is_empty() {
            return self.run_dry();
        }
        if std::mem::take(&mut self.short) && self.playing && self.level < MAX {
            self.counts.dry += 1;
            return Slot::Lost;
        }
        let missing = self.missing();
        let worth_it = self.playing && missing <= MAX_GAP && missing > self.dry;
        if worth_it { self.lose(missing) } else { self.play() }
    }

    /// Frames that were not simply played.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Audio in hand.
    pub fn level(&self) -> Duration {
        self.level
    }

    /// Frames between the one to be played next and the first that is here.
    fn missing(&self) -> i64 {
        let first = self.frames.keys().next();
        first.zip(self.next).map_or(0, |(first, next)| first - next)
    }

    fn take(&mut self) -> Option<(i64, Frame)> {
        let (index, frame) = self.frames.pop_first()?;
        self.level = self.level.saturating_sub(frame.duration);
        Some((index, frame))
    }

    fn run_dry(&mut self) -> Slot {
        if self.dry >= MAX_DRY {
            self.playing = false;
            self.dry = 0;
            return Slot::Nothing;
        }
        self.dry += 1;
        self.counts.dry += 1;
        Slot::Lost
    }

    fn lose(&mut self, missing: i64) -> Slot {
        self.next = self.next.map(|next| next + 1);
        self.counts.lost += 1;
        match self.frames.values().next() {
            Some(successor) if missing == self.dry + 1 => Slot::Recover(successor.payload.clone()),
            _ => Slot::Lost,
        }
    }

    fn play(&mut self) -> Slot {
        self.playing = true;
        self.shorten();
        let Some((index, frame)) = self.take() else { return Slot::Nothing };
        self.next = Some(index + 1);
        self.dry = 0;
        Slot::Frame(frame.payload)
    }

    fn watch(&mut self, index: i64, duration: Duration) {
        let Some(next) = self.next.filter(|_| self.playing) else { return };
        let early = duration * u32::try_from(index - next).unwrap_or(u32::MAX).min(1_000);
        self.least = Some(self.least.map_or(early, |least| least.min(early)));
        self.watched += 1;
    }

    /// Leaves a frame out when all came much before their time.
    fn shorten(&mut self) {
        if self.watched >= WINDOW {
            if self.least.take().is_some_and(|least| least >= MIN) {
                self.leave_out();
            }
            self.watched = 0;
        }
    }

    fn leave_out(&mut self) {
        if let Some((index, _)) = self.take() {
            self.next = self.next.map(|_| index + 1);
            self.counts.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    fn payload(index: i64) -> Bytes {
        Bytes::copy_from_slice(&index.to_be_bytes())
    }

    /// Plays a script: numbers come, `.` plays, and what is played is written down: a number, `r` and a number for a
    /// recovery from it, `x` for a loss, `-` for nothing.
    fn play(script: &str) -> (String, Counts) {
        let mut buffer = JitterBuffer::default();
        let mut played = Vec::new();
        for word in script.split_whitespace() {
            if let Ok(index) = word.parse() {
                buffer.push(index, payload(index), FRAME);
                continue;
            }
            for _ in word.chars() {
                let number = |payload: Bytes| i64::from_be_bytes(payload[..].try_into().expect("eight bytes"));
                played.push(match buffer.pop() {
                    Slot::Frame(payload) => number(payload).to_string(),
                    Slot::Recover(payload) => format!("r{}", number(payload)),
                    Slot::Lost => "x".to_owned(),
                    Slot::Nothing => "-".to_owned(),
                });
            }
        }
        (played.join(" "), buffer.counts())
    }

    #[test]
    fn what_is_played() {
        let counts = |late, lost, dry, dropped| Counts { late, lost, dry, dropped };
        for (what, script, played, counted) in [
            ("two frames are gathered first", ". 5 . 6 ...", "- - 5 6 x", counts(0, 0, 1, 0)),
            ("in order, however they come", "6 5 . 8 7 ...", "5 6 7 8", counts(0, 0, 0, 0)),
            ("a loss is recovered from its successor", "1 2 . 4 ... 5 .", "1 2 r4 4 5", counts(0, 1, 0, 0)),
            ("of two, only the second", "1 2 . 5 6 .....", "1 2 x r5 5 6", counts(0, 2, 0, 0)),
            (
                "what comes after its time is late, and is waited for the next time",
                "1 2 . 4 .. 3 5 6 ...",
                "1 2 r4 x 4 5",
                counts(1, 1, 1, 0),
            ),
            ("dry, it waits, and plays late what comes late", "1 2 .. . 3 4 ..", "1 2 x 3 4", counts(0, 0, 1, 0)),
            ("dry, and two lost: one is left to recover", "1 2 .. . 5 6 ...", "1 2 x r5 5 6", counts(0, 1, 1, 0)),
            ("dry, and lost: the time is spent already", "1 2 .. . 4 5 ..", "1 2 x 4 5", counts(0, 0, 1, 0)),
            (
                "dry for long is silence, and it gathers anew",
                "1 2 .. ....... 9 . 10 ..",
                "1 2 x x x x x - - - 9 10",
                counts(0, 0, 5, 0),
            ),
            ("a long break is not concealed", "1 2 . 14 15 ..", "1 2 14", counts(0, 0, 0, 0)),
            ("more than can be held: the oldest goes", "1 2 3 4 5 6 7 8 .", "3", counts(0, 0, 0, 2)),
        ] {
            assert_eq!(play(script), (played.to_owned(), counted), "{what}");
        }
    }

    #[test]
    fn another_source_begins_anew() {
        let mut buffer = JitterBuffer::default();
        for index in [100, 101, 102] {
            buffer.push(index, payload(index), FRAME);
        }
        assert_eq!(buffer.pop(), Slot::Frame(payload(100)));
        buffer.reset();
        buffer.push(7, payload(7), FRAME);
        assert_eq!((buffer.pop(), buffer.level()), (Slot::Nothing, FRAME));
        buffer.push(8, payload(8), FRAME);
        assert_eq!(buffer.pop(), Slot::Frame(payload(7)));
    }

    /// Plays every 20 ms what comes with a delay of its own; gives the level before each frame, and the counts.
    fn levels(delays: impl Iterator<Item = u64>) -> (Vec<u64>, Counts) {
        let mut arrivals: Vec<(u64, i64)> =
            (0..).zip(delays).map(|(index, delay)| (20 * index as u64 + delay, index)).collect();
        arrivals.sort_unstable();
        let end = arrivals.last().map_or(0, |(at, _)| *at);
        let (mut buffer, mut levels, mut arrivals) =
            (JitterBuffer::default(), Vec::new(), arrivals.into_iter().peekable());
        for now in (0..=end).step_by(20) {
            while let Some((_, index)) = arrivals.next_if(|(at, _)| *at <= now) {
                buffer.push(index, payload(index), FRAME);
            }
            levels.push(buffer.level().as_millis() as u64);
            buffer.pop();
        }
        (levels, buffer.counts())
    }

    #[test]
    fn it_grows_with_the_jitter_and_shrinks_again() {
        let steady = |_| 3;
        let shaken = |number: u64| if number.is_multiple_of(10) { 83 } else { 3 };
        let (at, counts) = levels((0..1_500).map(steady));
        assert!(
            at[2..].iter().all(|level| *level == 40) && counts == Counts::default(),
            "no jitter, nothing to do: {counts:?}"
        );

        let (at, counts) = levels((0..500).map(shaken).chain((500..2_000).map(steady)));
        let (_, at_the_end) = at.split_at(1_800);
        assert!(at[..500].iter().any(|level| *level >= 80), "it grew");
        assert!(at_the_end.iter().all(|level| *level <= 60), "and shrank: {at_the_end:?}");
        // Ten seconds with a packet of every ten 80 ms late: heard at first, then no more.
        assert!(counts.dry + counts.lost <= 16 && counts.dropped <= 8, "{counts:?}");
    }

    proptest! {
        /// However packets come: no more is held than may be, what is played is in order, and time is neither made nor lost.
        #[test]
        fn order_and_bounds(steps in prop::collection::vec(prop_oneof![(0..40i64).prop_map(Some), Just(None)], 0..400)) {
            let mut buffer = JitterBuffer::default();
            let (mut seen, mut played, mut base) = (std::collections::HashSet::new(), -1, 0);
            let (mut came, mut out) = (0, 0);
            for step in steps {
                match step {
                    Some(ahead) => {
                        let index = base + ahead;
                        if seen.insert(index) {
                            buffer.push(index, payload(index), FRAME);
                            came += 1;
                        }
                    }
                    None => {
                        base += 1;
                        if let Slot::Frame(payload) = buffer.pop() {
                            let index = i64::from_be_bytes(payload[..].try_into().expect("eight bytes"));
                            prop_assert!(index > played);
                            played = index;
                            out += 1;
                        }
                    }
                }
                prop_assert!(buffer.level() <= MAX);
                let held = buffer.frames.len() as u64;
                let counts = buffer.counts();
                prop_assert_eq!(buffer.level(), FRAME * buffer.frames.len() as u32);
                prop_assert_eq!(came, out + held + counts.late + counts.dropped);
            }
        }
    }
}
