//! Several runs in one order: as a walk in hash order, and as the making of one run, a bounded piece at a time.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;

use super::combine::Combine;
use super::directory::DirectoryBuilder;
use super::gather::{Picks, Sink, Span, Weights, batch_of, sink};
use super::probe::first_at_least;
use super::run::Run;
use crate::zset::Rows;

/// A place in each of several runs, all at the same hash.
pub(super) struct Walk {
    runs: Vec<Arc<Run>>,
    at: Vec<usize>,
    combine: Combine,
    parts: Vec<Span>,
}

/// A row of a run with its hash, while the rows of several runs are brought into one order.
#[derive(Clone, Copy)]
struct Entry {
    hash: u64,
    source: u32,
    row: u32,
}

/// The next rows of one run, those with hashes up to a bound that holds for all runs.
struct Chunk {
    source: usize,
    at: usize,
    end: usize,
}

/// Rows that are brought into order at a time: their hashes stay in the first-level cache.
const CHUNK: usize = 2048;

impl Walk {
    pub fn new(runs: Vec<Arc<Run>>) -> Self {
        let at = vec![0; runs.len()];
        Self { runs, at, combine: Combine::of_distinct(), parts: Vec::new() }
    }

    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Picks the next rows, consolidated, about as many as asked for, and their hashes. False at the end.
    ///
    /// `picks` and `hashes` belong together: as many hashes as rows.
    pub fn advance(&mut self, rows: usize, picks: &mut Picks, hashes: &mut Vec<u64>) -> bool {
        let runs = std::mem::take(&mut self.runs);
        let sources: Vec<&Rows> = runs.iter().map(|run| run.rows()).collect();
        let mut left = rows;
        while left > 0 {
            let mut chunks = self.next_chunks(&runs, left);
            let total: usize = chunks.iter().map(|chunk| chunk.end - chunk.at).sum();
            let most = chunks.iter().map(|chunk| chunk.end - chunk.at).max().unwrap_or(0);
            if total == 0 {
                break;
            }
            chunks.iter().for_each(|chunk| self.at[chunk.source] = chunk.end);
            if (total - most) * 8 < total {
                self.take_sparse(&runs, &sources, &mut chunks, picks, hashes);
            } else {
                self.take_dense(&runs, &sources, &chunks, picks, hashes);
            }
            left = left.saturating_sub(total);
        }
        drop(sources);
        self.runs = runs;
        self.at.iter().zip(&self.runs).any(|(at, run)| *at < run.len())
    }

    /// About `rows` next rows, or fewer if several runs have some: all rows up to a hash, hence all rows of each hash.
    fn next_chunks(&self, runs: &[Arc<Run>], rows: usize) -> Vec<Chunk> {
        let left: Vec<usize> = (0..runs.len()).filter(|source| self.at[*source] < runs[*source].len()).collect();
        if let [source] = left[..] {
            let at = self.at[source];
            return vec![Chunk { source, at, end: runs[source].len().min(at.saturating_add(rows)) }];
        }
        let total: usize = left.iter().map(|source| runs[*source].len() - self.at[*source]).sum();
        let bounds = left.iter().map(|source| {
            let (at, all) = (self.at[*source], runs[*source].hashes());
            let share = rows.min(CHUNK) as u128 * (all.len() - at) as u128 / total as u128;
            all[(at + share as usize).min(all.len() - 1)]
        });
        let bound = bounds.min().unwrap_or(u64::MAX);
        let chunk = |source: &usize| {
            let (at, all) = (self.at[*source], runs[*source].hashes());
            Chunk { source: *source, at, end: first_at_least(all, at, all.len(), |hash| hash > bound) }
        };
        left.iter().map(chunk).filter(|chunk| chunk.at < chunk.end).collect()
    }

    /// Takes rows most of which are in one run: whole pieces of it between the rows of the others.
    fn take_sparse(
        &mut self,
        runs: &[Arc<Run>],
        sources: &[&Rows],
        chunks: &mut Vec<Chunk>,
        picks: &mut Picks,
        hashes: &mut Vec<u64>,
    ) {
        while !chunks.is_empty() {
            let head = |chunk: &Chunk| runs[chunk.source].hashes()[chunk.at];
            let least = (0..chunks.len()).min_by_key(|index| head(&chunks[*index])).expect("there is a chunk");
            let hash = head(&chunks[least]);
            let others = || (0..chunks.len()).filter(|index| *index != least).map(|index| head(&chunks[index]));
            match others().min() {
                Some(limit) if limit == hash => self.take_together(runs, sources, hash, chunks, picks, hashes),
                limit => {
                    let chunk = &mut chunks[least];
                    let (start, all) = (chunk.at, runs[chunk.source].hashes());
                    let before = |limit| first_at_least(all, start, chunk.end, |hash| hash >= limit);
                    let end = limit.map_or(chunk.end, before);
                    let (source, len) = (chunk.source as u32, (end - start) as u32);
                    picks.push(sources, Span { source, start: start as u32, len });
                    hashes.extend_from_slice(&all[start..end]);
                    chunk.at = end;
                }
            }
            chunks.retain(|chunk| chunk.at < chunk.end);
        }
    }

    /// Takes the rows of a hash that several runs have.
    fn take_together(
        &mut self,
        runs: &[Arc<Run>],
        sources: &[&Rows],
        hash: u64,
        chunks: &mut [Chunk],
        picks: &mut Picks,
        hashes: &mut Vec<u64>,
    ) {
        self.parts.clear();
        for chunk in chunks {
            let (start, all) = (chunk.at, runs[chunk.source].hashes());
            chunk.at = first_at_least(all, start, chunk.end, |other| other > hash);
            if chunk.at > start {
                let (source, len) = (chunk.source as u32, (chunk.at - start) as u32);
                self.parts.push(Span { source, start: start as u32, len });
            }
        }
        self.combine.combine(sources, runs[0].key(), &self.parts, picks);
        hashes.resize(picks.rows, hash);
    }

