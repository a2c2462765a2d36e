//! INSERT, UPDATE, DELETE, TRUNCATE: evaluated on what the statement sees into rows to add and rows to take away.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::LogicalPlan;

use super::read::Reader;
use super::transaction::View;
use crate::catalog::{Catalog, Relation};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::{CHANGED, CONFLICTS, Conflict, Delete, Insert, InsertRows, OutputColumn, Returning, Truncate, Update};
use crate::zset::{Rows, Weight, canonical, canonical_columns, consolidate};

/// What a statement does to one table.
pub struct Change {
    pub table: Arc<Relation>,
    pub truncate: bool,
    pub rows: Rows,
}

/// A statement, evaluated.
pub struct Outcome {
    pub changes: Vec<Change>,
    pub tag: String,
    pub returning: Option<(Vec<OutputColumn>, Vec<RecordBatch>)>,
    /// Whether a duplicate key may be the work of someone else meanwhile, so that a fresh look helps.
    pub retry_on_duplicate: bool,
}

pub async fn insert(reader: &Reader, insert: &Insert) -> SqlResult<Outcome> {
    let table = &insert.table;
    let columns = match &insert.rows {
        InsertRows::Batch(batch) => batch.columns().to_vec(),
        InsertRows::Plan(plan) => collect_columns(reader, plan, &table.arrow_schema()).await?,
    };
    insert_columns(reader, table, columns, insert.conflict.as_ref(), insert.returning.as_ref()).await
}

/// Inserts rows given as the table's columns.
pub async fn insert_columns(
    reader: &Reader,
    table: &Arc<Relation>,
    columns: Vec<ArrayRef>,
    conflict: Option<&Conflict>,
    returning: Option<&Returning>,
) -> SqlResult<Outcome> {
    let proposed = table_batch(table, columns)?;
    let parts = match conflict {
        None => vec![Rows::inserts(proposed)],
        Some(conflict) => resolve_conflicts(reader, table, &proposed, conflict).await?,
    };
    let rows = Rows::concat(&table.arrow_schema(), &parts);
    let changed: Vec<Rows> = parts.into_iter().filter(Rows::is_insert_only).collect();
    let count: usize = changed.iter().map(Rows::len).sum();
    let returning = match returning {
        None => None,
        Some(returning) => {
            let changed = Rows::concat(&table.arrow_schema(), &changed).into_parts().0;
            let own = vec![(CHANGED, renamed(&[("n", &changed)], table))];
            Some((returning.columns.clone(), reader.collect(&returning.plan, own).await?))
        }
    };
    Ok(Outcome {
        changes: vec![Change { table: table.clone(), truncate: false, rows }],
        tag: format!("INSERT 0 {count}"),
        returning,
        retry_on_duplicate: conflict.is_some(),
    })
}

/// Splits proposed rows into those that are new and those whose key is taken; gives parts of one sign each.
async fn resolve_conflicts(
    reader: &Reader,
    table: &Arc<Relation>,
    proposed: &RecordBatch,
    conflict: &Conflict,
) -> SqlResult<Vec<Rows>> {
    let keys = key_columns(table, proposed);
    let (probe, old) = reader.view.lookup(table, &keys);
    let mut is_new = vec![true; proposed.num_rows()];
    probe.iter().for_each(|row| is_new[*row as usize] = false);
    let repeated = repeated_rows(&keys, proposed.num_rows());
    if !repeated.is_empty() && matches!(conflict, Conflict::Update(_)) {
        let message = "ON CONFLICT DO UPDATE command cannot affect row a second time";
        let hint =
            "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.";
        return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message).hint(hint));
    }
    repeated.iter().for_each(|row| is_new[*row] = false);
    let new = Rows::inserts(proposed.clone()).filter(&BooleanArray::from(is_new));
    let Conflict::Update(plan) = conflict else { return Ok(vec![new]) };
    if probe.is_empty() {
        return Ok(vec![new]);
    }
    let clashing = Rows::inserts(proposed.clone()).take(&UInt32Array::from(probe)).into_parts().0;
    let pairs = renamed(&[("o", old.batch()), ("n", &clashing)], table);
    let width = table.columns.len();
    let batches = reader.collect(plan, vec![(CONFLICTS, pairs)]).await?;
    let schema = table.arrow_schema();
    let (before, after) = (columns_of(&batches, 0, &schema)?, columns_of(&batches, width, &schema)?);
    Ok(vec![new, Rows::inserts(table_batch(table, before)?).negate(), Rows::inserts(table_batch(table, after)?)])
}

