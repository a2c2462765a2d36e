//! Makes names in a syntax tree mean one thing: relations get their schema, select lists PostgreSQL's column names, and
//! what DataFusion plans differently is written in a form that it plans right.

use std::ops::ControlFlow;

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr,
    Ident, LimitClause, ObjectName, ObjectNamePart, Query, Select, SelectFlavor, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Spanned, TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
    WildcardAdditionalOptions,
};
use sqlparser::tokenizer::Span;

use super::bind::BindContext;
use super::grammar::fold;
use super::names::name_columns;
use super::place::Places;
use super::system::system_relation;
use super::windows::{Input, window_call};
use crate::catalog::{DATABASE, Relation, nearest};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::{WITH_TIES, function_names, is_function, is_window_function};
use crate::zset::RelationId;

/// Names of derived tables by which the binder finds the multiset operations that DataFusion plans as if for sets.
pub(super) const EXCEPT_ALL: &str = "hw except all";
pub(super) const INTERSECT_ALL: &str = "hw intersect all";
/// The database part of every planned relation's name.
pub(super) const ROOT: &str = "headwater";
/// The schema of ad-hoc scans: `SELECT * FROM '/data/x.parquet'`.
pub const FILES_SCHEMA: &str = "hw_files";

/// A statement's calls of users' functions, with those in their bodies.
const CALLS_MAX: usize = 1000;

/// What a tree is resolved for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be planned. `stars`: wildcards may bring columns whose names repeat.
    Plan { stars: bool },
    /// To be stored as text that means the same under every search path.
    Text,
}

pub(super) struct Resolver<'a> {
    context: &'a BindContext<'a>,
    places: Option<&'a Places>,
    purpose: Purpose,
    frames: Vec<Frame>,
    /// Relations read and functions called directly, each once.
    pub reads: Vec<RelationId>,
    /// Calls of users' functions that were replaced by their bodies.
    calls: usize,
    /// Tables whose names stand for whole rows, and their columns.
    pub rows: Vec<(String, Vec<String>)>,
}

/// The WITH queries of one query level.
struct Frame {
    /// Name, and the address of the query, by which the visitor knows it again.
    with: Vec<(String, *const Query)>,
    recursive: bool,
    /// How many of them can be seen from where the visitor is.
    visible: usize,
}

impl<'a> Resolver<'a> {
    pub fn new(context: &'a BindContext<'a>, places: Option<&'a Places>, purpose: Purpose) -> Self {
        Self { context, places, purpose, frames: Vec::new(), reads: Vec::new(), calls: 0, rows: Vec::new() }
    }

