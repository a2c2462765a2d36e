//! The idioms of catalog queries, rewritten in the syntax tree into what the binder knows.
//!
//! - `OPERATOR(pg_catalog.~)` is `~`; `COLLATE pg_catalog.default` and `"C"` say nothing; `pg_catalog.f(x)` is `f(x)`;
//!   `pg_catalog.text` is `text`.
//! - `x::regclass` and its like become functions: an OID inside an expression, a name where it is a result column or is
//!   cast to text.
//! - `ARRAY(SELECT …)` becomes an aggregate.
//! - A look-up by key in a catalog as a select item gets the form that the planner can decorrelate.
//! - In a SELECT that reads a catalog which is always empty, subqueries of the select list are NULL: no row asks them,
//!   and psql's need more of LATERAL than the planner has.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, JoinOperator, ObjectName, OrderByKind, Query, Select,
    SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut, visit_expressions_mut,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::system::{SYSTEM_SCHEMAS, is_always_empty};

/// Rewrites every idiom in a statement or query.
pub fn rewrite_idioms<T: VisitMut>(tree: &mut T) {
    let ControlFlow::Continue(()) = tree.visit(&mut Idioms);
}

struct Idioms;

enum Never {}

impl VisitorMut for Idioms {
    type Break = Never;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Never> {
        if reads_nothing(&select.from) && !aggregates(select) {
            let ControlFlow::Continue(()) = select.projection.visit(&mut Unasked);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Never> {
        give_no_row(select);
        select.projection.iter_mut().for_each(show_names);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Never> {
        if let Some(subquery) = array_subquery(expr) {
            *expr = collect_array(*subquery);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Never> {
        match expr {
            Expr::Subquery(_) => look_up(expr),
            Expr::Identifier(ident) if is_bare_call(ident) => *expr = expression(&format!("{}()", folded(ident))),
            Expr::BinaryOp { left, op, right } => {
                plain_operator(op);
                array_literal(left, right);
            }
            Expr::AnyOp { compare_op, .. } | Expr::AllOp { compare_op, .. } => plain_operator(compare_op),
            Expr::Function(function) => strip_schema(&mut function.name),
            Expr::Collate { expr: inner, collation } if says_nothing(collation) => {
                let inner = std::mem::replace(inner.as_mut(), null());
                *expr = inner;
            }
            Expr::Cast { .. } => rewrite_cast(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Never> {
        rewrite_table_function(factor);
        ControlFlow::Continue(())
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

/// An expression of our own making.
fn expression(text: &str) -> Expr {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text);
    parser.and_then(|mut parser| parser.parse_expr()).expect("texts of our own parse")
}

fn query(text: &str) -> Box<Query> {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text);
    parser.and_then(|mut parser| parser.parse_query()).expect("texts of our own parse")
}

fn last_name(name: &ObjectName) -> String {
    let ident = name.0.last().and_then(|part| part.as_ident());
    ident.map_or_else(String::new, folded)
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// Removes the schema `pg_catalog` (or that of `information_schema`'s only function) from a function's name.
fn strip_schema(name: &mut ObjectName) {
    let schema = name.0.first().and_then(|part| part.as_ident()).map(folded);
    let is_system = matches!(schema.as_deref(), Some("pg_catalog" | "information_schema"));
    if name.0.len() == 2 && is_system {
        name.0.remove(0);
    }
}

fn says_nothing(collation: &ObjectName) -> bool {
    matches!(last_name(collation).to_lowercase().as_str(), "default" | "c" | "posix" | "ucs_basic")
}

/// `OPERATOR(pg_catalog.~)` → `~`.
fn plain_operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(parts) = &op else { return };
    let plain = match parts.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("~~*") => BinaryOperator::PGILikeMatch,
        Some("!~~") => BinaryOperator::PGNotLikeMatch,
        Some("!~~*") => BinaryOperator::PGNotILikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>" | "!=") => BinaryOperator::NotEq,
        Some("<") => BinaryOperator::Lt,
        Some("<=") => BinaryOperator::LtEq,
        Some(">") => BinaryOperator::Gt,
        Some(">=") => BinaryOperator::GtEq,
        Some("+") => BinaryOperator::Plus,
        Some("-") => BinaryOperator::Minus,
        Some("*") => BinaryOperator::Multiply,
        Some("/") => BinaryOperator::Divide,
        Some("%") => BinaryOperator::Modulo,
        Some("||") => BinaryOperator::StringConcat,
        _ => return,
    };
    *op = plain;
}

/// Functions that SQL calls without parentheses and that the parser takes for columns.
fn is_bare_call(ident: &Ident) -> bool {
    ident.quote_style.is_none() && matches!(folded(ident).as_str(), "current_schema" | "current_role")
}

/// `SELECT pg_partition_ancestors(x)`: a set without rows, since nothing is partitioned.
fn give_no_row(select: &mut Select) {
    if let [SelectItem::UnnamedExpr(Expr::Function(function))] = select.projection.as_slice()
        && select.from.is_empty()
        && last_name(&function.name) == "pg_partition_ancestors"
    {
        let relid = SelectItem::ExprWithAlias { expr: expression("NULL::oid"), alias: Ident::new("relid") };
        select.projection = vec![relid];
        select.selection = Some(expression("false"));
    }
}

// Casts to and from the reg types.

/// The part of our functions' names that stands for a reg type.
fn reg_type(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Regclass => Some("regclass"),
        DataType::Custom(name, _) => match last_name(name).as_str() {
            "regclass" => Some("regclass"),
            "regtype" => Some("regtype"),
            "regnamespace" => Some("regnamespace"),
            "regproc" | "regprocedure" => Some("regproc"),
            "regrole" => Some("regrole"),
            _ => None,
        },
        _ => None,
    }
}

fn call(name: &str, argument: Expr) -> Expr {
    let mut function = expression(&format!("{name}(NULL)"));
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut function {
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))];
    }
    function
}

/// The argument of `hw_regclass(x)` and its like, with the function's name.
fn reg_call(expr: &Expr) -> Option<(String, &Expr)> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let name = last_name(name);
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))]
            if name.starts_with("hw_reg") && !name.ends_with("_name") =>
        {
            Some((name, argument))
        }
        _ => None,
    }
}

