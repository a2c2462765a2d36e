//! Intervals as PostgreSQL reads them: units, clock times, the SQL standard's and ISO 8601's form.

use arrow::datatypes::IntervalMonthDayNano;

use super::calendar::{MICROS_PER_DAY, MICROS_PER_HOUR, MICROS_PER_MINUTE, MICROS_PER_SECOND};
use super::number_in::trim;
use crate::error::{SqlError, SqlResult, SqlState};

/// What one unit of a field is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Months(i64),
    Days(i64),
    Micros(i64),
}

/// Sums of the fields read; fractions of months become days, fractions of days microseconds.
#[derive(Debug, Default)]
struct Sum {
    months: i64,
    days: i64,
    micros: i64,
}

/// Why a text is no interval.
enum Refusal {
    Syntax,
    Overflow,
}

/// Reads an interval.
pub fn parse_interval(text: &str) -> SqlResult<IntervalMonthDayNano> {
    let refused = |refusal| match refusal {
        Refusal::Syntax => SqlError::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{text}\""),
        ),
        Refusal::Overflow => {
            SqlError::new(SqlState(*b"22015"), format!("interval field value out of range: \"{text}\""))
        }
    };
    let trimmed = trim(text);
    let sum = match trimmed.strip_prefix(['P', 'p']) {
        Some(iso) => parse_iso(iso),
        None => parse_postgres(trimmed),
    };
    sum.and_then(|sum| sum.finish()).map_err(refused)
}

impl Sum {
    /// Adds `whole.fraction` of a unit.
    fn add(&mut self, number: Number, unit: Unit) -> Result<(), Refusal> {
        let add = |field: &mut i64, amount: Option<i64>| {
            *field = amount.and_then(|amount| field.checked_add(amount)).ok_or(Refusal::Overflow)?;
            Ok(())
        };
        match unit {
            Unit::Months(months) => {
                add(&mut self.months, number.whole.checked_mul(months))?;
                let part = number.fraction * months as f64;
                if months >= 12 {
                    // A fraction of a year counts in whole months.
                    return add(&mut self.months, Some(part.round_ties_even() as i64));
                }
                self.add_days(part * 30.0)
            }
            Unit::Days(days) => {
                add(&mut self.days, number.whole.checked_mul(days))?;
                self.add_days(number.fraction * days as f64)
            }
            Unit::Micros(micros) => {
                add(&mut self.micros, number.whole.checked_mul(micros))?;
                add(&mut self.micros, Some((number.fraction * micros as f64).round_ties_even() as i64))
            }
        }
    }

    fn add_days(&mut self, days: f64) -> Result<(), Refusal> {
        let whole = days.trunc();
        let micros = ((days - whole) * MICROS_PER_DAY as f64).round_ties_even();
        self.days = self.days.checked_add(whole as i64).ok_or(Refusal::Overflow)?;
        self.micros = self.micros.checked_add(micros as i64).ok_or(Refusal::Overflow)?;
        Ok(())
    }

    fn negate(&mut self) {
        self.months = -self.months;
        self.days = -self.days;
        self.micros = self.micros.wrapping_neg();
    }

    fn finish(self) -> Result<IntervalMonthDayNano, Refusal> {
        let months = i32::try_from(self.months).map_err(|_| Refusal::Overflow)?;
        let days = i32::try_from(self.days).map_err(|_| Refusal::Overflow)?;
        let nanos = self.micros.checked_mul(1000).ok_or(Refusal::Overflow)?;
        Ok(IntervalMonthDayNano::new(months, days, nanos))
    }
}

/// A number split at its point; both parts carry the sign.
#[derive(Debug, Clone, Copy)]
struct Number {
    whole: i64,
    fraction: f64,
}

impl Number {
    fn parse(text: &str) -> Result<Number, Refusal> {
        let (negative, body) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
            return Err(Refusal::Syntax);
        }
        let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| Refusal::Overflow)? };
        let fraction = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().unwrap_or(0.0) };
        Ok(match negative {
            true => Number { whole: -whole, fraction: -fraction },
            false => Number { whole, fraction },
        })
    }
}

