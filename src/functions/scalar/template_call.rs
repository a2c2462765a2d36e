//! `to_char`, `to_date`, `to_timestamp` and `to_number` over columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, StringViewBuilder};
use arrow::datatypes::{DataType, Date32Type, IntervalMonthDayNanoType, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::cast::style_of;
use super::template::{TimeTemplate, read_time, write_interval, write_number};
use super::{Pair, carry, result, udf};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{ColumnBuilder, TextStyle, texts};
use crate::zset::PgType;

const DAY_MICROS: i64 = 86_400_000_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Template {
    /// Of a timestamp, a timestamptz, an interval or a numeric.
    ToChar(PgType),
    ToDate,
    ToTimestamp,
    ToNumber,
}

/// A function of a value and a template.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TemplateCall {
    template: Template,
    signature: Signature,
}

impl TemplateCall {
    pub fn call(template: Template, value: Expr, by: Expr) -> Expr {
        udf(TemplateCall { template, signature: Signature::any(2, Volatility::Immutable) }).call(vec![value, by])
    }

    fn kind(&self) -> PgType {
        match self.template {
            Template::ToChar(_) => PgType::Text,
            Template::ToDate => PgType::Date,
            Template::ToTimestamp => PgType::Timestamptz,
            Template::ToNumber => PgType::Numeric(None),
        }
    }

    fn compute(&self, pair: &Pair, style: &TextStyle) -> SqlResult<ArrayRef> {
        match &self.template {
            Template::ToChar(PgType::Numeric(_)) => numbers(pair, style),
            Template::ToChar(PgType::Interval) => intervals(pair),
            Template::ToChar(kind) => times(pair, kind, style),
            Template::ToNumber => read_numbers(pair, style),
            Template::ToDate | Template::ToTimestamp => self.read_times(pair, style),
        }
    }

    fn read_times(&self, pair: &Pair, style: &TextStyle) -> SqlResult<ArrayRef> {
        let mut times = Vec::with_capacity(pair.rows);
        for row in 0..pair.rows {
            times.push(match both(pair, row) {
                None => None,
                Some((text, template)) => {
                    let (local, offset) = read_time(text, template)?;
                    Some(match (&self.template, offset) {
                        (Template::ToDate, _) => local,
                        (_, Some(offset)) => local - i64::from(offset) * 1_000_000,
                        (_, None) => style.zone.to_utc(local),
                    })
                }
            });
        }
        if self.template == Template::ToDate {
            let days = times.into_iter().map(|time| time.map(|time| time.div_euclid(DAY_MICROS) as i32));
            return Ok(Arc::new(days.collect::<PrimitiveArray<Date32Type>>()));
        }
        let array = PrimitiveArray::<TimestampMicrosecondType>::from(times);
        Ok(Arc::new(array.with_timezone("+00:00")))
    }
}

/// The two texts of a row, if both are there.
fn both(pair: &Pair, row: usize) -> Option<(&str, &str)> {
    let (values, templates) = (pair.left.as_string_view(), pair.right.as_string_view());
    (!pair.is_null(row)).then(|| (values.value(pair.left_at(row)), templates.value(pair.right_at(row))))
}

