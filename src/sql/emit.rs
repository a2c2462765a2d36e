//! `EMIT ON WINDOW CLOSE`: parsed as a mark in HAVING, planned as the condition that the watermark has passed the window.

use std::fmt;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Aggregate, Expr, Filter, JoinType, LogicalPlan, LogicalPlanBuilder};
use sqlparser::ast::{BinaryOperator, Expr as SqlExpr, GroupByExpr, Query, Select, SetExpr};
use sqlparser::parser::Parser;

use super::ast::CreateView;
use super::bind::BindContext;
use super::errors::carry;
use super::grammar::{Result, fold, refuse, words};
use super::parse::parse_query;
use super::query::plan_query;
use super::resolve::call;
use crate::catalog::{Relation, WATERMARKS};
use crate::error::{SqlError, SqlState};
use crate::functions::{Closing, WINDOW_CLOSE, closing_keys, window_end};
use crate::zset::PgType;

const EMIT: [&str; 4] = ["EMIT", "ON", "WINDOW", "CLOSE"];
/// The name of the watermark in the plan.
const CLOSED: &str = "hw closed";

/// Reads the words behind a query, and marks it.
pub(super) fn emit(parser: &mut Parser<'_>, mut query: Box<Query>) -> Result<Box<Query>> {
    if !words(parser, &EMIT) {
        return Ok(query);
    }
    let select = grouped(&mut query);
    let Some(select) = select else {
        let message = "EMIT ON WINDOW CLOSE is for a query with GROUP BY";
        let hint = "Write SELECT window_start, ... FROM TUMBLE(...) GROUP BY window_start EMIT ON WINDOW CLOSE.";
        return refuse(SqlState::FEATURE_NOT_SUPPORTED, message, hint);
    };
    let mark = call(WINDOW_CLOSE, Vec::new());
    select.having = Some(match select.having.take() {
        None => mark,
        Some(condition) => SqlExpr::BinaryOp {
            left: Box::new(SqlExpr::Nested(Box::new(condition))),
            op: BinaryOperator::And,
            right: Box::new(mark),
        },
    });
    Ok(query)
}

/// Only a materialized view or a sink can wait for a window.
pub(super) fn refuse_in_view(view: &CreateView) -> Result<()> {
    match is_marked(&view.query) && !view.materialized {
        true => refuse(
            SqlState::FEATURE_NOT_SUPPORTED,
            "EMIT ON WINDOW CLOSE is for materialized views and sinks",
            "Write CREATE MATERIALIZED VIEW.",
        ),
        false => Ok(()),
    }
}

fn grouped(query: &mut Query) -> Option<&mut Select> {
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let keys = match &select.group_by {
        GroupByExpr::All(_) => false,
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
    };
    (keys && select.distinct.is_none()).then_some(select.as_mut())
}

fn is_mark(condition: &SqlExpr) -> bool {
    matches!(condition, SqlExpr::Function(function)
        if function.name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| fold(name) == WINDOW_CLOSE))
}

fn is_marked(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    match &select.having {
        Some(SqlExpr::BinaryOp { op: BinaryOperator::And, right, .. }) => is_mark(right),
        Some(condition) => is_mark(condition),
        None => false,
    }
}

/// A query as it was written: with the words in place of the mark.
pub(super) struct Written<'a>(pub &'a Query);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !is_marked(self.0) {
            return self.0.fmt(f);
        }
        let mut query = self.0.clone();
        if let SetExpr::Select(select) = query.body.as_mut() {
            select.having = match select.having.take() {
                Some(SqlExpr::BinaryOp { left, .. }) => match *left {
                    SqlExpr::Nested(condition) => Some(*condition),
                    condition => Some(condition),
                },
                _ => None,
            };
        }
        write!(f, "{query} {}", EMIT.join(" "))
    }
}

