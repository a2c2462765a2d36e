//! One relation kept by key hash: absorbs deltas, answers for keys, gives snapshots.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::gather::batch_of;
use super::run::{Run, key_columns};
use super::snapshot::{self, Matches, Snapshot};
use super::spine::Spine;
use super::touched::touch;
use crate::zset::{Rows, Weight, row_hashes};

/// A Z-set kept by the hash of some columns. One owner writes; readers hold [`Snapshot`]s.
pub struct Arrangement {
    schema: SchemaRef,
    key: Arc<[usize]>,
    spine: Spine,
    /// Keys looked for so far, here and in snapshots: who reads much pays for few runs.
    probed: Arc<AtomicU64>,
}

impl Arrangement {
    /// Nothing yet. `key` are the columns to find rows by; none means that all rows have one key.
    pub fn new(schema: SchemaRef, key: Vec<usize>) -> Self {
        Self::restore(schema, key, Vec::new())
    }

    /// Takes up runs that arrangements of the same columns and key gave, and shares them.
    pub fn restore(schema: SchemaRef, key: Vec<usize>, runs: Vec<Arc<Run>>) -> Self {
        let key: Arc<[usize]> = key.into();
        assert!(runs.iter().all(|run| run.key() == &*key), "runs are restored under the key they were built for");
        Self { spine: Spine::new(schema.clone(), key.clone(), runs), schema, key, probed: Arc::default() }
    }

    /// Adds rows of any weights: equal rows merge, and those whose weights cancel vanish.
    pub fn absorb(&mut self, rows: &Rows) {
        let hashes = row_hashes(&key_columns(rows.batch(), &self.key), rows.len());
        self.absorb_hashed(rows, &hashes);
    }

    /// The same with the key hashes given.
    pub fn absorb_hashed(&mut self, rows: &Rows, key_hashes: &[u64]) {
        touch(rows.len());
        let run = match Arc::ptr_eq(&rows.schema(), &self.schema) {
            true => Run::sorted(rows, self.key.clone(), key_hashes),
            false => Run::sorted(&self.with_own_schema(rows), self.key.clone(), key_hashes),
        };
        self.spine.push(run, self.probed.load(Ordering::Relaxed));
    }

    fn with_own_schema(&self, rows: &Rows) -> Rows {
        let batch = batch_of(&self.schema, rows.batch().columns().to_vec(), rows.len());
        let flagged = rows.is_consolidated();
        let rows = rows.with_batch(batch);
        if flagged { rows.assume_consolidated() } else { rows }
    }

    /// Merges about so many more rows if any merge is under way: for moments when nothing else is to do. True if there
    /// is more.
    pub fn work(&mut self, rows: usize) -> bool {
        self.spine.work(rows, self.probed.load(Ordering::Relaxed))
    }

    /// All rows of the given keys; `hashes` are the `row_hashes` of `keys`.
    pub fn lookup(&self, keys: &[ArrayRef], hashes: &[u64]) -> Matches {
        self.probed.fetch_add(hashes.len() as u64, Ordering::Relaxed);
        snapshot::lookup(&self.schema, &self.key, self.spine.runs(), keys, hashes)
    }

    /// For each of the given keys the sum of the weights of its rows: 0 if there is none.
    pub fn weights(&self, keys: &[ArrayRef], hashes: &[u64]) -> Vec<Weight> {
        self.probed.fetch_add(hashes.len() as u64, Ordering::Relaxed);
        snapshot::weights(self.spine.runs(), keys, hashes)
    }

    pub fn snapshot(&self) -> Snapshot {
        let runs = self.spine.runs().to_vec();
        Snapshot::new(self.schema.clone(), self.key.clone(), runs).counting(self.probed.clone())
    }

    /// Puts another form of the same rows (read back from its file, say) in the place of the run with this id. False
    /// if that run is gone or being merged.
    pub fn replace(&mut self, id: u64, run: Arc<Run>) -> bool {
        self.spine.replace(id, run)
    }

    /// The same for all runs that `mapped` has by their ids. True if there was one.
    pub fn spill(&mut self, mapped: &HashMap<u64, Arc<Run>>) -> bool {
        let found: Vec<(u64, Arc<Run>)> =
            self.runs().iter().filter_map(|run| Some((run.id(), mapped.get(&run.id())?.clone()))).collect();
        found.into_iter().fold(false, |any, (id, run)| self.replace(id, run) || any)
    }

    pub fn runs(&self) -> &[Arc<Run>] {
        self.spine.runs()
    }
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    pub fn key(&self) -> &[usize] {
        &self.key
    }
    /// Rows held; those that cancel each other but are not merged yet are counted too.
    pub fn rows(&self) -> usize {
        self.runs().iter().map(|run| run.len()).sum()
    }
    /// Bytes held of the process's own memory.
    pub fn bytes(&self) -> usize {
        self.runs().iter().map(|run| run.heap_bytes()).sum()
    }
}

impl fmt::Debug for Arrangement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs: Vec<usize> = self.runs().iter().map(|run| run.len()).collect();
        f.debug_struct("Arrangement").field("key", &self.key).field("rows", &runs).finish()
    }
}
