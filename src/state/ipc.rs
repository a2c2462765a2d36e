//! A run as an Arrow IPC file, and back from a memory map without copying.
//!
//! The file is one that every Arrow reader understands: one record batch with the relation's columns, then `hw.hash`
//! and, if some weight is not 1, `hw.weight`. Between the batch and Arrow's footer, where Arrow readers do not look,
//! lie the directory and a trailer of 64 bytes; `docs/formats.md` draws them. A file is broken if a checksum does not
//! match, if the numbers of the trailer do not fit the file, or if the hashes do not rise.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use arrow::ipc::{MetadataVersion, root_as_footer};
use bytes::Bytes;

use super::directory::{Directory, DirectoryParts};
use super::gather::batch_of;
use super::run::{Run, compacted};
use crate::error::{SqlError, SqlState};
use crate::storage::{StorageError, crc32};
use crate::zset::Rows;

const MAGIC: &[u8; 7] = b"HWATRUN";
const VERSION: u8 = 1;
const TRAILER: usize = 64;
/// Arrow's last words: the length of the footer and `ARROW1`.
const ARROW_TAIL: usize = 10;
const ALIGNMENT: usize = 64;
const HASH: &str = "hw.hash";
const WEIGHT: &str = "hw.weight";
const KEY: &str = "hw.key";

/// Why stored state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{file}: the run file is broken: {reason}")]
    Corrupt { file: String, reason: String },
    #[error("{file}: the run file has format {found}, this program reads up to {VERSION}; use a newer Headwater")]
    TooNew { file: String, found: u8 },
    #[error("{file}: the run file does not belong to this relation: {reason}")]
    OtherRelation { file: String, reason: String },
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<StateError> for SqlError {
    fn from(error: StateError) -> Self {
        let code = match &error {
            StateError::Corrupt { .. } | StateError::OtherRelation { .. } => SqlState::DATA_CORRUPTED,
            StateError::TooNew { .. } => SqlState::FEATURE_NOT_SUPPORTED,
            StateError::Io(_) => SqlState::IO_ERROR,
        };
        match error {
            StateError::Io(error) => StorageError::from(error).into(),
            other => SqlError::new(code, other.to_string()),
        }
    }
}

impl StateError {
    fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { file: String::new(), reason: reason.into() }
    }

    /// The same error, told of a file.
    #[must_use]
    pub(super) fn of_file(mut self, name: &str) -> Self {
        match &mut self {
            Self::Corrupt { file, .. } | Self::TooNew { file, .. } | Self::OtherRelation { file, .. } => {
                *file = name.to_string();
            }
            Self::Io(_) => {}
        }
        self
    }
}

impl Run {
    /// The bytes of the file that [`Run::open`] reads.
    pub fn write(&self) -> Vec<u8> {
        let directory = match self.directory().parts() {
            Some(parts) => parts,
            // The directory of a slice speaks of the rows of the whole.
            None => (Directory::build(self.hashes(), self.directory().keys()).parts()).expect("it is whole"),
        };
        let batch = self.stored_batch();
        let mut file = arrow_file(&batch).expect("memory takes every batch");
        let tail_start = file.len() - ARROW_TAIL;
        let tail: [u8; ARROW_TAIL] = file[tail_start..].try_into().expect("as many bytes");
        let footer_start = tail_start - read_footer_length(tail).expect("the writer has just ended the file");
        let footer = file.split_off(footer_start);
        pad(&mut file);
        let offset = file.len();
        directory.offsets.iter().for_each(|entry| file.extend_from_slice(&entry.to_le_bytes()));
        pad(&mut file);
        let trailer = Trailer {
            rows: self.len() as u64,
            keys: directory.keys as u64,
            base: directory.base,
            shift: directory.shift,
            offset: offset as u64,
            entries: directory.offsets.len() as u32,
            body_crc: crc32(&file),
            footer_crc: crc32(&footer),
        };
        file.extend_from_slice(&trailer.encode());
        file.extend_from_slice(&footer);
        file
    }

