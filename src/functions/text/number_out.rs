//! Numbers as PostgreSQL prints them.

use std::io::Write;

use arrow::datatypes::i256;

/// Appends a whole number.
pub fn write_int(value: i64, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    write_unsigned(value.unsigned_abs(), out);
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
                            2021222324252627282930313233343536373839\
                            4041424344454647484950515253545556575859\
                            6061626364656667686970717273747576777879\
                            8081828384858687888990919293949596979899";

/// Appends a whole number that is not negative.
pub fn write_unsigned(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        let pair = value as usize * 2;
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        start -= 1;
        digits[start] = b'0' + value as u8;
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends two digits.
pub fn write_two(value: u32, out: &mut Vec<u8>) {
    let pair = (value % 100) as usize * 2;
    out.extend_from_slice(&PAIRS[pair..pair + 2]);
}

/// Appends a `real`: the shortest digits that read back, with an exponent outside 1e-4 ≤ x < 1e6.
pub fn write_float4(value: f32, out: &mut Vec<u8>) {
    if write_special(f64::from(value), out) {
        return;
    }
    let mut buffer = [0u8; 32];
    let mut length = scientific(&mut buffer, format_args!("{value:e}"));
    let bits = value.to_bits();
    if is_halfway(&buffer[..length], u64::from(bits & 0x7f_ffff | 0x80_0000), (bits >> 23 & 0xff) as i32 - 150) {
        length = scientific(&mut buffer, format_args!("{value:.8e}"));
    }
    layout(&buffer[..length], 6, out);
}

/// Appends a `double precision`: the shortest digits that read back, with an exponent outside 1e-4 ≤ x < 1e15.
pub fn write_float8(value: f64, out: &mut Vec<u8>) {
    if write_special(value, out) {
        return;
    }
    if value.fract() == 0.0 && value.abs() < 1e15 && (value != 0.0 || value.is_sign_positive()) {
        return write_int(value as i64, out);
    }
    let mut buffer = [0u8; 32];
    let mut length = scientific(&mut buffer, format_args!("{value:e}"));
    let bits = value.to_bits();
    if is_halfway(&buffer[..length], bits & ((1 << 52) - 1) | 1 << 52, (bits >> 52 & 0x7ff) as i32 - 1075) {
        let shorter = scientific(&mut buffer, format_args!("{value:.15e}"));
        let reads_back = std::str::from_utf8(&buffer[..shorter]).ok().and_then(|text| text.parse::<f64>().ok());
        length = match reads_back == Some(value) {
            true => shorter,
            false => scientific(&mut buffer, format_args!("{value:.16e}")),
        };
    }
    layout(&buffer[..length], 15, out);
}

/// Whether digits lie exactly between `mantissa · 2^exponent` and its neighbour. Such digits read back only where
/// halves are rounded to even, so PostgreSQL takes others: 1e23 prints as 9.999999999999999e+22.
fn is_halfway(scientific: &[u8], mantissa: u64, exponent: i32) -> bool {
    let text = std::str::from_utf8(scientific).unwrap_or("");
    let Some((digits, power)) = text.trim_start_matches('-').split_once('e') else { return false };
    let fraction = digits.len().saturating_sub(2) as i32;
    let zeros = power.parse::<i32>().unwrap_or(0) - fraction;
    if !(1..=23).contains(&zeros) {
        return false;
    }
    let number =
        digits.bytes().filter(u8::is_ascii_digit).fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    // number · 10^zeros = odd · 2^twos, and a halfway point is (2 · mantissa ± 1) · 2^(exponent - 1).
    let scaled = number * 5u128.pow(zeros as u32);
    let twos = scaled.trailing_zeros();
    let odd = scaled >> twos;
    twos as i32 + zeros == exponent - 1 && odd.abs_diff(u128::from(mantissa) * 2) == 1
}

fn write_special(value: f64, out: &mut Vec<u8>) -> bool {
    let name: &[u8] = match value {
        value if value.is_nan() => b"NaN",
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        _ => return false,
    };
    out.extend_from_slice(name);
    true
}

/// Formats into a buffer on the stack; returns the length.
fn scientific(buffer: &mut [u8; 32], text: std::fmt::Arguments<'_>) -> usize {
    let mut cursor = std::io::Cursor::new(&mut buffer[..]);
    cursor.write_fmt(text).expect("the shortest form of a float has at most 24 bytes");
    cursor.position() as usize
}

/// Turns `-1.234e5` into PostgreSQL's layout; exponents of `fixed_below` and more are written out.
fn layout(scientific: &[u8], fixed_below: i32, out: &mut Vec<u8>) {
    let (sign, body) = match scientific.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, scientific),
    };
    let split = body.iter().position(|byte| *byte == b'e').expect("LowerExp writes an exponent");
    let exponent: i32 = std::str::from_utf8(&body[split + 1..])
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("LowerExp writes a number after e");
    if sign {
        out.push(b'-');
    }
    let mantissa = &body[..split];
    let first = mantissa[0];
    let rest = mantissa.get(2..).unwrap_or(&[]);
    if (-4..fixed_below).contains(&exponent) {
        return fixed(first, rest, exponent, out);
    }
    out.extend_from_slice(mantissa);
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let magnitude = exponent.unsigned_abs();
    match magnitude < 100 {
        true => write_two(magnitude, out),
        false => write_unsigned(u64::from(magnitude), out),
    }
}

fn fixed(first: u8, rest: &[u8], exponent: i32, out: &mut Vec<u8>) {
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
        out.push(first);
        return out.extend_from_slice(rest);
    }
    let whole = exponent as usize;
    out.push(first);
    if rest.len() <= whole {
        out.extend_from_slice(rest);
        return out.extend(std::iter::repeat_n(b'0', whole - rest.len()));
    }
    out.extend_from_slice(&rest[..whole]);
    out.push(b'.');
    out.extend_from_slice(&rest[whole..]);
}

