//! The loop: one thread that takes events in the order in which they came and turns them into steps.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver as Reports;
use std::sync::{Arc, atomic::Ordering};
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::checkpoint::Checkpoints;
use super::constraints::{Pending, admit};
use super::counters::Counters;
use super::event::{Event, Events, SourceRows, Write, WriteError};
use super::fill::{Fill, Jobs};
use super::handle::EngineConfig;
use super::ingest::{Positions, Readers};
use super::outlets::Outlets;
use super::published::{Contents, Published};
use super::step::Inputs;
use super::watermark::Lateness;
use crate::catalog::{Catalog, DEAD_LETTERS};
use crate::connectors::Deletions;
use crate::dataflow::{Report, Workers};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::storage::Log;
use crate::zset::{Delta, Moment, RelationId, Rows, Step};

/// Rows that one step takes at most from what is waiting; a single write may be larger.
const STEP_ROWS_MAX: usize = 256 * 1024;

/// Rows after which the state is weighed again; it is once a second also.
const WEIGHED_ROWS: usize = 256 * 1024;

/// Everything the loop owns.
pub(super) struct Core {
    pub config: EngineConfig,
    pub events: Events,
    pub runtime: tokio::runtime::Runtime,
    pub log: Log,
    pub checkpoints: Checkpoints,
    pub workers: Workers,
    pub reports: Reports<Report>,
    /// The last step that was fed.
    pub at: Moment,
    pub catalog: Arc<Catalog>,
    pub contents: HashMap<RelationId, Arc<Contents>>,
    /// What is known of each installed dataflow.
    pub flows: HashMap<RelationId, Flow>,
    /// Where each source stands as of the last step.
    pub positions: Positions,
    pub readers: Readers,
    pub outlets: Outlets,
    /// What readers see of the last step, and subscribers and sinks have not got yet.
    pub outgoing: Vec<(RelationId, Delta)>,
    /// What is being filled beside the steps, by the number of its job.
    pub fills: BTreeMap<u64, Fill>,
    pub jobs: Jobs,
    pub jobs_begun: u64,
    /// Rows that came in since the state was weighed.
    pub rows_unweighed: usize,
    /// Tasks of sinks that were dropped and still make final what they had.
    pub closing: Vec<JoinHandle<()>>,
    /// Dataflows of subscribed queries: not in the catalog, gone with their subscriber.
    pub temporary: Vec<RelationId>,
    pub published: watch::Sender<Arc<Published>>,
    pub failed: watch::Sender<Option<SqlError>>,
    pub counters: Arc<Counters>,
}

/// What the engine remembers of a dataflow that the workers run.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub append_only: bool,
    pub uses_clock: bool,
    pub reads: Vec<RelationId>,
    /// Tells whether a checkpoint's state fits the dataflow that this program would build.
    pub fingerprint: u64,
}

pub(super) type WriteReply = oneshot::Sender<Result<Step, WriteError>>;

/// What the next step is made of so far, and who waits for it.
#[derive(Default)]
struct Gathered {
    inputs: Inputs,
    pending: Pending,
    lateness: Lateness,
    writers: Vec<WriteReply>,
    readers: Vec<oneshot::Sender<SqlResult<()>>>,
    finished: Vec<RelationId>,
    rows: usize,
    sync: bool,
}

/// Starts the loop on its own thread. It ends with [`Event::Stop`], or when the engine cannot go on.
pub(super) fn spawn(mut core: Core, mut received: mpsc::Receiver<Event>) {
    let body = move || {
        core.start_readers();
        core.start_ticking();
        // What this start had to take again, the next one need not.
        core.checkpoint_if_due();
        // A bug must end the process like a failed disk does, not leave it there without an engine.
        let served = catch_unwind(AssertUnwindSafe(|| core.serve(&mut received)));
        let reply = served.unwrap_or_else(|_| {
            core.fail(SqlError::internal("the engine stopped; nothing is lost, the next start recovers"));
            None
        });
        received.close();
        let Core { runtime, workers, log, failed, checkpoints, .. } = core;
        workers.stop();
        runtime.shutdown_background();
        // The lock of the data directory goes with the last user of its disk.
        drop(checkpoints);
        if failed.borrow().is_none() {
            // Without the mark of a clean stop the next start only reads the log's end with more doubt.
            let _ = log.close();
        }
        if let Some((reply, result)) = reply {
            // The caller may have given up waiting.
            let _ = reply.send(result);
        }
    };
    thread::Builder::new().name("engine".to_string()).spawn(body).expect("the system can start a thread");
}

