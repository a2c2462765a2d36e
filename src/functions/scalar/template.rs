//! `to_char`, `to_date`, `to_timestamp`, `to_number`: PostgreSQL's templates for dates and numbers.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;

use super::calendar::iso_week;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{Zone, civil_from_days, days_from_civil, days_in_month};

const DAY_MICROS: i64 = 86_400_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The fields of a date template, longer names before their beginnings.
const FIELDS: [&str; 54] = [
    "MONTH", "Month", "month", "HH24", "HH12", "SSSS", "IYYY", "YYYY", "Y,YYY", "A.M.", "P.M.", "a.m.", "p.m.", "Mon",
    "MON", "mon", "DAY", "Day", "day", "DDD", "IYY", "YYY", "IDDD", "TZH", "TZM", "FF1", "FF2", "FF3", "FF4", "FF5",
    "FF6", "AM", "PM", "am", "pm", "HH", "MI", "SS", "MS", "US", "DD", "DY", "Dy", "dy", "IW", "WW", "IY", "YY", "MM",
    "CC", "ID", "TZ", "OF", "Q",
];
const SHORT_FIELDS: [&str; 5] = ["D", "W", "J", "I", "Y"];

enum Piece<'a> {
    Field { name: &'static str, fill: bool, ordinal: Option<bool> },
    Text(&'a str),
}

/// Cuts a template into fields and the text between them.
fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            pieces.push(Piece::Text(&quoted[..end]));
            rest = quoted.get(end + 1..).unwrap_or("");
            continue;
        }
        let fill = rest.starts_with("FM") || rest.starts_with("fm");
        let after = if fill { &rest[2..] } else { rest };
        let upper: String = after.chars().take(6).collect::<String>();
        let found = FIELDS.iter().chain(&SHORT_FIELDS).find(|field| {
            let named = matches!(
                field.to_ascii_lowercase().as_str(),
                "month" | "mon" | "day" | "dy" | "am" | "pm" | "a.m." | "p.m."
            );
            match named {
                true => upper.starts_with(**field),
                false => upper.to_ascii_uppercase().starts_with(**field),
            }
        });
        match found {
            Some(field) => {
                rest = &after[field.len()..];
                let ordinal = [("TH", true), ("th", false)].into_iter().find(|(text, _)| rest.starts_with(text));
                if ordinal.is_some() {
                    rest = &rest[2..];
                }
                pieces.push(Piece::Field { name: field, fill, ordinal: ordinal.map(|(_, upper)| upper) });
            }
            None => {
                let end = rest.chars().next().map_or(0, char::len_utf8);
                pieces.push(Piece::Text(&rest[..end]));
                rest = &rest[end..];
            }
        }
    }
    pieces
}

/// A template for times, cut into its fields once.
pub(super) struct TimeTemplate<'a> {
    pub text: &'a str,
    pieces: Vec<Piece<'a>>,
    /// Microseconds for which what is written stays the same.
    span: i64,
}

/// Microseconds for which a field stays the same, at least.
fn span_of(field: &str) -> i64 {
    match field {
        "SS" | "SSSS" | "MS" | "US" | "TZ" | "OF" | "TZH" | "TZM" => 1,
        fraction if fraction.starts_with("FF") => 1,
        "HH24" | "HH12" | "HH" | "MI" => 60_000_000,
        "AM" | "PM" | "am" | "pm" | "A.M." | "P.M." | "a.m." | "p.m." => 60_000_000,
        _ => DAY_MICROS,
    }
}

impl<'a> TimeTemplate<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let pieces = pieces(text);
        let spans = pieces.iter().map(|piece| match piece {
            Piece::Text(_) => DAY_MICROS,
            Piece::Field { name, .. } => span_of(name),
        });
        let span = spans.min().unwrap_or(DAY_MICROS);
        Self { text, pieces, span }
    }

    /// A number that times share only if they are written alike, but for their zone's offset.
    pub(super) fn place(&self, local: i64) -> i64 {
        local.div_euclid(self.span)
    }

    /// Writes a timestamp. `zone` is that of a timestamptz, whose local time is given.
    pub(super) fn write(&self, local: i64, zone: Option<(&Zone, i32)>, out: &mut String) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field { name, fill, ordinal } => {
                    let before = out.len();
                    write_field(local, zone, name, *fill, out);
                    if let Some(upper) = ordinal {
                        let suffix = ordinal_of(&out[before..]);
                        out.push_str(&if *upper { suffix.to_uppercase() } else { suffix.to_string() });
                    }
                }
            }
        }
    }
}

