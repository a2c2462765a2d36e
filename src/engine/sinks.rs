//! Sinks: one task writes each, in the order of steps; checkpoints wait until what they stand for is final outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::event::{Event, Events};
use super::outlets::SinkOrder;
use super::run::Core;
use crate::catalog::Relation;
use crate::connectors::{self, AllowedPaths, Sink, SinkSpec};
use crate::error::{SqlError, SqlResult};
use crate::zset::{Delta, RelationId, Step};

/// Steps that may wait for a sink before the engine does.
const SINK_STEPS_MAX: usize = 64;
/// A sink that has nothing new for so long makes what it has final.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
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
        self.runtime.spawn(run(relation.id, sink, received, self.events.clone()));
        self.outlets.add_sink(relation.id, orders);
        Ok(())
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
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            // What was written becomes visible outside soon also when nothing more comes.
            () = tokio::time::sleep(FLUSH_AFTER), if sink.pending_bytes() > 0 && broken.is_none() => {
                broken = sink.flush().await.err().map(|failed| failed.error);
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
