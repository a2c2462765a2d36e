//! Text and a catalog snapshot → [`Statement`]: pure, without clock and files.

mod parse;
mod pg_catalog;
mod statement;
mod system;

pub use parse::Parsed;
pub use pg_catalog::rewrite_idioms;
pub use statement::*;
pub use system::{SYSTEM_SCHEMAS, SystemRelation, is_always_empty, system_relation, system_relations};
