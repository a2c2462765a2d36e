//! `sum` and `avg` of whole numbers and of decimals: exact, whatever comes and goes.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Int16Type, Int32Type, Int64Type, i256};

use super::{Accumulate, Aggregation, Results, each_value};
use crate::error::SqlState;
use crate::zset::{DataError, NUMERIC_SCALE, Weight, weights_add};

/// The least number that has more than a numeric's 38 digits.
const TOO_LARGE: u128 = 10_u128.pow(38);

pub(super) fn sum(argument: &DataType) -> Option<Aggregation> {
    match argument {
        DataType::Int16 | DataType::Int32 => {
            Some(Aggregation::new(DataType::Int64, || Whole::new(Narrow::default(), Finish::Bigint)))
        }
        DataType::Int64 => Some(Aggregation::new(DataType::Decimal128(38, 0), || {
            Whole::new(Narrow::default(), Finish::Numeric { scale: 0 })
        })),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            Some(Aggregation::new(DataType::Decimal128(38, scale), move || {
                Whole::new(Wide::default(), Finish::Numeric { scale })
            }))
        }
        _ => None,
    }
}

pub(super) fn avg(argument: &DataType) -> Option<Aggregation> {
    let result = DataType::Decimal128(38, NUMERIC_SCALE);
    match argument {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            Some(Aggregation::new(result, || Whole::new(Narrow::default(), Finish::Average { scale: 0 })))
        }
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            Some(Aggregation::new(result, move || Whole::new(Wide::default(), Finish::Average { scale })))
        }
        _ => None,
    }
}

/// What becomes of a sum.
#[derive(Clone, Copy)]
enum Finish {
    Bigint,
    Numeric { scale: i8 },
    Average { scale: i8 },
}

/// Exact sums and counts of values, one of each for a group.
trait Sums: Default + Send + Sync {
    fn grow(&mut self, groups: usize);
    fn add(&mut self, groups: &[u32], values: &ArrayRef, weights: Option<&[Weight]>);
    fn total(&self, group: u32) -> i256;
    /// The total, if it fits.
    fn small_total(&self, group: u32) -> Option<i128>;
    fn count(&self, group: u32) -> i64;
    fn reset(&mut self, group: u32);
    fn low_type() -> DataType;
    fn save(&self, groups: &[u32]) -> (ArrayRef, Int64Array, Int64Array);
    fn load(&mut self, groups: &[u32], low: &ArrayRef, high: &Int64Array, counts: &Int64Array);
    fn bytes(&self) -> usize;
}

/// Sums of 64-bit integers. Group g's total is `low + 2^64 * high`; few groups ever need a `high`.
#[derive(Default)]
struct Narrow {
    slots: Vec<NarrowSlot>,
    high: HashMap<u32, i64>,
}

#[derive(Clone, Copy, Default)]
struct NarrowSlot {
    low: i64,
    count: i64,
}

impl Narrow {
    fn add_values<T: ArrowPrimitiveType>(
        &mut self,
        groups: &[u32],
        array: &PrimitiveArray<T>,
        weights: Option<&[Weight]>,
    ) where
        T::Native: Into<i64>,
    {
        let values = array.values();
        if weights.is_none() && array.null_count() == 0 {
            for (group, value) in groups.iter().zip(values.iter()) {
                self.add_one(*group, (*value).into());
            }
            return;
        }
        each_value(groups.len(), array.nulls(), weights, |row, weight| match weight {
            1 => self.add_one(groups[row], values[row].into()),
            weight => self.add_times(groups[row], values[row].into(), weight),
        });
    }

    #[inline]
    fn add_one(&mut self, group: u32, value: i64) {
        let slot = &mut self.slots[group as usize];
        let (low, overflowed) = slot.low.overflowing_add(value);
        slot.low = low;
        slot.count += 1;
        if overflowed {
            self.carry(group, value.signum());
        }
    }

    #[inline]
    fn add_times(&mut self, group: u32, value: i64, weight: Weight) {
        let product = i128::from(value) * i128::from(weight);
        let low = product as i64;
        let slot = &mut self.slots[group as usize];
        let (sum, overflowed) = slot.low.overflowing_add(low);
        slot.low = sum;
        slot.count = weights_add(slot.count, weight);
        let high = ((product - i128::from(low)) >> 64) as i64;
        let high = high + if overflowed { low.signum() } else { 0 };
        if high != 0 {
            self.carry(group, high);
        }
    }

