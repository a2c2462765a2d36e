//! The statements that Headwater parses itself; queries, expressions and column lists are left to sqlparser.

use sqlparser::ast::{Ident, ObjectName};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::ast::*;
use super::{grammar_create, grammar_session};
use crate::catalog::RelationKind;
use crate::error::SqlState;

pub(super) type Result<T> = std::result::Result<T, ParserError>;

/// Marks an error text as one of ours: SQLSTATE, message and hint, separated by unit separators.
pub(super) const OWN_ERROR: &str = "\u{1f}hw";

/// An error with its own code and hint, at the token that was read last.
pub(super) fn refuse<T>(code: SqlState, message: impl AsRef<str>, hint: impl AsRef<str>) -> Result<T> {
    let text = format!("{OWN_ERROR}{}\u{1f}{}\u{1f}{}", code.as_str(), message.as_ref(), hint.as_ref());
    Err(ParserError::ParserError(text))
}

/// Parses one statement, up to but without its semicolon.
pub(super) fn statement(parser: &mut Parser<'_>) -> Result<Ast> {
    let Token::Word(first) = parser.peek_token().token else { return sql(parser) };
    if first.quote_style.is_some() {
        return sql(parser);
    }
    match first.value.to_ascii_uppercase().as_str() {
        "CREATE" => grammar_create::create(parser),
        "DROP" => drop_objects(parser),
        "ALTER" => alter(parser),
        "COPY" => grammar_session::copy(parser),
        "SUBSCRIBE" => subscribe(parser).map(|subscribe| Ast::Subscribe(Box::new(subscribe))),
        "EXPLAIN" => explain(parser),
        "DESCRIBE" | "DESC" => {
            parser.next_token();
            let _ = parser.parse_keyword(Keyword::TABLE);
            Ok(Ast::Show(Box::new(ShowAst::Columns(parser.parse_object_name(false)?))))
        }
        "TABLE" => table(parser),
        "REFRESH" => refresh(parser),
        "VERIFY" => verify(parser),
        "FLUSH" => simple(parser, Ast::Flush),
        "CHECKPOINT" => simple(parser, Ast::Checkpoint),
        "VACUUM" => accepted(parser, "VACUUM"),
        "ANALYZE" | "ANALYSE" => accepted(parser, "ANALYZE"),
        "GRANT" => accepted(parser, "GRANT"),
        "REVOKE" => accepted(parser, "REVOKE"),
        "COMMENT" => accepted(parser, "COMMENT"),
        "LOCK" => accepted(parser, "LOCK TABLE"),
        _ => match grammar_session::statement(parser, &first.value.to_ascii_uppercase())? {
            Some(ast) => Ok(ast),
            None => sql(parser),
        },
    }
}

fn sql(parser: &mut Parser<'_>) -> Result<Ast> {
    let statement = match parser.parse_statement()? {
        sqlparser::ast::Statement::Query(query) => sqlparser::ast::Statement::Query(super::emit::emit(parser, query)?),
        other => other,
    };
    Ok(Ast::Sql(Box::new(statement)))
}

fn simple(parser: &mut Parser<'_>, ast: Ast) -> Result<Ast> {
    parser.next_token();
    Ok(ast)
}

/// Takes the whole statement without looking at it.
fn accepted(parser: &mut Parser<'_>, tag: &'static str) -> Result<Ast> {
    while parser.next_token().token != Token::EOF {}
    Ok(Ast::Accepted(tag))
}

/// Whether the next word is this one, which need not be a keyword of sqlparser's; if so it is taken.
pub(super) fn word(parser: &mut Parser<'_>, expected: &str) -> bool {
    let found = peek_word(parser, 0, expected);
    if found {
        parser.next_token();
    }
    found
}

pub(super) fn peek_word(parser: &Parser<'_>, ahead: usize, expected: &str) -> bool {
    match parser.peek_nth_token(ahead).token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected),
        _ => false,
    }
}

