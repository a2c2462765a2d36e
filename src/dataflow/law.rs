//! The law that every operator obeys: what it answers to deltas sums up to what a naive twin answers to their sums.
//!
//! Deltas are random: rows that cancel, weights that retract more than is there and give it back in the same step,
//! error rows. They are cut into steps at random, and the operator is saved and loaded midway. A failure prints its
//! seed; `HEADWATER_SEED=n cargo test` runs that one case.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use expect_test::Expect;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::check::guarded;
use super::operator::Operator;
use crate::error::SqlState;
use crate::state::{Run, range_of};
use crate::zset::{DataError, Delta, ErrorRows, Moment, PgType, Rows, Step, Weight, parse_rows, pretty_delta};

/// Random cases for each operator.
pub(crate) const CASES: u64 = 1_000;

/// Makes the operator under test.
pub(crate) type Make<'a> = &'a dyn Fn() -> Box<dyn Operator>;

/// A whole Z-set as text: the cells of each row as `pretty` shows them, and error rows as `22012 division by zero`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub oks: BTreeMap<Vec<String>, Weight>,
    pub errs: BTreeMap<String, Weight>,
}

impl Table {
    pub(crate) fn add_row(&mut self, row: Vec<String>, weight: Weight) {
        add(&mut self.oks, row, weight);
    }

    pub(crate) fn add_error(&mut self, error: &str, weight: Weight) {
        add(&mut self.errs, error.to_string(), weight);
    }

    pub(crate) fn add_delta(&mut self, delta: &Delta) {
        for (row, weight) in cells(&delta.oks) {
            self.add_row(row, weight);
        }
        for (error, weight) in delta.errs.iter() {
            self.add_error(&format!("{} {}", String::from_utf8_lossy(&error.code), error.message), weight);
        }
    }

    /// Each row with its weight.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Vec<String>, Weight)> {
        self.oks.iter().map(|(row, weight)| (row, *weight))
    }
}

fn add<K: Ord>(map: &mut BTreeMap<K, Weight>, key: K, weight: Weight) {
    let sum = map.get(&key).copied().unwrap_or(0) + weight;
    if sum == 0 {
        map.remove(&key);
    } else {
        map.insert(key, sum);
    }
}

fn cells(rows: &Rows) -> Vec<(Vec<String>, Weight)> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter> = (rows.batch().columns().iter())
        .map(|column| ArrayFormatter::try_new(column, &options).expect("every SQL type can be shown"))
        .collect();
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect();
    (0..rows.len()).map(|index| (row(index), rows.weight(index))).collect()
}

