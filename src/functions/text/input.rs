//! Text → Arrow arrays, whole columns at a time.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanBuilder, FixedSizeBinaryArray, ListArray, NullBufferBuilder, PrimitiveBuilder,
    StringViewBuilder,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};

use super::TextStyle;
use super::array::split_array;
use super::bytes::{parse_bytea, parse_uuid};
use super::datetime_in::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
use super::interval::parse_interval;
use super::json::{canonical_jsonb, check_json};
use super::number_in::{NumericForm, parse_decimal128, parse_decimal256, parse_float4, parse_float8, parse_int, trim};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

/// The value of one row that could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct RowError {
    /// Index of the row among those given.
    pub row: usize,
    pub error: SqlError,
}

/// Makes an array of an SQL type from texts or binary values.
pub struct ColumnBuilder {
    pub(super) pg_type: PgType,
    style: TextStyle,
    pub(super) values: Values,
    scratch: String,
}

/// The array under construction.
pub(super) enum Values {
    Bool(BooleanBuilder),
    Int2(PrimitiveBuilder<Int16Type>),
    Int4(PrimitiveBuilder<Int32Type>),
    Int8(PrimitiveBuilder<Int64Type>),
    Oid(PrimitiveBuilder<UInt32Type>),
    Float4(PrimitiveBuilder<Float32Type>),
    Float8(PrimitiveBuilder<Float64Type>),
    Decimal128(PrimitiveBuilder<Decimal128Type>, NumericForm),
    Decimal256(PrimitiveBuilder<Decimal256Type>, NumericForm),
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Interval(PrimitiveBuilder<IntervalMonthDayNanoType>),
    Uuid(Vec<u8>, NullBufferBuilder),
    List(Box<ListValues>),
}

/// A list under construction.
pub(super) struct ListValues {
    pub items: ColumnBuilder,
    pub ends: Vec<i32>,
    pub nulls: NullBufferBuilder,
}

/// How a numeric type counts its digits.
pub fn numeric_form(declared: Option<(u8, i8)>) -> NumericForm {
    match declared {
        Some((precision, scale)) => NumericForm { precision, scale, declared: true },
        None => NumericForm { precision: 38, scale: crate::zset::NUMERIC_SCALE, declared: false },
    }
}

impl Values {
    fn new(pg_type: &PgType, style: TextStyle, rows: usize) -> Values {
        let data_type = pg_type.arrow();
        match pg_type {
            PgType::Bool => Values::Bool(BooleanBuilder::with_capacity(rows)),
            PgType::Int2 => Values::Int2(PrimitiveBuilder::with_capacity(rows)),
            PgType::Int4 => Values::Int4(PrimitiveBuilder::with_capacity(rows)),
            PgType::Int8 => Values::Int8(PrimitiveBuilder::with_capacity(rows)),
            PgType::Oid => Values::Oid(PrimitiveBuilder::with_capacity(rows)),
            PgType::Float4 => Values::Float4(PrimitiveBuilder::with_capacity(rows)),
            PgType::Float8 => Values::Float8(PrimitiveBuilder::with_capacity(rows)),
            PgType::Numeric(declared) if matches!(data_type, DataType::Decimal128(..)) => Values::Decimal128(
                PrimitiveBuilder::with_capacity(rows).with_data_type(data_type),
                numeric_form(*declared),
            ),
            PgType::Numeric(declared) => Values::Decimal256(
                PrimitiveBuilder::with_capacity(rows).with_data_type(data_type),
                numeric_form(*declared),
            ),
            PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Json | PgType::Jsonb => {
                Values::Text(StringViewBuilder::with_capacity(rows))
            }
            PgType::Bytea => Values::Bytes(BinaryViewBuilder::with_capacity(rows)),
            PgType::Date => Values::Date(PrimitiveBuilder::with_capacity(rows)),
            PgType::Time => Values::Time(PrimitiveBuilder::with_capacity(rows)),
            PgType::Timestamp | PgType::Timestamptz => {
                Values::Timestamp(PrimitiveBuilder::with_capacity(rows).with_data_type(data_type))
            }
            PgType::Interval => Values::Interval(PrimitiveBuilder::with_capacity(rows)),
            PgType::Uuid => Values::Uuid(Vec::with_capacity(rows * 16), NullBufferBuilder::new(rows)),
            PgType::Array(item) => Values::List(Box::new(ListValues {
                items: ColumnBuilder::new(item, style, rows),
                ends: vec![0],
                nulls: NullBufferBuilder::new(rows),
            })),
        }
    }
}

