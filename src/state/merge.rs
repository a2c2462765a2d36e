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
    /// The runs that are not at their end.
    active: Vec<usize>,
    combine: Combine,
    parts: Vec<Span>,
}

/// What comes next: the least hash, the run that has it, how many others have it too, and the least greater hash.
struct Next {
    hash: u64,
    run: usize,
    alone: bool,
    limit: Option<u64>,
}

impl Walk {
    pub fn new(runs: Vec<Arc<Run>>) -> Self {
        let active = (0..runs.len()).filter(|run| !runs[*run].is_empty()).collect();
        let at = vec![0; runs.len()];
        Self { runs, at, active, combine: Combine::of_distinct(), parts: Vec::new() }
    }

    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Picks the next rows, consolidated, about as many as asked for, and their hashes. False at the end.
    pub fn advance(&mut self, rows: usize, picks: &mut Picks, hashes: &mut Vec<u64>) -> bool {
        let runs = std::mem::take(&mut self.runs);
        let sources: Vec<&Rows> = runs.iter().map(|run| run.rows()).collect();
        let mut left = rows;
        while left > 0 && !self.active.is_empty() {
            let next = self.next(&runs);
            let taken = match next.alone {
                true => self.take_alone(&runs, &sources, &next, left, picks, hashes),
                false => self.take_together(&runs, &sources, next.hash, picks, hashes),
            };
            left = left.saturating_sub(taken);
        }
        drop(sources);
        self.runs = runs;
        !self.active.is_empty()
    }

    fn next(&self, runs: &[Arc<Run>]) -> Next {
        let head = |run: usize| runs[run].hashes()[self.at[run]];
        let first = self.active[0];
        let mut next = Next { hash: head(first), run: first, alone: true, limit: None };
        for run in &self.active[1..] {
            let hash = head(*run);
            if hash < next.hash {
                next = Next { hash, run: *run, alone: true, limit: Some(next.hash) };
            } else if hash == next.hash {
                next.alone = false;
            } else if next.limit.is_none_or(|limit| hash < limit) {
                next.limit = Some(hash);
            }
        }
        next
    }

    /// Takes the rows of the one run that comes before all others.
    fn take_alone(
        &mut self,
        runs: &[Arc<Run>],
        sources: &[&Rows],
        next: &Next,
        rows: usize,
        picks: &mut Picks,
        hashes: &mut Vec<u64>,
    ) -> usize {
        let (start, all) = (self.at[next.run], runs[next.run].hashes());
        let end = match next.limit {
            None => all.len(),
            Some(limit) => first_at_least(all, start + 1, all.len(), |hash| hash >= limit),
        };
        let end = end.min(start.saturating_add(rows));
        picks.push(sources, Span { source: next.run as u32, start: start as u32, len: (end - start) as u32 });
        hashes.extend_from_slice(&all[start..end]);
        self.move_to(runs, next.run, end);
        end - start
    }

    /// Takes the rows of a hash that several runs have.
    fn take_together(
        &mut self,
        runs: &[Arc<Run>],
        sources: &[&Rows],
        hash: u64,
        picks: &mut Picks,
        hashes: &mut Vec<u64>,
    ) -> usize {
        self.parts.clear();
        for run in self.active.clone() {
            let (start, all) = (self.at[run], runs[run].hashes());
            if all[start] == hash {
                let end = first_at_least(all, start + 1, all.len(), |other| other > hash);
                self.parts.push(Span { source: run as u32, start: start as u32, len: (end - start) as u32 });
                self.move_to(runs, run, end);
            }
        }
        let before = picks.rows;
        self.combine.combine(sources, runs[0].key(), &self.parts, picks);
        hashes.resize(hashes.len() + picks.rows - before, hash);
        self.parts.iter().map(|part| part.len as usize).sum()
    }

    fn move_to(&mut self, runs: &[Arc<Run>], run: usize, place: usize) {
        self.at[run] = place;
        if place == runs[run].len() {
            self.active.retain(|active| *active != run);
        }
    }
}

/// Several runs on their way to become one.
pub(super) struct Merge {
    walk: Walk,
    schema: SchemaRef,
    key: Arc<[usize]>,
    picks: Picks,
    sinks: Vec<Box<dyn Sink>>,
    hashes: Vec<u64>,
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
            let before = self.hashes.len();
            let more = self.walk.advance(block, &mut self.picks, &mut self.hashes);
            self.directory.extend(&self.hashes[before..]);
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
