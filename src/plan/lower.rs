//! From a plan to the dataflow that keeps its result: one match over all kinds of plan, one arm each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, Projection, SubqueryAlias, TableScan, Union, Volatility};
use datafusion::physical_expr::create_physical_expr;

use super::fallback::Part;
use super::rewrite::{normalize, state};
use super::stream::{Scalar, Stream, filler, schema_of};
use super::words::Names;
use super::{InputRelation, Inputs};
use crate::dataflow::operators::{self, FilterProject};
use crate::dataflow::{Class, Edge, Graph, MakeOperator, Node, NodeKind, OperatorRecipe, Predicate, Route, Scalars};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::errors::sql_error;

/// The dataflow that keeps the result of a bound plan.
///
/// Refuses only what DataFusion itself cannot run, and volatile functions, whose value no later step could repeat.
pub fn lower(plan: &LogicalPlan, inputs: &dyn Inputs) -> SqlResult<Graph> {
    let plan = normalize(plan.clone())?;
    refuse_volatile(&plan)?;
    let mut lowering = Lowering {
        inputs,
        nodes: Vec::new(),
        parts: HashMap::new(),
        names: Names::of(&plan),
        done: HashMap::new(),
        emits: false,
    };
    let stream = lowering.stream(&plan)?;
    let root = lowering.root(stream);
    Ok(lowering.finish(root))
}

/// The dataflow as far as it is built.
pub(super) struct Lowering<'a> {
    pub inputs: &'a dyn Inputs,
    pub nodes: Vec<Node>,
    /// What the nodes of class recompute run, so that one that reads another can run both at once.
    pub parts: HashMap<usize, Part>,
    /// What its columns are called in EXPLAIN.
    pub names: Names,
    /// Plans that were lowered already: what occurs twice is kept once.
    done: HashMap<LogicalPlan, Stream>,
    /// Whether the aggregate that is lowered now gives its groups when their windows close.
    pub emits: bool,
}

