//! An arrangement as of one moment: a list of shared runs that readers hold without a lock.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use super::key::{KeyMatcher, RowMatcher};
use super::run::{Run, key_columns};
use crate::zset::{Rows, Weight, row_hashes, weights_add};

/// For every match one row.
///
/// `probe[i]` is the index of the key asked for, ascending; rows of one key are consolidated (several runs summed,
/// no zero weights). Key equality is SQL grouping's: NULL = NULL, -0.0 = 0.0, NaN = NaN.
#[derive(Debug, Clone)]
pub struct Matches {
    pub probe: Vec<u32>,
    pub rows: Rows,
}

/// All runs of an arrangement at one moment. Cheap to clone; holds the memory of its runs.
#[derive(Debug, Clone)]
pub struct Snapshot {
    schema: SchemaRef,
    key: Arc<[usize]>,
    runs: Arc<[Arc<Run>]>,
}

impl Snapshot {
    pub fn new(schema: SchemaRef, key: &[usize], runs: Vec<Arc<Run>>) -> Self {
        Self { schema, key: key.into(), runs: runs.into() }
    }
    pub fn empty(schema: SchemaRef, key: Vec<usize>) -> Self {
        Self::new(schema, &key, Vec::new())
    }
    /// One snapshot of the shares of several workers. `parts` is not empty.
    pub fn merged(parts: &[Snapshot]) -> Self {
        let first = parts.first().expect("there is at least one worker");
        let runs = parts.iter().flat_map(|part| part.runs.iter().cloned()).collect();
        Self::new(first.schema.clone(), &first.key, runs)
    }
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    pub fn key(&self) -> &[usize] {
        &self.key
    }
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }
    /// Rows held; those that cancel each other in different runs are counted too.
    pub fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes()).sum()
    }
    /// All rows of the given keys; `hashes` are the `row_hashes` of `keys`.
    pub fn lookup(&self, keys: &[ArrayRef], hashes: &[u64]) -> Matches {
        lookup(&self.schema, &self.key, &self.runs, keys, hashes)
    }
    /// All rows, consolidated, in order of key hash, in batches of at most `rows_max` rows.
    pub fn batches(&self, rows_max: usize) -> impl Iterator<Item = Rows> + Send + use<> {
        let all = self.collect();
        (0..all.len()).step_by(rows_max).map(move |start| all.slice(start, rows_max.min(all.len() - start)))
    }
    /// All rows, consolidated, in order of key hash.
    pub fn collect(&self) -> Rows {
        let all = Rows::concat(&self.schema, &self.runs.iter().map(|run| run.rows().clone()).collect::<Vec<_>>());
        Run::build(&Rows::new(all.batch().clone(), all.weights().cloned()), &self.key).rows().clone()
    }
}

pub(super) fn lookup(
    schema: &SchemaRef,
    key: &[usize],
    runs: &[Arc<Run>],
    keys: &[ArrayRef],
    hashes: &[u64],
) -> Matches {
    let matchers: Vec<KeyMatcher> =
        runs.iter().map(|run| KeyMatcher::new(keys, &key_columns(run.batch(), key))).collect();
    let (mut probe, mut places, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (index, hash) in hashes.iter().enumerate() {
        for (source, run) in runs.iter().enumerate() {
            let start = run.hashes().partition_point(|other| other < hash);
            for row in (start..run.len()).take_while(|row| run.hashes()[*row] == *hash) {
                if matchers[source].equal(index, row) {
                    probe.push(index as u32);
                    places.push((source, row));
                    weights.push(run.weight(row));
                }
            }
        }
    }
    let rows = gather(schema, runs, &places, weights);
    if runs.len() < 2 { Matches { probe, rows } } else { consolidate_keys(probe, &rows) }
}

fn gather(schema: &SchemaRef, runs: &[Arc<Run>], places: &[(usize, usize)], weights: Vec<Weight>) -> Rows {
    if places.is_empty() {
        return Rows::empty(schema.clone());
    }
    let column = |index: usize| {
        let sources: Vec<_> = runs.iter().map(|run| run.batch().column(index).as_ref()).collect();
        interleave(&sources, places).expect("runs of one arrangement have one schema")
    };
    let columns = (0..schema.fields().len()).map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("columns fit the schema");
    Rows::new(batch, Some(Int64Array::from(weights)))
}

fn consolidate_keys(probe: Vec<u32>, rows: &Rows) -> Matches {
    let columns = rows.batch().columns();
    let (hashes, same) = (row_hashes(columns, rows.len()), RowMatcher::new(columns, columns));
    let (mut kept, mut weights) = (Vec::new(), Vec::new());
    let mut start = 0;
    for group in probe.chunk_by(|a, b| a == b) {
        let first = kept.len();
        for row in start..start + group.len() {
            let equal = |other: &u32| hashes[*other as usize] == hashes[row] && same.equal(*other as usize, row);
            match kept[first..].iter().position(equal) {
                Some(place) => weights[first + place] = weights_add(weights[first + place], rows.weight(row)),
                None => {
                    kept.push(row as u32);
                    weights.push(rows.weight(row));
                }
            }
        }
        start += group.len();
    }
    let alive: Vec<usize> = (0..kept.len()).filter(|index| weights[*index] != 0).collect();
    let indices: Vec<u32> = alive.iter().map(|index| kept[*index]).collect();
    let (batch, _) = rows.take(&indices.clone().into()).into_parts();
    let weights: Vec<Weight> = alive.iter().map(|index| weights[*index]).collect();
    let probe = indices.iter().map(|row| probe[*row as usize]).collect();
    Matches { probe, rows: Rows::new(batch, Some(Int64Array::from(weights))) }
}
