//! Lowers what gives the first rows of an order: bounded ranking functions, DISTINCT ON, ORDER BY with LIMIT.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, FetchType, Filter, Limit, LogicalPlan, Operator, SkipType, SortExpr, Window,
};
use datafusion::scalar::ScalarValue;

use super::lower::{Lowering, Recipe};
use super::stream::{Scalar, Stream, own_columns, schema_of};
use super::ties::{sorted, window_call};
use crate::dataflow::operators::{Numbering, Ranking, TopK};
use crate::dataflow::{Class, Edge, Operator as DataflowOperator, Route};
use crate::error::SqlResult;

/// The first rows of a plan's, by key.
struct First<'a> {
    base: &'a LogicalPlan,
    partition: Vec<Expr>,
    order: Vec<SortExpr>,
    ranking: Ranking,
    /// Of the numbers.
    fields: Vec<FieldRef>,
    detail: String,
}

impl Lowering<'_> {
    /// The rows of a filter's window functions, if these are numbers of rows and the filter bounds one of them. The
    /// filter itself is still to be done.
    pub fn bounded_ranking(&mut self, filter: &Filter) -> SqlResult<Option<Stream>> {
        let (below, chosen) = match filter.input.as_ref() {
            LogicalPlan::Projection(projection) if projection.expr.iter().all(|it| matches!(it, Expr::Column(_))) => {
                (projection.input.as_ref(), Some(projection))
            }
            other => (other, None),
        };
        let LogicalPlan::Window(window) = below else { return Ok(None) };
        if !self.has_rule(below) {
            return Ok(None);
        }
        let Some((call, numbers)) = ranking_calls(window) else { return Ok(None) };
        let width = window.input.schema().fields().len();
        let names = window.schema.columns();
        let bound = numbers.iter().zip(&names[width..]).find_map(|(number, name)| {
            let bounds = split_conjunction(&filter.predicate).into_iter().filter_map(|part| bound_of(part, name));
            Some((*number, bounds.min()?))
        });
        let Some((by, up_to)) = bound else { return Ok(None) };
        let detail = below.display().to_string();
        let ranking = Ranking { numbers, by, skip: 0, up_to };
        let (partition, order) = (call.params.partition_by.clone(), call.params.order_by.clone());
        let partition = partition.into_iter().filter(|key| !matches!(key, Expr::Literal(_, _))).collect();
        let fields = window.schema.fields()[width..].to_vec();
        let stream = self.first(First { base: &window.input, partition, order, ranking, fields, detail })?;
        let stream = stream.renamed(schema_of(&window.schema));
        let Some(projection) = chosen else { return Ok(Some(stream)) };
        let (stream, columns) = self.over(stream, &projection.expr, &window.schema)?;
        Ok(Some(stream.project(&columns, schema_of(&projection.schema))))
    }

    /// `ORDER BY … LIMIT`; without an order one over all columns.
    pub fn limit(&mut self, plan: &LogicalPlan, limit: &Limit) -> SqlResult<Stream> {
        let skip = limit.get_skip_type().ok();
        let fetch = limit.get_fetch_type().ok();
        let bounds = match (skip, fetch) {
            (Some(SkipType::Literal(skip)), Some(FetchType::Literal(Some(fetch)))) => {
                i64::try_from(skip).ok().zip(skip.checked_add(fetch).and_then(|up_to| i64::try_from(up_to).ok()))
            }
            _ => None,
        };
        let Some((skip, up_to)) = bounds else { return self.recompute_ordered(plan) };
        match self.limited(&limit.input, skip, up_to)? {
            Some(stream) => Ok(stream),
            None => self.recompute_ordered(plan),
        }
    }

    /// The first rows of a plan by the sort in it that reaches its root.
    fn limited(&mut self, plan: &LogicalPlan, skip: i64, up_to: i64) -> SqlResult<Option<Stream>> {
        if !self.has_rule(plan) {
            return Ok(None);
        }
        match plan {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => {
                let ranking = Ranking { numbers: Vec::new(), by: Numbering::RowNumber, skip, up_to };
                let detail = format!("{} limit {} offset {skip}", plan.display(), up_to - skip);
                let (base, order) = (sort.input.as_ref(), sort.expr.clone());
                let (partition, fields) = (Vec::new(), Vec::new());
                self.first(First { base, partition, order, ranking, fields, detail }).map(Some)
            }
            LogicalPlan::Projection(projection) => {
                let Some(input) = self.limited(&projection.input, skip, up_to)? else { return Ok(None) };
                let (input, columns) = self.over(input, &projection.expr, projection.input.schema())?;
                Ok(Some(input.project(&columns, schema_of(&projection.schema))))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let stream = self.limited(&alias.input, skip, up_to)?;
                Ok(stream.map(|stream| stream.renamed(schema_of(&alias.schema))))
            }
            other => match sorted(other.clone()) {
                LogicalPlan::Sort(sort) => self.limited(&LogicalPlan::Sort(sort), skip, up_to),
                _ => Ok(None),
            },
        }
    }

    /// DISTINCT ON, which is planned as first values of one order; `None` for other aggregates.
    pub fn distinct_on(&mut self, aggregate: &Aggregate) -> SqlResult<Option<Stream>> {
        let Some((order, values)) = first_values(aggregate) else { return Ok(None) };
        let base = aggregate.input.as_ref();
        let types = aggregate.schema.fields().iter().take(aggregate.group_expr.len());
        // Keys that are equal and not the same have one that stands for all; a row has its own.
        let differ = |kind: &DataType| kind.is_floating() || kind.is_nested() || matches!(kind, DataType::Interval(_));
        if types.into_iter().any(|field| differ(field.data_type())) {
            return Ok(None);
        }
        let ranking = Ranking { numbers: Vec::new(), by: Numbering::RowNumber, skip: 0, up_to: 1 };
        let detail = LogicalPlan::Aggregate(aggregate.clone()).display().to_string();
        let partition = aggregate.group_expr.clone();
        let fields = Vec::new();
        let stream = self.first(First { base, partition, order, ranking, fields, detail })?;
        let columns: Vec<Expr> = aggregate.group_expr.iter().cloned().chain(values).collect();
        let (stream, columns) = self.over(stream, &columns, base.schema())?;
        Ok(Some(stream.project(&columns, schema_of(&aggregate.schema))))
    }

    /// The columns of the base, then the numbers.
    fn first(&mut self, first: First) -> SqlResult<Stream> {
        let First { base, partition, order, ranking, fields, detail } = first;
        let keys: Vec<Expr> = partition.iter().chain(order.iter().map(|sort| &sort.expr)).cloned().collect();
        let (from, places) = self.keyed_node(base, &keys)?;
        let (partition, sorted) = places.split_at(partition.len());
        let mut by: Vec<(usize, SortOptions)> = Vec::new();
        for (column, sort) in sorted.iter().zip(&order) {
            if !by.iter().any(|(other, _)| other == column) {
                by.push((*column, SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first }));
            }
        }
        let (held, append_only) = (self.nodes[from].schema.clone(), self.nodes[from].append_only);
        let numbers = fields.into_iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let schema = Arc::new(Schema::new(held.fields().iter().cloned().chain(numbers).collect::<Vec<_>>()));
        let (key, input, output) = (partition.to_vec(), held.clone(), schema.clone());
        let make = Arc::new(move || {
            let made = TopK::new(key.clone(), by.clone(), ranking.clone(), append_only, &input, output.clone());
            Box::new(made) as Box<dyn DataflowOperator>
        });
        let keeps = if append_only { "the first rows by key" } else { "all rows by key, and the first ones at hand" };
        let recipe = Recipe { name: "top-k", class: Class::Keyed, detail, keeps };
        let route = Route::ByKey(partition.to_vec());
        let node = self.operator(recipe, vec![Edge { from, route }], schema.clone(), false, make);
        let all: Vec<Scalar> = own_columns(&schema);
        let shown = base.schema().fields().len();
        let columns: Vec<Scalar> = all[..shown].iter().chain(&all[held.fields().len()..]).cloned().collect();
        let fields = columns_of(&schema, shown, held.fields().len());
        Ok(Stream::of(node, schema).project(&columns, fields))
    }
}

