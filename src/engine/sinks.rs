//! Sinks: one task writes each, in the order of steps; checkpoints wait until what they stand for is final outside.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::event::{Event, Events};
use super::outlets::SinkOrder;
use super::run::Core;
use crate::catalog::Relation;
use crate::connectors::{self, Sink, SinkSpec};
use crate::error::{SqlError, SqlResult};
use crate::zset::{Delta, RelationId, Step};

/// Steps that may wait for a sink before the engine does.
const SINK_STEPS_MAX: usize = 64;

impl Core {
    /// Opens a sink and starts its task. Called when it is created, and for every sink at the start.
    ///
    /// # Errors
    /// The connector refuses the options or the place.
    pub(super) fn open_sink(&mut self, relation: &Arc<Relation>) -> SqlResult<()> {
        let spec = SinkSpec {
            name: relation.name.clone(),
            schema: relation.arrow_schema(),
            options: relation.options.clone(),
            append_only: self.flows.get(&relation.id).is_some_and(|flow| flow.append_only),
            allowed_paths: self.config.allowed_paths.clone(),
        };
        let sink = connectors::open_sink(&spec)?;
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
    while let Some(order) = orders.recv().await {
        match order {
            SinkOrder::Step(step, delta) => {
                if broken.is_none() {
                    broken = write(&mut *sink, step, &delta).await.err();
                    if let Some(error) = &broken {
                        let _ = events.send(Event::SinkFailed { sink: id, error: error.clone() }).await;
                    }
                }
            }
            SinkOrder::Flush(step, reply) => {
                let result = match &broken {
                    Some(error) => Err(error.clone()),
                    None => sink.flush(step).await.map_err(SqlError::from),
                };
                let _ = reply.send(result);
            }
        }
    }
}

async fn write(sink: &mut dyn Sink, step: Step, delta: &Delta) -> SqlResult<()> {
    if let Some(error) = delta.errs.first() {
        return Err(SqlError::from(error.clone()));
    }
    sink.write(step, &delta.oks).await.map_err(SqlError::from)
}
