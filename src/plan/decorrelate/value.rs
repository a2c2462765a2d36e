//! Scalar subqueries as columns.

use std::sync::Arc;

use datafusion::common::{Column, JoinType};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::scalar::ScalarValue;

use super::domain::{Bound, Outer, joined};
use super::push::{aggregate_by_keys, push};
use super::{Names, Replacement, as_inner, has_subquery, replaced};

/// What a subquery computes from an aggregate without GROUP BY, which has exactly one row.
struct OverAggregate {
    aggregate: Aggregate,
    /// Each column of the subquery over the aggregate's columns.
    columns: Replacement,
    /// HAVING.
    conditions: Vec<Expr>,
}

impl Names {
    /// The plan with the value of a subquery that has one row at most, and that value.
    pub fn scalar(&self, left: LogicalPlan, subquery: LogicalPlan) -> Result<(LogicalPlan, Expr)> {
        let outer = Outer::new(&left, &subquery, self);
        let first = subquery.schema().columns()[0].clone();
        match over_aggregate(&subquery)? {
            Some(found) => {
                let OverAggregate { aggregate, columns, conditions } = found;
                let defaults = defaults_of(&aggregate)?;
                let results = aggregate.schema.columns();
                let bound = aggregate_by_keys(aggregate, &outer)?;
                let (right, shown) = self.aliased(bound, &results)?;
                let plan = joined(left.clone(), right, JoinType::Left, &same(&outer, &shown), None)?;
                let values = results.iter().zip(shown.values).zip(defaults);
                let by: Replacement = (values)
                    .map(|((result, shown), default)| {
                        let shown = Expr::Column(shown);
                        let there = if default.is_null() { shown } else { coalesce(vec![shown, lit(default)]) };
                        (result.clone(), there)
                    })
                    .collect();
                let over = |expression: Expr| as_inner(replaced(expression, &by)?, left.schema());
                let value = over(columns[&first].clone())?;
                let conditions = conditions.into_iter().map(over).collect::<Result<Vec<_>>>()?;
                let value = match conjunction(conditions) {
                    Some(condition) => when(condition, value).end()?,
                    None => value,
                };
                Ok((plan, value))
            }
            None => {
                let bound = push(subquery, &outer)?;
                let (right, shown) = self.aliased(bound, std::slice::from_ref(&first))?;
                let plan = joined(left.clone(), right, JoinType::Left, &same(&outer, &shown), None)?;
                Ok((plan, Expr::Column(shown.values[0].clone())))
            }
        }
    }

    /// Some columns and the keys of a plan under a name of its own.
    fn aliased(&self, bound: Bound, values: &[Column]) -> Result<(LogicalPlan, Shown)> {
        let relation = self.fresh("subquery");
        let named = |stem: &str, columns: &[Column]| -> (Vec<Expr>, Vec<Column>) {
            let named = columns.iter().enumerate().map(|(at, column)| {
                let name = format!("{stem}_{at}");
                (Expr::Column(column.clone()).alias(&name), Column::new(Some(relation.as_str()), name))
            });
            named.unzip()
        };
        let (mut columns, values) = named("value", values);
        let (keys, key_names) = named("key", &bound.keys);
        columns.extend(keys);
        let plan = LogicalPlanBuilder::from(bound.plan).project(columns)?.alias(relation.as_str())?.build()?;
        Ok((plan, Shown { values, keys: key_names }))
    }
}

/// Columns under their new names.
struct Shown {
    values: Vec<Column>,
    keys: Vec<Column>,
}

fn same(outer: &Outer, shown: &Shown) -> Vec<(Column, Column)> {
    outer.columns.iter().cloned().zip(shown.keys.iter().cloned()).collect()
}

fn over_aggregate(plan: &LogicalPlan) -> Result<Option<OverAggregate>> {
    let renamed = |found: OverAggregate, columns: Vec<Column>, expressions: Vec<Expr>| -> Result<OverAggregate> {
        let over = expressions.into_iter().map(|expression| replaced(expression.unalias(), &found.columns));
        let columns = columns.into_iter().zip(over.collect::<Result<Vec<_>>>()?).collect();
        Ok(OverAggregate { columns, ..found })
    };
    match plan {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => {
            let columns = aggregate.schema.columns().into_iter();
            let columns = columns.map(|column| (column.clone(), Expr::Column(column))).collect();
            Ok(Some(OverAggregate { aggregate: aggregate.clone(), columns, conditions: Vec::new() }))
        }
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(has_subquery) => {
            let found = over_aggregate(&projection.input)?;
            found.map(|found| renamed(found, projection.schema.columns(), projection.expr.clone())).transpose()
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
            over_aggregate(&alias.input)?.map(|found| renamed(found, alias.schema.columns(), inner)).transpose()
        }
        LogicalPlan::Filter(filter) if !has_subquery(&filter.predicate) => {
            let Some(mut found) = over_aggregate(&filter.input)? else { return Ok(None) };
            for condition in split_conjunction_owned(filter.predicate.clone()) {
                found.conditions.push(replaced(condition, &found.columns)?);
            }
            Ok(Some(found))
        }
        LogicalPlan::Subquery(subquery) => over_aggregate(&Arc::clone(&subquery.subquery)),
        _ => Ok(None),
    }
}

/// What the aggregates give for no rows: 0 for counts, else NULL.
pub(super) fn defaults_of(aggregate: &Aggregate) -> Result<Vec<ScalarValue>> {
    let schema = aggregate.input.schema();
    let default = |expression: &Expr| {
        let kind = expression.get_type(schema)?;
        match expression.clone().unalias_nested().data {
            Expr::AggregateFunction(call) if COUNTS.contains(&call.func.name()) => ScalarValue::new_zero(&kind),
            _ => ScalarValue::try_from(&kind),
        }
    };
    aggregate.aggr_expr.iter().map(default).collect()
}

/// Aggregates that are never NULL.
const COUNTS: [&str; 3] = ["count", "regr_count", "approx_distinct"];
