//! Dates, times and timestamps as PostgreSQL reads them.

use super::TextStyle;
use super::calendar::*;
use super::number_in::trim;
use super::zone::{Zone, abbreviation, parse_offset};
use crate::error::{SqlError, SqlResult, SqlState};

/// Reads a `date`: days since 1970-01-01.
pub fn parse_date(text: &str, style: &TextStyle) -> SqlResult<i32> {
    if let Some(days) = iso_day(text.as_bytes()) {
        return Ok(days as i32);
    }
    let moment = read(text, "date", style)?;
    let days = match moment {
        Moment::Infinity => return Ok(DATE_INFINITY),
        Moment::MinusInfinity => return Ok(DATE_MINUS_INFINITY),
        Moment::Epoch => 0,
        Moment::Instant(micros) => style.zone.to_local(micros).div_euclid(MICROS_PER_DAY),
        Moment::Local { days, .. } => days,
    };
    match date_in_range(days) {
        true => Ok(days as i32),
        false => Err(SqlError::new(SqlState::DATETIME_OVERFLOW, format!("date out of range: \"{text}\""))),
    }
}

/// Reads a `timestamp`: microseconds since 1970-01-01 00:00. A time zone in the text is read and dropped.
pub fn parse_timestamp(text: &str, style: &TextStyle) -> SqlResult<i64> {
    if let Some(micros) = iso_timestamp(text.as_bytes()) {
        return Ok(micros);
    }
    let micros = match read(text, "timestamp", style)? {
        Moment::Infinity => return Ok(TIMESTAMP_INFINITY),
        Moment::MinusInfinity => return Ok(TIMESTAMP_MINUS_INFINITY),
        Moment::Epoch => Some(0),
        Moment::Instant(micros) => Some(style.zone.to_local(micros)),
        Moment::Local { days, micros, .. } => local_micros(days, micros),
    };
    in_range(micros, text)
}

/// Reads a `timestamptz`: microseconds since 1970-01-01 00:00 UTC. Without a zone in the text the session's counts.
pub fn parse_timestamptz(text: &str, style: &TextStyle) -> SqlResult<i64> {
    let micros = match read(text, "timestamp with time zone", style)? {
        Moment::Infinity => return Ok(TIMESTAMP_INFINITY),
        Moment::MinusInfinity => return Ok(TIMESTAMP_MINUS_INFINITY),
        Moment::Epoch => Some(0),
        Moment::Instant(micros) => Some(micros),
        Moment::Local { days, micros, zone } => {
            let zone = zone.unwrap_or(style.zone);
            local_micros(days, micros).map(|local| zone.to_utc(local))
        }
    };
    in_range(micros, text)
}

/// Reads a `time`: microseconds since midnight. A date and a zone in the text are read and dropped.
pub fn parse_time(text: &str, style: &TextStyle) -> SqlResult<i64> {
    let fields = Fields::read_time(text)
        .and_then(|fields| fields.check_time())
        .map_err(|refusal| refusal.error(text, "time"))?;
    match (fields.time, fields.special) {
        (Some(micros), _) => Ok(micros),
        (None, Some(Special::Now)) => Ok(style.zone.to_local(style.now).rem_euclid(MICROS_PER_DAY)),
        (None, Some(Special::Midnight)) => Ok(0),
        (None, _) => Err(Refusal::Syntax.error(text, "time")),
    }
}

fn local_micros(days: i64, micros: i64) -> Option<i64> {
    days.checked_mul(MICROS_PER_DAY)?.checked_add(micros)
}

fn in_range(micros: Option<i64>, text: &str) -> SqlResult<i64> {
    micros
        .filter(|micros| timestamp_in_range(*micros))
        .ok_or_else(|| SqlError::new(SqlState::DATETIME_OVERFLOW, format!("timestamp out of range: \"{text}\"")))
}

