//! The last place to refuse: checks a write against its tables before it goes into the log.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::Schema;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::event::{TableChange, Write, WriteError};
use super::published::Published;
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::connectors::Deletions;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::state::{Arrangement, KeyMatcher};
use crate::zset::{RelationId, Rows, canonical_columns, consolidate, row_hashes};

/// The changes of tables that were taken into the step so far.
#[derive(Default)]
pub(super) struct Pending(HashMap<RelationId, PendingTable>);

/// Changes of one table; arranged only when a later write of the same step has to be checked against them.
struct PendingTable {
    waiting: Vec<Rows>,
    arranged: Arrangement,
}

impl Pending {
    fn add(&mut self, relation: &Relation, rows: &Rows) {
        let fresh = || PendingTable {
            waiting: Vec::new(),
            arranged: Arrangement::new(relation.arrow_schema(), relation.arrangement_key()),
        };
        self.0.entry(relation.id).or_insert_with(fresh).waiting.push(rows.clone());
    }

    fn arranged(&mut self, id: RelationId) -> Option<&Arrangement> {
        let table = self.0.get_mut(&id)?;
        table.waiting.drain(..).for_each(|rows| table.arranged.absorb(&rows));
        Some(&table.arranged)
    }
}

/// Checks one write on top of the published step and of what is pending, and adds it to what is pending.
/// Gives what the write means as rows for each table: a truncation becomes the deletion of what is there.
pub(super) fn admit(
    write: Write,
    catalog: &Catalog,
    published: &Published,
    pending: &mut Pending,
) -> Result<Vec<(RelationId, Rows)>, WriteError> {
    let mut taken: Vec<(RelationId, Rows)> = Vec::new();
    for change in write.changes {
        let relation = catalog.get(change.table).ok_or(WriteError::Conflict)?;
        if relation.kind != RelationKind::Table {
            return Err(wrong_object(relation).into());
        }
        let rows = resolve(change, relation, published, pending)?;
        check_not_null(relation, &rows)?;
        add_rows(&mut taken, relation, rows);
    }
    // Nothing is pending before everything is checked, so that a refused write leaves no trace.
    for (id, rows) in &taken {
        let relation = catalog.get(*id).ok_or(WriteError::Conflict)?;
        if needs_check(relation, rows) {
            check_rows(relation, rows, published, pending)?;
        }
        for index in catalog.relations().filter(|index| index.unique && index.indexes(*id)) {
            check_index(relation, index, rows, published, pending)?;
        }
    }
    for (id, rows) in &taken {
        let relation = catalog.get(*id).ok_or(WriteError::Conflict)?;
        pending.add(relation, rows);
    }
    Ok(taken)
}

/// One entry a table: two changes of one table in one write are checked as their sum.
fn add_rows(taken: &mut Vec<(RelationId, Rows)>, relation: &Relation, rows: Rows) {
    match taken.iter_mut().find(|(id, _)| *id == relation.id) {
        Some((_, before)) => *before = Rows::concat(&relation.arrow_schema(), &[before.clone(), rows]),
        None => taken.push((relation.id, rows)),
    }
}

fn wrong_object(relation: &Relation) -> SqlError {
    let message = format!("cannot change {} \"{}\"", relation.kind.noun(), relation.name);
    SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).hint("Only tables can be changed by clients.")
}

fn resolve(
    change: TableChange,
    relation: &Relation,
    published: &Published,
    pending: &mut Pending,
) -> Result<Rows, WriteError> {
    if !change.truncate {
        return Ok(change.rows);
    }
    let schema = relation.arrow_schema();
    let there = published.snapshot(relation.id).map_or_else(|| Rows::empty(schema.clone()), |there| there.collect());
    let waiting = pending.arranged(relation.id).map(|waiting| waiting.snapshot().collect().negate());
    let parts: Vec<Rows> = [Some(there.negate()), waiting, Some(change.rows)].into_iter().flatten().collect();
    Ok(consolidate(&Rows::concat(&schema, &parts)))
}

/// Pure inserts into a table without a key can break nothing.
fn needs_check(relation: &Relation, rows: &Rows) -> bool {
    !relation.primary_key.is_empty() || !rows.is_insert_only()
}

fn check_not_null(relation: &Relation, rows: &Rows) -> Result<(), WriteError> {
    for (index, column) in relation.columns.iter().enumerate() {
        let required = !column.nullable || relation.primary_key.contains(&index);
        if !required || rows.column(index).null_count() == 0 {
            continue;
        }
        let array = rows.column(index);
        let bad = (0..rows.len()).find(|row| array.is_null(*row) && rows.weight(*row) > 0);
        if let Some(row) = bad {
            let message = format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, relation.name
            );
            let detail = format!("Failing row contains ({}).", shown(rows.batch().columns(), row));
            return Err(SqlError::new(SqlState::NOT_NULL_VIOLATION, message).detail(detail).into());
        }
    }
    Ok(())
}

