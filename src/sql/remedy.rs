//! What an error of binding lacks: its place in the text, and what to write instead.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::parse::Parsed;
use super::place::Places;
use crate::error::{SqlError, SqlState};

/// The error with a position and a hint, as far as its words tell where it is and what would help.
pub(super) fn complete(error: SqlError, tokens: &[TokenWithSpan], places: &Places) -> SqlError {
    let place = error.position.or_else(|| {
        let at = locate(&error.message, tokens)?;
        places.position(at.span)
    });
    let hint = error.hint.clone().or_else(|| remedy(&error));
    SqlError { position: place, hint, ..error }
}

/// The error of a statement that failed when it ran, with its place if its words tell, and what to write instead.
pub fn explained(error: SqlError, parsed: &Parsed) -> SqlError {
    complete(error, &parsed.tokens, &parsed.places)
}

fn word_is(token: &Token, name: &str) -> bool {
    matches!(token, Token::Word(word) if word.value.eq_ignore_ascii_case(name))
}

/// The token that a message speaks of.
fn locate<'t>(message: &str, tokens: &'t [TokenWithSpan]) -> Option<&'t TokenWithSpan> {
    let first = |wanted: &dyn Fn(&Token) -> bool| tokens.iter().find(|token| wanted(&token.token));
    if let Some(rest) = message.strip_prefix("operator does not exist: ") {
        return operator_of(rest).and_then(|symbol| first(&|token| symbol_is(token, symbol)));
    }
    let call = |names: &[&str]| first(&|token| names.iter().any(|name| word_is(token, name)));
    if let Some(rest) = message.strip_prefix("cannot drop ") {
        return named(rest.split(' ').nth(1)?, tokens);
    }
    if message.starts_with("invalid regular expression") {
        let matches = |token: &Token| matches!(token.to_string().as_str(), "~" | "~*" | "!~" | "!~*");
        let function =
            |token: &Token| matches!(token, Token::Word(word) if word.value.to_lowercase().starts_with("regexp"));
        return first(&|token| matches(token) || word_is(token, "similar") || function(token));
    }
    match message {
        "requested length too large" => return call(&["repeat", "lpad", "rpad", "replace", "format"]),
        "the series has too many values" => return call(&["generate_series", "range"]),
        "invalid format specification for an interval value" => return call(&["to_char"]),
        "invalid input syntax for type json" => return call(&["json", "jsonb"]),
        "unequal number of entries in row expressions" => return first(&|token| *token == Token::Eq),
        _ => {}
    }
    if let Some(name) = message.strip_prefix("there is no parameter ") {
        return first(&|token| matches!(token, Token::Placeholder(found) if found == name));
    }
    if let Some(rest) = message.strip_prefix("function ") {
        let name = rest.split(['(', ' ']).next()?;
        return call_of(name, tokens);
    }
    if message.starts_with("cannot cast type ") {
        return first(&|token| *token == Token::DoubleColon || word_is(token, "cast"));
    }
    if message.starts_with("argument of ") || message.starts_with("aggregate functions are not allowed in ") {
        let clause = message.split(' ').find(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase()))?;
        return behind(clause, tokens);
    }
    for (start, clause) in [("GROUP BY position", "group"), ("ORDER BY position", "order")] {
        if message.starts_with(start) {
            return behind(clause, tokens).and_then(|by| following(by, tokens));
        }
    }
    for (start, word) in [
        ("for SELECT DISTINCT", "order"),
        ("SELECT DISTINCT ON", "distinct"),
        ("UNION types", "union"),
        ("each UNION", "union"),
        ("each INTERSECT", "intersect"),
        ("each EXCEPT", "except"),
        ("CASE types", "case"),
        ("COALESCE types", "coalesce"),
        ("GREATEST types", "greatest"),
        ("LEAST types", "least"),
        ("recursive query", "union"),
        ("window functions are not allowed", "over"),
        ("length for type varchar", "varchar"),
        ("length for type char", "char"),
        ("there is no unique", "conflict"),
        ("ON CONFLICT DO UPDATE", "conflict"),
        ("ARRAY types", "array"),
        ("op ANY/ALL", "any"),
        ("percentile value", "within"),
        ("LIMIT must not", "limit"),
        ("OFFSET must not", "offset"),
        ("column reference", "using"),
    ] {
        if message.starts_with(start) {
            return first(&|token| word_is(token, word));
        }
    }
    if message.starts_with("subquery must return only one column") {
        return tokens.iter().filter(|token| word_is(&token.token, "select")).nth(1);
    }
    quoted(message).and_then(|name| named(name, tokens))
}

