//! Expressions of a logical plan as SQL.

use datafusion::logical_expr::expr::{
    AggregateFunction, Between, Case, Cast, GroupingSet, InList, Like, Sort, TryCast, WindowFunction,
    WindowFunctionDefinition,
};
use datafusion::logical_expr::{Expr, WindowFrame, WindowFrameBound, WindowFrameUnits};
use datafusion::scalar::ScalarValue;

use super::{BETWEEN, ColumnName, Text, function, literal, plain_words, symbol_of};
use crate::zset::PgType;

/// An expression as SQL.
pub fn expression_text(expression: &Expr, name: ColumnName<'_>) -> Text {
    let text = |part: &Expr| expression_text(part, name);
    match expression {
        Expr::Alias(alias) => text(&alias.expr),
        Expr::Column(column) => name(column.relation.as_ref().map(|relation| relation.table()), &column.name),
        Expr::OuterReferenceColumn(_, column) => {
            name(column.relation.as_ref().map(|relation| relation.table()), &column.name)
        }
        Expr::Literal(value, _) => literal(value),
        Expr::BinaryExpr(binary) => Text::infix(&symbol_of(binary.op), &text(&binary.left), &text(&binary.right)),
        Expr::Like(like) => like_text(like, if like.case_insensitive { "ILIKE" } else { "LIKE" }, name),
        Expr::SimilarTo(like) => like_text(like, "SIMILAR TO", name),
        Expr::Not(inner) => text(inner).negated(),
        Expr::IsNotNull(inner) => text(inner).suffixed("IS NOT NULL"),
        Expr::IsNull(inner) => text(inner).suffixed("IS NULL"),
        Expr::IsTrue(inner) => text(inner).suffixed("IS TRUE"),
        Expr::IsFalse(inner) => text(inner).suffixed("IS FALSE"),
        Expr::IsUnknown(inner) => text(inner).suffixed("IS UNKNOWN"),
        Expr::IsNotTrue(inner) => text(inner).suffixed("IS NOT TRUE"),
        Expr::IsNotFalse(inner) => text(inner).suffixed("IS NOT FALSE"),
        Expr::IsNotUnknown(inner) => text(inner).suffixed("IS NOT UNKNOWN"),
        Expr::Negative(inner) => text(inner).minus(),
        Expr::Between(between) => between_text(between, name),
        Expr::Case(case) => case_text(case, name),
        Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
            text(expr).cast(&PgType::of(field))
        }
        Expr::ScalarFunction(call) => function(&call.func, &call.args.iter().map(text).collect::<Vec<_>>()),
        Expr::AggregateFunction(call) => aggregate_text(call, name),
        Expr::WindowFunction(call) => window_text(call, name),
        Expr::InList(InList { expr, list, negated }) => {
            text(expr).one_of(&list.iter().map(text).collect::<Vec<_>>(), *negated)
        }
        Expr::Exists(exists) => Text::atom(if exists.negated { "NOT EXISTS (...)" } else { "EXISTS (...)" }),
        Expr::InSubquery(test) => text(&test.expr).one_of(&[Text::atom("...")], test.negated),
        Expr::ScalarSubquery(_) => Text::atom("(...)"),
        Expr::GroupingSet(set) => grouping_text(set, name),
        Expr::Placeholder(placeholder) => Text::atom(placeholder.id.clone()),
        Expr::Unnest(unnest) => Text::call("unnest", &[text(&unnest.expr)]),
        other => Text::atom(plain_words(&other.to_string())),
    }
}

/// `x DESC NULLS LAST`; what is PostgreSQL's default is left out.
pub fn sort_text(sort: &Sort, name: ColumnName<'_>) -> String {
    let direction = if sort.asc { "" } else { " DESC" };
    let nulls = match (sort.asc, sort.nulls_first) {
        (true, true) => " NULLS FIRST",
        (false, false) => " NULLS LAST",
        _ => "",
    };
    format!("{}{direction}{nulls}", expression_text(&sort.expr, name).text)
}

fn list(expressions: &[Expr], name: ColumnName<'_>) -> String {
    expressions.iter().map(|part| expression_text(part, name).text).collect::<Vec<_>>().join(", ")
}

fn sorts(sorts: &[Sort], name: ColumnName<'_>) -> String {
    sorts.iter().map(|sort| sort_text(sort, name)).collect::<Vec<_>>().join(", ")
}

fn like_text(like: &Like, symbol: &str, name: ColumnName<'_>) -> Text {
    let symbol = if like.negated { format!("NOT {symbol}") } else { symbol.to_string() };
    Text::infix(&symbol, &expression_text(&like.expr, name), &expression_text(&like.pattern, name))
}

