//! A plan that names outer columns, computed for all combinations of their values: one function for each operator.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Distinct, DistinctOn, Expr, FetchType, Filter, Join, Limit, LogicalPlan, LogicalPlanBuilder, Projection,
    SkipType, SubqueryAlias, Union, Unnest, Values, Window, WindowFrame, WindowFunctionDefinition, lit,
};

use super::condition::{is_dependent_inner, without_dependent};
use super::domain::{Bound, Outer, joined};
use super::has_subquery;
use super::value::defaults_of;

/// The plan with the keys as further columns.
pub(super) fn push(plan: LogicalPlan, outer: &Outer) -> Result<Bound> {
    if outer.columns.is_empty() {
        return Ok(Bound { plan, keys: Vec::new() });
    }
    if !outer.reaches(&plan) {
        return crossed(plan, outer);
    }
    match plan {
        LogicalPlan::Subquery(subquery) => push(Arc::unwrap_or_clone(subquery.subquery), outer),
        LogicalPlan::Projection(projection) => push_projection(projection, outer),
        LogicalPlan::Filter(filter) => push_filter(filter, outer),
        LogicalPlan::Aggregate(aggregate) => push_aggregate(aggregate, outer),
        LogicalPlan::Distinct(distinct) => push_distinct(distinct, outer),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
            let Bound { plan, keys } = push(Arc::unwrap_or_clone(sort.input), outer)?;
            let plan = LogicalPlanBuilder::from(plan).sort(bound_order(sort.expr, outer, &keys)?)?.build()?;
            Ok(Bound { plan, keys })
        }
        LogicalPlan::Limit(limit) => push_limit(limit, outer),
        LogicalPlan::Window(window) => push_window(window, outer),
        LogicalPlan::Join(join) => push_join(join, outer),
        LogicalPlan::Union(union) => push_union(union, outer),
        LogicalPlan::SubqueryAlias(alias) => push_alias(alias, outer),
        LogicalPlan::Unnest(unnest) => {
            let Unnest { input, exec_columns, options, .. } = unnest;
            let Bound { plan, keys } = push(Arc::unwrap_or_clone(input), outer)?;
            Ok(Bound { plan: LogicalPlan::Unnest(Unnest::try_new(plan.into(), exec_columns, options)?), keys })
        }
        LogicalPlan::Values(values) => push(values_as_union(values)?, outer),
        other => Err(DataFusionError::NotImplemented(format!(
            "a subquery cannot name columns of the query around it inside of: {}",
            other.display()
        ))),
    }
}

/// Every row for every combination.
fn crossed(plan: LogicalPlan, outer: &Outer) -> Result<Bound> {
    let domain = outer.domain()?;
    if matches!(&plan, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row && empty.schema.fields().is_empty()) {
        return Ok(domain);
    }
    Ok(Bound { plan: joined(plan, domain.plan, JoinType::Inner, &[], None)?, keys: domain.keys })
}

fn push_projection(projection: Projection, outer: &Outer) -> Result<Bound> {
    let Bound { plan, keys } = push(Arc::unwrap_or_clone(projection.input), outer)?;
    let mut columns = bound_named(projection.expr, outer, &keys)?;
    columns.extend(keys.iter().cloned().map(Expr::Column));
    Ok(Bound { plan: LogicalPlan::Projection(Projection::try_new(columns, plan.into())?), keys })
}

fn push_filter(filter: Filter, outer: &Outer) -> Result<Bound> {
    let conditions = split_conjunction_owned(filter.predicate);
    let input = Arc::unwrap_or_clone(filter.input);
    if !outer.reaches(&input)
        && let Some(inner) = outer.equated(&conditions, &input)
    {
        return by_equality(input, conditions, inner, outer);
    }
    let Bound { plan, keys } = push(input, outer)?;
    let conditions = conditions.into_iter().map(|condition| outer.bound(condition, &keys));
    let predicate = conjunction(conditions.collect::<Result<Vec<_>>>()?).expect("a filter has a condition");
    Ok(Bound { plan: LogicalPlanBuilder::from(plan).filter(predicate)?.build()?, keys })
}