/// Rows to delete must be there; no key may have two rows.
fn check_rows(
    relation: &Relation,
    rows: &Rows,
    published: &Published,
    pending: &mut Pending,
) -> Result<(), WriteError> {
    let key = relation.arrangement_key();
    let keys = distinct_keys(rows, &key);
    let hashes = row_hashes(&keys, keys.first().map_or(0, |column| column.len()));
    let mut parts = vec![rows.clone()];
    if let Some(there) = published.snapshot(relation.id) {
        parts.push(there.lookup(&keys, &hashes).rows);
    }
    if let Some(waiting) = pending.arranged(relation.id) {
        parts.push(waiting.lookup(&keys, &hashes).rows);
    }
    let after = consolidate(&Rows::concat(&relation.arrow_schema(), &parts));
    if (0..after.len()).any(|row| after.weight(row) < 0) {
        return Err(WriteError::Conflict);
    }
    if relation.primary_key.is_empty() { Ok(()) } else { check_unique(relation, &after) }
}

/// The distinct keys of the rows, as columns.
fn distinct_keys(rows: &Rows, key: &[usize]) -> Vec<ArrayRef> {
    let (batch, _) = consolidate(&Rows::inserts(canonical_columns(rows, key))).into_parts();
    batch.columns().to_vec()
}

fn check_unique(relation: &Relation, after: &Rows) -> Result<(), WriteError> {
    let key = canonical_columns(after, &relation.primary_key);
    let counted = consolidate(&Rows::new(key, after.weights().cloned()));
    match (0..counted.len()).find(|row| counted.weight(*row) > 1) {
        None => Ok(()),
        Some(row) => Err(duplicate_key(relation, &counted.take(&UInt32Array::from(vec![row as u32]))).into()),
    }
}

fn duplicate_key(relation: &Relation, key: &Rows) -> SqlError {
    let message = format!("duplicate key value violates unique constraint \"{}_pkey\"", relation.name);
    SqlError::new(SqlState::UNIQUE_VIOLATION, message)
        .detail(format!("{} already exists.", shown_key(relation, &relation.primary_key, key)))
}

fn shown_key(relation: &Relation, columns: &[usize], key: &Rows) -> String {
    let names: Vec<&str> = columns.iter().map(|index| relation.columns[*index].name.as_str()).collect();
    format!("Key ({})=({})", names.join(", "), shown(key.batch().columns(), 0))
}

/// No key of a unique index may have two rows; keys with a NULL may.
fn check_index(
    relation: &Relation,
    index: &Relation,
    rows: &Rows,
    published: &Published,
    pending: &mut Pending,
) -> Result<(), WriteError> {
    let keys = distinct_keys(rows, &index.index_key);
    let hashes = row_hashes(&keys, keys.first().map_or(0, |column| column.len()));
    let mut parts = vec![rows.clone()];
    match published.index(index) {
        Some(there) => parts.push(there.lookup(&keys, &hashes).rows),
        // It is made in the same step.
        None => parts.extend(published.snapshot(relation.id).map(|there| there.collect())),
    }
    // What waits for the same step is little.
    if let Some(waiting) = pending.arranged(relation.id) {
        parts.push(waiting.snapshot().collect());
    }
    let after = Rows::concat(&relation.arrow_schema(), &parts);
    match repeated_key(&after, &index.index_key) {
        None => Ok(()),
        Some(key) => {
            let message = format!("duplicate key value violates unique constraint \"{}\"", index.name);
            let detail = format!("{} already exists.", shown_key(relation, &index.index_key, &key));
            Err(SqlError::new(SqlState::UNIQUE_VIOLATION, message).detail(detail).into())
        }
    }
}

/// Whether a new unique index finds a key with two rows in its table.
pub(super) fn check_new_index(relation: &Relation, index: &Relation, published: &Published) -> SqlResult<()> {
    let Some(there) = published.snapshot(relation.id) else { return Ok(()) };
    match repeated_key(&there.collect(), &index.index_key) {
        None => Ok(()),
        Some(key) => {
            let detail = format!("{} is duplicated.", shown_key(relation, &index.index_key, &key));
            let message = format!("could not create unique index \"{}\"", index.name);
            let hint = "Delete the rows that are too many, or leave UNIQUE out.";
            Err(SqlError::new(SqlState::UNIQUE_VIOLATION, message).detail(detail).hint(hint))
        }
    }
}

