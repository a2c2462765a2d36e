//! Numbers as PostgreSQL reads them.

use arrow::datatypes::i256;

use super::input::{bad_syntax, out_of_range};
use crate::error::{SqlError, SqlResult, SqlState};

/// Reads a whole number between two bounds; spaces around it are allowed.
pub fn parse_int(text: &str, type_name: &str, min: i64, max: i64) -> SqlResult<i64> {
    let bytes = text.as_bytes();
    if let Some(value) = short_int(bytes) {
        return if (min..=max).contains(&value) { Ok(value) } else { Err(out_of_range(text, type_name)) };
    }
    let trimmed = trim(text);
    let (negative, digits) = split_sign(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad_syntax(text, type_name));
    }
    let magnitude = digits.bytes().try_fold(0i128, |sum, digit| {
        let sum = sum * 10 + i128::from(digit - b'0');
        (sum <= i128::from(u64::MAX)).then_some(sum)
    });
    let value = magnitude.map(|magnitude| if negative { -magnitude } else { magnitude });
    let value = value.and_then(|value| i64::try_from(value).ok()).filter(|value| (min..=max).contains(value));
    value.ok_or_else(|| out_of_range(text, type_name))
}

/// Up to 18 digits with an optional minus and nothing else: nearly every number there is.
fn short_int(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if negative { -value } else { value })
}

/// Spaces as C's `isspace` knows them.
pub fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// Reads a `double precision`.
pub fn parse_float8(text: &str) -> SqlResult<f64> {
    let trimmed = trim(text);
    if let Some(value) = special_float(trimmed) {
        return Ok(value);
    }
    let value: f64 = plain_float(trimmed).ok_or_else(|| bad_syntax(text, "double precision"))?;
    match value.is_infinite() || value == 0.0 && !is_zero(trimmed) {
        true => Err(float_out_of_range(text, "double precision")),
        false => Ok(value),
    }
}

/// Reads a `real`.
pub fn parse_float4(text: &str) -> SqlResult<f32> {
    let trimmed = trim(text);
    if let Some(value) = special_float(trimmed) {
        return Ok(value as f32);
    }
    let value: f32 = plain_float(trimmed).ok_or_else(|| bad_syntax(text, "real"))?;
    match value.is_infinite() || value == 0.0 && !is_zero(trimmed) {
        true => Err(float_out_of_range(text, "real")),
        false => Ok(value),
    }
}

fn float_out_of_range(text: &str, type_name: &str) -> SqlError {
    SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("\"{}\" is out of range for type {type_name}", trim(text)))
}

/// Rust's reader also takes words such as `nan` and `inf`; only digits reach it.
fn plain_float<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if plain { text.parse().ok() } else { None }
}

fn is_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or("");
    mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.' | b'+' | b'-'))
}

fn special_float(text: &str) -> Option<f64> {
    let first = text.as_bytes().first()?;
    if first.is_ascii_digit() {
        return None;
    }
    let (negative, word) = split_sign(text);
    let value = if word.eq_ignore_ascii_case("infinity") || word.eq_ignore_ascii_case("inf") {
        f64::INFINITY
    } else if text.eq_ignore_ascii_case("nan") {
        f64::NAN
    } else {
        return None;
    };
    Some(if negative { -value } else { value })
}

/// A number as written, before it has a scale: `digits · 10^exponent`.
struct Written<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i32,
}

/// The SQL type `numeric` by its precision and scale; `declared` is false for a bare `numeric`.
#[derive(Debug, Clone, Copy)]
pub struct NumericForm {
    pub precision: u8,
    pub scale: i8,
    pub declared: bool,
}

/// Reads a numeric of at most 38 digits, rounded to the scale half away from zero.
pub fn parse_decimal128(text: &str, form: NumericForm) -> SqlResult<i128> {
    if let Some(value) = short_decimal(text.as_bytes(), form) {
        return Ok(value);
    }
    let written = read_number(text)?;
    let value = round_digits(&written, form.scale, |digits, round_up| {
        let mut value = 0u128;
        for digit in digits {
            value = value.checked_mul(10)?.checked_add(u128::from(digit))?;
        }
        value.checked_add(u128::from(round_up))
    });
    let limit = 10u128.checked_pow(u32::from(form.precision)).unwrap_or(u128::MAX);
    match value.filter(|value| *value < limit) {
        Some(value) => Ok(if written.negative { -(value as i128) } else { value as i128 }),
        None => Err(numeric_overflow(form)),
    }
}

