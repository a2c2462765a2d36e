//! How fast an arrangement builds, answers and absorbs, beside a hash table in the same run.
//!
//! `cargo bench --bench arrangement [ROWS]`; every number is the best of several rounds, on one thread, in time on the
//! processor where the system tells it (Linux), so that other programs disturb less.

use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int64Type;
use hashbrown::HashTable;
use headwater::state::{Arrangement, Run};
use headwater::zset::{Rows, consolidate, row_hashes, sort_by_hash};

fn main() {
    let rows = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(5_000_000);
    println!("{rows} rows; keys are scattered numbers\n");
    let batch = numbers(0, rows);
    let table = building(&batch);
    probing(&batch, &table);
    probing_pieces(&batch);
    texts(rows / 5);
    absorbing(rows);
    small_absorbs(&batch);
    consolidating();
}

/// Scattered numbers, all different: an odd factor permutes the numbers of 64 bits.
fn scattered(index: usize) -> i64 {
    (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64
}

/// A key and three columns.
fn numbers(start: usize, rows: usize) -> RecordBatch {
    let column = |value: fn(usize) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values((start..start + rows).map(value)))
    };
    let columns =
        [("k", column(scattered)), ("a", column(|i| i as i64)), ("b", column(|i| i as i64 / 7)), ("c", column(|_| 1))];
    RecordBatch::try_from_iter(columns).expect("columns fit")
}

fn named_texts(start: usize, rows: usize) -> RecordBatch {
    let text = |index: usize| format!("customer-{:016x}", scattered(index));
    let key: ArrayRef = Arc::new(StringViewArray::from_iter_values((start..start + rows).map(text)));
    let value: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + rows).map(|index| index as i64)));
    RecordBatch::try_from_iter([("k", key), ("v", value)]).expect("columns fit")
}

/// Time on the processor so far, else time since the program began.
fn busy() -> Duration {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let begin = *BEGIN;
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| begin.elapsed(), Duration::from_nanos)
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = busy();
    work();
    busy().saturating_sub(start)
}

fn best(rounds: usize, mut work: impl FnMut()) -> Duration {
    (0..rounds).map(|_| timed(&mut work)).min().expect("there is a round")
}

fn report(name: &str, count: usize, time: Duration) {
    let nanos = time.as_secs_f64() * 1e9 / count as f64;
    println!("{name:<64} {:>8.2} M/s {nanos:>9.1} ns each", 1e3 / nanos);
}

fn building(batch: &RecordBatch) -> HashTable<(u64, u32)> {
    let key = [batch.column(0).clone()];
    let rows = batch.num_rows();
    report("hashes of the keys", rows, best(3, || drop(black_box(row_hashes(&key, rows)))));
    let hashes = row_hashes(&key, rows);
    report("radix sort", rows, best(3, || drop(black_box(sort_by_hash(&hashes)))));
    let fill = || {
        let mut table = HashTable::with_capacity(rows);
        for (row, hash) in hashes.iter().enumerate() {
            table.insert_unique(*hash, (*hash, row as u32), |(hash, _)| *hash);
        }
        table
    };
    report("hash table, room reserved", rows, best(3, || drop(black_box(fill()))));
    let all = Rows::inserts(batch.clone()).assume_consolidated();
    let narrow = Rows::inserts(batch.project(&[0]).expect("column 0 is there")).assume_consolidated();
    report("run of the key alone", rows, best(3, || drop(black_box(Run::build_hashed(&narrow, &[0], &hashes)))));
    report("run of four columns", rows, best(3, || drop(black_box(Run::build_hashed(&all, &[0], &hashes)))));
    println!();
    fill()
}

