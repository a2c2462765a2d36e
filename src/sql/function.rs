//! CREATE and DROP FUNCTION for functions written in SQL, and their calls: a call is replaced by the function's body.

use std::ops::ControlFlow;

use sqlparser::ast::{
    CaseWhen, CreateFunction, CreateFunctionBody, DataType, DropBehavior, DropFunction, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, FunctionBehavior, FunctionCalledOnNull, FunctionReturnType, GroupByExpr, Ident,
    ObjectName, ObjectNamePart, OperateFunctionArg, Query, SelectItem, SetExpr, Spanned, TableFactor, Value, Visit,
    VisitMut, Visitor, VisitorMut,
};

use super::bind::BindContext;
use super::ddl::{at, relation, target};
use super::grammar::fold;
use super::parse::{Parsed, parse_expression, parse_query};
use super::place::Places;
use super::query::{as_definition, plan_query};
use super::resolve::{call, split_name};
use super::spelling::cast;
use super::statement::{Define, Notice};
use super::types::pg_type_or_err;
use crate::catalog::{Catalog, CatalogEdit, Column, Relation, RelationKind, nearest};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions;
use crate::zset::PgType;

const INVALID_DEFINITION: SqlState = SqlState(*b"42P13");

/// `CREATE FUNCTION`.
pub(super) fn create(create: &CreateFunction, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Define> {
    let place = |error| at(parsed, create.name.span(), error);
    check_language(create).map_err(place)?;
    let (schema, name) = target(&create.name, parsed, context)?;
    let parameters = parameters(create.args.as_deref().unwrap_or_default(), parsed)?;
    let result = match &create.return_type {
        Some(FunctionReturnType::DataType(DataType::Table(_)) | FunctionReturnType::SetOf(_)) => {
            let message = "functions that return sets are not supported";
            return Err(place(SqlError::unsupported(message, "Create a view, or return one value.")));
        }
        Some(FunctionReturnType::DataType(kind)) => pg_type_or_err(kind)?,
        None => {
            return Err(place(
                SqlError::new(INVALID_DEFINITION, "function result type must be specified")
                    .hint("Write RETURNS and a type behind the arguments."),
            ));
        }
    };
    let mut new = relation(RelationKind::Function, schema, signature(&name, &parameters), context.catalog);
    new.options.insert("name".to_string(), name);
    new.options.insert("returns".to_string(), result.to_string());
    if matches!(
        create.called_on_null,
        Some(FunctionCalledOnNull::Strict | FunctionCalledOnNull::ReturnsNullOnNullInput)
    ) {
        new.options.insert("strict".to_string(), "true".to_string());
    }
    let volatility = match create.behavior {
        Some(FunctionBehavior::Immutable) => "i",
        Some(FunctionBehavior::Stable) => "s",
        Some(FunctionBehavior::Volatile) | None => "v",
    };
    new.options.insert("volatility".to_string(), volatility.to_string());
    new.columns = parameters;
    (new.definition, new.depends_on) = body(create, context).map_err(place)?;
    check_result(&new, &result, context).map_err(place)?;
    let edits = edits(create.or_replace, new, context).map_err(place)?;
    context.catalog.check_all(&edits).map_err(|error| place(already_there(error)))?;
    Ok(Define { tag: "CREATE FUNCTION", edits, notices: Vec::new() })
}

fn already_there(error: SqlError) -> SqlError {
    match error.code {
        SqlState::DUPLICATE_TABLE => {
            let message = error
                .message
                .replacen("relation", "function", 1)
                .replace(" already exists", " already exists with same argument types");
            SqlError::new(SqlState(*b"42723"), message).hint("Use CREATE OR REPLACE FUNCTION.")
        }
        _ => error,
    }
}

fn edits(or_replace: bool, mut new: Relation, context: &BindContext<'_>) -> SqlResult<Vec<CatalogEdit>> {
    let same_count = context.catalog.functions().find(|other| {
        other.schema == new.schema && called(other) == called(&new) && other.columns.len() == new.columns.len()
    });
    let Some(old) = same_count else { return Ok(vec![CatalogEdit::Create(new)]) };
    if old.name != new.name {
        let message = format!("function {} exists, which takes as many arguments", old.name);
        return Err(SqlError::unsupported(message, "Give the function another name."));
    }
    if !or_replace {
        return Ok(vec![CatalogEdit::Create(new)]);
    }
    let kept = context.catalog.with_dependents(&[old.id]).into_iter().filter_map(|id| context.catalog.get(id));
    if let Some(kept) =
        kept.into_iter().find(|other| matches!(other.kind, RelationKind::MaterializedView | RelationKind::Sink))
    {
        let message = format!("cannot change function {} because other objects depend on it", old.name);
        return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS, message)
            .detail(format!("{} depends on function {}", context.catalog.describe(kept.id), old.name))
            .hint("Drop what depends on it, or create a function of another name."));
    }
    if old.options.get("returns") != new.options.get("returns") {
        return Err(SqlError::new(INVALID_DEFINITION, "cannot change return type of existing function")
            .hint(format!("Use DROP FUNCTION {} first.", old.name)));
    }
    (new.id, new.oid) = (old.id, old.oid);
    Ok(vec![CatalogEdit::Replace(new)])
}