/// Puts the condition for each mark: that there is a watermark that has passed the end of the group's window.
pub(super) fn plan_window_close(plan: LogicalPlan, context: &BindContext<'_>) -> PlanResult<LogicalPlan> {
    let planned = plan.transform_up(|node| match node {
        LogicalPlan::Filter(filter) => match without_mark(&filter) {
            Some(rest) => Ok(Transformed::yes(closed(&filter, rest, context)?)),
            None => Ok(Transformed::no(LogicalPlan::Filter(filter))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    Ok(planned.data)
}

/// The other conditions of a filter with the mark.
fn without_mark(filter: &Filter) -> Option<Vec<Expr>> {
    let is_mark = |part: &&Expr| matches!(part, Expr::ScalarFunction(call) if call.name() == WINDOW_CLOSE);
    let (marks, rest): (Vec<&Expr>, Vec<&Expr>) = split_conjunction(&filter.predicate).into_iter().partition(is_mark);
    (!marks.is_empty()).then(|| rest.into_iter().cloned().collect())
}

fn closed(filter: &Filter, rest: Vec<Expr>, context: &BindContext<'_>) -> PlanResult<LogicalPlan> {
    let LogicalPlan::Aggregate(aggregate) = filter.input.as_ref() else { return Err(carry(no_window())) };
    let (closing, relation) = closing_of(aggregate, context).map_err(carry)?;
    let key = Expr::Column(aggregate.schema.columns()[closing.key].clone());
    let end = if closing.after == 0 { key } else { window_end(key, closing.after) };
    let time = relation.column(&closing.column).map(|column| &relation.columns[column].pg_type);
    let watermark = match time {
        Some(PgType::Timestamptz) => "watermark AT TIME ZONE 'UTC'",
        _ => "watermark",
    };
    let own = context.catalog.get(WATERMARKS).map_or("", |own| own.name.as_str());
    let text = format!("SELECT {watermark} AS watermark FROM hw_catalog.{own} WHERE id = {}", relation.id.0);
    let watermarks = parse_query(&text).and_then(|query| plan_query(&query, None, context)).map_err(carry)?;
    let watermarks = LogicalPlanBuilder::from(watermarks).alias(CLOSED)?.build()?;
    let reached = Expr::Column(watermarks.schema().columns()[0].clone());
    let plan = LogicalPlanBuilder::from(filter.input.as_ref().clone());
    let plan = plan.join_on(watermarks, JoinType::LeftSemi, [end.lt_eq(reached)])?;
    match conjunction(rest) {
        Some(rest) => plan.filter(rest)?.build(),
        None => plan.build(),
    }
}

/// The key by which the groups close, and the relation whose watermark closes them.
fn closing_of<'a>(
    aggregate: &Aggregate,
    context: &BindContext<'a>,
) -> std::result::Result<(Closing, &'a Relation), SqlError> {
    let mut without = None;
    for closing in closing_keys(aggregate) {
        let schema = closing.table.schema().unwrap_or_default();
        let Some(relation) = context.catalog.named(schema, closing.table.table()) else { continue };
        match relation.watermark {
            Some(watermark) if relation.columns[watermark.column].name == closing.column => {
                return Ok((closing, relation));
            }
            _ => without = Some((closing, relation)),
        }
    }
    let Some((closing, relation)) = without else { return Err(no_window()) };
    let (noun, name, column) = (relation.kind.noun(), &relation.name, &closing.column);
    let message = format!("EMIT ON WINDOW CLOSE needs a watermark, and {noun} \"{name}\" has none for \"{column}\"");
    let hint =
        format!("Declare WATERMARK FOR {column} AS {column} - INTERVAL '5 seconds' among the columns of \"{name}\".");
    Err(SqlError::unsupported(message, hint))
}

fn no_window() -> SqlError {
    SqlError::unsupported(
        "EMIT ON WINDOW CLOSE needs a window in GROUP BY over rows of one table or source",
        "Group by window_start or window_end of TUMBLE, HOP or CUMULATE, or by the column of the watermark.",
    )
}
