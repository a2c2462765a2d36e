//! Gives a planned statement the types that PostgreSQL gives it, with every implicit cast written out.
//!
//! Operators are typed while DataFusion plans them ([`Operators`], an `ExprPlanner`), because its own planner already
//! refuses some that PostgreSQL has; everything else afterwards, bottom up, by [`give_types`].

mod calls;
mod casts;
mod literals;
mod operators;
mod pending;
mod plans;
mod shape;

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, Between, Case, Cast, InList, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, Union, Values, WindowFrameBound};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::scalar::ScalarValue;

use super::config::session_state;
use crate::error::{SqlError, SqlState};
use crate::zset::PgType;

pub use casts::assignment_cast;
pub use operators::Operators;
pub use pending::pending_functions;

pub use literals::wider as wider_of;
pub use operators::plain as without_length;

use casts::{cast_to, explicit_cast};
use literals::{Operand, common_type, settle};
use operators::binary_expr;
use plans::type_plan;

/// The name of the field of casts that are meant, and not put in by DataFusion's planner.
pub const WRITTEN_CAST: &str = "cast";

/// The plan with every expression typed and every implicit cast written out.
pub fn give_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = type_plan(plan)?;
    let state = session_state();
    // Without DataFusion's check at the end: it refuses subqueries to which the normal form of plans gives a meaning.
    state.analyzer().rules.iter().try_fold(plan, |plan, rule| rule.analyze(plan, state.config_options()))
}

/// The same for a single expression over columns.
pub fn give_expression_types(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    let expression = type_expression(expression, schema)?.data;
    let expression = settle(expression);
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    ExprSimplifier::new(context).coerce(expression, schema)
}

/// One node whose inputs and subqueries are typed.
fn type_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Values(values) = node {
        return type_values(values).map(Transformed::yes);
    }
    if let LogicalPlan::Union(union) = node {
        return type_union(union).map(Transformed::yes);
    }
    if matches!(node, LogicalPlan::Limit(_)) {
        return node.map_expressions(|expression| type_expression(expression, &DFSchema::empty()));
    }
    let mut schema = merge_schema(&node.inputs());
    if let LogicalPlan::TableScan(scan) = &node {
        let source = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        schema.merge(&source);
    }
    let names = NamePreserver::new(&node);
    // Only what a SELECT gives settles on a type by itself; elsewhere the surroundings say.
    let gives_columns = matches!(node, LogicalPlan::Projection(_));
    let typed = node.map_expressions(|expression| {
        let name = names.save(&expression);
        let typed = type_expression(expression, &schema)?;
        let typed = match gives_columns {
            true => Transformed::new_transformed(settle(typed.data), true),
            false => typed,
        };
        Ok(typed.update_data(|expression| name.restore(expression)))
    })?;
    typed.map_data(LogicalPlan::recompute_schema)
}

/// VALUES: each column has one type, and text constants take it.
fn type_values(values: Values) -> Result<LogicalPlan> {
    let empty: DFSchemaRef = Arc::new(DFSchema::empty());
    let mut rows = Vec::with_capacity(values.values.len());
    for row in values.values {
        let typed = row.into_iter().map(|cell| Ok(type_expression(as_written(cell), &empty)?.data));
        rows.push(typed.collect::<Result<Vec<Expr>>>()?);
    }
    let width = rows.first().map_or(0, Vec::len);
    for column in 0..width {
        let operands = rows.iter().map(|row| Operand::new(row[column].clone(), &empty)).collect::<Result<Vec<_>>>()?;
        let kind = common_type(&operands).unwrap_or(PgType::Text);
        for (row, operand) in rows.iter_mut().zip(operands) {
            // All cells in the same form, because the builder compares their metadata.
            let field = kind.field(WRITTEN_CAST, true);
            row[column] = Expr::Cast(Cast::new_from_field(Box::new(cast_to(operand, &kind)?), field.into()));
        }
    }
    LogicalPlanBuilder::values(rows)?.build()
}

/// Without the casts by which the planner brought the cells of a column together.
fn as_written(cell: Expr) -> Expr {
    match cell {
        Expr::Cast(Cast { expr, field }) if field.name() != WRITTEN_CAST => *expr,
        other => other,
    }
}

