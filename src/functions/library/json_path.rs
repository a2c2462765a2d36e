//! jsonpath: what the steps of a path find in a document.

use std::sync::Arc;

use arrow::array::StringViewArray;
use serde_json::{Number, Value as Json};

use super::json_build::canonical;
use super::json_edit;
use super::json_path_parse::{Node, Path, parse};
use super::{Entry, Row, Value, strict};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::text::canonical_jsonb;

pub(super) const ENTRIES: &[Entry] = &[
    strict("jsonb_path_exists", "jsonb, text", "boolean", exists),
    strict("jsonb_path_exists", "jsonb, text, jsonb", "boolean", exists),
    strict("jsonb_path_exists", "jsonb, text, jsonb, boolean", "boolean", exists),
    strict("jsonb_path_match", "jsonb, text", "boolean", matches),
    strict("jsonb_path_match", "jsonb, text, jsonb", "boolean", matches),
    strict("jsonb_path_match", "jsonb, text, jsonb, boolean", "boolean", matches),
    strict("jsonb_path_query_array", "jsonb, text", "jsonb", as_array),
    strict("jsonb_path_query_array", "jsonb, text, jsonb", "jsonb", as_array),
    strict("jsonb_path_query_array", "jsonb, text, jsonb, boolean", "jsonb", as_array),
    strict("jsonb_path_query_first", "jsonb, text", "jsonb", first),
    strict("jsonb_path_query_first", "jsonb, text, jsonb", "jsonb", first),
    strict("jsonb_path_query_first", "jsonb, text, jsonb, boolean", "jsonb", first),
    strict("hw_jsonb_path_query", "jsonb, text", "jsonb[]", all),
    strict("hw_jsonb_path_query", "jsonb, text, jsonb", "jsonb[]", all),
    strict("hw_jsonb_path_query", "jsonb, text, jsonb, boolean", "jsonb[]", all),
    strict("hw_jsonb_path_exists", "jsonb, text", "boolean", |row| Ok(exists(row).unwrap_or(Value::Null))),
    strict("hw_jsonb_path_match", "jsonb, text", "boolean", |row| Ok(matches(row).unwrap_or(Value::Null))),
];

fn path_error(code: &[u8; 5], message: impl Into<String>) -> SqlError {
    SqlError::new(SqlState(*code), message)
}

/// What a path finds; `None` if it failed and the caller asked for silence.
fn found(row: &Row<'_>) -> SqlResult<Option<Vec<Json>>> {
    let (target, path) = (json_edit::parse(row.text(0))?, parse(row.text(1))?);
    let variables = if row.len() > 2 { json_edit::parse(row.text(2))? } else { Json::Null };
    let silent = row.len() > 3 && row.boolean(3);
    let search = Search { path: &path, root: &target, variables: &variables };
    match search.values(&path.node, &Place { current: &target, last: None }) {
        Err(_) if silent => Ok(None),
        values => values.map(Some),
    }
}

fn exists(row: &Row<'_>) -> SqlResult<Value> {
    Ok(found(row)?.map_or(Value::Null, |values| Value::Bool(!values.is_empty())))
}

fn matches(row: &Row<'_>) -> SqlResult<Value> {
    match found(row)?.as_deref() {
        None | Some([Json::Null]) => Ok(Value::Null),
        Some([Json::Bool(answer)]) => Ok(Value::Bool(*answer)),
        Some(_) => match row.len() > 3 && row.boolean(3) {
            true => Ok(Value::Null),
            false => Err(path_error(b"22038", "single boolean result is expected")),
        },
    }
}

fn as_array(row: &Row<'_>) -> SqlResult<Value> {
    canonical(&Json::Array(found(row)?.unwrap_or_default()).to_string())
}

fn first(row: &Row<'_>) -> SqlResult<Value> {
    match found(row)?.unwrap_or_default().first() {
        Some(value) => canonical(&value.to_string()),
        None => Ok(Value::Null),
    }
}

fn all(row: &Row<'_>) -> SqlResult<Value> {
    let texts = found(row)?.unwrap_or_default().into_iter().map(|value| {
        let mut out = String::new();
        canonical_jsonb(&value.to_string(), &mut out).map(|()| out)
    });
    let texts = texts.collect::<SqlResult<Vec<String>>>()?;
    Ok(Value::List(Arc::new(StringViewArray::from_iter_values(texts))))
}