/// `1 year 2 mons -3 days 04:05:06.789 ago`, `1-2 3 4:05:06`, `1.5 hours`, `90`.
fn parse_postgres(text: &str) -> Result<Sum, Refusal> {
    let mut sum = Sum::default();
    let words = words(text)?;
    if words.is_empty() {
        return Err(Refusal::Syntax);
    }
    let mut index = 0;
    let mut ago = false;
    let mut seen = 0u16;
    // Each unit may be named once; a clock time counts as hours, minutes and seconds.
    let mut once = |units: u16| {
        let repeated = seen & units != 0;
        seen |= units;
        if repeated { Err(Refusal::Syntax) } else { Ok(()) }
    };
    while let Some(word) = words.get(index) {
        index += 1;
        if word.starts_with(|first: char| first.is_ascii_alphabetic()) {
            if !word.eq_ignore_ascii_case("ago") || index != words.len() || index == 1 {
                return Err(Refusal::Syntax);
            }
            ago = true;
        } else if word.contains(':') {
            once(CLOCK)?;
            sum.add_clock(word)?;
        } else if let Some((years, months)) = years_and_months(word) {
            once(YEARS_AND_MONTHS)?;
            sum.add(Number::parse(years)?, Unit::Months(12))?;
            let months = Number::parse(months)?;
            let months = if word.starts_with('-') { Number { whole: -months.whole, fraction: 0.0 } } else { months };
            sum.add(months, Unit::Months(1))?;
        } else {
            let number = Number::parse(word)?;
            match words.get(index).and_then(|next| unit(next)) {
                Some((unit, bit)) => {
                    index += 1;
                    once(bit)?;
                    sum.add(number, unit)?;
                }
                // A number before a clock time counts days, at the end seconds.
                None if words.get(index).is_some_and(|next| next.contains(':')) => {
                    once(DAYS)?;
                    sum.add(number, Unit::Days(1))?;
                }
                None if index == words.len() => {
                    once(SECONDS)?;
                    sum.add(number, Unit::Micros(MICROS_PER_SECOND))?;
                }
                None => return Err(Refusal::Syntax),
            }
        }
    }
    if ago {
        sum.negate();
    }
    Ok(sum)
}

/// Splits at spaces and between digits and letters; `@` and commas are noise.
fn words(text: &str) -> Result<Vec<&str>, Refusal> {
    let mut words = Vec::new();
    for piece in text.split(|c: char| c.is_ascii_whitespace() || matches!(c, '@' | ',')) {
        let mut rest = piece;
        while !rest.is_empty() {
            let letters = rest.starts_with(|c: char| c.is_ascii_alphabetic());
            let end = rest.find(|c: char| c.is_ascii_alphabetic() != letters).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            if !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:".contains(&byte)) {
                return Err(Refusal::Syntax);
            }
            words.push(word);
            rest = tail;
        }
    }
    Ok(words)
}

/// Splits the SQL standard's `1-2` after its first digit.
fn years_and_months(word: &str) -> Option<(&str, &str)> {
    let dash = word.get(1..)?.find('-')? + 1;
    Some((&word[..dash], &word[dash + 1..]))
}

/// Bits of units that are named without their name.
const SECONDS: u16 = 1 << 2;
const CLOCK: u16 = SECONDS | 1 << 3 | 1 << 4;
const DAYS: u16 = 1 << 5;
const YEARS_AND_MONTHS: u16 = 1 << 7 | 1 << 8;

/// A unit by its name, with a bit of its own.
fn unit(word: &str) -> Option<(Unit, u16)> {
    let word = word.to_ascii_lowercase();
    let (unit, bit) = match word.as_str() {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            (Unit::Micros(1), 0)
        }
        "ms" | "msec" | "msecs" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            (Unit::Micros(1_000), 1)
        }
        "s" | "sec" | "secs" | "second" | "seconds" => (Unit::Micros(MICROS_PER_SECOND), 2),
        "m" | "min" | "mins" | "minute" | "minutes" => (Unit::Micros(MICROS_PER_MINUTE), 3),
        "h" | "hr" | "hrs" | "hour" | "hours" => (Unit::Micros(MICROS_PER_HOUR), 4),
        "d" | "day" | "days" => (Unit::Days(1), 5),
        "w" | "week" | "weeks" => (Unit::Days(7), 6),
        "mon" | "mons" | "month" | "months" => (Unit::Months(1), 7),
        "y" | "yr" | "yrs" | "year" | "years" => (Unit::Months(12), 8),
        "dec" | "decs" | "decade" | "decades" => (Unit::Months(120), 9),
        "c" | "cent" | "century" | "centuries" => (Unit::Months(1_200), 10),
        "mil" | "mils" | "millennia" | "millennium" => (Unit::Months(12_000), 11),
        _ => return None,
    };
    Some((unit, 1 << bit))
}

impl Sum {
    /// Adds `[-]h:mm[:ss[.f]]`; `mm:ss.f` when there is a fraction after two fields.
    fn add_clock(&mut self, word: &str) -> Result<(), Refusal> {
        let (negative, body) = match word.as_bytes().first() {
            Some(b'-') => (true, &word[1..]),
            Some(b'+') => (false, &word[1..]),
            _ => (false, word),
        };
        let parts: Vec<&str> = body.split(':').collect();
        let (hours, minutes, seconds) = match parts.as_slice() {
            [minutes, seconds] if seconds.contains('.') => ("0", *minutes, *seconds),
            [hours, minutes] => (*hours, *minutes, "0"),
            [hours, minutes, seconds] => (*hours, *minutes, *seconds),
            _ => return Err(Refusal::Syntax),
        };
        let (hours, minutes, seconds) = (Number::parse(hours)?, Number::parse(minutes)?, Number::parse(seconds)?);
        if minutes.whole > 59 || seconds.whole > 59 {
            return Err(Refusal::Overflow);
        }
        let mut clock = Sum::default();
        clock.add(hours, Unit::Micros(MICROS_PER_HOUR))?;
        clock.add(minutes, Unit::Micros(MICROS_PER_MINUTE))?;
        clock.add(seconds, Unit::Micros(MICROS_PER_SECOND))?;
        let micros = if negative { -clock.micros } else { clock.micros };
        self.micros = self.micros.checked_add(micros).ok_or(Refusal::Overflow)?;
        Ok(())
    }
}

