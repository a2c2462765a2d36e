//! Casts that PostgreSQL does otherwise than Arrow: to and from text, with rounding, with declared lengths.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringViewBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::{carry, map_array, udf};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{ColumnBuilder, TextStyle, Zone, array_text};
use crate::zset::PgType;

/// A cast from one SQL type to another.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct PgCast {
    from: PgType,
    to: PgType,
    /// Written by the user: then text that is too long is cut and not refused.
    explicit: bool,
    signature: Signature,
}

impl PgCast {
    pub fn call(expression: Expr, from: &PgType, to: &PgType, explicit: bool) -> Expr {
        let signature = Signature::any(1, Volatility::Immutable);
        udf(PgCast { from: from.clone(), to: to.clone(), explicit, signature }).call(vec![expression])
    }

    pub(super) fn target(&self) -> &PgType {
        &self.to
    }

    pub(super) fn minds_zone(&self) -> bool {
        self.from.has_zone() || self.to.has_zone()
    }

    fn array(&self, array: &ArrayRef, style: &TextStyle) -> Result<ArrayRef> {
        if array.data_type() == &DataType::Null {
            return Ok(arrow::array::new_null_array(&self.to.arrow(), array.len()));
        }
        let array = strict_cast(array, &self.from.arrow())?;
        let done = match (&self.from, &self.to) {
            (from, to) if is_text(from) && is_text(to) => self.text_to_text(&array),
            (from, _) if is_text(from) => parse(&array, &self.to, style),
            (_, to) if is_text(to) => self.to_text(&array, style).and_then(|texts| self.text_to_text(&texts)),
            (PgType::Json | PgType::Jsonb, PgType::Json | PgType::Jsonb) => parse(&array, &self.to, style),
            (PgType::Json | PgType::Jsonb, _) => self.json_to_value(&array, style),
            (PgType::Float4 | PgType::Float8, PgType::Int2 | PgType::Int4 | PgType::Int8) => {
                return self.to_whole(&doubles(&array)?);
            }
            (PgType::Numeric(_), PgType::Int2 | PgType::Int4 | PgType::Int8) => return self.numeric_to_whole(&array),
            (PgType::Float4 | PgType::Float8, PgType::Numeric(_)) => self.float_to_numeric(&array, style),
            (PgType::Interval, PgType::Time) => Ok(interval_to_time(&array)),
            (PgType::Time, PgType::Interval) => Ok(time_to_interval(&array)),
            (PgType::Timestamptz, _) => return strict_cast(&to_local(&array, &style.zone), &self.to.arrow()),
            (_, PgType::Timestamptz) => return to_instant(&array, &style.zone),
            _ => return strict_cast(&array, &self.to.arrow()),
        };
        done.map_err(carry)
    }

    /// Between the types kept as text: json is checked, declared lengths are kept.
    fn text_to_text(&self, array: &ArrayRef) -> SqlResult<ArrayRef> {
        match &self.to {
            PgType::Varchar(Some(length)) | PgType::Bpchar(Some(length)) if self.explicit => {
                let cut = map_texts(array, |text| first_characters(text, *length as usize));
                match &self.to {
                    PgType::Bpchar(_) => parse(&cut, &self.to, &TextStyle::default()),
                    _ => Ok(cut),
                }
            }
            PgType::Varchar(Some(_)) | PgType::Bpchar(_) | PgType::Json | PgType::Jsonb | PgType::Name => {
                parse(array, &self.to, &TextStyle::default())
            }
            _ => Ok(array.clone()),
        }
    }

    fn to_text(&self, array: &ArrayRef, style: &TextStyle) -> SqlResult<ArrayRef> {
        if self.from == PgType::Bool {
            let values = array.as_boolean().iter();
            let mut texts = StringViewBuilder::with_capacity(array.len());
            values.for_each(|value| texts.append_option(value.map(|value| if value { "true" } else { "false" })));
            return Ok(Arc::new(texts.finish()));
        }
        Ok(Arc::new(array_text(array, &self.from, style)?))
    }

    /// `'1.5'::jsonb::int` takes the number, not its text.
    fn json_to_value(&self, array: &ArrayRef, style: &TextStyle) -> SqlResult<ArrayRef> {
        let is_number = matches!(self.to, PgType::Int2 | PgType::Int4 | PgType::Int8);
        if !is_number {
            return parse(array, &self.to, style);
        }
        let numeric = parse(array, &PgType::Numeric(None), style)?;
        self.numeric_to_whole(&numeric).map_err(|error| crate::functions::sql_error(&error))
    }

