//! Arrangements against a naive Z-set: random deltas over all key types, with honest and with colliding hashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, RecordBatch, RecordBatchOptions, StringViewArray,
    UInt32Array,
};
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, Schema,
    SchemaRef,
};
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::run::key_columns;
use super::*;
use crate::zset::{Rows, Weight, consolidate, row_hashes};

type ZSet = BTreeMap<String, Weight>;
type Hash = fn(u64) -> u64;

const HONEST: Hash = |hash| hash;
/// Few different hashes, so that different keys share one.
const COLLIDING: Hash = |hash| (hash % 5) << 61 | (hash % 3);
const CONSTANT: Hash = |_| u64::MAX;

/// A random column of `rows` values, many of them equal.
fn column(kind: &str, rows: usize, random: &mut SmallRng) -> ArrayRef {
    let mut some = |values: usize| -> Vec<Option<usize>> {
        (0..rows).map(|_| random.random_bool(0.9).then(|| random.random_range(0..values))).collect()
    };
    const FLOATS: [f64; 8] = [0.0, -0.0, f64::NAN, -f64::NAN, 1.5, -1.5, f64::INFINITY, f64::MIN_POSITIVE];
    let text = |value: usize| match value % 3 {
        0 => format!("{value}"),
        1 => format!("{value:012}"),
        _ => format!("{value} with more than a view holds"),
    };
    match kind {
        "bool" => Arc::new(some(2).into_iter().map(|value| value.map(|value| value == 1)).collect::<BooleanArray>()),
        "int" => {
            Arc::new(some(30).into_iter().map(|value| value.map(|value| value as i32 - 9)).collect::<Int32Array>())
        }
        "unique" => Arc::new(Int64Array::from_iter_values(0..rows as i64)),
        "bigint" => {
            Arc::new(some(500).into_iter().map(|value| value.map(|value| value as i64)).collect::<Int64Array>())
        }
        "real" => {
            Arc::new(some(8).into_iter().map(|value| value.map(|value| FLOATS[value] as f32)).collect::<Float32Array>())
        }
        "double" => {
            Arc::new(some(8).into_iter().map(|value| value.map(|value| FLOATS[value])).collect::<Float64Array>())
        }
        "numeric" => {
            let values = some(40).into_iter().map(|value| value.map(|value| (value as i128 - 20) << (value * 2)));
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(38, 4).unwrap())
        }
        "interval" => {
            let span = |value: usize| match value {
                0 => IntervalMonthDayNano::new(1, 0, 0),
                1 => IntervalMonthDayNano::new(0, 30, 0),
                2 => IntervalMonthDayNano::new(0, 29, 86_400_000_000_000),
                _ => IntervalMonthDayNano::new(value as i32, -1, 7),
            };
            Arc::new(some(6).into_iter().map(|value| value.map(span)).collect::<IntervalMonthDayNanoArray>())
        }
        "text" => Arc::new(some(60).into_iter().map(|value| value.map(text)).collect::<StringViewArray>()),
        "uuid" => {
            let values = some(50).into_iter().map(|value| value.map(|value| [value as u8; 16]));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 16).unwrap())
        }
        "double[]" => {
            let lists = some(12).into_iter().map(|value| {
                value.map(|value| {
                    (0..value % 4).map(move |index| Some(FLOATS[(value + index) % 8]).filter(|v| *v != 1.5))
                })
            });
            let lists = lists.map(|list| list.map(Iterator::collect::<Vec<_>>));
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
        }
        other => panic!("{other}"),
    }
}