    pub fn resolve<T: VisitMut>(&mut self, tree: &mut T) -> SqlResult<()> {
        match tree.visit(self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn place(&self, span: Span, error: SqlError) -> SqlError {
        let position = self.places.and_then(|places| places.position(span));
        SqlError { position: error.position.or(position), ..error }
    }

    fn is_with_query(&self, name: &str) -> bool {
        self.frames.iter().any(|frame| frame.with[..frame.visible].iter().any(|(other, _)| other == name))
    }

    /// Gives the relation its full name; it keeps its bare name as alias.
    fn table(&mut self, name: &mut ObjectName, alias: &mut Option<TableAlias>) -> SqlResult<()> {
        let span = name.span();
        if let [ObjectNamePart::Identifier(path)] = name.0.as_slice()
            && path.quote_style == Some('\'')
        {
            let path = path.value.clone();
            *name = full_name(FILES_SCHEMA, &path, self.purpose);
            alias.get_or_insert_with(|| plain_alias("file"));
            return Ok(());
        }
        let (schema, bare) = split_name(name).map_err(|error| self.place(span, error))?;
        if schema.is_none() && self.is_with_query(&bare) {
            return Ok(());
        }
        let found = self.find(schema.as_deref(), &bare).map_err(|error| self.place(span, error))?;
        *name = full_name(&found, &bare, self.purpose);
        alias.get_or_insert_with(|| plain_alias(&bare));
        Ok(())
    }

    /// The schema in which the name is found.
    fn find(&mut self, schema: Option<&str>, bare: &str) -> SqlResult<String> {
        let in_system = |schema: &str| system_relation(schema, bare).is_some();
        if schema.is_none() && in_system("pg_catalog") {
            return Ok("pg_catalog".to_string());
        }
        if let Some(relation) = self.context.catalog.find(schema, bare, self.context.search_path) {
            readable(relation)?;
            if !self.reads.contains(&relation.id) {
                self.reads.push(relation.id);
            }
            return Ok(relation.schema.clone());
        }
        let mut schemas: Vec<&str> = self.context.search_path.iter().map(String::as_str).collect();
        schemas.retain(|_| schema.is_none());
        schemas.extend(schema);
        match schemas.into_iter().find(|schema| in_system(schema)) {
            Some(schema) => Ok(schema.to_string()),
            None => Err(self.context.catalog.relation_not_found(schema, bare, self.context.search_path)),
        }
    }

    fn factor(&mut self, factor: &mut TableFactor) -> SqlResult<()> {
        if let TableFactor::Table { name, sample: Some(_), .. } = factor {
            let error = SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "TABLESAMPLE is not supported")
                .hint("Choose rows by a condition, such as WHERE id % 100 = 0.");
            return Err(self.place(name.span(), error));
        }
        if let TableFactor::Table { name, alias, args: None, .. } = factor {
            return self.table(name, alias);
        }
        if let Some((span, windows)) = window_call(factor) {
            let mut windows = windows.map_err(|error| self.place(span, error))?;
            *factor = match self.purpose {
                Purpose::Plan { .. } => windows.into_query(),
                Purpose::Text => {
                    if let Input::Table { name, alias } = &mut windows.input {
                        self.table(name, alias)?;
                    }
                    windows.into_factor()
                }
            };
            return Ok(());
        }
        if self.purpose != Purpose::Text
            && let Some(derived) = function_as_query(factor)
        {
            *factor = derived;
        }
        Ok(())
    }

    fn expression(&mut self, expression: &mut Expr) -> SqlResult<()> {
        if let Expr::Function(function) = expression
            && let FunctionArguments::List(list) = &mut function.args
        {
            let checked = function.name.to_string() == "hw_argument";
            let apart = self.purpose == Purpose::Plan { stars: true } && !checked;
            list.args.iter_mut().for_each(|argument| self.argument(argument, apart));
        }
        match expression {
            // The row of a function of one value is the value.
            Expr::Identifier(name) => {
                let table = fold(name);
                let value = |(row, columns): &&(String, Vec<String>)| *row == table && columns[..] == ["value"];
                if self.rows.iter().any(|row| value(&row)) {
                    *expression = Expr::CompoundIdentifier(vec![Ident::with_quote('"', table), Ident::new("value")]);
                }
            }
            // `schema.table.column` is `table.column`: tables have their bare names as aliases.
            Expr::CompoundIdentifier(parts) if parts.len() == 3 => {
                let schema = fold(&parts[0]);
                if self.context.catalog.schema(&schema).is_some() || super::system::SYSTEM_SCHEMAS.contains(&&*schema) {
                    parts.remove(0);
                }
            }
            Expr::Function(function) if super::function::find(function, self.context).is_some() => {
                let Some(found) = super::function::find(function, self.context) else { return Ok(()) };
                if !self.reads.contains(&found.id) {
                    self.reads.push(found.id);
                }
                if self.purpose == Purpose::Text {
                    super::function::qualify(function, found);
                    return Ok(());
                }
                self.calls += 1;
                if self.calls > CALLS_MAX {
                    return Err(SqlError::new(SqlState(*b"54001"), "calls of functions are nested too deeply"));
                }
                let span = function.name.span();
                *expression = super::function::inline(function, found).map_err(|error| self.place(span, error))?;
            }
            _ if self.purpose == Purpose::Text => {}
            Expr::InSubquery { expr, .. } if matches!(expr.as_ref(), Expr::Tuple(_)) => {
                super::rows_in::value(expression);
            }
            Expr::Function(_) => {
                if let Some(rewritten) = set_returning(expression).or_else(|| super::spelling::function(expression)) {
                    *expression = rewritten;
                } else if let Expr::Function(function) = expression {
                    self.function(function)?;
                }
            }
            other => super::spelling::rewrite(other),
        }
        Ok(())
    }

    /// A table's name as its row. With `apart` casts get names of their own, by which `sum(x)` and `sum(x::bigint)`
    /// can be told apart.
    fn argument(&self, argument: &mut FunctionArg, apart: bool) {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) = argument else { return };
        let text = |text: String| Expr::Value(Value::SingleQuotedString(text).into());
        match value {
            Expr::Identifier(name) => {
                let table = fold(name);
                let Some((_, columns)) = self.rows.iter().find(|(row, _)| *row == table) else { return };
                let members = columns.iter().flat_map(|column| {
                    let parts = vec![Ident::with_quote('"', &table), Ident::with_quote('"', column)];
                    [text(column.clone()), Expr::CompoundIdentifier(parts)]
                });
                *value = call("hw_record", members.collect());
            }
            Expr::Cast { data_type, .. } if apart => {
                let kind = data_type.to_string();
                *value = call("hw_argument", vec![value.clone(), text(kind), text(String::new())]);
            }
            _ => {}
        }
    }

