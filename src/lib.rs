//! Headwater, a streaming SQL engine: the rooms in one list, and the door for programs that embed it.
//!
//! `docs/architecture.md` leads through the rooms. Lower floors never import higher ones; `tidy.rs` checks it.

// Floor 0: what everything stands on.
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod storage;
#[doc(hidden)]
pub mod zset;

// Floor 1.
#[doc(hidden)]
pub mod functions;
#[doc(hidden)]
pub mod state;

// Floor 2.
#[doc(hidden)]
pub mod catalog;
#[doc(hidden)]
pub mod connectors;
#[doc(hidden)]
pub mod dataflow;

// Floor 3.
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod sql;

// Floor 4.
#[doc(hidden)]
pub mod engine;

// Floor 5.
#[doc(hidden)]
pub mod session;

// Floor 6.
#[doc(hidden)]
pub mod console;
#[doc(hidden)]
pub mod wire;

// The program around the rooms.
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod demo;
#[doc(hidden)]
pub mod script;
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod table;

pub use config::Config;
pub use engine::Engine;
pub use error::{SqlError, SqlState};
pub use functions::{register_aggregate, register_function};
pub use session::Session;

#[cfg(test)]
mod tidy;
