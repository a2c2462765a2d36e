//! INSERT, UPDATE, DELETE, TRUNCATE as plans that give the rows to add and take away.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Column as PlanColumn, DFSchema, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Delete as SqlDelete, DoUpdate, Expr as SqlExpr, FromTable, Ident,
    Insert as SqlInsert, ObjectName, OnConflictAction, OnInsert, Query as SqlQuery, SelectItem, SetExpr, Spanned,
    Statement as SqlStatement, TableFactor, TableObject, TableWithJoins, Truncate as SqlTruncate, Update as SqlUpdate,
    UpdateTableFromKind, With,
};

use super::assign::{assigned, assigned_column};
use super::bind::BindContext;
use super::ddl::{at, find, wrong_kind};
use super::errors::planning_error;
use super::expression::{Scope, bind_expression};
use super::grammar::fold;
use super::literal_rows::literal_rows;
use super::parse::{Parsed, parse_expression, parse_query};
use super::query::{as_type, plan_query};
use super::resolve::ROOT;
use super::source::Stored;
use super::statement::{
    CHANGED, CONFLICTS, Conflict, Delete, Insert, InsertRows, OutputColumn, ROWS_SCHEMA, Returning, Statement,
    Truncate, Update,
};
use crate::catalog::{Catalog, Column, Relation, RelationKind, quote_name};
use crate::error::{SqlError, SqlResult, SqlState};

/// The table that a statement changes.
fn target<'a>(
    verb: &str,
    name: &ObjectName,
    parsed: &Parsed,
    context: &BindContext<'a>,
) -> SqlResult<&'a Arc<Relation>> {
    let place = |error| at(parsed, name.span(), error);
    let found = find(name, parsed, context)?;
    context.catalog.check_user_schema(&found.schema).map_err(place)?;
    match found.kind {
        RelationKind::Table => Ok(found),
        RelationKind::Index => Err(place(wrong_kind(found, RelationKind::Table))),
        kind => {
            let message = format!("cannot {verb} {kind} \"{}\"", found.name);
            let error = SqlError::new(SqlState::WRONG_OBJECT_TYPE, message);
            Err(place(error.hint(format!("Only tables are changed by statements; a {kind} follows from its inputs."))))
        }
    }
}

fn refuse_append_only(verb: &str, table: &Relation) -> SqlResult<()> {
    match table.append_only {
        false => Ok(()),
        true => Err(SqlError::new(
            SqlState::OBJECT_NOT_IN_STATE,
            format!("cannot {verb} table \"{}\" because it is APPEND ONLY", table.name),
        )
        .hint("Create the table without APPEND ONLY.")),
    }
}

/// The table's column of a name.
fn column_index(table: &Relation, ident: &Ident, parsed: &Parsed) -> SqlResult<usize> {
    let name = fold(ident);
    table.column(&name).ok_or_else(|| at(parsed, ident.span, Catalog::column_not_found(table, &name)))
}

/// `WITH … INSERT`, `UPDATE` or `DELETE`.
pub(super) fn with_queries(
    with: Option<&With>,
    change: &SqlStatement,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Statement> {
    match change {
        SqlStatement::Insert(given) => {
            let mut given = given.clone();
            if let (Some(source), Some(outer)) = (&mut given.source, with) {
                let mut all = outer.clone();
                all.cte_tables.extend(source.with.take().into_iter().flat_map(|with| with.cte_tables));
                source.with = Some(all);
            }
            insert(&given, parsed, context)
        }
        SqlStatement::Update(given) => update(given, with, parsed, context),
        SqlStatement::Delete(given) => delete(given, with, parsed, context),
        other => Err(SqlError::unsupported(
            format!("{other} behind WITH is not supported"),
            "Write the WITH queries as subqueries, or as views.",
        )),
    }
}

pub(super) fn insert(insert: &SqlInsert, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "INSERT INTO needs the name of a table"));
    };
    let table = target("insert into", name, parsed, context)?;
    let columns = insert_columns(insert, table, parsed)?;
    let rows = match &insert.source {
        None => InsertRows::Plan(default_row(table, context)?),
        Some(query) => insert_rows(query, table, &columns, !insert.columns.is_empty(), parsed, context)?,
    };
    let alias = insert.table_alias.as_ref().map(|alias| fold(&alias.alias));
    let conflict = match &insert.on {
        None => None,
        Some(on) => Some(conflict(on, table, alias.as_deref(), parsed, context)?),
    };
    let returning = match &insert.returning {
        None => None,
        Some(items) => Some(returning(items, table, alias.as_deref(), parsed, context)?),
    };
    Ok(Statement::Insert(Insert { table: table.clone(), rows, conflict, returning }))
}

