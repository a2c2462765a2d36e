//! A stage: the nodes of a dataflow between two exchanges, evaluated together once a step.
//!
//! Nodes that no exchange separates run one after another in a plain loop, so that a step costs one call of the host
//! for each stage, not for each node. With one worker nothing is exchanged and every dataflow is a single stage.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};

use super::graph::{Edge, Graph, Route};
use super::operator::{Held, Mapped, Operator, StatePart};
use super::output::Output;
use super::tap::Inbox;
use crate::state::Run;
use crate::zset::{Delta, Moment, Rows};

/// How a graph, with the output as one more node at its end, falls apart into stages.
pub struct Layout {
    pub stages: Vec<StageLayout>,
}

#[derive(Default)]
pub struct StageLayout {
    /// The nodes of the stage, rising.
    pub nodes: Vec<usize>,
    /// What comes from earlier stages: the node, and how its rows travel.
    pub ports: Vec<(usize, Route)>,
    /// The nodes that later stages read.
    pub exports: Vec<usize>,
}

impl Layout {
    /// `edges[n]` are the inputs of node n; they lead from lower nodes.
    pub fn new(edges: &[Vec<Edge>], workers: usize) -> Self {
        let crosses = |edge: &Edge| workers > 1 && edge.route != Route::Local;
        let mut levels: Vec<usize> = Vec::with_capacity(edges.len());
        for inputs in edges {
            let level = inputs.iter().map(|edge| levels[edge.from] + usize::from(crosses(edge))).max().unwrap_or(0);
            levels.push(level);
        }
        let mut stages: Vec<StageLayout> = Vec::new();
        stages.resize_with(levels.iter().max().map_or(0, |last| last + 1), StageLayout::default);
        for (node, inputs) in edges.iter().enumerate() {
            stages[levels[node]].nodes.push(node);
            for edge in inputs.iter().filter(|edge| levels[edge.from] < levels[node]) {
                insert_new(&mut stages[levels[node]].ports, (edge.from, edge.route.clone()));
                insert_new(&mut stages[levels[edge.from]].exports, edge.from);
            }
        }
        Self { stages }
    }
}

fn insert_new<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The inputs of every node of a graph, and last those of the output node.
pub fn edges_with_output(graph: &Graph, output_route: Route) -> Vec<Vec<Edge>> {
    let mut edges: Vec<Vec<Edge>> = graph.nodes.iter().map(|node| node.inputs.clone()).collect();
    edges.push(vec![Edge { from: graph.nodes.len() - 1, route: output_route }]);
    edges
}

/// The running nodes of one stage on one worker.
pub struct Stage {
    nodes: Vec<StageNode>,
    /// The positions in `nodes` of what later stages read.
    exports: Vec<usize>,
    /// An empty delta for each port.
    ports: Vec<Delta>,
    /// True until the dataflow's first step was evaluated here.
    fresh: bool,
}

struct StageNode {
    /// The node's index in the graph.
    index: usize,
    body: Body,
    inputs: Vec<Slot>,
    empty: Delta,
}

/// What runs at a node.
pub enum Body {
    Source(Rc<Inbox>),
    Clock(Clock),
    Operator {
        operator: Box<dyn Operator>,
        /// Whether it is evaluated in a new dataflow's first step even if no rows came: over nothing, an aggregate
        /// without a key has a row to give, on one of the workers.
        begins: bool,
    },
    Output(Output),
}

/// Where an input of a node comes from.
#[derive(Clone, Copy)]
enum Slot {
    /// A node of this stage, by its position in it.
    Node(usize),
    Port(usize),
}

impl Stage {
    /// `schemas[n]` is the schema of node n; `body` makes what runs at a node.
    pub fn new(
        layout: &StageLayout,
        edges: &[Vec<Edge>],
        schemas: &[SchemaRef],
        mut body: impl FnMut(usize) -> Body,
    ) -> Self {
        let position = |node: usize| layout.nodes.iter().position(|other| *other == node);
        let slot = |edge: &Edge| match position(edge.from) {
            Some(position) => Slot::Node(position),
            None => {
                let port = layout.ports.iter().position(|(from, route)| *from == edge.from && *route == edge.route);
                Slot::Port(port.expect("every edge from outside has a port"))
            }
        };
        let node = |index: &usize| StageNode {
            index: *index,
            body: body(*index),
            inputs: edges[*index].iter().map(slot).collect(),
            empty: Delta::empty(schemas[*index].clone()),
        };
        let exports = layout.exports.iter().map(|node| position(*node).expect("a stage exports its own nodes"));
        Self {
            exports: exports.collect(),
            ports: layout.ports.iter().map(|(node, _)| Delta::empty(schemas[*node].clone())).collect(),
            nodes: layout.nodes.iter().map(node).collect(),
            fresh: true,
        }
    }

    /// An empty delta of a port's schema.
    pub fn empty_port(&self, port: usize) -> &Delta {
        &self.ports[port]
    }

    /// True if the rows of all source nodes are there up to the step.
    pub fn is_ready(&self, at: Moment) -> bool {
        self.nodes.iter().all(|node| match &node.body {
            Body::Source(inbox) => inbox.is_complete(at.step),
            Body::Clock(_) | Body::Operator { .. } | Body::Output(_) => true,
        })
    }

