//! Gives each row once for every value of its lists.
//!
//! **Serves** `unnest`, `generate_series`, HOP and CUMULATE. **Class** linear. **Rule** `d unnest(A) = unnest(dA)`.
//! **Keeps** nothing. **Cost** the values of the delta's lists.
//! **Corners** several lists are unnested side by side: a shorter one ends in NULLs. A row whose lists are all empty or
//! NULL is gone.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use super::matching::batch;
use super::one;
use crate::dataflow::operator::Operator;
use crate::zset::{Delta, Moment};

/// For each column of the output the input's column, and whether that is a list whose values are given.
pub struct Unnest {
    columns: Vec<(usize, bool)>,
    schema: SchemaRef,
}

impl Unnest {
    pub fn new(columns: Vec<(usize, bool)>, schema: SchemaRef) -> Self {
        assert_eq!(columns.len(), schema.fields().len(), "each column of the output comes from one of the input");
        Self { columns, schema }
    }
}

impl Operator for Unnest {
    fn eval(&mut self, _at: Moment, inputs: &[Delta]) -> Delta {
        let input = one("unnest", inputs);
        let rows = &input.oks;
        let lists = self.columns.iter().filter(|(_, list)| *list);
        let lists: Vec<usize> = lists.map(|(column, _)| *column).collect();
        let copies: Vec<usize> = (0..rows.len())
            .map(|row| lists.iter().map(|list| length(rows.column(*list), row)).max().unwrap_or(0))
            .collect();
        let from = copies.iter().enumerate().flat_map(|(row, copies)| std::iter::repeat_n(row as u32, *copies));
        let from = UInt32Array::from_iter_values(from);
        let column = |(column, list): &(usize, bool)| match list {
            true => values(rows.column(*column), &copies),
            false => compute::take(rows.column(*column), &from, None).expect("indices are within the delta"),
        };
        let columns: Vec<ArrayRef> = self.columns.iter().map(column).collect();
        let weights = rows.weights().map(|_| from.values().iter().map(|row| rows.weight(*row as usize)).collect());
        let given = batch(&self.schema, columns, from.len());
        Delta::new(crate::zset::Rows::new(given, weights), input.errs.clone())
    }
}

fn length(list: &ArrayRef, row: usize) -> usize {
    let list = list.as_list::<i32>();
    if list.is_null(row) { 0 } else { list.value_length(row) as usize }
}

/// The values of all rows' lists, each row's followed by NULLs up to its number of copies.
fn values(list: &ArrayRef, copies: &[usize]) -> ArrayRef {
    let lists = list.as_list::<i32>();
    let places = copies.iter().enumerate().flat_map(|(row, copies)| {
        let (start, length) = (lists.value_offsets()[row] as u32, length(list, row) as u32);
        (0..*copies as u32).map(move |place| (place < length).then_some(start + place))
    });
    let places = UInt32Array::from_iter(places);
    compute::take(lists.values(), &places, None).expect("offsets are within the values")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use expect_test::expect;

    use super::*;
    use crate::dataflow::expr::Scalars;
    use crate::dataflow::expr::tests::expression;
    use crate::dataflow::law::{Input, Table, check_law, check_steps, schema, watched};
    use crate::dataflow::operators::FilterProject;
    use crate::zset::PgType;

    const COLUMNS: &str = "a BIGINT, b BIGINT, s TEXT";
    const OUTPUT: &str = "x BIGINT, s TEXT, y BIGINT";

    /// Lists are made of the numbers first: text has no form for them.
    struct Series {
        lists: FilterProject,
        unnest: Unnest,
    }

    impl Operator for Series {
        fn eval(&mut self, at: Moment, inputs: &[Delta]) -> Delta {
            let lists = self.lists.eval(at, inputs);
            self.unnest.eval(at, &[lists])
        }
    }

    fn operator() -> Box<dyn Operator> {
        let list = PgType::Array(Box::new(PgType::Int8));
        let fields = [list.field("a", true), list.field("b", true), PgType::Text.field("s", true)];
        let expressions = ["CASE WHEN a < 4 THEN make_array(a, b) END", "CASE WHEN b < 4 THEN make_array(b) END", "s"];
        let expressions = expressions.map(|text| expression(COLUMNS, text)).to_vec();
        let lists = FilterProject::project(Scalars::new(expressions, Arc::new(Schema::new(fields.to_vec()))));
        let unnest = Unnest::new(vec![(0, true), (2, false), (1, true)], schema(OUTPUT));
        watched(Series { lists, unnest }, &schema(OUTPUT))
    }

    #[test]
    fn lists_are_unnested_side_by_side_with_the_weight_of_their_row() {
        check_steps(
            &operator,
            &[COLUMNS],
            &[&["+2 | 1 | 3 | a\n-1 | 9 | 2 | b\n+1 | 9 | 9 | c\n+1 | 2 | NULL | d"]],
            expect![[r#"
                +1 | 2 | d | NULL
                -1 | NULL | b | 2
                +1 | NULL | d | NULL
                +2 | 1 | a | 3
                +2 | 3 | a | NULL"#]],
        );
    }

    #[test]
    fn obeys_the_law() {
        let small = |cell: &String| cell.parse::<i64>().is_ok_and(|number| number < 4);
        let naive = |inputs: &[Table]| {
            let mut output = Table::default();
            for (row, weight) in inputs[0].rows() {
                let first = if small(&row[0]) { vec![row[0].clone(), row[1].clone()] } else { Vec::new() };
                let second = if small(&row[1]) { vec![row[1].clone()] } else { Vec::new() };
                for place in 0..first.len().max(second.len()) {
                    let value = |list: &[String]| list.get(place).cloned().unwrap_or_else(|| "NULL".to_string());
                    output.add_row(vec![value(&first), row[2].clone(), value(&second)], weight);
                }
            }
            output
        };
        check_law(&operator, &[Input::new(COLUMNS)], &naive);
    }
}