impl Lowering<'_> {
    /// The rows of a plan.
    pub fn stream(&mut self, plan: &LogicalPlan) -> SqlResult<Stream> {
        if let Some(stream) = self.done.get(plan) {
            return Ok(stream.clone());
        }
        let stream = match self.has_rule(plan) {
            true => self.stream_by_rule(plan),
            false => self.stream_by_clock(plan),
        }?;
        self.done.insert(plan.clone(), stream.clone());
        Ok(stream)
    }

    /// Lets a plan be lowered once more, in another way.
    pub fn forget(&mut self, plan: &LogicalPlan) {
        self.done.remove(plan);
    }

    /// Plans that read the clock or look at subqueries themselves: rules for time, else recompute.
    fn stream_by_clock(&mut self, plan: &LogicalPlan) -> SqlResult<Stream> {
        let stream = match plan {
            LogicalPlan::Filter(filter) => self.temporal(filter)?,
            LogicalPlan::Join(join) => match Self::timed_join(join)? {
                Some(above) => Some(self.stream(&above)?),
                None => None,
            },
            _ => None,
        };
        stream.map_or_else(|| self.recompute(plan), Ok)
    }

    fn stream_by_rule(&mut self, plan: &LogicalPlan) -> SqlResult<Stream> {
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias),
            LogicalPlan::TableScan(scan) => self.scan(plan, scan),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(plan, aggregate),
            LogicalPlan::Distinct(_) => self.recompute(plan),
            LogicalPlan::Join(join) => self.join(plan, join),
            LogicalPlan::Window(window) => self.window(plan, window),
            LogicalPlan::Limit(limit) => self.limit(plan, limit),
            // A relation has no order, and a sort that cuts is below a Limit.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.stream(&sort.input),
            LogicalPlan::Sort(_) => self.recompute_ordered(plan),
            LogicalPlan::Repartition(repartition) => self.stream(&repartition.input),
            LogicalPlan::Subquery(subquery) => self.stream(&subquery.subquery),
            LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => self.recompute(plan),
            LogicalPlan::Unnest(unnest) => self.unnest(plan, unnest),
            LogicalPlan::RecursiveQuery(_) | LogicalPlan::Extension(_) => self.recompute(plan),
            LogicalPlan::Explain(_)
            | LogicalPlan::Analyze(_)
            | LogicalPlan::DescribeTable(_)
            | LogicalPlan::Statement(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Ddl(_)
            | LogicalPlan::Copy(_) => {
                Err(SqlError::unsupported("only a query can be kept as a view", "write a SELECT"))
            }
        }
    }

    fn projection(&mut self, projection: &Projection) -> SqlResult<Stream> {
        let input = self.stream(&projection.input)?;
        let (input, columns) = self.over(input, &projection.expr, projection.input.schema())?;
        Ok(input.project(&columns, schema_of(&projection.schema)))
    }

    fn filter(&mut self, filter: &Filter) -> SqlResult<Stream> {
        let input = match self.bounded_ranking(filter)? {
            Some(ranked) => ranked,
            None => self.stream(&filter.input)?,
        };
        let (input, predicate) = self.over(input, std::slice::from_ref(&filter.predicate), filter.input.schema())?;
        Ok(predicate.iter().fold(input, Stream::filter))
    }

    fn alias(&mut self, alias: &SubqueryAlias) -> SqlResult<Stream> {
        Ok(self.stream(&alias.input)?.renamed(schema_of(&alias.schema)))
    }

    fn scan(&mut self, plan: &LogicalPlan, scan: &TableScan) -> SqlResult<Stream> {
        let Some(relation) = self.inputs.find(&scan.table_name) else { return self.table_function(plan, scan) };
        let mut stream = self.relation(relation);
        if !scan.filters.is_empty() {
            let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &stream.schema);
            let schema = schema.map_err(|error| sql_error(&error))?;
            let (input, predicates) = self.over(stream, &scan.filters, &schema)?;
            stream = predicates.iter().fold(input, Stream::filter);
        }
        if let Some(columns) = &scan.projection {
            let all = Stream::of(stream.node, stream.schema.clone()).columns;
            let kept: Vec<Scalar> = columns.iter().map(|column| all[*column].clone()).collect();
            stream = stream.project(&kept, schema_of(&scan.projected_schema));
        }
        match scan.fetch {
            None => Ok(stream),
            Some(_) => Err(SqlError::internal("a scan of a view has a limit")),
        }
    }

    /// A table that is no relation of ours has its rows in itself, like `generate_series(1, 10)`.
    fn table_function(&mut self, plan: &LogicalPlan, scan: &TableScan) -> SqlResult<Stream> {
        match source_as_provider(&scan.source) {
            Ok(_) => self.recompute(plan),
            Err(_) => Err(SqlError::new(
                SqlState::UNDEFINED_TABLE,
                format!("relation \"{}\" cannot be read in a view", scan.table_name.table()),
            )),
        }
    }

    pub fn relation(&mut self, relation: InputRelation) -> Stream {
        let known = self.nodes.iter().position(|node| matches!(node.kind, NodeKind::Relation(id) if id == relation.id));
        let node = known.unwrap_or_else(|| {
            let (kind, schema) = (NodeKind::Relation(relation.id), relation.schema.clone());
            self.add(Node { kind, inputs: Vec::new(), schema, append_only: relation.append_only })
        });
        Stream::of(node, relation.schema)
    }

    fn union(&mut self, union: &Union) -> SqlResult<Stream> {
        let schema = schema_of(&union.schema);
        let inputs = union.inputs.iter().map(|input| {
            let stream = self.stream(input)?;
            Ok(self.node(stream))
        });
        let inputs: Vec<usize> = inputs.collect::<SqlResult<_>>()?;
        let append_only = inputs.iter().all(|input| self.nodes[*input].append_only);
        let held = self.nodes[inputs[0]].schema.clone();
        let held = if schema.fields().is_empty() { held } else { schema.clone() };
        let node = self.operator(
            Recipe { name: "union", class: Class::Linear, detail: String::new(), keeps: "" },
            inputs.into_iter().map(|from| Edge { from, route: Route::Local }).collect(),
            held.clone(),
            append_only,
            Arc::new(move || Box::new(operators::Union::new(held.clone()))),
        );
        Ok(Stream::of(node, schema))
    }

    /// A node of columns that are computed from a plan's rows.
    pub fn computed(&mut self, input: Stream, columns: &[Expr], schema: &DFSchema) -> SqlResult<usize> {
        let (input, scalars) = self.over(input, columns, schema)?;
        let fields = columns.iter().zip(&scalars).map(|(column, scalar)| {
            let field = scalar.return_field(schema.as_arrow()).map_err(|error| sql_error(&error))?;
            Ok(field.as_ref().clone().with_name(self.names.expression(column)).with_nullable(true))
        });
        let fields: Vec<Field> = fields.collect::<SqlResult<_>>()?;
        Ok(self.node(input.project(&scalars, Arc::new(Schema::new(fields)))))
    }

    /// Expressions over a plan's rows, as expressions over its stream. The stream becomes a node of its own first if
    /// they would compute one of its columns twice.
    pub fn over(&mut self, input: Stream, expressions: &[Expr], schema: &DFSchema) -> SqlResult<(Stream, Vec<Scalar>)> {
        let scalars = expressions.iter().map(|expression| self.scalar(expression, schema));
        let scalars: Vec<Scalar> = scalars.collect::<SqlResult<_>>()?;
        match input.would_compute_twice(&scalars) {
            true => Ok((self.settled(input), scalars)),
            false => Ok((input, scalars)),
        }
    }

    pub fn scalar(&self, expression: &Expr, schema: &DFSchema) -> SqlResult<Scalar> {
        let context = PhysicalPlanningContext::default();
        create_physical_expr(expression, schema, state().execution_props(), &context).map_err(|error| sql_error(&error))
    }

    /// The stream as the plain rows of a node.
    pub fn settled(&mut self, stream: Stream) -> Stream {
        let schema = stream.schema.clone();
        Stream::of(self.node(stream), schema)
    }

    /// A node whose rows are the stream's, with a filler where the stream has no columns.
    pub fn node(&mut self, stream: Stream) -> usize {
        match stream.is_plain(self.nodes[stream.node].schema.fields().len()) {
            true => stream.node,
            false => self.linear(stream),
        }
    }

    /// The output node: its columns have the names of the plan's.
    fn root(&mut self, stream: Stream) -> usize {
        let plain = stream.is_plain(self.nodes[stream.node].schema.fields().len());
        match plain && stream.schema == self.nodes[stream.node].schema {
            true => stream.node,
            false => self.linear(stream),
        }
    }

    fn linear(&mut self, stream: Stream) -> usize {
        let input = &self.nodes[stream.node];
        let (append_only, width) = (input.append_only, input.schema.fields().len());
        let keeps_columns = stream.keeps_columns(width) && stream.schema == input.schema;
        let (mut columns, mut schema) = (stream.columns, stream.schema);
        if columns.is_empty() {
            let (column, field) = filler();
            (columns, schema) = (vec![column], Arc::new(Schema::new(vec![field])));
        }
        let predicate = stream.predicate;
        let detail = match (&predicate, keeps_columns) {
            (Some(predicate), true) => format!("where {}", self.names.scalars(std::slice::from_ref(predicate))),
            (Some(predicate), false) => {
                let predicate = self.names.scalars(std::slice::from_ref(predicate));
                format!("{} where {predicate}", self.names.scalars(&columns))
            }
            (None, _) => self.names.scalars(&columns),
        };
        let name = if keeps_columns { "filter" } else { "project" };
        let predicate = predicate.map(Predicate::new);
        let columns = (!keeps_columns).then(|| Scalars::new(columns, schema.clone()));
        let make = Arc::new(move || {
            Box::new(FilterProject::new(predicate.clone(), columns.clone())) as Box<dyn crate::dataflow::Operator>
        });
        let recipe = Recipe { name, class: Class::Linear, detail, keeps: "" };
        self.operator(recipe, vec![Edge { from: stream.node, route: Route::Local }], schema, append_only, make)
    }

    /// Adds an operator.
    pub fn operator(
        &mut self,
        recipe: Recipe,
        inputs: Vec<Edge>,
        schema: SchemaRef,
        append_only: bool,
        make: MakeOperator,
    ) -> usize {
        let Recipe { name, class, detail, keeps } = recipe;
        let kind = NodeKind::Operator(OperatorRecipe { name, class, detail, keeps: keeps.to_string(), make });
        self.add(Node { kind, inputs, schema, append_only })
    }

    pub fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Whether the plan's own expressions can be lowered one by one: no subqueries, no clock.
    pub fn has_rule(&self, plan: &LogicalPlan) -> bool {
        let mut plain = true;
        let visited = plan.apply_expressions(|expression| {
            expression.apply(|part| {
                plain &= !reads_clock_itself(part) && !is_subquery(part);
                Ok(TreeNodeRecursion::Continue)
            })
        });
        visited.expect("looking at expressions does not fail");
        plain
    }

    /// The graph of all nodes that the root needs.
    fn finish(self, root: usize) -> Graph {
        let mut needed: HashSet<usize> = HashSet::from([root]);
        for node in (0..=root).rev() {
            if needed.contains(&node) {
                needed.extend(self.nodes[node].inputs.iter().map(|edge| edge.from));
            }
        }
        let kept: Vec<usize> = (0..=root).filter(|node| needed.contains(node)).collect();
        let place = |node: usize| kept.binary_search(&node).expect("an input of a needed node is needed");
        let nodes = kept.iter().map(|index| {
            let mut node = self.nodes[*index].clone();
            node.inputs.iter_mut().for_each(|edge| edge.from = place(edge.from));
            node
        });
        Graph { nodes: nodes.collect() }
    }
}

