//! The numbers of rows in their order: which rows are given, and under which numbers.

/// A way to number the rows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    RowNumber,
    /// Equal rows have one number, and the next one counts them all.
    Rank,
    /// Equal rows have one number, and the next one follows.
    DenseRank,
}

/// Which rows of a key are given.
#[derive(Debug, Clone)]
pub struct Ranking {
    /// The numbers that are columns of the output.
    pub numbers: Vec<Numbering>,
    /// The numbering that has a bound.
    pub by: Numbering,
    /// Rows left out at the beginning; only where rows are counted.
    pub skip: i64,
    /// The last number that is given.
    pub up_to: i64,
}

/// A distinct row of a key: its place among the candidates, and how often it was there and is there.
#[derive(Debug)]
pub(super) struct Entry {
    pub row: u32,
    pub was: i64,
    pub is: i64,
    /// Rows that are equal in the order have the same number here.
    pub peers: u32,
}

/// How a row is given. Numbers that are no columns are 0, so that they make no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    pub copies: i64,
    pub first: i64,
    pub rank: i64,
    pub dense_rank: i64,
}

/// The numbers of one distinct row.
#[derive(Clone, Copy)]
struct Position {
    first: i64,
    last: i64,
    rank: i64,
    dense_rank: i64,
}

/// Counts the rows of a key, before the step or after it.
#[derive(Default)]
struct Count {
    rows: i64,
    rank: i64,
    dense_rank: i64,
    peers: Option<u32>,
}

impl Count {
    fn next(&mut self, weight: i64, peers: u32) -> Option<Position> {
        // Invariant: no row of a relation is there less than zero times at the end of a step.
        assert!(weight >= 0, "a row is there {weight} times");
        if weight == 0 {
            return None;
        }
        if self.peers != Some(peers) {
            self.rank = self.rows + 1;
            self.dense_rank += 1;
            self.peers = Some(peers);
        }
        let first = self.rows + 1;
        self.rows += weight;
        Some(Position { first, last: self.rows, rank: self.rank, dense_rank: self.dense_rank })
    }
}

impl Ranking {
    /// Whether copies of a row differ in the output.
    pub(super) fn counts_rows(&self) -> bool {
        self.numbers.contains(&Numbering::RowNumber)
    }

    /// The numbers of the first and the last copy up to the bound.
    fn bounded(&self, at: Position) -> (i64, i64) {
        let number = match self.by {
            Numbering::RowNumber => return (at.first, at.last.min(self.up_to)),
            Numbering::Rank => at.rank,
            Numbering::DenseRank => at.dense_rank,
        };
        if number <= self.up_to { (at.first, at.last) } else { (at.first, at.first - 1) }
    }

    fn given(&self, at: Position) -> Option<Given> {
        let (first, last) = self.bounded(at);
        let first = if self.by == Numbering::RowNumber { first.max(self.skip + 1) } else { first };
        let shown = |numbering, number| if self.numbers.contains(&numbering) { number } else { 0 };
        (first <= last).then(|| Given {
            copies: last - first + 1,
            first: shown(Numbering::RowNumber, first),
            rank: shown(Numbering::Rank, at.rank),
            dense_rank: shown(Numbering::DenseRank, at.dense_rank),
        })
    }

    /// True if no later row can be given.
    fn is_full(&self, at: Position) -> bool {
        match self.by {
            Numbering::RowNumber => at.last >= self.up_to,
            Numbering::Rank => at.rank > self.up_to,
            Numbering::DenseRank => at.dense_rank > self.up_to,
        }
    }

    /// Calls `each` for every row that is given no more (-1), or now (+1).
    pub(super) fn each_change(&self, entries: &[Entry], mut each: impl FnMut(u32, &Given, i64)) {
        let (mut before, mut now) = (Count::default(), Count::default());
        for entry in entries {
            let was = before.next(entry.was, entry.peers).and_then(|at| self.given(at));
            let is = now.next(entry.is, entry.peers).and_then(|at| self.given(at));
            if was != is {
                was.iter().for_each(|given| each(entry.row, given, -1));
                is.iter().for_each(|given| each(entry.row, given, 1));
            }
        }
    }

    /// Whether these rows, the first of a key that has more, are enough to tell which are given.
    pub(super) fn knows_enough(&self, entries: &[Entry]) -> bool {
        let mut now = Count::default();
        entries.iter().filter_map(|entry| now.next(entry.is, entry.peers)).any(|at| self.is_full(at))
    }

    /// How many of the distinct rows that are there must be known to tell which are given.
    pub(super) fn rows_needed(&self, entries: &[Entry]) -> usize {
        let mut now = Count::default();
        let positions = entries.iter().filter_map(|entry| now.next(entry.is, entry.peers));
        let mut needed = 0;
        for at in positions {
            needed += 1;
            if self.is_full(at) {
                break;
            }
        }
        needed
    }

    /// The change of the rows up to the bound.
    pub(super) fn kept_changes(&self, entries: &[Entry]) -> Vec<(u32, i64)> {
        let mut now = Count::default();
        let change = |entry: &Entry| {
            let kept = now.next(entry.is, entry.peers).map_or(0, |at| {
                let (first, last) = self.bounded(at);
                (last - first + 1).max(0)
            });
            (entry.row, kept - entry.was)
        };
        entries.iter().map(change).filter(|(_, change)| *change != 0).collect()
    }
}
