//! TUMBLE, HOP, CUMULATE and SESSION in FROM, in RisingWave's and in Flink's spelling, as the queries that they stand for.

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    OrderByExpr, OrderByOptions, Query, SelectItem, SetExpr, Spanned, TableAlias, TableFactor, TableFunctionArgs,
    WildcardAdditionalOptions, WindowSpec, WindowType,
};
use sqlparser::tokenizer::Span;

use super::grammar::fold;
use super::resolve::{call, derived, plain_alias, query, select};
use crate::error::{SqlError, SqlResult, SqlState};

/// `TABLE t` as an argument: the prefix of the expression that stands for it.
pub(super) const TABLE: &str = "TABLE";
/// `PARTITION BY k` as an argument, and between a table and its keys.
pub(super) const PARTITION_BY: &str = "PARTITION BY";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

/// A call of one of the table functions.
pub(super) struct WindowCall {
    kind: Kind,
    pub input: Input,
    time: Expr,
    /// In the order of the function's own arguments; an offset last.
    spans: Vec<Expr>,
    /// PARTITION BY of a session.
    keys: Vec<Expr>,
    alias: Option<TableAlias>,
}

/// What the windows are made of.
pub(super) enum Input {
    Table { name: ObjectName, alias: Option<TableAlias> },
    Query(Box<Query>),
}

/// The call that a factor of FROM is, if it is one, and where its name stands.
pub(super) fn window_call(factor: &TableFactor) -> Option<(Span, SqlResult<WindowCall>)> {
    let (name, arguments, alias) = match factor {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, &args.args, alias),
        TableFactor::Function { name, args, alias, lateral: false, .. } => (name, args, alias),
        TableFactor::TableFunction { expr: Expr::Function(function), alias } => match &function.args {
            FunctionArguments::List(list) => (&function.name, &list.args, alias),
            _ => return None,
        },
        _ => return None,
    };
    let kind = Kind::of(&fold(name.0.last()?.as_ident()?))?;
    Some((name.span(), read(kind, arguments, alias.clone())))
}

/// The table that one of the functions is called with, as definitions write it.
pub(super) fn windowed_table(factor: &mut TableFactor) -> Option<&mut Expr> {
    let TableFactor::Table { name, args: Some(arguments), .. } = factor else { return None };
    Kind::of(&fold(name.0.last()?.as_ident()?))?;
    match arguments.args.first_mut()? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(table)) => Some(table),
        _ => None,
    }
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        [Kind::Tumble, Kind::Hop, Kind::Cumulate, Kind::Session].into_iter().find(|kind| kind.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Tumble => "tumble",
            Kind::Hop => "hop",
            Kind::Cumulate => "cumulate",
            Kind::Session => "session",
        }
    }

    /// Flink's names of the intervals, in order.
    fn spans(self) -> &'static [&'static str] {
        match self {
            Kind::Tumble => &["size"],
            Kind::Hop => &["slide", "size"],
            Kind::Cumulate => &["step", "size"],
            Kind::Session => &["gap"],
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Kind::Tumble => "Write TUMBLE(table, time_column, INTERVAL '10 minutes').",
            Kind::Hop => "Write HOP(table, time_column, INTERVAL '1 minute', INTERVAL '10 minutes'): slide, then size.",
            Kind::Cumulate => {
                "Write CUMULATE(table, time_column, INTERVAL '1 hour', INTERVAL '1 day'): step, then size."
            }
            Kind::Session => "Write SESSION(table, time_column, INTERVAL '10 minutes', PARTITION BY key).",
        }
    }

    fn refuse(self, problem: &str) -> SqlError {
        let message = format!("{}: {problem}", self.name().to_uppercase());
        SqlError::new(SqlState::SYNTAX_ERROR, message).hint(self.usage())
    }
}

/// Arguments by Flink's names, as far as they are given.
#[derive(Default)]
struct Given {
    data: Option<Expr>,
    time: Option<Expr>,
    spans: Vec<(String, Expr)>,
    keys: Vec<Expr>,
}

