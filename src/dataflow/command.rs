//! What the engine tells the workers, and what they tell it: the only two lists of words between them.

use std::collections::HashMap;
use std::sync::Arc;

use super::graph::Graph;
use super::operator::{Held, Mapped};
use crate::state::{Run, Snapshot};
use crate::zset::{Delta, ErrorRows, Moment, RelationId, Step};

/// What every worker gets, all in the same order.
#[derive(Clone)]
pub enum Command {
    Install(Arc<Install>),
    /// Drops relations together; no dataflow that stays reads one of them.
    Drop(Vec<RelationId>),
    /// One step: rows for `Feed` nodes. Every worker takes its share of each delta; relations without rows are left out.
    /// Workers answer with [`Report::Step`] when all dataflows have finished the step.
    Feed {
        at: Moment,
        deltas: Arc<Vec<(RelationId, Delta)>>,
    },
    /// Report all state as of the last step fed.
    Save,
    /// Report how much state there is.
    Weigh,
    /// Let go of runs in memory that lie in files; readers are told with the next step.
    Spill(Arc<Mapped>),
    Stop,
}

/// A dataflow to build for a relation. Takes effect with the next step fed.
pub struct Install {
    pub relation: RelationId,
    pub graph: Graph,
    /// Whether the relation's rows are kept in an arrangement (tables and materialized views) or only passed on.
    pub keep: bool,
    /// Columns by which the relation is arranged: its primary key, else all.
    pub key: Vec<usize>,
    pub start: Start,
}

/// Where a new dataflow begins.
pub enum Start {
    /// Relations that are kept give all their rows in the first step; relations that are not kept give these rows.
    Hydrate(HashMap<RelationId, Delta>),
    /// From a checkpoint: all parts of all workers; each worker cuts out its own share of the hashes.
    Restore(Vec<SavedPart>),
}

/// One part of the state of one relation's dataflow.
#[derive(Clone)]
pub struct SavedPart {
    pub relation: RelationId,
    pub place: Place,
    pub runs: Vec<Arc<Run>>,
    /// Error rows; only for the output.
    pub errors: ErrorRows,
}

/// Where in a dataflow a part of the state belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// The arrangement and error rows of the relation itself.
    Output,
    /// The n-th part that the operator of this node saves.
    Operator { node: usize, part: usize },
}

/// What one worker tells the engine.
pub enum Report {
    /// This worker has finished a step.
    Step {
        worker: usize,
        step: Step,
        changes: Vec<RelationChange>,
    },
    Saved {
        worker: usize,
        parts: Vec<SavedPart>,
        held: Vec<(RelationId, Held)>,
    },
    /// Bytes of the process's own memory that state takes on this worker.
    Weight {
        bytes: usize,
    },
    /// A worker panicked: a bug. The engine stops and restarts from checkpoint and log.
    Died {
        worker: usize,
        reason: String,
    },
}

/// What a step changed in one relation on one worker. Relations without change are left out.
pub struct RelationChange {
    pub relation: RelationId,
    pub delta: Delta,
    /// All rows on this worker after the step; `None` if the relation is not kept.
    pub snapshot: Option<Snapshot>,
    /// All live error rows on this worker after the step.
    pub errors: ErrorRows,
}
