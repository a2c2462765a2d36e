//! Expressions over the columns of a batch as SQL.

use std::sync::Arc;

use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::{ColumnName, Text, function, literal, plain_words, symbol_of};
use crate::zset::PgType;

/// An expression as SQL.
pub fn physical_text(expression: &dyn PhysicalExpr, name: ColumnName<'_>) -> Text {
    operators(expression, name).or_else(|| values(expression, name)).unwrap_or_else(|| {
        // Positions of columns mean nothing to a reader.
        Text::atom(plain_words(&without_positions(&expression.to_string())))
    })
}

fn operators(expression: &dyn PhysicalExpr, name: ColumnName<'_>) -> Option<Text> {
    let text = |part: &Arc<dyn PhysicalExpr>| physical_text(part.as_ref(), name);
    Some(if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        Text::infix(&symbol_of(*binary.op()), &text(binary.left()), &text(binary.right()))
    } else if let Some(like) = expression.downcast_ref::<LikeExpr>() {
        let symbol = match (like.negated(), like.case_insensitive()) {
            (false, false) => "LIKE",
            (true, false) => "NOT LIKE",
            (false, true) => "ILIKE",
            (true, true) => "NOT ILIKE",
        };
        Text::infix(symbol, &text(like.expr()), &text(like.pattern()))
    } else if let Some(not) = expression.downcast_ref::<NotExpr>() {
        text(not.arg()).negated()
    } else if let Some(test) = expression.downcast_ref::<IsNullExpr>() {
        text(test.arg()).suffixed("IS NULL")
    } else if let Some(test) = expression.downcast_ref::<IsNotNullExpr>() {
        text(test.arg()).suffixed("IS NOT NULL")
    } else if let Some(negative) = expression.downcast_ref::<NegativeExpr>() {
        text(negative.arg()).minus()
    } else if let Some(list) = expression.downcast_ref::<InListExpr>() {
        text(list.expr()).one_of(&list.list().iter().map(text).collect::<Vec<_>>(), list.negated())
    } else {
        return None;
    })
}

fn values(expression: &dyn PhysicalExpr, name: ColumnName<'_>) -> Option<Text> {
    let text = |part: &Arc<dyn PhysicalExpr>| physical_text(part.as_ref(), name);
    Some(if let Some(column) = expression.downcast_ref::<Column>() {
        name(None, column.name())
    } else if let Some(value) = expression.downcast_ref::<Literal>() {
        literal(value.value())
    } else if let Some(cast) = expression.downcast_ref::<CastExpr>() {
        text(cast.expr()).cast(&PgType::of(cast.target_field()))
    } else if let Some(cast) = expression.downcast_ref::<TryCastExpr>() {
        text(cast.expr()).cast(&PgType::of_arrow(cast.cast_type()))
    } else if let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() {
        function(call.fun(), &call.args().iter().map(text).collect::<Vec<_>>())
    } else if let Some(case) = expression.downcast_ref::<CaseExpr>() {
        let branches: Vec<(Text, Text)> =
            case.when_then_expr().iter().map(|(when, then)| (text(when), text(then))).collect();
        Text::case(case.expr().map(text), &branches, case.else_expr().map(text))
    } else {
        return None;
    })
}

fn without_positions(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut parts = text.split('@');
    words.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if rest.len() == part.len() {
            words.push('@');
        }
        words.push_str(rest);
    }
    words
}
