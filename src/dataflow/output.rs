//! The last node of every dataflow: keeps the relation's rows, hands its deltas to readers, reports what changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::command::{Place, RelationChange, SavedPart};
use super::operator::{Held, Mapped};
use super::tap::Tap;
use crate::state::{Arrangement, Run};
use crate::zset::{Delta, ErrorRows, RelationId, Step};

/// What the relations of a worker changed, by step.
pub type Changes = Rc<RefCell<BTreeMap<Step, Vec<RelationChange>>>>;

/// One relation's share on one worker.
pub struct Output {
    relation: RelationId,
    /// `None` if the relation's rows are only passed on.
    arrangement: Option<Arrangement>,
    /// All live error rows.
    errors: ErrorRows,
    /// Whether the rows are a table's, where a row cannot be there less than no times.
    is_table: bool,
    tap: Rc<Tap>,
    changes: Changes,
    /// True until readers have been told what was taken back from a checkpoint.
    unreported: bool,
}

impl Output {
    pub fn new(
        relation: RelationId,
        arrangement: Option<Arrangement>,
        is_table: bool,
        tap: Rc<Tap>,
        changes: Changes,
    ) -> Self {
        Self { relation, arrangement, errors: ErrorRows::default(), is_table, tap, changes, unreported: false }
    }

    /// Takes back what [`Output::save`] gave: this worker's share of it.
    pub fn load(&mut self, runs: Vec<Arc<Run>>, errors: ErrorRows) {
        self.errors = errors;
        self.unreported = true;
        if let Some(empty) = &self.arrangement {
            self.arrangement = Some(Arrangement::restore(empty.schema().clone(), empty.key().to_vec(), runs));
        }
    }

    /// Applies the whole change of a step, and finishes the step.
    pub fn apply(&mut self, step: Step, delta: &Delta) {
        if !delta.is_empty() {
            if let Some(arrangement) = &mut self.arrangement {
                arrangement.absorb(&delta.oks);
                debug_assert!(
                    !self.is_table || no_row_is_missing(arrangement, delta),
                    "a row that is not there was deleted"
                );
            }
            self.errors.add_all(&delta.errs);
            self.tap.publish(step, delta);
        }
        if !delta.is_empty() || std::mem::take(&mut self.unreported) {
            self.changes.borrow_mut().entry(step).or_default().push(RelationChange {
                relation: self.relation,
                delta: delta.clone(),
                snapshot: self.arrangement.as_ref().map(Arrangement::snapshot),
                errors: self.errors.clone(),
            });
        }
        self.tap.finish(step);
    }

    /// All rows and error rows, as a new reader's first delta.
    pub fn contents(&self, empty: &Delta) -> Delta {
        let rows = self.arrangement.as_ref().map_or_else(|| empty.oks.clone(), |rows| rows.snapshot().collect());
        Delta::new(rows, self.errors.clone())
    }

    pub fn save(&self) -> SavedPart {
        let runs = self.arrangement.as_ref().map_or_else(Vec::new, |rows| rows.runs().to_vec());
        SavedPart { relation: self.relation, place: Place::Output, runs, errors: self.errors.clone() }
    }

    /// True if readers have to be told of runs in other places.
    pub fn spill(&mut self, mapped: &Mapped) -> bool {
        self.unreported |= self.arrangement.as_mut().is_some_and(|rows| rows.spill(mapped));
        self.unreported
    }

    pub fn held(&self) -> Held {
        self.arrangement.as_ref().map_or_else(Held::default, |rows| Held { rows: rows.rows(), bytes: rows.bytes() })
    }
}

fn no_row_is_missing(arrangement: &Arrangement, delta: &Delta) -> bool {
    let keys: Vec<_> = arrangement.key().iter().map(|column| delta.oks.column(*column).clone()).collect();
    let hashes = crate::zset::row_hashes(&keys, delta.oks.len());
    let found = arrangement.lookup(&keys, &hashes).rows;
    (0..found.len()).all(|row| found.weight(row) >= 0)
}