/// Writes an interval: its parts as they are, hours beyond a day among them.
pub(super) fn write_interval(interval: IntervalMonthDayNano, template: &str, out: &mut String) -> SqlResult<()> {
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Field { name, fill, .. } => write_interval_field(interval, name, fill, out)?,
        }
    }
    Ok(())
}

fn write_interval_field(interval: IntervalMonthDayNano, field: &str, fill: bool, out: &mut String) -> SqlResult<()> {
    let (years, months, days) =
        (i64::from(interval.months / 12), i64::from(interval.months % 12), i64::from(interval.days));
    let micros = interval.nanoseconds / 1000;
    let (hours, seconds) = (micros / 3_600_000_000, micros / 1_000_000);
    let all_days = i64::from(interval.months) * 30 + days;
    let morning = hours.rem_euclid(24) < 12;
    let (value, width) = match field {
        "YYYY" => (years, 4),
        "YYY" => (years % 1000, 3),
        "YY" => (years % 100, 2),
        "Y" => (years % 10, 1),
        "CC" => (years / 100, 2),
        "Q" if months != 0 => ((months - 1) / 3 + 1, 1),
        "MM" => (months, 2),
        "DD" => (days, 2),
        "DDD" => (all_days, 3),
        "WW" => ((all_days - 1) / 7 + 1, 2),
        "W" => ((days - 1) / 7 + 1, 1),
        "HH24" => (hours, 2),
        "HH12" | "HH" => (if hours % 12 == 0 { 12 } else { hours % 12 }, 2),
        "MI" => (seconds / 60 % 60, 2),
        "SS" => (seconds % 60, 2),
        "SSSS" => (seconds, 1),
        "MS" | "FF3" => (micros % 1_000_000 / 1000, 3),
        "US" | "FF6" => (micros % 1_000_000, 6),
        "FF1" => (micros % 1_000_000 / 100_000, 1),
        "FF2" => (micros % 1_000_000 / 10_000, 2),
        "FF4" => (micros % 1_000_000 / 100, 4),
        "FF5" => (micros % 1_000_000 / 10, 5),
        "AM" | "PM" | "am" | "pm" | "A.M." | "P.M." | "a.m." | "p.m." => {
            out.push_str(&half_of_day(field, morning));
            return Ok(());
        }
        "Q" => return Ok(()),
        _ => {
            let message = "invalid format specification for an interval value";
            return Err(SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message)
                .hint("Intervals are not tied to specific calendar dates."));
        }
    };
    // A minus is written before all digits, but for days and fractions, where it is one of them.
    let signed = value < 0 && matches!(field, "YYYY" | "MM" | "HH24" | "HH12" | "HH" | "MI" | "SS");
    let width = if fill { 0 } else { width + usize::from(signed) };
    write!(out, "{value:0width$}").expect("writing to a string does not fail");
    Ok(())
}

/// `AM` in the case and with the points of the field.
fn half_of_day(field: &str, morning: bool) -> String {
    let letter = if morning { 'a' } else { 'p' };
    let text = if field.contains('.') { format!("{letter}.m.") } else { format!("{letter}m") };
    if field.starts_with(char::is_uppercase) { text.to_uppercase() } else { text }
}

fn ordinal_of(number: &str) -> &'static str {
    match (number.ends_with("11") || number.ends_with("12") || number.ends_with("13"), number.chars().last()) {
        (false, Some('1')) => "st",
        (false, Some('2')) => "nd",
        (false, Some('3')) => "rd",
        _ => "th",
    }
}

