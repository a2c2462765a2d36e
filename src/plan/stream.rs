//! Rows on their way to the next node: a node, and what is still to be done to its rows in one linear pass.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::scalar::ScalarValue;

/// An expression over the rows of a node.
pub(super) type Scalar = Arc<dyn PhysicalExpr>;

/// The rows of a node that pass a predicate, and the columns that are made of them: filters and projections gather
/// here until something needs the rows themselves.
#[derive(Clone)]
pub(super) struct Stream {
    pub node: usize,
    pub predicate: Option<Scalar>,
    pub columns: Vec<Scalar>,
    pub schema: SchemaRef,
}

impl Stream {
    /// The rows of a node as they are; a node of no columns in the plan has one in the dataflow, which is left out.
    pub fn of(node: usize, schema: SchemaRef) -> Self {
        Self { node, predicate: None, columns: own_columns(&schema), schema }
    }

    /// The rows for which one more predicate, over this stream's columns, is true.
    pub fn filter(mut self, predicate: &Scalar) -> Self {
        let added = self.through(predicate);
        self.predicate = Some(match self.predicate {
            None => added,
            Some(first) => Arc::new(BinaryExpr::new(first, Operator::And, added)),
        });
        self
    }

    /// Columns that are made of this stream's columns.
    pub fn project(self, columns: &[Scalar], schema: SchemaRef) -> Self {
        let columns = columns.iter().map(|column| self.through(column)).collect();
        Self { columns, schema, ..self }
    }

    /// The same columns under other names.
    pub fn renamed(self, schema: SchemaRef) -> Self {
        Self { schema, ..self }
    }

    /// An expression over this stream's columns as one over the node's.
    pub fn through(&self, expression: &Scalar) -> Scalar {
        let replaced = expression.clone().transform_down(|part| {
            Ok(match part.downcast_ref::<Column>() {
                // The replacement is over other columns, so it is not looked at again.
                Some(column) => Transformed::new(self.columns[column.index()].clone(), true, TreeNodeRecursion::Jump),
                None => Transformed::no(part),
            })
        });
        replaced.expect("replacing columns does not fail").data
    }

    /// Whether these expressions use a column twice that is dear to compute.
    pub fn would_compute_twice(&self, expressions: &[Scalar]) -> bool {
        let mut seen = HashSet::new();
        let mut twice = false;
        for expression in expressions {
            let visited = expression.apply(|part| {
                if let Some(column) = part.downcast_ref::<Column>() {
                    let column = column.index();
                    let cheap = self.columns[column].is::<Column>() || self.columns[column].is::<Literal>();
                    twice |= !cheap && !seen.insert(column);
                }
                Ok(TreeNodeRecursion::Continue)
            });
            visited.expect("looking at columns does not fail");
        }
        twice
    }

    /// Whether the stream is just the node's rows; `width` is the node's number of columns.
    pub fn is_plain(&self, width: usize) -> bool {
        self.predicate.is_none() && self.keeps_columns(width)
    }

    pub fn keeps_columns(&self, width: usize) -> bool {
        let same = |(index, column): (usize, &Scalar)| {
            column.downcast_ref::<Column>().is_some_and(|column| column.index() == index)
        };
        self.columns.len() == width && self.columns.iter().enumerate().all(same)
    }
}

/// Each column of a schema.
pub(super) fn own_columns(schema: &SchemaRef) -> Vec<Scalar> {
    let columns = schema.fields().iter().enumerate();
    columns.map(|(index, field)| Arc::new(Column::new(field.name(), index)) as Scalar).collect()
}

/// The Arrow schema of a plan's rows, without its tables' names. Every column may be NULL: what a plan knows about
/// NULL does not survive outer joins below other operators.
pub(super) fn schema_of(schema: &DFSchema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What a node of no columns holds instead: batches and state need one.
pub(super) fn filler() -> (Scalar, Field) {
    (Arc::new(Literal::new(ScalarValue::Boolean(Some(true)))), Field::new("row", DataType::Boolean, true))
}