fn columns_of(schema: &Arc<Schema>, shown: usize, held: usize) -> Arc<Schema> {
    let fields = schema.fields()[..shown].iter().chain(&schema.fields()[held..]);
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// The calls of a node, if all are numbers of rows over one partition and order: one of them, and the kind of each.
fn ranking_calls(window: &Window) -> Option<(&WindowFunction, Vec<Numbering>)> {
    let calls: Vec<&WindowFunction> = window.window_expr.iter().map(window_call).collect::<Option<_>>()?;
    let first = *calls.first()?;
    let alike = |call: &&WindowFunction| {
        let (one, other) = (&call.params, &first.params);
        one.partition_by == other.partition_by && one.order_by == other.order_by && one.filter.is_none()
    };
    let number = |call: &&WindowFunction| match call.fun.name() {
        "row_number" => Some(Numbering::RowNumber),
        "rank" => Some(Numbering::Rank),
        "dense_rank" => Some(Numbering::DenseRank),
        _ => None,
    };
    let numbers = calls.iter().map(number).collect::<Option<Vec<_>>>()?;
    calls.iter().all(alike).then_some((first, numbers))
}

/// The last value that a condition lets a column have, if it is a bound from above.
fn bound_of(condition: &Expr, column: &Column) -> Option<i64> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else {
        return match condition {
            Expr::Between(between) if !between.negated && is_column(&between.expr, column) => whole(&between.high),
            _ => None,
        };
    };
    let (op, value) = match (is_column(left, column), is_column(right, column)) {
        (true, false) => (*op, whole(right)?),
        (false, true) => (op.swap()?, whole(left)?),
        _ => return None,
    };
    match op {
        Operator::Eq | Operator::LtEq => Some(value),
        Operator::Lt => value.checked_sub(1),
        _ => None,
    }
}

