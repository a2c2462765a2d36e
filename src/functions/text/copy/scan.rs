//! Where the fields of COPY's text and csv data are, found in one pass over the bytes.

use super::form::{CopyForm, CopyFormat};
use super::{csv, text};
use crate::error::SqlError;

/// Where a field's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the data as it came.
    Data,
    /// In the data between two quotes.
    Quoted,
    /// In the arena, its escapes resolved; true if it was quoted.
    Arena(bool),
    /// Nowhere: it is NULL.
    Null,
}

#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub start: usize,
    pub end: usize,
    pub place: Place,
}

/// The fields of all whole rows at the beginning of the data.
#[derive(Debug, Default)]
pub struct Scan {
    /// Row by row, `columns` fields each.
    pub fields: Vec<Field>,
    /// Where each row begins in the data.
    pub rows: Vec<usize>,
    /// Texts whose escapes had to be resolved.
    pub arena: Vec<u8>,
    /// So many bytes belong to the rows found.
    pub consumed: usize,
    /// `\.` was found: nothing after it counts.
    pub ended: bool,
}

/// How lines end; the first one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    Unknown,
    Newline,
    CarriageReturnNewline,
}

/// Why the data cannot be split: the error, and the row's begin in the data.
pub struct Malformed {
    pub row_start: usize,
    pub error: SqlError,
}

/// One row as a scanner finds it.
pub enum Row {
    /// Its fields have been pushed; the next row begins here.
    Found(usize),
    /// `\.`; the data ends here.
    End(usize),
    /// The data stops within the row.
    Partial,
}

/// Splits data for one form; remembers how its lines end.
#[derive(Debug)]
pub struct Scanner {
    pub form: CopyForm,
    pub line_end: LineEnd,
    /// Bytes at which plain text stops.
    pub special: [bool; 256],
}

impl Scanner {
    pub fn new(form: &CopyForm) -> Self {
        let mut special = [false; 256];
        let stops = match form.format {
            CopyFormat::Csv => vec![b'\n', form.delimiter, form.quote],
            _ => vec![b'\n', form.delimiter, b'\\'],
        };
        stops.into_iter().for_each(|byte| special[usize::from(byte)] = true);
        Scanner { form: form.clone(), line_end: LineEnd::Unknown, special }
    }

    /// Finds the fields of the next row at `start`. With `last`, a row at the end needs no newline.
    pub fn row(&mut self, data: &[u8], start: usize, last: bool, scan: &mut Scan) -> Result<Row, SqlError> {
        match self.form.format {
            CopyFormat::Csv => csv::row(self, data, start, last, scan),
            _ => text::row(self, data, start, last, scan),
        }
    }

    /// The first special byte at or behind `at`; the length of the data if there is none.
    pub fn next_special(&self, data: &[u8], at: usize) -> usize {
        let plain = data[at..].iter().position(|byte| self.special[usize::from(*byte)]);
        plain.map_or(data.len(), |plain| at + plain)
    }

    /// The end of a line's last field, given where its newline is: a carriage return before it belongs to the line end.
    pub fn trim_line(&mut self, data: &[u8], field_start: usize, newline: usize) -> usize {
        let returned = newline > field_start && data[newline - 1] == b'\r';
        if self.line_end == LineEnd::Unknown {
            self.line_end = if returned { LineEnd::CarriageReturnNewline } else { LineEnd::Newline };
        }
        if returned && self.line_end == LineEnd::CarriageReturnNewline { newline - 1 } else { newline }
    }
}
