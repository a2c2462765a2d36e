//! One row of arguments, and the value that is made of them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use crate::error::{SqlError, SqlResult};
use crate::functions::text::TextStyle;
use crate::zset::PgType;

/// The arguments of a call: columns, of which constants have one row.
pub struct Columns {
    pub arrays: Vec<ArrayRef>,
    pub constant: Vec<bool>,
    pub kinds: Vec<PgType>,
    pub style: TextStyle,
}

/// One row of them. Arguments have the types that the entry declares, so reading one as another is a bug.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub columns: &'a Columns,
    pub row: usize,
}

impl<'a> Row<'a> {
    pub fn len(&self) -> usize {
        self.columns.arrays.len()
    }

    /// The column of an argument, and the place in it.
    pub fn place(&self, index: usize) -> (&'a ArrayRef, usize) {
        (&self.columns.arrays[index], if self.columns.constant[index] { 0 } else { self.row })
    }

    pub fn kind(&self, index: usize) -> &'a PgType {
        &self.columns.kinds[index]
    }

    pub fn style(&self) -> &'a TextStyle {
        &self.columns.style
    }

    pub fn is_null(&self, index: usize) -> bool {
        let (array, row) = self.place(index);
        array.data_type() == &DataType::Null || array.is_null(row)
    }

    pub fn text(&self, index: usize) -> &'a str {
        let (array, row) = self.place(index);
        array.as_string_view().value(row)
    }

    /// The text if there is such an argument and it is not NULL.
    pub fn text_or(&self, index: usize, default: &'a str) -> &'a str {
        if index < self.len() && !self.is_null(index) { self.text(index) } else { default }
    }

    pub fn bytes(&self, index: usize) -> &'a [u8] {
        let (array, row) = self.place(index);
        array.as_binary_view().value(row)
    }

    pub fn boolean(&self, index: usize) -> bool {
        let (array, row) = self.place(index);
        array.as_boolean().value(row)
    }

    pub fn int(&self, index: usize) -> i64 {
        let (array, row) = self.place(index);
        match array.data_type() {
            DataType::Int16 => i64::from(array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => i64::from(array.as_primitive::<Int32Type>().value(row)),
            _ => array.as_primitive::<Int64Type>().value(row),
        }
    }

    pub fn int_or(&self, index: usize, default: i64) -> i64 {
        if index < self.len() && !self.is_null(index) { self.int(index) } else { default }
    }

    pub fn float(&self, index: usize) -> f64 {
        let (array, row) = self.place(index);
        match array.data_type() {
            DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(row)),
            _ => array.as_primitive::<Float64Type>().value(row),
        }
    }

    /// Digits and scale of a numeric.
    pub fn numeric(&self, index: usize) -> (i128, i8) {
        let (array, row) = self.place(index);
        let scale = if let DataType::Decimal128(_, scale) = array.data_type() { *scale } else { 0 };
        (array.as_primitive::<Decimal128Type>().value(row), scale)
    }

    /// Of a timestamp or a time.
    pub fn micros(&self, index: usize) -> i64 {
        let (array, row) = self.place(index);
        match array.data_type() {
            DataType::Time64(_) => array.as_primitive::<Time64MicrosecondType>().value(row),
            _ => array.as_primitive::<TimestampMicrosecondType>().value(row),
        }
    }

    pub fn days(&self, index: usize) -> i64 {
        let (array, row) = self.place(index);
        i64::from(array.as_primitive::<Date32Type>().value(row))
    }

    pub fn interval(&self, index: usize) -> IntervalMonthDayNano {
        let (array, row) = self.place(index);
        array.as_primitive::<IntervalMonthDayNanoType>().value(row)
    }

    /// The items of an array.
    pub fn list(&self, index: usize) -> ArrayRef {
        let (array, row) = self.place(index);
        array.as_list::<i32>().value(row)
    }

    /// The items of an array of texts.
    pub fn texts(&self, index: usize) -> Vec<Option<String>> {
        self.list(index).as_string_view().iter().map(|text| text.map(str::to_string)).collect()
    }

    /// Any value as its text.
    pub fn shown(&self, index: usize) -> SqlResult<Option<String>> {
        if self.is_null(index) {
            return Ok(None);
        }
        let (array, row) = self.place(index);
        let text = crate::functions::text::array_text(&array.slice(row, 1), self.kind(index), self.style())?;
        Ok(Some(text.value(0).to_string()))
    }
}

