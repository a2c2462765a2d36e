//! Where published changes go: subscribers and sinks, each behind a bounded queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::LogicalPlan;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::event::{Event, Events};
use super::published::Published;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{Delta, RelationId, Step};

/// Steps that may wait for a subscriber before it is dropped as too slow.
const SUBSCRIBER_STEPS_MAX: usize = 4096;

/// What to follow.
pub enum Subscribe {
    Relation(RelationId),
    /// A query that no relation keeps: a dataflow is built for it and lives as long as the subscription.
    Plan(Box<LogicalPlan>),
}

/// A feed of changes: first everything that is there as of a step, then every later step that changes something.
pub struct Subscription {
    pub schema: SchemaRef,
    /// The step as of which `snapshot` is complete.
    pub start: Arc<Published>,
    /// Everything that is there at the start; empty for a source.
    pub snapshot: Delta,
    receiver: mpsc::Receiver<(Step, Delta)>,
    overrun: Arc<AtomicBool>,
    id: u64,
    events: Events,
}

impl Subscription {
    /// The next step with a change. `None` when the relation was dropped or the engine stopped.
    /// Safe to cancel: a step is either returned or still there.
    ///
    /// # Errors
    /// 53400 if the subscriber was too slow and has been dropped.
    pub async fn next(&mut self) -> SqlResult<Option<(Step, Delta)>> {
        match self.receiver.recv().await {
            Some(change) => Ok(Some(change)),
            None if self.overrun.load(Ordering::Acquire) => Err(too_slow()),
            None => Ok(None),
        }
    }

    /// The next step if it waits already.
    pub fn try_next(&mut self) -> Option<(Step, Delta)> {
        self.receiver.try_recv().ok()
    }
}

fn too_slow() -> SqlError {
    let message = format!("the subscription was dropped because more than {SUBSCRIBER_STEPS_MAX} steps were waiting");
    SqlError::new(SqlState::CONFIGURATION_LIMIT, message).hint("Read faster, or subscribe to a smaller result.")
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // If the queue is full, the engine finds the receiver closed with the next change.
        let _ = self.events.try_send(Event::Unsubscribe(self.id));
    }
}

struct Subscriber {
    id: u64,
    sender: mpsc::Sender<(Step, Delta)>,
    overrun: Arc<AtomicBool>,
}

/// What the task of a sink is told.
pub(super) enum SinkOrder {
    Step(Step, Delta),
    /// Make everything that was written final, then answer.
    Flush(oneshot::Sender<SqlResult<()>>),
}

/// All subscribers and sinks, by the relation they follow.
#[derive(Default)]
pub(super) struct Outlets {
    subscribers: HashMap<RelationId, Vec<Subscriber>>,
    sinks: HashMap<RelationId, (mpsc::Sender<SinkOrder>, JoinHandle<()>)>,
    last_id: u64,
}

impl Outlets {
    pub fn subscribe(
        &mut self,
        relation: RelationId,
        schema: SchemaRef,
        start: Arc<Published>,
        snapshot: Delta,
        events: Events,
    ) -> Subscription {
        self.last_id += 1;
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_STEPS_MAX);
        let overrun = Arc::new(AtomicBool::new(false));
        let subscriber = Subscriber { id: self.last_id, sender, overrun: overrun.clone() };
        self.subscribers.entry(relation).or_default().push(subscriber);
        Subscription { schema, start, snapshot, receiver, overrun, id: self.last_id, events }
    }

    pub fn unsubscribe(&mut self, id: u64) {
        self.subscribers.values_mut().for_each(|all| all.retain(|one| one.id != id));
    }

    pub fn add_sink(&mut self, relation: RelationId, orders: mpsc::Sender<SinkOrder>, task: JoinHandle<()>) {
        self.sinks.insert(relation, (orders, task));
    }

    /// Ends all feeds of a relation that is gone. Gives the task that closes its sink.
    pub fn drop_relation(&mut self, relation: RelationId) -> Option<JoinHandle<()>> {
        self.subscribers.remove(&relation);
        self.sinks.remove(&relation).map(|(_, task)| task)
    }

    pub fn subscriber_count(&self) -> usize {
        self.subscribers.values().map(Vec::len).sum()
    }

    pub fn is_followed(&self, relation: RelationId) -> bool {
        self.sinks.contains_key(&relation) || self.subscribers.get(&relation).is_some_and(|all| !all.is_empty())
    }

    /// Hands a published change on. A slow subscriber is dropped; a slow sink makes the engine wait, which slows
    /// the sources down in turn.
    pub fn send(&mut self, relation: RelationId, step: Step, delta: &Delta) {
        if let Some(all) = self.subscribers.get_mut(&relation) {
            all.retain(|one| match one.sender.try_send((step, delta.clone())) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    one.overrun.store(true, Ordering::Release);
                    false
                }
            });
        }
        if let Some((sink, _)) = self.sinks.get(&relation) {
            // A sink whose task has ended reports the reason itself.
            let _ = sink.blocking_send(SinkOrder::Step(step, delta.clone()));
        }
    }

    /// Asks every sink to make its output final.
    pub fn flush(&self) -> Vec<oneshot::Receiver<SqlResult<()>>> {
        let ask = |(sink, _): &(mpsc::Sender<SinkOrder>, JoinHandle<()>)| {
            let (reply, answer) = oneshot::channel();
            sink.blocking_send(SinkOrder::Flush(reply)).ok().map(|()| answer)
        };
        self.sinks.values().filter_map(ask).collect()
    }
}
