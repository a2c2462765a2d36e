//! CREATE and DROP: what they would change in the catalog.

use std::collections::BTreeMap;

use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateIndex, Ident, ObjectName, Query as SqlQuery, Spanned, TableConstraint,
};
use sqlparser::tokenizer::Span;

use super::ast::{Columns, CreateRelation, CreateSink, CreateView, DropObjects, DropWhat, Format, SinkInput};
use super::bind::BindContext;
use super::dml;
use super::grammar::fold;
use super::parse::Parsed;
use super::query::{as_definition, bind_query, check_definition};
use super::resolve::split_name;
use super::statement::{CreateTableAs, Define, Notice, OutputColumn, Statement};
use super::types::pg_type_or_err;
use super::volatile::check_view;
use crate::catalog::{Catalog, CatalogEdit, Column, OID_BASE, Relation, RelationKind, nearest};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::RelationId;

/// An error at a place of the statement.
pub(super) fn at(parsed: &Parsed, span: Span, error: SqlError) -> SqlError {
    let position = error.position.or_else(|| parsed.places.position(span));
    SqlError { position, ..error }
}

fn nothing(tag: &'static str, notice: String) -> Define {
    Define { tag, edits: Vec::new(), notices: vec![Notice::notice(notice)] }
}

pub(super) fn create_schema(name: &ObjectName, if_not_exists: bool, context: &BindContext<'_>) -> SqlResult<Define> {
    let (_, name) = split_name(name)?;
    if if_not_exists && context.catalog.schema(&name).is_some() {
        return Ok(nothing("CREATE SCHEMA", format!("schema \"{name}\" already exists, skipping")));
    }
    let edit = CatalogEdit::CreateSchema { name, oid: oid(context.catalog.next_id()) };
    context.catalog.check(&edit)?;
    Ok(Define { tag: "CREATE SCHEMA", edits: vec![edit], notices: Vec::new() })
}

fn oid(id: RelationId) -> u32 {
    OID_BASE.saturating_add(u32::try_from(id.0).unwrap_or(u32::MAX))
}

/// The schema and name that a new relation gets.
pub(super) fn target(name: &ObjectName, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<(String, String)> {
    let place = |error| at(parsed, name.span(), error);
    let (schema, bare) = split_name(name).map_err(place)?;
    let schema = match schema {
        Some(schema) => {
            context.catalog.check_user_schema(&schema).map_err(place)?;
            schema
        }
        None => context.catalog.creation_schema(context.search_path).map_err(place)?,
    };
    Ok((schema, bare))
}

/// The relation's skeleton under the next id.
pub(super) fn relation(kind: RelationKind, schema: String, name: String, catalog: &Catalog) -> Relation {
    let id = catalog.next_id();
    Relation {
        id,
        oid: oid(id),
        schema,
        name,
        kind,
        columns: Vec::new(),
        primary_key: Vec::new(),
        append_only: false,
        watermark: None,
        index_key: Vec::new(),
        unique: false,
        definition: String::new(),
        depends_on: Vec::new(),
        options: BTreeMap::new(),
    }
}

fn create_tag(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "CREATE TABLE",
        RelationKind::Source => "CREATE SOURCE",
        RelationKind::View => "CREATE VIEW",
        RelationKind::MaterializedView => "CREATE MATERIALIZED VIEW",
        RelationKind::Sink => "CREATE SINK",
        RelationKind::Index => "CREATE INDEX",
        RelationKind::Function => "CREATE FUNCTION",
    }
}

fn drop_tag(what: DropWhat) -> &'static str {
    match what {
        DropWhat::Schema => "DROP SCHEMA",
        DropWhat::Relation(RelationKind::Table) => "DROP TABLE",
        DropWhat::Relation(RelationKind::Source) => "DROP SOURCE",
        DropWhat::Relation(RelationKind::View) => "DROP VIEW",
        DropWhat::Relation(RelationKind::MaterializedView) => "DROP MATERIALIZED VIEW",
        DropWhat::Relation(RelationKind::Sink) => "DROP SINK",
        DropWhat::Relation(RelationKind::Index) => "DROP INDEX",
        DropWhat::Relation(RelationKind::Function) => "DROP FUNCTION",
    }
}

