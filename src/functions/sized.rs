//! Functions of DataFusion whose results can be far larger than their arguments: the size is reckoned before they run.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::scalar::carry;
use crate::error::{SqlError, SqlState};

/// Bytes of the longest text that a function makes.
const TEXT_MAX: u64 = 256 << 20;
/// Items of the longest array that a function makes.
const ITEMS_MAX: u64 = 32 << 20;
/// Bytes that one call may make for the rows that it is given at once.
const CALL_MAX: u64 = 512 << 20;

/// These functions, to stand in the places of DataFusion's.
pub(super) fn sized_functions() -> Vec<Arc<ScalarUDF>> {
    use datafusion::functions::{string, unicode};
    use datafusion::functions_nested::{range, repeat, resize};
    let sized = |function: Arc<ScalarUDF>, size| Arc::new(ScalarUDF::from(Sized { function, size }));
    vec![
        sized(string::repeat(), Size::Repeated),
        sized(string::replace(), Size::Replaced),
        sized(unicode::lpad(), Size::Padded),
        sized(unicode::rpad(), Size::Padded),
        sized(range::range_udf(), Size::Series),
        sized(repeat::array_repeat_udf(), Size::Count),
        sized(resize::array_resize_udf(), Size::Count),
    ]
}

/// The array of the whole numbers from one to another.
pub(super) fn series() -> Arc<ScalarUDF> {
    let function = datafusion::functions_nested::range::gen_series_udf();
    Arc::new(ScalarUDF::from(Sized { function, size: Size::Series }))
}

/// What the size of a result depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Size {
    /// `repeat(text, count)`
    Repeated,
    /// `replace(text, from, to)`
    Replaced,
    /// `lpad(text, length)`
    Padded,
    /// `array_repeat(item, count)`, `array_resize(array, count)`
    Count,
    /// `generate_series(from, to, step)`
    Series,
}

impl Size {
    fn is_array(self) -> bool {
        matches!(self, Size::Count | Size::Series)
    }

    /// Of the result for a row, in bytes or items; `None` where it is NULL or not known.
    fn of_row(self, arguments: &[ArrayRef], row: usize) -> Option<u64> {
        let number = |at: usize| {
            let numbers: &Int64Array = arguments.get(at)?.as_primitive_opt::<Int64Type>()?;
            numbers.is_valid(row).then(|| numbers.value(row))
        };
        let text = |at: usize| {
            let texts = arguments.get(at)?.as_string_view_opt()?;
            texts.is_valid(row).then(|| texts.value(row))
        };
        Some(match self {
            Size::Repeated => (text(0)?.len() as u64).saturating_mul(number(1)?.max(0) as u64),
            Size::Replaced => replaced(text(0)?, text(1)?, text(2)?),
            Size::Padded | Size::Count => number(1)?.max(0) as u64,
            Size::Series => {
                let (from, to, step) = match arguments.len() {
                    1 => (0, number(0)?, 1),
                    2 => (number(0)?, number(1)?, 1),
                    _ => (number(0)?, number(1)?, number(2)?),
                };
                let away = if step > 0 { to.checked_sub(from) } else { from.checked_sub(to) };
                away.map_or(u64::MAX, |away| (away.max(0) as u64) / step.unsigned_abs().max(1))
            }
        })
    }
}

/// At most; counted only where that would be too much.
fn replaced(text: &str, from: &str, to: &str) -> u64 {
    let longest = (text.len() / from.len().max(1) + 1) as u64 * to.len() as u64 + text.len() as u64;
    match longest <= TEXT_MAX || from.is_empty() {
        true => {
            if from.is_empty() {
                text.len() as u64
            } else {
                longest
            }
        }
        false => text.matches(from).count() as u64 * to.len() as u64 + text.len() as u64,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sized {
    function: Arc<ScalarUDF>,
    size: Size,
}

impl Sized {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let readable = |value: &ColumnarValue| {
            let array = value.to_array(rows)?;
            Ok(match array.data_type() {
                kind if kind.is_integer() => cast(&array, &DataType::Int64)?,
                DataType::Utf8 | DataType::LargeUtf8 => cast(&array, &DataType::Utf8View)?,
                _ => array,
            })
        };
        let arguments = args.args.iter().map(readable).collect::<Result<Vec<ArrayRef>>>()?;
        let (longest, bytes) = if self.size.is_array() { (ITEMS_MAX, 8) } else { (TEXT_MAX, 1) };
        let mut all: u64 = 0;
        for row in 0..rows {
            let size = self.size.of_row(&arguments, row).unwrap_or(0);
            if size > longest {
                return Err(carry(self.too_large()));
            }
            all = all.saturating_add(size * bytes);
        }
        match all > CALL_MAX {
            true => Err(carry(
                SqlError::new(SqlState::OUT_OF_MEMORY, format!("out of memory for the results of {}", self.name()))
                    .hint("Make shorter values, or read fewer rows at a time."),
            )),
            false => Ok(()),
        }
    }

    fn too_large(&self) -> SqlError {
        let too_large = |message: &str, hint: String| SqlError::new(SqlState(*b"54000"), message).hint(hint);
        match self.size {
            Size::Series => too_large(
                "the series has too many values",
                format!("It may have {ITEMS_MAX}: join two shorter series, or use a larger step."),
            ),
            Size::Count => {
                too_large("array size exceeds the maximum allowed", format!("It may have {ITEMS_MAX} items."))
            }
            _ => too_large("requested length too large", format!("A text may have {} MB.", TEXT_MAX >> 20)),
        }
    }
}

impl ScalarUDFImpl for Sized {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.return_field_from_args(args)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.function.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringViewArray;

    use super::*;

    fn size(size: Size, texts: &[&str], numbers: &[i64]) -> Option<u64> {
        let texts = texts.iter().map(|text| Arc::new(StringViewArray::from(vec![*text])) as ArrayRef);
        let numbers = numbers.iter().map(|number| Arc::new(Int64Array::from(vec![*number])) as ArrayRef);
        size.of_row(&texts.chain(numbers).collect::<Vec<_>>(), 0)
    }

    #[test]
    fn sizes_are_known_before_anything_is_made() {
        assert_eq!(size(Size::Repeated, &["abc"], &[4]), Some(12));
        assert_eq!(size(Size::Repeated, &["abc"], &[i64::MAX]), Some(u64::MAX));
        assert_eq!(size(Size::Repeated, &["abc"], &[-1]), Some(0));
        assert_eq!(size(Size::Padded, &["abc"], &[1_000_000_000]), Some(1_000_000_000));
        assert_eq!(size(Size::Series, &[], &[1, 10]), Some(9));
        assert_eq!(size(Size::Series, &[], &[10, 1, -3]), Some(3));
        assert_eq!(size(Size::Series, &[], &[i64::MIN, i64::MAX, 1]), Some(u64::MAX));
        assert_eq!(size(Size::Replaced, &["aaaa", "a", "bb"], &[]), Some(14));
        assert_eq!(size(Size::Replaced, &["aaaa", "", "bb"], &[]), Some(4));
    }
}
