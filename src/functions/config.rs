//! The one DataFusion configuration: options, functions, and the rules that give plans PostgreSQL's meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, RwLock};

use datafusion::error::Result;
use datafusion::execution::SessionState;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
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
    registry.register_udf(super::or_empty::or_empty())?;
    for function in super::ordered_set::ordered_set_functions() {
        registry.register_udf(function)?;
    }
    registry.register_udf(super::clock::now_udf())?;
    for function in super::marks::marks() {
        registry.register_udf(function)?;
    }
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
    for function in super::sized::sized_functions() {
        registry.register_udf(function)?;
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
pub fn function_names() -> BTreeSet<String> {
    let registered = REGISTERED.read().expect("no holder of the functions panics");
    let own = registered.scalar.keys().chain(registered.aggregate.keys()).cloned();
    built_in_names().iter().cloned().chain(own).collect()
}

/// Whether a function of any kind has the name.
pub fn is_function(name: &str) -> bool {
    let registered = || {
        let registered = REGISTERED.read().expect("no holder of the functions panics");
        registered.scalar.contains_key(name) || registered.aggregate.contains_key(name)
    };
    built_in_names().contains(name) || registered()
}

/// Whether a function needs OVER: one of the ranking and value functions.
pub fn is_window_function(name: &str) -> bool {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let state = session_state();
        let names = state.window_functions().keys();
        names.filter(|name| !state.aggregate_functions().contains_key(*name)).cloned().collect()
    });
    NAMES.contains(name)
}

fn built_in_names() -> &'static BTreeSet<String> {
    static NAMES: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let state = session_state();
        let names = state.scalar_functions().keys().chain(state.aggregate_functions().keys());
        let special = ["unnest", "grouping", "array"].map(str::to_string);
        names.chain(state.window_functions().keys()).cloned().chain(special).collect()
    });
    &NAMES
}

#[derive(Default)]
struct Registered {
    scalar: BTreeMap<String, Arc<ScalarUDF>>,
    aggregate: BTreeMap<String, Arc<AggregateUDF>>,
}

/// The functions of the program around the engine.
static REGISTERED: LazyLock<RwLock<Registered>> = LazyLock::new(RwLock::default);

/// Makes a function of DataFusion known to SQL under its name, in queries and in views.
///
/// It is there for every engine of the process from now on. Views that use it need it again at the next start, so
/// register before the engine starts. A function that is volatile is refused in views.
pub fn register_function(function: ScalarUDF) {
    let mut registered = REGISTERED.write().expect("no holder of the functions panics");
    registered.scalar.insert(function.name().to_lowercase(), Arc::new(function));
}

/// The same for an aggregate. In a view the groups that a step touches are computed anew.
pub fn register_aggregate(function: AggregateUDF) {
    let mut registered = REGISTERED.write().expect("no holder of the functions panics");
    registered.aggregate.insert(function.name().to_lowercase(), Arc::new(function));
}

/// A function that was registered.
pub fn registered_function(name: &str) -> Option<Arc<ScalarUDF>> {
    REGISTERED.read().expect("no holder of the functions panics").scalar.get(name).cloned()
}

/// An aggregate that was registered.
pub fn registered_aggregate(name: &str) -> Option<Arc<AggregateUDF>> {
    REGISTERED.read().expect("no holder of the functions panics").aggregate.get(name).cloned()
}
