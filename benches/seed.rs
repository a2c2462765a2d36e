//! The seed query, `SELECT k, SUM(v * 2), COUNT(*) FROM t GROUP BY k`, through the planner and the workers.
//!
//! `cargo bench --bench seed -- --rows 10000000 --batch 10000 --workers 1 [--groups 1000,1000000]`
//! Input is made before the clock starts; every step's output delta is made and absorbed into the view's arrangement.
//! Beside it, in the same run, a tight hashbrown loop over the same arrays, which keeps no view and makes no deltas.

mod common;

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;
use common::flow::Flow;
use common::{list, option, timed};
use hashbrown::HashMap;
use headwater::zset::Delta;

const QUERY: &str = "SELECT k, SUM(v * 2) AS s, COUNT(*) AS n FROM t GROUP BY k";

fn main() {
    let rows: usize = option("--rows").unwrap_or(10_000_000);
    let batch: usize = option("--batch").unwrap_or(10_000);
    let workers: usize = option("--workers").unwrap_or(1);
    let groups: Vec<usize> = list("--groups").unwrap_or_else(|| vec![1_000, 1_000_000]);
    println!("{QUERY}\n{rows} rows in batches of {batch}, {workers} worker(s); M rows/s\n");
    println!("key     groups      wall    per CPU-s   cores used   tight loop per CPU-s   loop's share of the time");
    for text in [false, true] {
        for groups in &groups {
            measure(rows, batch, *groups, text, workers);
        }
    }
}

fn measure(rows: usize, batch: usize, groups: usize, text: bool, workers: usize) {
    let batches = input(rows, batch, groups, text);
    let (counted, _, tight) = timed(|| if text { sum_by_text(&batches) } else { sum_by_int(&batches) });
    let mut flow = Flow::start(&format!("CREATE TABLE t (k {}, v bigint)", key_type(text)), workers);
    flow.view("v", QUERY, true);
    let table = flow.table("t");
    let (found, wall, cpu) = timed(|| {
        let mut found = 0;
        for batch in &batches {
            for change in flow.feed(vec![(table, Delta::inserts(batch.clone()))]) {
                found += change.delta.oks.weights_array().values().iter().sum::<i64>();
            }
        }
        found
    });
    assert_eq!((found as usize, counted), (groups.min(rows), groups.min(rows)), "every group is in the view");
    let (million, key) = (rows as f64 / 1e6, key_type(text));
    let (per_wall, per_cpu, per_tight) = (million / wall, million / cpu, million / tight);
    let (cores, share) = (cpu / wall, tight / cpu);
    println!("{key:7} {groups:8} {per_wall:9.1} {per_cpu:12.1} {cores:12.2} {per_tight:22.1} {share:26.2}");
}

fn key_type(text: bool) -> &'static str {
    if text { "text" } else { "bigint" }
}

/// Every key once first, so that the count of groups is exact; then keys at random.
fn input(rows: usize, batch: usize, groups: usize, text: bool) -> Vec<RecordBatch> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut key = |row: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if row < groups { row as i64 } else { (state % groups as u64) as i64 }
    };
    (0..rows.div_ceil(batch))
        .map(|number| {
            let range = number * batch..rows.min((number + 1) * batch);
            let keys: Vec<i64> = range.clone().map(&mut key).collect();
            let keys: ArrayRef = match text {
                false => Arc::new(Int64Array::from(keys)),
                true => Arc::new(StringViewArray::from_iter_values(keys.iter().map(|key| format!("key-{key:07}")))),
            };
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(range.map(|row| row as i64 % 1_000)));
            Flow::batch(&format!("k {}, v bigint", key_type(text)), vec![keys, values])
        })
        .collect()
}

fn sum_by_int(batches: &[RecordBatch]) -> usize {
    let mut groups: HashMap<i64, (i128, i64)> = HashMap::new();
    for batch in batches {
        let keys = batch.column(0).as_primitive::<Int64Type>().values();
        for (key, value) in keys.iter().zip(batch.column(1).as_primitive::<Int64Type>().values()) {
            add(groups.entry(*key).or_default(), *value);
        }
    }
    groups.len()
}

fn sum_by_text(batches: &[RecordBatch]) -> usize {
    let mut groups: HashMap<String, (i128, i64)> = HashMap::new();
    for batch in batches {
        let keys = batch.column(0).as_string_view();
        for (row, value) in batch.column(1).as_primitive::<Int64Type>().values().iter().enumerate() {
            add(groups.entry_ref(keys.value(row)).or_default(), *value);
        }
    }
    groups.len()
}

fn add(group: &mut (i128, i64), value: i64) {
    group.0 += i128::from(value * 2);
    group.1 += 1;
}