    /// Evaluates all nodes at a step, given the whole change of each port; returns the change of each export.
    ///
    /// Operators whose inputs are all empty are left out, but for those that begin with a row.
    pub fn eval(&mut self, at: Moment, ports: &[Delta]) -> Vec<Delta> {
        let fresh = std::mem::take(&mut self.fresh);
        let mut done: Vec<Delta> = Vec::with_capacity(self.nodes.len());
        for node in &mut self.nodes {
            let delta = node.eval(at, &done, ports, fresh);
            done.push(delta);
        }
        self.exports.iter().map(|position| done[*position].clone()).collect()
    }

    /// Takes back the state of the operator or clock at a node.
    pub fn load(&mut self, index: usize, parts: Vec<Vec<Arc<Run>>>) {
        if let Some(node) = self.nodes.iter_mut().find(|node| node.index == index) {
            match &mut node.body {
                Body::Operator { operator, .. } => operator.load(parts),
                Body::Clock(clock) => clock.load(&parts),
                Body::Source(_) | Body::Output(_) => {}
            }
        }
    }

    /// Says that the state is that of a dataflow that had its first step.
    pub fn resume(&mut self) {
        self.fresh = false;
    }

    /// All state of operators and clocks: the node, and its parts.
    pub fn save(&mut self) -> Vec<(usize, Vec<StatePart>)> {
        let parts = |node: &mut StageNode| match &mut node.body {
            Body::Operator { operator, .. } => (node.index, operator.save()),
            Body::Clock(clock) => (node.index, clock.save(&node.empty)),
            Body::Source(_) | Body::Output(_) => (node.index, Vec::new()),
        };
        self.nodes.iter_mut().map(parts).collect()
    }

    pub fn held(&self) -> Held {
        let mut sum = Held::default();
        for node in &self.nodes {
            let held = match &node.body {
                Body::Operator { operator, .. } => operator.held(),
                Body::Output(output) => output.held(),
                Body::Source(_) | Body::Clock(_) => Held::default(),
            };
            sum = Held { rows: sum.rows + held.rows, bytes: sum.bytes + held.bytes };
        }
        sum
    }

    /// Puts mapped runs in the place of those in memory; true if the output has some.
    pub fn spill(&mut self, mapped: &Mapped) -> bool {
        let mut told = false;
        for node in &mut self.nodes {
            match &mut node.body {
                Body::Operator { operator, .. } => operator.spill(mapped),
                Body::Output(output) => told |= output.spill(mapped),
                Body::Source(_) | Body::Clock(_) => {}
            }
        }
        told
    }

    /// The output node, in the last stage.
    pub fn output(&mut self) -> Option<&mut Output> {
        self.nodes.iter_mut().find_map(|node| match &mut node.body {
            Body::Output(output) => Some(output),
            Body::Source(_) | Body::Clock(_) | Body::Operator { .. } => None,
        })
    }
}

impl StageNode {
    fn eval(&mut self, at: Moment, done: &[Delta], ports: &[Delta], fresh: bool) -> Delta {
        let input = |slot: &Slot| match slot {
            Slot::Node(position) => &done[*position],
            Slot::Port(port) => &ports[*port],
        };
        match &mut self.body {
            Body::Source(inbox) => inbox.take(at.step, &self.empty),
            Body::Clock(clock) => clock.tick(at, &self.empty),
            Body::Operator { operator, begins } => {
                if !(fresh && *begins) && self.inputs.iter().all(|slot| input(slot).is_empty()) {
                    return self.empty.clone();
                }
                let inputs: Vec<Delta> = self.inputs.iter().map(|slot| input(slot).clone()).collect();
                operator.eval(at, &inputs)
            }
            Body::Output(output) => {
                output.apply(at.step, input(&self.inputs[0]));
                self.empty.clone()
            }
        }
    }
}

/// The one row `now timestamptz`, replaced in every step. It lives on one worker; on the others nothing ever comes.
pub struct Clock {
    ticks: bool,
    now: Option<i64>,
}

impl Clock {
    pub fn new(ticks: bool) -> Self {
        Self { ticks, now: None }
    }

    fn tick(&mut self, at: Moment, empty: &Delta) -> Delta {
        if !self.ticks || self.now == Some(at.now) {
            return empty.clone();
        }
        let (old, new) = (self.now.replace(at.now), at.now);
        let nows: Vec<i64> = old.into_iter().chain([new]).collect();
        let weights = Int64Array::from(old.map_or_else(|| vec![1], |_| vec![-1, 1]));
        let rows = Rows::new(clock_batch(nows, &empty.schema()), Some(weights)).assume_consolidated();
        Delta::new(rows, empty.errs.clone())
    }

    fn save(&self, empty: &Delta) -> Vec<StatePart> {
        let row = self.now.map(|now| Rows::inserts(clock_batch(vec![now], &empty.schema())));
        let runs = row.map(|row| Arc::new(Run::build(&row, &[]))).into_iter().collect();
        vec![StatePart { runs }]
    }

    fn load(&mut self, parts: &[Vec<Arc<Run>>]) {
        let run = parts.iter().flatten().next().filter(|_| self.ticks);
        self.now = run.map(|run| run.rows().column(0).as_primitive::<TimestampMicrosecondType>().value(0));
    }
}

fn clock_batch(nows: Vec<i64>, schema: &SchemaRef) -> RecordBatch {
    let column = TimestampMicrosecondArray::from(nows);
    let column = match schema.field(0).data_type() {
        DataType::Timestamp(_, Some(zone)) => column.with_timezone(zone.clone()),
        _ => column,
    };
    RecordBatch::try_new(schema.clone(), vec![Arc::new(column)]).expect("a clock has one column of timestamps")
}