/// Keys of which all are there, in random order.
fn some_keys(batch: &RecordBatch, count: usize, round: usize) -> (ArrayRef, Vec<u64>) {
    let rows = batch.num_rows() as u64;
    let indices = (0..count as u64).map(|index| {
        let random = (index + 1 + round as u64 * 1_000_003).wrapping_mul(0xd134_2543_de82_ef95);
        ((u128::from(random ^ random >> 29) * u128::from(rows)) >> 64) as u32
    });
    let keys = arrow::compute::take(batch.column(0), &UInt32Array::from_iter_values(indices), None);
    let keys = keys.expect("indices are within the batch");
    let hashes = row_hashes(std::slice::from_ref(&keys), count);
    (keys, hashes)
}

/// Calls `probe` with different keys until about a million have been looked for.
fn deltas(batch: &RecordBatch, delta: usize, mut probe: impl FnMut(&ArrayRef, &[u64])) -> (usize, Duration) {
    let rounds = (1_000_000 / delta).clamp(8, 20_000);
    let keys: Vec<_> = (0..rounds).map(|round| some_keys(batch, delta, round)).collect();
    (rounds * delta, best(3, || keys.iter().for_each(|(keys, hashes)| probe(keys, hashes))))
}

fn probing(batch: &RecordBatch, table: &HashTable<(u64, u32)>) {
    let mut one = Arrangement::new(batch.schema(), vec![0]);
    one.absorb(&Rows::inserts(batch.clone()).assume_consolidated());
    for delta in [1, 100, 1_000, 65_536] {
        let values = batch.column(0).as_primitive::<Int64Type>().values();
        let find = |keys: &ArrayRef, hashes: &[u64]| -> Vec<u32> {
            let keys = keys.as_primitive::<Int64Type>().values();
            let find = |(key, hash): (&i64, &u64)| {
                table.find(*hash, |(_, row)| values[*row as usize] == *key).map(|(_, row)| *row)
            };
            keys.iter().zip(hashes).filter_map(find).collect()
        };
        let (count, time) = deltas(batch, delta, |keys, hashes| drop(black_box(find(keys, hashes))));
        report(&format!("delta of {delta}: hash table, rows found"), count, time);
        let (count, time) = deltas(batch, delta, |keys, hashes| {
            let found = UInt32Array::from(find(keys, hashes));
            drop(black_box(take_record_batch(batch, &found).expect("rows are there")));
        });
        report(&format!("delta of {delta}: hash table, four columns taken"), count, time);
        let keys_of = |keys: &ArrayRef| [keys.clone()];
        let (count, time) = deltas(batch, delta, |keys, hashes| drop(black_box(one.weights(&keys_of(keys), hashes))));
        report(&format!("delta of {delta}: one run, weights"), count, time);
        let (count, time) = deltas(batch, delta, |keys, hashes| drop(black_box(one.lookup(&keys_of(keys), hashes))));
        report(&format!("delta of {delta}: one run, lookup of four columns"), count, time);
    }
    println!();
}

/// The same rows in several runs, as between two merges.
fn probing_pieces(batch: &RecordBatch) {
    let rows = batch.num_rows();
    for sizes in [vec![8, 1], vec![64, 16, 4, 1], vec![1; 7]] {
        let total: usize = sizes.iter().sum();
        let mut start = 0;
        let mut runs = Vec::new();
        for size in &sizes {
            let part = batch.slice(start, rows * size / total);
            start += part.num_rows();
            runs.push(Arc::new(Run::build(&Rows::inserts(part).assume_consolidated(), &[0])));
        }
        let several = Arrangement::restore(batch.schema(), vec![0], runs).snapshot();
        for delta in [1, 1_000, 65_536] {
            let (count, time) = deltas(batch, delta, |keys, hashes| {
                drop(black_box(several.weights(std::slice::from_ref(keys), hashes)));
            });
            report(&format!("delta of {delta}: runs of sizes {sizes:?}, weights"), count, time);
            let (count, time) = deltas(batch, delta, |keys, hashes| {
                drop(black_box(several.lookup(std::slice::from_ref(keys), hashes)));
            });
            report(&format!("delta of {delta}: runs of sizes {sizes:?}, lookup"), count, time);
        }
    }
    println!();
}