/// Appends a numeric of a scale. With `trim`, zeros at the end of the fraction are left out.
pub fn write_decimal128(value: i128, scale: i8, trim: bool, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let magnitude = value.unsigned_abs();
    let mut digits = [0u8; 40];
    let start = match u64::try_from(magnitude) {
        Ok(small) => digits_of_u64(small, &mut digits),
        Err(_) => digits_of_u128(magnitude, &mut digits),
    };
    point(&digits[start..], scale, trim, out);
}

fn digits_of_u64(mut value: u64, digits: &mut [u8; 40]) -> usize {
    let mut start = digits.len();
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        start -= 2;
        digits[start..start + 2].copy_from_slice(&PAIRS[value as usize * 2..value as usize * 2 + 2]);
    } else if value > 0 {
        start -= 1;
        digits[start] = b'0' + value as u8;
    }
    start
}

/// As above, in halves of 19 digits: a division of 128 bits is dear.
fn digits_of_u128(value: u128, digits: &mut [u8; 40]) -> usize {
    const HALF: u128 = 10_000_000_000_000_000_000;
    let (mut high, low) = (value / HALF, (value % HALF) as u64);
    let mut start = digits_of_u64(low, digits);
    let mut filled = digits.len() - 19;
    digits[filled..start].fill(b'0');
    while high > 0 {
        filled -= 1;
        digits[filled] = b'0' + (high % 10) as u8;
        high /= 10;
        start = filled;
    }
    start.min(filled)
}

/// Appends a numeric of more than 38 digits.
pub fn write_decimal256(value: i256, scale: i8, trim: bool, out: &mut Vec<u8>) {
    let text = value.to_string();
    let digits = match text.strip_prefix('-') {
        Some(digits) => {
            out.push(b'-');
            digits
        }
        None => text.as_str(),
    };
    point(if digits == "0" { b"" } else { digits.as_bytes() }, scale, trim, out);
}

/// Sets the point into digits without leading zeros.
fn point(digits: &[u8], scale: i8, trim: bool, out: &mut Vec<u8>) {
    if scale <= 0 {
        if digits.is_empty() {
            return out.push(b'0');
        }
        out.extend_from_slice(digits);
        return out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
    }
    let scale = scale as usize;
    let whole = digits.len().saturating_sub(scale);
    match whole {
        0 => out.push(b'0'),
        _ => out.extend_from_slice(&digits[..whole]),
    }
    let mark = out.len();
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale.saturating_sub(digits.len())));
    out.extend_from_slice(&digits[whole..]);
    if trim {
        let zeros = out[mark..].iter().rev().take_while(|byte| **byte == b'0').count();
        out.truncate(out.len() - zeros);
        if out.len() == mark + 1 {
            out.truncate(mark);
        }
    }
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
    fn floats_have_the_shortest_text_in_postgresql_layout() {
        let cases = [
            (0.1 + 0.2, "0.30000000000000004"),
            (1e20, "1e+20"),
            (1e-5, "1e-05"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (123_456_789_012_345.0, "123456789012345"),
            (0.0001, "0.0001"),
            (-0.0, "-0"),
            (0.0, "0"),
            (1.5, "1.5"),
            (-1.25e-300, "-1.25e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (1_234_567.891, "1234567.891"),
            (5e-324, "5e-324"),
            (1e23, "9.999999999999999e+22"),
            (1e22, "1e+22"),
            (f64::MAX, "1.7976931348623157e+308"),
        ];
        for (value, expected) in cases {
            assert_eq!(text(|out| write_float8(value, out)), expected);
        }
        for (value, expected) in
            [(0.1f32, "0.1"), (1e6, "1e+06"), (999_999.0, "999999"), (16_777_216.0, "1.6777216e+07")]
        {
            assert_eq!(text(|out| write_float4(value, out)), expected);
        }
    }

    #[test]
    fn numerics_keep_their_scale_and_bare_ones_drop_zeros() {
        assert_eq!(text(|out| write_decimal128(110, 2, false, out)), "1.10");
        assert_eq!(text(|out| write_decimal128(110, 2, true, out)), "1.1");
        assert_eq!(text(|out| write_decimal128(100, 2, true, out)), "1");
        assert_eq!(text(|out| write_decimal128(-5, 3, false, out)), "-0.005");
        assert_eq!(text(|out| write_decimal128(0, 2, false, out)), "0.00");
        assert_eq!(text(|out| write_decimal128(0, 0, false, out)), "0");
        assert_eq!(text(|out| write_decimal128(12, -2, false, out)), "1200");
        assert_eq!(text(|out| write_decimal128(i128::MAX, 10, false, out)), "17014118346046923173168730371.5884105727");
        assert_eq!(
            text(|out| write_decimal128(100_000_000_000_000_000_000_000_000_000, 0, false, out)),
            "100000000000000000000000000000"
        );
        assert_eq!(text(|out| write_decimal128(10_000_000_000_000_000_000, 16, true, out)), "1000");
        let wide = i256::from_string("-12345678901234567890123456789012345678901234567890").expect("fits");
        assert_eq!(
            text(|out| write_decimal256(wide, 4, false, out)),
            "-1234567890123456789012345678901234567890123456.7890"
        );
    }

    #[test]
    fn whole_numbers_print_at_their_ends() {
        for value in [0, 7, 10, 99, 100, 12_345, i64::MAX, i64::MIN, -1] {
            assert_eq!(text(|out| write_int(value, out)), value.to_string());
        }
    }
}
