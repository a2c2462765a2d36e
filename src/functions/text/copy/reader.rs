//! COPY's data as it comes in → record batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};

use super::super::binary_in::utf8;
use super::super::{ColumnBuilder, TextStyle};
use super::binary::{self, Stage};
use super::form::{CopyColumn, CopyForm, CopyFormat, Header};
use super::scan::{Field, Malformed, Place, Row, Scan, Scanner};
use crate::error::{SqlError, SqlResult, SqlState};

/// Data is gathered up to this many bytes before it is read, so that columns are long.
const CHUNK: usize = 1 << 20;
/// What an error shows of a value or a line.
const SHOWN: usize = 100;

/// Reads the data of a COPY FROM piece by piece.
pub struct CopyReader {
    table: String,
    columns: Vec<CopyColumn>,
    schema: SchemaRef,
    style: TextStyle,
    scanner: Scanner,
    /// Bytes that are not read yet.
    data: Vec<u8>,
    /// Number of the line at the beginning of `data`, from 1; in binary, of the row.
    line: u64,
    header: Header,
    stage: Stage,
}

impl CopyReader {
    /// A reader of data with these columns; `table` is named in errors.
    pub fn new(form: &CopyForm, table: &str, columns: Vec<CopyColumn>, style: TextStyle) -> SqlResult<CopyReader> {
        form.check()?;
        let fields = columns.iter().map(|column| column.pg_type.field(&column.name, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(CopyReader {
            table: table.to_string(),
            columns,
            schema,
            style,
            scanner: Scanner::new(form),
            data: Vec::new(),
            line: 1,
            header: form.header,
            stage: if form.format == CopyFormat::Binary { Stage::Header } else { Stage::Rows },
        })
    }

    /// The columns of the batches: all nullable, in the data's order.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Takes the next bytes; gives a batch whenever enough have come.
    pub fn push(&mut self, bytes: &[u8]) -> SqlResult<Option<RecordBatch>> {
        if self.stage == Stage::Ended {
            return Ok(None);
        }
        self.data.extend_from_slice(bytes);
        if self.data.len() < CHUNK { Ok(None) } else { self.read(false) }
    }

    /// Reads what is left once all bytes have come.
    pub fn finish(&mut self) -> SqlResult<Option<RecordBatch>> {
        if self.stage == Stage::Ended { Ok(None) } else { self.read(true) }
    }

    /// Reads the whole rows that have come, however few.
    pub fn read_what_came(&mut self) -> SqlResult<Option<RecordBatch>> {
        if self.stage == Stage::Ended { Ok(None) } else { self.read(false) }
    }

    fn read(&mut self, last: bool) -> SqlResult<Option<RecordBatch>> {
        match self.scanner.form.format {
            CopyFormat::Binary => self.read_binary(last),
            CopyFormat::Text | CopyFormat::Csv => self.read_lines(last),
        }
    }

    fn read_lines(&mut self, last: bool) -> SqlResult<Option<RecordBatch>> {
        let data = std::mem::take(&mut self.data);
        let scan = match self.scan(&data, last) {
            Ok(scan) => scan,
            Err(malformed) => return Err(self.at_line(malformed.error, &data, malformed.row_start, None)),
        };
        let batch = self.build(&data, &scan)?;
        self.line += memchr::memchr_iter(b'\n', &data[..scan.consumed]).count() as u64;
        if scan.ended {
            self.stage = Stage::Ended;
        } else {
            self.data = data;
            self.data.drain(..scan.consumed);
        }
        Ok(batch)
    }

    /// Finds the rows, drops the header, and checks that each row has a field per column.
    fn scan(&mut self, data: &[u8], last: bool) -> Result<Scan, Malformed> {
        let columns = self.columns.len();
        let mut scan = Scan::default();
        scan.fields.reserve(data.len() / 8);
        loop {
            let row_start = scan.consumed;
            let first_field = scan.fields.len();
            let refuse = |error| Malformed { row_start, error };
            match self.scanner.row(data, row_start, last, &mut scan).map_err(refuse)? {
                Row::Partial => {
                    scan.fields.truncate(first_field);
                    return Ok(scan);
                }
                Row::End(next) => {
                    (scan.consumed, scan.ended) = (next, true);
                    return Ok(scan);
                }
                Row::Found(next) => scan.consumed = next,
            }
            if self.header != Header::No {
                if self.header == Header::Match {
                    self.check_header(data, &scan).map_err(refuse)?;
                }
                self.header = Header::No;
                scan.fields.clear();
                continue;
            }
            let found = scan.fields.len() - first_field;
            if found != columns && !(columns == 0 && is_empty_line(data, &scan)) {
                return Err(refuse(self.wrong_count(found)));
            }
            scan.fields.truncate(first_field + columns);
            scan.rows.push(row_start);
        }
    }

    fn wrong_count(&self, found: usize) -> SqlError {
        let message = match self.columns.get(found) {
            Some(column) => format!("missing data for column \"{}\"", column.name),
            None => "extra data after last expected column".to_string(),
        };
        SqlError::new(SqlState::BAD_COPY_FORMAT, message)
    }

    fn check_header(&self, data: &[u8], scan: &Scan) -> SqlResult<()> {
        let refuse = |message: String| Err(SqlError::new(SqlState::BAD_COPY_FORMAT, message));
        if scan.fields.len() != self.columns.len() {
            return refuse(format!(
                "wrong number of fields in header line: got {}, expected {}",
                scan.fields.len(),
                self.columns.len()
            ));
        }
        for (index, (field, column)) in scan.fields.iter().zip(&self.columns).enumerate() {
            let name = String::from_utf8_lossy(raw(data, &scan.arena, field));
            if field.place == Place::Null || name != column.name {
                return refuse(format!(
                    "column name mismatch in header line field {}: got \"{name}\", expected \"{}\"",
                    index + 1,
                    column.name
                ));
            }
        }
        Ok(())
    }

    fn build(&self, data: &[u8], scan: &Scan) -> SqlResult<Option<RecordBatch>> {
        if scan.rows.is_empty() {
            return Ok(None);
        }
        let end = scan.consumed;
        let text = utf8(&data[..end]).map_err(|error| self.at_line(error, data, bad_byte(&data[..end]), None))?;
        let arena = utf8(&scan.arena).map_err(|error| self.at_line(error, data, scan.rows[0], None))?;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let mut builder = ColumnBuilder::new(&column.pg_type, self.style, scan.rows.len());
            let null = self.scanner.form.null.as_str();
            let fields = scan.fields.iter().skip(index).step_by(self.columns.len());
            let texts = fields.map(|field| value(text, arena, field, null, column));
            builder.append_texts(texts).map_err(|failure| {
                let field = &scan.fields[failure.row * self.columns.len() + index];
                let shown = String::from_utf8_lossy(raw(data, &scan.arena, field));
                self.at_line(failure.error, data, scan.rows[failure.row], Some((&column.name, &shown)))
            })?;
            arrays.push(builder.finish());
        }
        self.batch(arrays, scan.rows.len()).map(Some)
    }

    fn batch(&self, arrays: Vec<ArrayRef>, rows: usize) -> SqlResult<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| SqlError::internal(format!("COPY made columns that do not fit: {error}")))
    }

    fn read_binary(&mut self, last: bool) -> SqlResult<Option<RecordBatch>> {
        let mut at = 0;
        if self.stage == Stage::Header {
            let Some(length) = binary::header(&self.data, last)? else { return Ok(None) };
            (at, self.stage) = (length, Stage::Rows);
        }
        let builder = |column: &CopyColumn| ColumnBuilder::new(&column.pg_type, self.style, 1024);
        let mut builders: Vec<ColumnBuilder> = self.columns.iter().map(builder).collect();
        let mut rows = 0;
        while self.stage == Stage::Rows {
            match binary::measure(&self.data, at, self.columns.len()).map_err(|error| self.at_row(error, None))? {
                binary::Row::Partial => break,
                binary::Row::End(end) if end < self.data.len() && last => {
                    return Err(self.at_row(binary::malformed("received copy data after EOF marker"), None));
                }
                binary::Row::End(_) => self.stage = Stage::Ended,
                binary::Row::Found(next) => {
                    let appended = binary::append(&self.data, at, &mut builders);
                    appended.map_err(|(column, error)| self.at_row(error, Some(column)))?;
                    (at, rows, self.line) = (next, rows + 1, self.line + 1);
                }
            }
        }
        self.data.drain(..at);
        if last && self.stage == Stage::Rows && !self.data.is_empty() {
            return Err(self.at_row(binary::malformed("unexpected EOF in COPY data"), None));
        }
        let arrays = builders.iter_mut().map(ColumnBuilder::finish).collect();
        if rows == 0 { Ok(None) } else { self.batch(arrays, rows).map(Some) }
    }

    fn at_row(&self, error: SqlError, column: Option<usize>) -> SqlError {
        let column = column.map_or(String::new(), |column| format!(", column {}", self.columns[column].name));
        with_context(error, format!("COPY {}, line {}{column}", self.table, self.line))
    }

    /// Adds PostgreSQL's context: table, line, and the column's value or the line itself.
    fn at_line(&self, error: SqlError, data: &[u8], at: usize, value: Option<(&str, &str)>) -> SqlError {
        let line = self.line + memchr::memchr_iter(b'\n', &data[..at]).count() as u64;
        let place = format!("COPY {}, line {line}", self.table);
        let context = match value {
            Some((column, value)) => format!("{place}, column {column}: \"{}\"", shorten(value)),
            None => {
                let end = memchr::memchr(b'\n', &data[at..]).map_or(data.len(), |end| at + end);
                let shown = String::from_utf8_lossy(&data[at..end]);
                format!("{place}: \"{}\"", shorten(shown.trim_end_matches('\r')))
            }
        };
        with_context(error, context)
    }
}

