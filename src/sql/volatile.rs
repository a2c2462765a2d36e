//! What a materialized view cannot contain, because its rows would change without any input changing.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::resolve::FILES_SCHEMA;
use super::statement::Query;
use super::system::system_relation;
use crate::error::{SqlError, SqlResult};
use crate::functions::depends_on_session;

/// Refuses volatile functions, system relations and files.
pub(super) fn check_view(query: &Query) -> SqlResult<()> {
    let mut refusal = None;
    let visited = query.plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let (schema, table) = (scan.table_name.schema().unwrap_or_default(), scan.table_name.table());
            refusal = refusal.take().or_else(|| refuse_scan(schema, table));
        }
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                if let Expr::ScalarFunction(call) = expression
                    && (call.func.signature().volatility == Volatility::Volatile || depends_on_session(call.name()))
                {
                    refusal.get_or_insert_with(|| volatile(call.name()));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.expect("visiting a plan does not fail");
    refusal.map_or(Ok(()), Err)
}

fn refuse_scan(schema: &str, table: &str) -> Option<SqlError> {
    if schema == FILES_SCHEMA {
        return Some(SqlError::unsupported(
            "views cannot read a file by its path",
            "CREATE SOURCE ... WITH (connector = 'file', path = '...') and read that.",
        ));
    }
    // The dead letters are an ordinary relation, which the catalog and not this list knows.
    system_relation(schema, table)?;
    Some(SqlError::unsupported(
        format!("materialized views cannot read {schema}.{table}"),
        "A plain view can: CREATE VIEW.",
    ))
}

fn volatile(name: &str) -> SqlError {
    SqlError::unsupported(
        format!("function {name}() cannot be used in a materialized view because its value changes by itself"),
        "Store the value in a table, or use a plain view. now() is allowed: it moves with time.",
    )
}