/// Hands text after text to `append`; a failure carries the index of its row.
fn each<'a>(
    texts: impl Iterator<Item = Option<&'a str>>,
    mut append: impl FnMut(Option<&'a str>) -> SqlResult<()>,
) -> Result<(), RowError> {
    for (row, text) in texts.enumerate() {
        append(text).map_err(|error| RowError { row, error })?;
    }
    Ok(())
}

macro_rules! append_parsed {
    ($texts:expr, $builder:expr, |$text:ident| $parse:expr) => {
        each($texts, |text| {
            match text {
                Some($text) => $builder.append_value($parse?),
                None => $builder.append_null(),
            }
            Ok(())
        })
    };
}

impl ColumnBuilder {
    pub fn new(pg_type: &PgType, style: TextStyle, rows: usize) -> ColumnBuilder {
        let values = Values::new(pg_type, style, rows);
        ColumnBuilder { pg_type: pg_type.clone(), style, values, scratch: String::new() }
    }

    /// Appends one text.
    pub fn append_text(&mut self, text: &str) -> SqlResult<()> {
        self.append_texts(std::iter::once(Some(text))).map_err(|failure| failure.error)
    }

    pub fn append_null(&mut self) {
        let appended = self.append_texts(std::iter::once(None));
        appended.expect("a NULL belongs to every type");
    }