/// UNION: each column has the type that holds those of all branches.
fn type_union(union: Union) -> Result<LogicalPlan> {
    let width = union.schema.fields().len();
    let mut kinds = Vec::with_capacity(width);
    for column in 0..width {
        let operand = |input: &Arc<LogicalPlan>| {
            Operand::new(Expr::Column(input.schema().columns()[column].clone()), input.schema())
        };
        let operands = union.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
        let mut known = operands.iter().filter_map(|operand| operand.kind.as_ref());
        let common = common_type(&operands);
        if let (None, Some(first)) = (&common, known.next()) {
            let other = known.find(|other| literals::wider(first, other).is_none()).unwrap_or(first);
            let message = format!("UNION types {first} and {other} cannot be matched");
            return Err(super::scalar::carry(SqlError::new(SqlState::DATATYPE_MISMATCH, message)));
        }
        kinds.push(common);
    }
    let inputs = union.inputs.into_iter().map(|input| branch(input, &kinds)).collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?))
}

/// A branch of a UNION with its columns cast where they differ.
fn branch(input: Arc<LogicalPlan>, kinds: &[Option<PgType>]) -> Result<Arc<LogicalPlan>> {
    let schema = input.schema().clone();
    let mut changed = false;
    let mut expressions = Vec::with_capacity(kinds.len());
    for (column, kind) in schema.columns().into_iter().zip(kinds) {
        let operand = Operand::new(Expr::Column(column.clone()), &schema)?;
        let differs = kind.is_some() && operand.kind != *kind;
        changed |= differs;
        expressions.push(match kind {
            Some(kind) if differs => cast_to(operand, kind)?.alias_qualified(column.relation.clone(), &column.name),
            _ => Expr::Column(column),
        });
    }
    match changed {
        true => Ok(Arc::new(LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(expressions)?.build()?)),
        false => Ok(input),
    }
}

fn type_expression(expression: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expression.transform_up(|expression| Ok(Transformed::yes(type_one(expression, schema)?)))
}

/// One expression whose parts are typed.
fn type_one(expression: Expr, schema: &DFSchema) -> Result<Expr> {
    match expression {
        Expr::BinaryExpr(binary) => binary_expr(binary, schema),
        Expr::Cast(Cast { expr, field }) => explicit_cast(*expr, &PgType::of(&field), schema),
        Expr::Negative(inner) => negative(*inner, schema),
        Expr::Between(between) => type_between(between, schema),
        Expr::InList(list) => type_in_list(list, schema),
        Expr::Case(case) => type_case(case, schema),
        Expr::ScalarFunction(call) => calls::type_call(call, schema),
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            params.args = params.args.into_iter().map(settle).collect();
            Ok(Expr::AggregateFunction(AggregateFunction { func, params }))
        }
        Expr::WindowFunction(call) => type_window(*call, schema),
        other => Ok(other),
    }
}

/// `-x` overflows as `0 - x` does.
fn negative(inner: Expr, schema: &DFSchema) -> Result<Expr> {
    let operand = Operand::new(inner, schema)?;
    match operand.kind {
        Some(PgType::Int2 | PgType::Int4 | PgType::Int8) => {
            let zero = Operand { expr: literals::typed_int(0), kind: Some(PgType::Int2) };
            operators::arithmetic(super::scalar::Operation::Subtract, zero, operand)
        }
        // A product keeps the sign of NaN.
        Some(PgType::Float4 | PgType::Float8) => {
            let kind = operand.kind.clone().unwrap_or(PgType::Float8);
            let one = match kind {
                PgType::Float4 => ScalarValue::Float32(Some(-1.0)),
                _ => ScalarValue::Float64(Some(-1.0)),
            };
            let minus_one = Operand { expr: literals::typed_literal(one, &kind), kind: Some(kind) };
            operators::arithmetic(super::scalar::Operation::Multiply, operand, minus_one)
        }
        _ => Ok(Expr::Negative(Box::new(operand.expr))),
    }
}

fn type_between(between: Between, schema: &DFSchema) -> Result<Expr> {
    let Between { expr, negated, low, high } = between;
    let operand = |expr: Expr| Operand::new(expr, schema);
    let low = operators::comparison(Operator::GtEq, operand((*expr).clone())?, operand(*low)?)?;
    let high = operators::comparison(Operator::LtEq, operand(*expr)?, operand(*high)?)?;
    let both = low.and(high);
    Ok(if negated { Expr::Not(Box::new(both)) } else { both })
}

