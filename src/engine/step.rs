//! One step: its inputs go into the log and to the workers, and when both are done its results are published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::counters::Counters;
use super::published::{Contents, Published};
use super::record::{Position, StepRecord};
use super::run::Core;
use crate::catalog::CatalogEdit;
use crate::dataflow::{Command, RelationChange, Report};
use crate::error::{SqlError, SqlResult};
use crate::storage::StorageError;
use crate::zset::{Delta, ErrorRows, Moment, RelationId, Rows, Step};

/// What comes into one step.
#[derive(Default)]
pub(super) struct Inputs {
    pub edits: Vec<CatalogEdit>,
    pub deltas: BTreeMap<RelationId, Vec<Rows>>,
    pub positions: BTreeMap<RelationId, Position>,
    pub reread: BTreeSet<RelationId>,
    /// The clock alone makes this step.
    pub tick: bool,
}

impl Inputs {
    pub fn add(&mut self, relation: RelationId, rows: Rows) {
        self.deltas.entry(relation).or_default().push(rows);
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.deltas.is_empty() && self.positions.is_empty() && !self.tick
    }

    pub fn into_record(self, at: Moment) -> StepRecord {
        let sum = |(id, parts): (RelationId, Vec<Rows>)| {
            let schema = parts[0].schema();
            (id, Rows::concat(&schema, &parts))
        };
        let deltas = self.deltas.into_iter().map(sum).collect();
        StepRecord { at, edits: self.edits, deltas, positions: self.positions, reread: self.reread }
    }
}

impl Core {
    /// Takes one step: log, workers, disk, publish. `commands` (installs and drops) reach the workers before the rows.
    /// To be followed by [`Core::deliver`].
    ///
    /// # Errors
    /// Nothing has changed if the log refused the record. If the disk fails later, the engine cannot go on.
    pub(super) fn take_step(&mut self, inputs: Inputs, commands: Vec<Command>, sync: bool) -> SqlResult<Step> {
        let record = self.log_step(inputs)?;
        self.finish_step(record, commands, sync)
    }

    /// Puts a step into the log, as the operating system keeps it. From then on it is taken, whatever happens.
    ///
    /// # Errors
    /// The disk refuses; nothing has changed.
    pub(super) fn log_step(&mut self, inputs: Inputs) -> SqlResult<StepRecord> {
        let record = inputs.into_record(self.next_moment());
        let bytes = logged(&record).encode();
        let written = self.log.append(&bytes).and_then(|_| self.log.flush());
        self.counters.tell_log_full(written.as_ref().is_err_and(StorageError::is_full));
        written.map_err(SqlError::from)?;
        Counters::add(&self.counters.log_bytes, bytes.len() as u64);
        Ok(record)
    }

    /// What follows once a step is in the log: workers, disk, publish. To be followed by [`Core::deliver`].
    ///
    /// # Errors
    /// The engine cannot go on.
    pub(super) fn finish_step(&mut self, record: StepRecord, commands: Vec<Command>, sync: bool) -> SqlResult<Step> {
        let started = Instant::now();
        let step = record.at.step;
        self.feed(record, commands);
        if sync && self.config.sync {
            // The workers compute while the disk writes.
            self.sync_log()?;
        }
        let changes = self.collect(step)?;
        self.show(changes);
        Counters::add(&self.counters.steps, 1);
        Counters::add(&self.counters.step_micros, started.elapsed().as_micros() as u64);
        Ok(step)
    }

    fn sync_log(&mut self) -> SqlResult<()> {
        Counters::add(&self.counters.log_syncs, 1);
        self.log.sync().map_err(|error| self.fail(error.into()))
    }

    /// Gives a step to the workers, as it stands in its record.
    pub(super) fn feed(&mut self, record: StepRecord, commands: Vec<Command>) {
        commands.iter().for_each(|command| self.workers.send(command));
        let rows: usize = record.deltas.iter().map(|(_, rows)| rows.len()).sum();
        Counters::add(&self.counters.rows_in, rows as u64);
        let deltas = record.deltas.into_iter().map(|(id, rows)| (id, Delta::new(rows, ErrorRows::default())));
        let deltas = Arc::new(deltas.collect());
        self.workers.send(&Command::Feed { at: record.at, deltas });
        self.at = record.at;
        self.positions.extend(record.positions);
    }

