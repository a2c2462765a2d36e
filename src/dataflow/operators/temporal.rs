//! Keeps the rows whose time has not passed yet, or those whose time has come, by the clock of the steps.
//!
//! **Serves** `WHERE ts > now() - interval '…'` and its like. **Class** keyed.
//! **Rule** a row is given until the clock reaches its time, or from then on: each step moves the clock from g to g', and
//! the rows with a time between the two go, or come. **Keeps** the rows whose time is still to come.
//! **Cost** the delta, and the rows whose time comes in the step.
//! **Corners** a row whose time is NULL is never given. A row that is retracted after it went was gone already.
//! Route all inputs to one worker: the clock is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Date32Type, SchemaRef, TimestampMicrosecondType};

use super::{all_errors, collect_runs, one_run, two};
use crate::dataflow::operator::{Held, Operator, StatePart};
use crate::state::Run;
use crate::zset::{Delta, Moment, Rows, consolidate};

const DAY_MICROS: i64 = 86_400_000_000;
/// Rows wait together whose times are in the same so many microseconds.
const BUCKET: i64 = 1_000_000;
/// Deltas of one bucket that are kept apart.
const PARTS_MAX: usize = 16;

/// What happens to a row when the clock reaches its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Leaves,
    Enters,
}

/// Rows by their time.
pub struct Temporal {
    turn: Turn,
    /// The column of a row's time.
    time: usize,
    /// Whether the turn comes only when the clock is past the time.
    after: bool,
    schema: SchemaRef,
    clock_schema: SchemaRef,
    clock: Rows,
    waiting: BTreeMap<i64, Vec<Rows>>,
}

impl Temporal {
    /// The second input is one row with one column: the clock, or what is computed from it.
    pub fn new(turn: Turn, time: usize, after: bool, schema: SchemaRef, clock_schema: SchemaRef) -> Self {
        let clock = Rows::empty(clock_schema.clone());
        Self { turn, time, after, schema, clock_schema, clock, waiting: BTreeMap::new() }
    }

    fn now(&self) -> Option<i64> {
        (!self.clock.is_empty()).then(|| micros(self.clock.column(0), 0)).flatten()
    }

    fn is_due(&self, time: i64, now: Option<i64>) -> bool {
        now.is_some_and(|now| if self.after { time < now } else { time <= now })
    }

    /// The rows whose turn it is, and the others.
    fn split(&self, rows: &Rows, now: Option<i64>) -> (Rows, Rows) {
        let times = rows.column(self.time);
        let (mut due, mut later) = (Vec::new(), Vec::new());
        for row in 0..rows.len() {
            match micros(times, row) {
                Some(time) if self.is_due(time, now) => due.push(row as u32),
                Some(_) => later.push(row as u32),
                None => {}
            }
        }
        (rows.take(&UInt32Array::from(due)), rows.take(&UInt32Array::from(later)))
    }

    /// Takes out the rows whose turn has come.
    fn turned(&mut self, now: Option<i64>) -> Vec<Rows> {
        let Some(last) = now.map(bucket_of) else { return Vec::new() };
        let later = self.waiting.split_off(&last.saturating_add(1));
        let reached = std::mem::replace(&mut self.waiting, later);
        let mut turned = Vec::new();
        for parts in reached.into_values() {
            let rows = consolidate(&Rows::concat(&self.schema, &parts));
            let (due, rest) = self.split(&rows, now);
            turned.push(due);
            self.wait(&rest);
        }
        turned
    }

    /// Keeps rows until their time.
    fn wait(&mut self, rows: &Rows) {
        let times = rows.column(self.time);
        let mut order: Vec<(i64, u32)> =
            (0..rows.len()).filter_map(|row| Some((bucket_of(micros(times, row)?), row as u32))).collect();
        order.sort_unstable();
        for together in order.chunk_by(|a, b| a.0 == b.0) {
            let places: UInt32Array = together.iter().map(|(_, row)| *row).collect::<Vec<u32>>().into();
            let bucket = together[0].0;
            let parts = self.waiting.entry(bucket).or_default();
            parts.push(rows.take(&places));
            if parts.len() > PARTS_MAX {
                *parts = vec![consolidate(&Rows::concat(&self.schema, parts))];
            }
            if parts.iter().all(Rows::is_empty) {
                self.waiting.remove(&bucket);
            }
        }
    }

    fn all_waiting(&self) -> Rows {
        let parts: Vec<Rows> = self.waiting.values().flatten().cloned().collect();
        consolidate(&Rows::concat(&self.schema, &parts))
    }
}

fn bucket_of(time: i64) -> i64 {
    time.div_euclid(BUCKET)
}

/// A date or time in microseconds since 1970.
fn micros(column: &ArrayRef, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Date32 => Some(i64::from(column.as_primitive::<Date32Type>().value(row)) * DAY_MICROS),
        _ => Some(column.as_primitive::<TimestampMicrosecondType>().value(row)),
    }
}

