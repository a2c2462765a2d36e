//! The text of a jsonpath → its tree.

use serde_json::Value as Json;

use crate::error::{SqlError, SqlResult, SqlState};

#[derive(Debug, Clone)]
pub(super) struct Path {
    /// Missing members are errors, and arrays are not taken apart by themselves.
    pub strict: bool,
    pub node: Node,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Root,
    Current,
    Last,
    Variable(String),
    Literal(Json),
    Key(Box<Node>, String),
    AnyKey(Box<Node>),
    /// `.**` with the least and the greatest depth.
    Deep(Box<Node>, usize, usize),
    Index(Box<Node>, Vec<(Node, Option<Node>)>),
    AnyIndex(Box<Node>),
    Filter(Box<Node>, Box<Node>),
    Method(Box<Node>, String),
    Sign(bool, Box<Node>),
    Arithmetic(char, Box<Node>, Box<Node>),
    Compare(String, Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Exists(Box<Node>),
    IsUnknown(Box<Node>),
    StartsWith(Box<Node>, Box<Node>),
    LikeRegex(Box<Node>, String, String),
}

impl Node {
    pub fn is_predicate(&self) -> bool {
        use Node::{And, Compare, Exists, IsUnknown, LikeRegex, Not, Or, StartsWith};
        matches!(
            self,
            Compare(..) | And(..) | Or(..) | Not(_) | Exists(_) | IsUnknown(_) | StartsWith(..) | LikeRegex(..)
        )
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(String),
    /// `$` or `$name`
    Dollar(String),
    Symbol(&'static str),
}

const SYMBOLS: [&str; 28] = [
    "**", "==", "!=", "<>", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "*", "/", "%", "+", "-",
    "<", ">", "!", "?", "@", "=", ":",
];

/// Parentheses within parentheses.
const DEPTH_MAX: usize = 200;

pub(super) fn parse(text: &str) -> SqlResult<Path> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let strict = parser.word("strict");
    if !strict {
        parser.word("lax");
    }
    let node = parser.or()?;
    match parser.peek() {
        None => Ok(Path { strict, node }),
        Some(_) => Err(parser.refuse()),
    }
}

fn syntax(at: &str) -> SqlError {
    let message = match at.is_empty() {
        true => "syntax error at end of jsonpath input".to_string(),
        false => format!("syntax error at or near \"{at}\" of jsonpath input"),
    };
    SqlError::new(SqlState::SYNTAX_ERROR, message)
}

fn tokens(text: &str) -> SqlResult<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first == '"' {
            quoted(rest)?
        } else if first.is_ascii_digit() {
            let length = number_length(rest);
            (Token::Number(rest[..length].to_string()), length)
        } else if first == '$' {
            match rest[1..].starts_with('"') {
                true => {
                    let (name, length) = quoted(&rest[1..])?;
                    let Token::Text(name) = name else { return Err(syntax(rest)) };
                    (Token::Dollar(name), length + 1)
                }
                false => {
                    let length = 1 + word_length(&rest[1..]);
                    (Token::Dollar(rest[1..length].to_string()), length)
                }
            }
        } else if first.is_alphabetic() || first == '_' {
            let length = word_length(rest);
            (Token::Word(rest[..length].to_string()), length)
        } else {
            let symbol =
                SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)).ok_or_else(|| syntax(&first.to_string()))?;
            (Token::Symbol(symbol), symbol.len())
        };
        found.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn word_length(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len())
}

