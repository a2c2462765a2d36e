//! An arrangement as of one moment: a list of shared runs that readers hold without a lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::combine::Combine;
use super::gather::{Picks, Span};
use super::merge::Walk;
use super::probe::Probe;
use super::run::Run;
use super::touched::touch;
use crate::zset::{Rows, Weight, weights_add};

/// For every match one row.
///
/// `probe[i]` is the index of the key asked for, ascending; rows of one key are consolidated (several runs summed,
/// no zero weights), in no particular order. Key equality is SQL grouping's: NULL = NULL, -0.0 = 0.0, NaN = NaN.
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
    /// Where the arrangement that this comes from counts the keys looked for, so that much reading leads to merging.
    probed: Option<Arc<AtomicU64>>,
}

impl Snapshot {
    pub(super) fn new(schema: SchemaRef, key: Arc<[usize]>, runs: Vec<Arc<Run>>) -> Self {
        Self { schema, key, runs: runs.into(), probed: None }
    }
    pub(super) fn counting(self, probed: Arc<AtomicU64>) -> Self {
        Self { probed: Some(probed), ..self }
    }
    fn count(&self, keys: usize) {
        if let Some(probed) = &self.probed {
            probed.fetch_add(keys as u64, Ordering::Relaxed);
        }
    }
    pub fn empty(schema: SchemaRef, key: Vec<usize>) -> Self {
        Self::new(schema, key.into(), Vec::new())
    }
    /// One snapshot of the shares of several workers. `parts` is not empty.
    ///
    /// Reading it does not lead to merging: when a worker merges depends on its steps alone, not on who reads meanwhile.
    pub fn merged(parts: &[Snapshot]) -> Self {
        let first = parts.first().expect("there is at least one worker");
        let runs = parts.iter().flat_map(|part| part.runs.iter().cloned()).collect();
        Self::new(first.schema.clone(), first.key.clone(), runs)
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
    /// Bytes held of the process's own memory.
    pub fn bytes(&self) -> usize {
        self.runs.iter().map(|run| run.heap_bytes()).sum()
    }
    /// All rows of the given keys; `hashes` are the `row_hashes` of `keys`.
    pub fn lookup(&self, keys: &[ArrayRef], hashes: &[u64]) -> Matches {
        self.count(hashes.len());
        lookup(&self.schema, &self.key, &self.runs, keys, hashes)
    }
    /// For each of the given keys the sum of the weights of its rows: 0 if there is none.
    pub fn weights(&self, keys: &[ArrayRef], hashes: &[u64]) -> Vec<Weight> {
        self.count(hashes.len());
        weights(&self.runs, keys, hashes)
    }
    /// All rows, consolidated, in order of key hash, in batches of at most `rows_max` rows.
    pub fn batches(&self, rows_max: usize) -> impl Iterator<Item = Rows> + Send + use<> {
        assert!(rows_max > 0, "a batch has room for a row");
        Batches {
            schema: self.schema.clone(),
            rows_max,
            clusters: clusters(&self.runs),
            walk: None,
            ready: Rows::empty(self.schema.clone()),
        }
    }
    /// All rows, consolidated, in order of key hash.
    pub fn collect(&self) -> Rows {
        let parts: Vec<Rows> = self.batches(usize::MAX).collect();
        Rows::concat(&self.schema, &parts).assume_consolidated()
    }
}

pub(super) fn lookup(
    schema: &SchemaRef,
    key: &[usize],
    runs: &[Arc<Run>],
    keys: &[ArrayRef],
    hashes: &[u64],
) -> Matches {
    let sources: Vec<&Rows> = runs.iter().map(|run| run.rows()).collect();
    let (mut combine, mut picks) = (Combine::of_distinct(), Picks::default());
    let (mut probe, mut parts): (Vec<u32>, Vec<Span>) = (Vec::new(), Vec::new());
    Probe::new(runs, keys, hashes).each(|index, hits| {
        if hits.iter().all(|hit| hit.span.source == hits[0].span.source) {
            hits.iter().for_each(|hit| picks.push(&sources, hit.span));
        } else {
            parts.clear();
            parts.extend(hits.iter().map(|hit| hit.span));
            combine.combine(&sources, key, &parts, &mut picks);
        }
        touch(hits.iter().map(|hit| hit.span.len as usize).sum());
        probe.resize(picks.rows, index);
    });
    Matches { probe, rows: picks.gather(schema, &sources) }
}

pub(super) fn weights(runs: &[Arc<Run>], keys: &[ArrayRef], hashes: &[u64]) -> Vec<Weight> {
    let mut sums = vec![0; hashes.len()];
    Probe::new(runs, keys, hashes).each(|index, hits| {
        let rows = hits.iter().flat_map(|hit| {
            let run = &runs[hit.span.source as usize];
            (hit.span.start..hit.span.start + hit.span.len).map(|row| run.weight(row as usize))
        });
        sums[index as usize] = rows.fold(0, weights_add);
        touch(hits.iter().map(|hit| hit.span.len as usize).sum());
    });
    sums
}

/// Runs in groups such that all hashes of a group are below all hashes of the next: the shares of workers, say.
fn clusters(runs: &[Arc<Run>]) -> VecDeque<Vec<Arc<Run>>> {
    let bounds = |run: &Run| Some((*run.hashes().first()?, *run.hashes().last()?));
    let mut bounded: Vec<_> = runs.iter().filter_map(|run| Some((bounds(run)?, run.clone()))).collect();
    bounded.sort_by_key(|((first, _), _)| *first);
    let mut clusters: VecDeque<(u64, Vec<Arc<Run>>)> = VecDeque::new();
    for ((first, last), run) in bounded {
        match clusters.back_mut() {
            Some((end, cluster)) if first <= *end => {
                cluster.push(run);
                *end = last.max(*end);
            }
            _ => clusters.push_back((last, vec![run])),
        }
    }
    clusters.into_iter().map(|(_, cluster)| cluster).collect()
}

struct Batches {
    schema: SchemaRef,
    rows_max: usize,
    clusters: VecDeque<Vec<Arc<Run>>>,
    walk: Option<Walk>,
    /// Rows to be given before the walk goes on: a key of many rows comes as a whole.
    ready: Rows,
}

impl Iterator for Batches {
    type Item = Rows;

    fn next(&mut self) -> Option<Rows> {
        while self.ready.is_empty() {
            let mut walk = match self.walk.take() {
                Some(walk) => walk,
                None => Walk::new(self.clusters.pop_front()?),
            };
            let (mut picks, mut hashes) = (Picks::default(), Vec::new());
            let more = walk.advance(self.rows_max, &mut picks, &mut hashes);
            self.ready = picked(&self.schema, &walk, &mut picks);
            self.walk = more.then_some(walk);
        }
        let rows = self.ready.slice(0, self.rows_max.min(self.ready.len()));
        self.ready = self.ready.slice(rows.len(), self.ready.len() - rows.len());
        touch(rows.len());
        Some(rows.assume_consolidated())
    }
}

/// The picked rows, shared if they lie together in one run.
fn picked(schema: &SchemaRef, walk: &Walk, picks: &mut Picks) -> Rows {
    if let ([span], false) = (picks.spans.as_slice(), picks.reweighted) {
        return walk.runs()[span.source as usize].rows().slice(span.start as usize, span.len as usize);
    }
    let sources: Vec<&Rows> = walk.runs().iter().map(|run| run.rows()).collect();
    picks.gather(schema, &sources)
}