fn write_field(local: i64, zone: Option<(&Zone, i32)>, field: &'static str, fill: bool, out: &mut String) {
    let (day, time) = (local.div_euclid(DAY_MICROS), local.rem_euclid(DAY_MICROS));
    let date = civil_from_days(day);
    let weekday = (day + 4).rem_euclid(7) as usize;
    let hour = time / 3_600_000_000;
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let micros = time % 1_000_000;
    let day_of_year = day - days_from_civil(date.year, 1, 1) + 1;
    let mut number = |value: i64, width: usize| {
        let written = if fill { write!(out, "{value}") } else { write!(out, "{value:0width$}") };
        written.expect("writing to a string does not fail");
    };
    match field {
        "YYYY" => number(date.year, 4),
        "YYY" => number(date.year.rem_euclid(1000), 3),
        "YY" => number(date.year.rem_euclid(100), 2),
        "Y" => number(date.year.rem_euclid(10), 1),
        "Y,YYY" => out.push_str(&format!("{},{:03}", date.year / 1000, date.year % 1000)),
        "IYYY" => number(iso_week(day).0, 4),
        "IYY" => number(iso_week(day).0.rem_euclid(1000), 3),
        "IY" => number(iso_week(day).0.rem_euclid(100), 2),
        "I" => number(iso_week(day).0.rem_euclid(10), 1),
        "MM" => number(i64::from(date.month), 2),
        "DD" => number(i64::from(date.day), 2),
        "DDD" => number(day_of_year, 3),
        "IDDD" => number((iso_week(day).1 - 1) * 7 + (day + 3).rem_euclid(7) + 1, 3),
        "D" => number(weekday as i64 + 1, 1),
        "ID" => number((day + 3).rem_euclid(7) + 1, 1),
        "WW" => number((day_of_year - 1) / 7 + 1, 2),
        "IW" => number(iso_week(day).1, 2),
        "W" => number((i64::from(date.day) - 1) / 7 + 1, 1),
        "Q" => number(i64::from((date.month - 1) / 3 + 1), 1),
        "CC" => number((date.year + 99) / 100, 2),
        "J" => number(day + 2_440_588, 1),
        "HH24" => number(hour, 2),
        "HH12" | "HH" => number(twelve, 2),
        "MI" => number(time / 60_000_000 % 60, 2),
        "SS" => number(time / 1_000_000 % 60, 2),
        "SSSS" => number(time / 1_000_000, 5),
        "MS" | "FF3" => number(micros / 1000, 3),
        "US" | "FF6" => number(micros, 6),
        "FF1" => number(micros / 100_000, 1),
        "FF2" => number(micros / 10_000, 2),
        "FF4" => number(micros / 100, 4),
        "FF5" => number(micros / 10, 5),
        "AM" | "PM" | "am" | "pm" | "A.M." | "P.M." | "a.m." | "p.m." => out.push_str(&half_of_day(field, hour < 12)),
        "TZ" => out.push_str(&zone.map_or(String::new(), |(zone, _)| zone.name())),
        "OF" | "TZH" | "TZM" => {
            let offset = zone.map_or(0, |(_, offset)| offset);
            let sign = if offset < 0 { '-' } else { '+' };
            let text = match field {
                "TZM" => format!("{:02}", offset.abs() / 60 % 60),
                "OF" if offset % 3600 != 0 => format!("{sign}{:02}:{:02}", offset.abs() / 3600, offset.abs() / 60 % 60),
                _ => format!("{sign}{:02}", offset.abs() / 3600),
            };
            out.push_str(&text);
        }
        name => write_name(name, MONTHS[(date.month - 1) as usize], DAYS[weekday], fill, out),
    }
}

/// Names of months and days in the case of the field, long ones filled to nine letters.
fn write_name(field: &str, month: &str, day: &str, fill: bool, out: &mut String) {
    let long = matches!(field, "MONTH" | "Month" | "month" | "DAY" | "Day" | "day");
    let name = if field.to_ascii_lowercase().starts_with("mon") { month } else { day };
    let name = if long { name } else { &name[..3] };
    let mut letters = field.chars();
    let text = match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_uppercase() => name.to_uppercase(),
        (Some(first), _) if first.is_uppercase() => name.to_string(),
        _ => name.to_lowercase(),
    };
    out.push_str(&text);
    if long && !fill {
        out.extend(std::iter::repeat_n(' ', 9 - name.len()));
    }
}

/// What a text says by a template: local microseconds, and an offset if the template has one.
pub(super) fn read_time(text: &str, template: &str) -> SqlResult<(i64, Option<i32>)> {
    let mut fields = Fields { text, at: 0, ..Fields::default() };
    for piece in pieces(template) {
        match piece {
            Piece::Text(separator) => fields.skip(separator),
            Piece::Field { name, .. } => fields.read(name)?,
        }
    }
    fields.finish()
}

#[derive(Default)]
struct Fields<'a> {
    text: &'a str,
    at: usize,
    year: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    afternoon: Option<bool>,
    offset: Option<i32>,
}