/// The columns that the rows give, in the rows' order.
fn insert_columns(insert: &SqlInsert, table: &Relation, parsed: &Parsed) -> SqlResult<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    let mut columns = Vec::new();
    for name in &insert.columns {
        let Some(ident) = name.0.last().and_then(|part| part.as_ident()) else { continue };
        let index = column_index(table, ident, parsed)?;
        if columns.contains(&index) {
            let message = format!("column \"{}\" specified more than once", fold(ident));
            return Err(at(parsed, ident.span, SqlError::new(SqlState::DUPLICATE_COLUMN, message)));
        }
        columns.push(index);
    }
    Ok(columns)
}

fn insert_rows(
    query: &SqlQuery,
    table: &Relation,
    columns: &[usize],
    listed: bool,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<InsertRows> {
    if let Some(rows) = literal_rows(query, table, columns, listed, parsed)? {
        return Ok(InsertRows::Batch(rows));
    }
    let query = with_parameter_types(query, table, columns, context)?;
    let planned = plan_query(&query, Some(&parsed.places), context)?;
    let width = planned.schema().fields().len();
    if width > columns.len() {
        return Err(at(
            parsed,
            query.span(),
            SqlError::new(SqlState::SYNTAX_ERROR, "INSERT has more expressions than target columns"),
        ));
    }
    if width < columns.len() && listed {
        return Err(at(
            parsed,
            query.span(),
            SqlError::new(SqlState::SYNTAX_ERROR, "INSERT has more target columns than expressions"),
        ));
    }
    let given = &columns[..width];
    let schema = planned.schema().clone();
    let mut expressions = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let expression = match given.iter().position(|other| *other == index) {
            Some(position) => assigned_column(&planned, position, column)?,
            None => default(column, context)?,
        };
        expressions.push(as_type(expression, &column.pg_type, &schema).alias(format!("n{index}")));
    }
    let plan = LogicalPlanBuilder::from(planned).project(expressions).and_then(LogicalPlanBuilder::build);
    Ok(InsertRows::Plan(plan.map_err(|error| planning_error(&error, Some(&parsed.places)))?))
}

/// VALUES with `$n` and DEFAULT: parameters get their column's type, DEFAULT its expression.
fn with_parameter_types(
    query: &SqlQuery,
    table: &Relation,
    columns: &[usize],
    context: &BindContext<'_>,
) -> SqlResult<SqlQuery> {
    let mut query = query.clone();
    let cells: Vec<(usize, &mut SqlExpr)> = match query.body.as_mut() {
        SetExpr::Values(values) => values.rows.iter_mut().flat_map(|row| row.content.iter_mut().enumerate()).collect(),
        SetExpr::Select(select) => {
            let items = select.projection.iter_mut().enumerate();
            items
                .filter_map(|(i, item)| match item {
                    SelectItem::UnnamedExpr(expression) => Some((i, expression)),
                    _ => None,
                })
                .collect()
        }
        _ => Vec::new(),
    };
    for (position, cell) in cells {
        let Some(column) = columns.get(position).map(|index| &table.columns[*index]) else { continue };
        prepare_cell(cell, column, context)?;
    }
    Ok(query)
}

