//! Sinks: one task writes each, in the order of steps; checkpoints wait until what they stand for is final outside.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::counters::Counters;
use super::event::WriteError;
use super::outlets::SinkOrder;
use super::run::Core;
use crate::catalog::Relation;
use crate::connectors::{self, AllowedPaths, ConnectorError, Sink, SinkSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{Delta, ErrorRows, RelationId, Rows, Step, consolidate};

/// Steps that may wait for a sink before the engine does.
const SINK_STEPS_MAX: usize = 64;
/// Bytes that a sink may hold before it makes them final.
const FLUSH_BYTES: u64 = 16 << 20;
/// How long a sink that cannot reach its target waits at first, and at most, before it tries again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

impl Core {
    /// Opens a sink that is being created.
    ///
    /// # Errors
    /// The connector refuses the options or the place.
    pub(super) fn open_new_sink(&mut self, relation: &Arc<Relation>) -> SqlResult<()> {
        let sink = self.connect(relation, true)?;
        self.start_sink(relation, Ok(sink));
        Ok(())
    }

    /// Opens a sink once more at the start. One that cannot be opened holds up nobody else: it shows why, and the log
    /// keeps what it has to be given.
    pub(super) fn reopen_sink(&mut self, relation: &Arc<Relation>) {
        let sink = self.connect(relation, false);
        self.start_sink(relation, sink);
    }

    fn connect(&self, relation: &Relation, is_new: bool) -> SqlResult<Box<dyn Sink>> {
        let spec = SinkSpec {
            name: relation.name.clone(),
            schema: relation.arrow_schema(),
            options: relation.options.clone(),
            append_only: self.flows.get(&relation.id).is_some_and(|flow| flow.append_only),
            allowed_paths: AllowedPaths::new(self.config.allowed_paths.clone()),
            key: relation.primary_key.clone(),
            is_new,
        };
        connectors::find(relation.connector().unwrap_or_default())?.open_sink(&spec)
    }

    fn start_sink(&mut self, relation: &Relation, sink: SqlResult<Box<dyn Sink>>) {
        let (orders, received) = mpsc::channel(SINK_STEPS_MAX);
        let report = Report { id: relation.id, name: relation.name.clone(), counters: self.counters.clone() };
        let schema = relation.arrow_schema();
        let task = self.runtime.spawn(async move {
            match sink {
                Ok(sink) => Writer::new(sink, schema, report).run(received).await,
                Err(error) => refuse(error, received, &report).await,
            }
        });
        self.outlets.add_sink(relation.id, orders, task);
    }

    /// Answers a definition once the sinks that it has dropped have made final what they had.
    pub(super) fn answer_when_closed(
        &mut self,
        reply: oneshot::Sender<Result<Step, WriteError>>,
        result: Result<Step, WriteError>,
    ) {
        let closing = std::mem::take(&mut self.closing);
        if closing.is_empty() {
            // Whoever does not wait any more does not matter.
            let _ = reply.send(result);
            return;
        }
        self.runtime.spawn(async move {
            for task in closing {
                // A task that panicked has nothing left to make final.
                let _ = task.await;
            }
            let _ = reply.send(result);
        });
    }
}

/// Where a sink's troubles are shown.
struct Report {
    id: RelationId,
    name: String,
    counters: Arc<Counters>,
}

impl Report {
    fn show(&self, error: &SqlError) {
        tracing::warn!("sink \"{}\": {error}", self.name);
        self.counters.source(self.id, |counters| counters.last_error = Some(error.message.clone()));
    }

    fn clear(&self) {
        self.counters.source(self.id, |counters| counters.last_error = None);
    }
}

/// Stands for a sink that could not be opened.
async fn refuse(error: SqlError, mut orders: mpsc::Receiver<SinkOrder>, report: &Report) {
    report.show(&error);
    while let Some(order) = orders.recv().await {
        if let SinkOrder::Flush(reply) = order {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

/// A sink's task.
struct Writer {
    sink: Box<dyn Sink>,
    schema: SchemaRef,
    report: Report,
    /// Why the outside does not take any more.
    broken: Option<SqlError>,
    /// Error rows that are live: while there are some the relation has no contents that could be sent on.
    errors: ErrorRows,
    /// What changed meanwhile.
    held: Vec<Rows>,
    /// When the oldest of what is written and not final yet has to become so.
    due: Option<Instant>,
    /// While the outside cannot be reached: how long the next try is waited for.
    retry: Option<Duration>,
    /// The newest step of what is held.
    held_at: Step,
    /// Who waits for what was taken so far to become final.
    waiting: Vec<oneshot::Sender<SqlResult<()>>>,
    /// The same, for what has come since the flush began.
    later: Vec<oneshot::Sender<SqlResult<()>>>,
}

impl Writer {
    fn new(sink: Box<dyn Sink>, schema: SchemaRef, report: Report) -> Self {
        Self {
            sink,
            schema,
            report,
            broken: None,
            errors: ErrorRows::default(),
            held: Vec::new(),
            due: None,
            retry: None,
            held_at: Step(0),
            waiting: Vec::new(),
            later: Vec::new(),
        }
    }

    /// Follows its orders until the sink is dropped, or the engine has stopped after a last flush.
    async fn run(mut self, mut orders: mpsc::Receiver<SinkOrder>) {
        loop {
            self.set_due();
            let order = tokio::select! {
                order = orders.recv() => order,
                () = until(self.due) => {
                    self.flush(&mut orders).await;
                    continue;
                }
            };
            match order {
                Some(SinkOrder::Step(step, delta)) => self.take(step, delta).await,
                Some(SinkOrder::Flush(reply)) => {
                    self.waiting.push(reply);
                    self.flush(&mut orders).await;
                }
                None => break,
            }
        }
        let _ = self.sink.close().await;
    }

    fn set_due(&mut self) {
        let pending = self.sink.pending_bytes() > 0 || self.retry.is_some();
        let wanted = (pending && self.broken.is_none()) || !self.waiting.is_empty();
        self.due = wanted.then(|| self.due.unwrap_or_else(|| Instant::now() + self.sink.flush_after()));
    }

    async fn take(&mut self, step: Step, delta: Delta) {
        let had_errors = self.errors.first().is_some();
        self.hold(step, delta);
        match self.errors.first() {
            Some(error) if !had_errors => self.report.show(&SqlError::from(error.clone())),
            Some(_) => {}
            None => {
                if had_errors && self.retry.is_none() {
                    self.report.clear();
                }
                self.write_held().await;
            }
        }
    }

    fn hold(&mut self, step: Step, delta: Delta) {
        if self.broken.is_none() {
            self.held_at = step;
            self.errors.add_all(&delta.errs);
            self.held.push(delta.oks);
        }
    }

    /// Writes the net change of what was held, if it can be.
    async fn write_held(&mut self) {
        if self.broken.is_some() || self.retry.is_some() || self.errors.first().is_some() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        let rows = match held.len() {
            0 => return,
            1 => held.remove(0),
            _ => consolidate(&Rows::concat(&self.schema, &held)),
        };
        let written = self.write(self.held_at, &rows).await;
        self.note(written);
    }

    async fn write(&mut self, step: Step, rows: &Rows) -> Result<(), ConnectorError> {
        self.sink.write(step, rows).await?;
        if self.sink.pending_bytes() > FLUSH_BYTES {
            self.sink.flush().await?;
        }
        Ok(())
    }

    /// Makes final what was written. Steps that come meanwhile are held, so that an outside that is slow to answer
    /// does not hold up the engine.
    async fn flush(&mut self, orders: &mut mpsc::Receiver<SinkOrder>) {
        self.due = None;
        let was_behind = !self.held.is_empty();
        if self.broken.is_none() {
            let flushed = self.flush_and_hold(orders).await;
            if flushed.is_ok() && self.retry.take().is_some() {
                self.report.clear();
            }
            self.note(flushed);
        }
        self.write_held().await;
        let settled = self.settled();
        // What was held when they asked has only been written now: one more flush makes it final.
        let mut waiting = std::mem::take(&mut self.later);
        if was_behind && settled.is_ok() {
            waiting.append(&mut self.waiting);
        }
        for reply in std::mem::replace(&mut self.waiting, waiting) {
            // A checkpoint that is not waited for any more does not matter.
            let _ = reply.send(settled.clone());
        }
        if !self.waiting.is_empty() {
            self.due = Some(Instant::now());
        }
    }

    async fn flush_and_hold(&mut self, orders: &mut mpsc::Receiver<SinkOrder>) -> Result<(), ConnectorError> {
        let mut arrived = Vec::new();
        let mut flush = self.sink.flush();
        let flushed = loop {
            // While the outside answers, a sink that is slower than the engine slows the engine.
            let takes = self.retry.is_some() || arrived.len() < SINK_STEPS_MAX;
            tokio::select! {
                flushed = &mut flush => break flushed,
                order = orders.recv(), if takes => match order {
                    Some(order) => arrived.push(order),
                    None => break (&mut flush).await,
                },
            }
        };
        drop(flush);
        for order in arrived {
            match order {
                SinkOrder::Step(step, delta) => self.hold(step, delta),
                SinkOrder::Flush(reply) => self.later.push(reply),
            }
        }
        flushed
    }

    /// What may pass is tried again, ever more seldom; the sink keeps what it could not make final.
    fn note(&mut self, result: Result<(), ConnectorError>) {
        let Err(failed) = result else { return };
        self.report.show(&failed.error);
        if !failed.transient {
            self.broken = Some(failed.error);
            return;
        }
        let wait = self.retry.map_or(RETRY.0, |wait| (wait * 2).min(RETRY.1));
        self.retry = Some(wait);
        self.due = Some(Instant::now() + wait);
    }

    /// Whether everything is final outside, so that the log need not keep it.
    fn settled(&self) -> SqlResult<()> {
        match (&self.broken, self.errors.first()) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(error)) => Err(SqlError::from(error.clone())),
            (None, None) if self.retry.is_some() => {
                let message = format!("sink \"{}\" waits for the system that it writes to", self.report.name);
                Err(SqlError::new(SqlState::CONNECTION_FAILURE, message))
            }
            (None, None) => Ok(()),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