    /// Appends a text or NULL per row. After a failure the rows before it have been appended.
    pub fn append_texts<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) -> Result<(), RowError> {
        let style = &self.style;
        match &mut self.values {
            Values::Bool(builder) => append_parsed!(texts, builder, |text| parse_bool(text)),
            Values::Int2(builder) => append_parsed!(texts, builder, |text| {
                parse_int(text, "smallint", i64::from(i16::MIN), i64::from(i16::MAX)).map(|value| value as i16)
            }),
            Values::Int4(builder) => append_parsed!(texts, builder, |text| {
                parse_int(text, "integer", i64::from(i32::MIN), i64::from(i32::MAX)).map(|value| value as i32)
            }),
            Values::Int8(builder) => {
                append_parsed!(texts, builder, |text| parse_int(text, "bigint", i64::MIN, i64::MAX))
            }
            Values::Oid(builder) => append_parsed!(texts, builder, |text| {
                parse_int(text, "oid", i64::from(i32::MIN), i64::from(u32::MAX)).map(|value| value as u32)
            }),
            Values::Float4(builder) => append_parsed!(texts, builder, |text| parse_float4(text)),
            Values::Float8(builder) => append_parsed!(texts, builder, |text| parse_float8(text)),
            Values::Decimal128(builder, form) => append_parsed!(texts, builder, |text| parse_decimal128(text, *form)),
            Values::Decimal256(builder, form) => append_parsed!(texts, builder, |text| parse_decimal256(text, *form)),
            Values::Text(builder) => append_strings(&self.pg_type, &mut self.scratch, builder, texts),
            Values::Bytes(builder) => {
                let mut bytes = Vec::new();
                append_parsed!(texts, builder, |text| {
                    bytes.clear();
                    parse_bytea(text, &mut bytes).map(|()| &bytes)
                })
            }
            Values::Date(builder) => append_parsed!(texts, builder, |text| parse_date(text, style)),
            Values::Time(builder) => append_parsed!(texts, builder, |text| parse_time(text, style)),
            Values::Timestamp(builder) if self.pg_type == PgType::Timestamptz => {
                append_parsed!(texts, builder, |text| parse_timestamptz(text, style))
            }
            Values::Timestamp(builder) => append_parsed!(texts, builder, |text| parse_timestamp(text, style)),
            Values::Interval(builder) => append_parsed!(texts, builder, |text| parse_interval(text)),
            Values::Uuid(bytes, nulls) => each(texts, |text| {
                let uuid = text.map(parse_uuid).transpose()?;
                bytes.extend_from_slice(&uuid.unwrap_or_default());
                nulls.append(uuid.is_some());
                Ok(())
            }),
            Values::List(list) => each(texts, |text| list.append(text)),
        }
    }

    /// The array of everything appended; the builder is empty again.
    pub fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Bool(builder) => Arc::new(builder.finish()),
            Values::Int2(builder) => Arc::new(builder.finish()),
            Values::Int4(builder) => Arc::new(builder.finish()),
            Values::Int8(builder) => Arc::new(builder.finish()),
            Values::Oid(builder) => Arc::new(builder.finish()),
            Values::Float4(builder) => Arc::new(builder.finish()),
            Values::Float8(builder) => Arc::new(builder.finish()),
            Values::Decimal128(builder, _) => Arc::new(builder.finish()),
            Values::Decimal256(builder, _) => Arc::new(builder.finish()),
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::Bytes(builder) => Arc::new(builder.finish()),
            Values::Date(builder) => Arc::new(builder.finish()),
            Values::Time(builder) => Arc::new(builder.finish()),
            Values::Timestamp(builder) => Arc::new(builder.finish()),
            Values::Interval(builder) => Arc::new(builder.finish()),
            Values::Uuid(bytes, nulls) => {
                let values = Buffer::from_vec(std::mem::take(bytes));
                Arc::new(FixedSizeBinaryArray::new(16, values, nulls.finish()))
            }
            Values::List(list) => list.finish(),
        }
    }

    /// Rows appended since the last `finish`.
    pub fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match &self.values {
            Values::Bool(builder) => builder.len(),
            Values::Int2(builder) => builder.len(),
            Values::Int4(builder) => builder.len(),
            Values::Int8(builder) => builder.len(),
            Values::Oid(builder) => builder.len(),
            Values::Float4(builder) => builder.len(),
            Values::Float8(builder) => builder.len(),
            Values::Decimal128(builder, _) => builder.len(),
            Values::Decimal256(builder, _) => builder.len(),
            Values::Text(builder) => builder.len(),
            Values::Bytes(builder) => builder.len(),
            Values::Date(builder) => builder.len(),
            Values::Time(builder) => builder.len(),
            Values::Timestamp(builder) => builder.len(),
            Values::Interval(builder) => builder.len(),
            Values::Uuid(bytes, _) => bytes.len() / 16,
            Values::List(list) => list.ends.len() - 1,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ListValues {
    fn append(&mut self, text: Option<&str>) -> SqlResult<()> {
        if let Some(text) = text {
            for item in split_array(text)? {
                match item {
                    Some(item) if item.starts_with('{') && !self.items_are_arrays() => {
                        self.append_braced(text, &item)?
                    }
                    Some(item) => self.items.append_text(&item)?,
                    None => self.items.append_null(),
                }
            }
        }
        self.end_row(text.is_some());
        Ok(())
    }

    fn items_are_arrays(&self) -> bool {
        matches!(self.items.pg_type, PgType::Array(_))
    }

    /// A braced item of a flat array: json text may begin so, anything else is a second dimension.
    fn append_braced(&mut self, text: &str, item: &str) -> SqlResult<()> {
        self.items.append_text(item).map_err(|_| {
            SqlError::unsupported(
                format!("arrays of more than one dimension are not supported: \"{text}\""),
                "Use json, or one array per row.",
            )
        })
    }

    /// Closes a row over the items appended since the last.
    pub(super) fn end_row(&mut self, valid: bool) {
        self.ends.push(self.items.len() as i32);
        self.nulls.append(valid);
    }

    fn finish(&mut self) -> ArrayRef {
        let field = Arc::new(self.items.pg_type.field("item", true));
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.ends, vec![0]).into());
        Arc::new(ListArray::new(field, offsets, self.items.finish(), self.nulls.finish()))
    }
}

