//! JSON lines → cells: one object a line, its members found by name.
//!
//! Members without a column are left out, columns without a member are NULL. A json column takes any value as it
//! stands; a text column takes strings, and of other values their JSON text; all other columns take what PostgreSQL reads
//! from the text of a string or number. In a timestamp column a number counts seconds, milliseconds, microseconds or
//! nanoseconds since 1970, told apart by its size.

use std::collections::HashMap;

use super::cells::{Cells, Target};
use super::json_scan::{Kind, ScanError, Scanner, Token, unescape};
use crate::functions::text::write_timestamp;
use crate::zset::PgType;

/// A reader of lines of one file.
pub struct JsonLines {
    types: Vec<PgType>,
    target: Target,
    /// Columns by the names of members as they are spelled in the file, escapes included.
    known: HashMap<String, Option<usize>>,
    /// The members of the line before, in order: most lines have the same.
    order: Vec<(String, Option<usize>)>,
    members: Vec<(Token, Token)>,
    scratch: String,
}

impl JsonLines {
    pub fn new(target: &Target) -> JsonLines {
        JsonLines {
            types: target.types.clone(),
            target: target.clone(),
            known: HashMap::new(),
            order: Vec::new(),
            members: Vec::new(),
            scratch: String::new(),
        }
    }

    pub fn split(&mut self, cells: &mut Cells<'_>, is_end: bool, rows_max: usize) -> usize {
        let data = cells.data;
        let mut at = 0;
        while at < data.len() && cells.rows() < rows_max {
            let end = match data[at..].find('\n') {
                Some(length) => at + length + 1,
                None if is_end => data.len(),
                None => break,
            };
            if data[at..end].trim_ascii().is_empty() {
                cells.next_number += 1;
            } else {
                cells.line(at, end, 1);
                if let Err(reason) = self.line(cells, at, end) {
                    cells.fail(reason);
                }
            }
            at = end;
        }
        at
    }

    /// Takes the object that the data have from `start` to `end` into the last line of the cells.
    ///
    /// # Errors
    /// Why it is no row.
    pub fn line(&mut self, cells: &mut Cells<'_>, start: usize, end: usize) -> Result<(), String> {
        let line = &cells.data[start..end];
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        let scanned = Scanner::new(line).object(|name, value| members.push((name, value)));
        let result = match scanned {
            Err(ScanError { at, reason }) => {
                let character = line[..line.floor_char_boundary(at)].chars().count() + 1;
                Err(format!("it is no JSON object: {reason}, at character {character}"))
            }
            Ok(()) => members.iter().enumerate().try_for_each(|(index, (name, value))| {
                let Some(column) = self.column(index, &line[name.start + 1..name.end - 1]) else { return Ok(()) };
                self.value(cells, column, start, *value)
            }),
        };
        self.members = members;
        result
    }

    /// The column of a member that is the `index`-th of its line.
    fn column(&mut self, index: usize, name: &str) -> Option<usize> {
        if let Some((known, column)) = self.order.get(index)
            && known == name
        {
            return *column;
        }
        let column = match self.known.get(name) {
            Some(column) => *column,
            None => {
                let mut plain = String::new();
                let column = unescape(name, &mut plain).ok().and_then(|()| self.target.find(&plain));
                // Lines with ever new names must not fill the memory.
                if self.known.len() < 10_000 {
                    self.known.insert(name.to_string(), column);
                }
                column
            }
        };
        if index < self.order.len() {
            self.order[index] = (name.to_string(), column);
        } else if index == self.order.len() && index < 10_000 {
            self.order.push((name.to_string(), column));
        }
        column
    }

