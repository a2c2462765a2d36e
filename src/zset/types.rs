//! The SQL types as PostgreSQL names them, and the Arrow type that holds each.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use serde::{Deserialize, Serialize};

/// The key of a field's metadata that tells apart SQL types which share an Arrow type.
pub const TYPE_METADATA_KEY: &str = "hw.type";

/// A type of PostgreSQL 15 (chapter 8) that a column can have.
///
/// | SQL | Arrow |
/// |---|---|
/// | boolean, smallint, integer, bigint, real, double precision | the same |
/// | numeric(p,s) | Decimal128 up to 38 digits, else Decimal256 |
/// | numeric | Decimal128(38, 16) |
/// | text, varchar(n), char(n), name, json, jsonb | Utf8View |
/// | bytea | BinaryView |
/// | date, time, timestamp, timestamptz | Date32, Time64, Timestamp, all in microseconds but date |
/// | interval | Interval(MonthDayNano) |
/// | uuid | FixedSizeBinary(16) |
/// | oid | UInt32 |
/// | arrays | List |
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PgType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Precision and scale, if declared.
    Numeric(Option<(u8, i8)>),
    Text,
    /// Length in characters, if declared.
    Varchar(Option<u32>),
    Bpchar(Option<u32>),
    Name,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Json,
    Jsonb,
    Oid,
    Array(Box<PgType>),
}

/// Digits after the point of a `numeric` that was declared without a scale.
pub const NUMERIC_SCALE: i8 = 16;

impl PgType {
    /// Whether values are instants, which are shown and read in a time zone.
    pub fn has_zone(&self) -> bool {
        match self {
            PgType::Timestamptz => true,
            PgType::Array(item) => item.has_zone(),
            _ => false,
        }
    }

