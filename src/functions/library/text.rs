//! Text: `format`, quoting, encodings, and what else takes text apart.

use super::{Entry, Row, Value, lenient, strict};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) const ENTRIES: &[Entry] = &[
    lenient("format", "text, any...", "text", format),
    strict("quote_ident", "text", "text", |row| Value::text(quote_ident(row.text(0)))),
    strict("quote_literal", "text", "text", |row| Value::text(quote_literal(row.text(0)))),
    strict("quote_literal", "any", "text", |row| quoted(row, 0)),
    lenient("quote_nullable", "text", "text", |row| quoted(row, 0)),
    lenient("quote_nullable", "any", "text", |row| quoted(row, 0)),
    strict("unistr", "text", "text", |row| unistr(row.text(0)).map(Value::Text)),
    strict("parse_ident", "text", "text[]", |row| parse_ident(row.text(0)).map(Value::Texts)),
    strict("chr", "int", "text", chr),
    strict("hw_like_escape", "text, text", "text", like_escape),
    strict("regexp_count", "text, text", "int", super::regexp::count),
    strict("regexp_count", "text, text, int", "int", super::regexp::count),
    strict("regexp_count", "text, text, int, text", "int", super::regexp::count),
];

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// Words that PostgreSQL does not take as a name without quotes.
const RESERVED: [&str; 78] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "current_catalog",
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "localtime",
    "localtimestamp",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "session_user",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
];

