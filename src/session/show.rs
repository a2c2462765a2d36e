//! SHOW of settings. What SHOW says of relations, the binder makes queries of.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use arrow::datatypes::{Field, Schema};

use super::describe::{shown_name, text_column};
use super::response::{Response, RowStream};
use super::session::Session;
use crate::error::SqlResult;
use crate::sql::OutputColumn;

/// Rows of texts.
pub fn text_rows(columns: Vec<OutputColumn>, cells: Vec<Vec<String>>, tag: &'static str) -> RowStream {
    let fields: Vec<Field> = columns.iter().map(|column| column.pg_type.field(&column.name, true)).collect();
    let arrays = cells.into_iter().map(|cells| Arc::new(StringViewArray::from_iter_values(cells)) as ArrayRef);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays.collect()).expect("columns of one length");
    RowStream::of_batches(columns, vec![batch], tag)
}

impl Session {
    pub(super) fn show(&mut self, name: &str) -> SqlResult<Response> {
        let value = self.settings().get(name)?;
        let column = text_column(&shown_name(self, name));
        Ok(Response::Rows(text_rows(vec![column], vec![vec![value]], "SHOW")))
    }

    pub(super) fn show_all(&mut self) -> Response {
        let all = self.settings().all();
        let columns = ["name", "setting", "description"].map(text_column).to_vec();
        let cells = vec![
            all.iter().map(|shown| shown.name.clone()).collect(),
            all.iter().map(|shown| shown.value.clone()).collect(),
            all.iter().map(|shown| shown.description.to_string()).collect(),
        ];
        Response::Rows(text_rows(columns, cells, "SHOW"))
    }
}
