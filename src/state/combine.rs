//! Sums the weights of equal rows among a few rows of one key.

use hashbrown::HashTable;

use super::gather::{Picks, Span};
use super::key::RowMatcher;
use crate::zset::{Rows, Weight, row_hashes, weights_add};

/// Up to this many rows are compared each with each.
const PAIRWISE_MAX: usize = 12;

/// Finds equal rows in spans of several sources. Comparators are made once they are needed, and kept.
#[derive(Default)]
pub(super) struct Combine {
    matchers: Vec<Option<RowMatcher>>,
    entries: Vec<Entry>,
    /// True if rows of one source are known to be distinct.
    distinct_sources: bool,
}

struct Entry {
    source: u32,
    row: u32,
    weight: Weight,
}

impl Combine {
    /// For sources of which each holds every row once.
    pub fn of_distinct() -> Self {
        Self { distinct_sources: true, ..Self::default() }
    }

    /// Picks each different row of `parts` once, with the sum of its weights if that is not 0.
    ///
    /// `key` are columns that are likely equal in all these rows, so they are compared last.
    pub fn combine(&mut self, sources: &[&Rows], key: &[usize], parts: &[Span], picks: &mut Picks) {
        self.matchers.resize_with(sources.len() * sources.len(), || None);
        self.entries.clear();
        let rows: usize = parts.iter().map(|part| part.len as usize).sum();
        match rows <= PAIRWISE_MAX {
            true => self.pairwise(sources, key, parts),
            false => self.by_hash(sources, key, parts),
        }
        for entry in self.entries.iter().filter(|entry| entry.weight != 0) {
            let weight = sources[entry.source as usize].weight(entry.row as usize);
            match weight == entry.weight {
                true => picks.push(sources, Span { source: entry.source, start: entry.row, len: 1 }),
                false => picks.push_weighted(entry.source, entry.row, entry.weight),
            }
        }
    }

    fn pairwise(&mut self, sources: &[&Rows], key: &[usize], parts: &[Span]) {
        for (source, row) in rows_of(parts) {
            let weight = sources[source as usize].weight(row as usize);
            let known = (0..self.entries.len()).find(|entry| self.equal(sources, key, *entry, source, row));
            self.add(known, source, row, weight);
        }
    }

    fn by_hash(&mut self, sources: &[&Rows], key: &[usize], parts: &[Span]) {
        let hashes: Vec<u64> = parts.iter().flat_map(|part| hashes_of(sources, *part)).collect();
        let mut known: HashTable<(u64, usize)> = HashTable::with_capacity(hashes.len());
        for ((source, row), hash) in rows_of(parts).zip(hashes) {
            let weight = sources[source as usize].weight(row as usize);
            let equal = |(other, entry): &(u64, usize)| *other == hash && self.equal(sources, key, *entry, source, row);
            let found = known.find(hash, equal).map(|(_, entry)| *entry);
            if found.is_none() {
                known.insert_unique(hash, (hash, self.entries.len()), |(hash, _)| *hash);
            }
            self.add(found, source, row, weight);
        }
    }

    fn add(&mut self, known: Option<usize>, source: u32, row: u32, weight: Weight) {
        match known {
            Some(entry) => self.entries[entry].weight = weights_add(self.entries[entry].weight, weight),
            None => self.entries.push(Entry { source, row, weight }),
        }
    }

    fn equal(&mut self, sources: &[&Rows], key: &[usize], entry: usize, source: u32, row: u32) -> bool {
        let entry = &self.entries[entry];
        if entry.source == source && self.distinct_sources {
            return false;
        }
        let place = entry.source as usize * sources.len() + source as usize;
        let matcher = self.matchers[place].get_or_insert_with(|| {
            let (left, right) = (sources[entry.source as usize], sources[source as usize]);
            RowMatcher::new(left.batch(), right.batch(), key)
        });
        matcher.equal(entry.row as usize, row as usize)
    }
}

fn rows_of(parts: &[Span]) -> impl Iterator<Item = (u32, u32)> + '_ {
    parts.iter().flat_map(|part| (part.start..part.start + part.len).map(|row| (part.source, row)))
}

fn hashes_of(sources: &[&Rows], part: Span) -> Vec<u64> {
    let rows = sources[part.source as usize].batch().slice(part.start as usize, part.len as usize);
    row_hashes(rows.columns(), rows.num_rows())
}