/// A pool of rows from which deltas are drawn; the kinds before the bar are the key.
fn pool(kinds: &str, rows: usize, random: &mut SmallRng) -> (RecordBatch, Vec<usize>) {
    let (key, rest) = kinds.split_once('|').expect("key | rest");
    let key = key.split_whitespace().collect::<Vec<_>>();
    let kinds: Vec<&str> = rest.split_whitespace().chain(key.iter().copied()).collect();
    let columns: Vec<ArrayRef> = kinds.iter().map(|kind| column(kind, rows, random)).collect();
    let fields = kinds.iter().zip(&columns).map(|(kind, column)| Field::new(*kind, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options).unwrap();
    (batch, (kinds.len() - key.len()..kinds.len()).collect())
}

/// A value as text such that equal texts are equal values; `grouped` for SQL's grouping, else identity.
fn value_text(array: &dyn Array, row: usize, grouped: bool) -> String {
    let float = |value: f64| match grouped {
        true if value.is_nan() => "NaN".to_string(),
        true => format!("{:?}", value + 0.0),
        false => format!("{:x}", value.to_bits()),
    };
    if array.is_null(row) {
        return "NULL".to_string();
    }
    match array.data_type() {
        DataType::Float32 => float(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let span = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            match grouped {
                true => crate::zset::interval_length(span).to_string(),
                false => format!("{span:?}"),
            }
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>().value(row);
            (0..list.len()).map(|item| value_text(&list, item, grouped) + ",").collect()
        }
        _ => array_value_to_string(array, row).unwrap(),
    }
}

fn row_text(columns: &[ArrayRef], row: usize, grouped: bool) -> String {
    columns.iter().map(|column| value_text(column, row, grouped) + "|").collect()
}

fn add(set: &mut ZSet, rows: &Rows) {
    for row in 0..rows.len() {
        let text = row_text(rows.batch().columns(), row, false);
        let weight = set.entry(text).or_default();
        *weight += rows.weight(row);
    }
    set.retain(|_, weight| *weight != 0);
}

/// The rows as a Z-set, if no row occurs twice and none has weight 0.
fn distinct(rows: &Rows) -> ZSet {
    let mut set = ZSet::new();
    for row in 0..rows.len() {
        let old = set.insert(row_text(rows.batch().columns(), row, false), rows.weight(row));
        assert!(old.is_none() && rows.weight(row) != 0, "row {row} occurs twice or has weight 0");
    }
    set
}

struct World {
    pool: RecordBatch,
    key: Vec<usize>,
    hash: Hash,
    model: ZSet,
    arrangement: Arrangement,
    random: SmallRng,
}

impl World {
    fn new(kinds: &str, rows: usize, hash: Hash, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let (pool, key) = pool(kinds, rows, &mut random);
        let arrangement = Arrangement::new(pool.schema(), key.clone());
        Self { pool, key, hash, model: ZSet::new(), arrangement, random }
    }

    fn schema(&self) -> SchemaRef {
        self.pool.schema()
    }

    fn hashes(&self, batch: &RecordBatch) -> Vec<u64> {
        let hashes = row_hashes(&key_columns(batch, &self.key), batch.num_rows());
        hashes.into_iter().map(self.hash).collect()
    }

    fn draw(&mut self, rows: usize) -> RecordBatch {
        let indices = (0..rows).map(|_| self.random.random_range(0..self.pool.num_rows() as u32));
        let indices = UInt32Array::from_iter_values(indices);
        Rows::inserts(self.pool.clone()).take(&indices).batch().clone()
    }

    fn delta(&mut self, rows: usize) -> Rows {
        let batch = self.draw(rows);
        let kind = self.random.random_range(0..4);
        let mut weight = || *[1, 1, -1, -1, 2, 0, -3].choose(&mut self.random).unwrap();
        let rows = match kind {
            0 => Rows::inserts(batch),
            _ => Rows::new(batch, Some((0..rows).map(|_| weight()).collect::<Vec<Weight>>().into())),
        };
        if kind == 1 { consolidate(&rows) } else { rows }
    }

    fn absorb(&mut self, rows: usize) {
        let delta = self.delta(rows);
        add(&mut self.model, &delta);
        self.arrangement.absorb_hashed(&delta, &self.hashes(delta.batch()));
    }

    fn check_lookup(&mut self, keys: usize) {
        let batch = self.draw(keys);
        let (columns, hashes) = (key_columns(&batch, &self.key), self.hashes(&batch));
        let snapshot = self.arrangement.snapshot();
        let matches = match self.random.random_bool(0.5) {
            true => self.arrangement.lookup(&columns, &hashes),
            false => snapshot.lookup(&columns, &hashes),
        };
        assert!(matches.probe.is_sorted());
        assert_eq!(matches.probe.len(), matches.rows.len());
        let all = snapshot.collect();
        let all_keys = key_columns(all.batch(), &self.key);
        let texts: Vec<String> = (0..all.len()).map(|row| row_text(&all_keys, row, true)).collect();
        let weights = self.arrangement.weights(&columns, &hashes);
        for probe in 0..keys {
            let wanted = row_text(&columns, probe, true);
            let expected: UInt32Array = (0..all.len() as u32).filter(|row| texts[*row as usize] == wanted).collect();
            let found: UInt32Array =
                (0..matches.probe.len() as u32).filter(|row| matches.probe[*row as usize] == probe as u32).collect();
            let (expected, found) = (distinct(&all.take(&expected)), distinct(&matches.rows.take(&found)));
            assert_eq!(found, expected, "key {wanted}");
            assert_eq!(weights[probe], expected.values().sum::<Weight>());
        }
    }

    fn check_snapshot(&mut self) {
        let snapshot = self.arrangement.snapshot();
        let all = snapshot.collect();
        assert_eq!(distinct(&all), self.model);
        assert!(self.hashes(all.batch()).is_sorted());
        let rows_max = self.random.random_range(1..100);
        let parts: Vec<Rows> = snapshot.batches(rows_max).collect();
        assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= rows_max && part.is_consolidated()));
        assert_eq!(distinct(&Rows::concat(&self.schema(), &parts)), self.model);
    }

    fn check_split(&mut self) {
        let workers = self.random.random_range(1..5);
        let mut parts = Vec::new();
        for worker in 0..workers {
            let (from, to) = range_of(worker, workers);
            let runs: Vec<_> = self.arrangement.runs().iter().map(|run| Arc::new(run.slice(from, to))).collect();
            for run in &runs {
                assert_eq!(run.hashes(), self.hashes(run.batch()));
                assert!(run.hashes().iter().all(|hash| worker_of(*hash, workers) == worker));
            }
            parts.push(Arrangement::restore(self.schema(), self.key.clone(), runs));
        }
        let snapshots: Vec<Snapshot> = parts.iter().map(Arrangement::snapshot).collect();
        let whole = Snapshot::merged(&snapshots);
        assert_eq!(distinct(&whole.collect()), self.model);
        assert!(self.hashes(whole.collect().batch()).is_sorted());
        self.arrangement = Arrangement::restore(self.schema(), self.key.clone(), whole.runs().to_vec());
    }

    fn check_files(&mut self) {
        let through_file = |run: &Arc<Run>| {
            let back = Run::open(Bytes::from(run.write()), self.schema(), self.key.clone()).unwrap();
            assert_eq!((back.hashes(), back.len()), (run.hashes(), run.len()));
            assert_eq!(distinct(back.rows()), distinct(run.rows()));
            Arc::new(back)
        };
        let runs: Vec<Arc<Run>> = self.arrangement.runs().iter().map(through_file).collect();
        self.arrangement = Arrangement::restore(self.schema(), self.key.clone(), runs);
        self.check_snapshot();
    }
}

