//! EXISTS and IN as semi, anti and mark joins.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Distinct, Expr, FetchType, Join, Limit, LogicalPlan, LogicalPlanBuilder, SkipType, lit,
};

use super::domain::{Outer, joined};
use super::push::push;
use super::{Names, Replacement, as_inner, as_outer, has_subquery, replaced};

impl Names {
    /// The rows for which a subquery has rows (or has none, or with a mark that says it).
    pub fn exists(
        &self,
        left: LogicalPlan,
        subquery: LogicalPlan,
        kind: JoinType,
    ) -> Result<(LogicalPlan, Option<Column>)> {
        let outer = Outer::new(&left, &subquery, self);
        let relation = self.fresh("subquery");
        let mark = (kind == JoinType::LeftMark).then(|| Column::new(Some(relation.as_str()), "mark"));
        if let Some((base, conditions)) = conditions_over(subquery.clone(), &outer)? {
            let (right, conditions) = read_by(base, conditions, &relation)?;
            let conditions = conditions.into_iter().map(|condition| as_inner(condition, left.schema()));
            let condition = conjunction(conditions.collect::<Result<Vec<_>>>()?);
            return Ok((joined(left, right, kind, &[], condition)?, mark));
        }
        let bound = push(subquery, &outer)?;
        let mut columns: Vec<Expr> = bound
            .keys
            .iter()
            .enumerate()
            .map(|(at, key)| Expr::Column(key.clone()).alias(format!("key_{at}")))
            .collect();
        columns.push(lit(true).alias("there"));
        let right = LogicalPlanBuilder::from(bound.plan).project(columns)?.alias(relation.as_str())?.build()?;
        let keys = (0..bound.keys.len()).map(|at| Column::new(Some(relation.as_str()), format!("key_{at}")));
        let same: Vec<(Column, Column)> = outer.columns.iter().cloned().zip(keys).collect();
        Ok((joined(left, right, kind, &same, None)?, mark))
    }
}

/// The rows of a subquery that equal a value of the row around it; with `negated` also those that may.
pub(super) fn equal_rows(value: &Expr, subquery: LogicalPlan, negated: bool, schema: &DFSchema) -> Result<LogicalPlan> {
    let column = Expr::Column(subquery.schema().columns()[0].clone());
    let value = as_outer(value.clone(), schema)?;
    let equal = column.clone().eq(value.clone());
    let condition = if negated { equal.or(column.is_null()).or(value.is_null()) } else { equal };
    LogicalPlanBuilder::from(subquery).filter(condition)?.build()
}

/// A subquery as conditions over a plan that does not depend on the rows around it.
fn conditions_over(subquery: LogicalPlan, outer: &Outer) -> Result<Option<(LogicalPlan, Vec<Expr>)>> {
    let (mut plan, mut conditions) = (subquery, Vec::new());
    loop {
        plan = match plan {
            LogicalPlan::Subquery(subquery) => Arc::unwrap_or_clone(subquery.subquery),
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => Arc::unwrap_or_clone(sort.input),
            LogicalPlan::Distinct(Distinct::All(input)) => Arc::unwrap_or_clone(input),
            LogicalPlan::Limit(limit) if conditions.is_empty() && keeps_a_row(&limit) => {
                Arc::unwrap_or_clone(limit.input)
            }
            LogicalPlan::Projection(projection) => {
                let by: Replacement = projection
                    .schema
                    .columns()
                    .into_iter()
                    .zip(projection.expr.iter().map(|e| e.clone().unalias()))
                    .collect();
                conditions = conditions.into_iter().map(|c| replaced(c, &by)).collect::<Result<_>>()?;
                Arc::unwrap_or_clone(projection.input)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let inner = alias.input.schema().columns().into_iter().map(Expr::Column);
                let by: Replacement = alias.schema.columns().into_iter().zip(inner).collect();
                conditions = conditions.into_iter().map(|c| replaced(c, &by)).collect::<Result<_>>()?;
                Arc::unwrap_or_clone(alias.input)
            }
            LogicalPlan::Filter(filter) if !has_subquery(&filter.predicate) => {
                conditions.extend(split_conjunction_owned(filter.predicate));
                Arc::unwrap_or_clone(filter.input)
            }
            LogicalPlan::Join(join) if is_dependent_inner(&join, outer) => {
                let (rest, dependent) = without_dependent(join, outer)?;
                conditions.extend(dependent);
                rest
            }
            other => {
                let plain = !outer.reaches(&other) && !conditions.iter().any(has_subquery);
                return Ok(plain.then_some((other, conditions)));
            }
        }
    }
}

fn keeps_a_row(limit: &Limit) -> bool {
    let skips = matches!(limit.get_skip_type(), Ok(SkipType::Literal(0)));
    skips && matches!(limit.get_fetch_type(), Ok(FetchType::Literal(fetch)) if fetch.is_none_or(|rows| rows > 0))
}

/// Whether a condition of an inner join names outer columns.
pub(super) fn is_dependent_inner(join: &Join, outer: &Outer) -> bool {
    join.join_type == JoinType::Inner && join.filter.as_ref().is_some_and(|filter| outer.is_named_in(filter))
}

/// An inner join without its conditions on outer columns, and these.
pub(super) fn without_dependent(mut join: Join, outer: &Outer) -> Result<(LogicalPlan, Vec<Expr>)> {
    let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
    let (dependent, plain): (Vec<Expr>, Vec<Expr>) =
        conditions.into_iter().partition(|condition| outer.is_named_in(condition));
    join.filter = conjunction(plain);
    Ok((LogicalPlan::Join(join), dependent))
}

/// The columns of a plan that conditions read, under the name of a relation, and the conditions over these.
fn read_by(base: LogicalPlan, conditions: Vec<Expr>, relation: &str) -> Result<(LogicalPlan, Vec<Expr>)> {
    let read = |column: &Column| conditions.iter().any(|condition| condition.column_refs().contains(column));
    let columns: Vec<Column> = base.schema().columns().into_iter().filter(read).collect();
    let named = |at: usize| format!("c{at}");
    let mut shown: Vec<Expr> =
        columns.iter().enumerate().map(|(at, column)| Expr::Column(column.clone()).alias(named(at))).collect();
    if shown.is_empty() {
        shown.push(lit(true).alias("there"));
    }
    let plan = LogicalPlanBuilder::from(base).project(shown)?.alias(relation)?.build()?;
    let by: Replacement = columns
        .into_iter()
        .enumerate()
        .map(|(at, column)| (column, Expr::Column(Column::new(Some(relation), named(at)))))
        .collect();
    let conditions = conditions.into_iter().map(|condition| replaced(condition, &by)).collect::<Result<_>>()?;
    Ok((plan, conditions))
}