fn number_length(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(text);
    if text[length..].starts_with('.') && digits(&text[length + 1..]) > 0 {
        length += 1 + digits(&text[length + 1..]);
    }
    if text[length..].starts_with(['e', 'E']) {
        let sign = usize::from(text[length + 1..].starts_with(['+', '-']));
        let exponent = digits(&text[length + 1 + sign..]);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

fn quoted(text: &str) -> SqlResult<(Token, usize)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '"' if !escaped => {
                let decoded = serde_json::from_str(&text[..=at]).map_err(|_| syntax(text))?;
                return Ok((Token::Text(decoded), at + 1));
            }
            letter => escaped = letter == '\\' && !escaped,
        }
    }
    Err(syntax(""))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(other)) if *other == symbol);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(other)) if other == word);
        self.at += usize::from(found);
        found
    }

    fn refuse(&self) -> SqlError {
        syntax(&match self.peek() {
            None => String::new(),
            Some(Token::Word(text) | Token::Number(text) | Token::Text(text)) => text.clone(),
            Some(Token::Dollar(name)) => format!("${name}"),
            Some(Token::Symbol(symbol)) => (*symbol).to_string(),
        })
    }

    fn expect(&mut self, symbol: &str) -> SqlResult<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.refuse()) }
    }

    fn text(&mut self) -> SqlResult<String> {
        match self.peek().cloned() {
            Some(Token::Text(text)) => {
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.refuse()),
        }
    }

    fn or(&mut self) -> SqlResult<Node> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SqlError::new(SqlState(*b"54001"), "jsonpath is nested too deeply"));
        }
        let mut left = self.and()?;
        while self.symbol("||") {
            left = Node::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> SqlResult<Node> {
        let mut left = self.test()?;
        while self.symbol("&&") {
            left = Node::And(Box::new(left), Box::new(self.test()?));
        }
        Ok(left)
    }

    fn test(&mut self) -> SqlResult<Node> {
        if self.symbol("!") {
            self.expect("(")?;
            let inner = self.or()?;
            self.expect(")")?;
            return Ok(Node::Not(Box::new(inner)));
        }
        let left = self.sum()?;
        for operator in ["==", "!=", "<>", "<=", ">=", "<", ">"] {
            if self.symbol(operator) {
                return Ok(Node::Compare(operator.to_string(), Box::new(left), Box::new(self.sum()?)));
            }
        }
        if self.word("starts") {
            if !self.word("with") {
                return Err(self.refuse());
            }
            return Ok(Node::StartsWith(Box::new(left), Box::new(self.unary()?)));
        }
        if self.word("like_regex") {
            let pattern = self.text()?;
            let flags = if self.word("flag") { self.text()? } else { String::new() };
            return Ok(Node::LikeRegex(Box::new(left), pattern, flags));
        }
        if self.word("is") {
            return if self.word("unknown") { Ok(Node::IsUnknown(Box::new(left))) } else { Err(self.refuse()) };
        }
        Ok(left)
    }

    fn sum(&mut self) -> SqlResult<Node> {
        let mut left = self.product()?;
        loop {
            let operator = if self.symbol("+") {
                '+'
            } else if self.symbol("-") {
                '-'
            } else {
                return Ok(left);
            };
            left = Node::Arithmetic(operator, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> SqlResult<Node> {
        let mut left = self.unary()?;
        loop {
            let operator = if self.symbol("*") {
                '*'
            } else if self.symbol("/") {
                '/'
            } else if self.symbol("%") {
                '%'
            } else {
                return Ok(left);
            };
            left = Node::Arithmetic(operator, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> SqlResult<Node> {
        if self.symbol("-") {
            return Ok(Node::Sign(true, Box::new(self.unary()?)));
        }
        if self.symbol("+") {
            return Ok(Node::Sign(false, Box::new(self.unary()?)));
        }
        let mut node = self.primary()?;
        loop {
            node = match () {
                () if self.symbol(".") => self.member(node)?,
                () if self.symbol("[") => self.subscript(node)?,
                () if self.symbol("?") => {
                    self.expect("(")?;
                    let test = self.or()?;
                    self.expect(")")?;
                    Node::Filter(Box::new(node), Box::new(test))
                }
                () => return Ok(node),
            };
        }
    }

    fn primary(&mut self) -> SqlResult<Node> {
        let Some(token) = self.peek().cloned() else { return Err(self.refuse()) };
        self.at += 1;
        Ok(match token {
            Token::Dollar(name) if name.is_empty() => Node::Root,
            Token::Dollar(name) => Node::Variable(name),
            Token::Symbol("@") => Node::Current,
            Token::Symbol("(") => {
                let inner = self.or()?;
                self.expect(")")?;
                inner
            }
            Token::Text(text) => Node::Literal(Json::from(text)),
            Token::Number(number) => Node::Literal(serde_json::from_str(&number).map_err(|_| syntax(&number))?),
            Token::Word(word) => match word.as_str() {
                "last" => Node::Last,
                "true" => Node::Literal(Json::from(true)),
                "false" => Node::Literal(Json::from(false)),
                "null" => Node::Literal(Json::Null),
                "exists" => {
                    self.expect("(")?;
                    let inner = self.or()?;
                    self.expect(")")?;
                    Node::Exists(Box::new(inner))
                }
                _ => {
                    self.at -= 1;
                    return Err(self.refuse());
                }
            },
            Token::Symbol(_) => {
                self.at -= 1;
                return Err(self.refuse());
            }
        })
    }

    fn member(&mut self, node: Node) -> SqlResult<Node> {
        let node = Box::new(node);
        if self.symbol("**") {
            let (mut least, mut most) = (0, usize::MAX);
            if self.symbol("{") {
                least = self.level()?;
                most = if self.word("to") { self.level()? } else { least };
                self.expect("}")?;
            }
            return Ok(Node::Deep(node, least, most));
        }
        if self.symbol("*") {
            return Ok(Node::AnyKey(node));
        }
        let name = match self.peek().cloned() {
            Some(Token::Text(name) | Token::Word(name)) => name,
            _ => return Err(self.refuse()),
        };
        let quoted = matches!(self.peek(), Some(Token::Text(_)));
        self.at += 1;
        if !quoted && self.symbol("(") {
            self.expect(")")?;
            const METHODS: [&str; 8] = ["type", "size", "double", "ceiling", "floor", "abs", "keyvalue", "number"];
            return match METHODS.contains(&name.as_str()) {
                true => Ok(Node::Method(node, name)),
                false => Err(syntax(&name)),
            };
        }
        Ok(Node::Key(node, name))
    }

    fn level(&mut self) -> SqlResult<usize> {
        match self.peek().cloned() {
            Some(Token::Number(number)) => {
                self.at += 1;
                number.parse().map_err(|_| syntax(&number))
            }
            Some(Token::Word(word)) if word == "last" => {
                self.at += 1;
                Ok(usize::MAX)
            }
            _ => Err(self.refuse()),
        }
    }

    fn subscript(&mut self, node: Node) -> SqlResult<Node> {
        let node = Box::new(node);
        if self.symbol("*") {
            self.expect("]")?;
            return Ok(Node::AnyIndex(node));
        }
        let mut ranges = Vec::new();
        loop {
            let from = self.sum()?;
            let to = if self.word("to") { Some(self.sum()?) } else { None };
            ranges.push((from, to));
            if !self.symbol(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(Node::Index(node, ranges))
    }
}