    /// Refuses forms of queries that have no meaning here, or another one in PostgreSQL.
    fn refuse_forms(&self, query: &Query) -> SqlResult<()> {
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) = query.body.as_ref()
            && self.frames.is_empty()
        {
            let text = query.body.to_string();
            let verb = text.split(' ').next().unwrap_or_default();
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{verb}\""))
                .hint("A query begins with SELECT, VALUES, TABLE or WITH."));
        }
        let changes =
            query.with.iter().flat_map(|with| &with.cte_tables).find_map(|cte| match cte.query.body.as_ref() {
                SetExpr::Insert(_) => Some((cte, "INSERT")),
                SetExpr::Update(_) => Some((cte, "UPDATE")),
                SetExpr::Delete(_) | SetExpr::Merge(_) => Some((cte, "DELETE")),
                _ => None,
            });
        if let Some((cte, verb)) = changes {
            let hint = format!("Run the {verb} by itself, with RETURNING for its rows; then the query.");
            let error = SqlError::unsupported(format!("{verb} within WITH is not supported"), hint);
            return Err(self.place(cte.alias.name.span, error));
        }
        if let SetExpr::Select(select) = query.body.as_ref()
            && select.top.is_some()
        {
            let error = SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"TOP\"");
            return Err(self.place(select.select_token.0.span, error.hint("Write LIMIT and the number at the end.")));
        }
        let limit = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit: Some(limit), .. }) => limit,
            _ => return Ok(()),
        };
        match names_column(limit) && !matches!(limit, Expr::Subquery(_)) {
            true => Err(self.place(
                limit.span(),
                SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, "argument of LIMIT must not contain variables")
                    .hint("Write a number; row_number() OVER (...) <= column gives a limit for each row."),
            )),
            false => Ok(()),
        }
    }

    /// Refuses functions that do not exist while their place in the text is known.
    fn function(&self, function: &Function) -> SqlResult<()> {
        let span = function.name.span();
        let Some(ObjectNamePart::Identifier(ident)) = function.name.0.last() else { return Ok(()) };
        let name = fold(ident);
        if function.over.is_none() && is_window_function(&name) {
            let error = match function.within_group.is_empty() {
                true => SqlError::new(
                    SqlState::WRONG_OBJECT_TYPE,
                    format!("window function {name} requires an OVER clause"),
                )
                .hint("Write OVER (PARTITION BY ... ORDER BY ...) behind it."),
                false => SqlError::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function {name} with these arguments does not exist"),
                )
                .hint("rank, dense_rank, percent_rank and cume_dist take one value WITHIN GROUP (ORDER BY column)."),
            };
            return Err(self.place(span, error));
        }
        if is_function(&name) {
            return Ok(());
        }
        if let Some(instead) = super::foreign::instead_of(&name) {
            let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
            return Err(self.place(span, error.hint(format!("Write {instead}."))));
        }
        let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
        let own = self.context.catalog.functions().map(|own| super::function::called(own).to_string());
        let sets = set_function_names().map(str::to_string);
        let mut names: Vec<String> = function_names().into_iter().chain(sets).chain(own).collect();
        names.retain(|name| !name.starts_with("hw_"));
        let error = match nearest(&name, names.iter().map(String::as_str)) {
            Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
            None => error.hint("No function has this name."),
        };
        Err(self.place(span, error))
    }
}

