//! Rows → CSV, JSON lines or Parquet in a file that appears only when it is complete.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use flate2::Compression as GzipLevel;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::{CsvStyle, Encoding};
use crate::connectors::paths::{AllowedPaths, OutputFile, io_error};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{TextColumn, TextStyle, array_text};
use crate::zset::PgType;

/// How rows are written.
#[derive(Debug, Clone)]
pub struct WriteStyle {
    pub encoding: Encoding,
    pub csv: CsvStyle,
    pub gzip: bool,
}

/// Writes batches to one file.
pub struct BatchWriter {
    out: Out,
    schema: SchemaRef,
    types: Vec<PgType>,
    style: WriteStyle,
    buffer: Vec<u8>,
    rows: u64,
}

enum Out {
    Plain(OutputFile),
    Gzip(Box<GzEncoder<OutputFile>>),
    Parquet(Box<ArrowWriter<OutputFile>>),
}

impl BatchWriter {
    pub fn create(
        path: &Path,
        allowed: &AllowedPaths,
        schema: &SchemaRef,
        style: &WriteStyle,
    ) -> SqlResult<BatchWriter> {
        let file = OutputFile::create(path, allowed)?;
        let types: Vec<PgType> = schema.fields().iter().map(|field| PgType::of(field)).collect();
        let out = match style.encoding {
            Encoding::Parquet => Out::Parquet(Box::new(parquet_writer(file, schema, &types)?)),
            _ if style.gzip => Out::Gzip(Box::new(GzEncoder::new(file, GzipLevel::default()))),
            _ => Out::Plain(file),
        };
        let mut writer =
            BatchWriter { out, schema: schema.clone(), types, style: style.clone(), buffer: Vec::new(), rows: 0 };
        if style.encoding == Encoding::Csv && style.csv.header {
            writer.csv_header();
            writer.write_buffer()?;
        }
        Ok(writer)
    }

    /// Bytes written so far, more or less: what is being compressed is not counted.
    pub fn bytes(&self) -> u64 {
        match &self.out {
            Out::Plain(file) => file.bytes(),
            Out::Gzip(encoder) => encoder.get_ref().bytes(),
            Out::Parquet(writer) => (writer.bytes_written() + writer.in_progress_size()) as u64,
        }
    }

    pub fn write(&mut self, batch: &RecordBatch) -> SqlResult<()> {
        self.rows += batch.num_rows() as u64;
        match self.style.encoding {
            Encoding::Csv => self.csv_rows(batch)?,
            Encoding::Json => json_rows(batch, &self.schema, &self.types, &mut self.buffer)?,
            Encoding::Parquet => return self.parquet_rows(batch),
        }
        self.write_buffer()
    }

    /// Makes the file durable, under the name `path` in the same directory, and returns the number of rows.
    pub fn finish_as(self, path: Option<&Path>) -> SqlResult<u64> {
        let mut file = match self.out {
            Out::Plain(file) => file,
            Out::Gzip(encoder) => {
                let path = encoder.get_ref().path().to_path_buf();
                encoder.finish().map_err(|error| io_error(&error, "write", &path))?
            }
            Out::Parquet(writer) => writer.into_inner().map_err(|error| parquet_failed(&error))?,
        };
        if let Some(path) = path {
            file.set_path(path);
        }
        file.finish()?;
        Ok(self.rows)
    }

    fn write_buffer(&mut self) -> SqlResult<()> {
        let (path, written) = match &mut self.out {
            Out::Plain(file) => (file.path().to_path_buf(), file.write_all(&self.buffer)),
            Out::Gzip(encoder) => (encoder.get_ref().path().to_path_buf(), encoder.write_all(&self.buffer)),
            Out::Parquet(_) => return Ok(()),
        };
        self.buffer.clear();
        written.map_err(|error| io_error(&error, "write", &path))
    }

    fn csv_header(&mut self) {
        for index in 0..self.schema.fields().len() {
            let name = self.schema.field(index).name().clone();
            self.csv_separator(index);
            csv_field(name.as_bytes(), &self.style.csv, &mut self.buffer);
        }
        self.buffer.push(b'\n');
    }

    fn csv_separator(&mut self, index: usize) {
        if index > 0 {
            self.buffer.push(self.style.csv.delimiter);
        }
    }

