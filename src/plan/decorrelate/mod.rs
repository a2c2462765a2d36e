//! Subqueries and LATERAL that depend on the rows around them, as joins; after Neumann and Kemper, "Unnesting
//! Arbitrary Queries".
//!
//! A subquery is computed at once for all combinations of the outer values that it names, its *domain*: each operator
//! of it carries these values as further columns, the keys, and the result is joined with the rows around it by them.
//! Where the subquery says `inner = outer`, the inner column itself is the key and no domain is needed.

mod condition;
mod domain;
mod lateral;
mod push;
mod value;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Sort, Subquery, SubqueryAlias,
};
use datafusion::optimizer::AnalyzerRule;

use domain::outer_columns;

#[derive(Debug)]
pub(super) struct Decorrelate;

impl AnalyzerRule for Decorrelate {
    fn name(&self) -> &str {
        "decorrelate"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let names = Names::default();
        Ok(plan.transform_up_with_subqueries(|node| names.node(node))?.data)
    }
}

/// Gives every relation that is made a name of its own.
#[derive(Debug, Default)]
struct Names(Cell<usize>);

impl Names {
    fn fresh(&self, stem: &str) -> String {
        self.0.set(self.0.get() + 1);
        format!("hw_{stem}_{}", self.0.get())
    }

