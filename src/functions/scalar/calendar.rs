//! `extract`, `date_part`, `age`, `justify_*`, `timezone`: the parts of dates and times.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, PrimitiveArray};
use arrow::datatypes::{
    DataType, Date32Type, IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::cast::style_of;
use super::{Pair, carry, map_array, result, udf};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{Zone, civil_from_days, days_from_civil, days_in_month};
use crate::zset::PgType;

const DAY_MICROS: i64 = 86_400_000_000;
const HOUR_MICROS: i64 = 3_600_000_000;

/// The part of a date or time that `extract` and `date_part` name.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct DatePart {
    field: String,
    /// `extract` gives numeric, `date_part` double precision.
    numeric: bool,
    kind: PgType,
    signature: Signature,
}

impl DatePart {
    /// `None` if the type has no such part.
    pub fn call(field: &str, numeric: bool, argument: Expr, kind: &PgType) -> Option<Expr> {
        let field = canonical(field)?;
        let signature = Signature::any(1, Volatility::Immutable);
        let part = DatePart { field: field.to_string(), numeric, kind: kind.clone(), signature };
        match kind {
            PgType::Interval => part.of_interval(IntervalMonthDayNano::new(0, 0, 0))?,
            _ => part.micros_of(0, &Zone::UTC)?,
        };
        Some(udf(part).call(vec![argument]))
    }

    pub(super) fn field(&self) -> &str {
        &self.field
    }

    pub(super) fn minds_zone(&self) -> bool {
        self.kind == PgType::Timestamptz
    }

    /// Seconds and what is made of them have six places, everything else is whole.
    fn scale(&self) -> i8 {
        match self.field.as_str() {
            "epoch" | "second" if self.kind != PgType::Date => 6,
            "millisecond" => 3,
            _ => 0,
        }
    }

    fn result(&self) -> DataType {
        match self.numeric {
            true => DataType::Decimal128(if self.scale() == 0 { 20 } else { 26 }, self.scale()),
            false => DataType::Float64,
        }
    }

    /// The part in millionths.
    fn micros_of(&self, value: i64, zone: &Zone) -> Option<i128> {
        match self.kind {
            PgType::Date => of_local(&self.field, value.checked_mul(DAY_MICROS)?, true),
            PgType::Timestamp => of_local(&self.field, value, false),
            PgType::Timestamptz => match self.field.as_str() {
                "epoch" => Some(i128::from(value)),
                "timezone" => Some(i128::from(zone.offset_at(value)) * 1_000_000),
                "timezone_hour" => Some(i128::from(zone.offset_at(value) / 3600) * 1_000_000),
                "timezone_minute" => Some(i128::from(zone.offset_at(value) / 60 % 60) * 1_000_000),
                field => of_local(field, zone.to_local(value), false),
            },
            PgType::Time => of_time(&self.field, value),
            _ => None,
        }
    }

    fn of_interval(&self, interval: IntervalMonthDayNano) -> Option<i128> {
        let micros = i128::from(interval.nanoseconds / 1000);
        let whole = |value: i64| Some(i128::from(value) * 1_000_000);
        match self.field.as_str() {
            // A year has 365.25 days here, as in PostgreSQL.
            "epoch" => {
                let (years, months) = (i128::from(interval.months / 12), i128::from(interval.months % 12));
                let seconds = years * 31_557_600 + months * 2_592_000 + i128::from(interval.days) * 86_400;
                Some(seconds * 1_000_000 + micros)
            }
            "year" => whole(i64::from(interval.months / 12)),
            "month" => whole(i64::from(interval.months % 12)),
            "quarter" => whole(i64::from(interval.months % 12 / 3 + 1)),
            "decade" => whole(i64::from(interval.months / 120)),
            "century" => whole(i64::from(interval.months / 1200)),
            "millennium" => whole(i64::from(interval.months / 12_000)),
            "day" => whole(i64::from(interval.days)),
            "hour" => whole(interval.nanoseconds / 1000 / HOUR_MICROS),
            field => of_time(field, interval.nanoseconds / 1000),
        }
    }

