//! SQL functions and PostgreSQL's meaning of expressions: one DataFusion configuration for views and ad-hoc queries.

pub mod aggregate;
mod config;
mod context;
pub mod errors;
mod one_row;
mod system;
pub mod text;

pub use config::{analyzer_rules, register_all, session_config, session_state};
pub use context::{StatementContext, fix_context};
pub use one_row::only_row;
pub use system::{SystemFunctions, fix_system, system_functions};