/// `2024-01-31` and nothing else: nearly every date there is.
fn iso_day(bytes: &[u8]) -> Option<i64> {
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i64::from(two(bytes, 0)? * 100 + two(bytes, 2)?);
    let (month, day) = (two(bytes, 5)?, two(bytes, 8)?);
    let valid = year > 0 && (1..=12).contains(&month) && day >= 1 && day <= days_in_month(year, month);
    valid.then(|| days_from_civil(year, month, day))
}

fn two(bytes: &[u8], at: usize) -> Option<u32> {
    let (tens, ones) = (bytes[at].wrapping_sub(b'0'), bytes[at + 1].wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then_some(u32::from(tens) * 10 + u32::from(ones))
}

/// `2024-01-31 12:34:56[.123456]`, with a T if need be, and nothing else.
fn iso_timestamp(bytes: &[u8]) -> Option<i64> {
    if bytes.len() < 19 || !matches!(bytes[10], b' ' | b'T') || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let days = iso_day(&bytes[..10])?;
    let (hour, minute, second) = (two(bytes, 11)?, two(bytes, 14)?, two(bytes, 17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match bytes.get(19) {
        None => 0,
        Some(b'.') if (21..=26).contains(&bytes.len()) => {
            let digits = std::str::from_utf8(&bytes[20..]).ok().filter(|text| !text.starts_with('+'))?;
            digits.parse::<i64>().ok()? * 10i64.pow(6 - digits.len() as u32)
        }
        Some(_) => return None,
    };
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some(days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + fraction)
}

/// What a text names.
enum Moment {
    Infinity,
    MinusInfinity,
    /// 1970-01-01 00:00, in whatever zone the type is read.
    Epoch,
    Instant(i64),
    Local {
        days: i64,
        micros: i64,
        zone: Option<Zone>,
    },
}

fn read(text: &str, type_name: &'static str, style: &TextStyle) -> SqlResult<Moment> {
    let refused = |refusal: Refusal| refusal.error(text, type_name);
    let fields = Fields::read(text).and_then(|fields| fields.check()).map_err(refused)?;
    let today = || style.zone.to_local(style.now).div_euclid(MICROS_PER_DAY);
    let local = |days| Moment::Local { days, micros: fields.time.unwrap_or(0), zone: fields.zone };
    Ok(match fields.special {
        Some(Special::Infinity) => Moment::Infinity,
        Some(Special::MinusInfinity) => Moment::MinusInfinity,
        Some(Special::Epoch) => Moment::Epoch,
        Some(Special::Now) => Moment::Instant(style.now),
        Some(Special::Day(shift)) => local(today() + shift),
        Some(Special::Midnight) => return Err(refused(Refusal::Syntax)),
        None => local(fields.days.ok_or_else(|| refused(Refusal::Syntax))?),
    })
}

/// Why a text is no date or time.
#[derive(Debug, Clone, PartialEq)]
enum Refusal {
    Syntax,
    Field,
    /// A month or day that would fit if they changed places.
    MonthOrDay,
    Zone(String),
    ZoneOffset,
}

impl Refusal {
    fn error(self, text: &str, type_name: &str) -> SqlError {
        let overflow =
            || SqlError::new(SqlState::DATETIME_OVERFLOW, format!("date/time field value out of range: \"{text}\""));
        match self {
            Refusal::Syntax => SqlError::new(
                SqlState::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {type_name}: \"{text}\""),
            ),
            Refusal::Field => overflow(),
            Refusal::MonthOrDay => overflow().hint("Perhaps you need a different \"datestyle\" setting."),
            Refusal::Zone(name) => {
                SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"))
            }
            Refusal::ZoneOffset => {
                SqlError::new(SqlState(*b"22009"), format!("time zone displacement out of range: \"{text}\""))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Special {
    Infinity,
    MinusInfinity,
    Epoch,
    Now,
    Midnight,
    /// So many days after today.
    Day(i64),
}

/// What the words of a text say, one after the other.
#[derive(Debug, Default)]
struct Fields {
    days: Option<i64>,
    year: Option<i64>,
    year_is_short: bool,
    month: Option<u32>,
    month_was_name: bool,
    day: Option<u32>,
    day_of_year: Option<u32>,
    time: Option<i64>,
    zone: Option<Zone>,
    special: Option<Special>,
    before_christ: bool,
    wants_time: bool,
    afternoon: Option<bool>,
}

impl Fields {
    fn read(text: &str) -> Result<Fields, Refusal> {
        Fields::default().read_words(text)
    }

    /// As [`Fields::read`], for the type `time`: four or six digits alone are a time.
    fn read_time(text: &str) -> Result<Fields, Refusal> {
        Fields { wants_time: true, ..Fields::default() }.read_words(text)
    }

    fn read_words(mut self, text: &str) -> Result<Fields, Refusal> {
        let fields = &mut self;
        let mut rest = trim(text);
        while let Some(first) = rest.chars().next() {
            rest = match first {
                ' ' | '\t' | '\n' | '\r' | ',' => &rest[1..],
                '0'..='9' | '.' => fields.number_first(rest)?,
                '+' | '-' => fields.sign_first(rest)?,
                'a'..='z' | 'A'..='Z' => fields.letter_first(rest)?,
                _ => return Err(Refusal::Syntax),
            };
        }
        Ok(self)
    }

    fn number_first<'a>(&mut self, rest: &'a str) -> Result<&'a str, Refusal> {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        match rest.as_bytes().get(digits) {
            Some(b':') => {
                let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.')).unwrap_or(rest.len());
                self.clock(&rest[..end])?;
                Ok(&rest[end..])
            }
            Some(b'-' | b'/') => self.date(rest),
            Some(b'.') if self.time.is_none() && rest[digits + 1..].contains('.') => self.date(rest),
            _ => {
                let fraction = rest[digits..]
                    .strip_prefix('.')
                    .map_or(0, |tail| 1 + tail.bytes().take_while(u8::is_ascii_digit).count());
                self.number(&rest[..digits], &rest[digits..digits + fraction])?;
                Ok(&rest[digits + fraction..])
            }
        }
    }

    /// A zone offset, or `-infinity`.
    fn sign_first<'a>(&mut self, rest: &'a str) -> Result<&'a str, Refusal> {
        let body = rest[1..].trim_start_matches(' ');
        let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != ':').unwrap_or(body.len());
        let word = &body[..end];
        if word.eq_ignore_ascii_case("infinity") || word.eq_ignore_ascii_case("inf") {
            let infinity = if rest.starts_with('-') { Special::MinusInfinity } else { Special::Infinity };
            self.set_special(infinity)?;
            return Ok(&body[end..]);
        }
        let end = body.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(body.len());
        if self.days.is_none() && self.time.is_none() || end == 0 {
            return Err(Refusal::Syntax);
        }
        let sign = &rest[..1];
        let offset = parse_offset(&format!("{sign}{}", &body[..end])).ok_or(Refusal::ZoneOffset)?;
        // `UTC+2` counts from the zone before it.
        let offset = match self.zone {
            None => offset,
            Some(Zone::Fixed(0)) => -offset,
            Some(_) => return Err(Refusal::Syntax),
        };
        self.zone = Some(Zone::Fixed(offset));
        Ok(&body[end..])
    }

    fn letter_first<'a>(&mut self, rest: &'a str) -> Result<&'a str, Refusal> {
        let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let word = rest[..end].to_ascii_lowercase();
        let tail = &rest[end..];
        // `T` between date and time, `J` before a Julian day.
        if word == "t" && tail.starts_with(|c: char| c.is_ascii_digit()) && self.time.is_none() {
            return self.time_behind_t(tail);
        }
        if word == "j" && tail.starts_with(|c: char| c.is_ascii_digit()) {
            return self.julian(tail);
        }
        if let Some(month) = month(&word) {
            if self.month.is_none() && tail.starts_with(['-', '/', '.']) {
                return self.date(rest);
            }
            return self.set_month(month).map(|()| tail);
        }
        if self.keyword(&word)? {
            return Ok(tail);
        }
        self.zone_name(rest)
    }

    fn time_behind_t<'a>(&mut self, tail: &'a str) -> Result<&'a str, Refusal> {
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        match tail.as_bytes().get(digits) {
            Some(b':') => self.number_first(tail),
            _ => {
                let fraction = tail[digits..]
                    .strip_prefix('.')
                    .map_or(0, |tail| 1 + tail.bytes().take_while(u8::is_ascii_digit).count());
                self.compact_time(&tail[..digits], &tail[digits..digits + fraction])?;
                Ok(&tail[digits + fraction..])
            }
        }
    }

    fn julian<'a>(&mut self, tail: &'a str) -> Result<&'a str, Refusal> {
        let end = tail.bytes().take_while(u8::is_ascii_digit).count();
        let days: i64 = tail[..end].parse().map_err(|_| Refusal::Field)?;
        if self.days.is_some() || self.month.is_some() {
            return Err(Refusal::Syntax);
        }
        self.days = Some(days - JULIAN_DAY_OF_EPOCH);
        Ok(&tail[end..])
    }

    fn set_special(&mut self, special: Special) -> Result<(), Refusal> {
        match self.special.replace(special) {
            None => Ok(()),
            Some(_) => Err(Refusal::Syntax),
        }
    }

    fn set_month(&mut self, month: u32) -> Result<(), Refusal> {
        // `8 January`: what was taken for a month before the name is the day.
        if let (Some(number), false, None) = (self.month, self.month_was_name, self.day) {
            self.day = Some(number);
            self.month = None;
        }
        match self.month.replace(month) {
            None => {
                self.month_was_name = true;
                Ok(())
            }
            Some(_) => Err(Refusal::Syntax),
        }
    }

    /// Words that are neither month nor zone; false if the word is none of them.
    fn keyword(&mut self, word: &str) -> Result<bool, Refusal> {
        match word {
            "infinity" | "inf" => self.set_special(Special::Infinity)?,
            "epoch" => self.set_special(Special::Epoch)?,
            "now" => self.set_special(Special::Now)?,
            "today" => self.set_special(Special::Day(0))?,
            "tomorrow" => self.set_special(Special::Day(1))?,
            "yesterday" => self.set_special(Special::Day(-1))?,
            "allballs" if self.time.is_none() => {
                self.time = Some(0);
                self.zone = Some(Zone::UTC);
                if self.days.is_none() && self.month.is_none() {
                    self.set_special(Special::Midnight)?;
                }
            }
            "bc" => self.before_christ = true,
            "ad" | "at" | "on" => {}
            "am" => self.afternoon = Some(false),
            "pm" => self.afternoon = Some(true),
            _ => return Ok(is_weekday(word)),
        }
        Ok(true)
    }

    fn zone_name<'a>(&mut self, rest: &'a str) -> Result<&'a str, Refusal> {
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let whole = rest.find(|c: char| c.is_ascii_whitespace() || c == ',').unwrap_or(rest.len());
        if self.zone.is_some() {
            return Err(Refusal::Syntax);
        }
        if let Some(offset) = abbreviation(&rest[..letters]).filter(|_| !rest[letters..].starts_with('/')) {
            self.zone = Some(Zone::Fixed(offset));
            return Ok(&rest[letters..]);
        }
        let name = &rest[..whole];
        match Zone::find(name) {
            Some(zone) => self.zone = Some(zone),
            None if name.contains('/') => return Err(Refusal::Zone(name.to_ascii_lowercase())),
            None => return Err(Refusal::Syntax),
        }
        Ok(&rest[whole..])
    }

    /// Three fields with equal delimiters: `1999-01-08`, `1/8/1999`, `8-Jan-1999`, `Jan-08-1999`, `1999-008`.
    fn date<'a>(&mut self, rest: &'a str) -> Result<&'a str, Refusal> {
        let first = rest.find(|c: char| !c.is_ascii_alphanumeric()).ok_or(Refusal::Syntax)?;
        let delimiter = rest[first..].chars().next().ok_or(Refusal::Syntax)?;
        let mut parts = vec![&rest[..first]];
        let mut tail = &rest[first..];
        while parts.len() < 3 && tail.starts_with(delimiter) {
            let body = &tail[1..];
            let letters = body.starts_with(|c: char| c.is_ascii_alphabetic());
            let end = body.find(|c: char| match letters {
                true => !c.is_ascii_alphabetic(),
                false => !c.is_ascii_digit(),
            });
            let end = end.unwrap_or(body.len());
            parts.push(&body[..end]);
            tail = &body[end..];
        }
        if self.days.is_some() || self.year.is_some() || parts.iter().any(|part| part.is_empty()) {
            return Err(Refusal::Syntax);
        }
        self.date_parts(&parts)?;
        Ok(tail)
    }

    fn date_parts(&mut self, parts: &[&str]) -> Result<(), Refusal> {
        if let [year, day] = parts {
            if year.len() < 3 || day.len() != 3 {
                return Err(Refusal::Syntax);
            }
            self.set_year(year)?;
            self.day_of_year = Some(day.parse().map_err(|_| Refusal::Syntax)?);
            return Ok(());
        }
        let mut numbers = Vec::with_capacity(3);
        for part in parts {
            match part.starts_with(|c: char| c.is_ascii_alphabetic()) {
                true => self.set_month(month(&part.to_ascii_lowercase()).ok_or(Refusal::Syntax)?)?,
                false => numbers.push(*part),
            }
        }
        for number in numbers {
            self.date_number(number)?;
        }
        Ok(())
    }

    /// One number of a date, in the order year-month-day if the year is first, else month, day, year.
    fn date_number(&mut self, number: &str) -> Result<(), Refusal> {
        let short: Result<u32, Refusal> = number.parse().map_err(|_| Refusal::Field);
        let begins = self.year.is_none() && self.month.is_none() && self.day.is_none();
        if number.len() >= 3 && self.year.is_none() && (begins || self.day.is_some() || self.month_was_name) {
            return self.set_year(number);
        }
        if self.month.is_none() && self.day_of_year.is_none() {
            self.month = Some(short?);
        } else if self.day.is_none() {
            self.day = Some(short?);
        } else if self.year.is_none() {
            self.set_year(number)?;
        } else {
            return Err(Refusal::Syntax);
        }
        Ok(())
    }

    fn set_year(&mut self, digits: &str) -> Result<(), Refusal> {
        self.year = Some(digits.parse().map_err(|_| Refusal::Field)?);
        self.year_is_short = digits.len() <= 2;
        Ok(())
    }

    /// A number without delimiter: part of a spelled-out date, a whole date, or a whole time.
    fn number(&mut self, digits: &str, fraction: &str) -> Result<(), Refusal> {
        let has_date = self.days.is_some() || self.year.is_some() && self.month.is_some() && self.day.is_some();
        let begins = self.year.is_none() && self.month.is_none() && self.day.is_none();
        let is_time = self.wants_time && begins && matches!(digits.len(), 4 | 6);
        if has_date || self.special.is_some() || is_time {
            return match digits.len() {
                4 | 6 if self.time.is_none() => self.compact_time(digits, fraction),
                _ => Err(Refusal::Syntax),
            };
        }
        // `1999.008`: a year and a day of it.
        if digits.len() == 4 && fraction.len() == 4 && begins {
            self.day_of_year = fraction[1..].parse().ok();
            return self.set_year(digits);
        }
        if !fraction.is_empty() {
            return Err(Refusal::Syntax);
        }
        match digits.len() {
            length if length >= 8 && self.month.is_none() => {
                let (year, rest) = digits.split_at(length - 4);
                self.set_year(year)?;
                self.month = rest[..2].parse().ok();
                self.day = rest[2..].parse().ok();
                Ok(())
            }
            6 if self.month.is_none() && self.year.is_none() => {
                self.set_year(&digits[..2])?;
                self.month = digits[2..4].parse().ok();
                self.day = digits[4..].parse().ok();
                Ok(())
            }
            0 => Err(Refusal::Syntax),
            _ => self.date_number(digits),
        }
    }

    /// `hh:mm[:ss[.f]]`.
    fn clock(&mut self, text: &str) -> Result<(), Refusal> {
        if self.time.is_some() {
            return Err(Refusal::Syntax);
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (hours, minutes, seconds) = match parts.as_slice() {
            [hours, minutes] => (*hours, *minutes, "0"),
            [hours, minutes, seconds] => (*hours, *minutes, *seconds),
            _ => return Err(Refusal::Syntax),
        };
        if minutes.contains('.') {
            return Err(Refusal::Syntax);
        }
        let (seconds, fraction) = match seconds.find('.') {
            Some(point) => seconds.split_at(point),
            None => (seconds, ""),
        };
        self.set_time(hours, minutes, seconds, fraction)
    }

    /// `hhmm`, `hhmmss[.f]`.
    fn compact_time(&mut self, digits: &str, fraction: &str) -> Result<(), Refusal> {
        match digits.len() {
            2 => self.set_time(digits, "0", "0", ""),
            4 => self.set_time(&digits[..2], &digits[2..], "0", ""),
            6 => self.set_time(&digits[..2], &digits[2..4], &digits[4..], fraction),
            _ => Err(Refusal::Syntax),
        }
    }

    fn set_time(&mut self, hours: &str, minutes: &str, seconds: &str, fraction: &str) -> Result<(), Refusal> {
        let number = |text: &str| match text.is_empty() {
            true => Err(Refusal::Syntax),
            false => text.parse::<i64>().map_err(|_| Refusal::Field),
        };
        let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
        let fraction = match fraction.len() {
            0 | 1 => 0,
            _ => {
                let fraction: f64 = format!("0{fraction}").parse().map_err(|_| Refusal::Syntax)?;
                (fraction * MICROS_PER_SECOND as f64).round_ties_even() as i64
            }
        };
        if hours > 24 || minutes > 59 || seconds > 60 {
            return Err(Refusal::Field);
        }
        let micros = (hours * 3600 + minutes * 60 + seconds) * MICROS_PER_SECOND + fraction;
        if micros > MICROS_PER_DAY {
            return Err(Refusal::Field);
        }
        self.time = Some(micros);
        Ok(())
    }

    /// Puts the parts together and refuses those that cannot be.
    fn check(mut self) -> Result<Fields, Refusal> {
        self.check_afternoon()?;
        let has_parts = self.year.is_some() || self.month.is_some() || self.day.is_some();
        if self.special.is_some() {
            let alone = !has_parts && self.days.is_none();
            return if alone { Ok(self) } else { Err(Refusal::Syntax) };
        }
        if !has_parts {
            return if self.before_christ { Err(Refusal::Syntax) } else { Ok(self) };
        }
        let year = self.full_year()?;
        if let Some(day) = self.day_of_year {
            let length = if is_leap_year(year) { 366 } else { 365 };
            if day == 0 || day > length {
                return Err(Refusal::Field);
            }
            self.days = Some(days_from_civil(year, 1, 1) + i64::from(day) - 1);
            return Ok(self);
        }
        let (Some(month), Some(day)) = (self.month, self.day) else { return Err(Refusal::Syntax) };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(Refusal::MonthOrDay);
        }
        // Years beyond those of the types are refused when the type is known.
        if day > days_in_month(year, month) || year > 99_999_999 {
            return Err(Refusal::Field);
        }
        self.days = Some(days_from_civil(year, month, day));
        Ok(self)
    }

    fn full_year(&self) -> Result<i64, Refusal> {
        let year = self.year.ok_or(Refusal::Syntax)?;
        match (self.before_christ, self.year_is_short) {
            (true, _) if year == 0 => Err(Refusal::Field),
            (true, _) => Ok(1 - year),
            (false, true) if year < 70 => Ok(year + 2000),
            (false, true) => Ok(year + 1900),
            (false, false) if year == 0 => Err(Refusal::Field),
            (false, false) => Ok(year),
        }
    }

    fn check_afternoon(&mut self) -> Result<(), Refusal> {
        let (Some(afternoon), Some(time)) = (self.afternoon, self.time) else {
            return if self.afternoon.is_some() { Err(Refusal::Syntax) } else { Ok(()) };
        };
        const NOON: i64 = 12 * MICROS_PER_HOUR;
        let hours = time / MICROS_PER_HOUR;
        if hours > 12 {
            return Err(Refusal::Field);
        }
        self.time = Some(match (afternoon, hours == 12) {
            (true, false) => time + NOON,
            (false, true) => time - NOON,
            _ => time,
        });
        Ok(())
    }

    /// As [`Fields::check`], for a text that needs no date.
    fn check_time(self) -> Result<Fields, Refusal> {
        let has_time = self.time.is_some() || self.special.is_some();
        if has_time { self.check() } else { Err(Refusal::Syntax) }
    }
}

