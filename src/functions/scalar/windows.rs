//! The windows that a time falls in: the functions by which TUMBLE, HOP and CUMULATE are planned.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, PrimitiveArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::{carry, udf};
use crate::error::{SqlError, SqlState};

const DAY_MICROS: i64 = 86_400_000_000;
/// Windows that one row may fall in.
const WINDOWS_MAX: i64 = 10_000;

/// What is asked of a time. All windows are whole multiples of a size, moved by an offset from 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    /// `hw_tumble(time, size, offset)`: the start of the only window.
    Tumble,
    /// `hw_hop(time, slide, size, offset)`: the starts of all windows.
    Hop,
    /// `hw_cumulate(time, step, size, offset)`: the ends of all windows, which have one start.
    Cumulate,
    /// `hw_window_end(start, size)`.
    End,
}

/// The functions that the table functions of windows are planned with.
pub fn window_functions() -> Vec<Arc<ScalarUDF>> {
    let all = [Asked::Tumble, Asked::Hop, Asked::Cumulate, Asked::End];
    all.into_iter()
        .map(|asked| udf(Windows { asked, signature: Signature::any(asked.arguments(), Volatility::Immutable) }))
        .collect()
}

/// A time and so many microseconds more.
pub fn window_end(start: Expr, micros: i64) -> Expr {
    let function = Windows { asked: Asked::End, signature: Signature::any(2, Volatility::Immutable) };
    let span = IntervalMonthDayNano { months: 0, days: 0, nanoseconds: micros.saturating_mul(1000) };
    let span = Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(span)), None);
    udf(function).call(vec![start, span])
}

impl Asked {
    fn arguments(self) -> usize {
        match self {
            Asked::End => 2,
            Asked::Tumble => 3,
            Asked::Hop | Asked::Cumulate => 4,
        }
    }

    fn gives_list(self) -> bool {
        matches!(self, Asked::Hop | Asked::Cumulate)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Windows {
    asked: Asked,
    signature: Signature,
}

impl Windows {
    fn one(&self, time: i64, spans: &[i64]) -> Option<i64> {
        match self.asked {
            Asked::End => time.checked_add(spans[0]),
            _ => floor(time, spans[0], spans[1]),
        }
    }

    /// Appends all starts or ends of a time's windows, rising.
    fn several(&self, time: i64, spans: &[i64], into: &mut Vec<i64>) -> Option<()> {
        let [by, size, offset] = *spans else { return None };
        let first = match self.asked {
            // The earliest window that is not over yet; of windows further apart than long there may be none.
            Asked::Hop => floor(time.checked_sub(size)?, by, offset)?.checked_add(by)?,
            _ => {
                let start = floor(time, size, offset)?;
                floor(time, by, start)?.checked_add(by)?
            }
        };
        let last = match self.asked {
            Asked::Hop => time,
            _ => floor(time, size, offset)?.checked_add(size)?,
        };
        let mut next = first;
        while next <= last {
            into.push(next);
            next = next.checked_add(by)?;
        }
        Some(())
    }

    fn lists(
        &self,
        times: &PrimitiveArray<TimestampMicrosecondType>,
        spans: &[i64],
        item: &FieldRef,
    ) -> Result<ArrayRef> {
        let (mut values, mut lengths) = (Vec::new(), Vec::with_capacity(times.len()));
        for row in 0..times.len() {
            let before = values.len();
            if times.is_valid(row) {
                self.several(times.value(row), spans, &mut values).ok_or_else(|| carry(out_of_range()))?;
            }
            lengths.push(values.len() - before);
        }
        let values = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(values)
            .with_data_type(item.data_type().clone());
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(item.clone(), offsets, Arc::new(values), times.nulls().cloned())?))
    }
}

/// The last multiple of `size` from `offset` on that is not after a time.
fn floor(time: i64, size: i64, offset: i64) -> Option<i64> {
    let since = time.checked_sub(offset)?;
    since.checked_sub(since.rem_euclid(size))?.checked_add(offset)
}

fn out_of_range() -> SqlError {
    SqlError::new(SqlState::DATETIME_OVERFLOW, "timestamp out of range")
}

/// The type of a window's start and end by that of the time column.
pub(in crate::functions) fn window_time(time: &DataType) -> Result<DataType> {
    match time {
        DataType::Date32 => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(time.clone()),
        other => {
            let kind = crate::zset::PgType::of_arrow(other);
            let message = format!("the time column of a window must be a timestamp, not {kind}");
            let hint = "Name a column of type timestamp, timestamptz or date, or cast it in a subquery.";
            Err(carry(SqlError::new(SqlState::DATATYPE_MISMATCH, message).hint(hint)))
        }
    }
}

/// Days have 24 hours here.
pub(in crate::functions) fn span_micros(value: &ScalarValue) -> Result<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds })) = value else {
        let message = "the size of a window must be an interval";
        return Err(carry(SqlError::new(SqlState::DATATYPE_MISMATCH, message).hint("Write INTERVAL '10 minutes'.")));
    };
    if *months != 0 {
        let error =
            SqlError::unsupported("windows of months or years are not supported", "Group by date_trunc('month', ...).");
        return Err(carry(error));
    }
    let days = i64::from(*days).checked_mul(DAY_MICROS);
    days.and_then(|days| days.checked_add(nanoseconds / 1000)).ok_or_else(|| carry(out_of_range()))
}

