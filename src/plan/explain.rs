//! The text of EXPLAIN: one line for each node, what it does, its class, and what it keeps.

use crate::dataflow::{Class, Edge, Graph, Node, NodeKind, Route};
use crate::functions::plain_words;
use crate::zset::RelationId;

/// The graph as a tree from its output down, then warnings; `name` gives a relation's name.
pub fn explain(graph: &Graph, name: &dyn Fn(RelationId) -> String) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shown = vec![false; graph.nodes.len()];
    let root = graph.nodes.len() - 1;
    tree(graph, &Edge { from: root, route: Route::Local }, 0, &mut shown, name, &mut lines);
    lines.extend(growing(graph).into_iter().map(|growth| format!("warning: {}; {}", growth.reason, growth.remedy)));
    lines
}

fn tree(
    graph: &Graph,
    edge: &Edge,
    depth: usize,
    shown: &mut [bool],
    name: &dyn Fn(RelationId) -> String,
    lines: &mut Vec<String>,
) {
    let node = &graph.nodes[edge.from];
    let indent = "  ".repeat(depth);
    let route = route_words(&edge.route, node);
    let again = std::mem::replace(&mut shown[edge.from], true) && !node.inputs.is_empty();
    let shared = if again { " (as above)" } else { "" };
    lines.push(format!("{indent}{}{route}{shared}", node_words(node, name)));
    if !again {
        node.inputs.iter().for_each(|input| tree(graph, input, depth + 1, shown, name, lines));
    }
}

fn node_words(node: &Node, name: &dyn Fn(RelationId) -> String) -> String {
    let append_only = if node.append_only { ", append-only" } else { "" };
    match &node.kind {
        NodeKind::Feed => format!("rows fed by the engine{append_only}"),
        NodeKind::Relation(id) => format!("{}{append_only}", name(*id)),
        NodeKind::Clock => "clock: one row that changes in every step".to_string(),
        NodeKind::Operator(recipe) => {
            let detail = if recipe.detail.is_empty() { String::new() } else { format!(" {}", recipe.detail) };
            let keeps = if recipe.keeps.is_empty() { String::new() } else { format!("; keeps {}", recipe.keeps) };
            format!("{}{detail} [{}{append_only}{keeps}]", recipe.name, recipe.class.name())
        }
    }
}

fn route_words(route: &Route, node: &Node) -> String {
    match route {
        Route::Local => String::new(),
        Route::ByKey(columns) if columns.is_empty() => " -> one worker".to_string(),
        Route::ByKey(columns) => {
            let names: Vec<String> =
                columns.iter().map(|column| plain_words(node.schema.field(*column).name())).collect();
            format!(" -> by {}", names.join(", "))
        }
    }
}

/// An operator whose state grows for ever, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    pub operator: String,
    pub reason: String,
    pub remedy: &'static str,
}

/// The operators that keep every row of an input that only grows.
pub fn growing(graph: &Graph) -> Vec<Growth> {
    graph.nodes.iter().filter_map(|node| growth(graph, node)).collect()
}

fn growth(graph: &Graph, node: &Node) -> Option<Growth> {
    let NodeKind::Operator(recipe) = &node.kind else { return None };
    let grows = node.inputs.iter().any(|edge| graph.nodes[edge.from].append_only);
    let keeps_rows = recipe.name.contains("join") || recipe.class >= Class::KeyedRecompute;
    let remedy = match recipe.class {
        Class::Linear | Class::Keyed => "bound it with a filter on time",
        Class::KeyedRecompute | Class::Recompute => {
            "bound it with a filter on time, or ask for the first rows of a key (row_number() <= n)"
        }
    };
    (grows && keeps_rows && !recipe.keeps.is_empty()).then(|| Growth {
        operator: format!("{} {}", recipe.name, recipe.detail).trim_end().to_string(),
        reason: format!("{} keeps {}, and an input only grows: its state grows for ever", recipe.name, recipe.keeps),
        remedy,
    })
}
