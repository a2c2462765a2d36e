//! Keeps the rows of one input that meet a row of another, or those that meet none, or marks all with which it is.
//!
//! **Serves** `EXISTS`, `IN`, `NOT EXISTS`, `NOT IN`, `INTERSECT`, `EXCEPT`, and both inside `OR`. **Class** keyed.
//! **Rule** the output changes for the rows of dA, and for those rows of A whose key gets its first partner in B or loses
//! its last. **Keeps** the rows of A by key, and of B only how many rows have a key (all its rows with a residual).
//! **Cost** one lookup for each delta row, and the rows that turn. With a residual, every step looks at all pairs of
//! rows of the keys that it touches.
//! **Corners** `IN` and `NOT IN` (null-aware): in an empty B is nothing; else a NULL in A is NULL, and what is not in a B
//! that has a NULL is NULL. A step in which one of that turns looks at all of A. Route both inputs to one worker.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;

use super::matching::{JoinOn, Keyed, Matching, Side, SideName, SideSnapshot, batch, keep, split_null_keys, turned};
use super::{all_errors, two};
use crate::dataflow::operator::{Held, Mapped, Operator, StatePart};
use crate::state::Run;
use crate::zset::{Delta, ErrorRows, Moment, Rows, Weight, consolidate, weights_add};

/// What becomes of the rows of the left input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SemiKind {
    /// Those that meet something stay.
    Semi,
    /// Those that meet nothing stay.
    Anti,
    /// As `NOT IN` has it. One key column, no residual.
    NullAwareAnti,
    /// All stay, with one more column: whether they meet something.
    Mark,
    /// The same with the value of `IN`, which may be NULL. One key column, no residual.
    NullAwareMark,
}

/// Left rows by whether they meet a right row.
pub struct SemiJoin {
    kind: SemiKind,
    matching: Matching,
    schema: SchemaRef,
    null_equals_null: bool,
    left: Side,
    right: Side,
    /// Only for the null-aware kinds: how many rows the right input has, and how many of them are NULL.
    right_rows: Weight,
    right_nulls: Weight,
}

impl SemiJoin {
    pub fn new(kind: SemiKind, on: JoinOn, left: &SchemaRef, right: &SchemaRef, schema: SchemaRef) -> Self {
        assert_eq!(on.left.len(), on.right.len(), "keys have as many columns on the left as on the right");
        let null_aware = matches!(kind, SemiKind::NullAwareAnti | SemiKind::NullAwareMark);
        assert!(!null_aware || (on.left.len() == 1 && on.residual.is_none()), "IN compares one column");
        let by_key = on.residual.is_none();
        Self {
            kind,
            // The null-aware kinds keep NULLs with the other keys and look at them themselves.
            null_equals_null: on.null_equals_null || null_aware,
            left: Side::new(left, &on.left, true, false),
            right: Side::new(right, &on.right, !by_key, by_key),
            matching: Matching::new(on.residual, left, right),
            schema,
            right_rows: 0,
            right_nulls: 0,
        }
    }

    fn is_null_aware(&self) -> bool {
        matches!(self.kind, SemiKind::NullAwareAnti | SemiKind::NullAwareMark)
    }

    fn change(&mut self, left: &Rows, right: &Rows) -> (Vec<Rows>, ErrorRows) {
        let (own, alone) = split_null_keys(left, self.left.key(), self.null_equals_null);
        let (other, _) = split_null_keys(right, self.right.key(), self.null_equals_null);
        let (held, before, was) = (self.left.snapshot(), self.right.snapshot(), self.standing());
        self.left.absorb(&own);
        self.right.absorb(&other);
        if self.is_null_aware() {
            self.count_right(&other.key[0], &other.rows);
        }
        let (after, is) = (self.right.snapshot(), self.standing());
        if was != is {
            return (self.change_all(&held, (&before, was), (&after, is)), ErrorRows::default());
        }
        let turned = turned(&self.matching, SideName::Left, self.left.key(), &held, &other, (&before, &after));
        let fresh = self.matching.find(&own, SideName::Left, &after);
        let mut errs = turned.after.errors(&turned.rows);
        errs.add_all(&turned.before.errors(&turned.rows).negate());
        errs.add_all(&fresh.errors(&own.rows));
        let parts = vec![
            self.chosen(&turned.rows, &turned.before.matched, was).negate(),
            self.chosen(&turned.rows, &turned.after.matched, is),
            self.chosen(&own.rows, &fresh.matched, is),
            self.chosen(&alone, &vec![false; alone.len()], is),
        ];
        (parts, errs)
    }

