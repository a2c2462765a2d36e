//! One immutable piece of an arrangement: distinct rows in order of their key hash.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;

use crate::zset::{Rows, Weight, consolidate, row_hashes};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Rows sorted by the 64-bit hash of their key, each row once, none with weight 0. Never changes.
#[derive(Debug)]
pub struct Run {
    id: u64,
    key: Vec<usize>,
    rows: Rows,
    hashes: ScalarBuffer<u64>,
    /// The name of the file that holds this run, once written.
    pub file: OnceLock<String>,
}

impl Run {
    /// Sorts rows of any weights by the hash of the columns `key`.
    pub fn build(rows: &Rows, key: &[usize]) -> Self {
        let columns = key_columns(rows.batch(), key);
        Self::build_hashed(rows, key, &row_hashes(&columns, rows.len()))
    }

    /// The same with the key hashes given.
    pub fn build_hashed(rows: &Rows, key: &[usize], hashes: &[u64]) -> Self {
        let sorted = |rows: &Rows, hashes: &[u64]| {
            let mut order: Vec<u32> = (0..rows.len() as u32).collect();
            order.sort_by_key(|row| hashes[*row as usize]);
            let hashes: Vec<u64> = order.iter().map(|row| hashes[*row as usize]).collect();
            (rows.take(&UInt32Array::from(order)), hashes)
        };
        let (rows, hashes) = match rows.is_consolidated() {
            true => sorted(rows, hashes),
            false => {
                let hashes = arrow::array::UInt64Array::from(hashes.to_vec());
                let mut columns = rows.batch().columns().to_vec();
                columns.push(std::sync::Arc::new(hashes));
                let mut fields = rows.schema().fields().to_vec();
                fields.push(std::sync::Arc::new(arrow::datatypes::Field::new(
                    "",
                    arrow::datatypes::DataType::UInt64,
                    false,
                )));
                let wide = RecordBatch::try_new(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), columns);
                let wide = consolidate(&Rows::new(wide.expect("one hash for every row"), rows.weights().cloned()));
                let (batch, weights) = wide.into_parts();
                let last = batch.num_columns() - 1;
                let hashes =
                    arrow::array::AsArray::as_primitive::<arrow::datatypes::UInt64Type>(batch.column(last)).clone();
                let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let batch =
                    RecordBatch::try_new_with_options(rows.schema(), batch.columns()[..last].to_vec(), &options);
                sorted(&Rows::new(batch.expect("the columns are as before"), weights), hashes.values())
            }
        };
        Self::from_sorted(rows, key.to_vec(), hashes.into())
    }

    /// Takes rows that are sorted and distinct already.
    pub(super) fn from_sorted(rows: Rows, key: Vec<usize>, hashes: ScalarBuffer<u64>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, key, rows: rows.assume_consolidated(), hashes, file: OnceLock::new() }
    }

    /// The rows whose key hash lies between two hashes, both included. Shares the memory.
    pub fn slice(&self, from_hash: u64, to_hash: u64) -> Self {
        let start = self.hashes.partition_point(|hash| *hash < from_hash);
        let end = self.hashes.partition_point(|hash| *hash <= to_hash).max(start);
        Self::from_sorted(self.rows.slice(start, end - start), self.key.clone(), self.hashes.slice(start, end - start))
    }

    /// A number that no other run of this process has.
    pub fn id(&self) -> u64 {
        self.id
    }
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
    pub fn key(&self) -> &[usize] {
        &self.key
    }
    /// The rows, distinct, in order of their key hash.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }
    pub fn batch(&self) -> &RecordBatch {
        self.rows.batch()
    }
    /// The key hash of each row, ascending.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }
    pub fn weights(&self) -> Option<&Int64Array> {
        self.rows.weights()
    }
    pub fn weight(&self, row: usize) -> Weight {
        self.rows.weight(row)
    }
    pub fn key_columns(&self) -> Vec<ArrayRef> {
        key_columns(self.batch(), &self.key)
    }
    pub fn len(&self) -> usize {
        self.rows.len()
    }
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
    /// Bytes of memory that the run holds.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.hashes.len() * 8
    }
}

pub(super) fn key_columns(batch: &RecordBatch, key: &[usize]) -> Vec<ArrayRef> {
    key.iter().map(|column| batch.column(*column).clone()).collect()
}
