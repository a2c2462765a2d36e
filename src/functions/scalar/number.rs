//! Functions of one number: rounding as PostgreSQL rounds, and refusals where it refuses.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{carry, map_array, udf};
use crate::error::{SqlError, SqlState};
use crate::zset::{NUMERIC_SCALE, PgType};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Numerics half away from zero, floats half to even.
    Round,
    Truncate,
    Ceiling,
    Floor,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Rule {
    Abs,
    Sign,
    Rounded(Rounding, i8),
    Logarithm(&'static str),
}

/// A function of one number of a known type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NumberFunction {
    rule: Rule,
    argument: DataType,
    signature: Signature,
}

impl NumberFunction {
    fn call(rule: Rule, kind: &PgType, argument: Expr) -> Expr {
        let signature = Signature::any(1, Volatility::Immutable);
        udf(NumberFunction { rule, argument: kind.arrow(), signature }).call(vec![argument])
    }

    pub fn abs(argument: Expr, kind: &PgType) -> Expr {
        Self::call(Rule::Abs, kind, argument)
    }

    pub fn sign(argument: Expr, kind: &PgType) -> Expr {
        Self::call(Rule::Sign, kind, argument)
    }

    pub fn rounded(rounding: Rounding, places: i8, argument: Expr, kind: &PgType) -> Expr {
        Self::call(Rule::Rounded(rounding, places), kind, argument)
    }

    /// `ln` and `log`, of double precision.
    pub fn logarithm(name: &'static str, argument: Expr) -> Expr {
        let argument = Expr::Cast(Cast::new(Box::new(argument), DataType::Float64));
        Self::call(Rule::Logarithm(name), &PgType::Float8, argument)
    }

    /// The name and the places of a rounding to places.
    pub(super) fn places(&self) -> Option<(&'static str, i8)> {
        match self.rule {
            Rule::Rounded(Rounding::Round, places) if places != 0 => Some(("round", places)),
            Rule::Rounded(Rounding::Truncate, places) if places != 0 => Some(("trunc", places)),
            _ => None,
        }
    }

    /// The type of the result: roundings of a numeric have as many places as asked for.
    fn result(&self) -> DataType {
        match (&self.rule, &self.argument) {
            (Rule::Rounded(_, places), DataType::Decimal128(precision, scale)) => {
                let places = (*places).clamp(0, NUMERIC_SCALE.max(*scale));
                // A place more before the point: 9.9 rounds to 10.
                let digits = (*precision as i16 - *scale as i16 + 1 + places as i16).clamp(1, 38);
                DataType::Decimal128(digits as u8, places)
            }
            (Rule::Sign, DataType::Decimal128(..)) => DataType::Decimal128(1, 0),
            (_, argument) => argument.clone(),
        }
    }

    fn compute(&self, array: &ArrayRef) -> Result<ArrayRef> {
        match (&self.rule, &self.argument) {
            (Rule::Rounded(rounding, places), DataType::Decimal128(_, scale)) => {
                self.round_numeric(array, *rounding, *places, *scale)
            }
            (Rule::Rounded(rounding, _), _) => Ok(map::<Float64Type>(array, |value| match rounding {
                Rounding::Round => value.round_ties_even(),
                Rounding::Truncate => value.trunc(),
                Rounding::Ceiling => value.ceil(),
                Rounding::Floor => value.floor(),
            })),
            (Rule::Logarithm(name), _) => logarithm(array, name),
            (Rule::Abs, DataType::Int16) => whole::<Int16Type>(array, "smallint", i16::checked_abs),
            (Rule::Abs, DataType::Int32) => whole::<Int32Type>(array, "integer", i32::checked_abs),
            (Rule::Abs, DataType::Int64) => whole::<Int64Type>(array, "bigint", i64::checked_abs),
            (Rule::Abs, DataType::Float32) => Ok(map::<Float32Type>(array, f32::abs)),
            (Rule::Abs, DataType::Float64) => Ok(map::<Float64Type>(array, f64::abs)),
            (Rule::Sign, DataType::Int16) => Ok(map::<Int16Type>(array, i16::signum)),
            (Rule::Sign, DataType::Int32) => Ok(map::<Int32Type>(array, i32::signum)),
            (Rule::Sign, DataType::Int64) => Ok(map::<Int64Type>(array, i64::signum)),
            (Rule::Sign, DataType::Float32) => Ok(map::<Float32Type>(array, |v| if v == 0.0 { v } else { v.signum() })),
            (Rule::Sign, DataType::Float64) => Ok(map::<Float64Type>(array, |v| if v == 0.0 { v } else { v.signum() })),
            (Rule::Abs, _) => self.unscaled(array, i128::abs),
            (Rule::Sign, _) => {
                let signs: PrimitiveArray<Decimal128Type> = array.as_primitive::<Decimal128Type>().unary(i128::signum);
                Ok(Arc::new(signs.with_precision_and_scale(1, 0)?))
            }
        }
    }

