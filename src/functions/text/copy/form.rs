//! What COPY's options say about the form of its data, and which combinations are refused.

use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// The first line of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Is a row already.
    No,
    /// Has names, whatever they are.
    Yes,
    /// Has to have the names of the columns.
    Match,
}

/// The form of COPY's data. Delimiter, quote and escape are single bytes, as in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyForm {
    pub format: CopyFormat,
    pub delimiter: u8,
    /// The text that stands for NULL.
    pub null: String,
    pub header: Header,
    pub quote: u8,
    pub escape: u8,
}

/// A column of the data, in the data's order.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyColumn {
    pub name: String,
    pub pg_type: PgType,
    /// Quoted on the way out, whether it needs it or not (csv).
    pub force_quote: bool,
    /// The unquoted NULL text is an empty string (csv).
    pub force_not_null: bool,
    /// The quoted NULL text is NULL too (csv).
    pub force_null: bool,
}

impl CopyColumn {
    pub fn new(name: impl Into<String>, pg_type: PgType) -> Self {
        CopyColumn { name: name.into(), pg_type, force_quote: false, force_not_null: false, force_null: false }
    }
}

impl CopyForm {
    /// PostgreSQL's defaults for a format.
    pub fn new(format: CopyFormat) -> Self {
        let csv = format == CopyFormat::Csv;
        CopyForm {
            format,
            delimiter: if csv { b',' } else { b'\t' },
            null: if csv { String::new() } else { "\\N".to_string() },
            header: Header::No,
            quote: b'"',
            escape: b'"',
        }
    }

    /// Refuses what PostgreSQL refuses.
    pub fn check(&self) -> SqlResult<()> {
        let refuse = |message: &str| Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        if self.format == CopyFormat::Binary {
            let plain = self.header == Header::No;
            return if plain { Ok(()) } else { refuse("cannot specify HEADER in BINARY mode") };
        }
        if matches!(self.delimiter, b'\r' | b'\n') || !self.delimiter.is_ascii() {
            return refuse("COPY delimiter cannot be newline or carriage return");
        }
        if self.null.contains(['\r', '\n']) {
            return refuse("COPY null representation cannot use newline or carriage return");
        }
        let reserved = b"\\.abcdefghijklmnopqrstuvwxyz0123456789";
        if self.format == CopyFormat::Text && reserved.contains(&self.delimiter) {
            let message = format!("COPY delimiter cannot be \"{}\"", self.delimiter as char);
            return refuse(&message);
        }
        if self.format == CopyFormat::Csv && self.delimiter == self.quote {
            return refuse("COPY delimiter and quote must be different");
        }
        if self.null.as_bytes().contains(&self.delimiter) {
            return refuse("COPY delimiter must not appear in the NULL specification");
        }
        if self.format == CopyFormat::Csv && self.null.as_bytes().contains(&self.quote) {
            return refuse("CSV quote character must not appear in the NULL specification");
        }
        Ok(())
    }
}
