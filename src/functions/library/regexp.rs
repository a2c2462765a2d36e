//! Regular expressions, and the patterns of SIMILAR TO and SUBSTRING in their form.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ListBuilder, StringViewBuilder};
use regex::Regex;

use super::{Entry, Row, Value, lenient, strict};
use crate::error::{SqlError, SqlResult, SqlState};

pub(super) const ENTRIES: &[Entry] = &[
    strict("substring", "text, text", "text", |row| first_match(row.text(0), row.text(1))),
    strict("substring", "text, text, text", "text", |row| {
        first_match(row.text(0), &similar_parts(row.text(1), row.text(2))?)
    }),
    strict("hw_similar_pattern", "text", "text", |row| similar(row.text(0), Some('\\')).map(Value::Text)),
    strict("hw_similar_pattern", "text, text", "text", |row| {
        similar(row.text(0), row.text(1).chars().next()).map(Value::Text)
    }),
    strict("regexp_match", "text, text", "text[]", one_match),
    strict("regexp_match", "text, text, text", "text[]", one_match),
    strict("hw_regexp_matches", "text, text", "text[][]", all_matches),
    strict("hw_regexp_matches", "text, text, text", "text[][]", all_matches),
    strict("regexp_split_to_array", "text, text", "text[]", split),
    strict("regexp_split_to_array", "text, text, text", "text[]", split),
    strict("regexp_instr", "text, text", "int", instr),
    strict("regexp_instr", "text, text, int", "int", instr),
    strict("regexp_instr", "text, text, int, int", "int", instr),
    strict("regexp_instr", "text, text, int, int, int", "int", instr),
    strict("regexp_instr", "text, text, int, int, int, text", "int", instr),
    strict("regexp_instr", "text, text, int, int, int, text, int", "int", instr),
    strict("regexp_substr", "text, text", "text", substr),
    strict("regexp_substr", "text, text, int", "text", substr),
    strict("regexp_substr", "text, text, int, int", "text", substr),
    strict("regexp_substr", "text, text, int, int, text", "text", substr),
    strict("regexp_substr", "text, text, int, int, text, int", "text", substr),
    strict("regexp_replace", "text, text, text", "text", |row| replace(row, 1, 1, "")),
    strict("regexp_replace", "text, text, text, text", "text", |row| {
        replace(row, 1, if row.text(3).contains('g') { 0 } else { 1 }, row.text(3))
    }),
    strict("regexp_replace", "text, text, text, int", "text", |row| replace(row, row.int(3), 1, "")),
    strict("regexp_replace", "text, text, text, int, int", "text", |row| replace(row, row.int(3), row.int(4), "")),
    strict("regexp_replace", "text, text, text, int, int, text", "text", |row| {
        replace(row, row.int(3), row.int(4), row.text(5))
    }),
    strict("regexp_like", "text, text", "boolean", |row| is_match(row, "")),
    strict("regexp_like", "text, text, text", "boolean", |row| is_match(row, row.text(2))),
    lenient("hw_texts", "text...", "text[]", |row| {
        Ok(Value::Texts((0..row.len()).map(|i| (!row.is_null(i)).then(|| row.text(i).to_string())).collect()))
    }),
];

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// A pattern with flags, compiled; the last few are kept. Shared and not copied: a copy would learn its text anew.
pub(super) fn compiled(pattern: &str, flags: &str) -> SqlResult<Rc<Regex>> {
    thread_local! {
        static KNOWN: RefCell<Vec<(String, String, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
    }
    let known = KNOWN.with_borrow(|known| {
        known.iter().find(|(p, f, _)| p == pattern && f == flags).map(|(_, _, regex)| regex.clone())
    });
    if let Some(regex) = known {
        return Ok(regex);
    }
    let regex = Rc::new(compile(pattern, flags)?);
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= 16 {
            known.remove(0);
        }
        known.push((pattern.to_string(), flags.to_string(), regex.clone()));
    });
    Ok(regex)
}

fn compile(pattern: &str, flags: &str) -> SqlResult<Regex> {
    let (mut inner, mut literal) = (String::from("s"), false);
    for flag in flags.chars() {
        match flag {
            'i' => inner.push('i'),
            'c' => inner.retain(|c| c != 'i'),
            'x' => inner.push('x'),
            'n' | 'm' => inner = inner.replace('s', "m"),
            'q' => literal = true,
            'g' | 's' | 'p' | 'w' | 't' | 'b' | 'e' => {}
            other => return Err(invalid(format!("invalid regular expression option: \"{other}\""))),
        }
    }
    let body = if literal { regex::escape(pattern) } else { translate(pattern) };
    Regex::new(&format!("(?{inner}){body}")).map_err(|error| crate::functions::errors::bad_pattern(&error.to_string()))
}