impl VisitorMut for Resolver<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        table_as_select(&mut query.body);
        if self.purpose != Purpose::Text {
            fetch_as_limit(query);
            mark_multiset_operations(&mut query.body);
            super::spelling::cast_values(&mut query.body);
        }
        if let Err(error) = self.refuse_forms(query) {
            return ControlFlow::Break(error);
        }
        let address: *const Query = query;
        if let Some(parent) = self.frames.last_mut()
            && let Some(index) = parent.with.iter().position(|(_, other)| *other == address)
        {
            parent.visible = if parent.recursive { parent.with.len() } else { index };
        }
        let mut frame = Frame { with: Vec::new(), recursive: false, visible: 0 };
        if let Some(with) = &query.with {
            let address = |query: &Query| -> *const Query { query };
            frame.recursive = with.recursive;
            frame.with = with.cte_tables.iter().map(|cte| (fold(&cte.alias.name), address(&cte.query))).collect();
            frame.visible = frame.with.len();
        }
        self.frames.push(frame);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.frames.pop();
        if let Some(parent) = self.frames.last_mut() {
            parent.visible = parent.with.len();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        if let Purpose::Plan { stars } = self.purpose {
            super::rows_in::conditions(select);
            super::named_windows::write_out(select);
            super::grouping_keys::write_out(select);
            name_columns(select, stars);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        into_flow(self.factor(factor))
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<SqlError> {
        into_flow(self.expression(expression))
    }
}

fn into_flow(result: SqlResult<()>) -> ControlFlow<SqlError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

/// Schema and bare name; a database in front is taken if it is the only one there is.
pub(super) fn split_name(name: &ObjectName) -> SqlResult<(Option<String>, String)> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident().map(fold)).collect();
    match parts.as_slice() {
        [bare] => Ok((None, bare.clone())),
        [schema, bare] => Ok((Some(schema.clone()), bare.clone())),
        [database, schema, bare] if database == DATABASE || database == ROOT => {
            Ok((Some(schema.clone()), bare.clone()))
        }
        [_, _, _] => Err(SqlError::unsupported(
            format!("cross-database references are not implemented: \"{name}\""),
            format!("The only database is {DATABASE}; leave the first part of the name out."),
        )),
        _ => Err(SqlError::new(
            SqlState::SYNTAX_ERROR,
            format!("improper qualified name (too many dotted names): {name}"),
        )),
    }
}

fn readable(relation: &Relation) -> SqlResult<()> {
    match relation.kind.is_readable() {
        true => Ok(()),
        false => Err(SqlError::new(
            SqlState::WRONG_OBJECT_TYPE,
            format!("\"{}\" is a {}, which cannot be read", relation.name, relation.kind),
        )),
    }
}

fn full_name(schema: &str, bare: &str, purpose: Purpose) -> ObjectName {
    let part = |text: &str| ObjectNamePart::Identifier(Ident::with_quote('"', text));
    let text_part = |text: &str| match crate::catalog::quote_name(text) == text {
        true => ObjectNamePart::Identifier(Ident::new(text)),
        false => part(text),
    };
    ObjectName(match purpose {
        Purpose::Plan { .. } => vec![part(ROOT), part(schema), part(bare)],
        Purpose::Text => vec![text_part(schema), text_part(bare)],
    })
}

