//! Operators over deltas, and the workers that host them on Timely Dataflow.
//!
//! Outside this room nobody says a word of Timely; inside, only `exchange`, `host` and `worker` do.

mod check;
#[cfg(test)]
mod cluster_tests;
mod command;
mod exchange;
mod expr;
mod graph;
mod host;
#[cfg(test)]
mod hosted_law;
mod install;
#[cfg(test)]
mod law;
mod operator;
pub mod operators;
mod output;
mod stage;
mod tap;
#[cfg(test)]
mod tests;
mod worker;

pub use check::guarded;
pub use command::{Command, Install, Place, RelationChange, Report, SavedPart, Start};
pub use expr::{Evaluated, Predicate, Scalars};
pub use graph::{Edge, Graph, MakeOperator, Node, NodeKind, OperatorRecipe, Route};
pub use operator::{Class, Held, Mapped, Operator, StatePart};
pub use worker::Workers;