/// `inner = outer` for every outer column: the inner expressions are the keys.
fn by_equality(input: LogicalPlan, conditions: Vec<Expr>, inner: Vec<Expr>, outer: &Outer) -> Result<Bound> {
    let shown = input.schema().columns();
    let relation = outer.names.fresh("keys");
    let keys: Vec<Column> =
        (0..inner.len()).map(|at| Column::new(Some(relation.as_str()), outer.key_name(at))).collect();
    let named = inner
        .into_iter()
        .zip(&keys)
        .map(|(expression, key)| expression.alias_qualified(key.relation.clone(), key.name.clone()));
    let columns: Vec<Expr> = shown.into_iter().map(Expr::Column).chain(named).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(columns, input.into())?);
    let conditions = conditions.into_iter().map(|condition| outer.bound(condition, &keys));
    let predicate = conjunction(conditions.collect::<Result<Vec<_>>>()?).expect("there is an equality");
    Ok(Bound { plan: LogicalPlanBuilder::from(plan).filter(predicate)?.build()?, keys })
}

fn push_aggregate(aggregate: Aggregate, outer: &Outer) -> Result<Bound> {
    if !aggregate.group_expr.is_empty() {
        return aggregate_by_keys(aggregate, outer);
    }
    // Without GROUP BY there is a row for every combination, also where no rows are.
    let (defaults, results) = (defaults_of(&aggregate)?, aggregate.schema.columns());
    let found = aggregate_by_keys(aggregate, outer)?;
    let domain = outer.domain()?;
    let same: Vec<(Column, Column)> = domain.keys.iter().cloned().zip(found.keys).collect();
    let plan = joined(domain.plan, found.plan, JoinType::Left, &same, None)?;
    let values = results.into_iter().zip(defaults).map(|(column, default)| match default.is_null() {
        true => Expr::Column(column),
        false => {
            coalesce(vec![Expr::Column(column.clone()), lit(default)]).alias_qualified(column.relation, column.name)
        }
    });
    let columns: Vec<Expr> = values.chain(domain.keys.iter().cloned().map(Expr::Column)).collect();
    Ok(Bound { plan: LogicalPlan::Projection(Projection::try_new(columns, plan.into())?), keys: domain.keys })
}

/// The aggregate by the keys beside its own groups; there are no rows where it has none to look at.
pub(super) fn aggregate_by_keys(aggregate: Aggregate, outer: &Outer) -> Result<Bound> {
    if outer.columns.is_empty() {
        return Ok(Bound { plan: LogicalPlan::Aggregate(aggregate), keys: Vec::new() });
    }
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    if group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) {
        let message = "a subquery with GROUPING SETS cannot name columns of the query around it";
        return Err(DataFusionError::NotImplemented(message.to_string()));
    }
    let Bound { plan, keys } = push(Arc::unwrap_or_clone(input), outer)?;
    let mut groups = bound_named(group_expr, outer, &keys)?;
    groups.extend(keys.iter().cloned().map(Expr::Column));
    let calls = bound_named(aggr_expr, outer, &keys)?;
    Ok(Bound { plan: LogicalPlan::Aggregate(Aggregate::try_new(plan.into(), groups, calls)?), keys })
}

fn push_distinct(distinct: Distinct, outer: &Outer) -> Result<Bound> {
    match distinct {
        Distinct::All(input) => {
            let Bound { plan, keys } = push(Arc::unwrap_or_clone(input), outer)?;
            Ok(Bound { plan: LogicalPlan::Distinct(Distinct::All(plan.into())), keys })
        }
        Distinct::On(on) => {
            let DistinctOn { on_expr, select_expr, sort_expr, input, .. } = on;
            let Bound { plan, keys } = push(Arc::unwrap_or_clone(input), outer)?;
            let by_key = || keys.iter().cloned().map(Expr::Column);
            let on_expr = by_key().chain(bound_all(on_expr, outer, &keys)?).collect();
            let select = bound_named(select_expr, outer, &keys)?.into_iter().chain(by_key()).collect();
            let order = sort_expr.map(|order| bound_order(order, outer, &keys)).transpose()?;
            let first = by_key().map(|key| SortExpr::new(key, true, false));
            let order = order.map(|order| first.chain(order).collect());
            let on = DistinctOn::try_new(on_expr, select, order, plan.into())?;
            Ok(Bound { plan: LogicalPlan::Distinct(Distinct::On(on)), keys })
        }
    }
}