/// Reads a whole column of texts.
pub fn parse_texts<'a>(
    texts: impl Iterator<Item = Option<&'a str>>,
    pg_type: &PgType,
    style: TextStyle,
) -> Result<ArrayRef, RowError> {
    let mut builder = ColumnBuilder::new(pg_type, style, texts.size_hint().0);
    builder.append_texts(texts)?;
    Ok(builder.finish())
}

/// The types that are kept as text, with what each demands of it.
fn append_strings<'a>(
    pg_type: &PgType,
    scratch: &mut String,
    builder: &mut StringViewBuilder,
    texts: impl Iterator<Item = Option<&'a str>>,
) -> Result<(), RowError> {
    each(texts, |text| {
        let Some(text) = text else {
            builder.append_null();
            return Ok(());
        };
        let value = match pg_type {
            PgType::Varchar(Some(length)) => fit_varchar(text, *length)?,
            PgType::Bpchar(length) => fit_bpchar(text, *length)?,
            PgType::Name => cut_name(text),
            PgType::Json => {
                check_json(text)?;
                text
            }
            PgType::Jsonb => {
                scratch.clear();
                canonical_jsonb(text, scratch)?;
                scratch.as_str()
            }
            _ => text,
        };
        builder.append_value(value);
        Ok(())
    })
}

/// Longer values are refused, unless only spaces are too many.
fn fit_varchar(text: &str, length: u32) -> SqlResult<&str> {
    cut_spaces(text, length, || format!("character varying({length})"))
}

/// As `varchar`, without the blanks at the end: they count for nothing, and are shown again by what prints the value.
fn fit_bpchar(text: &str, length: Option<u32>) -> SqlResult<&str> {
    let cut = match length {
        Some(length) => cut_spaces(text, length, || format!("character({length})"))?,
        None => text,
    };
    Ok(cut.trim_end_matches(' '))
}

fn cut_spaces(text: &str, length: u32, type_name: impl FnOnce() -> String) -> SqlResult<&str> {
    if text.len() <= length as usize {
        return Ok(text);
    }
    let Some((end, _)) = text.char_indices().nth(length as usize) else { return Ok(text) };
    match text[end..].bytes().all(|byte| byte == b' ') {
        true => Ok(&text[..end]),
        false => Err(SqlError::new(SqlState::STRING_TOO_LONG, format!("value too long for type {}", type_name()))),
    }
}

/// A `name` has at most 63 bytes; the rest is cut off without a word, as in PostgreSQL.
fn cut_name(text: &str) -> &str {
    match text.len() <= 63 {
        true => text,
        false => &text[..text.floor_char_boundary(63)],
    }
}

/// Reads a `boolean`: `t`, `true`, `yes`, `on`, `1`, their opposites and unique beginnings.
pub fn parse_bool(text: &str) -> SqlResult<bool> {
    match text {
        "t" | "true" => return Ok(true),
        "f" | "false" => return Ok(false),
        _ => {}
    }
    let word = trim(text).to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || word == "1" {
        Ok(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Ok(false)
    } else {
        Err(bad_syntax(text, "boolean"))
    }
}

/// `invalid input syntax for type integer: "12x"`.
pub(super) fn bad_syntax(text: &str, type_name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT, format!("invalid input syntax for type {type_name}: \"{text}\""))
}

