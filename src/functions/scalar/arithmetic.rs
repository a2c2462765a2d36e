//! `+ - * / %` on numbers as PostgreSQL does them: overflow and division by zero are errors, numerics are exact.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray, Scalar};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, i256};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{Pair, carry, result, udf};
use crate::error::{SqlError, SqlState};
use crate::zset::NUMERIC_SCALE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operation {
    pub fn symbol(self) -> &'static str {
        match self {
            Operation::Add => "+",
            Operation::Subtract => "-",
            Operation::Multiply => "*",
            Operation::Divide => "/",
            Operation::Remainder => "%",
        }
    }
}

/// The type in which an operation is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Number {
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Precision and scale of the result; each side has its own.
    Numeric(u8, i8),
}

impl Number {
    pub fn arrow(self) -> DataType {
        match self {
            Number::Int2 => DataType::Int16,
            Number::Int4 => DataType::Int32,
            Number::Int8 => DataType::Int64,
            Number::Float4 => DataType::Float32,
            Number::Float8 => DataType::Float64,
            Number::Numeric(precision, scale) => DataType::Decimal128(precision, scale),
        }
    }

    /// Precision and scale of what an operation on two numerics gives. A `numeric` without scale gives one of its kind;
    /// else sums, differences and products are exact as long as 38 digits hold them.
    pub fn numeric(operation: Operation, left: (u8, i8), right: (u8, i8)) -> Number {
        const BARE: (u8, i8) = (38, NUMERIC_SCALE);
        if left == BARE || right == BARE || operation == Operation::Divide {
            return Number::Numeric(BARE.0, BARE.1);
        }
        let (left_whole, right_whole) = (left.0 as i16 - left.1 as i16, right.0 as i16 - right.1 as i16);
        let scale = match operation {
            Operation::Multiply => left.1.saturating_add(right.1),
            _ => left.1.max(right.1),
        };
        let digits = match operation {
            Operation::Multiply => left.0 as i16 + right.0 as i16,
            Operation::Remainder => left_whole.max(right_whole) + scale as i16,
            _ => left_whole.max(right_whole) + 1 + scale as i16,
        };
        match digits > 38 && scale > NUMERIC_SCALE {
            true => Number::Numeric(BARE.0, BARE.1),
            false => Number::Numeric(digits.min(38) as u8, scale),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Number::Int2 => "smallint",
            Number::Int4 => "integer",
            Number::Int8 => "bigint",
            _ => "value",
        }
    }
}

/// One operation on two numbers. Integers and floats have the type of the result; numerics any scale.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Arithmetic {
    operation: Operation,
    number: Number,
    signature: Signature,
}

impl Arithmetic {
    pub fn call(operation: Operation, number: Number, left: Expr, right: Expr) -> Expr {
        let signature = Signature::any(2, Volatility::Immutable);
        udf(Arithmetic { operation, number, signature }).call(vec![left, right])
    }

    pub(super) fn symbol(&self) -> &'static str {
        self.operation.symbol()
    }

    fn out_of_range(&self) -> SqlError {
        let text = match self.number {
            Number::Numeric(..) => "value overflows numeric format".to_string(),
            Number::Float4 | Number::Float8 => "value out of range: overflow".to_string(),
            integer => format!("{} out of range", integer.name()),
        };
        SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, text)
    }

    fn failed(&self, error: &ArrowError) -> datafusion::error::DataFusionError {
        carry(match error {
            ArrowError::DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
            _ => self.out_of_range(),
        })
    }

    fn integers<T: ArrowPrimitiveType>(&self, pair: &Pair) -> Result<ArrayRef, ArrowError>
    where
        T::Native: num_like::Whole,
    {
        let (left, right) = (pair.left.as_primitive::<T>(), pair.right.as_primitive::<T>());
        if self.operation == Operation::Remainder {
            // Arrow refuses the least integer % -1, which is 0.
            use num_like::Whole;
            return each(pair, left, right, |a: T::Native, b: T::Native| a.remainder(b));
        }
        let (left, right) = (datum(left, pair.left_constant), datum(right, pair.right_constant));
        match self.operation {
            Operation::Add => numeric::add(left.as_ref(), right.as_ref()),
            Operation::Subtract => numeric::sub(left.as_ref(), right.as_ref()),
            Operation::Multiply => numeric::mul(left.as_ref(), right.as_ref()),
            Operation::Divide | Operation::Remainder => numeric::div(left.as_ref(), right.as_ref()),
        }
    }

    fn floats<T: ArrowPrimitiveType>(&self, pair: &Pair) -> Result<ArrayRef, ArrowError>
    where
        T::Native: num_like::Float,
    {
        use num_like::Float;
        let operation = self.operation;
        each(pair, pair.left.as_primitive::<T>(), pair.right.as_primitive::<T>(), |a: T::Native, b: T::Native| {
            a.apply(operation, b)
        })
    }

    fn numerics(&self, pair: &Pair, precision: u8, scale: i8) -> Result<ArrayRef, ArrowError> {
        let (left, right) = (pair.left.as_primitive::<Decimal128Type>(), pair.right.as_primitive::<Decimal128Type>());
        let rule = NumericRule::new(self.operation, left.scale(), right.scale(), scale, precision);
        let array: ArrayRef = each::<Decimal128Type>(pair, left, right, |a, b| rule.apply(a, b))?;
        let array = array.as_primitive::<Decimal128Type>().clone();
        Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
    }
}

