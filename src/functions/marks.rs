//! Calls that mark a part of a query from its text to its plan, where the binder puts something else in their place.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::scalar::carry;
use crate::error::SqlError;

/// `hw_with_ties(n)`: the count of a limit that takes ties with it.
pub const WITH_TIES: &str = "hw_with_ties";

/// `hw_asof()`: the join of this condition is an ASOF join.
pub const ASOF: &str = "hw_asof";
/// `hw_window_close()`: the condition in HAVING that a group's window is closed.
pub const WINDOW_CLOSE: &str = "hw_window_close";

pub(super) fn marks() -> Vec<Arc<ScalarUDF>> {
    let mark = |name, gives, signature| Arc::new(ScalarUDF::from(Mark { name, gives, signature }));
    vec![
        mark(WITH_TIES, DataType::Int64, Signature::any(1, Volatility::Immutable)),
        mark(ASOF, DataType::Boolean, Signature::nullary(Volatility::Immutable)),
        mark(WINDOW_CLOSE, DataType::Boolean, Signature::nullary(Volatility::Immutable)),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    name: &'static str,
    gives: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(carry(SqlError::internal(format!("{} was run before it was planned", self.name))))
    }
}