/// A value to be assigned: a bare parameter takes the column's type, DEFAULT the column's expression.
fn prepare_cell(cell: &mut SqlExpr, column: &Column, _context: &BindContext<'_>) -> SqlResult<()> {
    if is_default(cell) {
        let text = column.default.as_deref().unwrap_or("NULL");
        *cell = parse_expression(&format!("CAST(({text}) AS {})", column.pg_type))?;
    } else if let SqlExpr::Value(value) = cell
        && let sqlparser::ast::Value::Placeholder(parameter) = &value.value
    {
        *cell = parse_expression(&format!("CAST({parameter} AS {})", column.pg_type))?;
    }
    Ok(())
}

pub(super) fn is_default(expression: &SqlExpr) -> bool {
    matches!(expression, SqlExpr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// A column's DEFAULT, else NULL.
fn default(column: &Column, context: &BindContext<'_>) -> SqlResult<Expr> {
    let Some(text) = &column.default else {
        return Ok(Expr::Literal(datafusion::scalar::ScalarValue::Null, None));
    };
    let expression = parse_expression(text)?;
    let bound = bind_expression(&expression, &Scope::empty(), None, context)?;
    assigned(bound, &DFSchema::empty(), column)
}

/// Refuses a DEFAULT that could not be stored.
pub(super) fn check_default(
    expression: &SqlExpr,
    column: &Column,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<()> {
    let bound = bind_expression(expression, &Scope::empty(), Some(&parsed.places), context);
    let bound = bound.map_err(|error| match error.code {
        SqlState::UNDEFINED_COLUMN => {
            let message = "cannot use column reference in DEFAULT expression";
            let error = SqlError { message: message.to_string(), code: SqlState::FEATURE_NOT_SUPPORTED, ..error };
            error.hint("Write a constant or a function; a text constant stands in single quotes.")
        }
        _ => error,
    })?;
    assigned(bound, &DFSchema::empty(), column).map(|_| ())
}

fn one_row() -> LogicalPlanBuilder {
    LogicalPlanBuilder::empty(true)
}

/// One row of defaults.
fn default_row(table: &Relation, context: &BindContext<'_>) -> SqlResult<LogicalPlan> {
    let all: Vec<usize> = (0..table.columns.len()).collect();
    defaults(table, &all, context)
}

/// One row with the defaults of some columns, under their own names.
pub(super) fn defaults(table: &Relation, columns: &[usize], context: &BindContext<'_>) -> SqlResult<LogicalPlan> {
    let mut expressions = Vec::new();
    for index in columns {
        let column = &table.columns[*index];
        let expression = as_type(default(column, context)?, &column.pg_type, &DFSchema::empty());
        expressions.push(expression.alias(&column.name));
    }
    let plan = one_row().project(expressions).and_then(LogicalPlanBuilder::build);
    plan.map_err(|error| planning_error(&error, None))
}

/// The table's columns under positions' names.
fn numbered(prefix: &str, table: &Relation) -> Vec<arrow::datatypes::Field> {
    let fields = table.columns.iter().enumerate();
    fields.map(|(i, column)| column.pg_type.field(&format!("{prefix}{i}"), true)).collect()
}

/// A scan of rows that the executor gives; columns as the table's, under the qualifiers given.
fn given_rows(name: &str, parts: &[(&str, &str)], table: &Relation) -> SqlResult<LogicalPlan> {
    let fields = parts.iter().flat_map(|(prefix, _)| numbered(prefix, table));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reference = TableReference::full(ROOT, ROWS_SCHEMA, name);
    let mut expressions = Vec::new();
    for (prefix, qualifier) in parts {
        for (i, column) in table.columns.iter().enumerate() {
            let from = PlanColumn::new(Some(reference.clone()), format!("{prefix}{i}"));
            expressions.push(Expr::Column(from).alias_qualified(Some(TableReference::bare(*qualifier)), &column.name));
        }
    }
    let scan = LogicalPlanBuilder::scan(reference, Arc::new(Stored::new(schema)), None);
    let plan = scan.and_then(|scan| scan.project(expressions)).and_then(LogicalPlanBuilder::build);
    plan.map_err(|error| planning_error(&error, None))
}

fn conflict(
    on: &OnInsert,
    table: &Relation,
    alias: Option<&str>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Conflict> {
    let OnInsert::OnConflict(conflict) = on else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"DUPLICATE\"")
            .hint("Use ON CONFLICT (key) DO UPDATE SET column = excluded.column."));
    };
    match (&conflict.action, &conflict.conflict_target) {
        (OnConflictAction::DoNothing, None) => Ok(Conflict::Nothing),
        (OnConflictAction::DoUpdate(_), None) => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            "ON CONFLICT DO UPDATE requires inference specification or constraint name",
        )
        .hint("For example, ON CONFLICT (column_name).")),
        (action, Some(target)) => {
            check_target(target, table, parsed)?;
            match action {
                OnConflictAction::DoNothing => Ok(Conflict::Nothing),
                OnConflictAction::DoUpdate(update) => do_update(update, table, alias, parsed, context),
            }
        }
    }
}

