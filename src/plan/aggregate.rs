//! Lowers GROUP BY and DISTINCT.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};

use super::grouping_sets;
use super::lower::{Lowering, Recipe};
use super::stream::{Stream, schema_of};
use crate::dataflow::operators::{self, AggregateCall};
use crate::dataflow::{Class, Edge, Operator, Route};
use crate::error::SqlResult;
use crate::functions::aggregate::find;
use crate::functions::errors::sql_error;

/// The columns that an aggregate reads: each expression once, computed by a projection before it.
#[derive(Default)]
struct Columns(Vec<Expr>);

impl Columns {
    fn place(&mut self, expression: &Expr) -> usize {
        let expression = expression.clone().unalias();
        self.0.iter().position(|known| *known == expression).unwrap_or_else(|| {
            self.0.push(expression);
            self.0.len() - 1
        })
    }
}

impl Lowering<'_> {
    /// GROUP BY: by its own rule if every aggregate has one, else the touched groups anew.
    pub fn aggregate(&mut self, plan: &LogicalPlan, aggregate: &Aggregate) -> SqlResult<Stream> {
        if let Some(stream) = self.distinct_on(aggregate)? {
            return Ok(stream);
        }
        if let Some(union) = grouping_sets::as_union(aggregate).map_err(|error| sql_error(&error))? {
            return self.stream(&union);
        }
        let input = self.stream(&aggregate.input)?;
        let append_only = self.nodes[input.node].append_only;
        let grouping_sets = aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_)));
        let closing = self.closing(aggregate, append_only);
        let mut columns = Columns::default();
        let key: Vec<usize> = aggregate.group_expr.iter().map(|key| columns.place(key)).collect();
        match calls(aggregate, append_only, &mut columns) {
            _ if grouping_sets => self.recompute(plan),
            Some(calls) if calls.is_empty() && !key.is_empty() => self.distinct(aggregate, input),
            Some(calls) if !calls.is_empty() => match closing {
                Some(closing) => self.closing_groups(aggregate, (input, &columns.0), (key, calls), closing),
                None => self.groups(aggregate, input, &columns.0, key, calls),
            },
            _ if !key.is_empty() => self.keyed_aggregate(aggregate),
            _ => self.recompute(plan),
        }
    }

    fn groups(
        &mut self,
        aggregate: &Aggregate,
        input: Stream,
        columns: &[Expr],
        key: Vec<usize>,
        calls: Vec<AggregateCall>,
    ) -> SqlResult<Stream> {
        let from = self.computed(input, columns, aggregate.input.schema())?;
        let (held, schema) = (self.nodes[from].schema.clone(), schema_of(&aggregate.schema));
        let (route, output) = (Route::ByKey(key.clone()), schema.clone());
        let make = Arc::new(move || {
            let made = operators::Aggregate::new(key.clone(), calls.clone(), &held, output.clone());
            Box::new(made) as Box<dyn Operator>
        });
        let detail = self.names.aggregate(&aggregate.aggr_expr, &aggregate.group_expr);
        let keeps = "one row of sums for each group; values for min, max and DISTINCT";
        let recipe = Recipe { name: "aggregate", class: Class::Keyed, detail, keeps };
        let node = self.operator(recipe, vec![Edge { from, route }], schema.clone(), false, make);
        Ok(Stream::of(node, schema))
    }

    fn distinct(&mut self, aggregate: &Aggregate, input: Stream) -> SqlResult<Stream> {
        let from = self.computed(input, &aggregate.group_expr, aggregate.input.schema())?;
        Ok(self.distinct_rows(from, schema_of(&aggregate.schema)))
    }

    /// Each row of a node once; `schema` has other names at most.
    pub fn distinct_rows(&mut self, from: usize, schema: arrow::datatypes::SchemaRef) -> Stream {
        let held = self.nodes[from].schema.clone();
        let (route, append_only) = (Route::ByKey((0..held.fields().len()).collect()), self.nodes[from].append_only);
        let output = held.clone();
        let make = Arc::new(move || Box::new(operators::Distinct::new(output.clone())) as Box<dyn Operator>);
        let recipe = Recipe { name: "distinct", class: Class::Keyed, detail: String::new(), keeps: "each row once" };
        let node = self.operator(recipe, vec![Edge { from, route }], held, append_only, make);
        Stream::of(node, schema)
    }
}

/// The calls over columns; `None` if one has no rule of its own.
fn calls(aggregate: &Aggregate, append_only: bool, columns: &mut Columns) -> Option<Vec<AggregateCall>> {
    let results = aggregate.schema.fields().iter().skip(aggregate.group_expr.len());
    (aggregate.aggr_expr.iter().zip(results))
        .map(|(expression, result)| call(aggregate, expression, result.data_type(), append_only, columns))
        .collect()
}

fn call(
    aggregate: &Aggregate,
    expression: &Expr,
    result: &DataType,
    append_only: bool,
    columns: &mut Columns,
) -> Option<AggregateCall> {
    use datafusion::logical_expr::ExprSchemable;
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expression.clone().unalias_nested().data else {
        return None;
    };
    // `count(*)` is planned as the count of a constant, which is never NULL.
    let constant = |argument: &Expr| matches!(argument, Expr::Literal(value, _) if !value.is_null());
    if params.distinct && params.args.len() > 1 {
        return None;
    }
    let counts_rows = func.name() == "count" && !params.distinct && params.args.iter().all(constant);
    let arguments = if counts_rows { &[] } else { params.args.as_slice() };
    let types = arguments.iter().map(|argument| argument.get_type(aggregate.input.schema()).ok());
    let found = find(func.name(), &types.collect::<Option<Vec<_>>>()?, append_only)?;
    if found.result != *result {
        return None;
    }
    Some(AggregateCall {
        function: found.make,
        arguments: arguments.iter().map(|argument| columns.place(argument)).collect(),
        filter: params.filter.as_deref().map(|filter| columns.place(filter)),
        distinct: params.distinct,
    })
}