/// All of these words, or none is taken.
pub(super) fn words(parser: &mut Parser<'_>, expected: &[&str]) -> bool {
    let found = expected.iter().enumerate().all(|(i, expected)| peek_word(parser, i, expected));
    if found {
        expected.iter().for_each(|_| {
            parser.next_token();
        });
    }
    found
}

pub(super) fn expect_word(parser: &mut Parser<'_>, expected: &str) -> Result<()> {
    match word(parser, expected) {
        true => Ok(()),
        false => parser.expected(expected, parser.peek_token()),
    }
}

/// An identifier as it is meant: folded to lower case unless it was quoted.
pub(super) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

pub(super) fn name(parser: &mut Parser<'_>) -> Result<String> {
    parser.parse_identifier().map(|ident| fold(&ident))
}

/// `TABLE t` is `SELECT * FROM t`.
fn table(parser: &mut Parser<'_>) -> Result<Ast> {
    parser.parse_query().map(|query| Ast::Sql(Box::new(sqlparser::ast::Statement::Query(query))))
}

fn refresh(parser: &mut Parser<'_>) -> Result<Ast> {
    parser.next_token();
    expect_word(parser, "MATERIALIZED")?;
    expect_word(parser, "VIEW")?;
    word(parser, "CONCURRENTLY");
    let name = parser.parse_object_name(false)?;
    if parser.parse_keyword(Keyword::WITH) {
        let _ = parser.parse_keyword(Keyword::NO);
        parser.expect_keyword(Keyword::DATA)?;
    }
    Ok(Ast::Refresh { name })
}

fn verify(parser: &mut Parser<'_>) -> Result<Ast> {
    parser.next_token();
    expect_word(parser, "MATERIALIZED")?;
    expect_word(parser, "VIEW")?;
    Ok(Ast::Verify { name: parser.parse_object_name(false)? })
}

/// The kind of relation that the next words name, if any; they are taken.
pub(super) fn relation_kind(parser: &mut Parser<'_>) -> Option<RelationKind> {
    if words(parser, &["MATERIALIZED", "VIEW"]) {
        return Some(RelationKind::MaterializedView);
    }
    let kinds = [
        ("TABLE", RelationKind::Table),
        ("SOURCE", RelationKind::Source),
        ("VIEW", RelationKind::View),
        ("SINK", RelationKind::Sink),
        ("INDEX", RelationKind::Index),
    ];
    kinds.into_iter().find(|(keyword, _)| word(parser, keyword)).map(|(_, kind)| kind)
}

/// Whether a kind of relation is named so many tokens ahead. Nothing is taken.
pub(super) fn names_relation_kind(parser: &Parser<'_>, ahead: usize) -> bool {
    let one = ["TABLE", "SOURCE", "VIEW", "SINK", "INDEX"].iter().any(|kind| peek_word(parser, ahead, kind));
    one || (peek_word(parser, ahead, "MATERIALIZED") && peek_word(parser, ahead + 1, "VIEW"))
}

fn drop_objects(parser: &mut Parser<'_>) -> Result<Ast> {
    if !names_relation_kind(parser, 1) && !peek_word(parser, 1, "SCHEMA") {
        return sql(parser);
    }
    parser.next_token();
    let what = match relation_kind(parser) {
        Some(kind) => DropWhat::Relation(kind),
        None => {
            expect_word(parser, "SCHEMA")?;
            DropWhat::Schema
        }
    };
    if what == DropWhat::Relation(RelationKind::Index) {
        word(parser, "CONCURRENTLY");
    }
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false))?;
    let cascade = word(parser, "CASCADE");
    if !cascade {
        word(parser, "RESTRICT");
    }
    Ok(Ast::Drop(DropObjects { what, if_exists, names, cascade }))
}

