//! The change of one relation in one step: good rows and error rows, each with a weight.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{ErrorRows, Rows};

/// The change of one Z-set in one step.
#[derive(Debug, Clone)]
pub struct Delta {
    pub oks: Rows,
    pub errs: ErrorRows,
}

impl Delta {
    pub fn new(oks: Rows, errs: ErrorRows) -> Self {
        Self { oks, errs }
    }
    pub fn empty(schema: SchemaRef) -> Self {
        Self::new(Rows::empty(schema), ErrorRows::default())
    }
    pub fn inserts(batch: RecordBatch) -> Self {
        Self::new(Rows::inserts(batch), ErrorRows::default())
    }
    pub fn is_empty(&self) -> bool {
        self.oks.is_empty() && self.errs.is_empty()
    }
    pub fn schema(&self) -> SchemaRef {
        self.oks.schema()
    }
    /// The sum of several deltas of one relation, in the order given, not consolidated.
    pub fn concat(schema: &SchemaRef, parts: Vec<Delta>) -> Self {
        let mut errs = ErrorRows::default();
        parts.iter().for_each(|part| errs.add_all(&part.errs));
        let oks: Vec<Rows> = parts.into_iter().map(|part| part.oks).collect();
        Self::new(Rows::concat(schema, &oks), errs)
    }
}
