//! Arrow arrays → text, value by value into a byte buffer.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};

use super::TextStyle;
use super::array::write_item;
use super::bytes::{write_bytea, write_uuid};
use super::datetime_out::{write_date, write_interval, write_time, write_timestamp, write_timestamptz};
use super::number_out::{write_decimal128, write_decimal256, write_float4, write_float8, write_int};
use super::zone::Zone;
use crate::error::{SqlError, SqlResult};
use crate::zset::PgType;

/// A column whose values can be printed.
#[derive(Debug, Clone)]
pub struct TextColumn {
    values: Values,
    nulls: Option<arrow::buffer::NullBuffer>,
}

/// The column in its own type: one match per value, none per digit.
#[derive(Debug, Clone)]
enum Values {
    Bool(BooleanArray),
    Int2(Int16Array),
    Int4(Int32Array),
    Int8(Int64Array),
    Oid(UInt32Array),
    Float4(Float32Array),
    Float8(Float64Array),
    Decimal128 { array: Decimal128Array, scale: i8, trim: bool },
    Decimal256 { array: Decimal256Array, scale: i8 },
    Text(StringViewArray),
    Bytes(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Timestamptz(TimestampMicrosecondArray, Zone),
    Interval(IntervalMonthDayNanoArray),
    Uuid(FixedSizeBinaryArray),
    List { array: ListArray, items: Box<TextColumn>, nested: bool },
}

/// The array in the Arrow type of an SQL type; most arrays are already.
pub(super) fn in_type_of(array: &ArrayRef, pg_type: &PgType) -> SqlResult<ArrayRef> {
    let wanted = pg_type.arrow();
    if *array.data_type() == wanted || same_list(array.data_type(), &wanted) {
        return Ok(array.clone());
    }
    arrow::compute::cast(array, &wanted)
        .map_err(|error| SqlError::internal(format!("a column of type {pg_type} cannot be printed: {error}")))
}

/// The values of a `char(n)` as they are shown: filled up with blanks.
pub(super) fn filled_up(array: &StringViewArray, length: u32) -> StringViewArray {
    let mut texts = arrow::array::StringViewBuilder::with_capacity(array.len());
    for text in array {
        match text {
            Some(text) => {
                let blanks = (length as usize).saturating_sub(text.chars().count());
                texts.append_value(format!("{text}{:blanks$}", ""));
            }
            None => texts.append_null(),
        }
    }
    texts.finish()
}

/// Lists that differ in nothing but the name and nullability of their item.
fn same_list(found: &DataType, wanted: &DataType) -> bool {
    match (found, wanted) {
        (DataType::List(found), DataType::List(wanted)) => {
            found.data_type() == wanted.data_type() || same_list(found.data_type(), wanted.data_type())
        }
        _ => false,
    }
}

impl TextColumn {
    /// Prepares a column for printing. An array of another Arrow type than the SQL type's own is cast first.
    pub fn new(array: &ArrayRef, pg_type: &PgType, style: &TextStyle) -> SqlResult<TextColumn> {
        let array = in_type_of(array, pg_type)?;
        let nulls = array.logical_nulls();
        let values = match pg_type {
            PgType::Bool => Values::Bool(array.as_boolean().clone()),
            PgType::Int2 => Values::Int2(array.as_primitive::<Int16Type>().clone()),
            PgType::Int4 => Values::Int4(array.as_primitive::<Int32Type>().clone()),
            PgType::Int8 => Values::Int8(array.as_primitive::<Int64Type>().clone()),
            PgType::Oid => Values::Oid(array.as_primitive::<UInt32Type>().clone()),
            PgType::Float4 => Values::Float4(array.as_primitive::<Float32Type>().clone()),
            PgType::Float8 => Values::Float8(array.as_primitive::<Float64Type>().clone()),
            PgType::Numeric(declared) => match array.data_type() {
                DataType::Decimal256(_, scale) => {
                    Values::Decimal256 { scale: *scale, array: array.as_primitive::<Decimal256Type>().clone() }
                }
                _ => {
                    let array = array.as_primitive::<Decimal128Type>().clone();
                    Values::Decimal128 { scale: array.scale(), trim: declared.is_none(), array }
                }
            },
            PgType::Bpchar(Some(length)) => Values::Text(filled_up(array.as_string_view(), *length)),
            PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Json | PgType::Jsonb => {
                Values::Text(array.as_string_view().clone())
            }
            PgType::Bytea => Values::Bytes(array.as_binary_view().clone()),
            PgType::Date => Values::Date(array.as_primitive::<Date32Type>().clone()),
            PgType::Time => Values::Time(array.as_primitive::<Time64MicrosecondType>().clone()),
            PgType::Timestamp => Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone()),
            PgType::Timestamptz => {
                Values::Timestamptz(array.as_primitive::<TimestampMicrosecondType>().clone(), style.zone)
            }
            PgType::Interval => Values::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone()),
            PgType::Uuid => Values::Uuid(array.as_fixed_size_binary().clone()),
            PgType::Array(item) => {
                let array = array.as_list::<i32>().clone();
                let items = Box::new(TextColumn::new(array.values(), item, style)?);
                Values::List { items, nested: matches!(**item, PgType::Array(_)), array }
            }
        };
        Ok(TextColumn { values, nulls })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the text of a value that is not NULL.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Bool(array) => out.push(if array.value(row) { b't' } else { b'f' }),
            Values::Int2(array) => write_int(i64::from(array.value(row)), out),
            Values::Int4(array) => write_int(i64::from(array.value(row)), out),
            Values::Int8(array) => write_int(array.value(row), out),
            Values::Oid(array) => write_int(i64::from(array.value(row)), out),
            Values::Float4(array) => write_float4(array.value(row), out),
            Values::Float8(array) => write_float8(array.value(row), out),
            Values::Decimal128 { array, scale, trim } => write_decimal128(array.value(row), *scale, *trim, out),
            Values::Decimal256 { array, scale } => write_decimal256(array.value(row), *scale, false, out),
            Values::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::Bytes(array) => write_bytea(array.value(row), out),
            Values::Date(array) => write_date(array.value(row), out),
            Values::Time(array) => write_time(array.value(row), out),
            Values::Timestamp(array) => write_timestamp(array.value(row), out),
            Values::Timestamptz(array, zone) => write_timestamptz(array.value(row), zone, out),
            Values::Interval(array) => write_interval(array.value(row), out),
            Values::Uuid(array) => write_uuid(array.value(row), out),
            Values::List { array, items, nested } => {
                let offsets = array.value_offsets();
                write_list(items, offsets[row] as usize..offsets[row + 1] as usize, *nested, out);
            }
        }
    }
}

