//! `count(*)`, `count(x)`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};

use super::{Accumulate, Results, each_value};
use crate::zset::{Weight, weights_add};

/// Rows in which no argument is NULL.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulate for Count {
    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        let nulls = arguments
            .iter()
            .fold(None, |nulls, argument| NullBuffer::union(nulls.as_ref(), argument.logical_nulls().as_ref()));
        let counts = &mut self.counts;
        if weights.is_none() && nulls.is_none() {
            return groups.iter().for_each(|group| counts[*group as usize] += 1);
        }
        each_value(groups.len(), nulls.as_ref(), weights, |row, weight| {
            let count = &mut counts[groups[row] as usize];
            *count = weights_add(*count, weight);
        });
    }

    fn results(&self, groups: &[u32]) -> Results {
        Results::all(self.save(groups).remove(0))
    }

    fn reset(&mut self, group: u32) {
        self.counts[group as usize] = 0;
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64]
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let counts = groups.iter().map(|group| self.counts[*group as usize]);
        vec![Arc::new(Int64Array::from_iter_values(counts))]
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        let counts = state[0].as_primitive::<Int64Type>().values();
        groups.iter().zip(counts).for_each(|(group, count)| self.counts[*group as usize] += *count);
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * 8
    }
}
