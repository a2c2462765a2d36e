//! Dates, times, timestamps and intervals as PostgreSQL prints them in the ISO and postgres styles.

use arrow::datatypes::IntervalMonthDayNano;

use super::calendar::*;
use super::number_out::{write_int, write_two, write_unsigned};
use super::zone::Zone;

/// Appends days since 1970-01-01 as `2024-01-31`, `0044-03-15 BC` or `infinity`.
pub fn write_date(days: i32, out: &mut Vec<u8>) {
    match days {
        DATE_INFINITY => out.extend_from_slice(b"infinity"),
        DATE_MINUS_INFINITY => out.extend_from_slice(b"-infinity"),
        days => {
            let day = civil_from_days(i64::from(days));
            write_day(day, out);
            write_era(day, out);
        }
    }
}

/// Appends microseconds since midnight as `04:05:06.789`.
pub fn write_time(micros: i64, out: &mut Vec<u8>) {
    write_clock(micros, out);
}

/// Appends a timestamp without time zone.
pub fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    if write_infinity(micros, out) {
        return;
    }
    let day = civil_from_days(micros.div_euclid(MICROS_PER_DAY));
    write_day(day, out);
    out.push(b' ');
    write_clock(micros.rem_euclid(MICROS_PER_DAY), out);
    write_era(day, out);
}

/// Appends an instant as the wall clock of a zone with its offset: `2024-01-31 12:00:00+01`.
pub fn write_timestamptz(micros: i64, zone: &Zone, out: &mut Vec<u8>) {
    if write_infinity(micros, out) {
        return;
    }
    let offset = zone.offset_at(micros);
    let local = micros.saturating_add(i64::from(offset) * MICROS_PER_SECOND);
    let day = civil_from_days(local.div_euclid(MICROS_PER_DAY));
    write_day(day, out);
    out.push(b' ');
    write_clock(local.rem_euclid(MICROS_PER_DAY), out);
    write_offset(offset, out);
    write_era(day, out);
}

/// Appends an offset as `+01`, `+05:30` or `-00:44:30`.
pub fn write_offset(seconds: i32, out: &mut Vec<u8>) {
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let magnitude = seconds.unsigned_abs();
    write_two(magnitude / 3600, out);
    if !magnitude.is_multiple_of(3600) {
        out.push(b':');
        write_two(magnitude % 3600 / 60, out);
    }
    if !magnitude.is_multiple_of(60) {
        out.push(b':');
        write_two(magnitude % 60, out);
    }
}

fn write_infinity(micros: i64, out: &mut Vec<u8>) -> bool {
    let text: &[u8] = match micros {
        TIMESTAMP_INFINITY => b"infinity",
        TIMESTAMP_MINUS_INFINITY => b"-infinity",
        _ => return false,
    };
    out.extend_from_slice(text);
    true
}

fn write_day(day: Day, out: &mut Vec<u8>) {
    let year = if day.year > 0 { day.year } else { 1 - day.year };
    match year < 10_000 {
        true => {
            write_two((year / 100) as u32, out);
            write_two((year % 100) as u32, out);
        }
        false => write_int(year, out),
    }
    out.push(b'-');
    write_two(day.month, out);
    out.push(b'-');
    write_two(day.day, out);
}