    fn csv_rows(&mut self, batch: &RecordBatch) -> SqlResult<()> {
        let columns = text_columns(batch, &self.types)?;
        let null = self.style.csv.nulls.first().cloned().unwrap_or_default();
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                self.csv_separator(index);
                if column.is_null(row) {
                    self.buffer.extend_from_slice(null.as_bytes());
                    continue;
                }
                text.clear();
                column.write(row, &mut text);
                csv_field(&text, &self.style.csv, &mut self.buffer);
            }
            self.buffer.push(b'\n');
        }
        Ok(())
    }

    fn parquet_rows(&mut self, batch: &RecordBatch) -> SqlResult<()> {
        let Out::Parquet(writer) = &mut self.out else { return Ok(()) };
        let columns = batch.columns().iter().zip(&self.types).map(|(column, pg_type)| stored_column(column, pg_type));
        let columns = columns.collect::<SqlResult<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(stored_schema(&self.schema, &self.types), columns, &options)
            .map_err(|error| SqlError::internal(format!("rows do not fit their file: {error}")))?;
        writer.write(&batch).map_err(|error| parquet_failed(&error))
    }
}

fn parquet_failed(error: &parquet::errors::ParquetError) -> SqlError {
    let text = error.to_string();
    let full = text.contains("No space left") || text.contains("StorageFull");
    let code = if full { SqlState::DISK_FULL } else { SqlState::IO_ERROR };
    SqlError::new(code, format!("cannot write the parquet file: {text}"))
}

fn parquet_writer(file: OutputFile, schema: &SchemaRef, types: &[PgType]) -> SqlResult<ArrowWriter<OutputFile>> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    ArrowWriter::try_new(file, stored_schema(schema, types), Some(properties)).map_err(|error| parquet_failed(&error))
}

/// Parquet has no interval of months, days and microseconds: it is stored as text.
fn is_stored_as_text(pg_type: &PgType) -> bool {
    match pg_type {
        PgType::Interval => true,
        PgType::Array(item) => is_stored_as_text(item),
        _ => false,
    }
}

