//! Rows in expressions: `(a, b) = (c, d)` and its like, written as what they mean for their columns.

use sqlparser::ast::{BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::grammar::fold;
use super::resolve::call;

/// A test of rows as a test of their columns; `None` for everything else.
pub(super) fn of_rows(expression: &Expr) -> Option<Expr> {
    match expression {
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => {
            let (left, right) = (columns(left)?, columns(right)?);
            (left.len() == 2 && right.len() == 2).then(|| call("overlaps", [period(left), period(right)].concat()))
        }
        Expr::BinaryOp { left, op, right } => compared(op, &columns(left)?, &columns(right)?),
        Expr::IsNull(row) => all(columns(row)?.into_iter().map(|column| Expr::IsNull(Box::new(column)))),
        Expr::IsNotNull(row) => all(columns(row)?.into_iter().map(|column| Expr::IsNotNull(Box::new(column)))),
        Expr::IsDistinctFrom(left, right) => {
            any(pairs(left, right)?.map(|(left, right)| Expr::IsDistinctFrom(Box::new(left), Box::new(right))))
        }
        Expr::IsNotDistinctFrom(left, right) => {
            all(pairs(left, right)?.map(|(left, right)| Expr::IsNotDistinctFrom(Box::new(left), Box::new(right))))
        }
        Expr::InList { expr, list, negated } => {
            let row = columns(expr)?;
            let tests = list.iter().map(|item| compared(&BinaryOperator::Eq, &row, &columns(item)?));
            let found = any(tests.collect::<Option<Vec<_>>>()?.into_iter())?;
            Some(match negated {
                true => Expr::UnaryOp { op: sqlparser::ast::UnaryOperator::Not, expr: Box::new(found) },
                false => found,
            })
        }
        _ => None,
    }
}

/// The columns of `(a, b)` or `ROW(a, b)`.
fn columns(expression: &Expr) -> Option<Vec<Expr>> {
    match expression {
        Expr::Tuple(columns) => Some(columns.clone()),
        Expr::Function(function) => {
            let name = fold(function.name.0.last()?.as_ident()?);
            let FunctionArguments::List(list) = &function.args else { return None };
            let plain = list.args.iter().map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
                _ => None,
            });
            (name == "row").then(|| plain.collect())?
        }
        _ => None,
    }
}

fn pairs(left: &Expr, right: &Expr) -> Option<std::vec::IntoIter<(Expr, Expr)>> {
    let (left, right) = (columns(left)?, columns(right)?);
    let same = left.len() == right.len();
    same.then(|| left.into_iter().zip(right).collect::<Vec<_>>().into_iter())
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn joined(tests: impl Iterator<Item = Expr>, op: &BinaryOperator) -> Option<Expr> {
    let all = tests.reduce(|left, right| binary(left, op.clone(), right))?;
    Some(Expr::Nested(Box::new(all)))
}

fn all(tests: impl Iterator<Item = Expr>) -> Option<Expr> {
    joined(tests, &BinaryOperator::And)
}

fn any(tests: impl Iterator<Item = Expr>) -> Option<Expr> {
    joined(tests, &BinaryOperator::Or)
}

/// Columns are compared from the left; the first that differ decide about the order.
fn compared(op: &BinaryOperator, left: &[Expr], right: &[Expr]) -> Option<Expr> {
    if left.len() != right.len() {
        return None;
    }
    let each = || left.iter().cloned().zip(right.iter().cloned());
    match op {
        BinaryOperator::Eq => all(each().map(|(left, right)| binary(left, BinaryOperator::Eq, right))),
        BinaryOperator::NotEq => any(each().map(|(left, right)| binary(left, BinaryOperator::NotEq, right))),
        BinaryOperator::Lt | BinaryOperator::LtEq | BinaryOperator::Gt | BinaryOperator::GtEq => {
            let strict = match op {
                BinaryOperator::Lt | BinaryOperator::LtEq => BinaryOperator::Lt,
                _ => BinaryOperator::Gt,
            };
            let mut columns = each().rev();
            let (last_left, last_right) = columns.next()?;
            let last = binary(last_left, op.clone(), last_right);
            let test = columns.fold(last, |rest, (left, right)| {
                let equal = binary(left.clone(), BinaryOperator::Eq, right.clone());
                let further = Expr::Nested(Box::new(binary(equal, BinaryOperator::And, rest)));
                Expr::Nested(Box::new(binary(binary(left, strict.clone(), right), BinaryOperator::Or, further)))
            });
            Some(Expr::Nested(Box::new(test)))
        }
        _ => None,
    }
}

/// The two ends of a period; the second may be its length.
fn period(mut ends: Vec<Expr>) -> Vec<Expr> {
    let is_length = match ends.last() {
        Some(Expr::Interval(_)) => true,
        Some(Expr::TypedString(typed)) => typed.data_type.to_string().to_uppercase().starts_with("INTERVAL"),
        Some(Expr::Cast { data_type, .. }) => data_type.to_string().to_uppercase().starts_with("INTERVAL"),
        _ => false,
    };
    if is_length && let Some(length) = ends.pop() {
        let end = binary(ends[0].clone(), BinaryOperator::Plus, length);
        ends.push(Expr::Nested(Box::new(end)));
    }
    ends
}
