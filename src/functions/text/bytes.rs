//! `bytea` and `uuid` as text.

use super::input::bad_syntax;
use crate::error::{SqlError, SqlResult, SqlState};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends bytes as `\xdeadbeef`.
pub fn write_bytea(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\x");
    write_hex(bytes, out);
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Appends the sixteen bytes of a UUID with its four dashes.
pub fn write_uuid(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        write_hex(&[*byte], out);
    }
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Reads a `bytea` in the hex or the escape format.
pub fn parse_bytea(text: &str, out: &mut Vec<u8>) -> SqlResult<()> {
    match text.strip_prefix("\\x") {
        Some(hex) => parse_hex(hex, out),
        None => parse_escaped(text, out),
    }
}

fn parse_hex(hex: &str, out: &mut Vec<u8>) -> SqlResult<()> {
    let refused = |message: String| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    let mut high = None;
    for character in hex.chars() {
        if high.is_none() && matches!(character, ' ' | '\n' | '\t' | '\r') {
            continue;
        }
        let Some(digit) = u8::try_from(character).ok().and_then(digit) else {
            return refused(format!("invalid hexadecimal digit: \"{character}\""));
        };
        match high.take() {
            None => high = Some(digit),
            Some(high) => out.push(high << 4 | digit),
        }
    }
    match high {
        None => Ok(()),
        Some(_) => refused("invalid hexadecimal data: odd number of digits".to_string()),
    }
}

fn parse_escaped(text: &str, out: &mut Vec<u8>) -> SqlResult<()> {
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                out.push(b'\\');
                tail
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            (b'\\', _) => return Err(SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type bytea")),
            (byte, tail) => {
                out.push(*byte);
                tail
            }
        };
    }
    Ok(())
}

/// Reads a UUID: 32 digits, with dashes behind any group of four and with braces if need be.
pub fn parse_uuid(text: &str) -> SqlResult<[u8; 16]> {
    read_uuid(text).ok_or_else(|| bad_syntax(text, "uuid"))
}

fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let body = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => text,
    };
    let mut uuid = [0u8; 16];
    let mut rest = body.as_bytes();
    for (index, slot) in uuid.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else { return None };
        *slot = digit(*high)? << 4 | digit(*low)?;
        rest = match tail {
            [b'-', tail @ ..] if index % 2 == 1 && index < 15 => tail,
            tail => tail,
        };
    }
    rest.is_empty().then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytea(text: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        parse_bytea(text, &mut out).map(|()| out).map_err(|error| error.message)
    }

    #[test]
    fn bytea_is_read_in_both_formats() {
        assert_eq!(bytea("\\xdeadBEEF"), Ok(vec![0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(bytea("\\xde ad"), Ok(vec![0xde, 0xad]));
        assert_eq!(bytea("a\\\\b\\001"), Ok(vec![b'a', b'\\', b'b', 1]));
        assert_eq!(bytea("\\xabc"), Err("invalid hexadecimal data: odd number of digits".to_string()));
        assert_eq!(bytea("\\xag"), Err("invalid hexadecimal digit: \"g\"".to_string()));
        assert_eq!(bytea("\\9"), Err("invalid input syntax for type bytea".to_string()));
        let mut out = Vec::new();
        write_bytea(&[0, 255], &mut out);
        assert_eq!(out, b"\\x00ff");
    }

    #[test]
    fn uuids_are_read_in_every_form_and_printed_in_one() {
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let forms = [
            canonical,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ];
        for form in forms {
            let mut out = Vec::new();
            write_uuid(&parse_uuid(form).expect(form), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), canonical);
        }
        for wrong in ["", "a0ee", "{a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a1g"] {
            assert_eq!(
                parse_uuid(wrong).expect_err(wrong).message,
                format!("invalid input syntax for type uuid: \"{wrong}\"")
            );
        }
    }
}
