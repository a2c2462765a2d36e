//! `ASOF JOIN`: each row of the left side beside the one nearest row of the right side.
//!
//! The text is parsed as an ordinary join whose condition is marked. The marked join is planned as one over spans of time:
//! a row of the right side is the nearest one from its own time on up to that of the next row of its key.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::Result;
use datafusion::functions_window::expr_fn::{lag, lead, row_number};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, Join, LogicalPlan, LogicalPlanBuilder, Operator, SortExpr, lit,
};
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use super::errors::carry;
use crate::error::SqlError;
use crate::functions::ASOF;

/// The tokens with every `ASOF [INNER | LEFT] JOIN t ON` as `[INNER | LEFT] JOIN t ON hw_asof() AND`.
pub(super) fn mark_asof_joins(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_asof = |token: &TokenWithSpan| is_word(token, Keyword::ASOF);
    if !tokens.iter().any(is_asof) {
        return tokens;
    }
    let mut marked = Vec::with_capacity(tokens.len() + 8);
    // The depths at which an ON is waited for.
    let (mut depth, mut waiting) = (0_i32, Vec::new());
    for (place, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        if is_asof(token) && begins_join(&tokens[place + 1..]) {
            waiting.push(depth);
            continue;
        }
        marked.push(token.clone());
        if is_word(token, Keyword::ON) && waiting.last() == Some(&depth) {
            waiting.pop();
            let mark = [space(), Token::make_word(ASOF, None), Token::LParen, Token::RParen, space()];
            let mark = mark.into_iter().chain([Token::make_keyword("AND"), space()]);
            marked.extend(mark.map(|mark| TokenWithSpan { token: mark, span: token.span }));
        }
    }
    // Without its ON the join is left as it was written, and refused.
    if waiting.is_empty() { marked } else { tokens }
}

fn space() -> Token {
    Token::Whitespace(Whitespace::Space)
}

fn is_word(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.keyword == keyword)
}

fn begins_join(tokens: &[TokenWithSpan]) -> bool {
    let mut words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let kinds = [Keyword::INNER, Keyword::LEFT, Keyword::OUTER];
    words
        .find(|token| !kinds.iter().any(|kind| is_word(token, *kind)))
        .is_some_and(|token| is_word(token, Keyword::JOIN))
}

/// Plans every join whose condition is marked.
pub(super) fn plan_asof_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let planned = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match Nearest::of(&join)? {
            Some(nearest) => Ok(Transformed::yes(nearest.plan(&join)?)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(planned.data)
}

/// The condition of an ASOF join, taken apart.
struct Nearest {
    /// Expressions over the left side and over the right side that must be equal.
    keys: Vec<(Expr, Expr)>,
    left_time: Expr,
    right_time: Expr,
    /// Between the times, left first.
    comparison: Operator,
}

impl Nearest {
    fn of(join: &Join) -> Result<Option<Nearest>> {
        let Some(filter) = &join.filter else { return Ok(None) };
        let is_mark = |part: &&Expr| matches!(part, Expr::ScalarFunction(call) if call.name() == ASOF);
        let (marks, parts): (Vec<&Expr>, Vec<&Expr>) = split_conjunction(filter).into_iter().partition(is_mark);
        if marks.is_empty() {
            return Ok(None);
        }
        let mut keys = join.on.clone();
        let mut times = Vec::new();
        for part in parts {
            let (left, comparison, right) = sides(part, join).ok_or_else(refuse)?;
            match comparison {
                Operator::Eq => keys.push((left, right)),
                Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => times.push((left, comparison, right)),
                _ => return Err(refuse()),
            }
        }
        let kind = matches!(join.join_type, JoinType::Inner | JoinType::Left);
        match <[_; 1]>::try_from(times) {
            Ok([(left_time, comparison, right_time)]) if kind => {
                Ok(Some(Nearest { keys, left_time, right_time, comparison }))
            }
            _ => Err(refuse()),
        }
    }

    fn plan(&self, join: &Join) -> Result<LogicalPlan> {
        let keys: Vec<Expr> = self.keys.iter().map(|(_, right)| right.clone()).collect();
        let by_time = || vec![SortExpr::new(self.right_time.clone(), true, false)];
        let at_one_time = keys.iter().cloned().chain([self.right_time.clone()]).collect();
        let number = row_number().partition_by(at_one_time).order_by(by_time()).build()?;
        // Of several rows of one time the first in the order of all their columns that are shown.
        let one_each = LogicalPlanBuilder::from(join.right.as_ref().clone())
            .filter(self.right_time.clone().is_not_null())?
            .window(vec![number.clone()])?
            .filter(named(&number).eq(lit(1_u64)))?;
        let next = match self.is_backward() {
            true => lead(self.right_time.clone(), Some(1), None),
            false => lag(self.right_time.clone(), Some(1), None),
        };
        let next = match keys.is_empty() {
            true => next.order_by(by_time()).build()?,
            false => next.partition_by(keys).order_by(by_time()).build()?,
        };
        let spans = one_each.window(vec![next.clone()])?.build()?;
        let columns: Vec<Expr> = join.schema.columns().into_iter().map(Expr::Column).collect();
        let joined = LogicalPlanBuilder::from(join.left.as_ref().clone());
        joined.join_on(spans, join.join_type, self.condition(named(&next)))?.project(columns)?.build()
    }

    /// Whether the nearest row is the last one before, and not the first one after.
    fn is_backward(&self) -> bool {
        matches!(self.comparison, Operator::Gt | Operator::GtEq)
    }

    /// That a row of the left side lies between a row of the right side and the next one.
    fn condition(&self, next: Expr) -> Vec<Expr> {
        let compare = |op, right| Expr::BinaryExpr(BinaryExpr::new(Box::new(self.left_time.clone()), op, right));
        let before_next = match self.comparison {
            Operator::GtEq => Operator::Lt,
            Operator::Gt => Operator::LtEq,
            Operator::LtEq => Operator::Gt,
            _ => Operator::GtEq,
        };
        let here = compare(self.comparison, Box::new(self.right_time.clone()));
        let not_there = next.clone().is_null().or(compare(before_next, Box::new(next)));
        let equal = self.keys.iter().map(|(left, right)| left.clone().eq(right.clone()));
        equal.chain([here, not_there]).collect()
    }
}

/// The column that a window function's result is.
fn named(call: &Expr) -> Expr {
    Expr::Column(Column::new_unqualified(call.schema_name().to_string()))
}

/// A comparison with the left side's expression first.
fn sides(part: &Expr, join: &Join) -> Option<(Expr, Operator, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return None };
    let (lefts, rights) = (join.left.schema(), join.right.schema());
    if is_over(left, lefts) && is_over(right, rights) {
        return Some((left.as_ref().clone(), *op, right.as_ref().clone()));
    }
    (is_over(left, rights) && is_over(right, lefts))
        .then(|| op.swap().map(|op| (right.as_ref().clone(), op, left.as_ref().clone())))
        .flatten()
}

fn is_over(expression: &Expr, schema: &DFSchema) -> bool {
    let columns = expression.column_refs();
    !columns.is_empty() && columns.into_iter().all(|column| schema.has_column(column))
}

fn refuse() -> datafusion::error::DataFusionError {
    let message = "ASOF JOIN needs equalities and one comparison between a column of each side";
    let hint = "Write a ASOF [LEFT] JOIN b ON a.k = b.k AND a.ts >= b.ts.";
    carry(SqlError::unsupported(message, hint))
}
