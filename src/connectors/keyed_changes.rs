//! What a sink sends of a step: plain rows, all changes, or for each key its newest row or its deletion.

use std::collections::HashSet;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::row::{RowConverter, SortField};

use super::options::nearest;
use super::sink::SinkSpec;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{Rows, consolidate};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkType {
    Changelog,
    AppendOnly,
    Upsert,
}

impl SinkType {
    /// The values of the option `type`.
    pub const CHOICES: &'static [(&'static str, SinkType)] =
        &[("changelog", SinkType::Changelog), ("append-only", SinkType::AppendOnly), ("upsert", SinkType::Upsert)];

    /// The type that was chosen, else what the input allows.
    ///
    /// # Errors
    /// 22023 if a sink of plain rows would get deletions, unless it is to leave them out.
    pub fn of(chosen: Option<SinkType>, leaves_deletions_out: bool, spec: &SinkSpec) -> SqlResult<SinkType> {
        let by_input = if spec.append_only { SinkType::AppendOnly } else { SinkType::Changelog };
        let chosen = chosen.unwrap_or(by_input);
        if chosen == SinkType::AppendOnly && !spec.append_only && !leaves_deletions_out {
            let message = format!("sink \"{}\" is append-only, but its rows can be deleted and changed", spec.name);
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .hint("set type = 'changelog' or 'upsert', or force_append_only = 'true' to leave deletions out"));
        }
        Ok(chosen)
    }
}

/// The key's columns by their names, else the input's own key.
///
/// # Errors
/// 42703 for an unknown column, 22023 if an upsert has no key.
pub fn key_columns(declared: &[String], spec: &SinkSpec, sink_type: SinkType) -> SqlResult<Vec<usize>> {
    let names = || spec.schema.fields().iter().map(|field| field.name().as_str());
    let find = |name: &String| {
        spec.schema.index_of(name).map_err(|_| {
            let message = format!("key column \"{name}\" of sink \"{}\" does not exist", spec.name);
            let error = SqlError::new(SqlState::UNDEFINED_COLUMN, message);
            let near = nearest(name, names()).map(|near| format!("did you mean \"{near}\"?"));
            near.into_iter().fold(error, SqlError::hint)
        })
    };
    let declared = declared.iter().map(find).collect::<SqlResult<Vec<usize>>>()?;
    let key = if declared.is_empty() { spec.key.clone() } else { declared };
    if sink_type == SinkType::Upsert && key.is_empty() {
        let message = format!("sink \"{}\" has type upsert and needs the option \"primary_key\"", spec.name);
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(key)
}

/// The rows that go and those that come, consolidated.
pub fn deleted_and_added(rows: &Rows) -> (Rows, Rows) {
    let rows = consolidate(rows);
    let is_deleted: BooleanArray = (0..rows.len()).map(|row| Some(rows.weight(row) < 0)).collect();
    let is_added: BooleanArray = (0..rows.len()).map(|row| Some(rows.weight(row) > 0)).collect();
    (rows.filter(&is_deleted), rows.filter(&is_added))
}

/// The deleted rows whose key no added row has.
pub fn without_successor(key: &[usize], deleted: &Rows, added: &Rows) -> SqlResult<Rows> {
    let broken = |error| SqlError::internal(format!("the key of a sink cannot be compared: {error}"));
    let columns = |rows: &Rows| key.iter().map(|column| rows.column(*column).clone()).collect::<Vec<ArrayRef>>();
    let schema = deleted.schema();
    let fields = key.iter().map(|column| SortField::new(schema.field(*column).data_type().clone()));
    let converter = RowConverter::new(fields.collect()).map_err(broken)?;
    let old = converter.convert_columns(&columns(deleted)).map_err(broken)?;
    let new = converter.convert_columns(&columns(added)).map_err(broken)?;
    let present: HashSet<&[u8]> = new.iter().map(|row| row.data()).collect();
    let keep: BooleanArray = old.iter().map(|row| Some(!present.contains(row.data()))).collect();
    Ok(deleted.filter(&keep))
}

/// Each row as often as its weight says.
pub fn repeated(rows: &Rows) -> RecordBatch {
    if rows.weights().is_none() {
        return rows.batch().clone();
    }
    let copies = |row: usize| std::iter::repeat_n(row as u32, usize::try_from(rows.weight(row)).unwrap_or(0));
    let indices: UInt32Array = (0..rows.len()).flat_map(copies).collect::<Vec<u32>>().into();
    rows.take(&indices).batch().clone()
}
