//! `FETCH FIRST n ROWS WITH TIES`: planned as a limit whose count is marked, then as a bound of ranks.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::{rank, row_number};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt, Limit, LogicalPlan, LogicalPlanBuilder, Projection, Sort, SortExpr,
};

use super::errors::carry;
use crate::error::{SqlError, SqlState};
use crate::functions::WITH_TIES;

/// Puts a bound of ranks in the place of every limit whose count is marked.
pub(super) fn plan_with_ties(plan: LogicalPlan) -> Result<LogicalPlan> {
    let planned = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(limit) => match marked_count(&limit) {
            Some(count) => Ok(Transformed::yes(bounded(&limit.input, &count, limit.skip.as_deref())?)),
            None => Ok(Transformed::no(LogicalPlan::Limit(limit))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(planned.data)
}

fn marked_count(limit: &Limit) -> Option<Expr> {
    match limit.fetch.as_deref() {
        Some(Expr::ScalarFunction(call)) if call.name() == WITH_TIES => call.args.first().cloned(),
        _ => None,
    }
}

/// The plan with the sort in it over the rows whose rank is within the bound.
fn bounded(plan: &LogicalPlan, count: &Expr, skip: Option<&Expr>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) => {
            let input = Arc::new(ranked(sort, count, skip)?);
            Ok(LogicalPlan::Sort(Sort { input, expr: sort.expr.clone(), fetch: None }))
        }
        LogicalPlan::Projection(projection) => {
            let input = Arc::new(bounded(&projection.input, count, skip)?);
            Ok(LogicalPlan::Projection(Projection::try_new(projection.expr.clone(), input)?))
        }
        _ => Err(carry(
            SqlError::new(SqlState::SYNTAX_ERROR, "WITH TIES cannot be specified without ORDER BY clause")
                .hint("Add ORDER BY, which says what a tie is."),
        )),
    }
}

fn ranked(sort: &Sort, count: &Expr, skip: Option<&Expr>) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = sort.input.schema().columns().into_iter().map(Expr::Column).collect();
    let numbered = |number: Expr, order: &[SortExpr]| number.order_by(order.to_vec()).build();
    let (rank, row) = (numbered(rank(), &sort.expr)?, numbered(row_number(), &sort.expr)?);
    let named = |number: &Expr| Expr::Column(Column::new_unqualified(number.schema_name().to_string()));
    let bound = match skip {
        Some(skip) => count.clone() + skip.clone(),
        None => count.clone(),
    };
    let inside = named(&rank).lt_eq(bound);
    let plan = LogicalPlanBuilder::from(sort.input.as_ref().clone());
    let plan = match skip {
        Some(skip) => {
            let inside = inside.and(named(&row).gt(skip.clone()));
            plan.window(vec![rank])?.window(vec![row])?.filter(inside)?
        }
        None => plan.window(vec![rank])?.filter(inside)?,
    };
    plan.project(columns)?.build()
}
