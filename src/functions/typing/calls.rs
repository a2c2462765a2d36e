//! Calls of functions: those that bring their arguments to one type, and those whose result PostgreSQL types otherwise.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::scalar::ScalarValue;

use super::casts::cast_to;
use super::literals::{Operand, common_type, settle};
use super::operators::operator_expr;
use super::pending::{Pending, What};
use crate::error::{SqlError, SqlState};
use crate::functions::clock::now_udf;
use crate::functions::scalar::{
    AtTimeZone, DatePart, FromEpoch, IntervalFunction, IntervalRule, NumberFunction, Rounding, Template, TemplateCall,
    carry,
};
use crate::zset::PgType;

/// A call whose arguments are typed.
pub(super) fn type_call(call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    if let Some(pending) = Pending::of(&call.func) {
        return match pending.what.clone() {
            What::Operator(operator) => {
                let [left, right] = two(call.args)?;
                operator_expr(operator, left, right, schema)
            }
            What::Function(name, _) => function(name, call.args, schema),
        };
    }
    match call.name() {
        "coalesce" | "greatest" | "least" | "nullif" | "make_array" => same_type(call, schema),
        "log" if call.args.len() == 1 => function("log10", call.args, schema),
        "generate_series" => whole_series(call, schema),
        "cardinality" => Ok(as_integer(Expr::ScalarFunction(call))),
        // An array without elements has no length.
        "array_length" => {
            let length = as_integer(Expr::ScalarFunction(call));
            let zero = super::literals::typed_literal(ScalarValue::Int32(Some(0)), &PgType::Int4);
            Ok(datafusion::functions::core::nullif().call(vec![length, zero]))
        }
        _ => Ok(Expr::ScalarFunction(call)),
    }
}

fn two(args: Vec<Expr>) -> Result<[Expr; 2]> {
    args.try_into().map_err(|_| carry(SqlError::internal("an operator has two sides")))
}

/// A pending function by the types of its arguments.
fn function(name: &'static str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    let operands = args.into_iter().map(|argument| Operand::new(argument, schema)).collect::<Result<Vec<_>>>()?;
    let kinds: Vec<Option<PgType>> = operands.iter().map(|operand| operand.kind.clone()).collect();
    let typed = match name {
        "extract" | "date_part" => date_part(name == "extract", operands)?,
        "to_char" => to_char(operands)?,
        "to_date" => template(Template::ToDate, operands)?,
        "to_number" => template(Template::ToNumber, operands)?,
        "to_timestamp" => to_timestamp(operands)?,
        "age" => age(operands)?,
        "justify_hours" => interval(IntervalRule::JustifyHours, operands)?,
        "justify_days" => interval(IntervalRule::JustifyDays, operands)?,
        "justify_interval" => interval(IntervalRule::JustifyInterval, operands)?,
        "timezone" => timezone(operands)?,
        "abs" => one_number(operands, NumberFunction::abs)?,
        "sign" => one_number(operands, NumberFunction::sign)?,
        "round" => rounding(operands, Rounding::Round)?,
        "trunc" => rounding(operands, Rounding::Truncate)?,
        "ceil" | "ceiling" => rounding(operands, Rounding::Ceiling)?,
        "floor" => rounding(operands, Rounding::Floor)?,
        "ln" => one_number(operands, |argument, _| NumberFunction::logarithm("ln", argument))?,
        _ => one_number(operands, |argument, _| NumberFunction::logarithm("log", argument))?,
    };
    typed.ok_or_else(|| undefined_function(name, &kinds))
}

fn undefined_function(name: &str, kinds: &[Option<PgType>]) -> DataFusionError {
    let kinds = kinds.iter().map(|kind| kind.as_ref().map_or("unknown".to_string(), PgType::to_string));
    let message = format!("function {name}({}) does not exist", kinds.collect::<Vec<_>>().join(", "));
    let hint = "No function of this name takes these arguments. Check their number, or add explicit casts.";
    carry(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).hint(hint))
}

