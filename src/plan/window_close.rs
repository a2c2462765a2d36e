//! Lowers GROUP BY over windows of rows that a watermark follows: what is closed is forgotten, and given once if so asked.

use std::sync::Arc;

use datafusion::common::{DFSchema, JoinType, TableReference};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, Join, LogicalPlan, Operator, col, lit};

use super::InputRelation;
use super::lower::{Lowering, Recipe};
use super::stream::{Stream, schema_of};
use crate::dataflow::operators::{AggregateCall, Close, ClosingAggregate, ToAll};
use crate::dataflow::{Class, Edge, Operator as DataflowOperator, Route};
use crate::error::SqlResult;
use crate::functions::errors::sql_error;
use crate::functions::{Closing, closing_keys};

/// A GROUP BY whose groups close, and the relation whose watermark closes them.
pub(super) struct ClosingGroups {
    close: Close,
    watched: InputRelation,
}

impl Lowering<'_> {
    /// By what the groups of an aggregate close, if a watermark follows its rows and none is retracted.
    pub fn closing(&mut self, aggregate: &Aggregate, append_only: bool) -> Option<ClosingGroups> {
        if !append_only || self.watermarks().is_none() {
            return None;
        }
        let emits = self.emits;
        closing_keys(aggregate).into_iter().find_map(|closing| {
            let watched = self.watched(&closing)?;
            Some(ClosingGroups { close: Close { key: closing.key, after: closing.after, emits }, watched })
        })
    }

    fn watched(&self, closing: &Closing) -> Option<InputRelation> {
        let watched = self.inputs.find(&closing.table)?;
        let followed = watched.watermark.is_some_and(|column| watched.schema.field(column).name() == &closing.column);
        followed.then_some(watched)
    }

    fn watermarks(&self) -> Option<InputRelation> {
        self.inputs.find(&TableReference::full("headwater", "hw_catalog", "hw_watermarks"))
    }

    pub fn closing_groups(
        &mut self,
        aggregate: &Aggregate,
        (input, columns): (Stream, &[Expr]),
        (key, calls): (Vec<usize>, Vec<AggregateCall>),
        closing: ClosingGroups,
    ) -> SqlResult<Stream> {
        let from = self.computed(input, columns, aggregate.input.schema())?;
        let (marks, target) = self.watermark_for_all(&closing.watched)?;
        let (held, schema) = (self.nodes[from].schema.clone(), schema_of(&aggregate.schema));
        let (route, output, close) = (Route::ByKey(key.clone()), schema.clone(), closing.close);
        let make = Arc::new(move || {
            let made = ClosingAggregate::new(key.clone(), calls.clone(), &held, output.clone(), close);
            Box::new(made) as Box<dyn DataflowOperator>
        });
        let detail = self.names.aggregate(&aggregate.aggr_expr, &aggregate.group_expr);
        let (name, keeps) = match close.emits {
            true => ("aggregate on window close", "one row of sums for each group until its window closes"),
            false => ("aggregate of windows", "one row of sums for each group until its window closes"),
        };
        let recipe = Recipe { name, class: Class::Keyed, detail, keeps };
        let edges = vec![Edge { from, route }, Edge { from: marks, route: Route::ByKey(vec![target]) }];
        let node = self.operator(recipe, edges, schema.clone(), close.emits, make);
        Ok(Stream::of(node, schema))
    }

    /// A node that gives every worker a relation's watermark, and the column by which it is routed.
    fn watermark_for_all(&mut self, watched: &InputRelation) -> SqlResult<(usize, usize)> {
        let relation = self.watermarks().expect("looked for before");
        let schema = DFSchema::try_from(relation.schema.as_ref().clone()).map_err(|error| sql_error(&error))?;
        let own = self.scalar(&col("id").eq(lit(watched.id.0 as i64)), &schema)?;
        let watermark = self.scalar(&col("watermark"), &schema)?;
        let field = relation.schema.field_with_name("watermark").expect("the relation has it").clone();
        let stream = self.relation(relation).filter(&own);
        let stream = stream.project(&[watermark], Arc::new(arrow::datatypes::Schema::new(vec![field])));
        let from = self.node(stream);
        let held = self.nodes[from].schema.clone();
        let make = {
            let held = held.clone();
            Arc::new(move || Box::new(ToAll::new(&held)) as Box<dyn DataflowOperator>)
        };
        let recipe = Recipe { name: "to all workers", class: Class::Linear, detail: String::new(), keeps: "" };
        let edges = vec![Edge { from, route: Route::Local }];
        let node = self.operator(recipe, edges, ToAll::schema(&held), true, make);
        Ok((node, held.fields().len()))
    }

    /// The semi join that stands for EMIT ON WINDOW CLOSE, as an aggregate that gives each group when it closes. `None`
    /// for other joins, and for aggregates without a rule of their own.
    pub fn window_close(&mut self, join: &Join) -> SqlResult<Option<Stream>> {
        let Some(aggregate) = self.emitting(join) else { return Ok(None) };
        // What stands between the join and the aggregate keeps or drops whole groups, before they are given or after.
        self.emits = true;
        let stream = self.stream(aggregate);
        self.emits = false;
        let stream = stream?;
        let given = matches!(&self.nodes[stream.node].kind, crate::dataflow::NodeKind::Operator(recipe)
            if recipe.name == "aggregate on window close");
        if !given {
            self.forget(aggregate);
            return Ok(None);
        }
        self.stream(&join.left).map(Some)
    }

    /// The aggregate of a semi join that holds groups until the watermark has passed them.
    fn emitting<'p>(&self, join: &'p Join) -> Option<&'p LogicalPlan> {
        let is_plain = join.join_type == JoinType::LeftSemi && join.on.is_empty();
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::LtEq, right }) = join.filter.as_ref()? else {
            return None;
        };
        let Expr::Column(reached) = right.as_ref() else { return None };
        if !is_plain || !join.right.schema().has_column(reached) {
            return None;
        }
        let node = below(&join.left);
        let LogicalPlan::Aggregate(aggregate) = node else { return None };
        let watched = watched_id(&join.right)?;
        let closing = closing_keys(aggregate);
        let closing = closing.iter().find(|closing| self.watched(closing).is_some_and(|one| one.id.0 == watched))?;
        (ends(left, &join.left, aggregate) == Some((closing.key, closing.after))).then_some(node)
    }
}