fn month(word: &str) -> Option<u32> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    if word == "sept" {
        return Some(9);
    }
    let found = NAMES.iter().position(|name| *name == word || word.len() == 3 && name.starts_with(word));
    found.map(|index| index as u32 + 1)
}

fn is_weekday(word: &str) -> bool {
    const NAMES: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    let short = ["tues", "weds", "wednes", "thur", "thurs"].contains(&word);
    short || NAMES.iter().any(|name| *name == word || word.len() == 3 && name.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::super::datetime_out::{write_date, write_time, write_timestamp, write_timestamptz};
    use super::*;

    fn style() -> TextStyle {
        TextStyle { zone: Zone::find("Europe/Berlin").expect("known zone"), now: 1_700_000_000_000_000 }
    }

    fn show(result: SqlResult<impl FnOnce(&mut Vec<u8>)>) -> String {
        let mut out = Vec::new();
        match result {
            Ok(write) => write(&mut out),
            Err(error) => out.extend_from_slice(format!("{:?} {error}", error.code).as_bytes()),
        }
        String::from_utf8(out).expect("text is UTF-8")
    }

    fn date(text: &str) -> String {
        show(parse_date(text, &style()).map(|days| move |out: &mut Vec<u8>| write_date(days, out)))
    }

    fn timestamp(text: &str) -> String {
        show(parse_timestamp(text, &style()).map(|micros| move |out: &mut Vec<u8>| write_timestamp(micros, out)))
    }

    fn timestamptz(text: &str) -> String {
        let zone = style().zone;
        show(parse_timestamptz(text, &style()).map(|at| move |out: &mut Vec<u8>| write_timestamptz(at, &zone, out)))
    }

    fn time(text: &str) -> String {
        show(parse_time(text, &style()).map(|micros| move |out: &mut Vec<u8>| write_time(micros, out)))
    }

    #[test]
    fn dates_are_read_in_every_order_that_postgresql_reads() {
        let same = [
            "1999-01-08",
            "January 8, 1999",
            "1/8/1999",
            "1999-Jan-08",
            "Jan-08-1999",
            "08-Jan-1999",
            "19990108",
            "990108",
            "1999-008",
            "J2451187",
            "8 January 1999",
            "Friday Jan 8 1999",
            "1999/1/8",
            "1/8/99",
            "1999.01.08",
            "1999-01-08 23:59:59+00",
            " 1999-01-08 ",
        ];
        for text in same {
            assert_eq!(date(text), "1999-01-08", "{text}");
        }
        assert_eq!(date("0044-03-15 BC"), "0044-03-15 BC");
        assert_eq!(date("infinity"), "infinity");
        assert_eq!(date("-infinity"), "-infinity");
        assert_eq!(date("epoch"), "1970-01-01");
        assert_eq!(date("today"), "2023-11-14");
        assert_eq!(date("tomorrow"), "2023-11-15");
        assert_eq!(date("5874897-12-31"), "5874897-12-31");
    }

    #[test]
    fn impossible_dates_are_told_apart_from_malformed_ones() {
        for text in ["2024-13-01", "2024-02-30", "2023-02-29", "1/32/2024", "0000-01-01"] {
            assert_eq!(date(text), format!("22008 date/time field value out of range: \"{text}\""));
        }
        for text in ["", "hello", "2024", "2024-01", "2024-01-01-01", "x2024-01-01", "é", "12:00", "2024-01-01 bogus"]
        {
            assert_eq!(date(text), format!("22007 invalid input syntax for type date: \"{text}\""));
        }
        assert_eq!(date("5874898-01-01"), "22008 date out of range: \"5874898-01-01\"");
        assert!(date("99999999999999999-01-01").starts_with("22008") && date(&"9".repeat(40)).starts_with("22"));
    }

    #[test]
    fn timestamps_round_to_microseconds_and_drop_zones() {
        let cases = [
            ("2024-01-01 00:20", "2024-01-01 00:20:00"),
            ("2024-01-01T10:20:30.1234567", "2024-01-01 10:20:30.123457"),
            ("2024-01-01 10:20:30.5+05", "2024-01-01 10:20:30.5"),
            ("2024-01-01 24:00:00", "2024-01-02 00:00:00"),
            ("2024-01-01 10:20 PM", "2024-01-01 22:20:00"),
            ("2024-01-01 12:20 am", "2024-01-01 00:20:00"),
            ("2024-01-01", "2024-01-01 00:00:00"),
            ("20240101T102030", "2024-01-01 10:20:30"),
            ("20240101 1020", "2024-01-01 10:20:00"),
            ("infinity", "infinity"),
            ("epoch", "1970-01-01 00:00:00"),
            ("Mon Jan 01 10:20:30 2024 PST", "2024-01-01 10:20:30"),
            ("2024-01-01 10:20:60", "2024-01-01 10:21:00"),
            ("4713-01-01 00:00:00 BC", "4713-01-01 00:00:00 BC"),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamp(text), expected, "{text}");
        }
        assert_eq!(timestamp("2024-01-01 25:00"), "22008 date/time field value out of range: \"2024-01-01 25:00\"");
        assert_eq!(timestamp("999999-01-01"), "22008 timestamp out of range: \"999999-01-01\"");
        assert_eq!(timestamp("tomorrowish"), "22007 invalid input syntax for type timestamp: \"tomorrowish\"");
    }

    #[test]
    fn instants_are_read_in_their_zone_or_that_of_the_session() {
        let cases = [
            ("2024-01-01 00:00:00", "2024-01-01 00:00:00+01"),
            ("2024-07-01 00:00:00", "2024-07-01 00:00:00+02"),
            ("2024-01-01 00:00:00Z", "2024-01-01 01:00:00+01"),
            ("2024-01-01 00:00:00+05:30", "2023-12-31 19:30:00+01"),
            ("2024-01-01 00:00:00-08", "2024-01-01 09:00:00+01"),
            ("2024-01-01 00:00:00 America/New_York", "2024-01-01 06:00:00+01"),
            ("2024-01-01 00:00:00 PST", "2024-01-01 09:00:00+01"),
            ("2024-01-01T00:00:00.123Z", "2024-01-01 01:00:00.123+01"),
            ("epoch", "1970-01-01 01:00:00+01"),
            ("now", "2023-11-14 23:13:20+01"),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamptz(text), expected, "{text}");
        }
        assert_eq!(timestamptz("2024-01-01 Mars/Base"), "22023 time zone \"mars/base\" not recognized");
        assert_eq!(
            timestamptz("2024-01-01 00:00+99"),
            "22009 time zone displacement out of range: \"2024-01-01 00:00+99\""
        );
    }

    #[test]
    fn times_of_day_need_no_date() {
        assert_eq!(time("04:05:06.789"), "04:05:06.789");
        assert_eq!(time("04:05 PM"), "16:05:00");
        assert_eq!(time("24:00:00"), "24:00:00");
        assert_eq!(time("04:05:06+02"), "04:05:06");
        assert_eq!(time("2024-01-01 04:05"), "04:05:00");
        assert_eq!(time("040506.5"), "04:05:06.5");
        assert_eq!(time("0405"), "04:05:00");
        assert_eq!(time("allballs"), "00:00:00");
        assert_eq!(time("noon"), "22007 invalid input syntax for type time: \"noon\"");
        assert_eq!(time("25:00"), "22008 date/time field value out of range: \"25:00\"");
    }
}
