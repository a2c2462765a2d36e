//! Calls of functions: those that bring their arguments to one type, and those whose result PostgreSQL types otherwise.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Cast, ScalarFunction};
use datafusion::logical_expr::{Expr, ScalarUDF};
use datafusion::scalar::ScalarValue;

use super::casts::cast_to;
use super::literals::{Operand, common_type, settle};
use super::operators::{operator_expr, plain as without_length};
use super::pending::{Pending, What};
use crate::error::{SqlError, SqlState};
use crate::functions::clock::now_udf;
use crate::functions::library::{self, LibraryCall};
use crate::functions::scalar::{
    AtTimeZone, DatePart, FromEpoch, IntervalFunction, IntervalRule, NumberFunction, PgCast, Rounding, Template,
    TemplateCall, carry,
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
            What::Library(name) => library_call(name, call.args, schema),
        };
    }
    match call.name() {
        "coalesce" | "greatest" | "least" | "nullif" | "make_array" => same_type(call, schema),
        "log" if call.args.len() == 1 => function("log10", call.args, schema),
        "array_element" => item_of_array(call, schema),
        "get_field" => Err(no_such_table(&call)),
        "cardinality" => Ok(as_integer(Expr::ScalarFunction(call))),
        "date_trunc" if call.args.len() == 2 => truncated(call, schema),
        // An array without elements has no length.
        "array_length" => {
            let length = as_integer(Expr::ScalarFunction(call));
            let zero = super::literals::typed_literal(ScalarValue::Int32(Some(0)), &PgType::Int4);
            Ok(datafusion::functions::core::nullif().call(vec![length, zero]))
        }
        _ => Ok(Expr::ScalarFunction(call)),
    }
}

/// An item of an array is of the kind of text that the array holds.
fn item_of_array(call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    let array = call.args.first().map(|array| Operand::new(array.clone(), schema)).transpose()?;
    let call = Expr::ScalarFunction(call);
    Ok(match array.and_then(|array| array.kind) {
        Some(PgType::Array(item)) if PgType::of_arrow(&item.arrow()) != *item => {
            Expr::Cast(Cast::new_from_field(Box::new(call), item.field("", true).into()))
        }
        _ => call,
    })
}

/// `c.x` where `c` is a column: the planner takes it for a part of the column's value, and no value has such parts.
fn no_such_table(call: &ScalarFunction) -> DataFusionError {
    let table = match call.args.first() {
        Some(Expr::Column(column)) => column.name.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let message = format!("missing FROM-clause entry for table \"{table}\"");
    carry(SqlError::new(SqlState::UNDEFINED_TABLE, message).hint("It is the name of a column. Use the table's alias."))
}

/// `date_trunc` of a time with zone is that of the local time.
fn truncated(mut call: ScalarFunction, schema: &DFSchema) -> Result<Expr> {
    let value = Operand::new(call.args[1].clone(), schema)?;
    if value.kind != Some(PgType::Timestamptz) {
        return Ok(Expr::ScalarFunction(call));
    }
    call.args[1] = cast_to(value, &PgType::Timestamp)?;
    Ok(PgCast::call(Expr::ScalarFunction(call), &PgType::Timestamp, &PgType::Timestamptz, true))
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
        "date_trunc" => date_trunc(operands)?,
        "pg_typeof" => type_name(&operands),
        "hw_argument" => Some(argument(operands)?),
        "trim_scale" => trim_scale(operands)?,
        "hw_series" => series(operands)?,
        "ln" => one_number(operands, |argument, _| NumberFunction::logarithm("ln", argument))?,
        _ => one_number(operands, |argument, _| NumberFunction::logarithm("log", argument))?,
    };
    let shown = if name == "hw_series" { "generate_series" } else { name };
    typed.ok_or_else(|| undefined_function(shown, &kinds))
}

/// A function of the library, or DataFusion's of the same name for what the library does not have.
fn library_call(name: &'static str, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
    let operands = args.into_iter().map(|argument| Operand::new(argument, schema)).collect::<Result<Vec<_>>>()?;
    match by_library(name, &operands)? {
        Some(call) => Ok(call),
        None if library::SHARED.contains(&name) => {
            let plain = if name == "substring" { "substr" } else { name };
            static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(datafusion::functions::all_default_functions);
            let known = |udf: &&Arc<ScalarUDF>| udf.name() == plain || udf.aliases().iter().any(|other| other == plain);
            let udf = ALL.iter().find(known).cloned();
            let udf = udf.ok_or_else(|| carry(SqlError::internal(format!("{name} is not a function"))))?;
            Ok(udf.call(operands.into_iter().map(|operand| settle(operand.expr)).collect()))
        }
        None => {
            let kinds: Vec<Option<PgType>> = operands.into_iter().map(|operand| operand.kind).collect();
            Err(undefined_function(public_name(name), &kinds))
        }
    }
}