/// `Some` if the name is taken and the statement says IF NOT EXISTS.
fn exists_already(
    tag: &'static str,
    if_not_exists: bool,
    schema: &str,
    name: &str,
    context: &BindContext<'_>,
) -> Option<Define> {
    let taken = if_not_exists && context.catalog.named(schema, name).is_some();
    taken.then(|| nothing(tag, format!("relation \"{name}\" already exists, skipping")))
}

/// A create statement's edit, checked.
fn created(relation: Relation, notices: Vec<Notice>, context: &BindContext<'_>) -> SqlResult<Define> {
    let tag = create_tag(relation.kind);
    let edits = vec![CatalogEdit::Create(relation)];
    context.catalog.check_all(&edits)?;
    Ok(Define { tag, edits, notices })
}

/// `CREATE TABLE` and `CREATE SOURCE`.
pub(super) fn create_relation(
    create: &CreateRelation,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Statement> {
    let place = |error| at(parsed, create.name.span(), error);
    let (schema, name) = target(&create.name, parsed, context)?;
    let tag = create_tag(create.kind);
    if let Some(define) = exists_already(tag, create.if_not_exists, &schema, &name, context) {
        return Ok(match create.query {
            Some(_) => Statement::CreateTableAs(CreateTableAs { define, table: None, rows: None }),
            None => Statement::Define(define),
        });
    }
    if create.or_replace {
        return Err(SqlError::unsupported(
            format!("CREATE OR REPLACE {} is not supported", create.kind.keyword()),
            format!("Use DROP {} IF EXISTS first.", create.kind.keyword()),
        ));
    }
    let mut new = relation(create.kind, schema, name, context.catalog);
    new.append_only = create.append_only || (create.kind == RelationKind::Source);
    new.options = options(&create.options, create.format.as_ref())?;
    if let Some(query) = &create.query {
        return create_table_as(new, create, query, parsed, context).map(Statement::CreateTableAs);
    }
    let mut notices = Vec::new();
    let declared = declared_columns(create, &mut new, &mut notices, parsed, context)?;
    let included = included_columns(create, &mut new, parsed, context)?;
    connect(&mut new, declared, included, &mut notices, context).map_err(place)?;
    find_key(create, &mut new, parsed)?;
    new.watermark = super::watermark::declared(create, &new, parsed)?;
    new.definition = super::show::create_text(&new);
    created(new, notices, context).map(Statement::Define).map_err(place)
}

/// The options of WITH, and those of FORMAT and ENCODE.
fn options(with: &[(String, String)], format: Option<&Format>) -> SqlResult<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    let named = |key: &str, value: &str| [(key.to_string(), value.to_string())];
    let format = format.map(|format| {
        let words = named("format", &format.format).into_iter().chain(named("encode", &format.encode));
        words.chain(format.options.iter().cloned()).collect::<Vec<_>>()
    });
    for (key, value) in with.iter().cloned().chain(format.unwrap_or_default()) {
        if options.contains_key(&key) {
            let message = format!("option \"{key}\" provided more than once");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        options.insert(key, value);
    }
    Ok(options)
}

/// Asks the connector; relations without one have no options.
fn connect(
    new: &mut Relation,
    declared: Option<Vec<Column>>,
    included: Vec<Column>,
    notices: &mut Vec<Notice>,
    context: &BindContext<'_>,
) -> SqlResult<()> {
    if new.connector().is_none() {
        if new.kind == RelationKind::Source {
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "a source needs the option \"connector\"")
                .hint("WITH (connector = 'file', path = '...'), or CREATE TABLE for rows that clients insert."));
        }
        if let Some(key) = new.options.keys().next() {
            let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unrecognized parameter \"{key}\""));
            return Err(match nearest(key, ["connector"]) {
                Some(_) => error.hint("Did you mean \"connector\"?"),
                None => error.hint("A table without connector has no options."),
            });
        }
        let star = || SqlError::new(SqlState::SYNTAX_ERROR, "a table without connector needs a list of columns");
        new.columns = declared.ok_or_else(star)?;
        return Ok(());
    }
    let found = declared.is_none();
    // Columns that take parts of messages may be among those that are declared.
    let columns = match declared {
        Some(columns) => columns,
        None => context.outside.found(&new.options)?,
    };
    let is_new = |included: &Column| !columns.iter().any(|column| column.name == included.name);
    let added: Vec<Column> = included.into_iter().filter(is_new).collect();
    let columns: Vec<Column> = columns.into_iter().chain(added).collect();
    context.outside.connect(new.kind, &new.options, &columns)?;
    new.columns = columns;
    if found {
        let columns = new.columns.iter().map(|column| format!("{} {}", column.name, column.pg_type));
        notices.push(Notice::notice(format!("columns found: {}", columns.collect::<Vec<_>>().join(", "))));
    }
    notices.push(Notice::notice(match new.kind {
        RelationKind::Source => format!("source \"{}\" keeps no rows itself: views read from it", new.name),
        _ => format!("table \"{}\" keeps the rows that its connector reads", new.name),
    }));
    Ok(())
}

