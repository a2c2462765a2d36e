//! `bool_and`, `bool_or`, `every`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};

use super::{Accumulate, Results, each_value};
use crate::zset::{Weight, weights_add};

#[derive(Clone, Copy)]
pub(super) enum Rule {
    All,
    Any,
}

/// How many true and how many false values there are.
#[derive(Clone, Copy, Default)]
struct Tally {
    trues: i64,
    falses: i64,
}

pub(super) struct Boolean {
    rule: Rule,
    tallies: Vec<Tally>,
}

impl Boolean {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, tallies: Vec::new() }
    }

    fn result(&self, group: u32) -> Option<bool> {
        let Tally { trues, falses } = self.tallies[group as usize];
        (trues + falses > 0).then_some(match self.rule {
            Rule::All => falses == 0,
            Rule::Any => trues > 0,
        })
    }
}

impl Accumulate for Boolean {
    fn grow(&mut self, groups: usize) {
        self.tallies.resize(groups, Tally::default());
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        let values = arguments[0].as_boolean();
        let tallies = &mut self.tallies;
        each_value(groups.len(), values.nulls(), weights, |row, weight| {
            let tally = &mut tallies[groups[row] as usize];
            let count = if values.value(row) { &mut tally.trues } else { &mut tally.falses };
            *count = weights_add(*count, weight);
        });
    }

    fn results(&self, groups: &[u32]) -> Results {
        Results::all(Arc::new(BooleanArray::from_iter(groups.iter().map(|group| self.result(*group)))))
    }

    fn reset(&mut self, group: u32) {
        self.tallies[group as usize] = Tally::default();
    }

    fn minds_duplicates(&self) -> bool {
        false
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64, DataType::Int64]
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let tallies = || groups.iter().map(|group| self.tallies[*group as usize]);
        let trues = Int64Array::from_iter_values(tallies().map(|tally| tally.trues));
        let falses = Int64Array::from_iter_values(tallies().map(|tally| tally.falses));
        vec![Arc::new(trues), Arc::new(falses)]
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        let (trues, falses) = (state[0].as_primitive::<Int64Type>(), state[1].as_primitive::<Int64Type>());
        for (row, group) in groups.iter().enumerate() {
            let tally = &mut self.tallies[*group as usize];
            tally.trues += trues.value(row);
            tally.falses += falses.value(row);
        }
    }

    fn bytes(&self) -> usize {
        self.tallies.capacity() * size_of::<Tally>()
    }
}
