//! Variances, covariances and regressions: exact sums of values and products, put together when they are read.
//!
//! Sums of squares are of the size of their squares, so the small difference that a variance is takes more digits than a
//! double has: sums and products keep all of theirs, and only the difference is rounded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use super::exact_float::{ExactFloats, Overflow};
use super::{Accumulate, Aggregation, Results, each_value};
use crate::error::SqlState;
use crate::zset::{DataError, Weight, weights_add};

/// What is read from the sums. Of two arguments the first is y, as in `regr_slope(y, x)`.
#[derive(Clone, Copy, PartialEq)]
enum Finish {
    VarSamp,
    VarPop,
    StddevSamp,
    StddevPop,
    CovarSamp,
    CovarPop,
    Corr,
    Slope,
    Intercept,
    R2,
    AvgX,
    AvgY,
    Sxx,
    Syy,
    Sxy,
    Count,
}

pub(super) fn find(name: &str, arguments: &[DataType]) -> Option<Aggregation> {
    if !arguments.iter().all(|kind| *kind == DataType::Float64) {
        return None;
    }
    let finish = match (name, arguments.len()) {
        ("var" | "var_samp", 1) => Finish::VarSamp,
        ("var_pop", 1) => Finish::VarPop,
        ("stddev" | "stddev_samp", 1) => Finish::StddevSamp,
        ("stddev_pop", 1) => Finish::StddevPop,
        ("covar_samp", 2) => Finish::CovarSamp,
        ("covar_pop", 2) => Finish::CovarPop,
        ("corr", 2) => Finish::Corr,
        ("regr_slope", 2) => Finish::Slope,
        ("regr_intercept", 2) => Finish::Intercept,
        ("regr_r2", 2) => Finish::R2,
        ("regr_avgx", 2) => Finish::AvgX,
        ("regr_avgy", 2) => Finish::AvgY,
        ("regr_sxx", 2) => Finish::Sxx,
        ("regr_syy", 2) => Finish::Syy,
        ("regr_sxy", 2) => Finish::Sxy,
        ("regr_count", 2) => Finish::Count,
        _ => return None,
    };
    let result = if finish == Finish::Count { DataType::UInt64 } else { DataType::Float64 };
    let sums = if arguments.len() == 1 { 2 } else { 5 };
    Some(Aggregation::new(result, move || Moments::new(finish, sums)))
}

/// Places of the sums; the first two alone for one argument.
const X: usize = 0;
const XX: usize = 1;
const Y: usize = 2;
const YY: usize = 3;
const XY: usize = 4;

struct Moments {
    sums: Vec<ExactFloats>,
    counts: Vec<i64>,
    finish: Finish,
}

impl Moments {
    fn new(finish: Finish, sums: usize) -> Self {
        Self { sums: (0..sums).map(|_| ExactFloats::default()).collect(), counts: Vec::new(), finish }
    }

    fn count(&mut self, group: u32, weight: Weight) {
        let count = &mut self.counts[group as usize];
        *count = weights_add(*count, weight);
    }

    /// `(n sum(ab) - sum(a) sum(b)) / n`, of which the difference is exact.
    fn centred(&self, group: u32, ab: usize, a: usize, b: usize) -> Result<f64, Overflow> {
        let count = self.counts[group as usize] as f64;
        let mut difference = ExactFloats::default();
        difference.grow(1);
        for part in self.sums[ab].parts(group)? {
            difference.add_product(0, count, part, 1);
        }
        let others = self.sums[b].parts(group)?;
        for part in self.sums[a].parts(group)? {
            others.iter().for_each(|other| difference.add_product(0, part, *other, -1));
        }
        Ok(difference.total(0)? / count)
    }

    fn result(&self, group: u32) -> Result<Option<f64>, Overflow> {
        let count = self.counts[group as usize] as f64;
        if count == 0.0 {
            return Ok(None);
        }
        let xx = || self.centred(group, XX, X, X).map(not_negative);
        let yy = || self.centred(group, YY, Y, Y).map(not_negative);
        let xy = || self.centred(group, XY, X, Y);
        let mean = |sum: usize| self.sums[sum].total(group).map(|total| total / count);
        let sample = |sum: f64| (count > 1.0).then(|| sum / (count - 1.0));
        Ok(match self.finish {
            Finish::VarPop => Some(xx()? / count),
            Finish::VarSamp => sample(xx()?),
            Finish::StddevPop => Some((xx()? / count).sqrt()),
            Finish::StddevSamp => sample(xx()?).map(f64::sqrt),
            Finish::CovarPop => Some(xy()? / count),
            Finish::CovarSamp => sample(xy()?),
            Finish::Corr => {
                let (xx, yy) = (xx()?, yy()?);
                let there = xx != 0.0 && yy != 0.0;
                if there { Some(xy()? / (xx * yy).sqrt()) } else { None }
            }
            Finish::Slope => slope(xy()?, xx()?),
            Finish::Intercept => match slope(xy()?, xx()?) {
                Some(slope) => Some(mean(Y)? - mean(X)? * slope),
                None => None,
            },
            Finish::R2 => match (xx()?, yy()?) {
                (0.0, _) => None,
                (_, 0.0) => Some(1.0),
                (xx, yy) => {
                    let xy = xy()?;
                    Some(xy * xy / (xx * yy))
                }
            },
            Finish::AvgX => Some(mean(X)?),
            Finish::AvgY => Some(mean(Y)?),
            Finish::Sxx => Some(xx()?),
            Finish::Syy => Some(yy()?),
            Finish::Sxy => Some(xy()?),
            Finish::Count => Some(count),
        })
    }
}

