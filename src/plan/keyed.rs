//! Sub-plans that fall apart by a key, so that only what a step touches is computed anew by DataFusion.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Window};

use super::fallback::{Input, Part, named_as, scan_of, scan_schema};
use super::lower::{Lowering, Recipe};
use super::stream::{Scalar, Stream, own_columns, schema_of};
use super::ties::window_call;
use crate::dataflow::operators::{Compute, KeyedRecompute};
use crate::dataflow::{Class, Edge, Operator, Route};
use crate::error::SqlResult;
use crate::functions::errors::sql_error;

/// A sub-plan over one node, whose rows for some keys depend on the node's rows for these keys alone.
struct KeyedPart {
    plan: LogicalPlan,
    input: Input,
    /// Columns of the node.
    key: Vec<usize>,
    /// Columns of the sub-plan's result that hold the key.
    output_key: Vec<usize>,
}

impl Lowering<'_> {
    /// Window functions: by the PARTITION BY columns that all of them share.
    pub fn window(&mut self, plan: &LogicalPlan, window: &Window) -> SqlResult<Stream> {
        let key = shared_partition(window);
        if key.is_empty() {
            return self.recompute(plan);
        }
        let (windows, base) = self.windows_with(window, &key);
        let (node, places) = self.keyed_node(base, &key)?;
        let input = Input { node, schema: scan_schema(&self.nodes[node].schema, base.schema()) };
        let (shown, held) = (base.schema().fields().len(), input.schema.fields().len());
        let rebuilt = windows_over(&windows, scan_with_key(&input, base)).map_err(|error| sql_error(&error))?;
        let stream =
            self.keyed_recompute(KeyedPart { plan: rebuilt, input, key: places.clone(), output_key: places })?;
        let columns: Vec<Scalar> = own_columns(&stream.schema);
        let columns: Vec<Scalar> = columns[..shown].iter().chain(&columns[held..]).cloned().collect();
        Ok(stream.project(&columns, schema_of(plan.schema())))
    }

    /// The calls of this node and of those below it that have the same key, innermost last; and what is below.
    fn windows_with<'p>(&self, window: &'p Window, key: &[Expr]) -> (Vec<&'p Window>, &'p LogicalPlan) {
        let wanted: HashSet<&Expr> = key.iter().collect();
        let (mut windows, mut base) = (vec![window], window.input.as_ref());
        while let LogicalPlan::Window(below) = base
            && self.has_rule(base)
            && shared_partition(below).iter().collect::<HashSet<_>>() == wanted
        {
            windows.push(below);
            base = &below.input;
        }
        (windows, base)
    }

    /// Aggregates without a rule of their own: by the GROUP BY columns.
    pub fn keyed_aggregate(&mut self, aggregate: &Aggregate) -> SqlResult<Stream> {
        let base = aggregate.input.as_ref();
        let (node, key) = self.keyed_node(base, &aggregate.group_expr)?;
        let input = Input { node, schema: scan_schema(&self.nodes[node].schema, base.schema()) };
        let rebuilt = scan_of(input.clone()).and_then(|scan| {
            let scan = Arc::new(named_as(scan, base.schema())?);
            Aggregate::try_new(scan, aggregate.group_expr.clone(), aggregate.aggr_expr.clone())
        });
        let plan = LogicalPlan::Aggregate(rebuilt.map_err(|error| sql_error(&error))?);
        let output_key = (0..aggregate.group_expr.len()).collect();
        let stream = self.keyed_recompute(KeyedPart { plan, input, key, output_key })?;
        Ok(stream.renamed(schema_of(&aggregate.schema)))
    }

    fn keyed_recompute(&mut self, part: KeyedPart) -> SqlResult<Stream> {
        let KeyedPart { plan, input, key, output_key } = part;
        let detail = self.names.node(&plan);
        let edge = Edge { from: input.node, route: Route::ByKey(key.clone()) };
        let sub_plan = self.sub_plan(Part { plan, inputs: vec![input] })?;
        let (schema, inputs) = (sub_plan.schema.clone(), sub_plan.input_schemas());
        let output = schema.clone();
        let make = Arc::new(move || {
            let compute: Arc<dyn Compute> = Arc::new(sub_plan.computation());
            let inputs = inputs.iter().map(|input| (input.clone(), key.clone())).collect();
            Box::new(KeyedRecompute::new(compute, inputs, output.clone(), output_key.clone())) as Box<dyn Operator>
        });
        let keeps = "all rows of its input, and its rows, by key";
        let recipe = Recipe { name: "keyed recompute", class: Class::KeyedRecompute, detail, keeps };
        let node = self.operator(recipe, vec![edge], schema.clone(), false, make);
        Ok(Stream::of(node, schema))
    }
}

/// The PARTITION BY expressions that all calls of a node have.
fn shared_partition(window: &Window) -> Vec<Expr> {
    let mut calls = window.window_expr.iter().map(|expression| window_call(expression).map(|call| &call.params));
    let first = calls.next().flatten().map(|params| params.partition_by.clone()).unwrap_or_default();
    let others: Vec<_> = calls.collect();
    let everywhere = |key: &Expr| others.iter().all(|params| params.is_some_and(|it| it.partition_by.contains(key)));
    let constant = |key: &Expr| matches!(key, Expr::Literal(_, _));
    first.into_iter().filter(|key| !constant(key) && everywhere(key)).collect()
}

/// A scan of the base's columns, then of the key columns that were computed beside them.
fn scan_with_key(input: &Input, base: &LogicalPlan) -> Result<LogicalPlan> {
    let scan = scan_of(input.clone())?;
    let columns = scan.schema().columns().into_iter().map(Expr::Column);
    let names = base.schema().columns();
    let named = columns.enumerate().map(|(place, column)| match names.get(place) {
        Some(name) => column.alias_qualified(name.relation.clone(), name.name.clone()),
        None => column.alias(format!("key_{place}")),
    });
    LogicalPlanBuilder::from(scan).project(named.collect::<Vec<_>>())?.build()
}

/// The calls, the last of `windows` first, over a plan.
fn windows_over(windows: &[&Window], below: Result<LogicalPlan>) -> Result<LogicalPlan> {
    windows.iter().rev().fold(below, |below, window| {
        Ok(LogicalPlan::Window(Window::try_new(window.window_expr.clone(), Arc::new(below?))?))
    })
}
