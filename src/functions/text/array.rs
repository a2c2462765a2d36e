//! Array literals: `{1,2}`, `{"a b",NULL}`, nested as deep as their type.

use crate::error::{SqlError, SqlResult, SqlState};

/// Splits an array literal into its items; an item that is an array itself keeps its braces.
pub fn split_array(text: &str) -> SqlResult<Vec<Option<String>>> {
    let malformed = |detail: &str| {
        SqlError::new(SqlState::INVALID_TEXT, format!("malformed array literal: \"{text}\"")).detail(detail)
    };
    let body = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    // `[1:3]={1,2,3}`: Headwater's arrays begin at 1, so the bounds say nothing more.
    let body = match body.strip_prefix('[') {
        Some(bounds) => bounds.split_once('=').ok_or_else(|| malformed("Missing \"=\" after array dimensions."))?.1,
        None => body,
    };
    let Some(inner) = body.strip_prefix('{') else {
        return Err(malformed("Array value must start with \"{\" or dimension information."));
    };
    let mut scanner = Scanner { rest: inner };
    let items = scanner.items().map_err(malformed)?;
    match scanner.rest.trim().is_empty() {
        true => Ok(items),
        false => Err(malformed("Junk after closing right brace.")),
    }
}

struct Scanner<'a> {
    rest: &'a str,
}

impl Scanner<'_> {
    /// Everything up to the closing brace, which is eaten.
    fn items(&mut self) -> Result<Vec<Option<String>>, &'static str> {
        let mut items = Vec::new();
        self.spaces();
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest;
            return Ok(items);
        }
        loop {
            self.spaces();
            items.push(self.item()?);
            self.spaces();
            let next = self.rest.chars().next().ok_or("Unexpected end of input.")?;
            self.rest = &self.rest[next.len_utf8()..];
            match next {
                ',' => {}
                '}' => return Ok(items),
                _ => return Err("Unexpected array element."),
            }
        }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    }

    fn item(&mut self) -> Result<Option<String>, &'static str> {
        match self.rest.chars().next() {
            None => Err("Unexpected end of input."),
            Some('{') => self.nested().map(Some),
            Some('"') => self.quoted().map(Some),
            Some(',' | '}') => Err("Unexpected \",\" or \"}\" character."),
            Some(_) => self.bare(),
        }
    }

    fn bare(&mut self) -> Result<Option<String>, &'static str> {
        let mut value = String::new();
        let mut escaped = false;
        // Spaces at the end do not count, escaped ones do.
        let mut kept = 0;
        let mut characters = self.rest.char_indices();
        let end = loop {
            match characters.next() {
                None => return Err("Unexpected end of input."),
                Some((at, ',' | '}')) => break at,
                Some((_, '{' | '"')) => return Err("Unexpected array element."),
                Some((_, '\\')) => {
                    escaped = true;
                    value.push(characters.next().ok_or("Unexpected end of input.")?.1);
                    kept = value.len();
                }
                Some((_, character)) => {
                    value.push(character);
                    if !character.is_ascii_whitespace() {
                        kept = value.len();
                    }
                }
            }
        };
        self.rest = &self.rest[end..];
        value.truncate(kept);
        Ok((escaped || !value.eq_ignore_ascii_case("null")).then_some(value))
    }

    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut value = String::new();
        let mut characters = self.rest[1..].char_indices();
        loop {
            match characters.next() {
                None => return Err("Unexpected end of input."),
                Some((at, '"')) => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Ok(value);
                }
                Some((_, '\\')) => value.push(characters.next().ok_or("Unexpected end of input.")?.1),
                Some((_, character)) => value.push(character),
            }
        }
    }

    /// A nested array with its braces, for the builder of its own type to split.
    fn nested(&mut self) -> Result<String, &'static str> {
        let mut depth = 0usize;
        let mut quoted = false;
        let mut characters = self.rest.char_indices();
        loop {
            let (at, character) = characters.next().ok_or("Unexpected end of input.")?;
            match character {
                '\\' => {
                    characters.next();
                }
                '"' => quoted = !quoted,
                '{' if !quoted => depth += 1,
                '}' if !quoted => {
                    depth -= 1;
                    if depth == 0 {
                        let (value, rest) = self.rest.split_at(at + 1);
                        self.rest = rest;
                        return Ok(value.to_string());
                    }
                }
                _ => {}
            }
        }
    }
}

/// Appends an item's text, quoted where it has to be.
pub fn write_item(text: &[u8], out: &mut Vec<u8>) {
    let special =
        |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    if !text.is_empty() && !text.iter().any(special) && !text.eq_ignore_ascii_case(b"null") {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<Option<String>> {
        split_array(text).expect(text)
    }

    fn some(items: &[&str]) -> Vec<Option<String>> {
        items.iter().map(|item| Some(item.to_string())).collect()
    }

    #[test]
    fn items_are_split_with_their_quotes_resolved() {
        assert_eq!(split("{}"), vec![]);
        assert_eq!(split("{1, 2 ,3}"), some(&["1", "2", "3"]));
        assert_eq!(split(r#"{"a b","c\"d",NULL,""}"#), [some(&["a b", "c\"d"]), vec![None], some(&[""])].concat());
        assert_eq!(split(r#"{"NULL",nul\l}"#), some(&["NULL", "null"]));
        assert_eq!(split("{{1,2},{3,\"}\"}}"), some(&["{1,2}", "{3,\"}\"}"]));
        assert_eq!(split("[1:2]={7,8}"), some(&["7", "8"]));
    }

    #[test]
    fn malformed_literals_are_refused() {
        for text in ["", "1,2", "{1,2", "{1,,2}", "{1,2}x", "{\"a}", "{1 {2}}", "{,}"] {
            let error = split_array(text).expect_err(text);
            assert_eq!(error.message, format!("malformed array literal: \"{text}\""));
            assert_eq!(error.code, SqlState::INVALID_TEXT);
        }
    }
}