pub(super) fn plain_alias(name: &str) -> TableAlias {
    let name = match crate::catalog::quote_name(name) == name {
        true => Ident::new(name),
        false => Ident::with_quote('"', name),
    };
    TableAlias { explicit: true, name, columns: Vec::new(), at: None }
}

/// `FETCH FIRST n ROWS ONLY` is `LIMIT n`; WITH TIES marks the count.
fn fetch_as_limit(query: &mut Query) {
    let Some(fetch) = query.fetch.take_if(|fetch| !fetch.percent) else { return };
    let one = || Expr::Value(Value::Number("1".to_string(), false).into());
    let quantity = fetch.quantity.unwrap_or_else(one);
    let quantity = Some(if fetch.with_ties { call(WITH_TIES, vec![quantity]) } else { quantity });
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => *limit = quantity,
        other => *other = Some(LimitClause::LimitOffset { limit: quantity, offset: None, limit_by: Vec::new() }),
    }
}

/// `TABLE t` is `SELECT * FROM t`.
fn table_as_select(body: &mut SetExpr) {
    match body {
        SetExpr::SetOperation { left, right, .. } => {
            table_as_select(left);
            table_as_select(right);
        }
        SetExpr::Table(table) => {
            let parts = [table.schema_name.as_ref(), table.table_name.as_ref()];
            let parts = parts.into_iter().flatten().map(|part| ObjectNamePart::Identifier(Ident::new(part)));
            let factor = TableFactor::Table {
                name: ObjectName(parts.collect()),
                alias: None,
                args: None,
                with_hints: Vec::new(),
                version: None,
                with_ordinality: false,
                partitions: Vec::new(),
                json_path: None,
                sample: None,
                index_hints: Vec::new(),
            };
            let star = SelectItem::Wildcard(WildcardAdditionalOptions::default());
            *body = SetExpr::Select(Box::new(select(vec![star], vec![factor])));
        }
        _ => {}
    }
}

/// `A EXCEPT ALL B` → `SELECT * FROM (A UNION ALL B) "hw except all"`, which the binder knows by that name.
fn mark_multiset_operations(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    mark_multiset_operations(left);
    mark_multiset_operations(right);
    let mark = match (op, &set_quantifier) {
        (SetOperator::Except, SetQuantifier::All) => EXCEPT_ALL,
        (SetOperator::Intersect, SetQuantifier::All) => INTERSECT_ALL,
        _ => return,
    };
    let empty = || Box::new(SetExpr::Select(Box::new(select(Vec::new(), Vec::new()))));
    let union = SetExpr::SetOperation {
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        left: std::mem::replace(left, empty()),
        right: std::mem::replace(right, empty()),
    };
    let star = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    let derived = derived(false, query(union), TableAlias { name: Ident::with_quote('"', mark), ..plain_alias("x") });
    *body = SetExpr::Select(Box::new(select(vec![star], vec![derived])));
}

pub(super) fn derived(lateral: bool, query: Query, alias: TableAlias) -> TableFactor {
    TableFactor::Derived { lateral, subquery: Box::new(query), alias: Some(alias), sample: None }
}

