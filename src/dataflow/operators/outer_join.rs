//! Puts together the rows of two inputs that meet, and keeps rows that meet nothing beside NULLs.
//!
//! **Serves** `LEFT JOIN`, `RIGHT JOIN`, `FULL JOIN`, correlated scalar subqueries. **Class** keyed.
//! **Rule** `A ⟕ B = A ⋈ B + pad(A ▷ B)`; the second part changes for the rows of dA, and for those rows of A whose key
//! gets its first partner in B or loses its last. **Keeps** the rows of both inputs by key, and how many rows have a key.
//! **Cost** one lookup for each delta row, the rows found, and those that turn. With a residual, every step looks at
//! all pairs of rows of the keys that it touches.
//! **Corners** a row with NULL in its key meets nothing: it comes padded and is not kept. A pair on which the residual
//! fails is an error row and no partner.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::matching::{JoinOn, Keyed, Matching, Side, SideName, SideSnapshot, keep, pad, split_null_keys, turned};
use super::{all_errors, two};
use crate::dataflow::expr::relabel;
use crate::dataflow::operator::{Held, Mapped, Operator, StatePart};
use crate::state::Run;
use crate::zset::{Delta, ErrorRows, Moment, Rows};

/// Which rows an outer join keeps though they meet nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OuterKind {
    Left,
    Right,
    Full,
}

/// The outer join of two inputs: the left columns, then the right ones.
pub struct OuterJoin {
    kind: OuterKind,
    matching: Matching,
    schema: SchemaRef,
    null_equals_null: bool,
    left: Side,
    right: Side,
}

/// One side's part of a step.
struct Change {
    delta: Keyed,
    /// Rows that can meet nothing.
    alone: Rows,
    before: SideSnapshot,
    after: SideSnapshot,
}

impl OuterJoin {
    pub fn new(kind: OuterKind, on: JoinOn, left: &SchemaRef, right: &SchemaRef, schema: SchemaRef) -> Self {
        assert_eq!(on.left.len(), on.right.len(), "keys have as many columns on the left as on the right");
        // A side's keys are counted for the other side's rows.
        let by_key = on.residual.is_none();
        Self {
            kind,
            null_equals_null: on.null_equals_null,
            left: Side::new(left, &on.left, true, by_key && kind != OuterKind::Left),
            right: Side::new(right, &on.right, true, by_key && kind != OuterKind::Right),
            matching: Matching::new(on.residual, left, right),
            schema,
        }
    }

    /// The change of `pad(A ▷ B)`, A being the side that is named.
    fn unmatched(&self, name: SideName, side: &Side, own: &Change, other: &Change) -> Vec<Rows> {
        let states = (&other.before, &other.after);
        let turned = turned(&self.matching, name, side.key(), &own.before, &other.delta, states);
        let was = |row: usize| turned.before.matched[row];
        let is = |row: usize| turned.after.matched[row];
        let rows = turned.rows.len();
        let gone = keep(&turned.rows, (0..rows).map(|row| !was(row) && is(row))).negate();
        let come = keep(&turned.rows, (0..rows).map(|row| was(row) && !is(row)));
        let found = self.matching.find(&own.delta, name, &other.after);
        let fresh = keep(&own.delta.rows, found.matched.iter().map(|matched| !matched));
        [gone, come, fresh, own.alone.clone()].iter().map(|rows| pad(rows, name, &self.matching.schema)).collect()
    }

    fn change(side: &mut Side, rows: &Rows, null_equals_null: bool) -> Change {
        let (delta, alone) = split_null_keys(rows, side.key(), null_equals_null);
        let before = side.snapshot();
        side.absorb(&delta);
        Change { delta, alone, before, after: side.snapshot() }
    }
}

impl Operator for OuterJoin {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let (left, right) = two("outer_join", inputs);
        let mut errs: ErrorRows = all_errors(inputs);
        let left = Self::change(&mut self.left, &left.oks, self.null_equals_null);
        let right = Self::change(&mut self.right, &right.oks, self.null_equals_null);
        let (one, failed) = self.matching.join(&left.delta, SideName::Left, &right.before);
        errs.add_all(&failed);
        let (other, failed) = self.matching.join(&right.delta, SideName::Right, &left.after);
        errs.add_all(&failed);
        let mut parts = vec![one, other];
        if self.kind != OuterKind::Right {
            parts.extend(self.unmatched(SideName::Left, &self.left, &left, &right));
        }
        if self.kind != OuterKind::Left {
            parts.extend(self.unmatched(SideName::Right, &self.right, &right, &left));
        }
        let rows = Rows::concat(&self.matching.schema, &parts);
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
mod tests {
    use expect_test::expect;