    /// The Arrow type of a column of this type.
    pub fn arrow(&self) -> DataType {
        match self {
            PgType::Bool => DataType::Boolean,
            PgType::Int2 => DataType::Int16,
            PgType::Int4 => DataType::Int32,
            PgType::Int8 => DataType::Int64,
            PgType::Float4 => DataType::Float32,
            PgType::Float8 => DataType::Float64,
            PgType::Numeric(None) => DataType::Decimal128(38, NUMERIC_SCALE),
            PgType::Numeric(Some((precision, scale))) if *precision <= 38 => DataType::Decimal128(*precision, *scale),
            PgType::Numeric(Some((precision, scale))) => DataType::Decimal256(*precision, *scale),
            PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Json | PgType::Jsonb => {
                DataType::Utf8View
            }
            PgType::Bytea => DataType::BinaryView,
            PgType::Date => DataType::Date32,
            PgType::Time => DataType::Time64(TimeUnit::Microsecond),
            PgType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            PgType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("+00:00"))),
            PgType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            PgType::Uuid => DataType::FixedSizeBinary(16),
            PgType::Oid => DataType::UInt32,
            PgType::Array(item) => DataType::List(Arc::new(item.field("item", true))),
        }
    }

    /// A field of this type that [`PgType::of`] reads back.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.arrow(), nullable);
        match self.needs_metadata() {
            true => field.with_metadata(self.metadata()),
            false => field,
        }
    }

    /// The metadata that marks a field as being of this type.
    pub fn metadata(&self) -> HashMap<String, String> {
        HashMap::from([(TYPE_METADATA_KEY.to_string(), self.to_string())])
    }

    fn needs_metadata(&self) -> bool {
        matches!(
            self,
            PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Json | PgType::Jsonb | PgType::Uuid
        )
    }

    /// The SQL type of a field: its metadata if it has any, else what its Arrow type suggests.
    pub fn of(field: &Field) -> PgType {
        let marked = field.metadata().get(TYPE_METADATA_KEY).and_then(|name| PgType::parse(name));
        // Metadata survives casts that change the Arrow type; then it is stale.
        let marked = marked.filter(|marked| marked.arrow() == *field.data_type());
        marked.unwrap_or_else(|| PgType::of_arrow(field.data_type()))
    }

    /// The SQL type that an Arrow type stands for when nothing else is known; text where nothing fits.
    pub fn of_arrow(data_type: &DataType) -> PgType {
        match data_type {
            DataType::Boolean => PgType::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => PgType::Int2,
            DataType::Int32 | DataType::UInt16 => PgType::Int4,
            // DataFusion counts rows and lengths in UInt64, where PostgreSQL says bigint.
            DataType::Int64 | DataType::UInt64 => PgType::Int8,
            DataType::UInt32 => PgType::Oid,
            DataType::Float16 | DataType::Float32 => PgType::Float4,
            DataType::Float64 => PgType::Float8,
            DataType::Decimal128(38, NUMERIC_SCALE) => PgType::Numeric(None),
            DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
                PgType::Numeric(Some((*precision, *scale)))
            }
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => PgType::Bytea,
            DataType::FixedSizeBinary(16) => PgType::Uuid,
            DataType::FixedSizeBinary(_) => PgType::Bytea,
            DataType::Date32 | DataType::Date64 => PgType::Date,
            DataType::Time32(_) | DataType::Time64(_) => PgType::Time,
            DataType::Timestamp(_, None) => PgType::Timestamp,
            DataType::Timestamp(_, Some(_)) => PgType::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => PgType::Interval,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                PgType::Array(Box::new(PgType::of(item)))
            }
            _ => PgType::Text,
        }
    }

    /// Reads a type's name as SQL writes it: `int`, `varchar(10)`, `numeric(10,2)`, `text[]`. `None` if unknown.
    pub fn parse(name: &str) -> Option<PgType> {
        let name = name.trim().to_ascii_lowercase();
        if let Some(item) = name.strip_suffix("[]") {
            return Some(PgType::Array(Box::new(PgType::parse(item)?)));
        }
        let (base, arguments) = match name.split_once('(') {
            Some((base, rest)) => (base.trim().to_string(), Some(rest.split(')').next()?.to_string())),
            None => (name, None),
        };
        let numbers = |text: &String| text.split(',').map(|n| n.trim().parse::<i64>().ok()).collect::<Option<Vec<_>>>();
        let arguments = match &arguments {
            Some(text) => numbers(text)?,
            None => Vec::new(),
        };
        let length = arguments.first().and_then(|length| u32::try_from(*length).ok());
        Some(match base.as_str() {
            "bool" | "boolean" => PgType::Bool,
            "smallint" | "int2" => PgType::Int2,
            "int" | "integer" | "int4" => PgType::Int4,
            "bigint" | "int8" => PgType::Int8,
            "real" | "float4" => PgType::Float4,
            "double precision" | "double" | "float8" | "float" => PgType::Float8,
            "numeric" | "decimal" => match arguments.as_slice() {
                [] => PgType::Numeric(None),
                [precision] => PgType::Numeric(Some((u8::try_from(*precision).ok()?, 0))),
                [precision, scale] => {
                    PgType::Numeric(Some((u8::try_from(*precision).ok()?, i8::try_from(*scale).ok()?)))
                }
                _ => return None,
            },
            "text" | "string" => PgType::Text,
            "varchar" | "character varying" => PgType::Varchar(length),
            "char" | "character" | "bpchar" => PgType::Bpchar(length.or((base != "bpchar").then_some(1))),
            "name" => PgType::Name,
            "bytea" => PgType::Bytea,
            "date" => PgType::Date,
            "time" | "time without time zone" => PgType::Time,
            "timestamp" | "timestamp without time zone" => PgType::Timestamp,
            "timestamptz" | "timestamp with time zone" => PgType::Timestamptz,
            "interval" => PgType::Interval,
            "uuid" => PgType::Uuid,
            "json" => PgType::Json,
            "jsonb" => PgType::Jsonb,
            "oid" => PgType::Oid,
            _ => return None,
        })
    }

    /// The type's OID in PostgreSQL's `pg_type`.
    pub fn oid(&self) -> u32 {
        self.oids().0
    }

    /// The OID of the type's array type; for an array its own.
    pub fn array_oid(&self) -> u32 {
        self.oids().1
    }

    fn oids(&self) -> (u32, u32) {
        match self {
            PgType::Bool => (16, 1000),
            PgType::Bytea => (17, 1001),
            PgType::Name => (19, 1003),
            PgType::Int8 => (20, 1016),
            PgType::Int2 => (21, 1005),
            PgType::Int4 => (23, 1007),
            PgType::Text => (25, 1009),
            PgType::Oid => (26, 1028),
            PgType::Json => (114, 199),
            PgType::Float4 => (700, 1021),
            PgType::Float8 => (701, 1022),
            PgType::Bpchar(_) => (1042, 1014),
            PgType::Varchar(_) => (1043, 1015),
            PgType::Date => (1082, 1182),
            PgType::Time => (1083, 1183),
            PgType::Timestamp => (1114, 1115),
            PgType::Timestamptz => (1184, 1185),
            PgType::Interval => (1186, 1187),
            PgType::Numeric(_) => (1700, 1231),
            PgType::Uuid => (2950, 2951),
            PgType::Jsonb => (3802, 3807),
            PgType::Array(item) => (item.array_oid(), item.array_oid()),
        }
    }

    /// PostgreSQL's `atttypmod`: -1 if nothing is declared.
    pub fn typmod(&self) -> i32 {
        match self {
            PgType::Varchar(Some(length)) | PgType::Bpchar(Some(length)) => *length as i32 + 4,
            PgType::Numeric(Some((precision, scale))) => ((i32::from(*precision) << 16) | i32::from(*scale)) + 4,
            PgType::Array(item) => item.typmod(),
            _ => -1,
        }
    }
}

