//! The words of EXPLAIN: what a plan's nodes and expressions are called in SQL.

use std::collections::HashMap;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, SkipType};

use super::stream::Scalar;
use crate::functions::{Text, expression_text, physical_text, plain_words, sort_text};

/// Expressions nested deeper than this by way of names are cut short.
const DEPTH_MAX: usize = 8;

/// The columns that a plan names after the expressions they hold.
#[derive(Default)]
pub(super) struct Names(HashMap<String, Expr>);

impl Names {
    pub fn of(plan: &LogicalPlan) -> Self {
        let mut names = Self::default();
        names.learn(plan);
        names
    }

    /// Adds what another plan names.
    pub fn learn(&mut self, plan: &LogicalPlan) {
        let visited = plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                self.note(expression);
                Ok(TreeNodeRecursion::Continue)
            })
        });
        visited.expect("looking at expressions does not fail");
    }

    fn note(&mut self, expression: &Expr) {
        let name = match expression {
            Expr::Column(_) | Expr::Literal(..) => return,
            Expr::Alias(alias) => alias.name.clone(),
            other => other.schema_name().to_string(),
        };
        let inner = expression.clone().unalias();
        let itself = matches!(&inner, Expr::Column(column) if column.name == name);
        if is_made_up(&name) && !itself {
            self.0.entry(name).or_insert(inner);
        }
    }

    fn column(&self, table: Option<&str>, name: &str, depth: usize) -> Text {
        if let Some(expression) = self.0.get(name).filter(|_| depth < DEPTH_MAX) {
            return expression_text(expression, &|table, name| self.column(table, name, depth + 1));
        }
        let shown = plain_words(name.split('\u{1}').next().unwrap_or(name));
        Text::atom(match table.filter(|table| !table.starts_with("__") && !table.contains(' ')) {
            Some(table) if !is_made_up(&shown) && !table.starts_with("node_") => format!("{table}.{shown}"),
            _ => shown,
        })
    }

    pub fn expression(&self, expression: &Expr) -> String {
        expression_text(expression, &|table, name| self.column(table, name, 0)).text
    }

    /// Several, in a list.
    pub fn list(&self, expressions: &[Expr]) -> String {
        expressions.iter().map(|expression| self.expression(expression)).collect::<Vec<_>>().join(", ")
    }

    /// Expressions over the columns of a node, in a list.
    pub fn scalars(&self, scalars: &[Scalar]) -> String {
        let text = |scalar: &Scalar| physical_text(scalar.as_ref(), &|table, name| self.column(table, name, 0)).text;
        scalars.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// What a plan's topmost node does.
    pub fn node(&self, plan: &LogicalPlan) -> String {
        match plan {
            LogicalPlan::Projection(projection) => format!("project {}", self.list(&projection.expr)),
            LogicalPlan::Filter(filter) => format!("filter where {}", self.expression(&filter.predicate)),
            LogicalPlan::Window(window) => format!("window {}", self.list(&window.window_expr)),
            LogicalPlan::Aggregate(aggregate) => {
                format!("aggregate {}", self.aggregate(&aggregate.aggr_expr, &aggregate.group_expr))
            }
            LogicalPlan::Sort(sort) => {
                let keys = sort.expr.iter().map(|key| sort_text(key, &|table, name| self.column(table, name, 0)));
                let fetch = sort.fetch.map_or(String::new(), |fetch| format!(" limit {fetch}"));
                format!("sort by {}{fetch}", keys.collect::<Vec<_>>().join(", "))
            }
            LogicalPlan::Limit(limit) => limit_words(limit),
            LogicalPlan::Unnest(unnest) => {
                let columns = unnest.exec_columns.iter().map(|column| self.column(None, &column.name, 0).text);
                format!("unnest {}", columns.collect::<Vec<_>>().join(", "))
            }
            LogicalPlan::RecursiveQuery(query) => format!("recursive query {}", query.name),
            LogicalPlan::TableScan(scan) => format!("scan {}", plain_words(scan.table_name.table())),
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            LogicalPlan::Values(values) => format!("values: {} rows", values.values.len()),
            LogicalPlan::EmptyRelation(relation) if relation.produce_one_row => "one row".to_string(),
            LogicalPlan::EmptyRelation(_) => "no rows".to_string(),
            LogicalPlan::Join(join) => format!("{} join", join.join_type.to_string().to_lowercase()),
            LogicalPlan::Union(_) => "union".to_string(),
            LogicalPlan::Distinct(_) => "distinct".to_string(),
            LogicalPlan::Subquery(subquery) => self.node(&subquery.subquery),
            other => plain_words(&other.display().to_string()),
        }
    }

    /// Aggregates, and what they are grouped by.
    pub fn aggregate(&self, calls: &[Expr], keys: &[Expr]) -> String {
        match (calls.is_empty(), keys.is_empty()) {
            (_, true) => self.list(calls),
            (true, false) => format!("by {}", self.list(keys)),
            (false, false) => format!("{} by {}", self.list(calls), self.list(keys)),
        }
    }
}

fn limit_words(limit: &datafusion::logical_expr::Limit) -> String {
    let fetch = match limit.get_fetch_type() {
        Ok(FetchType::Literal(Some(fetch))) => format!("limit {fetch}"),
        Ok(FetchType::Literal(None)) => "limit all".to_string(),
        _ => "limit".to_string(),
    };
    match limit.get_skip_type() {
        Ok(SkipType::Literal(skip)) if skip > 0 => format!("{fetch} offset {skip}"),
        _ => fetch,
    }
}

/// Whether a name is no name that a user would give, but the text of an expression.
fn is_made_up(name: &str) -> bool {
    name.contains(['(', '[', ' ', ',']) || name.starts_with("__")
}
