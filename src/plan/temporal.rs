//! Lowers conditions that compare a row's time with the clock: rows enter and leave as time goes by.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Filter, Join, LogicalPlan, Operator, Volatility};

use super::lower::{Lowering, Recipe, reads_clock_itself};
use super::stream::{Stream, own_columns, schema_of};
use crate::dataflow::operators::{Temporal, Turn};
use crate::dataflow::{Class, Edge, Operator as DataflowOperator, Route};
use crate::error::SqlResult;
use crate::functions::errors::sql_error;

/// A condition `time > clock`, or the like.
struct TimeBound {
    /// Over the row alone.
    time: Expr,
    /// Over the clock alone, never going back.
    clock: Expr,
    turn: Turn,
    /// Whether a row's turn comes only when the clock is past its time.
    after: bool,
}

impl Lowering<'_> {
    /// A filter some of whose conditions compare a time with the clock; `None` if others read the clock too.
    pub fn temporal(&mut self, filter: &Filter) -> SqlResult<Option<Stream>> {
        let parts: Vec<Expr> = split_conjunction(&filter.predicate).into_iter().cloned().collect();
        let (timed, plain): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(mentions_clock);
        let schema = filter.input.schema();
        let bounds: Option<Vec<TimeBound>> =
            timed.iter().flat_map(halves).map(|part| bound_of(&part, schema)).collect();
        let Some(bounds) = bounds.filter(|bounds| !bounds.is_empty()) else { return Ok(None) };
        let base = match conjunction(plain) {
            None => filter.input.as_ref().clone(),
            Some(plain) => {
                let plain = Filter::try_new(plain, filter.input.clone()).map_err(|error| sql_error(&error))?;
                LogicalPlan::Filter(plain)
            }
        };
        if !self.has_rule(&base) {
            return Ok(None);
        }
        let times: Vec<Expr> = bounds.iter().map(|bound| bound.time.clone()).collect();
        let (mut node, places) = self.keyed_node(&base, &times)?;
        for (bound, place) in bounds.iter().zip(places) {
            node = self.timed_node(node, place, bound)?;
        }
        let held = self.nodes[node].schema.clone();
        let shown = filter.input.schema().fields().len();
        let columns = own_columns(&held)[..shown].to_vec();
        Ok(Some(Stream::of(node, held).project(&columns, schema_of(schema))))
    }

    /// An inner join with the conditions that read the clock above it instead of in it; `None` for others.
    pub fn timed_join(join: &Join) -> SqlResult<Option<LogicalPlan>> {
        let Some(condition) = join.filter.as_ref().filter(|_| join.join_type == JoinType::Inner) else {
            return Ok(None);
        };
        let parts: Vec<Expr> = split_conjunction(condition).into_iter().cloned().collect();
        let (timed, plain): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(mentions_clock);
        let Some(timed) = conjunction(timed) else { return Ok(None) };
        let below = LogicalPlan::Join(Join { filter: conjunction(plain), ..join.clone() });
        let above = Filter::try_new(timed, Arc::new(below)).map_err(|error| sql_error(&error))?;
        Ok(Some(LogicalPlan::Filter(above)))
    }

    fn timed_node(&mut self, from: usize, time: usize, bound: &TimeBound) -> SqlResult<usize> {
        let clock = self.clock_column(&bound.clock)?;
        let (schema, clock_schema) = (self.nodes[from].schema.clone(), self.nodes[clock].schema.clone());
        let (turn, after, output) = (bound.turn, bound.after, schema.clone());
        let make = Arc::new(move || {
            let made = Temporal::new(turn, time, after, output.clone(), clock_schema.clone());
            Box::new(made) as Box<dyn DataflowOperator>
        });
        let until = if turn == Turn::Leaves { "until" } else { "from" };
        let detail = format!("{until} {} reaches {}", bound.clock.human_display(), bound.time.human_display());
        let keeps = match turn {
            Turn::Leaves => "the rows that are there until they leave",
            Turn::Enters => "the rows that are still to come",
        };
        let recipe = Recipe { name: "temporal filter", class: Class::Keyed, detail, keeps };
        let one_worker = |from| Edge { from, route: Route::ByKey(Vec::new()) };
        Ok(self.operator(recipe, vec![one_worker(from), one_worker(clock)], schema, false, make))
    }

    /// A node of one row: what an expression over the clock is now.
    fn clock_column(&mut self, expression: &Expr) -> SqlResult<usize> {
        let clock = self.clock();
        let held = self.nodes[clock].schema.clone();
        let schema = DFSchema::try_from(held.as_ref().clone()).map_err(|error| sql_error(&error))?;
        let over_column = expression.clone().transform_down(|part| {
            Ok(match reads_clock_itself(&part) {
                true => {
                    let now = Expr::Column(Column::new_unqualified("now"));
                    Transformed::new(now, true, TreeNodeRecursion::Jump)
                }
                false => Transformed::no(part),
            })
        });
        let over_column = over_column.map_err(|error| sql_error(&error))?.data;
        let kind = over_column.get_type(&schema).map_err(|error| sql_error(&error))?;
        let scalar = self.scalar(&over_column, &schema)?;
        let fields = Arc::new(Schema::new(vec![Field::new("clock", kind, true)]));
        Ok(self.node(Stream::of(clock, held).project(&[scalar], fields)))
    }
}

