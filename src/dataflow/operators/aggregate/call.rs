//! One aggregate of an operator: which rows and values reach its state.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::AggregateCall;
use crate::dataflow::operator::Held;
use crate::dataflow::operators::counted::Counted;
use crate::functions::aggregate::{Accumulate, Results};
use crate::zset::{Rows, Weight, canonical};

pub(super) struct Call {
    pub(super) state: Box<dyn Accumulate>,
    arguments: Vec<usize>,
    pub(super) argument_types: Vec<DataType>,
    filter: Option<usize>,
    /// For DISTINCT: the arguments of each group, counted.
    pub(super) seen: Option<Counted>,
}

impl Call {
    pub(super) fn new(call: AggregateCall, input: &SchemaRef) -> Self {
        let state = (call.function)();
        let type_of = |column: &usize| input.field(*column).data_type().clone();
        let argument_types: Vec<DataType> = call.arguments.iter().map(type_of).collect();
        let seen = (call.distinct && state.minds_duplicates()).then(|| {
            let group = std::iter::once(DataType::UInt32);
            Counted::new(group.chain(argument_types.iter().cloned()).collect())
        });
        Self { state, arguments: call.arguments, argument_types, filter: call.filter, seen }
    }

    pub(super) fn grow(&mut self, groups: usize) {
        self.state.grow(groups);
    }

    pub(super) fn reset(&mut self, group: u32) {
        self.state.reset(group);
    }

    /// Forgets groups that still have rows.
    pub(super) fn forget(&mut self, groups: &[u32]) {
        groups.iter().for_each(|group| self.state.reset(*group));
        if let Some(seen) = &mut self.seen {
            let gone: HashSet<u32> = groups.iter().copied().collect();
            seen.forget(|row| gone.contains(row));
        }
    }

    pub(super) fn results(&self, groups: &[u32]) -> Results {
        self.state.results(groups)
    }

    /// Adds the rows of a delta, `groups[i]` being the group of row i.
    pub(super) fn add(&mut self, groups: &[u32], rows: &Rows) {
        let mut chosen = Chosen {
            groups: Cow::Borrowed(groups),
            arguments: self.arguments.iter().map(|column| rows.column(*column).clone()).collect(),
            weights: rows.weights().map(|weights| Cow::Borrowed(weights.values().as_ref())),
        };
        if let Some(filter) = self.filter {
            let verdict = rows.column(filter).as_boolean();
            let kept = (0..rows.len()).filter(|row| verdict.is_valid(*row) && verdict.value(*row));
            chosen = chosen.take(kept.map(|row| row as u32).collect());
        }
        if let Some(seen) = &mut self.seen {
            chosen = chosen.only_turns(seen);
        }
        self.state.add(&chosen.groups, &chosen.arguments, chosen.weights.as_deref());
    }

    pub(super) fn held(&self) -> Held {
        let seen = self.seen.as_ref().map_or(Held::default(), |seen| Held { rows: seen.rows(), bytes: seen.bytes() });
        Held { rows: seen.rows, bytes: seen.bytes + self.state.bytes() }
    }
}

/// The rows of a delta that an aggregate looks at.
struct Chosen<'a> {
    groups: Cow<'a, [u32]>,
    arguments: Vec<ArrayRef>,
    weights: Option<Cow<'a, [Weight]>>,
}

impl<'a> Chosen<'a> {
    fn take(self, rows: Vec<u32>) -> Chosen<'a> {
        let groups = rows.iter().map(|row| self.groups[*row as usize]).collect();
        let weights = self.weights.map(|weights| rows.iter().map(|row| weights[*row as usize]).collect());
        let rows = UInt32Array::from(rows);
        let arguments = (self.arguments.iter())
            .map(|column| compute::take(column, &rows, None).expect("the rows are within the delta"))
            .collect();
        Chosen { groups: Cow::Owned(groups), arguments, weights: weights.map(Cow::Owned) }
    }

    /// Of equal values in a group only the first to come and the last to go.
    fn only_turns(self, seen: &mut Counted) -> Chosen<'a> {
        let group: ArrayRef = Arc::new(UInt32Array::from(self.groups.to_vec()));
        let columns: Vec<ArrayRef> = std::iter::once(group).chain(self.arguments.iter().map(canonical)).collect();
        let turns = seen.change(&columns, self.groups.len(), self.weights.as_deref());
        let canonical = Chosen { groups: self.groups, arguments: columns[1..].to_vec(), weights: None };
        let mut chosen = canonical.take(turns.rows);
        chosen.weights = Some(Cow::Owned(turns.signs));
        chosen
    }
}

/// State that is rows of its own, each of a group: the values of min and max, those that DISTINCT has seen.
pub(super) struct Values {
    pub(super) groups: Vec<u32>,
    pub(super) columns: Vec<ArrayRef>,
    pub(super) weights: Int64Array,
}

impl Call {
    /// The columns of each part of saved rows, in the order of [`Call::values`].
    pub(super) fn value_types(&self) -> Vec<Vec<DataType>> {
        let seen = self.seen.as_ref().map(|_| self.argument_types.clone());
        seen.into_iter().chain(self.state.value_type().map(|value| vec![value])).collect()
    }

    pub(super) fn values(&self) -> Vec<Values> {
        let seen = self.seen.as_ref().map(|seen| {
            let (mut columns, weights) = seen.save();
            let groups = columns.remove(0);
            let groups = groups.as_primitive::<arrow::datatypes::UInt32Type>().values().to_vec();
            Values { groups, columns, weights }
        });
        let kept = self.state.value_type().map(|_| {
            let (groups, values, weights) = self.state.values();
            Values { groups, columns: vec![values], weights: Int64Array::from(weights) }
        });
        seen.into_iter().chain(kept).collect()
    }

    /// Takes back one part of what `values` gave.
    pub(super) fn load_values(&mut self, part: usize, values: &Values) {
        let weights = values.weights.values().as_ref();
        match &mut self.seen {
            Some(seen) if part == 0 => {
                let group: ArrayRef = Arc::new(UInt32Array::from(values.groups.clone()));
                let columns: Vec<ArrayRef> = std::iter::once(group).chain(values.columns.iter().cloned()).collect();
                seen.change(&columns, values.groups.len(), Some(weights));
            }
            _ => self.state.add(&values.groups, &values.columns, Some(weights)),
        }
    }
}