/// LIMIT for each combination: its rows are numbered.
fn push_limit(limit: Limit, outer: &Outer) -> Result<Bound> {
    let (SkipType::Literal(skip), FetchType::Literal(fetch)) = (limit.get_skip_type()?, limit.get_fetch_type()?) else {
        let message = "LIMIT and OFFSET of a subquery that names columns of the query around it must be constants";
        return Err(DataFusionError::NotImplemented(message.to_string()));
    };
    let shown = limit.input.schema().columns();
    let (Bound { plan, keys }, place) = numbered(Arc::unwrap_or_clone(limit.input), outer)?;
    let (skip, place) = (u64::try_from(skip).unwrap_or(u64::MAX), Expr::Column(place));
    let after = place.clone().gt(lit(skip));
    let condition = match fetch {
        Some(fetch) => after.and(place.lt_eq(lit(skip.saturating_add(u64::try_from(fetch).unwrap_or(u64::MAX))))),
        None => after,
    };
    let columns = shown.into_iter().chain(keys.iter().cloned()).map(Expr::Column).collect::<Vec<_>>();
    Ok(Bound { plan: LogicalPlanBuilder::from(plan).filter(condition)?.project(columns)?.build()?, keys })
}

/// The rows of a plan with their number in its order, counted for each combination.
fn numbered(plan: LogicalPlan, outer: &Outer) -> Result<(Bound, Column)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let (Bound { plan, keys }, place) = numbered(Arc::unwrap_or_clone(projection.input), outer)?;
            let mut columns = bound_named(projection.expr, outer, &keys)?;
            columns.extend(keys.iter().cloned().chain([place.clone()]).map(Expr::Column));
            Ok((Bound { plan: LogicalPlan::Projection(Projection::try_new(columns, plan.into())?), keys }, place))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (bound, place) = numbered(Arc::unwrap_or_clone(alias.input), outer)?;
            let bound = requalified(bound, &alias.alias)?;
            Ok((bound, Column::new(Some(alias.alias), place.name)))
        }
        LogicalPlan::Sort(sort) => {
            let Bound { plan, keys } = push(Arc::unwrap_or_clone(sort.input), outer)?;
            let order = bound_order(sort.expr, outer, &keys)?;
            number(plan, keys, order, outer)
        }
        other => {
            let Bound { plan, keys } = push(other, outer)?;
            number(plan, keys, Vec::new(), outer)
        }
    }
}

fn number(plan: LogicalPlan, keys: Vec<Column>, order_by: Vec<SortExpr>, outer: &Outer) -> Result<(Bound, Column)> {
    let params = WindowFunctionParams {
        args: Vec::new(),
        partition_by: keys.iter().cloned().map(Expr::Column).collect(),
        window_frame: WindowFrame::new((!order_by.is_empty()).then_some(false)),
        order_by,
        filter: None,
        null_treatment: None,
        distinct: false,
    };
    let fun = WindowFunctionDefinition::WindowUDF(row_number_udwf());
    let name = outer.names.fresh("place");
    let call = Expr::WindowFunction(Box::new(WindowFunction { fun, params })).alias(&name);
    let plan = LogicalPlan::Window(Window::try_new(vec![call], plan.into())?);
    Ok((Bound { plan, keys }, Column::new_unqualified(name)))
}

