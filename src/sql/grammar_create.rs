//! CREATE TABLE, SOURCE, VIEW, MATERIALIZED VIEW, SINK and SCHEMA.

use sqlparser::ast::{Expr, Ident, Query};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::ast::*;
use super::emit;
use super::grammar::{
    Result, expect_word, fold, names_relation_kind, options, peek_word, refuse, relation_kind, word, words,
};
use crate::catalog::RelationKind;
use crate::error::SqlState;

pub(super) fn create(parser: &mut Parser<'_>) -> Result<Ast> {
    let or_replace = peek_word(parser, 1, "OR") && peek_word(parser, 2, "REPLACE");
    let kind_at = if or_replace { 3 } else { 1 };
    let ours = names_relation_kind(parser, kind_at) && !peek_word(parser, kind_at, "INDEX");
    let temporary = ["TEMP", "TEMPORARY", "UNLOGGED"].iter().any(|kind| peek_word(parser, kind_at, kind));
    if !ours && !temporary && !peek_word(parser, kind_at, "SCHEMA") {
        return other(parser, kind_at);
    }
    (0..kind_at).for_each(|_| {
        parser.next_token();
    });
    if temporary {
        let kind = parser.next_token().token.to_string().to_uppercase();
        let message = format!("CREATE {kind} is not supported");
        return refuse(
            SqlState::FEATURE_NOT_SUPPORTED,
            message,
            "Create an ordinary table and drop it when it is done.",
        );
    }
    match relation_kind(parser) {
        Some(RelationKind::Sink) => sink(parser),
        Some(kind @ (RelationKind::View | RelationKind::MaterializedView)) => view(parser, kind, or_replace),
        Some(kind) => relation(parser, kind, or_replace),
        None => {
            expect_word(parser, "SCHEMA")?;
            schema(parser)
        }
    }
}

/// Kinds of objects that are not there yet get a sentence; the rest is sqlparser's.
fn other(parser: &mut Parser<'_>, kind_at: usize) -> Result<Ast> {
    let absent = [
        ("SECRET", "Write the value itself as the option's value."),
        ("CONNECTION", "Write the connection's options in the WITH list of each source."),
        ("SUBSCRIPTION", "Use SUBSCRIBE TO, or DECLARE ... CURSOR FOR SUBSCRIBE."),
        ("TYPE", "Use text, or a domain of integers."),
        ("SEQUENCE", "Give keys yourself, or use gen_random_uuid()."),
        ("TRIGGER", "Use a materialized view."),
    ];
    for (kind, hint) in absent {
        if peek_word(parser, kind_at, kind) {
            (0..=kind_at).for_each(|_| {
                parser.next_token();
            });
            return refuse(SqlState::FEATURE_NOT_SUPPORTED, format!("CREATE {kind} is not supported"), hint);
        }
    }
    parser.parse_statement().map(|statement| Ast::Sql(Box::new(statement)))
}

fn if_not_exists(parser: &mut Parser<'_>) -> bool {
    parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS])
}

fn schema(parser: &mut Parser<'_>) -> Result<Ast> {
    let if_not_exists = if_not_exists(parser);
    let name = parser.parse_object_name(false)?;
    if word(parser, "AUTHORIZATION") {
        parser.parse_identifier()?;
    }
    Ok(Ast::CreateSchema { name, if_not_exists })
}

fn view(parser: &mut Parser<'_>, kind: RelationKind, or_replace: bool) -> Result<Ast> {
    let if_not_exists = if_not_exists(parser);
    let name = parser.parse_object_name(false)?;
    let columns = match parser.consume_token(&Token::LParen) {
        true => {
            let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
            parser.expect_token(&Token::RParen)?;
            columns
        }
        false => Vec::new(),
    };
    let options = match parser.parse_keyword(Keyword::WITH) {
        true => options(parser)?,
        false => Vec::new(),
    };
    parser.expect_keyword(Keyword::AS)?;
    let query = parser.parse_query()?;
    if words(parser, &["WITH", "NO", "DATA"]) {
        return refuse(
            SqlState::FEATURE_NOT_SUPPORTED,
            "WITH NO DATA is not supported for views",
            "Leave it out: a materialized view is always filled and fresh.",
        );
    }
    words(parser, &["WITH", "DATA"]);
    let query = emit::emit(parser, query)?;
    let materialized = kind == RelationKind::MaterializedView;
    let view = CreateView { materialized, or_replace, if_not_exists, name, columns, options, query };
    emit::refuse_in_view(&view)?;
    Ok(Ast::CreateView(Box::new(view)))
}

fn relation(parser: &mut Parser<'_>, kind: RelationKind, or_replace: bool) -> Result<Ast> {
    let mut create = CreateRelation {
        kind,
        or_replace,
        if_not_exists: if_not_exists(parser),
        name: parser.parse_object_name(false)?,
        columns: Columns::None,
        constraints: Vec::new(),
        watermarks: Vec::new(),
        includes: Vec::new(),
        append_only: false,
        options: Vec::new(),
        format: None,
        query: None,
        with_data: true,
    };
    if parser.consume_token(&Token::LParen) {
        columns(parser, &mut create)?;
    }
    clauses(parser, &mut create)?;
    if kind == RelationKind::Table && parser.parse_keyword(Keyword::AS) {
        create.query = Some(parser.parse_query()?);
        create.with_data = !words(parser, &["WITH", "NO", "DATA"]);
        words(parser, &["WITH", "DATA"]);
    } else if let Columns::Names(names) = &create.columns {
        let name = names.last().map(|name| name.value.clone()).unwrap_or_default();
        return refuse(
            SqlState::SYNTAX_ERROR,
            format!("column \"{name}\" has no type"),
            "Write a type after each column's name.",
        );
    }
    Ok(Ast::CreateRelation(Box::new(create)))
}