fn mentions_clock(expression: &Expr) -> bool {
    expression.exists(|part| Ok(reads_clock_itself(part))).expect("looking at expressions does not fail")
}

/// BETWEEN as two comparisons.
fn halves(condition: &Expr) -> Vec<Expr> {
    match condition {
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let half = |op, bound: &Expr| Expr::BinaryExpr(BinaryExpr::new(expr.clone(), op, Box::new(bound.clone())));
            vec![half(Operator::GtEq, low), half(Operator::LtEq, high)]
        }
        other => vec![other.clone()],
    }
}

fn bound_of(condition: &Expr, schema: &DFSchema) -> Option<TimeBound> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    let (time, op, clock) = match (mentions_clock(left), mentions_clock(right)) {
        (false, true) => (left.as_ref(), *op, right.as_ref()),
        (true, false) => (right.as_ref(), op.swap()?, left.as_ref()),
        _ => return None,
    };
    let kinds = [time.get_type(schema).ok()?, clock.get_type(schema).ok()?];
    let is_time = |kind: &DataType| matches!(kind, DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _));
    let (turn, after) = match op {
        Operator::Gt => (Turn::Leaves, false),
        Operator::GtEq => (Turn::Leaves, true),
        Operator::Lt => (Turn::Enters, true),
        Operator::LtEq => (Turn::Enters, false),
        _ => return None,
    };
    let fits = kinds.iter().all(is_time) && kinds[0] == kinds[1] && only_rises(clock) && !has_subquery(time);
    fits.then(|| TimeBound { time: time.clone(), clock: clock.clone(), turn, after })
}

fn has_subquery(expression: &Expr) -> bool {
    expression.exists(|part| Ok(super::lower::is_subquery(part))).expect("looking at expressions does not fail")
}

/// Whether an expression over the clock never goes back: the clock itself, moved by a constant, cut, or cast.
fn only_rises(expression: &Expr) -> bool {
    let constant = |expression: &Expr| {
        let mut constant = true;
        let visited = expression.apply(|part| {
            constant &= !matches!(part, Expr::Column(_) | Expr::OuterReferenceColumn(_, _)) && !mentions_clock(part);
            Ok(TreeNodeRecursion::Continue)
        });
        visited.expect("looking at expressions does not fail");
        constant
    };
    match expression {
        part if reads_clock_itself(part) => true,
        Expr::Cast(cast) => {
            matches!(cast.field.data_type(), DataType::Date32 | DataType::Timestamp(_, _)) && only_rises(&cast.expr)
        }
        Expr::Alias(alias) => only_rises(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus | Operator::Minus, right }) => {
            only_rises(left) && constant(right)
        }
        Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Immutable => {
            match (call.name(), call.args.as_slice()) {
                ("time_operation", [moved, by]) => only_rises(moved) && constant(by),
                ("date_trunc", [unit, cut]) => constant(unit) && only_rises(cut),
                ("cast", [cast]) => only_rises(cast),
                _ => false,
            }
        }
        _ => false,
    }
}
