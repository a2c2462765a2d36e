//! Sinks: one task writes each, in the order of steps; checkpoints wait until what they stand for is final outside.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::event::{Event, Events, WriteError};
use super::outlets::SinkOrder;
use super::run::Core;
use crate::catalog::Relation;
use crate::connectors::{self, AllowedPaths, Sink, SinkSpec};
use crate::error::{SqlError, SqlResult};
use crate::zset::{Delta, RelationId, Step};

/// Steps that may wait for a sink before the engine does.
const SINK_STEPS_MAX: usize = 64;
/// Bytes that a sink may hold before it makes them final.
const FLUSH_BYTES: u64 = 16 << 20;

impl Core {
    /// Opens a sink and starts its task. Called when it is created, and for every sink at the start.
    ///
    /// # Errors
    /// The connector refuses the options or the place.
    pub(super) fn open_sink(&mut self, relation: &Arc<Relation>, is_new: bool) -> SqlResult<()> {
        let spec = SinkSpec {
            name: relation.name.clone(),
            schema: relation.arrow_schema(),
            options: relation.options.clone(),
            append_only: self.flows.get(&relation.id).is_some_and(|flow| flow.append_only),
            allowed_paths: AllowedPaths::new(self.config.allowed_paths.clone()),
            key: relation.primary_key.clone(),
            is_new,
        };
        let sink = connectors::find(relation.connector().unwrap_or_default())?.open_sink(&spec)?;
        let (orders, received) = mpsc::channel(SINK_STEPS_MAX);
        let task = self.runtime.spawn(run(relation.id, sink, received, self.events.clone()));
        self.outlets.add_sink(relation.id, orders, task);
        Ok(())
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

    /// A sink has failed: it shows why, and others go on.
    pub(super) fn sink_failed(&mut self, sink: RelationId, error: &SqlError) {
        let name = self.catalog.get(sink).map_or(String::new(), |relation| relation.name.clone());
        tracing::warn!("sink \"{name}\": {error}");
        self.counters.source(sink, |counters| counters.last_error = Some(error.message.clone()));
    }
}

async fn run(id: RelationId, mut sink: Box<dyn Sink>, mut orders: mpsc::Receiver<SinkOrder>, events: Events) {
    let mut broken: Option<SqlError> = None;
    // When the oldest of what is written and not final yet has to become so.
    let mut due: Option<Instant> = None;
    loop {
        due = (sink.pending_bytes() > 0 && broken.is_none())
            .then(|| due.unwrap_or_else(|| Instant::now() + sink.flush_after()));

        let order = tokio::select! {
            order = orders.recv() => order,
            () = until(due) => {
                broken = sink.flush().await.err().map(|failed| failed.error);
                due = None;
                report(&events, id, broken.as_ref()).await;
                continue;
            }
        };
        match order {
            Some(SinkOrder::Step(step, delta)) if broken.is_none() => {
                broken = write(&mut *sink, step, &delta).await.err();
                report(&events, id, broken.as_ref()).await;
            }
            Some(SinkOrder::Step(..)) => {}
            Some(SinkOrder::Flush(reply)) => {
                due = None;
                if broken.is_none() {
                    broken = sink.flush().await.err().map(|failed| failed.error);
                    report(&events, id, broken.as_ref()).await;
                }
                let _ = reply.send(broken.clone().map_or(Ok(()), Err));
            }
            None => {
                // The sink was dropped, or the engine has stopped after a last flush.
                let _ = sink.close().await;
                return;
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn report(events: &Events, sink: RelationId, broken: Option<&SqlError>) {
    if let Some(error) = broken {
        // The engine may have stopped meanwhile.
        let _ = events.send(Event::SinkFailed { sink, error: error.clone() }).await;
    }
}

async fn write(sink: &mut dyn Sink, step: Step, delta: &Delta) -> SqlResult<()> {
    if let Some(error) = delta.errs.first() {
        return Err(SqlError::from(error.clone()));
    }
    sink.write(step, &delta.oks).await.map_err(|failed| failed.error)?;
    if sink.pending_bytes() > FLUSH_BYTES {
        sink.flush().await.map_err(|failed| failed.error)?;
    }
    Ok(())
}