fn read(kind: Kind, arguments: &[FunctionArg], alias: Option<TableAlias>) -> SqlResult<WindowCall> {
    let mut given = Given::default();
    for (place, argument) in arguments.iter().enumerate() {
        let (name, value) = match argument {
            FunctionArg::Unnamed(value) => (place_name(kind, place), value),
            FunctionArg::Named { name, arg, .. } => (fold(name), arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (fold(name), arg),
            FunctionArg::ExprNamed { name, .. } => return Err(kind.refuse(&format!("\"{name}\" is no argument"))),
        };
        let FunctionArgExpr::Expr(value) = value else { return Err(kind.refuse("* is no argument")) };
        given.take(kind, &name, value.clone())?;
    }
    let data = given.data.ok_or_else(|| kind.refuse("the table is missing"))?;
    let (input, mut keys) = input(kind, data)?;
    keys.extend(given.keys);
    if !keys.is_empty() && kind != Kind::Session {
        return Err(kind.refuse("PARTITION BY is for sessions"));
    }
    let time = given.time.ok_or_else(|| kind.refuse("the time column is missing"))?;
    let mut spans = given.spans;
    let mut ordered = Vec::new();
    for name in kind.spans() {
        let place = spans.iter().position(|(other, _)| other == name);
        let place = place.ok_or_else(|| kind.refuse(&format!("the interval {name} is missing")))?;
        ordered.push(spans.swap_remove(place).1);
    }
    ordered.extend(spans.into_iter().map(|(_, offset)| offset));
    Ok(WindowCall { kind, input, time, spans: ordered, keys, alias })
}

/// The name of an argument that is given by its place.
fn place_name(kind: Kind, place: usize) -> String {
    let spans = kind.spans();
    let name = match place {
        0 => "data",
        1 => "timecol",
        place => match (spans.get(place - 2), kind) {
            (Some(span), _) => span,
            (None, Kind::Session) => "key",
            (None, _) => "offset",
        },
    };
    name.to_string()
}

impl Given {
    fn take(&mut self, kind: Kind, name: &str, value: Expr) -> SqlResult<()> {
        match (name, value) {
            (_, Expr::Prefixed { prefix, value }) if prefix.value == PARTITION_BY => self.keys.extend(listed(*value)),
            // Flink's sessions may name the keys after the table, before the time.
            ("data", value) if self.data.is_none() => self.data = Some(value),
            ("timecol", value) if self.time.is_none() => self.time = Some(descriptor(value)),
            ("key", value) => self.keys.push(value),
            (name, value)
                if (kind.spans().contains(&name) || (name == "offset" && kind != Kind::Session))
                    && !self.spans.iter().any(|(other, _)| other == name) =>
            {
                self.spans.push((name.to_string(), value));
            }
            (name, _) => return Err(kind.refuse(&format!("argument {name} is unknown, or given twice"))),
        }
        Ok(())
    }
}

/// `DESCRIPTOR(column)` is the column.
fn descriptor(value: Expr) -> Expr {
    if let Expr::Function(function) = &value
        && function.name.0.last().and_then(|part| part.as_ident()).is_some_and(|name| fold(name) == "descriptor")
        && let FunctionArguments::List(list) = &function.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] = list.args.as_slice()
    {
        return column.clone();
    }
    value
}

fn listed(keys: Expr) -> Vec<Expr> {
    match keys {
        Expr::Tuple(keys) => keys,
        Expr::Nested(key) => vec![*key],
        key => vec![key],
    }
}

/// The table or query that is given as an argument, and the keys that are written after it.
fn input(kind: Kind, data: Expr) -> SqlResult<(Input, Vec<Expr>)> {
    let named = |parts: Vec<Ident>| {
        let name = ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect());
        (Input::Table { name, alias: None }, Vec::new())
    };
    match data {
        Expr::Identifier(name) => Ok(named(vec![name])),
        Expr::CompoundIdentifier(parts) => Ok(named(parts)),
        Expr::Subquery(query) => Ok((Input::Query(query), Vec::new())),
        Expr::Prefixed { prefix, value } if prefix.value == TABLE => input(kind, *value),
        Expr::Nested(inner) => input(kind, *inner),
        Expr::BinaryOp { left, op: BinaryOperator::Custom(op), right } if op == PARTITION_BY => {
            let (table, _) = input(kind, *left)?;
            Ok((table, listed(*right)))
        }
        _ => Err(kind.refuse("the first argument must be a table or a query")),
    }
}

