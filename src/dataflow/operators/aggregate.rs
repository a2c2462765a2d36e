//! Computes one row for each group of rows with equal keys.
//!
//! **Serves** `GROUP BY`, aggregates without it, `HAVING` and `SELECT DISTINCT` with aggregates. **Class** keyed.
//! **Rule** `d a(A)` is, for each touched group, its result after minus its result before.
//! **Keeps** for each group its key, its number of rows and the state of each aggregate; values only for min, max and
//! DISTINCT. **Cost** one probe of a hash table and one addition per aggregate for each delta row.
//! **Corners** A group disappears with its last row, but without key columns there is always one group, which has its row
//! before any input. NULL is a key like any other. A group in which an aggregate fails (a sum out of range) is an error
//! row until it heals.

mod call;
mod closing;
mod saved;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute;
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, SchemaRef};

use self::call::Call;
pub use self::closing::{Close, ClosingAggregate};
use super::groups::Groups;
use super::one;
use crate::dataflow::operator::{Held, Operator, StatePart};
use crate::functions::aggregate::MakeAccumulate;
use crate::state::Run;
use crate::zset::{DataError, Delta, ErrorRows, Moment, Rows, canonical, weights_add};

/// One aggregate of the list, over columns of the input.
#[derive(Clone)]
pub struct AggregateCall {
    pub function: MakeAccumulate,
    /// None for `count(*)`.
    pub arguments: Vec<usize>,
    /// A boolean column: rows where it is not true do not count.
    pub filter: Option<usize>,
    pub distinct: bool,
}

/// Groups, and the state of their aggregates by group number.
pub struct Aggregate {
    key: Vec<usize>,
    key_types: Vec<DataType>,
    schema: SchemaRef,
    groups: Groups,
    sizes: Vec<Size>,
    calls: Vec<Call>,
    /// The number of the last evaluation.
    round: u64,
    /// Without key columns: whether the one row has been given.
    given: bool,
}

#[derive(Clone, Copy, Default)]
struct Size {
    rows: i64,
    /// The last evaluation that touched the group.
    round: u64,
}

/// The groups that a delta touches, in order of their first row.
#[derive(Default)]
struct Touched {
    groups: Vec<u32>,
    /// A row of the delta that has the group's key.
    row: Vec<u32>,
    existed: Vec<bool>,
}

/// What a list of groups stands at: result columns, and for groups that fail the error.
struct Standing {
    columns: Vec<ArrayRef>,
    failed: Vec<(usize, DataError)>,
}

impl Aggregate {
    /// Groups rows of `input` by the columns `key`. `schema` has the key columns, then one column for each call.
    ///
    /// Without key columns there is one group, whose row the first evaluation gives, with rows or without: then all rows
    /// must meet on one worker, which alone evaluates a first step without rows.
    pub fn new(key: Vec<usize>, calls: Vec<AggregateCall>, input: &SchemaRef, schema: SchemaRef) -> Self {
        assert_eq!(schema.fields().len(), key.len() + calls.len(), "an aggregate gives its key and its results");
        let key_types: Vec<DataType> = key.iter().map(|column| input.field(*column).data_type().clone()).collect();
        let calls: Vec<Call> = calls.into_iter().map(|call| Call::new(call, input)).collect();
        let groups = Groups::new(&key_types);
        let mut aggregate = Self { key, key_types, schema, groups, sizes: Vec::new(), calls, round: 0, given: false };
        aggregate.grow();
        aggregate
    }

    fn is_global(&self) -> bool {
        self.key.is_empty()
    }

    fn grow(&mut self) {
        let bound = self.groups.bound();
        if bound > self.sizes.len() {
            self.sizes.resize(bound, Size::default());
            self.calls.iter_mut().for_each(|call| call.grow(bound));
        }
    }

    fn change(&mut self, rows: &Rows) -> Delta {
        self.changed(rows).0
    }

    /// The change of the output, and the groups that rows touch.
    fn changed(&mut self, rows: &Rows) -> (Delta, Touched) {
        let key: Vec<ArrayRef> = self.key.iter().map(|column| canonical(rows.column(*column))).collect();
        let groups = self.groups.assign(&key, rows.len());
        self.grow();
        let touched = self.touch(&groups, rows);
        let before = self.standing(&touched.groups);
        self.calls.iter_mut().for_each(|call| call.add(&groups, rows));
        let after = self.standing(&touched.groups);
        let delta = self.difference(&key, &touched, before, after);
        self.release(&touched);
        (delta, touched)
    }

    /// Counts the rows of each group and lists the groups.
    fn touch(&mut self, groups: &[u32], rows: &Rows) -> Touched {
        self.round += 1;
        let mut touched = Touched::default();
        if self.is_global() && groups.is_empty() {
            touched.groups.push(0);
        }
        let (round, sizes) = (self.round, &mut self.sizes);
        let mut first_touch = |group: u32, row: usize, size: &mut Size| {
            size.round = round;
            touched.groups.push(group);
            touched.row.push(row as u32);
            touched.existed.push(size.rows > 0);
        };
        match rows.weights() {
            None => {
                for (row, group) in groups.iter().enumerate() {
                    let size = &mut sizes[*group as usize];
                    if size.round != round {
                        first_touch(*group, row, size);
                    }
                    size.rows += 1;
                }
            }
            Some(weights) => {
                for (row, (group, weight)) in groups.iter().zip(weights.values()).enumerate() {
                    let size = &mut sizes[*group as usize];
                    if size.round != round {
                        first_touch(*group, row, size);
                    }
                    size.rows = weights_add(size.rows, *weight);
                }
            }
        }
        if self.is_global() {
            touched.existed = vec![self.given];
            self.given = true;
        }
        touched
    }

