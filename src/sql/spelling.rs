//! PostgreSQL's spellings of what the planner knows under other names.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
    SetExpr, TimezoneInfo, Value,
};

use super::grammar::fold;
use super::resolve::call;

/// Digits of the longest numeric that is written out of a number with an exponent.
const DIGITS_MAX: usize = 38;

/// Rewrites an expression that is no call, in place.
pub(super) fn rewrite(expression: &mut Expr) {
    match expression {
        Expr::BinaryOp { left, op: BinaryOperator::PGExp, right } => {
            *expression = call("power", vec![(**left).clone(), (**right).clone()]);
        }
        Expr::Extract { field, expr, .. } => {
            let field = Expr::Value(Value::SingleQuotedString(field.to_string()).into());
            *expression = call("extract", vec![field, (**expr).clone()]);
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expression = call("timezone", vec![(**time_zone).clone(), (**timestamp).clone()]);
        }
        Expr::Value(value) => {
            if let Value::Number(number, _) = &value.value
                && number.contains(['e', 'E'])
            {
                *expression = number_with_exponent(number);
            }
        }
        _ => {}
    }
}

/// A call under the name, or in the form, that the planner knows.
pub(super) fn function(expression: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expression else { return None };
    let name = fold(function.name.0.last()?.as_ident()?);
    let arguments = || match &function.args {
        FunctionArguments::List(list) => list
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
                _ => None,
            })
            .collect::<Option<Vec<Expr>>>(),
        FunctionArguments::None => Some(Vec::new()),
        FunctionArguments::Subquery(_) => None,
    };
    let now_as = |data_type| cast(call("now", Vec::new()), data_type);
    match name.as_str() {
        "current_date" => Some(now_as(DataType::Date)),
        "current_time" | "localtime" => Some(now_as(DataType::Time(None, TimezoneInfo::None))),
        "localtimestamp" => Some(now_as(DataType::Timestamp(None, TimezoneInfo::None))),
        "mod" => match <[Expr; 2]>::try_from(arguments()?) {
            Ok([left, right]) => Some(Expr::Nested(Box::new(Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(left))),
                op: BinaryOperator::Modulo,
                right: Box::new(Expr::Nested(Box::new(right))),
            }))),
            Err(_) => None,
        },
        _ => None,
    }
}

/// `VALUES ('{}'::jsonb), ('[]')`: the planner wants every cell of a column to be cast if one is.
pub(super) fn cast_values(body: &mut SetExpr) {
    let SetExpr::Values(values) = body else { return };
    let width = values.rows.first().map_or(0, |row| row.content.len());
    for column in 0..width {
        let cells = values.rows.iter().filter_map(|row| row.content.get(column));
        let written = cells.filter_map(|cell| match cell {
            Expr::Cast { data_type, .. } => Some(data_type.clone()),
            Expr::TypedString(typed) => Some(typed.data_type.clone()),
            _ => None,
        });
        let types: Vec<DataType> = written.collect();
        // Where several types meet, the typing of VALUES decides.
        let Some(first) = types.first().filter(|first| types.iter().all(|other| other == *first)).cloned() else {
            continue;
        };
        for cell in values.rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
            if matches!(cell, Expr::Value(_)) && !is_number(&first) {
                *cell = cast(cell.clone(), first.clone());
            }
        }
    }
}

/// Numbers meet in the wider of their types, which need not be the one that is written.
fn is_number(data_type: &DataType) -> bool {
    use crate::zset::PgType::{Float4, Float8, Int2, Int4, Int8, Numeric};
    matches!(super::types::pg_type(data_type), Some(Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_)))
}

pub(super) fn cast(expression: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expression), data_type, array: false, format: None }
}

/// `1.5e3` is the numeric 1500; what has too many digits for that is double precision.
fn number_with_exponent(number: &str) -> Expr {
    let text = match written_out(number) {
        Some(plain) => return Expr::Value(Value::Number(plain, false).into()),
        None => number.to_string(),
    };
    cast(Expr::Value(Value::SingleQuotedString(text).into()), DataType::Double(ExactNumberInfo::None))
}

fn written_out(number: &str) -> Option<String> {
    let (digits, exponent) = number.split_once(['e', 'E'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let plain = match usize::try_from(point) {
        Ok(point) if point >= all.len() => {
            if point > DIGITS_MAX {
                return None;
            }
            format!("{all}{}", "0".repeat(point - all.len()))
        }
        Ok(point) => format!("{}.{}", &all[..point], &all[point..]),
        Err(_) => format!("0.{}{all}", "0".repeat(usize::try_from(point.unsigned_abs()).ok()?.min(DIGITS_MAX + 1))),
    };
    (plain.len() <= DIGITS_MAX).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_written_out_where_the_digits_fit() {
        for (number, plain) in [
            ("1e3", Some("1000")),
            ("1.5e3", Some("1500")),
            ("1.25e1", Some("12.5")),
            ("5e-3", Some("0.005")),
            ("1e300", None),
            ("1e-300", None),
        ] {
            assert_eq!(written_out(number).as_deref(), plain, "{number}");
        }
    }
}