fn not_negative(sum: f64) -> f64 {
    if sum < 0.0 { 0.0 } else { sum }
}

fn slope(xy: f64, xx: f64) -> Option<f64> {
    (xx != 0.0).then(|| xy / xx)
}

impl Accumulate for Moments {
    fn grow(&mut self, groups: usize) {
        self.sums.iter_mut().for_each(|sum| sum.grow(groups));
        self.counts.resize(groups, 0);
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        let values = |place: usize| arguments[place].as_primitive::<Float64Type>().values();
        match arguments.len() {
            1 => each_value(groups.len(), arguments[0].nulls(), weights, |row, weight| {
                let (group, x) = (groups[row], values(0)[row]);
                self.count(group, weight);
                self.sums[X].add(group, x, weight);
                self.sums[XX].add_product(group, x, x, weight);
            }),
            _ => {
                let nulls = NullBuffer::union(arguments[0].nulls(), arguments[1].nulls());
                each_value(groups.len(), nulls.as_ref(), weights, |row, weight| {
                    let (group, y, x) = (groups[row], values(0)[row], values(1)[row]);
                    self.count(group, weight);
                    self.sums[X].add(group, x, weight);
                    self.sums[Y].add(group, y, weight);
                    self.sums[XX].add_product(group, x, x, weight);
                    self.sums[YY].add_product(group, y, y, weight);
                    self.sums[XY].add_product(group, x, y, weight);
                });
            }
        }
    }

    fn results(&self, groups: &[u32]) -> Results {
        if self.finish == Finish::Count {
            let counts = groups.iter().map(|group| u64::try_from(self.counts[*group as usize]).unwrap_or(0));
            return Results::all(Arc::new(UInt64Array::from_iter_values(counts)));
        }
        let mut failed = Vec::new();
        let results = groups.iter().enumerate().map(|(place, group)| {
            self.result(*group).unwrap_or_else(|_| {
                failed.push((place, DataError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range: overflow")));
                None
            })
        });
        let column: ArrayRef = Arc::new(Float64Array::from_iter(results));
        Results { column, failed }
    }

    fn reset(&mut self, group: u32) {
        self.sums.iter_mut().for_each(|sum| sum.reset(group));
        self.counts[group as usize] = 0;
    }

    fn state_types(&self) -> Vec<DataType> {
        let sums = self.sums.iter().map(|_| DataType::BinaryView);
        sums.chain([DataType::Int64]).collect()
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let sums = self.sums.iter().map(|sum| {
            let saved = BinaryViewArray::from_iter_values(groups.iter().map(|group| sum.save(*group)));
            Arc::new(saved) as ArrayRef
        });
        let counts = Int64Array::from_iter_values(groups.iter().map(|group| self.counts[*group as usize]));
        sums.chain([Arc::new(counts) as ArrayRef]).collect()
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        let (counts, sums) = state.split_last().expect("the count is saved last");
        for (sum, saved) in self.sums.iter_mut().zip(sums) {
            let saved = saved.as_binary_view();
            groups.iter().enumerate().for_each(|(row, group)| sum.load(*group, saved.value(row)));
        }
        let counts = counts.as_primitive::<Int64Type>();
        for (row, group) in groups.iter().enumerate() {
            self.counts[*group as usize] += counts.value(row);
        }
    }

    fn bytes(&self) -> usize {
        self.sums.iter().map(ExactFloats::bytes).sum::<usize>() + self.counts.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, arguments: &[Vec<f64>]) -> Option<f64> {
        let types = vec![DataType::Float64; arguments.len()];
        let mut state = (find(name, &types).expect("the aggregate is known").make)();
        state.grow(1);
        let columns: Vec<ArrayRef> =
            arguments.iter().map(|values| Arc::new(Float64Array::from(values.clone())) as ArrayRef).collect();
        state.add(&vec![0; arguments[0].len()], &columns, None);
        state.results(&[0]).column.as_primitive::<Float64Type>().iter().next().flatten()
    }

    #[test]
    fn a_small_variance_of_large_values_has_its_digits() {
        let values = vec![1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 4.0];
        assert_eq!(result("var", std::slice::from_ref(&values)), Some(5.0 / 3.0));
        assert_eq!(result("var_pop", &[values]), Some(1.25));
    }

    #[test]
    fn a_constant_varies_by_nothing() {
        assert_eq!(result("stddev", &[vec![0.1; 7]]), Some(0.0));
        assert_eq!(result("var", &[vec![0.1]]), None);
        assert_eq!(result("corr", &[vec![0.1; 3], vec![1.0, 2.0, 3.0]]), None);
    }

    #[test]
    fn the_order_of_rows_does_not_show() {
        let mut values: Vec<f64> = (0..100).map(|i| f64::from(i).sin() * 1e3 + 0.1).collect();
        let there = result("stddev", std::slice::from_ref(&values));
        values.reverse();
        assert_eq!(result("stddev", &[values]), there);
    }

    #[test]
    fn a_line_is_found() {
        let (y, x) = (vec![3.0, 5.0, 7.0], vec![1.0, 2.0, 3.0]);
        assert_eq!(result("regr_slope", &[y.clone(), x.clone()]), Some(2.0));
        assert_eq!(result("regr_intercept", &[y.clone(), x.clone()]), Some(1.0));
        assert_eq!(result("regr_r2", &[y, x]), Some(1.0));
    }
}
