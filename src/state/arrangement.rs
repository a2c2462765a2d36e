//! One relation kept by key hash: absorbs deltas, answers for keys, gives snapshots.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::run::{Run, key_columns};
use super::snapshot::{Matches, Snapshot, lookup};
use crate::zset::{Rows, row_hashes};

/// A Z-set kept by the hash of some columns. One owner writes; readers hold [`Snapshot`]s.
#[derive(Debug)]
pub struct Arrangement {
    schema: SchemaRef,
    key: Vec<usize>,
    runs: Vec<Arc<Run>>,
}

impl Arrangement {
    /// Nothing yet. `key` are the columns to find rows by; none means that all rows have one key.
    pub fn new(schema: SchemaRef, key: Vec<usize>) -> Self {
        Self::restore(schema, key, Vec::new())
    }
    /// Takes up runs that an arrangement of the same columns and key gave.
    pub fn restore(schema: SchemaRef, key: Vec<usize>, runs: Vec<Arc<Run>>) -> Self {
        Self { schema, key, runs: runs.into_iter().filter(|run| !run.is_empty()).collect() }
    }
    /// Adds rows of any weights: equal rows merge, and those whose weights cancel vanish.
    pub fn absorb(&mut self, rows: &Rows) {
        let hashes = row_hashes(&key_columns(rows.batch(), &self.key), rows.len());
        self.absorb_hashed(rows, &hashes);
    }
    /// The same with the key hashes given.
    pub fn absorb_hashed(&mut self, rows: &Rows, key_hashes: &[u64]) {
        if rows.is_empty() {
            return;
        }
        self.runs.push(Arc::new(Run::build_hashed(rows, &self.key, key_hashes)));
        if self.runs.len() > 8 {
            let all = self.snapshot().collect();
            self.runs = vec![Arc::new(Run::build(&all, &self.key))];
        }
    }
    /// All rows of the given keys; `hashes` are the `row_hashes` of `keys`.
    pub fn lookup(&self, keys: &[ArrayRef], hashes: &[u64]) -> Matches {
        lookup(&self.schema, &self.key, &self.runs, keys, hashes)
    }
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.schema.clone(), &self.key, self.runs.clone())
    }
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    pub fn key(&self) -> &[usize] {
        &self.key
    }
    /// Rows held; those that cancel each other but are not merged yet are counted too.
    pub fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes()).sum()
    }
}