fn rewrite_cast(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    if let Some(kind) = reg_type(data_type) {
        let inner = std::mem::replace(inner.as_mut(), null());
        *expr = match reg_call(&inner) {
            // A cast from one reg type to another keeps the OID.
            Some(_) => inner,
            None => call(&format!("hw_{kind}"), inner),
        };
        return;
    }
    plain_type(data_type);
    let Some((name, argument)) = reg_call(inner) else { return };
    if is_text(data_type) {
        *expr = call(&format!("{name}_name"), argument.clone());
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) => true,
        DataType::Custom(name, _) => last_name(name) == "name",
        _ => false,
    }
}

/// `pg_catalog.int4` → `int4`, also as the element of an array.
fn plain_type(data_type: &mut DataType) {
    let DataType::Custom(name, modifiers) = data_type else {
        if let DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(item, _)) = data_type {
            plain_type(item);
        }
        return;
    };
    let schema = name.0.first().and_then(|part| part.as_ident()).map(folded);
    if name.0.len() != 2 || schema.as_deref() != Some("pg_catalog") {
        return;
    }
    let bare = match name.0[1].as_ident() {
        // PostgreSQL's one-byte type, which is text here.
        Some(ident) if ident.quote_style.is_some() && ident.value == "char" => "text".to_string(),
        Some(ident) => ident.value.clone(),
        None => return,
    };
    let text = if modifiers.is_empty() { bare } else { format!("{bare}({})", modifiers.join(",")) };
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut parser| parser.parse_data_type());
    if let Ok(parsed) = parsed {
        *data_type = parsed;
    }
}