fn check_target(target: &ConflictTarget, table: &Relation, parsed: &Parsed) -> SqlResult<()> {
    let mut found = match target {
        ConflictTarget::Columns(columns) => {
            columns.iter().map(|ident| column_index(table, ident, parsed)).collect::<SqlResult<Vec<usize>>>()?
        }
        ConflictTarget::OnConstraint(name) => {
            let (_, name) = super::resolve::split_name(name)?;
            if name != format!("{}_pkey", table.name) {
                let message = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
                return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
            }
            table.primary_key.clone()
        }
    };
    found.sort_unstable();
    let mut key = table.primary_key.clone();
    key.sort_unstable();
    match found == key && !key.is_empty() {
        true => Ok(()),
        false => {
            let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
            let error = SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message);
            Err(match key.is_empty() {
                true => error.hint(format!("Table {} has no primary key.", table.name)),
                false => {
                    let names: Vec<&str> = table.primary_key.iter().map(|i| table.columns[*i].name.as_str()).collect();
                    error.hint(format!("The primary key of {} is ({}).", table.name, names.join(", ")))
                }
            })
        }
    }
}

fn do_update(
    update: &DoUpdate,
    table: &Relation,
    alias: Option<&str>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Conflict> {
    let name = alias.unwrap_or(&table.name);
    let mut plan = given_rows(CONFLICTS, &[("o", name), ("n", "excluded")], table)?;
    let scope = Scope::new(plan.schema(), Some(name));
    let places = Some(&parsed.places);
    if let Some(selection) = &update.selection {
        let condition = bind_expression(selection, &scope, places, context)?;
        let filtered = LogicalPlanBuilder::from(plan).filter(condition).and_then(LogicalPlanBuilder::build);
        plan = filtered.map_err(|error| planning_error(&error, places))?;
    }
    let mut new_values: Vec<Option<Expr>> = vec![None; table.columns.len()];
    for (ident, value) in assignments(&update.assignments, parsed)? {
        let index = column_index(table, &ident, parsed)?;
        let mut value = value;
        prepare_cell(&mut value, &table.columns[index], context)?;
        let bound = bind_expression(&value, &scope, places, context)?;
        set_once(&mut new_values, index, assigned(bound, plan.schema(), &table.columns[index])?, &ident, parsed)?;
    }
    let schema = plan.schema().clone();
    let old = |i: usize| Expr::Column(PlanColumn::new(Some(TableReference::bare(name)), &table.columns[i].name));
    let olds = (0..table.columns.len()).map(|i| old(i).alias(format!("o{i}")));
    let news = new_values.into_iter().enumerate().map(|(i, value)| {
        as_type(value.unwrap_or_else(|| old(i)), &table.columns[i].pg_type, &schema).alias(format!("n{i}"))
    });
    let expressions: Vec<Expr> = olds.chain(news).collect();
    let built = LogicalPlanBuilder::from(plan).project(expressions).and_then(LogicalPlanBuilder::build);
    Ok(Conflict::Update(built.map_err(|error| planning_error(&error, places))?))
}

fn set_once(values: &mut [Option<Expr>], index: usize, value: Expr, ident: &Ident, parsed: &Parsed) -> SqlResult<()> {
    if values[index].replace(value).is_some() {
        let message = format!("multiple assignments to same column \"{}\"", fold(ident));
        return Err(at(parsed, ident.span, SqlError::new(SqlState::SYNTAX_ERROR, message)));
    }
    Ok(())
}

/// `a = 1, (b, c) = (2, 3)` as pairs.
fn assignments(assignments: &[Assignment], parsed: &Parsed) -> SqlResult<Vec<(Ident, SqlExpr)>> {
    let mut pairs = Vec::new();
    for assignment in assignments {
        match &assignment.target {
            AssignmentTarget::ColumnName(name) => {
                if let Some(ident) = name.0.last().and_then(|part| part.as_ident()) {
                    pairs.push((ident.clone(), assignment.value.clone()));
                }
            }
            AssignmentTarget::Tuple(names) => {
                let values = match &assignment.value {
                    SqlExpr::Tuple(values) if values.len() == names.len() => values.clone(),
                    SqlExpr::Tuple(_) => {
                        let message = "number of columns does not match number of values";
                        return Err(at(parsed, assignment.span(), SqlError::new(SqlState::SYNTAX_ERROR, message)));
                    }
                    _ => {
                        let error = SqlError::unsupported(
                            "assigning the columns of a subquery together is not supported",
                            "Write one assignment with its own subquery for each column.",
                        );
                        return Err(at(parsed, assignment.span(), error));
                    }
                };
                let idents = names.iter().filter_map(|name| name.0.last().and_then(|part| part.as_ident()).cloned());
                pairs.extend(idents.zip(values));
            }
        }
    }
    Ok(pairs)
}

/// RETURNING of an INSERT.
fn returning(
    items: &[SelectItem],
    table: &Relation,
    alias: Option<&str>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Returning> {
    let name = alias.unwrap_or(&table.name);
    let rows = given_rows(CHANGED, &[("n", name)], table)?;
    let (plan, columns) = project_items(rows, items, name, parsed, context)?;
    Ok(Returning { plan, columns })
}

/// A select list over a plan; its columns `r0`, `r1`, ….
fn project_items(
    rows: LogicalPlan,
    items: &[SelectItem],
    table: &str,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<(LogicalPlan, Vec<OutputColumn>)> {
    let scope = Scope::new(rows.schema(), Some(table));
    let bound = scope.bind_items(items, parsed, context)?;
    let columns: Vec<OutputColumn> = bound.iter().map(|(column, _)| column.clone()).collect();
    let schema = rows.schema().clone();
    let expressions = bound
        .into_iter()
        .enumerate()
        .map(|(i, (column, expression))| as_type(expression, &column.pg_type, &schema).alias(format!("r{i}")));
    let expressions: Vec<Expr> = expressions.collect();
    let built = LogicalPlanBuilder::from(rows).project(expressions).and_then(LogicalPlanBuilder::build);
    Ok((built.map_err(|error| planning_error(&error, Some(&parsed.places)))?, columns))
}

/// The table's name and the alias that the statement gives it.
fn named_table<'a>(table: &'a TableWithJoins, parsed: &Parsed) -> SqlResult<(&'a ObjectName, Option<&'a Ident>)> {
    match (&table.relation, table.joins.as_slice()) {
        (TableFactor::Table { name, alias, args: None, .. }, []) => Ok((name, alias.as_ref().map(|alias| &alias.name))),
        _ => Err(at(parsed, table.span(), SqlError::new(SqlState::SYNTAX_ERROR, "one table can be changed at a time"))),
    }
}

/// A name for the number of a row, by which each row is changed once though a join finds it several times.
const ROW_NUMBER: &str = "hw row";

/// `SELECT items FROM table [, others] WHERE condition` with the table's rows numbered if there are others.
fn rows_query(
    name: &ObjectName,
    alias: &str,
    items: Vec<SelectItem>,
    others: &[TableWithJoins],
    condition: Option<&SqlExpr>,
) -> SqlResult<SqlQuery> {
    let alias = quote_name(alias);
    let from = match others.is_empty() {
        true => format!("{name} AS {alias}"),
        false => format!("(SELECT *, row_number() OVER () AS \"{ROW_NUMBER}\" FROM {name}) AS {alias}"),
    };
    let distinct = if others.is_empty() { String::new() } else { format!("DISTINCT ON ({alias}.\"{ROW_NUMBER}\") ") };
    let mut query = parse_query(&format!("SELECT {distinct}1 FROM {from}"))?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items;
        select.from.extend(others.iter().cloned());
        select.selection = condition.cloned();
        // The table's own name as written has its place in the text.
        if others.is_empty()
            && let TableFactor::Table { name: spot, .. } = &mut select.from[0].relation
        {
            *spot = name.clone();
        }
    }
    Ok(*query)
}

fn qualified(table: &str, column: &str) -> SqlExpr {
    SqlExpr::CompoundIdentifier(vec![Ident::with_quote('"', table), Ident::with_quote('"', column)])
}

fn item(expr: SqlExpr, alias: String) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', alias) }
}