fn stored_schema(schema: &SchemaRef, types: &[PgType]) -> SchemaRef {
    if !types.iter().any(is_stored_as_text) {
        return schema.clone();
    }
    let fields = schema.fields().iter().zip(types).map(|(field, pg_type)| match is_stored_as_text(pg_type) {
        true => Arc::new(PgType::Text.field(field.name(), field.is_nullable())),
        false => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn stored_column(column: &ArrayRef, pg_type: &PgType) -> SqlResult<ArrayRef> {
    match is_stored_as_text(pg_type) {
        true => Ok(Arc::new(array_text(column, pg_type, &TextStyle::default())?)),
        false => Ok(column.clone()),
    }
}

fn text_columns(batch: &RecordBatch, types: &[PgType]) -> SqlResult<Vec<TextColumn>> {
    let style = TextStyle::default();
    batch.columns().iter().zip(types).map(|(column, pg_type)| TextColumn::new(column, pg_type, &style)).collect()
}

/// Writes a field, quoted where it would be read as something else.
fn csv_field(text: &[u8], style: &CsvStyle, out: &mut Vec<u8>) {
    let special = |byte: &u8| *byte == style.delimiter || *byte == style.quote || matches!(*byte, b'\n' | b'\r');
    let is_null = style.nulls.iter().any(|null| null.as_bytes() == text) || text.is_empty();
    if !is_null && !text.iter().any(special) {
        out.extend_from_slice(text);
        return;
    }
    out.push(style.quote);
    for byte in text {
        if *byte == style.quote || *byte == style.escape {
            out.push(style.escape);
        }
        out.push(*byte);
    }
    out.push(style.quote);
}

/// Each row as one JSON object.
pub fn json_objects(batch: &RecordBatch, types: &[PgType]) -> SqlResult<Vec<String>> {
    let rows = JsonRows::new(batch, &batch.schema(), types)?;
    let object = |row: usize| {
        let mut text = Vec::new();
        rows.write(row, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    Ok((0..batch.num_rows()).map(object).collect())
}

/// One object a line.
fn json_rows(batch: &RecordBatch, schema: &SchemaRef, types: &[PgType], out: &mut Vec<u8>) -> SqlResult<()> {
    let rows = JsonRows::new(batch, schema, types)?;
    for row in 0..batch.num_rows() {
        rows.write(row, out);
        out.push(b'\n');
    }
    Ok(())
}

/// Rows as JSON objects, as PostgreSQL's `row_to_json` writes them.
pub struct JsonRows {
    /// Each with its member's name, quoted and with the colon.
    columns: Vec<(Vec<u8>, JsonColumn)>,
}

impl JsonRows {
    pub fn new(batch: &RecordBatch, schema: &SchemaRef, types: &[PgType]) -> SqlResult<JsonRows> {
        let columns = schema.fields().iter().zip(batch.columns().iter().zip(types));
        let columns = columns.map(|(field, (column, pg_type))| {
            let mut name = Vec::new();
            json_string(field.name().as_bytes(), &mut name);
            name.push(b':');
            Ok((name, JsonColumn::new(column, pg_type)?))
        });
        Ok(JsonRows { columns: columns.collect::<SqlResult<Vec<_>>>()? })
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (name, column)) in self.columns.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            column.write(row, out);
        }
        out.push(b'}');
    }
}

/// A column whose values can be written as JSON.
pub struct JsonColumn {
    text: Option<TextColumn>,
    form: JsonForm,
    array: ArrayRef,
}

enum JsonForm {
    Bool,
    /// The text is JSON as it stands, unless it is a float's NaN or infinity.
    Raw,
    Text,
    /// As text with a `T` between date and time, and minutes in the offset.
    Time,
    List(Box<JsonColumn>),
    Struct(Vec<(Vec<u8>, JsonColumn)>),
}

impl JsonColumn {
    pub fn new(array: &ArrayRef, pg_type: &PgType) -> SqlResult<JsonColumn> {
        let form = match pg_type {
            PgType::Bool => JsonForm::Bool,
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid | PgType::Json | PgType::Jsonb => JsonForm::Raw,
            PgType::Float4 | PgType::Float8 | PgType::Numeric(_) => JsonForm::Raw,
            PgType::Timestamp | PgType::Timestamptz => JsonForm::Time,
            PgType::Array(item) => JsonForm::List(Box::new(JsonColumn::new(array.as_list::<i32>().values(), item)?)),
            _ => JsonForm::Text,
        };
        let text = match form {
            JsonForm::List(_) => None,
            _ => Some(TextColumn::new(array, pg_type, &TextStyle::default())?),
        };
        Ok(JsonColumn { text, form, array: array.clone() })
    }

    /// A column of any Arrow type, structures included.
    pub fn of_arrow(array: &ArrayRef) -> SqlResult<JsonColumn> {
        match array.data_type() {
            DataType::Struct(fields) => {
                let members = fields.iter().zip(array.as_struct().columns()).map(|(field, column)| {
                    let mut name = Vec::new();
                    json_string(field.name().as_bytes(), &mut name);
                    name.push(b':');
                    Ok((name, JsonColumn::of_arrow(column)?))
                });
                let form = JsonForm::Struct(members.collect::<SqlResult<Vec<_>>>()?);
                Ok(JsonColumn { text: None, form, array: array.clone() })
            }
            DataType::Map(field, _) => {
                // Keys and values as a list of pairs, which every map can be.
                let map = array.as_map();
                let list = arrow::array::ListArray::new(
                    field.clone(),
                    map.offsets().clone(),
                    Arc::new(map.entries().clone()),
                    map.nulls().cloned(),
                );
                JsonColumn::of_arrow(&(Arc::new(list) as ArrayRef))
            }
            DataType::List(_) => {
                let items = JsonColumn::of_arrow(array.as_list::<i32>().values())?;
                Ok(JsonColumn { text: None, form: JsonForm::List(Box::new(items)), array: array.clone() })
            }
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let list = arrow::compute::cast(array, &DataType::List(item.clone()))
                    .map_err(|error| SqlError::internal(format!("a list cannot be shown: {error}")))?;
                JsonColumn::of_arrow(&list)
            }
            other => JsonColumn::new(array, &PgType::of_arrow(other)),
        }
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.array.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match (&self.form, &self.text) {
            (JsonForm::List(items), _) => {
                let offsets = self.array.as_list::<i32>().value_offsets();
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                write_items(items, range, out);
            }
            (JsonForm::Struct(members), _) => {
                out.push(b'{');
                for (index, (name, column)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    column.write(row, out);
                }
                out.push(b'}');
            }
            (JsonForm::Bool, Some(_)) => {
                let value = self.array.as_boolean().value(row);
                out.extend_from_slice(if value { b"true" } else { b"false" });
            }
            (form, Some(column)) => {
                let mut text = Vec::new();
                column.write(row, &mut text);
                write_scalar(form, &mut text, out);
            }
            (_, None) => out.extend_from_slice(b"null"),
        }
    }
}

fn write_items(items: &JsonColumn, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    let first = range.start;
    out.push(b'[');
    for item in range {
        if item > first {
            out.push(b',');
        }
        items.write(item, out);
    }
    out.push(b']');
}

fn write_scalar(form: &JsonForm, text: &mut Vec<u8>, out: &mut Vec<u8>) {
    match form {
        JsonForm::Raw if !matches!(&text[..], b"NaN" | b"Infinity" | b"-Infinity") => out.extend_from_slice(text),
        JsonForm::Time => {
            if let Some(space) = text.iter().position(|byte| *byte == b' ') {
                text[space] = b'T';
            }
            if text.ends_with(b"+00") {
                text.extend_from_slice(b":00");
            }
            json_string(text, out);
        }
        _ => json_string(text, out),
    }
}

fn json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::functions::text::parse_texts;

    fn batch() -> RecordBatch {
        let columns: [(&str, &str, [Option<&str>; 2]); 9] = [
            ("id", "bigint", [Some("1"), None]),
            ("text", "text", [Some("a,\"b\"\n"), Some("")]),
            ("n", "numeric(10,2)", [Some("1.50"), Some("-3")]),
            ("x", "double precision", [Some("NaN"), Some("1e20")]),
            ("ok", "boolean", [Some("t"), Some("f")]),
            ("at", "timestamptz", [Some("2013-01-01 10:00:00+02"), None]),
            ("doc", "jsonb", [Some("{\"a\": [1]}"), None]),
            ("list", "text[]", [Some("{a,NULL,\"b c\"}"), Some("{}")]),
            ("span", "interval", [Some("1 mon 2 days"), None]),
        ];
        let fields = columns.iter().map(|(name, kind, _)| PgType::parse(kind).expect("known").field(name, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let array = |(_, kind, values): &(&str, &str, [Option<&str>; 2])| {
            let pg_type = PgType::parse(kind).expect("known");
            parse_texts(values.iter().copied(), &pg_type, TextStyle::default()).expect("parses")
        };
        RecordBatch::try_new(schema, columns.iter().map(array).collect()).expect("fits")
    }

    fn written(style: &WriteStyle) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        let allowed = AllowedPaths::new([dir.path().to_path_buf()]);
        let path = dir.path().join("out");
        let batch = batch();
        let mut writer = BatchWriter::create(&path, &allowed, &batch.schema(), style).expect("creates");
        writer.write(&batch).expect("writes");
        writer.write(&batch.slice(1, 1)).expect("writes");
        assert_eq!(writer.finish_as(None).expect("finishes"), 3);
        std::fs::read(&path).expect("reads")
    }

    fn check(encoding: Encoding, expected: Expect) {
        let style = WriteStyle { encoding, csv: CsvStyle::default(), gzip: false };
        let plain = written(&style);
        expected.assert_eq(&String::from_utf8_lossy(&plain));
        let packed = written(&WriteStyle { gzip: true, ..style });
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain);
    }

    #[test]
    fn rows_are_written_as_postgresql_writes_them() {
        check(
            Encoding::Csv,
            expect![[r#"
            id,text,n,x,ok,at,doc,list,span
            1,"a,""b""
            ",1.50,NaN,t,2013-01-01 08:00:00+00,"{""a"": [1]}","{a,NULL,""b c""}",1 mon 2 days
            ,"",-3.00,1e+20,f,,,{},
            ,"",-3.00,1e+20,f,,,{},
        "#]],
        );
        check(
            Encoding::Json,
            expect![[r#"
            {"id":1,"text":"a,\"b\"\n","n":1.50,"x":"NaN","ok":true,"at":"2013-01-01T08:00:00+00:00","doc":{"a": [1]},"list":["a",null,"b c"],"span":"1 mon 2 days"}
            {"id":null,"text":"","n":-3.00,"x":1e+20,"ok":false,"at":null,"doc":null,"list":[],"span":null}
            {"id":null,"text":"","n":-3.00,"x":1e+20,"ok":false,"at":null,"doc":null,"list":[],"span":null}
        "#]],
        );
    }
}
