//! The session's time zone in expressions: calls that read or show times with a zone carry the zone they were meant in.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::library::LibraryCall;
use super::scalar::{minds_zone, udf};

/// The plan with every call that depends on the time zone bound to this one. Calls that are bound already stay as they
/// are: a materialized view means the zone of the session that created it.
pub fn in_zone(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    let mut options = ConfigOptions::default();
    options.execution.time_zone = Some(zone.to_string());
    let options = Arc::new(options);
    let bound = plan.transform_down_with_subqueries(|plan| {
        plan.map_expressions(|expression| {
            expression.transform_up(|part| match part {
                Expr::ScalarFunction(mut call) if depends(&call.func) => {
                    let inner = call.func.clone();
                    call.func = udf(InZone { inner, zone: zone.to_string(), options: options.clone() });
                    Ok(Transformed::yes(Expr::ScalarFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(bound.data)
}

fn depends(function: &ScalarUDF) -> bool {
    let function = function.inner().as_ref();
    minds_zone(function) || function.downcast_ref::<LibraryCall>().is_some_and(LibraryCall::minds_zone)
}

/// The function that is called in a zone; others are themselves.
pub(super) fn unbound(function: &ScalarUDF) -> &ScalarUDF {
    function.inner().as_ref().downcast_ref::<InZone>().map_or(function, |bound| bound.inner.as_ref())
}

/// A function that is always called with one zone.
#[derive(Debug)]
struct InZone {
    inner: Arc<ScalarUDF>,
    zone: String,
    /// With the zone, which is all that the functions read of them.
    options: Arc<ConfigOptions>,
}

impl PartialEq for InZone {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.zone == other.zone
    }
}

impl Eq for InZone {}

impl Hash for InZone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
        self.zone.hash(state);
    }
}

impl ScalarUDFImpl for InZone {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.inner.schema_name(arguments)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        args.config_options = self.options.clone();
        self.inner.invoke_with_args(args)
    }
}
