//! Text and a catalog snapshot → [`Statement`]: pure, without clock and files.

mod alter;
mod asof;
mod assign;
mod ast;
mod bind;
mod copy;
mod ddl;
mod dialect;
#[cfg(test)]
mod dialect_tests;
mod dml;
mod emit;
mod errors;
mod explain;
mod expression;
mod foreign;
mod function;
mod grammar;
mod grammar_create;
mod grammar_session;
mod grouping_keys;
mod literal_rows;
mod named_windows;
mod names;
mod params;
mod parse;
mod pg_catalog;
mod place;
mod query;
mod remedy;
mod resolve;
mod rows;
mod rows_in;
mod session;
mod show;
mod source;
mod spelling;
mod statement;
mod subscribe;
mod system;
#[cfg(test)]
mod tests;
mod tokens;
mod types;
#[cfg(test)]
mod value_tests;
mod volatile;
mod watermark;
mod windows;
mod with_ties;

pub use bind::{BindContext, Nowhere, Outside, bind};
pub use params::{parameter_types, substitute};
pub use parse::{Parsed, parse};
pub use pg_catalog::rewrite_idioms;
pub use query::{TIME_ZONE, bind_definition};
pub use remedy::{explained, remedy};
pub use resolve::FILES_SCHEMA;
pub use show::{create_text, shown_option};
pub use statement::*;
pub use system::{SYSTEM_SCHEMAS, SystemRelation, is_always_empty, system_relation, system_relations};