/// What users call the function.
pub fn called(function: &Relation) -> &str {
    function.options.get("name").map_or(function.name.as_str(), String::as_str)
}

fn check_language(create: &CreateFunction) -> SqlResult<()> {
    let language = create.language.as_ref().map_or("sql".to_string(), fold);
    match language.as_str() {
        "sql" => Ok(()),
        "plpgsql" | "plpython3u" | "c" | "internal" => Err(SqlError::unsupported(
            format!("LANGUAGE {language} is not supported"),
            "Write the function in LANGUAGE sql, or register it through the Rust API.",
        )),
        _ => Err(SqlError::new(SqlState::UNDEFINED_OBJECT, format!("language \"{language}\" does not exist"))
            .hint("LANGUAGE sql is there.")),
    }
}

fn parameters(arguments: &[OperateFunctionArg], parsed: &Parsed) -> SqlResult<Vec<Column>> {
    let mut columns = Vec::new();
    for argument in arguments {
        if argument.default_expr.is_some() || argument.mode.as_ref().is_some_and(|mode| mode.to_string() != "IN") {
            let message = "functions with defaults or OUT parameters are not supported";
            return Err(SqlError::unsupported(message, "Declare plain parameters only."));
        }
        let name = argument.name.as_ref().map_or(String::new(), fold);
        let kind = pg_type_or_err(&argument.data_type).map_err(|error| match &argument.name {
            Some(name) => at(parsed, name.span, error),
            None => error,
        })?;
        columns.push(Column::new(name, kind));
    }
    Ok(columns)
}

fn signature(name: &str, parameters: &[Column]) -> String {
    let types: Vec<String> =
        parameters.iter().map(|column| functions::without_length(&column.pg_type).to_string()).collect();
    format!("{name}({})", types.join(", "))
}

/// The query that gives the value, as text that means the same everywhere, and what it reads.
fn body(create: &CreateFunction, context: &BindContext<'_>) -> SqlResult<(String, Vec<crate::zset::RelationId>)> {
    let text = match &create.function_body {
        Some(CreateFunctionBody::Return(value)) => format!("SELECT {value}"),
        Some(CreateFunctionBody::AsBeforeOptions { body, .. } | CreateFunctionBody::AsAfterOptions(body)) => match body
        {
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) => text.clone(),
                Value::DollarQuotedString(text) => text.value.clone(),
                other => other.to_string(),
            },
            other => other.to_string(),
        },
        _ => {
            return Err(SqlError::new(INVALID_DEFINITION, "no function body specified")
                .hint("Write AS $$SELECT ...$$, or RETURN and an expression."));
        }
    };
    let text = text.trim().trim_end_matches(';');
    let query = parse_query(text).map_err(|error| SqlError { position: None, ..error })?;
    as_definition(&query, &Places::new(text), context).map_err(|error| SqlError { position: None, ..error })
}

/// Plans the body with NULLs for the parameters; its type must be, or become by itself, that of the result.
fn check_result(function: &Relation, result: &PgType, context: &BindContext<'_>) -> SqlResult<()> {
    let arguments =
        function.columns.iter().map(|column| Ok(cast(Expr::Value(Value::Null.into()), type_of(&column.pg_type)?)));
    let value = inlined(function, arguments.collect::<SqlResult<_>>()?, false)?;
    let mut query = *parse_query("SELECT 1")?;
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = vec![SelectItem::UnnamedExpr(value)];
    }
    let plan = plan_query(&query, None, context)?;
    let actual = PgType::of(plan.schema().field(0));
    let number = |kind: &PgType| {
        use PgType::{Float4, Float8, Int2, Int4, Int8, Numeric};
        matches!(kind, Int2 | Int4 | Int8 | Float4 | Float8 | Numeric(_))
    };
    let becomes = functions::wider_of(&actual, result).is_some() || (number(&actual) && number(result));
    match becomes {
        true => Ok(()),
        false => {
            let shown = functions::without_length(result);
            Err(SqlError::new(
                INVALID_DEFINITION,
                format!("return type mismatch in function declared to return {shown}"),
            )
            .detail(format!("Actual return type is {}.", functions::without_length(&actual)))
            .hint(format!("Write a cast to {shown} in the body, or declare the other type.")))
        }
    }
}

