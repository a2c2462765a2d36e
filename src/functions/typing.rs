//! Gives a planned statement the types that PostgreSQL gives it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::prelude::lit;

use super::config::session_state;
use crate::zset::PgType;

/// The plan with every expression typed and every implicit cast written out.
pub fn give_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let state = session_state();
    let plan = plan.transform_up_with_subqueries(|node| node.map_expressions(parameters_as_cast))?.data;
    state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})
}

/// A parameter that nothing gave a type takes that of the cast around it.
fn parameters_as_cast(expression: Expr) -> Result<Transformed<Expr>> {
    expression.transform_up(|expression| match expression {
        Expr::Cast(Cast { expr, field }) => match *expr {
            Expr::Placeholder(mut placeholder) if placeholder.field.is_none() => {
                placeholder.field = Some(field.clone());
                Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(Expr::Placeholder(placeholder)), field })))
            }
            other => Ok(Transformed::no(Expr::Cast(Cast { expr: Box::new(other), field }))),
        },
        other => Ok(Transformed::no(other)),
    })
}

/// The same for a single expression over columns.
pub fn give_expression_types(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    let expression = parameters_as_cast(expression)?.data;
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    ExprSimplifier::new(context).coerce(expression, schema)
}

/// A value of one type as it is stored in a column of another.
pub fn assignment_cast(expression: Expr, from: &PgType, to: &PgType) -> Expr {
    match from == to {
        true => expression,
        false => Expr::Cast(Cast::new_from_field(Box::new(expression), to.field("", true).into())),
    }
}

/// `least(…)`, for plans that the binder builds itself.
pub fn least(arguments: Vec<Expr>) -> Expr {
    datafusion::functions::core::least().call(arguments)
}

/// An array of the whole numbers from one to another.
pub fn series(from: Expr, to: Expr) -> Expr {
    let to = Expr::Cast(Cast::new(Box::new(to), DataType::Int64));
    datafusion::functions_nested::range::gen_series_udf().call(vec![from, to, lit(1_i64)])
}