/// A name as it must be written in SQL.
pub(super) fn quote_ident(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let plain = starts && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match plain && !RESERVED.contains(&name) {
        true => name.to_string(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

fn quoted(row: &Row<'_>, index: usize) -> SqlResult<Value> {
    Value::text(row.shown(index)?.map_or("NULL".to_string(), |text| quote_literal(&text)))
}

/// One `%…` of a format.
struct Directive {
    argument: Option<usize>,
    left: bool,
    width: Option<Width>,
    kind: char,
}

enum Width {
    Of(i64),
    /// From an argument: a given one, or the next.
    Argument(Option<usize>),
}

/// Blanks before or behind a value.
const WIDTH_MAX: usize = 1 << 20;

fn format(row: &Row<'_>) -> SqlResult<Value> {
    if row.is_null(0) {
        return Ok(Value::Null);
    }
    let mut out = String::new();
    let mut rest = row.text(0).chars().peekable();
    let mut next = 1;
    while let Some(letter) = rest.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        if rest.peek() == Some(&'%') {
            rest.next();
            out.push('%');
            continue;
        }
        let directive = directive(&mut rest)?;
        let (mut width, mut left) = (0, directive.left);
        match directive.width {
            Some(Width::Of(given)) => width = given,
            Some(Width::Argument(place)) => {
                let shown = row.shown(take(row, place, &mut next)?)?;
                width = shown.and_then(|text| text.parse().ok()).unwrap_or(0);
            }
            None => {}
        }
        if width < 0 {
            (width, left) = (-width, true);
        }
        let value = row.shown(take(row, directive.argument, &mut next)?)?;
        let text = convert(directive.kind, value)?;
        let gap = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
        if gap > WIDTH_MAX {
            return Err(SqlError::new(SqlState(*b"54000"), "requested length too large"));
        }
        let pad = " ".repeat(gap);
        out.push_str(&if left { format!("{text}{pad}") } else { format!("{pad}{text}") });
    }
    Value::text(out)
}

/// The place of an argument: a given one, or the next.
fn take(row: &Row<'_>, place: Option<usize>, next: &mut usize) -> SqlResult<usize> {
    let index = place.unwrap_or(*next);
    *next = index + 1;
    match index < row.len() {
        true => Ok(index),
        false => Err(invalid("too few arguments for format()")),
    }
}

fn convert(kind: char, value: Option<String>) -> SqlResult<String> {
    match (kind, value) {
        ('s', value) => Ok(value.unwrap_or_default()),
        ('I', Some(name)) => Ok(quote_ident(&name)),
        ('I', None) => Err(SqlError::new(SqlState(*b"22004"), "null values cannot be formatted as an SQL identifier")),
        ('L', value) => Ok(value.map_or("NULL".to_string(), |text| quote_literal(&text))),
        (other, _) => {
            Err(invalid(format!("unrecognized format() type specifier \"{other}\""))
                .hint("For a single \"%\" use \"%%\"."))
        }
    }
}

fn directive(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> SqlResult<Directive> {
    let end = || invalid("unterminated format() type specifier").hint("For a single \"%\" use \"%%\".");
    let mut found = Directive { argument: None, left: false, width: None, kind: 's' };
    let digits = number(rest);
    if rest.peek() == Some(&'$') && digits.is_some() {
        rest.next();
        if digits == Some(0) {
            return Err(invalid("format specifies argument 0, but arguments are numbered from 1"));
        }
        found.argument = digits.and_then(|place| usize::try_from(place).ok());
    } else {
        found.width = digits.map(Width::Of);
    }
    while rest.peek() == Some(&'-') {
        rest.next();
        found.left = true;
    }
    if rest.peek() == Some(&'*') {
        rest.next();
        let place = number(rest);
        if place.is_some() && rest.next() != Some('$') {
            return Err(invalid("width argument position must be ended by \"$\""));
        }
        found.width = Some(Width::Argument(place.and_then(|place| usize::try_from(place).ok())));
    } else if let Some(width) = number(rest) {
        found.width = Some(Width::Of(width));
    }
    found.kind = rest.next().ok_or_else(end)?;
    Ok(found)
}

fn number(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<i64> {
    let mut digits = String::new();
    while let Some(digit) = rest.peek().filter(|letter| letter.is_ascii_digit()) {
        digits.push(*digit);
        rest.next();
    }
    digits.parse().ok()
}

/// `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX` and `\\` as the characters that they stand for.
fn unistr(text: &str) -> SqlResult<String> {
    let bad = || {
        SqlError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
            .hint("Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let (skip, length) = match escape.chars().next().ok_or_else(bad)? {
            '\\' => {
                out.push('\\');
                rest = &escape[1..];
                continue;
            }
            '+' => (1, 6),
            'u' => (1, 4),
            'U' => (1, 8),
            _ => (0, 4),
        };
        let digits = escape.get(skip..skip + length).ok_or_else(bad)?;
        let code = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
        out.push(char::from_u32(code).ok_or_else(bad)?);
        rest = &escape[skip + length..];
    }
    out.push_str(rest);
    Ok(out)
}

/// The parts of a qualified name, folded as SQL folds them.
fn parse_ident(text: &str) -> SqlResult<Vec<Option<String>>> {
    let bad = || invalid(format!("string is not a valid identifier: \"{text}\""));
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').ok_or_else(bad)?;
            part = quoted[..end].to_string();
            rest = quoted[end + 1..].trim_start();
        } else {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            part = rest[..end].to_lowercase();
            rest = rest[end..].trim_start();
        }
        if part.is_empty() || part.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(bad());
        }
        parts.push(Some(part));
        match rest.strip_prefix('.') {
            Some(after) => rest = after.trim_start(),
            None if rest.is_empty() => return Ok(parts),
            None => return Err(bad()),
        }
    }
}

fn chr(row: &Row<'_>) -> SqlResult<Value> {
    let code = row.int(0);
    let limit = |message: &str| SqlError::new(SqlState(*b"54000"), message.to_string());
    match u32::try_from(code) {
        Ok(0) => Err(limit("null character not permitted")),
        Err(_) => Err(limit("character number must be positive")),
        Ok(code) => {
            let letter = char::from_u32(code);
            let letter = letter.ok_or_else(|| limit(&format!("requested character not valid for encoding: {code}")))?;
            Value::text(letter.to_string())
        }
    }
}

/// A LIKE pattern with another escape character, as one with the backslash.
fn like_escape(row: &Row<'_>) -> SqlResult<Value> {
    let (pattern, escape) = (row.text(0), row.text(1));
    let mut letters = escape.chars();
    let (escape, more) = (letters.next(), letters.next());
    if more.is_some() {
        let error = SqlError::new(SqlState(*b"22025"), "invalid escape string");
        return Err(error.hint("Escape string must be empty or one character."));
    }
    let mut out = String::new();
    let mut rest = pattern.chars();
    while let Some(letter) = rest.next() {
        match letter {
            letter if Some(letter) == escape => {
                out.push('\\');
                out.extend(rest.next());
            }
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    Value::text(out)
}