    #[cold]
    fn carry(&mut self, group: u32, by: i64) {
        let high = self.high.entry(group).or_insert(0);
        *high += by;
        if *high == 0 {
            self.high.remove(&group);
        }
    }

    fn high(&self, group: u32) -> i64 {
        if self.high.is_empty() { 0 } else { self.high.get(&group).copied().unwrap_or(0) }
    }
}

impl Sums for Narrow {
    fn grow(&mut self, groups: usize) {
        self.slots.resize(groups, NarrowSlot::default());
    }

    fn add(&mut self, groups: &[u32], values: &ArrayRef, weights: Option<&[Weight]>) {
        match values.data_type() {
            DataType::Int16 => self.add_values(groups, values.as_primitive::<Int16Type>(), weights),
            DataType::Int32 => self.add_values(groups, values.as_primitive::<Int32Type>(), weights),
            _ => self.add_values(groups, values.as_primitive::<Int64Type>(), weights),
        }
    }

    fn total(&self, group: u32) -> i256 {
        let total = i128::from(self.slots[group as usize].low) + (i128::from(self.high(group)) << 64);
        i256::from_i128(total)
    }

    fn small_total(&self, group: u32) -> Option<i128> {
        Some(i128::from(self.slots[group as usize].low) + (i128::from(self.high(group)) << 64))
    }

    fn count(&self, group: u32) -> i64 {
        self.slots[group as usize].count
    }

    fn reset(&mut self, group: u32) {
        self.slots[group as usize] = NarrowSlot::default();
        self.high.remove(&group);
    }

    fn low_type() -> DataType {
        DataType::Int64
    }

    fn save(&self, groups: &[u32]) -> (ArrayRef, Int64Array, Int64Array) {
        let slots = || groups.iter().map(|group| self.slots[*group as usize]);
        let low = Int64Array::from_iter_values(slots().map(|slot| slot.low));
        let high = Int64Array::from_iter_values(groups.iter().map(|group| self.high(*group)));
        (Arc::new(low), high, Int64Array::from_iter_values(slots().map(|slot| slot.count)))
    }

    fn load(&mut self, groups: &[u32], low: &ArrayRef, high: &Int64Array, counts: &Int64Array) {
        let low = low.as_primitive::<Int64Type>();
        for (row, group) in groups.iter().enumerate() {
            let slot = &mut self.slots[*group as usize];
            let (sum, overflowed) = slot.low.overflowing_add(low.value(row));
            slot.low = sum;
            slot.count = weights_add(slot.count, counts.value(row));
            let high = high.value(row) + if overflowed { low.value(row).signum() } else { 0 };
            if high != 0 {
                self.carry(*group, high);
            }
        }
    }

    fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<NarrowSlot>()
    }
}

/// Sums of the digits of decimals. Group g's total is `low + 2^128 * high`.
#[derive(Default)]
struct Wide {
    slots: Vec<WideSlot>,
    high: HashMap<u32, i64>,
}

#[derive(Clone, Copy, Default)]
struct WideSlot {
    low: i128,
    count: i64,
}

impl Wide {
    #[inline]
    fn add_times(&mut self, group: u32, value: i128, weight: Weight) {
        let slot = &mut self.slots[group as usize];
        slot.count = weights_add(slot.count, weight);
        let sum = value.checked_mul(i128::from(weight)).and_then(|product| slot.low.checked_add(product));
        match sum {
            Some(sum) => slot.low = sum,
            None => self.add_slowly(group, value, weight),
        }
    }

    #[cold]
    fn add_slowly(&mut self, group: u32, value: i128, weight: Weight) {
        let product = i256::from_i128(value).wrapping_mul(i256::from_i128(i128::from(weight)));
        let total = self.total(group).wrapping_add(product);
        self.set_total(group, total);
    }

