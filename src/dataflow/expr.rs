//! The only door to DataFusion's physical expressions; a row on which one fails becomes an error row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::FormatOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;

use crate::functions::errors::sql_error;
use crate::functions::evaluate_rows;
use crate::zset::{DataError, Delta, ErrorRows, Rows};

/// A list of expressions over the rows of one input, and the columns that they make.
#[derive(Debug, Clone)]
pub struct Scalars {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

/// Values of the rows on which all expressions succeed, and the errors of the others.
#[derive(Debug)]
pub struct Evaluated {
    pub batch: RecordBatch,
    /// The rows that `batch` holds; `None` if it holds all.
    pub rows: Option<UInt32Array>,
    pub failed: Vec<(usize, DataError)>,
}

impl Scalars {
    /// One expression for each column of `schema`. A result of another type is cast to the column's.
    pub fn new(expressions: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> Self {
        assert_eq!(expressions.len(), schema.fields().len(), "one expression makes one column");
        Self { expressions, schema }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns that the expressions read, rising, and the same expressions over batches of these columns alone.
    pub fn narrowed(&self) -> (Vec<usize>, Self) {
        let read = self.expressions.iter().flat_map(collect_columns).map(|column| column.index());
        let read: Vec<usize> = read.collect::<BTreeSet<usize>>().into_iter().collect();
        let narrow = |expression: &Arc<dyn PhysicalExpr>| {
            let moved = expression.clone().transform(|part| {
                Ok(match part.downcast_ref::<Column>() {
                    Some(column) => {
                        let place = read.binary_search(&column.index()).expect("every column read was collected");
                        Transformed::yes(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>)
                    }
                    None => Transformed::no(part),
                })
            });
            moved.expect("moving columns does not fail").data
        };
        let expressions = self.expressions.iter().map(narrow).collect();
        (read, Self { expressions, schema: self.schema.clone() })
    }

    /// Evaluates all expressions on all rows.
    pub fn evaluate(&self, input: &RecordBatch) -> Evaluated {
        if input.num_rows() == 0 {
            // Constant expressions would be computed, and could fail, for no row at all.
            return Evaluated { batch: RecordBatch::new_empty(self.schema.clone()), rows: None, failed: Vec::new() };
        }
        match self.evaluate_all(input) {
            Ok(batch) => Evaluated { batch, rows: None, failed: Vec::new() },
            Err(_) => self.evaluate_apart(input),
        }
    }

    /// The columns for `rows`, with their weights; rows that fail as error rows of the same weight.
    pub fn apply(&self, rows: &Rows) -> Delta {
        let evaluated = self.evaluate(rows.batch());
        let errs = error_rows(rows, evaluated.failed);
        let oks = match evaluated.rows {
            None => rows.with_batch(evaluated.batch),
            Some(good) => {
                let weights = rows.weights().map(|_| good.values().iter().map(|row| rows.weight(*row as usize)));
                Rows::new(evaluated.batch, weights.map(Iterator::collect))
            }
        };
        Delta::new(oks, errs)
    }

    fn evaluate_all(&self, input: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let fields = self.schema.fields().iter();
        let columns = (self.expressions.iter().zip(fields))
            .map(|(expression, field)| {
                let value = expression.evaluate(input)?.into_array(input.num_rows())?;
                cast_to(value, field.data_type())
            })
            .collect::<Result<Vec<ArrayRef>, DataFusionError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(input.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Row by row as far as it needs to be.
    fn evaluate_apart(&self, input: &RecordBatch) -> Evaluated {
        let mut failed: BTreeMap<usize, DataError> = BTreeMap::new();
        let columns = self.expressions.iter().zip(self.schema.fields()).map(|(expression, field)| {
            let expression = cast_expression(expression, field.data_type(), input);
            evaluate_rows(&expression, input, &mut |row, error| {
                failed.entry(row).or_insert_with(|| DataError::from(sql_error(&error)));
                Ok(())
            })
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>, _>>().expect("an expression fails only on rows");
        let rows: UInt32Array =
            (0..input.num_rows()).filter(|row| !failed.contains_key(row)).map(|row| row as u32).collect();
        let good = columns.iter().map(|column| take(column, &rows, None));
        let good = good.collect::<Result<_, _>>().expect("the rows are within the batch");
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), good, &options);
        let batch = batch.expect("the columns have the types of the schema");
        Evaluated { batch, rows: Some(rows), failed: failed.into_iter().collect() }
    }
}

/// The expression with a cast to the column's type, where it has another.
fn cast_expression(
    expression: &Arc<dyn PhysicalExpr>,
    data_type: &DataType,
    input: &RecordBatch,
) -> Arc<dyn PhysicalExpr> {
    match expression.data_type(input.schema_ref()) {
        Ok(own) if own == *data_type => expression.clone(),
        _ => Arc::new(CastExpr::new(expression.clone(), data_type.clone(), Some(STRICT))),
    }
}

/// A value that does not fit is an error.
const STRICT: CastOptions<'static> = CastOptions { safe: false, format_options: FormatOptions::new() };

fn cast_to(value: ArrayRef, data_type: &DataType) -> Result<ArrayRef, DataFusionError> {
    if value.data_type() == data_type {
        return Ok(value);
    }
    Ok(cast_with_options(&value, data_type, &STRICT)?)
}

/// Error rows for those of `rows` that failed, with their weights.
pub fn error_rows(rows: &Rows, failed: Vec<(usize, DataError)>) -> ErrorRows {
    let mut errs = ErrorRows::default();
    failed.into_iter().for_each(|(row, error)| errs.add(error, rows.weight(row)));
    errs
}

/// A boolean expression over the rows of one input.
#[derive(Debug, Clone)]
pub struct Predicate(Scalars);

impl Predicate {
    pub fn new(expression: Arc<dyn PhysicalExpr>) -> Self {
        let field = Field::new("verdict", DataType::Boolean, true);
        Self(Scalars::new(vec![expression], Arc::new(Schema::new(vec![field]))))
    }

    /// For every row whether the predicate is true (NULL is not true), and the rows on which it fails.
    pub fn verdict(&self, batch: &RecordBatch) -> (BooleanArray, Vec<(usize, DataError)>) {
        let Evaluated { batch: verdicts, rows, failed } = self.0.evaluate(batch);
        let verdict = verdicts.column(0).as_boolean();
        let verdict = match verdict.null_count() {
            0 => verdict.clone(),
            _ => prep_null_mask_filter(verdict),
        };
        let Some(rows) = rows else { return (verdict, failed) };
        let mut all = vec![false; batch.num_rows()];
        rows.values().iter().zip(verdict.values()).for_each(|(row, verdict)| all[*row as usize] = verdict);
        (BooleanArray::from(all), failed)
    }

    /// The rows for which the predicate is true; those on which it fails as error rows.
    pub fn keep(&self, rows: &Rows) -> Delta {
        self.keep_of(rows, rows)
    }

    /// The same, of other columns of these rows.
    pub fn keep_of(&self, rows: &Rows, columns: &Rows) -> Delta {
        let (verdict, failed) = self.verdict(rows.batch());
        let errs = error_rows(rows, failed);
        let oks = match verdict.true_count() == rows.len() {
            true => columns.clone(),
            false => columns.filter(&verdict),
        };
        Delta::new(oks, errs)
    }
}

/// The same columns under the names and metadata of another schema of the same types.
pub fn relabel(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    if batch.schema_ref() == schema {
        return batch.clone();
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)
        .expect("the columns have the types of the schema")
}

#[cfg(test)]
pub(crate) mod tests {
    use arrow::array::StringArray;
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;
    use expect_test::{Expect, expect};

    use super::super::law::schema;
    use super::*;
    use crate::zset::{parse_rows, pretty_delta};

    /// The physical expression of a text of SQL over columns like `"x INT, s TEXT"`.
    pub(crate) fn expression(columns: &str, sql: &str) -> Arc<dyn PhysicalExpr> {
        let state = SessionContext::new().state();
        let schema = DFSchema::try_from(schema(columns)).expect("columns have different names");
        let logical = state.create_logical_expr(sql, &schema).expect("the text is an expression");
        state.create_physical_expr(logical, &schema).expect("the expression has a physical form")
    }

    pub(crate) fn scalars(columns: &str, expressions: &[&str], output: &str) -> Scalars {
        let expressions = expressions.iter().map(|sql| expression(columns, sql)).collect();
        Scalars::new(expressions, schema(output))
    }

    fn check(expressions: &[&str], output: &str, rows: &str, expected: Expect) {
        let columns = "x INT, s TEXT";
        let delta = scalars(columns, expressions, output).apply(&parse_rows(columns, rows));
        expected.assert_eq(&pretty_delta(&delta));
    }

    #[test]
    fn rows_that_fail_are_told_apart_from_those_that_do_not() {
        check(
            &["10 / x"],
            "y BIGINT",
            "+1 | 1 | a\n+2 | 0 | b\n-1 | 5 | c\n+1 | 0 | d\n+1 | NULL | e",
            expect![[r#"
                +1 | 10
                -1 | 2
                +1 | NULL
                +3 ! 22012 division by zero"#]],
        );
    }

    #[test]
    fn every_bad_value_is_named_in_its_own_error() {
        check(
            &["CAST(s AS INT)"],
            "y INT",
            "+1 | 1 | 7\n+1 | 2 | x\n-1 | 3 | y",
            expect![[r#"
                +1 | 7
                +1 ! 22P02 invalid input syntax for type integer: "x"
                -1 ! 22P02 invalid input syntax for type integer: "y""#]],
        );
    }

    #[test]
    fn no_rows_need_no_evaluation() {
        check(&["1 / 0"], "y BIGINT", "", expect![""]);
    }

    #[test]
    fn results_get_the_exact_type_of_their_column() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let cast = cast_to(text, &DataType::Utf8View).expect("strings cast to views");
        assert_eq!(cast.data_type(), &DataType::Utf8View);
    }

    #[test]
    fn a_predicate_keeps_what_is_true() {
        let predicate = Predicate::new(expression("x INT, s TEXT", "6 / x > 2"));
        let rows = parse_rows("x INT, s TEXT", "+1 | 1 | a\n+1 | 6 | b\n-2 | 0 | c\n+1 | NULL | d");
        expect![[r#"
            +1 | 1 | a
            -2 ! 22012 division by zero"#]]
        .assert_eq(&pretty_delta(&predicate.keep(&rows)));
    }
}
