//! Lowers the unnesting of lists.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnUnnestList, LogicalPlan, Unnest};

use super::lower::{Lowering, Recipe};
use super::stream::{Stream, schema_of};
use crate::dataflow::operators;
use crate::dataflow::{Class, Edge, Operator, Route};
use crate::error::SqlResult;

impl Lowering<'_> {
    /// Linear for lists of one level; structs and lists of lists are left to recompute.
    pub fn unnest(&mut self, plan: &LogicalPlan, unnest: &Unnest) -> SqlResult<Stream> {
        let Some(columns) = columns_of(unnest) else { return self.recompute(plan) };
        let input = self.stream(&unnest.input)?;
        let from = self.node(input);
        let (schema, append_only) = (schema_of(&unnest.schema), self.nodes[from].append_only);
        let names = columns.iter().zip(schema.fields()).filter(|((_, list), _)| *list);
        let detail = names.map(|(_, field)| field.name().clone()).collect::<Vec<_>>().join(", ");
        let output = schema.clone();
        let make =
            Arc::new(move || Box::new(operators::Unnest::new(columns.clone(), output.clone())) as Box<dyn Operator>);
        let recipe = Recipe { name: "unnest", class: Class::Linear, detail, keeps: "" };
        let edges = vec![Edge { from, route: Route::Local }];
        let node = self.operator(recipe, edges, schema.clone(), append_only, make);
        Ok(Stream::of(node, schema))
    }
}

/// For each column of the result the input's, and whether its values are given one by one.
fn columns_of(unnest: &Unnest) -> Option<Vec<(usize, bool)>> {
    let fields = unnest.input.schema().fields();
    let plain = |(column, list): &(usize, ColumnUnnestList)| {
        list.depth == 1 && matches!(fields[*column].data_type(), DataType::List(_))
    };
    let options = &unnest.options;
    if options.preserve_nulls()
        || options.expand_empty_as_null()
        || !unnest.struct_type_columns.is_empty()
        || !unnest.list_type_columns.iter().all(plain)
    {
        return None;
    }
    let is_list = |column: usize| unnest.list_type_columns.iter().any(|(list, _)| *list == column);
    Some(unnest.dependency_indices.iter().map(|column| (*column, is_list(*column))).collect())
}