/// Functions that stand for operators and parts of set functions are not known to users by their names.
fn public_name(name: &str) -> &str {
    match name {
        "hw_bit_not" => "~",
        "hw_bit_and" => "&",
        "hw_bit_or" => "|",
        "hw_bit_xor" => "#",
        "hw_shift_left" => "<<",
        "hw_shift_right" => ">>",
        "hw_jsonb_remove_path" => "#-",
        "hw_jsonb_keys" => "jsonb_object_keys",
        "hw_json_keys" => "json_object_keys",
        "hw_jsonb_elements" => "jsonb_array_elements",
        "hw_json_elements" => "json_array_elements",
        name => name.strip_prefix("hw_").unwrap_or(name),
    }
}

fn by_library(name: &str, operands: &[Operand]) -> Result<Option<Expr>> {
    let kinds: Vec<Option<PgType>> = operands.iter().map(|operand| operand.kind.clone()).collect();
    let Some(found) = library::resolve(name, &kinds) else { return Ok(None) };
    let mut given = Vec::with_capacity(operands.len());
    let mut arguments = Vec::with_capacity(operands.len());
    for (operand, wanted) in operands.iter().zip(found.arguments) {
        let kind = wanted.or_else(|| operand.kind.clone()).unwrap_or(PgType::Text);
        arguments.push(cast_to(operand.clone(), &kind)?);
        given.push(kind);
    }
    Ok(Some(LibraryCall::call(found.entry, given, found.result, arguments)))
}

/// Timestamps and common units are truncated by DataFusion, all else by the library. A date counts as a timestamptz.
fn date_trunc(mut operands: Vec<Operand>) -> Result<Option<Expr>> {
    const UNITS: [&str; 8] = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"];
    if let Some(value) = operands.get_mut(1)
        && value.kind == Some(PgType::Date)
    {
        *value = Operand { expr: cast_to(value.clone(), &PgType::Timestamptz)?, kind: Some(PgType::Timestamptz) };
    }
    let common = operands.first().and_then(text_of).is_some_and(|unit| UNITS.contains(&unit.to_lowercase().as_str()));
    match operands.as_slice() {
        [unit, value] if common && value.kind == Some(PgType::Timestamp) => {
            let arguments = vec![settle(unit.expr.clone()), value.expr.clone()];
            Ok(Some(datafusion::functions::datetime::date_trunc().call(arguments)))
        }
        _ => by_library("hw_date_trunc", &operands),
    }
}

/// The name of a value's type is known before there is a value.
fn type_name(operands: &[Operand]) -> Option<Expr> {
    let [operand] = operands else { return None };
    let name = operand.kind.as_ref().map_or("unknown".to_string(), |kind| without_length(kind).to_string());
    Some(super::literals::typed_literal(ScalarValue::Utf8View(Some(name)), &PgType::Text))
}

/// An argument of a user's function, its parameter's type, and the function's name with all types.
fn argument(operands: Vec<Operand>) -> Result<Expr> {
    let Ok([value, kind, function]) = <[Operand; 3]>::try_from(operands) else {
        return Err(carry(SqlError::internal("an argument is checked by its type")));
    };
    let function_name = text_of(&function).unwrap_or_default();
    let kind = text_of(&kind).and_then(|name| PgType::parse(&name)).filter(|_| !function_name.is_empty());
    match (&value.kind, &kind) {
        (Some(given), Some(kind)) if !library::becomes(given, kind) => {
            let function = function_name;
            let name = function.split('(').next().unwrap_or_default();
            let message = format!("function {name} does not take {} for {kind}", without_length(given));
            let hint = format!("The function is {function}. Write a cast such as value::{kind}.");
            Err(carry(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).hint(hint)))
        }
        _ => Ok(value.expr),
    }
}

