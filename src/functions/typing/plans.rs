//! In which order the parts of a plan get their types: a part that names columns of others comes after them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::{shape, type_node};

/// Types a plan from its inputs up; subqueries after the rows around them, whose columns they name.
pub(super) fn type_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = match plan {
        LogicalPlan::Join(mut join) => {
            join.left = Arc::new(type_plan(Arc::unwrap_or_clone(join.left))?);
            let right = with_outer_types(Arc::unwrap_or_clone(join.right), join.left.schema())?;
            join.right = Arc::new(type_plan(right)?);
            LogicalPlan::Join(join)
        }
        LogicalPlan::RecursiveQuery(query) => return shape::recursive(query).map(LogicalPlan::RecursiveQuery),
        other => other.map_children(|child| type_plan(child).map(Transformed::yes))?.data,
    };
    let around = merge_schema(&plan.inputs());
    let plan = plan.map_subqueries(|subquery| type_plan(with_outer_types(subquery, &around)?).map(Transformed::yes))?;
    Ok(type_node(shape::plain_grouping_sets(plan.data)?.data)?.data)
}

/// A plan that names columns of the rows around it, which have types of their own by now.
fn with_outer_types(plan: LogicalPlan, around: &DFSchema) -> Result<LogicalPlan> {
    let typed = plan.transform_down_with_subqueries(|node| {
        node.map_expressions(|expression| {
            expression.transform_up(|part| match part {
                Expr::OuterReferenceColumn(_, column) if around.has_column(&column) => {
                    let field = around.field_from_column(&column)?.clone();
                    Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(typed.data)
}
