//! PostgreSQL's wire protocol, version 3: bytes of a client ↔ calls of a [`crate::session::Session`].
//!
//! pgwire gives the messages and their layout; the cycle of a connection is this room's own, because rows have to leave
//! as they come, a portal must not gather its result, and a column is encoded as a whole. One task serves one connection
//! and owns its session. Nothing here knows of tables or steps.

mod connection;
mod copy;
mod decode;
mod encode;
mod extended;
mod server;
mod simple;
mod sqlstate;
mod startup;

pub use server::{OpenSession, Wire, WireOptions, serve};