/// An array as Arrow's kernels take it.
fn datum<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, constant: bool) -> Box<dyn Datum> {
    match constant {
        true => Box::new(Scalar::new(array.clone())),
        false => Box::new(array.clone()),
    }
}

/// Applies a function to each pair of values that are both there.
fn each<T: ArrowPrimitiveType>(
    pair: &Pair,
    left: &PrimitiveArray<T>,
    right: &PrimitiveArray<T>,
    apply: impl Fn(T::Native, T::Native) -> Result<T::Native, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let nulls = match (pair.left_constant, pair.right_constant) {
        (false, false) => NullBuffer::union(left.nulls(), right.nulls()),
        (false, true) => left.nulls().cloned(),
        (true, false) => right.nulls().cloned(),
        (true, true) => None,
    };
    let mut values = vec![T::default_value(); pair.rows];
    let mut set = |row: usize| -> Result<(), ArrowError> {
        values[row] = apply(left.value(pair.left_at(row)), right.value(pair.right_at(row)))?;
        Ok(())
    };
    match &nulls {
        Some(nulls) if nulls.null_count() > 0 => nulls.valid_indices().try_for_each(&mut set)?,
        _ => (0..pair.rows).try_for_each(&mut set)?,
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls)))
}

fn overflow() -> ArrowError {
    ArrowError::ArithmeticOverflow("overflow".to_string())
}

/// An operation on unscaled values, with the powers of ten that bring the scales together.
struct NumericRule {
    operation: Operation,
    left_factor: i128,
    right_factor: i128,
    /// What a product is divided by, and a dividend multiplied by.
    shift: i256,
    limit: i128,
}

impl NumericRule {
    fn new(operation: Operation, left: i8, right: i8, scale: i8, precision: u8) -> Self {
        let ten = |digits: i16| 10_i128.pow(digits.clamp(0, 38) as u32);
        let (left, right, scale) = (left as i16, right as i16, scale as i16);
        let shift = match operation {
            Operation::Multiply => left + right - scale,
            _ => scale + right - left,
        };
        let common = left.max(right).max(scale);
        Self {
            operation,
            left_factor: ten(common - left),
            right_factor: ten(common - right),
            shift: i256::from_i128(10).wrapping_pow(shift.clamp(0, 76) as u32),
            limit: ten(precision as i16),
        }
    }

    fn apply(&self, a: i128, b: i128) -> Result<i128, ArrowError> {
        let value = match self.operation {
            Operation::Add => {
                let (a, b) = self.aligned(a, b)?;
                a.checked_add(b).ok_or_else(overflow)?
            }
            Operation::Subtract => {
                let (a, b) = self.aligned(a, b)?;
                a.checked_sub(b).ok_or_else(overflow)?
            }
            Operation::Multiply => match a.checked_mul(b) {
                Some(product) if self.shift == i256::ONE => product,
                _ => rounded(i256::from_i128(a).checked_mul(i256::from_i128(b)).ok_or_else(overflow)?, self.shift)?,
            },
            Operation::Divide if b == 0 => return Err(ArrowError::DivideByZero),
            Operation::Divide => {
                let dividend = i256::from_i128(a).checked_mul(self.shift).ok_or_else(overflow)?;
                rounded(dividend, i256::from_i128(b))?
            }
            Operation::Remainder if b == 0 => return Err(ArrowError::DivideByZero),
            Operation::Remainder => {
                let (a, b) = self.aligned(a, b)?;
                a.wrapping_rem(b)
            }
        };
        match value.unsigned_abs() < self.limit.unsigned_abs() {
            true => Ok(value),
            false => Err(overflow()),
        }
    }

    /// Both with the larger scale.
    fn aligned(&self, a: i128, b: i128) -> Result<(i128, i128), ArrowError> {
        let a = a.checked_mul(self.left_factor).ok_or_else(overflow)?;
        let b = b.checked_mul(self.right_factor).ok_or_else(overflow)?;
        Ok((a, b))
    }
}

