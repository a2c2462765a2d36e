//! Merges equal rows of a delta into one and drops those whose weights cancel.

use std::cmp::Ordering;

use arrow::array::{DynComparator, Int64Array, UInt32Array, make_comparator};
use arrow::compute::SortOptions;

use super::{Rows, Weight, row_hashes, weights_add};

/// The same Z-set with every row once and no weight 0, in order of row hash, then row.
///
/// Rows are equal when all their columns are identical (NULL with NULL, floats by their bits).
pub fn consolidate(rows: &Rows) -> Rows {
    if rows.is_consolidated() || rows.is_empty() {
        return rows.clone().assume_consolidated();
    }
    let columns = rows.batch().columns();
    let hashes = row_hashes(columns, rows.len());
    let comparators: Vec<DynComparator> = columns
        .iter()
        .map(|column| make_comparator(column, column, SortOptions::default()).expect("every SQL type has an order"))
        .collect();
    let compare = |a: u32, b: u32| {
        let by_row = || {
            let columns = comparators.iter().map(|compare| compare(a as usize, b as usize));
            columns.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        };
        hashes[a as usize].cmp(&hashes[b as usize]).then_with(by_row)
    };
    let mut order: Vec<u32> = (0..u32::try_from(rows.len()).expect("a delta has fewer than 2^32 rows")).collect();
    order.sort_unstable_by(|a, b| compare(*a, *b));
    let mut kept: Vec<u32> = Vec::with_capacity(order.len());
    let mut weights: Vec<Weight> = Vec::with_capacity(order.len());
    for group in order.chunk_by(|a, b| compare(*a, *b).is_eq()) {
        let weight = group.iter().fold(0, |sum, row| weights_add(sum, rows.weight(*row as usize)));
        if weight != 0 {
            kept.push(group[0]);
            weights.push(weight);
        }
    }
    let (batch, _) = rows.take(&UInt32Array::from(kept)).into_parts();
    let weights = weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(weights));
    Rows::new(batch, weights).assume_consolidated()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::{parse_rows, pretty_rows};
    use super::*;

    fn check(rows: &str, expected: Expect) {
        let rows = parse_rows("x INT, s TEXT", rows);
        expected.assert_eq(&pretty_rows(&consolidate(&rows)));
    }

    #[test]
    fn equal_rows_merge_and_cancelled_rows_go() {
        check("+1 | 1 | a\n+2 | 2 | b\n-1 | 1 | a\n+1 | 2 | b", expect!["+3 | 2 | b"]);
    }

    #[test]
    fn null_equals_null() {
        check("+1 | NULL | NULL\n+1 | NULL | NULL\n+1 | NULL | a", expect!["+1 | NULL | a\n+2 | NULL | NULL"]);
    }
}
