//! One step as one record of the log: what came in, and nothing that can be derived from it.
//!
//! ```text
//! record  = header length (u32 LE) | header (JSON, `Header`) | blobs, one after another
//! blob    = message length (u32 LE) | Arrow IPC message | body length (u32 LE) | Arrow IPC body (LZ4 buffers)
//! ```
//! A blob is one record batch without its schema, which the catalog knows; a delta with weights other than +1 has
//! them as a last column. A record is broken when its lengths do not add up, its header is no JSON of that form, or
//! a blob does not decode under the relation's schema. The log around it has the checksum and the version.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, reader, root_as_message};
use serde::{Deserialize, Serialize};

use crate::catalog::CatalogEdit;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{Moment, RelationId, Rows};

/// Where a source stands: opaque to the engine, made and read by the connector.
pub type Position = serde_json::Value;

/// The inputs of one step.
#[derive(Debug, Clone)]
pub struct StepRecord {
    pub at: Moment,
    pub edits: Vec<CatalogEdit>,
    pub deltas: Vec<(RelationId, Rows)>,
    /// Where each source that moved in this step stands after it.
    pub positions: BTreeMap<RelationId, Position>,
    /// Sources whose rows of this step are not in `deltas`: replay reads them again, up to the new position.
    pub reread: BTreeSet<RelationId>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    at: Moment,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    edits: Vec<CatalogEdit>,
    /// For each blob its relation, and whether the last column holds weights.
    deltas: Vec<(RelationId, bool)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    positions: BTreeMap<RelationId, Position>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    reread: BTreeSet<RelationId>,
}

impl StepRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let header = Header {
            at: self.at,
            edits: self.edits.clone(),
            deltas: self.deltas.iter().map(|(relation, rows)| (*relation, rows.weights().is_some())).collect(),
            positions: self.positions.clone(),
            reread: self.reread.clone(),
        };
        let header = serde_json::to_vec(&header).expect("a header has only string keys");
        let mut bytes = Vec::with_capacity(header.len() + 256);
        push_block(&mut bytes, &header);
        for (_, rows) in &self.deltas {
            encode_rows(rows, &mut bytes);
        }
        bytes
    }

    /// Reads a record back. `schema_of` gives a relation's columns as of the catalog *after* the record's edits.
    ///
    /// # Errors
    /// `XX001` if the bytes are no record.
    pub fn decode(
        bytes: &[u8],
        schema_of: impl Fn(&[CatalogEdit], RelationId) -> Option<SchemaRef>,
    ) -> SqlResult<Self> {
        let mut rest = bytes;
        let header: Header =
            serde_json::from_slice(take_block(&mut rest)?).map_err(|error| broken(&error.to_string()))?;
        let mut deltas = Vec::with_capacity(header.deltas.len());
        for (relation, weighted) in &header.deltas {
            let schema = schema_of(&header.edits, *relation)
                .ok_or_else(|| broken(&format!("it has rows of the unknown relation {relation}")))?;
            deltas.push((*relation, decode_rows(&mut rest, schema, *weighted)?));
        }
        let Header { at, edits, positions, reread, .. } = header;
        Ok(Self { at, edits, deltas, positions, reread })
    }
}

fn push_block(bytes: &mut Vec<u8>, block: &[u8]) {
    let length = u32::try_from(block.len()).expect("a step's budget keeps a block far below 4 GiB");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(block);
}

