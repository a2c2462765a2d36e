//! Joins: deltas of several sizes against a large side, and a star of five joins.
//!
//! `cargo bench --bench join -- --rows 5000000 --deltas 1,100,65536 [--workers N]`
//! Every key of the large side has two rows; four columns come out. What comes out is dropped, as by a sink. Beside it,
//! in the same run: a hashbrown table from keys to row numbers, probed with the same deltas, and the same columns
//! gathered with Arrow's `take`.

mod common;

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use common::flow::Flow;
use common::{list, option, timed};
use hashbrown::HashMap;
use headwater::zset::Delta;

/// Rows in which the large side is fed.
const FILL: usize = 100_000;
/// Rows that are fed at most for one figure.
const MEASURED: usize = 2_000_000;
const SMALL: &str = "k bigint, a bigint";
const LARGE: &str = "k bigint, b bigint, c bigint";
const JOIN: &str = "SELECT s.k, s.a, l.b, l.c FROM small AS s JOIN large AS l ON s.k = l.k";
const STAR: &str = "SELECT f.v, d1.n AS n1, d2.n AS n2, d3.n AS n3, d4.n AS n4, d5.n AS n5 \
                    FROM f JOIN d1 ON f.k1 = d1.k JOIN d2 ON f.k2 = d2.k JOIN d3 ON f.k3 = d3.k \
                    JOIN d4 ON f.k4 = d4.k JOIN d5 ON f.k5 = d5.k";

fn main() {
    let rows: usize = option("--rows").unwrap_or(5_000_000);
    let deltas: Vec<usize> = list("--deltas").unwrap_or_else(|| vec![1, 100, 1_000, 65_536]);
    let workers: usize = option("--workers").unwrap_or(1);
    println!("{JOIN}\n{rows} rows on the large side, two for each key; {workers} worker(s)\n");
    println!(
        "{:>12} {:>18} {:>18} {:>18}",
        "delta rows", "CPU ms per delta", "CPU ns per row", "table: CPU ns per row"
    );
    let large: Vec<RecordBatch> = (0..rows / FILL).map(|number| large_batch(number * FILL, FILL)).collect();
    let table = Table::new(&large);
    for size in &deltas {
        measure(&large, &table, *size, workers);
    }
    star(workers);
}

/// All numbers in an order that looks random.
fn scattered(index: usize) -> u64 {
    let value = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn numbers(rows: std::ops::Range<usize>, number: impl Fn(usize) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.map(number)))
}

fn large_batch(from: usize, rows: usize) -> RecordBatch {
    let range = || from..from + rows;
    let (key, other) = (numbers(range(), |row| row as i64 / 2), numbers(range(), |row| row as i64 * 7));
    Flow::batch(LARGE, vec![key, numbers(range(), |row| row as i64), other])
}

fn small_batch(from: usize, rows: usize, keys: usize) -> RecordBatch {
    let range = || from..from + rows;
    let key = numbers(range(), |row| (scattered(row) % keys as u64) as i64);
    Flow::batch(SMALL, vec![key, numbers(range(), |row| row as i64)])
}

fn measure(large: &[RecordBatch], table: &Table, size: usize, workers: usize) {
    let mut flow = Flow::start(&format!("CREATE TABLE small ({SMALL}); CREATE TABLE large ({LARGE});"), workers);
    flow.view("v", JOIN, false);
    let (small_id, large_id) = (flow.table("small"), flow.table("large"));
    for batch in large {
        flow.feed(vec![(large_id, Delta::inserts(batch.clone()))]);
    }
    let keys = large.len() * FILL / 2;
    let rounds = (MEASURED / size).clamp(10, 5_000);
    let deltas: Vec<RecordBatch> = (0..rounds + 3).map(|round| small_batch(round * size, size, keys)).collect();
    let mut feed = |deltas: &[RecordBatch]| {
        let changes = deltas.iter().map(|delta| flow.feed(vec![(small_id, Delta::inserts(delta.clone()))]));
        changes.flatten().map(|change| change.delta.oks.len()).sum::<usize>()
    };
    feed(&deltas[..3]);
    let (found, _, cpu) = timed(|| feed(&deltas[3..]));
    assert_eq!(found, rounds * size * 2, "every row meets two");
    let (met, _, limit) = timed(|| deltas[3..].iter().map(|delta| table.join(delta)).sum::<usize>());
    assert_eq!(met, found);
    let rows = (rounds * size) as f64;
    println!("{size:12} {:18.4} {:18.1} {:18.1}", cpu * 1e3 / rounds as f64, cpu * 1e9 / rows, limit * 1e9 / rows);
}

