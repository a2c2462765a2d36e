//! bytea: parts, bits, encodings.

use super::{Entry, Row, Value, strict};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) const ENTRIES: &[Entry] = &[
    strict("convert_from", "bytea, text", "text", |row| decoded(row.bytes(0), row.text(1), "source").map(Value::Text)),
    strict("convert_to", "text, text", "bytea", |row| {
        encoded(row.text(0), row.text(1), "destination").map(Value::Bytes)
    }),
    strict("convert", "bytea, text, text", "bytea", |row| {
        let text = decoded(row.bytes(0), row.text(1), "source")?;
        encoded(&text, row.text(2), "destination").map(Value::Bytes)
    }),
    strict("encode", "bytea, text", "text", encode),
    strict("decode", "text, text", "bytea", decode),
    strict("length", "bytea", "int", |row| Ok(Value::Int(row.bytes(0).len() as i64))),
    strict("length", "bytea, text", "int", |row| {
        Ok(Value::Int(decoded(row.bytes(0), row.text(1), "source")?.chars().count() as i64))
    }),
    strict("octet_length", "bytea", "int", |row| Ok(Value::Int(row.bytes(0).len() as i64))),
    strict("bit_length", "bytea", "int", |row| Ok(Value::Int(row.bytes(0).len() as i64 * 8))),
    strict("bit_count", "bytea", "bigint", |row| {
        Ok(Value::Int(row.bytes(0).iter().map(|byte| i64::from(byte.count_ones())).sum()))
    }),
    strict("get_byte", "bytea, int", "int", |row| Ok(Value::Int(i64::from(row.bytes(0)[place(row, 1)?])))),
    strict("set_byte", "bytea, int, int", "bytea", |row| {
        let at = place(row, 1)?;
        let mut bytes = row.bytes(0).to_vec();
        bytes[at] = row.int(2) as u8;
        Ok(Value::Bytes(bytes))
    }),
    strict("get_bit", "bytea, bigint", "int", |row| {
        let (at, bit) = bit_place(row)?;
        Ok(Value::Int(i64::from(row.bytes(0)[at] >> bit & 1)))
    }),
    strict("set_bit", "bytea, bigint, int", "bytea", set_bit),
    strict("substring", "bytea, int", "bytea", |row| part(row, None)),
    strict("substring", "bytea, int, int", "bytea", |row| part(row, Some(row.int(2)))),
    strict("substr", "bytea, int", "bytea", |row| part(row, None)),
    strict("substr", "bytea, int, int", "bytea", |row| part(row, Some(row.int(2)))),
    strict("hw_concat", "bytea, bytea", "bytea", |row| Ok(Value::Bytes([row.bytes(0), row.bytes(1)].concat()))),
    strict("position", "bytea, bytea", "int", |row| {
        let (wanted, within) = (row.bytes(0), row.bytes(1));
        let at = match wanted.is_empty() {
            true => Some(0),
            false => within.windows(wanted.len()).position(|window| window == wanted),
        };
        Ok(Value::Int(at.map_or(0, |at| at as i64 + 1)))
    }),
    strict("btrim", "bytea, bytea", "bytea", |row| {
        let within = |byte: &u8| row.bytes(1).contains(byte);
        let bytes = row.bytes(0);
        let start = bytes.iter().position(|byte| !within(byte)).unwrap_or(bytes.len());
        let end = bytes.iter().rposition(|byte| !within(byte)).map_or(start, |last| last + 1);
        Ok(Value::Bytes(bytes[start..end].to_vec()))
    }),
    strict("reverse", "bytea", "bytea", |row| Ok(Value::Bytes(row.bytes(0).iter().rev().copied().collect()))),
];

fn unknown_encoding(name: &str, which: &str) -> SqlError {
    let message = format!("invalid {which} encoding name \"{name}\"");
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint("Encodings are UTF8, LATIN1 and SQL_ASCII.")
}

fn is_utf8(name: &str) -> Option<bool> {
    match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "utf8" | "unicode" | "sqlascii" => Some(true),
        "latin1" | "iso88591" => Some(false),
        _ => None,
    }
}

fn decoded(bytes: &[u8], encoding: &str, which: &str) -> SqlResult<String> {
    match is_utf8(encoding).ok_or_else(|| unknown_encoding(encoding, which))? {
        true => String::from_utf8(bytes.to_vec()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let message = format!("invalid byte sequence for encoding \"UTF8\": 0x{:02x}", bytes[at]);
            SqlError::new(SqlState(*b"22021"), message)
        }),
        false => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
    }
}

fn encoded(text: &str, encoding: &str, which: &str) -> SqlResult<Vec<u8>> {
    match is_utf8(encoding).ok_or_else(|| unknown_encoding(encoding, which))? {
        true => Ok(text.as_bytes().to_vec()),
        false => text.chars().map(latin1).collect(),
    }
}

