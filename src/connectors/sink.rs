//! What a sink is: something that takes the changes of a relation step by step.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::paths::AllowedPaths;
use super::source::ConnectorError;
use crate::zset::{Rows, Step};

/// An open sink.
///
/// The engine gives it every step that changes the relation, in order, beginning with the snapshot at the step at
/// which the sink was made. After a crash it gives again what may have been lost: every step after
/// [`Sink::committed`] as the sink says it after opening.
#[async_trait]
pub trait Sink: Send {
    /// Takes the change of one step. A step that is in the target already is ignored.
    async fn write(&mut self, step: Step, rows: &Rows) -> Result<(), ConnectorError>;
    /// Puts all that was written durably into the target, at once or not at all.
    async fn flush(&mut self) -> Result<(), ConnectorError>;
    /// Flushes and ends.
    async fn close(&mut self) -> Result<(), ConnectorError>;
    /// Every step up to this one is durably in the target, each once. `None`: none yet.
    fn committed(&self) -> Option<Step>;
    /// Bytes written and not flushed; the engine flushes when they are many.
    fn pending_bytes(&self) -> u64;
    /// The engine flushes at least so often while anything is pending.
    fn flush_after(&self) -> Duration;
}

/// What a sink is opened with.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// The sink's name; part of the names of the files that it makes.
    pub name: String,
    pub schema: SchemaRef,
    pub options: BTreeMap<String, String>,
    pub allowed_paths: AllowedPaths,
    /// True if the planner knows that rows are never retracted.
    pub append_only: bool,
    /// The input's own key, if it has one (column indices); the option `primary_key` wins.
    pub key: Vec<usize>,
    /// True when the sink is being made, false when it is opened again after a restart.
    pub is_new: bool,
}
