//! Constants that have no type of their own yet, and the type on which several values agree.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::metadata::FieldMetadata;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Cast, Placeholder};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::scalar::ScalarValue;

use crate::zset::PgType;

/// An expression with its type; `None` while it has none: text constants, NULL, parameters.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub expr: Expr,
    pub kind: Option<PgType>,
}

impl Operand {
    pub fn new(expr: Expr, schema: &DFSchema) -> Result<Operand> {
        let kind = match &expr {
            Expr::Alias(alias) if matches!(*alias.expr, Expr::Literal(..)) => {
                return Operand::new((*alias.expr).clone(), schema);
            }
            Expr::Literal(ScalarValue::Utf8(_), None) => None,
            Expr::Literal(value, None) if value.is_null() => None,
            Expr::Literal(ScalarValue::Int64(Some(value)), None) => {
                Some(if i32::try_from(*value).is_ok() { PgType::Int4 } else { PgType::Int8 })
            }
            // Whole numbers past 64 bits are numeric constants.
            Expr::Literal(ScalarValue::UInt64(Some(_)), None) => Some(PgType::Numeric(Some((20, 0)))),
            Expr::Placeholder(Placeholder { field: None, .. }) => None,
            other => {
                let field = other.to_field(schema)?.1;
                if *field.data_type() == DataType::Null {
                    None
                } else {
                    let kind = PgType::of(&field);
                    let text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8);
                    if !text && *field.data_type() != kind.arrow() && !field.data_type().is_nested() {
                        // A type that PostgreSQL does not have, such as the UInt64 of row_number().
                        let expr = Expr::Cast(Cast::new_from_field(Box::new(expr), kind.field("", true).into()));
                        return Ok(Operand { expr, kind: Some(kind) });
                    }
                    Some(kind)
                }
            }
        };
        Ok(Operand { expr, kind })
    }
}

/// A constant of a type that is settled.
pub(super) fn typed_literal(value: ScalarValue, kind: &PgType) -> Expr {
    Expr::Literal(value, Some(FieldMetadata::from(kind.metadata())))
}

pub(super) fn typed_int(value: i16) -> Expr {
    typed_literal(ScalarValue::Int16(Some(value)), &PgType::Int2)
}

/// A constant that nothing gave another type: whole numbers are integer if they fit, text is text.
pub(super) fn settle(expression: Expr) -> Expr {
    match expression {
        Expr::Alias(mut alias) => {
            alias.expr = Box::new(settle(*alias.expr));
            Expr::Alias(alias)
        }
        Expr::Literal(ScalarValue::Int64(Some(value)), None) => match i32::try_from(value) {
            Ok(value) => typed_literal(ScalarValue::Int32(Some(value)), &PgType::Int4),
            Err(_) => typed_literal(ScalarValue::Int64(Some(value)), &PgType::Int8),
        },
        Expr::Literal(ScalarValue::Utf8(text), None) => typed_literal(ScalarValue::Utf8View(text), &PgType::Text),
        Expr::Placeholder(mut placeholder) if placeholder.field.is_none() => {
            placeholder.field = Some(PgType::Text.field("", true).into());
            Expr::Placeholder(placeholder)
        }
        other => other,
    }
}

/// The type that CASE, VALUES, COALESCE and IN bring all values to; `None` if none of them has a type, or if nothing has
/// to change.
pub(super) fn common_type(operands: &[Operand]) -> Option<PgType> {
    let mut kinds = operands.iter().filter_map(|operand| operand.kind.clone());
    let first = kinds.next()?;
    kinds.try_fold(first, |common, kind| wider(&common, &kind))
}

fn rank(kind: &PgType) -> Option<u8> {
    Some(match kind {
        PgType::Int2 => 1,
        PgType::Int4 => 2,
        PgType::Int8 => 3,
        PgType::Numeric(_) => 4,
        PgType::Float4 => 5,
        PgType::Float8 => 6,
        _ => return None,
    })
}

/// Digits before and after the point.
pub(super) fn digits(kind: &PgType) -> Option<(u8, i8)> {
    Some(match kind {
        PgType::Int2 => (5, 0),
        PgType::Int4 => (10, 0),
        PgType::Int8 => (19, 0),
        PgType::Numeric(None) => (38, crate::zset::NUMERIC_SCALE),
        PgType::Numeric(Some((precision, scale))) => (*precision, *scale),
        _ => return None,
    })
}

/// The type of two that holds both.
pub fn wider(left: &PgType, right: &PgType) -> Option<PgType> {
    if left == right {
        return Some(left.clone());
    }
    if let (Some(a), Some(b)) = (rank(left), rank(right)) {
        return match a.max(b) {
            4 => wider_numeric(digits(left)?, digits(right)?),
            5 if a.min(b) < 5 => Some(PgType::Float8),
            _ => Some(if a > b { left.clone() } else { right.clone() }),
        };
    }
    let is_text = |kind: &PgType| matches!(kind, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name);
    match (left, right) {
        (PgType::Bpchar(_), PgType::Bpchar(_) | PgType::Varchar(_)) => Some(PgType::Bpchar(None)),
        (a, b) if is_text(a) && is_text(b) => Some(PgType::Text),
        (PgType::Date, PgType::Timestamp) | (PgType::Timestamp, PgType::Date) => Some(PgType::Timestamp),
        (PgType::Date | PgType::Timestamp | PgType::Timestamptz, PgType::Timestamptz)
        | (PgType::Timestamptz, PgType::Date | PgType::Timestamp) => Some(PgType::Timestamptz),
        (PgType::Json | PgType::Jsonb, PgType::Json | PgType::Jsonb) => Some(PgType::Jsonb),
        (PgType::Oid, PgType::Int2 | PgType::Int4 | PgType::Int8)
        | (PgType::Int2 | PgType::Int4 | PgType::Int8, PgType::Oid) => Some(PgType::Int8),
        (PgType::Array(a), PgType::Array(b)) => wider(a, b).map(|item| PgType::Array(Box::new(item))),
        _ => None,
    }
}

fn wider_numeric(left: (u8, i8), right: (u8, i8)) -> Option<PgType> {
    const BARE: (u8, i8) = (38, crate::zset::NUMERIC_SCALE);
    let scale = left.1.max(right.1);
    let whole = (left.0 as i16 - left.1 as i16).max(right.0 as i16 - right.1 as i16);
    let digits = whole + scale as i16;
    match digits > 38 || left == BARE || right == BARE {
        true => Some(PgType::Numeric(None)),
        false => Some(PgType::Numeric(Some((digits as u8, scale)))),
    }
}