fn play(kinds: &str, pool: usize, hash: Hash, rounds: usize, rows_max: usize) {
    for seed in 0..2 {
        let seed = seed + 100 * rounds as u64;
        println!("{kinds}, pool {pool}, seed {seed}");
        let mut world = World::new(kinds, pool, hash, seed);
        for _ in 0..rounds {
            let rows = 2_usize.pow(world.random.random_range(0..=rows_max.ilog2())) - world.random.random_range(0..2);
            world.absorb(rows);
            match world.random.random_range(0..12) {
                0 => world.check_snapshot(),
                1 => world.check_split(),
                2 => world.check_files(),
                3 => drop(world.arrangement.work(100)),
                4..8 => world.check_lookup(rows.min(20)),
                _ => {}
            }
        }
        world.check_snapshot();
        world.check_lookup(20);
    }
}

#[test]
fn an_arrangement_is_its_naive_z_set_for_every_key_type() {
    for kind in ["bool", "int", "bigint", "real", "double", "numeric", "interval", "text", "uuid", "double[]"] {
        play(&format!("{kind} | int text"), 300, HONEST, 60, 64);
        play(&format!("{kind} | double double[]"), 100, COLLIDING, 40, 64);
    }
}

#[test]
fn keys_of_several_columns_of_all_and_of_none_work_too() {
    for kinds in ["int text double | bool", "int text |", " | int text", "text double[] bool interval | uuid numeric"] {
        play(kinds, 200, HONEST, 60, 64);
        play(kinds, 100, COLLIDING, 40, 32);
        play(kinds, 60, CONSTANT, 30, 32);
    }
}

#[test]
fn rows_without_columns_are_counted() {
    play(" |", 1, HONEST, 40, 16);
}

#[test]
fn many_rows_pass_through_merges_that_take_several_steps() {
    play("unique | int text", 60_000, HONEST, 30, 8192);
    play("bigint | int text", 20_000, HONEST, 40, 4096);
}

#[test]
fn many_small_deltas_leave_few_runs() {
    let mut world = World::new("unique | int", 30_000, HONEST, 9);
    for _ in 0..3_000 {
        world.absorb(1);
        assert!(world.arrangement.runs().len() <= 24, "{:?}", world.arrangement);
    }
    world.check_snapshot();
}

#[test]
fn readers_are_spared_many_runs() {
    let mut world = World::new("unique | int", 5_000, HONEST, 11);
    for _ in 0..400 {
        world.absorb(20);
        let batch = world.draw(200);
        world.arrangement.snapshot().lookup(&key_columns(&batch, &world.key), &world.hashes(&batch));
    }
    assert!(world.arrangement.runs().len() <= 4, "{:?}", world.arrangement);
    world.check_snapshot();
}