    fn compute(&self, array: &ArrayRef, zone: &Zone) -> Result<ArrayRef> {
        let values: Vec<Option<i128>> = (0..array.len())
            .map(|row| match array.is_null(row) {
                true => None,
                false => match &self.kind {
                    PgType::Interval => self.of_interval(array.as_primitive::<IntervalMonthDayNanoType>().value(row)),
                    PgType::Date => self.micros_of(i64::from(array.as_primitive::<Date32Type>().value(row)), zone),
                    PgType::Time => self.micros_of(array.as_primitive::<Time64MicrosecondType>().value(row), zone),
                    _ => self.micros_of(array.as_primitive::<TimestampMicrosecondType>().value(row), zone),
                },
            })
            .collect();
        if !self.numeric {
            return Ok(Arc::new(values.into_iter().map(|v| v.map(|v| v as f64 / 1e6)).collect::<Float64Array>()));
        }
        let unit = 10_i128.pow(6 - self.scale() as u32);
        let DataType::Decimal128(precision, scale) = self.result() else {
            return Err(carry(SqlError::internal("extract gives a numeric")));
        };
        let parts: Decimal128Array = values.into_iter().map(|value| value.map(|value| value / unit)).collect();
        Ok(Arc::new(parts.with_precision_and_scale(precision, scale)?))
    }
}

/// The one name of a field; `None` if it is not one.
fn canonical(field: &str) -> Option<&'static str> {
    const FIELDS: [&str; 23] = [
        "century",
        "day",
        "decade",
        "dow",
        "doy",
        "epoch",
        "hour",
        "isodow",
        "isoyear",
        "julian",
        "microsecond",
        "millennium",
        "millisecond",
        "minute",
        "month",
        "quarter",
        "second",
        "timezone",
        "timezone_hour",
        "timezone_minute",
        "week",
        "year",
        "date",
    ];
    let field = field.to_ascii_lowercase();
    let field = match field.as_str() {
        "microseconds" => "microsecond",
        "milliseconds" => "millisecond",
        "seconds" => "second",
        "minutes" => "minute",
        "hours" => "hour",
        "days" => "day",
        "weeks" => "week",
        "months" => "month",
        "years" => "year",
        "dayofweek" => "dow",
        "dayofyear" => "doy",
        other => other,
    };
    FIELDS.into_iter().find(|known| *known == field)
}

fn of_time(field: &str, micros: i64) -> Option<i128> {
    let whole = |value: i64| Some(i128::from(value) * 1_000_000);
    match field {
        "hour" => whole(micros / HOUR_MICROS),
        "minute" => whole(micros / 60_000_000 % 60),
        "second" => Some(i128::from(micros % 60_000_000)),
        "millisecond" => Some(i128::from(micros % 60_000_000) * 1000),
        "microsecond" => whole(micros % 60_000_000),
        "epoch" => Some(i128::from(micros)),
        _ => None,
    }
}

fn of_local(field: &str, micros: i64, date_only: bool) -> Option<i128> {
    let day = micros.div_euclid(DAY_MICROS);
    let date = civil_from_days(day);
    // BC years are counted without a year 0.
    let year = if date.year <= 0 { date.year - 1 } else { date.year };
    let monday = (day + 3).rem_euclid(7);
    let value = match field {
        "year" => year,
        "month" => i64::from(date.month),
        "day" => i64::from(date.day),
        "quarter" => i64::from((date.month - 1) / 3 + 1),
        "decade" => date.year.div_euclid(10),
        "century" => {
            if year > 0 {
                (year + 99) / 100
            } else {
                -((99 - year) / 100)
            }
        }
        "millennium" => {
            if year > 0 {
                (year + 999) / 1000
            } else {
                -((999 - year) / 1000)
            }
        }
        "dow" => (monday + 1) % 7,
        "isodow" => monday + 1,
        "doy" => day - days_from_civil(date.year, 1, 1) + 1,
        "julian" => day + 2_440_588,
        "week" => iso_week(day).1,
        "isoyear" => iso_week(day).0,
        "epoch" => return Some(i128::from(micros)),
        field if !date_only => return of_time(field, micros.rem_euclid(DAY_MICROS)),
        _ => return None,
    };
    Some(i128::from(value) * 1_000_000)
}

