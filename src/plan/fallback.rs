//! Sub-plans without a rule of their own: cut out of the plan, with their inputs lowered, and run by DataFusion.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::builder::LogicalTableSource;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, RecursiveQuery, lit};

use super::lower::{Lowering, Recipe, reads_clock};
use super::recompute::SubPlan;
use super::stream::{Stream, filler, schema_of};
use super::ties::sorted;
use crate::dataflow::operators::{Compute, Recompute};
use crate::dataflow::{Class, Edge, Node, NodeKind, Route};
use crate::error::SqlResult;
use crate::functions::errors::sql_error;
use crate::zset::PgType;

/// A part of a plan whose inputs are scans of nodes.
#[derive(Clone)]
pub(super) struct Part {
    pub plan: LogicalPlan,
    /// The nodes scanned, each once.
    pub inputs: Vec<Input>,
}

/// A node that a part scans.
#[derive(Clone)]
pub(super) struct Input {
    pub node: usize,
    /// Columns of the scan: named by their place, with what the plan knows about NULL.
    pub schema: SchemaRef,
}

impl Lowering<'_> {
    /// Runs the plan anew whenever its inputs change.
    pub fn recompute(&mut self, plan: &LogicalPlan) -> SqlResult<Stream> {
        let part = self.cut(plan)?;
        self.recompute_part(part, plan.schema())
    }

    /// The same for a plan that cuts an order: the sort belongs to it, or the order would be lost on the way.
    pub fn recompute_ordered(&mut self, plan: &LogicalPlan) -> SqlResult<Stream> {
        let mut inputs = Vec::new();
        let cut = self.cut_below_sort(plan, &mut inputs)?;
        self.recompute_part(Part { plan: cut, inputs }, plan.schema())
    }

    fn recompute_part(&mut self, part: Part, schema: &DFSchema) -> SqlResult<Stream> {
        let detail = self.names.node(&part.plan);
        let sub_plan = self.sub_plan(part.clone())?;
        let schema = schema_of(schema);
        let (held, inputs) = (sub_plan.schema.clone(), sub_plan.input_schemas());
        let mut edges = one_worker(&part.inputs);
        edges.extend(sub_plan.reads_clock.then(|| Edge { from: self.clock(), route: Route::ByKey(Vec::new()) }));
        let output = held.clone();
        let make = Arc::new(move || {
            let compute: Arc<dyn Compute> = Arc::new(sub_plan.computation());
            Box::new(Recompute::new(compute, inputs.clone(), output.clone())) as Box<dyn crate::dataflow::Operator>
        });
        // What reads nothing is computed once.
        let recipe = match edges.is_empty() {
            true => Recipe { name: "constant", class: Class::Linear, detail, keeps: "its rows" },
            false => {
                let keeps = "all rows of its inputs, and its rows";
                Recipe { name: "recompute", class: Class::Recompute, detail, keeps }
            }
        };
        let node = self.operator(recipe, edges, held, false, make);
        self.parts.insert(node, part);
        Ok(Stream::of(node, schema))
    }

    /// What DataFusion runs for a part. Fails if it cannot.
    pub fn sub_plan(&mut self, part: Part) -> SqlResult<SubPlan> {
        let Part { plan, inputs } = part;
        let reads_clock = reads_clock(&plan);
        let mut tables: Vec<(TableReference, SchemaRef)> =
            inputs.into_iter().map(|input| (name_of(input.node), input.schema)).collect();
        if reads_clock {
            let clock = self.clock();
            tables.push((name_of(clock), self.nodes[clock].schema.clone()));
        }
        let mut schema = schema_of(plan.schema());
        let plan = match schema.fields().is_empty() {
            false => plan,
            true => {
                let (_, field) = filler();
                schema = Arc::new(Schema::new(vec![field]));
                let filled = LogicalPlanBuilder::from(plan).project(vec![lit(true).alias("row")]);
                filled.and_then(LogicalPlanBuilder::build).map_err(|error| sql_error(&error))?
            }
        };
        let sub_plan = SubPlan { plan, inputs: tables, reads_clock, schema };
        sub_plan.check()?;
        Ok(sub_plan)
    }

    pub fn clock(&mut self) -> usize {
        let known = self.nodes.iter().position(|node| matches!(node.kind, NodeKind::Clock));
        known.unwrap_or_else(|| {
            let schema = Arc::new(Schema::new(vec![PgType::Timestamptz.field("now", false)]));
            self.add(Node { kind: NodeKind::Clock, inputs: Vec::new(), schema, append_only: false })
        })
    }

    /// The plan over scans of its lowered inputs.
    pub fn cut(&mut self, plan: &LogicalPlan) -> SqlResult<Part> {
        let mut inputs = Vec::new();
        let cut = match plan {
            LogicalPlan::RecursiveQuery(query) => self.cut_recursive(query, &mut inputs)?,
            other => self.cut_children(other, &mut inputs)?,
        };
        Ok(Part { plan: cut, inputs })
    }

    fn cut_children(&mut self, plan: &LogicalPlan, inputs: &mut Vec<Input>) -> SqlResult<LogicalPlan> {
        let plan = self.cut_subqueries(plan.clone(), inputs)?;
        let mut failed = None;
        let cut = plan.map_children(|child| {
            let scan = self.input(&child, inputs).unwrap_or_else(|error| {
                failed = Some(error);
                child
            });
            Ok(Transformed::yes(scan))
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(cut.map_err(|error| sql_error(&error))?.data),
        }
    }

    /// Subqueries that stayed expressions read the rows around them, so only their tables can be inputs.
    fn cut_subqueries(&mut self, plan: LogicalPlan, inputs: &mut Vec<Input>) -> SqlResult<LogicalPlan> {
        let mut failed = None;
        let cut = plan.map_subqueries(|subquery| {
            let cut = self.cut_tables(subquery.clone(), inputs).unwrap_or_else(|error| {
                failed = Some(error);
                subquery
            });
            Ok(Transformed::yes(cut))
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(cut.map_err(|error| sql_error(&error))?.data),
        }
    }

    /// The recursive term reads itself, so only its tables can be inputs.
    fn cut_recursive(&mut self, query: &RecursiveQuery, inputs: &mut Vec<Input>) -> SqlResult<LogicalPlan> {
        let static_term = Arc::new(self.input(&query.static_term, inputs)?);
        let recursive_term = Arc::new(self.cut_tables(query.recursive_term.as_ref().clone(), inputs)?);
        Ok(LogicalPlan::RecursiveQuery(RecursiveQuery { static_term, recursive_term, ..query.clone() }))
    }

    /// The plan with each of our relations replaced by a scan of its node.
    fn cut_tables(&mut self, plan: LogicalPlan, inputs: &mut Vec<Input>) -> SqlResult<LogicalPlan> {
        let mut failed = None;
        let cut = plan.transform_down_with_subqueries(|plan| match &plan {
            LogicalPlan::TableScan(scan) if self.inputs.find(&scan.table_name).is_some() => {
                let scan = self.input(&plan, inputs).unwrap_or_else(|error| {
                    failed = Some(error);
                    plan
                });
                // The scan of the node is a scan too, so it must not be looked at again.
                Ok(Transformed::new(scan, true, datafusion::common::tree_node::TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(plan)),
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(cut.map_err(|error| sql_error(&error))?.data),
        }
    }

    /// Cuts below the sort whose order reaches the plan; where there is none, the plan is given one over all columns,
    /// so that the answer does not depend on the way in which rows came.
    fn cut_below_sort(&mut self, plan: &LogicalPlan, inputs: &mut Vec<Input>) -> SqlResult<LogicalPlan> {
        let below = match plan {
            LogicalPlan::Sort(sort) => return self.cut_children(&LogicalPlan::Sort(sort.clone()), inputs),
            LogicalPlan::Limit(limit) => &limit.input,
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            other => return Ok(sorted(self.input(other, inputs)?)),
        };
        let below = self.cut_below_sort(below, inputs)?;
        let plan = self.cut_subqueries(plan.clone(), inputs)?;
        let mut below = Some(below);
        let cut = plan.map_children(|child| Ok(Transformed::yes(below.take().unwrap_or(child))));
        Ok(cut.map_err(|error| sql_error(&error))?.data)
    }

    /// The rows of a plan as an input of a part: a scan of its node, or what the node runs itself if it is of class
    /// recompute, so that nothing is kept between the two.
    fn input(&mut self, plan: &LogicalPlan, inputs: &mut Vec<Input>) -> SqlResult<LogicalPlan> {
        let stream = self.stream(plan)?;
        let node = self.node(stream.clone());
        let rows = match self.parts.get(&node) {
            Some(part) => {
                for input in &part.inputs {
                    if !inputs.iter().any(|known| known.node == input.node) {
                        inputs.push(input.clone());
                    }
                }
                part.plan.clone()
            }
            None => {
                let known = inputs.iter().find(|known| known.node == node).cloned();
                let input = known.unwrap_or_else(|| {
                    let input = Input { node, schema: scan_schema(&self.nodes[node].schema, plan.schema()) };
                    inputs.push(input.clone());
                    input
                });
                scan_of(input).map_err(|error| sql_error(&error))?
            }
        };
        named_as(rows, plan.schema()).map_err(|error| sql_error(&error))
    }
}

/// All rows of all inputs to one worker.
fn one_worker(inputs: &[Input]) -> Vec<Edge> {
    inputs.iter().map(|input| Edge { from: input.node, route: Route::ByKey(Vec::new()) }).collect()
}

fn name_of(node: usize) -> TableReference {
    TableReference::bare(format!("node_{node}"))
}

pub(super) fn scan_of(input: Input) -> Result<LogicalPlan> {
    LogicalPlanBuilder::scan(name_of(input.node), Arc::new(LogicalTableSource::new(input.schema)), None)?.build()
}

pub(super) fn scan_schema(held: &SchemaRef, schema: &DFSchema) -> SchemaRef {
    let fields = held.fields().iter().enumerate().map(|(index, field)| {
        let nullable = schema.fields().get(index).is_none_or(|field| field.is_nullable());
        Field::new(format!("c{index}"), field.data_type().clone(), nullable).with_metadata(field.metadata().clone())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns of `rows`, by position, under the names by which the plan above knows them.
pub(super) fn named_as(rows: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan, DataFusionError> {
    if rows.schema().columns() == schema.columns() {
        return Ok(rows);
    }
    let columns = rows.schema().columns();
    let named = schema.columns().into_iter().zip(columns).map(|(wanted, column)| {
        let Column { relation, name, .. } = wanted;
        Expr::Column(column).alias_qualified(relation, name)
    });
    LogicalPlanBuilder::from(rows).project(named.collect::<Vec<_>>())?.build()
}
