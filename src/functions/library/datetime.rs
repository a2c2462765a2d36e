//! Dates and times: made of their parts, truncated, compared.

use arrow::datatypes::IntervalMonthDayNano;

use super::{Entry, Row, Value, strict};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{
    Zone, civil_from_days, date_in_range, days_from_civil, days_in_month, timestamp_in_range,
};

const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;

pub(super) const ENTRIES: &[Entry] = &[
    strict("make_date", "int, int, int", "date", |row| Ok(Value::Days(date(row)?))),
    strict("make_time", "int, int, float8", "time", |row| Ok(Value::Micros(time(row, 0)?))),
    strict("make_timestamp", "int, int, int, int, int, float8", "timestamp", |row| Ok(Value::Micros(timestamp(row)?))),
    strict("make_timestamptz", "int, int, int, int, int, float8", "timestamptz", |row| {
        Ok(Value::Micros(row.style().zone.to_utc(timestamp(row)?)))
    }),
    strict("make_timestamptz", "int, int, int, int, int, float8, text", "timestamptz", |row| {
        Ok(Value::Micros(zone(row.text(6))?.to_utc(timestamp(row)?)))
    }),
    strict("make_interval", "int, int, int, int, int, int, float8", "interval", make_interval),
    strict("isfinite", "date", "boolean", |row| Ok(Value::Bool(date_in_range(row.days(0))))),
    strict("isfinite", "timestamp", "boolean", |row| Ok(Value::Bool(timestamp_in_range(row.micros(0))))),
    strict("isfinite", "timestamptz", "boolean", |row| Ok(Value::Bool(timestamp_in_range(row.micros(0))))),
    strict("isfinite", "interval", "boolean", |_| Ok(Value::Bool(true))),
    strict("overlaps", "time, time, time, time", "boolean", overlaps),
    strict("overlaps", "timestamp, timestamp, timestamp, timestamp", "boolean", overlaps),
    strict("overlaps", "timestamptz, timestamptz, timestamptz, timestamptz", "boolean", overlaps),
    strict("hw_date_trunc", "text, timestamp", "timestamp", |row| {
        Ok(Value::Micros(truncated(row.text(0), row.micros(1), "timestamp without time zone")?))
    }),
    strict("hw_date_trunc", "text, timestamptz", "timestamptz", |row| zoned(row, row.style().zone)),
    strict("hw_date_trunc", "text, timestamptz, text", "timestamptz", |row| zoned(row, zone(row.text(2))?)),
    strict("hw_date_trunc", "text, interval", "interval", |row| {
        Ok(Value::Interval(truncated_interval(row.text(0), row.interval(1))?))
    }),
    strict("timezone", "interval, timestamp", "timestamptz", |row| {
        Ok(Value::Micros(row.micros(1) - row.interval(0).nanoseconds / 1000))
    }),
    strict("timezone", "interval, timestamptz", "timestamp", |row| {
        Ok(Value::Micros(row.micros(1) + row.interval(0).nanoseconds / 1000))
    }),
    strict("pg_sleep", "float8", "text", |row| {
        // Not for ever: a worker of the pool waits.
        let seconds = row.float(0).clamp(0.0, 3600.0);
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
        Value::text("")
    }),
];

fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, format!("{what} out of range"))
}

fn date(row: &Row<'_>) -> SqlResult<i64> {
    let (year, month, day) = (row.int(0), row.int(1), row.int(2));
    let refuse = || {
        let message = format!("date field value out of range: {year}-{month:02}-{day:02}");
        SqlError::new(SqlState::DATETIME_OVERFLOW, message)
    };
    // There is no year 0; those before it are BC.
    let astronomical = if year < 0 { year + 1 } else { year };
    let (Ok(month), Ok(day)) = (u32::try_from(month), u32::try_from(day)) else { return Err(refuse()) };
    let sound = year != 0 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(astronomical, month);
    if !sound {
        return Err(refuse());
    }
    let days = days_from_civil(astronomical, month, day);
    if date_in_range(days) { Ok(days) } else { Err(refuse()) }
}

fn time(row: &Row<'_>, first: usize) -> SqlResult<i64> {
    let (hour, minute, second) = (row.int(first), row.int(first + 1), row.float(first + 2));
    let whole = (0..24).contains(&hour) || (hour == 24 && minute == 0 && second == 0.0);
    if !whole || !(0..60).contains(&minute) || !(0.0..=60.0).contains(&second) {
        let message = format!("time field value out of range: {hour}:{minute:02}:{second:02}");
        return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, message));
    }
    Ok(hour * HOUR + minute * 60_000_000 + (second * 1e6).round() as i64)
}

