//! `hw_or_empty(array)`: the empty array in place of NULL, for `ARRAY(SELECT …)`.

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) fn or_empty() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(OrEmpty { signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrEmpty {
    signature: Signature,
}

impl ScalarUDFImpl for OrEmpty {
    fn name(&self) -> &str {
        "hw_or_empty"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let given = &args.arg_fields[0];
        let field = Field::new(self.name(), given.data_type().clone(), true);
        Ok(Arc::new(field.with_metadata(given.metadata().clone())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args[0].to_array(args.number_rows)?;
        let Some(lists) = arrays.as_list_opt::<i32>() else { return Ok(ColumnarValue::Array(arrays)) };
        if lists.null_count() == 0 {
            return Ok(ColumnarValue::Array(arrays));
        }
        let DataType::List(item) = lists.data_type() else { return Ok(ColumnarValue::Array(arrays)) };
        // What NULL hides need not be empty, so the values are gathered anew.
        let parts: Vec<_> = (0..lists.len()).filter(|row| lists.is_valid(*row)).map(|row| lists.value(row)).collect();
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = match parts.is_empty() {
            true => arrow::array::new_empty_array(item.data_type()),
            false => arrow::compute::concat(&parts)?,
        };
        let length = |row: usize| if lists.is_valid(row) { lists.value(row).len() } else { 0 };
        let offsets = OffsetBuffer::from_lengths((0..lists.len()).map(length));
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(item.clone(), offsets, values, None)?)))
    }
}