/// A schema of columns like `"x INT, v NUMERIC(10,2)"`.
pub(crate) fn schema(columns: &str) -> SchemaRef {
    let mut depth = 0;
    let columns = columns.split(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    });
    let fields = columns.filter(|column| !column.trim().is_empty()).map(|column| {
        let (name, kind) = column.trim().split_once(' ').expect("a column is `name TYPE`");
        PgType::parse(kind).expect("the type is known").field(name, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// The answers of one operator to deltas given as text, step by step, each input of a step as one text.
pub(crate) fn check_steps(make: Make, inputs: &[&str], steps: &[&[&str]], expected: Expect) {
    let mut operator = make();
    let mut answers = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let deltas: Vec<Delta> = inputs.iter().zip(*step).map(|(columns, text)| parse_delta(columns, text)).collect();
        answers.push(pretty_delta(&operator.eval(moment(index), &deltas)));
    }
    expected.assert_eq(&answers.join("\n--\n"));
}

/// Reads what [`pretty_delta`] writes: rows, and error rows like `+1 ! 22012 division by zero`.
fn parse_delta(columns: &str, text: &str) -> Delta {
    let (errors, rows): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains(" ! "));
    let mut errs = ErrorRows::default();
    for line in errors {
        let (weight, error) = line.trim().split_once(" ! ").expect("an error row");
        errs.add(error_of(error), weight.parse().expect("a weight"));
    }
    Delta::new(parse_rows(columns, &rows.join("\n")), errs)
}

fn error_of(text: &str) -> DataError {
    let (code, message) = text.split_at(5);
    DataError::new(SqlState(code.as_bytes().try_into().expect("five letters")), message.trim_start())
}

pub(crate) fn moment(index: usize) -> Moment {
    Moment { step: Step(index as u64 + 1), now: 1_000_000 * (index as i64 + 1) }
}

/// What the random rows of one input look like.
#[derive(Clone)]
pub(crate) struct Input {
    pub schema: SchemaRef,
    /// Rows are never retracted.
    pub append_only: bool,
}

impl Input {
    pub(crate) fn new(columns: &str) -> Self {
        Self { schema: schema(columns), append_only: false }
    }

    pub(crate) fn append_only(columns: &str) -> Self {
        Self { append_only: true, ..Self::new(columns) }
    }
}

/// Checks the law on random cases. `naive` gives the whole output for whole inputs; error rows of inputs, which every
/// operator passes on, are added to its answer here.
pub(crate) fn check_law(make: Make, inputs: &[Input], naive: &dyn Fn(&[Table]) -> Table) {
    check_law_in(CASES, make, inputs, naive);
}

/// The same for one of several variants of an operator, which share its cases.
pub(crate) fn check_law_in(cases: u64, make: Make, inputs: &[Input], naive: &dyn Fn(&[Table]) -> Table) {
    let replayed = std::env::var("HEADWATER_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let first = replayed.unwrap_or_else(|| rand::random::<u64>() >> 16);
    let cases = if replayed.is_some() { 1 } else { cases };
    for seed in first..first + cases {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_case(seed, make, inputs, naive)));
        if let Err(panic) = outcome {
            eprintln!("the law is broken: replay with HEADWATER_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn check_case(seed: u64, make: Make, inputs: &[Input], naive: &dyn Fn(&[Table]) -> Table) {
    let mut random = SmallRng::seed_from_u64(seed);
    let steps = random_steps(&mut random, inputs);
    let reload_before = random.random_range(1..=steps.len() * 2);
    let mut operator = make();
    let mut twin = seed.is_multiple_of(8).then(make);
    let mut whole: Vec<Table> = vec![Table::default(); inputs.len()];
    let mut answer = Table::default();
    for (index, deltas) in steps.iter().enumerate() {
        if index == reload_before {
            operator = reload(&mut *operator, make, &mut random);
            twin = None;
        }
        if index > 0 && index != reload_before && deltas.iter().all(Delta::is_empty) {
            continue;
        }
        let output = operator.eval(moment(index), deltas);
        if let Some(twin) = &mut twin {
            assert_same_bytes(&output, &twin.eval(moment(index), deltas));
        }
        answer.add_delta(&output);
        whole.iter_mut().zip(deltas).for_each(|(whole, delta)| whole.add_delta(delta));
        assert_eq!(answer, expected(&whole, naive), "after step {} of case {seed}; inputs {whole:#?}", index + 1);
    }
}

fn expected(whole: &[Table], naive: &dyn Fn(&[Table]) -> Table) -> Table {
    let mut expected = naive(whole);
    let errors = whole.iter().flat_map(|input| input.errs.iter());
    errors.for_each(|(error, weight)| expected.add_error(error, *weight));
    expected
}

fn assert_same_bytes(one: &Delta, other: &Delta) {
    assert_eq!(one.oks.batch(), other.oks.batch(), "the same inputs give the same rows in the same order");
    assert_eq!(one.oks.weights_array(), other.oks.weights_array(), "the same inputs give the same weights");
    assert_eq!(one.errs, other.errs, "the same inputs give the same errors");
}

/// A new operator with the state of the old one, cut into shares as for other workers and maybe written and read.
pub(crate) fn reload(operator: &mut dyn Operator, make: Make, random: &mut SmallRng) -> Box<dyn Operator> {
    let parts = operator.save();
    let mut fresh = make();
    if parts.is_empty() {
        return fresh;
    }
    let workers = random.random_range(1..=3);
    let written = random.random_bool(0.2);
    let shares = parts.into_iter().map(|part| {
        let cut = part.runs.iter().flat_map(|run| {
            (0..workers).map(move |worker| {
                let (from, to) = range_of(worker, workers);
                Arc::new(run.slice(from, to))
            })
        });
        cut.map(|run| if written { rewritten(&run) } else { run }).collect()
    });
    fresh.load(shares.collect());
    fresh
}

fn rewritten(run: &Run) -> Arc<Run> {
    let bytes = bytes::Bytes::from(run.write());
    Arc::new(Run::open(bytes, run.schema(), run.key().to_vec()).expect("a run that was written can be read"))
}

/// The deltas of a random case: for each step one delta for each input.
pub(crate) fn random_steps(random: &mut SmallRng, inputs: &[Input]) -> Vec<Vec<Delta>> {
    let steps = random.random_range(1..=6);
    let mut histories: Vec<History> = inputs.iter().map(|input| History::new(input.clone())).collect();
    (0..steps).map(|_| histories.iter_mut().map(|history| history.random_delta(random)).collect()).collect()
}

/// One input so far, so that what is retracted is there.
struct History {
    input: Input,
    rows: BTreeMap<Vec<&'static str>, Weight>,
    errors: BTreeMap<&'static str, Weight>,
}

const ERRORS: [&str; 2] = ["22012 division by zero", "22003 integer out of range"];

impl History {
    fn new(input: Input) -> Self {
        Self { input, rows: BTreeMap::new(), errors: BTreeMap::new() }
    }

    fn random_delta(&mut self, random: &mut SmallRng) -> Delta {
        let changes = match random.random_range(0..20) {
            0..5 => 0,
            5..18 => random.random_range(1..8),
            _ => random.random_range(20..80),
        };
        let mut lines: Vec<(Vec<&'static str>, Weight)> = Vec::new();
        for _ in 0..changes {
            self.random_change(random, &mut lines);
        }
        lines.shuffle(random);
        Delta::new(rows_of(&self.input.schema, &lines), self.random_errors(random))
    }

    fn random_change(&mut self, random: &mut SmallRng, lines: &mut Vec<(Vec<&'static str>, Weight)>) {
        let fresh: Vec<&'static str> =
            self.input.schema.fields().iter().map(|field| *domain(field).choose(random).expect("not empty")).collect();
        let there: Vec<&Vec<&'static str>> = self.rows.keys().collect();
        let old = there.choose(random).map(|row| (*row).clone());
        let change = match old {
            Some(old) if !self.input.append_only && random.random_bool(0.45) => {
                let weight = self.rows[&old];
                let gone = random.random_range(1..=weight);
                if random.random_bool(0.2) {
                    // More is retracted than is there; the rest comes back in the same step.
                    lines.push((old.clone(), -gone - 2));
                    lines.push((old.clone(), 2));
                } else {
                    lines.push((old.clone(), -gone));
                }
                (old, -gone)
            }
            _ if !self.input.append_only && random.random_bool(0.1) => {
                lines.push((fresh.clone(), 1));
                lines.push((fresh.clone(), -1));
                (fresh, 0)
            }
            _ => {
                let weight = if random.random_bool(0.8) { 1 } else { random.random_range(2..4) };
                lines.push((fresh.clone(), weight));
                (fresh, weight)
            }
        };
        add(&mut self.rows, change.0, change.1);
    }

    fn random_errors(&mut self, random: &mut SmallRng) -> ErrorRows {
        let mut errs = ErrorRows::default();
        if random.random_bool(0.1) {
            let error = *ERRORS.choose(random).expect("not empty");
            let there = self.errors.get(error).copied().unwrap_or(0);
            let weight = if there > 0 && random.random_bool(0.6) { -there } else { 1 };
            add(&mut self.errors, error, weight);
            errs.add(error_of(error), weight);
        }
        errs
    }
}

/// Few values, so that keys meet; among them those that are dangerous.
fn domain(field: &Field) -> &'static [&'static str] {
    match field.data_type() {
        DataType::Boolean => &["NULL", "true", "false"],
        DataType::Int16 => &["NULL", "0", "1", "2", "-32768", "32767"],
        DataType::Int32 => &["NULL", "0", "1", "2", "3", "-7", "2147483647"],
        DataType::Int64 => &["NULL", "0", "1", "2", "3", "-7", "9223372036854775807", "-9223372036854775808"],
        DataType::Float32 => &["NULL", "0", "-0.0", "1.5", "0.1", "-2.5"],
        DataType::Float64 => &["NULL", "0", "-0.0", "0.1", "0.2", "-2.5", "1e300", "1e-300", "NaN"],
        DataType::Decimal128(_, _) => &["NULL", "0.00", "1.25", "-3.10", "99999.99"],
        DataType::Date32 => &["NULL", "2024-02-29", "1969-12-31"],
        DataType::Timestamp(_, _) => &["NULL", "2024-02-29T12:00:00", "1969-12-31T23:59:59.999999"],
        _ => &["NULL", "", "a", "b", "a text longer than twelve bytes", "another text longer than that"],
    }
}

fn rows_of(schema: &SchemaRef, lines: &[(Vec<&'static str>, Weight)]) -> Rows {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let column = |(index, field): (usize, &Arc<Field>)| {
        let cells = lines.iter().map(|(row, _)| Some(row[index]).filter(|cell| *cell != "NULL"));
        let cells: ArrayRef = Arc::new(StringArray::from_iter(cells));
        cast_with_options(&cells, field.data_type(), &strict).expect("values of the domain are of the type")
    };
    let columns: Vec<ArrayRef> = schema.fields().iter().enumerate().map(column).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns fit");
    let all_one = lines.iter().all(|(_, weight)| *weight == 1);
    Rows::new(batch, (!all_one).then(|| Int64Array::from_iter_values(lines.iter().map(|(_, weight)| *weight))))
}

/// The operator under guard, as the host runs it.
pub(crate) fn watched(operator: impl Operator + 'static, schema: &SchemaRef) -> Box<dyn Operator> {
    guarded(Box::new(operator), "operator", schema.clone(), false)
}
