//! The text cells of many lines, and how they become columns.
//!
//! A format cuts its lines into cells; everything behind that is common: whole columns are parsed at once, and a cell
//! that cannot be read spoils its own line only.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use super::OnError;
use crate::error::{SqlError, SqlResult};
use crate::functions::text::{ColumnBuilder, TextStyle};
use crate::zset::PgType;

/// The columns that lines are read into.
#[derive(Debug, Clone)]
pub struct Target {
    pub schema: SchemaRef,
    pub types: Vec<PgType>,
    pub on_error: OnError,
}

impl Target {
    pub fn new(schema: SchemaRef, on_error: OnError) -> Target {
        let types = schema.fields().iter().map(|field| PgType::of(field)).collect();
        Target { schema, types, on_error }
    }
    pub fn width(&self) -> usize {
        self.types.len()
    }
    pub fn name(&self, column: usize) -> &str {
        self.schema.field(column).name()
    }
    /// The column of this name, else the only one that differs from it in case alone.
    pub fn find(&self, name: &str) -> Option<usize> {
        let fields = self.schema.fields();
        let exact = fields.iter().position(|field| field.name() == name);
        exact.or_else(|| {
            let mut alike = (0..fields.len()).filter(|column| fields[*column].name().eq_ignore_ascii_case(name));
            alike.next().filter(|_| alike.next().is_none())
        })
    }
}

/// A line that is no row, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    pub number: u64,
    pub bytes: Vec<u8>,
    pub reason: String,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    /// Offset in the data, or in the arena if the highest bit is set.
    start: u32,
    /// `NULL` if there is no value.
    length: u32,
}

const NULL: Cell = Cell { start: 0, length: u32::MAX };
const IN_ARENA: u32 = 1 << 31;

struct Line {
    number: u64,
    start: usize,
    end: usize,
    fault: Option<String>,
}

/// Lines cut into cells: one cell for each column of each line.
pub struct Cells<'a> {
    pub data: &'a str,
    width: usize,
    arena: String,
    cells: Vec<Cell>,
    lines: Vec<Line>,
    /// The number that the next line has.
    pub next_number: u64,
}

impl<'a> Cells<'a> {
    /// No lines yet, of data shorter than 2 GiB; the first will have the number `first`.
    pub fn new(data: &'a str, width: usize, first: u64) -> Cells<'a> {
        assert!(data.len() < IN_ARENA as usize, "files are read in pieces of less than 2 GiB");
        Cells { data, width, arena: String::new(), cells: Vec::new(), lines: Vec::new(), next_number: first }
    }

    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// Adds a line, all of whose cells are NULL. It goes over `breaks` line feeds.
    pub fn line(&mut self, start: usize, end: usize, breaks: u64) {
        self.lines.push(Line { number: self.next_number, start, end, fault: None });
        self.cells.resize(self.cells.len() + self.width, NULL);
        self.next_number += breaks;
    }

    /// Says why the last line is no row.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.lines.last_mut().expect("a line was added").fault = Some(reason.into());
    }

    /// Gives the last line a value that lies in the data.
    pub fn set(&mut self, column: usize, start: usize, end: usize) {
        self.put(column, Cell { start: start as u32, length: (end - start) as u32 });
    }

    /// Gives the last line a value that does not.
    pub fn set_text(&mut self, column: usize, text: &str) {
        let start = self.arena.len();
        self.arena.push_str(text);
        self.put(column, Cell { start: start as u32 | IN_ARENA, length: text.len() as u32 });
    }

    pub fn set_null(&mut self, column: usize) {
        self.put(column, NULL);
    }

    fn put(&mut self, column: usize, cell: Cell) {
        let at = self.cells.len() - self.width + column;
        self.cells[at] = cell;
    }

    fn text(&self, row: usize, column: usize) -> Option<&str> {
        let cell = self.cells[row * self.width + column];
        if cell.length == NULL.length {
            return None;
        }
        let start = (cell.start & !IN_ARENA) as usize;
        let source = if cell.start & IN_ARENA == 0 { self.data } else { &self.arena };
        Some(&source[start..start + cell.length as usize])
    }

    /// The rows, and the lines that are none.
    pub fn into_rows(self, target: &Target) -> SqlResult<(RecordBatch, Vec<BadLine>)> {
        let faults = self.lines.iter().enumerate();
        let faults = faults.filter_map(|(row, line)| line.fault.clone().map(|fault| (row, fault)));
        let mut faults: BTreeMap<usize, String> = faults.collect();
        let columns: Vec<ArrayRef> =
            (0..target.width()).map(|column| self.column(column, target, &mut faults)).collect();
        let rows = rows_without(&target.schema, columns, self.rows(), faults.keys().copied())?;
        let bad_line = |(row, reason): (usize, String)| {
            let line = &self.lines[row];
            let text = self.data[line.start..line.end].trim_end_matches(['\n', '\r']);
            BadLine { number: line.number, bytes: text.as_bytes().to_vec(), reason }
        };
        Ok((rows, faults.into_iter().map(bad_line).collect()))
    }

    /// One column; a cell that cannot be read is NULL, and its line gets a fault unless that was asked for.
    fn column(&self, column: usize, target: &Target, faults: &mut BTreeMap<usize, String>) -> ArrayRef {
        let rows = self.rows();
        let field = target.schema.field(column);
        let mut builder = ColumnBuilder::new(&target.types[column], TextStyle::default(), rows);
        let mut next = 0;
        while let Err(failure) = builder.append_texts((next..rows).map(|row| self.text(row, column))) {
            let row = next + failure.row;
            if target.on_error != OnError::Null || !field.is_nullable() {
                faults.entry(row).or_insert_with(|| value_fault(field.name(), &failure.error));
            }
            builder.append_null();
            next = row + 1;
        }
        let array = builder.finish();
        if !field.is_nullable() && array.null_count() > 0 {
            for row in (0..rows).filter(|row| array.is_null(*row)) {
                faults.entry(row).or_insert_with(|| missing_fault(field.name()));
            }
        }
        array
    }
}

pub fn value_fault(column: &str, error: &SqlError) -> String {
    let detail = error.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("column \"{column}\": {error}{detail}")
}

pub fn missing_fault(column: &str) -> String {
    format!("column \"{column}\" is NOT NULL, but there is no value")
}

/// The batch of `columns` without the rows in `bad`, which ascend.
pub fn rows_without(
    schema: &SchemaRef,
    columns: Vec<ArrayRef>,
    rows: usize,
    bad: impl Iterator<Item = usize>,
) -> SqlResult<RecordBatch> {
    let mut keep = vec![true; rows];
    let mut dropped = 0;
    for row in bad {
        keep[row] = false;
        dropped += 1;
    }
    let broken = |error| SqlError::internal(format!("decoded columns do not fit their relation: {error}"));
    let options = RecordBatchOptions::new().with_row_count(Some(rows - dropped));
    if dropped == 0 {
        return RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(broken);
    }
    let keep = BooleanArray::from(keep);
    let kept = columns.iter().map(|column| arrow::compute::filter(column, &keep));
    let kept = kept.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    RecordBatch::try_new_with_options(Arc::clone(schema), kept, &options).map_err(broken)
}
