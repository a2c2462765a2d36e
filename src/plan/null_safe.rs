//! Keys of joins: which conditions are keys, and how NULL is compared.
//!
//! A join of DataFusion compares NULL in the same way for all its keys, and some of its rules forget that when they move
//! conditions. So while a plan is optimized, `IS NOT DISTINCT FROM` is an ordinary condition; afterwards it is a key.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::utils::{can_hash, conjunction, find_valid_equijoin_key_pair, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, Operator};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

macro_rules! rule_on_joins {
    ($(#[$meta:meta])* $name:ident, $text:literal, $rewrite:expr) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl OptimizerRule for $name {
            fn name(&self) -> &str {
                $text
            }

            fn apply_order(&self) -> Option<ApplyOrder> {
                Some(ApplyOrder::BottomUp)
            }

            fn supports_rewrite(&self) -> bool {
                true
            }

            fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
                match plan {
                    LogicalPlan::Join(join) => $rewrite(join),
                    other => Ok(Transformed::no(other)),
                }
            }
        }
    };
}

rule_on_joins!(
    /// Keys of which NULL equals NULL become conditions.
    NullSafeAsCondition,
    "null_safe_as_condition",
    as_condition
);
rule_on_joins!(
    /// Conditions `left = right` become keys.
    EqualKeys,
    "equal_keys",
    equal_keys
);
rule_on_joins!(
    /// Conditions `left IS NOT DISTINCT FROM right` become keys.
    NullSafeAsKeys,
    "null_safe_as_keys",
    as_keys
);

fn as_condition(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    if join.null_equality == NullEquality::NullEqualsNothing {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let same = std::mem::take(&mut join.on).into_iter();
    let same = same.map(|(left, right)| compared(left, Operator::IsNotDistinctFrom, right));
    join.filter = conjunction(same.chain(join.filter));
    join.null_equality = NullEquality::NullEqualsNothing;
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

fn equal_keys(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let (keys, rest) = split_keys(&mut join, Operator::Eq)?;
    let found = !keys.is_empty();
    join.on.extend(keys);
    join.filter = rest;
    Ok(Transformed::new_transformed(LogicalPlan::Join(join), found))
}

fn as_keys(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    if join.null_equality == NullEquality::NullEqualsNull || join.null_aware {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    let (keys, rest) = split_keys(&mut join, Operator::IsNotDistinctFrom)?;
    if keys.is_empty() {
        join.filter = rest;
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    // The keys that were compared by `=` go on refusing NULL.
    let not_null = join.on.iter().map(|(left, _)| left.clone().is_not_null());
    join.filter = conjunction(not_null.chain(rest));
    join.on.extend(keys);
    join.null_equality = NullEquality::NullEqualsNull;
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

fn compared(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

type Keys = Vec<(Expr, Expr)>;

/// Takes the conditions from a join: those that compare its sides so, and the rest.
fn split_keys(join: &mut Join, wanted: Operator) -> Result<(Keys, Option<Expr>)> {
    let (left, right) = (Arc::clone(join.left.schema()), Arc::clone(join.right.schema()));
    let (mut keys, mut rest) = (Vec::new(), Vec::new());
    for condition in join.filter.take().map(split_conjunction_owned).unwrap_or_default() {
        let pair = match &condition {
            Expr::BinaryExpr(BinaryExpr { left: one, op, right: other }) if *op == wanted => {
                find_valid_equijoin_key_pair(one, other, &left, &right)?
            }
            _ => None,
        };
        let hashes =
            |expression: &Expr, schema: &DFSchema| expression.get_type(schema).is_ok_and(|kind| can_hash(&kind));
        match pair {
            Some((one, other)) if hashes(&one, &left) && hashes(&other, &right) => keys.push((one, other)),
            _ => rest.push(condition),
        }
    }
    Ok((keys, conjunction(rest)))
}