    fn standing(&self, groups: &[u32]) -> Standing {
        let mut failed: Vec<(usize, DataError)> = Vec::new();
        let columns = self.calls.iter().map(|call| {
            let results = call.results(groups);
            failed.extend(results.failed);
            results.column
        });
        let columns = columns.collect();
        // A group fails once, with the first aggregate that does.
        failed.sort_by_key(|(place, _)| *place);
        failed.dedup_by_key(|(place, _)| *place);
        Standing { columns, failed }
    }

    fn exists(&self, group: u32) -> bool {
        let rows = self.sizes[group as usize].rows;
        // Invariant: no row of a relation is there less than zero times at the end of a step.
        assert!(rows >= 0, "a group has {rows} rows");
        self.is_global() || rows > 0
    }

    fn difference(&self, key: &[ArrayRef], touched: &Touched, before: Standing, after: Standing) -> Delta {
        let exist: Vec<bool> = touched.groups.iter().map(|group| self.exists(*group)).collect();
        let changed = changed(&before.columns, &after.columns, exist.len());
        let was = there(&touched.existed, &before.failed);
        let is = there(&exist, &after.failed);
        let gone = &was & &(&!&is | &changed);
        let come = &is & &(&!&was | &changed);
        let mut errs = ErrorRows::default();
        for (_, error) in before.failed.into_iter().filter(|(place, _)| touched.existed[*place]) {
            errs.add(error, -1);
        }
        for (_, error) in after.failed.into_iter().filter(|(place, _)| exist[*place]) {
            errs.add(error, 1);
        }
        Delta::new(self.rows(key, &touched.row, (&before.columns, gone), (&after.columns, come)), errs)
    }

    /// The rows that went with weight -1, then those that came with +1.
    fn rows(
        &self,
        key: &[ArrayRef],
        key_rows: &[u32],
        (before, gone): (&[ArrayRef], BooleanBuffer),
        (after, come): (&[ArrayRef], BooleanBuffer),
    ) -> Rows {
        let (went, came) = (gone.count_set_bits(), come.count_set_bits());
        let (gone, come) = (BooleanArray::new(gone, None), BooleanArray::new(come, None));
        let key_rows = UInt32Array::from(key_rows.to_vec());
        let keys = key.iter().map(|column| {
            let column = compute::take(column, &key_rows, None).expect("the rows are within the delta");
            paired(&column, &gone, &column, &come)
        });
        let results = before.iter().zip(after).map(|(before, after)| paired(before, &gone, after, &come));
        let columns: Vec<ArrayRef> = keys.chain(results).collect();
        let weights = (went > 0).then(|| {
            let weights = std::iter::repeat_n(-1, went).chain(std::iter::repeat_n(1, came));
            Int64Array::from_iter_values(weights)
        });
        let options = RecordBatchOptions::new().with_row_count(Some(went + came));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("the schema has the types of the keys and the results");
        Rows::new(batch, weights).assume_consolidated()
    }

    /// Forgets the groups that have lost their last row.
    fn release(&mut self, touched: &Touched) {
        if self.is_global() {
            return;
        }
        let gone: Vec<u32> =
            touched.groups.iter().copied().filter(|group| self.sizes[*group as usize].rows == 0).collect();
        gone.iter().for_each(|group| self.calls.iter_mut().for_each(|call| call.reset(*group)));
        self.groups.release(&gone);
    }
}

/// Where any result differs; NULL differs from everything but NULL.
fn changed(before: &[ArrayRef], after: &[ArrayRef], groups: usize) -> BooleanBuffer {
    before.iter().zip(after).fold(BooleanBuffer::new_unset(groups), |changed, (before, after)| {
        let differs = distinct(before, after).expect("results of one aggregate compare");
        &changed | differs.values()
    })
}

/// The places where a group exists and has not failed.
fn there(exist: &[bool], failed: &[(usize, DataError)]) -> BooleanBuffer {
    let mut there = exist.to_vec();
    failed.iter().for_each(|(place, _)| there[*place] = false);
    BooleanBuffer::from(there)
}

/// The chosen values of one column, then those of another.
fn paired(first: &ArrayRef, of_first: &BooleanArray, second: &ArrayRef, of_second: &BooleanArray) -> ArrayRef {
    let first = chosen(first, of_first);
    let second = chosen(second, of_second);
    match (first.len(), second.len()) {
        (0, _) => second,
        (_, 0) => first,
        _ => compute::concat(&[&first, &second]).expect("both have one type"),
    }
}

fn chosen(column: &ArrayRef, which: &BooleanArray) -> ArrayRef {
    match which.true_count() {
        all if all == which.len() => column.clone(),
        0 => column.slice(0, 0),
        _ => compute::filter(column, which).expect("one verdict for each group"),
    }
}

impl Operator for Aggregate {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let input = one("aggregate", inputs);
        if input.oks.is_empty() && (self.given || !self.is_global()) {
            return Delta::new(Rows::empty(self.schema.clone()), input.errs.clone());
        }
        let mut delta = self.change(&input.oks);
        delta.errs.add_all(&input.errs);
        delta
    }

    fn save(&mut self) -> Vec<StatePart> {
        self.save_parts()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        self.load_parts(parts);
    }

    fn held(&self) -> Held {
        let rows = self.sizes.iter().filter(|size| size.rows > 0).count();
        let calls = self.calls.iter().map(|call| call.held());
        let groups = Held { rows, bytes: self.groups.bytes() + self.sizes.capacity() * size_of::<Size>() };
        calls.fold(groups, |sum, held| Held { rows: sum.rows + held.rows, bytes: sum.bytes + held.bytes })
    }
}

#[cfg(test)]
mod tests;
