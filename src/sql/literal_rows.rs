//! INSERT … VALUES of literals: straight to a batch, without a plan for each of thousands of rows.

use arrow::array::ArrayRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use sqlparser::ast::{Expr, Query, SetExpr, Spanned, UnaryOperator, Value};

use super::ddl::at;
use super::parse::{Parsed, parse_expression};
use crate::catalog::Relation;
use crate::error::SqlResult;
use crate::functions::text::{ColumnBuilder, TextStyle};
use crate::zset::PgType;

/// The rows of `VALUES` in the table's columns; `None` if they need a plan.
pub(super) fn literal_rows(
    query: &Query,
    table: &Relation,
    columns: &[usize],
    listed: bool,
    parsed: &Parsed,
) -> SqlResult<Option<RecordBatch>> {
    let plain =
        query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Values(values) = query.body.as_ref() else { return Ok(None) };
    let rows = &values.rows;
    let width = rows.first().map_or(0, |row| row.content.len());
    let same_width = rows.iter().all(|row| row.content.len() == width);
    if !plain || !same_width || width > columns.len() || (listed && width < columns.len()) {
        return Ok(None);
    }
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (index, column) in table.columns.iter().enumerate() {
        let position = columns[..width].iter().position(|other| *other == index);
        let default = match (&position, &column.default) {
            (None, Some(text)) => parse_expression(text)?,
            _ => Expr::Value(Value::Null.into()),
        };
        let mut builder = ColumnBuilder::new(&column.pg_type, TextStyle::default(), rows.len());
        for row in rows {
            let cell = position.map_or(&default, |position| &row.content[position]);
            match literal(cell, &column.pg_type) {
                None => return Ok(None),
                Some(None) => builder.append_null(),
                Some(Some(text)) => builder.append_text(&text).map_err(|error| at(parsed, cell.span(), error))?,
            }
        }
        arrays.push(builder.finish());
    }
    let nullable = nullable_schema(table);
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let batch = RecordBatch::try_new_with_options(nullable, arrays, &options);
    Ok(Some(batch.expect("every column was built in its column's type")))
}

/// NULLs are refused by the engine, which knows the row.
fn nullable_schema(table: &Relation) -> arrow::datatypes::SchemaRef {
    let fields = table.columns.iter().map(|column| column.pg_type.field(&column.name, true));
    std::sync::Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The text to be read as a value of the type (`Some(None)` for NULL); `None` if the cell is not a literal whose text
/// means the same as the literal.
fn literal(cell: &Expr, kind: &PgType) -> Option<Option<String>> {
    let is_text = matches!(kind, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name);
    match cell {
        Expr::Nested(inner) => literal(inner, kind),
        Expr::Value(value) => match &value.value {
            Value::Null => Some(None),
            // What `now` means in a literal depends on the clock.
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) if !depends_on_clock(text, kind) => {
                Some(Some(text.clone()))
            }
            Value::DollarQuotedString(text) if !depends_on_clock(&text.value, kind) => Some(Some(text.value.clone())),
            Value::Boolean(value) if *kind == PgType::Bool => Some(Some(value.to_string())),
            Value::Number(number, _) if is_text || takes_number(kind, number) => Some(Some(number.clone())),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) if takes_number(kind, number) => Some(Some(format!("-{number}"))),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn takes_number(kind: &PgType, number: &str) -> bool {
    match kind {
        PgType::Int2 | PgType::Int4 | PgType::Int8 => number.bytes().all(|b| b.is_ascii_digit()),
        PgType::Float4 | PgType::Float8 | PgType::Numeric(_) => true,
        _ => false,
    }
}

/// Times without zone of their own depend on the session's, words such as `now` on the clock.
fn depends_on_clock(text: &str, kind: &PgType) -> bool {
    match kind {
        PgType::Timestamptz => true,
        PgType::Date | PgType::Time | PgType::Timestamp => !text.bytes().any(|b| b.is_ascii_digit()),
        PgType::Array(item) => depends_on_clock(text, item),
        _ => false,
    }
}
