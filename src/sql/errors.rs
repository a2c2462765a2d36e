//! What DataFusion says when it cannot plan a statement, in PostgreSQL's words: SQLSTATE, position, hint.

use datafusion::common::{Column, Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use sqlparser::tokenizer::Location;

use super::names::shown;
use super::place::Places;
use crate::catalog::nearest;
use crate::error::{SqlError, SqlState};
use crate::functions::{friendly_types, sql_error};

/// Takes one of our errors through DataFusion; [`sql_error`] takes it out again.
pub(super) fn carry(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Whether planning failed only because two columns have one name, which marked names can cure.
pub(super) fn is_name_clash(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::SchemaError(inner, _) => !matches!(**inner, SchemaError::FieldNotFound { .. }),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => is_name_clash(inner),
        DataFusionError::Plan(message) => message.contains("require unique expression names"),
        _ => false,
    }
}

/// A column that was not found but has the name of a table, with the table's columns: its row is meant.
pub(super) fn missing_row(error: &DataFusionError) -> Option<(String, Vec<String>)> {
    match error {
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } if field.relation.is_none() => {
                let of_table =
                    |column: &&Column| column.relation.as_ref().is_some_and(|relation| relation.table() == field.name);
                let columns: Vec<String> =
                    valid_fields.iter().filter(of_table).map(|column| column.name.clone()).collect();
                (!columns.is_empty()).then(|| (field.name.clone(), columns))
            }
            _ => None,
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => missing_row(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(missing_row),
        _ => None,
    }
}

pub(super) const WINDOW_HINT: &str = "Compute it in a subquery in FROM, and use its column outside.";

/// The error of a statement that cannot be planned.
pub(super) fn planning_error(error: &DataFusionError, places: Option<&Places>) -> SqlError {
    let position = span_start(error).and_then(|at| places?.offset(at)).map(|offset| offset + 1);
    let error = without_position(error);
    SqlError { position: error.position.or(position), ..error }
}

fn without_position(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => without_position(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => without_position(&errors[0]),
        DataFusionError::SchemaError(inner, _) => schema_error(inner),
        DataFusionError::Plan(message) => plan_error(message),
        DataFusionError::NotImplemented(message) => not_supported(message),
        other => sql_error(other),
    }
}

/// Where the first diagnostic points.
fn span_start(error: &DataFusionError) -> Option<Location> {
    let of = |diagnostic: &Diagnostic| {
        let start = diagnostic.span?.start;
        Some(Location { line: start.line, column: start.column })
    };
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => of(diagnostic).or_else(|| span_start(inner)),
        DataFusionError::Context(_, inner) => span_start(inner),
        DataFusionError::Collection(errors) => errors.first().and_then(span_start),
        _ => None,
    }
}

fn schema_error(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => column_not_found(field, valid_fields),
        SchemaError::AmbiguousReference { field } => {
            let name = shown(&field.name);
            SqlError::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{name}\" is ambiguous"))
                .hint("Write the table's name or alias and a point in front of it.")
        }
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            let message = format!("table name \"{}\" specified more than once", qualifier.table());
            SqlError::new(SqlState(*b"42712"), message).hint("Give one of them an alias: FROM t AS a, t AS b.")
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(SqlState::DUPLICATE_COLUMN, format!("column \"{}\" specified more than once", shown(name)))
                .hint("Give one of them an alias with AS.")
        }
    }
}