    fn value(&mut self, cells: &mut Cells<'_>, column: usize, line: usize, value: Token) -> Result<(), String> {
        let (start, end) = (line + value.start, line + value.end);
        let raw = &cells.data[start..end];
        let pg_type = &self.types[column];
        self.scratch.clear();
        match (value.kind, pg_type) {
            (Kind::Null, _) => cells.set_null(column),
            (_, PgType::Json | PgType::Jsonb) => cells.set(column, start, end),
            (Kind::String { has_escapes: false }, _) => cells.set(column, start + 1, end - 1),
            (Kind::String { has_escapes: true }, _) => {
                unescape(&raw[1..raw.len() - 1], &mut self.scratch)
                    .map_err(|reason| format!("column \"{}\": {reason}", self.target.name(column)))?;
                cells.set_text(column, &self.scratch);
            }
            (Kind::Number, PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid) => match whole_number(raw) {
                Some(whole) => cells.set_text(column, &whole),
                None => cells.set(column, start, end),
            },
            (Kind::Number, PgType::Timestamp | PgType::Timestamptz) => match moment(raw) {
                Some(moment) => cells.set_text(column, &moment),
                None => cells.set(column, start, end),
            },
            (Kind::Array, PgType::Array(item)) => {
                array_literal(raw, item, &mut self.scratch)
                    .map_err(|reason| format!("column \"{}\": {reason}", self.target.name(column)))?;
                cells.set_text(column, &self.scratch);
            }
            (Kind::Bool | Kind::Number | Kind::Array | Kind::Object, _) => cells.set(column, start, end),
        }
        Ok(())
    }
}

/// A member of a JSON object.
pub struct JsonMember {
    pub name: String,
    /// Where its value stands.
    pub value: std::ops::Range<usize>,
}

/// The members of the object that the text is.
///
/// # Errors
/// Why it is none.
pub fn json_members(text: &str) -> Result<Vec<JsonMember>, &'static str> {
    let mut members = Vec::new();
    let scanned = Scanner::new(text).object(|name, value| {
        let mut plain = String::new();
        // A name that cannot be read is nobody's.
        if unescape(&text[name.start + 1..name.end - 1], &mut plain).is_ok() {
            members.push(JsonMember { name: plain, value: value.start..value.end });
        }
    });
    scanned.map(|()| members).map_err(|error| error.reason)
}

/// `1e3` and `5.0` are whole numbers in JSON, where PostgreSQL's integers read digits only.
fn whole_number(raw: &str) -> Option<String> {
    if !raw.contains(['.', 'e', 'E']) {
        return None;
    }
    let value: f64 = raw.parse().ok()?;
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then(|| format!("{}", value as i64))
}

/// The timestamp that a number of seconds, milliseconds, microseconds or nanoseconds means.
fn moment(raw: &str) -> Option<String> {
    let value: f64 = raw.parse().ok()?;
    let micros = match (value.abs(), raw.parse::<i64>()) {
        (size, Ok(whole)) if size < 1e11 => whole.checked_mul(1_000_000)?,
        (size, Ok(whole)) if size < 1e14 => whole.checked_mul(1_000)?,
        (size, Ok(whole)) if size < 1e17 => whole,
        (_, Ok(whole)) => whole / 1_000,
        (size, Err(_)) if size < 1e11 => (value * 1e6).round() as i64,
        _ => return None,
    };
    let mut out = Vec::new();
    write_timestamp(micros, &mut out);
    String::from_utf8(out).ok()
}

