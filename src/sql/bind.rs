//! A syntax tree and its surroundings → [`Statement`].

use std::collections::BTreeMap;

use sqlparser::ast::{SetExpr, Statement as SqlStatement};

use super::ast::Ast;
use super::parse::Parsed;
use super::statement::*;
use super::{copy, ddl, dml, explain, function, query, session, show, subscribe};
use crate::catalog::{Catalog, Column, RelationKind};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::PgType;

/// What the text means depends on.
#[derive(Clone, Copy)]
pub struct BindContext<'a> {
    pub catalog: &'a Catalog,
    pub search_path: &'a [String],
    /// Types of `$1`, `$2`, … that the client has declared; the rest is inferred.
    pub parameter_types: &'a [Option<PgType>],
    pub outside: &'a dyn Outside,
}

/// What binding asks the world beyond the catalog: connectors and files.
pub trait Outside: Sync {
    /// The columns that a connector finds, for `(*)` and where it has columns of its own.
    fn found(&self, options: &BTreeMap<String, String>) -> SqlResult<Vec<Column>>;

    /// Checks a source's, table's or sink's options and columns.
    fn connect(&self, kind: RelationKind, options: &BTreeMap<String, String>, columns: &[Column]) -> SqlResult<()>;

    /// The type of a part of a message that INCLUDE takes into a column.
    fn included(&self, options: &BTreeMap<String, String>, part: &str) -> SqlResult<PgType>;

    /// Adds the options of a sink that are decided once, when it is created.
    fn settle_sink(&self, options: &mut BTreeMap<String, String>);

    /// The columns of a file in `SELECT * FROM '/path'`.
    fn file_columns(&self, path: &str) -> SqlResult<Vec<Column>>;
}

/// A world without connectors and files.
pub struct Nowhere;

impl Outside for Nowhere {
    fn found(&self, options: &BTreeMap<String, String>) -> SqlResult<Vec<Column>> {
        let connector = options.get("connector").map_or("", String::as_str);
        Err(SqlError::unsupported(
            format!("connector \"{connector}\" cannot find columns by itself"),
            "Write the columns in place of (*).",
        ))
    }

    fn connect(&self, _: RelationKind, _: &BTreeMap<String, String>, _: &[Column]) -> SqlResult<()> {
        Ok(())
    }

    fn included(&self, _options: &BTreeMap<String, String>, part: &str) -> SqlResult<PgType> {
        Err(SqlError::unsupported(format!("INCLUDE {part} is not possible here"), "Leave it out."))
    }

    fn settle_sink(&self, _options: &mut BTreeMap<String, String>) {}

    fn file_columns(&self, path: &str) -> SqlResult<Vec<Column>> {
        Err(SqlError::new(SqlState::UNDEFINED_FILE, format!("could not open file \"{path}\"")))
    }
}

/// Binds a parsed statement. Positions of errors count in the whole text that was parsed.
pub fn bind(parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    bind_ast(&parsed.ast, parsed, context)
        .map_err(|error| super::remedy::complete(error, &parsed.tokens, &parsed.places))
}

