//! The operators and functions of json and jsonb.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, Int32Array, StringViewBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use serde_json::Value;

use super::{Pair, carry, map_array, result, udf};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions::library::{follow, shown};
use crate::functions::text::{canonical_jsonb, split_array};
use crate::zset::PgType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JsonOperator {
    /// `->` with a key or an index
    Get,
    /// `->>`
    GetText,
    /// `#>`
    Path,
    /// `#>>`
    PathText,
    /// `@>`
    Contains,
    /// `?`
    HasKey,
    /// `?|`
    HasAnyKey,
    /// `?&`
    HasAllKeys,
    /// `||`
    Concat,
    /// `-` with a key or an index
    Remove,
}

impl JsonOperator {
    /// What it gives beside a value of this type.
    pub fn result(self, left: Option<&PgType>) -> Option<PgType> {
        match self {
            JsonOperator::GetText | JsonOperator::PathText => Some(PgType::Text),
            operator if operator.is_test() => Some(PgType::Bool),
            _ => left.cloned(),
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            JsonOperator::Get => "->",
            JsonOperator::GetText => "->>",
            JsonOperator::Path => "#>",
            JsonOperator::PathText => "#>>",
            JsonOperator::Contains => "@>",
            JsonOperator::HasKey => "?",
            JsonOperator::HasAnyKey => "?|",
            JsonOperator::HasAllKeys => "?&",
            JsonOperator::Concat => "||",
            JsonOperator::Remove => "-",
        }
    }

    fn is_test(self) -> bool {
        use JsonOperator::{Contains, HasAllKeys, HasAnyKey, HasKey};
        matches!(self, Contains | HasKey | HasAnyKey | HasAllKeys)
    }
}

/// An operator on a json value (kept as text) and text, an integer, an array of texts (as text), or another json value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct JsonCall {
    operator: JsonOperator,
    /// Of the left side; `->` gives the same.
    binary: bool,
    /// Whether the right side is an integer.
    by_index: bool,
    signature: Signature,
}

impl JsonCall {
    pub fn call(operator: JsonOperator, left: Expr, left_kind: &PgType, right: Expr, by_index: bool) -> Expr {
        let signature = Signature::any(2, Volatility::Immutable);
        udf(JsonCall { operator, binary: *left_kind == PgType::Jsonb, by_index, signature }).call(vec![left, right])
    }

    pub(super) fn symbol(&self) -> &'static str {
        self.operator.symbol()
    }

    fn kind(&self) -> PgType {
        match self.operator {
            JsonOperator::GetText | JsonOperator::PathText => PgType::Text,
            operator if operator.is_test() => PgType::Bool,
            _ if self.binary => PgType::Jsonb,
            _ => PgType::Json,
        }
    }

    fn values(&self, pair: &Pair) -> SqlResult<ArrayRef> {
        let mut out = StringViewBuilder::with_capacity(pair.rows);
        for row in 0..pair.rows {
            let text = match pair.is_null(row) {
                true => None,
                false => self.value(pair, row)?,
            };
            out.append_option(text);
        }
        Ok(Arc::new(out.finish()))
    }

    fn value(&self, pair: &Pair, row: usize) -> SqlResult<Option<String>> {
        let left = pair.left.as_string_view().value(pair.left_at(row));
        let right = || pair.right.as_string_view().value(pair.right_at(row));
        let found = match self.operator {
            JsonOperator::Get | JsonOperator::GetText => self.member(left, pair, row)?,
            JsonOperator::Path | JsonOperator::PathText => path(left, &split_array(right())?)?,
            JsonOperator::Concat => return self.written(&concat(parse(left)?, parse(right())?)).map(Some),
            _ => return self.written(&self.removed(parse(left)?, pair, row)?).map(Some),
        };
        let as_text = matches!(self.operator, JsonOperator::GetText | JsonOperator::PathText);
        Ok(found.map(|part| shown(part, as_text)).transpose()?.flatten())
    }

    /// The member by the right side's key or index, in its own text.
    fn member<'a>(&self, text: &'a str, pair: &Pair, row: usize) -> SqlResult<Option<&'a str>> {
        match (self.by_index, text.trim_start().as_bytes().first()) {
            (true, Some(b'[')) => {
                let index = pair.right.as_primitive::<Int32Type>().value(pair.right_at(row));
                follow(text, &[&index.to_string()])
            }
            (false, Some(b'{')) => follow(text, &[pair.right.as_string_view().value(pair.right_at(row))]),
            _ => Ok(None),
        }
    }

    fn removed(&self, mut value: Value, pair: &Pair, row: usize) -> SqlResult<Value> {
        let refuse = |what: &str| {
            let message = format!("cannot delete from {what}");
            Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
        };
        match (&mut value, self.by_index) {
            (Value::Array(items), true) => {
                let index = i64::from(pair.right.as_primitive::<Int32Type>().value(pair.right_at(row)));
                if let Some(at) = position(items.len(), index) {
                    items.remove(at);
                }
            }
            (Value::Object(members), false) => {
                members.shift_remove(pair.right.as_string_view().value(pair.right_at(row)));
            }
            (Value::Array(items), false) => {
                let key = pair.right.as_string_view().value(pair.right_at(row));
                items.retain(|item| item.as_str() != Some(key));
            }
            (Value::Object(_), true) => return refuse("object using integer index"),
            _ => return refuse("scalar"),
        }
        Ok(value)
    }

    fn written(&self, value: &Value) -> SqlResult<String> {
        let text = value.to_string();
        if !self.binary {
            return Ok(text);
        }
        let mut canonical = String::new();
        canonical_jsonb(&text, &mut canonical)?;
        Ok(canonical)
    }

    fn tests(&self, pair: &Pair) -> SqlResult<ArrayRef> {
        let mut out = BooleanBuilder::with_capacity(pair.rows);
        for row in 0..pair.rows {
            let answer = match pair.is_null(row) {
                true => None,
                false => Some(self.test(pair, row)?),
            };
            out.append_option(answer);
        }
        Ok(Arc::new(out.finish()))
    }

    fn test(&self, pair: &Pair, row: usize) -> SqlResult<bool> {
        let left = parse(pair.left.as_string_view().value(pair.left_at(row)))?;
        let right = pair.right.as_string_view().value(pair.right_at(row));
        Ok(match self.operator {
            JsonOperator::Contains => contains(&left, &parse(right)?),
            JsonOperator::HasKey => has_key(&left, right),
            JsonOperator::HasAnyKey => split_array(right)?.iter().flatten().any(|key| has_key(&left, key)),
            _ => split_array(right)?.iter().flatten().all(|key| has_key(&left, key)),
        })
    }
}