#[test]
fn what_cancels_leaves_nothing_behind() {
    let mut world = World::new("unique | int text", 20_000, HONEST, 13);
    let all = Rows::inserts(world.pool.clone());
    world.arrangement.absorb(&all);
    world.arrangement.absorb(&all.negate());
    assert_eq!(world.arrangement.snapshot().collect().len(), 0);
    for _ in 0..2 {
        world.arrangement.absorb(&all);
        world.arrangement.absorb(&all.negate());
    }
    while world.arrangement.work(1000) {}
    assert!(world.arrangement.rows() <= 40_000, "{:?}", world.arrangement);
}

#[test]
fn a_snapshot_stays_what_it_was() {
    let mut world = World::new("int | text", 300, HONEST, 17);
    world.absorb(200);
    let (snapshot, model) = (world.arrangement.snapshot(), world.model.clone());
    (0..50).for_each(|_| world.absorb(100));
    assert_eq!(distinct(&snapshot.collect()), model);
}

#[test]
fn every_damaged_byte_of_a_run_file_is_noticed() {
    let mut world = World::new("int | text", 300, HONEST, 19);
    world.absorb(40);
    let run = world.arrangement.runs()[0].clone();
    let (bytes, key) = (run.write(), world.key.clone());
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x10;
        let opened = Run::open(Bytes::from(bytes), world.schema(), key.clone());
        assert!(opened.is_err(), "byte {place} of {}", run.write().len());
    }
    for length in 0..bytes.len() {
        assert!(Run::open(Bytes::copy_from_slice(&bytes[..length]), world.schema(), key.clone()).is_err());
    }
}

#[test]
fn files_of_a_newer_format_or_another_relation_are_refused_in_a_sentence() {
    let mut world = World::new("int | text", 300, HONEST, 23);
    world.absorb(40);
    let bytes = world.arrangement.runs()[0].write();
    let place = bytes.windows(7).position(|window| window == b"HWATRUN").unwrap() + 7;
    let mut newer = bytes.clone();
    newer[place] = 9;
    let refuse = |bytes: &[u8], schema: SchemaRef, key: Vec<usize>| {
        Run::open(Bytes::copy_from_slice(bytes), schema, key).unwrap_err().to_string()
    };
    let error = refuse(&newer, world.schema(), world.key.clone());
    assert_eq!(error, ": the run file has format 9, this program reads up to 1; use a newer Headwater");
    let error = refuse(&bytes, world.schema(), vec![0]);
    assert_eq!(error, ": the run file does not belong to this relation: it is keyed by columns (1), not (0)");
    let other = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let error = refuse(&bytes, other, world.key.clone());
    assert_eq!(error, ": the run file does not belong to this relation: it has columns (Utf8View, Int32), not (Int64)");
}

#[test]
fn an_opened_run_shares_the_bytes_of_its_file() {
    let mut world = World::new("unique | int text", 5_000, HONEST, 29);
    world.absorb(4_000);
    let run = world.arrangement.runs()[0].clone();
    // A vector of wide numbers is aligned as a map is.
    let mut words = vec![0_u128; run.write().len().div_ceil(16)];
    let bytes = run.write();
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(16)) {
        let mut full = [0; 16];
        full[..chunk.len()].copy_from_slice(chunk);
        *word = u128::from_le_bytes(full);
    }
    let buffer = arrow::buffer::Buffer::from_vec(words);
    let inside = buffer.as_ptr_range();
    struct Owner(arrow::buffer::Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let file = Bytes::from_owner(Owner(buffer)).slice(..bytes.len());
    let opened = Run::open(file, world.schema(), world.key.clone()).unwrap();
    for column in opened.batch().columns() {
        for buffer in column.to_data().buffers() {
            assert!(inside.contains(&buffer.as_ptr()), "{} was copied", column.data_type());
        }
    }
    assert!(inside.contains(&opened.hashes().as_ptr().cast()));
    assert_eq!((opened.is_mapped(), opened.heap_bytes()), (true, 0));
}

#[test]
fn keys_match_as_sql_groups() {
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.0), Some(f64::NAN), None, Some(1.0)]));
    let others: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(-f64::NAN), None, None]));
    let matcher = KeyMatcher::new(std::slice::from_ref(&doubles), std::slice::from_ref(&others));
    assert!((0..3).all(|row| matcher.equal(row, row)));
    assert!(!matcher.equal(3, 3) && !matcher.equal(0, 1) && !matcher.equal(0, 2));
    assert_eq!(row_hashes(&[doubles], 4)[..3], row_hashes(&[others], 4)[..3]);
}
