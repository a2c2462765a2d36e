//! Sources and sinks: outside systems ↔ rows. Each connector reads its own options; the registry lists them all.
//!
//! A connector is added by one file and one line in `registry.rs`; `docs/connectors.md` lists every option, and a test
//! compares the two.

mod file;
mod format;
mod generator;
mod kafka;
mod keyed_changes;
mod nexmark;
mod options;
mod paths;
mod registry;
mod sink;
mod source;

pub use file::{Export, ExportSpec};
pub use format::json_objects;
pub use nexmark::{NexmarkKind, nexmark_batch, nexmark_columns};
pub use options::{OptionDoc, Side};
pub use paths::{AllowedPaths, OutputFile};
pub use registry::{Connector, all, find};
pub use sink::{Sink, SinkSpec};
pub use source::{Budget, ConnectorError, DeadLetter, Deletions, InferredColumn, Polled, Position, Source, SourceSpec};