/// The columns of INCLUDE; which part each takes is an option of the connector.
fn included_columns(
    create: &CreateRelation,
    new: &mut Relation,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Vec<Column>> {
    let mut columns = Vec::new();
    for include in &create.includes {
        let part = fold(&include.what);
        let name = include.alias.as_ref().map_or_else(|| part.clone(), fold);
        let refused = |error| at(parsed, include.what.span, error);
        if new.connector().is_none() {
            let hint = "Set the option \"connector\".";
            return Err(refused(SqlError::unsupported("INCLUDE is for relations with a connector", hint)));
        }
        let pg_type = context.outside.included(&new.options, &part).map_err(refused)?;
        new.options.insert(format!("include.{part}"), name.clone());
        columns.push(Column::new(name, pg_type));
    }
    Ok(columns)
}

/// The columns as written; `None` where the connector has to find them.
fn declared_columns(
    create: &CreateRelation,
    new: &mut Relation,
    notices: &mut Vec<Notice>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Option<Vec<Column>>> {
    let Columns::Definitions(definitions) = &create.columns else { return Ok(None) };
    let mut columns = Vec::new();
    for definition in definitions {
        columns.push(column(definition, new, notices, parsed, context)?);
    }
    for constraint in &create.constraints {
        table_constraint(constraint, notices)?;
    }
    Ok(Some(columns))
}

fn column(
    definition: &ColumnDef,
    new: &mut Relation,
    notices: &mut Vec<Notice>,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Column> {
    let span = definition.name.span;
    let pg_type = pg_type_or_err(&definition.data_type).map_err(|error| at(parsed, span, error))?;
    let mut column = Column::new(fold(&definition.name), pg_type);
    for option in &definition.options {
        match &option.option {
            ColumnOption::Null | ColumnOption::Collation(_) => {}
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::PrimaryKey(_) => column.nullable = false,
            ColumnOption::Default(expression) => {
                dml::check_default(expression, &column, parsed, context)?;
                column.default = Some(expression.to_string());
            }
            ColumnOption::ForeignKey(_) => notices.push(not_enforced(&new.name)),
            other => return Err(at(parsed, span, unsupported_constraint(&other.to_string()))),
        }
    }
    Ok(column)
}

fn not_enforced(table: &str) -> Notice {
    Notice::warning(format!("foreign keys of table \"{table}\" are noted and not enforced"))
}

fn unsupported_constraint(text: &str) -> SqlError {
    let first = text.split([' ', '(']).next().unwrap_or(text).to_uppercase();
    let hint = match first.as_str() {
        "UNIQUE" => "Declare the columns as PRIMARY KEY, which is enforced.",
        "CHECK" => "Filter in a view: bad rows can then be looked at too.",
        "GENERATED" => "Compute the column in a view.",
        _ => "Supported are NOT NULL, DEFAULT and PRIMARY KEY.",
    };
    SqlError::unsupported(format!("{first} is not supported for columns"), hint)
}

fn table_constraint(constraint: &TableConstraint, notices: &mut Vec<Notice>) -> SqlResult<()> {
    match constraint {
        TableConstraint::PrimaryKey(_) => Ok(()),
        TableConstraint::ForeignKey(_) => {
            notices.push(Notice::warning("foreign keys are noted and not enforced"));
            Ok(())
        }
        other => {
            let text = other.to_string();
            let kind = ["UNIQUE", "CHECK"].into_iter().find(|kind| text.contains(kind)).unwrap_or("this constraint");
            Err(unsupported_constraint(kind))
        }
    }
}

/// The primary key, from a column's option or a table constraint.
fn find_key(create: &CreateRelation, new: &mut Relation, parsed: &Parsed) -> SqlResult<()> {
    let mut keys: Vec<(Vec<String>, Span)> = Vec::new();
    if let Columns::Definitions(definitions) = &create.columns {
        let is_key =
            |column: &&ColumnDef| column.options.iter().any(|o| matches!(o.option, ColumnOption::PrimaryKey(_)));
        keys.extend(definitions.iter().filter(is_key).map(|column| (vec![fold(&column.name)], column.name.span)));
    }
    for constraint in &create.constraints {
        if let TableConstraint::PrimaryKey(key) = constraint {
            let names = key.columns.iter().map(|column| match &column.column.expr {
                sqlparser::ast::Expr::Identifier(ident) => fold(ident),
                other => other.to_string(),
            });
            keys.push((names.collect(), constraint.span()));
        }
    }
    let Some((names, span)) = keys.first().cloned() else { return Ok(()) };
    if let Some((_, second)) = keys.get(1) {
        let message = format!("multiple primary keys for table \"{}\" are not allowed", new.name);
        let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message);
        return Err(at(parsed, *second, error.hint("Write PRIMARY KEY (a, b) for a key of several columns.")));
    }
    if new.kind == RelationKind::Source {
        let error =
            SqlError::unsupported("a source cannot have a primary key", "Use CREATE TABLE ... WITH (connector = ...).");
        return Err(at(parsed, span, error));
    }
    for name in names {
        let Some(index) = new.column(&name) else {
            let message = format!("column \"{name}\" named in key does not exist");
            return Err(at(parsed, span, SqlError::new(SqlState::UNDEFINED_COLUMN, message)));
        };
        if new.primary_key.contains(&index) {
            let message = format!("column \"{name}\" appears twice in primary key constraint");
            return Err(at(parsed, span, SqlError::new(SqlState::DUPLICATE_COLUMN, message)));
        }
        new.columns[index].nullable = false;
        new.primary_key.push(index);
    }
    Ok(())
}

fn create_table_as(
    mut new: Relation,
    create: &CreateRelation,
    query: &SqlQuery,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<CreateTableAs> {
    if new.connector().is_some() {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "a table with a connector cannot be filled by a query"));
    }
    let query = bind_query(query, Some(&parsed.places), context)?;
    let names: &[Ident] = match &create.columns {
        Columns::Names(names) => names,
        Columns::None => &[],
        Columns::Star | Columns::Definitions(_) => {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "CREATE TABLE AS takes names of columns without types"));
        }
    };
    new.columns = named_columns(&query.columns, names, parsed)?;
    if let Some(key) = new.options.keys().next() {
        let message = format!("unrecognized parameter \"{key}\"");
        let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
        return Err(error.hint("A table without connector has no options."));
    }
    new.definition = super::show::create_text(&new);
    let define = created(new.clone(), Vec::new(), context).map_err(|error| at(parsed, create.name.span(), error))?;
    Ok(CreateTableAs { define, table: Some(new), rows: create.with_data.then_some(query) })
}

