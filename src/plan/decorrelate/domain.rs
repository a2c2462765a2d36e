//! The combinations of outer values for which a subquery is computed.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, utils::conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder, Operator};

use super::{Names, any_expression};

/// The rows around a subquery, and those of their columns that it names.
pub(super) struct Outer<'a> {
    pub left: &'a LogicalPlan,
    pub columns: Vec<Column>,
    pub names: &'a Names,
    /// Of the columns of its domains.
    stem: String,
}

/// A plan that gives its rows for each combination of outer values.
pub(super) struct Bound {
    /// The columns of the plan that was bound, and the keys.
    pub plan: LogicalPlan,
    /// The columns that hold the outer values, in the order of [`Outer::columns`].
    pub keys: Vec<Column>,
}

impl<'a> Outer<'a> {
    pub fn new(left: &'a LogicalPlan, subquery: &LogicalPlan, names: &'a Names) -> Self {
        let known = |column: &Column| left.schema().has_column(column);
        let columns = outer_columns(subquery).into_iter().filter(known).collect();
        Self { left, columns, names, stem: names.fresh("outer") }
    }

    /// Whether a plan names one of the columns.
    pub fn reaches(&self, plan: &LogicalPlan) -> bool {
        outer_columns(plan).iter().any(|column| self.columns.contains(column))
    }

    pub fn is_named_in(&self, expression: &Expr) -> bool {
        let named =
            |part: &Expr| matches!(part, Expr::OuterReferenceColumn(_, column) if self.columns.contains(column));
        expression.exists(|part| Ok(named(part))).expect("looking does not fail")
    }

    /// The combinations, each once.
    pub fn domain(&self) -> Result<Bound> {
        let relation = self.names.fresh("domain");
        let named = self.columns.iter().enumerate();
        let named = named.map(|(place, column)| Expr::Column(column.clone()).alias(self.key_name(place)));
        let plan = LogicalPlanBuilder::from(self.left.clone()).project(named.collect::<Vec<_>>())?;
        let plan = plan.distinct()?.alias(relation.as_str())?.build()?;
        let keys = (0..self.columns.len()).map(|place| Column::new(Some(relation.as_str()), self.key_name(place)));
        Ok(Bound { plan, keys: keys.collect() })
    }

    pub fn key_name(&self, place: usize) -> String {
        format!("{}_{place}", self.stem)
    }

    /// The expression with keys in place of outer columns.
    pub fn bound(&self, expression: Expr, keys: &[Column]) -> Result<Expr> {
        let done = expression.transform_up(|part| match &part {
            Expr::OuterReferenceColumn(_, column) => match self.columns.iter().position(|known| known == column) {
                Some(place) => Ok(Transformed::yes(Expr::Column(keys[place].clone()))),
                None => Ok(Transformed::no(part)),
            },
            _ => Ok(Transformed::no(part)),
        })?;
        Ok(done.data)
    }

    /// The conditions `inner = outer` that give an inner expression for every outer column, if there are such for all.
    pub fn equated(&self, conditions: &[Expr], inner: &LogicalPlan) -> Option<Vec<Expr>> {
        let find = |column: &Column| {
            conditions.iter().find_map(|condition| {
                let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
                let pairs = [(left, right), (right, left)];
                pairs.into_iter().find_map(|(one, other)| {
                    let Expr::OuterReferenceColumn(field, named) = one.as_ref() else { return None };
                    let kind = other.get_type(inner.schema()).ok()?;
                    // Equal doubles need not be the same: 0 and -0.
                    let same = kind == *field.data_type() && !matches!(kind, DataType::Float32 | DataType::Float64);
                    let plain =
                        !other.contains_outer() && !other.column_refs().is_empty() && !super::has_subquery(other);
                    (named == column && same && plain).then(|| other.as_ref().clone())
                })
            })
        };
        self.columns.iter().map(find).collect()
    }
}

/// The outer columns that a plan names, each once.
pub(super) fn outer_columns(plan: &LogicalPlan) -> Vec<Column> {
    let mut found = Vec::new();
    any_expression(plan, &mut |part| {
        if let Expr::OuterReferenceColumn(_, column) = part
            && !found.contains(column)
        {
            found.push(column.clone());
        }
    });
    found
}

/// A join of two plans by columns of which NULL equals NULL, and by a condition.
pub(super) fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    kind: JoinType,
    same: &[(Column, Column)],
    condition: Option<Expr>,
) -> Result<LogicalPlan> {
    let same = same.iter().map(|(left, right)| {
        let (left, right) = (Expr::Column(left.clone()), Expr::Column(right.clone()));
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left), Operator::IsNotDistinctFrom, Box::new(right)))
    });
    let condition = conjunction(same.chain(condition));
    let (on, constraint) = (Vec::new(), JoinConstraint::On);
    let nulls = NullEquality::NullEqualsNothing;
    Ok(LogicalPlan::Join(Join::try_new(left.into(), right.into(), on, condition, kind, constraint, nulls, false)?))
}
