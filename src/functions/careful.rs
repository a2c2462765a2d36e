//! Expressions row by row where a whole batch fails: `x <> 0 AND 6 / x > 2` divides only where the first side is true.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::{and_kleene, cast, concat, filter_record_batch, or_kleene, take};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::BinaryExpr;

use super::scalar::udf;

/// The values of an expression as if each row were evaluated alone. `failed` is told of each row that fails, whose value
/// is then NULL; what it answers with an error ends the evaluation.
///
/// A batch on which nothing fails is evaluated at once.
pub fn evaluate_rows(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    failed: &mut dyn FnMut(usize, DataFusionError) -> Result<()>,
) -> Result<ArrayRef> {
    let rows = batch.num_rows();
    if rows == 0 {
        // A constant expression would be computed, and could fail, for no row at all.
        return Ok(new_empty_array(&expression.data_type(batch.schema_ref())?));
    }
    let error = match evaluate(expression, batch) {
        Ok(values) => return Ok(values),
        Err(error) => error,
    };
    match expression.downcast_ref::<BinaryExpr>() {
        Some(binary) if matches!(binary.op(), Operator::And | Operator::Or) => connected(binary, batch, failed),
        _ if rows > 1 => halved(expression, batch, failed),
        _ => {
            failed(0, error)?;
            Ok(new_null_array(&expression.data_type(batch.schema_ref())?, rows))
        }
    }
}

/// Some functions give another layout of text at run time than their plan says.
fn evaluate(expression: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
    let values = expression.evaluate(batch)?.into_array(batch.num_rows())?;
    let wanted = expression.data_type(batch.schema_ref())?;
    if *values.data_type() == wanted { Ok(values) } else { Ok(cast(&values, &wanted)?) }
}

/// DataFusion fails a whole batch for one bad row: halving the batch finds that row in few evaluations.
fn halved(
    expression: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
    failed: &mut dyn FnMut(usize, DataFusionError) -> Result<()>,
) -> Result<ArrayRef> {
    let middle = batch.num_rows() / 2;
    let first = evaluate_rows(expression, &batch.slice(0, middle), failed)?;
    let rest = batch.slice(middle, batch.num_rows() - middle);
    let second = evaluate_rows(expression, &rest, &mut |row, error| failed(middle + row, error))?;
    Ok(concat(&[&first, &second])?)
}

/// AND and OR: the right side is evaluated for the rows that the left one leaves open.
fn connected(
    binary: &BinaryExpr,
    batch: &RecordBatch,
    failed: &mut dyn FnMut(usize, DataFusionError) -> Result<()>,
) -> Result<ArrayRef> {
    let is_and = *binary.op() == Operator::And;
    let mut open = vec![true; batch.num_rows()];
    let left = evaluate_rows(binary.left(), batch, &mut |row, error| {
        open[row] = false;
        failed(row, error)
    })?;
    let left = left.as_boolean();
    open.iter_mut().enumerate().for_each(|(row, open)| *open &= left.is_null(row) || left.value(row) == is_and);
    let places: Vec<usize> = (0..open.len()).filter(|row| open[*row]).collect();
    let rest = filter_record_batch(batch, &BooleanArray::from(open.clone()))?;
    let right = evaluate_rows(binary.right(), &rest, &mut |row, error| failed(places[row], error))?;
    let mut found = 0..;
    let spread: UInt32Array = open.iter().map(|open| if *open { found.next() } else { None }).collect();
    let right = take(&right, &spread, None)?;
    let both = if is_and { and_kleene(left, right.as_boolean()) } else { or_kleene(left, right.as_boolean()) };
    Ok(Arc::new(both?))
}

/// A call that evaluates an expression carefully over the columns that it reads. It has the expression's name.
pub fn careful(expression: Arc<dyn PhysicalExpr>, columns: Vec<Expr>, schema: SchemaRef, like: Names) -> Expr {
    udf(Careful { expression, schema, like, signature: Signature::user_defined(Volatility::Immutable) }).call(columns)
}

/// How the plan knows an expression.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    pub field: FieldRef,
    pub schema_name: String,
    pub display_name: String,
}

#[derive(Debug)]
struct Careful {
    expression: Arc<dyn PhysicalExpr>,
    /// The columns that it reads, which are the call's arguments.
    schema: Arc<Schema>,
    like: Names,
    signature: Signature,
}

impl PartialEq for Careful {
    fn eq(&self, other: &Self) -> bool {
        self.expression.as_ref() == other.expression.as_ref() && self.schema == other.schema && self.like == other.like
    }
}

impl Eq for Careful {}

impl Hash for Careful {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expression.hash(state);
        self.like.hash(state);
    }
}

impl ScalarUDFImpl for Careful {
    fn name(&self) -> &str {
        "careful"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.like.field.data_type().clone())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(self.like.field.clone())
    }

    fn display_name(&self, _arguments: &[Expr]) -> Result<String> {
        Ok(self.like.display_name.clone())
    }

    fn schema_name(&self, _arguments: &[Expr]) -> Result<String> {
        Ok(self.like.schema_name.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = args.args.iter().map(|column| column.to_array(args.number_rows)).collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        evaluate_rows(&self.expression, &batch, &mut |_, error| Err(error)).map(ColumnarValue::Array)
    }
}
