//! PostgreSQL's binary formats (those of `typreceive`) → Arrow arrays.

use arrow::datatypes::{IntervalMonthDayNano, i256};

use super::calendar::*;
use super::input::{ColumnBuilder, ListValues, Values};
use super::number_in::{NumericForm, numeric_overflow, parse_decimal128, parse_decimal256};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

fn malformed(type_name: &PgType) -> SqlError {
    SqlError::new(SqlState::INVALID_BINARY, format!("incorrect binary data format for type {type_name}"))
}

impl ColumnBuilder {
    /// Appends a value from its binary format.
    pub fn append_binary(&mut self, bytes: &[u8]) -> SqlResult<()> {
        let pg_type = &self.pg_type;
        match &mut self.values {
            Values::Bool(builder) => {
                let [byte] = fixed::<1>(bytes, pg_type)?;
                builder.append_value(byte != 0);
            }
            Values::Int2(builder) => builder.append_value(i16::from_be_bytes(fixed(bytes, pg_type)?)),
            Values::Int4(builder) => builder.append_value(i32::from_be_bytes(fixed(bytes, pg_type)?)),
            Values::Int8(builder) => builder.append_value(i64::from_be_bytes(fixed(bytes, pg_type)?)),
            Values::Oid(builder) => builder.append_value(u32::from_be_bytes(fixed(bytes, pg_type)?)),
            Values::Float4(builder) => builder.append_value(f32::from_be_bytes(fixed(bytes, pg_type)?)),
            Values::Float8(builder) => builder.append_value(f64::from_be_bytes(fixed(bytes, pg_type)?)),
            Values::Decimal128(builder, form) => builder.append_value(numeric128(bytes, *form, pg_type)?),
            Values::Decimal256(builder, form) => builder.append_value(numeric256(bytes, *form, pg_type)?),
            Values::Text(_) => return self.append_binary_text(bytes),
            Values::Bytes(builder) => builder.append_value(bytes),
            Values::Date(builder) => builder.append_value(date(i32::from_be_bytes(fixed(bytes, pg_type)?))?),
            Values::Time(builder) => {
                let micros = i64::from_be_bytes(fixed(bytes, pg_type)?);
                match (0..=MICROS_PER_DAY).contains(&micros) {
                    true => builder.append_value(micros),
                    false => return Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "time out of range")),
                }
            }
            Values::Timestamp(builder) => {
                builder.append_value(timestamp(i64::from_be_bytes(fixed(bytes, pg_type)?))?);
            }
            Values::Interval(builder) => builder.append_value(interval(fixed(bytes, pg_type)?)?),
            Values::Uuid(values, nulls) => {
                values.extend_from_slice(&fixed::<16>(bytes, pg_type)?);
                nulls.append(true);
            }
            Values::List(list) => list.append_binary(bytes, pg_type)?,
        }
        Ok(())
    }

    fn append_binary_text(&mut self, bytes: &[u8]) -> SqlResult<()> {
        let body = match (&self.pg_type, bytes.split_first()) {
            (PgType::Jsonb, Some((1, body))) => body,
            (PgType::Jsonb, _) => return Err(malformed(&self.pg_type)),
            _ => bytes,
        };
        self.append_text(utf8(body)?)
    }
}

/// The text of bytes, which have to be UTF-8 without a zero byte.
pub fn utf8(bytes: &[u8]) -> SqlResult<&str> {
    let wrong = |at: usize| {
        let shown: Vec<String> = bytes[at..].iter().take(1).map(|byte| format!("0x{byte:02x}")).collect();
        let message = format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" "));
        SqlError::new(SqlState(*b"22021"), message)
    };
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.valid_up_to()))?;
    match memchr::memchr(0, bytes) {
        None => Ok(text),
        Some(at) => Err(wrong(at)),
    }
}

fn fixed<const N: usize>(bytes: &[u8], pg_type: &PgType) -> SqlResult<[u8; N]> {
    bytes.try_into().map_err(|_| malformed(pg_type))
}

fn date(days: i32) -> SqlResult<i32> {
    if days == DATE_INFINITY || days == DATE_MINUS_INFINITY {
        return Ok(days);
    }
    let shifted = i64::from(days) + i64::from(POSTGRES_EPOCH_DAYS);
    match date_in_range(shifted) {
        true => Ok(shifted as i32),
        false => Err(SqlError::new(SqlState::DATETIME_OVERFLOW, "date out of range")),
    }
}