    use super::super::join::tests::{BOTH, LEFT, RESIDUAL, RIGHT, meet, on};
    use super::*;
    use crate::dataflow::law::{CASES, Input, Table, check_law_in, check_steps, schema, watched};

    fn join(kind: OuterKind, residual: Option<&str>, nulls: bool) -> Box<dyn Operator> {
        let operator = OuterJoin::new(kind, on(residual, nulls), &schema(LEFT), &schema(RIGHT), schema(BOTH));
        watched(operator, &schema(BOTH))
    }

    #[test]
    fn the_first_partner_takes_the_nulls_away_and_the_last_brings_them_back() {
        let steps: [&[&str]; 4] = [
            &["+2 | 1 | 10\n+1 | NULL | 30", ""],
            &["", "+1 | 1 | 100 | a\n+1 | 1 | 101 | b"],
            &["-1 | 1 | 10", "-1 | 1 | 100 | a"],
            &["", "-1 | 1 | 101 | b"],
        ];
        check_steps(
            &|| join(OuterKind::Left, None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +1 | NULL | 30 | NULL | NULL | NULL
            +2 | 1 | 10 | NULL | NULL | NULL
            --
            +2 | 1 | 10 | 1 | 100 | a
            +2 | 1 | 10 | 1 | 101 | b
            -2 | 1 | 10 | NULL | NULL | NULL
            --
            -1 | 1 | 10 | 1 | 100 | a
            -1 | 1 | 10 | 1 | 100 | a
            -1 | 1 | 10 | 1 | 101 | b
            --
            -1 | 1 | 10 | 1 | 101 | b
            +1 | 1 | 10 | NULL | NULL | NULL"#]],
        );
    }

    #[test]
    fn a_full_join_keeps_both_sides() {
        let steps: [&[&str]; 2] = [&["+1 | 1 | 10", "+1 | 2 | 200 | b\n+1 | NULL | 0 | c"], &["+1 | 2 | 20", ""]];
        check_steps(
            &|| join(OuterKind::Full, None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +1 | 1 | 10 | NULL | NULL | NULL
            +1 | NULL | NULL | 2 | 200 | b
            +1 | NULL | NULL | NULL | 0 | c
            --
            +1 | 2 | 20 | 2 | 200 | b
            -1 | NULL | NULL | 2 | 200 | b"#]],
        );
    }

    fn naive(inputs: &[Table], kind: OuterKind, residual: bool, nulls: bool) -> Table {
        let mut output = Table::default();
        let (left, right) = (&inputs[0], &inputs[1]);
        let met = |a: &[String], b: &[String]| meet(a, b, residual, nulls);
        for (a, v) in left.rows() {
            for (b, w) in right.rows() {
                match met(a, b) {
                    Ok(true) => output.add_row([a.clone(), b.clone()].concat(), v * w),
                    Ok(false) => {}
                    Err(error) => output.add_error(&error, v * w),
                }
            }
            if kind != OuterKind::Right && !right.rows().any(|(b, _)| met(a, b) == Ok(true)) {
                output.add_row([a.clone(), vec!["NULL".to_string(); 3]].concat(), v);
            }
        }
        for (b, w) in right.rows().filter(|_| kind != OuterKind::Left) {
            if !left.rows().any(|(a, _)| met(a, b) == Ok(true)) {
                output.add_row([vec!["NULL".to_string(); 2], b.clone()].concat(), w);
            }
        }
        output
    }

    #[test]
    fn obeys_the_law() {
        for kind in [OuterKind::Left, OuterKind::Right, OuterKind::Full] {
            for (residual, nulls) in [(false, false), (true, false), (false, true)] {
                let make = || join(kind, residual.then_some(RESIDUAL), nulls);
                let inputs = [Input::new(LEFT), Input::new(RIGHT)];
                check_law_in(CASES / 4, &make, &inputs, &|inputs| naive(inputs, kind, residual, nulls));
            }
        }
    }
}
