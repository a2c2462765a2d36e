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
    /// Where the rows of each key of the block may be, and the first hash there.
    ranges: Vec<Range>,
    hits: Vec<Hit>,
}

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
        Self { runs, keys, hashes, matchers, ranges: Vec::new(), hits: Vec::new() }
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
                // The hits of each run are in order already, and a stable sort makes use of that.
                self.hits.sort_by_key(|hit| hit.probe);
            }
            self.hits.chunk_by(|a, b| a.probe == b.probe).for_each(|hits| each(hits[0].probe, hits));
        }
    }

    fn probe_run(&mut self, index: usize, block: std::ops::Range<usize>) {
        let run = &self.runs[index];
        let (directory, hashes) = (run.directory(), run.hashes());
        self.ranges.clear();
        self.ranges.extend(self.hashes[block.clone()].iter().map(|hash| {
            let (start, end) = directory.range(*hash);
            Range { start: start as u32, end: end as u32, head: 0 }
        }));
        // Loads that do not depend on each other: the processor waits for many of them at once.
        let last = hashes.len() - 1;
        self.ranges.iter_mut().for_each(|range| range.head = hashes[(range.start as usize).min(last)]);
        for (place, probe) in block.enumerate() {
            let range = self.ranges[place];
            let hash = self.hashes[probe];
            if range.start < range.end && range.head <= hash {
                let (start, end) = equal_hashes(hashes, range, hash);
                if start < end {
                    self.add_equal_keys(index, probe, start, end);
                }
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

/// The rows of a range that have a hash.
#[inline]
fn equal_hashes(hashes: &[u64], range: Range, hash: u64) -> (usize, usize) {
    let (mut start, end) = (range.start as usize, range.end as usize);
    if end - start <= 16 {
        while start < end && hashes[start] < hash {
            start += 1;
        }
    } else {
        start += hashes[start..end].partition_point(|other| *other < hash);
    }
    (start, first_at_least(hashes, start, end, |other| other > hash))
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