    fn stored_batch(&self) -> RecordBatch {
        let schema = self.schema();
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let mut columns: Vec<ArrayRef> = self.batch().columns().iter().cloned().map(compacted).collect();
        fields.push(Arc::new(Field::new(HASH, DataType::UInt64, false)));
        columns.push(Arc::new(UInt64Array::new(self.hash_buffer().clone(), None)));
        if let Some(weights) = self.weights() {
            fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, false)));
            columns.push(Arc::new(weights.clone()));
        }
        let metadata = [(KEY.to_string(), key_text(self.key()))].into();
        batch_of(&Arc::new(Schema::new_with_metadata(fields, metadata)), columns, self.len())
    }

    /// Reads what [`Run::write`] wrote, for a relation of these columns and this key. Shares the bytes.
    pub fn open(bytes: Bytes, schema: SchemaRef, key: Vec<usize>) -> Result<Run, StateError> {
        Run::open_as(bytes, Some((schema, key)))
    }

    /// Reads what [`Run::write`] wrote, with the columns and the key that the file itself names: for the state of
    /// operators, whose columns no catalog knows.
    pub fn open_stored(bytes: Bytes) -> Result<Run, StateError> {
        Run::open_as(bytes, None)
    }

    fn open_as(bytes: Bytes, expected: Option<(SchemaRef, Vec<usize>)>) -> Result<Run, StateError> {
        let file = Buffer::from(bytes);
        let (trailer, trailer_start) = read_trailer(&file)?;
        let mut batch = read_batch(&file, trailer_start)?;
        let key = stored_key(&batch)?;
        if let Some((_, expected)) = &expected {
            check_key(&key, expected)?;
        }
        let weighted = batch.schema().fields().last().is_some_and(|field| field.name() == WEIGHT);
        let weights = weighted.then(|| batch.remove_column(batch.num_columns() - 1));
        let hashes = take_hashes(&mut batch, trailer.rows)?;
        let offsets = ScalarBuffer::new(file.clone(), trailer.offset as usize / 4, trailer.entries as usize);
        let DirectoryNumbers { base, shift, keys } = trailer.numbers();
        let directory = Directory::restore(DirectoryParts { base, shift, keys, offsets }, hashes.len())
            .ok_or_else(|| StateError::corrupt("its directory does not fit its rows"))?;
        let schema = expected.map_or_else(|| without_metadata(&batch), |(schema, _)| schema);
        let rows = own_columns(&batch, &schema, hashes.len())?;
        let weights: Option<Int64Array> = weights.map(|weights| weights.as_primitive::<Int64Type>().clone());
        Ok(Run::from_parts(Rows::new(rows, weights), key.into(), hashes, directory).set_mapped())
    }
}

fn key_text(key: &[usize]) -> String {
    key.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn pad(file: &mut Vec<u8>) {
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
}

fn arrow_file(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let room = batch.get_array_memory_size() + 4096;
    let mut writer = FileWriter::try_new_with_options(Vec::with_capacity(room), &batch.schema(), options)?;
    writer.write(batch)?;
    writer.finish()?;
    writer.into_inner()
}

/// The 64 bytes before Arrow's footer.
struct Trailer {
    rows: u64,
    keys: u64,
    base: u64,
    shift: u32,
    offset: u64,
    entries: u32,
    body_crc: u32,
    footer_crc: u32,
}

struct DirectoryNumbers {
    base: u64,
    shift: u32,
    keys: usize,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER] {
        let mut bytes = Vec::with_capacity(TRAILER);
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        for number in [self.rows, self.keys, self.base, self.offset] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.entries, self.shift, 0, self.body_crc, self.footer_crc] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32(&bytes).to_le_bytes());
        bytes.try_into().expect("the fields fill the trailer")
    }

    fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        if &bytes[..7] != MAGIC {
            return Err(StateError::corrupt("it has no trailer"));
        }
        if bytes[7] > VERSION {
            return Err(StateError::TooNew { file: String::new(), found: bytes[7] });
        }
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        if crc32(&bytes[..60]) != short(60) {
            return Err(StateError::corrupt("the checksum of its trailer does not match"));
        }
        let (rows, keys, base, offset) = (long(8), long(16), long(24), long(32));
        let (entries, shift, body_crc, footer_crc) = (short(40), short(44), short(52), short(56));
        Ok(Self { rows, keys, base, shift, offset, entries, body_crc, footer_crc })
    }

    fn numbers(&self) -> DirectoryNumbers {
        DirectoryNumbers { base: self.base, shift: self.shift, keys: self.keys as usize }
    }
}

/// The trailer and where it begins, once all bytes have been checked against their checksums.
fn read_trailer(file: &[u8]) -> Result<(Trailer, usize), StateError> {
    let short = || StateError::corrupt(format!("it is cut off after {} bytes", file.len()));
    let tail_start = file.len().checked_sub(ARROW_TAIL).ok_or_else(short)?;
    let tail: [u8; ARROW_TAIL] = file[tail_start..].try_into().expect("as many bytes");
    let footer_length = read_footer_length(tail).map_err(|_| short())?;
    let footer_start = tail_start.checked_sub(footer_length).ok_or_else(short)?;
    let start = footer_start.checked_sub(TRAILER).ok_or_else(short)?;
    let trailer = Trailer::decode(&file[start..footer_start])?;
    if crc32(&file[footer_start..]) != trailer.footer_crc {
        return Err(StateError::corrupt("the checksum of its footer does not match"));
    }
    if crc32(&file[..start]) != trailer.body_crc {
        return Err(StateError::corrupt("the checksum of its rows does not match"));
    }
    let directory_end = trailer.offset.checked_add(u64::from(trailer.entries) * 4);
    if trailer.offset % 4 != 0 || directory_end.is_none_or(|end| end > start as u64) {
        return Err(StateError::corrupt("its directory lies outside of it"));
    }
    Ok((trailer, start))
}

