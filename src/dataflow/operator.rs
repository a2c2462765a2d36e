//! What an operator is: a pure function from the changes of its inputs to the change of its output.

use std::collections::HashMap;
use std::sync::Arc;

use crate::state::Run;
use crate::zset::{Delta, Moment};

/// One node of a dataflow. Pure: the same steps and inputs give the same deltas, bit for bit.
pub trait Operator {
    /// Returns the change of the output at a step, given the whole change of each input at that step.
    ///
    /// The caller gives steps in rising order, each at most once, and may skip those in which no input has rows.
    /// Never panics on data: a row whose expressions fail becomes an error row.
    fn eval(&mut self, at: Moment, inputs: &[Delta]) -> Delta;

    /// All state, as parts in a fixed order; what [`Operator::load`] takes. Cheap: runs are shared, not copied.
    fn save(&mut self) -> Vec<StatePart> {
        Vec::new()
    }

    /// Takes back what `save` gave, maybe from several workers whose shares were cut anew: per part any number of
    /// runs. Called at most once, before the first `eval`.
    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        assert!(parts.is_empty(), "an operator that saves nothing is given nothing to load");
    }

    /// Puts runs that were read back from their files in the place of those with these ids.
    fn spill(&mut self, _mapped: &Mapped) {}

    /// What the state holds now, for EXPLAIN ANALYZE, metrics and the memory budget.
    fn held(&self) -> Held {
        Held::default()
    }
}

/// Runs that lie in mapped files, by the ids of the runs in memory whose rows they hold.
pub type Mapped = HashMap<u64, Arc<Run>>;

/// One part of an operator's state: runs ordered by key hash.
#[derive(Debug, Clone)]
pub struct StatePart {
    pub runs: Vec<Arc<Run>>,
}

/// Rows and bytes of state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub rows: usize,
    pub bytes: usize,
}

/// What an operator's work follows, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The delta alone.
    Linear,
    /// The keys that the delta touches.
    Keyed,
    /// All rows of the touched keys, computed anew by DataFusion.
    KeyedRecompute,
    /// The whole relation, computed anew by DataFusion.
    Recompute,
}

impl Class {
    pub fn name(self) -> &'static str {
        match self {
            Class::Linear => "linear",
            Class::Keyed => "keyed",
            Class::KeyedRecompute => "keyed-recompute",
            Class::Recompute => "recompute",
        }
    }
}