    fn out_of_range(&self) -> SqlError {
        SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{} out of range", self.to))
    }

    /// Floats round half to even.
    fn to_whole(&self, values: &PrimitiveArray<Float64Type>) -> Result<ArrayRef> {
        match self.to {
            PgType::Int2 => self.whole::<Int16Type>(values, -32_768.0, 32_768.0, |value| value as i16),
            PgType::Int4 => self.whole::<Int32Type>(values, -2_147_483_648.0, 2_147_483_648.0, |value| value as i32),
            _ => self
                .whole::<Int64Type>(values, -9.223_372_036_854_776e18, 9.223_372_036_854_776e18, |value| value as i64),
        }
    }

    fn whole<T: ArrowPrimitiveType>(
        &self,
        values: &PrimitiveArray<Float64Type>,
        least: f64,
        beyond: f64,
        convert: impl Fn(f64) -> T::Native,
    ) -> Result<ArrayRef> {
        let converted: Result<PrimitiveArray<T>> = values.try_unary(|value: f64| {
            let rounded = value.round_ties_even();
            match rounded >= least && rounded < beyond {
                true => Ok(convert(rounded)),
                false => Err(carry(self.out_of_range())),
            }
        });
        Ok(Arc::new(converted?))
    }

    /// Numerics round half away from zero.
    fn numeric_to_whole(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let DataType::Decimal128(_, scale) = *array.data_type() else {
            return strict_cast(array, &self.to.arrow());
        };
        let unit = 10_i128.pow(scale.max(0) as u32);
        let values: Result<PrimitiveArray<Int64Type>> = array.as_primitive::<Decimal128Type>().try_unary(|value| {
            let half = if value < 0 { -(unit / 2) } else { unit / 2 };
            let rounded = if unit == 1 { value } else { (value + half) / unit };
            i64::try_from(rounded).map_err(|_| carry(self.out_of_range()))
        });
        let wide: ArrayRef = Arc::new(values?);
        strict_cast(&wide, &self.to.arrow()).map_err(|_| carry(self.out_of_range()))
    }

    /// A float counts as the decimal number that its 15 (a real's: 6) leading digits show.
    fn float_to_numeric(&self, array: &ArrayRef, style: &TextStyle) -> SqlResult<ArrayRef> {
        let digits = if self.from == PgType::Float4 { 5 } else { 14 };
        let values = doubles(array).map_err(|error| crate::functions::sql_error(&error))?;
        let mut builder = ColumnBuilder::new(&self.to, *style, array.len());
        let mut text = String::new();
        for value in values.iter() {
            match value {
                None => builder.append_null(),
                Some(value) if !value.is_finite() => {
                    let kind = if value.is_nan() { "NaN" } else { "infinity" };
                    let message = format!("cannot convert {kind} to numeric");
                    return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
                }
                Some(value) => {
                    text.clear();
                    write!(text, "{value:.digits$e}").expect("writing to a string does not fail");
                    builder.append_text(&text)?;
                }
            }
        }
        Ok(builder.finish())
    }
}

/// The types whose values are any text.
fn is_text(kind: &PgType) -> bool {
    matches!(kind, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name)
    // json and jsonb are read from text like everything else, but are no text.
}

fn doubles(array: &ArrayRef) -> Result<PrimitiveArray<Float64Type>> {
    match array.data_type() {
        DataType::Float32 => {
            let narrow = array.as_primitive::<Float32Type>();
            Ok(narrow.unary(f64::from))
        }
        _ => Ok(strict_cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone()),
    }
}

fn strict_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, to, &strict)?)
}

fn parse(array: &ArrayRef, to: &PgType, style: &TextStyle) -> SqlResult<ArrayRef> {
    let mut builder = ColumnBuilder::new(to, *style, array.len());
    builder.append_texts(array.as_string_view().iter()).map_err(|failed| failed.error)?;
    Ok(builder.finish())
}

fn map_texts(array: &ArrayRef, map: impl Fn(&str) -> &str) -> ArrayRef {
    let mut texts = StringViewBuilder::with_capacity(array.len());
    array.as_string_view().iter().for_each(|text| texts.append_option(text.map(&map)));
    Arc::new(texts.finish())
}

