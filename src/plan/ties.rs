//! Makes queries whose answer SQL leaves open (ties in an order) have one answer, the same in a view and in a query.
//!
//! An order that matters is continued by what the result can show of a row: rows that are still equal then are
//! interchangeable. Done after optimizing, when only the columns that are needed are left.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder, Projection, Sort, SortExpr,
    Window, WindowFrameBound, WindowFrameUnits,
};

use super::keys::canonical_key;

/// Settles every order in the plan that decides about a result, but for a LIMIT without order at its root: there any
/// rows will do, and a query need not look at all of them. (A view, which must know which rows they are, is given an
/// order when it is lowered.)
pub(super) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            let plan = plan.map_children(|child| settle(child).map(Transformed::yes))?.data;
            Ok(plan.map_subqueries(|subquery| settle_all(subquery).map(Transformed::yes))?.data)
        }
        LogicalPlan::Limit(_) if !cuts_a_sort(&plan) => {
            Ok(plan.map_children(|child| settle_all(child).map(Transformed::yes))?.data)
        }
        other => settle_all(other),
    }
}

fn settle_all(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => settle_aggregate(aggregate),
        LogicalPlan::Window(window) => settle_window(window),
        LogicalPlan::Limit(mut limit) => {
            limit.input = Arc::new(settle_sort_below(Arc::unwrap_or_clone(limit.input))?);
            Ok(Transformed::yes(LogicalPlan::Limit(limit)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(settled.data)
}

fn cuts_a_sort(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Limit(_) | LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            plan.inputs().into_iter().all(cuts_a_sort)
        }
        _ => false,
    }
}

/// The sort that a limit cuts, perhaps below projections; one over all columns where there is none.
fn settle_sort_below(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(Sort { mut expr, input, fetch }) => {
            continue_order(&mut expr, &all_columns(input.schema()));
            Ok(LogicalPlan::Sort(Sort { expr, input, fetch }))
        }
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) | LogicalPlan::Limit(_) => {
            Ok(plan.map_children(|child| settle_sort_below(child).map(Transformed::yes))?.data)
        }
        other => Ok(sorted(other)),
    }
}

/// The plan in the order of all its columns.
pub(super) fn sorted(plan: LogicalPlan) -> LogicalPlan {
    let mut expr = Vec::new();
    continue_order(&mut expr, &all_columns(plan.schema()));
    match expr.is_empty() {
        true => plan,
        false => LogicalPlan::Sort(Sort { expr, input: Arc::new(plan), fetch: None }),
    }
}

/// Aggregates that depend on the order of their rows; together they see a row by all their arguments, so that
/// `first_value(a ORDER BY x), first_value(b ORDER BY x)` take both values from one row.
fn settle_aggregate(mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let schema = aggregate.input.schema().clone();
    let mut seen: Vec<Expr> = Vec::new();
    for call in aggregate.aggr_expr.iter().filter_map(ordered_call) {
        let args = call.params.args.iter().map(bare);
        let args = args.filter(|arg| !matches!(arg, Expr::Literal(_, _)) && can_sort(arg, &schema));
        seen.extend(args.cloned().map(|arg| canonical_key(arg, &schema)));
    }
    if seen.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    for expr in &mut aggregate.aggr_expr {
        let Some(call) = ordered_call(expr) else { continue };
        let mut call = call.clone();
        // The order of a DISTINCT aggregate may name its arguments only.
        let args = &call.params.args;
        let is_argument = |expr: &Expr| args.iter().any(|arg| bare(arg) == expr);
        let shown = seen.iter().filter(|expr| !call.params.distinct || is_argument(expr)).cloned();
        continue_order(&mut call.params.order_by, &shown.collect::<Vec<_>>());
        name_once(&mut call.params.order_by);
        *expr = keep_name(expr, Expr::AggregateFunction(call))?;
    }
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let settled = Aggregate::try_new_with_schema(input, group_expr, aggr_expr, schema)?;
    Ok(Transformed::yes(one_order_each(settled)?))
}

