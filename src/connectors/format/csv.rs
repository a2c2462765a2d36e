//! CSV lines → cells.
//!
//! A field is quoted if it begins with the quote; a quote elsewhere is a character like any other. An unquoted field
//! that is one of the null texts is NULL; an empty one is NULL in every column that is not text. A field that is quoted
//! may go over several lines; if that does not give the right number of fields, the first of these lines is bad and
//! reading goes on behind it, so that a lost quote costs one line.

use super::cells::{Cells, Target};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

use super::super::options::nearest;

/// What CSV looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvStyle {
    /// The first line names the columns.
    pub header: bool,
    pub delimiter: u8,
    pub quote: u8,
    /// Before a quote within a quoted field; by default the quote itself.
    pub escape: u8,
    /// Unquoted texts that mean NULL. The first one is written for NULL.
    pub nulls: Vec<String>,
}

impl Default for CsvStyle {
    fn default() -> Self {
        CsvStyle { header: true, delimiter: b',', quote: b'"', escape: b'"', nulls: vec![String::new()] }
    }
}

/// A reader of lines of one file.
pub struct CsvLines {
    style: CsvStyle,
    /// For each field of a line its column, if it has one.
    places: Vec<Option<usize>>,
    is_text: Vec<bool>,
    fields: Vec<Field>,
    scratch: String,
}

/// A field of the line that is being cut: a range of the data.
#[derive(Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    is_quoted: bool,
    has_escapes: bool,
}

/// The line at some place of the data.
enum Found {
    /// Ends before `end`, after `breaks` line feeds.
    Whole { end: usize, breaks: u64 },
    /// The data end within it.
    Part,
    /// It is malformed from here on.
    Bad(&'static str),
}

impl CsvLines {
    /// Lines whose fields are the columns in order.
    pub fn new(style: CsvStyle, target: &Target) -> CsvLines {
        let places = (0..target.width()).map(Some).collect();
        let text = |pg_type: &PgType| {
            matches!(pg_type, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Bytea)
        };
        let is_text = target.types.iter().map(text).collect();
        CsvLines { style, places, is_text, fields: Vec::new(), scratch: String::new() }
    }

    /// Lines whose fields are these columns in order.
    pub fn of_columns(style: CsvStyle, target: &Target, columns: &[usize]) -> CsvLines {
        CsvLines { places: columns.iter().copied().map(Some).collect(), ..CsvLines::new(style, target) }
    }

    /// Takes the header from the beginning of a file: columns are found by name from then on. Returns its bytes, or
    /// `None` if it is not complete yet.
    pub fn read_header(&mut self, data: &str, is_end: bool, target: &Target) -> SqlResult<Option<usize>> {
        let Some((names, end)) = header_names(&self.style, data, is_end)? else { return Ok(None) };
        self.places = names.iter().map(|name| target.find(name)).collect();
        for (position, place) in self.places.clone().iter().enumerate() {
            // Of two fields with one name the first counts.
            if place.is_some() && self.places[..position].contains(place) {
                self.places[position] = None;
            }
        }
        for column in 0..target.width() {
            if !self.places.contains(&Some(column)) {
                return Err(missing_in_header(target.name(column), &names));
            }
        }
        Ok(Some(end))
    }

    pub fn split(&mut self, cells: &mut Cells<'_>, is_end: bool, rows_max: usize) -> usize {
        let data = cells.data;
        let mut at = 0;
        while at < data.len() && cells.rows() < rows_max {
            if let Some(end) = blank_line(data.as_bytes(), at).filter(|_| self.places.len() != 1) {
                cells.next_number += 1;
                at = end;
                continue;
            }
            let found = self.cut(data.as_bytes(), at, is_end);
            at = match found {
                Found::Part => return at,
                Found::Whole { end, breaks } if self.fields.len() == self.places.len() => {
                    self.fill(cells, at, end, breaks);
                    end
                }
                Found::Whole { end, breaks } => {
                    let (has, wants) = (self.fields.len(), self.places.len());
                    let reason = format!("{has} fields where {wants} are expected");
                    if breaks > 1 { bad_line(cells, at, reason) } else { bad_range(cells, at, end, reason) }
                }
                Found::Bad(_) if !is_end && !data[at..].contains('\n') => return at,
                Found::Bad(reason) => bad_line(cells, at, reason.to_string()),
            };
        }
        at
    }

