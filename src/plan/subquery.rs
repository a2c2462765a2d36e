//! Subqueries in expressions, in the forms that [`super::decorrelate`] turns into joins.
//!
//! - Comparisons with ANY and ALL, and IN where its value is looked at, become conditions on EXISTS, with SQL's three
//!   truth values.
//! - A scalar subquery says that it has one row at most: DataFusion would join several without looking.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Spans, TableReference};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::r#struct;
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not, when,
};
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::{AnalyzerRule, OptimizerContext, OptimizerRule};
use datafusion::scalar::ScalarValue;

use crate::functions::only_row;

/// IN, ANY and ALL whose value is looked at, not only whether it is true.
#[derive(Debug)]
pub(super) struct TruthValue;

impl AnalyzerRule for TruthValue {
    fn name(&self) -> &str {
        "truth_value_of_subquery"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = RewriteSetComparison::new().rewrite(plan, &OptimizerContext::new())?.data;
        let valued = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Filter(Filter { predicate, input, .. }) => {
                let predicate = condition(predicate, input.schema(), true)?;
                Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
            }
            other => {
                let schema = merge_schema(&other.inputs());
                let named = makes_columns(&other);
                other.map_expressions(|expression| {
                    let name = named.then(|| expression.qualified_name());
                    let valued = values(expression, &schema)?;
                    Ok(match name {
                        Some(name) => keep_name(valued, name),
                        None => valued,
                    })
                })
            }
        })?;
        Ok(valued.data)
    }
}

/// Whether the expressions of a plan give its columns their names.
fn makes_columns(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_))
}

/// A condition of WHERE: DataFusion's semi, anti and mark joins answer EXISTS and IN where false and NULL are one.
fn condition(expression: Expr, schema: &DFSchema, top: bool) -> Result<Expr> {
    match expression {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let top = top && op == Operator::And;
            let (left, right) = (condition(*left, schema, top)?, condition(*right, schema, top)?);
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::Not(inner) => match *inner {
            Expr::Exists(Exists { subquery, negated }) => Ok(Expr::Exists(Exists { subquery, negated: !negated })),
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                condition(Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }), schema, top)
            }
            other => Ok(values(not(other), schema)?.data),
        },
        Expr::InSubquery(InSubquery { negated, .. }) if top || !negated => Ok(expression),
        other => Ok(values(other, schema)?.data),
    }
}

/// The expression with EXISTS, which is never NULL, in place of IN.
fn values(expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expression.transform_up(|part| match part {
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let found = found_in(*expr, subquery, schema)?;
            Ok(Transformed::yes(if negated { not(found) } else { found }))
        }
        other => Ok(Transformed::no(other)),
    })
}

fn any_row(subquery: Subquery) -> Expr {
    Expr::Exists(Exists { subquery, negated: false })
}

/// True if a row is equal, else NULL if one might be, else false.
fn found_in(value: Expr, subquery: Subquery, schema: &DFSchema) -> Result<Expr> {
    let (relation, field) = subquery.subquery.schema().qualified_field(0);
    let column = Expr::Column(Column::new(relation.cloned(), field.name()));
    let outer = as_outer(value.clone(), schema)?;
    let equal = any_row(filtered(&subquery, column.clone().eq(outer.clone()), &outer)?);
    let unknown = any_row(filtered(&subquery, column.is_null(), &lit(true))?);
    let nothing = value.is_null().and(any_row(subquery));
    when(equal, lit(true)).when(nothing.or(unknown), lit(ScalarValue::Boolean(None))).otherwise(lit(false))
}

/// An expression over the rows around a subquery, as the subquery sees it.
fn as_outer(value: Expr, schema: &DFSchema) -> Result<Expr> {
    let outer = value.transform_up(|part| match part {
        Expr::Column(column) => {
            let field = schema.field_from_column(&column)?.clone();
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(outer.data)
}

fn filtered(subquery: &Subquery, predicate: Expr, outer: &Expr) -> Result<Subquery> {
    let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone()).filter(predicate)?.build()?;
    let mut outer_ref_columns = subquery.outer_ref_columns.clone();
    outer.apply(|part| {
        if matches!(part, Expr::OuterReferenceColumn(_, _)) && !outer_ref_columns.contains(part) {
            outer_ref_columns.push(part.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() })
}

/// `(SELECT x …)` becomes `only_row((SELECT struct(count(*), max(x)) …))`: it fails as PostgreSQL does if there are
/// several rows for a row around it, and it is an aggregate, which DataFusion can decorrelate.
#[derive(Debug)]
pub(super) struct OneRow;

impl AnalyzerRule for OneRow {
    fn name(&self) -> &str {
        "scalar_subquery_has_one_row"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        let guarded = plan.transform_up_with_subqueries(|plan| {
            let named = makes_columns(&plan);
            plan.map_expressions(|expression| {
                let name = expression.qualified_name();
                let guarded = expression.transform_up(|part| match part {
                    Expr::ScalarSubquery(subquery) if !has_one_row(&subquery.subquery) => {
                        Ok(Transformed::yes(only_row().call(vec![Expr::ScalarSubquery(counted(subquery)?)])))
                    }
                    other => Ok(Transformed::no(other)),
                })?;
                Ok(if named { keep_name(guarded, name) } else { guarded })
            })
        })?;
        Ok(guarded.data)
    }
}

fn keep_name(changed: Transformed<Expr>, name: (Option<TableReference>, String)) -> Transformed<Expr> {
    let needed = changed.transformed && !matches!(changed.data, Expr::Alias(_));
    changed.update_data(|expression| if needed { expression.alias_qualified(name.0, name.1) } else { expression })
}

fn has_one_row(plan: &LogicalPlan) -> bool {
    plan.max_rows().is_some_and(|rows| rows <= 1)
}

/// The subquery's number of rows and its value, or one of them, in one column.
fn counted(subquery: Subquery) -> Result<Subquery> {
    let (relation, field) = subquery.subquery.schema().qualified_field(0);
    let value = Expr::Column(Column::new(relation.cloned(), field.name()));
    let (rows, value) = (count(lit(1i64)).alias("rows"), max(value).alias("value"));
    let aggregated = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone())
        .aggregate(Vec::<Expr>::new(), vec![rows, value])?;
    let columns = ["rows", "value"].map(|column| Expr::Column(Column::from_name(column)));
    let plan = aggregated.project(vec![r#struct(columns.to_vec()).alias("counted")])?.build()?;
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}