pub(super) fn bind_ast(ast: &Ast, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    Ok(match ast {
        Ast::Sql(statement) => return bind_sql(statement, parsed, context),
        Ast::CreateSchema { name, if_not_exists } => {
            Statement::Define(ddl::create_schema(name, *if_not_exists, context)?)
        }
        Ast::CreateRelation(create) => return ddl::create_relation(create, parsed, context),
        Ast::CreateView(create) => Statement::Define(ddl::create_view(create, parsed, context)?),
        Ast::CreateSink(create) => Statement::Define(ddl::create_sink(create, parsed, context)?),
        Ast::Drop(drop) => Statement::Define(ddl::drop_objects(drop, parsed, context)?),
        Ast::AlterRelation { kind, name, if_exists, change } => {
            Statement::Define(super::alter::relation(*kind, name, *if_exists, change, parsed, context)?)
        }
        Ast::AlterSchema { name, new_name } => Statement::Define(super::alter::schema(name, new_name, context)?),
        Ast::Copy(copied) => copy::copy(copied, parsed, context)?,
        Ast::Subscribe(subscribed) => Statement::Subscribe(subscribe::subscribe(subscribed, parsed, context)?),
        Ast::Explain(explained) => Statement::Explain(explain::explain(explained, parsed, context)?),
        Ast::Declare(declared) => Statement::DeclareCursor(subscribe::declare(declared, parsed, context)?),
        Ast::Fetch(fetch) => Statement::Fetch(fetch.clone()),
        Ast::Close(name) => Statement::CloseCursor(name.clone()),
        Ast::Prepare { name, types, body } => session::prepare(name, types, body, parsed)?,
        Ast::Execute { name, arguments } => session::execute(name, arguments, parsed, context)?,
        Ast::Deallocate(name) => Statement::Deallocate(name.clone()),
        Ast::Begin(modes) => Statement::Begin(*modes),
        Ast::Commit { chain } => Statement::Commit(TransactionEnd { chain: *chain }),
        Ast::Rollback { chain } => Statement::Rollback(TransactionEnd { chain: *chain }),
        Ast::Savepoint(name) => Statement::Savepoint(name.clone()),
        Ast::Release(name) => Statement::ReleaseSavepoint(name.clone()),
        Ast::RollbackTo(name) => Statement::RollbackToSavepoint(name.clone()),
        Ast::SetTransaction(modes) => Statement::SetTransaction(*modes),
        Ast::Set(set) => Statement::Set(set.clone()),
        Ast::Show(shown) => show::show(shown, parsed, context)?,
        Ast::Reset(name) => Statement::Reset(name.clone()),
        Ast::Discard(what) => Statement::Discard(*what),
        Ast::Listen(channel) => Statement::Listen(channel.clone()),
        Ast::Unlisten(channel) => Statement::Unlisten(channel.clone()),
        Ast::Notify(channel, payload) => Statement::Notify(channel.clone(), payload.clone()),
        Ast::Refresh { name } => session::refresh(name, parsed, context)?,
        Ast::Verify { name } => {
            Statement::Verify(ddl::relation_of_kind(RelationKind::MaterializedView, name, parsed, context)?.clone())
        }
        Ast::Flush => Statement::Flush,
        Ast::Checkpoint => Statement::Checkpoint,
        Ast::Accepted(tag) => Statement::Accepted(Accepted { tag, notices: Vec::new() }),
    })
}

fn bind_sql(statement: &SqlStatement, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    match statement {
        SqlStatement::Query(query) => match (query.body.as_ref(), query::select_into(query)) {
            (SetExpr::Insert(change) | SetExpr::Update(change) | SetExpr::Delete(change), _) => {
                dml::with_queries(query.with.as_ref(), change, parsed, context)
            }
            (_, Some((name, query))) => ddl::create_table_as_select_into(&name, query, parsed, context),
            _ => Ok(Statement::Query(query::bind_query(query, Some(&parsed.places), context)?)),
        },
        SqlStatement::Insert(insert) => dml::insert(insert, parsed, context),
        SqlStatement::Update(update) => dml::update(update, None, parsed, context),
        SqlStatement::Delete(delete) => dml::delete(delete, None, parsed, context),
        SqlStatement::Truncate(truncate) => dml::truncate(truncate, parsed, context),
        SqlStatement::CreateFunction(create) => function::create(create, parsed, context).map(Statement::Define),
        SqlStatement::DropFunction(drop) => function::drop(drop, parsed, context).map(Statement::Define),
        SqlStatement::CreateIndex(index) => Ok(Statement::Define(ddl::create_index(index, parsed, context)?)),
        other => Err(unsupported_statement(&other.to_string()).at(parsed.offset + 1)),
    }
}

/// Names a statement by its first words.
fn unsupported_statement(text: &str) -> SqlError {
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let verb = words.join(" ").to_uppercase();
    let verb = verb.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
    SqlError::unsupported(format!("{verb} is not supported"), "docs/sql.md lists the statements that are.")
}
