//! The names that PostgreSQL gives to result columns, and how the plan tells columns of the same name apart.

use sqlparser::ast::{AccessExpr, Expr, Ident, Query, Select, SelectItem, SetExpr, Subscript, TrimWhereField};

use super::grammar::fold;
use super::types::pg_type;

/// Stands between a column's name and the number that tells it from others of the same name.
const MARK: char = '\u{1}';

/// The name without what was added to make it unique.
pub(super) fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Gives every column of a select list a name of its own: PostgreSQL's, marked where it repeats.
///
/// `stars` says that a wildcard of the list brings columns of unknown names, one of which may be equal to a given name.
pub(super) fn name_columns(select: &mut Select, stars: bool) {
    let wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let mark_all = stars && select.projection.iter().any(wild);
    let mut seen: Vec<String> = Vec::new();
    for item in &mut select.projection {
        let (expression, name, natural) = match item {
            SelectItem::UnnamedExpr(expression) => {
                let natural = matches!(expression, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                (expression.clone(), column_name(expression), natural)
            }
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), fold(alias), false),
            _ => continue,
        };
        let repeats = seen.iter().filter(|other| **other == name).count();
        seen.push(name.clone());
        let unique = match repeats > 0 || mark_all {
            true => format!("{name}{MARK}{}", seen.len()),
            false if natural => continue,
            false => name,
        };
        *item = SelectItem::ExprWithAlias { expr: expression, alias: Ident::with_quote('"', unique) };
    }
}

/// What PostgreSQL calls a column without alias.
pub(super) fn column_name(expression: &Expr) -> String {
    figure(expression).map_or("?column?".to_string(), |(name, _)| name)
}

/// The name, and whether it is a strong one, which a cast around it keeps.
fn figure(expression: &Expr) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_string(), true));
    match expression {
        Expr::Identifier(ident) => Some((fold(ident), true)),
        Expr::CompoundIdentifier(idents) => idents.last().map(|ident| (fold(ident), true)),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::Cast { expr, data_type, .. } => match figure(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_name(data_type), false)),
        },
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), false)),
        Expr::Interval(_) => Some(("interval".to_string(), false)),
        Expr::Case { else_result, .. } => match else_result.as_ref().and_then(|other| figure(other)) {
            Some((name, true)) => Some((name, true)),
            _ => Some(("case".to_string(), false)),
        },
        Expr::Function(function) => {
            let ident = function.name.0.last()?.as_ident()?;
            Some((fold(ident), true))
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(ident)) => Some(fold(ident)),
                AccessExpr::Dot(_) | AccessExpr::Subscript(Subscript::Index { .. } | Subscript::Slice { .. }) => None,
            });
            field.map(|name| (name, true)).or_else(|| figure(root))
        }
        Expr::Subquery(query) => query_name(query).map(|name| (name, true)),
        Expr::Exists { .. } => strong("exists"),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_) => strong("grouping"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            Some(TrimWhereField::Both) | None => "btrim",
        }),
        _ => None,
    }
}

fn query_name(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::UnnamedExpr(expression) => Some(column_name(expression)),
            SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
            _ => None,
        },
        SetExpr::Query(inner) => query_name(inner),
        SetExpr::Values(_) => Some("column1".to_string()),
        _ => None,
    }
}

/// A type as `pg_type` names it: `int4`, `varchar`, `timestamptz`.
fn type_name(data_type: &sqlparser::ast::DataType) -> String {
    use crate::zset::PgType;
    let Some(kind) = pg_type(data_type) else {
        let text = data_type.to_string().to_lowercase();
        return text.rsplit('.').next().unwrap_or(&text).trim_matches('"').to_string();
    };
    let mut kind = &kind;
    while let PgType::Array(item) = kind {
        kind = item;
    }
    let name = match kind {
        PgType::Bool => "bool",
        PgType::Int2 => "int2",
        PgType::Int4 => "int4",
        PgType::Int8 => "int8",
        PgType::Float4 => "float4",
        PgType::Float8 => "float8",
        PgType::Numeric(_) => "numeric",
        PgType::Varchar(_) => "varchar",
        PgType::Bpchar(_) => "bpchar",
        PgType::Time => "time",
        PgType::Timestamp => "timestamp",
        PgType::Timestamptz => "timestamptz",
        other => return other.to_string(),
    };
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse_expression;
    use super::*;

    #[test]
    fn columns_are_named_as_postgresql_names_them() {
        let cases = [
            ("sum(1)", "sum"),
            ("1+1", "?column?"),
            ("'a'::text", "text"),
            ("CASE WHEN a THEN 1 END", "case"),
            ("CASE WHEN a THEN 1 ELSE b END", "b"),
            ("coalesce(1,2)", "coalesce"),
            ("ARRAY[1]", "array"),
            ("EXISTS (SELECT 1)", "exists"),
            ("x.a::text", "a"),
            ("now()::date", "now"),
            ("'1'::int", "int4"),
            ("1::bigint", "int8"),
            ("(SELECT max(b) FROM t)", "max"),
            ("extract(year FROM d)", "extract"),
            ("trim(a)", "btrim"),
            ("a[1]", "a"),
            ("current_date", "current_date"),
            ("date '2024-01-01'", "date"),
            ("-a", "?column?"),
        ];
        for (text, name) in cases {
            assert_eq!(column_name(&parse_expression(text).expect(text)), name, "{text}");
        }
    }
}
