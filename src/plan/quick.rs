//! Plans so plain that DataFusion need not plan them: rows of constants, and few rows of one relation.
//!
//! Most statements of a busy server are of this kind, and planning one costs many times what running it does.

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{self, kernels::cmp::eq};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, TableScan, Values};
use datafusion::scalar::ScalarValue;
use std::sync::Arc;

use super::recompute::Data;
use super::table::few_rows;

/// The rows of a bound plan that is of columns, constants, `VALUES`, and a relation that is small or whose key is compared
/// with constants; `None` for every other plan. It gives what [`super::run`] gives.
pub fn run_quick(plan: &LogicalPlan, data: &dyn Data) -> Option<RecordBatch> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => run_quick(&alias.input, data),
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => batch(plan, Vec::new(), 1),
        LogicalPlan::Values(values) => rows_of_constants(plan, values),
        LogicalPlan::TableScan(_) => few_rows(data.table(&scan_below(plan)?.table_name)?.as_ref(), &[]),
        LogicalPlan::Filter(filter) => found(scan_below(&filter.input)?, &filter.predicate, data),
        LogicalPlan::Projection(projection) => {
            // Looked at first: nothing is looked up for a plan that turns out to need more.
            let schema = projection.input.schema();
            projection.expr.iter().all(|expression| is_plain(expression, schema)).then_some(())?;
            let input = run_quick(&projection.input, data)?;
            let columns = projection.expr.iter().map(|expression| value(expression, schema, &input));
            batch(plan, columns.collect::<Option<_>>()?, input.num_rows())
        }
        _ => None,
    }
}

/// Columns with the names and types of the plan; `None` if they are of other types.
fn batch(plan: &LogicalPlan, columns: Vec<ArrayRef>, rows: usize) -> Option<RecordBatch> {
    let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema, columns, &options).ok()
}

/// Whether [`value`] knows the expression: a column or a constant, under names and casts that cannot fail.
fn is_plain(expression: &Expr, schema: &DFSchema) -> bool {
    match expression {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => is_plain(&alias.expr, schema),
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema);
            is_plain(&cast.expr, schema) && from.is_ok_and(|from| is_exact(&from, cast.field.data_type()))
        }
        _ => false,
    }
}

/// Whether a cast keeps every value.
fn is_exact(from: &DataType, to: &DataType) -> bool {
    use DataType::{Int16, Int32, Int64, Null};
    from == to || matches!((from, to), (Null, _) | (Int16, Int32 | Int64) | (Int32, Int64))
}

fn value(expression: &Expr, schema: &DFSchema, input: &RecordBatch) -> Option<ArrayRef> {
    match expression {
        Expr::Column(column) => Some(input.column(schema.maybe_index_of_column(column)?).clone()),
        Expr::Literal(value, _) => value.to_array_of_size(input.num_rows()).ok(),
        Expr::Alias(alias) => value(&alias.expr, schema, input),
        Expr::Cast(cast) => compute::cast(&value(&cast.expr, schema, input)?, cast.field.data_type()).ok(),
        _ => None,
    }
}

fn rows_of_constants(plan: &LogicalPlan, values: &Values) -> Option<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let one_row = RecordBatch::try_new_with_options(Schema::empty().into(), Vec::new(), &options).ok()?;
    let constant = |expression: &Expr| match is_plain(expression, &values.schema) {
        true => value(expression, &values.schema, &one_row),
        false => None,
    };
    let columns = (0..values.schema.fields().len()).map(|index| {
        let cells = values.values.iter().map(|row| constant(&row[index])).collect::<Option<Vec<ArrayRef>>>()?;
        compute::concat(&cells.iter().map(|cell| cell.as_ref()).collect::<Vec<_>>()).ok()
    });
    batch(plan, columns.collect::<Option<_>>()?, values.values.len())
}

fn scan_below(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => scan_below(&alias.input),
        LogicalPlan::TableScan(scan) => {
            let is_whole = scan.projection.is_none() && scan.filters.is_empty() && scan.fetch.is_none();
            is_whole.then_some(scan)
        }
        _ => None,
    }
}

/// The rows for which all parts of a condition are true, each of which compares a column with a constant.
fn found(scan: &TableScan, condition: &Expr, data: &dyn Data) -> Option<RecordBatch> {
    let parts = split_conjunction(condition);
    let parts = parts.into_iter().map(|part| comparison(part, &scan.projected_schema));
    let parts = parts.collect::<Option<Vec<(usize, &ScalarValue)>>>()?;
    let rows = few_rows(data.table(&scan.table_name)?.as_ref(), std::slice::from_ref(condition))?;
    let mut kept = BooleanArray::from(vec![true; rows.num_rows()]);
    for (column, value) in parts {
        let is_equal = eq(rows.column(column), &value.to_scalar().ok()?).ok()?;
        kept = compute::and(&kept, &is_equal).ok()?;
    }
    compute::filter_record_batch(&rows, &kept).ok()
}

