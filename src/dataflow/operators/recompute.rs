//! Computes a whole result anew from its whole inputs and gives the difference from the result before.
//!
//! **Serves** every sub-plan that no other operator can keep. **Class** recompute.
//! **Rule** `d f(A) = f(A + dA) - f(A)`. **Keeps** all rows of the inputs and the last result.
//! **Cost** the whole computation in every step that touches an input.
//! **Corners** A computation that fails is one error row in place of all rows; it heals when a later one succeeds.
//! Route all inputs to one worker (`Route::ByKey` of no columns), or each worker computes from its own share.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{all_errors, collect_runs, one_run};
use crate::dataflow::expr::relabel;
use crate::dataflow::operator::{Held, Mapped, Operator, StatePart};
use crate::error::SqlState;
use crate::state::{Arrangement, Run};
use crate::zset::{DataError, Delta, Moment, Rows, consolidate};

/// What computes a result from whole relations: DataFusion, behind a trait that this room owns.
pub trait Compute: Send + Sync {
    /// The result for the given rows of each input; equal rows occur as often as they are there.
    ///
    /// Must depend on nothing but its arguments. `now` is the step's clock reading in microseconds.
    fn compute(&self, now: i64, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, DataError>;
}

/// Rows in one batch that is handed to a computation.
pub(super) const BATCH_ROWS: usize = 8_192;

/// Keeps a relation by computing all of it.
pub struct Recompute {
    compute: Arc<dyn Compute>,
    inputs: Vec<Arrangement>,
    schema: SchemaRef,
    last: Outcome,
}

/// What the last computation gave: rows, or why there are none.
struct Outcome {
    rows: Rows,
    error: Option<DataError>,
    /// False until something was computed: an empty input may well have a result.
    known: bool,
}

impl Recompute {
    pub fn new(compute: Arc<dyn Compute>, inputs: Vec<SchemaRef>, schema: SchemaRef) -> Self {
        let inputs = inputs.into_iter().map(|schema| {
            let key = (0..schema.fields().len()).collect();
            Arrangement::new(schema, key)
        });
        let last = Outcome { rows: Rows::empty(schema.clone()), error: None, known: false };
        Self { compute, inputs: inputs.collect(), schema, last }
    }

    fn compute(&self, now: i64) -> Outcome {
        let inputs = self.inputs.iter().map(|input| {
            let batches = input.snapshot().batches(BATCH_ROWS);
            batches.map(|rows| expanded(&rows)).collect()
        });
        match self.compute.compute(now, inputs.collect()) {
            Ok(batches) => Outcome { rows: merged(&batches, &self.schema), error: None, known: true },
            Err(error) => Outcome { rows: Rows::empty(self.schema.clone()), error: Some(error), known: true },
        }
    }
}

impl Operator for Recompute {
    fn eval(&mut self, at: Moment, inputs: &[Delta]) -> Delta {
        assert_eq!(inputs.len(), self.inputs.len(), "recompute has as many inputs as it was built for");
        let mut errs = all_errors(inputs);
        self.inputs.iter_mut().zip(inputs).for_each(|(kept, input)| kept.absorb(&input.oks));
        if self.last.known && inputs.iter().all(|input| input.oks.is_empty()) {
            return Delta::new(Rows::empty(self.schema.clone()), errs);
        }
        let outcome = self.compute(at.now);
        let oks = difference(&self.schema, &outcome.rows, &self.last.rows);
        if outcome.error != self.last.error {
            self.last.error.take().into_iter().for_each(|error| errs.add(error, -1));
            outcome.error.clone().into_iter().for_each(|error| errs.add(error, 1));
        }
        self.last = outcome;
        Delta::new(oks, errs)
    }

    fn save(&mut self) -> Vec<StatePart> {
        let inputs = self.inputs.iter().map(|input| StatePart { runs: input.runs().to_vec() });
        let rows = one_run(&self.last.rows, &[]);
        let errors = match self.last.known {
            true => one_run(&error_rows(std::slice::from_ref(&self.last.error)), &[]),
            false => StatePart { runs: Vec::new() },
        };
        inputs.chain([rows, errors]).collect()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let mut parts = parts.into_iter();
        for input in &mut self.inputs {
            let runs = parts.next().expect("one part for each input");
            *input = Arrangement::restore(input.schema().clone(), input.key().to_vec(), runs);
        }
        let rows = collect_runs(&self.schema, parts.next().expect("a part of rows"));
        let errors = errors_of(&collect_runs(&error_schema(), parts.next().expect("a part of errors")));
        self.last = Outcome { rows, known: !errors.is_empty(), error: errors.into_iter().flatten().next() };
    }

    fn spill(&mut self, mapped: &Mapped) {
        for kept in &mut self.inputs {
            kept.spill(mapped);
        }
    }

