//! One immutable piece of an arrangement: distinct rows in order of their key hash.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take;
use arrow::datatypes::{ByteViewType, DataType, SchemaRef};

use super::checkpoint::RunFile;
use super::combine::Combine;
use super::directory::Directory;
use super::gather::{Picks, Span, batch_of};
use crate::zset::{Rows, Weight, row_hashes, sort_by_hash};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Rows sorted by the 64-bit hash of their key, each row once, none with weight 0. Never changes.
#[derive(Debug)]
pub struct Run {
    id: u64,
    key: Arc<[usize]>,
    rows: Rows,
    hashes: ScalarBuffer<u64>,
    directory: Directory,
    /// True if the rows lie in a file that is mapped into memory.
    mapped: bool,
    bytes: OnceLock<usize>,
    /// The file that holds this run, once written.
    pub file: OnceLock<RunFile>,
}

impl Run {
    /// Sorts rows of any weights by the hash of the columns `key`.
    pub fn build(rows: &Rows, key: &[usize]) -> Self {
        Self::build_hashed(rows, key, &row_hashes(&key_columns(rows.batch(), key), rows.len()))
    }

    /// The same with the key hashes given.
    pub fn build_hashed(rows: &Rows, key: &[usize], hashes: &[u64]) -> Self {
        Self::sorted(rows, key.into(), hashes)
    }

    pub(super) fn sorted(rows: &Rows, key: Arc<[usize]>, hashes: &[u64]) -> Self {
        assert_eq!(rows.len(), hashes.len(), "every row has one hash");
        let (sorted, hashes) = sort(rows, hashes);
        let (rows, hashes) = match rows.is_consolidated() {
            true => (sorted, hashes),
            false => merge_equal(sorted, hashes, &key),
        };
        let keys = hashes.chunk_by(|a, b| a == b).count();
        let directory = Directory::build(&hashes, keys);
        Self::from_parts(rows, key, hashes.into(), directory)
    }

    /// Takes rows that are sorted and distinct already.
    pub(super) fn from_parts(rows: Rows, key: Arc<[usize]>, hashes: ScalarBuffer<u64>, directory: Directory) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let (bytes, file) = (OnceLock::new(), OnceLock::new());
        Self { id, key, rows: rows.assume_consolidated(), hashes, directory, mapped: false, bytes, file }
    }

    pub(super) fn set_mapped(self) -> Self {
        Self { mapped: true, ..self }
    }

    /// The rows whose key hash lies between two hashes, both included. Shares the memory.
    pub fn slice(&self, from_hash: u64, to_hash: u64) -> Self {
        let start = self.hashes.partition_point(|hash| *hash < from_hash);
        let end = self.hashes.partition_point(|hash| *hash <= to_hash).max(start);
        let (rows, hashes) = (self.rows.slice(start, end - start), self.hashes.slice(start, end - start));
        let directory = self.directory.slice(start, end);
        Self { mapped: self.mapped, ..Self::from_parts(rows, self.key.clone(), hashes, directory) }
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
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }
    pub(super) fn hash_buffer(&self) -> &ScalarBuffer<u64> {
        &self.hashes
    }
    /// True if the rows lie in a mapped file, so that the system can take their memory back.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }
    /// Bytes of all rows, hashes and weights.
    pub fn bytes(&self) -> usize {
        *self.bytes.get_or_init(|| {
            let columns = self.batch().columns().iter();
            let columns: usize = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
            columns + self.len() * if self.weights().is_some() { 16 } else { 8 } + self.directory.bytes()
        })
    }
    /// Bytes that the run holds of the process's own memory.
    pub fn heap_bytes(&self) -> usize {
        if self.mapped { 0 } else { self.bytes() }
    }
}

pub(super) fn key_columns(batch: &RecordBatch, key: &[usize]) -> Vec<ArrayRef> {
    key.iter().map(|column| batch.column(*column).clone()).collect()
}

/// Rows and hashes in order of hash. The rows are copied unless they are in order and fill their memory.
fn sort(rows: &Rows, hashes: &[u64]) -> (Rows, Vec<u64>) {
    if hashes.is_sorted() && rows.len() > 1024 && !wasteful(rows) {
        return (rows.clone(), hashes.to_vec());
    }
    let order = sort_by_hash(hashes);
    let indices = UInt32Array::from_iter_values(order.iter().map(|row| row.row));
    let columns = rows.batch().columns().iter();
    let columns = columns.map(|column| compacted(take(column, &indices, None).expect("every row is there once")));
    let batch = batch_of(&rows.schema(), columns.collect(), rows.len());
    let weights = rows.weights().map(|weights| order.iter().map(|row| weights.value(row.row as usize)).collect());
    (Rows::new(batch, weights), order.iter().map(|row| row.hash).collect())
}

