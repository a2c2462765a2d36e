//! Record batches → DataRow messages, a batch at a time into one buffer.

use arrow::array::RecordBatch;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{FieldDescription, RowDescription};

use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{BinaryColumn, TextColumn, TextStyle};
use crate::session::OutputColumn;
use crate::zset::PgType;

/// The format of a value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Binary,
}

impl Format {
    pub fn from_code(code: i16) -> SqlResult<Format> {
        match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unsupported format code: {other}"))),
        }
    }

    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

/// The format of each column, from the codes of a Bind: none for text everywhere, one for all, or one each.
pub fn formats(codes: &[i16], columns: usize) -> SqlResult<Vec<Format>> {
    match codes {
        [] => Ok(vec![Format::Text; columns]),
        [one] => Ok(vec![Format::from_code(*one)?; columns]),
        codes if codes.len() == columns => codes.iter().map(|code| Format::from_code(*code)).collect(),
        codes => Err(SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("bind message has {} result formats but query has {columns} columns", codes.len()),
        )),
    }
}

/// What a client is told of a result's columns.
pub fn row_description(columns: &[OutputColumn], formats: &[Format]) -> PgWireBackendMessage {
    let fields = columns.iter().zip(formats).map(|(column, format)| {
        let name = column.name.replace('\0', "\u{fffd}");
        let kind = &column.pg_type;
        FieldDescription::new(name, 0, 0, kind.oid(), type_length(kind), kind.typmod(), format.code())
    });
    PgWireBackendMessage::RowDescription(RowDescription::new(fields.collect()))
}

/// `typlen` of a type: its bytes, -1 where they vary.
pub fn type_length(pg_type: &PgType) -> i16 {
    match pg_type {
        PgType::Bool => 1,
        PgType::Int2 => 2,
        PgType::Int4 | PgType::Float4 | PgType::Oid | PgType::Date => 4,
        PgType::Int8 | PgType::Float8 | PgType::Time | PgType::Timestamp | PgType::Timestamptz => 8,
        PgType::Interval | PgType::Uuid => 16,
        PgType::Name => 64,
        PgType::Numeric(_)
        | PgType::Text
        | PgType::Varchar(_)
        | PgType::Bpchar(_)
        | PgType::Bytea
        | PgType::Json
        | PgType::Jsonb
        | PgType::Array(_) => -1,
    }
}

enum Encoder {
    Text(TextColumn),
    Binary(BinaryColumn),
}

/// A batch ready to be written row by row.
pub struct Rows {
    columns: Vec<Encoder>,
    rows: usize,
}

impl Rows {
    pub fn new(
        batch: &RecordBatch,
        columns: &[OutputColumn],
        formats: &[Format],
        style: &TextStyle,
    ) -> SqlResult<Rows> {
        let encoder = |((array, column), format): ((_, &OutputColumn), &Format)| match format {
            Format::Text => TextColumn::new(array, &column.pg_type, style).map(Encoder::Text),
            Format::Binary => BinaryColumn::new(array, &column.pg_type).map(Encoder::Binary),
        };
        let columns = batch.columns().iter().zip(columns).zip(formats).map(encoder).collect::<SqlResult<_>>()?;
        Ok(Rows { columns, rows: batch.num_rows() })
    }

    /// Appends DataRow messages from the row on until the buffer has `limit` bytes; the next row to be written.
    pub fn write(&self, from: usize, limit: usize, out: &mut Vec<u8>) -> usize {
        let mut row = from;
        while row < self.rows && out.len() < limit {
            self.write_row(row, out);
            row += 1;
        }
        row
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    fn write_row(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"D\0\0\0\0");
        out.extend_from_slice(&(self.columns.len() as u16).to_be_bytes());
        for column in &self.columns {
            match column {
                Encoder::Binary(column) => column.write_field(row, out),
                Encoder::Text(column) if column.is_null(row) => out.extend_from_slice(&(-1i32).to_be_bytes()),
                Encoder::Text(column) => {
                    let field = out.len();
                    out.extend_from_slice(&[0; 4]);
                    column.write(row, out);
                    let length = (out.len() - field - 4) as u32;
                    out[field..field + 4].copy_from_slice(&length.to_be_bytes());
                }
            }
        }
        let length = (out.len() - start - 1) as u32;
        out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringViewArray};

    use super::*;

    #[test]
    fn a_row_is_one_message_with_its_lengths() {
        let arrays: [(&str, ArrayRef); 2] = [
            ("a", Arc::new(Int32Array::from(vec![Some(7), None]))),
            ("b", Arc::new(StringViewArray::from(vec!["x", "yz"]))),
        ];
        let batch = RecordBatch::try_from_iter(arrays).expect("columns of one length");
        let column = |name: &str, pg_type| OutputColumn { name: name.to_string(), pg_type };
        let columns = [column("a", PgType::Int4), column("b", PgType::Text)];
        let formats = formats(&[1, 0], 2).expect("valid codes");
        let rows = Rows::new(&batch, &columns, &formats, &TextStyle::default()).expect("encodable");
        let mut out = Vec::new();
        assert_eq!(rows.write(0, 1, &mut out), 1);
        assert_eq!(out, b"D\0\0\0\x13\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01x");
        out.clear();
        assert_eq!(rows.write(1, 1000, &mut out), 2);
        assert_eq!(out, b"D\0\0\0\x10\0\x02\xff\xff\xff\xff\0\0\0\x02yz");
    }

    #[test]
    fn format_codes_count_for_none_all_or_each() {
        assert_eq!(formats(&[], 2).expect("codes"), [Format::Text; 2]);
        assert_eq!(formats(&[1], 3).expect("codes"), [Format::Binary; 3]);
        assert!(formats(&[0, 1], 3).is_err() && formats(&[2], 1).is_err());
    }
}
