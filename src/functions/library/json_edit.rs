//! Parts of json and jsonb, and jsonb with parts changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewArray};
use serde_json::Value as Json;

use super::json_build::canonical;
use super::{Entry, Row, Value, lenient, strict};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{canonical_jsonb, json_members};

pub(super) const ENTRIES: &[Entry] = &[
    strict("jsonb_set", "jsonb, text[], jsonb", "jsonb", |row| set(row, true)),
    strict("jsonb_set", "jsonb, text[], jsonb, boolean", "jsonb", |row| set(row, row.boolean(3))),
    lenient("jsonb_set_lax", "jsonb, text[], jsonb", "jsonb", |row| set_lax(row, true, "use_json_null")),
    lenient("jsonb_set_lax", "jsonb, text[], jsonb, boolean", "jsonb", |row| {
        set_lax(row, row.boolean(3), "use_json_null")
    }),
    lenient("jsonb_set_lax", "jsonb, text[], jsonb, boolean, text", "jsonb", |row| {
        set_lax(row, row.boolean(3), row.text(4))
    }),
    strict("jsonb_insert", "jsonb, text[], jsonb", "jsonb", |row| insert(row, false)),
    strict("jsonb_insert", "jsonb, text[], jsonb, boolean", "jsonb", |row| insert(row, row.boolean(3))),
    strict("hw_jsonb_remove_path", "jsonb, text[]", "jsonb", remove_path),
    strict("hw_jsonb_remove_keys", "jsonb, text[]", "jsonb", remove_keys),
    strict("jsonb_strip_nulls", "jsonb", "jsonb", |row| canonical(&stripped(parse(row.text(0))?).to_string())),
    strict("json_strip_nulls", "json", "json", |row| Value::text(stripped(parse(row.text(0))?).to_string())),
    strict("jsonb_pretty", "jsonb", "text", |row| {
        let mut out = String::new();
        pretty(&parse(row.text(0))?, 0, &mut out)?;
        Value::text(out)
    }),
    strict("jsonb_extract_path", "jsonb, text...", "jsonb", |row| extract(row, false)),
    strict("jsonb_extract_path_text", "jsonb, text...", "text", |row| extract(row, true)),
    strict("json_extract_path", "json, text...", "json", |row| extract(row, false)),
    strict("json_extract_path_text", "json, text...", "text", |row| extract(row, true)),
    strict("hw_jsonb_elements", "jsonb", "jsonb[]", |row| elements(row, false)),
    strict("hw_json_elements", "json", "json[]", |row| elements(row, false)),
    strict("hw_jsonb_elements_text", "jsonb", "text[]", |row| elements(row, true)),
    strict("hw_json_elements_text", "json", "text[]", |row| elements(row, true)),
    strict("hw_jsonb_keys", "jsonb", "text[]", keys),
    strict("hw_json_keys", "json", "text[]", keys),
    strict("hw_jsonb_values", "jsonb", "jsonb[]", |row| values(row, false)),
    strict("hw_json_values", "json", "json[]", |row| values(row, false)),
    strict("hw_jsonb_values_text", "jsonb", "text[]", |row| values(row, true)),
    strict("hw_json_values_text", "json", "text[]", |row| values(row, true)),
    strict("hw_json_member", "json, text", "text", member),
    strict("hw_json_member", "jsonb, text", "text", member),
];

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

pub(super) fn parse(text: &str) -> SqlResult<Json> {
    serde_json::from_str(text).map_err(|error| {
        SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json").detail(error.to_string())
    })
}

/// The place in an array that a step of a path names, from the end if negative.
fn index_of(step: &str, length: usize, place: usize) -> SqlResult<i64> {
    let index: i64 = step.parse().map_err(|_| {
        let message = format!("path element at position {place} is not an integer: \"{step}\"");
        SqlError::new(SqlState::INVALID_TEXT, message)
    })?;
    Ok(if index < 0 { index + length as i64 } else { index })
}

fn steps(row: &Row<'_>, index: usize) -> SqlResult<Vec<String>> {
    let steps = row.texts(index).into_iter().enumerate().map(|(place, step)| {
        step.ok_or_else(|| {
            SqlError::new(SqlState(*b"22004"), format!("path element at position {} is null", place + 1))
        })
    });
    steps.collect()
}

fn no_container(value: &Json) -> SqlResult<()> {
    match value {
        Json::Array(_) | Json::Object(_) => Ok(()),
        _ => Err(invalid("cannot set path in scalar")),
    }
}

fn set(row: &Row<'_>, create: bool) -> SqlResult<Value> {
    let (mut value, steps) = (parse(row.text(0))?, steps(row, 1)?);
    no_container(&value)?;
    put(&mut value, &steps, 1, &parse(row.text(2))?, create)?;
    canonical(&value.to_string())
}