/// What stands between the first double quotes.
fn quoted(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once('"')?;
    let (name, _) = rest.rsplit_once('"')?;
    name.split("\" ").next()?.split("\": ").next()
}

/// The constant of this text, or the last part of this name.
fn named<'t>(name: &str, tokens: &'t [TokenWithSpan]) -> Option<&'t TokenWithSpan> {
    let constant = |token: &&TokenWithSpan| match &token.token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text == name,
        Token::Number(text, _) => text == name,
        _ => false,
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    let found = tokens.iter().find(constant).or_else(|| tokens.iter().find(|token| word_is(&token.token, last)));
    let inside =
        |token: &&TokenWithSpan| matches!(&token.token, Token::SingleQuotedString(text) if text.contains(name));
    found.or_else(|| tokens.iter().find(inside))
}

/// The symbol between the types of two sides, or before that of one.
fn operator_of(sides: &str) -> Option<&str> {
    let is_symbol = |word: &&str| word.chars().all(|c| "+-*/%<>=~!@#&|?^".contains(c));
    sides.split(' ').find(is_symbol)
}

fn symbol_is(token: &Token, symbol: &str) -> bool {
    match symbol {
        "~~" => word_is(token, "like"),
        "!=" | "<>" => *token == Token::Neq,
        "=" if word_is(token, "in") => true,
        symbol => token.to_string() == symbol,
    }
}

/// The name of a function where it is called.
fn call_of<'t>(name: &str, tokens: &'t [TokenWithSpan]) -> Option<&'t TokenWithSpan> {
    let calls = tokens.iter().enumerate().filter(|(_, token)| word_is(&token.token, name));
    let solid = |at: usize| tokens[at + 1..].iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut calls = calls.filter(|(at, _)| solid(*at).is_some_and(|next| next.token == Token::LParen));
    calls.next().map(|(_, token)| token)
}

fn following<'t>(token: &TokenWithSpan, tokens: &'t [TokenWithSpan]) -> Option<&'t TokenWithSpan> {
    let at = tokens.iter().position(|other| std::ptr::eq(other, token))?;
    tokens[at + 1..].iter().find(|token| !matches!(token.token, Token::Whitespace(_)))
}

/// What stands behind a keyword.
fn behind<'t>(keyword: &str, tokens: &'t [TokenWithSpan]) -> Option<&'t TokenWithSpan> {
    let keyword = tokens.iter().find(|token| word_is(&token.token, keyword))?;
    following(keyword, tokens)
}

/// How a value of a type is written.
fn example(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "integer" | "bigint" | "smallint" => {
            "An integer is written as 42 or -7; for anything else choose another type."
        }
        "numeric" | "real" | "double precision" => "A number is written as 12.5 or -3e4.",
        "boolean" => "A truth value is true or false.",
        "date" => "A date is written as '2024-12-31'.",
        "timestamp" | "timestamp with time zone" => {
            "A time is written as '2024-12-31 23:59:59', with +00 behind it for a zone."
        }
        "time" => "A time of day is written as '23:59:59'.",
        "interval" => "An interval is written as '1 day 02:03:04' or '5 minutes'.",
        "uuid" => "A uuid is written as 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'.",
        "json" | "jsonb" => "json has names and texts in double quotes: '{\"a\": [1, \"x\", null]}'.",
        "bytea" => "bytea is written in hexadecimal: '\\x00ff'.",
        _ => return None,
    })
}

