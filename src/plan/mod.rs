//! LogicalPlan → dataflow, and plans run once. Pure but for the inside of `recompute.rs`.

mod aggregate;
mod decorrelate;
mod explain;
mod fallback;
mod grouping_sets;
mod guard;
mod join;
mod keyed;
mod keys;
mod lower;
mod not_in;
mod null_safe;
mod quick;
mod recompute;
mod rewrite;
mod stream;
mod subquery;
mod table;
mod temporal;
mod ties;
mod top_k;
mod unnest;
mod window_close;
mod words;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;

pub use explain::{Growth, explain, growing};
pub use lower::lower;
pub use quick::run_quick;
pub use recompute::{Data, RunContext, run};
pub use rewrite::normalize;
pub use table::snapshot_table;

use crate::zset::RelationId;

/// A relation that a view reads.
#[derive(Debug, Clone)]
pub struct InputRelation {
    pub id: RelationId,
    pub schema: SchemaRef,
    /// Whether no row of it is ever retracted.
    pub append_only: bool,
    /// Columns of its enforced primary key, if it has one.
    pub key: Vec<usize>,
    /// The column of its times, if a watermark follows them.
    pub watermark: Option<usize>,
}

/// The relations behind the tables of a plan.
pub trait Inputs {
    fn find(&self, table: &TableReference) -> Option<InputRelation>;
}

#[cfg(test)]
mod law;
