//! The law, looked at from outside: every materialized view equals its query run now.

use crate::client::{Client, Outcome};

/// Digits after which two sums of floats may differ, since they add up in different orders.
const FLOAT_DIGITS: usize = 12;

/// Compares every materialized view with its definition.
pub async fn check_all(client: &Client) -> Result<(), String> {
    let views = client.rows("SELECT schemaname, matviewname, definition FROM pg_catalog.pg_matviews").await?;
    for view in &views {
        let [schema, name, definition] = view.as_slice() else { return Err(format!("pg_matviews gave {view:?}")) };
        let moves = definition.to_lowercase().contains("now()") || definition.contains("CURRENT_");
        if !moves {
            check(client, schema, name, definition.trim_end_matches(';')).await?;
        }
    }
    Ok(())
}

async fn check(client: &Client, schema: &str, name: &str, definition: &str) -> Result<(), String> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    client.rows(&format!("SET search_path TO {}, public", quoted(schema))).await?;
    // In one transaction, hence at one step.
    client.rows("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let view = read(client, &format!("SELECT * FROM {}.{}", quoted(schema), quoted(name))).await?;
    let query =
        if is_refusal(&view) { read_again(client, definition).await? } else { read(client, definition).await? };
    client.rows("ROLLBACK").await?;
    if view == query {
        return Ok(());
    }
    Err(format!("the view {schema}.{name} is not its query\n{definition}\n{}", difference(&view, &query)))
}

/// True if a view is in error for the data's sake.
pub fn is_data_error(lines: &[String]) -> bool {
    lines.first().is_some_and(|line| line.starts_with(&format!("{REFUSED}22")))
}

fn is_refusal(lines: &[String]) -> bool {
    lines.first().is_some_and(|line| line.starts_with(REFUSED))
}

/// A refusal has ended the transaction, so the query is asked in a new one.
async fn read_again(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    client.rows("ROLLBACK").await?;
    client.rows("BEGIN").await?;
    read(client, sql).await
}

const REFUSED: &str = "refused with ";

/// The rows of a query, sorted, or the SQLSTATE with which it is refused.
pub async fn read(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    match client.run(sql).await {
        Outcome::Rows { rows, .. } => {
            let mut lines: Vec<String> =
                rows.iter().map(|row| row.iter().map(|cell| canonical(cell)).collect::<Vec<_>>().join(" | ")).collect();
            lines.sort();
            Ok(lines)
        }
        Outcome::Refused(refusal) if refusal.code.starts_with("XX") => Err(format!("{sql}\n{}", refusal.text)),
        Outcome::Refused(refusal) => Ok(vec![format!("{REFUSED}{}", refusal.code)]),
        Outcome::Lost(reason) => Err(format!("{sql}\n{reason}")),
    }
}

/// Numbers without the zeros at their end, which follow from declared scales, and without the digits of long fractions
/// that depend on the order of a sum.
fn canonical(cell: &str) -> String {
    let is_decimal = cell.contains('.') && cell.bytes().all(|byte| byte.is_ascii_digit() || b"-.".contains(&byte));
    let cell = if is_decimal { cell.trim_end_matches('0').trim_end_matches('.') } else { cell };
    let digits = cell.bytes().filter(u8::is_ascii_digit).count();
    let is_fraction = cell.contains(['.', 'e']) && digits > FLOAT_DIGITS;
    match cell.parse::<f64>() {
        Ok(number) if is_fraction && number.is_finite() => format!("{number:.*e}", FLOAT_DIGITS - 1),
        _ => cell.to_owned(),
    }
}

/// The lines that only one side has.
pub fn difference(view: &[String], query: &[String]) -> String {
    const SHOWN_MAX: usize = 20;
    let mut lines = Vec::new();
    for (title, these, those) in [("only in the view", view, query), ("only in the query", query, view)] {
        let mut left: Vec<&String> = those.iter().collect();
        let mut only = Vec::new();
        for line in these {
            match left.iter().position(|other| *other == line) {
                Some(place) => drop(left.swap_remove(place)),
                None => only.push(line.clone()),
            }
        }
        lines.push(format!("{title}: {} rows", only.len()));
        lines.extend(only.into_iter().take(SHOWN_MAX).map(|line| format!("  {line}")));
    }
    lines.join("\n")
}