    /// A node whose inputs, and the insides of whose subqueries, are done.
    fn node(&self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match node {
            LogicalPlan::Filter(filter) if has_subquery(&filter.predicate) => self.filter(filter).map(Transformed::yes),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias),
            LogicalPlan::Sort(sort) if sort.expr.iter().any(|sort| has_subquery(&sort.expr)) => {
                let sorted = with_outer_columns(sort)?;
                match sorted {
                    LogicalPlan::Projection(shown) => {
                        let input = self.expressions(Arc::unwrap_or_clone(shown.input))?;
                        let columns = shown.expr;
                        LogicalPlanBuilder::from(input).project(columns)?.build().map(Transformed::yes)
                    }
                    sort => self.expressions(sort).map(Transformed::yes),
                }
            }
            other if other.inputs().len() == 1 && other.expressions().iter().any(has_subquery) => {
                self.expressions(other).map(Transformed::yes)
            }
            other => Ok(Transformed::no(other)),
        }
    }

    /// LATERAL that depends on nothing is an ordinary derived table.
    fn alias(&self, alias: SubqueryAlias) -> Result<Transformed<LogicalPlan>> {
        match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) if !is_correlated(subquery) => {
                let plan = SubqueryAlias::try_new(Arc::clone(&subquery.subquery), alias.alias)?;
                Ok(Transformed::yes(LogicalPlan::SubqueryAlias(plan)))
            }
            _ => Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias))),
        }
    }

    /// WHERE: EXISTS and IN that must be true become semi and anti joins.
    fn filter(&self, filter: Filter) -> Result<LogicalPlan> {
        let shown = filter.input.schema().columns();
        let mut left = Arc::unwrap_or_clone(filter.input);
        let mut kept = Vec::new();
        for condition in split_conjunction_owned(filter.predicate) {
            match condition {
                Expr::Exists(Exists { subquery, negated }) => {
                    left = self.exists(left, plan_of(subquery), semi_or_anti(negated))?.0;
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) if is_correlated(&subquery) => {
                    let plan = condition::equal_rows(&expr, plan_of(subquery), negated, left.schema())?;
                    left = self.exists(left, plan, semi_or_anti(negated))?.0;
                }
                other => {
                    let (input, condition) = self.expression(left, other)?;
                    left = input;
                    kept.push(condition);
                }
            }
        }
        let mut builder = LogicalPlanBuilder::from(left);
        if let Some(predicate) = conjunction(kept) {
            builder = builder.filter(predicate)?;
        }
        shown_only(builder.build()?, shown)
    }

    /// Any other operator over one input: its subqueries become columns of the input.
    fn expressions(&self, node: LogicalPlan) -> Result<LogicalPlan> {
        let shown = node.schema().columns();
        let mut left = node.inputs()[0].clone();
        let mut expressions = Vec::new();
        for expression in node.expressions() {
            let name = expression.qualified_name();
            let (input, replaced) = self.expression(left, expression.clone())?;
            left = input;
            let named = replaced != expression && !matches!(node, LogicalPlan::Sort(_));
            let keep = named && !matches!(replaced, Expr::Alias(_));
            expressions.push(if keep { replaced.alias_qualified(name.0, name.1) } else { replaced });
        }
        let node = node.with_new_exprs(expressions, vec![left])?;
        shown_only(node, shown)
    }

    /// An expression over the rows of a plan without its subqueries, and the plan with the columns that it then reads.
    fn expression(&self, left: LogicalPlan, expression: Expr) -> Result<(LogicalPlan, Expr)> {
        let mut left = Some(left);
        let mut take = |part: Expr| {
            let input = left.take().expect("every step gives the plan back");
            let (input, replaced) = self.subquery(input, part)?;
            left = Some(input);
            Ok::<_, DataFusionError>(replaced)
        };
        let done = expression.transform_up(|part| match part {
            Expr::ScalarSubquery(_) | Expr::Exists(_) => Ok(Transformed::yes(take(part)?)),
            Expr::InSubquery(InSubquery { ref subquery, .. }) if is_correlated(subquery) => {
                Ok(Transformed::yes(take(part)?))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok((left.expect("every step gives the plan back"), done.data))
    }

    fn subquery(&self, left: LogicalPlan, part: Expr) -> Result<(LogicalPlan, Expr)> {
        let negate = |(left, mark): (LogicalPlan, Option<Column>), negated: bool| {
            let mark = Expr::Column(mark.expect("a mark join gives its mark"));
            (left, if negated { Expr::Not(Box::new(mark)) } else { mark })
        };
        match part {
            Expr::ScalarSubquery(subquery) => self.scalar(left, plan_of(subquery)),
            Expr::Exists(Exists { subquery, negated }) => {
                Ok(negate(self.exists(left, plan_of(subquery), JoinType::LeftMark)?, negated))
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let plan = condition::equal_rows(&expr, plan_of(subquery), negated, left.schema())?;
                Ok(negate(self.exists(left, plan, JoinType::LeftMark)?, negated))
            }
            other => Ok((left, other)),
        }
    }
}

/// A sort over what its subqueries name, too: the planner brings only the columns that the order itself names.
fn with_outer_columns(sort: Sort) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = sort.input.as_ref() else { return Ok(LogicalPlan::Sort(sort)) };
    let below = projection.input.schema();
    let mut added = Vec::new();
    for part in &sort.expr {
        part.expr.apply(|part| {
            if let Expr::ScalarSubquery(subquery) | Expr::Exists(Exists { subquery, .. }) = part {
                let outer = outer_columns(&subquery.subquery).into_iter();
                added.extend(outer.filter(|column| below.has_column(column) && !projection.schema.has_column(column)));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if added.is_empty() {
        return Ok(LogicalPlan::Sort(sort));
    }
    let shown = sort.input.schema().columns();
    let columns = projection.expr.iter().cloned().chain(added.into_iter().map(Expr::Column));
    let wide = LogicalPlanBuilder::from(projection.input.as_ref().clone()).project(columns.collect::<Vec<_>>())?;
    let sorted = LogicalPlan::Sort(Sort { input: wide.build()?.into(), ..sort });
    LogicalPlanBuilder::from(sorted).project(shown.into_iter().map(Expr::Column))?.build()
}

fn semi_or_anti(negated: bool) -> JoinType {
    if negated { JoinType::LeftAnti } else { JoinType::LeftSemi }
}

fn plan_of(subquery: Subquery) -> LogicalPlan {
    Arc::unwrap_or_clone(subquery.subquery)
}

/// What is not correlated DataFusion knows how to join, NOT IN with its NULLs too.
fn is_correlated(subquery: &Subquery) -> bool {
    !outer_columns(&subquery.subquery).is_empty()
}

fn has_subquery(expression: &Expr) -> bool {
    let subquery = |part: &Expr| matches!(part, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_));
    expression.exists(|part| Ok(subquery(part))).expect("looking does not fail")
}

/// The plan with these columns alone.
fn shown_only(plan: LogicalPlan, shown: Vec<Column>) -> Result<LogicalPlan> {
    match plan.schema().fields().len() == shown.len() {
        true => Ok(plan),
        false => LogicalPlanBuilder::from(plan).project(shown.into_iter().map(Expr::Column))?.build(),
    }
}

/// Columns and what stands in their place.
type Replacement = HashMap<Column, Expr>;

fn replaced(expression: Expr, by: &Replacement) -> Result<Expr> {
    let done = expression.transform_up(|part| match &part {
        Expr::Column(column) if by.contains_key(column) => Ok(Transformed::yes(by[column].clone())),
        _ => Ok(Transformed::no(part)),
    })?;
    Ok(done.data)
}

/// An expression over the rows around a subquery, as the subquery sees it.
fn as_outer(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    let outer = expression.transform_up(|part| match part {
        Expr::Column(column) if schema.has_column(&column) => {
            let field = schema.field_from_column(&column)?.clone();
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outer.data)
}

/// An expression with the outer columns of a schema as plain columns.
fn as_inner(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    let inner = expression.transform_up(|part| match part {
        Expr::OuterReferenceColumn(_, column) if schema.has_column(&column) => {
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(inner.data)
}

fn any_expression(plan: &LogicalPlan, wanted: &mut dyn FnMut(&Expr)) {
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                wanted(part);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.expect("looking at expressions does not fail");
}
