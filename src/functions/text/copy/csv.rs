//! COPY's csv format: quotes, doubled quotes, newlines within quotes.

use super::scan::{Field, Place, Row, Scan, Scanner};
use crate::error::{SqlError, SqlState};

/// What is known of the field being read.
struct Open {
    start: usize,
    /// Quotes seen so far, opening and closing ones.
    quotes: usize,
    /// An escape was seen within quotes.
    escaped: bool,
}

/// Finds the fields of the row at `start`.
pub fn row(scanner: &mut Scanner, data: &[u8], start: usize, last: bool, scan: &mut Scan) -> Result<Row, SqlError> {
    let mut field = Open { start, quotes: 0, escaped: false };
    let mut at = start;
    loop {
        at = scanner.next_special(data, at);
        let Some(byte) = data.get(at) else {
            if !last || at == start {
                return Ok(Row::Partial);
            }
            return end_of_row(scanner, data, start, field, at, at, scan);
        };
        if *byte == scanner.form.quote {
            field.quotes += 1;
            match closing_quote(scanner, data, at + 1, last, &mut field.escaped) {
                Some(closing) => {
                    field.quotes += 1;
                    at = closing + 1;
                }
                None if last => {
                    return Err(SqlError::new(SqlState::BAD_COPY_FORMAT, "unterminated CSV quoted field"));
                }
                None => return Ok(Row::Partial),
            }
        } else if *byte == b'\n' {
            let end = scanner.trim_line(data, field.start, at);
            return end_of_row(scanner, data, start, field, end, at + 1, scan);
        } else {
            push(scanner, data, &field, at, scan);
            at += 1;
            field = Open { start: at, quotes: 0, escaped: false };
        }
    }
}

/// The quote that ends the quoted part beginning at `at`; `None` if the data stops before it is certain.
fn closing_quote(scanner: &Scanner, data: &[u8], at: usize, last: bool, escaped: &mut bool) -> Option<usize> {
    let (quote, escape) = (scanner.form.quote, scanner.form.escape);
    let mut at = at;
    loop {
        at += memchr::memchr2(quote, escape, data.get(at..)?)?;
        let next = data.get(at + 1).copied();
        if next.is_none() && !last {
            return None;
        }
        let escapes = data[at] == escape && next.is_some_and(|next| next == quote || next == escape);
        if escapes {
            *escaped = true;
            at += 2;
        } else if data[at] == quote {
            return Some(at);
        } else {
            at += 1;
        }
    }
}

fn end_of_row(
    scanner: &Scanner,
    data: &[u8],
    start: usize,
    field: Open,
    end: usize,
    next: usize,
    scan: &mut Scan,
) -> Result<Row, SqlError> {
    if field.start == start && field.quotes == 0 && &data[start..end] == b"\\." {
        return Ok(Row::End(next));
    }
    push(scanner, data, &field, end, scan);
    Ok(Row::Found(next))
}

fn push(scanner: &Scanner, data: &[u8], field: &Open, end: usize, scan: &mut Scan) {
    let raw = &data[field.start..end];
    let quote = scanner.form.quote;
    if field.quotes == 0 {
        return scan.fields.push(Field { start: field.start, end, place: Place::Data });
    }
    let whole = field.quotes == 2 && raw.len() >= 2 && raw[0] == quote && raw[raw.len() - 1] == quote;
    if whole && !field.escaped {
        return scan.fields.push(Field { start: field.start + 1, end: end - 1, place: Place::Quoted });
    }
    let start = scan.arena.len();
    unquote(raw, quote, scanner.form.escape, &mut scan.arena);
    scan.fields.push(Field { start, end: scan.arena.len(), place: Place::Arena(true) });
}

fn unquote(raw: &[u8], quote: u8, escape: u8, out: &mut Vec<u8>) {
    let mut quoted = false;
    let mut at = 0;
    while at < raw.len() {
        let byte = raw[at];
        let next = raw.get(at + 1).copied();
        at += 1;
        if quoted && byte == escape && next.is_some_and(|next| next == quote || next == escape) {
            out.extend(next);
            at += 1;
        } else if byte == quote {
            quoted = !quoted;
        } else {
            out.push(byte);
        }
    }
}

/// Quotes what `out` has from `start` on, if it has to be.
pub fn quote(form: &super::CopyForm, force: bool, alone: bool, start: usize, out: &mut Vec<u8>, scratch: &mut Vec<u8>) {
    let value = &out[start..];
    let special = |byte: &u8| matches!(byte, b'\n' | b'\r') || *byte == form.delimiter || *byte == form.quote;
    let needed = force || value == form.null.as_bytes() || alone && value == b"\\." || value.iter().any(special);
    if !needed {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(value);
    out.truncate(start);
    out.push(form.quote);
    for byte in scratch.iter() {
        if *byte == form.quote || *byte == form.escape {
            out.push(form.escape);
        }
        out.push(*byte);
    }
    out.push(form.quote);
}
