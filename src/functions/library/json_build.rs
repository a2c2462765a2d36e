//! json and jsonb made of SQL values.

use arrow::array::{Array, ArrayRef, AsArray};

use super::{Entry, Row, Value, lenient, strict};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::{TextStyle, array_text, canonical_jsonb};
use crate::zset::PgType;

pub(super) const ENTRIES: &[Entry] = &[
    strict("to_json", "any", "json", |row| json_of(row, 0).map(Value::Text)),
    strict("to_jsonb", "any", "jsonb", |row| canonical(&json_of(row, 0)?)),
    strict("array_to_json", "anyarray", "json", |row| json_of(row, 0).map(Value::Text)),
    strict("row_to_json", "json", "json", |row| Value::text(row.text(0))),
    lenient("hw_record", "any...", "json", record),
    lenient("json_build_object", "any...", "json", |row| object(row, "json_build_object").map(Value::Text)),
    lenient("jsonb_build_object", "any...", "jsonb", |row| canonical(&object(row, "jsonb_build_object")?)),
    lenient("json_build_array", "any...", "json", |row| array(row).map(Value::Text)),
    lenient("jsonb_build_array", "any...", "jsonb", |row| canonical(&array(row)?)),
    strict("json_object", "text[]", "json", |row| of_texts(&row.texts(0)).map(Value::Text)),
    strict("jsonb_object", "text[]", "jsonb", |row| canonical(&of_texts(&row.texts(0))?)),
    strict("json_object", "text[], text[]", "json", |row| of_pairs(row).map(Value::Text)),
    strict("jsonb_object", "text[], text[]", "jsonb", |row| canonical(&of_pairs(row)?)),
    lenient("hw_json", "any", "text", |row| json_or_null(row, 0).map(Value::Text)),
    lenient("hw_json_pair", "any, any", "text", pair),
    strict("hw_json_agg", "text[]", "json", |row| Value::text(format!("[{}]", joined(row, ", ")))),
    strict("hw_json_agg_rows", "text[]", "json", |row| Value::text(format!("[{}]", joined(row, ", \n ")))),
    strict("hw_jsonb_agg", "text[]", "jsonb", |row| canonical(&format!("[{}]", joined(row, ", ")))),
    strict("hw_json_object_agg", "text[]", "json", |row| Value::text(format!("{{ {} }}", joined(row, ", ")))),
    strict("hw_jsonb_object_agg", "text[]", "jsonb", |row| canonical(&format!("{{{}}}", joined(row, ", ")))),
];

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

pub(super) fn canonical(text: &str) -> SqlResult<Value> {
    let mut out = String::new();
    canonical_jsonb(text, &mut out)?;
    Ok(Value::Text(out))
}

fn joined(row: &Row<'_>, between: &str) -> String {
    row.texts(0).into_iter().map(|item| item.unwrap_or_else(|| "null".to_string())).collect::<Vec<_>>().join(between)
}

/// An argument as json.
fn json_of(row: &Row<'_>, index: usize) -> SqlResult<String> {
    let (array, place) = row.place(index);
    let mut out = String::new();
    write(array, place, row.kind(index), row.style(), &mut out)?;
    Ok(out)
}

fn json_or_null(row: &Row<'_>, index: usize) -> SqlResult<String> {
    if row.is_null(index) { Ok("null".to_string()) } else { json_of(row, index) }
}