/// `SELECT … INTO name`.
pub(super) fn create_table_as_select_into(
    name: &ObjectName,
    query: SqlQuery,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Statement> {
    let create = CreateRelation {
        kind: RelationKind::Table,
        or_replace: false,
        if_not_exists: false,
        name: name.clone(),
        columns: Columns::None,
        constraints: Vec::new(),
        watermarks: Vec::new(),
        includes: Vec::new(),
        append_only: false,
        options: Vec::new(),
        format: None,
        query: Some(Box::new(query)),
        with_data: true,
    };
    create_relation(&create, parsed, context)
}

/// A query's columns as a relation's, the first ones under the names given.
fn named_columns(outputs: &[OutputColumn], names: &[Ident], parsed: &Parsed) -> SqlResult<Vec<Column>> {
    if let Some(extra) = names.get(outputs.len()) {
        let error = SqlError::new(SqlState::SYNTAX_ERROR, "too many column names were specified");
        return Err(at(parsed, extra.span, error));
    }
    let columns = outputs.iter().enumerate().map(|(i, output)| {
        let name = names.get(i).map_or_else(|| output.name.clone(), fold);
        Column::new(name, output.pg_type.clone())
    });
    Ok(columns.collect())
}

/// `CREATE [MATERIALIZED] VIEW`.
pub(super) fn create_view(create: &CreateView, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Define> {
    let kind = if create.materialized { RelationKind::MaterializedView } else { RelationKind::View };
    let (schema, name) = target(&create.name, parsed, context)?;
    if let Some(define) = exists_already(create_tag(kind), create.if_not_exists, &schema, &name, context) {
        return Ok(define);
    }
    if let Some((key, _)) = create.options.first() {
        let message = format!("unrecognized parameter \"{key}\"");
        let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
        return Err(error.hint(format!("A {kind} has no options.")));
    }
    let query = bind_query(&create.query, Some(&parsed.places), context)?;
    check_definition(&query)?;
    if create.materialized {
        check_view(&query)?;
    }
    let mut new = relation(kind, schema, name, context.catalog);
    (new.definition, new.depends_on) = as_definition(&create.query, &parsed.places, context)?;
    new.columns = named_columns(&query.columns, &create.columns, parsed)?;
    let existing = context.catalog.named(&new.schema, &new.name).filter(|_| create.or_replace);
    let define = match existing {
        None => created(new, Vec::new(), context),
        Some(old) => replace_view(old, new, context),
    };
    define.map_err(|error| at(parsed, create.name.span(), error))
}

fn replace_view(old: &Relation, new: Relation, context: &BindContext<'_>) -> SqlResult<Define> {
    if old.kind != new.kind {
        return Err(wrong_kind(old, new.kind));
    }
    let tag = create_tag(new.kind);
    let edits = match new.kind {
        RelationKind::View => {
            keeps_columns(old, &new)?;
            let above = context.catalog.with_dependents(&[old.id]);
            let built = above.iter().find(|id| context.catalog.get(**id).is_some_and(|r| r.kind != RelationKind::View));
            if let Some(built) = built {
                let message = format!("cannot replace view {} because other objects depend on it", old.name);
                return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message)
                    .detail(format!("{} depends on view {}", context.catalog.describe(*built), old.name))
                    .hint("Drop it first, and create it again on the new view."));
            }
            vec![CatalogEdit::Replace(Relation { id: old.id, oid: old.oid, ..new })]
        }
        _ => {
            let mut edits = context.catalog.drop_edits(&[old.id], false)?;
            edits.push(CatalogEdit::Create(new));
            edits
        }
    };
    context.catalog.check_all(&edits)?;
    Ok(Define { tag, edits, notices: Vec::new() })
}

