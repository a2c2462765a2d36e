//! COPY's text format: one line per row, backslash escapes.

use super::scan::{Field, Place, Row, Scan, Scanner};
use crate::error::{SqlError, SqlState};

/// Finds the fields of the row at `start`.
pub fn row(scanner: &mut Scanner, data: &[u8], start: usize, last: bool, scan: &mut Scan) -> Result<Row, SqlError> {
    let (mut field_start, mut at, mut escaped) = (start, start, false);
    loop {
        at = scanner.next_special(data, at);
        let Some(byte) = data.get(at) else {
            if !last || at == start {
                return Ok(Row::Partial);
            }
            return end_of_row(scanner, data, start, field_start..at, at, escaped, scan);
        };
        match byte {
            b'\\' => {
                // What stands behind a backslash is data, be it a delimiter or a newline.
                escaped = true;
                if at + 1 == data.len() && !last {
                    return Ok(Row::Partial);
                }
                at = (at + 2).min(data.len());
            }
            b'\n' => {
                let end = scanner.trim_line(data, field_start, at);
                return end_of_row(scanner, data, start, field_start..end, at + 1, escaped, scan);
            }
            _ => {
                push(scanner, data, field_start..at, escaped, scan)?;
                at += 1;
                (field_start, escaped) = (at, false);
            }
        }
    }
}

fn end_of_row(
    scanner: &Scanner,
    data: &[u8],
    start: usize,
    field: std::ops::Range<usize>,
    next: usize,
    escaped: bool,
    scan: &mut Scan,
) -> Result<Row, SqlError> {
    if escaped && field.start == start && &data[field.clone()] == b"\\." {
        return Ok(Row::End(next));
    }
    push(scanner, data, field, escaped, scan)?;
    Ok(Row::Found(next))
}

fn push(
    scanner: &Scanner,
    data: &[u8],
    field: std::ops::Range<usize>,
    escaped: bool,
    scan: &mut Scan,
) -> Result<(), SqlError> {
    let raw = &data[field.clone()];
    if raw == scanner.form.null.as_bytes() {
        scan.fields.push(Field { start: field.start, end: field.end, place: Place::Null });
    } else if escaped {
        let start = scan.arena.len();
        unescape(raw, &mut scan.arena);
        scan.fields.push(Field { start, end: scan.arena.len(), place: Place::Arena(false) });
    } else if memchr::memchr(b'\r', raw).is_some() {
        return Err(SqlError::new(SqlState::BAD_COPY_FORMAT, "literal carriage return found in data")
            .hint("Use \"\\r\" to represent carriage return."));
    } else {
        scan.fields.push(Field { start: field.start, end: field.end, place: Place::Data });
    }
    Ok(())
}

fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(backslash) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..backslash]);
        rest = &rest[backslash + 1..];
        let Some((first, tail)) = rest.split_first() else {
            return out.push(b'\\');
        };
        rest = tail;
        match first {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0b),
            b'0'..=b'7' => {
                let more = rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let octal =
                    rest[..more].iter().fold(u32::from(first - b'0'), |sum, byte| sum * 8 + u32::from(byte - b'0'));
                out.push(octal as u8);
                rest = &rest[more..];
            }
            b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
                let digits = rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
                let hex =
                    rest[..digits].iter().fold(0u32, |sum, byte| sum * 16 + (*byte as char).to_digit(16).unwrap_or(0));
                out.push(hex as u8);
                rest = &rest[digits..];
            }
            other => out.push(*other),
        }
    }
    out.extend_from_slice(rest);
}

/// Escapes what `out` has from `start` on, if anything there needs it.
pub fn escape(delimiter: u8, start: usize, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    let special = |byte: u8| matches!(byte, b'\\' | 0x08 | 0x0c | b'\n' | b'\r' | b'\t' | 0x0b) || byte == delimiter;
    if !out[start..].iter().any(|byte| special(*byte)) {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(&out[start..]);
    out.truncate(start);
    for byte in scratch.iter() {
        let letter = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            byte if special(*byte) => *byte,
            byte => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