fn write(array: &ArrayRef, row: usize, kind: &PgType, style: &TextStyle, out: &mut String) -> SqlResult<()> {
    if array.is_null(row) {
        out.push_str("null");
        return Ok(());
    }
    if let PgType::Array(item) = kind {
        let items = array.as_list::<i32>().value(row);
        out.push('[');
        for index in 0..items.len() {
            if index > 0 {
                out.push(',');
            }
            write(&items, index, item, style, out)?;
        }
        out.push(']');
        return Ok(());
    }
    let text = array_text(&array.slice(row, 1), kind, style)?;
    let text = text.value(0);
    match kind {
        PgType::Bool => out.push_str(if text == "t" { "true" } else { "false" }),
        PgType::Json | PgType::Jsonb => out.push_str(text),
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric(_) | PgType::Float4 | PgType::Float8 => {
            match text.ends_with(|c: char| c.is_ascii_digit()) {
                true => out.push_str(text),
                false => write_string(text, out),
            }
        }
        PgType::Timestamp => write_string(&text.replacen(' ', "T", 1), out),
        PgType::Timestamptz => {
            let text = text.replacen(' ', "T", 1);
            // The offset has minutes here.
            let whole_hours = text.len() > 3 && text[text.len() - 3..].starts_with(['+', '-']);
            write_string(&if whole_hours { text + ":00" } else { text }, out);
        }
        _ => write_string(text, out),
    }
    Ok(())
}

pub(super) fn write_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn key(row: &Row<'_>, index: usize) -> SqlResult<String> {
    let name = row.shown(index)?.ok_or_else(|| {
        let message = format!("argument {} cannot be null", index + 1);
        invalid(message).hint("Object keys should be text.")
    })?;
    let mut out = String::new();
    write_string(&name, &mut out);
    Ok(out)
}

fn object(row: &Row<'_>, name: &str) -> SqlResult<String> {
    if !row.len().is_multiple_of(2) {
        let error = invalid("argument list must have even number of elements");
        return Err(error.hint(format!("The arguments of {name}() must consist of alternating keys and values.")));
    }
    let members = (0..row.len() / 2)
        .map(|member| Ok(format!("{} : {}", key(row, 2 * member)?, json_or_null(row, 2 * member + 1)?)));
    Ok(format!("{{{}}}", members.collect::<SqlResult<Vec<_>>>()?.join(", ")))
}

fn array(row: &Row<'_>) -> SqlResult<String> {
    let items = (0..row.len()).map(|index| json_or_null(row, index)).collect::<SqlResult<Vec<_>>>()?;
    Ok(format!("[{}]", items.join(", ")))
}

/// A row of a relation: names and values by turns.
fn record(row: &Row<'_>) -> SqlResult<Value> {
    let members = (0..row.len() / 2)
        .map(|member| Ok(format!("{}:{}", key(row, 2 * member)?, json_or_null(row, 2 * member + 1)?)));
    Value::text(format!("{{{}}}", members.collect::<SqlResult<Vec<_>>>()?.join(",")))
}

fn pair(row: &Row<'_>) -> SqlResult<Value> {
    let name = row.shown(0)?.ok_or_else(|| invalid("field name must not be null"))?;
    let mut out = String::new();
    write_string(&name, &mut out);
    Value::text(format!("{out} : {}", json_or_null(row, 1)?))
}

fn members(pairs: impl Iterator<Item = (Option<String>, Option<String>)>) -> SqlResult<String> {
    let written = pairs.map(|(name, value)| {
        let name = name.ok_or_else(|| SqlError::new(SqlState(*b"22004"), "null value not allowed for object key"))?;
        let mut out = String::new();
        write_string(&name, &mut out);
        out.push_str(" : ");
        match value {
            Some(value) => write_string(&value, &mut out),
            None => out.push_str("null"),
        }
        Ok(out)
    });
    Ok(format!("{{{}}}", written.collect::<SqlResult<Vec<_>>>()?.join(", ")))
}

fn of_texts(texts: &[Option<String>]) -> SqlResult<String> {
    if !texts.len().is_multiple_of(2) {
        return Err(SqlError::new(SqlState(*b"2202E"), "array must have even number of elements"));
    }
    members(texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())))
}

fn of_pairs(row: &Row<'_>) -> SqlResult<String> {
    let (names, values) = (row.texts(0), row.texts(1));
    match names.len() == values.len() {
        true => members(names.into_iter().zip(values)),
        false => Err(SqlError::new(SqlState(*b"2202E"), "mismatched array dimensions")),
    }
}