fn texts(rows: usize) {
    let batch = named_texts(0, rows);
    let all = Rows::inserts(batch.clone()).assume_consolidated();
    report(&format!("text keys: run of {rows}"), rows, best(3, || drop(black_box(Run::build(&all, &[0])))));
    let mut one = Arrangement::new(batch.schema(), vec![0]);
    one.absorb(&all);
    for delta in [1, 1_000, 65_536] {
        let (count, time) = deltas(&batch, delta, |keys, hashes| {
            drop(black_box(one.lookup(std::slice::from_ref(keys), hashes)));
        });
        report(&format!("text keys, delta of {delta}: lookup of two columns"), count, time);
    }
    println!();
}

fn absorbing(rows: usize) {
    for delta in [100, 1_000, 8_192, 65_536] {
        let rows = if delta < 1_000 { rows / 5 } else { rows };
        absorb_all(&format!("absorb {rows} rows of four columns by {delta}"), rows, delta, numbers);
    }
    absorb_all(&format!("absorb {} rows with text keys by 8192", rows / 5), rows / 5, 8_192, named_texts);
    println!();
}

fn absorb_all(name: &str, rows: usize, delta: usize, make: fn(usize, usize) -> RecordBatch) {
    let deltas: Vec<Rows> = (0..rows / delta).map(|index| Rows::inserts(make(index * delta, delta))).collect();
    let mut arrangement = Arrangement::new(deltas[0].schema(), vec![0]);
    absorb_each(name, rows, &mut arrangement, &deltas);
}

/// One row in, and as an aggregate does it: look the key up, retract the old row, insert a new one.
fn small_absorbs(batch: &RecordBatch) {
    let mut arrangement = Arrangement::new(batch.schema(), vec![0]);
    arrangement.absorb(&Rows::inserts(batch.clone()).assume_consolidated());
    let deltas: Vec<Rows> = (0..20_000).map(|index| Rows::inserts(numbers(1_000_000_000 + index, 1))).collect();
    absorb_each("absorb one row into all", deltas.len(), &mut arrangement, &deltas);
    let updates: Vec<_> = (0..20_000)
        .map(|round| {
            let (keys, hashes) = some_keys(batch, 1, round);
            let (old, new) = (Rows::inserts(batch.slice(round, 1)), Rows::inserts(batch.slice(round * 7, 1)));
            (keys, hashes, Rows::concat(&batch.schema(), &[old.negate(), new]))
        })
        .collect();
    let time = timed(|| {
        for (keys, hashes, change) in &updates {
            black_box(arrangement.lookup(std::slice::from_ref(keys), hashes));
            arrangement.absorb(change);
        }
    });
    report("look a key up, then absorb one row out and one in", updates.len(), time);
    println!("{:<64} {:>8} runs\n", "", arrangement.runs().len());
}

fn absorb_each(name: &str, rows: usize, arrangement: &mut Arrangement, deltas: &[Rows]) {
    let mut longest = Duration::ZERO;
    let time = timed(|| {
        for delta in deltas {
            let start = Instant::now();
            arrangement.absorb(delta);
            longest = longest.max(start.elapsed());
        }
    });
    report(name, rows, time);
    println!("{:<64} {:>8} runs, longest absorb {longest:?}", "", arrangement.runs().len());
}

fn consolidating() {
    for delta in [1, 2, 100, 8_192, 1_000_000] {
        let rows = Rows::inserts(numbers(0, delta));
        let twice = Rows::concat(&rows.schema(), &[rows.clone(), rows.slice(0, delta / 2).negate()]);
        let rounds = (1_000_000 / delta).clamp(1, 100_000);
        let time = best(3, || (0..rounds).for_each(|_| drop(black_box(consolidate(&rows)))));
        report(&format!("consolidate {delta} different rows"), rounds * delta, time);
        let time = best(3, || (0..rounds).for_each(|_| drop(black_box(consolidate(&twice)))));
        report(&format!("consolidate {delta} rows and the retraction of half of them"), rounds * delta, time);
    }
}
