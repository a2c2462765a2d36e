//! Keeps the rows of one input that meet a row of another, or those that meet none, or marks all with which it is.
//!
//! **Serves** `EXISTS`, `IN`, `NOT EXISTS`, `NOT IN`, `INTERSECT`, `EXCEPT`, and both inside `OR`. **Class** keyed.
//! **Rule** the output changes for the rows of dA, and for those rows of A whose key gets its first partner in B or loses
//! its last. **Keeps** the rows of A by key, and of B only how many rows have a key (all its rows with a residual).
//! **Cost** one lookup for each delta row, and the rows that turn. With a residual, every step looks at all pairs of
//! rows of the keys that it touches.
//! **Corners** `NOT IN` (null-aware): a NULL in B hides every row, an empty B shows every row, and a NULL in A is hidden
//! unless B is empty. A step in which one of that changes looks at all of A. Route both inputs to one worker.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;

use super::matching::{
    Found, JoinOn, Keyed, Matching, Side, SideName, SideSnapshot, batch, keep, split_null_keys, turned,
};
use super::{all_errors, two};
use crate::dataflow::operator::{Held, Operator, StatePart};
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
}

/// Left rows by whether they meet a right row.
pub struct SemiJoin {
    kind: SemiKind,
    matching: Matching,
    schema: SchemaRef,
    null_equals_null: bool,
    left: Side,
    right: Side,
    /// Only for `NOT IN`: how many rows the right input has, and how many of them are NULL.
    right_rows: Weight,
    right_nulls: Weight,
}

impl SemiJoin {
    pub fn new(kind: SemiKind, on: JoinOn, left: &SchemaRef, right: &SchemaRef, schema: SchemaRef) -> Self {
        assert_eq!(on.left.len(), on.right.len(), "keys have as many columns on the left as on the right");
        let null_aware = kind == SemiKind::NullAwareAnti;
        assert!(!null_aware || (on.left.len() == 1 && on.residual.is_none()), "NOT IN compares one column");
        let by_key = on.residual.is_none();
        Self {
            kind,
            // NOT IN keeps NULLs with the other keys and looks at them itself.
            null_equals_null: on.null_equals_null || null_aware,
            left: Side::new(left, &on.left, true, false),
            right: Side::new(right, &on.right, !by_key, by_key),
            matching: Matching::new(on.residual, left, right),
            schema,
            right_rows: 0,
            right_nulls: 0,
        }
    }

    fn change(&mut self, left: &Rows, right: &Rows) -> (Vec<Rows>, ErrorRows) {
        let (own, alone) = split_null_keys(left, self.left.key(), self.null_equals_null);
        let (other, _) = split_null_keys(right, self.right.key(), self.null_equals_null);
        let (held, before) = (self.left.snapshot(), self.right.snapshot());
        self.left.absorb(&own);
        self.right.absorb(&other);
        let after = self.right.snapshot();
        if self.kind == SemiKind::NullAwareAnti {
            return (self.change_not_in(&held, &own, &other, (&before, &after)), ErrorRows::default());
        }
        let states = (&before, &after);
        let turned = turned(&self.matching, SideName::Left, self.left.key(), &held, &other, states);
        let fresh = self.matching.find(&own, SideName::Left, &after);
        let mut errs = turned.after.errors(&turned.rows);
        errs.add_all(&turned.before.errors(&turned.rows).negate());
        errs.add_all(&fresh.errors(&own.rows));
        let nothing = vec![false; alone.len()];
        let parts = vec![
            self.chosen(&turned.rows, &turned.before.matched).negate(),
            self.chosen(&turned.rows, &turned.after.matched),
            self.chosen(&own.rows, &fresh.matched),
            self.chosen(&alone, &nothing),
        ];
        (parts, errs)
    }

    /// What rows of the left input give, by whether they meet something.
    fn chosen(&self, rows: &Rows, matched: &[bool]) -> Rows {
        match self.kind {
            SemiKind::Semi => self.labelled(&keep(rows, matched.iter().copied())),
            SemiKind::Anti | SemiKind::NullAwareAnti => self.labelled(&keep(rows, matched.iter().map(|met| !met))),
            SemiKind::Mark => {
                let mark: ArrayRef = Arc::new(BooleanArray::from(matched.to_vec()));
                let columns = rows.batch().columns().iter().cloned().chain([mark]).collect();
                rows.with_batch(batch(&self.schema, columns, rows.len()))
            }
        }
    }

