//! Checkpoints: all state as of one step on disk, so that the log before it is no longer needed.
//!
//! Workers give their runs (shared, not copied) between two steps; a thread of its own writes the runs that have no
//! file yet, then the manifest. The engine goes on meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::counters::Counters;
use super::record::Position;
use super::run::Core;
use super::step::Inputs;
use crate::catalog::Catalog;
use crate::dataflow::{Command, Mapped, Place, Report, SavedPart};
use crate::error::{SqlError, SqlResult};
use crate::state::{Run, RunFile, RunFiles};
use crate::storage::{LogPosition, ManifestStore};
use crate::zset::{ErrorRows, Moment, RelationId, Step};

/// Steps of the log after which a checkpoint is written, however small they were: a restart takes them again.
const STEPS_MAX: u64 = 256;
/// After a checkpoint the next one waits so many times as long as it took, so that they stay a small part of the work.
const PAUSE_FACTOR: u32 = 10;
/// The least pause after a checkpoint, and the pause after one that failed.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// What a checkpoint consists of: the body of a manifest, as JSON. `docs/formats.md` describes the fields.
#[derive(Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    pub at: Moment,
    /// Where the log goes on after this checkpoint.
    pub log: u64,
    pub catalog: Catalog,
    pub positions: BTreeMap<RelationId, Position>,
    /// For each dataflow what its state was made by.
    pub fingerprints: BTreeMap<RelationId, u64>,
    pub parts: Vec<PartFiles>,
}

/// The format of manifests that this program writes, and the newest that it reads.
pub(super) const MANIFEST_FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct PartFiles {
    pub relation: RelationId,
    pub place: Place,
    pub runs: Vec<RunFile>,
    #[serde(default)]
    pub errors: ErrorRows,
}

/// What the loop remembers of checkpoints.
pub(super) struct Checkpoints {
    pub manifests: Arc<ManifestStore>,
    pub files: Arc<RunFiles>,
    /// The number of the newest manifest.
    pub number: u64,
    /// Where the log went on after the newest two checkpoints, older first: the older manifest is kept as well.
    pub log: [LogPosition; 2],
    /// Run files that the newest manifest names.
    pub named: HashSet<String>,
    /// The thread that writes one.
    pub running: Option<JoinHandle<Outcome>>,
    /// The step of the newest checkpoint, or of the one that is being written.
    pub at: Step,
    /// The step up to which memory has let go of what it could.
    pub spilled_at: Option<Step>,
    /// No checkpoint is begun before this moment.
    pub not_before: Option<Instant>,
}

/// What the writing thread reports.
pub(super) struct Outcome {
    number: u64,
    log: LogPosition,
    took: Duration,
    result: SqlResult<Written>,
}

/// What a checkpoint has put on disk.
#[derive(Default)]
struct Written {
    /// All run files that its manifest names.
    named: HashSet<String>,
    mapped: Mapped,
}

struct Job {
    number: u64,
    manifest: Manifest,
    parts: Vec<SavedPart>,
    /// Sinks must have made final what the log will no longer replay.
    sinks: Vec<oneshot::Receiver<SqlResult<()>>>,
    manifests: Arc<ManifestStore>,
    files: Arc<RunFiles>,
    begun: Instant,
    /// Whether memory is short, so that runs are read back from their files.
    spills: bool,
}

/// Runs of fewer rows are not worth a mapping.
const SPILLED_ROWS_MIN: usize = 1024;

impl Core {
    /// Starts a checkpoint when the log has grown enough since the last one, in bytes or in steps.
    pub(super) fn checkpoint_if_due(&mut self) {
        let grown = self.log.bytes_since(self.checkpoints.log[1]) >= self.config.checkpoint_bytes
            || self.at.step.0 - self.checkpoints.at.0 >= STEPS_MAX;
        let pauses = || self.checkpoints.not_before.is_some_and(|moment| Instant::now() < moment);
        if !grown || self.checkpoints.running.is_some() || self.failed.borrow().is_some() || pauses() {
            return;
        }
        let Ok(job) = self.prepare_checkpoint() else { return };
        let writer = thread::Builder::new().name("checkpoint".to_string()).spawn(|| job.write());
        self.checkpoints.running = Some(writer.expect("the system can start a thread"));
    }

