//! Rows and how often each is there: tells which come into being and which vanish. What DISTINCT means.

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::compute::filter;
use arrow::datatypes::{DataType, UInt32Type};

use super::groups::Groups;
use crate::zset::{Weight, weights_add};

/// A Z-set that answers each change with the rows whose count rose above 0 or fell back to it.
pub(super) struct Counted {
    types: Vec<DataType>,
    groups: Groups,
    counts: Vec<Count>,
    /// The number of the last change.
    change: u64,
}

#[derive(Clone, Copy, Default)]
struct Count {
    count: i64,
    /// The last change that touched the row.
    touched: u64,
}

/// For each row that came or went, a place in the changed rows where it stands, and +1 or -1.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub rows: Vec<u32>,
    pub signs: Vec<Weight>,
}

impl Counted {
    pub(super) fn new(types: Vec<DataType>) -> Self {
        Self { groups: Groups::new(&types), types, counts: Vec::new(), change: 0 }
    }

    /// Adds rows in canonical form with their weights.
    pub(super) fn change(&mut self, columns: &[ArrayRef], rows: usize, weights: Option<&[Weight]>) -> Turns {
        let groups = self.groups.assign(columns, rows);
        self.counts.resize(self.groups.bound(), Count::default());
        self.change += 1;
        let mut touched: Vec<(u32, u32, i64)> = Vec::new();
        for (row, group) in groups.iter().enumerate() {
            let slot = &mut self.counts[*group as usize];
            if slot.touched != self.change {
                slot.touched = self.change;
                touched.push((*group, row as u32, slot.count));
            }
            slot.count = weights_add(slot.count, weights.map_or(1, |weights| weights[row]));
        }
        self.turns(&touched)
    }

    /// `touched`: group, a row of it, and its count before.
    fn turns(&mut self, touched: &[(u32, u32, i64)]) -> Turns {
        let mut turns = Turns::default();
        let mut gone = Vec::new();
        for (group, row, before) in touched {
            let after = self.counts[*group as usize].count;
            // Invariant: no row of a relation is there less than zero times at the end of a step.
            assert!(after >= 0, "a row is there {after} times");
            if (*before > 0) != (after > 0) {
                turns.rows.push(*row);
                turns.signs.push(if after > 0 { 1 } else { -1 });
            }
            if after == 0 {
                gone.push(*group);
            }
        }
        self.groups.release(&gone);
        turns
    }

    /// Drops the rows whose first column, a number, is wanted gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&u32) -> bool) {
        let (columns, counts) = self.save();
        let first = columns[0].as_primitive::<UInt32Type>();
        let gone: BooleanArray = first.values().iter().map(|number| Some(is_gone(number))).collect();
        let kept = |column: &ArrayRef| filter(column, &gone).expect("one verdict for each row");
        let columns: Vec<ArrayRef> = columns.iter().map(kept).collect();
        let weights: Vec<Weight> =
            counts.values().iter().zip(gone.values()).filter(|(_, gone)| *gone).map(|(count, _)| -count).collect();
        self.change(&columns, weights.len(), Some(&weights));
    }

    /// All rows, with their counts.
    pub(super) fn save(&self) -> (Vec<ArrayRef>, Int64Array) {
        let live: Vec<u32> = (0..self.counts.len() as u32).filter(|group| self.count(*group) != 0).collect();
        let counts = Int64Array::from_iter_values(live.iter().map(|group| self.count(*group)));
        (self.groups.columns(&live, &self.types), counts)
    }

    fn count(&self, group: u32) -> i64 {
        self.counts[group as usize].count
    }

    pub(super) fn rows(&self) -> usize {
        self.counts.iter().filter(|slot| slot.count != 0).count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.groups.bytes() + self.counts.capacity() * size_of::<Count>()
    }
}