fn between_text(between: &Between, name: ColumnName<'_>) -> Text {
    let text = |part: &Expr| expression_text(part, name).within(BETWEEN + 1);
    let not = if between.negated { "NOT " } else { "" };
    let (value, low, high) = (text(&between.expr), text(&between.low), text(&between.high));
    Text::at(BETWEEN, format!("{value} {not}BETWEEN {low} AND {high}"))
}

fn case_text(case: &Case, name: ColumnName<'_>) -> Text {
    let text = |part: &Expr| expression_text(part, name);
    let branches: Vec<(Text, Text)> = case.when_then_expr.iter().map(|(when, then)| (text(when), text(then))).collect();
    Text::case(case.expr.as_deref().map(text), &branches, case.else_expr.as_deref().map(text))
}

fn aggregate_text(call: &AggregateFunction, name: ColumnName<'_>) -> Text {
    let params = &call.params;
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let counted = |argument: &Expr| matches!(argument, Expr::Literal(value, _) if !value.is_null());
    let star = call.func.name() == "count" && !params.distinct && params.args.iter().all(counted);
    let mut text = if star { "*".to_string() } else { list(&params.args, name) };
    if !params.order_by.is_empty() {
        text = format!("{text} ORDER BY {}", sorts(&params.order_by, name));
    }
    let filter = params.filter.as_ref().map(|filter| expression_text(filter, name).text);
    let filter = filter.map_or(String::new(), |filter| format!(" FILTER (WHERE {filter})"));
    Text::atom(format!("{}({distinct}{text}){filter}", call.func.name()))
}

fn window_text(call: &WindowFunction, name: ColumnName<'_>) -> Text {
    let params = &call.params;
    let function = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(function) => function.name(),
        WindowFunctionDefinition::WindowUDF(function) => function.name(),
    };
    let counts_rows = function == "count" && params.args.iter().all(|argument| matches!(argument, Expr::Literal(..)));
    let arguments = if counts_rows { "*".to_string() } else { list(&params.args, name) };
    let mut over = Vec::new();
    if !params.partition_by.is_empty() {
        over.push(format!("PARTITION BY {}", list(&params.partition_by, name)));
    }
    if !params.order_by.is_empty() {
        over.push(format!("ORDER BY {}", sorts(&params.order_by, name)));
    }
    over.extend(frame_text(&params.window_frame, !params.order_by.is_empty()));
    Text::atom(format!("{function}({arguments}) OVER ({})", over.join(" ")))
}

/// `None` for the frame that stands there without words.
fn frame_text(frame: &WindowFrame, ordered: bool) -> Option<String> {
    let unbounded = |bound: &WindowFrameBound| matches!(bound, WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) if value.is_null());
    let from_start = matches!(frame.start_bound, WindowFrameBound::Preceding(_)) && unbounded(&frame.start_bound);
    let to_current = matches!(frame.end_bound, WindowFrameBound::CurrentRow);
    let to_end = matches!(frame.end_bound, WindowFrameBound::Following(_)) && unbounded(&frame.end_bound);
    let by_default = frame.units == WindowFrameUnits::Range && to_current;
    if from_start && (by_default || (to_end && !ordered)) {
        return None;
    }
    let units = match frame.units {
        WindowFrameUnits::Rows => "ROWS",
        WindowFrameUnits::Range => "RANGE",
        WindowFrameUnits::Groups => "GROUPS",
    };
    Some(format!("{units} BETWEEN {} AND {}", bound_text(&frame.start_bound), bound_text(&frame.end_bound)))
}

fn bound_text(bound: &WindowFrameBound) -> String {
    let by = |value: &ScalarValue| if value.is_null() { "UNBOUNDED".to_string() } else { literal(value).text };
    match bound {
        WindowFrameBound::Preceding(value) => format!("{} PRECEDING", by(value)),
        WindowFrameBound::CurrentRow => "CURRENT ROW".to_string(),
        WindowFrameBound::Following(value) => format!("{} FOLLOWING", by(value)),
    }
}

fn grouping_text(set: &GroupingSet, name: ColumnName<'_>) -> Text {
    Text::atom(match set {
        GroupingSet::Rollup(keys) => format!("ROLLUP ({})", list(keys, name)),
        GroupingSet::Cube(keys) => format!("CUBE ({})", list(keys, name)),
        GroupingSet::GroupingSets(sets) => {
            let sets: Vec<String> = sets.iter().map(|keys| format!("({})", list(keys, name))).collect();
            format!("GROUPING SETS ({})", sets.join(", "))
        }
    })
}
