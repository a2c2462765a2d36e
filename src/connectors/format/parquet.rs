//! Parquet files → rows.
//!
//! Columns are found by name. A value that cannot become its column's type spoils its own row only; such a row is
//! reported as JSON.

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray, StringViewBuilder};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::OnError;
use super::cells::{BadLine, Target, missing_fault, rows_without, value_fault};
use super::write::JsonColumn;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{ColumnBuilder, TextStyle, array_text};
use crate::zset::PgType;

/// A file that is being read.
pub struct ParquetRows {
    reader: ParquetRecordBatchReader,
    /// For each column of the target the file's column, in the reader's batches.
    places: Vec<Option<usize>>,
    place: String,
    waiting: Option<RecordBatch>,
    /// Rows given so far, from the beginning of the file.
    pub row: u64,
}

impl ParquetRows {
    /// Opens a file behind its first `row` rows.
    pub fn open(file: File, place: &str, row: u64, rows_max: usize, target: &Target) -> SqlResult<ParquetRows> {
        let unreadable = |error| unreadable(place, &error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
        let schema = builder.schema().clone();
        let mut wanted = Vec::new();
        let mut found = Vec::new();
        for (column, field) in target.schema.fields().iter().enumerate() {
            let exact = schema.fields().iter().position(|other| other.name() == field.name());
            let alike = || schema.fields().iter().position(|other| other.name().eq_ignore_ascii_case(field.name()));
            match exact.or_else(alike) {
                Some(index) => {
                    check_types(schema.field(index).data_type(), &target.types[column], field.name())?;
                    wanted.push(index);
                    found.push(Some(index));
                }
                None if field.is_nullable() => found.push(None),
                None => {
                    let message =
                        format!("column \"{}\" is NOT NULL, but file \"{place}\" does not have it", field.name());
                    return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
                }
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        let in_batch = |index: usize| wanted.binary_search(&index).expect("every column found is read");
        let places = found.into_iter().map(|index| index.map(in_batch)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
        let builder = builder.with_projection(mask).with_batch_size(rows_max.clamp(1, 65_536));
        let reader = builder.with_offset(row as usize).build().map_err(unreadable)?;
        Ok(ParquetRows { reader, places, place: place.to_string(), waiting: None, row })
    }

    /// The next rows, at most `rows_max`, or `None` at the end. A damaged file is an error.
    pub fn next(&mut self, rows_max: usize, target: &Target) -> SqlResult<Option<(RecordBatch, Vec<BadLine>)>> {
        let batch = match self.waiting.take() {
            Some(batch) => batch,
            None => match self.reader.next() {
                None => return Ok(None),
                Some(Err(error)) => return Err(damaged(&self.place, &error.to_string())),
                Some(Ok(batch)) => batch,
            },
        };
        let taken = batch.num_rows().min(rows_max.max(1));
        if taken < batch.num_rows() {
            self.waiting = Some(batch.slice(taken, batch.num_rows() - taken));
        }
        let batch = batch.slice(0, taken);
        let first = self.row + 1;
        self.row += taken as u64;
        self.convert(&batch, first, target).map(Some)
    }

    fn convert(&self, batch: &RecordBatch, first: u64, target: &Target) -> SqlResult<(RecordBatch, Vec<BadLine>)> {
        let rows = batch.num_rows();
        let mut faults = BTreeMap::new();
        let mut columns = Vec::with_capacity(target.width());
        for (column, place) in self.places.iter().enumerate() {
            let pg_type = &target.types[column];
            let array = match place {
                Some(place) => convert_column(batch.column(*place), column, target, &mut faults)?,
                None => arrow::array::new_null_array(&pg_type.arrow(), rows),
            };
            if !target.schema.field(column).is_nullable() && array.null_count() > 0 {
                for row in (0..rows).filter(|row| array.is_null(*row)) {
                    faults.entry(row).or_insert_with(|| missing_fault(target.name(column)));
                }
            }
            columns.push(array);
        }
        let kept = rows_without(&target.schema, columns, rows, faults.keys().copied())?;
        let bad = bad_rows(batch, faults, first)?;
        Ok((kept, bad))
    }
}

fn bad_rows(batch: &RecordBatch, faults: BTreeMap<usize, String>, first: u64) -> SqlResult<Vec<BadLine>> {
    if faults.is_empty() {
        return Ok(Vec::new());
    }
    let columns = batch.columns().iter().map(JsonColumn::of_arrow).collect::<SqlResult<Vec<_>>>()?;
    let schema = batch.schema();
    let bad = |(row, reason): (usize, String)| {
        let mut bytes = vec![b'{'];
        for (index, column) in columns.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            bytes.extend_from_slice(format!("{comma}{:?}:", schema.field(index).name()).as_bytes());
            column.write(row, &mut bytes);
        }
        bytes.push(b'}');
        BadLine { number: first + row as u64, bytes, reason }
    };
    Ok(faults.into_iter().map(bad).collect())
}

fn is_nested(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_nested(item.data_type()) || matches!(item.data_type(), DataType::List(_) | DataType::LargeList(_))
        }
        _ => false,
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

fn is_string_type(pg_type: &PgType) -> bool {
    matches!(
        pg_type,
        PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Json | PgType::Jsonb
    )
}

/// Refuses, when the file is opened, types that no value can bridge.
fn check_types(stored: &DataType, pg_type: &PgType, name: &str) -> SqlResult<()> {
    let fits =
        is_text(stored) || is_string_type(pg_type) || (!is_nested(stored) && can_cast_types(stored, &pg_type.arrow()));
    if fits {
        return Ok(());
    }
    let message = format!("column \"{name}\" is {stored} in the parquet file and cannot become {pg_type}");
    Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message))
}

fn convert_column(
    array: &ArrayRef,
    column: usize,
    target: &Target,
    faults: &mut BTreeMap<usize, String>,
) -> SqlResult<ArrayRef> {
    let pg_type = &target.types[column];
    let wanted = pg_type.arrow();
    let is_json = matches!(pg_type, PgType::Json | PgType::Jsonb);
    if *pg_type == PgType::Text && is_text(array.data_type()) {
        return cast(array, &wanted, false);
    }
    if is_text(array.data_type()) {
        let texts = cast(array, &DataType::Utf8View, false)?;
        return Ok(parse_column(texts.as_string_view(), column, target, faults));
    }
    if is_string_type(pg_type) {
        let texts = if is_json || is_nested(array.data_type()) || is_list(array.data_type()) {
            json_texts(array)?
        } else {
            array_text(array, &PgType::of_arrow(array.data_type()), &TextStyle::default())?
        };
        return Ok(parse_column(&texts, column, target, faults));
    }
    let converted = cast(array, &wanted, true)?;
    if converted.null_count() > array.logical_null_count() {
        let is_wrong = |row: &usize| converted.is_null(*row) && !array.is_null(*row);
        for row in (0..array.len()).filter(is_wrong) {
            if target.on_error != OnError::Null || !target.schema.field(column).is_nullable() {
                let name = target.name(column);
                faults.entry(row).or_insert_with(|| format!("column \"{name}\": the value does not fit {pg_type}"));
            }
        }
    }
    Ok(converted)
}

/// Casts; a value that does not fit is NULL if `lenient`.
fn cast(array: &ArrayRef, wanted: &DataType, lenient: bool) -> SqlResult<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(array.clone());
    }
    let options = CastOptions { safe: lenient, ..CastOptions::default() };
    cast_with_options(array, wanted, &options).map_err(|error| {
        SqlError::new(SqlState::DATATYPE_MISMATCH, format!("a parquet column cannot be read: {error}"))
    })
}

