//! `min` and `max`, right under retraction: every group's values in order, each with how often it is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, FixedSizeBinaryArray, PrimitiveArray, StringViewArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, UInt32Type,
};

use super::{Accumulate, Aggregation, Results, each_value};
use crate::zset::{Weight, interval_length, weights_add};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Least,
    Greatest,
}

/// The aggregate for a type that has an order here; arrays and the like have none.
pub(super) fn find(argument: &DataType, side: Side, append_only: bool) -> Option<Aggregation> {
    let data_type = argument.clone();
    match argument {
        DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt32
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, _) => Some(make::<i64>(data_type, side, append_only)),
        DataType::Decimal128(_, _) => Some(make::<i128>(data_type, side, append_only)),
        DataType::Utf8View | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            Some(make::<Box<[u8]>>(data_type, side, append_only))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => Some(make::<Span>(data_type, side, append_only)),
        _ => None,
    }
}

fn make<V: Ordered>(data_type: DataType, side: Side, append_only: bool) -> Aggregation {
    let result = data_type.clone();
    match append_only {
        true => Aggregation::new(result, move || Best::<V> { data_type: data_type.clone(), side, best: Vec::new() }),
        false => {
            Aggregation::new(result, move || All::<V> { data_type: data_type.clone(), side, values: BTreeMap::new() })
        }
    }
}

/// A form of values in which their order is that of SQL.
trait Ordered: Ord + Clone + Send + Sync + 'static {
    /// No value is less.
    fn least() -> Self;
    /// Calls `add` for each row that is not NULL.
    fn each(column: &ArrayRef, weights: Option<&[Weight]>, add: impl FnMut(usize, Self, Weight));
    fn column(values: Vec<Option<Self>>, data_type: &DataType) -> ArrayRef;
}

impl Ordered for i64 {
    fn least() -> Self {
        i64::MIN
    }

    fn each(column: &ArrayRef, weights: Option<&[Weight]>, add: impl FnMut(usize, Self, Weight)) {
        match column.data_type() {
            DataType::Int16 => each_of::<Int16Type, _>(column, weights, i64::from, add),
            DataType::Int32 => each_of::<Int32Type, _>(column, weights, i64::from, add),
            DataType::Int64 => each_of::<Int64Type, _>(column, weights, |value| value, add),
            DataType::UInt32 => each_of::<UInt32Type, _>(column, weights, i64::from, add),
            DataType::Date32 => each_of::<Date32Type, _>(column, weights, i64::from, add),
            DataType::Time64(_) => each_of::<Time64MicrosecondType, _>(column, weights, |value| value, add),
            DataType::Timestamp(_, _) => each_of::<TimestampMicrosecondType, _>(column, weights, |value| value, add),
            DataType::Float32 => {
                each_of::<Float32Type, _>(column, weights, |value| ordered_bits(f64::from(value)), add)
            }
            _ => each_of::<Float64Type, _>(column, weights, ordered_bits, add),
        }
    }

    fn column(values: Vec<Option<Self>>, data_type: &DataType) -> ArrayRef {
        match data_type {
            DataType::Int16 => column_of::<Int16Type, _>(values, data_type, |value| value as i16),
            DataType::Int32 => column_of::<Int32Type, _>(values, data_type, |value| value as i32),
            DataType::Int64 => column_of::<Int64Type, _>(values, data_type, |value| value),
            DataType::UInt32 => column_of::<UInt32Type, _>(values, data_type, |value| value as u32),
            DataType::Date32 => column_of::<Date32Type, _>(values, data_type, |value| value as i32),
            DataType::Time64(_) => column_of::<Time64MicrosecondType, _>(values, data_type, |value| value),
            DataType::Timestamp(_, _) => column_of::<TimestampMicrosecondType, _>(values, data_type, |value| value),
            DataType::Float32 => column_of::<Float32Type, _>(values, data_type, |value| from_ordered(value) as f32),
            _ => column_of::<Float64Type, _>(values, data_type, from_ordered),
        }
    }
}

