//! The order of intervals: a month counts as 30 days and a day as 24 hours.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, IntervalMonthDayNanoType};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{carry, map_array, udf};
use crate::error::SqlError;

const DAY_MICROS: i128 = 86_400_000_000;

/// The microseconds of an interval, for comparisons.
pub fn interval_order(interval: Expr) -> Expr {
    udf(IntervalOrder { signature: Signature::any(1, Volatility::Immutable) }).call(vec![interval])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalOrder {
    signature: Signature,
}

impl ScalarUDFImpl for IntervalOrder {
    fn name(&self) -> &str {
        "interval_order"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(38, 0))
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.first().map_or_else(String::new, ToString::to_string))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("a comparison was given no interval")));
        };
        map_array(value, |array| {
            let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
            let micros: Decimal128Array = intervals.unary(|interval| {
                let days = i128::from(interval.months) * 30 + i128::from(interval.days);
                days * DAY_MICROS + i128::from(interval.nanoseconds / 1000)
            });
            Ok(Arc::new(micros.with_precision_and_scale(38, 0)?) as ArrayRef)
        })
    }
}
