//! A run as an Arrow IPC file, and back from a memory map.

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;
use std::sync::Arc;

use super::Run;
use crate::zset::Rows;

/// Why stored state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the run file is broken: {0}")]
    Corrupt(String),
    #[error("the run file has version {found}, this program reads up to version {known}: use a newer Headwater")]
    TooNew { found: u8, known: u8 },
    #[error("the run file holds other columns than the relation: {0}")]
    OtherSchema(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Run {
    /// The bytes of the file that [`Run::open`] reads.
    pub fn write(&self) -> Vec<u8> {
        let mut fields: Vec<Field> = self.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new("hw.hash", DataType::UInt64, false));
        fields.push(Field::new("hw.weight", DataType::Int64, false));
        let schema = Arc::new(Schema::new(fields));
        let mut columns = self.batch().columns().to_vec();
        columns.push(Arc::new(arrow::array::UInt64Array::from(self.hashes().to_vec())));
        columns.push(Arc::new(self.rows().weights_array()));
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("one hash and weight for every row");
        let mut writer = FileWriter::try_new(Vec::new(), &schema).expect("memory takes all");
        writer.write(&batch).expect("memory takes all");
        writer.finish().expect("memory takes all");
        writer.into_inner().expect("memory takes all")
    }

    /// Reads what [`Run::write`] wrote.
    pub fn open(bytes: Bytes, schema: SchemaRef, key: Vec<usize>) -> Result<Run, StateError> {
        let broken = |error: arrow::error::ArrowError| StateError::Corrupt(error.to_string());
        let mut reader = FileReader::try_new(std::io::Cursor::new(bytes), None).map_err(broken)?;
        let batch = reader.next().ok_or_else(|| StateError::Corrupt("it has no rows".into()))?.map_err(broken)?;
        let count = schema.fields().len();
        if batch.num_columns() != count + 2 {
            return Err(StateError::OtherSchema(format!("{} instead of {count}", batch.num_columns() - 2)));
        }
        let hashes = batch.column(count).as_primitive::<UInt64Type>().values().clone();
        let weights = batch.column(count + 1).as_primitive::<Int64Type>().clone();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema, batch.columns()[..count].to_vec(), &options);
        let rows = rows.map_err(|error| StateError::OtherSchema(error.to_string()))?;
        Ok(Run::from_sorted(Rows::new(rows, Some(weights)), key, hashes))
    }
}