fn parse(text: &str) -> SqlResult<Value> {
    serde_json::from_str(text).map_err(|error| {
        SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json").detail(error.to_string())
    })
}

/// From the end if negative.
fn position(length: usize, index: i64) -> Option<usize> {
    let index = if index < 0 { index + length as i64 } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// No step of a path may be NULL.
fn path<'a>(text: &'a str, steps: &[Option<String>]) -> SqlResult<Option<&'a str>> {
    match steps.iter().map(Option::as_deref).collect::<Option<Vec<&str>>>() {
        Some(steps) => follow(text, &steps),
        None => Ok(None),
    }
}

fn contains(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            right.iter().all(|(key, value)| left.get(key).is_some_and(|own| contains(own, value)))
        }
        (Value::Array(left), Value::Array(right)) => {
            right.iter().all(|value| left.iter().any(|own| contains(own, value)))
        }
        // An array may contain a scalar as such.
        (Value::Array(left), scalar) if !scalar.is_object() => left.contains(scalar),
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}

fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(members) => members.contains_key(key),
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(key)),
        Value::String(text) => text == key,
        _ => false,
    }
}

fn concat(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Object(mut left), Value::Object(right)) => {
            left.extend(right);
            Value::Object(left)
        }
        (left, right) => {
            let items = |value: Value| match value {
                Value::Array(items) => items,
                other => vec![other],
            };
            Value::Array(items(left).into_iter().chain(items(right)).collect())
        }
    }
}

impl ScalarUDFImpl for JsonCall {
    fn name(&self) -> &str {
        self.operator.symbol()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.kind().arrow())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs) -> Result<FieldRef> {
        let field: Field = self.kind().field("json", true);
        Ok(Arc::new(field))
    }

    fn display_name(&self, arguments: &[Expr]) -> Result<String> {
        Ok(match arguments {
            [left, right] => format!("{left} {} {right}", self.operator.symbol()),
            _ => self.operator.symbol().to_string(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pair = Pair::new(&args.args, args.number_rows)?;
        if pair.is_all_null() {
            return Ok(pair.nulls(&self.kind().arrow()));
        }
        let array = match self.operator.is_test() {
            true => self.tests(&pair),
            false => self.values(&pair),
        };
        result(&pair, array.map_err(carry)?)
    }
}

/// Functions of one json value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonFunction {
    name: &'static str,
    result: DataType,
    signature: Signature,
}

/// `jsonb_typeof`, `jsonb_array_length`, and the same of json.
pub fn json_functions() -> Vec<Arc<ScalarUDF>> {
    let functions = [
        ("json_typeof", DataType::Utf8View),
        ("jsonb_typeof", DataType::Utf8View),
        ("json_array_length", DataType::Int32),
        ("jsonb_array_length", DataType::Int32),
    ];
    let one_text = || Signature::exact(vec![DataType::Utf8View], Volatility::Immutable);
    functions.into_iter().map(|(name, result)| udf(JsonFunction { name, result, signature: one_text() })).collect()
}

impl JsonFunction {
    fn compute(&self, array: &ArrayRef) -> SqlResult<ArrayRef> {
        let texts = array.as_string_view();
        if self.result == DataType::Int32 {
            let length = |text: Option<&str>| match text.map(parse).transpose()? {
                None => Ok(None),
                Some(Value::Array(items)) => Ok(Some(items.len() as i32)),
                Some(_) => {
                    let message = "cannot get array length of a non-array";
                    Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message))
                }
            };
            return Ok(Arc::new(texts.iter().map(length).collect::<SqlResult<Int32Array>>()?));
        }
        let mut out = StringViewBuilder::with_capacity(texts.len());
        for text in texts.iter() {
            out.append_option(text.map(parse).transpose()?.map(|value| match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            }));
        }
        Ok(Arc::new(out.finish()))
    }
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.first() else {
            return Err(carry(SqlError::internal("a function of json was given no value")));
        };
        map_array(value, |array| self.compute(array).map_err(carry))
    }
}
