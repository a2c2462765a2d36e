//! `WATERMARK FOR column AS column - INTERVAL '…'` in CREATE SOURCE and CREATE TABLE.

use sqlparser::ast::{BinaryOperator, Expr, Interval, Spanned, Value};

use super::ast::CreateRelation;
use super::ddl::at;
use super::grammar::fold;
use super::parse::Parsed;
use crate::catalog::{Catalog, Relation, RelationKind, Watermark};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::parse_interval;
use crate::zset::PgType;

const DAY_MICROS: i64 = 86_400_000_000;

/// The watermark that a statement declares for the relation that it creates.
pub(super) fn declared(create: &CreateRelation, new: &Relation, parsed: &Parsed) -> SqlResult<Option<Watermark>> {
    let Some((name, value)) = create.watermarks.first() else { return Ok(None) };
    let place = |error| at(parsed, name.span, error);
    if let Some((second, _)) = create.watermarks.get(1) {
        let error = SqlError::new(SqlState::INVALID_TABLE_DEFINITION, "a relation has one watermark at most");
        return Err(at(parsed, second.span, error));
    }
    let wanted = fold(name);
    let column = new.column(&wanted).ok_or_else(|| place(Catalog::column_not_found(new, &wanted)))?;
    check_type(&new.columns[column].pg_type).map_err(place)?;
    check_relation(new).map_err(place)?;
    let delay = delay(value, &wanted).map_err(|error| at(parsed, value.span(), error))?;
    Ok(Some(Watermark { column, delay }))
}

fn check_type(kind: &PgType) -> SqlResult<()> {
    match kind {
        PgType::Timestamp | PgType::Timestamptz => Ok(()),
        other => {
            let message = format!("the column of a watermark must be a timestamp, not {other}");
            let hint = "Declare the column as timestamp or timestamptz.";
            Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).hint(hint))
        }
    }
}

/// Rows that are replaced or deleted could change what a watermark has closed.
fn check_relation(new: &Relation) -> SqlResult<()> {
    let refuse = |message: &str, hint: &str| Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message).hint(hint));
    if !new.append_only {
        return refuse("a table with a watermark must be APPEND ONLY", "Write APPEND ONLY behind the list of columns.");
    }
    if new.kind == RelationKind::Table && new.connector().is_some() && !new.primary_key.is_empty() {
        return refuse(
            "a table with a watermark cannot replace rows by a primary key",
            "Leave the primary key out, and take the newest row of each key in a view: DISTINCT ON (key) ... ORDER BY.",
        );
    }
    Ok(())
}

/// The microseconds that are taken off the column.
fn delay(value: &Expr, column: &str) -> SqlResult<i64> {
    let is_column = |expression: &Expr| matches!(expression, Expr::Identifier(name) if fold(name) == column);
    match value {
        Expr::Nested(inner) => delay(inner, column),
        own if is_column(own) => Ok(0),
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(left) => match right.as_ref() {
            Expr::Interval(interval) => micros(interval),
            _ => Err(unknown_form(column)),
        },
        _ => Err(unknown_form(column)),
    }
}

fn unknown_form(column: &str) -> SqlError {
    let message = "a watermark is its column less a constant interval";
    SqlError::new(SqlState::SYNTAX_ERROR, message)
        .hint(format!("Write WATERMARK FOR {column} AS {column} - INTERVAL '5 seconds'."))
}

fn micros(interval: &Interval) -> SqlResult<i64> {
    let refuse = |message: &str| SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message);
    let Expr::Value(value) = interval.value.as_ref() else { return Err(refuse("the interval must be a constant")) };
    let (Value::SingleQuotedString(text) | Value::Number(text, _)) = &value.value else {
        return Err(refuse("the interval must be a constant"));
    };
    let text = match &interval.leading_field {
        Some(unit) => format!("{text} {unit}"),
        None => text.clone(),
    };
    let span = parse_interval(&text)?;
    if span.months != 0 {
        return Err(refuse("the interval of a watermark has no months or years").hint("Write it in days."));
    }
    let micros =
        i64::from(span.days).checked_mul(DAY_MICROS).and_then(|days| days.checked_add(span.nanoseconds / 1000));
    // As nanoseconds it must fit too, for it is shown as an interval.
    let micros = micros.filter(|micros| micros.checked_mul(1000).is_some());
    match micros.ok_or_else(|| refuse("the interval of a watermark is too long"))? {
        negative if negative < 0 => Err(refuse("the interval of a watermark must not be negative")),
        micros => Ok(micros),
    }
}