fn read_batch(file: &Buffer, trailer_start: usize) -> Result<RecordBatch, StateError> {
    let arrow = |error: ArrowError| StateError::corrupt(format!("Arrow says: {error}"));
    let tail_start = file.len() - ARROW_TAIL;
    let footer = root_as_footer(&file[trailer_start + TRAILER..tail_start])
        .map_err(|error| StateError::corrupt(format!("its footer does not parse: {error}")))?;
    let schema = footer.schema().ok_or_else(|| StateError::corrupt("its footer has no schema"))?;
    let schema = Arc::new(arrow::ipc::convert::fb_to_schema(schema));
    let blocks = footer.recordBatches().filter(|blocks| blocks.len() == 1);
    let block = blocks.ok_or_else(|| StateError::corrupt("it does not have one record batch"))?.get(0);
    let start = usize::try_from(block.offset()).ok();
    let length = i64::from(block.metaDataLength()).checked_add(block.bodyLength()).map(usize::try_from);
    let (Some(start), Some(Ok(length))) = (start, length) else {
        return Err(StateError::corrupt("its record batch has no place"));
    };
    if start.checked_add(length).is_none_or(|end| end > trailer_start) {
        return Err(StateError::corrupt("its record batch lies outside of it"));
    }
    let decoder = FileDecoder::new(schema, footer.version());
    let batch = decoder.read_record_batch(block, &file.slice_with_length(start, length)).map_err(arrow)?;
    batch.ok_or_else(|| StateError::corrupt("its record batch is empty"))
}

fn stored_key(batch: &RecordBatch) -> Result<Vec<usize>, StateError> {
    let schema = batch.schema();
    let text = schema.metadata().get(KEY).map_or("", String::as_str);
    let columns = text.split(',').filter(|column| !column.is_empty()).map(|column| column.parse().ok());
    columns.collect::<Option<_>>().ok_or_else(|| StateError::corrupt(format!("its key ({text}) is no list of columns")))
}

fn check_key(stored: &[usize], expected: &[usize]) -> Result<(), StateError> {
    if stored == expected {
        return Ok(());
    }
    let reason = format!("it is keyed by columns ({}), not ({})", key_text(stored), key_text(expected));
    Err(StateError::OtherRelation { file: String::new(), reason })
}

/// The batch's own columns; the key in the metadata belongs to the file.
fn without_metadata(batch: &RecordBatch) -> SchemaRef {
    Arc::new(Schema::new(batch.schema().fields().clone()))
}

fn take_hashes(batch: &mut RecordBatch, rows: u64) -> Result<ScalarBuffer<u64>, StateError> {
    let is_hash = |field: &Arc<Field>| field.name() == HASH && *field.data_type() == DataType::UInt64;
    if !batch.schema().fields().last().is_some_and(is_hash) {
        return Err(StateError::corrupt("it has no column of hashes"));
    }
    let hashes = batch.remove_column(batch.num_columns() - 1).as_primitive::<UInt64Type>().values().clone();
    if hashes.len() as u64 != rows || !hashes.is_sorted() {
        return Err(StateError::corrupt("its hashes do not rise or are not as many as its rows"));
    }
    Ok(hashes)
}

/// The stored columns under the relation's schema: names may have changed, types not.
fn own_columns(batch: &RecordBatch, schema: &SchemaRef, rows: usize) -> Result<RecordBatch, StateError> {
    let types = |schema: &Schema| -> String {
        schema.fields().iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>().join(", ")
    };
    let (stored, expected) = (types(&batch.schema()), types(schema));
    if stored != expected {
        let reason = format!("it has columns ({stored}), not ({expected})");
        return Err(StateError::OtherRelation { file: String::new(), reason });
    }
    let with_schema = |column: &ArrayRef| column.null_count() == 0;
    if let Some(index) = (0..schema.fields().len())
        .find(|index| !schema.field(*index).is_nullable() && !with_schema(batch.column(*index)))
    {
        let reason = format!("its column {index} has NULLs where the relation has none");
        return Err(StateError::OtherRelation { file: String::new(), reason });
    }
    Ok(batch_of(schema, batch.columns().to_vec(), rows))
}