fn timestamp(micros: i64) -> SqlResult<i64> {
    if micros == TIMESTAMP_INFINITY || micros == TIMESTAMP_MINUS_INFINITY {
        return Ok(micros);
    }
    let shifted = micros.checked_add(POSTGRES_EPOCH_MICROS).filter(|micros| timestamp_in_range(*micros));
    shifted.ok_or_else(|| SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range"))
}

fn interval(bytes: [u8; 16]) -> SqlResult<IntervalMonthDayNano> {
    let part = |range: std::ops::Range<usize>| bytes[range].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let micros = part(0..8) as i64;
    let nanos = micros.checked_mul(1_000);
    let nanos = nanos.ok_or_else(|| SqlError::new(SqlState(*b"22015"), "interval field value out of range"))?;
    Ok(IntervalMonthDayNano::new(part(12..16) as u32 as i32, part(8..12) as u32 as i32, nanos))
}

fn numeric128(bytes: &[u8], form: NumericForm, pg_type: &PgType) -> SqlResult<i128> {
    parse_decimal128(&numeric_text(bytes, form, pg_type)?, form)
}

fn numeric256(bytes: &[u8], form: NumericForm, pg_type: &PgType) -> SqlResult<i256> {
    parse_decimal256(&numeric_text(bytes, form, pg_type)?, form)
}

/// The decimal text of a numeric in binary; its digits count in base 10,000.
fn numeric_text(bytes: &[u8], form: NumericForm, pg_type: &PgType) -> SqlResult<String> {
    let word = |index: usize| bytes.get(index * 2..index * 2 + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (Some(count), Some(weight), Some(sign), Some(_)) = (word(0), word(1), word(2), word(3)) else {
        return Err(malformed(pg_type));
    };
    let weight = i32::from(weight as i16);
    let negative = match sign {
        0 => false,
        0x4000 => true,
        0xc000 | 0xd000 | 0xf000 => {
            return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "numeric cannot hold NaN or infinity")
                .hint("Use double precision for them."));
        }
        _ => return Err(malformed(pg_type)),
    };
    if bytes.len() != 8 + usize::from(count) * 2 {
        return Err(malformed(pg_type));
    }
    // More than 76 digits fit nowhere; refused before they are written out.
    if count > 0 && weight > 24 {
        return Err(numeric_overflow(form));
    }
    let mut text = String::with_capacity(usize::from(count) * 4 + 8);
    for index in 0..usize::from(count) {
        let digit = word(4 + index).filter(|digit| *digit < 10_000).ok_or_else(|| malformed(pg_type))?;
        text.push_str(&format!("{digit:04}"));
    }
    let exponent = (weight + 1 - i32::from(count)) * 4;
    let sign = if negative { "-" } else { "" };
    Ok(match text.is_empty() {
        true => "0".to_string(),
        false => format!("{sign}{text}e{exponent}"),
    })
}

impl ListValues {
    fn append_binary(&mut self, bytes: &[u8], pg_type: &PgType) -> SqlResult<()> {
        let mut reader = Reader { rest: bytes, pg_type };
        let dimensions = reader.int()?;
        let _has_nulls = reader.int()?;
        let item_oid = reader.int()? as u32;
        if item_oid != self.items.pg_type.oid() {
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, "wrong element type")
                .detail(format!("The array has items of the type with OID {item_oid}, not {}.", self.items.pg_type)));
        }
        let length = match dimensions {
            0 => 0,
            1 => {
                let length = reader.int()?;
                let _lower_bound = reader.int()?;
                length
            }
            2..=6 => {
                return Err(SqlError::unsupported(
                    "arrays of more than one dimension are not supported",
                    "Use json, or one array per row.",
                ));
            }
            _ => return Err(malformed(pg_type)),
        };
        for _ in 0..length {
            match reader.int()? {
                -1 => self.items.append_null(),
                size => self.items.append_binary(reader.bytes(size)?)?,
            }
        }
        self.end_row(true);
        Ok(())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    pg_type: &'a PgType,
}

impl<'a> Reader<'a> {
    fn int(&mut self) -> SqlResult<i32> {
        Ok(i32::from_be_bytes(fixed(self.bytes(4)?, self.pg_type)?))
    }

    fn bytes(&mut self, size: i32) -> SqlResult<&'a [u8]> {
        let size = usize::try_from(size).map_err(|_| malformed(self.pg_type))?;
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or_else(|| malformed(self.pg_type))?;
        self.rest = rest;
        Ok(bytes)
    }
}