/// A result column that is a reg type shows a name, under the name that PostgreSQL gives the column.
fn show_names(item: &mut SelectItem) {
    let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return };
    let (call_name, argument, shown) = match reg_call(expr) {
        Some((name, argument)) => {
            let shown = call(&format!("{name}_name"), argument.clone());
            (name, argument.clone(), shown)
        }
        None => match expr {
            Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
                if last_name(name).starts_with("hw_reg") =>
            {
                let [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] = list.args.as_slice() else { return };
                (last_name(name), argument.clone(), expr.clone())
            }
            _ => return,
        },
    };
    match item {
        SelectItem::ExprWithAlias { expr, .. } => *expr = shown,
        _ => {
            let alias = column_name(&argument).unwrap_or_else(|| {
                let kind = call_name.trim_start_matches("hw_");
                kind.strip_suffix("_name").map_or(kind, |_| "text").to_string()
            });
            *item = SelectItem::ExprWithAlias { expr: shown, alias: Ident::with_quote('"', alias) };
        }
    }
}

/// The name that PostgreSQL takes from an expression under a cast.
fn column_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => column_name(inner),
        Expr::Function(function) if !last_name(&function.name).starts_with("hw_") => Some(last_name(&function.name)),
        Expr::CompoundFieldAccess { root, .. } => column_name(root),
        _ => None,
    }
}

// ARRAY(SELECT …).

fn array_subquery(expr: &mut Expr) -> Option<Box<Query>> {
    let Expr::Function(function) = expr else { return None };
    if last_name(&function.name) != "array" {
        return None;
    }
    match std::mem::replace(&mut function.args, FunctionArguments::None) {
        FunctionArguments::Subquery(query) => Some(query),
        args => {
            function.args = args;
            None
        }
    }
}

/// `ARRAY(SELECT x FROM t ORDER BY y)` → `hw_or_empty((SELECT array_agg(x ORDER BY y) FROM t))`.
fn collect_array(mut subquery: Query) -> Expr {
    if let SetExpr::Select(select) = subquery.body.as_ref()
        && reads_nothing(&select.from)
        && !aggregates(select)
    {
        return expression("hw_empty_array()");
    }
    let collected = match collect_in_place(&mut subquery) {
        true => Box::new(subquery),
        false => {
            let mut outer = query("SELECT array_agg(hw_item) FROM (SELECT 1) AS hw_array(hw_item)");
            if let SetExpr::Select(select) = outer.body.as_mut()
                && let TableFactor::Derived { subquery: inner, .. } = &mut select.from[0].relation
            {
                **inner = subquery;
            }
            outer
        }
    };
    super::resolve::call("hw_or_empty", vec![Expr::Subquery(collected)])
}

/// Turns the select list into the aggregate, if the query is simple enough for that.
fn collect_in_place(subquery: &mut Query) -> bool {
    let is_plain = subquery.with.is_none() && subquery.limit_clause.is_none() && subquery.fetch.is_none();
    let SetExpr::Select(select) = subquery.body.as_mut() else { return false };
    let no_groups = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    if !is_plain || !no_groups || select.distinct.is_some() || select.having.is_some() || aggregates(select) {
        return false;
    }
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return false;
    };
    let item = item.clone();
    let mut order = match subquery.order_by.take().map(|order| order.kind) {
        None => Vec::new(),
        Some(OrderByKind::Expressions(order)) => order,
        Some(OrderByKind::All(_)) => return false,
    };
    for key in &mut order {
        // `ORDER BY 1` is the only column.
        if matches!(&key.expr, Expr::Value(value) if matches!(value.value, Value::Number(..))) {
            key.expr = item.clone();
        }
    }
    let mut aggregate = call("array_agg", item);
    if let Expr::Function(Function { args: FunctionArguments::List(FunctionArgumentList { clauses, .. }), .. }) =
        &mut aggregate
        && !order.is_empty()
    {
        clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
    true
}

// Look-ups by key in a select list.

