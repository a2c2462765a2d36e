//! What PostgreSQL's scanner does beyond sqlparser's: constants that go on in the next line, U& with its escapes, and
//! the constants that there are no types for.

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use super::parse::near;
use super::place::Places;
use crate::error::{SqlError, SqlResult, SqlState};

/// The tokens as PostgreSQL means them.
pub(super) fn postgres_tokens(tokens: Vec<TokenWithSpan>, places: &Places) -> SqlResult<Vec<TokenWithSpan>> {
    with_other_escapes(joined_constants(tokens, places)?, places)
}

/// `'a'`, a line feed and `'b'` are one constant; on one line they are a mistake.
fn joined_constants(tokens: Vec<TokenWithSpan>, places: &Places) -> SqlResult<Vec<TokenWithSpan>> {
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for token in tokens {
        refuse_bits(&token, places)?;
        let Token::SingleQuotedString(more) = &token.token else {
            kept.push(token);
            continue;
        };
        let last = kept.iter().rposition(|before| !matches!(before.token, Token::Whitespace(_)));
        let Some(last) = last else {
            kept.push(token);
            continue;
        };
        let is_break = |token: &TokenWithSpan| {
            matches!(token.token, Token::Whitespace(Whitespace::Newline | Whitespace::SingleLineComment { .. }))
        };
        let goes_on = kept[last + 1..].iter().any(is_break);
        match &mut kept[last].token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) if goes_on => {
                text.push_str(more);
                kept.truncate(last + 1);
            }
            Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::Number(..) => {
                return Err(near(&token, places).hint("A comma or an operator is missing before it."));
            }
            _ => kept.push(token),
        }
    }
    Ok(kept)
}

/// Constants of bits, for which there is no type.
fn refuse_bits(token: &TokenWithSpan, places: &Places) -> SqlResult<()> {
    let hint = match &token.token {
        Token::SingleQuotedByteStringLiteral(_) => "Use an integer, with the operators &, |, # and ~.",
        Token::HexStringLiteral(_) => "Write '\\x1f'::bytea for bytes, or an integer.",
        _ => return Ok(()),
    };
    let error = SqlError::unsupported("bit strings are not supported", hint);
    Err(SqlError { position: places.position(token.span), ..error })
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// `U&'d!0061t' UESCAPE '!'` and `U&"d!0061t" UESCAPE '!'` → the text and the name.
fn with_other_escapes(tokens: Vec<TokenWithSpan>, places: &Places) -> SqlResult<Vec<TokenWithSpan>> {
    if !tokens.iter().any(|token| is_word(&token.token, "uescape") || is_word(&token.token, "u")) {
        return Ok(tokens);
    }
    let mut kept: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(mut token) = rest.next() {
        if is_escaped_name(&kept, &token) {
            kept.truncate(kept.len() - 2);
            let escape = uescape(&mut rest).unwrap_or('\\');
            if let Token::Word(word) = &mut token.token {
                word.value = unescaped(&word.value, escape)
                    .map_err(|error| SqlError { position: places.position(token.span), ..error })?;
            }
        } else if let Token::UnicodeStringLiteral(literal) = &mut token.token
            && let Some(escape) = uescape(&mut rest)
        {
            *literal = unescaped(literal, escape)
                .map_err(|error| SqlError { position: places.position(token.span), ..error })?;
        }
        kept.push(token);
    }
    Ok(kept)
}

/// Whether `U`, `&` and a quoted name follow each other without a gap.
fn is_escaped_name(before: &[TokenWithSpan], token: &TokenWithSpan) -> bool {
    let [.., prefix, and] = before else { return false };
    let is_name = matches!(&token.token, Token::Word(word) if word.quote_style == Some('"'));
    let adjoin = prefix.span.end == and.span.start && and.span.end == token.span.start;
    is_name && adjoin && and.token == Token::Ampersand && is_word(&prefix.token, "u")
}

/// Takes `UESCAPE 'x'`, if it follows.
fn uescape(rest: &mut std::iter::Peekable<std::vec::IntoIter<TokenWithSpan>>) -> Option<char> {
    let mut ahead = rest.clone().enumerate().filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    ahead.next().filter(|(_, token)| is_word(&token.token, "uescape"))?;
    let (last, escape) = ahead.next()?;
    let Token::SingleQuotedString(text) = &escape.token else { return None };
    let letter = text.chars().next()?;
    (0..=last).for_each(|_| drop(rest.next()));
    Some(letter)
}

fn unescaped(text: &str, escape: char) -> SqlResult<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(escape) {
        out.push_str(&rest[..at]);
        let code = &rest[at + escape.len_utf8()..];
        if let Some(behind) = code.strip_prefix(escape) {
            out.push(escape);
            rest = behind;
            continue;
        }
        let (skip, length) = if code.starts_with('+') { (1, 6) } else { (0, 4) };
        let digits = code.get(skip..skip + length).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(letter) = digits.and_then(char::from_u32) else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "invalid Unicode escape")
                .hint("Unicode escapes must be \\XXXX or \\+XXXXXX."));
        };
        out.push(letter);
        rest = &code[skip + length..];
    }
    Ok(out + rest)
}
