//! Keeps one copy of every row.
//!
//! **Serves** `SELECT DISTINCT`, `UNION`, the inside of `IN`. **Class** keyed.
//! **Rule** a row whose count rises above 0 comes, one whose count falls to 0 goes. **Keeps** each row and its count.
//! **Cost** one probe of a hash table for each delta row.
//! **Corners** NULL equals NULL; -0.0 is 0.0, and any NaN is one NaN: what comes out is the canonical one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::counted::Counted;
use super::{collect_runs, one, one_run};
use crate::dataflow::operator::{Held, Operator, StatePart};
use crate::state::Run;
use crate::zset::{Delta, Moment, Rows, canonical};

/// The rows of its input, each once.
pub struct Distinct {
    schema: SchemaRef,
    counted: Counted,
}

impl Distinct {
    pub fn new(schema: SchemaRef) -> Self {
        let types = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        Self { schema, counted: Counted::new(types) }
    }

    fn change(&mut self, rows: &Rows) -> Rows {
        let columns: Vec<ArrayRef> = rows.batch().columns().iter().map(canonical).collect();
        let weights = rows.weights().map(|weights| weights.values().as_ref());
        let turns = self.counted.change(&columns, rows.len(), weights);
        let rows = Rows::inserts(batch_of(&self.schema, columns, rows.len())).take(&UInt32Array::from(turns.rows));
        let signs = turns.signs.contains(&-1).then(|| Int64Array::from(turns.signs));
        Rows::new(rows.into_parts().0, signs).assume_consolidated()
    }
}

fn batch_of(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("the columns are those of the schema")
}

impl Operator for Distinct {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let input = one("distinct", inputs);
        let oks = match input.oks.is_empty() {
            true => Rows::empty(self.schema.clone()),
            false => self.change(&input.oks),
        };
        Delta::new(oks, input.errs.clone())
    }

    fn save(&mut self) -> Vec<StatePart> {
        let (columns, counts) = self.counted.save();
        let batch = batch_of(&self.schema, columns, counts.len());
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        vec![one_run(&Rows::new(batch, Some(counts)).assume_consolidated(), &all)]
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let [runs] = <[_; 1]>::try_from(parts).expect("distinct saves one part");
        let rows = collect_runs(&self.schema, runs);
        let weights = rows.weights().map(|weights| weights.values().as_ref());
        self.counted.change(rows.batch().columns(), rows.len(), weights);
    }

    fn held(&self) -> Held {
        Held { rows: self.counted.rows(), bytes: self.counted.bytes() }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    const COLUMNS: &str = "x DOUBLE PRECISION, s TEXT";

    fn distinct() -> Box<dyn Operator> {
        watched(Distinct::new(schema(COLUMNS)), &schema(COLUMNS))
    }

    #[test]
    fn a_row_comes_with_its_first_copy_and_goes_with_its_last() {
        let steps: [&[&str]; 4] = [
            &["+2 | 1 | a\n+1 | NULL | NULL"],
            &["-1 | 1 | a\n+1 | 2 | b\n-1 | 2 | b"],
            &["-1 | 1 | a\n+1 | 3 | c"],
            &["+1 | 1 | a"],
        ];
        check_steps(
            &distinct,
            &[COLUMNS],
            &steps,
            expect![[r#"
            +1 | 1.0 | a
            +1 | NULL | NULL
            --

            --
            -1 | 1.0 | a
            +1 | 3.0 | c
            --
            +1 | 1.0 | a"#]],
        );
    }

    #[test]
    fn negative_zero_is_zero() {
        check_steps(
            &distinct,
            &[COLUMNS],
            &[&["+1 | -0.0 | a"], &["+1 | 0.0 | a"], &["-1 | -0.0 | a"]],
            expect![[r#"
            +1 | 0.0 | a
            --

            --
        "#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        let naive = |inputs: &[Table]| {
            let mut output = Table::default();
            for (row, _) in inputs[0].rows() {
                let row = row.iter().map(|cell| if cell == "-0.0" { "0.0".to_string() } else { cell.clone() });
                let row: Vec<String> = row.collect();
                if !output.oks.contains_key(&row) {
                    output.add_row(row, 1);
                }
            }
            output
        };
        check_law(&distinct, &[Input::new(COLUMNS)], &naive);
    }
}
