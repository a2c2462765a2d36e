//! How the state of an aggregate is saved.
//!
//! Part 0 has one row for each group: its key, its number of rows, the state columns of each call in turn. Then come, for
//! each call in turn, the values that DISTINCT has seen and the values that the aggregate keeps, if it does: key, values,
//! and how often they are there as weight. All parts are ordered by the hash of the key.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::call::Values;
use super::{Aggregate, Size};
use crate::dataflow::operator::StatePart;
use crate::dataflow::operators::{collect_runs, one_run};
use crate::state::Run;
use crate::zset::Rows;

impl Aggregate {
    pub(super) fn save_parts(&self) -> Vec<StatePart> {
        let key: Vec<usize> = (0..self.key.len()).collect();
        let groups = one_run(&self.group_rows(), &key);
        let values = self.calls.iter().flat_map(|call| {
            let parts = call.values().into_iter().zip(call.value_types());
            parts.map(|(values, types)| one_run(&self.value_rows(values, types), &key)).collect::<Vec<_>>()
        });
        std::iter::once(groups).chain(values).collect()
    }

    pub(super) fn load_parts(&mut self, parts: Vec<Vec<Arc<Run>>>) {
        let mut parts = parts.into_iter();
        let groups = collect_runs(&self.group_schema(), parts.next().expect("a part of groups"));
        self.load_groups(&groups);
        for call in 0..self.calls.len() {
            for (part, types) in self.calls[call].value_types().into_iter().enumerate() {
                let schema = self.saved_schema(types);
                let rows = collect_runs(&schema, parts.next().expect("a part of values"));
                let values = self.values_of(&rows);
                self.calls[call].load_values(part, &values);
            }
        }
    }

    fn group_rows(&self) -> Rows {
        let saved = |group: &u32| match self.is_global() {
            true => self.given,
            false => self.sizes[*group as usize].rows > 0,
        };
        let groups: Vec<u32> = (0..self.sizes.len() as u32).filter(saved).collect();
        let mut columns = self.groups.columns(&groups, &self.key_types);
        let sizes = groups.iter().map(|group| self.sizes[*group as usize].rows);
        columns.push(Arc::new(Int64Array::from_iter_values(sizes)));
        columns.extend(self.calls.iter().flat_map(|call| call.state.save(&groups)));
        let batch = RecordBatch::try_new(self.group_schema(), columns).expect("the state has the types that it names");
        Rows::inserts(batch).assume_consolidated()
    }

    fn group_schema(&self) -> SchemaRef {
        let states = self.calls.iter().flat_map(|call| call.state.state_types());
        self.saved_schema(std::iter::once(DataType::Int64).chain(states))
    }

    /// The columns of the key, then columns of these types.
    fn saved_schema(&self, types: impl IntoIterator<Item = DataType>) -> SchemaRef {
        let types = self.key_types.iter().cloned().chain(types);
        let field = |(index, data_type)| Field::new(format!("c{index}"), data_type, true);
        Arc::new(Schema::new(types.enumerate().map(field).collect::<Vec<_>>()))
    }

    fn value_rows(&self, values: Values, types: Vec<DataType>) -> Rows {
        let rows = values.groups.len();
        let mut columns = self.groups.columns(&values.groups, &self.key_types);
        columns.extend(values.columns);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.saved_schema(types), columns, &options)
            .expect("the values have the types that the call names");
        Rows::new(batch, Some(values.weights)).assume_consolidated()
    }

    fn values_of(&mut self, rows: &Rows) -> Values {
        let (key, values) = rows.batch().columns().split_at(self.key.len());
        let groups = self.groups.assign(key, rows.len());
        debug_assert!(self.groups.bound() <= self.sizes.len(), "values belong to groups that were saved");
        Values { groups, columns: values.to_vec(), weights: rows.weights_array() }
    }

    fn load_groups(&mut self, rows: &Rows) {
        let (key, state) = rows.batch().columns().split_at(self.key.len());
        let groups = self.groups.assign(key, rows.len());
        self.grow();
        let sizes = state[0].as_primitive::<Int64Type>().values();
        for (group, size) in groups.iter().zip(sizes) {
            self.sizes[*group as usize] = Size { rows: *size, round: 0 };
        }
        self.given = !groups.is_empty();
        let mut state: &[ArrayRef] = &state[1..];
        for call in &mut self.calls {
            let (own, rest) = state.split_at(call.state.state_types().len());
            call.state.load(&groups, own);
            state = rest;
        }
    }
}
