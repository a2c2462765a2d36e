//! The prefix directory of a run: leading bits of a hash → where in the run its rows are.

use arrow::buffer::ScalarBuffer;

/// Splits the hashes of a run into slots of equal width with about one or two keys each.
///
/// `offsets[slot]` is the first row of the slot. Two entries follow the last slot, both the number of rows, so that
/// hashes beyond the last slot find nothing without a branch.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    base: u64,
    shift: u32,
    offsets: ScalarBuffer<u32>,
    /// The part of the rows that this directory speaks of, when its run is a slice of another.
    first: u32,
    end: u32,
    keys: usize,
}

impl Directory {
    /// The directory of ascending hashes, with `keys` different ones among them.
    pub(super) fn build(hashes: &[u64], keys: usize) -> Self {
        let (first, last) = (hashes.first().copied().unwrap_or(0), hashes.last().copied().unwrap_or(0));
        let mut builder = DirectoryBuilder::new(first, last, keys);
        builder.extend(hashes);
        builder.finish()
    }

    /// Takes up a stored directory; `None` if it cannot be one of `rows` rows.
    pub(super) fn restore(parts: DirectoryParts, rows: usize) -> Option<Self> {
        let DirectoryParts { base, shift, keys, offsets } = parts;
        let end = u32::try_from(rows).ok()?;
        let closed = offsets.len() >= 3 && offsets[offsets.len() - 2..] == [end, end];
        (closed && shift < 64 && offsets.is_sorted()).then_some(Self { base, shift, offsets, first: 0, end, keys })
    }

    /// Between which rows those with this hash are.
    #[inline]
    pub(super) fn range(&self, hash: u64) -> (usize, usize) {
        // A hash below the base wraps around to a slot beyond the last.
        let slot = (hash.wrapping_sub(self.base) >> self.shift).min(self.offsets.len() as u64 - 2) as usize;
        let (start, end) = (self.offsets[slot], self.offsets[slot + 1]);
        (
            (start.clamp(self.first, self.end) - self.first) as usize,
            (end.clamp(self.first, self.end) - self.first) as usize,
        )
    }

    /// The directory of the rows from `start` up to `end`, sharing the memory.
    pub(super) fn slice(&self, start: usize, end: usize) -> Self {
        let keys = self.keys.min(end - start);
        Self { first: self.first + start as u32, end: self.first + end as u32, keys, ..self.clone() }
    }

    /// How many different hashes there are; of a slice, at most.
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// What [`Directory::restore`] takes; `None` for a slice, whose offsets speak of more rows.
    pub(super) fn parts(&self) -> Option<DirectoryParts> {
        let whole = self.first == 0 && self.offsets.last() == Some(&self.end);
        let (base, shift, keys) = (self.base, self.shift, self.keys);
        whole.then(|| DirectoryParts { base, shift, keys, offsets: self.offsets.clone() })
    }

    pub(super) fn bytes(&self) -> usize {
        self.offsets.len() * 4
    }
}

/// A directory as it is stored.
pub(super) struct DirectoryParts {
    pub base: u64,
    pub shift: u32,
    pub keys: usize,
    pub offsets: ScalarBuffer<u32>,
}

/// Makes a directory while the hashes arrive.
pub(super) struct DirectoryBuilder {
    base: u64,
    shift: u32,
    slots: usize,
    offsets: Vec<u32>,
    rows: u32,
    keys: usize,
    latest: Option<u64>,
}

impl DirectoryBuilder {
    /// For hashes between `first` and `last` with about `keys` different ones among them.
    pub(super) fn new(first: u64, last: u64, keys: usize) -> Self {
        let slots_bits = (keys / 2).max(1).next_power_of_two().ilog2();
        let width = 64 - (last - first).leading_zeros();
        let shift = width.saturating_sub(slots_bits).min(63);
        let slots = ((last - first) >> shift) as usize + 1;
        Self { base: first, shift, slots, offsets: Vec::with_capacity(slots + 2), rows: 0, keys: 0, latest: None }
    }

    /// The next hashes, ascending.
    pub(super) fn extend(&mut self, hashes: &[u64]) {
        for hash in hashes {
            let slot = ((hash - self.base) >> self.shift) as usize;
            while self.offsets.len() <= slot {
                self.offsets.push(self.rows);
            }
            self.rows += 1;
            self.keys += usize::from(self.latest != Some(*hash));
            self.latest = Some(*hash);
        }
    }

    pub(super) fn finish(mut self) -> Directory {
        self.offsets.resize(self.slots + 2, self.rows);
        let (base, shift, offsets) = (self.base, self.shift, self.offsets.into());
        Directory { base, shift, offsets, first: 0, end: self.rows, keys: self.keys }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn check(mut hashes: Vec<u64>) {
        hashes.sort_unstable();
        let mut keys = hashes.clone();
        keys.dedup();
        let directory = Directory::build(&hashes, keys.len());
        for start in [0, hashes.len() / 3] {
            let part = directory.slice(start, hashes.len());
            for (row, hash) in hashes[start..].iter().enumerate() {
                let (from, to) = part.range(*hash);
                assert!(from <= row && row < to, "row {row} is not between {from} and {to}");
            }
        }
        for hash in [0, 1, u64::MAX / 2, u64::MAX] {
            let (from, to) = directory.range(hash);
            assert!(from <= to && to <= hashes.len());
        }
    }

    #[test]
    fn every_row_is_in_the_range_of_its_hash() {
        let mut random = SmallRng::seed_from_u64(5);
        for rows in [0, 1, 2, 3, 100, 5_000] {
            check((0..rows).map(|_| random.random()).collect());
            check((0..rows).map(|_| random.random::<u64>() >> 40).collect());
            check((0..rows).map(|_| random.random::<u64>() | 1 << 63).collect());
            check(vec![u64::MAX; rows]);
            check((0..rows as u64).map(|row| if row % 2 == 0 { 0 } else { u64::MAX }).collect());
        }
    }

    #[test]
    fn slots_hold_few_keys() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut hashes: Vec<u64> = (0..10_000).map(|_| random.random::<u64>() >> 1).collect();
        hashes.sort_unstable();
        let directory = Directory::build(&hashes, hashes.len());
        let widths: usize = hashes.iter().map(|hash| directory.range(*hash)).map(|(from, to)| to - from).sum();
        assert!(widths < 5 * hashes.len(), "{widths}");
    }
}