    /// Takes rows that are spread over several runs, by merging two and two without a branch that depends on data.
    fn take_dense(
        &mut self,
        runs: &[Arc<Run>],
        sources: &[&Rows],
        chunks: &[Chunk],
        picks: &mut Picks,
        hashes: &mut Vec<u64>,
    ) {
        let entries = |chunk: &Chunk| -> Vec<Entry> {
            let all = runs[chunk.source].hashes()[chunk.at..chunk.end].iter();
            let source = chunk.source as u32;
            (chunk.at as u32..).zip(all).map(|(row, hash)| Entry { hash: *hash, source, row }).collect()
        };
        let order = merge_all(chunks.iter().map(entries).collect());
        for group in order.chunk_by(|a, b| a.hash == b.hash) {
            if group.iter().all(|entry| entry.source == group[0].source) {
                let Entry { source, row, .. } = group[0];
                picks.push_apart(sources, Span { source, start: row, len: group.len() as u32 });
            } else {
                self.parts.clear();
                // Rows of one run stay together, in their order: equal hashes come in the order of the runs.
                for rows in group.chunk_by(|a, b| a.source == b.source) {
                    let Entry { source, row, .. } = rows[0];
                    self.parts.push(Span { source, start: row, len: rows.len() as u32 });
                }
                self.combine.combine(sources, runs[0].key(), &self.parts, picks);
            }
            hashes.resize(picks.rows, group[0].hash);
        }
    }
}

/// Merges sorted lists, two and two.
fn merge_all(mut lists: Vec<Vec<Entry>>) -> Vec<Entry> {
    while lists.len() > 1 {
        let pairs = lists.chunks_mut(2).map(|pair| match pair {
            [a, b] => merge_two(a, b),
            one => std::mem::take(&mut one[0]),
        });
        lists = pairs.collect();
    }
    lists.pop().unwrap_or_default()
}

fn merge_two(a: &[Entry], b: &[Entry]) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let second = b[j].hash < a[i].hash;
        let entry = if second { &b[j] } else { &a[i] };
        merged.push(*entry);
        i += usize::from(!second);
        j += usize::from(second);
    }
    merged.extend_from_slice(&a[i..]);
    merged.extend_from_slice(&b[j..]);
    merged
}

/// Several runs on their way to become one.
pub(super) struct Merge {
    walk: Walk,
    schema: SchemaRef,
    key: Arc<[usize]>,
    picks: Picks,
    sinks: Vec<Box<dyn Sink>>,
    hashes: Vec<u64>,
    /// The hashes of the rows picked last.
    block: Vec<u64>,
    weights: Weights,
    directory: DirectoryBuilder,
    rows: usize,
}

/// Rows that are copied column by column at a time: a block of each column stays in the cache.
const BLOCK: usize = 4096;

impl Merge {
    /// `runs` are not empty, and there are at least two.
    pub fn new(schema: SchemaRef, key: Arc<[usize]>, runs: Vec<Arc<Run>>) -> Self {
        let rows = runs.iter().map(|run| run.len()).sum();
        let keys = runs.iter().map(|run| run.directory().keys()).sum();
        let first = runs.iter().filter_map(|run| run.hashes().first()).min().copied().unwrap_or(0);
        let last = runs.iter().filter_map(|run| run.hashes().last()).max().copied().unwrap_or(0);
        Self {
            walk: Walk::new(runs),
            sinks: schema.fields().iter().map(|field| sink(field.data_type(), rows)).collect(),
            picks: Picks::default(),
            hashes: Vec::with_capacity(rows),
            block: Vec::new(),
            weights: Weights::default(),
            directory: DirectoryBuilder::new(first, last, keys),
            rows: 0,
            schema,
            key,
        }
    }

    pub fn inputs(&self) -> &[Arc<Run>] {
        self.walk.runs()
    }

    /// Merges about this many more rows. False when all are merged.
    pub fn work(&mut self, rows: usize) -> bool {
        let mut left = rows;
        while left > 0 {
            let block = left.min(BLOCK);
            left -= block;
            self.picks.clear();
            self.block.clear();
            let more = self.walk.advance(block, &mut self.picks, &mut self.block);
            self.directory.extend(&self.block);
            self.hashes.extend_from_slice(&self.block);
            self.weights.append(&self.picks.weights);
            self.rows += self.picks.rows;
            self.copy_columns();
            if !more {
                return false;
            }
        }
        true
    }

    fn copy_columns(&mut self) {
        let runs = self.walk.runs();
        for (index, sink) in self.sinks.iter_mut().enumerate() {
            let sources: Vec<&dyn Array> = runs.iter().map(|run| run.rows().column(index).as_ref()).collect();
            sink.extend(&sources, &self.picks.spans);
        }
    }

    /// The one run, once `work` has answered false; `None` if all rows cancelled.
    pub fn finish(mut self) -> Option<Run> {
        let columns = self.sinks.iter_mut().map(|sink| sink.finish()).collect();
        let rows = Rows::new(batch_of(&self.schema, columns, self.rows), self.weights.finish());
        // Much that cancelled would leave much room unused.
        if self.hashes.len() < self.hashes.capacity() / 4 * 3 {
            self.hashes.shrink_to_fit();
        }
        (self.rows > 0).then(|| Run::from_parts(rows, self.key, self.hashes.into(), self.directory.finish()))
    }
}