/// PostgreSQL lets a replaced view only gain columns at its end.
fn keeps_columns(old: &Relation, new: &Relation) -> SqlResult<()> {
    let refuse = |message: String| {
        Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message)
            .hint("Drop the view with DROP VIEW and create it anew."))
    };
    for (i, column) in old.columns.iter().enumerate() {
        match new.columns.get(i) {
            None => return refuse("cannot drop columns from view".to_string()),
            Some(other) if other.name != column.name => {
                return refuse(format!("cannot change name of view column \"{}\" to \"{}\"", column.name, other.name));
            }
            Some(other) if other.pg_type != column.pg_type => {
                return refuse(format!(
                    "cannot change data type of view column \"{}\" from {} to {}",
                    column.name, column.pg_type, other.pg_type
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

pub(super) fn create_sink(create: &CreateSink, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Define> {
    let (schema, name) = target(&create.name, parsed, context)?;
    if let Some(define) = exists_already("CREATE SINK", create.if_not_exists, &schema, &name, context) {
        return Ok(define);
    }
    let query = match &create.from {
        SinkInput::Query(query) => (**query).clone(),
        SinkInput::Relation(from) => select_star(from),
    };
    let bound = bind_query(&query, Some(&parsed.places), context)?;
    check_definition(&bound)?;
    check_view(&bound)?;
    let mut new = relation(RelationKind::Sink, schema, name, context.catalog);
    (new.definition, new.depends_on) = as_definition(&query, &parsed.places, context)?;
    new.options = options(&create.options, create.format.as_ref())?;
    new.columns = named_columns(&bound.columns, &[], parsed)?;
    let place = |error| at(parsed, create.name.span(), error);
    if new.connector().is_none() {
        let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "a sink needs the option \"connector\"");
        return Err(place(error.hint("WITH (connector = 'file', path = '...').")));
    }
    context.outside.connect(RelationKind::Sink, &new.options, &new.columns).map_err(place)?;
    context.outside.settle_sink(&mut new.options);
    created(new, Vec::new(), context).map_err(place)
}

/// `SELECT * FROM name`.
pub(super) fn select_star(name: &ObjectName) -> SqlQuery {
    let text = format!("SELECT * FROM {name}");
    let mut query = super::parse::parse_query(&text).expect("a name can be read");
    if let sqlparser::ast::SetExpr::Select(select) = query.body.as_mut()
        && let Some(from) = select.from.first_mut()
        && let sqlparser::ast::TableFactor::Table { name: spot, .. } = &mut from.relation
    {
        // The name as it was written has its place in the statement.
        *spot = name.clone();
    }
    *query
}

pub(super) fn create_index(index: &CreateIndex, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Define> {
    let place = |error| at(parsed, index.table_name.span(), error);
    let table = find(&index.table_name, parsed, context)?;
    if !table.kind.is_kept() {
        let message = format!("cannot create index on {} \"{}\"", table.kind, table.name);
        return Err(place(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)));
    }
    let columns = index.columns.iter().map(|column| column.column.expr.to_string()).collect::<Vec<_>>();
    let name = match &index.name {
        Some(name) => split_name(name)?.1,
        None => format!("{}_{}_idx", table.name, columns.join("_")),
    };
    if let Some(define) = exists_already("CREATE INDEX", index.if_not_exists, &table.schema, &name, context) {
        return Ok(define);
    }
    if index.unique {
        may_be_unique(table).map_err(place)?;
    }
    let mut new = relation(RelationKind::Index, table.schema.clone(), name, context.catalog);
    new.depends_on = vec![table.id];
    for column in &index.columns {
        if let sqlparser::ast::Expr::Identifier(ident) = &column.column.expr {
            let name = fold(ident);
            let Some(found) = table.column(&name) else {
                return Err(at(parsed, ident.span, Catalog::column_not_found(table, &name)));
            };
            new.columns.push(table.columns[found].clone());
            if !new.index_key.contains(&found) {
                new.index_key.push(found);
            }
        }
    }
    let mut notices = Vec::new();
    new.unique = index.unique;
    if new.columns.len() < index.columns.len() {
        if index.unique {
            let hint = "Name columns, or keep the expression in a column of the table.";
            return Err(place(SqlError::unsupported("a unique index on expressions is not supported", hint)));
        }
        new.index_key.clear();
        notices.push(Notice::notice(format!("index \"{}\" is noted, but expressions are not indexed", new.name)));
    }
    new.definition = index.to_string();
    created(new, notices, context).map_err(place)
}

/// Only what clients write can be refused; what a view or a connector gives cannot.
fn may_be_unique(table: &Relation) -> SqlResult<()> {
    if table.kind != RelationKind::Table {
        let message = format!("cannot create a unique index on {} \"{}\"", table.kind, table.name);
        let hint = "Its rows follow from others and cannot be refused. Leave UNIQUE out, or count the rows of a key \
                    in a view: GROUP BY key HAVING count(*) > 1.";
        return Err(SqlError::unsupported(message, hint));
    }
    if table.connector().is_some() {
        let message = format!("cannot create a unique index on table \"{}\", which a connector fills", table.name);
        return Err(SqlError::unsupported(message, "With a PRIMARY KEY a new row replaces the row of its key."));
    }
    Ok(())
}

/// The relation that a name means.
pub(super) fn find<'a>(
    name: &ObjectName,
    parsed: &Parsed,
    context: &BindContext<'a>,
) -> SqlResult<&'a std::sync::Arc<Relation>> {
    let place = |error| at(parsed, name.span(), error);
    let (schema, bare) = split_name(name).map_err(place)?;
    context.catalog.find_or_err(schema.as_deref(), &bare, context.search_path).map_err(place)
}

/// The relation that a name means, if it is of the kind.
pub(super) fn relation_of_kind<'a>(
    kind: RelationKind,
    name: &ObjectName,
    parsed: &Parsed,
    context: &BindContext<'a>,
) -> SqlResult<&'a std::sync::Arc<Relation>> {
    let found = find(name, parsed, context)?;
    match found.kind == kind {
        true => Ok(found),
        false => Err(at(parsed, name.span(), wrong_kind(found, kind))),
    }
}

pub(super) fn wrong_kind(found: &Relation, wanted: RelationKind) -> SqlError {
    let article = if found.kind == RelationKind::Index { "an" } else { "a" };
    let other = if wanted == RelationKind::Index { "an" } else { "a" };
    let message = format!("\"{}\" is not {other} {wanted}", found.name);
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).hint(format!(
        "It is {article} {}: write {} in the statement.",
        found.kind,
        found.kind.keyword()
    ))
}

