//! Merges equal rows of a delta into one and drops those whose weights cancel.

use std::cmp::Ordering;

use arrow::array::{DynComparator, Int64Array, UInt32Array, make_comparator};
use arrow::compute::SortOptions;

use super::radix::{HashedRow, sort_by_hash};
use super::{Rows, Weight, row_hashes, weights_add};

/// The same Z-set with every row once and no weight 0, in order of row hash, then row.
///
/// Rows are equal when all their columns are identical (NULL with NULL, floats by their bits).
pub fn consolidate(rows: &Rows) -> Rows {
    if rows.is_consolidated() || rows.is_empty() {
        return rows.clone().assume_consolidated();
    }
    if rows.len() == 1 {
        return if rows.weight(0) == 0 { Rows::empty(rows.schema()) } else { rows.clone().assume_consolidated() };
    }
    let mut order = sort_by_hash(&row_hashes(rows.batch().columns(), rows.len()));
    let has_zero = rows.weights().is_some_and(|weights| weights.values().contains(&0));
    if !has_zero && order.windows(2).all(|pair| pair[0].hash != pair[1].hash) {
        return reordered(rows, &order);
    }
    let (kept, weights) = merge_equal(rows, &mut order);
    let (batch, _) = rows.take(&UInt32Array::from(kept)).into_parts();
    let weights = weights.iter().any(|weight| *weight != 1).then(|| Int64Array::from(weights));
    Rows::new(batch, weights).assume_consolidated()
}

/// Distinct rows in a new order.
fn reordered(rows: &Rows, order: &[HashedRow]) -> Rows {
    if order.is_sorted_by_key(|row| row.row) {
        return rows.clone().assume_consolidated();
    }
    let order = UInt32Array::from_iter_values(order.iter().map(|row| row.row));
    rows.take(&order).assume_consolidated()
}

/// The first of each set of equal rows, and the sums of their weights where they are not 0.
fn merge_equal(rows: &Rows, order: &mut [HashedRow]) -> (Vec<u32>, Vec<Weight>) {
    let compare = row_order(rows);
    let mut kept: Vec<u32> = Vec::with_capacity(order.len());
    let mut weights: Vec<Weight> = Vec::with_capacity(order.len());
    for group in order.chunk_by_mut(|a, b| a.hash == b.hash) {
        // Most groups are one row, or a row and its retraction.
        if group.len() > 2 {
            group.sort_by(|a, b| compare(a.row as usize, b.row as usize));
        }
        if let [a, b] = group
            && compare(a.row as usize, b.row as usize).is_gt()
        {
            std::mem::swap(a, b);
        }
        for equal in group.chunk_by(|a, b| compare(a.row as usize, b.row as usize).is_eq()) {
            let weight = equal.iter().fold(0, |sum, row| weights_add(sum, rows.weight(row.row as usize)));
            if weight != 0 {
                kept.push(equal[0].row);
                weights.push(weight);
            }
        }
    }
    (kept, weights)
}

/// Compares two rows column by column.
fn row_order(rows: &Rows) -> impl Fn(usize, usize) -> Ordering + use<> {
    let columns = rows.batch().columns().iter();
    let comparators: Vec<DynComparator> = columns
        .map(|column| make_comparator(column, column, SortOptions::default()).expect("every SQL type has an order"))
        .collect();
    move |a, b| {
        let mut orders = comparators.iter().map(|compare| compare(a, b));
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
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
