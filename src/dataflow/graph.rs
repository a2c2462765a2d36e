//! The recipe from which every worker builds the same dataflow.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::operator::{Class, Operator};
use crate::zset::RelationId;

/// A dataflow as a list of nodes; edges lead from earlier nodes to later ones. The last node is the output.
#[derive(Clone)]
pub struct Graph {
    pub nodes: Vec<Node>,
}

/// Makes an operator; called once on every worker.
pub type MakeOperator = Arc<dyn Fn() -> Box<dyn Operator> + Send + Sync>;

#[derive(Clone)]
pub struct Node {
    pub kind: NodeKind,
    pub inputs: Vec<Edge>,
    /// Columns of the node's output.
    pub schema: SchemaRef,
    /// Whether the output never retracts a row, whatever the inputs do within their own promises.
    pub append_only: bool,
}

#[derive(Clone)]
pub enum NodeKind {
    /// Rows that the engine feeds: the node of a table's or source's own dataflow.
    Feed,
    /// The deltas of another relation; on install first what the relation holds, if it keeps anything.
    Relation(RelationId),
    /// One row `now timestamptz` that is replaced (-1 old, +1 new) in every step.
    Clock,
    Operator(OperatorRecipe),
}

#[derive(Clone)]
pub struct OperatorRecipe {
    /// As EXPLAIN shows it: `join`, `aggregate`.
    pub name: &'static str,
    pub class: Class,
    /// Its expressions and keys in SQL's words.
    pub detail: String,
    /// What it keeps, in words; empty if nothing.
    pub keeps: String,
    pub make: MakeOperator,
}

#[derive(Clone)]
pub struct Edge {
    /// Index of the node that the rows come from.
    pub from: usize,
    pub route: Route,
}

/// To which worker a row of an edge goes.
///
/// An operator that keeps state has no local inputs, and each part of its state is arranged by the columns by which
/// that part's rows came: so a part can be cut anew by hash when the number of workers changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// It stays where it is.
    Local,
    /// To the worker that owns the hash of these columns. No columns: all rows to one worker.
    ByKey(Vec<usize>),
}

impl Graph {
    /// The node whose rows are the relation's.
    pub fn output(&self) -> &Node {
        self.nodes.last().expect("a graph has at least one node")
    }

    pub fn schema(&self) -> SchemaRef {
        self.output().schema.clone()
    }

    /// True for an operator all of whose rows meet on one worker, the owner of the key without columns. Only there it
    /// is evaluated in its first step though no rows came, and only there it has state.
    pub fn meets_on_one_worker(&self, node: usize) -> bool {
        let keyless = |edge: &Edge| matches!(&edge.route, Route::ByKey(key) if key.is_empty());
        let node = &self.nodes[node];
        matches!(node.kind, NodeKind::Operator(_)) && node.inputs.iter().all(keyless)
    }

    /// The relations that the graph reads, each once.
    pub fn relations(&self) -> Vec<RelationId> {
        let mut ids: Vec<RelationId> = (self.nodes.iter())
            .filter_map(|node| match node.kind {
                NodeKind::Relation(id) => Some(id),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub fn uses_clock(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.kind, NodeKind::Clock))
    }
}
