//! Computes the result anew for the keys that a step touches and gives the difference from their result before.
//!
//! **Serves** window functions by PARTITION BY, aggregates without a rule of their own. **Class** keyed-recompute.
//! **Rule** `d f(A) = f(A + dA) - f(A)`, both for the touched keys alone. **Keeps** all rows of the inputs and the last
//! result, by key. **Cost** all rows of the touched keys, in one computation.
//! **Corners** NULL is a key like any other. A key for which the computation fails is one error row until a later
//! computation for it succeeds; the other keys of the step are not harmed. A key without rows has no result.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::all_errors;
use super::matching::{Keyed, batch};
use super::recompute::{BATCH_ROWS, Compute, difference, expanded, merged};
use crate::dataflow::operator::{Held, Mapped, Operator, StatePart};
use crate::error::SqlState;
use crate::state::{Arrangement, Run};
use crate::zset::{DataError, Delta, Moment, Rows, consolidate};

/// Keeps a relation that falls apart by key, by computing the keys that change.
pub struct KeyedRecompute {
    compute: Arc<dyn Compute>,
    inputs: Vec<Arrangement>,
    output: Arrangement,
    /// The keys that fail: key columns, SQLSTATE, message.
    failed: Arrangement,
}

/// The result for some keys.
struct Outcome {
    rows: Vec<RecordBatch>,
    /// Places of keys, and why they fail.
    failed: Vec<(u32, DataError)>,
}

impl KeyedRecompute {
    /// `inputs` are schemas with the columns of the key, which have the same types in all inputs and in `output_key`,
    /// the columns of the result that hold the key. For rows of some keys the computation must give the result rows of
    /// these keys and no others.
    pub fn new(
        compute: Arc<dyn Compute>,
        inputs: Vec<(SchemaRef, Vec<usize>)>,
        schema: SchemaRef,
        output_key: Vec<usize>,
    ) -> Self {
        let key_fields = output_key
            .iter()
            .enumerate()
            .map(|(place, column)| Field::new(format!("k{place}"), schema.field(*column).data_type().clone(), true));
        let text = |name: &str| Field::new(name, DataType::Utf8View, true);
        let fields: Vec<Field> = key_fields.chain([text("code"), text("message")]).collect();
        Self {
            compute,
            inputs: inputs.into_iter().map(|(schema, key)| Arrangement::new(schema, key)).collect(),
            failed: Arrangement::new(Arc::new(Schema::new(fields)), (0..output_key.len()).collect()),
            output: Arrangement::new(schema, output_key),
        }
    }

    /// Every key that a delta has, once.
    fn touched(&self, inputs: &[Delta]) -> Keyed {
        let width = self.output.key().len();
        let fields: Vec<_> = self.failed.schema().fields().iter().take(width).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        let keys = self.inputs.iter().zip(inputs).map(|(kept, input)| {
            let columns = kept.key().iter().map(|column| input.oks.column(*column).clone()).collect();
            Rows::inserts(batch(&schema, columns, input.oks.len()))
        });
        let keys = Rows::concat(&schema, &keys.collect::<Vec<_>>());
        let all: Vec<usize> = (0..width).collect();
        Keyed::new(keys, &all).distinct_keys().into_owned()
    }

    fn compute(&self, now: i64, keys: &Keyed) -> Outcome {
        let mut outcome = Outcome { rows: Vec::new(), failed: Vec::new() };
        let places: Vec<u32> = (0..keys.rows.len() as u32).collect();
        self.compute_some(now, keys, &places, &mut outcome);
        outcome
    }

    /// Computes all keys at once; if that fails, each half of them, until the keys that fail are alone.
    fn compute_some(&self, now: i64, keys: &Keyed, places: &[u32], outcome: &mut Outcome) {
        let some = if places.len() == keys.rows.len() { keys.clone() } else { keys.take(places) };
        let rows: Vec<Rows> = self.inputs.iter().map(|input| input.lookup(&some.key, &some.hashes).rows).collect();
        if rows.iter().all(Rows::is_empty) {
            return;
        }
        match self.compute.compute(now, rows.iter().map(in_batches).collect()) {
            Ok(batches) => outcome.rows.extend(batches),
            Err(error) if places.len() == 1 => outcome.failed.push((places[0], error)),
            Err(_) => {
                let (one, other) = places.split_at(places.len() / 2);
                self.compute_some(now, keys, one, outcome);
                self.compute_some(now, keys, other, outcome);
            }
        }
    }

    /// The rows of `failed` for the keys that fail now.
    fn failures(&self, keys: &Keyed, failed: &[(u32, DataError)]) -> Rows {
        let places = UInt32Array::from_iter_values(failed.iter().map(|(place, _)| *place));
        let take = |column: &ArrayRef| compute::take(column, &places, None).expect("places are those of keys");
        let codes = failed.iter().map(|(_, error)| Some(String::from_utf8_lossy(&error.code).into_owned()));
        let messages = failed.iter().map(|(_, error)| Some(error.message.clone()));
        let codes: ArrayRef = Arc::new(StringViewArray::from_iter(codes));
        let messages: ArrayRef = Arc::new(StringViewArray::from_iter(messages));
        let columns = keys.key.iter().map(take).chain([codes, messages]).collect();
        Rows::inserts(batch(self.failed.schema(), columns, failed.len()))
    }
}

fn in_batches(rows: &Rows) -> Vec<RecordBatch> {
    let starts = (0..rows.len()).step_by(BATCH_ROWS);
    starts.map(|start| expanded(&rows.slice(start, BATCH_ROWS.min(rows.len() - start)))).collect()
}

