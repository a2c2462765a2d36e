//! Expressions as a user would write them, for EXPLAIN: SQL's operators, casts and calls, no names of the engine's own.

mod logical;
mod physical;

use std::sync::LazyLock;

use datafusion::logical_expr::{Operator, ScalarUDF};
use datafusion::scalar::ScalarValue;
use regex::Regex;

use super::errors::friendly_types;
use super::scalar::Written;
use super::text::{TextStyle, array_text};
use crate::zset::PgType;

pub use logical::{expression_text, sort_text};
pub use physical::physical_text;

/// What a column is called: its table's name if it is known, and its own.
pub type ColumnName<'a> = &'a dyn Fn(Option<&str>, &str) -> Text;

/// A piece of SQL, and how strongly its outermost operator binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    strength: u8,
}

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARISON: u8 = 5;
const BETWEEN: u8 = 6;
const OTHER: u8 = 7;
const SUM: u8 = 8;
const PRODUCT: u8 = 9;
const POWER: u8 = 10;
const ZONE: u8 = 11;
const SIGN: u8 = 12;
const CAST: u8 = 13;
const ATOM: u8 = 14;

impl Text {
    pub fn atom(text: impl Into<String>) -> Text {
        Text { text: text.into(), strength: ATOM }
    }

    fn at(strength: u8, text: String) -> Text {
        Text { text, strength }
    }

    /// In parentheses if it binds less strongly than what is around it.
    fn within(&self, strength: u8) -> String {
        if self.strength < strength { format!("({})", self.text) } else { self.text.clone() }
    }

    fn infix(symbol: &str, left: &Text, right: &Text) -> Text {
        let strength = strength_of(symbol);
        // AND and OR mean the same however they are put together.
        let right_strength = if strength <= AND { strength } else { strength + 1 };
        let left_strength = if matches!(strength, IS | COMPARISON) { strength + 1 } else { strength };
        let (left, right) = (left.within(left_strength), right.within(right_strength));
        Text::at(strength, format!("{left} {symbol} {right}"))
    }

    fn call(name: &str, arguments: &[Text]) -> Text {
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.text.as_str()).collect();
        Text::atom(format!("{name}({})", arguments.join(", ")))
    }

    fn cast(&self, kind: &PgType) -> Text {
        match already(&self.text, kind) {
            true => self.clone(),
            false => Text::at(CAST, format!("{}::{kind}", self.within(CAST))),
        }
    }

    fn suffixed(&self, suffix: &str) -> Text {
        Text::at(IS, format!("{} {suffix}", self.within(IS + 1)))
    }

    fn negated(&self) -> Text {
        Text::at(NOT, format!("NOT {}", self.within(NOT)))
    }

    fn minus(&self) -> Text {
        Text::at(SIGN, format!("-{}", self.within(ATOM)))
    }

    fn one_of(&self, list: &[Text], negated: bool) -> Text {
        let list: Vec<&str> = list.iter().map(|item| item.text.as_str()).collect();
        let not = if negated { "NOT " } else { "" };
        Text::at(BETWEEN, format!("{} {not}IN ({})", self.within(BETWEEN + 1), list.join(", ")))
    }

    fn case(base: Option<Text>, branches: &[(Text, Text)], other: Option<Text>) -> Text {
        let mut text = "CASE".to_string();
        base.iter().for_each(|base| text.push_str(&format!(" {}", base.text)));
        branches.iter().for_each(|(when, then)| text.push_str(&format!(" WHEN {} THEN {}", when.text, then.text)));
        other.iter().for_each(|other| text.push_str(&format!(" ELSE {}", other.text)));
        Text::atom(text + " END")
    }
}

fn strength_of(symbol: &str) -> u8 {
    match symbol {
        "OR" => OR,
        "AND" => AND,
        "IS DISTINCT FROM" | "IS NOT DISTINCT FROM" => IS,
        "=" | "<>" | "<" | "<=" | ">" | ">=" => COMPARISON,
        "LIKE" | "NOT LIKE" | "ILIKE" | "NOT ILIKE" | "SIMILAR TO" | "NOT SIMILAR TO" => BETWEEN,
        "+" | "-" => SUM,
        "*" | "/" | "%" => PRODUCT,
        "^" => POWER,
        "AT TIME ZONE" => ZONE,
        _ => OTHER,
    }
}

fn symbol_of(operator: Operator) -> String {
    match operator {
        Operator::NotEq => "<>".to_string(),
        Operator::LikeMatch => "LIKE".to_string(),
        Operator::ILikeMatch => "ILIKE".to_string(),
        Operator::NotLikeMatch => "NOT LIKE".to_string(),
        Operator::NotILikeMatch => "NOT ILIKE".to_string(),
        Operator::BitwiseXor => "#".to_string(),
        other => other.to_string(),
    }
}

/// Casts that the reader need not see: rows are counted in another type inside, and literals have their type already.
fn already(text: &str, kind: &PgType) -> bool {
    const COUNTS: [&str; 5] = ["row_number(", "rank(", "dense_rank(", "ntile(", "count("];
    let counts = *kind == PgType::Int8 && COUNTS.iter().any(|name| text.starts_with(name));
    counts || text.ends_with(&format!("::{kind}")) || (*kind == PgType::Text && text.ends_with('\''))
}

