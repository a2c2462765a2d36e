//! Arrays, and series of numbers and times.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Decimal128Array, Int32Array, PrimitiveArray, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, IntervalMonthDayNano, TimestampMicrosecondType};

use super::{Entry, Row, Value, lenient, strict};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::scalar::shift;

pub(super) const ENTRIES: &[Entry] = &[
    lenient("array_append", "anyarray, anyelement", "anyarray", |row| joined(row, false)),
    lenient("array_prepend", "anyelement, anyarray", "anyarray", |row| joined(row, true)),
    lenient("array_cat", "anyarray, anyarray", "anyarray", cat),
    strict("array_fill", "anyelement, int[]", "anyarray", fill),
    strict("trim_array", "anyarray, int", "anyarray", trim),
    strict("array_dims", "anyarray", "text", |row| match row.list(0).len() {
        0 => Ok(Value::Null),
        length => Value::text(format!("[1:{length}]")),
    }),
    lenient("num_nulls", "any...", "int", |row| {
        Ok(Value::Int((0..row.len()).filter(|index| row.is_null(*index)).count() as i64))
    }),
    lenient("num_nonnulls", "any...", "int", |row| {
        Ok(Value::Int((0..row.len()).filter(|index| !row.is_null(*index)).count() as i64))
    }),
    strict("hw_subscripts", "anyarray, int", "int[]", |row| {
        let length = if row.int(1) == 1 { row.list(0).len() as i32 } else { 0 };
        Ok(Value::List(Arc::new(Int32Array::from_iter_values(1..=length))))
    }),
    strict("hw_subscripts", "anyarray, int, boolean", "int[]", |row| {
        let length = if row.int(1) == 1 { row.list(0).len() as i32 } else { 0 };
        let places: Vec<i32> = if row.boolean(2) { (1..=length).rev().collect() } else { (1..=length).collect() };
        Ok(Value::List(Arc::new(Int32Array::from(places))))
    }),
    strict("hw_places", "anyarray", "bigint[]", |row| {
        let places = arrow::array::Int64Array::from_iter_values(1..=row.list(0).len() as i64);
        Ok(Value::List(Arc::new(places)))
    }),
    strict("hw_numeric_series", "numeric, numeric, numeric", "numeric[]", numbers),
    strict("hw_time_series", "timestamp, timestamp, interval", "timestamp[]", times),
    strict("hw_time_series", "timestamptz, timestamptz, interval", "timestamptz[]", times),
    strict("width_bucket", "anyelement, anyarray", "int", bucket),
];

/// Items of a series, and of the arrays that are made: no more fit into memory with the rest.
const ITEMS_MAX: usize = 10_000_000;

fn internal(error: impl std::fmt::Display) -> SqlError {
    SqlError::internal(format!("arrays cannot be put together: {error}"))
}

fn one(row: &Row<'_>, index: usize, like: &DataType) -> SqlResult<ArrayRef> {
    let (array, place) = row.place(index);
    match array.data_type() {
        DataType::Null => Ok(arrow::array::new_null_array(like, 1)),
        _ => arrow::compute::cast(&array.slice(place, 1), like).map_err(internal),
    }
}

fn joined(row: &Row<'_>, first: bool) -> SqlResult<Value> {
    let (list, item) = if first { (1, 0) } else { (0, 1) };
    let item_type = match row.kind(list) {
        crate::zset::PgType::Array(item) => item.arrow(),
        other => other.arrow(),
    };
    let items = match row.is_null(list) {
        true => arrow::array::new_empty_array(&item_type),
        false => row.list(list),
    };
    let item = one(row, item, items.data_type())?;
    let parts: [&dyn Array; 2] = if first { [&item, &items] } else { [&items, &item] };
    concat(&parts).map(Value::List).map_err(internal)
}