/// Year and week by ISO 8601: the week belongs to the year of its Thursday.
pub(super) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    let year = civil_from_days(thursday).year;
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

impl ScalarUDFImpl for DatePart {
    fn name(&self) -> &str {
        if self.numeric { "extract" } else { "date_part" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result())
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        let of = arguments.first().map(ToString::to_string).unwrap_or_default();
        Ok(format!("extract({} FROM {of})", self.field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = style_of(&args).zone;
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("extract was given no value")));
        };
        map_array(value, |array| self.compute(array, &zone))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IntervalRule {
    /// Of two timestamps without zone: years, months and days by the calendar.
    Age,
    /// 24 hours become a day.
    JustifyHours,
    /// 30 days become a month.
    JustifyDays,
    /// Both.
    JustifyInterval,
}

/// Functions whose result is an interval.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct IntervalFunction {
    rule: IntervalRule,
    signature: Signature,
}

impl IntervalFunction {
    pub fn call(rule: IntervalRule, arguments: Vec<Expr>) -> Expr {
        let signature = Signature::any(arguments.len(), Volatility::Immutable);
        udf(IntervalFunction { rule, signature }).call(arguments)
    }
}

/// The difference by the calendar, as PostgreSQL's `timestamp_age`.
fn age(later: i64, earlier: i64) -> IntervalMonthDayNano {
    if later < earlier {
        let age = age(earlier, later);
        return IntervalMonthDayNano::new(-age.months, -age.days, -age.nanoseconds);
    }
    let split = |micros: i64| (civil_from_days(micros.div_euclid(DAY_MICROS)), micros.rem_euclid(DAY_MICROS));
    let ((to, to_time), (from, from_time)) = (split(later), split(earlier));
    let mut months = (to.year - from.year) * 12 + i64::from(to.month) - i64::from(from.month);
    let mut days = i64::from(to.day) - i64::from(from.day);
    let mut micros = to_time - from_time;
    if micros < 0 {
        micros += DAY_MICROS;
        days -= 1;
    }
    if days < 0 {
        // The days of the month in which the earlier time lies.
        days += i64::from(days_in_month(from.year, from.month));
        months -= 1;
    }
    IntervalMonthDayNano::new(months as i32, days as i32, micros * 1000)
}

fn justify(interval: IntervalMonthDayNano, hours: bool, days: bool) -> IntervalMonthDayNano {
    let (mut months, mut day, mut micros) =
        (i64::from(interval.months), i64::from(interval.days), interval.nanoseconds / 1000);
    if hours {
        day += micros / DAY_MICROS;
        micros %= DAY_MICROS;
    }
    if days {
        months += day / 30;
        day %= 30;
    }
    // All parts get the sign of the whole.
    if days && months > 0 && (day < 0 || (day == 0 && micros < 0)) {
        (months, day) = (months - 1, day + 30);
    } else if days && months < 0 && (day > 0 || (day == 0 && micros > 0)) {
        (months, day) = (months + 1, day - 30);
    }
    if hours && day > 0 && micros < 0 {
        (day, micros) = (day - 1, micros + DAY_MICROS);
    } else if hours && day < 0 && micros > 0 {
        (day, micros) = (day + 1, micros - DAY_MICROS);
    }
    IntervalMonthDayNano::new(months as i32, day as i32, micros * 1000)
}

impl ScalarUDFImpl for IntervalFunction {
    fn name(&self) -> &str {
        match self.rule {
            IntervalRule::Age => "age",
            IntervalRule::JustifyHours => "justify_hours",
            IntervalRule::JustifyDays => "justify_days",
            IntervalRule::JustifyInterval => "justify_interval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(PgType::Interval.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.rule == IntervalRule::Age {
            let pair = Pair::new(&args.args, args.number_rows)?;
            let (left, right) = (
                pair.left.as_primitive::<TimestampMicrosecondType>(),
                pair.right.as_primitive::<TimestampMicrosecondType>(),
            );
            let value = |row: usize| {
                (!pair.is_null(row)).then(|| age(left.value(pair.left_at(row)), right.value(pair.right_at(row))))
            };
            let ages: PrimitiveArray<IntervalMonthDayNanoType> = (0..pair.rows).map(value).collect();
            return result(&pair, Arc::new(ages));
        }
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("a function of intervals was given none")));
        };
        map_array(value, |array| {
            let justified: PrimitiveArray<IntervalMonthDayNanoType> =
                array.as_primitive::<IntervalMonthDayNanoType>().unary(|interval| {
                    let (hours, days) = match self.rule {
                        IntervalRule::JustifyHours => (true, false),
                        IntervalRule::JustifyDays => (false, true),
                        IntervalRule::JustifyInterval | IntervalRule::Age => (true, true),
                    };
                    justify(interval, hours, days)
                });
            Ok(Arc::new(justified) as ArrayRef)
        })
    }
}