/// `(SELECT x FROM catalog WHERE key = outer.key AND …)` finds one row at most. The planner asks for an aggregate and
/// for equations alone between inside and outside; catalog queries can be brought into that form.
fn look_up(expr: &mut Expr) {
    let Expr::Subquery(subquery) = expr else { return };
    let SetExpr::Select(select) = subquery.body.as_mut() else { return };
    if !reads_catalogs_only(&select.from) || aggregates(select) || select.distinct.is_some() {
        return;
    }
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return;
    };
    let found = call("first_value", item.clone());
    select.projection = vec![SelectItem::UnnamedExpr(found)];
    (subquery.order_by, subquery.limit_clause) = (None, None);
    let SetExpr::Select(select) = subquery.body.as_mut() else { return };
    let inside = aliases(&select.from);
    let mut conditions = Vec::new();
    conjuncts(select.selection.take(), &mut conditions);
    let equations = equations(&conditions, &inside);
    let mut outside = Vec::new();
    for mut condition in conditions {
        let (own, foreign) = sides(&condition, &inside);
        match (own, foreign) {
            (false, true) => outside.push(condition),
            (true, true) if !is_equation(&condition, &inside) => {
                let ControlFlow::Continue(()) = visit_columns(&mut condition, &equations);
                select.selection = Some(and(select.selection.take(), condition));
            }
            _ => select.selection = Some(and(select.selection.take(), condition)),
        }
    }
    if let Some(condition) = outside.into_iter().reduce(|all, next| and(Some(all), next)) {
        let result = std::mem::replace(expr, null());
        *expr = expression("CASE WHEN true THEN NULL END");
        if let Expr::Case { conditions, .. } = expr {
            conditions[0].condition = condition;
            conditions[0].result = result;
        }
    }
}

fn reads_catalogs_only(from: &[TableWithJoins]) -> bool {
    let is_catalog = |factor: &TableFactor| match factor {
        TableFactor::Table { name, args: None, .. } => {
            let schema = name.0.first().and_then(|part| part.as_ident()).map(folded);
            let bare = name.0.len() == 1 && last_name(name).starts_with("pg_");
            bare || name.0.len() == 2 && schema.is_some_and(|schema| SYSTEM_SCHEMAS.contains(&schema.as_str()))
        }
        _ => false,
    };
    !from.is_empty() && from.iter().all(|table| is_catalog(&table.relation) && table.joins.is_empty())
}

/// The names by which the tables of a FROM are known.
fn aliases(from: &[TableWithJoins]) -> Vec<String> {
    let name = |table: &TableWithJoins| match &table.relation {
        TableFactor::Table { alias: Some(alias), .. } => Some(folded(&alias.name)),
        TableFactor::Table { name, .. } => Some(last_name(name)),
        _ => None,
    };
    from.iter().filter_map(name).collect()
}

fn conjuncts(condition: Option<Expr>, all: &mut Vec<Expr>) {
    match condition {
        Some(Expr::BinaryOp { left, op: BinaryOperator::And, right }) => {
            conjuncts(Some(*left), all);
            conjuncts(Some(*right), all);
        }
        Some(Expr::Nested(inner)) if matches!(*inner, Expr::BinaryOp { op: BinaryOperator::And, .. }) => {
            conjuncts(Some(*inner), all);
        }
        Some(condition) => all.push(condition),
        None => {}
    }
}

fn and(left: Option<Expr>, right: Expr) -> Expr {
    match left {
        None => right,
        Some(left) => Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) },
    }
}

/// The qualifier of a column's name, if it has one.
fn qualifier(expr: &Expr) -> Option<String> {
    match expr {
        Expr::CompoundIdentifier(parts) if parts.len() >= 2 => Some(folded(&parts[parts.len() - 2])),
        _ => None,
    }
}

/// Whether a condition names columns of the subquery's own tables, and of those outside. Bare names are its own.
fn sides(condition: &Expr, inside: &[String]) -> (bool, bool) {
    let (mut own, mut foreign) = (false, false);
    let mut condition = condition.clone();
    let ControlFlow::Continue(()) = visit_expressions_mut(&mut condition, |expr: &mut Expr| {
        match (qualifier(expr), &expr) {
            (Some(name), _) if inside.contains(&name) => own = true,
            (Some(_), _) => foreign = true,
            (None, Expr::Identifier(_)) => own = true,
            _ => {}
        }
        ControlFlow::<Never>::Continue(())
    });
    (own, foreign)
}

fn is_equation(condition: &Expr, inside: &[String]) -> bool {
    equations(std::slice::from_ref(condition), inside).len() == 1
}