/// The type as `format_type` writes it: `integer`, `character varying(10)`, `text[]`.
impl fmt::Display for PgType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            PgType::Bool => "boolean",
            PgType::Int2 => "smallint",
            PgType::Int4 => "integer",
            PgType::Int8 => "bigint",
            PgType::Float4 => "real",
            PgType::Float8 => "double precision",
            PgType::Numeric(None) => "numeric",
            PgType::Numeric(Some((precision, scale))) => return write!(f, "numeric({precision},{scale})"),
            PgType::Text => "text",
            PgType::Varchar(Some(length)) => return write!(f, "character varying({length})"),
            PgType::Varchar(None) => "character varying",
            PgType::Bpchar(Some(length)) => return write!(f, "character({length})"),
            PgType::Bpchar(None) => "bpchar",
            PgType::Name => "name",
            PgType::Bytea => "bytea",
            PgType::Date => "date",
            PgType::Time => "time without time zone",
            PgType::Timestamp => "timestamp without time zone",
            PgType::Timestamptz => "timestamp with time zone",
            PgType::Interval => "interval",
            PgType::Uuid => "uuid",
            PgType::Json => "json",
            PgType::Jsonb => "jsonb",
            PgType::Oid => "oid",
            PgType::Array(item) => return write!(f, "{item}[]"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_survives_being_a_field() {
        let names = "boolean smallint integer bigint real numeric numeric(10,2) text uuid json jsonb bytea date \
                     interval oid name character(3) text[] integer[] varchar(7) numeric(50,4) timestamp timestamptz";
        for name in names.split_whitespace() {
            let kind = PgType::parse(name).expect(name);
            assert_eq!(PgType::of(&kind.field("c", true)), kind, "{name}");
            assert_eq!(PgType::parse(&kind.to_string()), Some(kind), "{name}");
        }
    }

    #[test]
    fn unknown_types_are_not_guessed() {
        assert_eq!(PgType::parse("money"), None);
        assert_eq!(PgType::parse("numeric(x)"), None);
    }
}
