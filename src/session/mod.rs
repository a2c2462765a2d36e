//! One client's conversation with the engine: transactions, prepared statements, cursors, settings, COPY, and the
//! system catalogs. Knows no protocol bytes.
//!
//! `execute.rs` is the flat match over all statements; its arms call the files of the same names.

mod activity;
mod cancel;
mod change;
mod copy;
mod cursor;
mod describe;
mod execute;
mod explain;
mod outside;
mod prepared;
mod read;
mod response;
#[expect(clippy::module_inception, reason = "the room's one struct has the room's name")]
mod session;
mod settings;
mod show;
mod subscribe;
mod system;
mod transaction;
mod verify;

#[cfg(test)]
mod tests;

pub use activity::{Activity, cancel as cancel_backend, list as sessions};
pub use cancel::Canceller;
pub use copy::CopyIn;
pub use prepared::Description;
pub use response::{CopyOut, Response, RowStream};
pub use session::{Executed, Script, Session, SessionInfo};
pub use settings::SERVER_VERSION;

pub use crate::sql::{Notice, OutputColumn, Severity, remedy};
