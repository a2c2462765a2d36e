//! Checks `json` and brings `jsonb` into the one form in which equal values have equal texts.

use crate::error::{SqlError, SqlResult, SqlState};

/// Deeper nesting is refused, so that no text can exhaust the stack.
const DEPTH_MAX: usize = 1_000;
/// A number with more digits than this is refused, as PostgreSQL's numeric does.
const DIGITS_MAX: i64 = 131_072;

enum Json<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(String),
    Array(Vec<Json<'a>>),
    Object(Vec<(String, Json<'a>)>),
}

/// Is the text JSON? What `\u` escapes stand for is of no concern, since the text is kept as it is.
pub fn check_json(text: &str) -> SqlResult<()> {
    Reader { text, at: 0, decodes: false }.document().map(|_| ())
}

/// Appends the text that PostgreSQL prints for the `jsonb` of a JSON text: keys sorted by length and bytes, the last of
/// equal keys kept, one space behind colons and commas, numbers without exponent.
pub fn canonical_jsonb(text: &str, out: &mut String) -> SqlResult<()> {
    write(Reader::new(text).document()?, out)
}

/// The members of an object with their names, or the items of an array, each in its own text.
pub fn json_members(text: &str) -> SqlResult<Vec<(String, &str)>> {
    let mut reader = Reader::new(text);
    let mut members = Vec::new();
    reader.spaces();
    let named = reader.peek() == Some(b'{');
    reader.at += 1;
    reader.spaces();
    while !matches!(reader.peek(), Some(b'}' | b']') | None) {
        let mut name = String::new();
        if named {
            name = reader.string()?;
            reader.spaces();
            reader.at += 1;
            reader.spaces();
        }
        let from = reader.at;
        reader.value(0)?;
        members.push((name, &text[from..reader.at]));
        reader.spaces();
        if reader.peek() == Some(b',') {
            reader.at += 1;
            reader.spaces();
        }
    }
    Ok(members)
}

fn write(value: Json<'_>, out: &mut String) -> SqlResult<()> {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(true) => out.push_str("true"),
        Json::Bool(false) => out.push_str("false"),
        Json::Number(text) => write_number(text, out)?,
        Json::String(text) => write_string(&text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write(item, out)?;
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (key, member)) in last_of_each_key(members).into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_string(&key, out);
                out.push_str(": ");
                write(member, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn last_of_each_key<'a>(members: Vec<(String, Json<'a>)>) -> Vec<(String, Json<'a>)> {
    let mut sorted = members;
    // The sort is stable: of equal keys the last one written stays last.
    sorted.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut kept: Vec<(String, Json<'a>)> = Vec::with_capacity(sorted.len());
    for member in sorted {
        match kept.last_mut() {
            Some(last) if last.0 == member.0 => *last = member,
            _ => kept.push(member),
        }
    }
    kept
}

/// Appends a string with quotes and the escapes that JSON asks for.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Appends a number as PostgreSQL's numeric prints it: `1e2` is `100`, `1.10` stays.
fn write_number(text: &str, out: &mut String) -> SqlResult<()> {
    let (negative, body) = text.strip_prefix('-').map_or((false, text), |body| (true, body));
    let (mantissa, exponent) = body.split_once(['e', 'E']).unwrap_or((body, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().unwrap_or(DIGITS_MAX * 2);
    let point = whole.len() as i64 + exponent;
    if point.abs() > DIGITS_MAX {
        return Err(SqlError::new(SqlState::NUMERIC_OUT_OF_RANGE, "value overflows numeric format"));
    }
    let digits = format!("{whole}{fraction}");
    if negative && digits.bytes().any(|digit| digit != b'0') {
        out.push('-');
    }
    let scale = (fraction.len() as i64 - exponent).max(0) as usize;
    let digit =
        |index: i64| usize::try_from(index).ok().and_then(|i| digits.as_bytes().get(i)).map_or('0', |b| *b as char);
    let first = (0..point).find(|index| digit(*index) != '0').unwrap_or(point - 1);
    match point > 0 {
        true => out.extend((first..point).map(digit)),
        false => out.push('0'),
    }
    if scale > 0 {
        out.push('.');
        out.extend((point..point + scale as i64).map(digit));
    }
    Ok(())
}

/// Reads one JSON document by recursive descent.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether `\u` escapes are turned into characters.
    decodes: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader { text, at: 0, decodes: true }
    }

    fn document(mut self) -> SqlResult<Json<'a>> {
        let value = self.value(0)?;
        self.spaces();
        match self.at == self.text.len() {
            true => Ok(value),
            false => Err(self.refuse("Expected end of input, but found")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> SqlResult<Json<'a>> {
        if depth > DEPTH_MAX {
            return Err(SqlError::new(
                SqlState(*b"54001"),
                format!("json is nested more than {DEPTH_MAX} levels deep"),
            ));
        }
        self.spaces();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> SqlResult<Json<'a>> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let value = match &rest[..length] {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "" => return Err(self.refuse("Expected JSON value, but found")),
            _ => return Err(self.invalid_token()),
        };
        self.at += length;
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> SqlResult<Json<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        self.spaces();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                _ => return Err(self.refuse("Expected \",\" or \"]\", but found")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> SqlResult<Json<'a>> {
        self.at += 1;
        let mut members = Vec::new();
        self.spaces();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            self.spaces();
            if self.peek() != Some(b'"') {
                return Err(self.refuse("Expected string, but found"));
            }
            let key = self.string()?;
            self.spaces();
            if self.peek() != Some(b':') {
                return Err(self.refuse("Expected \":\", but found"));
            }
            self.at += 1;
            members.push((key, self.value(depth + 1)?));
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(members));
                }
                _ => return Err(self.refuse("Expected \",\" or \"}\", but found")),
            }
        }
    }

    fn number(&mut self) -> SqlResult<Json<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start + usize::from(bytes[start] == b'-');
        let digits = |at: usize| bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let whole = digits(at);
        let mut valid = whole > 0 && (whole == 1 || bytes[at] != b'0');
        at += whole;
        if bytes.get(at) == Some(&b'.') {
            let fraction = digits(at + 1);
            valid &= fraction > 0;
            at += 1 + fraction;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at.min(bytes.len()));
            valid &= exponent > 0;
            at += exponent;
        }
        valid &= !bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if !valid {
            return Err(self.invalid_token());
        }
        self.at = at;
        Ok(Json::Number(&self.text[start..at]))
    }

    fn string(&mut self) -> SqlResult<String> {
        self.at += 1;
        let mut value = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ').unwrap_or(rest.len());
            value.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(value);
                }
                Some(b'\\') => value.push(self.escape()?),
                Some(control) => {
                    return Err(syntax(format!("Character with value 0x{control:02x} must be escaped.")));
                }
                None => return Err(ended()),
            }
        }
    }

    fn escape(&mut self) -> SqlResult<char> {
        let escaped = self.text.as_bytes().get(self.at + 1).copied().ok_or_else(ended)?;
        let character = match escaped {
            b'"' | b'\\' | b'/' => escaped as char,
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => return self.unicode(),
            _ => {
                let shown = self.text[self.at + 1..].chars().next().unwrap_or('\\');
                return Err(syntax(format!("Escape sequence \"\\{shown}\" is invalid.")));
            }
        };
        self.at += 2;
        Ok(character)
    }

    /// `\u00e9`, or a pair of surrogates.
    fn unicode(&mut self) -> SqlResult<char> {
        let first = self.hex_unit()?;
        if !self.decodes {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let code = match first {
            0xd800..=0xdbff => {
                let low_follows = self.text[self.at..].starts_with("\\u");
                let second = if low_follows { self.hex_unit()? } else { 0 };
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(syntax("Unicode low surrogate must follow a high surrogate.".to_string()));
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            0 => {
                return Err(SqlError::new(SqlState(*b"22P05"), "unsupported Unicode escape sequence")
                    .detail("\\u0000 cannot be converted to text."));
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| syntax("Unicode low surrogate must follow a high surrogate.".to_string()))
    }

    fn hex_unit(&mut self) -> SqlResult<u32> {
        let digits = self.text.get(self.at + 2..self.at + 6);
        let unit = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| syntax("\"\\u\" must be followed by four hexadecimal digits.".to_string()))?;
        self.at += 6;
        Ok(unit)
    }

    fn refuse(&self, expected: &str) -> SqlError {
        match self.token() {
            None => ended(),
            Some(token) => syntax(format!("{expected} \"{token}\".")),
        }
    }

    fn invalid_token(&self) -> SqlError {
        syntax(format!("Token \"{}\" is invalid.", self.token().unwrap_or_default()))
    }

    fn token(&self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
        let end = if word(first) { rest.find(|c: char| !word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        Some(&rest[..end])
    }
}

fn syntax(detail: String) -> SqlError {
    SqlError::new(SqlState::INVALID_TEXT, "invalid input syntax for type json").detail(detail)
}

fn ended() -> SqlError {
    syntax("The input string ended unexpectedly.".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jsonb(text: &str) -> String {
        let mut out = String::new();
        match canonical_jsonb(text, &mut out) {
            Ok(()) => out,
            Err(error) => format!("{:?} {error}: {}", error.code, error.detail.clone().unwrap_or_default()),
        }
    }

    #[test]
    fn jsonb_has_one_text_for_equal_values() {
        let cases = [
            (r#"{"b":2,"a":1}"#, r#"{"a": 1, "b": 2}"#),
            (r#"{"aa":1,"b":2,"b":3}"#, r#"{"b": 3, "aa": 1}"#),
            (" [ 1 , 2 ] ", "[1, 2]"),
            ("1e2", "100"),
            ("1.10", "1.10"),
            ("1.5e-3", "0.0015"),
            ("-0", "0"),
            ("1.25e1", "12.5"),
            ("0.5", "0.5"),
            ("0e3", "0"),
            (r#""a\u00e9\n\ud83d\ude00\/""#, "\"aé\\n😀/\""),
            ("null", "null"),
            ("{}", "{}"),
            ("[]", "[]"),
        ];
        for (text, expected) in cases {
            assert_eq!(jsonb(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_with_the_reason() {
        let bad = |text: &str, detail: &str| {
            assert_eq!(jsonb(text), format!("22P02 invalid input syntax for type json: {detail}"), "{text}");
        };
        bad("", "The input string ended unexpectedly.");
        bad("{\"a\":", "The input string ended unexpectedly.");
        bad("hello", "Token \"hello\" is invalid.");
        bad("01", "Token \"01\" is invalid.");
        bad("1 2", "Expected end of input, but found \"2\".");
        bad("[1,]", "Expected JSON value, but found \"]\".");
        bad("{a:1}", "Expected string, but found \"a\".");
        bad("\"\\x\"", "Escape sequence \"\\x\" is invalid.");
        bad("\"\\ud800\"", "Unicode low surrogate must follow a high surrogate.");
        bad("-", "Token \"-\" is invalid.");
        assert!(check_json("\"\\u0000\\ud800\"").is_ok());
        assert!(jsonb(&"[".repeat(100_000)).starts_with("54001"));
        assert!(jsonb("1e999999999").starts_with("22003"));
    }
}