impl WindowCall {
    /// The call again in RisingWave's spelling, after its input was given its full name.
    pub fn into_factor(self) -> TableFactor {
        let Self { kind, input, time, spans, keys, alias } = self;
        let (data, bare) = match input {
            Input::Table { name, alias } => (table_expression(&name), alias),
            Input::Query(query) => (Expr::Subquery(query), None),
        };
        let mut keys = keys.into_iter();
        let first = keys.next().map(|key| Expr::Prefixed { prefix: Ident::new(PARTITION_BY), value: Box::new(key) });
        let arguments = [data, time].into_iter().chain(spans).chain(first).chain(keys);
        let args = arguments.map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value))).collect();
        TableFactor::Table {
            name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(kind.name().to_uppercase()))]),
            alias: alias.or(bare),
            args: Some(TableFunctionArgs { args, settings: None }),
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        }
    }

    /// The derived table that the call stands for. Rows without a time are in no window.
    pub fn into_query(self) -> TableFactor {
        let Self { kind, input, time, mut spans, keys, alias } = self;
        let (from, bare) = match input {
            Input::Table { name, .. } => {
                let bare = name.0.last().and_then(|part| part.as_ident()).map(fold);
                (table(name), bare)
            }
            Input::Query(query) => (derived(false, *query, plain_alias("input")), None),
        };
        if kind != Kind::Session && spans.len() == kind.spans().len() {
            spans.push(no_offset());
        }
        let with_time = |values: &[Expr]| std::iter::once(time.clone()).chain(values.to_vec()).collect::<Vec<_>>();
        let size = spans[kind.spans().len() - 1].clone();
        let columns = match kind {
            Kind::Tumble => vec![(call("hw_tumble", with_time(&spans)), "window_start")],
            Kind::Hop => vec![(unnest(call("hw_hop", with_time(&spans))), "window_start")],
            Kind::Cumulate => vec![
                (call("hw_tumble", with_time(&spans[1..])), "window_start"),
                (unnest(call("hw_cumulate", with_time(&spans))), "window_end"),
            ],
            Kind::Session => vec![
                (over(call("hw_session_start", with_time(&spans)), &time, &keys), "window_start"),
                (over(call("hw_session_end", with_time(&spans)), &time, &keys), "window_end"),
            ],
        };
        let mut body = select(with_star(columns), vec![from]);
        body.selection = Some(Expr::IsNotNull(Box::new(time)));
        let mut windows = query(SetExpr::Select(Box::new(body)));
        if matches!(kind, Kind::Tumble | Kind::Hop) {
            let end = call("hw_window_end", vec![Expr::Identifier(Ident::new("window_start")), size]);
            let inner = derived(false, windows, plain_alias("windows"));
            windows = query(SetExpr::Select(Box::new(select(with_star(vec![(end, "window_end")]), vec![inner]))));
        }
        let name = bare.unwrap_or_else(|| kind.name().to_string());
        derived(false, windows, alias.unwrap_or_else(|| plain_alias(&name)))
    }
}

fn with_star(columns: Vec<(Expr, &str)>) -> Vec<SelectItem> {
    let star = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    let named = columns.into_iter().map(|(expr, name)| SelectItem::ExprWithAlias { expr, alias: Ident::new(name) });
    std::iter::once(star).chain(named).collect()
}

fn table_expression(name: &ObjectName) -> Expr {
    let mut parts: Vec<Ident> = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    match parts.len() {
        1 => Expr::Identifier(parts.remove(0)),
        _ => Expr::CompoundIdentifier(parts),
    }
}

fn table(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

fn unnest(list: Expr) -> Expr {
    call("unnest", vec![list])
}

fn no_offset() -> Expr {
    Expr::Interval(sqlparser::ast::Interval {
        value: Box::new(Expr::Value(sqlparser::ast::Value::SingleQuotedString("0 seconds".to_string()).into())),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    })
}

/// The call over the rows of each key in the order of time.
fn over(mut session: Expr, time: &Expr, keys: &[Expr]) -> Expr {
    if let Expr::Function(function) = &mut session {
        let options = OrderByOptions { asc: None, nulls_first: None };
        let order = OrderByExpr { expr: time.clone(), options, with_fill: None };
        function.over = Some(WindowType::WindowSpec(WindowSpec {
            window_name: None,
            partition_by: keys.to_vec(),
            order_by: vec![order],
            window_frame: None,
        }));
    }
    session
}