struct Search<'a> {
    path: &'a Path,
    root: &'a Json,
    variables: &'a Json,
}

/// What `@` and `last` mean.
struct Place<'a> {
    current: &'a Json,
    last: Option<usize>,
}

impl Search<'_> {
    fn values(&self, node: &Node, place: &Place<'_>) -> SqlResult<Vec<Json>> {
        if node.is_predicate() {
            return Ok(vec![self.test(node, place)?.map_or(Json::Null, Json::Bool)]);
        }
        match node {
            Node::Root => Ok(vec![self.root.clone()]),
            Node::Current => Ok(vec![place.current.clone()]),
            Node::Last => {
                let last =
                    place.last.ok_or_else(|| path_error(b"42601", "LAST is allowed only in array subscripts"))?;
                Ok(vec![Json::from(last as i64 - 1)])
            }
            Node::Variable(name) => match self.variables.get(name) {
                Some(value) => Ok(vec![value.clone()]),
                None => Err(path_error(b"42704", format!("could not find jsonpath variable \"{name}\""))),
            },
            Node::Literal(value) => Ok(vec![value.clone()]),
            Node::Key(inner, name) => self.members(&self.values(inner, place)?, name),
            Node::AnyKey(inner) => self.all_members(&self.values(inner, place)?),
            Node::Deep(inner, least, most) => {
                let mut out = Vec::new();
                self.values(inner, place)?.iter().for_each(|value| deep(value, 0, *least, *most, &mut out));
                Ok(out)
            }
            Node::AnyIndex(inner) => self.all_items(&self.values(inner, place)?),
            Node::Index(inner, ranges) => self.items(&self.values(inner, place)?, ranges, place),
            Node::Filter(inner, test) => self.filtered(&self.values(inner, place)?, test),
            Node::Method(inner, name) => self.method(self.values(inner, place)?, name),
            Node::Sign(negative, inner) => self.signed(self.values(inner, place)?, *negative),
            Node::Arithmetic(operator, left, right) => {
                let (left, right) =
                    (self.operand(left, place, *operator, "left")?, self.operand(right, place, *operator, "right")?);
                Ok(vec![arithmetic(*operator, &left, &right)?])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn members(&self, values: &[Json], name: &str) -> SqlResult<Vec<Json>> {
        let mut out = Vec::new();
        for value in values {
            match value {
                Json::Object(members) => match members.get(name) {
                    Some(member) => out.push(member.clone()),
                    None if self.path.strict => {
                        let message = format!("JSON object does not contain key \"{name}\"");
                        return Err(path_error(b"2203A", message));
                    }
                    None => {}
                },
                Json::Array(items) if !self.path.strict => {
                    let objects: Vec<Json> = items.iter().filter(|item| item.is_object()).cloned().collect();
                    out.extend(self.members(&objects, name)?);
                }
                _ if self.path.strict => {
                    return Err(path_error(b"2203A", "jsonpath member accessor can only be applied to an object"));
                }
                _ => {}
            }
        }
        Ok(out)
    }

    fn all_members(&self, values: &[Json]) -> SqlResult<Vec<Json>> {
        let mut out = Vec::new();
        for value in values {
            match value {
                Json::Object(members) => out.extend(members.values().cloned()),
                Json::Array(items) if !self.path.strict => {
                    out.extend(items.iter().filter_map(Json::as_object).flat_map(|members| members.values().cloned()));
                }
                _ if self.path.strict => {
                    let message = "jsonpath wildcard member accessor can only be applied to an object";
                    return Err(path_error(b"2203C", message));
                }
                _ => {}
            }
        }
        Ok(out)
    }

    fn all_items(&self, values: &[Json]) -> SqlResult<Vec<Json>> {
        let mut out = Vec::new();
        for value in values {
            match value {
                Json::Array(items) => out.extend(items.iter().cloned()),
                other if !self.path.strict => out.push(other.clone()),
                _ => {
                    let message = "jsonpath wildcard array accessor can only be applied to an array";
                    return Err(path_error(b"22039", message));
                }
            }
        }
        Ok(out)
    }

    fn items(&self, values: &[Json], ranges: &[(Node, Option<Node>)], place: &Place<'_>) -> SqlResult<Vec<Json>> {
        let mut out = Vec::new();
        for value in values {
            let wrapped;
            let items = match value {
                Json::Array(items) => items,
                other if !self.path.strict => {
                    wrapped = vec![other.clone()];
                    &wrapped
                }
                _ => return Err(path_error(b"22039", "jsonpath array accessor can only be applied to an array")),
            };
            let inside = Place { current: place.current, last: Some(items.len()) };
            for (from, to) in ranges {
                let from = self.subscript(from, &inside)?;
                let to = to.as_ref().map_or(Ok(from), |to| self.subscript(to, &inside))?;
                if self.path.strict && (from < 0 || from > to || to >= items.len() as i64) {
                    return Err(path_error(b"22033", "jsonpath array subscript is out of bounds"));
                }
                let within = from.max(0)..=to.min(items.len() as i64 - 1);
                out.extend(within.filter_map(|index| items.get(index as usize).cloned()));
            }
        }
        Ok(out)
    }

    fn subscript(&self, node: &Node, place: &Place<'_>) -> SqlResult<i64> {
        match self.values(node, place)?.as_slice() {
            [Json::Number(number)] => Ok(number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or(0.0) as i64)),
            _ => Err(path_error(b"22033", "jsonpath array subscript is not a single numeric value")),
        }
    }

    fn filtered(&self, values: &[Json], test: &Node) -> SqlResult<Vec<Json>> {
        let values = if self.path.strict { values.to_vec() } else { self.all_items(values)? };
        let mut out = Vec::new();
        for value in values {
            if self.test(test, &Place { current: &value, last: None }).unwrap_or(None) == Some(true) {
                out.push(value);
            }
        }
        Ok(out)
    }

    fn method(&self, values: Vec<Json>, name: &str) -> SqlResult<Vec<Json>> {
        let values = match self.path.strict || matches!(name, "type" | "size") {
            true => values,
            false => self.all_items(&values)?,
        };
        let mut out = Vec::new();
        for value in values {
            match (name, &value) {
                ("type", value) => out.push(Json::from(type_name(value))),
                ("size", Json::Array(items)) => out.push(Json::from(items.len())),
                ("size", _) if !self.path.strict => out.push(Json::from(1)),
                ("size", _) => {
                    return Err(path_error(b"22039", "jsonpath item method .size() can only be applied to an array"));
                }
                ("keyvalue", Json::Object(members)) => {
                    out.extend(
                        members.iter().map(|(key, value)| serde_json::json!({"id": 0, "key": key, "value": value})),
                    );
                }
                ("keyvalue", _) => {
                    let message = "jsonpath item method .keyvalue() can only be applied to an object";
                    return Err(path_error(b"2203C", message));
                }
                (name, value) => out.push(number_method(name, value)?),
            }
        }
        Ok(out)
    }

    fn signed(&self, values: Vec<Json>, negative: bool) -> SqlResult<Vec<Json>> {
        let values = if self.path.strict { values } else { self.all_items(&values)? };
        let symbol = if negative { '-' } else { '+' };
        values
            .iter()
            .map(|value| match value {
                Json::Number(_) if !negative => Ok(value.clone()),
                Json::Number(_) => arithmetic('-', &Json::from(0), value),
                _ => {
                    let message = format!("operand of unary jsonpath operator {symbol} is not a numeric value");
                    Err(path_error(b"2203B", message))
                }
            })
            .collect()
    }

    fn operand(&self, node: &Node, place: &Place<'_>, operator: char, side: &str) -> SqlResult<Json> {
        let values = self.values(node, place)?;
        let values = if self.path.strict { values } else { self.all_items(&values)? };
        match values.as_slice() {
            [value @ Json::Number(_)] => Ok(value.clone()),
            _ => {
                let message = format!("{side} operand of jsonpath operator {operator} is not a single numeric value");
                Err(path_error(b"22038", message))
            }
        }
    }

    /// `None` is unknown.
    fn test(&self, node: &Node, place: &Place<'_>) -> SqlResult<Option<bool>> {
        Ok(match node {
            Node::And(left, right) => match (self.test(left, place)?, self.test(right, place)?) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Node::Or(left, right) => match (self.test(left, place)?, self.test(right, place)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Node::Not(inner) => self.test(inner, place)?.map(|answer| !answer),
            Node::IsUnknown(inner) => Some(self.test(inner, place)?.is_none()),
            Node::Exists(inner) => self.values(inner, place).ok().map(|values| !values.is_empty()),
            Node::Compare(operator, left, right) => {
                self.any_pair(left, right, place, |left, right| compare(operator, left, right))
            }
            Node::StartsWith(left, right) => {
                self.any_pair(left, right, place, |left, right| Some(left.as_str()?.starts_with(right.as_str()?)))
            }
            Node::LikeRegex(inner, pattern, flags) => {
                let regex = super::regexp::compiled(pattern, flags)?;
                self.any_pair(inner, &Node::Literal(Json::Null), place, |left, _| Some(regex.is_match(left.as_str()?)))
            }
            other => match self.values(other, place)?.as_slice() {
                [Json::Bool(answer)] => Some(*answer),
                _ => None,
            },
        })
    }

    /// Whether a test holds for some pair; unknown if it is for one and holds for none. Errors are unknown.
    fn any_pair(
        &self,
        left: &Node,
        right: &Node,
        place: &Place<'_>,
        holds: impl Fn(&Json, &Json) -> Option<bool>,
    ) -> Option<bool> {
        let side = |node: &Node| {
            let values = self.values(node, place).ok()?;
            if self.path.strict { Some(values) } else { self.all_items(&values).ok() }
        };
        let (left, right) = (side(left)?, side(right)?);
        let answers: Vec<Option<bool>> =
            left.iter().flat_map(|left| right.iter().map(|right| holds(left, right))).collect();
        match answers.contains(&Some(true)) {
            true => Some(true),
            false if answers.contains(&None) => None,
            false => Some(false),
        }
    }
}

fn deep(value: &Json, depth: usize, least: usize, most: usize, out: &mut Vec<Json>) {
    if depth >= least && depth <= most {
        out.push(value.clone());
    }
    if depth >= most {
        return;
    }
    match value {
        Json::Object(members) => members.values().for_each(|member| deep(member, depth + 1, least, most, out)),
        Json::Array(items) => items.iter().for_each(|item| deep(item, depth + 1, least, most, out)),
        _ => {}
    }
}

fn type_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn number(value: f64) -> SqlResult<Json> {
    let whole = value.fract() == 0.0 && value.abs() < 9e15;
    let number = if whole { Some(Number::from(value as i64)) } else { Number::from_f64(value) };
    number.map(Json::Number).ok_or_else(|| SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value out of range"))
}

fn number_method(name: &str, value: &Json) -> SqlResult<Json> {
    let refuse =
        |what: &str| path_error(b"22036", format!("jsonpath item method .{name}() can only be applied to a {what}"));
    let parsed = match (name, value) {
        ("double" | "number", Json::String(text)) => text.trim().parse::<f64>().ok(),
        (_, Json::Number(number)) => number.as_f64(),
        _ => None,
    };
    let what = if name == "double" { "string or numeric value" } else { "numeric value" };
    let parsed = parsed.ok_or_else(|| refuse(what))?;
    match name {
        "abs" => number(parsed.abs()),
        "floor" => number(parsed.floor()),
        "ceiling" => number(parsed.ceil()),
        _ => number(parsed),
    }
}

fn arithmetic(operator: char, left: &Json, right: &Json) -> SqlResult<Json> {
    let by_zero = || SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        let whole = match operator {
            '+' => left.checked_add(right),
            '-' => left.checked_sub(right),
            '*' => left.checked_mul(right),
            '%' => Some(left.checked_rem(right).ok_or_else(by_zero)?),
            _ if right == 0 => return Err(by_zero()),
            _ if left % right == 0 => left.checked_div(right),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(Json::from(whole));
        }
    }
    let (left, right) = (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
    if right == 0.0 && matches!(operator, '/' | '%') {
        return Err(by_zero());
    }
    number(match operator {
        '+' => left + right,
        '-' => left - right,
        '*' => left * right,
        '/' => left / right,
        _ => left % right,
    })
}

/// `None` for values that cannot be compared.
fn compare(operator: &str, left: &Json, right: &Json) -> Option<bool> {
    let order = match (left, right) {
        (Json::Null, Json::Null) => std::cmp::Ordering::Equal,
        (Json::Null, _) | (_, Json::Null) => return Some(matches!(operator, "!=" | "<>")),
        (Json::Number(left), Json::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?)?,
        (Json::String(left), Json::String(right)) => left.cmp(right),
        (Json::Bool(left), Json::Bool(right)) => left.cmp(right),
        _ => return None,
    };
    Some(match operator {
        "==" => order.is_eq(),
        "!=" | "<>" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })
}