/// Rows whose key an earlier row has already.
fn repeated_rows(keys: &[ArrayRef], rows: usize) -> Vec<usize> {
    let fields = keys.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).expect("key columns have an order");
    let keys: Vec<ArrayRef> = keys.iter().map(canonical).collect();
    let encoded = converter.convert_columns(&keys).expect("the columns are those of the converter");
    let mut seen = HashSet::with_capacity(rows);
    (0..rows).filter(|row| !seen.insert(encoded.row(*row))).collect()
}

/// The first rows of a table that the same statement creates.
pub fn fill(table: &Arc<Relation>, batches: &[RecordBatch]) -> SqlResult<Outcome> {
    let rows = Rows::inserts(table_batch(table, columns_of(batches, 0, &table.arrow_schema())?)?);
    let tag = format!("SELECT {}", rows.len());
    Ok(Outcome { changes: changes(table, rows), tag, returning: None, retry_on_duplicate: false })
}

pub async fn update(reader: &Reader, update: &Update) -> SqlResult<Outcome> {
    let (table, schema) = (&update.table, update.table.arrow_schema());
    let width = table.columns.len();
    let batches = reader.collect(&update.plan, Vec::new()).await?;
    let (before, after) = (columns_of(&batches, 0, &schema)?, columns_of(&batches, width, &schema)?);
    let before = Rows::inserts(table_batch(table, before)?).negate();
    let after = Rows::inserts(table_batch(table, after)?);
    let count = after.len();
    Ok(Outcome {
        // Rows that an update leaves as they are cancel out.
        changes: changes(table, consolidate(&Rows::concat(&schema, &[before, after]))),
        tag: format!("UPDATE {count}"),
        returning: returned(update.returning.as_ref(), &batches, 2 * width),
        retry_on_duplicate: false,
    })
}

pub async fn delete(reader: &Reader, delete: &Delete) -> SqlResult<Outcome> {
    let table = &delete.table;
    let batches = reader.collect(&delete.plan, Vec::new()).await?;
    let rows = Rows::inserts(table_batch(table, columns_of(&batches, 0, &table.arrow_schema())?)?).negate();
    let count = rows.len();
    Ok(Outcome {
        changes: changes(table, rows),
        tag: format!("DELETE {count}"),
        returning: returned(delete.returning.as_ref(), &batches, table.columns.len()),
        retry_on_duplicate: false,
    })
}

pub fn truncate(truncate: &Truncate) -> Outcome {
    let empty = |table: &Arc<Relation>| Change {
        table: table.clone(),
        truncate: true,
        rows: Rows::empty(table.arrow_schema()),
    };
    Outcome {
        changes: truncate.tables.iter().map(empty).collect(),
        tag: "TRUNCATE TABLE".to_string(),
        returning: None,
        retry_on_duplicate: false,
    }
}

fn changes(table: &Arc<Relation>, rows: Rows) -> Vec<Change> {
    match rows.is_empty() {
        true => Vec::new(),
        false => vec![Change { table: table.clone(), truncate: false, rows }],
    }
}

/// The RETURNING columns: those of each batch from `first` on.
fn returned(
    columns: Option<&Vec<OutputColumn>>,
    batches: &[RecordBatch],
    first: usize,
) -> Option<(Vec<OutputColumn>, Vec<RecordBatch>)> {
    let columns = columns?.clone();
    let indices: Vec<usize> = (first..first + columns.len()).collect();
    let batches = batches.iter().map(|batch| batch.project(&indices).expect("the plan gives the RETURNING columns"));
    Some((columns, batches.collect()))
}

async fn collect_columns(reader: &Reader, plan: &LogicalPlan, schema: &SchemaRef) -> SqlResult<Vec<ArrayRef>> {
    columns_of(&reader.collect(plan, Vec::new()).await?, 0, schema)
}

/// The columns of all batches from `first` on, each as one array, with the types of the schema.
fn columns_of(batches: &[RecordBatch], first: usize, schema: &SchemaRef) -> SqlResult<Vec<ArrayRef>> {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(first + index).as_ref()).collect();
        match parts.is_empty() {
            true => Ok(arrow::array::new_empty_array(field.data_type())),
            false => compute::concat(&parts).map_err(|error| SqlError::internal(format!("rows do not fit: {error}"))),
        }
    });
    columns.collect()
}

