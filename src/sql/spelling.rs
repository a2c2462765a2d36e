//! PostgreSQL's spellings of what the planner knows under other names.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, ObjectName, ObjectNamePart,
    SetExpr, Subscript, TimezoneInfo, UnaryOperator, Value,
};

use super::grammar::fold;
use super::resolve::{call, names_column};
use super::rows;

/// Digits of the longest numeric that is written out of a number with an exponent.
const DIGITS_MAX: usize = 38;

/// Rewrites an expression that is no call, in place.
pub(super) fn rewrite(expression: &mut Expr) {
    if let Some(rewritten) = rows::of_rows(expression).or_else(|| operator(expression)).or_else(|| form(expression)) {
        *expression = rewritten;
    }
}

/// Operators that are functions here.
fn operator(expression: &Expr) -> Option<Expr> {
    let (name, arguments) = match expression {
        Expr::BinaryOp { left, op, right } => {
            let name = match op {
                BinaryOperator::PGExp => "power",
                BinaryOperator::BitwiseAnd => "hw_bit_and",
                BinaryOperator::BitwiseOr => "hw_bit_or",
                BinaryOperator::PGBitwiseXor => "hw_bit_xor",
                BinaryOperator::PGBitwiseShiftLeft => "hw_shift_left",
                BinaryOperator::PGBitwiseShiftRight => "hw_shift_right",
                BinaryOperator::PGOverlap => "array_has_any",
                BinaryOperator::PGStartsWith => "starts_with",
                BinaryOperator::HashMinus => "hw_jsonb_remove_path",
                BinaryOperator::AtQuestion => "hw_jsonb_path_exists",
                BinaryOperator::AtAt => "hw_jsonb_path_match",
                _ => return None,
            };
            (name, vec![(**left).clone(), (**right).clone()])
        }
        Expr::UnaryOp { op, expr } => {
            let name = match op {
                UnaryOperator::BitwiseNot => "hw_bit_not",
                UnaryOperator::PGSquareRoot => "sqrt",
                UnaryOperator::PGCubeRoot => "cbrt",
                UnaryOperator::PGAbs => "abs",
                _ => return None,
            };
            (name, vec![(**expr).clone()])
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            let escape = escape_char.iter().map(|escape| Expr::Value(escape.clone()));
            let pattern = call("hw_similar_pattern", std::iter::once((**pattern).clone()).chain(escape).collect());
            let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
            return Some(Expr::BinaryOp { left: expr.clone(), op, right: Box::new(pattern) });
        }
        _ => return None,
    };
    Some(call(name, arguments))
}

/// Forms with words of their own that are functions here.
fn form(expression: &mut Expr) -> Option<Expr> {
    match expression {
        Expr::Extract { field, expr, .. } => {
            let field = Expr::Value(Value::SingleQuotedString(field.to_string()).into());
            Some(call("extract", vec![field, (**expr).clone()]))
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            Some(call("timezone", vec![(**time_zone).clone(), (**timestamp).clone()]))
        }
        Expr::Substring { expr, substring_from, substring_for, .. } => {
            let from = substring_from.as_ref().map_or_else(|| number("1"), |from| (**from).clone());
            let length = substring_for.iter().map(|length| (**length).clone());
            Some(call("substring", [(**expr).clone(), from].into_iter().chain(length).collect()))
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            let escape =
                escape_char.take_if(|escape| !matches!(&escape.value, Value::SingleQuotedString(s) if s == "\\"));
            if let Some(escape) = escape {
                **pattern = call("hw_like_escape", vec![(**pattern).clone(), Expr::Value(escape)]);
            }
            None
        }
        Expr::Interval(interval) => written_interval(interval),
        // The planner forgets the rows around a subquery in it.
        Expr::Array(array) if array.elem.iter().any(names_column) => Some(call("make_array", array.elem.clone())),
        Expr::CompoundFieldAccess { access_chain, .. } => {
            for access in access_chain {
                if let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access {
                    lower_bound.get_or_insert_with(|| number("1"));
                    upper_bound.get_or_insert_with(|| number("2147483647"));
                }
            }
            None
        }
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) if number.contains(['e', 'E']) => Some(number_with_exponent(number)),
            Value::UnicodeStringLiteral(text) => Some(Expr::Value(Value::SingleQuotedString(text.clone()).into())),
            _ => None,
        },
        _ => None,
    }
}

fn number(digits: &str) -> Expr {
    Expr::Value(Value::Number(digits.to_string(), false).into())
}

