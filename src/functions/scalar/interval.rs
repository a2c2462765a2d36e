//! `+ - * /` on dates, times and intervals as PostgreSQL does them.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int32Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::cast::style_of;
use super::{Pair, carry, result, udf};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{
    Zone, civil_from_days, date_in_range, days_from_civil, days_in_month, timestamp_in_range,
};
use crate::zset::PgType;

const DAY_MICROS: i64 = 86_400_000_000;

/// What is computed with what. Both sides have exactly these types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeShape {
    /// date ± integer → date
    DateDays,
    /// date - date → integer
    DateDate,
    /// timestamp - timestamp (both with or both without zone) → interval
    TimestampTimestamp,
    /// timestamp ± interval → timestamp
    TimestampInterval,
    /// timestamptz ± interval → timestamptz, days and months by the session's zone
    TimestamptzInterval,
    /// time ± interval → time
    TimeInterval,
    /// time - time → interval
    TimeTime,
    /// timestamp ± time → timestamp
    TimestampTime,
    /// interval ± interval → interval
    IntervalInterval,
    /// interval * double precision → interval
    IntervalTimes,
    /// interval / double precision → interval
    IntervalOver,
}

impl TimeShape {
    pub fn result(self) -> PgType {
        match self {
            TimeShape::DateDays => PgType::Date,
            TimeShape::DateDate => PgType::Int4,
            TimeShape::TimestampInterval | TimeShape::TimestampTime => PgType::Timestamp,
            TimeShape::TimestamptzInterval => PgType::Timestamptz,
            TimeShape::TimeInterval => PgType::Time,
            TimeShape::TimestampTimestamp
            | TimeShape::TimeTime
            | TimeShape::IntervalInterval
            | TimeShape::IntervalTimes
            | TimeShape::IntervalOver => PgType::Interval,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TimeOperation {
    shape: TimeShape,
    subtract: bool,
    signature: Signature,
}

impl TimeOperation {
    pub fn call(shape: TimeShape, subtract: bool, left: Expr, right: Expr) -> Expr {
        let signature = Signature::any(2, Volatility::Immutable);
        udf(TimeOperation { shape, subtract, signature }).call(vec![left, right])
    }

    pub(super) fn symbol(&self) -> &'static str {
        match self.shape {
            TimeShape::IntervalTimes => "*",
            TimeShape::IntervalOver => "/",
            _ if self.subtract => "-",
            _ => "+",
        }
    }

    pub(super) fn minds_zone(&self) -> bool {
        matches!(self.shape, TimeShape::TimestamptzInterval)
    }

    fn compute(&self, pair: &Pair, zone: &Zone) -> SqlResult<ArrayRef> {
        let sign = if self.subtract { -1 } else { 1 };
        let signed = |interval: IntervalMonthDayNano| if self.subtract { negate(interval) } else { Some(interval) };
        match self.shape {
            TimeShape::DateDays => each::<Date32Type, Int32Type, Date32Type>(pair, |date, days| {
                let day = i64::from(date) + i64::from(days) * sign;
                date_in_range(day).then_some(day as i32).ok_or_else(date_overflow)
            }),
            TimeShape::DateDate => each::<Date32Type, Date32Type, Int32Type>(pair, |left, right| {
                left.checked_sub(right).ok_or_else(date_overflow)
            }),
            TimeShape::TimestampTimestamp => {
                each::<TimestampMicrosecondType, TimestampMicrosecondType, IntervalMonthDayNanoType>(pair, difference)
            }
            TimeShape::TimestampInterval => {
                each::<TimestampMicrosecondType, IntervalMonthDayNanoType, TimestampMicrosecondType>(pair, |at, by| {
                    shift(at, signed(by).ok_or_else(interval_overflow)?, &Zone::UTC)
                })
            }
            TimeShape::TimestamptzInterval => {
                let shifted = each::<TimestampMicrosecondType, IntervalMonthDayNanoType, TimestampMicrosecondType>(
                    pair,
                    |at, by| shift(at, signed(by).ok_or_else(interval_overflow)?, zone),
                )?;
                let zoned = shifted.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("+00:00");
                Ok(Arc::new(zoned))
            }
            TimeShape::TimeInterval => {
                each::<Time64MicrosecondType, IntervalMonthDayNanoType, Time64MicrosecondType>(pair, |at, by| {
                    Ok((at + by.nanoseconds / 1000 * sign).rem_euclid(DAY_MICROS))
                })
            }
            TimeShape::TimeTime => {
                each::<Time64MicrosecondType, Time64MicrosecondType, IntervalMonthDayNanoType>(pair, |left, right| {
                    Ok(IntervalMonthDayNano::new(0, 0, (left - right) * 1000))
                })
            }
            TimeShape::TimestampTime => {
                each::<TimestampMicrosecondType, Time64MicrosecondType, TimestampMicrosecondType>(pair, |at, by| {
                    in_range(at.checked_add(by * sign))
                })
            }
            TimeShape::IntervalInterval => {
                each::<IntervalMonthDayNanoType, IntervalMonthDayNanoType, IntervalMonthDayNanoType>(
                    pair,
                    |left, right| signed(right).and_then(|right| sum(left, right)).ok_or_else(interval_overflow),
                )
            }
            TimeShape::IntervalTimes => {
                each::<IntervalMonthDayNanoType, Float64Type, IntervalMonthDayNanoType>(pair, times)
            }
            TimeShape::IntervalOver => {
                each::<IntervalMonthDayNanoType, Float64Type, IntervalMonthDayNanoType>(pair, |interval, by| match by {
                    0.0 => Err(SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero")),
                    by => times(interval, 1.0 / by),
                })
            }
        }
    }
}

fn each<L: ArrowPrimitiveType, R: ArrowPrimitiveType, O: ArrowPrimitiveType>(
    pair: &Pair,
    apply: impl Fn(L::Native, R::Native) -> SqlResult<O::Native>,
) -> SqlResult<ArrayRef> {
    let (left, right) = (pair.left.as_primitive::<L>(), pair.right.as_primitive::<R>());
    let value = |row: usize| match pair.is_null(row) {
        true => Ok(None),
        false => apply(left.value(pair.left_at(row)), right.value(pair.right_at(row))).map(Some),
    };
    let values: SqlResult<PrimitiveArray<O>> = (0..pair.rows).map(value).collect();
    Ok(Arc::new(values?))
}

fn date_overflow() -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, "date out of range")
}

fn interval_overflow() -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, "interval out of range")
}