/// `x AT TIME ZONE zone`: with a zone the local time there, without one the instant that it is there.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct AtTimeZone {
    /// Whether the argument is a timestamptz.
    zoned: bool,
    signature: Signature,
}

impl AtTimeZone {
    pub fn call(zone: Expr, time: Expr, zoned: bool) -> Expr {
        udf(AtTimeZone { zoned, signature: Signature::any(2, Volatility::Immutable) }).call(vec![zone, time])
    }

    fn kind(&self) -> PgType {
        if self.zoned { PgType::Timestamp } else { PgType::Timestamptz }
    }

    fn compute(&self, pair: &Pair) -> SqlResult<ArrayRef> {
        let (zones, times) = (pair.left.as_string_view(), pair.right.as_primitive::<TimestampMicrosecondType>());
        let mut known: Option<(String, Zone)> = None;
        let mut out = Vec::with_capacity(pair.rows);
        for row in 0..pair.rows {
            if pair.is_null(row) {
                out.push(None);
                continue;
            }
            let name = zones.value(pair.left_at(row));
            let zone = match &known {
                Some((last, zone)) if last == name => *zone,
                _ => {
                    let unknown = || {
                        let message = format!("time zone \"{name}\" not recognized");
                        SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
                    };
                    let zone = Zone::find(name).ok_or_else(unknown)?;
                    known = Some((name.to_string(), zone));
                    zone
                }
            };
            let time = times.value(pair.right_at(row));
            out.push(Some(if self.zoned { zone.to_local(time) } else { zone.to_utc(time) }));
        }
        let array = PrimitiveArray::<TimestampMicrosecondType>::from(out);
        Ok(Arc::new(if self.zoned { array } else { array.with_timezone("+00:00") }))
    }
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.kind().arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pair = Pair::new(&args.args, args.number_rows)?;
        result(&pair, self.compute(&pair).map_err(carry)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::text::{TextStyle, parse_timestamp, write_interval};

    fn at(text: &str) -> i64 {
        parse_timestamp(text, &TextStyle::default()).expect("a timestamp of a test")
    }

    fn part(field: &str, text: &str) -> i128 {
        of_local(field, at(text), false).expect("a known field") / 1_000_000
    }

    #[test]
    fn parts_follow_the_calendar() {
        assert_eq!(part("week", "2024-12-30"), 1);
        assert_eq!(part("isoyear", "2024-12-30"), 2025);
        assert_eq!(part("dow", "2024-02-04"), 0);
        assert_eq!(part("doy", "2024-12-31"), 366);
        assert_eq!(part("century", "2000-06-01"), 20);
        assert_eq!(part("quarter", "2024-11-01"), 4);
        assert_eq!(part("julian", "2000-01-01"), 2_451_545);
        assert_eq!(canonical("YEARS"), Some("year"));
        assert_eq!(canonical("yeer"), None);
    }

    #[test]
    fn ages_count_months_then_days() {
        let shown = |later: &str, earlier: &str| {
            let mut out = Vec::new();
            write_interval(age(at(later), at(earlier)), &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(shown("2024-03-01", "2024-01-31"), "1 mon 1 day");
        assert_eq!(shown("2001-04-10", "1957-06-13"), "43 years 9 mons 27 days");
        assert_eq!(shown("2024-01-01", "2024-01-02 12:00"), "-1 days -12:00:00");
    }
}