    /// The change when the right input gets its first row or NULL, or loses its last: every left row may turn.
    fn change_all(
        &self,
        held: &SideSnapshot,
        (before, was): (&SideSnapshot, Standing),
        (after, is): (&SideSnapshot, Standing),
    ) -> Vec<Rows> {
        let all = |left: &SideSnapshot, right: &SideSnapshot, standing: Standing| {
            let rows = Keyed::new(left.rows().collect(), self.left.key());
            let found = self.matching.find(&rows, SideName::Left, right);
            self.chosen(&rows.rows, &found.matched, standing)
        };
        let (gone, come) = (all(held, before, was).negate(), all(&self.left.snapshot(), after, is));
        vec![consolidate(&Rows::concat(&self.schema, &[gone, come]))]
    }

    /// What rows of the left input give, by whether they meet something.
    fn chosen(&self, rows: &Rows, matched: &[bool], standing: Standing) -> Rows {
        let nulls = match self.is_null_aware() {
            true => rows.column(self.left.key()[0]).logical_nulls(),
            false => None,
        };
        // The lookup lets NULL meet NULL; in SQL what NULL is in is not known.
        let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
        let verdict = |row: usize| match standing {
            Standing::Unasked => Some(matched[row]),
            Standing::Empty => Some(false),
            Standing::Whole | Standing::HasNull if is_null(row) => None,
            Standing::Whole => Some(matched[row]),
            Standing::HasNull => matched[row].then_some(true),
        };
        let verdicts = (0..rows.len()).map(verdict);
        let (rows, mark) = match self.kind {
            SemiKind::Semi => (keep(rows, verdicts.map(|verdict| verdict == Some(true))), None),
            SemiKind::Anti | SemiKind::NullAwareAnti => {
                (keep(rows, verdicts.map(|verdict| verdict == Some(false))), None)
            }
            SemiKind::Mark | SemiKind::NullAwareMark => {
                let mark: ArrayRef = Arc::new(BooleanArray::from_iter(verdicts));
                (rows.clone(), Some(mark))
            }
        };
        let columns = rows.batch().columns().iter().cloned().chain(mark).collect();
        rows.with_batch(batch(&self.schema, columns, rows.len()))
    }

    fn standing(&self) -> Standing {
        match (self.right_rows, self.right_nulls) {
            _ if !self.is_null_aware() => Standing::Unasked,
            (0, _) => Standing::Empty,
            (_, 0) => Standing::Whole,
            _ => Standing::HasNull,
        }
    }

    /// Adds rows of the right input, of which `key` is the key column.
    fn count_right(&mut self, key: &ArrayRef, rows: &Rows) {
        let key = key.logical_nulls();
        for row in 0..rows.len() {
            self.right_rows = weights_add(self.right_rows, rows.weight(row));
            if key.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                self.right_nulls = weights_add(self.right_nulls, rows.weight(row));
            }
        }
    }
}

/// What the right input as a whole means for `IN`.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    /// The join is not null-aware.
    Unasked,
    /// Nothing is in it, not even NULL.
    Empty,
    /// It has rows, and no NULL.
    Whole,
    /// What it does not have might be its NULL.
    HasNull,
}

