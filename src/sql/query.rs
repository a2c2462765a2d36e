//! Queries: names resolved, planned, given PostgreSQL's types and column names.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, SubqueryAlias, col, lit};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use sqlparser::ast::{ObjectName, Query as SqlQuery, SetExpr, Statement as SqlStatement};

use super::asof::plan_asof_joins;
use super::bind::{BindContext, Nowhere};
use super::emit::{Written, plan_window_close};
use super::errors::{is_name_clash, missing_row, planning_error};
use super::names::shown;
use super::parse::parse_query;
use super::pg_catalog::rewrite_idioms;
use super::place::Places;
use super::resolve::{EXCEPT_ALL, INTERSECT_ALL, Purpose, Resolver};
use super::source::Provider;
use super::statement::{OutputColumn, Query};
use super::with_ties::plan_with_ties;
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::error::{SqlError, SqlResult};
use crate::functions;
use crate::zset::{PgType, RelationId};

/// Binds a query; its columns become `c0`, `c1`, ….
pub(super) fn bind_query(query: &SqlQuery, places: Option<&Places>, context: &BindContext<'_>) -> SqlResult<Query> {
    let planned = plan_query(query, places, context)?;
    finish(planned, context.catalog, "SELECT").map_err(|error| planning_error(&error, places))
}

/// Plans a query with the types that PostgreSQL gives its expressions.
pub(super) fn plan_query(
    query: &SqlQuery,
    places: Option<&Places>,
    context: &BindContext<'_>,
) -> SqlResult<LogicalPlan> {
    let provider = Provider::new(context);
    let attempt = |stars, rows: &[(String, Vec<String>)]| -> SqlResult<datafusion::error::Result<LogicalPlan>> {
        let mut query = query.clone();
        rewrite_idioms(&mut query);
        let mut resolver = Resolver::new(context, places, Purpose::Plan { stars });
        resolver.rows = rows.to_vec();
        resolver.resolve(&mut query)?;
        let parameters = context.parameter_types.iter().map(parameter_field).collect();
        let mut planner_context = PlannerContext::new().with_prepare_param_data_types(parameters);
        let statement = SqlStatement::Query(Box::new(query));
        Ok(SqlToRel::new(&provider).sql_statement_to_plan_with_context(statement, &mut planner_context))
    };
    let (mut rows, mut stars) = (Vec::new(), false);
    let planned = loop {
        match attempt(stars, &rows)? {
            // Wildcards brought a name twice. Tell all columns of such lists apart and plan again.
            Err(error) if !stars && is_name_clash(&error) => stars = true,
            // The name of a table stands for its row.
            Err(error) => match missing_row(&error).filter(|(name, _)| !rows.iter().any(|(row, _)| row == name)) {
                Some(row) => rows.push(row),
                None => break Err(error),
            },
            planned => break planned,
        }
    };
    let planned = planned.map_err(|error| planning_error(&error, places)).and_then(refuse_windows)?;
    let typed = as_multisets(planned)
        .and_then(plan_with_ties)
        .and_then(|plan| plan_window_close(plan, context))
        .and_then(functions::give_types)
        .and_then(plan_asof_joins);
    typed.map_err(|error| planning_error(&error, places))
}

