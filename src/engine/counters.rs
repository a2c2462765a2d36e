//! What the engine counts about itself: read by `/metrics` and `hw_catalog`, written by the loop.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::zset::RelationId;

/// Totals since the start of the process. Reading is approximate while the engine runs.
#[derive(Debug, Default)]
pub struct Counters {
    pub steps: AtomicU64,
    /// Steps of the log that the start took again.
    pub steps_replayed: AtomicU64,
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    pub writes: AtomicU64,
    pub writes_refused: AtomicU64,
    pub log_bytes: AtomicU64,
    pub log_syncs: AtomicU64,
    pub checkpoints: AtomicU64,
    pub subscribers: AtomicU64,
    /// Bytes of memory that state took when it was weighed last.
    pub state_bytes: AtomicU64,
    /// Runs that were let go of because memory was short: they lie in mapped files.
    pub runs_spilled: AtomicU64,
    /// Microseconds spent in steps.
    pub step_micros: AtomicU64,
    /// When the log last had no room for a step.
    log_full_at: Mutex<Option<Instant>>,
    pub sources: Mutex<BTreeMap<RelationId, SourceCounters>>,
    /// Rows that came out of each relation's dataflow.
    pub relations: Mutex<BTreeMap<RelationId, u64>>,
}

/// What one source has done since the start of the process.
#[derive(Debug, Clone, Default)]
pub struct SourceCounters {
    pub rows: u64,
    pub bytes: u64,
    pub dead_letters: u64,
    /// Rows behind the watermark, also of tables.
    pub late_rows: u64,
    pub finished: bool,
    pub last_error: Option<String>,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn tell_log_full(&self, full: bool) {
        *self.log_full_at.lock().expect("no holder of this lock panics") = full.then(Instant::now);
    }

    /// Whether a write was refused within this time because the disk was full, and none was taken since.
    pub fn log_full_within(&self, time: Duration) -> bool {
        let at = *self.log_full_at.lock().expect("no holder of this lock panics");
        at.is_some_and(|at| at.elapsed() < time)
    }

    /// Forgets what no relation has any more.
    pub(super) fn keep(&self, mut exists: impl FnMut(RelationId) -> bool) {
        self.sources.lock().expect("no holder of this lock panics").retain(|id, _| exists(*id));
        self.relations.lock().expect("no holder of this lock panics").retain(|id, _| exists(*id));
    }

    pub(super) fn source(&self, id: RelationId, change: impl FnOnce(&mut SourceCounters)) {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        change(sources.entry(id).or_default());
    }

    pub(super) fn relation_rows(&self, id: RelationId, rows: usize) {
        *self.relations.lock().expect("no holder of this lock panics").entry(id).or_default() += rows as u64;
    }

    /// One source's counters.
    pub fn of_source(&self, id: RelationId) -> SourceCounters {
        self.sources.lock().expect("no holder of this lock panics").get(&id).cloned().unwrap_or_default()
    }
}