/// True if the rows are a small part of the memory that they hold.
fn wasteful(rows: &Rows) -> bool {
    let columns = rows.batch().columns();
    let used: usize = columns.iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    columns.iter().any(has_loose_strings) || rows.batch().get_array_memory_size() > 2 * used + 4096
}

/// The column with its strings copied together if they are a small part of the buffers that they lie in.
pub(super) fn compacted(column: ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8View if has_loose_strings(&column) => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView if has_loose_strings(&column) => Arc::new(column.as_binary_view().gc()),
        _ => column,
    }
}

fn has_loose_strings(column: &ArrayRef) -> bool {
    fn loose<T: ByteViewType>(views: &GenericByteViewArray<T>) -> bool {
        let held: usize = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
        held > 0 && held > 2 * views.total_buffer_bytes_used()
    }
    match column.data_type() {
        DataType::Utf8View => loose(column.as_string_view()),
        DataType::BinaryView => loose(column.as_binary_view()),
        _ => false,
    }
}

/// Sorted rows with equal ones merged.
fn merge_equal(rows: Rows, hashes: Vec<u64>, key: &[usize]) -> (Rows, Vec<u64>) {
    let has_zero = rows.weights().is_some_and(|weights| weights.values().contains(&0));
    if !has_zero && hashes.windows(2).all(|pair| pair[0] != pair[1]) {
        return (rows, hashes);
    }
    let (mut combine, mut picks, mut kept) = (Combine::default(), Picks::default(), Vec::with_capacity(hashes.len()));
    let mut start = 0;
    for group in hashes.chunk_by(|a, b| a == b) {
        let span = Span { source: 0, start, len: group.len() as u32 };
        start += span.len;
        match (group.len(), rows.weight(span.start as usize)) {
            (1, 0) => {}
            (1, _) => picks.push(&[&rows], span),
            _ => combine.combine(&[&rows], key, &[span], &mut picks),
        }
        kept.resize(picks.rows, group[0]);
    }
    if picks.rows == rows.len() && !picks.reweighted {
        return (rows, hashes);
    }
    (picks.gather(&rows.schema(), &[&rows]), kept)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::zset::{parse_rows, pretty_rows};

    #[test]
    fn equal_rows_are_merged_and_the_rest_is_sorted_by_hash() {
        let text = "+1 | 1 | a\n+1 | 2 | b\n+1 | 1 | a\n-1 | 2 | b\n+1 | 3 | c\n+0 | 4 | d\n+1 | 1 | z";
        let run = Run::build(&parse_rows("k INT, s TEXT", text), &[0]);
        expect![[r#"
            +1 | 1 | z
            +1 | 3 | c
            +2 | 1 | a"#]]
        .assert_eq(&pretty_rows(run.rows()));
        assert!(run.hashes().is_sorted());
        assert_eq!(run.hashes(), row_hashes(&run.key_columns(), run.len()));
    }

    #[test]
    fn a_slice_holds_the_rows_of_its_hashes() {
        let rows = parse_rows("k INT", &(0..100).map(|k| format!("+1 | {k}\n")).collect::<String>());
        let run = Run::build(&rows, &[0]);
        let (from, to) = (run.hashes()[20], run.hashes()[60]);
        let slice = run.slice(from, to);
        assert_eq!(slice.hashes(), &run.hashes()[20..=60]);
        assert_eq!(run.slice(to, from).len(), 0);
        assert_eq!(run.slice(0, u64::MAX).len(), 100);
    }

    #[test]
    fn a_few_long_strings_do_not_hold_the_buffer_of_many() {
        let long = |k| format!("+1 | {k} | {k} is a number that is written out in words\n");
        let rows = parse_rows("k INT, s TEXT", &(0..2000).map(long).collect::<String>());
        let few = Run::build(&rows.slice(7, 3), &[0]);
        assert!(few.bytes() < 1000, "{} bytes", few.bytes());
        assert!(few.batch().get_array_memory_size() < 5000, "{} bytes", few.batch().get_array_memory_size());
    }
}
