//! Arrow arrays → PostgreSQL's binary formats (those of `typsend`), value by value into a byte buffer.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};

use super::calendar::*;
use super::number_out::{write_decimal128, write_decimal256};
use super::output::in_type_of;
use crate::error::SqlResult;
use crate::zset::PgType;

/// A column whose values can be written in binary.
#[derive(Debug, Clone)]
pub struct BinaryColumn {
    values: Values,
    nulls: Option<arrow::buffer::NullBuffer>,
}

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
    Jsonb(StringViewArray),
    Bytes(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    Uuid(FixedSizeBinaryArray),
    List { array: ListArray, items: Box<BinaryColumn>, item_oid: u32 },
}

impl BinaryColumn {
    /// Prepares a column for writing. An array of another Arrow type than the SQL type's own is cast first.
    pub fn new(array: &ArrayRef, pg_type: &PgType) -> SqlResult<BinaryColumn> {
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
            PgType::Bpchar(Some(length)) => Values::Text(super::output::filled_up(array.as_string_view(), *length)),
            PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Json => {
                Values::Text(array.as_string_view().clone())
            }
            PgType::Jsonb => Values::Jsonb(array.as_string_view().clone()),
            PgType::Bytea => Values::Bytes(array.as_binary_view().clone()),
            PgType::Date => Values::Date(array.as_primitive::<Date32Type>().clone()),
            PgType::Time => Values::Time(array.as_primitive::<Time64MicrosecondType>().clone()),
            PgType::Timestamp | PgType::Timestamptz => {
                Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            PgType::Interval => Values::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone()),
            PgType::Uuid => Values::Uuid(array.as_fixed_size_binary().clone()),
            PgType::Array(item) => {
                let array = array.as_list::<i32>().clone();
                let items = Box::new(BinaryColumn::new(array.values(), item)?);
                Values::List { array, items, item_oid: item.oid() }
            }
        };
        Ok(BinaryColumn { values, nulls })
    }

    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the bytes of a value that is not NULL, without their length.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        match &self.values {
            Values::Bool(array) => out.push(u8::from(array.value(row))),
            Values::Int2(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Int4(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Int8(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Oid(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Float4(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Float8(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Decimal128 { array, scale, trim } => {
                let mut text = Vec::with_capacity(48);
                write_decimal128(array.value(row), *scale, *trim, &mut text);
                write_numeric(&text, out);
            }
            Values::Decimal256 { array, scale } => {
                let mut text = Vec::with_capacity(96);
                write_decimal256(array.value(row), *scale, false, &mut text);
                write_numeric(&text, out);
            }
            Values::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Values::Jsonb(array) => {
                out.push(1);
                out.extend_from_slice(array.value(row).as_bytes());
            }
            Values::Bytes(array) => out.extend_from_slice(array.value(row)),
            Values::Date(array) => out.extend_from_slice(&date_from_2000(array.value(row)).to_be_bytes()),
            Values::Time(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Values::Timestamp(array) => out.extend_from_slice(&micros_from_2000(array.value(row)).to_be_bytes()),
            Values::Interval(array) => {
                let interval = array.value(row);
                out.extend_from_slice(&(interval.nanoseconds / 1_000).to_be_bytes());
                out.extend_from_slice(&interval.days.to_be_bytes());
                out.extend_from_slice(&interval.months.to_be_bytes());
            }
            Values::Uuid(array) => out.extend_from_slice(array.value(row)),
            Values::List { array, items, item_oid } => {
                let offsets = array.value_offsets();
                write_list(items, offsets[row] as usize..offsets[row + 1] as usize, *item_oid, out);
            }
        }
    }

    /// Appends the value's length and bytes, or -1 for NULL.
    pub fn write_field(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(&(-1i32).to_be_bytes());
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.write(row, out);
        let length = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

fn date_from_2000(days: i32) -> i32 {
    match days {
        DATE_INFINITY | DATE_MINUS_INFINITY => days,
        days => days.saturating_sub(POSTGRES_EPOCH_DAYS),
    }
}

fn micros_from_2000(micros: i64) -> i64 {
    match micros {
        TIMESTAMP_INFINITY | TIMESTAMP_MINUS_INFINITY => micros,
        micros => micros.saturating_sub(POSTGRES_EPOCH_MICROS),
    }
}

/// Number of dimensions, has-nulls flag, OID of the items; per dimension length and lower bound; then the items.
fn write_list(items: &BinaryColumn, range: std::ops::Range<usize>, item_oid: u32, out: &mut Vec<u8>) {
    let has_nulls = range.clone().any(|item| items.is_null(item));
    out.extend_from_slice(&i32::from(!range.is_empty()).to_be_bytes());
    out.extend_from_slice(&i32::from(has_nulls).to_be_bytes());
    out.extend_from_slice(&item_oid.to_be_bytes());
    if range.is_empty() {
        return;
    }
    out.extend_from_slice(&(range.len() as i32).to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    for item in range {
        items.write_field(item, out);
    }
}

/// Turns the decimal text of a numeric into PostgreSQL's digits of base 10,000:
/// their count, the weight of the first, the sign, the digits behind the point, and the digits.
fn write_numeric(text: &[u8], out: &mut Vec<u8>) {
    let (negative, body) = match text.split_first() {
        Some((b'-', body)) => (true, body),
        _ => (false, text),
    };
    let point = body.iter().position(|byte| *byte == b'.').unwrap_or(body.len());
    let (whole, fraction) = (&body[..point], body.get(point + 1..).unwrap_or(&[]));
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    // The first group may be short, the last is filled up with zeros.
    let (head, groups) = whole.split_at(whole.len() % 4);
    let mut weight = whole.len().div_ceil(4) as i16 - 1;
    let group = |digits: &[u8]| digits.iter().fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let tail = |digits: &[u8]| group(digits) * 10u16.pow(4 - digits.len() as u32);
    let head = (!head.is_empty()).then(|| group(head));
    let digits = head.into_iter().chain(groups.chunks(4).map(group)).chain(fraction.chunks(4).map(tail));
    let first_digit = out.len();
    for digit in digits {
        match out.len() == first_digit && digit == 0 {
            true => weight -= 1,
            false => out.extend_from_slice(&digit.to_be_bytes()),
        }
    }
    while out.len() > first_digit && out.ends_with(&[0, 0]) {
        out.truncate(out.len() - 2);
    }
    let count = (out.len() - first_digit) / 2;
    let weight = if count == 0 { 0 } else { weight };
    let sign: u16 = if negative { 0x4000 } else { 0 };
    out[start..start + 2].copy_from_slice(&(count as u16).to_be_bytes());
    out[start + 2..start + 4].copy_from_slice(&weight.to_be_bytes());
    out[start + 4..start + 6].copy_from_slice(&sign.to_be_bytes());
    out[start + 6..start + 8].copy_from_slice(&(fraction.len() as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{ColumnBuilder, TextStyle, parse_texts, texts};
    use super::*;

    fn binary(name: &str, text: &str) -> Vec<u8> {
        let pg_type = PgType::parse(name).expect(name);
        let array = parse_texts(std::iter::once(Some(text)), &pg_type, TextStyle::default()).expect(text);
        let mut out = Vec::new();
        BinaryColumn::new(&array, &pg_type).expect("writable").write(0, &mut out);
        out
    }

    #[test]
    fn numerics_are_groups_of_four_digits() {
        assert_eq!(binary("numeric(10,2)", "1.50"), [0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0x13, 0x88]);
        assert_eq!(binary("numeric(10,2)", "0"), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(binary("numeric", "-12345"), [0, 2, 0, 1, 0x40, 0, 0, 0, 0, 1, 0x09, 0x29]);
        assert_eq!(binary("numeric", "0.0001"), [0, 1, 0xff, 0xff, 0, 0, 0, 4, 0, 1]);
        assert_eq!(binary("numeric", "10000"), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn dates_count_from_2000() {
        assert_eq!(binary("date", "2000-01-02"), 1i32.to_be_bytes());
        assert_eq!(binary("timestamp", "2000-01-01 00:00:00.000001"), 1i64.to_be_bytes());
        assert_eq!(binary("timestamptz", "infinity"), i64::MAX.to_be_bytes());
    }

    #[test]
    fn every_type_survives_binary() {
        let cases = [
            ("boolean", "t"),
            ("smallint", "-7"),
            ("integer", "42"),
            ("bigint", "9223372036854775807"),
            ("oid", "4294967295"),
            ("real", "1.5"),
            ("double precision", "-0.1"),
            ("numeric", "-1234567.00012"),
            ("numeric", "0"),
            ("numeric(38,0)", "99999999999999999999999999999999999999"),
            ("numeric(10,3)", "0.001"),
            ("numeric(76,10)", "-123456789012345678901234567890123456789012345678901234.0000000001"),
            ("text", "héllo"),
            ("varchar(5)", "abc"),
            ("bytea", "\\xdead"),
            ("date", "0044-03-15 BC"),
            ("date", "-infinity"),
            ("time", "04:05:06.7"),
            ("timestamp", "1999-12-31 23:59:59.999999"),
            ("timestamptz", "2024-01-31 02:05:06+00"),
            ("interval", "1 year 2 mons -3 days +04:05:06.7"),
            ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("json", "{ \"b\":1}"),
            ("jsonb", "{\"b\": 1}"),
            ("integer[]", "{1,NULL,3}"),
            ("text[]", "{}"),
            ("numeric[]", "{1.5,-2}"),
        ];
        for (name, text) in cases {
            let pg_type = PgType::parse(name).expect(name);
            let mut builder = ColumnBuilder::new(&pg_type, TextStyle::default(), 2);
            builder.append_binary(&binary(name, text)).expect(name);
            builder.append_null();
            let array = builder.finish();
            assert_eq!(array.data_type(), &pg_type.arrow());
            let read = texts(&array, &pg_type, &TextStyle::default()).expect("printable");
            assert_eq!(read, [Some(text.to_string()), None], "{name}");
        }
    }

    #[test]
    fn malformed_binary_values_are_refused() {
        let cases: [(&str, &[u8]); 12] = [
            ("boolean", &[]),
            ("integer", &[0; 3]),
            ("bigint", &[0; 9]),
            ("numeric", &[0, 1, 0, 0, 0, 0, 0, 0]),
            ("numeric", &[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            ("numeric", &[0, 0, 0, 0, 0xc0, 0, 0, 0]),
            ("text", &[0xff, 0xfe]),
            ("jsonb", &[2, b'1']),
            ("uuid", &[0; 15]),
            ("integer[]", &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0x7f, 0, 0, 0, 0, 0, 0, 1]),
            ("integer[]", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]),
            ("date", &[0x7f, 0xff, 0xff, 0xfe]),
        ];
        for (name, bytes) in cases {
            let mut builder = ColumnBuilder::new(&PgType::parse(name).expect(name), TextStyle::default(), 1);
            assert!(builder.append_binary(bytes).is_err(), "{name} {bytes:?}");
        }
    }
}