impl Fields<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn bad(&self, field: &str) -> SqlError {
        let found: String = self.rest().chars().take(4).collect();
        let message = format!("invalid value \"{found}\" for \"{field}\"");
        SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message).detail("Value must be as the template says.")
    }

    /// A separator of the template passes over one character that is no letter or digit, and over spaces.
    fn skip(&mut self, separator: &str) {
        if separator.chars().all(char::is_alphanumeric) {
            self.at += self.rest().chars().take(separator.chars().count()).map(char::len_utf8).sum::<usize>();
        } else if let Some(c) =
            self.rest().chars().next().filter(|c| !c.is_alphanumeric() && *c != '-' || separator == "-")
        {
            self.at += if c.is_alphanumeric() { 0 } else { c.len_utf8() };
        }
    }

    fn number(&mut self, field: &str, width: usize) -> SqlResult<i64> {
        self.at += self.rest().len() - self.rest().trim_start().len();
        let digits = self.rest().bytes().take(width).take_while(u8::is_ascii_digit).count();
        let value = self.rest()[..digits].parse().map_err(|_| self.bad(field))?;
        self.at += digits;
        Ok(value)
    }

    fn fraction(&mut self, field: &str, width: usize) -> SqlResult<i64> {
        let start = self.at;
        let value = self.number(field, width)?;
        let digits = (self.at - start) as u32;
        Ok(value * 10_i64.pow(6_u32.saturating_sub(digits)))
    }

    fn name(&mut self, field: &str, names: &[&str], whole: bool) -> SqlResult<i64> {
        let lower = self.rest().to_lowercase();
        let found = names.iter().position(|name| {
            let name = name.to_lowercase();
            lower.starts_with(if whole { &name } else { &name[..3] })
        });
        let Some(index) = found else { return Err(self.bad(field)) };
        self.at += if whole { names[index].len() } else { 3 };
        Ok(index as i64)
    }

    fn read(&mut self, field: &'static str) -> SqlResult<()> {
        match field {
            "YYYY" | "IYYY" => self.year = Some(self.number(field, 9.min(4 + usize::from(self.ends_here(4))))?),
            "YYY" | "YY" | "Y" => {
                let value = self.number(field, field.len())?;
                self.year = Some(if value < 70 { 2000 + value } else { 1900 + value });
            }
            "MM" => self.month = Some(self.number(field, 2)?),
            "DD" => self.day = Some(self.number(field, 2)?),
            "DDD" => self.day_of_year = Some(self.number(field, 3)?),
            "J" => self.julian = Some(self.number(field, 8)?),
            "HH24" | "HH12" | "HH" => self.hour = self.number(field, 2)?,
            "MI" => self.minute = self.number(field, 2)?,
            "SS" => self.second = self.number(field, 2)?,
            "SSSS" => self.second = self.number(field, 5)?,
            "MS" => self.micros = self.fraction(field, 3)?,
            "US" => self.micros = self.fraction(field, 6)?,
            "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => {
                self.micros = self.fraction(field, usize::from(field.as_bytes()[2] - b'0'))?;
            }
            "AM" | "PM" | "am" | "pm" => {
                self.afternoon = Some(self.name(field, &["am ", "pm "], false).is_ok_and(|i| i == 1) || self.half()?)
            }
            "A.M." | "P.M." | "a.m." | "p.m." => self.afternoon = Some(self.name(field, &["a.m.", "p.m."], true)? == 1),
            "TZH" => {
                let negative = self.rest().starts_with('-');
                if self.rest().starts_with(['+', '-']) {
                    self.at += 1;
                }
                let hours = self.number(field, 2)? as i32;
                self.offset = Some(if negative { -hours * 3600 } else { hours * 3600 });
            }
            "TZM" => {
                let minutes = self.number(field, 2)? as i32;
                self.offset = self.offset.map(|offset| offset + offset.signum() * minutes * 60);
            }
            "MONTH" | "Month" | "month" => self.month = Some(self.name(field, &MONTHS, true)? + 1),
            "MON" | "Mon" | "mon" => self.month = Some(self.name(field, &MONTHS, false)? + 1),
            "DAY" | "Day" | "day" => {
                self.name(field, &DAYS, true)?;
            }
            "DY" | "Dy" | "dy" => {
                self.name(field, &DAYS, false)?;
            }
            _ => {
                let message = format!("formatting field \"{field}\" is only supported in to_char");
                return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
            }
        }
        Ok(())
    }

    /// Whether the digits go on after so many: a year of five digits.
    fn ends_here(&self, width: usize) -> bool {
        self.rest().len() > width && self.rest().bytes().all(|b| b.is_ascii_digit()) && self.rest().len() < 6
    }

    /// `am` or `pm` at the end of the text.
    fn half(&mut self) -> SqlResult<bool> {
        let lower = self.rest().to_lowercase();
        let answer = match () {
            () if lower.starts_with("pm") => true,
            () if lower.starts_with("am") => false,
            () => return Err(self.bad("AM")),
        };
        self.at += 2;
        Ok(answer)
    }

    fn finish(self) -> SqlResult<(i64, Option<i32>)> {
        let out_of_range = || {
            let message = format!("date/time field value out of range: \"{}\"", self.text);
            SqlError::new(SqlState::DATETIME_OVERFLOW, message)
        };
        let year = self.year.unwrap_or(1);
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let valid = (1..=12).contains(&month)
            && day >= 1
            && day <= i64::from(days_in_month(year, month as u32))
            && (0..24).contains(&hour)
            && (0..60).contains(&self.minute)
            && self.second < 86_400;
        if !valid {
            return Err(out_of_range());
        }
        let mut days = days_from_civil(year, month as u32, day as u32);
        if let Some(day_of_year) = self.day_of_year {
            days = days_from_civil(year, 1, 1) + day_of_year - 1;
        }
        if let Some(julian) = self.julian {
            days = julian - 2_440_588;
        }
        let time = (hour * 3600 + self.minute * 60 + self.second) * 1_000_000 + self.micros;
        let local = days.checked_mul(DAY_MICROS).and_then(|micros| micros.checked_add(time));
        Ok((local.ok_or_else(out_of_range)?, self.offset))
    }
}