fn push_window(window: Window, outer: &Outer) -> Result<Bound> {
    let Bound { plan, keys } = push(Arc::unwrap_or_clone(window.input), outer)?;
    let by_key = |expression: Expr| -> Result<Expr> {
        let done = expression.transform_down(|part| match part {
            Expr::WindowFunction(mut call) => {
                call.params.partition_by.extend(keys.iter().cloned().map(Expr::Column));
                Ok(Transformed::yes(Expr::WindowFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(done.data)
    };
    let calls = window.window_expr.into_iter().map(|call| {
        let name = call.qualified_name();
        Ok(named(by_key(outer.bound(call, &keys)?)?, name))
    });
    let calls = calls.collect::<Result<Vec<_>>>()?;
    Ok(Bound { plan: LogicalPlan::Window(Window::try_new(calls, plan.into())?), keys })
}

fn push_join(join: Join, outer: &Outer) -> Result<Bound> {
    if is_dependent_inner(&join, outer) {
        let (rest, dependent) = without_dependent(join, outer)?;
        let predicate = conjunction(dependent).expect("a condition is dependent");
        return push_filter(Filter::try_new(predicate, rest.into())?, outer);
    }
    let dependent = join.filter.as_ref().is_some_and(|filter| outer.is_named_in(filter))
        || join.on.iter().any(|(left, right)| outer.is_named_in(left) || outer.is_named_in(right));
    if join.null_aware || has_subquery_in(&join) {
        let message = "NOT IN below a subquery cannot name columns of the query around it here";
        return Err(DataFusionError::NotImplemented(message.to_string()));
    }
    let (left, right) = (Arc::unwrap_or_clone(join.left.clone()), Arc::unwrap_or_clone(join.right.clone()));
    let (left_reaches, right_reaches) = (outer.reaches(&left), outer.reaches(&right));
    // Rows of a side that stay without a partner must be there for every combination.
    let (left_stays, right_stays) = match join.join_type {
        JoinType::Inner => (false, false),
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (false, true),
        JoinType::Full => (true, true),
    };
    let push_left = left_reaches || left_stays || (dependent && !right_stays);
    let push_right = right_reaches || right_stays;
    let shown = join.schema.columns();
    let (left, left_keys) = pushed_if(push_left, left, outer)?;
    let (right, right_keys) = pushed_if(push_right, right, outer)?;
    let same: Vec<(Column, Column)> =
        left_keys.iter().flatten().cloned().zip(right_keys.iter().flatten().cloned()).collect();
    let first = if left_stays || !right_stays { &left_keys } else { &right_keys };
    let keys = first.as_ref().or(right_keys.as_ref()).cloned().expect("one side is pushed");
    let condition = join.filter.map(|filter| outer.bound(filter, &keys)).transpose()?;
    let on = join.on.into_iter().map(|(left, right)| left.eq(right)).collect::<Vec<_>>();
    let condition = conjunction(on.into_iter().chain(condition));
    let plan = joined(left, right, join.join_type, &same, condition)?;
    let (plan, keys) = match (join.join_type, left_keys, right_keys) {
        (JoinType::Full, Some(left_keys), Some(right_keys)) => either_key(plan, &shown, left_keys, right_keys, outer)?,
        _ => (plan, keys),
    };
    let columns = shown.into_iter().chain(keys.iter().cloned()).map(Expr::Column).collect::<Vec<_>>();
    Ok(Bound { plan: LogicalPlanBuilder::from(plan).project(columns)?.build()?, keys })
}

fn has_subquery_in(join: &Join) -> bool {
    join.filter.as_ref().is_some_and(has_subquery)
}

fn pushed_if(wanted: bool, plan: LogicalPlan, outer: &Outer) -> Result<(LogicalPlan, Option<Vec<Column>>)> {
    match wanted {
        true => push(plan, outer).map(|bound| (bound.plan, Some(bound.keys))),
        false => Ok((plan, None)),
    }
}

/// After a full join the keys are on one side or on the other. (Both are NULL only if the value is.)
fn either_key(
    plan: LogicalPlan,
    shown: &[Column],
    left: Vec<Column>,
    right: Vec<Column>,
    outer: &Outer,
) -> Result<(LogicalPlan, Vec<Column>)> {
    let relation = outer.names.fresh("keys");
    let keys: Vec<Column> =
        (0..left.len()).map(|at| Column::new(Some(relation.as_str()), outer.key_name(at))).collect();
    let either = left.into_iter().zip(right).zip(&keys).map(|((left, right), key)| {
        let either = coalesce(vec![Expr::Column(left), Expr::Column(right)]);
        either.alias_qualified(key.relation.clone(), key.name.clone())
    });
    let columns = shown.iter().cloned().map(Expr::Column).chain(either).collect::<Vec<_>>();
    Ok((LogicalPlan::Projection(Projection::try_new(columns, plan.into())?), keys))
}

fn push_union(union: Union, outer: &Outer) -> Result<Bound> {
    let stem = outer.names.fresh("keys");
    let names: Vec<String> = (0..outer.columns.len()).map(|at| format!("{stem}_{at}")).collect();
    let mut fields: Vec<_> =
        union.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
    let mut inputs = Vec::new();
    for input in union.inputs {
        let shown = input.schema().columns();
        let bound = push(Arc::unwrap_or_clone(input), outer)?;
        let named = bound.keys.iter().zip(&names).map(|(key, name)| Expr::Column(key.clone()).alias(name));
        let columns: Vec<Expr> = shown.into_iter().map(Expr::Column).chain(named).collect();
        inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, bound.plan.into())?)));
    }
    let first = inputs[0].schema().clone();
    for name in &names {
        fields.push((None, first.field_with_unqualified_name(name)?.clone()));
    }
    let schema = Arc::new(DFSchema::new_with_metadata(fields, union.schema.metadata().clone())?);
    let keys = names.into_iter().map(Column::new_unqualified).collect();
    Ok(Bound { plan: LogicalPlan::Union(Union { inputs, schema }), keys })
}

fn push_alias(alias: SubqueryAlias, outer: &Outer) -> Result<Bound> {
    requalified(push(Arc::unwrap_or_clone(alias.input), outer)?, &alias.alias)
}

fn requalified(bound: Bound, alias: &datafusion::common::TableReference) -> Result<Bound> {
    let keys = bound.keys.into_iter().map(|key| Column::new(Some(alias.clone()), key.name)).collect();
    let plan = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(bound.plan.into(), alias.clone())?);
    Ok(Bound { plan, keys })
}

