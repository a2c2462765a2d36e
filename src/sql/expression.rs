//! Single expressions over given columns: DEFAULT, ON CONFLICT's assignments, RETURNING lists.

use std::ops::ControlFlow;

use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use sqlparser::ast::{
    Expr as SqlExpr, Ident, Query as SqlQuery, SelectItem, SelectItemQualifiedWildcardKind, Spanned, VisitMut,
    VisitorMut,
};

use super::bind::BindContext;
use super::ddl::at;
use super::errors::planning_error;
use super::grammar::fold;
use super::names::column_name;
use super::parse::Parsed;
use super::pg_catalog::rewrite_idioms;
use super::place::Places;
use super::resolve::{Purpose, Resolver};
use super::source::Provider;
use super::statement::OutputColumn;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::functions;
use crate::zset::PgType;

/// The columns that an expression may name.
pub(super) struct Scope {
    schema: DFSchemaRef,
    /// The relation whose columns a bare name means, although others have them too.
    table: Option<String>,
}

impl Scope {
    pub fn empty() -> Self {
        Self { schema: DFSchema::empty().into(), table: None }
    }

    pub fn new(schema: &DFSchemaRef, table: Option<&str>) -> Self {
        Self { schema: schema.clone(), table: table.map(str::to_string) }
    }

    /// A select list: names and expressions, stars expanded.
    pub fn bind_items(
        &self,
        items: &[SelectItem],
        parsed: &Parsed,
        context: &BindContext<'_>,
    ) -> SqlResult<Vec<(OutputColumn, Expr)>> {
        let mut bound = Vec::new();
        for item in items {
            let (name, expression) = match item {
                SelectItem::UnnamedExpr(expression) => (column_name(expression), expression),
                SelectItem::ExprWithAlias { expr, alias } => (fold(alias), expr),
                SelectItem::Wildcard(_) => {
                    bound.extend(self.all(self.table.as_deref()));
                    continue;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let (_, name) = super::resolve::split_name(name)?;
                    bound.extend(self.all(Some(&name)));
                    continue;
                }
                other => {
                    let error =
                        SqlError::new(SqlState::SYNTAX_ERROR, "this form of a select list is not supported here");
                    return Err(at(parsed, other.span(), error));
                }
            };
            let expression = bind_expression(expression, self, Some(&parsed.places), context)?;
            let field =
                expression.to_field(&*self.schema).map_err(|error| planning_error(&error, Some(&parsed.places)))?;
            bound.push((OutputColumn { name, pg_type: PgType::of(&field.1) }, expression));
        }
        Ok(bound)
    }

    fn all(&self, table: Option<&str>) -> Vec<(OutputColumn, Expr)> {
        let fields = self.schema.iter().filter(|(qualifier, _)| match (qualifier, table) {
            (Some(qualifier), Some(table)) => qualifier.table() == table,
            _ => true,
        });
        let column = |(qualifier, field): (Option<&_>, &arrow::datatypes::FieldRef)| {
            let output = OutputColumn { name: field.name().clone(), pg_type: PgType::of(field) };
            (output, Expr::from((qualifier, field)))
        };
        fields.map(column).collect()
    }
}

/// Binds an expression; subqueries in it may read relations.
pub(super) fn bind_expression(
    expression: &SqlExpr,
    scope: &Scope,
    places: Option<&Places>,
    context: &BindContext<'_>,
) -> SqlResult<Expr> {
    let mut expression = expression.clone();
    rewrite_idioms(&mut expression);
    if let Some(table) = &scope.table {
        let mut qualifier = Qualifier { table, schema: &scope.schema, depth: 0 };
        let ControlFlow::Continue(()) = expression.visit(&mut qualifier);
    }
    Resolver::new(context, places, Purpose::Plan { stars: false }).resolve(&mut expression)?;
    let provider = Provider::new(context);
    let parameters = context.parameter_types.iter().map(super::query::parameter_field).collect();
    let mut planner_context = PlannerContext::new().with_prepare_param_data_types(parameters);
    let planned = SqlToRel::new(&provider).sql_to_expr(expression, &scope.schema, &mut planner_context);
    let typed = planned.and_then(|expression| functions::give_expression_types(expression, &scope.schema));
    typed.map_err(|error| planning_error(&error, places))
}

/// Qualifies bare names of the table's columns outside of subqueries.
struct Qualifier<'a> {
    table: &'a str,
    schema: &'a DFSchema,
    depth: usize,
}

enum Never {}

impl VisitorMut for Qualifier<'_> {
    type Break = Never;

    fn pre_visit_query(&mut self, _query: &mut SqlQuery) -> ControlFlow<Never> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut SqlQuery) -> ControlFlow<Never> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut SqlExpr) -> ControlFlow<Never> {
        if let SqlExpr::Identifier(ident) = expression
            && self.depth == 0
            && self.schema.fields().iter().any(|field| *field.name() == fold(ident))
        {
            *expression = SqlExpr::CompoundIdentifier(vec![Ident::with_quote('"', self.table), ident.clone()]);
        }
        ControlFlow::Continue(())
    }
}