    /// Takes the one line that the data have from `start` to `end` into the last line of the cells.
    ///
    /// # Errors
    /// Why it is no row.
    pub fn line(&mut self, cells: &mut Cells<'_>, start: usize, end: usize) -> Result<(), String> {
        let data = cells.data;
        match self.cut(&data.as_bytes()[..end], start, true) {
            Found::Whole { end: found, .. } if found == end && self.fields.len() == self.places.len() => {
                self.fill_last(cells);
                Ok(())
            }
            Found::Whole { end: found, .. } if found == end => {
                Err(format!("{} fields where {} are expected", self.fields.len(), self.places.len()))
            }
            Found::Bad(reason) => Err(reason.to_string()),
            Found::Whole { .. } | Found::Part => Err("one line is expected".to_string()),
        }
    }

    /// Gives the cells of the line that was cut to their columns.
    fn fill(&mut self, cells: &mut Cells<'_>, start: usize, end: usize, breaks: u64) {
        cells.line(start, end, breaks);
        self.fill_last(cells);
    }

    fn fill_last(&mut self, cells: &mut Cells<'_>) {
        for (field, place) in self.fields.iter().zip(&self.places) {
            let Some(column) = *place else { continue };
            let text = &cells.data[field.start..field.end];
            if field.has_escapes {
                unescape(text, &self.style, &mut self.scratch);
                cells.set_text(column, &self.scratch);
            } else if field.is_quoted || !self.is_null(column, text) {
                cells.set(column, field.start, field.end);
            }
            if text.contains('\0') {
                cells.fail("it contains a zero byte");
            }
        }
    }

    fn is_null(&self, column: usize, text: &str) -> bool {
        let is_empty = text.is_empty() && !self.is_text[column];
        is_empty || self.style.nulls.iter().any(|null| null == text)
    }

    /// Cuts the line at `at` into `fields`.
    fn cut(&mut self, bytes: &[u8], at: usize, is_end: bool) -> Found {
        self.fields.clear();
        let mut start = at;
        loop {
            let (field, next) = if bytes.get(start) == Some(&self.style.quote) {
                match quoted_field(bytes, start, &self.style) {
                    Some((_, next)) if next == bytes.len() && !is_end => return Found::Part,
                    Some(found) => found,
                    None if is_end => return Found::Bad("a quoted field is not closed"),
                    None => return Found::Part,
                }
            } else {
                let delimiter = self.style.delimiter;
                let length = bytes[start..].iter().position(|byte| *byte == delimiter || *byte == b'\n');
                let next = start + length.unwrap_or(bytes.len() - start);
                (Field { start, end: next, is_quoted: false, has_escapes: false }, next)
            };
            self.fields.push(field);
            match bytes.get(next) {
                Some(byte) if *byte == self.style.delimiter => start = next + 1,
                Some(b'\n') => return self.whole(bytes, at, next + 1),
                Some(b'\r') if bytes.get(next + 1) == Some(&b'\n') => return self.whole(bytes, at, next + 2),
                Some(b'\r') if next + 1 == bytes.len() && is_end => return self.whole(bytes, at, next + 1),
                Some(b'\r') if next + 1 == bytes.len() => return Found::Part,
                Some(_) => return Found::Bad("text follows the closing quote of a field"),
                None if is_end => return self.whole(bytes, at, next),
                None => return Found::Part,
            }
        }
    }

    /// The line is complete: its carriage return is no part of the last field.
    fn whole(&mut self, bytes: &[u8], start: usize, end: usize) -> Found {
        let last = self.fields.last_mut().expect("a line has a field");
        if !last.is_quoted && last.end > last.start && bytes[last.end - 1] == b'\r' {
            last.end -= 1;
        }
        let breaks = bytes[start..end].iter().filter(|byte| **byte == b'\n').count();
        Found::Whole { end, breaks: breaks.max(1) as u64 }
    }
}

/// The field whose opening quote is at `start`, and the place behind its closing quote.
fn quoted_field(bytes: &[u8], start: usize, style: &CsvStyle) -> Option<(Field, usize)> {
    let begin = start + 1;
    let mut at = begin;
    let mut has_escapes = false;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == style.quote || *byte == style.escape)?;
        let next = bytes.get(at + 1).copied();
        if bytes[at] == style.escape && (next == Some(style.quote) || next == Some(style.escape)) {
            has_escapes = true;
            at += 2;
        } else if bytes[at] == style.quote {
            return Some((Field { start: begin, end: at, is_quoted: true, has_escapes }, at + 1));
        } else {
            at += 1;
        }
    }
}

fn unescape(text: &str, style: &CsvStyle, out: &mut String) {
    out.clear();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_special = |next: &char| *next == style.quote as char || *next == style.escape as char;
        match characters.peek().copied().filter(is_special) {
            Some(next) if character == style.escape as char => {
                out.push(next);
                characters.next();
            }
            _ => out.push(character),
        }
    }
}

