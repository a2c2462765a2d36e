//! Time zones: by name, by fixed offset, and what local time they make of an instant.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::calendar::{MICROS_PER_DAY, MICROS_PER_SECOND};
use crate::error::{SqlError, SqlResult, SqlState};

/// A time zone as the setting `TimeZone` or a literal names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// So many seconds east of Greenwich; 0 is UTC.
    Fixed(i32),
    Named(Tz),
}

/// Abbreviations of PostgreSQL's default set that clients write, with their offset in minutes.
const ABBREVIATIONS: &[(&str, i32)] = &[
    ("z", 0),
    ("zulu", 0),
    ("utc", 0),
    ("ut", 0),
    ("gmt", 0),
    ("wet", 0),
    ("bst", 60),
    ("cet", 60),
    ("met", 60),
    ("west", 60),
    ("cest", 120),
    ("mest", 120),
    ("eet", 120),
    ("sast", 120),
    ("eest", 180),
    ("msk", 180),
    ("ist", 120),
    ("jst", 540),
    ("kst", 540),
    ("awst", 480),
    ("acst", 570),
    ("aest", 600),
    ("aedt", 660),
    ("nzst", 720),
    ("nzdt", 780),
    ("nst", -210),
    ("ast", -240),
    ("edt", -240),
    ("est", -300),
    ("cdt", -300),
    ("cst", -360),
    ("mdt", -360),
    ("mst", -420),
    ("pdt", -420),
    ("pst", -480),
    ("akst", -540),
    ("hst", -600),
];

impl Zone {
    pub const UTC: Zone = Zone::Fixed(0);

    /// Reads the value of the setting `TimeZone`: a name in any case, or hours east of Greenwich such as `+2` or `-3.5`.
    pub fn parse(name: &str) -> SqlResult<Zone> {
        Zone::find(name.trim()).ok_or_else(|| {
            SqlError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"TimeZone\": \"{name}\""),
            )
        })
    }

    /// A zone by name, abbreviation or offset; `None` if there is no such zone.
    pub fn find(name: &str) -> Option<Zone> {
        if let Ok(hours) = name.parse::<f64>() {
            return (hours.abs() <= 168.0).then_some(Zone::Fixed((hours * 3600.0) as i32));
        }
        if name.starts_with(['+', '-']) {
            return parse_offset(name).map(Zone::Fixed);
        }
        if let Some(offset) = abbreviation(name) {
            return Some(Zone::Fixed(offset));
        }
        name.parse::<Tz>().ok().or_else(|| Zone::find_in_any_case(name)).map(|zone| match zone {
            Tz::UTC | Tz::Etc__UTC => Zone::UTC,
            zone => Zone::Named(zone),
        })
    }

    fn find_in_any_case(name: &str) -> Option<Tz> {
        TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(name)).copied()
    }

    /// The zone's name as `SHOW TimeZone` prints it.
    pub fn name(&self) -> String {
        match self {
            Zone::Fixed(0) => "UTC".to_string(),
            Zone::Fixed(seconds) => {
                let mut text = String::new();
                let sign = if *seconds < 0 { '-' } else { '+' };
                let magnitude = seconds.unsigned_abs();
                text.push_str(&format!("<{sign}{:02}", magnitude / 3600));
                if magnitude % 3600 != 0 {
                    text.push_str(&format!(":{:02}", magnitude % 3600 / 60));
                }
                text.push('>');
                text
            }
            Zone::Named(zone) => zone.name().to_string(),
        }
    }

    /// Seconds east of Greenwich at an instant.
    pub fn offset_at(&self, utc_micros: i64) -> i32 {
        match self {
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(zone) => zone.offset_from_utc_datetime(&naive(utc_micros)).fix().local_minus_utc(),
        }
    }

    /// The local wall clock at an instant, as microseconds; saturates at the ends of time.
    pub fn to_local(&self, utc_micros: i64) -> i64 {
        utc_micros.saturating_add(i64::from(self.offset_at(utc_micros)) * MICROS_PER_SECOND)
    }

    /// The instant of a local wall clock. Where the clock jumps over it, the offset before the jump counts;
    /// where it occurs twice, the later one does, as in PostgreSQL.
    pub fn to_utc(&self, local_micros: i64) -> i64 {
        let offset = match self {
            Zone::Fixed(seconds) => *seconds,
            Zone::Named(zone) => match zone.offset_from_local_datetime(&naive(local_micros)) {
                LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset.fix().local_minus_utc(),
                LocalResult::None => self.offset_at(local_micros.saturating_sub(MICROS_PER_DAY)),
            },
        };
        local_micros.saturating_sub(i64::from(offset) * MICROS_PER_SECOND)
    }
}

/// Reads `+02`, `-0530`, `+05:30` or `+00:00:30`: seconds east of Greenwich.
pub fn parse_offset(text: &str) -> Option<i32> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let body = &text[1..];
    let number = |part: &str| match part.len() {
        1 | 2 => part.parse::<i32>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit())),
        _ => None,
    };
    let (hours, minutes, seconds) = if body.contains(':') {
        let mut parts = body.split(':');
        let hours = number(parts.next()?)?;
        let minutes = number(parts.next()?)?;
        let seconds = parts.next().map_or(Some(0), number)?;
        (hours, minutes, seconds)
    } else if !body.is_ascii() {
        return None;
    } else {
        match body.len() {
            1 | 2 => (number(body)?, 0, 0),
            3 => (number(&body[..1])?, number(&body[1..])?, 0),
            4 => (number(&body[..2])?, number(&body[2..])?, 0),
            6 => (number(&body[..2])?, number(&body[2..4])?, number(&body[4..])?),
            _ => return None,
        }
    };
    let valid = hours <= 15 && minutes < 60 && seconds < 60;
    valid.then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// The offset of an abbreviation such as `PST`, in seconds.
pub fn abbreviation(name: &str) -> Option<i32> {
    let found = ABBREVIATIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, minutes)| minutes * 60)
}

/// The instant for chrono, clamped to the years it knows; no zone changes its rules out there.
fn naive(micros: i64) -> NaiveDateTime {
    const LAST: i64 = 8_000_000_000_000_000_000;
    DateTime::from_timestamp_micros(micros.clamp(-LAST, LAST)).unwrap_or_default().naive_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_in_every_spelling() {
        assert_eq!(Zone::find("europe/berlin"), Some(Zone::Named(Tz::Europe__Berlin)));
        assert_eq!(Zone::find("utc"), Some(Zone::UTC));
        assert_eq!(Zone::find("Etc/UTC"), Some(Zone::UTC));
        assert_eq!(Zone::find("+2"), Some(Zone::Fixed(7200)));
        assert_eq!(Zone::find("-05:30"), Some(Zone::Fixed(-19_800)));
        assert_eq!(Zone::find("Mars/Olympus"), None);
        assert!(Zone::parse("nowhere").is_err());
    }

    #[test]
    fn a_jump_of_the_clock_is_read_as_postgresql_reads_it() {
        let berlin = Zone::find("Europe/Berlin").expect("known zone");
        let local = |text| super::super::datetime_in::parse_timestamp(text, &Default::default()).expect("timestamp");
        // 02:30 does not exist on that day; it counts in winter time and becomes 03:30.
        assert_eq!(berlin.to_utc(local("2024-03-31 02:30")), local("2024-03-31 01:30"));
        // 02:30 happens twice; the second one counts.
        assert_eq!(berlin.to_utc(local("2024-10-27 02:30")), local("2024-10-27 01:30"));
        assert_eq!(berlin.to_local(local("2024-07-01 12:00")), local("2024-07-01 14:00"));
    }
}