    /// Takes note of a checkpoint that has been written meanwhile.
    pub(super) fn end_checkpoint(&mut self) {
        if self.checkpoints.running.as_ref().is_some_and(JoinHandle::is_finished) {
            self.await_checkpoint();
        }
    }

    fn await_checkpoint(&mut self) {
        let Some(writer) = self.checkpoints.running.take() else { return };
        match writer.join() {
            Ok(outcome) => self.checkpointed(outcome),
            Err(_) => tracing::warn!("checkpoint {} was not finished, the log is kept", self.checkpoints.number),
        }
    }

    /// Writes a checkpoint and waits for it.
    pub(super) fn checkpoint_and_wait(&mut self) -> SqlResult<()> {
        if let Some(error) = self.failed.borrow().clone() {
            return Err(error);
        }
        // Two writers at once would take each other's files for left over.
        self.await_checkpoint();
        let outcome = self.prepare_checkpoint()?.write();
        let result = outcome.result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.checkpointed(outcome);
        result
    }

    /// Everything that the checkpoint is made of, as of the last step.
    fn prepare_checkpoint(&mut self) -> SqlResult<Job> {
        let begun = Instant::now();
        // What the checkpoint stands for must be durable before the log can be cut behind it.
        self.log.sync().map_err(|error| self.fail(error.into()))?;
        let parts = self.saved_parts()?;
        let fingerprints = self.flows.iter().map(|(id, flow)| (*id, flow.fingerprint)).collect();
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            at: self.at,
            log: self.log.position().0,
            catalog: (*self.catalog).clone(),
            positions: self.positions.clone(),
            fingerprints,
            parts: Vec::new(),
        };
        self.checkpoints.number += 1;
        self.checkpoints.at = self.at.step;
        Ok(Job {
            number: self.checkpoints.number,
            manifest,
            parts,
            sinks: self.outlets.flush(),
            manifests: self.checkpoints.manifests.clone(),
            files: self.checkpoints.files.clone(),
            begun,
            spills: false,
        })
    }

    fn saved_parts(&mut self) -> SqlResult<Vec<SavedPart>> {
        self.workers.send(&Command::Save);
        let mut parts = Vec::new();
        for _ in 0..self.config.workers {
            match self.reports.recv() {
                Ok(Report::Saved { parts: own, .. }) => parts.extend(own),
                Ok(Report::Died { worker, reason }) => return Err(self.worker_died(worker, &reason)),
                Ok(Report::Step { .. } | Report::Weight { .. }) => unreachable!("only what was asked for is reported"),
                Err(_) => return Err(self.worker_died(0, "its channel is closed")),
            }
        }
        let temporary: HashSet<RelationId> = self.temporary.iter().copied().collect();
        parts.retain(|part| !temporary.contains(&part.relation));
        Ok(parts)
    }

    /// Weighs the state. If it takes more memory than it may, what checkpoints have on disk is let go of: others wait
    /// meanwhile, so that sources and writers do not outrun the disk.
    pub(super) fn keep_to_memory_limit(&mut self) {
        if self.failed.borrow().is_some() {
            return;
        }
        let Ok(bytes) = self.weigh() else { return };
        self.counters.state_bytes.store(bytes as u64, Ordering::Relaxed);
        // What is not in runs cannot be let go of: without a new step another attempt gains nothing.
        if bytes <= self.config.memory_limit || self.checkpoints.spilled_at == Some(self.at.step) {
            return;
        }
        self.await_checkpoint();
        let Ok(mut job) = self.prepare_checkpoint() else { return };
        job.spills = true;
        let mut outcome = job.write();
        let mapped = outcome.result.as_mut().map(|written| std::mem::take(&mut written.mapped)).unwrap_or_default();
        self.checkpointed(outcome);
        if !mapped.is_empty() {
            self.let_go(mapped);
        }
        self.checkpoints.spilled_at = Some(self.at.step);
    }

    /// Bytes of memory that the state of all dataflows takes.
    fn weigh(&mut self) -> SqlResult<usize> {
        self.workers.send(&Command::Weigh);
        let mut sum = 0;
        for _ in 0..self.config.workers {
            match self.reports.recv() {
                Ok(Report::Weight { bytes }) => sum += bytes,
                Ok(Report::Died { worker, reason }) => return Err(self.worker_died(worker, &reason)),
                Ok(Report::Step { .. } | Report::Saved { .. }) => unreachable!("only what was asked for is reported"),
                Err(_) => return Err(self.worker_died(0, "its channel is closed")),
            }
        }
        Ok(sum)
    }

    /// A step without rows, which is not logged: workers and readers go over to the runs in files.
    fn let_go(&mut self, mapped: Mapped) {
        Counters::add(&self.counters.runs_spilled, mapped.len() as u64);
        self.workers.send(&Command::Spill(Arc::new(mapped)));
        let at = Moment { step: self.at.step.next(), now: self.at.now };
        self.feed(Inputs::default().into_record(at), Vec::new());
        if let Ok(changes) = self.collect(at.step) {
            self.publish(changes);
        }
    }

    /// A checkpoint was written, or failed: then the log is simply not cut.
    fn checkpointed(&mut self, outcome: Outcome) {
        let pause = if outcome.result.is_ok() { PAUSE.0.max(outcome.took * PAUSE_FACTOR) } else { PAUSE.1 };
        self.checkpoints.not_before = Some(Instant::now() + pause);
        let named = match outcome.result {
            Ok(written) => written.named,
            Err(error) => {
                tracing::warn!("checkpoint {} failed, the log is kept: {error}", outcome.number);
                return;
            }
        };
        Counters::add(&self.counters.checkpoints, 1);
        let keep: HashSet<String> = self.checkpoints.named.union(&named).cloned().collect();
        self.checkpoints.log = [self.checkpoints.log[1], outcome.log];
        self.checkpoints.named = named;
        let cleaned = self.log.cut(self.checkpoints.log[0]).map_err(SqlError::from);
        let cleaned = cleaned.and_then(|()| self.checkpoints.files.retain(&keep).map_err(SqlError::from));
        if let Err(error) = cleaned {
            tracing::warn!("old files could not be removed: {error}");
        }
    }
}

