//! The normal form of plans: what lowering, recompute and ad-hoc runs agree on before they part.
//!
//! Only rules that hold for a relation that changes: none looks at statistics or at what a relation holds now, and
//! `now()` stays a call unless the caller put a constant for it.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use datafusion::common::alias::AliasGenerator;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionState;
use datafusion::execution::registry::FunctionRegistry;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::eliminate_limit::EliminateLimit;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::filter_null_join_keys::FilterNullJoinKeys;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;

use super::decorrelate::Decorrelate;
use super::guard;
use super::keys;
use super::not_in::CorrelatedNotIn;
use super::null_safe::{EqualKeys, NullSafeAsCondition, NullSafeAsKeys};
use super::subquery::{OneRow, TruthValue};
use super::ties;
use crate::error::SqlResult;
use crate::functions;
use crate::functions::errors::sql_error;

/// Brings a bound plan into normal form. Doing it twice changes nothing more.
pub fn normalize(plan: LogicalPlan) -> SqlResult<LogicalPlan> {
    normalize_in(state(), plan).map_err(|error| sql_error(&error))
}

pub(super) fn normalize_in(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    // Names of its own for each plan, so that EXPLAIN shows the same text each time.
    let surroundings = Surroundings { state, aliases: Arc::default() };
    let plan = guard::settle(state.optimizer().optimize(plan, &surroundings, |_, _| {})?)?;
    ties::settle(keys::settle(plan)?)
}

/// Optimizes a part of a plan that is in normal form already, so that the analyzer must not see it again.
pub(super) fn optimize_in(state: &SessionState, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
    state.optimizer().optimize(plan, state, |_, _| {})
}

struct Surroundings<'a> {
    state: &'a SessionState,
    aliases: Arc<AliasGenerator>,
}

impl OptimizerConfig for Surroundings<'_> {
    /// Without it no rule puts a constant for `now()`.
    fn query_execution_start_time(&self) -> Option<DateTime<Utc>> {
        None
    }

    fn alias_generator(&self) -> &Arc<AliasGenerator> {
        &self.aliases
    }

    fn options(&self) -> Arc<ConfigOptions> {
        self.state.config_options().clone()
    }

    fn function_registry(&self) -> Option<&dyn FunctionRegistry> {
        Some(self.state)
    }
}

/// DataFusion with Headwater's functions and rules, and one partition: the state in which views are planned and run.
pub(super) fn state() -> &'static SessionState {
    static STATE: LazyLock<SessionState> = LazyLock::new(|| {
        let mut state = SessionStateBuilder::new_from_existing(functions::session_state())
            .with_analyzer_rules(analyzer_rules())
            .with_optimizer_rules(optimizer_rules())
            .with_physical_optimizer_rules(physical_optimizer_rules())
            .build();
        let options = state.config_mut().options_mut();
        options.execution.target_partitions = 1;
        options.optimizer.filter_null_join_keys = true;
        // A guarded expression may be NULL in the physical plan where the logical one knows that it is not.
        options.execution.skip_physical_aggregate_schema_check = true;
        state
    });
    &STATE
}

fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let first: [Arc<dyn AnalyzerRule + Send + Sync>; 3] =
        [Arc::new(TruthValue), Arc::new(OneRow), Arc::new(Decorrelate)];
    first.into_iter().chain(functions::analyzer_rules()).chain(Analyzer::new().rules).collect()
}

/// DataFusion's own list with `ProjectionPushdown` run once, at the end. A second run would swap a projection with a
/// filter that already carries a projection from the first, and then read other columns than meant.
fn physical_optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let rules = PhysicalOptimizer::new().rules;
    let pushes = |rule: &Arc<dyn PhysicalOptimizerRule + Send + Sync>| rule.name() == ProjectionPushdown::new().name();
    let last = rules.iter().rposition(pushes);
    let kept = rules.into_iter().enumerate().filter(|(index, rule)| !pushes(rule) || Some(*index) == last);
    kept.map(|(_, rule)| rule).collect()
}

/// DataFusion's own list in its order without: `push_down_limit` (a limit below a union or join is wrong for deltas),
/// `single_distinct_aggregation_to_group_by` (our aggregates know DISTINCT), `propagate_empty_relation` (of a union with
/// one side left it keeps the name of the side that went), those for subqueries, which [`Decorrelate`] does before, and
/// those that only help execution by DataFusion. `extract_equijoin_predicate` would mix `=` with keys of which NULL
/// equals NULL.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        Arc::new(NullSafeAsCondition),
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(EliminateJoin::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(CorrelatedNotIn),
        Arc::new(EqualKeys),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateLimit::new()),
        Arc::new(FilterNullJoinKeys::default()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(EliminateGroupByConstant::new()),
        Arc::new(OptimizeProjections::new()),
        Arc::new(NullSafeAsKeys),
    ]
}
