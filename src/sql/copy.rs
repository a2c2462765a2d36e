//! COPY: its table or query, its options with PostgreSQL's defaults.

use sqlparser::ast::Ident;

use super::ast::{Copy, CopyOptionsAst, CopyWhat, Names};
use super::bind::BindContext;
use super::ddl::{at, find, select_star, wrong_kind};
use super::dml::defaults;
use super::grammar::fold;
use super::parse::Parsed;
use super::query::bind_query;
use super::statement::{
    CopyFormat, CopyFrom, CopyHeader, CopyOptions, CopyPlace, CopySource, CopyTo, OutputColumn, Statement,
};
use super::subscribe::subscribe;
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) fn copy(copy: &Copy, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<Statement> {
    let place = match &copy.path {
        Some(path) => CopyPlace::File(path.clone()),
        None => CopyPlace::Client,
    };
    if copy.from {
        return copy_from(copy, place, parsed, context).map(Statement::CopyFrom);
    }
    let what = match &copy.what {
        CopyWhat::Subscribe(subscribed) => CopySource::Subscribe(Box::new(subscribe(subscribed, parsed, context)?)),
        CopyWhat::Query(query) => CopySource::Query(bind_query(query, Some(&parsed.places), context)?),
        CopyWhat::Table(name, columns) => {
            let mut query = select_star(name);
            if !columns.is_empty()
                && let sqlparser::ast::SetExpr::Select(select) = query.body.as_mut()
            {
                let item = |ident: &Ident| {
                    sqlparser::ast::SelectItem::UnnamedExpr(sqlparser::ast::Expr::Identifier(ident.clone()))
                };
                select.projection = columns.iter().map(item).collect();
            }
            CopySource::Query(bind_query(&query, Some(&parsed.places), context)?)
        }
    };
    let columns = match &what {
        CopySource::Query(query) => &query.columns,
        CopySource::Subscribe(subscribed) => &subscribed.columns,
    };
    let options = options(&copy.options, columns, &place, parsed)?;
    Ok(Statement::CopyTo(CopyTo { what, to: place, options }))
}

fn copy_from(copy: &Copy, from: CopyPlace, parsed: &Parsed, context: &BindContext<'_>) -> SqlResult<CopyFrom> {
    let CopyWhat::Table(name, names) = &copy.what else {
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, "COPY FROM needs a table"));
    };
    let table = find(name, parsed, context)?;
    if table.kind != RelationKind::Table {
        return Err(at(parsed, sqlparser::ast::Spanned::span(name), wrong_kind(table, RelationKind::Table)));
    }
    context.catalog.check_user_schema(&table.schema)?;
    let columns = column_list(table, names, parsed)?;
    let absent: Vec<usize> = (0..table.columns.len()).filter(|index| !columns.contains(index)).collect();
    let defaults = match absent.is_empty() {
        true => None,
        false => Some(defaults(table, &absent, context)?),
    };
    let outputs: Vec<OutputColumn> = (columns.iter().map(|index| &table.columns[*index]))
        .map(|column| OutputColumn { name: column.name.clone(), pg_type: column.pg_type.clone() })
        .collect();
    let options = options(&copy.options, &outputs, &from, parsed)?;
    Ok(CopyFrom { table: table.clone(), columns, defaults, from, options })
}

fn column_list(table: &Relation, names: &[Ident], parsed: &Parsed) -> SqlResult<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    let mut columns = Vec::new();
    for ident in names {
        let name = fold(ident);
        let Some(index) = table.column(&name) else {
            return Err(at(parsed, ident.span, Catalog::column_not_found(table, &name)));
        };
        if columns.contains(&index) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(at(parsed, ident.span, SqlError::new(SqlState::DUPLICATE_COLUMN, message)));
        }
        columns.push(index);
    }
    Ok(columns)
}

fn options(
    given: &CopyOptionsAst,
    columns: &[OutputColumn],
    place: &CopyPlace,
    parsed: &Parsed,
) -> SqlResult<CopyOptions> {
    let format = given.format.unwrap_or_else(|| default_format(place));
    let csv = format == CopyFormat::Csv;
    let quote = given.quote.unwrap_or('"');
    let options = CopyOptions {
        format,
        delimiter: given.delimiter.unwrap_or(if csv { ',' } else { '\t' }),
        null: given.null.clone().unwrap_or_else(|| if csv { String::new() } else { "\\N".to_string() }),
        header: given.header.unwrap_or(CopyHeader::No),
        quote,
        escape: given.escape.unwrap_or(quote),
        force_quote: names(given.force_quote.as_ref(), columns, parsed)?,
        force_not_null: names(given.force_not_null.as_ref(), columns, parsed)?,
        force_null: names(given.force_null.as_ref(), columns, parsed)?,
    };
    check(given, &options, place)?;
    Ok(options)
}

/// A file's ending says its format; everything else is PostgreSQL's text.
fn default_format(place: &CopyPlace) -> CopyFormat {
    let CopyPlace::File(path) = place else { return CopyFormat::Text };
    let path = path.to_lowercase();
    let path = path.strip_suffix(".gz").unwrap_or(&path);
    match path.rsplit('.').next() {
        Some("csv") => CopyFormat::Csv,
        Some("json" | "jsonl" | "ndjson") => CopyFormat::Json,
        Some("parquet") => CopyFormat::Parquet,
        _ => CopyFormat::Text,
    }
}

fn check(given: &CopyOptionsAst, options: &CopyOptions, place: &CopyPlace) -> SqlResult<()> {
    let refuse = |message: &str| Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
    let csv = options.format == CopyFormat::Csv;
    let lined = csv || options.format == CopyFormat::Text;
    if *place == CopyPlace::Client && matches!(options.format, CopyFormat::Json | CopyFormat::Parquet) {
        return Err(SqlError::unsupported(
            "COPY with a client knows the formats text, csv and binary",
            "json and parquet are written to a path on the server: COPY ... TO '/path'.",
        ));
    }
    if !csv && (given.quote.is_some() || given.escape.is_some() || given.force_quote.is_some()) {
        return refuse("COPY QUOTE, ESCAPE and FORCE_QUOTE are for CSV only");
    }
    if !csv && (given.force_null.is_some() || given.force_not_null.is_some()) {
        return refuse("COPY FORCE_NULL and FORCE_NOT_NULL are for CSV only");
    }
    if !lined && (given.delimiter.is_some() || given.null.is_some() || given.header.is_some()) {
        return refuse("DELIMITER, NULL and HEADER are for the formats text and csv");
    }
    if csv && options.delimiter == options.quote {
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, "COPY delimiter and quote must be different"));
    }
    if options.null.contains(options.delimiter) {
        let message = "COPY delimiter must not appear in the NULL specification";
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(())
}

fn names(names: Option<&Names>, columns: &[OutputColumn], parsed: &Parsed) -> SqlResult<Vec<usize>> {
    let idents = match names {
        None => return Ok(Vec::new()),
        Some(Names::All) => return Ok((0..columns.len()).collect()),
        Some(Names::Some(idents)) => idents,
    };
    let find = |ident: &Ident| {
        let name = fold(ident);
        columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
            at(parsed, ident.span, error)
        })
    };
    idents.iter().map(find).collect()
}
