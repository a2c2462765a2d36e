//! Sinks: one task writes each, in the order of steps; checkpoints wait until what they stand for is final outside.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::counters::Counters;
use super::event::WriteError;
use super::outlets::SinkOrder;
use super::run::Core;
use crate::catalog::Relation;
use crate::connectors::{self, AllowedPaths, ConnectorError, Sink, SinkSpec};
use crate::error::{SqlError, SqlResult};
use crate::zset::{Delta, ErrorRows, RelationId, Rows, Step, consolidate};

/// Steps that may wait for a sink before the engine does.
const SINK_STEPS_MAX: usize = 64;
/// Bytes that a sink may hold before it makes them final.
const FLUSH_BYTES: u64 = 16 << 20;

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
}

impl Writer {
    fn new(sink: Box<dyn Sink>, schema: SchemaRef, report: Report) -> Self {
        Self { sink, schema, report, broken: None, errors: ErrorRows::default(), held: Vec::new(), due: None }
    }

    /// Follows its orders until the sink is dropped, or the engine has stopped after a last flush.
    async fn run(mut self, mut orders: mpsc::Receiver<SinkOrder>) {
        loop {
            self.set_due();
            let order = tokio::select! {
                order = orders.recv() => order,
                () = until(self.due) => {
                    self.flush().await;
                    continue;
                }
            };
            match order {
                Some(SinkOrder::Step(step, delta)) => self.take(step, delta).await,
                Some(SinkOrder::Flush(reply)) => {
                    self.flush().await;
                    let _ = reply.send(self.settled());
                }
                None => break,
            }
        }
        let _ = self.sink.close().await;
    }

    fn set_due(&mut self) {
        let pending = self.sink.pending_bytes() > 0 && self.broken.is_none();
        self.due = pending.then(|| self.due.unwrap_or_else(|| Instant::now() + self.sink.flush_after()));
    }

    async fn take(&mut self, step: Step, delta: Delta) {
        if self.broken.is_some() {
            return;
        }
        let erred = self.errors.first().is_some();
        self.errors.add_all(&delta.errs);
        match self.errors.first() {
            Some(error) => {
                self.held.push(delta.oks);
                if !erred {
                    self.report.show(&SqlError::from(error.clone()));
                }
            }
            None => {
                let rows = match std::mem::take(&mut self.held) {
                    held if held.is_empty() => delta.oks,
                    held => self.healed(held, delta.oks),
                };
                let written = self.write(step, &rows).await;
                self.note(written);
            }
        }
    }

    /// The net change since the error came.
    fn healed(&self, mut held: Vec<Rows>, last: Rows) -> Rows {
        self.report.clear();
        held.push(last);
        consolidate(&Rows::concat(&self.schema, &held))
    }

    async fn write(&mut self, step: Step, rows: &Rows) -> Result<(), ConnectorError> {
        self.sink.write(step, rows).await?;
        if self.sink.pending_bytes() > FLUSH_BYTES {
            self.sink.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) {
        self.due = None;
        if self.broken.is_none() {
            let flushed = self.sink.flush().await;
            self.note(flushed);
        }
    }

    fn note(&mut self, result: Result<(), ConnectorError>) {
        if let Err(failed) = result {
            self.report.show(&failed.error);
            self.broken = Some(failed.error);
        }
    }

    /// Whether everything is final outside, so that the log need not keep it.
    fn settled(&self) -> SqlResult<()> {
        match (&self.broken, self.errors.first()) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(error)) => Err(SqlError::from(error.clone())),
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
