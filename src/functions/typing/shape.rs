//! Nodes of a plan that must have another shape before, or while, their expressions are typed.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, GroupingSet};
use datafusion::logical_expr::{
    Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, RecursiveQuery, TableScan, TableScanBuilder,
};

use super::WRITTEN_CAST;
use super::casts::cast_to;
use super::literals::{Operand, wider};
use super::operators::plain;
use crate::error::{SqlError, SqlState};
use crate::functions::scalar::carry;
use crate::zset::PgType;

/// `WITH RECURSIVE`: the first term has its types before the second is typed, which reads what the first gives.
pub(super) fn recursive(query: RecursiveQuery) -> Result<RecursiveQuery> {
    let RecursiveQuery { name, static_term, recursive_term, is_distinct, .. } = query;
    let first = marked(super::type_plan(Arc::unwrap_or_clone(static_term))?)?;
    // What the second term gives may be NULL where the first is not.
    let fields = first.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let second = Arc::unwrap_or_clone(recursive_term).transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) if scan.table_name.table() == name => {
            let source = provider_as_source(Arc::new(CteWorkTable::new(&name, schema.clone())));
            let TableScan { table_name, projection, filters, fetch, .. } = scan;
            let scan = TableScanBuilder::new(table_name, source).with_projection(projection).with_filters(filters);
            scan.with_fetch(fetch).build().map(|scan| Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let second = super::type_plan(without_planner_casts(second.data)?)?;
    let second = as_first(second, &first, &name)?;
    RecursiveQuery::try_new(name, Arc::new(first), Arc::new(second), is_distinct)
}

/// The planner casts the columns of the second term to what it took for the types of the first.
fn without_planner_casts(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(plan) };
    let columns = projection.expr.into_iter().map(|column| {
        let (relation, name) = column.qualified_name();
        let plain = match column.unalias() {
            Expr::Cast(Cast { expr, field }) if field.name() != WRITTEN_CAST => *expr,
            other => other,
        };
        plain.alias_qualified(relation, name)
    });
    LogicalPlanBuilder::from(Arc::unwrap_or_clone(projection.input)).project(columns.collect::<Vec<_>>())?.build()
}

/// Every column with the mark of its type, which constants have and computed values lack: both terms must be alike.
fn marked(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().zip(plan.schema().fields());
    let expressions = columns.map(|(column, field)| exactly(Expr::Column(column), &PgType::of(field), field.name()));
    let expressions = expressions.collect::<Vec<_>>();
    LogicalPlanBuilder::from(plan).project(expressions)?.build()
}

/// The expression with exactly the field of a type: an alias with metadata is lost where a plan is simplified.
fn exactly(expression: Expr, kind: &PgType, name: &str) -> Expr {
    let field = Arc::new(kind.field(WRITTEN_CAST, true));
    Expr::Cast(Cast::new_from_field(Box::new(expression), field)).alias(name)
}

/// The second term with the types and names of the first.
fn as_first(second: LogicalPlan, first: &LogicalPlan, name: &str) -> Result<LogicalPlan> {
    let schema = second.schema().clone();
    let mut expressions = Vec::new();
    let fields = first.schema().fields();
    if fields.len() != schema.fields().len() {
        return Ok(second);
    }
    for (index, (column, field)) in schema.columns().into_iter().zip(fields).enumerate() {
        let wanted = PgType::of(field);
        let operand = Operand::new(Expr::Column(column), &schema)?;
        let given = operand.kind.clone().unwrap_or(PgType::Text);
        if plain(&given) != plain(&wanted) && wider(&given, &wanted).as_ref().map(plain) != Some(plain(&wanted)) {
            let (wanted, given) = (plain(&wanted), plain(&given));
            let message = format!(
                "recursive query \"{name}\" column {} has type {wanted} in non-recursive term but type {given} overall",
                index + 1
            );
            return Err(carry(
                SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                    .hint("Cast the output of the non-recursive term to the correct type."),
            ));
        }
        expressions.push(exactly(cast_to(operand, &wanted)?, &wanted, field.name()));
    }
    LogicalPlanBuilder::from(second).project(expressions)?.build()
}

/// GROUP BY ROLLUP (x % 2): the keys are computed below, so that they keep their names when they are typed.
pub(super) fn plain_grouping_sets(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = node else { return Ok(Transformed::no(node)) };
    let [Expr::GroupingSet(set)] = aggregate.group_expr.as_slice() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let mut computed: Vec<Expr> = Vec::new();
    for key in set.distinct_expr() {
        if !matches!(key, Expr::Column(_)) && !computed.contains(key) {
            computed.push(key.clone());
        }
    }
    if computed.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let name = |key: &Expr| match key {
        Expr::Column(_) => key.clone(),
        other => Expr::Column(datafusion::common::Column::new_unqualified(other.schema_name().to_string())),
    };
    let all = |keys: &[Expr]| keys.iter().map(name).collect::<Vec<_>>();
    let set = match set {
        GroupingSet::Rollup(keys) => GroupingSet::Rollup(all(keys)),
        GroupingSet::Cube(keys) => GroupingSet::Cube(all(keys)),
        GroupingSet::GroupingSets(sets) => GroupingSet::GroupingSets(sets.iter().map(|keys| all(keys)).collect()),
    };
    let own = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let named = computed.iter().map(|key| key.clone().alias(key.schema_name().to_string()));
    let columns: Vec<Expr> = own.chain(named).collect();
    let input = LogicalPlanBuilder::from(aggregate.input.as_ref().clone()).project(columns)?.build()?;
    let LogicalPlan::Projection(projection) = input else {
        return Err(carry(SqlError::internal("a projection was built")));
    };
    // Its own expressions are typed here, because the walk has passed below already.
    let input = super::type_node(LogicalPlan::Projection(projection))?.data;
    let set = vec![Expr::GroupingSet(set)];
    Aggregate::try_new(Arc::new(input), set, aggregate.aggr_expr)
        .map(|aggregate| Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}
