//! EXPLAIN: of queries, changes, and statements that would build a dataflow.

use super::ast::{Ast, ExplainAst, ExplainWhat, SinkInput, SubscribeWhat};
use super::bind::{BindContext, bind_ast};
use super::ddl::{relation_of_kind, select_star};
use super::parse::Parsed;
use super::query::bind_query;
use super::statement::{Explain, ExplainTarget, Statement};
use crate::catalog::RelationKind;
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) fn explain(ast: &ExplainAst, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Explain> {
    let what = match &ast.what {
        ExplainWhat::View(name) => {
            ExplainTarget::Relation(relation_of_kind(RelationKind::MaterializedView, name, parsed, context)?.id)
        }
        ExplainWhat::Statement(statement) => target(statement, parsed, context)?,
    };
    Ok(Explain { what, verbose: ast.verbose, analyze: ast.analyze, format: ast.format })
}

fn target(ast: &Ast, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<ExplainTarget> {
    let places = Some(&parsed.places);
    match ast {
        Ast::CreateView(create) => Ok(ExplainTarget::Dataflow(bind_query(&create.query, places, context)?)),
        Ast::CreateSink(create) => {
            let query = match &create.from {
                SinkInput::Query(query) => (**query).clone(),
                SinkInput::Relation(name) => select_star(name),
            };
            Ok(ExplainTarget::Dataflow(bind_query(&query, places, context)?))
        }
        Ast::Subscribe(subscribe) => {
            let query = match &subscribe.what {
                SubscribeWhat::Query(query) => (**query).clone(),
                SubscribeWhat::Relation(name) => select_star(name),
            };
            Ok(ExplainTarget::Dataflow(bind_query(&query, places, context)?))
        }
        Ast::CreateRelation(create) if create.query.is_some() => {
            let query = create.query.as_ref().expect("looked at just before");
            Ok(ExplainTarget::Query(bind_query(query, places, context)?))
        }
        other => match bind_ast(other, parsed, context)? {
            Statement::Query(query) => Ok(ExplainTarget::Query(query)),
            Statement::DeclareCursor(super::statement::DeclareCursor {
                what: super::statement::CursorSource::Query(query),
                ..
            }) => Ok(ExplainTarget::Query(query)),
            change @ (Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_)) => {
                Ok(ExplainTarget::Change(Box::new(change)))
            }
            _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, "EXPLAIN is for queries, changes, views and sinks")),
        },
    }
}