fn first_characters(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

const DAY_MICROS: i64 = 86_400_000_000;

fn interval_to_time(array: &ArrayRef) -> ArrayRef {
    let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
    let times: PrimitiveArray<Time64MicrosecondType> =
        intervals.unary(|interval| (interval.nanoseconds / 1000).rem_euclid(DAY_MICROS));
    Arc::new(times)
}

fn time_to_interval(array: &ArrayRef) -> ArrayRef {
    let times = array.as_primitive::<Time64MicrosecondType>();
    let intervals: PrimitiveArray<IntervalMonthDayNanoType> =
        times.unary(|micros| arrow::datatypes::IntervalMonthDayNano::new(0, 0, micros * 1000));
    Arc::new(intervals)
}

/// Instants as the local times that clocks show then.
fn to_local(array: &ArrayRef, zone: &Zone) -> ArrayRef {
    let instants = array.as_primitive::<TimestampMicrosecondType>();
    Arc::new(instants.unary::<_, TimestampMicrosecondType>(|micros| zone.to_local(micros)))
}

fn to_instant(array: &ArrayRef, zone: &Zone) -> Result<ArrayRef> {
    let local = strict_cast(array, &PgType::Timestamp.arrow())?;
    let local = local.as_primitive::<TimestampMicrosecondType>();
    let instants = local.unary::<_, TimestampMicrosecondType>(|micros| zone.to_utc(micros));
    Ok(Arc::new(instants.with_timezone("+00:00")))
}

/// The zone that a run of a plan is set to.
pub fn style_of(args: &ScalarFunctionArgs) -> TextStyle {
    let zone = args.config_options.execution.time_zone.as_deref().and_then(|name| Zone::parse(name).ok());
    TextStyle { zone: zone.unwrap_or(Zone::UTC), ..TextStyle::default() }
}

impl ScalarUDFImpl for PgCast {
    fn name(&self) -> &str {
        "cast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.to.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let field: Field = self.to.field("cast", nullable);
        Ok(Arc::new(field))
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.first().map_or_else(String::new, |value| format!("{value}::{}", self.to)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = style_of(&args);
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("a cast was given no value")));
        };
        map_array(value, |array| self.array(array, &style))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(text: &str, via: &str, to: &str, explicit: bool) -> SqlResult<String> {
        let of = |name: &str| PgType::parse(name).expect("a type of a test");
        let one = |from: PgType, to: PgType, array: &ArrayRef| {
            let cast = PgCast { from, to, explicit, signature: Signature::any(1, Volatility::Immutable) };
            cast.array(array, &TextStyle::default()).map_err(|error| crate::functions::sql_error(&error))
        };
        let texts: ArrayRef = Arc::new(arrow::array::StringViewArray::from(vec![text]));
        let value = one(PgType::Text, of(via), &texts)?;
        let value = one(of(via), of(to), &value)?;
        Ok(one(of(to), PgType::Text, &value)?.as_string_view().value(0).to_string())
    }

    #[test]
    fn values_round_and_cut_as_in_postgresql() {
        for (text, via, to, expected) in [
            ("2.5", "numeric", "int", "3"),
            ("-2.5", "numeric(3,1)", "int", "-3"),
            ("2.5", "float8", "int", "2"),
            ("3.5", "real", "smallint", "4"),
            ("0.1", "float8", "numeric", "0.1"),
            ("1e3", "float8", "numeric(10,2)", "1000.00"),
            ("abc", "text", "varchar(2)", "ab"),
            ("true", "boolean", "text", "true"),
            ("{1,2}", "text", "int[]", "{1,2}"),
            ("{\"b\":1, \"a\":2}", "text", "jsonb", "{\"a\": 2, \"b\": 1}"),
            ("12.5", "jsonb", "int", "13"),
            ("2024-01-02 03:04:05", "timestamp", "date", "2024-01-02"),
            ("2024-01-02 03:04:05", "timestamp", "time", "03:04:05"),
        ] {
            assert_eq!(cast(text, via, to, true), Ok(expected.to_string()), "{text}::{via}::{to}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        for (text, via, to, code) in [
            ("70000", "int", "smallint", SqlState::NUMERIC_OUT_OF_RANGE),
            ("1e30", "float8", "bigint", SqlState::NUMERIC_OUT_OF_RANGE),
            ("99999999999", "numeric", "int", SqlState::NUMERIC_OUT_OF_RANGE),
            ("12x", "text", "int", SqlState::INVALID_TEXT),
            ("abc", "text", "varchar(2)", SqlState::STRING_TOO_LONG),
        ] {
            let error = cast(text, via, to, false).expect_err("refused");
            assert_eq!(error.code, code, "{text}::{via}::{to}: {error:?}");
        }
    }
}
