//! Copies rows so that every worker gets each of them.
//!
//! **Serves** the watermark, which all workers must know. **Class** linear.
//! **Rule** each inserted row once for each target; routed by the target's hash, they reach all workers. Retractions are
//! left out. **Keeps** nothing. **Cost** the delta, once for each target.
//! **Corners** a worker may get a row several times: who reads it must not mind. It is no relation, so it is no input of
//! anything but that.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::one;
use crate::dataflow::operator::Operator;
use crate::state::worker_of;
use crate::zset::{Delta, Moment, Rows, row_hashes};

/// There are no more workers than this.
const TARGETS: usize = 256;

/// Numbers whose hashes lie one in each of [`TARGETS`] equal ranges, and so in the range of every worker.
static NUMBERS: LazyLock<Vec<i64>> = LazyLock::new(|| {
    let mut found: Vec<Option<i64>> = vec![None; TARGETS];
    let mut from = 0_i64;
    while found.contains(&None) {
        let numbers: Vec<i64> = (from..from + 4096).collect();
        let column: ArrayRef = Arc::new(Int64Array::from(numbers.clone()));
        for (number, hash) in numbers.into_iter().zip(row_hashes(&[column], 4096)) {
            found[worker_of(hash, TARGETS)].get_or_insert(number);
        }
        from += 4096;
    }
    found.into_iter().flatten().collect()
});

/// Gives the columns of its input and then the target.
pub struct ToAll {
    schema: SchemaRef,
}

impl ToAll {
    pub fn new(input: &SchemaRef) -> Self {
        Self { schema: Self::schema(input) }
    }

    /// The columns of the output.
    pub fn schema(input: &SchemaRef) -> SchemaRef {
        let target = Arc::new(Field::new("target", DataType::Int64, true));
        Arc::new(Schema::new(input.fields().iter().cloned().chain([target]).collect::<Vec<_>>()))
    }
}

impl Operator for ToAll {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let input = one("copy to all", inputs);
        let came: BooleanArray = (0..input.oks.len()).map(|row| Some(input.oks.weight(row) > 0)).collect();
        let came = input.oks.filter(&came);
        let rows = UInt32Array::from_iter_values((0..came.len() as u32).flat_map(|row| [row].repeat(TARGETS)));
        let mut columns = came.take(&rows).batch().columns().to_vec();
        let targets = (0..came.len()).flat_map(|_| NUMBERS.iter().copied());
        columns.push(Arc::new(Int64Array::from_iter_values(targets)));
        let batch = RecordBatch::try_new(self.schema.clone(), columns).expect("the columns of the input and a target");
        Delta::new(Rows::inserts(batch), input.errs.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataflow::law::{moment, schema};
    use crate::zset::{ErrorRows, parse_rows};

    #[test]
    fn a_row_reaches_every_worker() {
        let columns = "at BIGINT";
        let rows = parse_rows(columns, "-1 | 1\n+1 | 2");
        let given = ToAll::new(&schema(columns)).eval(moment(0), &[Delta::new(rows, ErrorRows::default())]);
        let hashes = row_hashes(&[given.oks.column(1).clone()], given.oks.len());
        for workers in [1, 2, 3, 7, 100, 256] {
            let reached: std::collections::BTreeSet<usize> =
                hashes.iter().map(|hash| worker_of(*hash, workers)).collect();
            assert_eq!(reached.len(), workers);
        }
    }
}
