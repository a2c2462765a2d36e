//! Deltas as text tables, both ways: `+1 | 2 | a` is one more row `(2, 'a')`. For tests, EXPLAIN and logs.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{Delta, PgType, Rows, Weight};

/// One line a row, sorted: the weight with its sign, then the columns.
pub fn pretty_rows(rows: &Rows) -> String {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<ArrayFormatter> = (rows.batch().columns().iter())
        .map(|column| ArrayFormatter::try_new(column, &options).expect("every SQL type can be shown"))
        .collect();
    let mut lines: Vec<String> = (0..rows.len())
        .map(|row| {
            let cells = columns.iter().map(|column| format!(" | {}", column.value(row)));
            format!("{:+}{}", rows.weight(row), cells.collect::<String>())
        })
        .collect();
    lines.sort_by(|a, b| a[1..].cmp(&b[1..]).then_with(|| a.cmp(b)));
    lines.join("\n")
}

/// The rows as [`pretty_rows`] shows them, then one line `+1 ! 22012 division by zero` for each error row.
pub fn pretty_delta(delta: &Delta) -> String {
    let mut lines: Vec<String> = Vec::new();
    if !delta.oks.is_empty() {
        lines.push(pretty_rows(&delta.oks));
    }
    for (error, weight) in delta.errs.iter() {
        let code = String::from_utf8_lossy(&error.code);
        lines.push(format!("{weight:+} ! {code} {}", error.message));
    }
    lines.join("\n")
}

/// Reads what [`pretty_rows`] writes; `columns` is like `"x INT, s TEXT"`. Panics on malformed text: for tests.
pub fn parse_rows(columns: &str, text: &str) -> Rows {
    let fields: Vec<Field> = columns
        .split(',')
        .map(|column| {
            let (name, kind) = column.trim().split_once(' ').expect("a column is `name TYPE`");
            PgType::parse(kind).expect("the type is known").field(name, true)
        })
        .collect();
    let lines: Vec<Vec<&str>> = (text.lines().map(str::trim).filter(|line| !line.is_empty()))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let weights: Vec<Weight> = lines.iter().map(|cells| cells[0].parse().expect("a weight")).collect();
    let arrays: Vec<ArrayRef> = fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let cells = lines.iter().map(|cells| Some(cells[index + 1]).filter(|cell| *cell != "NULL"));
            let cells: ArrayRef = Arc::new(StringArray::from_iter(cells));
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&cells, field.data_type(), &strict).expect("cells parse")
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    Rows::new(RecordBatch::try_new(schema, arrays).expect("columns fit"), Some(Int64Array::from(weights)))
}