/// The error of each row of failures.
fn errors_of(failures: &Rows) -> Vec<DataError> {
    let width = failures.batch().num_columns();
    let codes = failures.column(width - 2).as_string_view();
    let messages = failures.column(width - 1).as_string_view();
    let error = |row| {
        let code = codes.value(row).as_bytes().try_into().unwrap_or(SqlState::INTERNAL_ERROR.0);
        DataError::new(SqlState(code), messages.value(row))
    };
    (0..failures.len()).map(error).collect()
}

impl Operator for KeyedRecompute {
    fn eval(&mut self, at: Moment, inputs: &[Delta]) -> Delta {
        assert_eq!(inputs.len(), self.inputs.len(), "keyed_recompute has as many inputs as it was built for");
        let mut errs = all_errors(inputs);
        let keys = self.touched(inputs);
        if keys.is_empty() {
            return Delta::new(Rows::empty(self.output.schema().clone()), errs);
        }
        self.inputs.iter_mut().zip(inputs).for_each(|(kept, input)| kept.absorb(&input.oks));
        let outcome = self.compute(at.now, &keys);
        let schema = self.output.schema().clone();
        let old = self.output.lookup(&keys.key, &keys.hashes).rows;
        let oks = difference(&schema, &merged(&outcome.rows, &schema), &old);
        self.output.absorb(&oks);
        let old = self.failed.lookup(&keys.key, &keys.hashes).rows;
        let failures = difference(self.failed.schema(), &self.failures(&keys, &outcome.failed), &old);
        for (row, error) in errors_of(&failures).into_iter().enumerate() {
            errs.add(error, failures.weight(row));
        }
        self.failed.absorb(&failures);
        Delta::new(consolidate(&oks), errs)
    }

    fn save(&mut self) -> Vec<StatePart> {
        let all = self.inputs.iter().chain([&self.output, &self.failed]);
        all.map(|kept| StatePart { runs: kept.runs().to_vec() }).collect()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let all = self.inputs.iter_mut().chain([&mut self.output, &mut self.failed]);
        for (kept, runs) in all.zip(parts) {
            *kept = Arrangement::restore(kept.schema().clone(), kept.key().to_vec(), runs);
        }
    }

    fn spill(&mut self, mapped: &Mapped) {
        let all = self.inputs.iter_mut().chain([&mut self.output, &mut self.failed]);
        for kept in all {
            kept.spill(mapped);
        }
    }

    fn held(&self) -> Held {
        let all = self.inputs.iter().chain([&self.output, &self.failed]);
        all.fold(Held::default(), |sum, kept| Held { rows: sum.rows + kept.rows(), bytes: sum.bytes + kept.bytes() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;
    use expect_test::expect;

    use super::*;
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    const COLUMNS: &str = "k BIGINT, x BIGINT";
    const OUTPUT: &str = "n BIGINT, k BIGINT";

    /// The rows of each key, counted over both inputs; a value of 2 makes it fail.
    struct CountByKey;

    impl Compute for CountByKey {
        fn compute(&self, _now: i64, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, DataError> {
            let mut counts: BTreeMap<Option<i64>, i64> = BTreeMap::new();
            for batch in inputs.iter().flatten() {
                let values = batch.column(1).as_primitive::<Int64Type>();
                if values.iter().any(|value| value == Some(2)) {
                    return Err(DataError::new(SqlState::DIVISION_BY_ZERO, "two"));
                }
                for key in batch.column(0).as_primitive::<Int64Type>() {
                    *counts.entry(key).or_default() += 1;
                }
            }
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(counts.values().copied()));
            let keys: ArrayRef = Arc::new(Int64Array::from_iter(counts.keys().copied()));
            Ok(vec![RecordBatch::try_new(schema("a BIGINT, b BIGINT"), vec![numbers, keys]).expect("two columns")])
        }
    }

    fn operator() -> Box<dyn Operator> {
        let inputs = vec![(schema(COLUMNS), vec![0]), (schema(COLUMNS), vec![0])];
        watched(KeyedRecompute::new(Arc::new(CountByKey), inputs, schema(OUTPUT), vec![1]), &schema(OUTPUT))
    }

    #[test]
    fn only_touched_keys_are_computed_and_only_failing_ones_fail() {
        let steps: [&[&str]; 4] = [
            &["+1 | 1 | 5\n+1 | NULL | 5", "+1 | 7 | 5"],
            &["+1 | 1 | 2\n+1 | 7 | 1", "+2 | 8 | 3"],
            &["+1 | 1 | 9", ""],
            &["-1 | 1 | 2", "-1 | 7 | 5\n-1 | 7 | 1\n+1 | 7 | 1"],
        ];
        check_steps(
            &operator,
            &[COLUMNS, COLUMNS],
            &steps,
            expect![[r#"
            +1 | 1 | 1
            +1 | 1 | 7
            +1 | 1 | NULL
            --
            -1 | 1 | 1
            -1 | 1 | 7
            +1 | 2 | 7
            +1 | 2 | 8
            +1 ! 22012 two
            --

            --
            +1 | 1 | 7
            +1 | 2 | 1
            -1 | 2 | 7
            -1 ! 22012 two"#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        let naive = |inputs: &[Table]| {
            let mut keys: BTreeMap<String, (i64, bool)> = BTreeMap::new();
            for (row, weight) in inputs.iter().flat_map(Table::rows) {
                let entry = keys.entry(row[0].clone()).or_default();
                *entry = (entry.0 + weight, entry.1 || row[1] == "2");
            }
            let mut output = Table::default();
            for (key, (count, fails)) in keys {
                match fails {
                    true => output.add_error("22012 two", 1),
                    false => output.add_row(vec![count.to_string(), key], 1),
                }
            }
            output
        };
        check_law(&operator, &[Input::new(COLUMNS), Input::new(COLUMNS)], &naive);
    }
}
