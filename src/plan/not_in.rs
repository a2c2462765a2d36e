//! `x NOT IN (subquery)` where the subquery depends on the row, as an ordinary anti join.
//!
//! DataFusion plans every NOT IN as a null-aware anti join, which it, and our operator, can run for a single pair of
//! columns only. With more conditions it is: no row meets them for which `x = y` is true or NULL.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// To be run right after `DecorrelatePredicateSubquery`, which puts the comparison of NOT IN first.
#[derive(Debug)]
pub(super) struct CorrelatedNotIn;

impl OptimizerRule for CorrelatedNotIn {
    fn name(&self) -> &str {
        "correlated_not_in"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(mut join) = plan else { return Ok(Transformed::no(plan)) };
        let conditions = join.filter.clone().filter(|_| join.null_aware && join.on.is_empty());
        let mut conditions = conditions.map(split_conjunction_owned).unwrap_or_default();
        if conditions.is_empty() || (conditions.len() == 1 && compares_columns(&conditions[0])) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        conditions[0] = not_false(conditions[0].clone());
        join.filter = conjunction(conditions);
        join.null_aware = false;
        Ok(Transformed::yes(LogicalPlan::Join(join)))
    }
}

/// Whether the comparison can be a pair of keys: `3 NOT IN (…)` cannot.
fn compares_columns(comparison: &Expr) -> bool {
    match comparison {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            !left.column_refs().is_empty() && !right.column_refs().is_empty()
        }
        _ => false,
    }
}

fn not_false(comparison: Expr) -> Expr {
    match comparison {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let unknown = left.as_ref().clone().is_null().or(right.as_ref().clone().is_null());
            Expr::eq(*left, *right).or(unknown)
        }
        other => other.is_not_false(),
    }
}
