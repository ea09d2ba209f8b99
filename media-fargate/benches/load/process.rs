//! What a process uses, as Linux tells in `/proc`.

use std::{fmt, fs, io, path::PathBuf, time::Duration};

/// Ticks of a second in which `/proc` counts a process's time: a constant of Linux's interface (proc(5), `USER_HZ`).
const TICKS: u32 = 100;

/// A process.
pub struct Process(PathBuf);

/// Kilobytes.
#[derive(Clone, Copy)]
pub struct Memory(u64);

/// What it used up to a moment.
pub struct Reading {
    /// Time on a processor, its own and the system's for it.
    pub cpu: Duration,
    /// Memory it has in use.
    pub rss: Memory,
    /// The same, with pages that several processes share counted in parts.
    pub pss: Memory,
    /// Open files, sockets among them.
    pub files: usize,
    /// Threads.
    pub threads: usize,
}

impl Memory {
    /// As a number.
    pub fn kilobytes(self) -> f64 {
        self.0 as f64
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB", self.kilobytes() / 1_024.0)
    }
}

impl Process {
    /// The process with this id.
    pub fn of(id: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{id}")))
    }

    /// This one.
    pub fn own() -> Self {
        Self(PathBuf::from("/proc/self"))
    }

    /// What it used so far.
    ///
    /// # Errors
    /// When the process has ended, or this is not Linux.
    pub fn read(&self) -> io::Result<Reading> {
        let text = |name: &str| fs::read_to_string(self.0.join(name));
        let entries = |name: &str| fs::read_dir(self.0.join(name)).map(Iterator::count);
        let (stat, memory) = (text("stat")?, text("smaps_rollup")?);
        let ticks = ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        let memory = |name| kilobytes(&memory, name).map(Memory).ok_or(io::ErrorKind::InvalidData);
        Ok(Reading {
            cpu: Duration::from_secs(1) * ticks / TICKS,
            rss: memory("Rss:")?,
            pss: memory("Pss:")?,
            files: entries("fd")?,
            threads: entries("task")?,
        })
    }
}

/// The fields `utime` and `stime` of `stat`, the 14th and 15th; the name before them may hold blanks.
fn ticks(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}