/// What only keeps some of the rows, or names them otherwise, is taken off.
fn below(plan: &LogicalPlan) -> &LogicalPlan {
    match plan {
        LogicalPlan::Filter(filter) => below(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => below(&alias.input),
        LogicalPlan::Projection(projection) => below(&projection.input),
        other => other,
    }
}

/// The relation whose watermark a plan reads.
fn watched_id(plan: &LogicalPlan) -> Option<u64> {
    let id = |condition: &Expr| match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) if column.name == "id" => {
                value.to_string().parse::<u64>().ok()
            }
            _ => None,
        },
        _ => None,
    };
    match plan {
        LogicalPlan::Projection(projection) => watched_id(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => watched_id(&alias.input),
        LogicalPlan::Filter(filter) => {
            let scan = matches!(below(&filter.input), LogicalPlan::TableScan(scan) if scan.table_name.table() == "hw_watermarks");
            id(&filter.predicate).filter(|_| scan)
        }
        LogicalPlan::TableScan(scan) if scan.table_name.table() == "hw_watermarks" => match scan.filters.as_slice() {
            [condition] => id(condition),
            _ => None,
        },
        _ => None,
    }
}

/// Which key an expression over a plan is, and how many microseconds are added to it.
fn ends(expression: &Expr, plan: &LogicalPlan, aggregate: &Aggregate) -> Option<(usize, i64)> {
    match expression {
        Expr::Column(column) => {
            let place = plan.schema().index_of_column(column).ok()?;
            match plan {
                LogicalPlan::Filter(filter) => ends(expression, &filter.input, aggregate),
                LogicalPlan::SubqueryAlias(alias) => {
                    ends(&Expr::Column(alias.input.schema().columns()[place].clone()), &alias.input, aggregate)
                }
                LogicalPlan::Projection(projection) => ends(&projection.expr[place], &projection.input, aggregate),
                _ => (place < aggregate.group_expr.len()).then_some((place, 0)),
            }
        }
        Expr::Alias(alias) => ends(&alias.expr, plan, aggregate),
        Expr::ScalarFunction(call) if call.name() == "hw_window_end" => {
            let (key, before) = ends(call.args.first()?, plan, aggregate)?;
            let after = crate::functions::constant_micros(call.args.get(1)?)?;
            Some((key, before.checked_add(after)?))
        }
        _ => None,
    }
}
