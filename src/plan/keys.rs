//! Keys that SQL holds for equal are made equal in their bits: -0 and 0, every NaN, 30 days and a month.
//!
//! Part of the normal form, so that operators and DataFusion agree. A group of floats shows its canonical value, a group
//! of intervals the least of those that are there, as `min` chooses it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection, SortExpr, Union, Window};

use super::grouping_sets;
use super::ties::keep_name;
use crate::functions::aggregate::least_of;
use crate::functions::{canonical_value, is_canonical};

pub(super) fn settle(plan: LogicalPlan) -> Result<LogicalPlan> {
    let settled = plan.transform_up_with_subqueries(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => settle_aggregate(aggregate),
        LogicalPlan::Window(window) => settle_window(window),
        LogicalPlan::Sort(mut sort) => {
            let schema = sort.input.schema().clone();
            sort.expr = sort.expr.into_iter().map(|key| sort_key(key, &schema)).collect();
            Ok(Transformed::yes(LogicalPlan::Sort(sort)))
        }
        LogicalPlan::Join(mut join) => {
            let (left, right) = (join.left.schema().clone(), join.right.schema().clone());
            let keys = std::mem::take(&mut join.on).into_iter();
            join.on = keys.map(|(one, other)| (canonical_key(one, &left), canonical_key(other, &right))).collect();
            Ok(Transformed::yes(LogicalPlan::Join(join)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(settled.data)
}

fn settle_aggregate(mut aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let schema = aggregate.input.schema().clone();
    for call in &mut aggregate.aggr_expr {
        *call = settle_call(call.clone(), &schema)?;
    }
    if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
        let union = match sets.distinct_expr().into_iter().any(|key| varies(key, &schema)) {
            true => grouping_sets::as_union(&aggregate)?,
            false => None,
        };
        return Ok(Transformed::yes(match union {
            Some(union) => settle_each(union)?,
            None => LogicalPlan::Aggregate(aggregate),
        }));
    }
    // The intervals that stand for their groups, by the place of their key.
    let mut shown: Vec<(usize, Expr)> = Vec::new();
    for (place, key) in aggregate.group_expr.iter_mut().enumerate() {
        let plain = key.clone().unalias();
        let canonical = canonical_key(plain.clone(), &schema);
        if canonical == plain {
            continue;
        }
        if is_interval(&plain, &schema) {
            shown.push((place, least_of(plain).alias(shown_name(place))));
        }
        let (relation, name) = key.qualified_name();
        *key = canonical.alias_qualified(relation, name);
    }
    if shown.is_empty() {
        return Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)));
    }
    let places: Vec<usize> = shown.iter().map(|(place, _)| *place).collect();
    aggregate.aggr_expr.extend(shown.into_iter().map(|(_, least)| least));
    with_shown(aggregate, &places).map(Transformed::yes)
}

/// The aggregates of a union of sets, whose input is settled already.
fn settle_each(union: LogicalPlan) -> Result<LogicalPlan> {
    let settled = union.transform_down(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let settled = settle_aggregate(aggregate)?.data;
            Ok(Transformed::new(settled, true, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })?;
    // A union forgets the tables of its columns when it is built anew, hence names of their own within it.
    let LogicalPlan::Union(Union { inputs, schema }) = settled.data else { return Ok(settled.data) };
    let own = |place: usize| Column::new_unqualified(format!("key_{place}"));
    let inputs = inputs.into_iter().map(|input| {
        let columns = input.schema().columns().into_iter().enumerate();
        let named = columns.map(|(place, column)| Expr::Column(column).alias(own(place).name)).collect();
        Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(named, input)?)))
    });
    let union = Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?;
    let columns = schema.columns().into_iter().enumerate();
    let named = columns.map(|(place, name)| Expr::Column(own(place)).alias_qualified(name.relation, name.name));
    Ok(LogicalPlan::Projection(Projection::try_new(named.collect(), Arc::new(LogicalPlan::Union(union)))?))
}

/// The aggregate's columns as they were, with the chosen intervals for the keys at `places`.
fn with_shown(aggregate: Aggregate, places: &[usize]) -> Result<LogicalPlan> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let columns = schema.columns().into_iter().enumerate().map(|(place, column)| match places.contains(&place) {
        true => Expr::Column(Column::new_unqualified(shown_name(place))).alias_qualified(column.relation, column.name),
        false => Expr::Column(column),
    });
    let columns: Vec<Expr> = columns.collect();
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?);
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(grouped))?))
}

fn shown_name(place: usize) -> String {
    format!("shown_{place}")
}

/// What DISTINCT and ORDER BY of an aggregate see.
fn settle_call(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let call = match &expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    let Expr::AggregateFunction(AggregateFunction { func, params }) = call else { return Ok(expr) };
    let mut params = params.clone();
    if params.distinct {
        params.args = params.args.into_iter().map(|arg| canonical_key(arg, schema)).collect();
    }
    params.order_by = params.order_by.into_iter().map(|key| sort_key(key, schema)).collect();
    let settled = Expr::AggregateFunction(AggregateFunction { func: func.clone(), params });
    if settled == *call { Ok(expr) } else { keep_name(&expr, settled) }
}

fn settle_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let schema = window.input.schema().clone();
    let calls = window.window_expr.iter().cloned().map(|expr| settle_window_call(expr, &schema));
    let calls = calls.collect::<Result<Vec<_>>>()?;
    if calls == window.window_expr {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(calls, window.input)?)))
}

fn settle_window_call(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let call = match &expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    let Expr::WindowFunction(call) = call else { return Ok(expr) };
    let mut settled: WindowFunction = call.as_ref().clone();
    let params = &mut settled.params;
    params.partition_by =
        std::mem::take(&mut params.partition_by).into_iter().map(|key| canonical_key(key, schema)).collect();
    params.order_by = std::mem::take(&mut params.order_by).into_iter().map(|key| sort_key(key, schema)).collect();
    if settled == **call { Ok(expr) } else { keep_name(&expr, Expr::WindowFunction(Box::new(settled))) }
}

fn sort_key(key: SortExpr, schema: &DFSchema) -> SortExpr {
    SortExpr { expr: canonical_key(key.expr, schema), ..key }
}

/// The key as all that are equal to it.
pub(super) fn canonical_key(key: Expr, schema: &DFSchema) -> Expr {
    if varies(&key, schema) { canonical_value(key) } else { key }
}

/// Whether values of an expression can be equal and have other bits.
fn varies(key: &Expr, schema: &DFSchema) -> bool {
    fn kind_varies(kind: &DataType) -> bool {
        match kind {
            DataType::Float32 | DataType::Float64 | DataType::Interval(_) => true,
            DataType::List(item) => kind_varies(item.data_type()),
            _ => false,
        }
    }
    let settled = is_canonical(key) || matches!(key, Expr::Literal(_, _));
    !settled && key.get_type(schema).is_ok_and(|kind| kind_varies(&kind))
}

fn is_interval(key: &Expr, schema: &DFSchema) -> bool {
    matches!(key.get_type(schema), Ok(DataType::Interval(_)))
}