fn column_not_found(field: &Column, valid: &[Column]) -> SqlError {
    let name = shown(&field.name);
    if name == "default" && field.relation.is_none() {
        return SqlError::new(SqlState::SYNTAX_ERROR, "DEFAULT is not allowed in this context")
            .hint("DEFAULT stands for a column's value in INSERT and UPDATE only.");
    }
    let table_of = |column: &Column| column.relation.as_ref().map(|relation| relation.table().to_string());
    let table = table_of(field);
    let known_table = table.is_none() || valid.iter().any(|column| table_of(column) == table);
    if let (Some(table), false) = (&table, known_table) {
        let tables: Vec<String> = valid.iter().filter_map(table_of).collect();
        let error =
            SqlError::new(SqlState::UNDEFINED_TABLE, format!("missing FROM-clause entry for table \"{table}\""));
        return match nearest(table, tables.iter().map(String::as_str)) {
            Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
            None if tables.is_empty() => error.hint(format!("Add {table} to the FROM clause.")),
            None => error.hint(format!("The FROM clause has: {}.", distinct(tables).join(", "))),
        };
    }
    let message = match &table {
        Some(table) => format!("column {table}.{name} does not exist"),
        None => format!("column \"{name}\" does not exist"),
    };
    let candidates: Vec<&Column> = valid.iter().filter(|column| table.is_none() || table_of(column) == table).collect();
    let mut hints = Vec::new();
    if let Some(nearest) = nearest(name, candidates.iter().map(|column| shown(&column.name))) {
        hints.push(format!("Did you mean \"{nearest}\"?"));
    }
    let tables = distinct(candidates.iter().filter_map(|column| table_of(column)).collect());
    if let ([table], true) = (tables.as_slice(), candidates.len() <= 40) {
        let names: Vec<&str> = candidates.iter().map(|column| shown(&column.name)).collect();
        hints.push(format!("{table} has columns: {}.", names.join(", ")));
    } else if candidates.is_empty() {
        hints.push(
            "There is no FROM clause that could have it. A text constant is written in single quotes.".to_string(),
        );
    }
    let error = SqlError::new(SqlState::UNDEFINED_COLUMN, message);
    match hints.is_empty() {
        true => error,
        false => error.hint(hints.join("  ")),
    }
}

fn distinct(mut names: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn plan_error(message: &str) -> SqlError {
    grouping_error(message)
        .or_else(|| operator_error(message))
        .or_else(|| shape_error(message))
        .unwrap_or_else(|| sql_error(&DataFusionError::Plan(message.to_string())))
}

fn grouping_error(message: &str) -> Option<SqlError> {
    const HINT: &str = "Add it to GROUP BY, or wrap it in an aggregate such as max(...).";
    if let Some(rest) = message.split("column \"").nth(1).filter(|_| message.contains("must be in GROUP BY")) {
        let column = plain_column(first_column(rest.split('"').next().unwrap_or(rest)));
        let text =
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function");
        return Some(SqlError::new(SqlState::GROUPING_ERROR, text).hint(HINT));
    }
    if let Some((column, _)) = message
        .strip_prefix("HAVING clause references: ")
        .and_then(|rest| rest.split_once(" must appear in the GROUP BY clause"))
    {
        let column = if column.contains('(') { first_column(column) } else { column };
        let text = format!(
            "column \"{}\" must appear in the GROUP BY clause or be used in an aggregate function",
            plain_column(column)
        );
        return Some(SqlError::new(SqlState::GROUPING_ERROR, text).hint(HINT));
    }
    if message.starts_with("Column in ") && message.contains("must be in GROUP BY") {
        let text = "a column must appear in the GROUP BY clause or be used in an aggregate function";
        return Some(SqlError::new(SqlState::GROUPING_ERROR, text).hint(HINT));
    }
    if message.contains("Aggregate functions are not allowed in the WHERE clause") {
        return Some(
            SqlError::new(SqlState::GROUPING_ERROR, "aggregate functions are not allowed in WHERE")
                .hint("Use HAVING after GROUP BY for conditions on aggregates."),
        );
    }
    None
}

/// The first column in the text of an expression.
fn first_column(text: &str) -> &str {
    let name = |part: &&str| part.contains('.') && !part.starts_with(|c: char| c.is_ascii_digit());
    text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).find(name).unwrap_or(text)
}

/// `headwater.public.t.a` and `t.a` as users write them.
fn plain_column(text: &str) -> String {
    let parts: Vec<&str> = text.split('.').collect();
    shown(&parts[parts.len().saturating_sub(2)..].join(".")).to_string()
}