/// Window functions are computed behind WHERE, GROUP BY and HAVING.
fn refuse_windows(plan: LogicalPlan) -> SqlResult<LogicalPlan> {
    let mut clause = None;
    let visited = plan.apply_with_subqueries(|node| {
        let name = match node {
            LogicalPlan::Filter(_) => "WHERE",
            LogicalPlan::Join(_) => "JOIN conditions",
            LogicalPlan::Aggregate(_) => "GROUP BY",
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        let found = node
            .expressions()
            .iter()
            .any(|expression| expression.exists(|part| Ok(matches!(part, Expr::WindowFunction(_)))).unwrap_or(false));
        clause = clause.or(found.then_some(name));
        Ok(TreeNodeRecursion::Continue)
    });
    visited.expect("visiting a plan does not fail");
    match clause {
        None => Ok(plan),
        Some(clause) => {
            let message = format!("window functions are not allowed in {clause}");
            Err(SqlError::new(crate::error::SqlState(*b"42P20"), message).hint(super::errors::WINDOW_HINT))
        }
    }
}

pub(super) fn parameter_field(kind: &Option<PgType>) -> Option<FieldRef> {
    kind.as_ref().map(|kind| Arc::new(kind.field("", true)))
}

/// The plan with columns `c0`, `c1`, … of exactly the types of the output columns.
pub(super) fn finish(plan: LogicalPlan, catalog: &Catalog, tag: &'static str) -> datafusion::error::Result<Query> {
    let columns = output_columns(&plan);
    let expressions = columns.iter().enumerate().map(|(i, column)| {
        let expression = Expr::Column(plan.schema().columns()[i].clone());
        as_type(expression, &column.pg_type, plan.schema()).alias(format!("c{i}"))
    });
    let expressions = expressions.collect::<Vec<_>>();
    let reads = tables_read(&plan, catalog);
    let plan = LogicalPlanBuilder::from(plan).project(expressions)?.build()?;
    Ok(Query { plan, columns, reads, tag })
}

pub(super) fn output_columns(plan: &LogicalPlan) -> Vec<OutputColumn> {
    let fields = plan.schema().fields().iter();
    let columns =
        fields.map(|field| OutputColumn { name: visible(field.name()).to_string(), pg_type: PgType::of(field) });
    columns.collect()
}

/// The name without our mark and without DataFusion's `:1` for repeated names of a derived table.
fn visible(name: &str) -> &str {
    let name = shown(name);
    match name.rsplit_once(':') {
        Some((base, number))
            if !base.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            base
        }
        _ => name,
    }
}

/// The expression with exactly a type's field; untouched if it has it.
pub(super) fn as_type(expression: Expr, kind: &PgType, schema: &datafusion::common::DFSchema) -> Expr {
    let wanted = kind.field("", true);
    let same = expression
        .to_field(schema)
        .is_ok_and(|(_, field)| field.data_type() == wanted.data_type() && PgType::of(&field) == *kind);
    match same {
        true => expression,
        false => Expr::Cast(Cast::new_from_field(Box::new(expression), Arc::new(wanted))),
    }
}

/// The catalog's relations that a plan scans, each once.
fn tables_read(plan: &LogicalPlan, catalog: &Catalog) -> Vec<RelationId> {
    let mut reads = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(schema) = scan.table_name.schema()
            && let Some(relation) = catalog.named(schema, scan.table_name.table())
            && !reads.contains(&relation.id)
        {
            reads.push(relation.id);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.expect("visiting a plan does not fail");
    reads
}

/// The option of a materialized view that holds the time zone of the session that created it, if that was not UTC.
pub const TIME_ZONE: &str = "time_zone";

/// The query of a relation whose definition is a query: view, materialized view, sink. Used when a relation is created
/// and at recovery.
pub fn bind_definition(relation: &Relation, catalog: &Catalog) -> SqlResult<Query> {
    let context = BindContext { catalog, search_path: &[], parameter_types: &[], outside: &Nowhere };
    let query = parse_query(&relation.definition)?;
    let planned = plan_query(&query, None, &context)?;
    let mut query = finish(planned, catalog, "SELECT").map_err(|error| planning_error(&error, None))?;
    let unchanged = query.columns.iter().map(|c| &c.pg_type).eq(relation.columns.iter().map(|c| &c.pg_type));
    if !unchanged && !relation.columns.is_empty() {
        query.plan = cast_columns(query.plan, relation)?;
    }
    if relation.kind != RelationKind::View {
        let zone = relation.options.get(TIME_ZONE).map_or("UTC", String::as_str);
        query.plan = functions::in_zone(query.plan, zone).map_err(|error| planning_error(&error, None))?;
    }
    for (output, column) in query.columns.iter_mut().zip(&relation.columns) {
        output.pg_type = column.pg_type.clone();
        output.name.clone_from(&column.name);
    }
    Ok(query)
}

/// The plan's columns cast to those of the relation, under their positions' names.
fn cast_columns(plan: LogicalPlan, relation: &Relation) -> SqlResult<LogicalPlan> {
    let schema = plan.schema().clone();
    let columns = relation.columns.iter().zip(schema.columns()).enumerate();
    let expressions =
        columns.map(|(i, (column, from))| as_type(Expr::Column(from), &column.pg_type, &schema).alias(format!("c{i}")));
    let expressions = expressions.collect::<Vec<_>>();
    let built = LogicalPlanBuilder::from(plan).project(expressions).and_then(LogicalPlanBuilder::build);
    built.map_err(|error| planning_error(&error, None))
}

/// A view's query with the view's column names, to stand in place of its name.
pub(super) fn view_plan(relation: &Relation, context: &BindContext<'_>) -> SqlResult<LogicalPlan> {
    let query = bind_definition(relation, context.catalog)?;
    let names = relation.columns.iter().enumerate();
    let expressions = names.map(|(i, column)| col(format!("c{i}")).alias(&column.name)).collect::<Vec<_>>();
    let built = LogicalPlanBuilder::from(query.plan).project(expressions).and_then(LogicalPlanBuilder::build);
    built.map_err(|error| planning_error(&error, None))
}

/// The query as text that means the same under every search path, and the relations it reads.
pub(super) fn as_definition(
    query: &SqlQuery,
    places: &Places,
    context: &BindContext<'_>,
) -> SqlResult<(String, Vec<RelationId>)> {
    let mut query = query.clone();
    rewrite_idioms(&mut query);
    let mut resolver = Resolver::new(context, Some(places), Purpose::Text);
    resolver.resolve(&mut query)?;
    Ok((Written(&query).to_string(), resolver.reads))
}

/// `SELECT … INTO name`: the name, and the query without it.
pub(super) fn select_into(query: &SqlQuery) -> Option<(ObjectName, SqlQuery)> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let name = select.into.as_ref()?.name.clone();
    let mut query = query.clone();
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.into = None;
    }
    Some((name, query))
}

