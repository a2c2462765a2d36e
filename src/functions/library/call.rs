//! A call of a function of the library, as DataFusion runs it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::row::{Columns, Row};
use super::{Entry, Run, Value};
use crate::functions::scalar::{carry, style_of, udf};
use crate::zset::PgType;

/// One entry over arguments of known types.
pub struct LibraryCall {
    entry: &'static Entry,
    kinds: Vec<PgType>,
    result: PgType,
    signature: Signature,
}

impl LibraryCall {
    pub fn call(entry: &'static Entry, kinds: Vec<PgType>, result: PgType, arguments: Vec<Expr>) -> Expr {
        let volatility = match entry.name {
            "pg_sleep" | "gen_random_uuid" => Volatility::Volatile,
            _ => Volatility::Immutable,
        };
        let signature = Signature::any(arguments.len(), volatility);
        udf(LibraryCall { entry, kinds, result, signature }).call(arguments)
    }

    /// Whether the value depends on the time zone that it is called in.
    pub fn minds_zone(&self) -> bool {
        self.result.has_zone() || self.kinds.iter().any(PgType::has_zone)
    }

    fn identity(&self) -> (&'static str, &'static str, &[PgType], &PgType) {
        (self.entry.name, self.entry.arguments, &self.kinds, &self.result)
    }

    fn value(&self, row: &Row<'_>) -> Result<ScalarValue> {
        let value = match self.entry.run {
            Run::Strict(run) => match (0..row.len()).any(|index| row.is_null(index)) {
                true => Ok(Value::Null),
                false => run(row),
            },
            Run::Lenient(run) => run(row),
        };
        value.map_err(carry)?.scalar(&self.result)
    }
}

impl std::fmt::Debug for LibraryCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.identity())
    }
}

impl PartialEq for LibraryCall {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for LibraryCall {}

impl Hash for LibraryCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl ScalarUDFImpl for LibraryCall {
    fn name(&self) -> &str {
        self.entry.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result.arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(self.result.field(self.entry.name, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let style = style_of(&args);
        let constant: Vec<bool> =
            args.args.iter().map(|argument| matches!(argument, ColumnarValue::Scalar(_))).collect();
        let rows = if constant.iter().all(|constant| *constant) { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|argument| match argument {
            ColumnarValue::Array(array) => Ok(array.clone()),
            ColumnarValue::Scalar(value) => value.to_array_of_size(1),
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let all_constant = !constant.is_empty() && constant.iter().all(|constant| *constant);
        let columns = Columns { arrays, constant, kinds: self.kinds.clone(), style };
        if all_constant || columns.arrays.is_empty() {
            return self.value(&Row { columns: &columns, row: 0 }).map(ColumnarValue::Scalar);
        }
        let values = (0..rows).map(|row| self.value(&Row { columns: &columns, row }));
        let values = values.collect::<Result<Vec<_>>>()?;
        match values.is_empty() {
            true => Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.result.arrow()))),
            false => Ok(ColumnarValue::Array(ScalarValue::iter_to_array(values)?)),
        }
    }
}
