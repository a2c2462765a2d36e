//! How calls of functions that no user can name are written in SQL.

use std::any::Any;

use datafusion::logical_expr::ScalarUDF;

use super::super::zoned::unbound;
use super::calendar::{AtTimeZone, DatePart};
use super::{Arithmetic, JsonCall, NumberFunction, PgCast, TimeOperation, compare};
use crate::zset::PgType;

/// The form of a call.
pub enum Written {
    /// An operator between two sides.
    Infix(&'static str),
    Cast(PgType),
    Extract(String),
    AtTimeZone,
    /// A function with a number of places behind the argument.
    Places(&'static str, i8),
    /// The argument alone.
    Unseen,
}

/// `None` for functions that are written as they are called.
pub fn written(function: &ScalarUDF) -> Option<Written> {
    let function = unbound(function).inner().as_ref() as &dyn Any;
    if let Some(arithmetic) = function.downcast_ref::<Arithmetic>() {
        Some(Written::Infix(arithmetic.symbol()))
    } else if let Some(operation) = function.downcast_ref::<TimeOperation>() {
        Some(Written::Infix(operation.symbol()))
    } else if let Some(json) = function.downcast_ref::<JsonCall>() {
        Some(Written::Infix(json.symbol()))
    } else if let Some(cast) = function.downcast_ref::<PgCast>() {
        Some(Written::Cast(cast.target().clone()))
    } else if let Some(part) = function.downcast_ref::<DatePart>() {
        Some(Written::Extract(part.field().to_string()))
    } else if let Some(number) = function.downcast_ref::<NumberFunction>() {
        number.places().map(|(name, places)| Written::Places(name, places))
    } else if function.is::<AtTimeZone>() {
        Some(Written::AtTimeZone)
    } else if function.is::<compare::IntervalOrder>() {
        Some(Written::Unseen)
    } else {
        None
    }
}