pub(super) fn query(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

pub(super) fn select(projection: Vec<SelectItem>, from: Vec<TableFactor>) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: from.into_iter().map(|relation| TableWithJoins { relation, joins: Vec::new() }).collect(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

/// Functions that give a set of rows: the array functions that give the same values, a column of the set each, and
/// what its column is called if that is not the function's name.
const SET_FUNCTIONS: &[(&str, &[(&str, &str)])] = &[
    ("generate_series", &[("hw_series", "")]),
    ("generate_subscripts", &[("hw_subscripts", "")]),
    ("string_to_table", &[("string_to_array", "")]),
    ("regexp_split_to_table", &[("regexp_split_to_array", "")]),
    ("regexp_matches", &[("hw_regexp_matches", "")]),
    ("jsonb_path_query", &[("hw_jsonb_path_query", "")]),
    ("jsonb_object_keys", &[("hw_jsonb_keys", "")]),
    ("json_object_keys", &[("hw_json_keys", "")]),
    ("jsonb_array_elements", &[("hw_jsonb_elements", "value")]),
    ("json_array_elements", &[("hw_json_elements", "value")]),
    ("jsonb_array_elements_text", &[("hw_jsonb_elements_text", "value")]),
    ("json_array_elements_text", &[("hw_json_elements_text", "value")]),
    ("jsonb_each", &[("hw_jsonb_keys", "key"), ("hw_jsonb_values", "value")]),
    ("json_each", &[("hw_json_keys", "key"), ("hw_json_values", "value")]),
    ("jsonb_each_text", &[("hw_jsonb_keys", "key"), ("hw_jsonb_values_text", "value")]),
    ("json_each_text", &[("hw_json_keys", "key"), ("hw_json_values_text", "value")]),
];

fn set_function(name: &str) -> Option<&'static [(&'static str, &'static str)]> {
    SET_FUNCTIONS.iter().find(|(set, _)| *set == name).map(|(_, arrays)| *arrays)
}

/// The names of the functions that give sets.
pub(super) fn set_function_names() -> impl Iterator<Item = &'static str> {
    SET_FUNCTIONS.iter().map(|(name, _)| *name)
}

/// `generate_series(…)` in an expression → `unnest(hw_series(…))`.
fn set_returning(expression: &Expr) -> Option<Expr> {
    let Expr::Function(function) = expression else { return None };
    let name = fold(function.name.0.last()?.as_ident()?);
    let [(array, _)] = set_function(&name)? else { return None };
    let mut inner = function.clone();
    inner.name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(*array))]);
    Some(unnested(array, Expr::Function(inner)))
}

/// The rows of an array. What is json in it would come out as text.
fn unnested(function: &str, array: Expr) -> Expr {
    let rows = call("unnest", vec![array]);
    match function {
        "hw_jsonb_elements" | "hw_jsonb_values" | "hw_jsonb_path_query" => super::spelling::cast(rows, DataType::JSONB),
        "hw_json_elements" | "hw_json_values" => super::spelling::cast(rows, DataType::JSON),
        _ => rows,
    }
}

/// Whether an expression names a column, which must then be one of what stands before it in FROM.
pub(super) fn names_column(expression: &Expr) -> bool {
    let mut found = false;
    let _: ControlFlow<()> = sqlparser::ast::visit_expressions(expression, |part| {
        found |= matches!(part, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        ControlFlow::Continue(())
    });
    found
}

pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// A function in FROM.
struct TableFunction {
    name: String,
    arguments: Vec<Expr>,
    alias: Option<TableAlias>,
    lateral: bool,
    ordinality: bool,
}

fn table_function(factor: &TableFactor) -> Option<TableFunction> {
    let bare = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).map(fold);
    let (name, arguments, alias, lateral, ordinality) = match factor {
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
            (bare(name)?, args.args.clone(), alias, false, *with_ordinality)
        }
        TableFactor::Function { name, args, alias, lateral, with_ordinality, .. } => {
            (bare(name)?, args.clone(), alias, *lateral, *with_ordinality)
        }
        TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
            let arguments = array_exprs.iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e.clone())));
            ("unnest".to_string(), arguments.collect(), alias, false, *with_ordinality)
        }
        _ => return None,
    };
    let plain = arguments.into_iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    });
    Some(TableFunction { name, arguments: plain.collect::<Option<_>>()?, alias: alias.clone(), lateral, ordinality })
}