/// PostgreSQL's own escapes in the form that the machine knows.
fn translate(pattern: &str) -> String {
    pattern
        .replace("\\m", r"\b{start}")
        .replace("\\M", r"\b{end}")
        .replace("\\y", r"\b")
        .replace("\\Y", r"\B")
        .replace("\\Z", r"\z")
}

/// What the first group matched, or the whole if there is none.
fn first_match(text: &str, pattern: &str) -> SqlResult<Value> {
    let regex = compiled(pattern, "")?;
    let Some(found) = regex.captures(text) else { return Ok(Value::Null) };
    let part = if regex.captures_len() > 1 { found.get(1) } else { found.get(0) };
    Ok(part.map_or(Value::Null, |part| Value::Text(part.as_str().to_string())))
}

fn groups(found: &regex::Captures<'_>) -> Vec<Option<String>> {
    let text = |part: Option<regex::Match<'_>>| part.map(|part| part.as_str().to_string());
    match found.len() {
        1 => vec![text(found.get(0))],
        count => (1..count).map(|group| text(found.get(group))).collect(),
    }
}

fn one_match(row: &Row<'_>) -> SqlResult<Value> {
    let flags = row.text_or(2, "");
    if flags.contains('g') {
        let error = invalid("regexp_match() does not support the \"global\" option");
        return Err(error.hint("Use the regexp_matches function instead."));
    }
    Ok(match compiled(row.text(1), flags)?.captures(row.text(0)) {
        Some(found) => Value::Texts(groups(&found)),
        None => Value::Null,
    })
}

/// All matches, each as a list of its groups.
fn all_matches(row: &Row<'_>) -> SqlResult<Value> {
    let flags = row.text_or(2, "");
    let regex = compiled(row.text(1), flags)?;
    let most = if flags.contains('g') { usize::MAX } else { 1 };
    let mut out = ListBuilder::new(StringViewBuilder::new());
    for found in regex.captures_iter(row.text(0)).take(most) {
        groups(&found).into_iter().for_each(|part| out.values().append_option(part));
        out.append(true);
    }
    Ok(Value::List(Arc::new(out.finish())))
}

fn split(row: &Row<'_>) -> SqlResult<Value> {
    let regex = compiled(row.text(1), row.text_or(2, ""))?;
    let text = row.text(0);
    let mut parts = Vec::new();
    let mut from = 0;
    for found in regex.find_iter(text) {
        // An empty match at an end, or right behind another match, splits nothing.
        let at_end = found.start() == 0 || found.start() == text.len();
        if found.is_empty() && (at_end || (found.start() == from && !text.is_char_boundary(from))) {
            continue;
        }
        parts.push(Some(text[from..found.start()].to_string()));
        from = found.end();
    }
    parts.push(Some(text[from..].to_string()));
    Ok(Value::Texts(parts))
}

/// The text from a character on, and the bytes before it.
fn from_character(text: &str, start: i64) -> SqlResult<(usize, &str)> {
    if start < 1 {
        return Err(invalid(format!("invalid value for parameter \"start\": {start}")));
    }
    let at = text.char_indices().nth((start - 1) as usize).map_or(text.len(), |(at, _)| at);
    Ok((at, &text[at..]))
}

pub(super) fn count(row: &Row<'_>) -> SqlResult<Value> {
    let regex = compiled(row.text(1), row.text_or(3, ""))?;
    let (_, text) = from_character(row.text(0), row.int_or(2, 1))?;
    Ok(Value::Int(regex.find_iter(text).count() as i64))
}

/// The n-th match, or one of its groups.
fn nth<'t>(text: &'t str, regex: &Regex, start: i64, n: i64, group: i64) -> SqlResult<Option<regex::Match<'t>>> {
    if n < 1 {
        return Err(invalid(format!("invalid value for parameter \"n\": {n}")));
    }
    let (at, _) = from_character(text, start)?;
    let mut from = at;
    for index in 1..=n {
        let Some(found) = regex.captures_at(text, from) else { return Ok(None) };
        if index == n {
            return Ok(found.get(group.max(0) as usize));
        }
        let whole = found.get(0).expect("a match has a whole");
        from = if whole.is_empty() { whole.end() + 1 } else { whole.end() };
        if from > text.len() {
            return Ok(None);
        }
    }
    Ok(None)
}