fn check_sizes(asked: Asked, spans: &[i64]) -> Result<()> {
    let invalid = |message: &str| Err(carry(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)));
    let sizes = match asked {
        Asked::Tumble | Asked::End => &spans[..1],
        Asked::Hop | Asked::Cumulate => &spans[..2],
    };
    if sizes.iter().any(|size| *size <= 0) {
        return invalid("the size of a window must be more than nothing");
    }
    match (asked, sizes) {
        (Asked::Cumulate, [step, size]) if size % step != 0 => {
            invalid("the size of a cumulating window must be a whole number of its steps")
        }
        (_, [by, size]) if size / by > WINDOWS_MAX => {
            invalid(&format!("a row would fall in more than {WINDOWS_MAX} windows"))
        }
        _ => Ok(()),
    }
}

impl ScalarUDFImpl for Windows {
    fn name(&self) -> &str {
        match self.asked {
            Asked::Tumble => "hw_tumble",
            Asked::Hop => "hw_hop",
            Asked::Cumulate => "hw_cumulate",
            Asked::End => "hw_window_end",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if let Some(span) =
            arguments[1..].iter().find(|span| !matches!(span, DataType::Interval(IntervalUnit::MonthDayNano)))
        {
            span_micros(&ScalarValue::try_from(span)?)?;
        }
        let time = window_time(&arguments[0])?;
        Ok(match self.asked.gives_list() {
            true => DataType::List(Arc::new(Field::new("item", time, true))),
            false => time,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let spans = args.args[1..].iter().map(|span| match span {
            ColumnarValue::Scalar(span) => span_micros(span),
            ColumnarValue::Array(_) => Err(carry(SqlError::unsupported(
                "the size of a window must be a constant",
                "Write INTERVAL '10 minutes'.",
            ))),
        });
        let spans: Vec<i64> = spans.collect::<Result<_>>()?;
        check_sizes(self.asked, &spans)?;
        let times = args.args[0].to_array(args.number_rows)?;
        let times = cast(&times, &window_time(times.data_type())?)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let result: ArrayRef = match args.return_field.data_type() {
            DataType::List(item) => self.lists(times, &spans, item)?,
            kind => {
                let values = times.try_unary::<_, TimestampMicrosecondType, _>(|time| {
                    self.one(time, &spans).ok_or_else(|| carry(out_of_range()))
                })?;
                Arc::new(values.with_data_type(kind.clone()))
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(asked: Asked, time: i64, spans: &[i64]) -> Vec<i64> {
        let function = Windows { asked, signature: Signature::any(asked.arguments(), Volatility::Immutable) };
        let mut found = Vec::new();
        match asked.gives_list() {
            true => function.several(time, spans, &mut found).expect("in range"),
            false => found.push(function.one(time, spans).expect("in range")),
        }
        found
    }

    #[test]
    fn windows_begin_at_multiples_of_their_size_also_before_1970() {
        assert_eq!(windows(Asked::Tumble, 25, &[10, 0]), [20]);
        assert_eq!(windows(Asked::Tumble, 20, &[10, 0]), [20]);
        assert_eq!(windows(Asked::Tumble, -1, &[10, 0]), [-10]);
        assert_eq!(windows(Asked::Tumble, 25, &[10, 7]), [17]);
        assert_eq!(windows(Asked::Tumble, 25, &[10, -3]), [17]);
    }

    #[test]
    fn a_time_is_in_every_window_that_has_begun_and_is_not_over() {
        assert_eq!(windows(Asked::Hop, 25, &[5, 10, 0]), [20, 25]);
        assert_eq!(windows(Asked::Hop, 24, &[5, 10, 0]), [15, 20]);
        assert_eq!(windows(Asked::Hop, 24, &[4, 10, 0]), [16, 20, 24]);
        assert_eq!(windows(Asked::Hop, 25, &[20, 10, 0]), [20]);
        assert_eq!(windows(Asked::Hop, 35, &[20, 10, 0]), [0; 0]);
        assert_eq!(windows(Asked::Hop, -1, &[5, 10, 0]), [-10, -5]);
    }

    #[test]
    fn cumulating_windows_end_at_the_steps_after_the_time() {
        assert_eq!(windows(Asked::Cumulate, 25, &[5, 20, 0]), [30, 35, 40]);
        assert_eq!(windows(Asked::Cumulate, 20, &[5, 20, 0]), [25, 30, 35, 40]);
        assert_eq!(windows(Asked::Cumulate, 39, &[5, 20, 0]), [40]);
    }

    #[test]
    fn sizes_that_make_no_windows_are_refused() {
        for (asked, spans) in [
            (Asked::Tumble, vec![0, 0]),
            (Asked::Hop, vec![-1, 5, 0]),
            (Asked::Cumulate, vec![3, 10, 0]),
            (Asked::Hop, vec![1, 1_000_000, 0]),
        ] {
            assert!(check_sizes(asked, &spans).is_err(), "{asked:?} {spans:?}");
        }
    }
}