fn text_of(operand: &Operand) -> Option<String> {
    match &operand.expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => Some(text.clone()),
        _ => None,
    }
}

fn date_part(numeric: bool, operands: Vec<Operand>) -> Result<Option<Expr>> {
    let [field, value] = operands.as_slice() else { return Ok(None) };
    let (Some(field), Some(kind)) = (text_of(field), value.kind.clone()) else { return Ok(None) };
    if !matches!(kind, PgType::Date | PgType::Time | PgType::Timestamp | PgType::Timestamptz | PgType::Interval) {
        return Ok(None);
    }
    match DatePart::call(&field, numeric, value.expr.clone(), &kind) {
        Some(call) => Ok(Some(call)),
        None => {
            let message = format!("unit \"{}\" not recognized for type {kind}", field.to_lowercase());
            let hint = "Units are year, month, day, hour, minute, second, week, quarter, dow, doy, epoch and more.";
            Err(carry(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint(hint)))
        }
    }
}

fn to_char(operands: Vec<Operand>) -> Result<Option<Expr>> {
    let Ok([value, by]) = <[Operand; 2]>::try_from(operands) else { return Ok(None) };
    let kind = match &value.kind {
        Some(PgType::Date | PgType::Timestamp) => PgType::Timestamp,
        Some(PgType::Timestamptz) => PgType::Timestamptz,
        Some(numeric @ PgType::Numeric(_)) => numeric.clone(),
        Some(other) if is_number(other) => PgType::Numeric(None),
        _ => return Ok(None),
    };
    let template = match &kind {
        PgType::Numeric(_) => Template::ToChar(PgType::Numeric(None)),
        kind => Template::ToChar(kind.clone()),
    };
    Ok(Some(TemplateCall::call(template, cast_to(value, &kind)?, cast_to(by, &PgType::Text)?)))
}

fn template(template: Template, operands: Vec<Operand>) -> Result<Option<Expr>> {
    let Ok([value, by]) = <[Operand; 2]>::try_from(operands) else { return Ok(None) };
    Ok(Some(TemplateCall::call(template, cast_to(value, &PgType::Text)?, cast_to(by, &PgType::Text)?)))
}

fn to_timestamp(mut operands: Vec<Operand>) -> Result<Option<Expr>> {
    if operands.len() != 1 {
        return template(Template::ToTimestamp, operands);
    }
    let Some(seconds) = operands.pop() else { return Ok(None) };
    match seconds.kind.as_ref().is_none_or(is_number) {
        true => Ok(Some(FromEpoch::call(cast_to(seconds, &PgType::Float8)?))),
        false => Ok(None),
    }
}

/// With one argument the age at the beginning of today.
fn age(mut operands: Vec<Operand>) -> Result<Option<Expr>> {
    if operands.len() == 1 {
        let now = Operand { expr: now_udf().call(Vec::new()), kind: Some(PgType::Timestamptz) };
        let today = Operand { expr: cast_to(now, &PgType::Date)?, kind: Some(PgType::Date) };
        operands.insert(0, today);
    }
    let Ok([later, earlier]) = <[Operand; 2]>::try_from(operands) else { return Ok(None) };
    let sides = vec![cast_to(later, &PgType::Timestamp)?, cast_to(earlier, &PgType::Timestamp)?];
    Ok(Some(IntervalFunction::call(IntervalRule::Age, sides)))
}

fn interval(rule: IntervalRule, operands: Vec<Operand>) -> Result<Option<Expr>> {
    let Ok([value]) = <[Operand; 1]>::try_from(operands) else { return Ok(None) };
    Ok(Some(IntervalFunction::call(rule, vec![cast_to(value, &PgType::Interval)?])))
}

fn timezone(operands: Vec<Operand>) -> Result<Option<Expr>> {
    let Ok([zone, value]) = <[Operand; 2]>::try_from(operands) else { return Ok(None) };
    let kind = match &value.kind {
        Some(PgType::Timestamptz) | None => PgType::Timestamptz,
        Some(PgType::Timestamp | PgType::Date) => PgType::Timestamp,
        Some(_) => return Ok(None),
    };
    let zoned = kind == PgType::Timestamptz;
    Ok(Some(AtTimeZone::call(cast_to(zone, &PgType::Text)?, cast_to(value, &kind)?, zoned)))
}

