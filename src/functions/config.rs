//! The one DataFusion configuration: options, functions, and the rules that give plans PostgreSQL's meaning.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionConfig;

/// The options under which every statement is planned and run.
pub fn session_config() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema("headwater", "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = true;
    options.sql_parser.default_null_ordering = "nulls_max".to_string();
    options.execution.time_zone = Some("+00:00".to_string());
    config
}

/// A session state with everything registered; a copy of one that is built once.
pub fn session_state() -> SessionState {
    static STATE: LazyLock<SessionState> = LazyLock::new(|| {
        let mut state = SessionStateBuilder::new().with_config(session_config()).with_default_features().build();
        register_all(&mut state).expect("a fresh registry takes every function");
        state
    });
    STATE.clone()
}

/// Registers Headwater's functions over those of DataFusion that have the same names.
pub fn register_all(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for function in super::system_functions() {
        registry.register_udf(function)?;
    }
    // `generate_series(…)` gives rows; this is the array of the same values.
    registry.register_udf(Arc::new(gen_series_udf().as_ref().clone().with_aliases(["hw_series"])))?;
    registry.register_udf(super::clock::now_udf())?;
    for function in super::context::context_functions() {
        registry.register_udf(function)?;
    }
    for function in super::scalar::json_functions().into_iter().chain(super::typing::pending_functions()) {
        registry.register_udf(function)?;
    }
    for function in super::scalar::window_functions() {
        registry.register_udf(function)?;
    }
    for function in super::session::session_functions() {
        registry.register_udwf(function)?;
    }
    registry.register_expr_planner(Arc::new(super::typing::Operators))?;
    for function in super::aggregate::kept_aggregates() {
        registry.register_udaf(Arc::new(function))?;
    }
    Ok(())
}

/// The rules to run before DataFusion's own analyzer rules.
pub fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    Vec::new()
}

/// The names of all functions of any kind.
pub fn function_names() -> &'static BTreeSet<String> {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let state = session_state();
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let special = ["unnest", "grouping", "array"].map(str::to_string);
        names.chain(state.window_functions().keys()).cloned().chain(special).collect()
    });
    &NAMES
}