/// The quotient, half away from zero.
fn rounded(dividend: i256, divisor: i256) -> Result<i128, ArrowError> {
    let quotient = dividend.wrapping_div(divisor);
    let rest = dividend.wrapping_rem(divisor);
    let twice = rest.wrapping_abs().wrapping_mul(i256::from_i128(2));
    let away = match twice >= divisor.wrapping_abs() {
        true if (dividend < i256::ZERO) == (divisor < i256::ZERO) => i256::ONE,
        true => i256::MINUS_ONE,
        false => i256::ZERO,
    };
    quotient.wrapping_add(away).to_i128().ok_or_else(overflow)
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "add",
            Operation::Subtract => "subtract",
            Operation::Multiply => "multiply",
            Operation::Divide => "divide",
            Operation::Remainder => "remainder",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.number.arrow())
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(match arguments {
            [left, right] => format!("{left} {} {right}", self.operation.symbol()),
            _ => self.name().to_string(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pair = Pair::new(&args.args, args.number_rows)?;
        if pair.is_all_null() {
            return Ok(pair.nulls(&self.number.arrow()));
        }
        let fits = |side: &ArrayRef| match self.number {
            Number::Numeric(..) => matches!(side.data_type(), DataType::Decimal128(..)),
            number => *side.data_type() == number.arrow(),
        };
        if !fits(&pair.left) || !fits(&pair.right) {
            return Err(carry(SqlError::internal(format!("{} met types that it was not typed for", self.name()))));
        }
        let array = match self.number {
            Number::Int2 => self.integers::<Int16Type>(&pair),
            Number::Int4 => self.integers::<Int32Type>(&pair),
            Number::Int8 => self.integers::<Int64Type>(&pair),
            Number::Float4 => self.floats::<Float32Type>(&pair),
            Number::Float8 => self.floats::<Float64Type>(&pair),
            Number::Numeric(precision, scale) => self.numerics(&pair, precision, scale),
        };
        result(&pair, array.map_err(|error| self.failed(&error))?)
    }
}

/// What the kernels need of native numbers.
mod num_like {
    use super::{ArrowError, Operation, overflow};

    pub trait Whole: Copy {
        fn remainder(self, other: Self) -> Result<Self, ArrowError>;
    }

    pub trait Float: Copy {
        fn apply(self, operation: Operation, other: Self) -> Result<Self, ArrowError>;
    }

    macro_rules! whole {
        ($($kind:ty),*) => { $(impl Whole for $kind {
            fn remainder(self, other: Self) -> Result<Self, ArrowError> {
                match other {
                    0 => Err(ArrowError::DivideByZero),
                    other => Ok(self.wrapping_rem(other)),
                }
            }
        })* };
    }
    whole!(i16, i32, i64);

    macro_rules! float {
        ($($kind:ty),*) => { $(impl Float for $kind {
            fn apply(self, operation: Operation, other: Self) -> Result<Self, ArrowError> {
                let value = match operation {
                    Operation::Add => self + other,
                    Operation::Subtract => self - other,
                    Operation::Multiply => self * other,
                    Operation::Divide | Operation::Remainder if other == 0.0 => return Err(ArrowError::DivideByZero),
                    Operation::Divide => self / other,
                    Operation::Remainder => self % other,
                };
                let was_finite = self.is_finite() && other.is_finite();
                let vanished = value == 0.0 && self != 0.0 && match operation {
                    Operation::Multiply => other != 0.0,
                    Operation::Divide => other.is_finite(),
                    _ => false,
                };
                match was_finite && (value.is_infinite() || vanished) {
                    true => Err(overflow()),
                    // There is one NaN, greater than every number; that of inf - inf has another sign.
                    false if value.is_nan() => Ok(<$kind>::NAN),
                    false => Ok(value),
                }
            }
        })* };
    }
    float!(f32, f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(operation: Operation, left: i8, right: i8, scale: i8) -> NumericRule {
        NumericRule::new(operation, left, right, scale, 38)
    }

    #[test]
    fn numerics_are_exact_and_round_half_away_from_zero() {
        assert_eq!(rule(Operation::Add, 1, 2, 2).apply(15, 25).expect("fits"), 175);
        assert_eq!(rule(Operation::Multiply, 1, 1, 2).apply(15, -15).expect("fits"), -225);
        assert_eq!(
            rule(Operation::Multiply, 16, 16, 16).apply(15 * 10_i128.pow(15), 10_i128.pow(16)).expect("fits"),
            15 * 10_i128.pow(15)
        );
        assert_eq!(rule(Operation::Divide, 0, 0, 2).apply(1, 8).expect("fits"), 13);
        assert_eq!(rule(Operation::Divide, 0, 0, 2).apply(-1, 8).expect("fits"), -13);
        assert_eq!(rule(Operation::Remainder, 1, 0, 1).apply(-55, 2).expect("fits"), -15);
        assert!(matches!(rule(Operation::Divide, 0, 0, 2).apply(1, 0), Err(ArrowError::DivideByZero)));
        assert!(rule(Operation::Multiply, 0, 0, 0).apply(10_i128.pow(20), 10_i128.pow(20)).is_err());
    }

    #[test]
    fn scales_add_up_in_products_and_stay_in_sums() {
        assert_eq!(Number::numeric(Operation::Multiply, (2, 1), (10, 0)), Number::Numeric(12, 1));
        assert_eq!(Number::numeric(Operation::Add, (10, 2), (5, 0)), Number::Numeric(11, 2));
        assert_eq!(Number::numeric(Operation::Add, (38, 16), (5, 0)), Number::Numeric(38, 16));
        assert_eq!(Number::numeric(Operation::Multiply, (38, 0), (10, 0)), Number::Numeric(38, 0));
        assert_eq!(Number::numeric(Operation::Multiply, (30, 10), (30, 10)), Number::Numeric(38, 16));
    }
}
