//! Puts the rows of several inputs together.
//!
//! **Serves** `UNION ALL`. **Class** linear. **Rule** `d(A + B) = dA + dB`. **Keeps** nothing.
//! **Cost** one copy of the delta, none if only one input has rows.
//! **Corners** Inputs may name their columns differently; the output has the names of the union.

use arrow::datatypes::SchemaRef;

use crate::dataflow::expr::relabel;
use crate::dataflow::operator::Operator;
use crate::zset::{Delta, ErrorRows, Moment, Rows};

/// The sum of any number of inputs whose columns have the same types.
#[derive(Debug)]
pub struct Union {
    schema: SchemaRef,
}

impl Union {
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }
}

impl Operator for Union {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let mut errs = ErrorRows::default();
        inputs.iter().for_each(|input| errs.add_all(&input.errs));
        let filled = inputs.iter().filter(|input| !input.oks.is_empty());
        let parts: Vec<Rows> =
            filled.map(|input| input.oks.with_batch(relabel(input.oks.batch(), &self.schema))).collect();
        Delta::new(Rows::concat(&self.schema, &parts), errs)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    fn union() -> Box<dyn Operator> {
        watched(Union::new(schema("z BIGINT")), &schema("z BIGINT"))
    }

    #[test]
    fn rows_of_all_inputs_come_out_with_their_weights() {
        check_steps(
            &union,
            &["x BIGINT", "y BIGINT"],
            &[&["+1 | 1\n-2 | 2", "+1 | 1"], &["", "-1 | 1"]],
            expect![[r#"
                +1 | 1
                +1 | 1
                -2 | 2
                --
                -1 | 1"#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        let naive = |inputs: &[Table]| {
            let mut output = Table::default();
            let rows = inputs.iter().flat_map(Table::rows);
            rows.for_each(|(row, weight)| output.add_row(row.clone(), weight));
            output
        };
        let inputs = [Input::new("x BIGINT"), Input::new("y BIGINT"), Input::append_only("z BIGINT")];
        check_law(&union, &inputs, &naive);
    }
}