/// The end of the line at `at` if it is empty.
fn blank_line(bytes: &[u8], at: usize) -> Option<usize> {
    match &bytes[at..] {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    }
}

/// Makes the line of the file at `at` a bad one, and returns its end.
fn bad_line(cells: &mut Cells<'_>, at: usize, reason: String) -> usize {
    let length = cells.data[at..].find('\n').map_or(cells.data.len() - at, |length| length + 1);
    bad_range(cells, at, at + length, reason)
}

fn bad_range(cells: &mut Cells<'_>, start: usize, end: usize, reason: String) -> usize {
    cells.line(start, end, 1);
    cells.fail(reason);
    end
}

/// The names in a header and its length in bytes; `None` if it is not complete.
pub fn header_names(style: &CsvStyle, data: &str, is_end: bool) -> SqlResult<Option<(Vec<String>, usize)>> {
    let mut lines = CsvLines {
        style: style.clone(),
        places: Vec::new(),
        is_text: Vec::new(),
        fields: Vec::new(),
        scratch: String::new(),
    };
    let end = match lines.cut(data.as_bytes(), 0, is_end) {
        Found::Whole { end, .. } => end,
        Found::Part => return Ok(None),
        Found::Bad(reason) => {
            let message = format!("the header of the CSV file is malformed: {reason}");
            return Err(SqlError::new(SqlState::BAD_COPY_FORMAT, message));
        }
    };
    let name = |field: &Field| {
        let mut name = String::new();
        unescape(&data[field.start..field.end], style, &mut name);
        if field.is_quoted { name } else { name.trim().to_string() }
    };
    Ok(Some((lines.fields.iter().map(name).collect(), end)))
}

