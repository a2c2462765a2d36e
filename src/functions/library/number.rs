//! Numbers beyond arithmetic: bits, buckets, degrees, the scale of numerics.

use super::{Entry, Row, Value, strict};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) const ENTRIES: &[Entry] = &[
    strict("width_bucket", "float8, float8, float8, int", "int", |row| {
        bucket(row, row.float(0), row.float(1), row.float(2))
    }),
    strict("width_bucket", "numeric, numeric, numeric, int", "int", |row| {
        let value = |index: usize| row.numeric(index).0 as f64 / 10_f64.powi(i32::from(row.numeric(index).1));
        bucket(row, value(0), value(1), value(2))
    }),
    strict("hw_bit_not", "smallint", "smallint", |row| Ok(Value::Int(!row.int(0)))),
    strict("hw_bit_not", "int", "int", |row| Ok(Value::Int(!row.int(0)))),
    strict("hw_bit_not", "bigint", "bigint", |row| Ok(Value::Int(!row.int(0)))),
    strict("hw_bit_and", "smallint, smallint", "smallint", |row| Ok(Value::Int(row.int(0) & row.int(1)))),
    strict("hw_bit_and", "int, int", "int", |row| Ok(Value::Int(row.int(0) & row.int(1)))),
    strict("hw_bit_and", "bigint, bigint", "bigint", |row| Ok(Value::Int(row.int(0) & row.int(1)))),
    strict("hw_bit_or", "smallint, smallint", "smallint", |row| Ok(Value::Int(row.int(0) | row.int(1)))),
    strict("hw_bit_or", "int, int", "int", |row| Ok(Value::Int(row.int(0) | row.int(1)))),
    strict("hw_bit_or", "bigint, bigint", "bigint", |row| Ok(Value::Int(row.int(0) | row.int(1)))),
    strict("hw_bit_xor", "smallint, smallint", "smallint", |row| Ok(Value::Int(row.int(0) ^ row.int(1)))),
    strict("hw_bit_xor", "int, int", "int", |row| Ok(Value::Int(row.int(0) ^ row.int(1)))),
    strict("hw_bit_xor", "bigint, bigint", "bigint", |row| Ok(Value::Int(row.int(0) ^ row.int(1)))),
    strict("hw_shift_left", "int, int", "int", |row| {
        Ok(Value::Int(i64::from((row.int(0) as i32).wrapping_shl(row.int(1) as u32))))
    }),
    strict("hw_shift_left", "bigint, int", "bigint", |row| Ok(Value::Int(row.int(0).wrapping_shl(row.int(1) as u32)))),
    strict("hw_shift_right", "int, int", "int", |row| {
        Ok(Value::Int(i64::from((row.int(0) as i32).wrapping_shr(row.int(1) as u32))))
    }),
    strict("hw_shift_right", "bigint, int", "bigint", |row| Ok(Value::Int(row.int(0).wrapping_shr(row.int(1) as u32)))),
    strict("div", "numeric, numeric", "numeric", |row| {
        let ((left, scale), (right, _)) = (row.numeric(0), row.numeric(1));
        let quotient = left.checked_div(right);
        let quotient = quotient.ok_or_else(|| SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"))?;
        Ok(Value::Numeric(quotient * 10_i128.pow(scale.max(0) as u32), scale))
    }),
    strict("scale", "any", "int", |row| Ok(Value::Int(digits(row)?.1))),
    strict("min_scale", "any", "int", |row| {
        let shown = digits(row)?.0;
        Ok(Value::Int(fraction(shown.trim_end_matches('0')) as i64))
    }),
    strict("to_hex", "int", "text", |row| Value::text(format!("{:x}", row.int(0) as i32))),
    strict("to_hex", "bigint", "text", |row| Value::text(format!("{:x}", row.int(0)))),
    strict("factorial", "bigint", "numeric", factorial),
    strict("sind", "float8", "float8", |row| Ok(Value::Float(sind(row.float(0))))),
    strict("cosd", "float8", "float8", |row| Ok(Value::Float(cosd(row.float(0))))),
    strict("tand", "float8", "float8", |row| {
        let angle = row.float(0);
        Ok(Value::Float(if angle.rem_euclid(180.0) == 45.0 { 1.0 } else { sind(angle) / cosd(angle) }))
    }),
    strict("cotd", "float8", "float8", |row| {
        let angle = row.float(0);
        Ok(Value::Float(if angle.rem_euclid(180.0) == 45.0 { 1.0 } else { cosd(angle) / sind(angle) }))
    }),
    strict("asind", "float8", "float8", |row| inverse(row.float(0), f64::asin)),
    strict("acosd", "float8", "float8", |row| inverse(row.float(0), f64::acos)),
    strict("atand", "float8", "float8", |row| Ok(Value::Float(exact(row.float(0).atan().to_degrees())))),
    strict("atan2d", "float8, float8", "float8", |row| {
        Ok(Value::Float(exact(row.float(0).atan2(row.float(1)).to_degrees())))
    }),
];

fn bucket(row: &Row<'_>, value: f64, low: f64, high: f64) -> SqlResult<Value> {
    let refuse = |message: &str| Err(SqlError::new(SqlState(*b"2201G"), message));
    let count = row.int(3);
    if count <= 0 {
        return refuse("count must be greater than zero");
    }
    if low.is_nan() || high.is_nan() || value.is_nan() {
        return refuse("operand, lower bound, and upper bound cannot be NaN");
    }
    if low == high {
        return refuse("lower bound cannot equal upper bound");
    }
    let (value, low, high) = if low < high { (value, low, high) } else { (-value, -low, -high) };
    Ok(Value::Int(match value {
        value if value < low => 0,
        value if value >= high => count + 1,
        value => ((value - low) / (high - low) * count as f64) as i64 + 1,
    }))
}

/// A number's text and its digits behind the point.
fn digits(row: &Row<'_>) -> SqlResult<(String, i64)> {
    let text = row.shown(0)?.unwrap_or_default();
    let scale = fraction(&text) as i64;
    Ok((text, scale))
}

fn fraction(text: &str) -> usize {
    text.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

fn factorial(row: &Row<'_>) -> SqlResult<Value> {
    let overflow = || SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value overflows numeric format");
    let count = row.int(0);
    if count < 0 {
        return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "factorial of a negative number is undefined"));
    }
    let product = (1..=count.min(40)).try_fold(1_i128, |product, factor| product.checked_mul(i128::from(factor)));
    product.filter(|_| count <= 33).map(|product| Value::Numeric(product, 0)).ok_or_else(overflow)
}

