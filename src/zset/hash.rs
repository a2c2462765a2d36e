//! The 64-bit hash of a row's key columns: the one order for routing, indexing, storing and splitting.
//!
//! The hash is part of the disk format: the algorithm and its constants are fixed (version 1, `docs/formats.md`).
//! Values that SQL's grouping holds for equal have equal hashes: NULL with NULL, -0.0 with 0.0, NaN with NaN,
//! `1 month` with `30 days`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, make_array};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::row::{RowConverter, SortField};
use xxhash_rust::xxh3::xxh3_64;

use super::Rows;

/// The hash of a key of no columns.
pub const KEYLESS_HASH: u64 = 0x9e37_79b9_7f4a_7c15;

const NULL_HASH: u64 = 0x5851_f42d_4c95_7f2d;

/// The finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[inline]
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// One hash for each of `rows` rows of `columns`, which all have that length.
pub fn row_hashes(columns: &[ArrayRef], rows: usize) -> Vec<u64> {
    let mut hashes = vec![KEYLESS_HASH; rows];
    for (index, column) in columns.iter().enumerate() {
        assert_eq!(column.len(), rows, "key columns are as long as their batch");
        hash_column(column, &mut hashes, index == 0);
    }
    hashes
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64], first: bool) {
    macro_rules! ints {
        ($type:ty) => {{
            let array = column.as_primitive::<$type>();
            let values = array.values();
            fold(array, hashes, first, |row| mix(values[row] as i64 as u64))
        }};
    }
    match column.data_type() {
        DataType::Boolean => {
            let array = column.as_boolean();
            fold(array, hashes, first, |row| mix(u64::from(array.value(row))))
        }
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::UInt8 => ints!(UInt8Type),
        DataType::UInt16 => ints!(UInt16Type),
        DataType::UInt32 => ints!(UInt32Type),
        DataType::UInt64 => ints!(UInt64Type),
        DataType::Date32 => ints!(Date32Type),
        DataType::Date64 => ints!(Date64Type),
        DataType::Time64(TimeUnit::Microsecond) => ints!(Time64MicrosecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => ints!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => ints!(TimestampNanosecondType),
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>().values();
            fold(column, hashes, first, |row| mix(float_bits(f64::from(values[row]))))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().values();
            fold(column, hashes, first, |row| mix(float_bits(values[row])))
        }
        DataType::Decimal128(_, _) => {
            let values = column.as_primitive::<Decimal128Type>().values();
            fold(column, hashes, first, |row| wide(values[row]))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let values = column.as_primitive::<IntervalMonthDayNanoType>().values();
            fold(column, hashes, first, |row| wide(interval_length(values[row])))
        }
        DataType::Utf8 => {
            let array = column.as_string::<i32>();
            fold(array, hashes, first, |row| xxh3_64(array.value(row).as_bytes()))
        }
        DataType::LargeUtf8 => {
            let array = column.as_string::<i64>();
            fold(array, hashes, first, |row| xxh3_64(array.value(row).as_bytes()))
        }
        DataType::Utf8View => {
            let array = column.as_string_view();
            fold(array, hashes, first, |row| xxh3_64(array.value(row).as_bytes()))
        }
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            fold(array, hashes, first, |row| xxh3_64(array.value(row)))
        }
        DataType::BinaryView => {
            let array = column.as_binary_view();
            fold(array, hashes, first, |row| xxh3_64(array.value(row)))
        }
        DataType::FixedSizeBinary(_) => {
            let array = column.as_fixed_size_binary();
            fold(array, hashes, first, |row| xxh3_64(array.value(row)))
        }
        DataType::Null => fold(column, hashes, first, |_| NULL_HASH),
        other => {
            // Nested and rare types go through Arrow's row format, in which identical values have equal bytes.
            let converter = RowConverter::new(vec![SortField::new(other.clone())]);
            let rows = converter
                .and_then(|converter| converter.convert_columns(&[canonical(column)]))
                .expect("every SQL type has a row format");
            fold(column, hashes, first, |row| xxh3_64(rows.row(row).as_ref()))
        }
    }
}

