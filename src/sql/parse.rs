//! Text → syntax trees: sqlparser's PostgreSQL dialect, with Headwater's own statements around it.

use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

use super::asof::mark_asof_joins;
use super::ast::Ast;
use super::dialect::Headwater;
use super::grammar;
use super::place::Places;
use crate::catalog::nearest;
use crate::error::{SqlError, SqlResult, SqlState};

/// Parentheses within parentheses, and what nests like them.
const NESTING_MAX: usize = 128;
/// Operators of one statement outside of literal lists: an expression of more is a tree too deep to walk.
const OPERATORS_MAX: usize = 4000;

/// One statement of a text. Positions of errors found in it count in the whole text, from 1.
#[derive(Debug, Clone)]
pub struct Parsed {
    pub ast: Ast,
    /// The text of this statement alone.
    pub text: String,
    /// Where the statement begins in the whole text, in characters.
    pub offset: usize,
    pub(super) places: Places,
    /// The statement as the tokenizer sees it, by which errors find their place.
    pub(super) tokens: std::sync::Arc<[TokenWithSpan]>,
}

/// Splits a text into statements and parses each. Empty statements are left out.
pub fn parse(text: &str) -> SqlResult<Vec<Parsed>> {
    let places = Places::new(text);
    let tokens = tokenize(text, &places)?;
    let mut parsed = Vec::new();
    for statement in tokens.split(|token| token.token == Token::SemiColon) {
        if statement.iter().any(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)) {
            parsed.push(parse_one(text, statement, &places)?);
        }
    }
    Ok(parsed)
}

/// Parses a single expression: a column's DEFAULT.
pub(super) fn parse_expression(text: &str) -> SqlResult<sqlparser::ast::Expr> {
    let places = Places::new(text);
    let tokens = tokenize(text, &places)?;
    check_depth(&tokens, &places)?;
    let mut parser = parser(tokens.clone());
    let parsed = parser.parse_expr().map_err(|error| syntax_error(error, &parser, &tokens, &places))?;
    expect_end(&mut parser, &places)?;
    Ok(parsed)
}

/// Parses the query of a view's definition.
pub(super) fn parse_query(text: &str) -> SqlResult<Box<sqlparser::ast::Query>> {
    let places = Places::new(text);
    let tokens = tokenize(text, &places)?;
    let mut parser = parser(tokens.clone());
    let query = parser.parse_query().and_then(|query| super::emit::emit(&mut parser, query));
    query.map_err(|error| syntax_error(error, &parser, &tokens, &places))
}

fn tokenize(text: &str, places: &Places) -> SqlResult<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&Headwater, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| {
        let message = error.message.trim_end_matches('.').to_lowercase();
        let message = match message.as_str() {
            text if text.contains("dollar") => "unterminated dollar-quoted string",
            text if text.contains("close delimiter") => "unterminated quoted identifier",
            text if text.contains("comment") => "unterminated /* comment",
            text if text.contains("unterminated") => "unterminated quoted string",
            text => text,
        };
        let position = places.offset(error.location).map_or(places.end(), |offset| offset + 1);
        let error = SqlError::new(SqlState::SYNTAX_ERROR, message.replace("eof", "end of input")).at(position);
        let remedy = super::remedy::syntax_remedy(&error.message);
        error.hint(remedy)
    })?;
    super::tokens::postgres_tokens(tokens, places).map(mark_asof_joins)
}

pub(super) fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&Headwater).with_recursion_limit(2 * NESTING_MAX).with_tokens_with_locations(tokens)
}

fn parse_one(text: &str, tokens: &[TokenWithSpan], places: &Places) -> SqlResult<Parsed> {
    check_depth(tokens, places)?;
    let (offset, statement) = extent(text, tokens, places);
    let mut parser = parser(table_as_select(tokens));
    let ast = grammar::statement(&mut parser).map_err(|error| syntax_error(error, &parser, tokens, places))?;
    expect_end(&mut parser, places)?;
    Ok(Parsed { ast, text: statement, offset, places: places.clone(), tokens: tokens.into() })
}

/// `INSERT INTO t TABLE u` → `INSERT INTO t SELECT * FROM u`.
fn table_as_select(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let is = |token: &TokenWithSpan, text: &str| matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text));
    let solid = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    if !tokens.iter().find(solid).is_some_and(|first| is(first, "insert")) {
        return tokens.to_vec();
    }
    let mut written = Vec::with_capacity(tokens.len() + 2);
    let mut before: Option<&TokenWithSpan> = None;
    for token in tokens {
        let behind_name = before.is_some_and(|before| {
            before.token == Token::RParen || (matches!(before.token, Token::Word(_)) && !is(before, "into"))
        });
        match is(token, "table") && behind_name {
            true => {
                let word = |word: &str| TokenWithSpan { token: Token::make_keyword(word), span: token.span };
                written.extend([word("SELECT"), TokenWithSpan { token: Token::Mul, span: token.span }, word("FROM")]);
            }
            false => written.push(token.clone()),
        }
        if solid(&token) {
            before = Some(token);
        }
    }
    written
}

