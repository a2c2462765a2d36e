//! Casts: constants are converted at once, the rest by Arrow where it agrees with PostgreSQL, else by [`PgCast`].

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Cast;
use datafusion::scalar::ScalarValue;

use super::literals::{Operand, settle, typed_literal};
use crate::error::{SqlError, SqlState};
use crate::functions::scalar::{PgCast, carry};
use crate::functions::text::{TextStyle, parse_texts};
use crate::zset::PgType;

/// `CAST(x AS type)` as written by the user.
pub(super) fn explicit_cast(expression: Expr, to: &PgType, schema: &DFSchema) -> Result<Expr> {
    // A subquery has its type only once it is typed itself, which it is: inner plans come first.
    let operand = Operand::new(expression, schema)?;
    match &operand.kind {
        None => constant(operand.expr, to, true),
        Some(from) => cast(operand.expr, from, to, true),
    }
}

/// A value brought to the type that its surroundings ask for.
pub(super) fn cast_to(operand: Operand, to: &PgType) -> Result<Expr> {
    match &operand.kind {
        None => constant(operand.expr, to, false),
        Some(from) => cast(operand.expr, from, to, true),
    }
}

/// A value of one type as it is stored in a column of another. Text that is too long is refused.
pub fn assignment_cast(expression: Expr, from: &PgType, to: &PgType) -> Expr {
    let arrow_text = matches!(expression, Expr::Literal(ScalarValue::Utf8(_), None));
    let cast = match (&expression, arrow_text) {
        (Expr::Literal(ScalarValue::Null, _), _) | (_, true) => constant(expression.clone(), to, false),
        _ => cast(expression.clone(), from, to, false),
    };
    // What cannot be cast fails when it is run, with the value in its message.
    cast.unwrap_or_else(|_| native(expression, to))
}

/// A constant without type, a NULL or a parameter as a value of the type.
fn constant(expression: Expr, to: &PgType, explicit: bool) -> Result<Expr> {
    match expression {
        Expr::Literal(value, _) if value.is_null() => Ok(typed_literal(ScalarValue::try_new_null(&to.arrow())?, to)),
        Expr::Literal(ScalarValue::Utf8(Some(text)), _) => text_constant(text, to, explicit),
        Expr::Placeholder(mut placeholder) => {
            placeholder.field = Some(to.field("", true).into());
            Ok(Expr::Placeholder(placeholder))
        }
        other => Ok(native(other, to)),
    }
}

fn text_constant(text: String, to: &PgType, explicit: bool) -> Result<Expr> {
    let literal = typed_literal(ScalarValue::Utf8View(Some(text.clone())), &PgType::Text);
    // What the text means depends on the clock or the session's zone: it is read when the statement runs.
    if depends_on_session(&text, to) {
        return Ok(PgCast::call(literal, &PgType::Text, to, explicit));
    }
    match (to, explicit) {
        (PgType::Varchar(Some(_)) | PgType::Bpchar(Some(_)), true) => {
            return Ok(PgCast::call(literal, &PgType::Text, to, explicit));
        }
        (PgType::Text, _) => return Ok(literal),
        _ => {}
    }
    let array = parse_texts(std::iter::once(Some(text.as_str())), to, TextStyle::default());
    let array = array.map_err(|failed| carry(failed.error))?;
    Ok(typed_literal(ScalarValue::try_from_array(&array, 0)?, to))
}

fn depends_on_session(text: &str, kind: &PgType) -> bool {
    match kind {
        PgType::Timestamptz => true,
        PgType::Date | PgType::Time | PgType::Timestamp => {
            let word = text.trim().to_ascii_lowercase();
            ["now", "today", "tomorrow", "yesterday", "allballs"].contains(&word.as_str())
        }
        PgType::Array(item) => depends_on_session(text, item),
        _ => false,
    }
}

fn cast(expression: Expr, from: &PgType, to: &PgType, explicit: bool) -> Result<Expr> {
    if from == to {
        return Ok(settle(expression));
    }
    if let Expr::Literal(ScalarValue::Int64(Some(value)), None) = &expression
        && let Some(literal) = whole_constant(*value, to)
    {
        return Ok(literal);
    }
    if let (Expr::Placeholder(_), PgType::Numeric(None), PgType::Numeric(Some(_))) = (&expression, from, to) {
        return constant(expression, to, explicit);
    }
    let expression = settle(expression);
    match how(from, to) {
        How::Native => Ok(native(expression, to)),
        How::Own => Ok(PgCast::call(expression, from, to, explicit)),
        How::Never => Err(carry(cannot_cast(from, to))),
    }
}

/// A whole number written as a constant of another numeric type.
fn whole_constant(value: i64, to: &PgType) -> Option<Expr> {
    let value = match to {
        PgType::Int2 => ScalarValue::Int16(Some(i16::try_from(value).ok()?)),
        PgType::Int8 => ScalarValue::Int64(Some(value)),
        PgType::Float4 => ScalarValue::Float32(Some(value as f32)),
        PgType::Float8 => ScalarValue::Float64(Some(value as f64)),
        _ => return None,
    };
    Some(typed_literal(value, to))
}

fn native(expression: Expr, to: &PgType) -> Expr {
    Expr::Cast(Cast::new_from_field(Box::new(expression), Arc::new(to.field("", true))))
}

fn cannot_cast(from: &PgType, to: &PgType) -> SqlError {
    let message = format!("cannot cast type {from} to {to}");
    SqlError::new(SqlState::CANNOT_COERCE, message).hint("Go by way of text: (value::text)::type.")
}

enum How {
    Native,
    Own,
    Never,
}

fn how(from: &PgType, to: &PgType) -> How {
    use PgType::{
        Array, Bool, Bpchar, Bytea, Date, Float4, Float8, Int2, Int4, Int8, Interval, Json, Jsonb, Name, Numeric, Oid,
        Text, Time, Timestamp, Timestamptz, Uuid, Varchar,
    };
    let is_text = |kind: &PgType| matches!(kind, Text | Varchar(_) | Bpchar(_) | Name);
    let is_number = |kind: &PgType| matches!(kind, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_));
    match (from, to) {
        // Same Arrow type, nothing to check.
        (from, Text | Varchar(None)) if is_text(from) => How::Native,
        (Bpchar(_), Bpchar(None)) => How::Native,
        (from, to) if is_text(from) || is_text(to) => How::Own,
        (Float4 | Float8, Int2 | Int4 | Int8 | Numeric(_)) | (Numeric(_), Int2 | Int4 | Int8) => How::Own,
        (from, to) if is_number(from) && is_number(to) => How::Native,
        (Json | Jsonb, Json | Jsonb | Bool) => How::Own,
        (Json | Jsonb, to) if is_number(to) => How::Own,
        (Bool, Int4) | (Int4, Bool) => How::Native,
        (Int2 | Int4 | Int8 | Oid, Oid) | (Oid, Int2 | Int4 | Int8) => How::Native,
        (Timestamptz, Date | Timestamp | Time) | (Date | Timestamp, Timestamptz) => How::Own,
        (Date | Timestamp, Date | Timestamp) => How::Native,
        (Interval, Time) | (Time, Interval) => How::Own,
        (Timestamp, Time) => How::Native,
        (Bytea, Bytea) | (Uuid, Uuid) | (Array(_), Array(_)) | (Interval, Interval) => How::Native,
        _ => How::Never,
    }
}
