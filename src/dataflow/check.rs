//! Guards round every operator in debug builds: what it promises of its output is looked at from outside.

use arrow::datatypes::SchemaRef;
use std::sync::Arc;

use super::operator::{Held, Mapped, Operator, StatePart};
use crate::state::Run;
use crate::zset::{Delta, Moment, Rows, consolidate};

/// Rows of a delta up to which its promise to be consolidated is verified row by row.
const ROWS_VERIFIED_MAX: usize = 1_000;

/// The operator itself in release builds, else one that watches it.
///
/// `schema` and `append_only` are what the graph says of the operator's node.
pub fn guarded(
    inner: Box<dyn Operator>,
    name: &'static str,
    schema: SchemaRef,
    append_only: bool,
) -> Box<dyn Operator> {
    match cfg!(debug_assertions) {
        true => Box::new(Guarded { inner, name, schema, append_only }),
        false => inner,
    }
}

struct Guarded {
    inner: Box<dyn Operator>,
    name: &'static str,
    schema: SchemaRef,
    append_only: bool,
}

impl Operator for Guarded {
    fn eval(&mut self, at: Moment, inputs: &[Delta]) -> Delta {
        let output = self.inner.eval(at, inputs);
        check_schema(self.name, &self.schema, &output);
        check_rows(self.name, &output.oks);
        if self.append_only {
            let growing = output.oks.is_insert_only() || consolidate(&output.oks).is_insert_only();
            assert!(growing, "{} promised never to retract a row, at step {}", self.name, at.step);
        }
        output
    }

    fn save(&mut self) -> Vec<StatePart> {
        self.inner.save()
    }

    fn load(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        self.inner.load(parts);
    }

    fn spill(&mut self, mapped: &Mapped) {
        self.inner.spill(mapped);
    }

    fn held(&self) -> Held {
        self.inner.held()
    }
}

fn check_schema(name: &str, declared: &SchemaRef, output: &Delta) {
    let actual = output.schema();
    let types =
        |schema: &SchemaRef| -> Vec<_> { schema.fields().iter().map(|field| field.data_type().clone()).collect() };
    assert_eq!(types(declared), types(&actual), "the columns of {name} are those that the graph declares");
}

fn check_rows(name: &str, rows: &Rows) {
    if !rows.is_consolidated() {
        return;
    }
    let weights = rows.weights();
    let zero = weights.is_some_and(|weights| weights.values().contains(&0));
    assert!(!zero, "{name} calls rows consolidated, but one has weight 0");
    if rows.len() <= ROWS_VERIFIED_MAX {
        let merged = consolidate(&Rows::new(rows.batch().clone(), weights.cloned()));
        assert_eq!(merged.len(), rows.len(), "{name} calls rows consolidated, but one occurs twice");
    }
}

#[cfg(test)]
mod tests {
    use super::super::law::schema;
    use super::*;
    use crate::zset::{ErrorRows, Step, parse_rows};

    struct Constant(Rows);

    impl Operator for Constant {
        fn eval(&mut self, _at: Moment, _inputs: &[Delta]) -> Delta {
            Delta::new(self.0.clone(), ErrorRows::default())
        }
    }

    fn survives(rows: Rows, declared: &str, append_only: bool) -> bool {
        let mut operator = guarded(Box::new(Constant(rows)), "constant", schema(declared), append_only);
        let at = Moment { step: Step(1), now: 0 };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| operator.eval(at, &[]))).is_ok()
    }

    #[test]
    fn broken_promises_are_caught() {
        let rows = |text| parse_rows("x INT", text);
        assert!(survives(rows("+1 | 1\n-1 | 1\n+1 | 2"), "x INT", true));
        assert!(!survives(rows("+1 | 1"), "x BIGINT", false));
        assert!(!survives(rows("-1 | 1"), "x INT", true));
        assert!(!survives(rows("+1 | 1\n+1 | 1").assume_consolidated(), "x INT", false));
        assert!(!survives(rows("+0 | 1").assume_consolidated(), "x INT", false));
    }
}