fn is_column(expression: &Expr, column: &Column) -> bool {
    match expression {
        Expr::Column(other) => other == column,
        Expr::Cast(cast) => is_column(&cast.expr, column) && cast.field.data_type().is_integer(),
        Expr::Alias(alias) => is_column(&alias.expr, column),
        _ => false,
    }
}

fn whole(expression: &Expr) -> Option<i64> {
    match expression {
        Expr::Literal(value, _) => match value {
            ScalarValue::Int64(value) => *value,
            ScalarValue::Int32(value) => value.map(i64::from),
            ScalarValue::Int16(value) => value.map(i64::from),
            ScalarValue::UInt64(value) => value.and_then(|value| i64::try_from(value).ok()),
            _ => None,
        },
        Expr::Cast(cast) if cast.field.data_type().is_integer() => whole(&cast.expr),
        _ => None,
    }
}

/// The order and the arguments of an aggregate all of whose calls are `first_value` in one order.
fn first_values(aggregate: &Aggregate) -> Option<(Vec<SortExpr>, Vec<Expr>)> {
    let (mut order, mut values) = (None, Vec::new());
    for expression in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = expression.clone().unalias_nested().data else { return None };
        let params = call.params;
        let plain = params.filter.is_none() && !params.distinct;
        if call.func.name() != "first_value" || !plain || params.null_treatment == Some(NullTreatment::IgnoreNulls) {
            return None;
        }
        let [value] = params.args.as_slice() else { return None };
        values.push(value.clone());
        if order.get_or_insert_with(|| params.order_by.clone()) != &params.order_by {
            return None;
        }
    }
    order.filter(|order| !order.is_empty() && !aggregate.group_expr.is_empty()).map(|order| (order, values))
}