fn type_of(kind: &PgType) -> SqlResult<DataType> {
    match parse_expression(&format!("NULL::{kind}"))? {
        Expr::Cast { data_type, .. } => Ok(data_type),
        _ => Err(SqlError::internal("a type is read as it is printed")),
    }
}

/// `DROP FUNCTION`.
pub(super) fn drop(drop: &DropFunction, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Define> {
    let cascade = matches!(drop.drop_behavior, Some(DropBehavior::Cascade));
    let (mut ids, mut notices) = (Vec::new(), Vec::new());
    for described in &drop.func_desc {
        let place = |error| at(parsed, described.name.span(), error);
        let (schema, name) = split_name(&described.name).map_err(place)?;
        let wanted = match &described.args {
            Some(arguments) => Some(signature(&name, &parameters(arguments, parsed)?)),
            None => None,
        };
        let found: Vec<&Relation> = (context.catalog.functions().map(std::convert::AsRef::as_ref))
            .filter(|other| called(other) == name && wanted.as_ref().is_none_or(|wanted| *wanted == other.name))
            .filter(|other| visible(other, schema.as_deref(), context))
            .collect();
        match found.as_slice() {
            [found] => ids.push(found.id),
            [] if drop.if_exists => {
                let shown = wanted.unwrap_or_else(|| format!("{name}()"));
                notices.push(Notice::notice(format!("function {shown} does not exist, skipping")));
            }
            [] => return Err(place(not_found(&name, wanted, context.catalog))),
            _ => {
                let error = SqlError::new(SqlState(*b"42725"), format!("function name \"{name}\" is not unique"));
                return Err(place(error.hint("Specify the argument list to select the function unambiguously.")));
            }
        }
    }
    let edits = context.catalog.drop_edits(&ids, cascade)?;
    context.catalog.check_all(&edits)?;
    Ok(Define { tag: "DROP FUNCTION", edits, notices })
}

fn visible(function: &Relation, schema: Option<&str>, context: &BindContext<'_>) -> bool {
    match schema {
        Some(schema) => function.schema == schema,
        None => context.search_path.contains(&function.schema),
    }
}

fn not_found(name: &str, signature: Option<String>, catalog: &Catalog) -> SqlError {
    let message = match signature {
        Some(signature) => format!("function {signature} does not exist"),
        None => format!("could not find a function named \"{name}\""),
    };
    let error = SqlError::new(SqlState::UNDEFINED_FUNCTION, message);
    let names: Vec<&str> = catalog.functions().map(|function| called(function)).collect();
    match nearest(name, names) {
        Some(nearest) => error.hint(format!("Did you mean \"{nearest}\"?")),
        None => error.hint("\\df lists the functions that there are."),
    }
}

/// The function of a user that a call means; `None` if it means one of the engine's.
pub(super) fn find<'a>(function: &Function, context: &BindContext<'a>) -> Option<&'a Relation> {
    let (schema, name) = split_name(&function.name).ok()?;
    let count = match &function.args {
        FunctionArguments::List(list) => list.args.len(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => 0,
    };
    if schema.is_none() && functions::is_function(&name) {
        return None;
    }
    let mut candidates =
        context.catalog.functions().filter(|other| called(other) == name && other.columns.len() == count);
    // Stored text has names with their schema; what is bound without a path sees public.
    candidates.find(|other| visible(other, schema.as_deref(), context)).map(std::convert::AsRef::as_ref)
}

/// Writes the function's full name into a call of it.
pub(super) fn qualify(function: &mut Function, found: &Relation) {
    let part = |name: &str| {
        ObjectNamePart::Identifier(match crate::catalog::quote_name(name) == name {
            true => Ident::new(name),
            false => Ident::with_quote('"', name),
        })
    };
    function.name = ObjectName(vec![part(&found.schema), part(called(found))]);
}

