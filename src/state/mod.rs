//! Arrangements: Z-sets kept by key hash, in memory and mapped from disk.

mod arrangement;
mod ipc;
mod key;
mod run;
mod snapshot;
mod split;

pub use arrangement::Arrangement;
pub use ipc::StateError;
pub use key::KeyMatcher;
pub use run::Run;
pub use snapshot::{Matches, Snapshot};
pub use split::{range_of, worker_of};