fn times(pair: &Pair, kind: &PgType, style: &TextStyle) -> SqlResult<ArrayRef> {
    let (values, templates) = (pair.left.as_primitive::<TimestampMicrosecondType>(), pair.right.as_string_view());
    let mut out = StringViewBuilder::with_capacity(pair.rows);
    // Most rows have the template, many the text of the row before.
    let (mut by, mut last, mut text) = (TimeTemplate::new(""), None, String::new());
    for row in 0..pair.rows {
        if pair.is_null(row) {
            out.append_null();
            continue;
        }
        let (at, template) = (values.value(pair.left_at(row)), templates.value(pair.right_at(row)));
        if template != by.text {
            (by, last) = (TimeTemplate::new(template), None);
        }
        let (local, zone) = match kind {
            PgType::Timestamptz => (style.zone.to_local(at), Some((&style.zone, style.zone.offset_at(at)))),
            _ => (at, None),
        };
        let place = Some((by.place(local), zone.map(|(_, offset)| offset)));
        if place != last {
            text.clear();
            by.write(local, zone, &mut text);
            last = place;
        }
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

fn intervals(pair: &Pair) -> SqlResult<ArrayRef> {
    let (values, templates) = (pair.left.as_primitive::<IntervalMonthDayNanoType>(), pair.right.as_string_view());
    let mut out = StringViewBuilder::with_capacity(pair.rows);
    let mut text = String::new();
    for row in 0..pair.rows {
        if pair.is_null(row) {
            out.append_null();
            continue;
        }
        text.clear();
        write_interval(values.value(pair.left_at(row)), templates.value(pair.right_at(row)), &mut text)?;
        out.append_value(&text);
    }
    Ok(Arc::new(out.finish()))
}

fn numbers(pair: &Pair, style: &TextStyle) -> SqlResult<ArrayRef> {
    let digits = texts(&pair.left, &PgType::of_arrow(pair.left.data_type()), style)?;
    let templates = pair.right.as_string_view();
    let mut out = StringViewBuilder::with_capacity(pair.rows);
    let mut text = String::new();
    for row in 0..pair.rows {
        match (&digits[pair.left_at(row)], pair.is_null(row)) {
            (Some(digits), false) => {
                text.clear();
                write_number(digits, templates.value(pair.right_at(row)), &mut text);
                out.append_value(&text);
            }
            _ => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// The template says where digits may stand; what is no digit, sign or point is passed over.
fn read_numbers(pair: &Pair, style: &TextStyle) -> SqlResult<ArrayRef> {
    let mut builder = ColumnBuilder::new(&PgType::Numeric(None), *style, pair.rows);
    for row in 0..pair.rows {
        match both(pair, row) {
            None => builder.append_null(),
            Some((text, _)) => {
                let digits: String = text.chars().filter(|c| c.is_ascii_digit() || matches!(c, '.' | '-')).collect();
                let bad = |_| {
                    let message = format!("invalid input syntax for type numeric: \"{text}\"");
                    SqlError::new(SqlState::INVALID_TEXT, message)
                };
                builder.append_text(&digits).map_err(bad)?;
            }
        }
    }
    Ok(builder.finish())
}

impl ScalarUDFImpl for TemplateCall {
    fn name(&self) -> &str {
        match self.template {
            Template::ToChar(_) => "to_char",
            Template::ToDate => "to_date",
            Template::ToTimestamp => "to_timestamp",
            Template::ToNumber => "to_number",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.kind().arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = style_of(&args);
        let pair = Pair::new(&args.args, args.number_rows)?;
        if pair.is_all_null() {
            return Ok(pair.nulls(&self.kind().arrow()));
        }
        result(&pair, self.compute(&pair, &style).map_err(carry)?)
    }
}

/// `to_timestamp(seconds)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct FromEpoch {
    signature: Signature,
}

impl FromEpoch {
    pub fn call(seconds: Expr) -> Expr {
        udf(FromEpoch { signature: Signature::any(1, Volatility::Immutable) }).call(vec![seconds])
    }
}

impl ScalarUDFImpl for FromEpoch {
    fn name(&self) -> &str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(PgType::Timestamptz.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("to_timestamp was given no value")));
        };
        super::map_array(value, |array| {
            let seconds = array.as_primitive::<arrow::datatypes::Float64Type>();
            let times: Result<PrimitiveArray<TimestampMicrosecondType>> = seconds.try_unary(|seconds: f64| {
                let micros = (seconds * 1e6).round_ties_even();
                match micros.abs() < 9e18 && crate::functions::text::timestamp_in_range(micros as i64) {
                    true => Ok(micros as i64),
                    false => Err(carry(SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range"))),
                }
            });
            Ok(Arc::new(times?.with_timezone("+00:00")) as ArrayRef)
        })
    }
}