fn as_integer(expression: Expr) -> Expr {
    Expr::Cast(Cast::new_from_field(Box::new(expression), PgType::Int4.field("", true).into()))
}

/// All arguments in the type that holds them all.
fn same_type(call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    let ScalarFunction { func, args } = call;
    let operands = args.into_iter().map(|argument| Operand::new(argument, schema)).collect::<Result<Vec<_>>>()?;
    let kind = common_type(&operands);
    let cast = operands.into_iter().map(|operand| match &kind {
        Some(kind) => cast_to(operand, kind),
        None => Ok(settle(operand.expr)),
    });
    Ok(Expr::ScalarFunction(ScalarFunction { func, args: cast.collect::<Result<Vec<_>>>()? }))
}

fn is_number(kind: &PgType) -> bool {
    use PgType::{Float4, Float8, Int2, Int4, Int8, Numeric};
    matches!(kind, Int2 | Int4 | Int8 | Float4 | Float8)
        || matches!(kind, Numeric(None))
        || matches!(kind, Numeric(Some((precision, _))) if *precision <= 38)
}

/// A function of one number, in the number's own type. Text constants are read as double precision.
fn one_number(operands: Vec<Operand>, make: impl FnOnce(Expr, &PgType) -> Expr) -> Result<Option<Expr>> {
    let Ok([operand]) = <[Operand; 1]>::try_from(operands) else { return Ok(None) };
    let kind = operand.kind.clone().unwrap_or(PgType::Float8);
    match is_number(&kind) {
        true => Ok(Some(make(cast_to(operand, &kind)?, &kind))),
        false => Ok(None),
    }
}

/// `round(x)`, `round(numeric, places)` and their like.
fn rounding(operands: Vec<Operand>, rounding: Rounding) -> Result<Option<Expr>> {
    let count = operands.len();
    let mut operands = operands.into_iter();
    let (Some(operand), places) = (operands.next(), operands.next()) else { return Ok(None) };
    let kind = operand.kind.clone().unwrap_or(PgType::Float8);
    let places = match places.map(|places| places.expr) {
        None => 0,
        Some(Expr::Literal(ScalarValue::Int64(Some(places)), _)) => places.clamp(-38, 38) as i8,
        Some(Expr::Literal(ScalarValue::Int32(Some(places)), _)) => places.clamp(-38, 38) as i8,
        Some(_) => {
            let message = "the number of places to round to must be a constant";
            return Err(carry(SqlError::unsupported(message, "Write it as a number, or use CASE for a few cases.")));
        }
    };
    if !is_number(&kind) || count > 2 {
        return Ok(None);
    }
    // PostgreSQL rounds only numerics to places; integers become one.
    let kind = match (&kind, count) {
        (PgType::Int2 | PgType::Int4 | PgType::Int8, 2) => PgType::Numeric(super::literals::digits(&kind)),
        (PgType::Float4 | PgType::Float8, 2) => return Ok(None),
        (PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float4, _) => PgType::Float8,
        _ => kind,
    };
    Ok(Some(NumberFunction::rounded(rounding, places, cast_to(operand, &kind)?, &kind)))
}

/// The series of integers is one of integers, not of bigints.
fn whole_series(call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    let operands = call.args.iter().map(|argument| Operand::new(argument.clone(), schema));
    let operands = operands.collect::<Result<Vec<_>>>()?;
    let small = operands.iter().all(|operand| matches!(operand.kind, Some(PgType::Int2 | PgType::Int4)));
    let call = Expr::ScalarFunction(call);
    if !small {
        return Ok(call);
    }
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let list = Field::new("", DataType::List(item), true);
    Ok(Expr::Cast(Cast::new_from_field(Box::new(call), list.into())))
}