/// An interval in nanoseconds, a month taken as 30 days, as grouping and ordering see it.
#[inline]
pub fn interval_length(span: IntervalMonthDayNano) -> i128 {
    let days = i128::from(span.months) * 30 + i128::from(span.days);
    days * 86_400_000_000_000 + i128::from(span.nanoseconds)
}

/// The column with every value replaced by one that stands for all that are equal to it in SQL's grouping.
pub fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => {
            let canonical = |value: f32| if value.is_nan() { f32::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical))
        }
        DataType::Float64 => {
            let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let spans = column.as_primitive::<IntervalMonthDayNanoType>();
            let canonical = |span: IntervalMonthDayNano| {
                let (day, length) = (86_400_000_000_000, interval_length(span));
                // The greatest interval has 2^31 months of 30 days, which fit neither days nor months alone.
                let (months, rest) = (length.div_euclid(30 * day), length.rem_euclid(30 * day));
                IntervalMonthDayNano::new(months as i32, (rest / day) as i32, (rest % day) as i64)
            };
            Arc::new(spans.unary::<_, IntervalMonthDayNanoType>(canonical))
        }
        kind if kind.is_nested() => {
            let data = column.to_data();
            let children = data.child_data().iter().map(|child| canonical(&make_array(child.clone())).to_data());
            let data = data.clone().into_builder().child_data(children.collect()).build();
            make_array(data.expect("the children keep their types and lengths"))
        }
        _ => column.clone(),
    }
}

/// Columns of the rows with every value in canonical form.
pub fn canonical_columns(rows: &Rows, columns: &[usize]) -> RecordBatch {
    let batch = rows.batch().project(columns).expect("the columns are columns of the rows");
    let values = batch.columns().iter().map(canonical).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), values, &options).expect("a canonical value is of the same type")
}

fn wide(value: i128) -> u64 {
    let low = mix(value as u64);
    let high = (value >> 64) as u64;
    // Most values fit 64 bits: their high half is all zeros or all ones.
    if high == 0 { low } else { mix(low ^ mix(high)) }
}

fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

#[inline]
fn fold(array: &dyn Array, hashes: &mut [u64], first: bool, hash: impl Fn(usize) -> u64) {
    let nulls = array.logical_nulls();
    let value = |row: usize| match &nulls {
        Some(nulls) if nulls.is_null(row) => NULL_HASH,
        _ => hash(row),
    };
    if first {
        hashes.iter_mut().enumerate().for_each(|(row, slot)| *slot = value(row));
    } else {
        hashes.iter_mut().enumerate().for_each(|(row, slot)| *slot = mix(slot.rotate_left(23) ^ value(row)));
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringViewArray};

    use super::*;

    fn hash_of(column: ArrayRef) -> Vec<u64> {
        let rows = column.len();
        row_hashes(&[column], rows)
    }

    #[test]
    fn values_equal_in_grouping_have_equal_hashes() {
        let hashes = hash_of(Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0])));
        assert_eq!(hashes[0], hashes[1]);
        assert_eq!(hashes[2], hashes[3]);
        assert_ne!(hashes[0], hashes[4]);
        let narrow = hash_of(Arc::new(Int32Array::from(vec![-7])));
        assert_eq!(narrow, hash_of(Arc::new(Int64Array::from(vec![-7]))));
    }

    #[test]
    fn hashes_never_change_because_files_hold_them() {
        let text = hash_of(Arc::new(StringViewArray::from(vec!["headwater"])));
        let number = hash_of(Arc::new(Int64Array::from(vec![42])));
        assert_eq!((text[0], number[0]), (xxh3_64(b"headwater"), mix(42)));
        assert_eq!(mix(42), 0xbdd7_3226_2feb_6e95);
    }
}