/// A number, given as plain digits, by a template such as `FM9,990.00`.
pub(super) fn write_number(digits: &str, template: &str, out: &mut String) {
    let (fill, template) = match template.strip_prefix("FM").or_else(|| template.strip_prefix("fm")) {
        Some(rest) => (true, rest),
        None => (false, template),
    };
    let (whole_template, fraction_template) = match template.find(['.', 'D', 'd']) {
        Some(point) => (&template[..point], Some(&template[point + 1..])),
        None => (template, None),
    };
    let places = fraction_template.map_or(0, |text| text.matches(['9', '0']).count());
    let negative = digits.starts_with('-');
    let (whole, fraction) = rounded(digits.trim_start_matches(['-', '+']), places);
    let slots = whole_template.matches(['9', '0']).count();
    let mut text = whole_by(whole_template, &whole, slots, fill);
    if let Some(fraction_template) = fraction_template {
        text.push('.');
        text.push_str(&fraction_by(fraction_template, &fraction, fill));
    }
    let own_sign = template.contains(['S', 's']) || template.contains("MI") || template.contains("PR");
    let sign = match (negative && (whole.bytes().chain(fraction.bytes()).any(|b| b != b'0')), own_sign) {
        (true, false) => "-",
        (false, false) if !fill => " ",
        _ => "",
    };
    // The sign stands just before the first digit.
    let first = text.find(|c: char| c != ' ').unwrap_or(text.len());
    out.push_str(&text[..first]);
    out.push_str(sign);
    out.push_str(&text[first..]);
    if template.contains("MI") {
        out.push_str(if negative {
            "-"
        } else if fill {
            ""
        } else {
            " "
        });
    }
    if template.contains(['S', 's']) {
        out.push(if negative { '-' } else { '+' });
    }
}

/// Plain digits with so many places, half away from zero.
fn rounded(digits: &str, places: usize) -> (String, String) {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut all: Vec<u8> = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(places)).collect();
    let up = fraction.as_bytes().get(places).is_some_and(|digit| *digit >= b'5');
    if up {
        let carried = all.iter_mut().rev().any(|digit| match *digit {
            b'9' => {
                *digit = b'0';
                false
            }
            _ => {
                *digit += 1;
                true
            }
        });
        if !carried {
            all.insert(0, b'1');
        }
    }
    let text = String::from_utf8(all).expect("digits are ASCII");
    let point = text.len() - places;
    let whole = text[..point].trim_start_matches('0');
    (whole.to_string(), text[point..].to_string())
}

fn whole_by(template: &str, whole: &str, slots: usize, fill: bool) -> String {
    if whole.len() > slots {
        return template
            .chars()
            .filter_map(|c| match c {
                '9' | '0' => Some('#'),
                ',' | 'G' => Some(','),
                _ => None,
            })
            .collect();
    }
    let mut out = String::new();
    let digits: Vec<char> = std::iter::repeat_n(' ', slots - whole.len()).chain(whole.chars()).collect();
    let mut slot = 0;
    let mut started = false;
    for c in template.chars() {
        match c {
            '9' | '0' => {
                started |= digits[slot] != ' ' || c == '0';
                match (digits[slot], started) {
                    (' ', true) => out.push('0'),
                    (' ', false) => out.push_str(if fill { "" } else { " " }),
                    (digit, _) => out.push(digit),
                }
                slot += 1;
            }
            ',' | 'G' if started => out.push(','),
            ',' | 'G' => out.push_str(if fill { "" } else { " " }),
            '$' | 'L' => out.push('$'),
            'S' | 's' | 'M' | 'I' | 'P' | 'R' | 'B' => {}
            other => out.push(other),
        }
    }
    out
}

