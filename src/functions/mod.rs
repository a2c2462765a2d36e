//! SQL functions and PostgreSQL's meaning of expressions: one DataFusion configuration for views and ad-hoc queries.

pub mod aggregate;
mod careful;
mod clock;
mod config;
mod context;
mod deparse;
pub mod errors;
mod event_time;
mod library;
mod marks;
mod one_row;
mod or_empty;
mod ordered_set;
mod scalar;
mod session;
mod sized;
mod system;
pub mod text;
mod typing;
mod zoned;

pub use careful::{Names, careful, evaluate_rows};
pub use config::{
    analyzer_rules, function_names, is_function, is_window_function, register_aggregate, register_all,
    register_function, registered_aggregate, registered_function, session_config, session_state,
};
pub use context::{StatementContext, depends_on_session, fix_context};
pub use deparse::{Text, expression_text, physical_text, plain_words, sort_text};
pub use errors::{arrow_sql_error, friendly_types, sql_error};
pub use event_time::{Closing, closing_keys, constant_micros};
pub use marks::{ASOF, WINDOW_CLOSE, WITH_TIES};
pub use one_row::only_row;
pub use scalar::{canonical_value, is_canonical, window_end};
pub use system::{SystemFunctions, fix_system, system_functions};
pub use typing::{
    WRITTEN_CAST, assignment_cast, give_expression_types, give_types, least, series, wider_of, without_length,
};
pub use zoned::in_zone;
