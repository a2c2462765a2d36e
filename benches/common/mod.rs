//! What the benches share: arguments, clocks and percentiles; dataflows in process; a server as a process.

// Every program uses a part of it.
#![allow(dead_code)]

pub mod flow;
pub mod server;

use std::time::{Duration, Instant};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The value after a flag, if it is given and of its type.
pub fn option<T: std::str::FromStr>(name: &str) -> Option<T> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()?.parse().ok()
}

/// The values after a flag, separated by commas.
pub fn list<T: std::str::FromStr>(name: &str) -> Option<Vec<T>> {
    option::<String>(name).map(|values| values.split(',').filter_map(|value| value.parse().ok()).collect())
}

/// User and system time of this process's living threads so far, from the kernel's scheduler, in seconds.
pub fn cpu_seconds() -> f64 {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux lists the threads") {
        let path = task.expect("an entry can be read").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    }
    nanoseconds / 1e9
}

/// Seconds of wall and of processor time that something took, with what it gave.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let given = work();
    (given, clock.elapsed().as_secs_f64(), cpu_seconds() - cpu)
}

/// Durations, sorted when asked.
#[derive(Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// Milliseconds below which this share of all durations lies.
    pub fn percentile(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let place = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(place).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
    }

    pub fn report(&mut self, name: &str) {
        let (half, most, longest) = (self.percentile(0.5), self.percentile(0.99), self.percentile(1.0));
        println!("{name:66} {half:9.3} {most:9.3} {longest:9.3}");
    }

    /// The heading above reports.
    pub fn heading() {
        println!("{:66} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p99", "longest");
    }
}

/// A field of `/proc/PID/status` in bytes.
pub fn status_bytes(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024
}