pub(super) fn update(
    update: &SqlUpdate,
    with: Option<&With>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Statement> {
    let (name, alias) = named_table(&update.table, parsed)?;
    let table = target("update", name, parsed, context)?;
    refuse_append_only("update", table)?;
    let alias = alias.map_or_else(|| table.name.clone(), fold);
    let mut values: Vec<Option<SqlExpr>> = vec![None; table.columns.len()];
    for (ident, mut value) in assignments(&update.assignments, parsed)? {
        let index = column_index(table, &ident, parsed)?;
        prepare_cell(&mut value, &table.columns[index], context)?;
        if values[index].replace(value).is_some() {
            let message = format!("multiple assignments to same column \"{}\"", fold(&ident));
            return Err(at(parsed, ident.span, SqlError::new(SqlState::SYNTAX_ERROR, message)));
        }
    }
    let columns = table.columns.iter().enumerate();
    let olds = columns.clone().map(|(i, column)| item(qualified(&alias, &column.name), format!("o{i}")));
    let news = columns.zip(values).filter_map(|((i, _), value)| Some(item(value?, format!("n{i}"))));
    let others = match &update.from {
        None => &[][..],
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
    };
    let mut query = rows_query(name, &alias, olds.chain(news).collect(), others, update.selection.as_ref())?;
    query.with = with.cloned();
    let planned = plan_query(&query, Some(&parsed.places), context)?;
    let plan = old_and_new(planned, table, parsed)?;
    let (plan, returning) = match &update.returning {
        None => (plan, None),
        Some(items) => with_returning(plan, items, "n", table, &alias, parsed, context)?,
    };
    Ok(Statement::Update(Update { table: table.clone(), plan, returning }))
}

/// All old columns, then all new ones: those assigned as the table's types, the others as they were.
fn old_and_new(planned: LogicalPlan, table: &Relation, parsed: &Parsed) -> SqlResult<LogicalPlan> {
    let schema = planned.schema().clone();
    let find = |name: String| {
        let index = schema.fields().iter().position(|field| *field.name() == name)?;
        Some((index, Expr::Column(schema.columns()[index].clone())))
    };
    let mut expressions = Vec::new();
    for (i, column) in table.columns.iter().enumerate() {
        let (_, old) = find(format!("o{i}")).expect("every old column was selected");
        expressions.push(as_type(old, &column.pg_type, &schema).alias(format!("o{i}")));
    }
    for (i, column) in table.columns.iter().enumerate() {
        let value = match find(format!("n{i}")) {
            Some((index, _)) => assigned_column(&planned, index, column)?,
            None => find(format!("o{i}")).expect("every old column was selected").1,
        };
        expressions.push(as_type(value, &column.pg_type, &schema).alias(format!("n{i}")));
    }
    let built = LogicalPlanBuilder::from(planned).project(expressions).and_then(LogicalPlanBuilder::build);
    built.map_err(|error| planning_error(&error, Some(&parsed.places)))
}

/// Adds the RETURNING columns; they see the columns with the prefix, under the table's names.
fn with_returning(
    plan: LogicalPlan,
    items: &[SelectItem],
    prefix: &str,
    table: &Relation,
    alias: &str,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<(LogicalPlan, Option<Vec<OutputColumn>>)> {
    let fields = plan.schema().columns();
    let kept: Vec<Expr> = fields.iter().cloned().map(Expr::Column).collect();
    let hidden = "hw changed";
    let keep = kept.iter().zip(&fields).map(|(e, c)| e.clone().alias_qualified(Some(hidden), &c.name));
    let visible = table.columns.iter().enumerate().map(|(i, column)| {
        let from = Expr::Column(PlanColumn::new_unqualified(format!("{prefix}{i}")));
        from.alias_qualified(Some(TableReference::bare(alias)), &column.name)
    });
    let both: Vec<Expr> = keep.chain(visible).collect();
    let build = |builder: datafusion::error::Result<LogicalPlanBuilder>| {
        builder.and_then(LogicalPlanBuilder::build).map_err(|error| planning_error(&error, Some(&parsed.places)))
    };
    let plan = build(LogicalPlanBuilder::from(plan).project(both))?;
    let own = plan.schema().iter().filter(|(qualifier, _)| qualifier.is_some_and(|q| q.table() == alias));
    let own = own.map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
    let visible = DFSchema::new_with_metadata(own, Default::default()).map_err(|error| planning_error(&error, None))?;
    let bound = Scope::new(&Arc::new(visible), Some(alias)).bind_items(items, parsed, context)?;
    let columns: Vec<OutputColumn> = bound.iter().map(|(column, _)| column.clone()).collect();
    let schema = plan.schema().clone();
    let keep = fields.iter().map(|c| Expr::Column(PlanColumn::new(Some(hidden), &c.name)).alias(&c.name));
    let results = bound
        .into_iter()
        .enumerate()
        .map(|(i, (column, expression))| as_type(expression, &column.pg_type, &schema).alias(format!("r{i}")));
    let all: Vec<Expr> = keep.chain(results).collect();
    Ok((build(LogicalPlanBuilder::from(plan).project(all))?, Some(columns)))
}

pub(super) fn delete(
    delete: &SqlDelete,
    with: Option<&With>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Statement> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [from] = from.as_slice() else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "DELETE FROM names one table"));
    };
    let (name, alias) = named_table(from, parsed)?;
    let table = target("delete from", name, parsed, context)?;
    refuse_append_only("delete from", table)?;
    let alias = alias.map_or_else(|| table.name.clone(), fold);
    let columns = table.columns.iter().enumerate();
    let items = columns.map(|(i, column)| item(qualified(&alias, &column.name), format!("o{i}"))).collect();
    let others = delete.using.as_deref().unwrap_or_default();
    let mut query = rows_query(name, &alias, items, others, delete.selection.as_ref())?;
    query.with = with.cloned();
    let planned = plan_query(&query, Some(&parsed.places), context)?;
    let schema = planned.schema().clone();
    let expressions = table
        .columns
        .iter()
        .zip(schema.columns())
        .enumerate()
        .map(|(i, (column, from))| as_type(Expr::Column(from), &column.pg_type, &schema).alias(format!("o{i}")));
    let expressions: Vec<Expr> = expressions.collect();
    let built = LogicalPlanBuilder::from(planned).project(expressions).and_then(LogicalPlanBuilder::build);
    let plan = built.map_err(|error| planning_error(&error, Some(&parsed.places)))?;
    let (plan, returning) = match &delete.returning {
        None => (plan, None),
        Some(items) => with_returning(plan, items, "o", table, &alias, parsed, context)?,
    };
    Ok(Statement::Delete(Delete { table: table.clone(), plan, returning }))
}

pub(super) fn truncate(truncate: &SqlTruncate, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    let mut tables = Vec::new();
    for named in &truncate.table_names {
        let table = target("truncate", &named.name, parsed, context)?;
        refuse_append_only("truncate", table)?;
        tables.push(table.clone());
    }
    Ok(Statement::Truncate(Truncate { tables }))
}