/// A JSON array as PostgreSQL's array literal.
fn array_literal(raw: &str, item: &PgType, out: &mut String) -> Result<(), &'static str> {
    let keeps_json = matches!(item, PgType::Json | PgType::Jsonb);
    let mut failure = None;
    out.push('{');
    let scanned = Scanner::new(raw).array(|token| {
        if out.len() > 1 {
            out.push(',');
        }
        let text = &raw[token.start..token.end];
        let mut plain = String::new();
        match token.kind {
            Kind::Null => return out.push_str("NULL"),
            Kind::String { .. } if !keeps_json => {
                if let Err(reason) = unescape(&text[1..text.len() - 1], &mut plain) {
                    failure = Some(reason);
                }
            }
            _ => plain.push_str(text),
        }
        out.push('"');
        for character in plain.chars() {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
        out.push('"');
    });
    out.push('}');
    match (scanned, failure) {
        (Err(error), _) => Err(error.reason),
        (_, Some(reason)) => Err(reason),
        (Ok(()), None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use expect_test::{Expect, expect};

    use super::super::OnError;
    use super::*;
    use crate::zset::{Rows, pretty_rows};

    fn check(columns: &str, data: &str, expected: Expect) {
        let field = |column: &str| {
            let (name, kind) = column.trim().split_once(' ').expect("name TYPE");
            let (kind, required) = kind.strip_suffix(" not null").map_or((kind, false), |kind| (kind, true));
            PgType::parse(kind).expect("known").field(name, !required)
        };
        let schema = Arc::new(Schema::new(columns.split(',').map(field).collect::<Vec<_>>()));
        let target = Target::new(schema, OnError::DeadLetter);
        let mut lines = JsonLines::new(&target);
        let mut cells = Cells::new(data, target.width(), 1);
        assert_eq!(lines.split(&mut cells, true, usize::MAX), data.len());
        let (rows, bad) = cells.into_rows(&target).expect("fits");
        let bad = bad
            .iter()
            .map(|bad| format!("line {} {:?}: {}", bad.number, String::from_utf8_lossy(&bad.bytes), bad.reason));
        let text = std::iter::once(pretty_rows(&Rows::inserts(rows))).chain(bad).collect::<Vec<_>>().join("\n");
        expected.assert_eq(&text);
    }

    #[test]
    fn members_are_found_by_name_in_any_order() {
        check(
            "id int,userName text,extra jsonb",
            "{\"id\":1,\"userName\":\"a\"}\n{\"username\":\"b\\n\",\"id\":2.0,\"more\":[1]}\n\n\
             {\"id\":\"3\",\"userName\":{\"x\":1},\"extra\":{\"b\":1,\"a\":[null]}}\n{\"\\u0069d\":4,\"id\":5}\n{}",
            expect![[r#"
                +1 | 1 | a | NULL
                +1 | 2 | b
                 | NULL
                +1 | 3 | {"x":1} | {"a": [null], "b": 1}
                +1 | 5 | NULL | NULL
                +1 | NULL | NULL | NULL"#]],
        );
    }

    #[test]
    fn a_malformed_line_costs_one_line() {
        check(
            "id int not null,n numeric",
            "{\"id\":1,\"n\":1e2}\n{\"id\":2\nnot json\n[1]\n{\"id\":\"x\"}\n{\"id\":1.5}\n{\"n\":1}\n{\"id\":6,\"n\":[1]}\n{\"id\":7}",
            expect![[r#"
                +1 | 1 | 100.0000000000000000
                +1 | 7 | NULL
                line 2 "{\"id\":2": it is no JSON object: it ends too early, at character 9
                line 3 "not json": it is no JSON object: a JSON object is expected, at character 1
                line 4 "[1]": it is no JSON object: a JSON object is expected, at character 1
                line 5 "{\"id\":\"x\"}": column "id": invalid input syntax for type integer: "x"
                line 6 "{\"id\":1.5}": column "id": invalid input syntax for type integer: "1.5"
                line 7 "{\"n\":1}": column "id" is NOT NULL, but there is no value
                line 8 "{\"id\":6,\"n\":[1]}": column "n": invalid input syntax for type numeric: "[1]""#]],
        );
    }

    #[test]
    fn arrays_times_and_truth_values() {
        check(
            "a int[],b text[],c timestamptz,d timestamp,e boolean,f jsonb[]",
            "{\"a\":[1,null,3],\"b\":[\"x\\\"y\",\"null\",\"{\"],\"c\":\"2013-01-01T10:00:00Z\",\"d\":1356998400,\"e\":true}\n\
             {\"a\":\"{4}\",\"c\":1356998400123,\"d\":1356998400.5,\"e\":\"yes\",\"f\":[{\"k\":\"v\"},\"s\",1]}\n{\"a\":[[1]]}",
            expect![[r#"
                +1 | [1, NULL, 3] | [x"y, null, {] | 2013-01-01T10:00:00Z | 2013-01-01T00:00:00 | true | NULL
                +1 | [4] | NULL | 2013-01-01T00:00:00.123Z | 2013-01-01T00:00:00.500 | true | [{"k": "v"}, "s", 1]
                line 3 "{\"a\":[[1]]}": column "a": invalid input syntax for type integer: "[1]""#]],
        );
    }
}
