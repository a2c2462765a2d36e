//! Type names of the syntax tree → [`PgType`], and their refusals.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::error::Result;
use datafusion::logical_expr::planner::TypePlanner;
use sqlparser::ast::{ArrayElemTypeDef, DataType};

use crate::catalog::nearest;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::WRITTEN_CAST;
use crate::zset::PgType;

/// As many digits as a 256-bit decimal holds.
const PRECISION_MAX: u8 = 76;

/// The type that a name means; `None` if there is no such type.
pub(super) fn pg_type(data_type: &DataType) -> Option<PgType> {
    if let DataType::Array(item) = data_type {
        return match item {
            ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::Parenthesis(item) => array_of(pg_type(item)?),
            ArrayElemTypeDef::None => None,
        };
    }
    let text = data_type.to_string().to_lowercase().replace('"', "");
    let text = text.strip_prefix("pg_catalog.").unwrap_or(&text);
    // `timestamp(3) with time zone`: all times have microseconds here.
    let zoned = text.contains("with time zone");
    match text.split(['(', ' ']).next().unwrap_or_default() {
        "timestamp" if zoned => Some(PgType::Timestamptz),
        "timestamp" => Some(PgType::Timestamp),
        "timestamptz" => Some(PgType::Timestamptz),
        "time" if !zoned => Some(PgType::Time),
        "interval" => Some(PgType::Interval),
        "float" => Some(match text.trim_start_matches("float").trim_matches(['(', ')']).parse::<u8>() {
            Ok(bits) if bits <= 24 => PgType::Float4,
            _ => PgType::Float8,
        }),
        "dec" => PgType::parse(&text.replacen("dec", "decimal", 1)),
        "bytes" | "blob" => None,
        "regclass" | "regtype" | "regproc" | "regnamespace" | "regrole" | "xid" | "cid" => Some(PgType::Oid),
        _ => PgType::parse(text),
    }
}

/// PostgreSQL's arrays have any number of dimensions under one type: `int[][]` is `int[]`.
fn array_of(item: PgType) -> Option<PgType> {
    match item {
        PgType::Array(_) => Some(item),
        item => Some(PgType::Array(Box::new(item))),
    }
}

/// The type that a name means, or 42704 with the nearest name.
pub(super) fn pg_type_or_err(data_type: &DataType) -> SqlResult<PgType> {
    match pg_type(data_type) {
        Some(PgType::Numeric(Some((precision, scale)))) => check_numeric(precision, scale),
        Some(PgType::Varchar(Some(0)) | PgType::Bpchar(Some(0))) => {
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "length for type varchar must be at least 1"))
        }
        Some(known) => Ok(known),
        None => Err(unknown_type(data_type)),
    }
}

fn check_numeric(precision: u8, scale: i8) -> SqlResult<PgType> {
    if precision == 0 || precision > PRECISION_MAX {
        let message = format!("NUMERIC precision {precision} must be between 1 and {PRECISION_MAX}");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    if scale < 0 || scale.unsigned_abs() > precision {
        let message = format!("NUMERIC scale {scale} must be between 0 and precision {precision}");
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(PgType::Numeric(Some((precision, scale))))
}

fn unknown_type(data_type: &DataType) -> SqlError {
    const NAMES: [&str; 30] = [
        "boolean",
        "smallint",
        "integer",
        "int",
        "bigint",
        "real",
        "double precision",
        "float",
        "numeric",
        "decimal",
        "text",
        "varchar",
        "char",
        "bytea",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "uuid",
        "json",
        "jsonb",
        "oid",
        "name",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "bool",
    ];
    let name = data_type.to_string().to_lowercase();
    let error = SqlError::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"));
    let base = name.split('(').next().unwrap_or(&name);
    let habit = match base {
        "datetime" => Some("timestamp"),
        "tinyint" => Some("smallint"),
        "string" | "nvarchar" | "clob" => Some("text"),
        "blob" | "binary" | "varbinary" | "bytes" => Some("bytea"),
        "money" => Some("numeric(19,2)"),
        "serial" | "bigserial" => Some("bigint"),
        "timetz" => Some("time"),
        _ => nearest(base, NAMES),
    };
    match habit {
        Some(name) => error.hint(format!("Did you mean {name}?")),
        None => {
            error.hint("Types are boolean, integer, bigint, numeric, text, timestamptz and PostgreSQL's other scalars.")
        }
    }
}

/// Plans type names in casts.
#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &DataType) -> Result<Option<FieldRef>> {
        let kind = pg_type_or_err(sql_type).map_err(super::errors::carry)?;
        Ok(Some(Arc::new(kind.field(WRITTEN_CAST, true))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn of(text: &str) -> SqlResult<PgType> {
        let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text);
        pg_type_or_err(&parser.expect("tokens").parse_data_type().expect(text))
    }

    #[test]
    fn all_spellings_of_a_type_are_known() {
        let cases = [
            ("int4", PgType::Int4),
            ("INTEGER", PgType::Int4),
            ("double precision", PgType::Float8),
            ("float(10)", PgType::Float4),
            ("character varying(5)", PgType::Varchar(Some(5))),
            ("timestamp(3) with time zone", PgType::Timestamptz),
            ("timestamp without time zone", PgType::Timestamp),
            ("numeric(10, 2)", PgType::Numeric(Some((10, 2)))),
            ("numeric", PgType::Numeric(None)),
            ("int[]", PgType::Array(Box::new(PgType::Int4))),
            ("text[][]", PgType::Array(Box::new(PgType::Text))),
            ("pg_catalog.int8", PgType::Int8),
            ("char", PgType::Bpchar(Some(1))),
        ];
        for (text, kind) in cases {
            assert_eq!(of(text), Ok(kind), "{text}");
        }
    }

    #[test]
    fn unknown_types_get_a_hint() {
        let error = of("intger").expect_err("misspelt");
        assert_eq!((error.code, error.hint.as_deref()), (SqlState::UNDEFINED_OBJECT, Some("Did you mean integer?")));
        assert_eq!(of("datetime").expect_err("MySQL's").hint.as_deref(), Some("Did you mean timestamp?"));
        assert_eq!(of("numeric(90,2)").expect_err("too wide").code, SqlState::INVALID_PARAMETER_VALUE);
    }
}
