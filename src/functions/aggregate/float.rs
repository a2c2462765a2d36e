//! `sum` and `avg` of floats: the exact sum, rounded when it is read.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Float32Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};

use super::exact_float::ExactFloats;
use super::{Accumulate, Aggregation, Results, each_value};
use crate::error::SqlState;
use crate::zset::{DataError, Weight, weights_add};

pub(super) fn sum(argument: &DataType) -> Option<Aggregation> {
    match argument {
        DataType::Float32 => Some(Aggregation::new(DataType::Float32, || Float::new(Finish::Real))),
        DataType::Float64 => Some(Aggregation::new(DataType::Float64, || Float::new(Finish::Double))),
        _ => None,
    }
}

pub(super) fn avg(argument: &DataType) -> Option<Aggregation> {
    let floats = matches!(argument, DataType::Float32 | DataType::Float64);
    floats.then(|| Aggregation::new(DataType::Float64, || Float::new(Finish::Average)))
}

/// What becomes of a sum.
#[derive(Clone, Copy)]
enum Finish {
    Real,
    Double,
    Average,
}

struct Float {
    sums: ExactFloats,
    counts: Vec<i64>,
    finish: Finish,
}

impl Float {
    fn new(finish: Finish) -> Self {
        Self { sums: ExactFloats::default(), counts: Vec::new(), finish }
    }

    #[inline]
    fn add_one(&mut self, group: u32, value: f64, weight: Weight) {
        self.sums.add(group, value, weight);
        let count = &mut self.counts[group as usize];
        *count = weights_add(*count, weight);
    }

    fn result(&self, group: u32) -> Result<Option<f64>, DataError> {
        let overflow = || DataError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range: overflow");
        let count = self.counts[group as usize];
        if count == 0 {
            return Ok(None);
        }
        let total = self.sums.total(group).map_err(|_| overflow())?;
        match self.finish {
            Finish::Double => Ok(Some(total)),
            Finish::Average => Ok(Some(total / count as f64)),
            Finish::Real if total.is_finite() && (total as f32).is_infinite() => Err(overflow()),
            Finish::Real => Ok(Some(total)),
        }
    }
}

impl Accumulate for Float {
    fn grow(&mut self, groups: usize) {
        self.sums.grow(groups);
        self.counts.resize(groups, 0);
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        let argument = &arguments[0];
        match argument.data_type() {
            DataType::Float32 => {
                let values = argument.as_primitive::<Float32Type>().values();
                each_value(groups.len(), argument.nulls(), weights, |row, weight| {
                    self.add_one(groups[row], f64::from(values[row]), weight);
                });
            }
            _ => {
                let values = argument.as_primitive::<Float64Type>().values();
                each_value(groups.len(), argument.nulls(), weights, |row, weight| {
                    self.add_one(groups[row], values[row], weight);
                });
            }
        }
    }

    fn results(&self, groups: &[u32]) -> Results {
        let mut failed = Vec::new();
        let results: Vec<Option<f64>> = (groups.iter().enumerate())
            .map(|(place, group)| {
                self.result(*group).unwrap_or_else(|error| {
                    failed.push((place, error));
                    None
                })
            })
            .collect();
        let column: ArrayRef = match self.finish {
            Finish::Real => {
                Arc::new(Float32Array::from_iter(results.into_iter().map(|result| result.map(|value| value as f32))))
            }
            Finish::Double | Finish::Average => Arc::new(Float64Array::from(results)),
        };
        Results { column, failed }
    }

    fn reset(&mut self, group: u32) {
        self.sums.reset(group);
        self.counts[group as usize] = 0;
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::BinaryView, DataType::Int64]
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let sums = BinaryViewArray::from_iter_values(groups.iter().map(|group| self.sums.save(*group)));
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]));
        vec![Arc::new(sums), Arc::new(counts)]
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        let (sums, counts) = (state[0].as_binary_view(), state[1].as_primitive::<Int64Type>());
        for (row, group) in groups.iter().enumerate() {
            self.sums.load(*group, sums.value(row));
            self.counts[*group as usize] += counts.value(row);
        }
    }

    fn bytes(&self) -> usize {
        self.sums.bytes() + self.counts.capacity() * 8
    }
}
