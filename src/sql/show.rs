//! SHOW and DESCRIBE as queries whose rows the catalog knows already.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;
use datafusion::logical_expr::{LogicalPlanBuilder, lit};
use sqlparser::ast::{Ident, ObjectName};

use super::ast::ShowAst;
use super::bind::BindContext;
use super::ddl::{find, relation_of_kind, select_star};
use super::errors::planning_error;
use super::grammar::fold;
use super::parse::{Parsed, parse_query};
use super::query::{bind_query, finish};
use super::statement::{Query, Statement};
use super::system::system_relation;
use crate::catalog::{CATALOG_SCHEMA, DATABASE, Relation, RelationKind, Watermark, is_system_schema, quote_name};
use crate::error::{SqlError, SqlResult};
use crate::functions::text;

pub(super) fn show(ast: &ShowAst, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    Ok(Statement::Query(match ast {
        ShowAst::All => return Ok(Statement::ShowAll),
        ShowAst::Setting(name) => return Ok(Statement::Show(name.clone())),
        ShowAst::Schemas => {
            let rows = context.catalog.schemas().map(|schema| vec![Some(schema.name.clone())]);
            table(&["name"], rows.collect(), context)?
        }
        ShowAst::Databases => table(&["name"], vec![vec![Some(DATABASE.to_string())]], context)?,
        ShowAst::Relations { kind, schema, like } => relations(*kind, schema.as_ref(), like.as_deref(), context)?,
        ShowAst::Columns(name) => columns(name, parsed, context)?,
        ShowAst::Create(kind, name) => {
            let found = relation_of_kind(*kind, name, parsed, context)?;
            let row = vec![Some(format!("{}.{}", found.schema, found.name)), Some(create_text(found))];
            table(&["name", "create_sql"], vec![row], context)?
        }
        ShowAst::System(name) => system(name, context)?,
    }))
}

/// A query that gives these texts.
fn table(names: &[&str], rows: Vec<Vec<Option<String>>>, context: &BindContext<'_>) -> SqlResult<Query> {
    let cell = |text: Option<String>| lit(datafusion::scalar::ScalarValue::Utf8View(text));
    let empty = rows.is_empty();
    let rows = match empty {
        // VALUES needs a row; the filter takes it away again.
        true => vec![vec![None; names.len()]],
        false => rows,
    };
    let values = rows.into_iter().map(|row| row.into_iter().map(cell).collect()).collect();
    let planned = LogicalPlanBuilder::values(values)
        .and_then(|values| if empty { values.filter(lit(false)) } else { Ok(values) })
        .and_then(LogicalPlanBuilder::build)
        .and_then(|plan| finish(plan, context.catalog, "SHOW"));
    let mut query = planned.map_err(|error| planning_error(&error, None))?;
    for (column, name) in query.columns.iter_mut().zip(names) {
        column.name = (*name).to_string();
    }
    Ok(query)
}

fn relations(
    kind: RelationKind,
    schema: Option<&Ident>,
    like: Option<&str>,
    context: &BindContext<'_>,
) -> SqlResult<Query> {
    let schema = schema.map(fold);
    if let Some(schema) = &schema
        && context.catalog.schema(schema).is_none()
    {
        return Err(context.catalog.schema_not_found(schema));
    }
    let shown = |relation: &&std::sync::Arc<Relation>| {
        let in_schema = match &schema {
            Some(schema) => relation.schema == *schema,
            None => !is_system_schema(&relation.schema),
        };
        relation.kind == kind && in_schema && like.is_none_or(|like| is_like(&relation.name, like))
    };
    let mut rows: Vec<Vec<Option<String>>> = context
        .catalog
        .relations()
        .filter(shown)
        .map(|relation| {
            let connector = relation.connector().map(str::to_string);
            vec![Some(relation.name.clone()), Some(relation.schema.clone()), connector]
        })
        .collect();
    rows.sort();
    let connected = matches!(kind, RelationKind::Table | RelationKind::Source | RelationKind::Sink);
    let names: &[&str] = if connected { &["name", "schema", "connector"] } else { &["name", "schema"] };
    rows.iter_mut().for_each(|row| row.truncate(names.len()));
    table(names, rows, context)
}

/// LIKE with `%` and `_`.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut from) = (0, 0);
    // Where to go on after the last `%` if what follows it does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(from) {
            Some('%') => {
                retry = Some((at, from + 1));
                from += 1;
            }
            Some(c) if *c == '_' || *c == text[at] => (at, from) = (at + 1, from + 1),
            _ => match retry {
                Some((start, after)) => {
                    retry = Some((start + 1, after));
                    (at, from) = (start + 1, after);
                }
                None => return false,
            },
        }
    }
    pattern[from..].iter().all(|c| *c == '%')
}