fn type_in_list(in_list: InList, schema: &DFSchema) -> Result<Expr> {
    let InList { expr, list, negated } = in_list;
    let mut operands = vec![Operand::new(*expr, schema)?];
    for item in list {
        operands.push(Operand::new(item, schema)?);
    }
    let kinds: Vec<&PgType> = operands.iter().filter_map(|operand| operand.kind.as_ref()).collect();
    if let Some((first, other)) = kinds.first().zip(kinds.iter().find(|kind| operators::never_equal(kinds[0], kind))) {
        return Err(operators::undefined("=", Some(first), Some(other)));
    }
    let untyped = operands.iter().any(|operand| operand.kind.is_none());
    let kind = common_type(&operands).map(|kind| if untyped { operators::beside_comparison(&kind) } else { kind });
    let Some(kind) = kind else {
        let mut plain = operands.into_iter().map(|operand| operand.expr);
        let expr = Box::new(plain.next().expect("the tested value was put in first"));
        return Ok(Expr::InList(InList { expr, list: plain.collect(), negated }));
    };
    let compared = |value: Expr| if kind == PgType::Interval { super::scalar::interval_order(value) } else { value };
    let cast = operands.into_iter().map(|operand| cast_to(operand, &kind).map(compared));
    let mut cast = cast.collect::<Result<Vec<_>>>()?.into_iter();
    let expr = Box::new(cast.next().expect("the tested value was put in first"));
    Ok(Expr::InList(InList { expr, list: cast.collect(), negated }))
}

/// Intervals are ordered by their length, but for a frame that adds to them.
fn type_window(mut call: WindowFunction, schema: &DFSchema) -> Result<Expr> {
    let frame = &call.params.window_frame;
    let plain = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::CurrentRow) || bound.is_unbounded();
    if plain(&frame.start_bound) && plain(&frame.end_bound) {
        for key in &mut call.params.order_by {
            if Operand::new(key.expr.clone(), schema)?.kind == Some(PgType::Interval) {
                key.expr = super::scalar::interval_order(key.expr.clone());
            }
        }
    }
    Ok(Expr::WindowFunction(Box::new(call)))
}

fn type_case(case: Case, schema: &DFSchema) -> Result<Expr> {
    let Case { expr, when_then_expr, else_expr } = case;
    let (mut conditions, mut results) = (Vec::new(), Vec::new());
    for (when, then) in when_then_expr {
        // `CASE x WHEN y` is `CASE WHEN x = y`, so that both sides meet as in a comparison.
        let condition = match &expr {
            Some(tested) => operators::comparison(
                Operator::Eq,
                Operand::new((**tested).clone(), schema)?,
                Operand::new(*when, schema)?,
            )?,
            None => *when,
        };
        conditions.push(condition);
        results.push(Operand::new(*then, schema)?);
    }
    let has_else = else_expr.is_some();
    if let Some(other) = else_expr {
        results.push(Operand::new(*other, schema)?);
    }
    let kind = common_type(&results);
    let mut results = results
        .into_iter()
        .map(|result| match &kind {
            Some(kind) => cast_to(result, kind),
            None => Ok(settle(result.expr)),
        })
        .collect::<Result<Vec<_>>>()?;
    let else_expr = if has_else { results.pop().map(Box::new) } else { None };
    let when_then_expr = conditions.into_iter().zip(results).map(|(when, then)| (Box::new(when), Box::new(then)));
    Ok(Expr::Case(Case { expr: None, when_then_expr: when_then_expr.collect(), else_expr }))
}

/// `least(…)`, for plans that the binder builds itself.
pub fn least(arguments: Vec<Expr>) -> Expr {
    datafusion::functions::core::least().call(arguments)
}

/// An array of the whole numbers from one to another.
pub fn series(from: Expr, to: Expr) -> Expr {
    let to = Expr::Cast(Cast::new(Box::new(to), arrow::datatypes::DataType::Int64));
    let one = literals::typed_literal(datafusion::scalar::ScalarValue::Int64(Some(1)), &PgType::Int8);
    super::sized::series().call(vec![from, to, one])
}