/// How EXPLAIN shows an operator.
pub(super) struct Recipe {
    pub name: &'static str,
    pub class: Class,
    pub detail: String,
    pub keeps: &'static str,
}

/// Whether an expression is a call of `now()` or one of its like.
pub(super) fn reads_clock_itself(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable)
}

pub(super) fn is_subquery(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(_, _)
    )
}

/// Whether a plan, or a subquery in it, reads the clock.
pub(super) fn reads_clock(plan: &LogicalPlan) -> bool {
    any_expression(plan, &|expression| reads_clock_itself(expression))
}

fn any_expression(plan: &LogicalPlan, wanted: &dyn Fn(&Expr) -> bool) -> bool {
    let mut found = false;
    let visited = plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expression| {
            expression.apply(|part| {
                found |= wanted(part);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.expect("looking at expressions does not fail");
    found
}

fn refuse_volatile(plan: &LogicalPlan) -> SqlResult<()> {
    let mut name = None;
    let visited = plan.apply_with_subqueries(|plan| {
        plan.apply_expressions(|expression| {
            expression.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && part.is_volatile_node()
                {
                    name = Some(call.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.expect("looking at expressions does not fail");
    let Some(name) = name else { return Ok(()) };
    let message = format!("{name}() has another value each time it is called, so a view cannot be kept up to date");
    Err(SqlError::unsupported(message, "compute the value where the rows are written, in INSERT or UPDATE"))
}