/// A constant's scale is known; the zeros of all others are not printed anyway.
fn trim_scale(operands: Vec<Operand>) -> Result<Option<Expr>> {
    let Ok([operand]) = <[Operand; 1]>::try_from(operands) else { return Ok(None) };
    Ok(Some(cast_to(operand, &PgType::Numeric(None))?))
}

/// The array of the values of a series.
fn series(mut operands: Vec<Operand>) -> Result<Option<Expr>> {
    let whole = |operand: &Operand| matches!(operand.kind, Some(PgType::Int2 | PgType::Int4 | PgType::Int8) | None);
    let number = |operand: &Operand| whole(operand) || matches!(operand.kind, Some(PgType::Numeric(_)));
    if !matches!(operands.len(), 2 | 3) {
        return Ok(None);
    }
    if operands.iter().all(whole) {
        return whole_series(operands).map(Some);
    }
    if operands.iter().all(number) {
        return numeric_series(operands).map(Some);
    }
    for operand in &mut operands {
        if operand.kind == Some(PgType::Date) {
            *operand =
                Operand { expr: cast_to(operand.clone(), &PgType::Timestamptz)?, kind: Some(PgType::Timestamptz) };
        }
    }
    by_library("hw_time_series", &operands)
}

/// All values have the scale of the argument with the most digits behind the point.
fn numeric_series(mut operands: Vec<Operand>) -> Result<Expr> {
    if operands.len() == 2 {
        let one = super::literals::typed_int(1);
        operands.push(Operand { expr: one, kind: Some(PgType::Int2) });
    }
    let scales = operands.iter().filter_map(|operand| super::literals::digits(operand.kind.as_ref()?));
    let scale = scales.map(|(_, scale)| scale).max().unwrap_or(0);
    let kind = PgType::Numeric(Some((38, scale)));
    let arguments = operands.into_iter().map(|operand| cast_to(operand, &kind)).collect::<Result<Vec<_>>>()?;
    let bare = vec![Some(PgType::Numeric(None)); 3];
    let found = library::resolve("hw_numeric_series", &bare);
    let found = found.ok_or_else(|| carry(SqlError::internal("series of numerics are in the library")))?;
    Ok(LibraryCall::call(found.entry, vec![kind.clone(); 3], PgType::Array(Box::new(kind)), arguments))
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
        Some(kind @ (PgType::Timestamptz | PgType::Interval)) => kind.clone(),
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
    if zone.kind == Some(PgType::Interval) {
        return by_library("timezone", &[zone, value]);
    }
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
    let mut known = operands.iter().filter_map(|operand| operand.kind.as_ref());
    if let (None, Some(first), "coalesce" | "greatest" | "least" | "make_array") = (&kind, known.next(), func.name())
        && let Some(other) = known.find(|other| super::literals::wider(first, other).is_none())
    {
        let name = if func.name() == "make_array" { "ARRAY".to_string() } else { func.name().to_uppercase() };
        let message = format!("{name} types {} and {} cannot be matched", without_length(first), without_length(other));
        return Err(carry(SqlError::new(SqlState::DATATYPE_MISMATCH, message)));
    }
    let cast = operands.into_iter().map(|operand| match &kind {
        Some(kind) => cast_to(operand, kind),
        None => Ok(settle(operand.expr)),
    });
    let is_array = func.name() == "make_array";
    let call = Expr::ScalarFunction(ScalarFunction { func, args: cast.collect::<Result<Vec<_>>>()? });
    Ok(match kind {
        // The function forgets which kind of text its items are.
        Some(kind) if is_array && PgType::of_arrow(&kind.arrow()) != kind => {
            let list = PgType::Array(Box::new(kind)).field("", true);
            Expr::Cast(Cast::new_from_field(Box::new(call), list.into()))
        }
        _ => call,
    })
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
fn whole_series(operands: Vec<Operand>) -> Result<Expr> {
    let small = operands.iter().all(|operand| matches!(operand.kind, Some(PgType::Int2 | PgType::Int4)));
    let arguments = operands.into_iter().map(|operand| cast_to(operand, &PgType::Int8)).collect::<Result<Vec<_>>>()?;
    let call = crate::functions::sized::series().call(arguments);
    if !small {
        return Ok(call);
    }
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let list = Field::new("", DataType::List(item), true);
    Ok(Expr::Cast(Cast::new_from_field(Box::new(call), list.into())))
}
