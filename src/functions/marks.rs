//! Calls that mark a part of a query from its text to its plan, where the binder puts something else in their place.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::scalar::carry;
use crate::error::SqlError;

/// `hw_with_ties(n)`: the count of a limit that takes ties with it.
pub const WITH_TIES: &str = "hw_with_ties";

pub(super) fn marks() -> Vec<Arc<ScalarUDF>> {
    let signature = Signature::any(1, Volatility::Immutable);
    vec![Arc::new(ScalarUDF::from(Mark { name: WITH_TIES, gives: DataType::Int64, signature }))]
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