    /// A numeric's digits changed, its scale kept.
    fn unscaled(&self, array: &ArrayRef, change: impl Fn(i128) -> i128) -> Result<ArrayRef> {
        let DataType::Decimal128(precision, scale) = self.argument else {
            return Err(carry(SqlError::internal("a function of numbers was given something else")));
        };
        let values: PrimitiveArray<Decimal128Type> = array.as_primitive::<Decimal128Type>().unary(change);
        Ok(Arc::new(values.with_precision_and_scale(precision, scale)?))
    }

    fn round_numeric(&self, array: &ArrayRef, rounding: Rounding, places: i8, scale: i8) -> Result<ArrayRef> {
        let DataType::Decimal128(precision, result_scale) = self.result() else {
            return Err(carry(SqlError::internal("a rounded numeric is a numeric")));
        };
        // Digits after the point that go, and zeros that come in their place.
        let dropped = (i16::from(scale) - i16::from(places)).clamp(0, 38) as u32;
        let unit = 10_i128.pow(dropped);
        let kept_scale = i16::from(scale) - dropped as i16;
        let grow = (i16::from(result_scale) - kept_scale).clamp(0, 38) as u32;
        let grow = 10_i128.pow(grow);
        let values: Result<PrimitiveArray<Decimal128Type>> =
            array.as_primitive::<Decimal128Type>().try_unary(|value: i128| {
                let (quotient, rest) = (value / unit, value % unit);
                let whole = quotient
                    + match rounding {
                        Rounding::Round if rest.abs() * 2 >= unit && unit > 1 => value.signum(),
                        Rounding::Ceiling if rest > 0 => 1,
                        Rounding::Floor if rest < 0 => -1,
                        _ => 0,
                    };
                let overflow =
                    || carry(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value overflows numeric format"));
                whole.checked_mul(grow).ok_or_else(overflow)
            });
        Ok(Arc::new(values?.with_precision_and_scale(precision, result_scale)?))
    }
}

fn map<T: ArrowPrimitiveType>(array: &ArrayRef, change: impl Fn(T::Native) -> T::Native) -> ArrayRef {
    let values: PrimitiveArray<T> = array.as_primitive::<T>().unary(change);
    Arc::new(values)
}

fn whole<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    name: &str,
    change: impl Fn(T::Native) -> Option<T::Native>,
) -> Result<ArrayRef> {
    let refuse = || carry(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, format!("{name} out of range")));
    let values: Result<PrimitiveArray<T>> =
        array.as_primitive::<T>().try_unary(|value| change(value).ok_or_else(refuse));
    Ok(Arc::new(values?))
}

fn logarithm(array: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let refuse = |what: &str| {
        let message = format!("cannot take logarithm of {what}");
        Err(carry(SqlError::new(SqlState::INVALID_ARGUMENT_FOR_LOG, message)))
    };
    let values: Result<PrimitiveArray<Float64Type>> =
        array.as_primitive::<Float64Type>().try_unary(|value: f64| match value {
            0.0 => refuse("zero"),
            value if value < 0.0 => refuse("a negative number"),
            value if name == "ln" => Ok(value.ln()),
            value => Ok(value.log10()),
        });
    Ok(Arc::new(values?))
}

impl ScalarUDFImpl for NumberFunction {
    fn name(&self) -> &str {
        match &self.rule {
            Rule::Abs => "abs",
            Rule::Sign => "sign",
            Rule::Rounded(Rounding::Round, _) => "round",
            Rule::Rounded(Rounding::Truncate, _) => "trunc",
            Rule::Rounded(Rounding::Ceiling, _) => "ceil",
            Rule::Rounded(Rounding::Floor, _) => "floor",
            Rule::Logarithm(name) => name,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("a function of one number was given none")));
        };
        map_array(value, |array| self.compute(array))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Decimal128Array;

    fn rounded(rounding: Rounding, places: i8, value: i128) -> (i128, DataType) {
        let kind = PgType::Numeric(Some((5, 3)));
        let function = NumberFunction {
            rule: Rule::Rounded(rounding, places),
            argument: kind.arrow(),
            signature: Signature::any(1, Volatility::Immutable),
        };
        let array: ArrayRef =
            Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(5, 3).expect("it fits"));
        let result = function.compute(&array).expect("it fits");
        (result.as_primitive::<Decimal128Type>().value(0), result.data_type().clone())
    }

    #[test]
    fn numerics_round_half_away_from_zero() {
        assert_eq!(rounded(Rounding::Round, 2, 2345), (235, DataType::Decimal128(5, 2)));
        assert_eq!(rounded(Rounding::Round, 0, -2500), (-3, DataType::Decimal128(3, 0)));
        assert_eq!(rounded(Rounding::Truncate, 0, -2900), (-2, DataType::Decimal128(3, 0)));
        assert_eq!(rounded(Rounding::Ceiling, 0, 2001), (3, DataType::Decimal128(3, 0)));
        assert_eq!(rounded(Rounding::Floor, 0, -2001), (-3, DataType::Decimal128(3, 0)));
        assert_eq!(rounded(Rounding::Round, -1, 12000).0, 10);
    }
}
