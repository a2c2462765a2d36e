//! Scalar functions and operators that mean something else in PostgreSQL than in DataFusion, or are missing there.

mod arithmetic;
mod calendar;
mod cast;
mod compare;
mod interval;
mod json;
mod number;
mod template;
mod template_call;
mod windows;
mod written;

pub use arithmetic::{Arithmetic, Number, Operation};
pub use calendar::{AtTimeZone, DatePart, IntervalFunction, IntervalRule};
pub use cast::{PgCast, style_of};
pub use compare::{canonical_value, interval_order, is_canonical};
pub use interval::{TimeOperation, TimeShape, shift};
pub use json::{JsonCall, JsonOperator, json_functions};
pub use number::{NumberFunction, Rounding};
pub use template_call::{FromEpoch, Template, TemplateCall};
pub(super) use windows::{span_micros, window_time};
pub use windows::{window_end, window_functions};
pub use written::{Written, written};

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;

use crate::error::SqlError;

/// One of our errors on its way through DataFusion.
pub(super) fn carry(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Both arguments as arrays of the same length, with whether each is one value for all rows.
pub(super) struct Pair {
    pub left: ArrayRef,
    pub right: ArrayRef,
    pub left_constant: bool,
    pub right_constant: bool,
    /// Of the result: 1 if both are constant.
    pub rows: usize,
}

impl Pair {
    pub fn new(args: &[ColumnarValue], rows: usize) -> Result<Pair> {
        let [left, right] = args else {
            return Err(carry(SqlError::internal("an operator of two sides was given another number of them")));
        };
        let array = |value: &ColumnarValue| match value {
            ColumnarValue::Array(array) => Ok((array.clone(), false)),
            ColumnarValue::Scalar(value) => value.to_array_of_size(1).map(|array| (array, true)),
        };
        let ((left, left_constant), (right, right_constant)) = (array(left)?, array(right)?);
        let rows = if left_constant && right_constant { 1 } else { rows };
        Ok(Pair { left, right, left_constant, right_constant, rows })
    }

    pub fn left_at(&self, row: usize) -> usize {
        if self.left_constant { 0 } else { row }
    }

    pub fn right_at(&self, row: usize) -> usize {
        if self.right_constant { 0 } else { row }
    }

    /// Whether a constant side is NULL, so that every result is.
    pub fn is_all_null(&self) -> bool {
        (self.left_constant && self.left.is_null(0)) || (self.right_constant && self.right.is_null(0))
    }

    /// Whether either side is NULL in this row.
    pub fn is_null(&self, row: usize) -> bool {
        self.left.is_null(self.left_at(row)) || self.right.is_null(self.right_at(row))
    }

    pub fn nulls(&self, data_type: &DataType) -> ColumnarValue {
        ColumnarValue::Array(new_null_array(data_type, self.rows))
    }
}

/// A result of as many rows as [`Pair::rows`] says: a constant if both sides are.
pub(super) fn result(pair: &Pair, array: ArrayRef) -> Result<ColumnarValue> {
    match pair.left_constant && pair.right_constant {
        true => Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&array, 0)?)),
        false => Ok(ColumnarValue::Array(array)),
    }
}

/// A function of one argument over an array.
pub(super) fn map_array(
    value: &ColumnarValue,
    map: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) => Ok(ColumnarValue::Array(map(array)?)),
        ColumnarValue::Scalar(value) => {
            let array = map(&value.to_array_of_size(1)?)?;
            Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&array, 0)?))
        }
    }
}

/// Whether a function's value depends on the time zone that it is called in.
pub(super) fn minds_zone(function: &dyn datafusion::logical_expr::ScalarUDFImpl) -> bool {
    function.downcast_ref::<PgCast>().is_some_and(PgCast::minds_zone)
        || function.downcast_ref::<DatePart>().is_some_and(DatePart::minds_zone)
        || function.downcast_ref::<TimeOperation>().is_some_and(TimeOperation::minds_zone)
        || function.is::<TemplateCall>()
}

/// Wraps a function's implementation.
pub fn udf(
    implementation: impl datafusion::logical_expr::ScalarUDFImpl + 'static,
) -> Arc<datafusion::logical_expr::ScalarUDF> {
    Arc::new(datafusion::logical_expr::ScalarUDF::from(implementation))
}