    fn held(&self) -> Held {
        let inputs = self.inputs.iter().map(|input| (input.rows(), input.bytes()));
        let all = inputs.chain([(self.last.rows.len(), self.last.rows.bytes())]);
        all.fold(Held::default(), |sum, (rows, bytes)| Held { rows: sum.rows + rows, bytes: sum.bytes + bytes })
    }
}

/// Every row as often as its weight says.
pub(super) fn expanded(rows: &Rows) -> RecordBatch {
    if rows.weights().is_none_or(|weights| weights.values().iter().all(|weight| *weight == 1)) {
        return rows.batch().clone();
    }
    let copies = (0..rows.len()).flat_map(|row| {
        // Invariant: no row of a relation is there less than zero times at the end of a step.
        let times = usize::try_from(rows.weight(row)).expect("a relation holds no row less than zero times");
        std::iter::repeat_n(row as u32, times)
    });
    rows.take(&copies.collect::<Vec<u32>>().into()).into_parts().0
}

/// The rows of several batches as one Z-set with the columns of `schema`.
pub(super) fn merged(batches: &[RecordBatch], schema: &SchemaRef) -> Rows {
    let parts: Vec<Rows> = batches.iter().map(|batch| Rows::inserts(relabel(batch, schema))).collect();
    consolidate(&Rows::concat(schema, &parts))
}

/// `new - old`, consolidated.
pub(super) fn difference(schema: &SchemaRef, new: &Rows, old: &Rows) -> Rows {
    consolidate(&Rows::concat(schema, &[old.negate(), new.clone()]))
}

/// How errors that are in force are saved: one row each; a row of NULLs stands for "none".
fn error_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8View, true);
    Arc::new(Schema::new(vec![text("code"), text("message")]))
}

fn error_rows(errors: &[Option<DataError>]) -> Rows {
    let code = |error: &DataError| String::from_utf8_lossy(&error.code).into_owned();
    let codes = StringViewArray::from_iter(errors.iter().map(|error| error.as_ref().map(code)));
    let message = |error: &DataError| error.message.clone();
    let messages = StringViewArray::from_iter(errors.iter().map(|error| error.as_ref().map(message)));
    let batch = RecordBatch::try_new(error_schema(), vec![Arc::new(codes), Arc::new(messages)]);
    Rows::inserts(batch.expect("two columns of text"))
}

fn errors_of(rows: &Rows) -> Vec<Option<DataError>> {
    use arrow::array::{Array, AsArray};
    let (codes, messages) = (rows.column(0).as_string_view(), rows.column(1).as_string_view());
    let error = |row| {
        let code: [u8; 5] = codes.value(row).as_bytes().try_into().unwrap_or(SqlState::INTERNAL_ERROR.0);
        DataError::new(SqlState(code), messages.value(row))
    };
    (0..rows.len()).map(|row| codes.is_valid(row).then(|| error(row))).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use expect_test::expect;

    use super::*;
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    /// The sum of the only column; a value of 7 makes it fail.
    struct Sum;

    impl Compute for Sum {
        fn compute(&self, _now: i64, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, DataError> {
            let values =
                inputs[0].iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter().flatten());
            let values: Vec<i64> = values.collect();
            if values.contains(&7) {
                return Err(DataError::new(SqlState::DIVISION_BY_ZERO, "seven"));
            }
            let sum = Int64Array::from(vec![values.iter().fold(0, |sum: i64, value| sum.wrapping_add(*value))]);
            let batch = RecordBatch::try_new(schema("other BIGINT"), vec![Arc::new(sum)]).expect("one column");
            Ok(vec![batch])
        }
    }

    fn recompute() -> Box<dyn Operator> {
        let operator = Recompute::new(Arc::new(Sum), vec![schema("x BIGINT")], schema("total BIGINT"));
        watched(operator, &schema("total BIGINT"))
    }

    #[test]
    fn only_the_difference_comes_out() {
        let steps: [&[&str]; 5] = [&[""], &["+2 | 3"], &["+1 | 0"], &["+1 | 7"], &["-1 | 7\n-1 | 3"]];
        check_steps(
            &recompute,
            &["x BIGINT"],
            &steps,
            expect![[r#"
            +1 | 0
            --
            -1 | 0
            +1 | 6
            --

            --
            -1 | 6
            +1 ! 22012 seven
            --
            +1 | 3
            -1 ! 22012 seven"#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        let naive = |inputs: &[Table]| {
            let mut output = Table::default();
            let values = || inputs[0].rows().filter_map(|(row, weight)| Some((row[0].parse::<i64>().ok()?, weight)));
            if values().any(|(value, _)| value == 7) {
                output.add_error("22012 seven", 1);
            } else {
                let sum = values().fold(0, |sum: i64, (value, weight)| sum.wrapping_add(value.wrapping_mul(weight)));
                output.add_row(vec![sum.to_string()], 1);
            }
            output
        };
        check_law(&recompute, &[Input::new("x BIGINT")], &naive);
    }
}