/// `value "70000" is out of range for type smallint`.
pub(super) fn out_of_range(text: &str, type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("value \"{text}\" is out of range for type {type_name}"))
}

#[cfg(test)]
mod tests {
    use super::super::output::texts;
    use super::*;

    fn pg(name: &str) -> PgType {
        PgType::parse(name).expect(name)
    }

    /// Reads and prints again.
    fn round(name: &str, input: &[Option<&str>]) -> Result<Vec<Option<String>>, String> {
        let array = parse_texts(input.iter().copied(), &pg(name), TextStyle::default())
            .map_err(|failure| format!("row {}: {:?} {}", failure.row, failure.error.code, failure.error))?;
        assert_eq!(array.data_type(), &pg(name).arrow());
        Ok(texts(&array, &pg(name), &TextStyle::default()).expect("printable"))
    }

    #[test]
    fn every_type_is_read_and_printed() {
        let cases = [
            ("boolean", "yes", "t"),
            ("smallint", "-7", "-7"),
            ("integer", " 42", "42"),
            ("bigint", "9223372036854775807", "9223372036854775807"),
            ("oid", "4294967295", "4294967295"),
            ("real", "1.5", "1.5"),
            ("double precision", "0.1", "0.1"),
            ("numeric", "1.50", "1.5"),
            ("numeric(10,2)", "1.5", "1.50"),
            (
                "numeric(50,4)",
                "12345678901234567890123456789012345678901234.5",
                "12345678901234567890123456789012345678901234.5000",
            ),
            ("text", "héllo", "héllo"),
            ("varchar(3)", "abc   ", "abc"),
            ("char(4)", "ab", "ab  "),
            ("name", "n", "n"),
            ("bytea", "\\xDEAD", "\\xdead"),
            ("date", "2024-01-31", "2024-01-31"),
            ("time", "04:05", "04:05:00"),
            ("timestamp", "2024-01-31 04:05:06.7", "2024-01-31 04:05:06.7"),
            ("timestamptz", "2024-01-31 04:05:06+02", "2024-01-31 02:05:06+00"),
            ("interval", "1 day 2:03", "1 day 02:03:00"),
            ("uuid", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("json", "{ \"b\":1}", "{ \"b\":1}"),
            ("jsonb", "{ \"b\":1}", "{\"b\": 1}"),
            ("integer[]", "{1,NULL,3}", "{1,NULL,3}"),
            ("text[]", r#"{"a b","c\"d",NULL,"",x}"#, r#"{"a b","c\"d",NULL,"",x}"#),
            ("boolean[]", "{t,f}", "{t,f}"),
        ];
        for (name, input, output) in cases {
            let expected = Ok(vec![Some(output.to_string()), None]);
            assert_eq!(round(name, &[Some(input), None]), expected, "{name}");
        }
    }

    #[test]
    fn a_failure_names_its_row() {
        let refused = |name, input| round(name, &[None, Some(input)]).expect_err(name);
        assert_eq!(refused("integer", "12x"), "row 1: 22P02 invalid input syntax for type integer: \"12x\"");
        assert_eq!(refused("smallint", "70000"), "row 1: 22003 value \"70000\" is out of range for type smallint");
        assert_eq!(refused("boolean", "maybe"), "row 1: 22P02 invalid input syntax for type boolean: \"maybe\"");
        assert_eq!(refused("varchar(2)", "abc"), "row 1: 22001 value too long for type character varying(2)");
        assert_eq!(refused("char(2)", "abc"), "row 1: 22001 value too long for type character(2)");
        assert_eq!(refused("integer[]", "{1,x}"), "row 1: 22P02 invalid input syntax for type integer: \"x\"");
        assert!(refused("integer[]", "{{1},{2}}").starts_with("row 1: 0A000"));
        assert_eq!(refused("boolean", "o"), "row 1: 22P02 invalid input syntax for type boolean: \"o\"");
    }
}