fn instr(row: &Row<'_>) -> SqlResult<Value> {
    let regex = compiled(row.text(1), row.text_or(5, ""))?;
    let text = row.text(0);
    let found = nth(text, &regex, row.int_or(2, 1), row.int_or(3, 1), row.int_or(6, 0))?;
    let at = found.map(|found| if row.int_or(4, 0) == 1 { found.end() } else { found.start() });
    Ok(Value::Int(at.map_or(0, |at| text[..at].chars().count() as i64 + 1)))
}

fn substr(row: &Row<'_>) -> SqlResult<Value> {
    let regex = compiled(row.text(1), row.text_or(4, ""))?;
    let found = nth(row.text(0), &regex, row.int_or(2, 1), row.int_or(3, 1), row.int_or(5, 0))?;
    Ok(found.map_or(Value::Null, |found| Value::Text(found.as_str().to_string())))
}

fn is_match(row: &Row<'_>, flags: &str) -> SqlResult<Value> {
    Ok(Value::Bool(compiled(row.text(1), flags)?.is_match(row.text(0))))
}

/// Replaces the n-th match from a character on; all of them if n is 0.
fn replace(row: &Row<'_>, start: i64, n: i64, flags: &str) -> SqlResult<Value> {
    let regex = compiled(row.text(1), flags)?;
    let (text, by) = (row.text(0), row.text(2));
    let (at, _) = from_character(text, start)?;
    if n < 0 {
        return Err(invalid(format!("invalid value for parameter \"n\": {n}")));
    }
    let mut out = text[..at].to_string();
    let mut from = at;
    for (index, found) in
        regex.captures_iter(text).filter(|found| found.get(0).is_some_and(|m| m.start() >= at)).enumerate()
    {
        let whole = found.get(0).expect("a match has a whole");
        if n != 0 && index as i64 + 1 != n {
            continue;
        }
        out.push_str(&text[from..whole.start()]);
        put_replacement(by, &found, &mut out);
        from = whole.end();
        if n != 0 {
            break;
        }
    }
    out.push_str(&text[from..]);
    Value::text(out)
}

/// `\1` is the first group, `\&` the whole match.
fn put_replacement(by: &str, found: &regex::Captures<'_>, out: &mut String) {
    let mut letters = by.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('&') => out.push_str(found.get(0).map_or("", |whole| whole.as_str())),
            Some(digit) if digit.is_ascii_digit() => {
                let group = digit as usize - '0' as usize;
                out.push_str(found.get(group).map_or("", |part| part.as_str()));
            }
            Some('\\') | None => out.push('\\'),
            Some(other) => out.extend(['\\', other]),
        }
    }
}

/// A pattern of SIMILAR TO as a regular expression of the whole text.
fn similar(pattern: &str, escape: Option<char>) -> SqlResult<String> {
    Ok(format!("^(?:{})$", similar_body(pattern, escape)))
}

fn similar_body(pattern: &str, escape: Option<char>) -> String {
    let mut out = String::new();
    let mut in_class = false;
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if Some(letter) == escape => {
                letters.next().into_iter().for_each(|next| out.push_str(&regex::escape(&next.to_string())));
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            letter if in_class => out.push(letter),
            '[' => {
                in_class = true;
                out.push('[');
            }
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '.' | '^' | '$' | '\\' => out.extend(['\\', letter]),
            other => out.push(other),
        }
    }
    out
}

/// `SUBSTRING(x FROM 'a#"b#"c' FOR '#')`: what stands between the marks.
fn similar_parts(pattern: &str, escape: &str) -> SqlResult<String> {
    let escape = escape.chars().next();
    let mark = escape.map_or("\"".to_string(), |escape| format!("{escape}\""));
    let parts: Vec<String> = pattern.split(&mark).map(|part| similar_body(part, escape)).collect();
    match parts.as_slice() {
        [whole] => Ok(format!("^({whole})$")),
        [before, middle, after] => Ok(format!("^(?:{before})({middle})(?:{after})$").replacen(".*", ".*?", 1)),
        _ => Err(SqlError::new(
            SqlState(*b"2200C"),
            "SQL regular expression may not contain more than two escape-double-quote separators",
        )),
    }
}