fn latin1(letter: char) -> SqlResult<u8> {
    u8::try_from(letter as u32).map_err(|_| {
        let message = format!("character \"{letter}\" has no equivalent in encoding \"LATIN1\"");
        SqlError::new(SqlState(*b"22P05"), message)
    })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// The longest line of base64.
const LINE: usize = 76;

fn unknown_format(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unrecognized encoding: \"{name}\""))
        .hint("Encodings are base64, hex and escape.")
}

fn encode(row: &Row<'_>) -> SqlResult<Value> {
    let bytes = row.bytes(0);
    match row.text(1).to_ascii_lowercase().as_str() {
        "hex" => Value::text(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        "base64" => Value::text(to_base64(bytes)),
        "escape" => Value::text(escaped(bytes)),
        other => Err(unknown_format(other)),
    }
}

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        if !out.is_empty() && (out.len() + 1).is_multiple_of(LINE + 1) {
            out.push('\n');
        }
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let six = bits >> (18 - 6 * index) & 63;
            out.push(if index <= chunk.len() { char::from(BASE64[six as usize]) } else { '=' });
        }
    }
    out
}

fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            0 | 128.. => out.push_str(&format!("\\{byte:03o}")),
            other => out.push(char::from(*other)),
        }
    }
    out
}

fn decode(row: &Row<'_>) -> SqlResult<Value> {
    let text = row.text(0);
    match row.text(1).to_ascii_lowercase().as_str() {
        "hex" => from_hex(text).map(Value::Bytes),
        "base64" => from_base64(text).map(Value::Bytes),
        "escape" => {
            let mut bytes = Vec::new();
            crate::functions::text::parse_bytea(text.strip_prefix("\\x").map_or(text, |_| text), &mut bytes)?;
            Ok(Value::Bytes(bytes))
        }
        other => Err(unknown_format(other)),
    }
}

fn from_hex(text: &str) -> SqlResult<Vec<u8>> {
    let bad = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let digits: Vec<u32> = (text.chars().filter(|letter| !letter.is_whitespace()))
        .map(|letter| letter.to_digit(16).ok_or_else(|| bad(format!("invalid hexadecimal digit: \"{letter}\""))))
        .collect::<SqlResult<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return Err(bad("invalid hexadecimal data: odd number of digits".to_string()));
    }
    Ok(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

fn from_base64(text: &str) -> SqlResult<Vec<u8>> {
    let bad = |message: String| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
    for letter in text.chars().filter(|letter| !letter.is_whitespace() && *letter != '=') {
        let six = BASE64.iter().position(|known| char::from(*known) == letter);
        let six =
            six.ok_or_else(|| bad(format!("invalid symbol \"{letter}\" found while decoding base64 sequence")))?;
        bits = bits << 6 | six as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    match count {
        6 => Err(bad("invalid base64 end sequence".to_string())
            .hint("Input data is missing padding, is truncated, or is otherwise corrupted.")),
        _ => Ok(out),
    }
}

fn out_of_range(index: i64, length: i64) -> SqlError {
    let message = format!("index {index} out of valid range, 0..{}", length - 1);
    SqlError::new(SqlState(*b"2202E"), message)
}

fn place(row: &Row<'_>, index: usize) -> SqlResult<usize> {
    let (at, length) = (row.int(index), row.bytes(0).len());
    usize::try_from(at).ok().filter(|at| *at < length).ok_or_else(|| out_of_range(at, length as i64))
}

fn bit_place(row: &Row<'_>) -> SqlResult<(usize, i64)> {
    let (at, length) = (row.int(1), row.bytes(0).len() as i64 * 8);
    match (0..length).contains(&at) {
        true => Ok(((at / 8) as usize, at % 8)),
        false => Err(out_of_range(at, length)),
    }
}

fn set_bit(row: &Row<'_>) -> SqlResult<Value> {
    let (at, bit) = bit_place(row)?;
    let mut bytes = row.bytes(0).to_vec();
    match row.int(2) {
        0 => bytes[at] &= !(1 << bit),
        1 => bytes[at] |= 1 << bit,
        _ => return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "new bit must be 0 or 1")),
    }
    Ok(Value::Bytes(bytes))
}

/// Positions begin at 1 and may lie before it.
fn part(row: &Row<'_>, length: Option<i64>) -> SqlResult<Value> {
    let (bytes, start) = (row.bytes(0), row.int(1));
    if length.is_some_and(|length| length < 0) {
        return Err(SqlError::new(SqlState(*b"22011"), "negative substring length not allowed"));
    }
    let size = bytes.len() as i64;
    let end = length.map_or(size, |length| (start - 1).saturating_add(length).clamp(0, size));
    let start = (start - 1).clamp(0, size).min(end);
    Ok(Value::Bytes(bytes[start as usize..end as usize].to_vec()))
}