/// Up to 18 digits that need no rounding and surely fit: nearly every numeric there is.
fn short_decimal(bytes: &[u8], form: NumericForm) -> Option<i128> {
    let (negative, body) = match bytes.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, bytes),
    };
    let mut value = 0u64;
    let mut point = None;
    for (index, byte) in body.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            b'.' if point.is_none() => point = Some(index),
            _ => return None,
        }
    }
    let digits = body.len() - usize::from(point.is_some());
    let fraction = point.map_or(0, |point| body.len() - point - 1);
    let zeros = usize::try_from(form.scale).ok()?.checked_sub(fraction)?;
    if digits == 0 || digits > 18 || digits + zeros > usize::from(form.precision) {
        return None;
    }
    let value = i128::from(value) * 10i128.pow(zeros as u32);
    Some(if negative { -value } else { value })
}

/// Reads a numeric of up to 76 digits, rounded to the scale half away from zero.
pub fn parse_decimal256(text: &str, form: NumericForm) -> SqlResult<i256> {
    let written = read_number(text)?;
    let ten = i256::from_i128(10);
    let value = round_digits(&written, form.scale, |digits, round_up| {
        let mut value = i256::ZERO;
        for digit in digits {
            value = value.checked_mul(ten)?.checked_add(i256::from_i128(i128::from(digit)))?;
        }
        value.checked_add(i256::from_i128(i128::from(round_up)))
    });
    let limit = ten.checked_pow(u32::from(form.precision)).unwrap_or(i256::MAX);
    match value.filter(|value| *value < limit) {
        Some(value) => Ok(if written.negative { value.wrapping_neg() } else { value }),
        None => Err(numeric_overflow(form)),
    }
}

/// The error for a number with more digits than its type has.
pub fn numeric_overflow(form: NumericForm) -> SqlError {
    let error = SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric field overflow");
    let power = i32::from(form.precision) - i32::from(form.scale);
    let bound = if power == 0 { "1".to_string() } else { format!("10^{power}") };
    match form.declared {
        true => error.detail(format!(
            "A field with precision {}, scale {} must round to an absolute value less than {bound}.",
            form.precision, form.scale
        )),
        false => error
            .detail(format!("A numeric without declared precision holds absolute values less than {bound}."))
            .hint("Declare precision and scale, for example numeric(76,20)."),
    }
}

fn read_number(text: &str) -> SqlResult<Written<'_>> {
    let trimmed = trim(text);
    let (negative, body) = split_sign(trimmed);
    let bytes = body.as_bytes();
    let whole_length = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = bytes.split_at(whole_length);
    let (fraction, rest) = match rest.split_first() {
        Some((b'.', rest)) => rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        _ => (&rest[..0], rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(not_a_number(text, body));
    }
    let exponent = match rest.split_first() {
        None => 0,
        Some((b'e' | b'E', exponent)) => {
            let exponent = std::str::from_utf8(exponent).unwrap_or_default();
            let digits = split_sign(exponent).1;
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(bad_syntax(text, "numeric"));
            }
            exponent.parse::<i32>().unwrap_or(i32::MAX).clamp(-100_000, 100_000)
        }
        Some(_) => return Err(bad_syntax(text, "numeric")),
    };
    Ok(Written { negative, whole, fraction, exponent })
}

fn not_a_number(text: &str, body: &str) -> SqlError {
    let special = ["nan", "infinity", "inf"].iter().any(|word| body.eq_ignore_ascii_case(word));
    match special {
        false => bad_syntax(text, "numeric"),
        true => SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("numeric cannot hold {}", trim(text)))
            .hint("Use double precision for NaN and infinity."),
    }
}

