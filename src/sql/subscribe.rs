//! SUBSCRIBE, and cursors over it and over queries.

use super::ast::{Declare, DeclareWhat, SubscribeAst, SubscribeWhat};
use super::bind::BindContext;
use super::ddl::{find, select_star};
use super::parse::Parsed;
use super::query::{bind_query, check_definition};
use super::statement::{CursorSource, DeclareCursor, OutputColumn, Query, Subscribe, SubscribeTarget};
use super::volatile::check_view;
use crate::catalog::{RelationKind, nearest};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) fn subscribe(ast: &SubscribeAst, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Subscribe> {
    let (target, columns) = match &ast.what {
        SubscribeWhat::Query(query) => of_query(bind_query(query, Some(&parsed.places), context)?)?,
        SubscribeWhat::Relation(name) => {
            let found = find(name, parsed, context)?;
            match found.kind {
                RelationKind::Table | RelationKind::Source | RelationKind::MaterializedView => {
                    let column = |column: &crate::catalog::Column| OutputColumn {
                        name: column.name.clone(),
                        pg_type: column.pg_type.clone(),
                    };
                    (SubscribeTarget::Relation(found.id), found.columns.iter().map(column).collect())
                }
                _ => of_query(bind_query(&select_star(name), Some(&parsed.places), context)?)?,
            }
        }
    };
    let mut subscribe =
        Subscribe { target, columns, snapshot: true, progress: false, as_of: ast.as_of, up_to: ast.up_to };
    for (key, value) in &ast.options {
        let flag = flag(key, value)?;
        match key.as_str() {
            "snapshot" => subscribe.snapshot = flag,
            "progress" => subscribe.progress = flag,
            _ => return Err(unknown_option(key)),
        }
    }
    Ok(subscribe)
}

fn of_query(query: Query) -> SqlResult<(SubscribeTarget, Vec<OutputColumn>)> {
    check_definition(&query)?;
    check_view(&query)?;
    let columns = query.columns.clone();
    Ok((SubscribeTarget::Query(query), columns))
}

fn flag(key: &str, value: &str) -> SqlResult<bool> {
    match value.to_lowercase().as_str() {
        "true" | "on" | "1" | "yes" => Ok(true),
        "false" | "off" | "0" | "no" => Ok(false),
        _ => {
            let message = format!("option \"{key}\" requires a Boolean value");
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint("Write true or false."))
        }
    }
}

fn unknown_option(key: &str) -> SqlError {
    let error = SqlError::new(SqlState::INVALID_PARAMETER_VALUE, format!("unrecognized SUBSCRIBE option \"{key}\""));
    match nearest(key, ["snapshot", "progress"]) {
        Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
        None => error.hint("Options are snapshot and progress."),
    }
}

pub(super) fn declare(ast: &Declare, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<DeclareCursor> {
    let what = match &ast.what {
        DeclareWhat::Query(query) => CursorSource::Query(bind_query(query, Some(&parsed.places), context)?),
        DeclareWhat::Subscribe(ast) => CursorSource::Subscribe(Box::new(subscribe(ast, parsed, context)?)),
    };
    Ok(DeclareCursor { name: ast.name.clone(), what, hold: ast.hold, binary: ast.binary })
}
