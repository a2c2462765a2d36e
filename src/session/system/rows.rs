//! Fills the columns of a system relation: cells by column name, the rest by what is usual for the type.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListBuilder, RecordBatch,
    StringViewArray, StringViewBuilder, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use crate::sql::SystemRelation;
use crate::zset::PgType;

/// A value of one column in one row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    /// Elements of any array type, as text.
    List(Vec<String>),
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Cell::Bool(value)
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(impl From<$type> for Cell {
        fn from(value: $type) -> Self {
            Cell::Int(i64::try_from(value).unwrap_or(i64::MAX))
        }
    })* };
}
integers!(i16, i32, i64, u32, u64, usize);

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Cell::Text(value.to_string())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Cell::Text(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}

impl Cell {
    pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Self {
        Cell::List(items.into_iter().map(|item| item.to_string()).collect())
    }

    /// What a column has when nothing is said: false and 0, but NULL for texts and arrays.
    fn usual(kind: &PgType) -> Cell {
        match kind {
            PgType::Bool => Cell::Bool(false),
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Oid | PgType::Float4 | PgType::Float8 => Cell::Int(0),
            _ => Cell::Null,
        }
    }

    fn int(&self) -> Option<i64> {
        match self {
            Cell::Int(value) => Some(*value),
            _ => None,
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Cell::Text(value) => Some(value),
            _ => None,
        }
    }
}

/// The rows of one relation.
pub struct Table {
    relation: &'static SystemRelation,
    columns: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(relation: &'static SystemRelation) -> Self {
        Self { relation, columns: vec![Vec::new(); relation.columns.len()] }
    }

    /// Adds a row. Every name must be a column of the relation.
    pub fn row<const N: usize>(&mut self, cells: [(&str, Cell); N]) {
        for ((_, kind), column) in self.relation.columns.iter().zip(&mut self.columns) {
            column.push(Cell::usual(kind));
        }
        self.amend(cells);
    }

    /// Changes cells of the row that was added last.
    pub fn amend<const N: usize>(&mut self, cells: [(&str, Cell); N]) {
        for (name, cell) in cells {
            let index = self.relation.columns.iter().position(|(column, _)| *column == name);
            let index = index.unwrap_or_else(|| panic!("{} has a column {name}", self.relation.name));
            *self.columns[index].last_mut().expect("a cell was pushed for every column") = cell;
        }
    }

    pub fn finish(self) -> RecordBatch {
        let columns = self.relation.columns.iter().zip(&self.columns);
        let arrays: Vec<ArrayRef> = columns.map(|((_, kind), cells)| array(kind, cells)).collect();
        RecordBatch::try_new(self.relation.arrow.clone(), arrays).expect("columns have their declared types")
    }
}

fn array(kind: &PgType, cells: &[Cell]) -> ArrayRef {
    let ints = || cells.iter().map(Cell::int);
    match kind {
        PgType::Bool => Arc::new(BooleanArray::from_iter(cells.iter().map(|cell| match cell {
            Cell::Bool(value) => Some(*value),
            _ => None,
        }))),
        PgType::Int2 => Arc::new(Int16Array::from_iter(ints().map(|value| value.map(|value| value as i16)))),
        PgType::Int4 => Arc::new(Int32Array::from_iter(ints().map(|value| value.map(|value| value as i32)))),
        PgType::Int8 => Arc::new(Int64Array::from_iter(ints())),
        PgType::Oid => Arc::new(UInt32Array::from_iter(ints().map(|value| value.map(|value| value as u32)))),
        PgType::Float4 => Arc::new(Float32Array::from_iter(ints().map(|value| value.map(|value| value as f32)))),
        PgType::Float8 => Arc::new(Float64Array::from_iter(ints().map(|value| value.map(|value| value as f64)))),
        PgType::Timestamptz => Arc::new(TimestampMicrosecondArray::from_iter(ints()).with_timezone("+00:00")),
        PgType::Array(_) => lists(kind, cells),
        _ => cast(Arc::new(StringViewArray::from_iter(cells.iter().map(Cell::text))), kind),
    }
}

fn lists(kind: &PgType, cells: &[Cell]) -> ArrayRef {
    let mut builder = ListBuilder::new(StringViewBuilder::new());
    for cell in cells {
        if let Cell::List(items) = cell {
            items.iter().for_each(|item| builder.values().append_value(item));
        }
        builder.append(matches!(cell, Cell::List(_)));
    }
    cast(Arc::new(builder.finish()), kind)
}

fn cast(array: ArrayRef, kind: &PgType) -> ArrayRef {
    let target: DataType = kind.arrow();
    if *array.data_type() == target {
        return array;
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, &target, &strict).expect("cells are texts of their column's type")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{system_relation, system_relations};

    #[test]
    fn every_relation_can_have_a_row_of_what_is_usual() {
        for relation in system_relations() {
            let mut table = Table::new(relation);
            table.row([]);
            assert_eq!(table.finish().num_rows(), 1, "{}", relation.name);
        }
    }

    #[test]
    fn arrays_of_numbers_are_made_from_texts() {
        let mut table = Table::new(system_relation("pg_catalog", "pg_index").expect("known"));
        table.row([("indkey", Cell::list([1, 3])), ("indclass", Cell::list(Vec::<u32>::new()))]);
        let batch = table.finish();
        let shown = arrow::util::pretty::pretty_format_columns(
            "indkey",
            &[batch.column_by_name("indkey").expect("there").clone()],
        );
        assert!(shown.expect("shown").to_string().contains("[1, 3]"));
    }
}