fn columns(name: &ObjectName, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Query> {
    let names = ["name", "type", "nullable", "default", "key"];
    let yes = |flag: bool| Some(if flag { "yes" } else { "no" }.to_string());
    let rows = match find(name, parsed, context) {
        Ok(relation) => {
            let row = |(i, column): (usize, &crate::catalog::Column)| {
                let key = relation.primary_key.contains(&i).then(|| "primary key".to_string());
                let kind = Some(column.pg_type.to_string());
                vec![Some(column.name.clone()), kind, yes(column.nullable), column.default.clone(), key]
            };
            relation.columns.iter().enumerate().map(row).collect()
        }
        // System relations are not in the catalog.
        Err(error) => match bind_query(&select_star(name), None, context) {
            Ok(query) => {
                let row = |column: &super::statement::OutputColumn| {
                    vec![Some(column.name.clone()), Some(column.pg_type.to_string()), yes(true), None, None]
                };
                query.columns.iter().map(row).collect()
            }
            Err(_) => return Err(error),
        },
    };
    table(&names, rows, context)
}

/// All rows of a relation that the engine keeps about itself.
fn system(name: &str, context: &BindContext<'_>) -> SqlResult<Query> {
    if system_relation(CATALOG_SCHEMA, name).is_none() {
        let shown = name.trim_start_matches("hw_").to_uppercase();
        return Err(SqlError::unsupported(
            format!("SHOW {shown} is not supported"),
            "SHOW TABLES, SOURCES, VIEWS, MATERIALIZED VIEWS, SINKS and SCHEMAS are.",
        ));
    }
    let query = parse_query(&format!("SELECT * FROM {CATALOG_SCHEMA}.{name}"))?;
    Ok(Query { tag: "SHOW", ..bind_query(&query, None, context)? })
}

/// The statement that would create the relation as it is.
pub fn create_text(relation: &Relation) -> String {
    let name = format!("{}.{}", quote_name(&relation.schema), quote_name(&relation.name));
    let keyword = relation.kind.keyword();
    match relation.kind {
        RelationKind::Index | RelationKind::Function => relation.definition.clone(),
        RelationKind::View | RelationKind::MaterializedView => {
            let names: Vec<String> = relation.columns.iter().map(|column| quote_name(&column.name)).collect();
            format!("CREATE {keyword} {name} ({}) AS {}", names.join(", "), relation.definition)
        }
        RelationKind::Sink => format!("CREATE SINK {name} AS {}{}", relation.definition, options_text(relation)),
        RelationKind::Table | RelationKind::Source => {
            let mut items: Vec<String> = relation.columns.iter().map(column_text).collect();
            if !relation.primary_key.is_empty() {
                let key = relation.primary_key.iter().map(|index| quote_name(&relation.columns[*index].name));
                items.push(format!("PRIMARY KEY ({})", key.collect::<Vec<_>>().join(", ")));
            }
            items.extend(relation.watermark.map(|watermark| watermark_text(relation, watermark)));
            let append_only = relation.append_only && relation.kind == RelationKind::Table;
            let append_only = if append_only { " APPEND ONLY" } else { "" };
            format!("CREATE {keyword} {name} ({}){append_only}{}", items.join(", "), options_text(relation))
        }
    }
}

fn watermark_text(relation: &Relation, watermark: Watermark) -> String {
    let name = quote_name(&relation.columns[watermark.column].name);
    let mut delay = Vec::new();
    let micros = watermark.delay;
    text::write_interval(IntervalMonthDayNano { months: 0, days: 0, nanoseconds: micros * 1000 }, &mut delay);
    format!("WATERMARK FOR {name} AS {name} - INTERVAL '{}'", String::from_utf8_lossy(&delay))
}

fn column_text(column: &crate::catalog::Column) -> String {
    let mut text = format!("{} {}", quote_name(&column.name), column.pg_type);
    if !column.nullable {
        text.push_str(" NOT NULL");
    }
    if let Some(default) = &column.default {
        write!(text, " DEFAULT {default}").expect("writing to a string does not fail");
    }
    text
}

/// The value of an option as it may be shown: passwords may not.
pub fn shown_option<'a>(name: &str, value: &'a str) -> &'a str {
    let name = name.to_ascii_lowercase();
    let is_secret = ["password", "secret", "private", "jaas"].iter().any(|word| name.contains(word));
    if is_secret { "***" } else { value }
}

/// WITH, and FORMAT … ENCODE with the rest of the options.
fn options_text(relation: &Relation) -> String {
    let quoted =
        |(key, value): (&String, &String)| format!("{key} = '{}'", shown_option(key, value).replace('\'', "''"));
    let others = relation.options.iter().filter(|(key, _)| !["format", "encode"].contains(&key.as_str()));
    let others: Vec<String> = others.map(quoted).collect();
    let mut text = match others.is_empty() {
        true => String::new(),
        false => format!(" WITH ({})", others.join(", ")),
    };
    if let (Some(format), Some(encode)) = (relation.options.get("format"), relation.options.get("encode")) {
        write!(text, " FORMAT {} ENCODE {}", format.to_uppercase(), encode.to_uppercase())
            .expect("writing to a string does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_like_does() {
        for (text, pattern, expected) in [
            ("abc", "a%", true),
            ("abc", "%c", true),
            ("abc", "_b_", true),
            ("abc", "b%", false),
            ("", "%", true),
            ("aab", "%ab", true),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }
}