/// `1Y2M3DT4H5M6S` and `0001-02-03T04:05:06`, behind the P.
fn parse_iso(text: &str) -> Result<Sum, Refusal> {
    let mut sum = Sum::default();
    let (date, time) = text.split_once(['T', 't']).unwrap_or((text, ""));
    if text.is_empty() || text.ends_with(['T', 't']) {
        return Err(Refusal::Syntax);
    }
    let alternative: Vec<&str> = date.split('-').collect();
    match alternative.as_slice() {
        [years, months, days] if !date.ends_with(|c: char| c.is_ascii_alphabetic()) && !years.is_empty() => {
            sum.add(Number::parse(years)?, Unit::Months(12))?;
            sum.add(Number::parse(months)?, Unit::Months(1))?;
            sum.add(Number::parse(days)?, Unit::Days(1))?;
        }
        _ => add_designated(&mut sum, date, |designator| match designator {
            'Y' => Some(Unit::Months(12)),
            'M' => Some(Unit::Months(1)),
            'W' => Some(Unit::Days(7)),
            'D' => Some(Unit::Days(1)),
            _ => None,
        })?,
    }
    if time.contains(':') {
        sum.add_clock(time)?;
        return Ok(sum);
    }
    add_designated(&mut sum, time, |designator| match designator {
        'H' => Some(Unit::Micros(MICROS_PER_HOUR)),
        'M' => Some(Unit::Micros(MICROS_PER_MINUTE)),
        'S' => Some(Unit::Micros(MICROS_PER_SECOND)),
        _ => None,
    })?;
    Ok(sum)
}

fn add_designated(sum: &mut Sum, text: &str, unit: impl Fn(char) -> Option<Unit>) -> Result<(), Refusal> {
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(Refusal::Syntax)?;
        let (number, tail) = rest.split_at(end);
        let designator = tail.chars().next().ok_or(Refusal::Syntax)?;
        let unit = unit(designator.to_ascii_uppercase()).ok_or(Refusal::Syntax)?;
        sum.add(Number::parse(number)?, unit)?;
        rest = &tail[1..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let mut out = Vec::new();
        match parse_interval(text) {
            Ok(interval) => super::super::datetime_out::write_interval(interval, &mut out),
            Err(error) => out.extend_from_slice(format!("{:?} {error}", error.code).as_bytes()),
        }
        String::from_utf8(out).expect("text is UTF-8")
    }

    #[test]
    fn every_way_to_write_an_interval_is_read() {
        let cases = [
            ("1 day 25 hours", "1 day 25:00:00"),
            ("1 year 2 mons 3 days 04:05:06.006", "1 year 2 mons 3 days 04:05:06.006"),
            ("1.5 days", "1 day 12:00:00"),
            ("1.5 months", "1 mon 15 days"),
            ("1.5 years", "1 year 6 mons"),
            ("2 weeks", "14 days"),
            ("@ 1 minute ago", "-00:01:00"),
            ("1-2", "1 year 2 mons"),
            ("-1-2", "-1 years -2 mons"),
            ("3 4:05:06", "3 days 04:05:06"),
            ("90", "00:01:30"),
            ("1h30m", "01:30:00"),
            ("90min", "01:30:00"),
            ("P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"),
            ("P0001-02-03T04:05:06", "1 year 2 mons 3 days 04:05:06"),
            ("PT-1.5H", "-01:30:00"),
            ("-1 days +02:03:00", "-1 days +02:03:00"),
            ("1.234567 sec", "00:00:01.234567"),
            ("100:00:00", "100:00:00"),
            ("5 ms", "00:00:00.005"),
            ("10 centuries", "1000 years"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_interval_is_refused_in_postgresql_words() {
        for text in [
            "",
            "abc",
            "1 furlong",
            "1 day ago 2 days",
            "P",
            "PT",
            "1 2 3",
            "1..5 days",
            "é",
            "1:2:3:4",
            "1 day 2 days",
            "1:00 2 h",
            "3 qtr",
        ] {
            assert_eq!(read(text), format!("22007 invalid input syntax for type interval: \"{text}\""));
        }
        assert_eq!(read("1:70"), "22015 interval field value out of range: \"1:70\"");
        assert!(read("9999999999 days").starts_with("22015"));
        assert!(read("99999999999999999999 days").starts_with("22015"));
    }
}
