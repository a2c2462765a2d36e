//! `percentile_disc` and `mode`, over the array of their values in order, into which the binder rewrites them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::scalar::carry;
use crate::error::{SqlError, SqlState};

pub(super) fn ordered_set_functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name, arguments| {
        let signature = Signature::any(arguments, Volatility::Immutable);
        Arc::new(ScalarUDF::from(OfArray { name, signature }))
    };
    vec![function(PERCENTILE, 2), function(MODE, 1)]
}

const PERCENTILE: &str = "hw_percentile_disc";
const MODE: &str = "hw_mode";

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfArray {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for OfArray {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::List(item) => Ok(item.data_type().clone()),
            other => plan_err!("{} takes an array, not {other}", self.name),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let DataType::List(item) = args.arg_fields[0].data_type() else {
            return plan_err!("{} takes an array", self.name);
        };
        let field = Field::new(self.name, item.data_type().clone(), true);
        Ok(Arc::new(field.with_metadata(item.metadata().clone())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args.args[0].to_array(args.number_rows)?;
        let Some(lists) = arrays.as_list_opt::<i32>() else { return plan_err!("{} takes an array", self.name) };
        let places = match args.args.get(1) {
            Some(fraction) => {
                let fractions = cast(&fraction.to_array(args.number_rows)?, &DataType::Float64)?;
                percentiles(lists, fractions.as_primitive::<Float64Type>())?
            }
            None => (0..lists.len()).map(|row| most_frequent(lists, row)).collect(),
        };
        Ok(ColumnarValue::Array(take(lists.values(), &places, None)?))
    }
}

/// Where in the values each row's percentile is.
fn percentiles(lists: &ListArray, fractions: &Float64Array) -> Result<UInt32Array> {
    let place = |row: usize| {
        let length = lists.value_length(row) as usize;
        if lists.is_null(row) || length == 0 || fractions.is_null(row) {
            return Ok(None);
        }
        let fraction = fractions.value(row);
        if !(0.0..=1.0).contains(&fraction) {
            let message = format!("percentile value {fraction} is not between 0 and 1");
            return Err(carry(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, message)));
        }
        let rank = ((fraction * length as f64).ceil() as usize).clamp(1, length);
        Ok(Some((lists.value_offsets()[row] as usize + rank - 1) as u32))
    };
    (0..lists.len()).map(place).collect()
}

/// Where the longest run of equal values begins, the first of several.
fn most_frequent(lists: &ListArray, row: usize) -> Option<u32> {
    if lists.is_null(row) {
        return None;
    }
    let values: ArrayRef = lists.value(row);
    let runs = arrow::compute::partition(&[values]).ok()?.ranges();
    let longest = runs.into_iter().reduce(|best, run| if run.len() > best.len() { run } else { best })?;
    Some((lists.value_offsets()[row] as usize + longest.start) as u32)
}