/// One of the keys without NULL that have more than one row.
fn repeated_key(rows: &Rows, columns: &[usize]) -> Option<Rows> {
    let counted = consolidate(&Rows::new(canonical_columns(rows, columns), rows.weights().cloned()));
    let has_null = |row: usize| counted.batch().columns().iter().any(|column| column.is_null(row));
    let row = (0..counted.len()).find(|row| counted.weight(*row) > 1 && !has_null(*row))?;
    Some(counted.take(&UInt32Array::from(vec![row as u32])))
}

fn shown(columns: &[ArrayRef], row: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    let cells = columns.iter().map(|column| {
        let formatter = ArrayFormatter::try_new(column, &options).expect("every SQL type can be shown");
        formatter.value(row).to_string()
    });
    cells.collect::<Vec<_>>().join(", ")
}

/// Rows that a connector gives for a table with a key: each replaces the row of its key, and a deletion takes it away;
/// the last of them counts.
///
/// # Errors
/// 23502 if a key or a required column is NULL.
pub(super) fn upsert(
    relation: &Relation,
    rows: &Rows,
    deletions: Option<&Deletions>,
    published: &Published,
    pending: &mut Pending,
) -> SqlResult<Rows> {
    check_not_null(relation, rows).map_err(|error| match error {
        WriteError::Refused(error) => error,
        WriteError::Conflict => SqlError::internal("a NOT NULL check cannot conflict"),
    })?;
    let touched = touched_keys(relation, rows, deletions)?;
    let newest = last_of_each_key(&touched, rows, deletions);
    let all: Vec<usize> = (0..relation.primary_key.len()).collect();
    let keys = distinct_keys(&touched, &all);
    let hashes = row_hashes(&keys, keys.first().map_or(0, |column| column.len()));
    let mut parts = vec![newest];
    if let Some(there) = published.snapshot(relation.id) {
        parts.push(there.lookup(&keys, &hashes).rows.negate());
    }
    if let Some(waiting) = pending.arranged(relation.id) {
        parts.push(waiting.lookup(&keys, &hashes).rows.negate());
    }
    let change = consolidate(&Rows::concat(&relation.arrow_schema(), &parts));
    pending.add(relation, &change);
    Ok(change)
}

/// The keys of the rows, then those of the deletions.
fn touched_keys(relation: &Relation, rows: &Rows, deletions: Option<&Deletions>) -> SqlResult<Rows> {
    let key = relation.primary_key.iter().map(|index| {
        let column = rows.column(*index);
        let place = relation.primary_key.iter().position(|other| other == index).expect("it is one of them");
        match deletions {
            None => Ok(column.clone()),
            Some(deletions) => arrow::compute::concat(&[column.as_ref(), deletions.keys.column(place).as_ref()]),
        }
    });
    let broken = |error| SqlError::internal(format!("deleted keys do not fit their table: {error}"));
    let columns = key.collect::<Result<Vec<ArrayRef>, _>>().map_err(broken)?;
    let fields = relation.primary_key.iter().map(|index| {
        let column = &relation.columns[*index];
        column.pg_type.field(&column.name, true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(Rows::inserts(RecordBatch::try_new(schema, columns).map_err(broken)?))
}

/// The rows whose key no later row or deletion has. `touched` are the keys of the rows, then those of the deletions.
fn last_of_each_key(touched: &Rows, rows: &Rows, deletions: Option<&Deletions>) -> Rows {
    let key: Vec<ArrayRef> = touched.batch().columns().to_vec();
    let hashes = row_hashes(&key, touched.len());
    let matcher = KeyMatcher::new(&key, &key);
    // A deletion comes before the row that has its number.
    let when = |index: usize| match (index.checked_sub(rows.len()), deletions) {
        (Some(deletion), Some(deletions)) => 2 * deletions.after_rows[deletion],
        _ => 2 * index + 1,
    };
    let mut newest: HashMap<u64, Vec<u32>> = HashMap::new();
    for index in 0..touched.len() {
        let same_hash = newest.entry(hashes[index]).or_default();
        match same_hash.iter_mut().find(|other| matcher.equal(**other as usize, index)) {
            Some(other) if when(*other as usize) < when(index) => *other = index as u32,
            Some(_) => {}
            None => same_hash.push(index as u32),
        }
    }
    let mut kept: Vec<u32> = newest.into_values().flatten().filter(|index| (*index as usize) < rows.len()).collect();
    kept.sort_unstable();
    rows.take(&UInt32Array::from(kept))
}
