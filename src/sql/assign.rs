//! PostgreSQL's assignment casts: what becomes of a value that is stored in a column of another type.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan};

use super::errors::planning_error;
use crate::catalog::Column;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions;
use crate::zset::PgType;

/// A plan's column as a value of a table's column.
pub(super) fn assigned_column(plan: &LogicalPlan, index: usize, column: &Column) -> SqlResult<Expr> {
    let from = PgType::of(plan.schema().field(index));
    if from != PgType::Text || !is_constant(plan, index) {
        check(&from, plan.schema().field(index).data_type(), column)?;
    }
    let expression = Expr::Column(plan.schema().columns()[index].clone());
    Ok(functions::assignment_cast(expression, &from, &column.pg_type))
}

/// An expression as a value of a table's column.
pub(super) fn assigned(expression: Expr, schema: &DFSchema, column: &Column) -> SqlResult<Expr> {
    let field = expression.to_field(schema).map_err(|error| planning_error(&error, None))?.1;
    let from = PgType::of(&field);
    let constant = matches!(expression, Expr::Literal(..) | Expr::Placeholder(_));
    if !constant || !matches!(from, PgType::Text) {
        check(&from, field.data_type(), column)?;
    }
    Ok(functions::assignment_cast(expression, &from, &column.pg_type))
}

/// Text constants have no type of their own yet: they become whatever the column is.
fn is_constant(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::Values(values) => values.values.iter().all(|row| match &row[index] {
            Expr::Cast(cast) => matches!(*cast.expr, Expr::Literal(..) | Expr::Placeholder(_)),
            other => matches!(other, Expr::Literal(..) | Expr::Placeholder(_)),
        }),
        LogicalPlan::Projection(projection) => match &projection.expr[index] {
            Expr::Alias(alias) => matches!(*alias.expr, Expr::Literal(..) | Expr::Placeholder(_)),
            expression => match expression {
                Expr::Literal(..) | Expr::Placeholder(_) => true,
                Expr::Column(column) => match projection.input.as_ref() {
                    values @ LogicalPlan::Values(_) => {
                        values.schema().index_of_column(column).is_ok_and(|index| is_constant(values, index))
                    }
                    _ => false,
                },
                _ => false,
            },
        },
        LogicalPlan::Limit(limit) => is_constant(&limit.input, index),
        LogicalPlan::Sort(sort) => is_constant(&sort.input, index),
        LogicalPlan::SubqueryAlias(alias) => is_constant(&alias.input, index),
        _ => false,
    }
}

fn check(from: &PgType, data_type: &DataType, column: &Column) -> SqlResult<()> {
    if *data_type == DataType::Null || assignable(from, &column.pg_type) {
        return Ok(());
    }
    let message =
        format!("column \"{}\" is of type {} but expression is of type {from}", column.name, bare(&column.pg_type));
    Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).hint("You will need to rewrite or cast the expression."))
}

/// The type without its length.
fn bare(kind: &PgType) -> PgType {
    match kind {
        PgType::Varchar(_) => PgType::Varchar(None),
        PgType::Numeric(_) => PgType::Numeric(None),
        other => other.clone(),
    }
}

/// Whether PostgreSQL has an assignment cast.
fn assignable(from: &PgType, to: &PgType) -> bool {
    use PgType::{
        Array, Bool, Bpchar, Bytea, Date, Float4, Float8, Int2, Int4, Int8, Interval, Json, Jsonb, Name, Numeric, Oid,
        Text, Time, Timestamp, Timestamptz, Uuid, Varchar,
    };
    let is_text = |kind: &PgType| matches!(kind, Text | Varchar(_) | Bpchar(_) | Name);
    let is_number = |kind: &PgType| matches!(kind, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_));
    match (from, to) {
        // Everything can be stored as text.
        (_, to) if is_text(to) => true,
        (from, to) if is_number(from) && is_number(to) => true,
        (Int2 | Int4 | Int8 | Oid, Oid) | (Oid, Int4 | Int8) => true,
        (Date | Timestamp | Timestamptz, Date | Timestamp | Timestamptz) => true,
        (Timestamp | Timestamptz | Interval, Time) | (Time, Interval) => true,
        (Json | Jsonb, Json | Jsonb) => true,
        (Bool, Bool) | (Bytea, Bytea) | (Time, Time) | (Interval, Interval) | (Uuid, Uuid) => true,
        (Array(from), Array(to)) => assignable(from, to),
        _ => false,
    }
}