/// Pairs of an outer column and the inner one that equals it.
fn equations(conditions: &[Expr], inside: &[String]) -> Vec<(Expr, Expr)> {
    let is_inner = |expr: &Expr| qualifier(expr).is_some_and(|name| inside.contains(&name));
    let is_outer = |expr: &Expr| qualifier(expr).is_some_and(|name| !inside.contains(&name));
    let pair = |condition: &Expr| match condition {
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_inner(left) && is_outer(right) => {
            Some((right.as_ref().clone(), left.as_ref().clone()))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if is_outer(left) && is_inner(right) => {
            Some((left.as_ref().clone(), right.as_ref().clone()))
        }
        _ => None,
    };
    conditions.iter().filter_map(pair).collect()
}

/// Puts inner columns in the places of the outer ones that they equal.
fn visit_columns(condition: &mut Expr, equations: &[(Expr, Expr)]) -> ControlFlow<Never> {
    visit_expressions_mut(condition, |expr: &mut Expr| {
        if let Some((_, inner)) = equations.iter().find(|(outer, _)| outer == expr) {
            *expr = inner.clone();
        }
        ControlFlow::Continue(())
    })
}

/// `polroles = '{0}'`: the literal is an array.
fn array_literal(left: &Expr, right: &mut Expr) {
    let is_array = column_name(left).is_some_and(|name| name == "polroles");
    if is_array && matches!(right, Expr::Value(_)) {
        *right = expression("ARRAY[0]::oid[]");
    }
}

// Catalogs without rows.

/// Whether a FROM gives no row because an empty catalog is on a side that decides.
fn reads_nothing(from: &[TableWithJoins]) -> bool {
    from.iter().any(|table| {
        is_empty(&table.relation) && table.joins.iter().all(|join| !keeps_right(&join.join_operator))
            || (table.joins.iter()).any(|join| is_inner(&join.join_operator) && is_empty(&join.relation))
    })
}

fn keeps_right(join: &JoinOperator) -> bool {
    matches!(join, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
}

fn is_inner(join: &JoinOperator) -> bool {
    matches!(join, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
}

/// Columns of the catalogs that are NULL in every row.
const NULL_COLUMNS: [&str; 4] = ["reloptions", "evttags", "proallargtypes", "datacl"];

fn is_empty(factor: &TableFactor) -> bool {
    let of_null_column = |argument: &Expr| match argument {
        Expr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|last| NULL_COLUMNS.contains(&folded(last).as_str()))
        }
        Expr::Identifier(ident) => NULL_COLUMNS.contains(&folded(ident).as_str()),
        _ => false,
    };
    match factor {
        TableFactor::Table { name, args: None, .. } => is_always_empty(&last_name(name)),
        TableFactor::Table { name, args: Some(args), .. } => {
            let function = last_name(name);
            let arguments = args.args.iter().filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            });
            function == "pg_partition_ancestors" || function == "unnest" && arguments.into_iter().all(of_null_column)
        }
        TableFactor::UNNEST { array_exprs, .. } => array_exprs.iter().all(of_null_column),
        _ => false,
    }
}

/// Whether a select list makes one row out of none.
fn aggregates(select: &Select) -> bool {
    let has_groups = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let mut finder = FindAggregate { depth: 0, found: false };
    let mut projection = select.projection.clone();
    let _ = projection.visit(&mut finder);
    has_groups || finder.found || select.having.is_some()
}

struct FindAggregate {
    depth: usize,
    found: bool,
}

impl VisitorMut for FindAggregate {
    type Break = Never;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Never> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Never> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Never> {
        const AGGREGATES: [&str; 10] =
            ["count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_and", "bool_or", "json_agg"];
        if let Expr::Function(function) = expr {
            self.found |= self.depth == 0 && AGGREGATES.contains(&last_name(&function.name).as_str());
        }
        ControlFlow::Continue(())
    }
}

/// Replaces subqueries by NULL.
struct Unasked;

impl VisitorMut for Unasked {
    type Break = Never;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Never> {
        if array_subquery(expr).is_some() {
            *expr = expression("hw_empty_array()");
        } else if matches!(expr, Expr::Subquery(_)) {
            *expr = expression("NULL::text");
        }
        ControlFlow::Continue(())
    }
}

// Functions in FROM.