fn fraction_by(template: &str, fraction: &str, fill: bool) -> String {
    let slots: Vec<char> = template.chars().filter(|c| matches!(c, '9' | '0')).collect();
    let mut out: Vec<char> = fraction.chars().collect();
    if fill {
        // Zeros at the end go as far as the template says 9.
        while out.len() == slots[..out.len().min(slots.len())].len()
            && out.last() == Some(&'0')
            && slots.get(out.len() - 1) == Some(&'9')
        {
            out.pop();
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::text::{TextStyle, parse_timestamp, write_timestamp};

    fn shown(text: &str, template: &str) -> String {
        let mut out = String::new();
        let at = parse_timestamp(text, &TextStyle::default()).expect("a timestamp of a test");
        TimeTemplate::new(template).write(at, None, &mut out);
        out
    }

    fn number(digits: &str, template: &str) -> String {
        let mut out = String::new();
        write_number(digits, template, &mut out);
        out
    }

    #[test]
    fn dates_are_written_by_templates() {
        let at = "2024-02-03 14:05:06.789";
        for (template, expected) in [
            ("YYYY-MM-DD HH24:MI:SS", "2024-02-03 14:05:06"),
            ("Mon DD, YYYY", "Feb 03, 2024"),
            ("FMDay, FMDDth FMMonth", "Saturday, 3rd February"),
            ("Month", "February "),
            ("HH12:MI AM", "02:05 PM"),
            ("IYYY-\"W\"IW", "2024-W05"),
            ("Q DDD", "1 034"),
            ("MS US", "789 789000"),
            ("yyyy/mm/dd", "2024/02/03"),
        ] {
            assert_eq!(shown(at, template), expected, "{template}");
        }
    }

    #[test]
    fn dates_are_read_by_templates() {
        for (text, template, expected) in [
            ("2024-01-02", "YYYY-MM-DD", "2024-01-02 00:00:00"),
            ("02/01/2024", "DD/MM/YYYY", "2024-01-02 00:00:00"),
            ("05 Dec 2000", "DD Mon YYYY", "2000-12-05 00:00:00"),
            ("20240102030405", "YYYYMMDDHH24MISS", "2024-01-02 03:04:05"),
            ("2024-01-02 01:30 PM", "YYYY-MM-DD HH12:MI AM", "2024-01-02 13:30:00"),
        ] {
            let mut out = Vec::new();
            write_timestamp(read_time(text, template).expect(text).0, &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), expected, "{text}");
        }
        assert_eq!(read_time("2024-13-01", "YYYY-MM-DD").expect_err("no month").code, SqlState::DATETIME_OVERFLOW);
        assert_eq!(read_time("x", "YYYY").expect_err("no year").code, SqlState::INVALID_DATETIME_FORMAT);
    }

    #[test]
    fn numbers_are_written_by_templates() {
        for (digits, template, expected) in [
            ("1234.5", "FM9,999.00", "1,234.50"),
            ("1234.5", "9,999.99", " 1,234.50"),
            ("-12", "999", " -12"),
            ("12", "999", "  12"),
            ("5", "000", " 005"),
            ("5", "FM000", "005"),
            ("0.126", "FM0.00", "0.13"),
            ("12345", "999", " ###"),
            ("1.50", "FM9.99", "1.5"),
        ] {
            assert_eq!(number(digits, template), expected, "{digits} {template}");
        }
    }

    #[test]
    fn times_at_one_place_are_written_alike() {
        let write = |by: &TimeTemplate, local| {
            let mut out = String::new();
            by.write(local, None, &mut out);
            out
        };
        for field in FIELDS.iter().chain(&SHORT_FIELDS) {
            let by = TimeTemplate::new(field);
            for place in [-400, -1, 0, 719, 720, 1_000_003] {
                let first = place * by.span;
                for local in [first + by.span / 3, first + by.span - 1] {
                    assert_eq!(by.place(local), by.place(first));
                    assert_eq!(write(&by, local), write(&by, first), "{field} at {local}");
                }
            }
        }
    }
}