fn put(value: &mut Json, steps: &[String], place: usize, new: &Json, create: bool) -> SqlResult<()> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    match value {
        Json::Object(members) => match members.get_mut(step) {
            Some(member) if !rest.is_empty() => put(member, rest, place + 1, new, create)?,
            Some(member) => *member = new.clone(),
            None if rest.is_empty() && create => {
                members.insert(step.clone(), new.clone());
            }
            None => {}
        },
        Json::Array(items) => {
            let index = index_of(step, items.len(), place)?;
            match usize::try_from(index).ok().filter(|index| *index < items.len()) {
                Some(index) if !rest.is_empty() => put(&mut items[index], rest, place + 1, new, create)?,
                Some(index) => items[index] = new.clone(),
                None if rest.is_empty() && create && index < 0 => items.insert(0, new.clone()),
                None if rest.is_empty() && create => items.push(new.clone()),
                None => {}
            }
        }
        _ => {}
    }
    Ok(())
}

fn set_lax(row: &Row<'_>, create: bool, treatment: &str) -> SqlResult<Value> {
    if row.is_null(0) || row.is_null(1) {
        return Ok(Value::Null);
    }
    if !row.is_null(2) {
        return set(row, create);
    }
    let (mut value, steps) = (parse(row.text(0))?, steps(row, 1)?);
    no_container(&value)?;
    match treatment {
        "use_json_null" => put(&mut value, &steps, 1, &Json::Null, create)?,
        "delete_key" => remove(&mut value, &steps, 1)?,
        "return_target" => {}
        "raise_exception" => {
            return Err(SqlError::new(SqlState(*b"22004"), "JSON value must not be null"));
        }
        _ => {
            let message = "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"";
            return Err(invalid(message));
        }
    }
    canonical(&value.to_string())
}

fn insert(row: &Row<'_>, after: bool) -> SqlResult<Value> {
    let (mut value, steps) = (parse(row.text(0))?, steps(row, 1)?);
    no_container(&value)?;
    put_new(&mut value, &steps, 1, &parse(row.text(2))?, after)?;
    canonical(&value.to_string())
}

fn put_new(value: &mut Json, steps: &[String], place: usize, new: &Json, after: bool) -> SqlResult<()> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    match value {
        Json::Object(members) => match members.get_mut(step) {
            Some(member) if !rest.is_empty() => put_new(member, rest, place + 1, new, after)?,
            Some(_) => {
                return Err(invalid("cannot replace existing key")
                    .hint("Try using the function jsonb_set to replace key value."));
            }
            None if rest.is_empty() => {
                members.insert(step.clone(), new.clone());
            }
            None => {}
        },
        Json::Array(items) => {
            let index = index_of(step, items.len(), place)?;
            let length = items.len() as i64;
            if rest.is_empty() {
                let at = if (0..length).contains(&index) { index + i64::from(after) } else { index };
                items.insert(at.clamp(0, length) as usize, new.clone());
            } else if let Some(item) = usize::try_from(index).ok().and_then(|index| items.get_mut(index)) {
                put_new(item, rest, place + 1, new, after)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn remove(value: &mut Json, steps: &[String], place: usize) -> SqlResult<()> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    match value {
        Json::Object(members) if rest.is_empty() => {
            members.shift_remove(step);
        }
        Json::Object(members) => {
            if let Some(member) = members.get_mut(step) {
                remove(member, rest, place + 1)?;
            }
        }
        Json::Array(items) => {
            let index = index_of(step, items.len(), place)?;
            match usize::try_from(index).ok().filter(|index| *index < items.len()) {
                Some(index) if rest.is_empty() => {
                    items.remove(index);
                }
                Some(index) => remove(&mut items[index], rest, place + 1)?,
                None => {}
            }
        }
        _ => {}
    }
    Ok(())
}

fn remove_path(row: &Row<'_>) -> SqlResult<Value> {
    let (mut value, steps) = (parse(row.text(0))?, steps(row, 1)?);
    if !matches!(value, Json::Array(_) | Json::Object(_)) {
        return Err(invalid("cannot delete path in scalar"));
    }
    remove(&mut value, &steps, 1)?;
    canonical(&value.to_string())
}

fn remove_keys(row: &Row<'_>) -> SqlResult<Value> {
    let mut value = parse(row.text(0))?;
    let keys: Vec<String> = row.texts(1).into_iter().flatten().collect();
    match &mut value {
        Json::Object(members) => members.retain(|name, _| !keys.contains(name)),
        Json::Array(items) => {
            items.retain(|item| !item.as_str().is_some_and(|text| keys.iter().any(|key| key == text)))
        }
        _ => return Err(invalid("cannot delete from scalar")),
    }
    canonical(&value.to_string())
}

fn stripped(value: Json) -> Json {
    match value {
        Json::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| !member.is_null());
            Json::Object(kept.map(|(name, member)| (name, stripped(member))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(stripped).collect()),
        other => other,
    }
}

fn pretty(value: &Json, depth: usize, out: &mut String) -> SqlResult<()> {
    let indent = |depth: usize| "    ".repeat(depth);
    match value {
        Json::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ",\n" } else { "\n" });
                out.push_str(&indent(depth + 1));
                super::json_build::write_string(name, out);
                out.push_str(": ");
                pretty(member, depth + 1, out)?;
            }
            out.push_str(&format!("\n{}}}", indent(depth)));
        }
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ",\n" } else { "\n" });
                out.push_str(&indent(depth + 1));
                pretty(item, depth + 1, out)?;
            }
            out.push_str(&format!("\n{}]", indent(depth)));
        }
        scalar => canonical_jsonb(&scalar.to_string(), out)?,
    }
    Ok(())
}