fn alter(parser: &mut Parser<'_>) -> Result<Ast> {
    if peek_word(parser, 1, "SCHEMA") {
        parser.next_token();
        parser.next_token();
        let name = parser.parse_identifier()?;
        expect_word(parser, "RENAME")?;
        expect_word(parser, "TO")?;
        return Ok(Ast::AlterSchema { name, new_name: parser.parse_identifier()? });
    }
    if !names_relation_kind(parser, 1) {
        return sql(parser);
    }
    parser.next_token();
    let Some(kind) = relation_kind(parser) else { return sql(parser) };
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    word(parser, "ONLY");
    let name = parser.parse_object_name(false)?;
    let change = match alteration(parser)? {
        Some(change) => change,
        None => {
            let found = parser.next_token();
            let message = format!("ALTER {} ... {} is not supported", kind.keyword(), found.token);
            return refuse(
                SqlState::FEATURE_NOT_SUPPORTED,
                message,
                "Supported are RENAME TO, RENAME COLUMN ... TO and SET SCHEMA. For another change create the relation anew.",
            );
        }
    };
    Ok(Ast::AlterRelation { kind, name, if_exists, change })
}

fn alteration(parser: &mut Parser<'_>) -> Result<Option<Alteration>> {
    if words(parser, &["SET", "SCHEMA"]) {
        return parser.parse_identifier().map(|schema| Some(Alteration::SetSchema(schema)));
    }
    if !word(parser, "RENAME") {
        return Ok(None);
    }
    if word(parser, "TO") {
        return parser.parse_identifier().map(|name| Some(Alteration::Rename(name)));
    }
    word(parser, "COLUMN");
    let column = parser.parse_identifier()?;
    expect_word(parser, "TO")?;
    Ok(Some(Alteration::RenameColumn(column, parser.parse_identifier()?)))
}

/// `SUBSCRIBE [TO] name | (query) [WITH (…)] [AS OF n] [UP TO n]`.
pub(super) fn subscribe(parser: &mut Parser<'_>) -> Result<SubscribeAst> {
    expect_word(parser, "SUBSCRIBE")?;
    word(parser, "TO");
    let what = match parser.peek_token().token {
        Token::LParen => {
            parser.next_token();
            let query = parser.parse_query()?;
            parser.expect_token(&Token::RParen)?;
            SubscribeWhat::Query(query)
        }
        _ => SubscribeWhat::Relation(parser.parse_object_name(false)?),
    };
    let mut subscribe = SubscribeAst { what, options: Vec::new(), as_of: None, up_to: None };
    loop {
        if parser.parse_keyword(Keyword::WITH) {
            subscribe.options.extend(options(parser)?);
        } else if words(parser, &["AS", "OF"]) {
            subscribe.as_of = Some(parser.parse_literal_uint()?);
        } else if words(parser, &["UP", "TO"]) {
            subscribe.up_to = Some(parser.parse_literal_uint()?);
        } else if peek_word(parser, 0, "ENVELOPE") {
            parser.next_token();
            return refuse(
                SqlState::FEATURE_NOT_SUPPORTED,
                "SUBSCRIBE ... ENVELOPE is not supported",
                "Leave it out: hw_weight says for each row whether it came (1) or went (-1).",
            );
        } else {
            return Ok(subscribe);
        }
    }
}

/// `(key = value, …)`; keys may be dotted or quoted, values strings, numbers or words.
pub(super) fn options(parser: &mut Parser<'_>) -> Result<Vec<(String, String)>> {
    parser.expect_token(&Token::LParen)?;
    let mut options = Vec::new();
    while !parser.consume_token(&Token::RParen) {
        if !options.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        let key = option_key(parser)?;
        let value = match parser.consume_token(&Token::Eq) {
            true => option_value(parser)?,
            // SUBSCRIBE … WITH (PROGRESS) and the like.
            false => "true".to_string(),
        };
        options.push((key, value));
    }
    Ok(options)
}