/// Tells everyone whose input is in the step. Whoever does not wait any more does not matter.
fn answer(writers: Vec<WriteReply>, readers: Vec<oneshot::Sender<SqlResult<()>>>, result: &SqlResult<Step>) {
    for reply in writers {
        let _ = reply.send(result.clone().map_err(WriteError::Refused));
    }
    for reply in readers {
        let _ = reply.send(result.clone().map(drop));
    }
}

type StopReply = (oneshot::Sender<SqlResult<()>>, SqlResult<()>);

impl Core {
    fn serve(&mut self, received: &mut mpsc::Receiver<Event>) -> Option<StopReply> {
        while let Some(first) = received.blocking_recv() {
            let mut gathered = Gathered::default();
            let mut next = Some(first);
            while let Some(event) = next {
                if let Some(stop) = self.handle(event, &mut gathered) {
                    self.settle(gathered);
                    return Some((stop, self.checkpoint_and_wait()));
                }
                if self.failed.borrow().is_some() {
                    return None;
                }
                next = if gathered.rows < STEP_ROWS_MAX { received.try_recv().ok() } else { None };
            }
            self.settle(gathered);
            self.drop_unfollowed();
            self.end_checkpoint();
            if self.failed.borrow().is_some() {
                return None;
            }
        }
        None
    }

    /// Takes one event: adds it to the step that is being gathered, or, if it cannot share a step, settles that one
    /// first. Gives the reply of [`Event::Stop`].
    fn handle(&mut self, event: Event, gathered: &mut Gathered) -> Option<oneshot::Sender<SqlResult<()>>> {
        match event {
            Event::Write { write, reply } => self.gather_write(write, reply, gathered),
            Event::Source { rows, reply } => self.gather_source(rows, reply, gathered),
            Event::Define { definition, reply } => {
                self.settle(std::mem::take(gathered));
                self.define_or_fill(definition, reply);
            }
            Event::Subscribe { what, reply } => {
                self.settle(std::mem::take(gathered));
                let _ = reply.send(self.subscribe(what));
            }
            Event::Unsubscribe(id) => {
                self.outlets.unsubscribe(id);
                self.count_subscribers();
            }
            Event::Filled(filled) => {
                self.settle(std::mem::take(gathered));
                self.filled(*filled);
            }
            Event::SourceFailed { source, reader, error } => self.source_failed(source, reader, error),
            Event::Tick => {
                gathered.inputs.tick |= self.flows.values().any(|flow| flow.uses_clock);
                self.keep_to_memory_limit();
            }
            Event::Checkpoint { reply } => {
                self.settle(std::mem::take(gathered));
                let _ = reply.send(self.checkpoint_and_wait());
            }
            Event::Stop { reply } => return Some(reply),
        }
        None
    }

    fn gather_write(&mut self, write: Write, reply: WriteReply, gathered: &mut Gathered) {
        let sync = write.sync;
        let published = self.published.borrow().clone();
        let (write, judged) = gathered.lateness.judge(write, &self.catalog, &published);
        match admit(write, &self.catalog, &published, &mut gathered.pending) {
            Err(error) => {
                Counters::add(&self.counters.writes_refused, 1);
                let _ = reply.send(Err(error));
            }
            Ok(taken) => {
                self.count_late(gathered.lateness.accept(judged));
                for (table, rows) in taken.into_iter().filter(|(_, rows)| !rows.is_empty()) {
                    gathered.rows += rows.len();
                    gathered.inputs.add(table, rows);
                }
                gathered.sync |= sync;
                gathered.writers.push(reply);
            }
        }
    }

