//! What comparisons and keys see of a value: a month counts as 30 days and a day as 24 hours, -0 is 0.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, FieldRef, IntervalMonthDayNanoType};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{carry, map_array, udf};
use crate::error::SqlError;
use crate::zset::canonical;

const DAY_MICROS: i128 = 86_400_000_000;

/// The microseconds of an interval, for comparisons.
pub fn interval_order(interval: Expr) -> Expr {
    udf(IntervalOrder { signature: Signature::any(1, Volatility::Immutable) }).call(vec![interval])
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IntervalOrder {
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

/// The value that stands for all that are equal to it: -0 is 0, every NaN is one, 30 days are a month.
pub fn canonical_value(value: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| udf(Canonical { signature: Signature::any(1, Volatility::Immutable) }));
    FUNCTION.call(vec![value])
}

/// Whether an expression is what [`canonical_value`] gives.
pub fn is_canonical(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(call) if call.func.inner().is::<Canonical>())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Canonical {
    signature: Signature,
}

impl ScalarUDFImpl for Canonical {
    fn name(&self) -> &str {
        "canonical"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(args.arg_fields[0].clone())
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(arguments.first().map_or_else(String::new, ToString::to_string))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("a key was given no value")));
        };
        map_array(value, |array| Ok(canonical(array)))
    }
}