fn cat(row: &Row<'_>) -> SqlResult<Value> {
    match (row.is_null(0), row.is_null(1)) {
        (true, true) => Ok(Value::Null),
        (true, false) => Ok(Value::List(row.list(1))),
        (false, true) => Ok(Value::List(row.list(0))),
        (false, false) => concat(&[&row.list(0), &row.list(1)]).map(Value::List).map_err(internal),
    }
}

fn fill(row: &Row<'_>) -> SqlResult<Value> {
    let lengths = row.list(1);
    let lengths: &Int32Array = arrow::array::AsArray::as_primitive(lengths.as_ref());
    if lengths.len() != 1 {
        return Err(SqlError::unsupported("arrays of several dimensions are not supported", "Give one length."));
    }
    let count = usize::try_from(lengths.value(0)).unwrap_or(0);
    if count > ITEMS_MAX {
        return Err(SqlError::new(SqlState(*b"54000"), "array size exceeds the maximum allowed"));
    }
    let (array, place) = row.place(0);
    take(array, &UInt32Array::from(vec![place as u32; count]), None).map(Value::List).map_err(internal)
}

fn trim(row: &Row<'_>) -> SqlResult<Value> {
    let (items, count) = (row.list(0), row.int(1));
    match usize::try_from(count).ok().filter(|count| *count <= items.len()) {
        Some(count) => Ok(Value::List(items.slice(0, items.len() - count))),
        None => {
            let message = format!("number of elements to trim must be between 0 and {}", items.len());
            Err(SqlError::new(SqlState(*b"2202E"), message))
        }
    }
}

fn no_step() -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero")
}

fn too_long() -> SqlError {
    SqlError::new(SqlState(*b"54000"), "the series has too many values").hint("Use a larger step or a smaller range.")
}

fn numbers(row: &Row<'_>) -> SqlResult<Value> {
    let ((from, scale), (to, _), (step, _)) = (row.numeric(0), row.numeric(1), row.numeric(2));
    if step == 0 {
        return Err(no_step());
    }
    let mut items = Vec::new();
    let mut at = from;
    while if step > 0 { at <= to } else { at >= to } {
        items.push(at);
        if items.len() > ITEMS_MAX {
            return Err(too_long());
        }
        at += step;
    }
    let array = Decimal128Array::from(items).with_precision_and_scale(38, scale).map_err(internal)?;
    Ok(Value::List(Arc::new(array)))
}

fn times(row: &Row<'_>) -> SqlResult<Value> {
    let (from, to, step) = (row.micros(0), row.micros(1), row.interval(2));
    let zoned = *row.kind(0) == crate::zset::PgType::Timestamptz;
    let zone = if zoned { row.style().zone } else { crate::functions::text::Zone::UTC };
    let direction = order(step);
    if direction == 0 {
        return Err(no_step());
    }
    let mut items = Vec::new();
    let mut at = from;
    while if direction > 0 { at <= to } else { at >= to } {
        items.push(at);
        if items.len() > ITEMS_MAX {
            return Err(too_long());
        }
        at = shift(at, step, &zone)?;
    }
    let array = PrimitiveArray::<TimestampMicrosecondType>::from(items);
    Ok(Value::List(Arc::new(if zoned { array.with_timezone("+00:00") } else { array })))
}

/// Microseconds of an interval, a month being 30 days.
fn order(step: IntervalMonthDayNano) -> i128 {
    let days = i128::from(step.months) * 30 + i128::from(step.days);
    days * 86_400_000_000 + i128::from(step.nanoseconds / 1000)
}

/// In which of the ranges between sorted thresholds a value lies.
fn bucket(row: &Row<'_>) -> SqlResult<Value> {
    let thresholds = row.list(1);
    let value = one(row, 0, thresholds.data_type())?;
    let compare = arrow::array::make_comparator(&thresholds, &value, arrow::compute::SortOptions::default());
    let compare = compare.map_err(internal)?;
    let below = (0..thresholds.len()).filter(|index| compare(*index, 0).is_le()).count();
    Ok(Value::Int(below as i64))
}