fn clauses(parser: &mut Parser<'_>, create: &mut CreateRelation) -> Result<()> {
    loop {
        if words(parser, &["APPEND", "ONLY"]) {
            create.append_only = true;
        } else if word(parser, "INCLUDE") {
            let what = parser.parse_identifier()?;
            let alias = match parser.parse_keyword(Keyword::AS) {
                true => Some(parser.parse_identifier()?),
                false => None,
            };
            create.includes.push(Include { what, alias });
        } else if parser.parse_keyword(Keyword::WITH) {
            create.options.extend(options(parser)?);
        } else if peek_word(parser, 0, "FORMAT") {
            create.format = Some(format(parser)?);
        } else {
            return Ok(());
        }
    }
}

pub(super) fn format(parser: &mut Parser<'_>) -> Result<Format> {
    expect_word(parser, "FORMAT")?;
    let format = fold(&parser.parse_identifier()?);
    expect_word(parser, "ENCODE")?;
    let encode = fold(&parser.parse_identifier()?);
    let options = match parser.peek_token().token {
        Token::LParen => options(parser)?,
        _ => Vec::new(),
    };
    Ok(Format { format, encode, options })
}

/// The list after its opening parenthesis: `*`, bare names, or definitions with constraints and watermarks.
fn columns(parser: &mut Parser<'_>, create: &mut CreateRelation) -> Result<()> {
    if parser.consume_token(&Token::Mul) {
        create.columns = Columns::Star;
        return parser.expect_token(&Token::RParen).map(|_| ());
    }
    if matches!(parser.peek_nth_token(1).token, Token::Comma | Token::RParen) {
        create.columns = Columns::Names(parser.parse_comma_separated(Parser::parse_identifier)?);
        return parser.expect_token(&Token::RParen).map(|_| ());
    }
    let mut definitions = Vec::new();
    while !parser.consume_token(&Token::RParen) {
        if !definitions.is_empty() || !create.constraints.is_empty() || !create.watermarks.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        if words(parser, &["WATERMARK", "FOR"]) {
            create.watermarks.push(watermark(parser)?);
        } else if let Some(constraint) = parser.parse_optional_table_constraint()? {
            create.constraints.push(constraint);
        } else if peek_word(parser, 0, "LIKE") {
            parser.next_token();
            return refuse(
                SqlState::FEATURE_NOT_SUPPORTED,
                "CREATE TABLE ... (LIKE ...) is not supported",
                "Use CREATE TABLE ... AS SELECT ... WITH NO DATA.",
            );
        } else {
            definitions.push(parser.parse_column_def()?);
        }
    }
    create.columns = Columns::Definitions(definitions);
    Ok(())
}

fn watermark(parser: &mut Parser<'_>) -> Result<(Ident, Expr)> {
    let column = parser.parse_identifier()?;
    match parser.parse_keyword(Keyword::AS) {
        true => Ok((column, parser.parse_expr()?)),
        false => Ok((column.clone(), Expr::Identifier(column))),
    }
}

fn sink(parser: &mut Parser<'_>) -> Result<Ast> {
    let if_not_exists = if_not_exists(parser);
    let name = parser.parse_object_name(false)?;
    let from = match parser.parse_keyword(Keyword::AS) {
        true => SinkInput::Query(query_before_options(parser)?),
        false => {
            parser.expect_keyword(Keyword::FROM)?;
            SinkInput::Relation(parser.parse_object_name(false)?)
        }
    };
    let options = match parser.parse_keyword(Keyword::WITH) {
        true => options(parser)?,
        false => Vec::new(),
    };
    let format = match peek_word(parser, 0, "FORMAT") {
        true => Some(format(parser)?),
        false => None,
    };
    Ok(Ast::CreateSink(Box::new(CreateSink { if_not_exists, name, from, options, format })))
}

/// A query that ends where `WITH (` begins the options: after a table's name the parser would take them for its hints.
fn query_before_options(parser: &mut Parser<'_>) -> Result<Box<Query>> {
    let Some(length) = options_ahead(parser) else {
        let query = parser.parse_query()?;
        return emit::emit(parser, query);
    };
    let tokens = (0..length).map(|ahead| parser.peek_nth_token(ahead)).collect();
    let mut part = super::parse::parser(tokens);
    let query = part.parse_query()?;
    let query = emit::emit(&mut part, query)?;
    if part.peek_token_ref().token != Token::EOF {
        return part.expected("WITH and the sink's options", part.peek_token());
    }
    (0..length).for_each(|_| {
        parser.next_token();
    });
    Ok(query)
}

/// How many tokens stand before the first `WITH (` that is in no parentheses.
fn options_ahead(parser: &Parser<'_>) -> Option<usize> {
    let mut depth = 0_usize;
    for ahead in 0.. {
        match parser.peek_nth_token(ahead).token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::EOF | Token::SemiColon => return None,
            Token::Word(word) if depth == 0 && word.keyword == Keyword::WITH && opens(parser, ahead + 1) => {
                return Some(ahead);
            }
            _ => {}
        }
    }
    None
}

fn opens(parser: &Parser<'_>, ahead: usize) -> bool {
    parser.peek_nth_token(ahead).token == Token::LParen
}
