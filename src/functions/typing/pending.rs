//! Calls that are planned before their types are known, and typed afterwards: they are never run.
//!
//! DataFusion's planner asks every call for its type at once, when constants have no PostgreSQL type yet. What a pending
//! call answers is only good enough to go on with.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::operators::Known;
use crate::error::SqlError;
use crate::functions::library;
use crate::functions::scalar::carry;
use crate::zset::PgType;

/// An operator or a function that the typing of the plan replaces.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Pending {
    pub what: What,
    signature: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum What {
    Operator(Known),
    /// A function's name, and what it gives unless its arguments say otherwise.
    Function(&'static str, PgType),
    /// One of the library.
    Library(&'static str),
}

impl Pending {
    pub fn new(what: What) -> Arc<ScalarUDF> {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Pending { what, signature }))
    }

    /// The pending call that a function is, if it is one.
    pub fn of(function: &ScalarUDF) -> Option<&Pending> {
        (function.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Pending>()
    }
}

/// The functions whose types depend on their arguments in ways that DataFusion's signatures cannot say.
pub fn pending_functions() -> Vec<Arc<ScalarUDF>> {
    let functions = [
        ("extract", PgType::Numeric(None)),
        ("date_part", PgType::Float8),
        ("to_char", PgType::Text),
        ("to_date", PgType::Date),
        ("to_timestamp", PgType::Timestamptz),
        ("to_number", PgType::Numeric(None)),
        ("age", PgType::Interval),
        ("justify_hours", PgType::Interval),
        ("justify_days", PgType::Interval),
        ("justify_interval", PgType::Interval),
        ("timezone", PgType::Timestamptz),
        ("abs", PgType::Float8),
        ("sign", PgType::Float8),
        ("round", PgType::Float8),
        ("trunc", PgType::Float8),
        ("ceil", PgType::Float8),
        ("ceiling", PgType::Float8),
        ("floor", PgType::Float8),
        ("ln", PgType::Float8),
        ("log10", PgType::Float8),
        ("date_trunc", PgType::Timestamp),
        ("pg_typeof", PgType::Text),
        ("hw_argument", PgType::Text),
        ("trim_scale", PgType::Numeric(None)),
        ("hw_series", PgType::Array(Box::new(PgType::Int8))),
    ];
    let special: Vec<&str> = functions.iter().map(|(name, _)| *name).collect();
    let library = library::names().filter(|name| !special.contains(name)).map(What::Library);
    let special = functions.iter().map(|(name, kind)| What::Function(name, kind.clone()));
    special.chain(library).map(Pending::new).collect()
}

fn narrowed(kind: PgType) -> PgType {
    if kind == PgType::Int8 { PgType::Int4 } else { kind }
}

impl ScalarUDFImpl for Pending {
    fn name(&self) -> &str {
        match &self.what {
            What::Operator(known) => known.symbol(),
            What::Function(name, _) | What::Library(name) => name,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Err(carry(SqlError::internal("a pending call is asked for its field")))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = |kind: &PgType| -> FieldRef { Arc::new(kind.field("pending", true)) };
        let kind = |field: &FieldRef| match field.data_type() {
            DataType::Null | DataType::Utf8 => None,
            _ => Some(PgType::of(field)),
        };
        match &self.what {
            What::Function("hw_argument", _) => args
                .arg_fields
                .first()
                .cloned()
                .ok_or_else(|| carry(SqlError::internal("an argument is checked by its type"))),
            What::Function(_, kind) => Ok(field(kind)),
            What::Library(name) => {
                let kinds: Vec<Option<PgType>> = args.arg_fields.iter().map(kind).collect();
                // A constant is a bigint for the planner, and an integer once it is typed.
                let narrow = || kinds.iter().map(|kind| kind.clone().map(narrowed)).collect::<Vec<_>>();
                let found = library::resolve(name, &kinds).or_else(|| library::resolve(name, &narrow()));
                // What DataFusion has under the same name.
                let shared = match *name {
                    "bit_length" | "length" | "octet_length" | "position" => PgType::Int4,
                    _ => PgType::Text,
                };
                Ok(field(&found.map_or(shared, |found| found.result)))
            }
            What::Operator(known) => {
                let (left, right) = (args.arg_fields.first().and_then(kind), args.arg_fields.get(1).and_then(kind));
                Ok(match known.result(left.as_ref(), right.as_ref()) {
                    Some(kind) => field(&kind),
                    None => Arc::new(Field::new("pending", DataType::Utf8View, true)),
                })
            }
        }
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(carry(SqlError::internal(format!("{} was run before it was typed", self.name()))))
    }
}