fn option_key(parser: &mut Parser<'_>) -> Result<String> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(key) => Ok(key),
        Token::Word(first) => {
            let mut key = match first.quote_style {
                Some(_) => first.value,
                None => first.value.to_lowercase(),
            };
            while parser.consume_token(&Token::Period) {
                let part = parser.next_token();
                let Token::Word(word) = part.token else {
                    return parser.expected("the rest of an option's name", part);
                };
                key.push('.');
                key.push_str(&word.value.to_lowercase());
            }
            Ok(key)
        }
        _ => parser.expected("an option's name", token),
    }
}

pub(super) fn option_value(parser: &mut Parser<'_>) -> Result<String> {
    let token = parser.next_token();
    match token.token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text),
        Token::DollarQuotedString(text) => Ok(text.value),
        Token::Number(number, _) => Ok(number),
        Token::Minus => option_value(parser).map(|number| format!("-{number}")),
        Token::Plus => option_value(parser),
        Token::Word(word) if word.value.eq_ignore_ascii_case("secret") => refuse(
            SqlState::FEATURE_NOT_SUPPORTED,
            "SECRET is not supported as an option's value",
            "Write the value as a string.",
        ),
        Token::Word(word) => Ok(match word.quote_style {
            Some(_) => word.value,
            None => word.value.to_lowercase(),
        }),
        _ => parser.expected("a value", token),
    }
}

fn explain(parser: &mut Parser<'_>) -> Result<Ast> {
    parser.next_token();
    let mut explain = ExplainAst {
        what: ExplainWhat::View(ObjectName(Vec::new())),
        verbose: false,
        analyze: false,
        format: super::statement::ExplainFormat::Text,
    };
    // A parenthesis may also begin a query: EXPLAIN (SELECT 1).
    let list = parser.peek_token().token == Token::LParen
        && !["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|verb| peek_word(parser, 1, verb))
        && parser.peek_nth_token(1).token != Token::LParen;
    if list {
        explain_options(parser, &mut explain)?;
    }
    loop {
        if word(parser, "ANALYZE") || word(parser, "ANALYSE") {
            explain.analyze = true;
        } else if word(parser, "VERBOSE") {
            explain.verbose = true;
        } else {
            break;
        }
    }
    explain.what = match words(parser, &["MATERIALIZED", "VIEW"]) {
        true => ExplainWhat::View(parser.parse_object_name(false)?),
        false => ExplainWhat::Statement(Box::new(statement(parser)?)),
    };
    Ok(Ast::Explain(Box::new(explain)))
}

fn explain_options(parser: &mut Parser<'_>, explain: &mut ExplainAst) -> Result<()> {
    use super::statement::ExplainFormat;
    parser.expect_token(&Token::LParen)?;
    loop {
        let key = name(parser)?;
        let value = match parser.peek_token().token {
            Token::Comma | Token::RParen => "true".to_string(),
            _ => option_value(parser)?,
        };
        let on = !matches!(value.as_str(), "false" | "off" | "0");
        match (key.as_str(), value.as_str()) {
            ("analyze" | "analyse", _) => explain.analyze = on,
            ("verbose", _) => explain.verbose = on,
            ("format", "text") => explain.format = ExplainFormat::Text,
            ("format", "json") => explain.format = ExplainFormat::Json,
            ("format", "dot") => explain.format = ExplainFormat::Dot,
            ("format", _) => {
                let message = format!("unrecognized value for EXPLAIN option \"format\": \"{value}\"");
                return refuse(SqlState::INVALID_PARAMETER_VALUE, message, "Formats are text, json and dot.");
            }
            (
                "costs" | "buffers" | "timing" | "summary" | "settings" | "wal" | "generic_plan" | "memory"
                | "serialize",
                _,
            ) => {}
            _ => {
                let message = format!("unrecognized EXPLAIN option \"{key}\"");
                return refuse(SqlState::SYNTAX_ERROR, message, "Options are ANALYZE, VERBOSE and FORMAT.");
            }
        }
        if !parser.consume_token(&Token::Comma) {
            return parser.expect_token(&Token::RParen).map(|_| ());
        }
    }
}