/// The column and the constant of `column = constant`, if both are of one type in which equal values are the same bits.
fn comparison<'a>(part: &'a Expr, schema: &DFSchema) -> Option<(usize, &'a ScalarValue)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
    let (column, value) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
            (column, value)
        }
        _ => return None,
    };
    let index = schema.index_of_column_by_name(None, &column.name)?;
    let kind = schema.field(index).data_type();
    (!value.is_null() && value.data_type() == *kind && is_plain_kind(kind)).then_some((index, value))
}

fn is_plain_kind(kind: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Int16, Int32, Int64, Time64, Timestamp, UInt32, Utf8View};
    matches!(
        kind,
        Boolean | Int16 | Int32 | Int64 | UInt32 | Utf8View | Date32 | Decimal128(..) | Time64(_) | Timestamp(..)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use datafusion::catalog::TableProvider;
    use datafusion::common::TableReference;
    use datafusion::logical_expr::{LogicalPlanBuilder, cast, col, lit, table_scan};

    use super::*;
    use crate::plan::snapshot_table;
    use crate::state::Arrangement;
    use crate::zset::{Rows, parse_rows, pretty_rows};

    /// One table of any name, and how often it was asked for.
    struct One(Rows, Mutex<usize>);

    impl Data for One {
        fn table(&self, _table: &TableReference) -> Option<Arc<dyn TableProvider>> {
            *self.1.lock().expect("no test panics") += 1;
            let mut held = Arrangement::new(self.0.schema(), vec![0]);
            held.absorb(&self.0);
            Some(snapshot_table(held.snapshot(), Vec::new(), None))
        }
    }

    fn data() -> One {
        One(parse_rows("id INT, s TEXT", "+1 | 1 | a\n+1 | 2 | b\n+2 | 3 | c\n+1 | 4 | NULL"), Mutex::default())
    }

    fn scan() -> LogicalPlanBuilder {
        table_scan(Some("t"), data().0.schema().as_ref(), None).expect("a scan")
    }

    fn shown(plan: LogicalPlanBuilder) -> Option<String> {
        let batch = run_quick(&plan.build().expect("a plan"), &data())?;
        Some(pretty_rows(&Rows::inserts(batch)))
    }

    fn text(text: &str) -> Expr {
        lit(ScalarValue::Utf8View(Some(text.to_string())))
    }

    #[test]
    fn keys_are_looked_up() {
        let by =
            |condition: Expr| scan().filter(condition).and_then(|plan| plan.project([col("s"), lit(7i64).alias("x")]));
        assert_eq!(shown(by(col("id").eq(lit(3i32))).expect("a plan")).as_deref(), Some("+1 | c | 7\n+1 | c | 7"));
        let both = col("id").eq(lit(2i32)).and(text("b").eq(col("s")));
        assert_eq!(shown(by(both).expect("a plan")).as_deref(), Some("+1 | b | 7"));
        let neither = col("id").eq(lit(4i32)).and(col("s").eq(text("b")));
        assert_eq!(shown(by(neither).expect("a plan")).as_deref(), Some(""));
    }

    #[test]
    fn small_relations_are_read_whole() {
        let all = "+1 | 1 | a\n+1 | 2 | b\n+1 | 3 | c\n+1 | 3 | c\n+1 | 4 | NULL";
        assert_eq!(shown(scan()).as_deref(), Some(all));
        let by_name = scan().filter(col("s").eq(text("c"))).expect("a plan");
        assert_eq!(shown(by_name).as_deref(), Some("+1 | 3 | c\n+1 | 3 | c"));
    }

    #[test]
    fn constants_are_rows() {
        let values = LogicalPlanBuilder::values(vec![vec![lit(1i64), text("a")], vec![lit(2i64), text("b")]]);
        let plan = values.and_then(|plan| plan.project([col("column2"), col("column1").alias("n")]));
        assert_eq!(shown(plan.expect("a plan")).as_deref(), Some("+1 | a | 1\n+1 | b | 2"));
        let widened = LogicalPlanBuilder::values(vec![vec![cast(lit(1i32), DataType::Int64), lit(ScalarValue::Null)]]);
        let widened = widened.and_then(|plan| plan.project([col("column1"), cast(col("column2"), DataType::Int32)]));
        assert_eq!(shown(widened.expect("a plan")).as_deref(), Some("+1 | 1 | NULL"));
        let one = LogicalPlanBuilder::empty(true).project([lit(5i64).alias("five")]);
        assert_eq!(shown(one.expect("a plan")).as_deref(), Some("+1 | 5"));
    }

    #[test]
    fn everything_else_is_planned() {
        let with = |condition: Expr| scan().filter(condition).expect("a plan");
        assert_eq!(shown(with(col("id").eq(lit(ScalarValue::Int32(None))))), None);
        assert_eq!(shown(with(col("id").eq(lit(1i64)))), None);
        assert_eq!(shown(with(col("id").gt(lit(1i32)))), None);
        let computed = with(col("id").eq(lit(1i32))).project([col("id") + lit(1i32)]).expect("a plan");
        let asked = data();
        assert_eq!(run_quick(&computed.build().expect("a plan"), &asked), None);
        assert_eq!(*asked.1.lock().expect("no test panics"), 0);
    }
}