/// A call as the function's body over its arguments.
pub(super) fn inline(function: &Function, found: &Relation) -> SqlResult<Expr> {
    let FunctionArguments::List(list) = &function.args else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "a function is called with arguments in parentheses"));
    };
    let arguments = list.args.iter().zip(&found.columns).map(|(argument, column)| {
        let (FunctionArg::Unnamed(FunctionArgExpr::Expr(value))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(value), .. }) = argument
        else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "a function of SQL takes expressions"));
        };
        let text = |text: String| Expr::Value(Value::SingleQuotedString(text).into());
        let kind = functions::without_length(&column.pg_type);
        let checked = call("hw_argument", vec![value.clone(), text(kind.to_string()), text(found.name.clone())]);
        Ok(cast(checked, type_of(&column.pg_type)?))
    });
    let arguments: Vec<Expr> = arguments.collect::<SqlResult<_>>()?;
    check_names(found, &arguments)?;
    let value = inlined(found, arguments, true)?;
    let result = found.options.get("returns").and_then(|name| PgType::parse(name));
    let result = result.ok_or_else(|| SqlError::internal("a function has lost its type"))?;
    Ok(cast(value, type_of(&result)?))
}

/// A body that reads relations must not take the names in an argument for its own columns.
fn check_names(function: &Relation, arguments: &[Expr]) -> SqlResult<()> {
    let query = parse_query(&function.definition)?;
    if single_value(&query).is_some() {
        return Ok(());
    }
    let mut tables = Tables::default();
    let ControlFlow::Continue(()) = Visit::visit(&query, &mut tables);
    let Tables(tables) = tables;
    let mut caught = None;
    for argument in arguments {
        let _: ControlFlow<()> = sqlparser::ast::visit_expressions(argument, |part| {
            match part {
                Expr::Identifier(name) => caught = Some(name.value.clone()),
                Expr::CompoundIdentifier(parts) if tables.contains(&fold(&parts[0])) => caught = Some(part.to_string()),
                _ => {}
            }
            ControlFlow::Continue(())
        });
    }
    match caught {
        None => Ok(()),
        Some(name) => Err(SqlError::unsupported(
            format!(
                "argument {name} of function {} could be taken for a column of what the function reads",
                function.name
            ),
            "Write the column with an alias of its table: FROM t AS a ... f(a.x).",
        )),
    }
}

/// The names under which a query reads relations.
#[derive(Default)]
struct Tables(Vec<String>);

impl Visitor for Tables {
    type Break = Never;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Never> {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let alias = alias.as_ref().map(|alias| fold(&alias.name));
                self.0.extend(alias.or_else(|| name.0.last().and_then(|part| part.as_ident()).map(fold)));
            }
            TableFactor::Derived { alias: Some(alias), .. } => self.0.push(fold(&alias.name)),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn inlined(function: &Relation, arguments: Vec<Expr>, keeps_strict: bool) -> SqlResult<Expr> {
    let mut query = parse_query(&function.definition)?;
    let mut parameters = Parameters { function, arguments: &arguments };
    let ControlFlow::Continue(()) = VisitMut::visit(&mut query, &mut parameters);
    let value = single_value(&query).unwrap_or(Expr::Subquery(query));
    let strict = keeps_strict && function.options.contains_key("strict") && !arguments.is_empty();
    Ok(match strict {
        false => Expr::Nested(Box::new(value)),
        true => {
            let missing = arguments.into_iter().map(|argument| Expr::IsNull(Box::new(argument)));
            let any = missing.reduce(|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: sqlparser::ast::BinaryOperator::Or,
                right: Box::new(right),
            });
            let condition = any.expect("there is an argument");
            Expr::Case {
                case_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
                end_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
                operand: None,
                conditions: vec![CaseWhen { condition, result: Expr::Value(Value::Null.into()) }],
                else_result: Some(Box::new(value)),
            }
        }
    })
}

/// The value of `SELECT value` alone.
fn single_value(query: &Query) -> Option<Expr> {
    let plain =
        query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let bare = select.from.is_empty() && select.selection.is_none() && select.having.is_none() && !grouped;
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. }] if plain && bare => {
            Some(value.clone())
        }
        _ => None,
    }
}

/// Puts arguments in the places of parameters.
struct Parameters<'a> {
    function: &'a Relation,
    arguments: &'a [Expr],
}

impl Parameters<'_> {
    fn place(&self, name: &str) -> Option<usize> {
        self.function.columns.iter().position(|column| !column.name.is_empty() && column.name == name)
    }
}

enum Never {}

impl VisitorMut for Parameters<'_> {
    type Break = Never;

    // Behind the children: an argument may use the same names as the body.
    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Never> {
        let place = match expression {
            Expr::Identifier(ident) => self.place(&fold(ident)),
            Expr::CompoundIdentifier(parts) if parts.len() == 2 && fold(&parts[0]) == called(self.function) => {
                self.place(&fold(&parts[1]))
            }
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => {
                    name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()?.checked_sub(1))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(argument) = place.and_then(|place| self.arguments.get(place)) {
            *expression = Expr::Nested(Box::new(argument.clone()));
        }
        ControlFlow::Continue(())
    }
}