    fn labelled(&self, rows: &Rows) -> Rows {
        rows.with_batch(batch(&self.schema, rows.batch().columns().to_vec(), rows.len()))
    }

    fn change_not_in(
        &mut self,
        held: &SideSnapshot,
        own: &Keyed,
        other: &Keyed,
        (before, after): (&SideSnapshot, &SideSnapshot),
    ) -> Vec<Rows> {
        let was = Shown::new(self.right_rows, self.right_nulls);
        self.count_right(&other.key[0], &other.rows);
        let is = Shown::new(self.right_rows, self.right_nulls);
        match (was, is) {
            (Shown::All, Shown::All) => vec![self.labelled(&own.rows)],
            (Shown::None, Shown::None) => Vec::new(),
            (Shown::Unmatched, Shown::Unmatched) => {
                let turned = turned(&self.matching, SideName::Left, self.left.key(), held, other, (before, after));
                let fresh = self.matching.find(own, SideName::Left, after);
                vec![
                    self.not_in(&turned.rows, &turned.before).negate(),
                    self.not_in(&turned.rows, &turned.after),
                    self.not_in(&own.rows, &fresh),
                ]
            }
            _ => {
                let old = Keyed::new(held.rows.as_ref().expect("the left rows are kept").collect(), self.left.key());
                let new = self.left.snapshot().rows.expect("the left rows are kept").collect();
                let new = Keyed::new(new, self.left.key());
                let gone = self.shown(was, &old, before).negate();
                let come = self.shown(is, &new, after);
                vec![consolidate(&Rows::concat(&self.schema, &[gone, come]))]
            }
        }
    }

    fn shown(&self, shown: Shown, rows: &Keyed, right: &SideSnapshot) -> Rows {
        match shown {
            Shown::All => self.labelled(&rows.rows),
            Shown::None => Rows::empty(self.schema.clone()),
            Shown::Unmatched => self.not_in(&rows.rows, &self.matching.find(rows, SideName::Left, right)),
        }
    }

    /// The rows that are not NULL and meet nothing.
    fn not_in(&self, rows: &Rows, found: &Found) -> Rows {
        let key = rows.column(self.left.key()[0]).logical_nulls();
        let is_null = |row: usize| key.as_ref().is_some_and(|nulls| nulls.is_null(row));
        self.labelled(&keep(rows, (0..rows.len()).map(|row| !found.matched[row] && !is_null(row))))
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

/// Which left rows `NOT IN` shows, as the right input stands.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    All,
    None,
    Unmatched,
}

impl Shown {
    fn new(rows: Weight, nulls: Weight) -> Self {
        match (rows, nulls) {
            (0, _) => Shown::All,
            (_, 0) => Shown::Unmatched,
            _ => Shown::None,
        }
    }
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
        if self.kind == SemiKind::NullAwareAnti {
            let counted = self.right.snapshot().counts().collect();
            self.count_right(counted.column(0), &counted);
        }
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
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    fn output(kind: SemiKind) -> SchemaRef {
        schema(if kind == SemiKind::Mark { "k INT, x BIGINT, mark BOOL" } else { LEFT })
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
            let stays = match kind {
                SemiKind::Semi => met,
                SemiKind::Anti => !met,
                SemiKind::NullAwareAnti => empty || (!met && !has_null && a[0] != "NULL"),
                SemiKind::Mark => true,
            };
            let mark = (kind == SemiKind::Mark).then(|| met.to_string());
            if stays {
                output.add_row(a.iter().cloned().chain(mark).collect(), v);
            }
        }
        output
    }

    #[test]
    fn obeys_the_law() {
        for kind in [SemiKind::Semi, SemiKind::Anti, SemiKind::Mark, SemiKind::NullAwareAnti] {
            for (residual, nulls) in [(false, false), (true, false), (false, true)] {
                if kind == SemiKind::NullAwareAnti && (residual || nulls) {
                    continue;
                }
                let make = || join(kind, residual.then_some(RESIDUAL), nulls);
                let inputs = [Input::new(LEFT), Input::new(RIGHT)];
                check_law(&make, &inputs, &|inputs| naive(inputs, kind, residual, nulls));
            }
        }
    }
}
