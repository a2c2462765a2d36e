//! Finds the members of a JSON object without building it: names and ranges of text, checked against RFC 8259.

/// What kind of value a range of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    /// `has_escapes` tells whether the text between the quotes is the value itself.
    String {
        has_escapes: bool,
    },
    Array,
    Object,
}

/// A value's kind and range; a string's range includes its quotes.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Deeper nesting is refused, so that no line can exhaust the stack.
const DEPTH_MAX: usize = 500;

/// Why text is no JSON, and where (in bytes).
#[derive(Debug)]
pub struct ScanError {
    pub at: usize,
    pub reason: &'static str,
}

type Scanned<T> = Result<T, ScanError>;

/// Walks over text from `at`.
pub struct Scanner<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    /// Calls `member` with the name and value of every member of the object that the text is.
    pub fn object(&mut self, mut member: impl FnMut(Token, Token)) -> Scanned<()> {
        self.spaces();
        if self.peek() != Some(b'{') {
            return self.fail("a JSON object is expected");
        }
        self.members(0, &mut member)?;
        self.end()
    }

    /// Calls `item` with every item of the array that the text is.
    pub fn array(&mut self, mut item: impl FnMut(Token)) -> Scanned<()> {
        self.spaces();
        if self.peek() != Some(b'[') {
            return self.fail("a JSON array is expected");
        }
        self.items(0, &mut item)?;
        self.end()
    }

    fn end(&mut self) -> Scanned<()> {
        self.spaces();
        if self.at == self.text.len() { Ok(()) } else { self.fail("text follows the value") }
    }

    fn fail<T>(&self, reason: &'static str) -> Scanned<T> {
        Err(ScanError { at: self.at, reason })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Scanned<Token> {
        if depth > DEPTH_MAX {
            return self.fail("it is nested too deeply");
        }
        self.spaces();
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => {
                self.members(depth, &mut |_, _| {})?;
                Kind::Object
            }
            Some(b'[') => {
                self.items(depth, &mut |_| {})?;
                Kind::Array
            }
            Some(b'"') => Kind::String { has_escapes: self.string()? },
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Kind::Bool)?,
            Some(b'f') => self.word("false", Kind::Bool)?,
            Some(b'n') => self.word("null", Kind::Null)?,
            Some(_) => return self.fail("a value is expected"),
            None => return self.fail("it ends too early"),
        };
        Ok(Token { kind, start, end: self.at })
    }

    fn members(&mut self, depth: usize, member: &mut dyn FnMut(Token, Token)) -> Scanned<()> {
        self.at += 1;
        self.spaces();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.spaces();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return self.fail("the name of a member is expected");
            }
            let has_escapes = self.string()?;
            let name = Token { kind: Kind::String { has_escapes }, start, end: self.at };
            self.spaces();
            if self.peek() != Some(b':') {
                return self.fail("a colon is expected");
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            member(name, value);
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                None => return self.fail("it ends too early"),
                Some(_) => return self.fail("a comma or a closing brace is expected"),
            }
        }
    }

    fn items(&mut self, depth: usize, item: &mut dyn FnMut(Token)) -> Scanned<()> {
        self.at += 1;
        self.spaces();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self.value(depth + 1)?);
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                None => return self.fail("it ends too early"),
                Some(_) => return self.fail("a comma or a closing bracket is expected"),
            }
        }
    }

    fn word(&mut self, word: &'static str, kind: Kind) -> Scanned<Kind> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("a value is expected");
        }
        self.at += word.len();
        Ok(kind)
    }

    fn digits(&mut self) -> usize {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - from
    }

    fn number(&mut self) -> Scanned<Kind> {
        self.at += usize::from(self.peek() == Some(b'-'));
        let begins_with_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (begins_with_zero && whole > 1) {
            return self.fail("a number is malformed");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.fail("a number is malformed");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return self.fail("a number is malformed");
            }
        }
        Ok(Kind::Number)
    }

    /// Goes over a string and tells whether it has escapes.
    fn string(&mut self) -> Scanned<bool> {
        self.at += 1;
        let mut has_escapes = false;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(0..=0x1f) => return self.fail("a control character in a string must be escaped"),
                Some(_) => self.at += 1,
                None => return self.fail("it ends too early"),
            }
        }
    }

    fn escape(&mut self) -> Scanned<()> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.fail("\\u must be followed by four hexadecimal digits");
                }
                self.at += 5;
            }
            _ => return self.fail("an escape in a string is unknown"),
        }
        Ok(())
    }
}