fn write_era(day: Day, out: &mut Vec<u8>) {
    if day.year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

fn write_clock(micros: i64, out: &mut Vec<u8>) {
    write_hours_to_seconds(micros.unsigned_abs(), out);
}

fn write_hours_to_seconds(micros: u64, out: &mut Vec<u8>) {
    let hours = micros / MICROS_PER_HOUR as u64;
    match hours < 100 {
        true => write_two(hours as u32, out),
        false => write_unsigned(hours, out),
    }
    out.push(b':');
    write_two((micros / MICROS_PER_MINUTE as u64 % 60) as u32, out);
    out.push(b':');
    write_two((micros / MICROS_PER_SECOND as u64 % 60) as u32, out);
    write_fraction((micros % MICROS_PER_SECOND as u64) as u32, out);
}

/// Appends `.789` for 789,000 microseconds, nothing for 0.
fn write_fraction(micros: u32, out: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    out.push(b'.');
    write_two(micros / 10_000, out);
    write_two(micros / 100 % 100, out);
    write_two(micros % 100, out);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// Appends an interval as `1 year 2 mons -3 days +04:05:06.789`.
pub fn write_interval(interval: IntervalMonthDayNano, out: &mut Vec<u8>) {
    let micros = interval.nanoseconds / 1_000;
    let mut before_was_negative = false;
    let start = out.len();
    let fields = [
        (i64::from(interval.months / 12), "year"),
        (i64::from(interval.months % 12), "mon"),
        (i64::from(interval.days), "day"),
    ];
    for (value, unit) in fields.into_iter().filter(|(value, _)| *value != 0) {
        if out.len() > start {
            out.push(b' ');
        }
        if before_was_negative && value > 0 {
            out.push(b'+');
        }
        write_int(value, out);
        out.push(b' ');
        out.extend_from_slice(unit.as_bytes());
        if value != 1 {
            out.push(b's');
        }
        before_was_negative = value < 0;
    }
    if micros == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(b' ');
    }
    if micros < 0 {
        out.push(b'-');
    } else if before_was_negative {
        out.push(b'+');
    }
    write_hours_to_seconds(micros.unsigned_abs(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text is UTF-8")
    }

    #[test]
    fn dates_reach_from_before_christ_to_infinity() {
        let day = |year, month, day| days_from_civil(year, month, day) as i32;
        assert_eq!(text(|out| write_date(day(2024, 1, 31), out)), "2024-01-31");
        assert_eq!(text(|out| write_date(day(-43, 3, 15), out)), "0044-03-15 BC");
        assert_eq!(text(|out| write_date(day(0, 1, 1), out)), "0001-01-01 BC");
        assert_eq!(text(|out| write_date(day(12345, 1, 1), out)), "12345-01-01");
        assert_eq!(text(|out| write_date(i32::MAX, out)), "infinity");
        assert_eq!(text(|out| write_date(i32::MIN, out)), "-infinity");
    }

    #[test]
    fn timestamps_show_only_the_fraction_they_have() {
        assert_eq!(text(|out| write_timestamp(0, out)), "1970-01-01 00:00:00");
        assert_eq!(text(|out| write_timestamp(-1, out)), "1969-12-31 23:59:59.999999");
        assert_eq!(text(|out| write_timestamp(1_500_000, out)), "1970-01-01 00:00:01.5");
        assert_eq!(text(|out| write_timestamp(i64::MAX, out)), "infinity");
        assert_eq!(text(|out| write_time(86_399_999_999, out)), "23:59:59.999999");
    }

    #[test]
    fn instants_print_in_the_zone_of_the_session() {
        let zone = |name| Zone::find(name).expect("known zone");
        assert_eq!(text(|out| write_timestamptz(0, &zone("UTC"), out)), "1970-01-01 00:00:00+00");
        assert_eq!(text(|out| write_timestamptz(0, &zone("Europe/Berlin"), out)), "1970-01-01 01:00:00+01");
        assert_eq!(text(|out| write_timestamptz(0, &zone("Asia/Kolkata"), out)), "1970-01-01 05:30:00+05:30");
        assert_eq!(text(|out| write_timestamptz(0, &zone("America/New_York"), out)), "1969-12-31 19:00:00-05");
    }

    #[test]
    fn intervals_carry_a_sign_per_field() {
        let of = |months, days, micros: i64| IntervalMonthDayNano::new(months, days, micros * 1000);
        let cases = [
            (of(0, 0, 0), "00:00:00"),
            (of(14, 3, 14_706_789_000), "1 year 2 mons 3 days 04:05:06.789"),
            (of(0, 1, 25 * MICROS_PER_HOUR), "1 day 25:00:00"),
            (of(-14, 3, 0), "-1 years -2 mons +3 days"),
            (of(0, -1, MICROS_PER_HOUR), "-1 days +01:00:00"),
            (of(0, 0, -1), "-00:00:00.000001"),
            (of(1, 0, 0), "1 mon"),
            (of(0, 0, 100 * MICROS_PER_HOUR), "100:00:00"),
        ];
        for (interval, expected) in cases {
            assert_eq!(text(|out| write_interval(interval, out)), expected);
        }
    }
}