fn write_list(items: &TextColumn, range: std::ops::Range<usize>, nested: bool, out: &mut Vec<u8>) {
    let first = range.start;
    let mut text = Vec::new();
    out.push(b'{');
    for item in range {
        if item > first {
            out.push(b',');
        }
        if items.is_null(item) {
            out.extend_from_slice(b"NULL");
        } else if nested {
            items.write(item, out);
        } else {
            text.clear();
            items.write(item, &mut text);
            write_item(&text, out);
        }
    }
    out.push(b'}');
}

/// The texts of a whole column; NULL is `None`.
pub fn texts(array: &ArrayRef, pg_type: &PgType, style: &TextStyle) -> SqlResult<Vec<Option<String>>> {
    let column = TextColumn::new(array, pg_type, style)?;
    let text = |row| {
        let mut out = Vec::new();
        column.write(row, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    Ok((0..array.len()).map(|row| (!column.is_null(row)).then(|| text(row))).collect())
}

/// A column as the array of its texts: what `CAST(x AS text)` gives, but for `boolean`, whose cast spells `true`.
pub fn array_text(array: &ArrayRef, pg_type: &PgType, style: &TextStyle) -> SqlResult<StringViewArray> {
    let column = TextColumn::new(array, pg_type, style)?;
    let mut builder = arrow::array::StringViewBuilder::with_capacity(array.len());
    let mut out = Vec::new();
    for row in 0..array.len() {
        if column.is_null(row) {
            builder.append_null();
            continue;
        }
        out.clear();
        column.write(row, &mut out);
        builder.append_value(std::str::from_utf8(&out).expect("every type prints UTF-8"));
    }
    Ok(builder.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int8Array, StringArray, TimestampNanosecondArray, UInt64Array};

    use super::*;

    fn print(array: impl Array + 'static, pg_type: PgType) -> Vec<Option<String>> {
        texts(&(Arc::new(array) as ArrayRef), &pg_type, &TextStyle::default()).expect("printable")
    }

    #[test]
    fn foreign_arrow_types_print_as_the_sql_type_they_stand_for() {
        let one = |text: &str| vec![Some(text.to_string())];
        assert_eq!(print(Int8Array::from(vec![5]), PgType::Int2), one("5"));
        assert_eq!(
            print(UInt64Array::from(vec![u64::MAX]), PgType::Numeric(Some((20, 0)))),
            one("18446744073709551615")
        );
        assert_eq!(print(StringArray::from(vec!["x"]), PgType::Text), one("x"));
        assert_eq!(
            print(TimestampNanosecondArray::from(vec![1_000]), PgType::Timestamp),
            one("1970-01-01 00:00:00.000001")
        );
        assert_eq!(print(arrow::array::NullArray::new(1), PgType::Text), vec![None]);
    }
}
