//! Joins with a side that depends on the rows of the other, and conditions of joins that hold subqueries.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, Join, LogicalPlan, LogicalPlanBuilder};

use super::domain::{Outer, joined};
use super::push::push;
use super::{Names, as_inner, as_outer, has_subquery};

impl Names {
    pub fn join(&self, join: Join) -> Result<Transformed<LogicalPlan>> {
        if join.filter.as_ref().is_some_and(has_subquery) {
            return self.join_with_subqueries(join).map(Transformed::yes);
        }
        let outer = Outer::new(&join.left, &join.right, self);
        if outer.columns.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        self.dependent(join.clone(), &outer).map(Transformed::yes)
    }

    /// `t JOIN LATERAL (…)`.
    fn dependent(&self, join: Join, outer: &Outer) -> Result<LogicalPlan> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            let message = "the combining JOIN type must be INNER or LEFT for a LATERAL reference";
            return Err(DataFusionError::Plan(message.to_string()));
        }
        let shown = join.schema.columns();
        let on = join.on.into_iter().map(|(left, right)| left.eq(right)).collect::<Vec<_>>();
        let condition = conjunction(on.into_iter().chain(join.filter));
        let (left, right) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
        if join.join_type == JoinType::Inner
            && let Some(found) = unfolded(&right, outer)?
        {
            return found.joined_with(left, condition, shown);
        }
        let bound = push(right, outer)?;
        let same: Vec<(Column, Column)> = outer.columns.iter().cloned().zip(bound.keys).collect();
        let plan = joined(left, bound.plan, join.join_type, &same, condition)?;
        LogicalPlanBuilder::from(plan).project(shown.into_iter().map(Expr::Column))?.build()
    }

    fn join_with_subqueries(&self, mut join: Join) -> Result<LogicalPlan> {
        let conditions = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
        let (hard, plain): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(has_subquery);
        join.filter = conjunction(plain);
        let predicate = conjunction(hard).expect("a condition has a subquery");
        let shown = join.schema.columns();
        match join.join_type {
            JoinType::Inner => self.filter(Filter::try_new(predicate, LogicalPlan::Join(join).into())?),
            JoinType::Left => {
                // The condition goes to the right side, which thereby depends on the left one.
                let predicate = as_outer(predicate, join.left.schema())?;
                let right = self.filter(Filter::try_new(predicate, join.right)?)?;
                let Join { left, on, filter, join_type, join_constraint, null_equality, .. } = join;
                let join =
                    Join::try_new(left, right.into(), on, filter, join_type, join_constraint, null_equality, false)?;
                Ok(self.join(join)?.data)
            }
            JoinType::Right => {
                let Join { left, right, on, filter, join_constraint, null_equality, .. } = join;
                let on = on.into_iter().map(|(left, right)| (right, left)).collect();
                let filter = conjunction(filter.into_iter().chain([predicate]));
                let kind = JoinType::Left;
                let join = Join::try_new(right, left, on, filter, kind, join_constraint, null_equality, false)?;
                let plan = self.join_with_subqueries(join)?;
                LogicalPlanBuilder::from(plan).project(shown.into_iter().map(Expr::Column))?.build()
            }
            kind => Err(DataFusionError::NotImplemented(format!("a subquery in the condition of a {kind} join"))),
        }
    }
}

/// Projections and filters over a base that does not depend on the other side.
struct Inline {
    base: LogicalPlan,
    /// What each column is, over the base's.
    columns: Vec<(Column, Expr)>,
    /// Over the base's columns.
    conditions: Vec<Expr>,
}

/// Projections and filters over a plan that does not depend on the other side.
fn unfolded(plan: &LogicalPlan, outer: &Outer) -> Result<Option<Inline>> {
    if !outer.reaches(plan) {
        let columns = plan.schema().columns().into_iter().map(|column| (column.clone(), Expr::Column(column)));
        return Ok(Some(Inline { base: plan.clone(), columns: columns.collect(), conditions: Vec::new() }));
    }
    let (input, names, expressions) = match plan {
        LogicalPlan::Subquery(subquery) => return unfolded(&subquery.subquery, outer),
        LogicalPlan::SubqueryAlias(alias) => {
            let inner = alias.input.schema().columns().into_iter().map(Expr::Column);
            (&alias.input, alias.schema.columns(), inner.collect::<Vec<_>>())
        }
        LogicalPlan::Projection(projection) if !projection.expr.iter().any(has_subquery) => {
            (&projection.input, projection.schema.columns(), projection.expr.clone())
        }
        LogicalPlan::Filter(filter) if !has_subquery(&filter.predicate) => {
            let Some(mut found) = unfolded(&filter.input, outer)? else { return Ok(None) };
            let by = found.columns.iter().cloned().collect();
            found.conditions.push(super::replaced(filter.predicate.clone(), &by)?);
            return Ok(Some(found));
        }
        _ => return Ok(None),
    };
    let Some(Inline { base, columns, conditions }) = unfolded(input, outer)? else { return Ok(None) };
    let by = columns.into_iter().collect();
    let over = expressions.into_iter().map(|expression| super::replaced(expression.unalias(), &by));
    let columns = names.into_iter().zip(over.collect::<Result<Vec<_>>>()?).collect();
    Ok(Some(Inline { base, columns, conditions }))
}

impl Inline {
    /// The inner join with the rows around: no rows are computed twice, so no domain is needed.
    fn joined_with(self, left: LogicalPlan, condition: Option<Expr>, shown: Vec<Column>) -> Result<LogicalPlan> {
        let around = left.schema().clone();
        // The base gets names of its own: those of the left side may be the same.
        let (base, by) = renamed(self.base)?;
        let over = |expression: Expr| as_inner(super::replaced(expression, &by)?, &around);
        let columns = self.columns.into_iter().map(|(name, expression)| Ok((name, over(expression)?)));
        let columns: super::Replacement = columns.collect::<Result<_>>()?;
        let conditions = self.conditions.into_iter().map(over).collect::<Result<Vec<_>>>()?;
        let condition = condition.map(|condition| super::replaced(condition, &columns)).transpose()?;
        let plan = match &base {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => left,
            _ => joined(left, base, JoinType::Inner, &[], None)?,
        };
        let mut plan = LogicalPlanBuilder::from(plan);
        if let Some(condition) = conjunction(conditions.into_iter().chain(condition)) {
            plan = plan.filter(condition)?;
        }
        let columns = shown.into_iter().map(|column| match columns.get(&column) {
            Some(expression) => expression.clone().alias_qualified(column.relation, column.name),
            None => Expr::Column(column),
        });
        plan.project(columns.collect::<Vec<_>>())?.build()
    }
}

fn renamed(base: LogicalPlan) -> Result<(LogicalPlan, super::Replacement)> {
    if base.schema().fields().is_empty() {
        return Ok((base, super::Replacement::new()));
    }
    let columns = base.schema().columns();
    let named = |at: usize| Column::new_unqualified(format!("hw_base_{at}"));
    let shown = columns.iter().enumerate().map(|(at, column)| Expr::Column(column.clone()).alias(named(at).name));
    let plan = LogicalPlanBuilder::from(base).project(shown.collect::<Vec<_>>())?.build()?;
    let by = columns.into_iter().enumerate().map(|(at, column)| (column, Expr::Column(named(at)))).collect();
    Ok((plan, by))
}