pub(super) fn drop_objects(drop: &DropObjects, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Define> {
    match drop.what {
        DropWhat::Schema => drop_schemas(drop, context),
        DropWhat::Relation(kind) => drop_relations(kind, drop, parsed, context),
    }
}

fn drop_schemas(drop: &DropObjects, context: &BindContext<'_>) -> SqlResult<Define> {
    let mut catalog = context.catalog.clone();
    let (mut edits, mut notices) = (Vec::new(), Vec::new());
    for name in &drop.names {
        let (_, name) = split_name(name)?;
        if drop.if_exists && catalog.schema(&name).is_none() {
            notices.push(Notice::notice(format!("schema \"{name}\" does not exist, skipping")));
            continue;
        }
        let own = catalog.drop_schema_edits(&name, drop.cascade)?;
        notices.extend(cascade_notice(&catalog, &own, &[]));
        catalog = catalog.check_all(&own)?;
        edits.extend(own);
    }
    Ok(Define { tag: drop_tag(drop.what), edits, notices })
}

fn drop_relations(
    kind: RelationKind,
    drop: &DropObjects,
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Define> {
    let (mut ids, mut notices) = (Vec::new(), Vec::new());
    for name in &drop.names {
        match find(name, parsed, context) {
            Ok(found) if found.kind == kind => ids.push(found.id),
            Ok(found) => return Err(at(parsed, name.span(), wrong_kind(found, kind))),
            Err(error) if drop.if_exists && error.code == SqlState::UNDEFINED_TABLE => {
                let (_, bare) = split_name(name)?;
                notices.push(Notice::notice(format!("{kind} \"{bare}\" does not exist, skipping")));
            }
            Err(error) => {
                let message = error.message.replacen("relation", kind.noun(), 1);
                let code = match kind {
                    RelationKind::Index if error.code == SqlState::UNDEFINED_TABLE => SqlState::UNDEFINED_OBJECT,
                    _ => error.code,
                };
                return Err(SqlError { message, code, ..error });
            }
        }
    }
    let edits = context.catalog.drop_edits(&ids, drop.cascade)?;
    context.catalog.check_all(&edits)?;
    notices.extend(cascade_notice(context.catalog, &edits, &ids));
    Ok(Define { tag: drop_tag(drop.what), edits, notices })
}

/// Says what a CASCADE takes beyond what was named.
fn cascade_notice(catalog: &Catalog, edits: &[CatalogEdit], named: &[RelationId]) -> Option<Notice> {
    let others = edits.iter().filter_map(|edit| match edit {
        CatalogEdit::Drop(id) if !named.contains(id) => Some(catalog.describe(*id)),
        _ => None,
    });
    let others: Vec<String> = others.filter(|text| !text.starts_with("index ")).collect();
    match others.as_slice() {
        [] => None,
        [one] => Some(Notice::notice(format!("drop cascades to {one}"))),
        many => {
            let detail = many.iter().map(|one| format!("drop cascades to {one}")).collect::<Vec<_>>().join("\n");
            let notice = Notice::notice(format!("drop cascades to {} other objects", many.len()));
            Some(Notice { detail: Some(detail), ..notice })
        }
    }
}
