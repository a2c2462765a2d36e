//! The proleptic Gregorian calendar over days and microseconds since 1970-01-01.

pub const MICROS_PER_SECOND: i64 = 1_000_000;
pub const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
pub const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
pub const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// What stands for `infinity` and `-infinity` in a date and in a timestamp.
pub const DATE_INFINITY: i32 = i32::MAX;
pub const DATE_MINUS_INFINITY: i32 = i32::MIN;
pub const TIMESTAMP_INFINITY: i64 = i64::MAX;
pub const TIMESTAMP_MINUS_INFINITY: i64 = i64::MIN;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's binary formats begin to count.
pub const POSTGRES_EPOCH_DAYS: i32 = 10_957;
pub const POSTGRES_EPOCH_MICROS: i64 = POSTGRES_EPOCH_DAYS as i64 * MICROS_PER_DAY;

/// Days from Julian day 0 to 1970-01-01.
pub const JULIAN_DAY_OF_EPOCH: i64 = 2_440_588;

/// The first day and the day after the last that a date may be: 4714-11-24 BC and 5874898-01-01.
const FIRST_DAY: i64 = -JULIAN_DAY_OF_EPOCH;
const END_DAY: i64 = 2_145_042_906;
/// The first microsecond of a timestamp. The last is bound by 64 bits from 1970, in the year 294247; PostgreSQL,
/// which counts from 2000, ends thirty years later.
const FIRST_MICRO: i64 = FIRST_DAY * MICROS_PER_DAY;

/// A day of the calendar; year 0 is 1 BC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

/// Days since 1970-01-01 of a day of the calendar.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The day of the calendar that lies so many days after 1970-01-01.
pub fn civil_from_days(days: i64) -> Day {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Day { year, month, day }
}

pub fn is_leap_year(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap_year(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Is this a day that PostgreSQL's `date` can hold?
pub fn date_in_range(days: i64) -> bool {
    (FIRST_DAY..END_DAY).contains(&days)
}

/// Is this an instant that PostgreSQL's `timestamp` can hold?
pub fn timestamp_in_range(micros: i64) -> bool {
    (FIRST_MICRO..TIMESTAMP_INFINITY).contains(&micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_survives_the_calendar() {
        for days in -300_000..300_000_i64 {
            let day = civil_from_days(days);
            assert_eq!(days_from_civil(day.year, day.month, day.day), days, "{day:?}");
            assert!((1..=days_in_month(day.year, day.month)).contains(&day.day), "{day:?}");
        }
    }

    #[test]
    fn the_bounds_are_those_of_postgresql() {
        assert_eq!(days_from_civil(-4713, 11, 24), FIRST_DAY);
        assert_eq!(days_from_civil(5_874_898, 1, 1), END_DAY);
        assert_eq!(days_from_civil(2000, 1, 1), i64::from(POSTGRES_EPOCH_DAYS));
    }
}
