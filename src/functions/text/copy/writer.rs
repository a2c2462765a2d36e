//! Record batches → COPY's data.

use arrow::array::RecordBatch;

use super::super::{BinaryColumn, TextColumn, TextStyle};
use super::binary::SIGNATURE;
use super::form::{CopyColumn, CopyForm, CopyFormat, Header};
use super::{csv, text};
use crate::error::SqlResult;

/// Data on its way out. Clients rely on one message per row, so the rows' ends are kept.
#[derive(Debug, Default)]
pub struct CopyRows {
    pub bytes: Vec<u8>,
    /// Where each row (or header, or trailer) ends in `bytes`.
    pub ends: Vec<usize>,
}

impl CopyRows {
    /// The bytes of each row.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// Prints the batches of a COPY TO.
pub struct CopyWriter {
    form: CopyForm,
    columns: Vec<CopyColumn>,
    style: TextStyle,
    begun: bool,
    scratch: Vec<u8>,
}

impl CopyWriter {
    pub fn new(form: &CopyForm, columns: Vec<CopyColumn>, style: TextStyle) -> SqlResult<CopyWriter> {
        form.check()?;
        Ok(CopyWriter { form: form.clone(), columns, style, begun: false, scratch: Vec::new() })
    }

    /// Appends a batch, with the header before the first one.
    pub fn write(&mut self, batch: &RecordBatch, out: &mut CopyRows) -> SqlResult<()> {
        self.begin(out);
        match self.form.format {
            CopyFormat::Binary => self.write_binary(batch, out),
            CopyFormat::Text | CopyFormat::Csv => self.write_lines(batch, out),
        }
    }

    /// Appends what ends the data.
    pub fn finish(&mut self, out: &mut CopyRows) {
        self.begin(out);
        if self.form.format == CopyFormat::Binary {
            out.bytes.extend_from_slice(&(-1i16).to_be_bytes());
            out.end_row();
        }
    }

    fn begin(&mut self, out: &mut CopyRows) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        if self.form.format == CopyFormat::Binary {
            // As PostgreSQL does, the header travels in the message of the first row.
            out.bytes.extend_from_slice(SIGNATURE);
            out.bytes.extend_from_slice(&[0; 8]);
        } else if self.form.header != Header::No {
            self.write_header(out);
        }
    }

    fn write_header(&mut self, out: &mut CopyRows) {
        let alone = self.columns.len() == 1;
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                out.bytes.push(self.form.delimiter);
            }
            let start = out.bytes.len();
            out.bytes.extend_from_slice(column.name.as_bytes());
            match self.form.format {
                CopyFormat::Csv => csv::quote(&self.form, false, alone, start, &mut out.bytes, &mut self.scratch),
                _ => text::escape(self.form.delimiter, start, &mut out.bytes, &mut self.scratch),
            }
        }
        out.bytes.push(b'\n');
        out.end_row();
    }

    fn write_lines(&mut self, batch: &RecordBatch, out: &mut CopyRows) -> SqlResult<()> {
        let printed = batch.columns().iter().zip(&self.columns);
        let printed: Vec<TextColumn> = printed
            .map(|(array, column)| TextColumn::new(array, &column.pg_type, &self.style))
            .collect::<SqlResult<_>>()?;
        let csv = self.form.format == CopyFormat::Csv;
        let alone = self.columns.len() == 1;
        for row in 0..batch.num_rows() {
            for (index, column) in printed.iter().enumerate() {
                if index > 0 {
                    out.bytes.push(self.form.delimiter);
                }
                if column.is_null(row) {
                    out.bytes.extend_from_slice(self.form.null.as_bytes());
                    continue;
                }
                let start = out.bytes.len();
                column.write(row, &mut out.bytes);
                match csv {
                    true => {
                        let force = self.columns[index].force_quote;
                        csv::quote(&self.form, force, alone, start, &mut out.bytes, &mut self.scratch);
                    }
                    false => text::escape(self.form.delimiter, start, &mut out.bytes, &mut self.scratch),
                }
            }
            out.bytes.push(b'\n');
            out.end_row();
        }
        Ok(())
    }

    fn write_binary(&mut self, batch: &RecordBatch, out: &mut CopyRows) -> SqlResult<()> {
        let written = batch.columns().iter().zip(&self.columns);
        let written: Vec<BinaryColumn> =
            written.map(|(array, column)| BinaryColumn::new(array, &column.pg_type)).collect::<SqlResult<_>>()?;
        for row in 0..batch.num_rows() {
            out.bytes.extend_from_slice(&(written.len() as i16).to_be_bytes());
            for column in &written {
                column.write_field(row, &mut out.bytes);
            }
            out.end_row();
        }
        Ok(())
    }
}