fn operator_error(message: &str) -> Option<SqlError> {
    const HINT: &str = "No operator matches these argument types. Add an explicit cast such as ::integer or ::text.";
    let undefined = |text: String| Some(SqlError::new(SqlState::UNDEFINED_FUNCTION, text).hint(HINT));
    for (before, between, after) in [
        ("Cannot infer common argument type for comparison operation ", " ", ""),
        ("Cannot coerce arithmetic expression ", " ", " to valid types"),
    ] {
        if let Some((_, rest)) = message.split_once(before) {
            let rest = rest.split(after).next().filter(|_| !after.is_empty()).unwrap_or(rest);
            let _ = between;
            if rest.contains("Struct(") {
                return Some(
                    SqlError::new(SqlState::SYNTAX_ERROR, "unequal number of entries in row expressions")
                        .hint("Compare rows of as many values on both sides."),
                );
            }
            return undefined(format!("operator does not exist: {}", friendly_types(rest.trim())));
        }
    }
    if let Some((_, rest)) = message.split_once("No function matches the given name and argument types '") {
        let call = rest.split('\'').next().unwrap_or(rest);
        if let Some(error) = unlike_values(&friendly_types(call)) {
            return Some(error);
        }
        let text = format!("function {} does not exist", friendly_types(call));
        return Some(
            SqlError::new(SqlState::UNDEFINED_FUNCTION, text)
                .hint("No function of this name takes these arguments. Check their number, or add explicit casts."),
        );
    }
    if message.contains("Failed to coerce arguments") || message.contains("Function ") && message.contains(" expects ")
    {
        let name = message.split('\'').nth(1).unwrap_or("").to_string();
        let text = match name.is_empty() {
            true => "function with these arguments does not exist".to_string(),
            false => format!("function {name} with these arguments does not exist"),
        };
        return Some(
            SqlError::new(SqlState::UNDEFINED_FUNCTION, text)
                .hint("No function of this name takes these arguments. Check their number, or add explicit casts."),
        );
    }
    None
}

/// Functions behind which a form of its own stands, whose values have to be alike.
fn unlike_values(call: &str) -> Option<SqlError> {
    let (name, kinds) = call.split_once('(')?;
    let kinds: Vec<&str> = kinds.trim_end_matches(')').split(", ").collect();
    let form = match name {
        "make_array" => "ARRAY",
        "coalesce" => "COALESCE",
        "greatest" => "GREATEST",
        "least" => "LEAST",
        "array_has" => {
            return Some(
                SqlError::new(SqlState::WRONG_OBJECT_TYPE, "op ANY/ALL (array) requires array on right side")
                    .hint("Write an array such as ARRAY[1, 2], or a subquery; or use IN."),
            );
        }
        "array_has_any" => {
            let kinds = kinds.join(" && ");
            return Some(
                SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {kinds}"))
                    .hint("&& compares arrays; conditions are connected with AND."),
            );
        }
        _ => return None,
    };
    let first = kinds.first()?;
    let other = kinds.iter().find(|kind| *kind != first)?;
    // A constant is a bigint for the planner.
    let whole = |kind: &str| if kind == "bigint" { "integer".to_string() } else { kind.to_string() };
    let message = format!("{form} types {} and {} cannot be matched", whole(first), whole(other));
    Some(
        SqlError::new(SqlState::DATATYPE_MISMATCH, message)
            .hint("Write a cast such as value::text, so that both have one type."),
    )
}