fn take_block<'a>(rest: &mut &'a [u8]) -> SqlResult<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(|| broken("it ends too early"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if tail.len() < length {
        return Err(broken("it ends too early"));
    }
    let (block, tail) = tail.split_at(length);
    *rest = tail;
    Ok(block)
}

fn broken(reason: &str) -> SqlError {
    SqlError::new(SqlState::DATA_CORRUPTED, format!("a record of the log cannot be read: {reason}"))
}

fn encode_rows(rows: &Rows, bytes: &mut Vec<u8>) {
    let batch = with_weights(rows);
    let options = IpcWriteOptions::default();
    // Small batches are not worth the compressor's start.
    let options = match rows.len() > 256 {
        true => options.try_with_compression(Some(arrow::ipc::CompressionType::LZ4_FRAME)).expect("LZ4 is built in"),
        false => options,
    };
    let (_, encoded) = IpcDataGenerator::default()
        .encode(&batch, &mut DictionaryTracker::new(false), &options, &mut IpcWriteContext::default())
        .expect("every SQL type can be encoded");
    push_block(bytes, &encoded.ipc_message);
    push_block(bytes, &encoded.arrow_data);
}

fn decode_rows(rest: &mut &[u8], schema: SchemaRef, weighted: bool) -> SqlResult<Rows> {
    let message = take_block(rest)?.to_vec();
    let body = Buffer::from(take_block(rest)?);
    let message = root_as_message(&message).map_err(|error| broken(&error.to_string()))?;
    let header = message.header_as_record_batch().ok_or_else(|| broken("a blob is no record batch"))?;
    let full = if weighted { weighted_schema(&schema) } else { schema.clone() };
    let batch = reader::read_record_batch(&body, header, full, &HashMap::new(), None, &MetadataVersion::V5)
        .map_err(|error| broken(&error.to_string()))?;
    if !weighted {
        return Ok(Rows::inserts(batch));
    }
    let (_, mut columns, rows) = batch.into_parts();
    let weights = columns.pop().expect("the weights are the last column").as_primitive().clone();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    let batch =
        RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| broken(&error.to_string()))?;
    Ok(Rows::new(batch, Some(weights)))
}

fn weighted_schema(schema: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("hw_weight", DataType::Int64, false)));
    Arc::new(Schema::new(fields))
}

/// The batch with its weights as a last column, and without bytes of strings that no row of it shows.
fn with_weights(rows: &Rows) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = rows.batch().columns().iter().map(compact).collect();
    let schema = match rows.weights() {
        None => rows.schema(),
        Some(weights) => {
            columns.push(Arc::new(Int64Array::clone(weights)));
            weighted_schema(&rows.schema())
        }
    };
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema, columns, &options).expect("the columns are those of the rows")
}

/// A view array may share large buffers of which it shows little; IPC would write them whole.
fn compact(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View => {
            let array = column.as_string_view();
            let held: usize = array.data_buffers().iter().map(Buffer::len).sum();
            if held > 4096 { Arc::new(array.gc()) } else { column.clone() }
        }
        DataType::BinaryView => {
            let array = column.as_binary_view();
            let held: usize = array.data_buffers().iter().map(Buffer::len).sum();
            if held > 4096 { Arc::new(array.gc()) } else { column.clone() }
        }
        _ => column.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zset::{Step, parse_rows, pretty_rows};

    fn record(deltas: Vec<(RelationId, Rows)>) -> StepRecord {
        let at = Moment { step: Step(7), now: 1_700_000_000_000_000 };
        let positions = BTreeMap::from([(RelationId(3), serde_json::json!({"line": 12}))]);
        StepRecord { at, edits: Vec::new(), deltas, positions, reread: BTreeSet::from([RelationId(3)]) }
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        let long = "a text that is too long to be inlined in a view";
        let mixed = parse_rows("x INT, s TEXT", &format!("+1 | 1 | {long}\n-1 | NULL | b"));
        let (inserts, _) = parse_rows("n NUMERIC, d DATE", "+1 | 1.5 | 2024-02-29").into_parts();
        let inserts = Rows::inserts(inserts);
        let before = record(vec![(RelationId(1), mixed.clone()), (RelationId(2), inserts.clone())]);
        let schemas = [mixed.schema(), inserts.schema()];
        let schema_of = |_: &[CatalogEdit], id: RelationId| Some(schemas[id.0 as usize - 1].clone());
        let after = StepRecord::decode(&before.encode(), schema_of).expect("it was written whole");
        assert_eq!(pretty_rows(&after.deltas[0].1), pretty_rows(&mixed));
        assert_eq!(pretty_rows(&after.deltas[1].1), pretty_rows(&inserts));
        assert!(after.deltas[1].1.weights().is_none());
        assert_eq!((after.at, after.positions, after.reread), (before.at, before.positions, before.reread));
    }

    #[test]
    fn every_cut_or_unknown_relation_is_named_not_a_panic() {
        let rows = parse_rows("x INT", "+1 | 1");
        let schema = rows.schema();
        let bytes = record(vec![(RelationId(1), rows)]).encode();
        for cut in 0..bytes.len() {
            let result = StepRecord::decode(&bytes[..cut], |_, _| Some(schema.clone()));
            assert_eq!(result.expect_err("it is cut").code, SqlState::DATA_CORRUPTED);
        }
        let unknown = StepRecord::decode(&bytes, |_, _| None).expect_err("no such relation");
        assert!(unknown.message.contains("r1"), "{}", unknown.message);
    }
}