/// `INTERVAL '1 day 02:03'`: what the planner cannot read is left to the cast.
fn written_interval(interval: &Interval) -> Option<Expr> {
    let Expr::Value(value) = interval.value.as_ref() else { return None };
    let Value::SingleQuotedString(text) = &value.value else { return None };
    if !text.contains([':', '-', 'P', 'p']) {
        return None;
    }
    let literal = Expr::Value(Value::SingleQuotedString(text.clone()).into());
    Some(cast(literal, DataType::Interval { fields: None, precision: None }))
}

/// The arguments of a call by their places: `make_interval(days => 3)` names one and leaves the others out.
fn by_place(name: &str, function: &Function) -> Option<Vec<Expr>> {
    const NAMES: [(&str, &[&str], bool); 6] = [
        ("make_interval", &["years", "months", "weeks", "days", "hours", "mins", "secs"], true),
        ("make_date", &["year", "month", "day"], false),
        ("make_time", &["hour", "min", "sec"], false),
        ("make_timestamp", &["year", "month", "mday", "hour", "min", "sec"], false),
        ("jsonb_set", &["jsonb_in", "path", "replacement", "create_if_missing"], false),
        ("jsonb_insert", &["jsonb_in", "path", "replacement", "insert_after"], false),
    ];
    let (_, names, zeros) = NAMES.iter().find(|(known, _, _)| *known == name)?;
    let FunctionArguments::List(list) = &function.args else { return None };
    let mut given: Vec<Option<Expr>> = vec![None; names.len()];
    for (index, argument) in list.args.iter().enumerate() {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => {
                *given.get_mut(index)? = Some(expression.clone())
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expression), .. }
            | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(expression), .. } => {
                let index = names.iter().position(|known| *known == fold(name))?;
                given[index] = Some(expression.clone());
            }
            _ => return None,
        }
    }
    match zeros {
        true => Some(given.into_iter().map(|given| given.unwrap_or_else(|| number("0"))).collect()),
        false => {
            let count = given.iter().rposition(Option::is_some)? + 1;
            given.into_iter().take(count).collect()
        }
    }
}

/// `json_agg(x ORDER BY y)` → `hw_json_agg(array_agg(hw_json(x) ORDER BY y))`, and its like.
fn json_aggregate(name: &str, function: &Function) -> Option<Expr> {
    let (outer, item) = match name {
        "json_agg" => ("hw_json_agg", "hw_json"),
        "jsonb_agg" => ("hw_jsonb_agg", "hw_json"),
        "json_object_agg" => ("hw_json_object_agg", "hw_json_pair"),
        "jsonb_object_agg" => ("hw_jsonb_object_agg", "hw_json_pair"),
        _ => return None,
    };
    let mut inner = function.clone();
    inner.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new("array_agg"))]);
    let FunctionArguments::List(list) = &mut inner.args else { return None };
    let arguments = std::mem::take(&mut list.args);
    let arguments: Vec<Expr> = (arguments.into_iter())
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let rows = matches!(arguments.as_slice(), [Expr::Function(call)] if call.name.to_string() == "hw_record");
    let outer = if rows && outer == "hw_json_agg" { "hw_json_agg_rows" } else { outer };
    list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(call(item, arguments))));
    Some(call(outer, vec![Expr::Function(inner)]))
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
    if name != "make_interval" || !matches!(&function.args, FunctionArguments::List(list) if list.args.len() == 7) {
        let named = |list: &FunctionArgumentList| {
            list.args.iter().any(|argument| !matches!(argument, FunctionArg::Unnamed(_))) || name == "make_interval"
        };
        if matches!(&function.args, FunctionArguments::List(list) if named(list))
            && let Some(arguments) = by_place(&name, function)
        {
            return Some(call(&name, arguments));
        }
    }
    if let Some(aggregate) = json_aggregate(&name, function) {
        return Some(aggregate);
    }
    let now_as = |data_type| cast(call("now", Vec::new()), data_type);
    match name.as_str() {
        "current_date" => Some(now_as(DataType::Date)),
        "current_time" | "localtime" => Some(now_as(DataType::Time(None, TimezoneInfo::None))),
        "localtimestamp" => Some(now_as(DataType::Timestamp(None, TimezoneInfo::None))),
        "every" | "variance" | "array_remove" | "array_replace" => {
            let mut renamed = function.clone();
            let other = match name.as_str() {
                "every" => "bool_and",
                "variance" => "var_samp",
                "array_remove" => "array_remove_all",
                _ => "array_replace_all",
            };
            renamed.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(other))]);
            Some(Expr::Function(renamed))
        }
        "gen_random_uuid" => Some(call("uuid", Vec::new())),
        "mod" => match <[Expr; 2]>::try_from(arguments()?) {
            Ok([left, right]) => Some(Expr::Nested(Box::new(Expr::BinaryOp {
                left: Box::new(Expr::Nested(Box::new(left))),
                op: BinaryOperator::Modulo,
                right: Box::new(Expr::Nested(Box::new(right))),
            }))),
            Err(_) => None,
        },
        "rank" | "dense_rank" | "percent_rank" | "cume_dist" if function.within_group.len() == 1 => {
            hypothetical(function, &name, arguments()?)
        }
        "percentile_disc" | "mode" if function.within_group.len() == 1 => ordered_set(function, &name, arguments()?),
        _ => None,
    }
}

