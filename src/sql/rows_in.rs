//! `(a, b) IN (SELECT …)`: the planner knows IN for one column only, so it becomes a condition on EXISTS.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, Value,
};

use super::resolve::{derived, query, select as select_from};

/// WHERE: only whether it is true counts.
pub(super) fn conditions(select: &mut Select) {
    if let Some(condition) = &mut select.selection {
        condition_in_place(condition);
    }
}

fn condition_in_place(condition: &mut Expr) {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            condition_in_place(left);
            condition_in_place(right);
        }
        Expr::Nested(inner) => condition_in_place(inner),
        Expr::InSubquery { expr, subquery, negated } => {
            if let Expr::Tuple(row) = expr.as_ref() {
                *condition = match negated {
                    false => exists(row, subquery, false, false),
                    true => exists(row, subquery, true, true),
                };
            }
        }
        _ => {}
    }
}

/// Elsewhere it has three values.
pub(super) fn value(expression: &mut Expr) {
    let Expr::InSubquery { expr, subquery, negated } = expression else { return };
    let Expr::Tuple(row) = expr.as_ref() else { return };
    let boolean = |value| Expr::Value(Value::Boolean(value).into());
    let when = |condition, result| CaseWhen { condition, result };
    *expression = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![
            when(exists(row, subquery, false, false), boolean(!*negated)),
            when(exists(row, subquery, true, false), Expr::Value(Value::Null.into())),
        ],
        else_result: Some(Box::new(boolean(*negated))),
    };
}

/// `EXISTS (SELECT 1 FROM (subquery) AS q (c0, c1) WHERE a = c0 AND b = c1)`; with `maybe` the comparison need only not
/// be false.
fn exists(row: &[Expr], subquery: &Query, maybe: bool, negated: bool) -> Expr {
    let column = |at: usize| Ident::with_quote('"', format!("hw in {at}"));
    let equal = row.iter().enumerate().map(|(at, value)| Expr::BinaryOp {
        left: Box::new(Expr::Nested(Box::new(value.clone()))),
        op: BinaryOperator::Eq,
        right: Box::new(Expr::Identifier(column(at))),
    });
    let all = equal.reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    });
    let all = all.map(|all| if maybe { Expr::IsNotFalse(Box::new(Expr::Nested(Box::new(all)))) } else { all });
    let columns = (0..row.len()).map(|at| TableAliasColumnDef { name: column(at), data_type: None }).collect();
    let alias = TableAlias { explicit: true, name: Ident::with_quote('"', "hw in"), columns, at: None };
    let one = SelectItem::UnnamedExpr(Expr::Value(Value::Number("1".to_string(), false).into()));
    let mut body = select_from(vec![one], vec![derived(false, subquery.clone(), alias)]);
    body.selection = all;
    let subquery = Box::new(query(SetExpr::Select(Box::new(body))));
    Expr::Exists { subquery, negated }
}