/// `VALUES (…), (…)` as a union of single rows.
fn values_as_union(values: Values) -> Result<LogicalPlan> {
    let names = values.schema.columns();
    let rows = values.values.into_iter().map(|row| {
        let named = row.into_iter().zip(&names).map(|(cell, column)| cell.alias(&column.name));
        LogicalPlanBuilder::empty(true).project(named.collect::<Vec<_>>())?.build().map(Arc::new)
    });
    let inputs = rows.collect::<Result<Vec<_>>>()?;
    match inputs.len() {
        1 => Ok(inputs[0].as_ref().clone()),
        _ => Ok(LogicalPlan::Union(Union { inputs, schema: values.schema })),
    }
}

fn bound_all(expressions: Vec<Expr>, outer: &Outer, keys: &[Column]) -> Result<Vec<Expr>> {
    expressions.into_iter().map(|expression| outer.bound(expression, keys)).collect()
}

/// Expressions that make columns keep the names of these.
fn bound_named(expressions: Vec<Expr>, outer: &Outer, keys: &[Column]) -> Result<Vec<Expr>> {
    let bound = expressions.into_iter().map(|expression| {
        let name = expression.qualified_name();
        Ok(named(outer.bound(expression, keys)?, name))
    });
    bound.collect()
}

fn named(expression: Expr, name: (Option<datafusion::common::TableReference>, String)) -> Expr {
    match expression.qualified_name() == name {
        true => expression,
        false => expression.alias_qualified(name.0, name.1),
    }
}

fn bound_order(order: Vec<SortExpr>, outer: &Outer, keys: &[Column]) -> Result<Vec<SortExpr>> {
    let bound = order.into_iter().map(|sort| Ok(SortExpr { expr: outer.bound(sort.expr, keys)?, ..sort }));
    bound.collect()
}
