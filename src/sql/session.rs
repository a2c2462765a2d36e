//! PREPARE, EXECUTE, REFRESH: statements about other statements and views.

use sqlparser::ast::{DataType, Expr, ObjectName, SelectItem, SetExpr};

use super::ast::Ast;
use super::bind::BindContext;
use super::ddl::relation_of_kind;
use super::parse::{Parsed, parse_query};
use super::query::bind_query;
use super::statement::{Accepted, Execute, Prepare, Statement};
use super::types::pg_type_or_err;
use crate::catalog::RelationKind;
use crate::error::SqlResult;

pub(super) fn prepare(name: &str, types: &[DataType], body: &Ast, parsed: &Parsed) -> SqlResult<Statement> {
    let mut declared = Vec::new();
    for data_type in types {
        // PostgreSQL's word for a type that is to be inferred.
        let inferred = data_type.to_string().eq_ignore_ascii_case("unknown");
        declared.push(if inferred { None } else { Some(pg_type_or_err(data_type)?) });
    }
    let body = Parsed { ast: body.clone(), ..parsed.clone() };
    Ok(Statement::Prepare(Prepare { name: name.to_string(), types: declared, body }))
}

pub(super) fn execute(
    name: &str,
    arguments: &[Expr],
    parsed: &Parsed,
    context: &BindContext<'_>,
) -> SqlResult<Statement> {
    if arguments.is_empty() {
        return Ok(Statement::Execute(Execute { name: name.to_string(), arguments: None }));
    }
    let mut query = parse_query("SELECT 1")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = arguments.iter().cloned().map(SelectItem::UnnamedExpr).collect();
    }
    let arguments = Some(bind_query(&query, Some(&parsed.places), context)?);
    Ok(Statement::Execute(Execute { name: name.to_string(), arguments }))
}

/// A materialized view is always fresh.
pub(super) fn refresh(name: &ObjectName, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    relation_of_kind(RelationKind::MaterializedView, name, parsed, context)?;
    Ok(Statement::Accepted(Accepted { tag: "REFRESH MATERIALIZED VIEW", notices: Vec::new() }))
}