/// The statement's own text without the space around it, and the characters before it.
fn extent(text: &str, tokens: &[TokenWithSpan], places: &Places) -> (usize, String) {
    let solid = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
    let first = tokens.iter().find(solid).and_then(|token| places.offset(token.span.start)).unwrap_or(0);
    let last = tokens.iter().rfind(solid).and_then(|token| places.offset(token.span.end)).unwrap_or(first);
    (first, text.chars().skip(first).take(last.saturating_sub(first)).collect::<String>().trim_end().to_string())
}

/// Refuses what would nest so deeply that walking the tree could exhaust the stack.
fn check_depth(tokens: &[TokenWithSpan], places: &Places) -> SqlResult<()> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Comma => operators = 0,
            Token::Word(word) if word.quote_style.is_none() => match word.value.to_ascii_uppercase().as_str() {
                "AND" | "OR" | "NOT" | "UNION" | "EXCEPT" | "INTERSECT" | "CASE" | "JOIN" | "IS" => operators += 1,
                _ => {}
            },
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Period
            | Token::Word(_) => {}
            _ => operators += 1,
        }
        if depth > NESTING_MAX || operators > OPERATORS_MAX {
            let error = SqlError::new(SqlState(*b"54001"), "statement is nested too deeply");
            let error = error.hint("Split the expression: IN (...) lists and WITH queries nest less.");
            return Err(SqlError { position: places.position(token.span), ..error });
        }
    }
    Ok(())
}

fn expect_end(parser: &mut Parser<'_>, places: &Places) -> SqlResult<()> {
    let token = parser.peek_token();
    match token.token {
        Token::EOF => Ok(()),
        _ => {
            let error = near(&token, places);
            let remedy = super::remedy::syntax_remedy(&error.message);
            Err(error.hint(remedy))
        }
    }
}

pub(super) fn near(token: &TokenWithSpan, places: &Places) -> SqlError {
    match token.token {
        Token::EOF => SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at end of input").at(places.end()),
        _ => {
            let error = SqlError::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{}\"", token.token));
            SqlError { position: places.position(token.span), ..error }
        }
    }
}

/// sqlparser's complaint in PostgreSQL's words: what stands at the place, and what was expected there.
fn syntax_error(error: ParserError, parser: &Parser<'_>, tokens: &[TokenWithSpan], places: &Places) -> SqlError {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return SqlError::new(SqlState(*b"54001"), "statement is nested too deeply");
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    if let Some(own) = text.strip_prefix(grammar::OWN_ERROR) {
        return own_error(own, parser, places);
    }
    let (text, at) = split_location(&text);
    let token = match at {
        _ if text.ends_with("found: EOF") => None,
        Some(at) => tokens.iter().find(|token| token.span.start == at).cloned(),
        None => Some(parser.get_current_token().clone()).filter(|token| token.token != Token::EOF),
    };
    let token = token.unwrap_or(TokenWithSpan { token: Token::EOF, span: Span::empty() });
    let error = near(&token, places);
    match hint(text, &token.token) {
        Some(hint) => error.hint(hint),
        None => {
            let remedy = super::remedy::syntax_remedy(&error.message);
            error.hint(remedy)
        }
    }
}

/// An error that our own grammar raised: code, message and hint, at the token that was read last.
fn own_error(text: &str, parser: &Parser<'_>, places: &Places) -> SqlError {
    let mut parts = text.splitn(3, '\u{1f}');
    let code = parts.next().and_then(|code| code.as_bytes().try_into().ok()).unwrap_or(*b"42601");
    let error = SqlError::new(SqlState(code), parts.next().unwrap_or_default());
    let error = SqlError { position: places.position(parser.get_current_token().span), ..error };
    match parts.next() {
        Some(hint) if !hint.is_empty() => error.hint(hint),
        _ => error,
    }
}

fn split_location(text: &str) -> (&str, Option<Location>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else { return (text, None) };
    let numbers = place.split_once(", Column: ");
    let at =
        numbers.and_then(|(line, column)| Some(Location { line: line.parse().ok()?, column: column.parse().ok()? }));
    (message, at)
}

/// What could have stood there.
fn hint(text: &str, found: &Token) -> Option<String> {
    let expected = text.strip_prefix("Expected: ")?.rsplit_once(", found: ")?.0;
    if expected == "an SQL statement" {
        const VERBS: [&str; 24] = [
            "SELECT",
            "INSERT",
            "UPDATE",
            "DELETE",
            "CREATE",
            "DROP",
            "ALTER",
            "EXPLAIN",
            "SHOW",
            "SET",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "SUBSCRIBE",
            "COPY",
            "TRUNCATE",
            "WITH",
            "VALUES",
            "TABLE",
            "FETCH",
            "DECLARE",
            "DESCRIBE",
            "RESET",
            "PREPARE",
        ];
        let Token::Word(word) = found else {
            return Some("A statement begins with a verb such as SELECT.".to_string());
        };
        return Some(match nearest(&word.value, VERBS) {
            Some(verb) => format!("Did you mean {verb}?"),
            None => "A statement begins with a verb such as SELECT, CREATE or INSERT.".to_string(),
        });
    }
    let expected = expected.trim_end_matches('.');
    Some(format!("Expected {expected} here."))
}
