//! PostgreSQL's dialect as sqlparser has it, but for what it gets wrong (how far `IS DISTINCT FROM` reaches), and with
//! the arguments of table functions of windows.

use std::any::TypeId;

use sqlparser::ast::{BinaryOperator, Expr, Ident};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::windows::{PARTITION_BY, TABLE};

/// The dialect of every statement.
#[derive(Debug)]
pub(super) struct Headwater;

const INNER: PostgreSqlDialect = PostgreSqlDialect {};

/// `x BETWEEN SYMMETRIC a AND b`: between them in either order.
fn between_symmetric(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    let is_symmetric = |token: TokenWithSpan| matches!(token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("symmetric"));
    let negated = parser.peek_keyword(Keyword::NOT);
    let before = if negated { 2 } else { 1 };
    let between = match parser.peek_nth_token(before - 1).token {
        Token::Word(word) => word.keyword == Keyword::BETWEEN,
        _ => false,
    };
    if !between || !is_symmetric(parser.peek_nth_token(before)) {
        return None;
    }
    (0..=before).for_each(|_| {
        parser.next_token();
    });
    let precedence = INNER.prec_value(Precedence::Between);
    let ends = parser.parse_subexpr(precedence).and_then(|low| {
        parser.expect_keyword(Keyword::AND)?;
        Ok((low, parser.parse_subexpr(precedence)?))
    });
    Some(ends.map(|(a, b)| {
        let between = |low: &Expr, high: &Expr| Expr::Between {
            expr: Box::new(expr.clone()),
            negated,
            low: Box::new(low.clone()),
            high: Box::new(high.clone()),
        };
        let op = if negated { BinaryOperator::And } else { BinaryOperator::Or };
        let both = Expr::BinaryOp { left: Box::new(between(&a, &b)), op, right: Box::new(between(&b, &a)) };
        Expr::Nested(Box::new(both))
    }))
}

/// Hands all that sqlparser's PostgreSQL decides on to it.
macro_rules! as_postgresql {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> $result { INNER.$name($($argument),*) })*
    };
}

impl Dialect for Headwater {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    /// sqlparser lets `a IS DISTINCT FROM b AND c` reach to the end of `b AND c`; it ends where `IS` does.
    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(between) = between_symmetric(parser, expr) {
            return Some(between);
        }
        let negated = if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
            false
        } else if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
            true
        } else {
            return None;
        };
        let left = Box::new(expr.clone());
        Some(parser.parse_subexpr(precedence).map(|right| match negated {
            false => Expr::IsDistinctFrom(left, Box::new(right)),
            true => Expr::IsNotDistinctFrom(left, Box::new(right)),
        }))
    }

    /// `TABLE t`, `TABLE t PARTITION BY k` and `PARTITION BY k` as arguments of table functions.
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let keyword = match &parser.peek_token_ref().token {
            Token::Word(word) => word.keyword,
            _ => return None,
        };
        match keyword {
            Keyword::TABLE if matches!(parser.peek_nth_token_ref(1).token, Token::Word(_)) => {
                parser.next_token();
                Some(table_argument(parser))
            }
            Keyword::PARTITION if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) => {
                let prefix = Ident::new(PARTITION_BY);
                Some(parser.parse_expr().map(|key| Expr::Prefixed { prefix, value: Box::new(key) }))
            }
            _ => None,
        }
    }

    as_postgresql! {
        identifier_quote_style(identifier: &str) -> Option<char>;
        is_delimited_identifier_start(ch: char) -> bool;
        is_identifier_start(ch: char) -> bool;
        is_identifier_part(ch: char) -> bool;
        supports_unicode_string_literal() -> bool;
        is_reserved_for_identifier(keyword: Keyword) -> bool;
        is_custom_operator_part(ch: char) -> bool;
        get_next_precedence(parser: &Parser) -> Option<Result<u8, ParserError>>;
        supports_filter_during_aggregation() -> bool;
        supports_group_by_expr() -> bool;
        prec_value(precedence: Precedence) -> u8;
        allow_extract_custom() -> bool;
        allow_extract_single_quotes() -> bool;
        supports_create_index_with_clause() -> bool;
        supports_explain_with_utility_options() -> bool;
        supports_listen_notify() -> bool;
        supports_factorial_operator() -> bool;
        supports_bitwise_shift_operators() -> bool;
        supports_comment_on() -> bool;
        supports_load_extension() -> bool;
        supports_named_fn_args_with_colon_operator() -> bool;
        supports_named_fn_args_with_expr_name() -> bool;
        supports_empty_projections() -> bool;
        supports_nested_comments() -> bool;
        supports_string_escape_constant() -> bool;
        supports_numeric_literal_underscores() -> bool;
        supports_array_typedef_with_brackets() -> bool;
        supports_geometric_types() -> bool;
        supports_set_names() -> bool;
        supports_alter_column_type_using() -> bool;
        supports_notnull_operator() -> bool;
        supports_interval_options() -> bool;
        supports_insert_table_alias() -> bool;
        supports_create_table_like_parenthesized() -> bool;
        supports_select_wildcard_with_alias() -> bool;
        supports_comma_separated_trim() -> bool;
        supports_xml_expressions() -> bool;
        supports_comment_optimizer_hint() -> bool;
    }
}

/// What follows TABLE.
fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut parts: Vec<Ident> =
        parser.parse_object_name(false)?.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    let mut value = match parts.len() {
        1 => Expr::Identifier(parts.remove(0)),
        _ => Expr::CompoundIdentifier(parts),
    };
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        let (left, op) = (Box::new(value), BinaryOperator::Custom(PARTITION_BY.to_string()));
        value = Expr::BinaryOp { left, op, right: Box::new(parser.parse_expr()?) };
    }
    Ok(Expr::Prefixed { prefix: Ident::new(TABLE), value: Box::new(value) })
}
