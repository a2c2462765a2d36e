//! Finds the rows of many keys in several runs, in phases: many memory accesses wait at the same time.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::gather::Span;
use super::key::KeyMatcher;
use super::run::Run;

/// Keys that go through the phases together.
const BLOCK: usize = 512;

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
    ranges: Vec<Range>,
    /// Keys of the block with rows that have the same hash, and whether they have the same key.
    pairs: Vec<(u32, u32)>,
    verdicts: Vec<bool>,
    hits: Vec<Hit>,
    sorted: Vec<Hit>,
}

/// Where the rows of a key may be, and the first hash there.
#[derive(Clone, Copy)]
struct Range {
    start: u32,
    end: u32,
    head: u64,
}

impl<'a> Probe<'a> {
    pub fn new(runs: &'a [Arc<Run>], keys: &'a [ArrayRef], hashes: &'a [u64]) -> Self {
        assert!(keys.iter().all(|column| column.len() == hashes.len()), "every key has one hash");
        let matchers = std::iter::repeat_with(|| None).take(runs.len()).collect();
        let (ranges, pairs, verdicts) = (Vec::new(), Vec::new(), Vec::new());
        Self { runs, keys, hashes, matchers, ranges, pairs, verdicts, hits: Vec::new(), sorted: Vec::new() }
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
        self.pairs.clear();
        find_ranges(&self.runs[index], &self.hashes[block.clone()], &mut self.ranges);
        find_pairs(&self.runs[index], &self.ranges, &self.hashes[block.clone()], block.start, &mut self.pairs);
        if self.pairs.is_empty() {
            return;
        }
        self.verdicts.clear();
        self.verdicts.resize(self.pairs.len(), true);
        let matcher =
            self.matchers[index].get_or_insert_with(|| KeyMatcher::new(self.keys, &self.runs[index].key_columns()));
        matcher.check(&self.pairs, &mut self.verdicts);
        let first_of_run = self.hits.len();
        for ((probe, row), _) in self.pairs.iter().zip(&self.verdicts).filter(|(_, equal)| **equal) {
            match self.hits[first_of_run..].last_mut() {
                Some(last) if last.probe == *probe && last.span.start + last.span.len == *row => last.span.len += 1,
                _ => self.hits.push(Hit { probe: *probe, span: Span { source: index as u32, start: *row, len: 1 } }),
            }
        }
    }
}

/// Two phases of loads that do not depend on each other: the processor waits for many of them at once.
///
/// Measured, this is as fast as asking for the memory ahead, and the scan that follows is best left to the branch
/// predictor.
fn find_ranges(run: &Run, wanted: &[u64], ranges: &mut Vec<Range>) {
    let (directory, hashes) = (run.directory(), run.hashes());
    ranges.clear();
    ranges.extend(wanted.iter().map(|hash| {
        let (start, end) = directory.range(*hash);
        Range { start: start as u32, end: end as u32, head: 0 }
    }));
    if let Some(last) = hashes.len().checked_sub(1) {
        ranges.iter_mut().for_each(|range| range.head = hashes[(range.start as usize).min(last)]);
    }
}

/// Appends the rows that have one of the hashes, each with the number of the hash from `first` on.
fn find_pairs(run: &Run, ranges: &[Range], wanted: &[u64], first: usize, pairs: &mut Vec<(u32, u32)>) {
    let hashes = run.hashes();
    for ((range, hash), probe) in ranges.iter().zip(wanted).zip(first..) {
        if range.start < range.end && range.head <= *hash {
            let mut row = first_equal(hashes, range, *hash);
            while row < range.end as usize && hashes[row] == *hash {
                pairs.push((probe as u32, row as u32));
                row += 1;
            }
        }
    }
}

/// The first row of a range whose hash is not less than another.
#[inline]
fn first_equal(hashes: &[u64], range: &Range, hash: u64) -> usize {
    let (mut start, end) = (range.start as usize, range.end as usize);
    if end - start > 16 {
        return start + hashes[start..end].partition_point(|other| *other < hash);
    }
    while start < end && hashes[start] < hash {
        start += 1;
    }
    start
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