impl Ordered for i128 {
    fn least() -> Self {
        i128::MIN
    }

    fn each(column: &ArrayRef, weights: Option<&[Weight]>, add: impl FnMut(usize, Self, Weight)) {
        each_of::<Decimal128Type, _>(column, weights, |value| value, add);
    }

    fn column(values: Vec<Option<Self>>, data_type: &DataType) -> ArrayRef {
        column_of::<Decimal128Type, _>(values, data_type, |value| value)
    }
}

/// An interval by its length; of equally long ones that of fewer months, then of fewer days is less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    length: i128,
    months: i32,
    days: i32,
    nanoseconds: i64,
}

impl Ordered for Span {
    fn least() -> Self {
        Span { length: i128::MIN, months: 0, days: 0, nanoseconds: 0 }
    }

    fn each(column: &ArrayRef, weights: Option<&[Weight]>, add: impl FnMut(usize, Self, Weight)) {
        let span = |value: IntervalMonthDayNano| {
            let IntervalMonthDayNano { months, days, nanoseconds } = value;
            Span { length: interval_length(value), months, days, nanoseconds }
        };
        each_of::<IntervalMonthDayNanoType, _>(column, weights, span, add);
    }

    fn column(values: Vec<Option<Self>>, data_type: &DataType) -> ArrayRef {
        column_of::<IntervalMonthDayNanoType, _>(values, data_type, |span| {
            IntervalMonthDayNano::new(span.months, span.days, span.nanoseconds)
        })
    }
}

impl Ordered for Box<[u8]> {
    fn least() -> Self {
        Box::default()
    }

    fn each(column: &ArrayRef, weights: Option<&[Weight]>, mut add: impl FnMut(usize, Self, Weight)) {
        let bytes: Box<dyn Fn(usize) -> Self> = match column.data_type() {
            DataType::Utf8View => {
                let column = column.as_string_view();
                Box::new(|row| column.value(row).as_bytes().into())
            }
            DataType::BinaryView => {
                let column = column.as_binary_view();
                Box::new(|row| column.value(row).into())
            }
            _ => {
                let column = column.as_fixed_size_binary();
                Box::new(|row| column.value(row).into())
            }
        };
        each_value(column.len(), column.nulls(), weights, |row, weight| add(row, bytes(row), weight));
    }

    fn column(values: Vec<Option<Self>>, data_type: &DataType) -> ArrayRef {
        match data_type {
            DataType::Utf8View => {
                let text = |bytes: Box<[u8]>| String::from_utf8(bytes.into()).expect("the bytes came from text");
                Arc::new(StringViewArray::from_iter(values.into_iter().map(|value| value.map(text))))
            }
            DataType::BinaryView => Arc::new(BinaryViewArray::from_iter(values)),
            DataType::FixedSizeBinary(width) => {
                let array = FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), *width);
                Arc::new(array.expect("all values have the width of the type"))
            }
            other => panic!("{other} is not kept as bytes"),
        }
    }
}

fn each_of<T: ArrowPrimitiveType, V>(
    column: &ArrayRef,
    weights: Option<&[Weight]>,
    ordered: impl Fn(T::Native) -> V,
    mut add: impl FnMut(usize, V, Weight),
) {
    let values = column.as_primitive::<T>().values();
    each_value(column.len(), column.nulls(), weights, |row, weight| add(row, ordered(values[row]), weight));
}

fn column_of<T: ArrowPrimitiveType, V>(
    values: Vec<Option<V>>,
    data_type: &DataType,
    native: impl Fn(V) -> T::Native,
) -> ArrayRef {
    let values = values.into_iter().map(|value| value.map(&native));
    Arc::new(PrimitiveArray::<T>::from_iter(values).with_data_type(data_type.clone()))
}

/// Integers in the order of the floats; NaN, which PostgreSQL holds for greater than all, comes last.
fn ordered_bits(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() } as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn from_ordered(ordered: i64) -> f64 {
    f64::from_bits((ordered ^ (((ordered >> 63) as u64) >> 1) as i64) as u64)
}