fn in_range(micros: Option<i64>) -> SqlResult<i64> {
    let overflow = || SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range");
    micros.filter(|micros| timestamp_in_range(*micros)).ok_or_else(overflow)
}

fn negate(interval: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let months = interval.months.checked_neg()?;
    Some(IntervalMonthDayNano::new(months, interval.days.checked_neg()?, interval.nanoseconds.checked_neg()?))
}

fn sum(left: IntervalMonthDayNano, right: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let months = left.months.checked_add(right.months)?;
    let days = left.days.checked_add(right.days)?;
    Some(IntervalMonthDayNano::new(months, days, left.nanoseconds.checked_add(right.nanoseconds)?))
}

/// Whole days and the rest, both of the difference's sign.
fn difference(left: i64, right: i64) -> SqlResult<IntervalMonthDayNano> {
    let micros = left.checked_sub(right).ok_or_else(interval_overflow)?;
    let days = i32::try_from(micros / DAY_MICROS).map_err(|_| interval_overflow())?;
    Ok(IntervalMonthDayNano::new(0, days, micros % DAY_MICROS * 1000))
}

/// Months first (a day that the month lacks becomes its last), then days, both by the clock on the wall; then the time.
pub fn shift(at: i64, by: IntervalMonthDayNano, zone: &Zone) -> SqlResult<i64> {
    let mut at = at;
    if by.months != 0 || by.days != 0 {
        let local = zone.to_local(at);
        let (day, time) = (local.div_euclid(DAY_MICROS), local.rem_euclid(DAY_MICROS));
        let day = add_months(day, by.months) + i64::from(by.days);
        let local = day.checked_mul(DAY_MICROS).and_then(|micros| micros.checked_add(time));
        at = zone.to_utc(in_range(local)?);
    }
    in_range(at.checked_add(by.nanoseconds / 1000))
}