    fn gather_source(&mut self, source: SourceRows, reply: oneshot::Sender<SqlResult<()>>, gathered: &mut Gathered) {
        if !self.readers.is_current(source.source, source.reader) {
            return;
        }
        let Some(relation) = self.catalog.get(source.source).cloned() else { return };
        self.counters.source(source.source, |counters| {
            counters.last_error = None;
            counters.rows += source.rows.len() as u64;
            counters.bytes += source.bytes;
            counters.dead_letters += source.dead_letters.len() as u64;
        });
        if !source.dead_letters.is_empty() {
            let step = self.at.step.next();
            gathered
                .inputs
                .add(DEAD_LETTERS, super::ingest::dead_letter_rows(&relation.name, step, &source.dead_letters));
        }
        gathered.rows += source.rows.len();
        let published = self.published.borrow().clone();
        let (rows, late) = gathered.lateness.take_in_order(&relation, source.rows, &published);
        self.count_late(vec![(relation.id, late)]);
        let rows = match self.upserted(&relation, rows, source.deletions, &mut gathered.pending) {
            Ok(rows) => rows,
            Err(error) => return self.source_failed(source.source, source.reader, error),
        };
        if self.readers.is_reread(source.source) {
            gathered.inputs.reread.insert(source.source);
        }
        if !rows.is_empty() {
            gathered.inputs.add(source.source, rows);
        }
        gathered.inputs.positions.insert(source.source, source.position);
        gathered.readers.push(reply);
        if source.finished {
            gathered.finished.push(source.source);
        }
    }

    /// Takes the gathered step and answers everyone who waits for it.
    fn settle(&mut self, mut gathered: Gathered) {
        let published = self.published.borrow().clone();
        let step = self.at.step.next();
        std::mem::take(&mut gathered.lateness).finish(&mut gathered.inputs, &self.catalog, &published, step);
        if gathered.inputs.is_empty() {
            self.tell_finished(&gathered.finished);
            return answer(gathered.writers, gathered.readers, &Ok(self.at.step));
        }
        let writes = gathered.writers.len() as u64;
        let result = self.take_step(gathered.inputs, Vec::new(), gathered.sync);
        match &result {
            Ok(_) => {
                Counters::add(&self.counters.writes, writes);
                self.tell_finished(&gathered.finished);
            }
            Err(_) => Counters::add(&self.counters.writes_refused, writes),
        }
        // Who does not wait for the disk need not wait either until it has what subscribers may see.
        if self.is_synced() {
            self.send_out();
        }
        answer(gathered.writers, gathered.readers, &result);
        if self.deliver().is_err() {
            return;
        }
        self.rows_unweighed += gathered.rows;
        if self.rows_unweighed >= WEIGHED_ROWS {
            self.rows_unweighed = 0;
            self.keep_to_memory_limit();
        }
        self.checkpoint_if_due();
    }

    pub(super) fn count_late(&self, counts: Vec<(RelationId, u64)>) {
        for (id, late) in counts.into_iter().filter(|(_, late)| *late > 0) {
            self.counters.source(id, |counters| counters.late_rows += late);
        }
    }

    /// A source counts as finished when its last rows are published, and not before.
    fn tell_finished(&self, sources: &[RelationId]) {
        sources.iter().for_each(|source| self.counters.source(*source, |counters| counters.finished = true));
    }

    /// The engine cannot go on. Readers keep what is published; everything else is refused with this reason.
    pub(super) fn fail(&mut self, error: SqlError) -> SqlError {
        self.failed.send_replace(Some(error.clone()));
        error
    }

    pub(super) fn worker_died(&mut self, worker: usize, reason: &str) -> SqlError {
        self.fail(SqlError::new(
            SqlState::INTERNAL_ERROR,
            format!("worker {worker} stopped: {reason}; nothing is lost, the next start recovers"),
        ))
    }

    fn start_ticking(&self) {
        let events = self.events.clone();
        self.runtime.spawn(async move {
            let mut every = tokio::time::interval(std::time::Duration::from_secs(1));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                if events.send(Event::Tick).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(super) fn count_subscribers(&self) {
        self.counters.subscribers.store(self.outlets.subscriber_count() as u64, Ordering::Relaxed);
    }

    /// Rows of a table that a connector fills by key: a row replaces the one that has its key.
    fn upserted(
        &self,
        relation: &crate::catalog::Relation,
        rows: Rows,
        deletions: Option<Deletions>,
        pending: &mut Pending,
    ) -> SqlResult<Rows> {
        if relation.primary_key.is_empty() || (rows.is_empty() && deletions.is_none()) {
            return Ok(rows);
        }
        super::constraints::upsert(relation, &rows, deletions.as_ref(), &self.published.borrow().clone(), pending)
    }
}
