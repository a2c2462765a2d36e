//! Results as text for people: psql's aligned tables, or csv.

use std::io::Write;

use arrow::array::RecordBatch;

use crate::error::SqlResult;
use crate::functions::text::copy::{CopyColumn, CopyForm, CopyFormat, CopyRows, CopyWriter, Header};
use crate::functions::text::{TextStyle, texts};
use crate::script::output_failed;
use crate::session::{OutputColumn, RowStream};
use crate::zset::PgType;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// As psql prints them.
    Aligned,
    Csv,
}

/// Prints the rows of a result as they come (csv), or all together (aligned).
///
/// # Errors
/// The query or the output fails.
pub async fn print_rows(
    mut rows: RowStream,
    style: &TextStyle,
    print: Print,
    out: &mut (dyn Write + Send),
) -> SqlResult<()> {
    let columns = rows.columns().to_vec();
    if print == Print::Csv {
        return print_csv(rows, &columns, style, out).await;
    }
    let mut table = Table::new(&columns);
    while let Some(batch) = rows.next().await {
        table.add(&batch?, style)?;
    }
    out.write_all(table.print().as_bytes()).map_err(output_failed)
}

async fn print_csv(
    mut rows: RowStream,
    columns: &[OutputColumn],
    style: &TextStyle,
    out: &mut (dyn Write + Send),
) -> SqlResult<()> {
    let form = CopyForm { header: Header::Yes, ..CopyForm::new(CopyFormat::Csv) };
    let columns = columns.iter().map(|column| CopyColumn::new(&column.name, column.pg_type.clone())).collect();
    let mut writer = CopyWriter::new(&form, columns, *style)?;
    let mut printed = CopyRows::default();
    while let Some(batch) = rows.next().await {
        writer.write(&batch?, &mut printed)?;
        out.write_all(&printed.bytes).map_err(output_failed)?;
        printed = CopyRows::default();
    }
    writer.finish(&mut printed);
    out.write_all(&printed.bytes).map_err(output_failed)
}

/// Rows on their way to an aligned table.
pub struct Table {
    columns: Vec<OutputColumn>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[OutputColumn]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// A column cannot be printed.
    pub fn add(&mut self, batch: &RecordBatch, style: &TextStyle) -> SqlResult<()> {
        let columns = batch.columns().iter().zip(&self.columns);
        let printed: Vec<_> =
            columns.map(|(array, column)| texts(array, &column.pg_type, style)).collect::<SqlResult<_>>()?;
        let cell = |column: &Vec<Option<String>>, row: usize| column[row].clone().unwrap_or_default();
        let rows = (0..batch.num_rows()).map(|row| printed.iter().map(|column| cell(column, row)).collect());
        self.rows.extend(rows);
        Ok(())
    }

    /// The table with its head and the number of rows.
    pub fn print(&self) -> String {
        let count = if self.rows.len() == 1 { "(1 row)".to_string() } else { format!("({} rows)", self.rows.len()) };
        format!("{}{count}\n\n", self.print_body())
    }

    /// The table without the number of rows.
    pub fn print_body(&self) -> String {
        let width = |column: usize| {
            let lines = self.rows.iter().flat_map(|row| row[column].split('\n'));
            let widest = lines.map(|line| line.chars().count()).max().unwrap_or(0);
            widest.max(self.columns[column].name.chars().count())
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut out = String::new();
        let head = self.columns.iter().zip(&widths).map(|(column, width)| format!(" {:^width$} ", column.name));
        out.push_str(&head.collect::<Vec<_>>().join("|"));
        out.push('\n');
        let rule = widths.iter().map(|width| "-".repeat(width + 2));
        out.push_str(&rule.collect::<Vec<_>>().join("+"));
        out.push('\n');
        self.rows.iter().for_each(|row| self.print_row(row, &widths, &mut out));
        out
    }

    /// A value with several lines takes as many, each but the last marked with a plus sign.
    fn print_row(&self, row: &[String], widths: &[usize], out: &mut String) {
        let cells: Vec<Vec<&str>> = row.iter().map(|cell| cell.split('\n').collect()).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..height {
            for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
                if column > 0 {
                    out.push('|');
                }
                let text = cell.get(line).copied().unwrap_or("");
                let goes_on = line + 1 < cell.len();
                let is_last = column + 1 == cells.len();
                out.push(' ');
                match (is_number(&self.columns[column].pg_type), is_last && !goes_on) {
                    (true, _) => out.push_str(&format!("{text:>width$}")),
                    (false, true) => out.push_str(text),
                    (false, false) => out.push_str(&format!("{text:<width$}")),
                }
                if goes_on {
                    out.push('+');
                } else if !is_last {
                    out.push(' ');
                }
            }
            out.push('\n');
        }
    }
}

fn is_number(pg_type: &PgType) -> bool {
    matches!(
        pg_type,
        PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Float4 | PgType::Float8 | PgType::Numeric(_) | PgType::Oid
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn tables_look_like_those_of_psql() {
        let arrays: [(&str, ArrayRef); 3] = [
            ("walker", Arc::new(StringViewArray::from(vec![Some("ada"), None]))),
            ("doubled", Arc::new(Int64Array::from(vec![14, 100]))),
            ("t", Arc::new(StringViewArray::from(vec!["two\nlines", "x"]))),
        ];
        let batch = RecordBatch::try_from_iter(arrays).expect("columns of one length");
        let column = |name: &str, pg_type| OutputColumn { name: name.to_string(), pg_type };
        let columns = [column("walker", PgType::Text), column("doubled", PgType::Int8), column("t", PgType::Text)];
        let mut table = Table::new(&columns);
        table.add(&batch, &TextStyle::default()).expect("printable");
        let expected = " walker | doubled |   t   \n\
                        --------+---------+-------\n \
                        ada    |      14 | two  +\n        \
                        |         | lines\n        \
                        |     100 | x\n\
                        (2 rows)\n\n";
        assert_eq!(table.print(), expected);
    }
}