impl Job {
    fn write(mut self) -> Outcome {
        let (number, log, begun) = (self.number, LogPosition(self.manifest.log), self.begun);
        let result = self.write_all();
        Outcome { number, log, took: begun.elapsed(), result }
    }

    fn write_all(&mut self) -> SqlResult<Written> {
        for sink in std::mem::take(&mut self.sinks) {
            // A sink whose task is gone is reported by itself and does not hold checkpoints up.
            sink.blocking_recv().unwrap_or(Ok(()))?;
        }
        let mut written = Written::default();
        for part in merged(std::mem::take(&mut self.parts)) {
            let write = |run: &Arc<Run>| self.files.write(run).map_err(SqlError::from);
            let runs: Vec<RunFile> = part.runs.iter().map(write).collect::<SqlResult<_>>()?;
            written.named.extend(runs.iter().map(|run| run.name.clone()));
            if self.spills {
                self.map(&part.runs, &runs, &mut written.mapped)?;
            }
            let files = PartFiles { relation: part.relation, place: part.place, runs, errors: part.errors };
            self.manifest.parts.push(files);
        }
        self.files.sync()?;
        let body = serde_json::to_vec(&self.manifest).map_err(|error| SqlError::internal(error.to_string()))?;
        self.manifests.write(self.number, &body)?;
        Ok(written)
    }

    fn map(&self, runs: &[Arc<Run>], files: &[RunFile], mapped: &mut Mapped) -> SqlResult<()> {
        let in_memory = |run: &Arc<Run>| !run.is_mapped() && run.len() >= SPILLED_ROWS_MIN;
        for (run, file) in runs.iter().zip(files).filter(|(run, _)| in_memory(run)) {
            mapped.insert(run.id(), self.files.open(file, None)?);
        }
        Ok(())
    }
}

/// The parts of all workers, one entry for each place.
fn merged(parts: Vec<SavedPart>) -> Vec<SavedPart> {
    let mut places: HashMap<(RelationId, Place), SavedPart> = HashMap::new();
    for part in parts {
        match places.entry((part.relation, part.place)) {
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(part)),
            std::collections::hash_map::Entry::Occupied(mut taken) => {
                taken.get_mut().runs.extend(part.runs);
                taken.get_mut().errors.add_all(&part.errors);
            }
        }
    }
    let mut all: Vec<SavedPart> = places.into_values().collect();
    all.sort_by_key(|part| (part.relation, part.place));
    all
}