/// What a row gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Digits and scale.
    Numeric(i128, i8),
    Text(String),
    Bytes(Vec<u8>),
    /// Of a timestamp or a time.
    Micros(i64),
    Days(i64),
    Interval(IntervalMonthDayNano),
    /// A list of texts.
    Texts(Vec<Option<String>>),
    /// The items of an array.
    List(ArrayRef),
}

impl Value {
    pub fn text(text: impl Into<String>) -> SqlResult<Value> {
        Ok(Value::Text(text.into()))
    }

    /// As a value of the type that the function gives.
    pub fn scalar(self, kind: &PgType) -> Result<ScalarValue> {
        let arrow = kind.arrow();
        Ok(match (self, &arrow) {
            (Value::Bool(value), _) => ScalarValue::Boolean(Some(value)),
            (Value::Int(value), DataType::Int16) => ScalarValue::Int16(i16::try_from(value).ok()),
            (Value::Int(value), DataType::Int32) => ScalarValue::Int32(i32::try_from(value).ok()),
            (Value::Int(value), _) => ScalarValue::Int64(Some(value)),
            (Value::Float(value), _) => ScalarValue::Float64(Some(value)),
            (Value::Numeric(value, scale), DataType::Decimal128(precision, wanted)) => {
                ScalarValue::Decimal128(Some(rescaled(value, scale, *wanted)?), *precision, *wanted)
            }
            (Value::Text(text), _) => ScalarValue::Utf8View(Some(text)),
            (Value::Bytes(bytes), _) => ScalarValue::BinaryView(Some(bytes)),
            (Value::Micros(micros), DataType::Time64(_)) => ScalarValue::Time64Microsecond(Some(micros)),
            (Value::Micros(micros), DataType::Timestamp(_, zone)) => {
                ScalarValue::TimestampMicrosecond(Some(micros), zone.clone())
            }
            (Value::Days(days), _) => ScalarValue::Date32(i32::try_from(days).ok()),
            (Value::Interval(interval), _) => ScalarValue::IntervalMonthDayNano(Some(interval)),
            (Value::Texts(texts), _) => {
                list(Arc::new(arrow::array::StringViewArray::from_iter(texts)) as ArrayRef, kind)?
            }
            (Value::List(items), _) => list(items, kind)?,
            _ => ScalarValue::try_new_null(&arrow)?,
        })
    }
}

fn list(items: ArrayRef, kind: &PgType) -> Result<ScalarValue> {
    use arrow::array::ListArray;
    use arrow::buffer::OffsetBuffer;
    let DataType::List(field) = kind.arrow() else {
        return Err(crate::functions::scalar::carry(SqlError::internal("a list where another type is declared")));
    };
    let items = match items.data_type() == field.data_type() {
        true => items,
        false => arrow::compute::cast(&items, field.data_type())?,
    };
    let offsets = OffsetBuffer::from_lengths([items.len()]);
    Ok(ScalarValue::List(Arc::new(ListArray::try_new(field, offsets, items, None)?)))
}

/// Digits at another scale; what is cut off is rounded.
fn rescaled(value: i128, from: i8, to: i8) -> Result<i128> {
    let overflow = || {
        let message = "value overflows numeric format";
        crate::functions::scalar::carry(SqlError::new(crate::error::SqlState::NUMERIC_OUT_OF_RANGE, message))
    };
    let by = 10_i128.pow(u32::from(from.abs_diff(to)).min(38));
    match to >= from {
        true => value.checked_mul(by).ok_or_else(overflow),
        false => {
            let half = if value < 0 { -(by / 2) } else { by / 2 };
            Ok((value + half) / by)
        }
    }
}