/// The best value alone: enough where nothing is taken back.
struct Best<V> {
    data_type: DataType,
    side: Side,
    best: Vec<Option<V>>,
}

impl<V: Ordered> Accumulate for Best<V> {
    fn grow(&mut self, groups: usize) {
        self.best.resize(groups, None);
    }

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        let (best, side) = (&mut self.best, self.side);
        V::each(&arguments[0], weights, |row, value, _| {
            let best = &mut best[groups[row] as usize];
            let better = best.as_ref().is_none_or(|best| match side {
                Side::Least => value < *best,
                Side::Greatest => value > *best,
            });
            if better {
                *best = Some(value);
            }
        });
    }

    fn results(&self, groups: &[u32]) -> Results {
        Results::all(self.save(groups).remove(0))
    }

    fn reset(&mut self, group: u32) {
        self.best[group as usize] = None;
    }

    fn minds_duplicates(&self) -> bool {
        false
    }

    fn state_types(&self) -> Vec<DataType> {
        vec![self.data_type.clone()]
    }

    fn save(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let best = groups.iter().map(|group| self.best[*group as usize].clone()).collect();
        vec![V::column(best, &self.data_type)]
    }

    fn load(&mut self, groups: &[u32], state: &[ArrayRef]) {
        self.add(groups, state, None);
    }

    fn bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<V>>()
    }
}

/// All values in order.
struct All<V> {
    data_type: DataType,
    side: Side,
    values: BTreeMap<(u32, V), Weight>,
}

impl<V: Ordered> All<V> {
    fn best(&self, group: u32) -> Option<V> {
        let start = (group, V::least());
        match self.side {
            Side::Least => first_there(self.values.range(start..), group),
            Side::Greatest => first_there(self.values.range(..(group + 1, V::least())).rev(), group),
        }
    }
}

/// The first value of a group that is really there.
fn first_there<'a, V: Ordered>(entries: impl Iterator<Item = (&'a (u32, V), &'a Weight)>, group: u32) -> Option<V> {
    let mut entries = entries.take_while(|((of, _), _)| *of == group);
    entries.find(|(_, weight)| **weight > 0).map(|((_, value), _)| value.clone())
}

impl<V: Ordered> Accumulate for All<V> {
    fn grow(&mut self, _groups: usize) {}

    fn add(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[Weight]>) {
        use std::collections::btree_map::Entry;
        let values = &mut self.values;
        V::each(&arguments[0], weights, |row, value, weight| match values.entry((groups[row], value)) {
            Entry::Vacant(entry) => {
                entry.insert(weight);
            }
            Entry::Occupied(mut entry) => match weights_add(*entry.get(), weight) {
                0 => {
                    entry.remove();
                }
                sum => *entry.get_mut() = sum,
            },
        });
    }

    fn results(&self, groups: &[u32]) -> Results {
        let best = groups.iter().map(|group| self.best(*group)).collect();
        Results::all(V::column(best, &self.data_type))
    }

    fn reset(&mut self, _group: u32) {
        // Its values went with its rows.
    }

    fn minds_duplicates(&self) -> bool {
        false
    }

    fn state_types(&self) -> Vec<DataType> {
        Vec::new()
    }

    fn save(&self, _groups: &[u32]) -> Vec<ArrayRef> {
        Vec::new()
    }

    fn load(&mut self, _groups: &[u32], _state: &[ArrayRef]) {}

    fn value_type(&self) -> Option<DataType> {
        Some(self.data_type.clone())
    }

    fn values(&self) -> (Vec<u32>, ArrayRef, Vec<Weight>) {
        let groups = self.values.keys().map(|(group, _)| *group).collect();
        let values = self.values.keys().map(|(_, value)| Some(value.clone())).collect();
        (groups, V::column(values, &self.data_type), self.values.values().copied().collect())
    }

    fn bytes(&self) -> usize {
        // A tree's nodes are on average two thirds full.
        self.values.len() * (size_of::<(u32, V)>() + size_of::<Weight>()) * 3 / 2
    }
}
