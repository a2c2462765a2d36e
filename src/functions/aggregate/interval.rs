//! `sum` and `avg` of intervals: months, days and microseconds apart.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};

use super::{Accumulate, Aggregation, Results, each_value};
use crate::error::SqlState;
use crate::zset::{DataError, PgType, Weight, weights_add};

pub(super) fn sum(argument: &DataType) -> Option<Aggregation> {
    (*argument == PgType::Interval.arrow())
        .then(|| Aggregation::new(argument.clone(), || Intervals { average: false, totals: Vec::new() }))
}

pub(super) fn avg(argument: &DataType) -> Option<Aggregation> {
    (*argument == PgType::Interval.arrow())
        .then(|| Aggregation::new(argument.clone(), || Intervals { average: true, totals: Vec::new() }))
}

#[derive(Clone, Copy, Default)]
struct Total {
    months: i64,
    days: i64,
    micros: i128,
    count: i64,
}

impl Total {
    /// What is left of months goes to days of which a month has 30, and of days to the time, as in a division.
    fn average(self) -> Total {
        let Total { months, days, micros, count } = self;
        let rest = months % count * 30 + days;
        let rest_micros = i128::from(rest % count) * 86_400_000_000 + micros;
        Total { months: months / count, days: rest / count, micros: rest_micros / i128::from(count), count }
    }

    fn interval(self) -> Option<IntervalMonthDayNano> {
        let nanos = i64::try_from(self.micros.checked_mul(1000)?).ok()?;
        Some(IntervalMonthDayNano::new(i32::try_from(self.months).ok()?, i32::try_from(self.days).ok()?, nanos))
    }
}

struct Intervals {
    average: bool,
    totals: Vec<Total>,
}

impl Accumulate for Intervals {
    fn grow(&mut self, groups: usize) {
        self.totals.resize(groups, Total::default());
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        let values = arguments[0].as_primitive::<IntervalMonthDayNanoType>();
        let totals = &mut self.totals;
        each_value(groups.len(), values.nulls(), weights, |row, weight| {
            let (total, value) = (&mut totals[groups[row] as usize], values.value(row));
            total.months += i64::from(value.months) * weight;
            total.days += i64::from(value.days) * weight;
            total.micros += i128::from(value.nanoseconds / 1000) * i128::from(weight);
            total.count = weights_add(total.count, weight);
        });
    }

    fn results(&self, groups: &[u32]) -> Results {
        let mut failed = Vec::new();
        let results = groups.iter().enumerate().map(|(place, group)| {
            let total = self.totals[*group as usize];
            if total.count == 0 {
                return None;
            }
            let total = if self.average { total.average() } else { total };
            let interval = total.interval();
            if interval.is_none() {
                failed.push((place, DataError::new(SqlState::DATETIME_OVERFLOW, "interval out of range")));
            }
            interval
        });
        let column: PrimitiveArray<IntervalMonthDayNanoType> = results.collect();
        Results { column: Arc::new(column), failed }
    }

    fn reset(&mut self, group: u32) {
        self.totals[group as usize] = Total::default();
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![DataType::Int64, DataType::Int64, DataType::Decimal128(38, 0), DataType::Int64]
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let of = |part: fn(&Total) -> i64| {
            Arc::new(Int64Array::from_iter_values(groups.iter().map(|group| part(&self.totals[*group as usize]))))
        };
        let micros = groups.iter().map(|group| self.totals[*group as usize].micros);
        let micros = Decimal128Array::from_iter_values(micros).with_data_type(DataType::Decimal128(38, 0));
        vec![of(|total| total.months), of(|total| total.days), Arc::new(micros), of(|total| total.count)]
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        let whole = |part: usize| state[part].as_primitive::<Int64Type>();
        let micros = state[2].as_primitive::<Decimal128Type>();
        for (row, group) in groups.iter().enumerate() {
            let total = &mut self.totals[*group as usize];
            total.months += whole(0).value(row);
            total.days += whole(1).value(row);
            total.micros += micros.value(row);
            total.count += whole(3).value(row);
        }
    }

    fn bytes(&self) -> usize {
        self.totals.capacity() * size_of::<Total>()
    }
}
