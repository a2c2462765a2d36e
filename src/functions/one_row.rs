//! The value of a scalar subquery, which may have one row at most.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{SqlError, SqlState};

/// `only_row(struct(rows, value))`: the value, or PostgreSQL's error if there are several rows.
pub fn only_row() -> Arc<ScalarUDF> {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(ScalarUDF::from(OnlyRow::new())));
    FUNCTION.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyRow {
    signature: Signature,
}

impl OnlyRow {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OnlyRow {
    fn name(&self) -> &str {
        "only_row"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::Struct(fields) if fields.len() == 2 => Ok(fields[1].data_type().clone()),
            other => plan_err!("only_row takes a struct of a count and a value, not {other}"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let kind = self.return_type(&[args.arg_fields[0].data_type().clone()])?;
        let metadata = match args.arg_fields[0].data_type() {
            DataType::Struct(fields) => fields[1].metadata().clone(),
            _ => Default::default(),
        };
        Ok(Arc::new(Field::new(self.name(), kind, true).with_metadata(metadata)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let counted = args.args[0].to_array(args.number_rows)?;
        let counted = counted.as_struct();
        let several = |row: usize, rows: Option<i64>| rows.is_some_and(|rows| rows > 1) && counted.is_valid(row);
        let rows = counted.column(0).as_primitive::<Int64Type>();
        if rows.iter().enumerate().any(|(row, rows)| several(row, rows)) {
            let message = "more than one row returned by a subquery used as an expression";
            let error = SqlError::new(SqlState::CARDINALITY_VIOLATION, message);
            return Err(DataFusionError::External(Box::new(error)));
        }
        let value = counted.column(1);
        Ok(ColumnarValue::Array(match counted.nulls() {
            None => value.clone(),
            Some(nulls) => nullif(value, &BooleanArray::new(!nulls.inner(), None))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, StructArray};
    use datafusion::config::ConfigOptions;

    use super::*;

    fn call(rows: i64) -> Result<ColumnarValue> {
        let column = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let field = |name| Arc::new(Field::new(name, DataType::Int64, true));
        let counted: ArrayRef =
            Arc::new(StructArray::from(vec![(field("c0"), column(rows)), (field("c1"), column(7))]));
        OnlyRow::new().invoke_with_args(ScalarFunctionArgs {
            arg_fields: vec![Arc::new(Field::new("x", counted.data_type().clone(), true))],
            args: vec![ColumnarValue::Array(counted)],
            number_rows: 1,
            return_field: field("x"),
            config_options: Arc::new(ConfigOptions::default()),
        })
    }

    #[test]
    fn a_second_row_is_an_error() {
        assert!(call(1).is_ok());
        let error = super::super::errors::sql_error(&call(2).expect_err("two rows"));
        assert_eq!(error.code, SqlState::CARDINALITY_VIOLATION);
    }
}