/// A function in FROM as a derived table: `generate_series(1, 3) AS g` → `(SELECT unnest(…) AS g) AS g`.
fn function_as_query(factor: &TableFactor) -> Option<TableFactor> {
    let function = table_function(factor)?;
    if let Some(records) = records_as_query(&function) {
        return Some(records);
    }
    let TableFunction { name, arguments, alias, lateral, ordinality } = function;
    let lateral = lateral || arguments.iter().any(names_column);
    let mut arrays: Vec<(&str, Expr, &str)> = match set_function(&name) {
        Some(arrays) => {
            arrays.iter().map(|(array, column)| (*array, call(array, arguments.clone()), *column)).collect()
        }
        None if name == "unnest" => arguments.into_iter().map(|array| ("", array, "")).collect(),
        None => {
            return (!ordinality)
                .then(|| derived_from_calls(&name, vec![(call(&name, arguments), "")], alias, lateral));
        }
    };
    if ordinality {
        let all = arrays.iter().map(|(_, array, _)| array.clone());
        arrays.push(("", ordinals(all.collect()), "ordinality"));
    }
    let values = arrays.into_iter().map(|(function, array, column)| (unnested(function, array), column)).collect();
    Some(derived_from_calls(&name, values, alias, lateral))
}

/// `WITH ORDINALITY`: 1 to the length of the longest array.
fn ordinals(mut arrays: Vec<Expr>) -> Expr {
    if arrays.len() == 1 {
        return call("hw_places", arrays);
    }
    let bigint = |expression| super::spelling::cast(expression, DataType::BigInt(None));
    let lengths = arrays.drain(..).map(|array| call("cardinality", vec![array])).collect();
    let one = Expr::Value(Value::Number("1".to_string(), false).into());
    call("hw_series", vec![bigint(one), bigint(call("greatest", lengths))])
}

fn derived_from_calls(name: &str, values: Vec<(Expr, &str)>, alias: Option<TableAlias>, lateral: bool) -> TableFactor {
    let mut alias = alias.unwrap_or_else(|| plain_alias(name));
    let columns = std::mem::take(&mut alias.columns);
    let items = values.into_iter().enumerate().map(|(i, (expr, called))| {
        let default = || match (i, called) {
            (0, "") => alias.name.clone(),
            (_, "") => Ident::new(format!("{name}{}", i + 1)),
            (_, called) => Ident::new(called),
        };
        let column = columns.get(i).map_or_else(default, |column| column.name.clone());
        SelectItem::ExprWithAlias { expr, alias: column }
    });
    let body = SetExpr::Select(Box::new(select(items.collect(), Vec::new())));
    derived(lateral, query(body), alias)
}

/// `jsonb_to_recordset(x) AS t(a int)` → `(SELECT CAST(hw_json_member(e, 'a') AS int) AS a FROM (…) AS r(e)) AS t`.
fn records_as_query(function: &TableFunction) -> Option<TableFactor> {
    let elements = match function.name.as_str() {
        "jsonb_to_recordset" => Some("hw_jsonb_elements"),
        "json_to_recordset" => Some("hw_json_elements"),
        "jsonb_to_record" | "json_to_record" => None,
        _ => return None,
    };
    let mut alias = function.alias.clone()?;
    let [document] = function.arguments.as_slice() else { return None };
    let document = match elements {
        Some(elements) => unnested(elements, call(elements, vec![document.clone()])),
        None => {
            let kind = if function.name.starts_with("jsonb") { DataType::JSONB } else { DataType::JSON };
            super::spelling::cast(document.clone(), kind)
        }
    };
    let element = Ident::new("element");
    let inner = select(vec![SelectItem::ExprWithAlias { expr: document, alias: element.clone() }], Vec::new());
    let rows = derived(function.lateral, query(SetExpr::Select(Box::new(inner))), plain_alias("records"));
    let columns = std::mem::take(&mut alias.columns).into_iter().map(|column| {
        let key = Expr::Value(Value::SingleQuotedString(fold(&column.name)).into());
        let member = call("hw_json_member", vec![Expr::Identifier(element.clone()), key]);
        let typed = column.data_type.map(|data_type| super::spelling::cast(member.clone(), data_type));
        SelectItem::ExprWithAlias { expr: typed.unwrap_or(member), alias: column.name }
    });
    let body = SetExpr::Select(Box::new(select(columns.collect(), vec![rows])));
    Some(derived(function.lateral, query(body), alias))
}