fn json_texts(array: &ArrayRef) -> SqlResult<StringViewArray> {
    let column = JsonColumn::of_arrow(array)?;
    let mut builder = StringViewBuilder::with_capacity(array.len());
    let mut text = Vec::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        column.write(row, &mut text);
        builder.append_value(String::from_utf8_lossy(&text));
    }
    Ok(builder.finish())
}

fn parse_column(
    texts: &StringViewArray,
    column: usize,
    target: &Target,
    faults: &mut BTreeMap<usize, String>,
) -> ArrayRef {
    let mut builder = ColumnBuilder::new(&target.types[column], TextStyle::default(), texts.len());
    let mut next = 0;
    while let Err(failure) = builder.append_texts(texts.slice(next, texts.len() - next).iter()) {
        let row = next + failure.row;
        if target.on_error != OnError::Null || !target.schema.field(column).is_nullable() {
            faults.entry(row).or_insert_with(|| value_fault(target.name(column), &failure.error));
        }
        builder.append_null();
        next = row + 1;
    }
    builder.finish()
}

/// The error for a file that is no Parquet file, or a damaged one.
pub fn unreadable(place: &str, error: &parquet::errors::ParquetError) -> SqlError {
    damaged(place, &error.to_string())
}

fn damaged(place: &str, reason: &str) -> SqlError {
    let reason = reason.trim_start_matches("Parquet error: ");
    SqlError::new(SqlState::DATA_CORRUPTED, format!("file \"{place}\" is no sound parquet file: {reason}"))
}
