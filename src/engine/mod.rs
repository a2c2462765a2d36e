//! The one writer: orders everything that changes data into steps, makes them durable, publishes them.
//!
//! `run.rs` is the loop and the list of all that can wake it; `step.rs` takes one step from gathered inputs to
//! published results.

mod checkpoint;
mod constraints;
mod counters;
mod define;
mod event;
mod fill;
mod handle;
mod ingest;
mod outlets;
mod published;
mod read;
mod record;
mod recover;
mod run;
mod sinks;
mod step;
#[cfg(test)]
mod tests;
mod watermark;

pub use counters::{Counters, SourceCounters};
pub use event::{TableChange, Write, WriteError};
pub use fill::Job;
pub use handle::{Engine, EngineConfig};
pub use outlets::{Subscribe, Subscription};
pub use published::Published;
pub use read::{Read, SystemTables};
pub use record::Position;