fn timestamp(row: &Row<'_>) -> SqlResult<i64> {
    let micros = date(row)?.checked_mul(DAY).and_then(|days| days.checked_add(time(row, 3).ok()?));
    time(row, 3)?;
    micros.filter(|micros| timestamp_in_range(*micros)).ok_or_else(|| out_of_range("timestamp"))
}

fn zone(name: &str) -> SqlResult<Zone> {
    Zone::find(name)
        .ok_or_else(|| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized")))
}

fn make_interval(row: &Row<'_>) -> SqlResult<Value> {
    let months = row.int(0) * 12 + row.int(1);
    let days = row.int(2) * 7 + row.int(3);
    let micros = row.int(4) * HOUR + row.int(5) * 60_000_000;
    let seconds = (row.float(6) * 1e6).round();
    let (Ok(months), Ok(days)) = (i32::try_from(months), i32::try_from(days)) else {
        return Err(out_of_range("interval"));
    };
    let nanos = micros.checked_add(seconds as i64).and_then(|micros| micros.checked_mul(1000));
    let nanos = nanos.filter(|_| seconds.is_finite()).ok_or_else(|| out_of_range("interval"))?;
    Ok(Value::Interval(IntervalMonthDayNano::new(months, days, nanos)))
}

/// Whether two spans of time have an instant in common; a span without length is one instant.
fn overlaps(row: &Row<'_>) -> SqlResult<Value> {
    let span = |first: usize| {
        let (a, b) = (row.micros(first), row.micros(first + 1));
        (a.min(b), a.max(b))
    };
    let ((start, end), (other_start, other_end)) = (span(0), span(2));
    let common = match start.cmp(&other_start) {
        std::cmp::Ordering::Less => other_start < end,
        std::cmp::Ordering::Greater => start < other_end,
        std::cmp::Ordering::Equal => true,
    };
    Ok(Value::Bool(common))
}

fn unknown_unit(unit: &str, kind: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unit \"{unit}\" not recognized for type {kind}"))
        .hint("Units are microseconds to hour, day, week, month, quarter, year, decade, century and millennium.")
}

/// The first instant of the unit in which a time lies.
fn truncated(unit: &str, micros: i64, kind: &str) -> SqlResult<i64> {
    if !timestamp_in_range(micros) {
        return Ok(micros);
    }
    let unit = unit.to_ascii_lowercase();
    let down_to = |span: i64| Ok(micros.div_euclid(span) * span);
    let day = micros.div_euclid(DAY);
    let civil = civil_from_days(day);
    let (year, month) = (civil.year, civil.month);
    let first_of = |year: i64, month: u32| Ok(days_from_civil(year, month, 1) * DAY);
    match unit.trim_end_matches('s') {
        "microsecond" | "u" => Ok(micros),
        "millisecond" | "m" => down_to(1000),
        "second" | "sec" => down_to(1_000_000),
        "minute" | "min" => down_to(60_000_000),
        "hour" | "h" => down_to(HOUR),
        "day" | "d" => Ok(day * DAY),
        "week" => Ok((day - (day + 3).rem_euclid(7)) * DAY),
        "month" | "mon" => first_of(year, month),
        "quarter" => first_of(year, (month - 1) / 3 * 3 + 1),
        "year" => first_of(year, 1),
        "decade" => first_of(year.div_euclid(10) * 10, 1),
        "century" | "centurie" => first_of((year - 1).div_euclid(100) * 100 + 1, 1),
        "millennium" | "millennia" => first_of((year - 1).div_euclid(1000) * 1000 + 1, 1),
        _ => Err(unknown_unit(&unit, kind)),
    }
}

fn zoned(row: &Row<'_>, zone: Zone) -> SqlResult<Value> {
    let local = truncated(row.text(0), zone.to_local(row.micros(1)), "timestamp with time zone")?;
    Ok(Value::Micros(zone.to_utc(local)))
}

fn truncated_interval(unit: &str, value: IntervalMonthDayNano) -> SqlResult<IntervalMonthDayNano> {
    let (months, days, micros) = (value.months, value.days, value.nanoseconds / 1000);
    let time = |span: i64| Ok(IntervalMonthDayNano::new(months, days, micros / span * span * 1000));
    let month = |span: i32| Ok(IntervalMonthDayNano::new(months / span * span, 0, 0));
    let unit = unit.to_ascii_lowercase();
    match unit.trim_end_matches('s') {
        "microsecond" => time(1),
        "millisecond" => time(1000),
        "second" => time(1_000_000),
        "minute" => time(60_000_000),
        "hour" => time(HOUR),
        "day" => Ok(IntervalMonthDayNano::new(months, days, 0)),
        "month" => month(1),
        "quarter" => month(3),
        "year" => month(12),
        "decade" => month(120),
        "century" | "centurie" => month(1200),
        "millennium" | "millennia" => month(12_000),
        _ => Err(unknown_unit(&unit, "interval")),
    }
}