/// A constant: numbers and booleans as they are, text in quotes, the rest with its type.
fn literal(value: &ScalarValue) -> Text {
    let kind = PgType::of_arrow(&value.data_type());
    if value.is_null() {
        return Text::atom("NULL");
    }
    let shown = value.to_array().ok().and_then(|array| array_text(&array, &kind, &TextStyle::default()).ok());
    let Some(shown) = shown.filter(|shown| arrow::array::Array::is_valid(shown, 0)) else {
        return Text::atom(plain_words(&value.to_string()));
    };
    let text = shown.value(0);
    match kind {
        PgType::Bool => Text::atom(if text == "t" { "true" } else { "false" }),
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid | PgType::Numeric(_) => match text.starts_with('-') {
            true => Text::at(SIGN, text.to_string()),
            false => Text::atom(text),
        },
        PgType::Text => Text::atom(quoted(text)),
        other => Text::at(CAST, format!("{}::{other}", quoted(text))),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A call of a function, ours or DataFusion's, over the texts of its arguments.
fn function(function: &ScalarUDF, arguments: &[Text]) -> Text {
    match (super::scalar::written(function), arguments) {
        (Some(Written::Infix(symbol)), [left, right]) => match (symbol, left.text.as_str()) {
            ("-", "0") => right.minus(),
            _ => Text::infix(symbol, left, right),
        },
        (Some(Written::Cast(kind)), [value]) => value.cast(&kind),
        (Some(Written::Unseen), [value]) => value.clone(),
        (Some(Written::Extract(field)), [value]) => Text::atom(format!("extract({field} FROM {})", value.text)),
        (Some(Written::AtTimeZone), [zone, time]) => Text::infix("AT TIME ZONE", time, zone),
        (Some(Written::Places(name, places)), [value]) => Text::atom(format!("{name}({}, {places})", value.text)),
        _ => plain_function(function.name(), arguments),
    }
}

fn plain_function(name: &str, arguments: &[Text]) -> Text {
    match (name, arguments) {
        ("make_array", items) => {
            let items: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
            Text::atom(format!("ARRAY[{}]", items.join(", ")))
        }
        ("array_element", [array, index]) => Text::at(CAST, format!("{}[{}]", array.within(CAST), index.text)),
        ("power", [base, exponent]) => Text::infix("^", base, exponent),
        ("character_length", arguments) => Text::call("length", arguments),
        (name, []) if name.starts_with("current_") => Text::atom(name),
        (name, arguments) => Text::call(public_name(name), arguments),
    }
}

/// A name of the engine's own, as the user knows the function.
fn public_name(name: &str) -> &str {
    match name {
        "hw_series" => "generate_series",
        "hw_subscripts" => "generate_subscripts",
        name => name.strip_prefix("hw_").unwrap_or(name),
    }
}

/// Names that the engine made of expressions, without what only it understands. The last resort.
pub fn plain_words(text: &str) -> String {
    static METADATA: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#" FieldMetadata \{ inner: \{[^}]*\} \}"#).expect("a fixed pattern"));
    static LITERAL: LazyLock<Regex> = LazyLock::new(|| {
        let names =
            "U?Int(?:8|16|32|64)|Float(?:16|32|64)|Boolean|Utf8View|LargeUtf8|Utf8|Decimal128|Decimal256|Date32";
        Regex::new(&format!(r#"\b(?:{names})\(("[^"]*"|[^(),]*)[^()]*\)"#)).expect("a fixed pattern")
    });
    static HIDDEN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:headwater\.\w+\.|__\w+?_\d+\.)").expect("a fixed pattern"));
    static PLACEHOLDER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"__unnest_placeholder\((.*?),depth=\d+\)").expect("a fixed pattern"));
    let text = PLACEHOLDER.replace_all(text, "unnest($1)");
    let text = METADATA.replace_all(&text, "");
    let text = LITERAL.replace_all(&text, "$1");
    let text = HIDDEN.replace_all(&text, "");
    let text = text.replace("__always_true", "matched").replace("__grouping_id", "grouping");
    friendly_types(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parentheses_stand_only_where_they_are_needed() {
        let (a, b, c) = (Text::atom("a"), Text::atom("b"), Text::atom("c"));
        let difference = Text::infix("-", &a, &b);
        assert_eq!(Text::infix("-", &difference, &c).text, "a - b - c");
        assert_eq!(Text::infix("-", &c, &difference).text, "c - (a - b)");
        assert_eq!(Text::infix("*", &difference, &c).text, "(a - b) * c");
        assert_eq!(difference.cast(&PgType::Text).text, "(a - b)::text");
        let test = Text::infix("=", &a, &b);
        assert_eq!(Text::infix("AND", &test, &Text::infix("OR", &a, &c)).text, "a = b AND (a OR c)");
        assert_eq!(test.negated().text, "NOT a = b");
    }

    #[test]
    fn constants_are_written_with_their_type() {
        assert_eq!(literal(&ScalarValue::Utf8View(Some("it's".to_string()))).text, "'it''s'");
        assert_eq!(literal(&ScalarValue::Date32(Some(0))).text, "'1970-01-01'::date");
        assert_eq!(literal(&ScalarValue::Decimal128(Some(150), 3, 2)).text, "1.50");
        assert_eq!(literal(&ScalarValue::Int32(None)).text, "NULL");
    }

    #[test]
    fn names_of_the_engine_are_made_plain() {
        for (name, shown) in [
            ("sum(headwater.public.t.b)", "sum(t.b)"),
            ("count(Int64(1))", "count(1)"),
            ("string_agg(t.s,Utf8(\",\"))", "string_agg(t.s,\",\")"),
            ("__unnest_placeholder(t.ar,depth=1)", "unnest(t.ar)"),
            ("__scalar_sq_3.c", "c"),
        ] {
            assert_eq!(plain_words(name), shown);
        }
    }
}