impl Operator for SemiJoin {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let (left, right) = two("semi_join", inputs);
        let mut errs = all_errors(inputs);
        let (parts, failed) = self.change(&left.oks, &right.oks);
        errs.add_all(&failed);
        Delta::new(Rows::concat(&self.schema, &parts), errs)
    }

    fn save(&mut self) -> Vec<StatePart> {
        self.left.save().into_iter().chain(self.right.save()).collect()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let mut parts = parts.into_iter();
        self.left.load(&mut parts);
        self.right.load(&mut parts);
        if self.is_null_aware() {
            let counted = self.right.snapshot().counts().collect();
            self.count_right(counted.column(0), &counted);
        }
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

    use super::super::join::tests::{LEFT, RESIDUAL, RIGHT, meet, on};
    use super::*;
    use crate::dataflow::law::{CASES, Input, Table, check_law_in, check_steps, schema, watched};

    fn output(kind: SemiKind) -> SchemaRef {
        schema(if matches!(kind, SemiKind::Mark | SemiKind::NullAwareMark) {
            "k INT, x BIGINT, mark BOOL"
        } else {
            LEFT
        })
    }

    fn join(kind: SemiKind, residual: Option<&str>, nulls: bool) -> Box<dyn Operator> {
        let operator = SemiJoin::new(kind, on(residual, nulls), &schema(LEFT), &schema(RIGHT), output(kind));
        watched(operator, &output(kind))
    }

    #[test]
    fn a_row_comes_with_its_first_partner_and_goes_with_its_last() {
        let steps: [&[&str]; 4] = [
            &["+2 | 1 | 10\n+1 | NULL | 30", "+1 | NULL | 1 | n"],
            &["", "+1 | 1 | 100 | a\n+1 | 1 | 101 | b"],
            &["-1 | 1 | 10", "-1 | 1 | 100 | a"],
            &["+1 | 1 | 11", "-1 | 1 | 101 | b"],
        ];
        check_steps(
            &|| join(SemiKind::Semi, None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"

            --
            +2 | 1 | 10
            --
            -1 | 1 | 10
            --
            -1 | 1 | 10"#]],
        );
        check_steps(
            &|| join(SemiKind::Anti, None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +1 | NULL | 30
            +2 | 1 | 10
            --
            -2 | 1 | 10
            --

            --
            +1 | 1 | 10
            +1 | 1 | 11"#]],
        );
    }

    #[test]
    fn not_in_is_hidden_by_a_null_and_shown_by_nothing() {
        let steps: [&[&str]; 4] = [
            &["+1 | 1 | 10\n+1 | 2 | 20\n+1 | NULL | 30", ""],
            &["", "+1 | 1 | 0 | a"],
            &["+1 | 3 | 40", "+1 | NULL | 0 | b"],
            &["", "-1 | NULL | 0 | b\n-1 | 1 | 0 | a"],
        ];
        check_steps(
            &|| join(SemiKind::NullAwareAnti, None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +1 | 1 | 10
            +1 | 2 | 20
            +1 | NULL | 30
            --
            -1 | 1 | 10
            -1 | NULL | 30
            --
            -1 | 2 | 20
            --
            +1 | 1 | 10
            +1 | 2 | 20
            +1 | 3 | 40
            +1 | NULL | 30"#]],
        );
    }

    #[test]
    fn a_mark_turns_with_the_partners() {
        let steps: [&[&str]; 2] = [&["+1 | 1 | 10\n+1 | NULL | 0", ""], &["", "+1 | 1 | 0 | a"]];
        check_steps(
            &|| join(SemiKind::Mark, None, false),
            &[LEFT, RIGHT],
            &steps,
            expect![[r#"
            +1 | 1 | 10 | false
            +1 | NULL | 0 | false
            --
            -1 | 1 | 10 | false
            +1 | 1 | 10 | true"#]],
        );
    }

    fn naive(inputs: &[Table], kind: SemiKind, residual: bool, nulls: bool) -> Table {
        let mut output = Table::default();
        for (a, v) in inputs[0].rows() {
            let mut met = false;
            for (b, w) in inputs[1].rows() {
                match meet(a, b, residual, nulls) {
                    Ok(verdict) => met |= verdict,
                    Err(error) => output.add_error(&error, v * w),
                }
            }
            let empty = inputs[1].rows().next().is_none();
            let has_null = inputs[1].rows().any(|(b, _)| b[0] == "NULL");
            let unknown = !met && !empty && (has_null || a[0] == "NULL");
            let (stays, mark) = match kind {
                SemiKind::Semi => (met, None),
                SemiKind::Anti => (!met, None),
                SemiKind::NullAwareAnti => (!met && !unknown, None),
                SemiKind::Mark => (true, Some(met.to_string())),
                SemiKind::NullAwareMark if unknown => (true, Some("NULL".to_string())),
                SemiKind::NullAwareMark => (true, Some(met.to_string())),
            };
            if stays {
                output.add_row(a.iter().cloned().chain(mark).collect(), v);
            }
        }
        output
    }

    #[test]
    fn obeys_the_law() {
        use SemiKind::{Anti, Mark, NullAwareAnti, NullAwareMark, Semi};
        let plain = [Semi, Anti, Mark].into_iter();
        let plain = plain.flat_map(|kind| [(false, false), (true, false), (false, true)].map(|rules| (kind, rules)));
        let null_aware = [NullAwareAnti, NullAwareMark].map(|kind| (kind, (false, false)));
        for (kind, (residual, nulls)) in plain.chain(null_aware) {
            let make = || join(kind, residual.then_some(RESIDUAL), nulls);
            let inputs = [Input::new(LEFT), Input::new(RIGHT)];
            check_law_in(CASES / 5, &make, &inputs, &|inputs| naive(inputs, kind, residual, nulls));
        }
    }
}