    fn set_total(&mut self, group: u32, total: i256) {
        let low = total.as_i128();
        let rest = total.wrapping_sub(i256::from_i128(low));
        let (_, high) = rest.to_parts();
        self.slots[group as usize].low = low;
        match i64::try_from(high).expect("a sum of fewer than 2^63 decimals fits 192 bits") {
            0 => self.high.remove(&group),
            high => self.high.insert(group, high),
        };
    }

    fn high(&self, group: u32) -> i64 {
        if self.high.is_empty() { 0 } else { self.high.get(&group).copied().unwrap_or(0) }
    }
}

impl Sums for Wide {
    fn grow(&mut self, groups: usize) {
        self.slots.resize(groups, WideSlot::default());
    }

    fn add(&mut self, groups: &[u32], values: &ArrayRef, weights: Option<&[Weight]>) {
        let array = values.as_primitive::<Decimal128Type>();
        let values = array.values();
        each_value(groups.len(), array.nulls(), weights, |row, weight| {
            self.add_times(groups[row], values[row], weight);
        });
    }

    fn total(&self, group: u32) -> i256 {
        let high = i256::from_parts(0, i128::from(self.high(group)));
        high.wrapping_add(i256::from_i128(self.slots[group as usize].low))
    }

    fn small_total(&self, group: u32) -> Option<i128> {
        (self.high(group) == 0).then(|| self.slots[group as usize].low)
    }

    fn count(&self, group: u32) -> i64 {
        self.slots[group as usize].count
    }

    fn reset(&mut self, group: u32) {
        self.slots[group as usize] = WideSlot::default();
        self.high.remove(&group);
    }

    fn low_type() -> DataType {
        DataType::Decimal128(38, 0)
    }

    fn save(&self, groups: &[u32]) -> (ArrayRef, Int64Array, Int64Array) {
        let slots = || groups.iter().map(|group| self.slots[*group as usize]);
        let low = Decimal128Array::from_iter_values(slots().map(|slot| slot.low)).with_data_type(Self::low_type());
        let high = Int64Array::from_iter_values(groups.iter().map(|group| self.high(*group)));
        (Arc::new(low), high, Int64Array::from_iter_values(slots().map(|slot| slot.count)))
    }

    fn load(&mut self, groups: &[u32], low: &ArrayRef, high: &Int64Array, counts: &Int64Array) {
        let low = low.as_primitive::<Decimal128Type>();
        for (row, group) in groups.iter().enumerate() {
            let slot = &mut self.slots[*group as usize];
            slot.count = weights_add(slot.count, counts.value(row));
            let added = i256::from_parts(0, i128::from(high.value(row)));
            let added = added.wrapping_add(i256::from_i128(low.value(row)));
            self.set_total(*group, self.total(*group).wrapping_add(added));
        }
    }

    fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<WideSlot>()
    }
}

/// `sum` or `avg` over exact sums.
struct Whole<S> {
    sums: S,
    finish: Finish,
}

impl<S: Sums> Whole<S> {
    fn new(sums: S, finish: Finish) -> Self {
        Self { sums, finish }
    }

    fn numeric(&self, group: u32, scale: Option<i8>) -> Result<i128, DataError> {
        let overflow = || DataError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow");
        let result = match scale {
            None => self.sums.small_total(group),
            Some(scale) => average(&self.sums, group, scale),
        };
        result.filter(|digits| digits.unsigned_abs() < TOO_LARGE).ok_or_else(overflow)
    }

    fn numerics(&self, groups: &[u32], average_of: Option<i8>, result: DataType) -> Results {
        let mut failed = Vec::new();
        let digits: Vec<i128> = (groups.iter().enumerate())
            .map(|(place, group)| match self.sums.count(*group) {
                0 => 0,
                _ => self.numeric(*group, average_of).unwrap_or_else(|error| {
                    failed.push((place, error));
                    0
                }),
            })
            .collect();
        let column = Decimal128Array::new(digits.into(), self.nulls(groups)).with_data_type(result);
        Results { column: Arc::new(column), failed }
    }

    fn bigints(&self, groups: &[u32]) -> Results {
        let mut failed = Vec::new();
        let sums: Vec<i64> = (groups.iter().enumerate())
            .map(|(place, group)| {
                let total = self.sums.small_total(*group).and_then(|total| i64::try_from(total).ok());
                total.unwrap_or_else(|| {
                    failed.push((place, DataError::new(SqlState::NUMERIC_OUT_OF_RANGE, "bigint out of range")));
                    0
                })
            })
            .collect();
        Results { column: Arc::new(Int64Array::new(sums.into(), self.nulls(groups))), failed }
    }