/// What to write instead.
pub fn remedy(error: &SqlError) -> Option<String> {
    let message = error.message.as_str();
    if let Some(rest) = message.strip_prefix("invalid input syntax for type ") {
        return example(rest.split(':').next().unwrap_or(rest)).map(str::to_string);
    }
    if message.starts_with("time zone ") {
        return Some("Write a name like 'Europe/Berlin', an offset like '+02', or 'UTC'.".to_string());
    }
    if message.starts_with("length for type ") {
        return Some("Leave the length out, or write one from 1 on.".to_string());
    }
    if message.starts_with("WITH query name ") {
        return Some("Give one of them another name.".to_string());
    }
    let text = match error.code {
        SqlState::SYNTAX_ERROR => return Some(syntax_remedy(message).to_string()),
        SqlState::UNDEFINED_TABLE => "SHOW TABLES and SHOW VIEWS list what there is.",
        SqlState::INVALID_SCHEMA => "SHOW SCHEMAS lists the schemas; CREATE SCHEMA makes one.",
        SqlState::UNDEFINED_COLUMN => "DESCRIBE with the table's name lists its columns.",
        SqlState::DUPLICATE_TABLE => "Choose another name, drop it first, or write IF NOT EXISTS.",
        SqlState::DUPLICATE_SCHEMA => "Write CREATE SCHEMA IF NOT EXISTS.",
        SqlState::DUPLICATE_COLUMN => "Every column needs a name of its own: rename one, or give it an alias with AS.",
        SqlState::DATATYPE_MISMATCH => "Write a cast such as value::text, so that both have one type.",
        SqlState::NUMERIC_OUT_OF_RANGE => "Use a wider type: bigint, or numeric.",
        SqlState::DATETIME_OVERFLOW => "Check month and day: a date is written as '2024-12-31'.",
        SqlState::DIVISION_BY_ZERO => "Write nullif(divisor, 0) to get NULL instead.",
        SqlState::INVALID_TEXT if message.starts_with("malformed array") => "An array is written as '{1,2,3}'.",
        SqlState::INVALID_STATEMENT_NAME => "PREPARE name AS ... makes a statement; they last as long as the session.",
        SqlState::INVALID_CURSOR_NAME => "DECLARE name CURSOR FOR ... makes a cursor, within BEGIN and COMMIT.",
        SqlState::UNDEFINED_OBJECT if message.starts_with("unrecognized configuration") => {
            "SHOW ALL lists the settings."
        }
        SqlState::INVALID_TABLE_DEFINITION => "Declare one primary key: PRIMARY KEY (a, b) for several columns.",
        SqlState::GROUPING_ERROR => "Compute the inner aggregate in a subquery in FROM.",
        SqlState::INVALID_COLUMN_REFERENCE => "Put the same expressions first in ORDER BY, or into the select list.",
        _ => return None,
    };
    Some(text.to_string())
}

/// What is often wrong where the syntax is.
pub(super) fn syntax_remedy(message: &str) -> &'static str {
    if message.starts_with("unterminated") {
        return "Close it with the mark that began it; a quote within text is written twice.";
    }
    if message.contains("only one column") || message.contains("too many columns") {
        return "Select one column in the subquery.";
    }
    if message.contains("same number of columns") {
        return "Add or take away columns, such as NULL AS name.";
    }
    if message.contains("INSERT has more") {
        return "Name as many columns as each row has values.";
    }
    if message.contains("multiple assignments") {
        return "Assign each column once.";
    }
    if message.contains("column names were specified") {
        return "Name as many columns as the query gives.";
    }
    if message.ends_with("end of input") {
        return "The statement ends before it is complete.";
    }
    if message.ends_with("near \")\"") {
        return "There is no opening parenthesis for it, or something is missing before it.";
    }
    "Look before it: a comma, an operator or a keyword is missing there, or there is one too many."
}
