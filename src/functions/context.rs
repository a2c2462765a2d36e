//! What a statement's functions know of their surroundings: the clock, the user, the settings.

use std::collections::BTreeMap;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::scalar::ScalarValue;

/// The surroundings of one statement.
#[derive(Debug, Clone, Default)]
pub struct StatementContext {
    /// The statement's (in a transaction: the transaction's) time, in microseconds since 1970.
    pub now: i64,
    pub time_zone: String,
    pub user: String,
    pub database: String,
    /// As set; the first schema is `current_schema()`.
    pub search_path: Vec<String>,
    /// All settings by name, for `current_setting`.
    pub settings: BTreeMap<String, String>,
}

/// Puts constants for the functions that depend on the context: `now()` and its like, `current_user`,
/// `current_schema()`, `current_setting('…')`. Done when a plan is run, not when it is bound.
pub fn fix_context(plan: LogicalPlan, context: &StatementContext) -> Result<LogicalPlan> {
    let fixed = plan.transform_down_with_subqueries(|plan| {
        plan.map_expressions(|expression| expression.transform_up(|expression| Ok(fix(expression, context))))
    })?;
    Ok(fixed.data)
}

fn fix(expression: Expr, context: &StatementContext) -> Transformed<Expr> {
    let Expr::ScalarFunction(call) = &expression else { return Transformed::no(expression) };
    match constant(call.name(), context) {
        Some(value) if call.args.is_empty() => Transformed::yes(lit(value)),
        _ => Transformed::no(expression),
    }
}

fn constant(name: &str, context: &StatementContext) -> Option<ScalarValue> {
    match name {
        "now" => Some(ScalarValue::TimestampMicrosecond(Some(context.now), Some("+00:00".into()))),
        _ => None,
    }
}
