//! Puts together the rows of two inputs that meet.
//!
//! **Serves** `JOIN … ON`, `FROM a, b WHERE …`, cross joins. **Class** keyed.
//! **Rule** `d(A ⋈ B) = dA ⋈ B + (A + dA) ⋈ dB`. **Keeps** the rows of both inputs by key, but those with NULL in it.
//! **Cost** one lookup for each delta row, and the rows found.
//! **Corners** NULL meets nothing unless `null_equals_null`. A pair on which the residual fails is an error row of the
//! pair's weight. Without key columns every row meets every row: route both inputs to one worker.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::matching::{JoinOn, Keyed, Matching, Side, SideName, split_null_keys};
use super::{all_errors, two};
use crate::dataflow::expr::relabel;
use crate::dataflow::operator::{Held, Mapped, Operator, StatePart};
use crate::state::Run;
use crate::zset::{Delta, Moment, Rows};

/// The inner join of two inputs: the left columns, then the right ones.
pub struct Join {
    matching: Matching,
    schema: SchemaRef,
    null_equals_null: bool,
    left: Side,
    right: Side,
}

impl Join {
    pub fn new(on: JoinOn, left: &SchemaRef, right: &SchemaRef, schema: SchemaRef) -> Self {
        assert_eq!(on.left.len(), on.right.len(), "keys have as many columns on the left as on the right");
        Self {
            null_equals_null: on.null_equals_null,
            left: Side::new(left, &on.left, true, false),
            right: Side::new(right, &on.right, true, false),
            matching: Matching::new(on.residual, left, right),
            schema,
        }
    }

    fn keyed(&self, rows: &Rows, side: &Side) -> Keyed {
        split_null_keys(rows, side.key(), self.null_equals_null).0
    }
}

impl Operator for Join {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let (left, right) = two("join", inputs);
        let (left, right) = (self.keyed(&left.oks, &self.left), self.keyed(&right.oks, &self.right));
        let mut errs = all_errors(inputs);
        let (one, failed) = self.matching.join(&left, SideName::Left, &self.right.snapshot());
        errs.add_all(&failed);
        self.left.absorb(&left);
        let (other, failed) = self.matching.join(&right, SideName::Right, &self.left.snapshot());
        errs.add_all(&failed);
        self.right.absorb(&right);
        let rows = Rows::concat(&self.matching.schema, &[one, other]);
        Delta::new(rows.with_batch(relabel(rows.batch(), &self.schema)), errs)
    }

    fn save(&mut self) -> Vec<StatePart> {
        self.left.save().into_iter().chain(self.right.save()).collect()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let mut parts = parts.into_iter();
        self.left.load(&mut parts);
        self.right.load(&mut parts);
    }

    fn spill(&mut self, mapped: &Mapped) {
        self.left.spill(mapped);
        self.right.spill(mapped);
    }

    fn held(&self) -> Held {
        let (left, right) = (self.left.held(), self.right.held());
        Held { rows: left.rows + right.rows, bytes: left.bytes + right.bytes }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use expect_test::expect;

    use super::*;
    use crate::dataflow::expr::Predicate;
    use crate::dataflow::expr::tests::expression;
    use crate::dataflow::law::{CASES, Input, Table, check_law_in, check_steps, schema, watched};

    pub(in super::super) const LEFT: &str = "k INT, x BIGINT";
    pub(in super::super) const RIGHT: &str = "j INT, y BIGINT, s TEXT";
    pub(in super::super) const BOTH: &str = "k INT, x BIGINT, j INT, y BIGINT, s TEXT";

    pub(in super::super) fn on(residual: Option<&str>, null_equals_null: bool) -> JoinOn {
        let residual = residual.map(|sql| Predicate::new(expression(BOTH, sql)));
        JoinOn { left: vec![0], right: vec![0], null_equals_null, residual }
    }

    /// Whether two rows of text meet on their first columns and `6 / y > x`; `Err` if that fails.
    pub(in super::super) fn meet(a: &[String], b: &[String], residual: bool, nulls: bool) -> Result<bool, String> {
        if a[0] != b[0] || (a[0] == "NULL" && !nulls) {
            return Ok(false);
        }
        if !residual {
            return Ok(true);
        }
        match (a[1].parse::<i64>(), b[1].parse::<i64>()) {
            (_, Ok(0)) => Err("22012 division by zero".to_string()),
            (Ok(x), Ok(y)) => Ok(6 / y > x),
            _ => Ok(false),
        }
    }

    pub(in super::super) const RESIDUAL: &str = "6 / y > x";

    fn join(residual: Option<&str>, nulls: bool) -> Box<dyn Operator> {
        let operator = Join::new(on(residual, nulls), &schema(LEFT), &schema(RIGHT), schema(BOTH));
        watched(operator, &schema(BOTH))
    }

    #[test]
    fn both_sides_may_change_in_one_step() {
        let steps: [&[&str]; 3] = [
            &["+1 | 1 | 10\n+1 | 2 | 20\n+1 | NULL | 30", "+1 | 1 | 100 | a\n+1 | NULL | 300 | c"],
            &["-1 | 1 | 10\n+2 | 1 | 11", "+1 | 1 | 101 | b"],
            &["", "-1 | 1 | 100 | a\n+1 | 2 | 200 | d"],
        ];
        check_steps(
            &|| join(None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +1 | 1 | 10 | 1 | 100 | a
            --
            -1 | 1 | 10 | 1 | 100 | a
            +2 | 1 | 11 | 1 | 100 | a
            +2 | 1 | 11 | 1 | 101 | b
            --
            +1 | 2 | 20 | 2 | 200 | d
            -2 | 1 | 11 | 1 | 100 | a"#]],
        );
    }

    #[test]
    fn a_residual_that_fails_makes_an_error_of_the_pair() {
        let steps: [&[&str]; 2] =
            [&["+2 | 1 | 1", "+1 | 1 | 0 | a\n+1 | 1 | 2 | b\n+1 | 1 | 6 | c"], &["-1 | 1 | 1", ""]];
        check_steps(
            &|| join(Some(RESIDUAL), false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +2 | 1 | 1 | 1 | 2 | b
            +2 ! 22012 division by zero
            --
            -1 | 1 | 1 | 1 | 2 | b
            -1 ! 22012 division by zero"#]],
        );
    }

    #[test]
    fn without_key_columns_every_row_meets_every_row() {
        let make = || {
            let on = JoinOn { left: vec![], right: vec![], null_equals_null: false, residual: None };
            watched(Join::new(on, &schema("x INT"), &schema("y INT"), schema("x INT, y INT")), &schema("x INT, y INT"))
        };
        check_steps(
            &make,
            &["x INT", "y INT"],
            &[&["+1 | 1\n+1 | 2", "+1 | NULL"], &["", "+1 | 7"]],
            expect![[r#"
            +1 | 1 | NULL
            +1 | 2 | NULL
            --
            +1 | 1 | 7
            +1 | 2 | 7"#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        for (residual, nulls) in [(false, false), (true, false), (false, true)] {
            let naive = |inputs: &[Table]| {
                let mut output = Table::default();
                for (a, v) in inputs[0].rows() {
                    for (b, w) in inputs[1].rows() {
                        match meet(a, b, residual, nulls) {
                            Ok(true) => output.add_row([a.clone(), b.clone()].concat(), v * w),
                            Ok(false) => {}
                            Err(error) => output.add_error(&error, v * w),
                        }
                    }
                }
                output
            };
            let make = || join(residual.then_some(RESIDUAL), nulls);
            check_law_in(CASES / 2, &make, &[Input::new(LEFT), Input::new(RIGHT)], &naive);
        }
    }
}