fn shape_error(message: &str) -> Option<SqlError> {
    let error = |code: &[u8; 5], text: String| Some(SqlError::new(SqlState(*code), text));
    if let Some((_, kind)) =
        message.split_once("non-boolean predicate ").and_then(|(_, rest)| rest.split_once(" returning "))
    {
        return error(b"42804", format!("argument of WHERE must be type boolean, not type {}", friendly_types(kind)))
            .map(|error| error.hint("Compare it with something: x > 0, or x IS NOT NULL."));
    }
    if let Some((_, kind)) = message.split_once("'NOT' requires a boolean expression, got ") {
        return error(b"42804", format!("argument of NOT must be type boolean, not type {}", friendly_types(kind)))
            .map(|error| error.hint("Compare it with something: x = 0."));
    }
    if let Some((_, sides)) = message.split_once("argument type for logical boolean operation ") {
        let (word, kinds) = match sides.split_once(" OR ") {
            Some(kinds) => ("OR", kinds),
            None => ("AND", sides.split_once(" AND ")?),
        };
        let kinds = (friendly_types(kinds.0), friendly_types(kinds.1));
        let kind = if kinds.0 == "boolean" { kinds.1 } else { kinds.0 };
        return error(b"42804", format!("argument of {word} must be type boolean, not type {kind}"))
            .map(|error| error.hint("Compare it with something: x > 0."));
    }
    if message.starts_with("Unary operator '-'") {
        return error(b"42883", "operator does not exist: - text".to_string())
            .map(|error| error.hint("Write a cast such as -(value::numeric)."));
    }
    if let Some((_, kinds)) = message.split_once("There isn't a common type to coerce ") {
        let kind = kinds.split(" and ").next().map(friendly_types).unwrap_or_default();
        return error(b"42883", format!("operator does not exist: {kind} ~~ unknown"))
            .map(|error| error.hint("Write a cast such as value::text LIKE pattern."));
    }
    if message.starts_with("Aggregate function calls cannot be nested") {
        return error(b"42803", "aggregate function calls cannot be nested".to_string());
    }
    if message.contains("ORDER BY expressions") && message.contains("must appear in select list") {
        return error(b"42P10", "for SELECT DISTINCT, ORDER BY expressions must appear in select list".to_string());
    }
    if message.contains("SELECT DISTINCT ON expressions must match") {
        return error(b"42P10", "SELECT DISTINCT ON expressions must match initial ORDER BY expressions".to_string());
    }
    let syntax = |text: String| Some(SqlError::new(SqlState::SYNTAX_ERROR, text));
    if let Some((operation, _)) = message.split_once(" queries have different number of columns") {
        return syntax(format!("each {operation} query must have the same number of columns"));
    }
    if message.starts_with("Inconsistent data length across values list") {
        return syntax("VALUES lists must all be the same length".to_string());
    }
    if message.contains("should only return one column") || message.contains("Too many columns! The subquery") {
        return syntax("subquery must return only one column".to_string());
    }
    if let Some((_, rest)) = message.split_once("Cannot find column with position ") {
        let position = rest.split(' ').next().unwrap_or("?");
        let text = format!("GROUP BY position {position} is not in select list");
        return Some(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, text).hint("Positions count from 1."));
    }
    if message.starts_with("Order by column out of bounds") {
        let text = "ORDER BY position is not in select list";
        return Some(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, text).hint("Positions count from 1."));
    }
    if let Some(rest) = message.strip_prefix("WITH query name ") {
        let name = rest.split('"').nth(1).unwrap_or(rest);
        return Some(SqlError::new(
            SqlState(*b"42712"),
            format!("WITH query name \"{name}\" specified more than once"),
        ));
    }
    if let Some(name) = message.strip_prefix("Invalid qualifier ") {
        return error(b"42P01", format!("missing FROM-clause entry for table \"{}\"", shown(name)))
            .map(|error| error.hint("Write the name or the alias of a table in FROM before the star."));
    }
    if let Some(name) = message.strip_prefix("The window ").and_then(|rest| rest.split(' ').next()) {
        return error(b"42704", format!("window \"{name}\" does not exist"))
            .map(|error| error.hint("Define it behind the query: WINDOW name AS (PARTITION BY ... ORDER BY ...)."));
    }
    if let Some((clause, kind)) =
        message.strip_prefix("Expected ").and_then(|rest| rest.split_once(" to be an integer or null, but got "))
    {
        let text = format!("argument of {clause} must be type bigint, not type {}", friendly_types(kind));
        return error(b"42804", text).map(|error| error.hint("Write a whole number."));
    }
    if message.contains("Placeholder") && message.contains("could not") {
        return Some(
            SqlError::new(SqlState::INDETERMINATE_TYPE, "could not determine data type of a parameter")
                .hint("Write a cast such as $1::integer."),
        );
    }
    None
}

fn not_supported(message: &str) -> SqlError {
    if message.contains("WindowFunction") {
        let text = "window functions are not allowed here";
        return SqlError::new(SqlState(*b"42P20"), text).hint(WINDOW_HINT);
    }
    let text = friendly_types(message.trim_end_matches(['.', '!']));
    let mut chars = text.chars();
    // Keywords keep their capitals: only a capital before a small letter begins a sentence.
    let lower_first = text.chars().nth(1).is_some_and(|c| c.is_lowercase());
    let text = match (chars.next(), lower_first) {
        (Some(first), true) => format!("{}{}", first.to_lowercase(), chars.as_str()),
        _ => text,
    };
    SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, text)
}
