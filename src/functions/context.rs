//! What a statement's functions know of their surroundings: the clock and the user.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::scalar::ScalarValue;

use super::clock::NOW;
use super::scalar::carry;
use crate::error::SqlError;

/// The surroundings of one statement.
#[derive(Debug, Clone, Default)]
pub struct StatementContext {
    /// The statement's (in a transaction: the transaction's) time, in microseconds since 1970.
    pub now: i64,
    pub time_zone: String,
    pub user: String,
    pub database: String,
    /// Where CREATE puts what has no schema in its name.
    pub current_schema: Option<String>,
}

/// Puts constants for the functions that depend on the context: `now()` and its like, `current_user`,
/// `current_schema()`. Done when a plan is run, not when it is bound.
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
    if name == NOW {
        return Some(ScalarValue::TimestampMicrosecond(Some(context.now), Some("+00:00".into())));
    }
    let text = |text: &str| Some(ScalarValue::Utf8View(Some(text.to_string())));
    match name {
        "current_user" => text(&context.user),
        "current_database" => text(&context.database),
        "current_schema" => Some(ScalarValue::Utf8View(context.current_schema.clone())),
        "version" => text(VERSION),
        _ => None,
    }
}

/// As clients look for it: they choose their statements by PostgreSQL's version.
const VERSION: &str = concat!("PostgreSQL 15.0 (Headwater ", env!("CARGO_PKG_VERSION"), ")");

/// The functions without arguments that a run of a plan replaces by texts, with their other names.
const TEXTS: [(&str, &[&str]); 4] = [
    ("current_user", &["session_user", "user", "current_role", "getpgusername"]),
    ("current_database", &["current_catalog"]),
    ("current_schema", &[]),
    ("version", &[]),
];

/// `current_user` and its like.
pub(super) fn context_functions() -> Vec<Arc<ScalarUDF>> {
    let make = |(name, aliases): (&'static str, &[&str])| {
        let aliases = aliases.iter().map(|alias| alias.to_string()).collect();
        Arc::new(ScalarUDF::from(ContextText { name, aliases, signature: Signature::nullary(Volatility::Stable) }))
    };
    TEXTS.into_iter().map(make).collect()
}

/// Whether a function's value is another for every session.
pub fn depends_on_session(name: &str) -> bool {
    static SYSTEM: LazyLock<HashSet<String>> =
        LazyLock::new(|| super::system_functions().iter().map(|function| function.name().to_string()).collect());
    TEXTS.iter().any(|(text, _)| *text == name) || SYSTEM.contains(name)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ContextText {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for ContextText {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(carry(SqlError::internal(format!("{}() was not given a session", self.name))))
    }
}