    /// A group without values has the result NULL.
    fn nulls(&self, groups: &[u32]) -> Option<NullBuffer> {
        let nulls = NullBuffer::from_iter(groups.iter().map(|group| self.sums.count(*group) != 0));
        (nulls.null_count() > 0).then_some(nulls)
    }
}

/// The total over the count with the digits of a bare numeric, rounded half away from zero as PostgreSQL does.
fn average<S: Sums>(sums: &S, group: u32, scale: i8) -> Option<i128> {
    let count = i128::from(sums.count(group));
    let shift = i32::from(NUMERIC_SCALE) - i32::from(scale);
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    let quick = sums.small_total(group).filter(|_| shift >= 0).and_then(|total| total.checked_mul(power));
    if let Some(scaled) = quick {
        return Some(divide(scaled, count));
    }
    let (mut scaled, mut divisor) = (sums.total(group), i256::from_i128(count));
    match shift >= 0 {
        true => scaled = scaled.checked_mul(i256::from_i128(power))?,
        false => divisor = divisor.checked_mul(i256::from_i128(power))?,
    }
    let two = i256::from_i128(2);
    let half = divisor.wrapping_div(two);
    let away = if scaled.is_negative() { scaled.wrapping_sub(half) } else { scaled.wrapping_add(half) };
    away.wrapping_div(divisor).to_i128()
}

fn divide(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    if rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs() { quotient + value.signum() } else { quotient }
}

impl<S: Sums> Accumulate for Whole<S> {
    fn grow(&mut self, groups: usize) {
        self.sums.grow(groups);
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        self.sums.add(groups, &arguments[0], weights);
    }

    fn results(&self, groups: &[u32]) -> Results {
        match self.finish {
            Finish::Bigint => self.bigints(groups),
            Finish::Numeric { scale } => self.numerics(groups, None, DataType::Decimal128(38, scale)),
            Finish::Average { scale } => self.numerics(groups, Some(scale), DataType::Decimal128(38, NUMERIC_SCALE)),
        }
    }

    fn reset(&mut self, group: u32) {
        self.sums.reset(group);
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![S::low_type(), DataType::Int64, DataType::Int64]
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let (low, high, counts) = self.sums.save(groups);
        vec![low, Arc::new(high), Arc::new(counts)]
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        let (high, counts) = (state[1].as_primitive::<Int64Type>(), state[2].as_primitive::<Int64Type>());
        self.sums.load(groups, &state[0], high, counts);
    }

    fn bytes(&self) -> usize {
        self.sums.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_past_64_bits_come_back_exactly() {
        let mut sums = Narrow::default();
        sums.grow(1);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 5]));
        sums.add(&[0, 0, 0], &values, Some(&[1_000_000, -3, 1]));
        let expected = i128::from(i64::MAX) * 1_000_000 - i128::from(i64::MIN) * 3 + 5;
        assert_eq!(sums.small_total(0), Some(expected));
        sums.add(&[0, 0], &values.slice(0, 2), Some(&[-1_000_000, 3]));
        assert_eq!((sums.small_total(0), sums.high.len()), (Some(5), 0));
    }

    #[test]
    fn sums_past_128_bits_come_back_exactly() {
        let mut sums = Wide::default();
        sums.grow(1);
        let huge = 10_i128.pow(38) - 1;
        let values: ArrayRef = Arc::new(Decimal128Array::from(vec![huge, -7]));
        sums.add(&[0, 0], &values, Some(&[1_000, 1]));
        assert_eq!(sums.small_total(0), None);
        sums.add(&[0], &values.slice(0, 1), Some(&[-1_001]));
        assert_eq!(sums.small_total(0), Some(-7 - huge));
    }

    #[test]
    fn averages_round_half_away_from_zero() {
        assert_eq!((divide(5, 2), divide(-5, 2), divide(7, 3), divide(-8, 3)), (3, -3, 2, -3));
    }
}