/// Appends the value of a string that was scanned, without its quotes.
pub fn unescape(raw: &str, out: &mut String) -> Result<(), &'static str> {
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escaped = rest.as_bytes()[at + 1];
        rest = &rest[at + 2..];
        match escaped {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => rest = unicode(rest, out)?,
            other => out.push(other as char),
        }
    }
    out.push_str(rest);
    Ok(())
}

/// Reads the four digits of `\u`, with the second half of a surrogate pair, and returns what follows.
fn unicode<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, &'static str> {
    let unit = |text: &str| u32::from_str_radix(text, 16).expect("four hexadecimal digits were scanned");
    let first = unit(&rest[..4]);
    let mut rest = &rest[4..];
    let code = if (0xd800..0xdc00).contains(&first) {
        let low = rest.strip_prefix("\\u").map(|digits| unit(&digits[..4]));
        let low = low.filter(|low| (0xdc00..0xe000).contains(low)).ok_or("half of a surrogate pair is missing")?;
        rest = &rest[6..];
        0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00)
    } else {
        first
    };
    match char::from_u32(code) {
        Some('\0') => Err("\\u0000 cannot be part of a text"),
        Some(character) => {
            out.push(character);
            Ok(rest)
        }
        None => Err("half of a surrogate pair is missing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        let mut found = Vec::new();
        let mut scanner = Scanner::new(text);
        match scanner.object(|name, value| {
            found.push(format!("{}={}", &text[name.start..name.end], &text[value.start..value.end]))
        }) {
            Ok(()) => found.join(" "),
            Err(error) => format!("{} at {}", error.reason, error.at),
        }
    }

    #[test]
    fn members_are_found_with_their_ranges() {
        assert_eq!(check(r#" {"a":1, "b" : [1,{"c":"}"}] ,"c":"x\"y"} "#), r#""a"=1 "b"=[1,{"c":"}"}] "c"="x\"y""#);
        assert_eq!(check("{}"), "");
    }

    #[test]
    fn what_is_no_json_is_refused_with_the_place() {
        assert_eq!(check(r#"{"a":1"#), "it ends too early at 6");
        assert_eq!(check(r#"{"a":01}"#), "a number is malformed at 7");
        assert_eq!(check(r#"{"a":1,}"#), "the name of a member is expected at 7");
        assert_eq!(check(r#"{"a":[1,]}"#), "a value is expected at 8");
        assert_eq!(check(r#"{"a":"\x"}"#), "an escape in a string is unknown at 7");
        assert_eq!(check("{\"a\":\"\t\"}"), "a control character in a string must be escaped at 6");
        assert_eq!(check("[1]"), "a JSON object is expected at 0");
        assert_eq!(check("{} x"), "text follows the value at 3");
        assert_eq!(check(&format!("{{\"a\":{}", "[".repeat(10_000))), "it is nested too deeply at 505");
    }

    #[test]
    fn escapes_are_undone() {
        let plain = |raw: &str| {
            let mut out = String::new();
            unescape(raw, &mut out).map(|()| out)
        };
        assert_eq!(plain(r#"a\n\"\\\/é😀"#), Ok("a\n\"\\/é😀".to_string()));
        assert!(plain(r"\ud83d").is_err());
        assert!(plain(r"\udc00").is_err());
        assert!(plain(r"\u0000").is_err());
    }
}
