//! Arrangements: Z-sets kept by key hash, in memory and mapped from disk.
//!
//! An [`Arrangement`] is a few immutable [`Run`]s, each sorted by the 64-bit hash of the key, and the merging of them.
//! The hash is the one order for routing ([`worker_of`]), finding, storing ([`RunFiles`]) and splitting
//! ([`Run::slice`]). Readers hold a [`Snapshot`] and never wait.

mod arrangement;
mod checkpoint;
mod combine;
mod directory;
mod gather;
mod ipc;
mod key;
mod merge;
mod probe;
mod run;
mod snapshot;
mod spine;
mod split;
mod touched;

#[cfg(test)]
mod tests;

pub use arrangement::Arrangement;
pub use checkpoint::{RunFile, RunFiles};
pub use ipc::StateError;
pub use key::KeyMatcher;
pub use run::Run;
pub use snapshot::{Matches, Snapshot};
pub use split::{range_of, worker_of};
pub use touched::{touch, touched};