/// The part of a document to which the steps lead.
pub fn follow<'a>(text: &'a str, steps: &[&str]) -> SqlResult<Option<&'a str>> {
    let mut text = text.trim();
    for step in steps {
        let found = match text.as_bytes().first() {
            Some(b'{') => json_members(text)?.into_iter().rev().find(|(name, _)| name == step),
            Some(b'[') => {
                let mut items = json_members(text)?;
                let Ok(index) = step.trim().parse::<i64>() else { return Ok(None) };
                let index = if index < 0 { index + items.len() as i64 } else { index };
                let known = usize::try_from(index).ok().filter(|index| *index < items.len());
                known.map(|index| items.swap_remove(index))
            }
            _ => None,
        };
        let Some((_, part)) = found else { return Ok(None) };
        text = part;
    }
    Ok(Some(text))
}

fn extract(row: &Row<'_>, as_text: bool) -> SqlResult<Value> {
    let steps: Vec<&str> = (1..row.len()).map(|index| row.text(index)).collect();
    let found = follow(row.text(0), &steps)?;
    Ok(found.map(|part| shown(part, as_text)).transpose()?.flatten().map_or(Value::Null, Value::Text))
}

/// A member's text: with `as_text` a string without its quotes, and JSON's null as SQL's.
pub fn shown(text: &str, as_text: bool) -> SqlResult<Option<String>> {
    match as_text {
        true if text == "null" => Ok(None),
        true if text.starts_with('"') => Ok(parse(text)?.as_str().map(str::to_string)),
        _ => Ok(Some(text.to_string())),
    }
}

fn texts(items: Vec<Option<String>>) -> Value {
    let array: ArrayRef = Arc::new(StringViewArray::from_iter(items));
    Value::List(array)
}

/// The elements in their own text, which json keeps and jsonb has in one form only.
fn elements(row: &Row<'_>, as_text: bool) -> SqlResult<Value> {
    let refuse = |what: &str| Err(invalid(format!("cannot extract elements from {what}")));
    let text = row.text(0).trim();
    match text.chars().next() {
        Some('[') => {
            let parts = json_members(text)?;
            Ok(texts(parts.into_iter().map(|(_, part)| shown(part, as_text)).collect::<SqlResult<_>>()?))
        }
        Some('{') => refuse("an object"),
        _ => refuse("a scalar"),
    }
}

fn members<'a>(row: &Row<'a>) -> SqlResult<Vec<(String, &'a str)>> {
    let text = row.text(0).trim();
    match text.starts_with('{') {
        true => json_members(text),
        false => {
            let what = if text.starts_with('[') { "an array" } else { "a scalar" };
            Err(invalid(format!("cannot call a function of objects on {what}")))
        }
    }
}

fn keys(row: &Row<'_>) -> SqlResult<Value> {
    Ok(Value::Texts(members(row)?.into_iter().map(|(name, _)| Some(name)).collect()))
}

fn values(row: &Row<'_>, as_text: bool) -> SqlResult<Value> {
    let parts = members(row)?.into_iter().map(|(_, part)| shown(part, as_text));
    Ok(texts(parts.collect::<SqlResult<_>>()?))
}

/// A member for a column of a record: its text, as `->>` gives it.
fn member(row: &Row<'_>) -> SqlResult<Value> {
    let name = row.text(1);
    let found = members(row)?.into_iter().rev().find(|(key, _)| key == name);
    Ok(found.map(|(_, part)| shown(part, true)).transpose()?.flatten().map_or(Value::Null, Value::Text))
}