fn rewrite_table_function(factor: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: Some(_), .. } = factor else { return };
    strip_schema(name);
    let text = match last_name(name).as_str() {
        "pg_partition_ancestors" => "SELECT NULL::oid AS relid, NULL::bigint AS ordinality WHERE false",
        "pg_available_extensions" => "SELECT name, default_version, comment FROM pg_catalog.pg_available_extensions",
        "pg_get_keywords" => "SELECT word, catcode, barelabel, catdesc, baredesc FROM hw_catalog.hw_keywords",
        "pg_show_all_settings" => "SELECT * FROM pg_catalog.pg_settings",
        _ => return,
    };
    let alias = alias.take().or_else(|| Some(plain_alias(&last_name(name))));
    *factor = TableFactor::Derived { lateral: false, subquery: query(text), alias, sample: None };
}

fn plain_alias(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: Ident::new(name), columns: Vec::new(), at: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: &str) {
        let mut tree = query(given);
        rewrite_idioms(&mut tree);
        assert_eq!(tree.to_string(), expected);
    }

    #[test]
    fn operators_collations_and_schemas_are_taken_away() {
        check(
            "SELECT pg_catalog.format_type(a, b) FROM t WHERE n OPERATOR(pg_catalog.~) '^(x)$' COLLATE pg_catalog.default",
            "SELECT format_type(a, b) FROM t WHERE n ~ '^(x)$'",
        );
        check("SELECT CAST('x' AS pg_catalog.text)", "SELECT CAST('x' AS TEXT)");
    }

    #[test]
    fn reg_types_are_numbers_inside_and_names_outside() {
        check(
            "SELECT c.oid::pg_catalog.regclass FROM c WHERE c.oid = 'x'::regclass",
            "SELECT hw_regclass_name(c.oid) AS \"oid\" FROM c WHERE c.oid = hw_regclass('x')",
        );
        check(
            "SELECT CASE WHEN t = 0 THEN '' ELSE t::pg_catalog.regtype::pg_catalog.text END",
            "SELECT CASE WHEN t = 0 THEN '' ELSE hw_regtype_name(t) END",
        );
        check("SELECT 'v'::pg_catalog.regclass::pg_catalog.oid AS o", "SELECT hw_regclass('v')::oid AS o");
    }

    #[test]
    fn arrays_of_subqueries_are_aggregates() {
        check(
            "SELECT ARRAY(SELECT e.l FROM e WHERE e.t = t.oid ORDER BY e.s) FROM t",
            "SELECT hw_or_empty((SELECT array_agg(e.l ORDER BY e.s) FROM e WHERE e.t = t.oid)) FROM t",
        );
        check("SELECT ARRAY(SELECT e.l FROM pg_enum e)", "SELECT hw_empty_array()");
    }

    #[test]
    fn look_ups_by_key_are_what_the_planner_can_do() {
        check(
            "SELECT (SELECT d.x FROM pg_attrdef d WHERE d.r = a.r AND a.h) FROM pg_attribute a",
            "SELECT CASE WHEN a.h THEN (SELECT first_value(d.x) FROM pg_attrdef d WHERE d.r = a.r) END FROM pg_attribute a",
        );
        check(
            "SELECT (SELECT c.n FROM pg_collation c, pg_type t WHERE c.oid = a.c AND t.oid = a.t AND a.c <> t.c) FROM a",
            "SELECT (SELECT first_value(c.n) FROM pg_collation c, pg_type t WHERE c.oid = a.c AND t.oid = a.t AND c.oid <> t.c) FROM a",
        );
        check(
            "SELECT (SELECT x FROM mine WHERE mine.k = a.k) FROM a",
            "SELECT (SELECT x FROM mine WHERE mine.k = a.k) FROM a",
        );
    }

    #[test]
    fn what_reads_an_empty_catalog_asks_nothing_more() {
        check(
            "SELECT p.n, (SELECT 1 FROM x WHERE x.a = p.b) FROM pg_policy p",
            "SELECT p.n, NULL::TEXT FROM pg_policy p",
        );
        check("SELECT count(*), (SELECT 1) FROM pg_policy", "SELECT count(*), (SELECT 1) FROM pg_policy");
        check(
            "SELECT (SELECT 1) FROM a LEFT JOIN pg_policy p ON true",
            "SELECT (SELECT 1) FROM a LEFT JOIN pg_policy p ON true",
        );
    }
}
