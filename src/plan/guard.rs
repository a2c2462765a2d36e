//! What a condition guards is evaluated only where the condition leaves it open, as PostgreSQL does it row by row.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::{AggregateFunction, Case};
use datafusion::logical_expr::logical_plan::Filter;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::physical_expr::create_physical_expr;

use crate::functions::{Names, careful};

/// Part of the normal form: conditions that cannot fail come first, because rules have changed their order, and an
/// aggregate's argument is computed only for the rows that its FILTER lets pass.
pub(super) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Filter(filter) => {
            let predicate = safe_first(filter.predicate);
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::new(predicate, filter.input))))
        }
        LogicalPlan::Join(mut join) => {
            join.filter = join.filter.map(safe_first);
            Ok(Transformed::yes(LogicalPlan::Join(join)))
        }
        LogicalPlan::Aggregate(mut aggregate) => {
            let calls = std::mem::take(&mut aggregate.aggr_expr).into_iter().map(filter_arguments);
            aggregate.aggr_expr = calls.collect::<Result<_>>()?;
            Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(settled.data)
}

fn safe_first(predicate: Expr) -> Expr {
    let (safe, risky): (Vec<Expr>, Vec<Expr>) =
        split_conjunction_owned(predicate).into_iter().partition(|part| !can_fail(part));
    conjunction(safe.into_iter().chain(risky)).expect("a predicate has a part")
}

/// `sum(6 / x) FILTER (WHERE x <> 0)` with the argument `CASE WHEN x <> 0 THEN 6 / x END`.
fn filter_arguments(call: Expr) -> Result<Expr> {
    let name = call.schema_name().to_string();
    let guarded = call.transform_down(|part| match part {
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            let arguments = std::mem::take(&mut params.args).into_iter();
            params.args = arguments.map(|argument| only_where(params.filter.as_deref(), argument)).collect();
            let call = Expr::AggregateFunction(AggregateFunction { func, params });
            Ok(Transformed::new(call, true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })?;
    guarded.data.alias_if_changed(name)
}

fn only_where(filter: Option<&Expr>, argument: Expr) -> Expr {
    let Some(filter) = filter.filter(|_| can_fail(&argument)) else { return argument };
    let guards = |case: &Case| case.when_then_expr.len() == 1 && *case.when_then_expr[0].0 == *filter;
    match argument {
        Expr::Case(case) if guards(&case) => Expr::Case(case),
        other => {
            let when = vec![(Box::new(filter.clone()), Box::new(other))];
            Expr::Case(Case { expr: None, when_then_expr: when, else_expr: None })
        }
    }
}

/// For a plan that is to be run over batches: expressions in which one part guards another are evaluated carefully.
pub(super) fn guard(plan: LogicalPlan, state: &SessionState) -> Result<LogicalPlan> {
    let guarded = plan.transform_up(|plan| {
        if matches!(plan, LogicalPlan::TableScan(_) | LogicalPlan::Values(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema: DFSchemaRef = Arc::new(merge_schema(&plan.inputs()));
        plan.map_expressions(|expression| guard_parts(expression, &schema, state))
    })?;
    Ok(guarded.data)
}

/// The largest parts that are computed from columns alone.
fn guard_parts(expression: Expr, schema: &DFSchemaRef, state: &SessionState) -> Result<Transformed<Expr>> {
    expression.transform_down(|part| match part {
        Expr::Alias(_) | Expr::Column(_) | Expr::Literal(_, _) => Ok(Transformed::no(part)),
        part if !is_plain(&part) => Ok(Transformed::no(part)),
        part if !guards_something(&part) => Ok(Transformed::new(part, false, TreeNodeRecursion::Jump)),
        part => Ok(Transformed::new(careful_call(part, schema, state)?, true, TreeNodeRecursion::Jump)),
    })
}

fn careful_call(expression: Expr, schema: &DFSchemaRef, state: &SessionState) -> Result<Expr> {
    let read: BTreeSet<Column> = expression.column_refs().into_iter().cloned().collect();
    let mut fields = Vec::with_capacity(read.len());
    for column in &read {
        let (_, field) = schema.qualified_field_from_column(column)?;
        let field: Field = field.as_ref().clone().with_nullable(true);
        fields.push((column.relation.clone(), Arc::new(field)));
    }
    let (_, field) = expression.to_field(schema.as_ref())?;
    let like = Names {
        field,
        schema_name: expression.schema_name().to_string(),
        display_name: expression.human_display().to_string(),
    };
    let own = DFSchema::new_with_metadata(fields, Default::default())?;
    let context = PhysicalPlanningContext::default();
    let physical = create_physical_expr(&expression, &own, state.execution_props(), &context)?;
    // By place: two relations may have columns of one name.
    let columns =
        own.fields().iter().enumerate().map(|(place, field)| field.as_ref().clone().with_name(format!("c{place}")));
    let arrow = Arc::new(Schema::new(columns.collect::<Vec<_>>()));
    Ok(careful(physical, read.into_iter().map(Expr::Column).collect(), arrow, like))
}

/// Whether the expression is computed from the columns of one row.
fn is_plain(expression: &Expr) -> bool {
    let foreign = expression.exists(|part| {
        Ok(matches!(
            part,
            Expr::Alias(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::GroupingSet(_)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(_, _)
                | Expr::Unnest(_)
                | Expr::Placeholder(_)
        ))
    });
    !foreign.expect("looking at expressions does not fail")
}

/// Whether a part that can fail stands behind one that decides whether it is needed.
fn guards_something(expression: &Expr) -> bool {
    let found = expression.exists(|part| {
        Ok(match part {
            Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, right, .. }) => can_fail(right),
            Expr::Case(_) => can_fail(part),
            _ => false,
        })
    });
    found.expect("looking at expressions does not fail") && !expression.column_refs().is_empty()
}

/// Whether some row could make the expression fail; functions are not looked into.
fn can_fail(expression: &Expr) -> bool {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    let found = expression.exists(|part| {
        Ok(match part {
            Expr::ScalarFunction(_) | Expr::Cast(_) | Expr::Negative(_) => true,
            Expr::BinaryExpr(binary) => matches!(binary.op, Plus | Minus | Multiply | Divide | Modulo),
            _ => !is_plain_node(part),
        })
    });
    found.expect("looking at expressions does not fail")
}

/// Subqueries may fail in any way.
fn is_plain_node(expression: &Expr) -> bool {
    !matches!(expression, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_))
}