    /// Waits until every worker has finished the step.
    pub(super) fn collect(&mut self, step: Step) -> SqlResult<Vec<(usize, RelationChange)>> {
        let changes = collect_step(&self.reports, self.config.workers, step);
        changes.map_err(|(worker, reason)| self.worker_died(worker, &reason))
    }

    /// Makes a step's results visible to readers, and sends them to subscribers and sinks.
    pub(super) fn publish(&mut self, changes: Vec<(usize, RelationChange)>) {
        self.show(changes);
        self.send_out();
    }

    /// Sends what readers see already to subscribers and sinks.
    ///
    /// # Errors
    /// The engine cannot go on.
    pub(super) fn deliver(&mut self) -> SqlResult<()> {
        if !self.outgoing.is_empty() && !self.is_synced() {
            // What a crash could take back must not reach a subscriber or a sink.
            self.sync_log()?;
        }
        self.send_out();
        Ok(())
    }

    /// Whether a crash could take back nothing of what is published.
    pub(super) fn is_synced(&self) -> bool {
        !self.config.sync || self.log.synced() >= self.log.position()
    }

    pub(super) fn send_out(&mut self) {
        for (relation, delta) in std::mem::take(&mut self.outgoing) {
            self.outlets.send(relation, self.at.step, &delta);
        }
    }

    /// Makes a step's results visible to readers.
    fn show(&mut self, changes: Vec<(usize, RelationChange)>) {
        let mut deltas: BTreeMap<RelationId, Vec<Delta>> = BTreeMap::new();
        for (worker, change) in changes {
            if let Some(snapshot) = change.snapshot {
                let workers = self.config.workers;
                let contents = self.contents.entry(change.relation).or_insert_with(|| Arc::new(Contents::new(workers)));
                let contents = Arc::make_mut(contents);
                contents.snapshots[worker] = Some(snapshot);
                contents.errors[worker] = change.errors;
            }
            if !change.delta.is_empty() {
                deltas.entry(change.relation).or_default().push(change.delta);
            }
        }
        let published = Published {
            moment: self.at,
            catalog: self.catalog.clone(),
            relations: self.contents.clone(),
            positions: self.positions.clone(),
        };
        self.published.send_replace(Arc::new(published));
        self.tell_fills(&deltas);
        for (relation, parts) in deltas {
            let rows: usize = parts.iter().map(|part| part.oks.len()).sum();
            Counters::add(&self.counters.rows_out, rows as u64);
            self.counters.relation_rows(relation, rows);
            if self.outlets.is_followed(relation) {
                let schema = parts[0].schema();
                self.outgoing.push((relation, Delta::concat(&schema, parts)));
            }
        }
    }

    /// The next step. Its clock never goes back, whatever the system's clock does.
    fn next_moment(&self) -> Moment {
        Moment { step: self.at.step.next(), now: clock().max(self.at.now) }
    }
}

/// Microseconds since 1970 by the system's clock.
pub(super) fn clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// What all workers report of a step; or the worker that has died, and why.
pub(super) fn collect_step(
    reports: &Receiver<Report>,
    workers: usize,
    step: Step,
) -> Result<Vec<(usize, RelationChange)>, (usize, String)> {
    let mut changes = Vec::new();
    let mut waiting = workers;
    while waiting > 0 {
        match reports.recv() {
            Ok(Report::Step { worker, step: done, changes: own }) => {
                assert_eq!(done, step, "one step is in flight");
                changes.extend(own.into_iter().map(|change| (worker, change)));
                waiting -= 1;
            }
            Ok(Report::Saved { .. } | Report::Weight { .. }) => {}
            Ok(Report::Died { worker, reason }) => return Err((worker, reason)),
            Err(_) => return Err((0, "its channel is closed".to_string())),
        }
    }
    Ok(changes)
}

/// The record without the rows that replay can read again.
fn logged(record: &StepRecord) -> StepRecord {
    let mut logged = record.clone();
    logged.deltas.retain(|(id, _)| !record.reread.contains(id));
    logged
}