/// `mode() WITHIN GROUP (ORDER BY x)` → `hw_mode(array_agg(x ORDER BY x) FILTER (WHERE x IS NOT NULL))`.
fn ordered_set(function: &Function, name: &str, arguments: Vec<Expr>) -> Option<Expr> {
    let order = function.within_group[0].clone();
    let value = order.expr.clone();
    let there = Expr::IsNotNull(Box::new(Expr::Nested(Box::new(value.clone()))));
    let filter = match &function.filter {
        None => there,
        Some(filter) => Expr::BinaryOp {
            left: Box::new(there),
            op: BinaryOperator::And,
            right: Box::new(Expr::Nested(filter.clone())),
        },
    };
    let Expr::Function(mut collect) = call("array_agg", vec![value]) else { return None };
    if let FunctionArguments::List(list) = &mut collect.args {
        list.clauses.push(FunctionArgumentClause::OrderBy(vec![order]));
    }
    collect.filter = Some(Box::new(filter));
    let mut all = vec![Expr::Function(collect)];
    all.extend(arguments);
    Some(call(if name == "mode" { "hw_mode" } else { "hw_percentile_disc" }, all))
}

/// `rank(v) WITHIN GROUP (ORDER BY x)`: the rank that `v` would have among the values, from how many come before it.
fn hypothetical(function: &Function, name: &str, arguments: Vec<Expr>) -> Option<Expr> {
    let Ok([value]) = <[Expr; 1]>::try_from(arguments) else { return None };
    let order = &function.within_group[0];
    let descending = order.options.asc == Some(false);
    let nulls_first = order.options.nulls_first.unwrap_or(descending);
    let (x, v) = (order.expr.to_string(), value.to_string());
    let less = if descending { ">" } else { "<" };
    let nulls = if nulls_first {
        format!("({x}) IS NULL AND ({v}) IS NOT NULL")
    } else {
        format!("({x}) IS NOT NULL AND ({v}) IS NULL")
    };
    let before = format!("(({x}) {less} ({v}) OR {nulls})");
    let peer = format!("(({x}) IS NOT DISTINCT FROM ({v}))");
    let filter = function.filter.as_ref().map_or(String::new(), |filter| format!(" AND ({filter})"));
    let count = |condition: &str| format!("count(*) FILTER (WHERE {condition}{filter})");
    let text = match name {
        "rank" => format!("(1 + {})", count(&before)),
        "dense_rank" => format!(
            "(1 + count(DISTINCT {x}) FILTER (WHERE {before}{filter}) + least(1, {}))",
            count(&format!("{before} AND ({x}) IS NULL"))
        ),
        "percent_rank" => format!("coalesce({}::float8 / nullif({}, 0), 0)", count(&before), count("true")),
        _ => format!("(({} + 1)::float8 / ({} + 1))", count(&format!("({before} OR {peer})")), count("true")),
    };
    super::parse::parse_expression(&text).ok()
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
        let mut types: Vec<DataType> = written.collect();
        if types.is_empty() {
            types.extend(values.rows.iter().filter_map(|row| array_type(row.content.get(column)?)));
        }
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

/// The type of an array of plain constants.
fn array_type(cell: &Expr) -> Option<DataType> {
    let Expr::Array(array) = cell else { return None };
    let kinds = array.elem.iter().map(|item| match item {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) if number.contains('.') => Some(2),
            Value::Number(..) => Some(1),
            Value::SingleQuotedString(_) => Some(3),
            Value::Null => Some(0),
            _ => None,
        },
        _ => None,
    });
    let item = match kinds.collect::<Option<Vec<_>>>()?.into_iter().max()? {
        1 => DataType::Integer(None),
        2 => DataType::Numeric(ExactNumberInfo::None),
        3 => DataType::Text,
        _ => return None,
    };
    Some(DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(Box::new(item), None)))
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
