//! Keeps the rows for which a predicate is true, and computes columns from them.
//!
//! **Serves** `WHERE`, `HAVING`, the SELECT list, keys that are expressions. **Class** linear.
//! **Rule** `d project(filter(A)) = project(filter(dA))`. **Keeps** nothing. **Cost** one evaluation per delta row.
//! **Corners** NULL is not true. A row on which the predicate or a column fails becomes an error row of the same
//! weight, so retracting the row retracts the error. Columns are computed only for rows that the predicate keeps.

use super::one;
use crate::dataflow::expr::{Predicate, Scalars};
use crate::dataflow::operator::Operator;
use crate::zset::{Delta, Moment};

/// A predicate, or columns, or both in one pass.
#[derive(Debug)]
pub struct FilterProject {
    predicate: Option<Predicate>,
    columns: Option<Scalars>,
    /// With both: the columns of the input that `columns` is over, for only these are filtered.
    read: Option<Vec<usize>>,
}

impl FilterProject {
    pub fn new(predicate: Option<Predicate>, columns: Option<Scalars>) -> Self {
        match (predicate, columns) {
            (Some(predicate), Some(columns)) => {
                let (read, columns) = columns.narrowed();
                Self { predicate: Some(predicate), columns: Some(columns), read: Some(read) }
            }
            (predicate, columns) => Self { predicate, columns, read: None },
        }
    }

    pub fn filter(predicate: Predicate) -> Self {
        Self::new(Some(predicate), None)
    }

    pub fn project(columns: Scalars) -> Self {
        Self::new(None, Some(columns))
    }
}

impl Operator for FilterProject {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let input = one("filter_project", inputs);
        let mut errs = input.errs.clone();
        let mut oks = input.oks.clone();
        if let Some(predicate) = &self.predicate {
            let kept =
                predicate.keep_of(&oks, &self.read.as_ref().map_or_else(|| oks.clone(), |read| oks.project(read)));
            errs.add_all(&kept.errs);
            oks = kept.oks;
        }
        if let Some(columns) = &self.columns {
            let computed = columns.apply(&oks);
            errs.add_all(&computed.errs);
            oks = computed.oks;
        }
        Delta::new(oks, errs)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::dataflow::expr::tests::{expression, scalars};
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};

    const COLUMNS: &str = "x BIGINT, s TEXT";

    fn operator(predicate: Option<&str>, columns: &[&str], output: &str) -> Box<dyn Operator> {
        let predicate = predicate.map(|sql| Predicate::new(expression(COLUMNS, sql)));
        let columns = (!columns.is_empty()).then(|| scalars(COLUMNS, columns, output));
        watched(FilterProject::new(predicate, columns), &schema(output))
    }

    fn check(predicate: Option<&str>, columns: &[&str], output: &str, rows: &str, expected: Expect) {
        check_steps(&|| operator(predicate, columns, output), &[COLUMNS], &[&[rows]], expected);
    }

    #[test]
    fn retraction_passes_where_its_row_passed() {
        check(
            Some("x > 1"),
            &[],
            COLUMNS,
            "+1 | 1 | a\n+2 | 2 | b\n-1 | 3 | c",
            expect![[r#"
            -1 | 3 | c
            +2 | 2 | b"#]],
        );
    }

    #[test]
    fn null_is_not_true() {
        check(Some("x > 1"), &[], COLUMNS, "+1 | NULL | a", expect![""]);
    }

    #[test]
    fn columns_are_computed_only_for_rows_that_are_kept() {
        check(Some("x <> 0"), &["6 / x", "s"], "y BIGINT, s TEXT", "+1 | 0 | a\n+1 | 2 | b", expect!["+1 | 3 | b"]);
    }

    #[test]
    fn the_predicate_may_read_columns_that_go() {
        check(Some("x > 1"), &["s || '!'"], "s TEXT", "+1 | 1 | a\n-2 | 2 | b", expect!["-2 | b!"]);
        check(Some("x > 1"), &["7"], "y BIGINT", "+1 | 1 | a\n-2 | 2 | b", expect!["-2 | 7"]);
    }

    #[test]
    fn errors_of_predicate_and_columns_meet() {
        check(
            Some("6 / x > 1"),
            &["CAST(s AS BIGINT)"],
            "y BIGINT",
            "+1 | 0 | a\n+1 | 2 | b\n-1 | 3 | 7\n+1 | 6 | bad but not kept\n+1 ! 22003 integer out of range",
            expect![[r#"
                -1 | 7
                +1 ! 22003 integer out of range
                +1 ! 22012 division by zero
                +1 ! 22P02 invalid input syntax for type bigint: "b""#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        let naive = |inputs: &[Table]| {
            let mut output = Table::default();
            for (row, weight) in inputs[0].rows() {
                match row[0].parse::<i64>() {
                    Ok(0) => output.add_error("22012 division by zero", weight),
                    Ok(x) if 6 / x > 1 => match row[1].parse::<i64>() {
                        Ok(number) => output.add_row(vec![row[0].clone(), number.to_string()], weight),
                        Err(_) if row[1] == "NULL" => output.add_row(row.clone(), weight),
                        Err(_) => {
                            let text = format!("22P02 invalid input syntax for type bigint: \"{}\"", row[1]);
                            output.add_error(&text, weight);
                        }
                    },
                    _ => {}
                }
            }
            output
        };
        let make = || operator(Some("6 / x > 1"), &["x", "CAST(s AS BIGINT)"], "x BIGINT, y BIGINT");
        check_law(&make, &[Input::new(COLUMNS)], &naive);
    }
}