/// Plans the unions that stand for EXCEPT ALL and INTERSECT ALL: the copies of each row are counted on both sides, and
/// the row repeated as often as the operation says.
fn as_multisets(plan: LogicalPlan) -> datafusion::error::Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::SubqueryAlias(alias) if alias.alias.table() == EXCEPT_ALL => count_copies(alias, true),
        LogicalPlan::SubqueryAlias(alias) if alias.alias.table() == INTERSECT_ALL => count_copies(alias, false),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

fn count_copies(alias: SubqueryAlias, except: bool) -> datafusion::error::Result<Transformed<LogicalPlan>> {
    use datafusion::functions_aggregate::expr_fn::sum;
    let LogicalPlan::Union(union) = alias.input.as_ref() else {
        return Ok(Transformed::no(LogicalPlan::SubqueryAlias(alias)));
    };
    let names: Vec<String> = alias.schema.fields().iter().map(|field| field.name().clone()).collect();
    let side = |index: usize| {
        let input = union.inputs[index].as_ref().clone();
        let columns = input.schema().columns().into_iter().zip(&names);
        let mut expressions: Vec<Expr> = columns.map(|(column, name)| Expr::Column(column).alias(name)).collect();
        expressions.push(lit(i64::from(index == 0)).alias("hw left"));
        expressions.push(lit(i64::from(index == 1)).alias("hw right"));
        LogicalPlanBuilder::from(input).project(expressions)?.build()
    };
    let quoted = |name: &str| Expr::Column(datafusion::common::Column::new_unqualified(name));
    let both = LogicalPlanBuilder::from(side(0)?).union(side(1)?)?;
    let counts = [sum(quoted("hw left")).alias("hw lefts"), sum(quoted("hw right")).alias("hw rights")];
    let counted = both.aggregate(names.iter().map(|name| quoted(name)), counts)?;
    let (left, right) = (quoted("hw lefts"), quoted("hw rights"));
    let copies = match except {
        true => left - right,
        false => functions::least(vec![left, right]),
    };
    let mut expressions: Vec<Expr> = names.iter().map(|name| quoted(name)).collect();
    expressions.push(functions::series(lit(1_i64), copies).alias("hw copies"));
    let repeated = counted.project(expressions)?.unnest_column("hw copies")?;
    let plan =
        repeated.project(names.iter().map(|name| quoted(name)).collect::<Vec<_>>())?.alias(alias.alias.clone())?;
    Ok(Transformed::yes(plan.build()?))
}

/// Refuses what a view cannot keep up to date.
pub(super) fn check_definition(query: &Query) -> SqlResult<()> {
    match query.plan.get_parameter_names() {
        Ok(names) if !names.is_empty() => {
            Err(SqlError::new(crate::error::SqlState::UNDEFINED_PARAMETER, "views cannot have parameters")
                .hint("Write the value in place of the parameter."))
        }
        _ => Ok(()),
    }
}
