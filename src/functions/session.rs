//! Sessions: the rows of a partition no further apart than a gap. The functions by which SESSION is planned.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, TimestampMicrosecondType};
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion::scalar::ScalarValue;

use super::scalar::{carry, span_micros, window_time};
use crate::error::{SqlError, SqlState};

/// `hw_session_start(time, gap) OVER (PARTITION BY … ORDER BY time)`, and `hw_session_end`, which is the gap after the
/// session's last time.
pub fn session_functions() -> Vec<Arc<WindowUDF>> {
    let function = |end| WindowUDF::from(Session { end, signature: Signature::any(2, Volatility::Immutable) });
    vec![Arc::new(function(false)), Arc::new(function(true))]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Session {
    end: bool,
    signature: Signature,
}

impl WindowUDFImpl for Session {
    fn name(&self) -> &str {
        if self.end { "hw_session_end" } else { "hw_session_start" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Sessions { end: self.end }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let [time, gap] = args.input_fields() else {
            return Err(carry(SqlError::internal("a session has a time and a gap")));
        };
        if !matches!(gap.data_type(), DataType::Interval(_)) {
            span_micros(&ScalarValue::try_from(gap.data_type())?)?;
        }
        Ok(Arc::new(Field::new(args.name(), window_time(time.data_type())?, true)))
    }
}

#[derive(Debug)]
struct Sessions {
    end: bool,
}

impl PartitionEvaluator for Sessions {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let kind = window_time(values[0].data_type())?;
        let times = cast(&values[0], &kind)?;
        let times: Vec<i64> = times.as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let gap = match rows {
            0 => 0,
            _ => span_micros(&ScalarValue::try_from_array(&values[1], 0)?)?,
        };
        if gap < 0 || (gap == 0 && rows > 0) {
            let message = "the gap between sessions must be more than nothing";
            return Err(carry(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)));
        }
        let mut bounds = Vec::with_capacity(rows);
        for session in times.chunk_by(|one, next| next.saturating_sub(*one) <= gap) {
            let bound = if self.end { session[session.len() - 1].saturating_add(gap) } else { session[0] };
            bounds.extend(std::iter::repeat_n(bound, session.len()));
        }
        Ok(Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(bounds).with_data_type(kind)))
    }
}