/// A function of degrees that is exact at multiples of 30.
fn degrees(angle: f64, function: fn(f64) -> f64, exact: [f64; 5]) -> f64 {
    let within = angle.rem_euclid(360.0);
    let (within, sign) = if within > 180.0 { (within - 180.0, -1.0) } else { (within, 1.0) };
    let known = match within {
        0.0 => Some(exact[0]),
        30.0 => Some(exact[1]),
        90.0 => Some(exact[2]),
        150.0 => Some(exact[3]),
        180.0 => Some(exact[4]),
        _ => None,
    };
    known.map_or_else(|| function(angle.to_radians()), |known| sign * known)
}

fn sind(angle: f64) -> f64 {
    degrees(angle, f64::sin, [0.0, 0.5, 1.0, 0.5, 0.0])
}

fn cosd(angle: f64) -> f64 {
    degrees(angle + 90.0, |radians| (radians - std::f64::consts::FRAC_PI_2).cos(), [0.0, 0.5, 1.0, 0.5, 0.0])
}

/// Degrees that are whole but for the last bits are whole.
fn exact(degrees: f64) -> f64 {
    let whole = degrees.round();
    if (degrees - whole).abs() < 1e-12 { whole } else { degrees }
}

fn inverse(value: f64, function: fn(f64) -> f64) -> SqlResult<Value> {
    match (-1.0..=1.0).contains(&value) || value.is_nan() {
        true => Ok(Value::Float(exact(function(value).to_degrees()))),
        false => Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "input is out of range")),
    }
}
