//! Bytes ↔ rows: CSV, JSON lines and Parquet, in both directions.

mod cells;
mod csv;
mod infer;
mod json;
mod json_scan;
mod parquet;
mod write;

pub use cells::{BadLine, Cells, Target};
pub use csv::{CsvLines, CsvStyle};
pub use infer::{infer_csv, infer_json, infer_parquet};
pub use json::{JsonLines, JsonMember, json_members};
pub use parquet::ParquetRows;
pub use write::{BatchWriter, JsonRows, WriteStyle, json_objects};

/// How rows are written as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Csv,
    Json,
    Parquet,
}

/// What to do with input that is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Keep it as a dead letter.
    DeadLetter,
    /// Leave it out.
    Skip,
    /// A value that cannot be read becomes NULL; what is no row at all, or lacks a NOT NULL value, is a dead letter.
    Null,
    /// Stop the source.
    Stop,
}

impl OnError {
    /// The values of the option `on_error`.
    pub const CHOICES: &'static [(&'static str, OnError)] = &[
        ("dead_letter", OnError::DeadLetter),
        ("skip", OnError::Skip),
        ("null", OnError::Null),
        ("stop", OnError::Stop),
    ];
}

/// Lines that are split into cells: CSV or JSON.
pub enum LineFormat {
    Csv(CsvLines),
    Json(JsonLines),
}

impl LineFormat {
    /// Splits the complete lines at the beginning of `data`, at most `rows_max`, and returns the bytes they take.
    /// `is_end` says that nothing follows `data`, so that the last line is complete without a line feed.
    pub fn split(&mut self, cells: &mut Cells<'_>, is_end: bool, rows_max: usize) -> usize {
        match self {
            LineFormat::Csv(lines) => lines.split(cells, is_end, rows_max),
            LineFormat::Json(lines) => lines.split(cells, is_end, rows_max),
        }
    }
}