/// Hands the digits up to the scale to `sum`, and whether the rest rounds up.
fn round_digits<T>(
    written: &Written<'_>,
    scale: i8,
    sum: impl FnOnce(&mut dyn Iterator<Item = u8>, bool) -> Option<T>,
) -> Option<T> {
    let all = written.whole.len() + written.fraction.len();
    let digit = |index: usize| {
        let byte = written.whole.get(index).or_else(|| written.fraction.get(index.wrapping_sub(written.whole.len())));
        byte.map_or(0, |byte| byte - b'0')
    };
    // So many of the written digits count; more than were written are zeros, fewer than none are a zero.
    let keep = written.whole.len() as i64 + i64::from(written.exponent) + i64::from(scale);
    if keep < 0 {
        return sum(&mut std::iter::empty(), false);
    }
    let keep = keep as usize;
    if (0..all).all(|index| digit(index) == 0) {
        return sum(&mut std::iter::empty(), false);
    }
    let round_up = keep < all && digit(keep) >= 5;
    sum(&mut (0..keep).map(digit), round_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(precision: u8, scale: i8) -> NumericForm {
        NumericForm { precision, scale, declared: true }
    }

    #[test]
    fn whole_numbers_stay_in_their_bounds() {
        let int4 = |text| parse_int(text, "integer", i64::from(i32::MIN), i64::from(i32::MAX));
        assert_eq!(int4(" 42 "), Ok(42));
        assert_eq!(int4("-2147483648"), Ok(-2_147_483_648));
        assert_eq!(int4("+7"), Ok(7));
        let error = int4("12x").expect_err("not a number");
        assert_eq!(error.to_string(), "invalid input syntax for type integer: \"12x\"");
        assert_eq!(error.code, SqlState::INVALID_TEXT);
        let error = int4("99999999999").expect_err("too big");
        assert_eq!(error.to_string(), "value \"99999999999\" is out of range for type integer");
        assert!(int4("").is_err() && int4("1_000").is_err() && int4("0x1f").is_err() && int4("- 1").is_err());
        let int8 = |text| parse_int(text, "bigint", i64::MIN, i64::MAX);
        assert_eq!(int8("-9223372036854775808"), Ok(i64::MIN));
        assert!(int8("9223372036854775808").is_err() && int8(&"9".repeat(60)).is_err());
    }

    #[test]
    fn floats_know_their_special_words_and_bounds() {
        assert_eq!(parse_float8("1e20"), Ok(1e20));
        assert_eq!(parse_float8("-Infinity"), Ok(f64::NEG_INFINITY));
        assert!(parse_float8("NaN").expect("a float").is_nan());
        assert_eq!(parse_float8("1e400").expect_err("too big").code, SqlState::NUMERIC_OUT_OF_RANGE);
        assert_eq!(parse_float8("1e-400").expect_err("too small").code, SqlState::NUMERIC_OUT_OF_RANGE);
        assert_eq!(parse_float8("0e-400"), Ok(0.0));
        assert!(parse_float8("1.2.3").is_err() && parse_float8("").is_err() && parse_float8("infin").is_err());
        assert_eq!(
            parse_float4("3.4e39").expect_err("too big").to_string(),
            "\"3.4e39\" is out of range for type real"
        );
    }

    #[test]
    fn numerics_round_half_away_from_zero() {
        let cases = [
            ("1.10", 2, 110),
            ("2.5", 0, 3),
            ("-2.5", 0, -3),
            ("2.4999", 0, 2),
            ("1e2", 1, 1000),
            ("12345e-3", 2, 1235),
            (".5", 1, 5),
            ("5.", 1, 50),
            ("0.05", 1, 1),
            ("0.04", 1, 0),
            ("0e99999", 2, 0),
            ("150", -2, 2),
        ];
        for (text, scale, expected) in cases {
            assert_eq!(parse_decimal128(text, numeric(10, scale)), Ok(expected), "{text}");
            assert_eq!(parse_decimal256(text, numeric(40, scale)), Ok(i256::from_i128(expected)), "{text}");
        }
    }

    #[test]
    fn a_numeric_that_does_not_fit_is_refused_in_postgresql_words() {
        let error = parse_decimal128("1000", numeric(5, 2)).expect_err("too big");
        assert_eq!(error.message, "numeric field overflow");
        let detail = "A field with precision 5, scale 2 must round to an absolute value less than 10^3.";
        assert_eq!(error.detail.as_deref(), Some(detail));
        assert!(parse_decimal128("999.995", numeric(5, 2)).is_err());
        assert!(parse_decimal128("1e50", numeric(38, 16)).is_err());
        assert!(parse_decimal256(&"9".repeat(80), numeric(76, 0)).is_err());
        for wrong in ["", "abc", "1e", "1.2.3", "--1", "1 2"] {
            let error = parse_decimal128(wrong, numeric(5, 2)).expect_err(wrong);
            assert_eq!(error.message, format!("invalid input syntax for type numeric: \"{wrong}\""));
        }
        assert_eq!(parse_decimal128("NaN", numeric(5, 2)).expect_err("NaN").code, SqlState::NUMERIC_OUT_OF_RANGE);
    }
}