fn missing_in_header(column: &str, names: &[String]) -> SqlError {
    let message = format!("column \"{column}\" is not in the header of the CSV file");
    let error = SqlError::new(SqlState::UNDEFINED_COLUMN, message);
    match nearest(column, names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error
            .hint(format!("the header has: {}; for a file without a header set header = 'false'", names.join(", "))),
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

    fn target(columns: &str, on_error: OnError) -> Target {
        let field = |column: &str| {
            let (name, kind) = column.trim().split_once(' ').expect("name TYPE");
            let (kind, required) = kind.strip_suffix(" not null").map_or((kind, false), |kind| (kind, true));
            PgType::parse(kind).expect("known").field(name, !required)
        };
        Target::new(Arc::new(Schema::new(columns.split(',').map(field).collect::<Vec<_>>())), on_error)
    }

    /// Reads `data` whole, and again cut into two pieces at every place: the result must be the same.
    fn read(columns: &str, style: &CsvStyle, data: &str, on_error: OnError) -> String {
        let target = target(columns, on_error);
        let whole = read_pieces(&target, style, data, data.len());
        for cut in 0..data.len() {
            if data.is_char_boundary(cut) {
                assert_eq!(read_pieces(&target, style, data, cut), whole, "cut at {cut}");
            }
        }
        whole
    }

    fn read_pieces(target: &Target, style: &CsvStyle, data: &str, cut: usize) -> String {
        let mut lines = CsvLines::new(style.clone(), target);
        let mut good = Vec::new();
        let mut bad = Vec::new();
        let (mut at, mut number) = (0, 1);
        if style.header {
            match lines.read_header(&data[..cut], cut == data.len(), target).expect("a header") {
                None => at = lines.read_header(data, true, target).expect("a header").expect("complete"),
                Some(end) => at = end,
            }
            number = 2;
        }
        for end in [cut, data.len()] {
            if end <= at {
                continue;
            }
            let mut cells = Cells::new(&data[at..end], target.width(), number);
            at += lines.split(&mut cells, end == data.len(), usize::MAX);
            number = cells.next_number;
            let (rows, faults) = cells.into_rows(target).expect("fits");
            good.push(Rows::inserts(rows));
            bad.extend(faults);
        }
        assert_eq!(at, data.len(), "everything is read");
        let good = pretty_rows(&Rows::concat(&target.schema, &good));
        let bad = bad
            .iter()
            .map(|bad| format!("line {} {:?}: {}", bad.number, String::from_utf8_lossy(&bad.bytes), bad.reason));
        std::iter::once(good).chain(bad).collect::<Vec<_>>().join("\n")
    }

    fn check(columns: &str, style: CsvStyle, data: &str, expected: Expect) {
        expected.assert_eq(&read(columns, &style, data, OnError::DeadLetter));
    }

    fn plain() -> CsvStyle {
        CsvStyle { header: false, ..CsvStyle::default() }
    }

    #[test]
    fn fields_may_be_quoted_escaped_and_empty() {
        check(
            "a int,b text",
            plain(),
            "1,one\n2,\"two, \"\"2\"\"\"\r\n\n3,\n4,\"\"\n5,\"over\ntwo lines\"\n6,it's 5\" wide",
            expect![[r#"
                +1 | 1 | one
                +1 | 2 | two, "2"
                +1 | 3 | NULL
                +1 | 4 | 
                +1 | 5 | over
                two lines
                +1 | 6 | it's 5" wide"#]],
        );
    }

    #[test]
    fn a_malformed_line_costs_one_line() {
        check(
            "a int,b text",
            plain(),
            "1,a\nx,b\n2\n3,c,d\n4,\"e\"e\n5,\"never closed\n6,f\n99999999999,g\n7,\"h\"\n",
            expect![[r#"
                +1 | 1 | a
                +1 | 6 | f
                +1 | 7 | h
                line 2 "x,b": column "a": invalid input syntax for type integer: "x"
                line 3 "2": 1 fields where 2 are expected
                line 4 "3,c,d": 3 fields where 2 are expected
                line 5 "4,\"e\"e": text follows the closing quote of a field
                line 6 "5,\"never closed": text follows the closing quote of a field
                line 8 "99999999999,g": column "a": value "99999999999" is out of range for type integer"#]],
        );
    }

    #[test]
    fn a_header_finds_columns_by_name() {
        check(
            "b text,a int",
            CsvStyle::default(),
            "a,junk,B\n1,2,3\n4,5,\n",
            expect![[r#"
            +1 | 3 | 1
            +1 | NULL | 4"#]],
        );
        let names = |columns: &str| {
            let target = target(columns, OnError::DeadLetter);
            let mut lines = CsvLines::new(CsvStyle::default(), &target);
            let error = lines.read_header("alpha,beta\n", true, &target).expect_err("refused");
            format!("{error}; {}", error.hint.clone().unwrap_or_default())
        };
        assert_eq!(names("alpa int"), "column \"alpa\" is not in the header of the CSV file; did you mean \"alpha\"?");
        assert_eq!(
            names("x int"),
            "column \"x\" is not in the header of the CSV file; the header has: alpha, beta; for a file without a \
             header set header = 'false'"
        );
    }

    #[test]
    fn null_texts_are_null_only_unquoted() {
        let style = CsvStyle { nulls: vec!["NA".to_string()], delimiter: b';', ..plain() };
        check(
            "a int,b text",
            style,
            "NA;NA\n1;\"NA\"\n;\n",
            expect![[r#"
            +1 | 1 | NA
            +1 | NULL | 
            +1 | NULL | NULL"#]],
        );
    }

    #[test]
    fn another_escape_than_the_quote() {
        let style = CsvStyle { escape: b'\\', quote: b'\'', ..plain() };
        check(
            "a text,b text",
            style,
            "'it\\'s','a\\\\b'\n'x\\y',z\n",
            expect![[r#"
            +1 | it's | a\b
            +1 | x\y | z"#]],
        );
    }

    #[test]
    fn missing_required_values_and_null_on_error() {
        let data = "1,a\nx,b\n,c\n2,\n";
        expect![[r#"
            +1 | 1 | a
            line 2 "x,b": column "a": invalid input syntax for type integer: "x"
            line 3 ",c": column "a" is NOT NULL, but there is no value
            line 4 "2,": column "b" is NOT NULL, but there is no value"#]]
        .assert_eq(&read("a int not null,b text not null", &plain(), data, OnError::DeadLetter));
        expect![[r#"
            +1 | 1 | a
            +1 | NULL | b
            +1 | NULL | c
            line 4 "2,": column "b" is NOT NULL, but there is no value"#]]
        .assert_eq(&read("a int,b text not null", &plain(), data, OnError::Null));
    }

    #[test]
    fn all_types_read_what_postgresql_reads() {
        check(
            "a boolean,b numeric,c timestamptz,d timestamp,e date,f jsonb,g uuid,h int[],i interval,j bytea",
            plain(),
            "yes,1.50,2013-01-01T10:00:00Z,2013-01-01T10:00:00Z,2013-01-01,\"{\"\"b\"\":1,\"\"a\"\":2}\",\
             a0eebc999c0b4ef8bb6d6bb9bd380a11,\"{1,NULL,3}\",1 day 02:03,\\xff00\n",
            expect![[
                r#"+1 | true | 1.5000000000000000 | 2013-01-01T10:00:00Z | 2013-01-01T10:00:00 | 2013-01-01 | {"a": 2, "b": 1} | a0eebc999c0b4ef8bb6d6bb9bd380a11 | [1, NULL, 3] | 1 days 2 hours 3 mins | ff00"#
            ]],
        );
    }
}