/// A batch of the table's own schema.
///
/// # Errors
/// 23502 if a column that must not be NULL is.
fn table_batch(table: &Relation, columns: Vec<ArrayRef>) -> SqlResult<RecordBatch> {
    for (index, column) in table.columns.iter().enumerate() {
        let required = !column.nullable || table.primary_key.contains(&index);
        if let Some(row) = (0..columns[index].len()).find(|row| required && columns[index].is_null(*row)) {
            let message = format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, table.name
            );
            let detail = format!("Failing row contains ({}).", shown(&columns, row));
            return Err(SqlError::new(SqlState::NOT_NULL_VIOLATION, message).detail(detail));
        }
    }
    let schema = table.arrow_schema();
    let rows = columns.first().map_or(0, |column| column.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    // Items of arrays carry the name of their type, which parameters and functions leave out.
    let named =
        columns.iter().zip(schema.fields()).map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    named
        .collect::<Result<_, _>>()
        .and_then(|columns| RecordBatch::try_new_with_options(schema.clone(), columns, &options))
        .map_err(|error| SqlError::internal(format!("rows do not fit table {}: {error}", table.name)))
}

/// The tables' batches side by side, their columns named `o0, o1, …, n0, n1, …`.
fn renamed(batches: &[(&str, &RecordBatch)], table: &Relation) -> RecordBatch {
    let fields = batches.iter().flat_map(|(prefix, _)| {
        let columns = table.columns.iter().enumerate();
        columns.map(move |(index, column)| column.pg_type.field(&format!("{prefix}{index}"), true))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let columns: Vec<ArrayRef> = batches.iter().flat_map(|(_, batch)| batch.columns().to_vec()).collect();
    let options = RecordBatchOptions::new().with_row_count(batches.first().map(|(_, batch)| batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options).expect("the batches have the table's types")
}

fn key_columns(table: &Relation, batch: &RecordBatch) -> Vec<ArrayRef> {
    table.arrangement_key().iter().map(|index| batch.column(*index).clone()).collect()
}

/// What the engine checks for a write by itself is checked at once inside a transaction: no key may have two rows,
/// and rows to delete are there.
///
/// # Errors
/// 23505 for a key that would have two rows.
pub fn check_unique(view: &View, change: &Change) -> SqlResult<()> {
    let table = &change.table;
    if table.primary_key.is_empty() || change.rows.is_empty() {
        return Ok(());
    }
    let keys = Rows::inserts(canonical_columns(&change.rows, &table.primary_key));
    let keys = consolidate(&keys).into_parts().0.columns().to_vec();
    let mut parts = vec![change.rows.clone()];
    if !change.truncate {
        parts.push(view.lookup(table, &keys).1);
    }
    let after = consolidate(&Rows::concat(&table.arrow_schema(), &parts));
    let key = canonical_columns(&after, &table.primary_key);
    let counted = consolidate(&Rows::new(key, after.weights().cloned()));
    let twice = |weight: Weight| weight > 1;
    match (0..counted.len()).find(|row| twice(counted.weight(*row))) {
        None => Ok(()),
        Some(row) => Err(duplicate_key(table, counted.batch(), row)),
    }
}

fn duplicate_key(table: &Relation, keys: &RecordBatch, row: usize) -> SqlError {
    let message = format!("duplicate key value violates unique constraint \"{}_pkey\"", table.name);
    let names: Vec<&str> = table.primary_key.iter().map(|index| table.columns[*index].name.as_str()).collect();
    let detail = format!("Key ({})=({}) already exists.", names.join(", "), shown(keys.columns(), row));
    SqlError::new(SqlState::UNIQUE_VIOLATION, message).detail(detail)
}

fn shown(columns: &[ArrayRef], row: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    let cells = columns.iter().map(|column| {
        let formatter = ArrayFormatter::try_new(column, &options).expect("every SQL type can be shown");
        formatter.value(row).to_string()
    });
    cells.collect::<Vec<_>>().join(", ")
}

/// Refuses a change of a table that is not there any more or that only connectors fill.
pub fn check_tables(catalog: &Catalog, changes: &[Change]) -> SqlResult<()> {
    let gone = changes.iter().find(|change| catalog.get(change.table.id).is_none());
    match gone {
        None => Ok(()),
        Some(change) => {
            let message = format!("relation \"{}\" does not exist", change.table.name);
            Err(SqlError::new(SqlState::UNDEFINED_TABLE, message))
        }
    }
}