/// The limit: the rows of each key in a hash table, all columns in one piece.
struct Table {
    rows: HashMap<i64, [u32; 2]>,
    columns: Vec<ArrayRef>,
}

impl Table {
    fn new(large: &[RecordBatch]) -> Self {
        let all = arrow::compute::concat_batches(&large[0].schema(), large).expect("batches of one table");
        let mut rows: HashMap<i64, [u32; 2]> = HashMap::new();
        for (row, key) in all.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
            rows.entry(*key).or_default()[row % 2] = row as u32;
        }
        Self { rows, columns: all.columns().to_vec() }
    }

    fn join(&self, delta: &RecordBatch) -> usize {
        let keys = delta.column(0).as_primitive::<Int64Type>().values();
        let (mut left, mut right) =
            (Vec::<u32>::with_capacity(keys.len() * 2), Vec::<u32>::with_capacity(keys.len() * 2));
        for (row, key) in keys.iter().enumerate() {
            if let Some(rows) = self.rows.get(key) {
                left.extend([row as u32; 2]);
                right.extend(rows);
            }
        }
        let (left, right) = (UInt32Array::from(left), UInt32Array::from(right));
        let columns = delta.columns().iter().map(|column| take(column, &left, None));
        let columns = columns.chain(self.columns[1..].iter().map(|column| take(column, &right, None)));
        black_box(columns.collect::<Result<Vec<_>, _>>().expect("the rows are there"));
        right.len()
    }
}

/// Rows of a fact table that meet one row in each of five dimensions.
fn star(workers: usize) {
    const KEYS: usize = 100_000;
    const SIZE: usize = 10_000;
    let fact = "k1 bigint, k2 bigint, k3 bigint, k4 bigint, k5 bigint, v bigint";
    let tables: String = (1..=5).map(|index| format!("CREATE TABLE d{index} (k bigint, n bigint);")).collect();
    let mut flow = Flow::start(&format!("{tables} CREATE TABLE f ({fact});"), workers);
    flow.view("v", STAR, false);
    for index in 1..=5 {
        let columns = vec![numbers(0..KEYS, |row| row as i64), numbers(0..KEYS, |row| row as i64 * 3)];
        let dimension = flow.table(&format!("d{index}"));
        flow.feed(vec![(dimension, Delta::inserts(Flow::batch("k bigint, n bigint", columns)))]);
    }
    let facts = flow.table("f");
    let batches: Vec<RecordBatch> = (0..100)
        .map(|number| {
            let column = |index: usize| {
                numbers(number * SIZE..(number + 1) * SIZE, |row| (scattered(row * 6 + index) % KEYS as u64) as i64)
            };
            Flow::batch(fact, (0..6).map(column).collect())
        })
        .collect();
    let (found, _, cpu) = timed(|| {
        let changes = batches.iter().map(|batch| flow.feed(vec![(facts, Delta::inserts(batch.clone()))]));
        changes.flatten().map(|change| change.delta.oks.len()).sum::<usize>()
    });
    assert_eq!(found, 100 * SIZE);
    println!(
        "\nstar of five joins, {KEYS} rows each, deltas of {SIZE}: {:.1} CPU ns per row",
        cpu * 1e9 / found as f64
    );
}