fn with_context(mut error: SqlError, context: String) -> SqlError {
    error.detail = Some(match error.detail.take() {
        Some(detail) => format!("{detail}\n{context}"),
        None => context,
    });
    error
}

fn shorten(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_string(),
    }
}

/// Where the first byte is that is not UTF-8 or is zero: the begin of its line.
fn bad_byte(data: &[u8]) -> usize {
    let at = std::str::from_utf8(data).err().map(|error| error.valid_up_to());
    let at = at.or_else(|| memchr::memchr(0, data)).unwrap_or(0);
    memchr::memrchr(b'\n', &data[..at]).map_or(0, |newline| newline + 1)
}

fn raw<'a>(data: &'a [u8], arena: &'a [u8], field: &Field) -> &'a [u8] {
    match field.place {
        Place::Arena(_) => &arena[field.start..field.end],
        Place::Data | Place::Quoted | Place::Null => &data[field.start..field.end],
    }
}

/// A line without anything is a row without columns.
fn is_empty_line(data: &[u8], scan: &Scan) -> bool {
    scan.fields.last().is_some_and(|field| raw(data, &scan.arena, field).is_empty())
}

fn value<'a>(data: &'a str, arena: &'a str, field: &Field, null: &str, column: &CopyColumn) -> Option<&'a str> {
    let (text, quoted) = match field.place {
        Place::Null => return None,
        Place::Data => (&data[field.start..field.end], false),
        Place::Quoted => (&data[field.start..field.end], true),
        Place::Arena(quoted) => (&arena[field.start..field.end], quoted),
    };
    let counts_as_null = if quoted { column.force_null } else { !column.force_not_null };
    // In the text format NULLs have been found already; an escaped text never is one.
    if counts_as_null && text == null && !matches!(field.place, Place::Arena(false)) { None } else { Some(text) }
}