/// An aggregate sees its rows in one order: calls with several orders become aggregates that are joined by group.
fn one_order_each(aggregate: Aggregate) -> Result<LogicalPlan> {
    let order_of = |expr: &Expr| ordered_call(expr).map(|call| call.params.order_by.clone()).unwrap_or_default();
    let mut orders: Vec<Vec<SortExpr>> = Vec::new();
    for order in aggregate.aggr_expr.iter().map(order_of).filter(|order| !order.is_empty()) {
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    if orders.len() < 2 || matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let keys = aggregate.group_expr.len();
    let mut places: Vec<Expr> = Vec::new();
    let mut joined: Option<(LogicalPlan, Vec<Column>)> = None;
    for (number, order) in orders.iter().enumerate() {
        let mine = |expr: &&Expr| order_of(expr) == *order || (number == 0 && order_of(expr).is_empty());
        let calls: Vec<Expr> = aggregate.aggr_expr.iter().filter(mine).cloned().collect();
        let part = Aggregate::try_new(aggregate.input.clone(), aggregate.group_expr.clone(), calls)?;
        let part =
            LogicalPlanBuilder::from(LogicalPlan::Aggregate(part)).alias(format!("hw_order_{number}"))?.build()?;
        let columns = part.schema().columns();
        places.extend(columns[keys..].iter().cloned().map(Expr::Column));
        joined = Some(match joined {
            None => (part, columns[..keys].to_vec()),
            Some((left, first)) => {
                let on = first.iter().cloned().zip(columns).map(|(l, r)| (Expr::Column(l), Expr::Column(r))).collect();
                let (kind, by, nulls) = (JoinType::Inner, JoinConstraint::On, NullEquality::NullEqualsNull);
                let join = Join::try_new(left.into(), part.into(), on, None, kind, by, nulls, false)?;
                (LogicalPlan::Join(join), first)
            }
        });
    }
    let (plan, first) = joined.expect("there are several orders");
    let found = |expr: &Expr| {
        let name = expr.schema_name().to_string();
        places.iter().find(|place| matches!(place, Expr::Column(column) if column.name == name)).cloned()
    };
    let calls = aggregate.aggr_expr.iter().map(|expr| found(expr).expect("each call is in one of the parts"));
    let columns = first.into_iter().map(Expr::Column).chain(calls).zip(aggregate.schema.columns());
    let named = columns.map(|(column, name)| column.alias_qualified(name.relation, name.name));
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), plan.into())?))
}

/// Functions whose result depends on the order of all their rows.
const ORDERED: [&str; 5] = ["array_agg", "string_agg", "first_value", "last_value", "nth_value"];

fn ordered_call(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => ordered_call(&alias.expr),
        Expr::AggregateFunction(call) if ORDERED.contains(&call.func.name()) => Some(call),
        _ => None,
    }
}

fn settle_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let shown = all_columns(window.input.schema());
    let (open, settled): (Vec<Expr>, Vec<Expr>) =
        window.window_expr.iter().cloned().partition(|expr| window_call(expr).is_some_and(sees_ties));
    if open.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let open: Vec<Expr> = open.into_iter().map(|expr| continue_window_order(expr, &shown)).collect::<Result<_>>()?;
    if settled.is_empty() {
        return Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(open, window.input)?)));
    }
    // All calls of one Window node share one order, so calls whose order became longer need a node of their own.
    let inner = LogicalPlan::Window(Window::try_new(settled, window.input)?);
    let outer = LogicalPlan::Window(Window::try_new(open, Arc::new(inner))?);
    let columns = window.schema.columns().into_iter().map(Expr::Column).collect();
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(outer))?)))
}

fn continue_window_order(expr: Expr, shown: &[Expr]) -> Result<Expr> {
    let mut call = window_call(&expr).expect("the expression is a call of a window function").clone();
    continue_order(&mut call.params.order_by, shown);
    keep_name(&expr, Expr::WindowFunction(Box::new(call)))
}

pub(super) fn window_call(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::Alias(alias) => window_call(&alias.expr),
        Expr::WindowFunction(call) => Some(call),
        _ => None,
    }
}

/// Whether rows that tie in the order can get different results, and an order continued gives each row the same frame.
fn sees_ties(call: &WindowFunction) -> bool {
    let window_frame = &call.params.window_frame;
    match call.fun.name() {
        "row_number" | "ntile" | "lag" | "lead" => true,
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" => false,
        "first_value" if window_frame.units == WindowFrameUnits::Range => {
            let whole =
                |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::CurrentRow) || bound.is_unbounded();
            window_frame.start_bound.is_unbounded() && whole(&window_frame.end_bound)
        }
        name => {
            let whole = window_frame.start_bound.is_unbounded() && window_frame.end_bound.is_unbounded();
            window_frame.units == WindowFrameUnits::Rows && (!whole || ORDERED.contains(&name))
        }
    }
}

/// Appends the expressions that the order does not name yet.
fn continue_order(order: &mut Vec<SortExpr>, shown: &[Expr]) {
    for expr in shown {
        if !order.iter().any(|sort| bare(&sort.expr) == bare(expr)) {
            order.push(SortExpr::new(expr.clone(), true, false));
        }
    }
}

/// Takes out what an order names again: aggregates of DataFusion do not survive it.
fn name_once(order: &mut Vec<SortExpr>) {
    let mut kept: Vec<SortExpr> = Vec::new();
    for sort in order.drain(..) {
        if !kept.iter().any(|other| bare(&other.expr) == bare(&sort.expr)) {
            kept.push(sort);
        }
    }
    *order = kept;
}

/// The expression without its name.
fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

fn all_columns(schema: &DFSchema) -> Vec<Expr> {
    let columns = schema.columns().into_iter().map(Expr::Column).filter(|column| can_sort(column, schema));
    columns.map(|column| canonical_key(column, schema)).collect()
}

fn can_sort(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|kind| !matches!(kind, DataType::Map(_, _) | DataType::Union(_, _)))
}

/// The new expression under the name by which the plan above knows the old one.
pub(super) fn keep_name(old: &Expr, new: Expr) -> Result<Expr> {
    let (_, name) = old.qualified_name();
    new.alias_if_changed(name)
}
