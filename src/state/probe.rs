//! Finds the rows of many keys in several runs, in phases: many memory accesses wait at the same time.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::gather::Span;
use super::key::KeyMatcher;
use super::run::Run;

/// Keys that go through the phases together.
const BLOCK: usize = 512;
/// Hashes that are compared without a branch; most slots of a directory hold fewer.
const WINDOW: usize = 4;

/// Rows of one run whose key is the one asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub probe: u32,
    pub span: Span,
}

/// Keys to look for, and the runs to look in.
pub(super) struct Probe<'a> {
    runs: &'a [Arc<Run>],
    keys: &'a [ArrayRef],
    hashes: &'a [u64],
    /// Made when a hash of that run matches: most runs have none of the keys of a small delta.
    matchers: Vec<Option<KeyMatcher>>,
    hits: Vec<Hit>,
    sorted: Vec<Hit>,
}

/// A key of the block whose hash may be in the run, and the first row where it may be.
#[derive(Clone, Copy, Default)]
struct Candidate {
    place: u32,
    row: u32,
}

impl<'a> Probe<'a> {
    pub fn new(runs: &'a [Arc<Run>], keys: &'a [ArrayRef], hashes: &'a [u64]) -> Self {
        assert!(keys.iter().all(|column| column.len() == hashes.len()), "every key has one hash");
        let matchers = std::iter::repeat_with(|| None).take(runs.len()).collect();
        Self { runs, keys, hashes, matchers, hits: Vec::new(), sorted: Vec::new() }
    }

    /// Calls `each` for every key that has rows, in the order of the keys, with the rows found for it.
    pub fn each(mut self, mut each: impl FnMut(u32, &[Hit])) {
        for start in (0..self.hashes.len()).step_by(BLOCK) {
            let block = start..(start + BLOCK).min(self.hashes.len());
            self.hits.clear();
            let mut runs_hit = 0;
            for run in 0..self.runs.len() {
                let before = self.hits.len();
                self.probe_run(run, block.clone());
                runs_hit += usize::from(self.hits.len() > before);
            }
            if runs_hit > 1 {
                self.sort_hits(&block);
            }
            self.hits.chunk_by(|a, b| a.probe == b.probe).for_each(|hits| each(hits[0].probe, hits));
        }
    }

    /// Brings the hits of several runs into the order of the keys, by counting.
    fn sort_hits(&mut self, block: &std::ops::Range<usize>) {
        let mut starts = [0_u32; BLOCK + 1];
        self.hits.iter().for_each(|hit| starts[hit.probe as usize - block.start + 1] += 1);
        (0..block.len()).for_each(|place| starts[place + 1] += starts[place]);
        self.sorted.clone_from(&self.hits);
        for hit in &self.hits {
            let start = &mut starts[hit.probe as usize - block.start];
            self.sorted[*start as usize] = *hit;
            *start += 1;
        }
        std::mem::swap(&mut self.hits, &mut self.sorted);
    }

    fn probe_run(&mut self, index: usize, block: std::ops::Range<usize>) {
        let run = &self.runs[index];
        let mut candidates = [Candidate::default(); BLOCK];
        let found = candidates_of(run, &self.hashes[block.clone()], &mut candidates);
        for Candidate { place, row } in &candidates[..found] {
            let probe = block.start + *place as usize;
            let (start, end) = equal_hashes(run.hashes(), *row as usize, self.hashes[probe]);
            if start < end {
                self.add_equal_keys(index, probe, start, end);
            }
        }
    }

    /// Adds those of the rows with the right hash that have the right key.
    fn add_equal_keys(&mut self, index: usize, probe: usize, start: usize, end: usize) {
        let matcher =
            self.matchers[index].get_or_insert_with(|| KeyMatcher::new(self.keys, &self.runs[index].key_columns()));
        let mut row = start;
        while row < end {
            let first = row;
            while row < end && matcher.equal(probe, row) {
                row += 1;
            }
            if row > first {
                let span = Span { source: index as u32, start: first as u32, len: (row - first) as u32 };
                self.hits.push(Hit { probe: probe as u32, span });
            }
            row += 1;
        }
    }
}

/// Finds which of up to [`BLOCK`] hashes may be in a run.
///
/// Two phases without a branch that depends on data: no access waits for another of its phase, so that the processor
/// has many of them under way at once, and no mispredicted branch throws that work away.
fn candidates_of(run: &Run, wanted: &[u64], candidates: &mut [Candidate; BLOCK]) -> usize {
    let (directory, hashes) = (run.directory(), run.hashes());
    let mut ranges = [(0_u32, 0_u32); BLOCK];
    for (range, hash) in ranges.iter_mut().zip(wanted) {
        let (start, end) = directory.range(*hash);
        *range = (start as u32, end as u32);
    }
    // The last window that lies within the run serves for the rows behind its start, too.
    let Some(last) = hashes.len().checked_sub(WINDOW) else { return few_rows(hashes, wanted, candidates) };
    let mut found = 0;
    for (place, ((start, end), hash)) in ranges.iter().zip(wanted).enumerate() {
        let first = (*start as usize).min(last);
        let window = &hashes[first..first + WINDOW];
        // Hashes beyond the end of the slot are greater, those before its start are less.
        let less: usize = window.iter().map(|other| usize::from(other < hash)).sum();
        let equal = window.iter().fold(false, |equal, other| equal | (other == hash));
        let beyond = (less == WINDOW) & (first + WINDOW < *end as usize);
        candidates[found] = Candidate { place: place as u32, row: (first + less) as u32 };
        found += usize::from(equal | beyond);
    }
    found
}

/// The same for a run that is shorter than a window.
fn few_rows(hashes: &[u64], wanted: &[u64], candidates: &mut [Candidate; BLOCK]) -> usize {
    let mut found = 0;
    for (place, hash) in wanted.iter().enumerate() {
        let less = hashes.iter().filter(|other| *other < hash).count();
        candidates[found] = Candidate { place: place as u32, row: less as u32 };
        found += usize::from(hashes.contains(hash));
    }
    found
}

/// The rows from `row` on that have a hash; no row before has it.
#[inline]
fn equal_hashes(hashes: &[u64], row: usize, hash: u64) -> (usize, usize) {
    let start = match hashes.get(row) {
        Some(other) if *other == hash => row,
        _ => first_at_least(hashes, row, hashes.len(), |other| other >= hash),
    };
    (start, first_at_least(hashes, start, hashes.len(), |other| other > hash))
}

/// The first row from `start` on whose hash fulfils a condition that all later ones fulfil too, near ones found first.
#[inline]
pub(super) fn first_at_least(hashes: &[u64], start: usize, end: usize, found: impl Fn(u64) -> bool) -> usize {
    let (mut start, mut stride) = (start, 1);
    loop {
        let near = end.min(start + 8);
        while start < near {
            if found(hashes[start]) {
                return start;
            }
            start += 1;
        }
        if start == end {
            return end;
        }
        let far = end.min(start + 8 * stride);
        if found(hashes[far - 1]) {
            return start + hashes[start..far].partition_point(|hash| !found(*hash));
        }
        (start, stride) = (far, stride * 2);
    }
}
