//! Which column of a plan is a time of a relation, or begins or ends a window over it.

use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use super::scalar::span_micros;

/// A key of a GROUP BY by which its groups become final one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Which of the keys.
    pub key: usize,
    /// A group is final when the watermark has reached its key and so many microseconds more.
    pub after: i64,
    /// The relation and the column from which the time comes.
    pub table: TableReference,
    pub column: String,
}

/// What a column is to the time of a relation.
#[derive(Clone)]
struct Origin {
    table: TableReference,
    column: String,
    role: Role,
}

#[derive(Clone, Copy)]
enum Role {
    Time,
    /// Windows of so many microseconds begin there.
    Start(i64),
    End,
}

/// The keys by which groups close, those of windows' ends first. Only rows that pass on their way to the GROUP BY one by
/// one tell it.
pub fn closing_keys(aggregate: &Aggregate) -> Vec<Closing> {
    let keys = aggregate.group_expr.iter().enumerate().filter_map(|(key, expression)| {
        let Origin { table, column, role } = origin(expression, &aggregate.input)?;
        // No row of a time before the watermark comes any more, but one of just that time may.
        let after = match role {
            Role::End => 0,
            Role::Time => 1,
            Role::Start(size) => size,
        };
        Some(Closing { key, after, table, column })
    });
    let mut keys: Vec<Closing> = keys.collect();
    keys.sort_by_key(|closing| closing.after);
    keys
}

fn origin(expression: &Expr, plan: &LogicalPlan) -> Option<Origin> {
    match expression {
        Expr::Alias(alias) => origin(&alias.expr, plan),
        Expr::Column(column) => origin_of_column(column, plan),
        Expr::ScalarFunction(call) => {
            let first = origin(call.args.first()?, plan)?;
            let span = |place: usize| call.args.get(place).and_then(constant_micros);
            let role = match (call.name(), first.role) {
                ("hw_tumble", Role::Time) => Role::Start(span(1)?),
                ("hw_hop", Role::Time) => Role::Start(span(2)?),
                ("hw_cumulate", Role::Time) => Role::End,
                ("hw_window_end", Role::Start(size)) if span(1)? >= size => Role::End,
                _ => return None,
            };
            Some(Origin { role, ..first })
        }
        _ => None,
    }
}

/// The microseconds of a constant interval.
pub fn constant_micros(span: &Expr) -> Option<i64> {
    match span {
        Expr::Literal(value @ ScalarValue::IntervalMonthDayNano(Some(_)), _) => span_micros(value).ok(),
        Expr::Cast(cast) => constant_micros(&cast.expr),
        Expr::Alias(alias) => constant_micros(&alias.expr),
        _ => None,
    }
}

fn origin_of_column(column: &Column, plan: &LogicalPlan) -> Option<Origin> {
    let place = plan.schema().index_of_column(column).ok()?;
    match plan {
        LogicalPlan::Projection(projection) => origin(&projection.expr[place], &projection.input),
        LogicalPlan::SubqueryAlias(alias) => origin_of_column(&alias.input.schema().columns()[place], &alias.input),
        LogicalPlan::Filter(filter) => origin_of_column(column, &filter.input),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => origin_of_column(column, &sort.input),
        // The list of windows is computed below, and each of its items has the list's role.
        LogicalPlan::Unnest(unnest) => {
            let below = *unnest.dependency_indices.get(place)?;
            origin_of_column(&unnest.input.schema().columns()[below], &unnest.input)
        }
        LogicalPlan::TableScan(scan) => {
            let (table, column) = (scan.table_name.clone(), column.name.clone());
            Some(Origin { table, column, role: Role::Time })
        }
        _ => None,
    }
}