fn add_months(day: i64, months: i32) -> i64 {
    if months == 0 {
        return day;
    }
    let date = civil_from_days(day);
    let months = date.year * 12 + i64::from(date.month) - 1 + i64::from(months);
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
    days_from_civil(year, month, date.day.min(days_in_month(year, month)))
}

/// Fractions of months spill into days of which a month has 30, fractions of days into the time.
fn times(interval: IntervalMonthDayNano, factor: f64) -> SqlResult<IntervalMonthDayNano> {
    let months = f64::from(interval.months) * factor;
    let month_days = round_micros((months - months.trunc()) * 30.0);
    let days = f64::from(interval.days) * factor;
    let mut seconds = round_micros((days - days.trunc() + month_days - month_days.trunc()) * 86_400.0);
    let mut whole_days = days.trunc() + month_days.trunc();
    if seconds.abs() >= 86_400.0 {
        whole_days += (seconds / 86_400.0).trunc();
        seconds -= (seconds / 86_400.0).trunc() * 86_400.0;
    }
    let micros = ((interval.nanoseconds / 1000) as f64 * factor + seconds * 1e6).round_ties_even();
    let fits = |value: f64, limit: f64| value.is_finite() && value.abs() < limit;
    if !fits(months, 2_147_483_648.0) || !fits(whole_days, 2_147_483_648.0) || !fits(micros, 9.2e15) {
        return Err(interval_overflow());
    }
    Ok(IntervalMonthDayNano::new(months.trunc() as i32, whole_days as i32, micros as i64 * 1000))
}

fn round_micros(value: f64) -> f64 {
    (value * 1e6).round_ties_even() / 1e6
}

impl ScalarUDFImpl for TimeOperation {
    fn name(&self) -> &str {
        "time_operation"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.shape.result().arrow())
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        let symbol = match self.shape {
            TimeShape::IntervalTimes => "*",
            TimeShape::IntervalOver => "/",
            _ if self.subtract => "-",
            _ => "+",
        };
        Ok(match arguments {
            [left, right] => format!("{left} {symbol} {right}"),
            _ => symbol.to_string(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // The planner asks what an expression gives when a column is NULL, with a column of no type.
        if args.args.iter().any(|argument| argument.data_type() == DataType::Null) {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(args.return_field.data_type())?));
        }
        let pair = Pair::new(&args.args, args.number_rows)?;
        let array = self.compute(&pair, &style_of(&args).zone).map_err(carry)?;
        result(&pair, array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::text::{TextStyle, parse_interval, parse_timestamp, write_interval, write_timestamp};

    fn at(text: &str) -> i64 {
        parse_timestamp(text, &TextStyle::default()).expect("a timestamp of a test")
    }

    fn shifted(text: &str, by: &str) -> String {
        let mut out = Vec::new();
        let by = parse_interval(by).expect("an interval of a test");
        write_timestamp(shift(at(text), by, &Zone::UTC).expect("in range"), &mut out);
        String::from_utf8(out).expect("text")
    }

    fn shown(interval: IntervalMonthDayNano) -> String {
        let mut out = Vec::new();
        write_interval(interval, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn months_keep_the_day_or_take_the_last_there_is() {
        assert_eq!(shifted("2024-01-31", "1 month"), "2024-02-29 00:00:00");
        assert_eq!(shifted("2024-03-31 12:00", "-1 month"), "2024-02-29 12:00:00");
        assert_eq!(shifted("2023-12-31 23:00", "1 day 2 hours"), "2024-01-02 01:00:00");
    }

    #[test]
    fn differences_have_days_and_products_spill() {
        let gap = difference(at("2024-01-03 05:00"), at("2024-01-01")).expect("fits");
        assert_eq!(shown(gap), "2 days 05:00:00");
        let half = times(parse_interval("1 month 1 day").expect("an interval"), 0.5).expect("fits");
        assert_eq!(shown(half), "15 days 12:00:00");
        assert!(times(parse_interval("1 month").expect("an interval"), 1e12).is_err());
    }
}