impl Operator for Temporal {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let (rows, clock) = two("temporal filter", inputs);
        let clock = consolidate(&Rows::concat(&self.clock_schema, &[self.clock.clone(), clock.oks.clone()]));
        self.clock = clock;
        let now = self.now();
        let mut given: Vec<Rows> = self.turned(now);
        if self.turn == Turn::Leaves {
            given.iter_mut().for_each(|rows| *rows = rows.negate());
        }
        let (due, later) = self.split(&rows.oks, now);
        self.wait(&later);
        given.push(if self.turn == Turn::Leaves { later } else { due });
        Delta::new(Rows::concat(&self.schema, &given), all_errors(inputs))
    }

    fn save(&mut self) -> Vec<StatePart> {
        vec![one_run(&self.all_waiting(), &[]), one_run(&self.clock, &[])]
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let mut parts = parts.into_iter();
        let waiting = collect_runs(&self.schema, parts.next().expect("a part of rows"));
        self.clock = collect_runs(&self.clock_schema, parts.next().expect("a part of the clock"));
        self.wait(&waiting);
    }

    fn held(&self) -> Held {
        let parts = self.waiting.values().flatten();
        parts.fold(Held::default(), |sum, part| Held { rows: sum.rows + part.len(), bytes: sum.bytes + part.bytes() })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    const COLUMNS: &str = "x INT, at TIMESTAMP";
    const CLOCK: &str = "now TIMESTAMP";

    fn operator(turn: Turn, after: bool) -> Box<dyn Operator> {
        watched(Temporal::new(turn, 1, after, schema(COLUMNS), schema(CLOCK)), &schema(COLUMNS))
    }

    #[test]
    fn rows_leave_by_themselves_when_the_clock_reaches_them() {
        let steps: [&[&str]; 4] = [
            &["+1 | 1 | 2024-01-01T00:00:01\n+2 | 2 | 2024-01-01T00:00:02\n+1 | 3 | NULL", "+1 | 2024-01-01T00:00:00"],
            &["", "-1 | 2024-01-01T00:00:00\n+1 | 2024-01-01T00:00:01"],
            &["-1 | 2 | 2024-01-01T00:00:02\n+1 | 4 | 2024-01-01T00:00:01", ""],
            &["-1 | 1 | 2024-01-01T00:00:01", "-1 | 2024-01-01T00:00:01\n+1 | 2024-01-01T00:01:00"],
        ];
        check_steps(
            &|| operator(Turn::Leaves, false),
            &[COLUMNS, CLOCK],
            &steps,
            expect![[r#"
                +1 | 1 | 2024-01-01T00:00:01
                +2 | 2 | 2024-01-01T00:00:02
                --
                -1 | 1 | 2024-01-01T00:00:01
                --
                -1 | 2 | 2024-01-01T00:00:02
                --
                -1 | 2 | 2024-01-01T00:00:02"#]],
        );
    }

    #[test]
    fn rows_enter_when_the_clock_is_past_them() {
        let steps: [&[&str]; 3] = [
            &["+1 | 1 | 2024-01-01T00:00:01", "+1 | 2024-01-01T00:00:01"],
            &["", "-1 | 2024-01-01T00:00:01\n+1 | 2024-01-01T00:00:01.000001"],
            &["-1 | 1 | 2024-01-01T00:00:01", ""],
        ];
        check_steps(
            &|| operator(Turn::Enters, true),
            &[COLUMNS, CLOCK],
            &steps,
            expect![[r#"

                --
                +1 | 1 | 2024-01-01T00:00:01
                --
                -1 | 1 | 2024-01-01T00:00:01"#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        // The naive twin cannot see the clock, so the law is that of a clock that passes all times before it begins.
        for turn in [Turn::Leaves, Turn::Enters] {
            let naive = move |inputs: &[Table]| {
                let mut output = Table::default();
                for (row, weight) in inputs[0].rows().filter(|(row, _)| row[1] != "NULL") {
                    let due = row[1].starts_with("1969");
                    if due == (turn == Turn::Enters) {
                        output.add_row(row.clone(), weight);
                    }
                }
                output
            };
            let make = move || -> Box<dyn Operator> { Box::new(Fixed(operator(turn, false))) };
            check_law(&make, &[Input::new(COLUMNS)], &naive);
        }
    }

    /// The operator with a clock that stands between the times of the law.
    struct Fixed(Box<dyn Operator>);

    impl Operator for Fixed {
        fn eval(&mut self, at: Moment, inputs: &[Delta]) -> Delta {
            let first = at.step.0 == 1;
            let text = if first { "+1 | 2000-01-01T00:00:00" } else { "" };
            let clock = crate::zset::parse_rows(CLOCK, text);
            self.0.eval(at, &[inputs[0].clone(), Delta::new(clock, Default::default())])
        }

        fn save(&mut self) -> Vec<StatePart> {
            self.0.save()
        }

        fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
            self.0.load(parts);
        }
    }
}
