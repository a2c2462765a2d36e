//! Watermarks: how far the times of a relation have come, and the rows that come behind that.
//!
//! A row of a source is late if its time is before the watermark that the rows before it have made: so it does not
//! matter into which steps they are cut, and a source that is read again has the same late rows. The rows of one
//! write have no order and are judged together, by the watermark before them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};

use super::event::{TableChange, Write};
use super::published::Published;
use super::step::Inputs;
use crate::catalog::{Catalog, LATE_ROWS, Relation, WATERMARKS, Watermark};
use crate::connectors::json_objects;
use crate::functions::text::canonical_jsonb;
use crate::zset::{RelationId, Rows, Step};

/// Where one relation's watermark stands; `None` before its first time.
pub(super) type Reached = Option<i64>;

/// The watermarks of a step that is being gathered, and its late rows.
#[derive(Default)]
pub(super) struct Lateness {
    /// As of the last step; looked up when the first relation with a watermark is met.
    before: Option<HashMap<RelationId, i64>>,
    reached: BTreeMap<RelationId, Reached>,
    late: Vec<Late>,
}

/// Rows that came behind a watermark.
#[derive(Clone)]
struct Late {
    relation: String,
    texts: Vec<String>,
    watermark: i64,
}

/// What a write would do to the watermarks, until it is admitted.
pub(super) struct Judged {
    reached: Vec<(RelationId, Reached)>,
    late: Vec<(RelationId, Late)>,
}

impl Lateness {
    fn reached(&mut self, id: RelationId, published: &Published) -> Reached {
        let before = self.before.get_or_insert_with(|| all(published));
        self.reached.get(&id).copied().unwrap_or_else(|| before.get(&id).copied())
    }

    /// The rows of a source that are not late; how many are.
    pub fn take_in_order(&mut self, relation: &Relation, rows: Rows, published: &Published) -> (Rows, u64) {
        let Some(watermark) = relation.watermark else { return (rows, 0) };
        let mut reached = self.reached(relation.id, published);
        let timely = timely_in_order(&rows, watermark, &mut reached);
        self.reached.insert(relation.id, reached);
        let Some(timely) = timely else { return (rows, 0) };
        let late = late_rows(relation, &rows, &timely, reached);
        let count = late.texts.len() as u64;
        self.late.push(late);
        (rows.filter(&timely), count)
    }

    /// A write without its late rows.
    pub fn judge(&mut self, mut write: Write, catalog: &Catalog, published: &Published) -> (Write, Judged) {
        let mut judged = Judged { reached: Vec::new(), late: Vec::new() };
        for change in &mut write.changes {
            let Some(relation) = catalog.get(change.table).filter(|relation| relation.watermark.is_some()) else {
                continue;
            };
            let before = self.reached(relation.id, published);
            self.judge_change(change, relation, before, &mut judged);
        }
        (write, judged)
    }

    fn judge_change(&self, change: &mut TableChange, relation: &Relation, before: Reached, judged: &mut Judged) {
        let Some(watermark) = relation.watermark else { return };
        let times = change.rows.column(watermark.column).as_primitive::<TimestampMicrosecondType>();
        let newest = times.iter().flatten().max().map(|time| time.saturating_sub(watermark.delay));
        let known = judged.reached.iter().find(|(id, _)| *id == relation.id).and_then(|(_, reached)| *reached);
        judged.reached.push((relation.id, before.max(known).max(newest)));
        let Some(bound) = before else { return };
        let timely: BooleanArray = times.iter().map(|time| Some(time.is_none_or(|time| time >= bound))).collect();
        if timely.true_count() < timely.len() {
            judged.late.push((relation.id, late_rows(relation, &change.rows, &timely, before)));
            change.rows = change.rows.filter(&timely);
        }
    }

    /// The write was admitted. Gives how many of its rows were late, by relation.
    pub fn accept(&mut self, judged: Judged) -> Vec<(RelationId, u64)> {
        self.reached.extend(judged.reached);
        let counts = judged.late.iter().map(|(id, late)| (*id, late.texts.len() as u64)).collect();
        self.late.extend(judged.late.into_iter().map(|(_, late)| late));
        counts
    }

    /// Adds to a step what it does to the relations of watermarks and of late rows.
    pub fn finish(self, inputs: &mut Inputs, catalog: &Catalog, published: &Published, step: Step) {
        let Some(before) = self.before else { return };
        let moved = self.reached.into_iter().filter(|(id, reached)| *reached != before.get(id).copied());
        let moved: BTreeMap<RelationId, i64> = moved.filter_map(|(id, reached)| Some((id, reached?))).collect();
        if !moved.is_empty() {
            inputs.add(WATERMARKS, rows_of(published, |id| moved.contains_key(&id)).negate());
            inputs.add(WATERMARKS, watermark_rows(&moved, catalog));
        }
        for late in self.late {
            inputs.add(LATE_ROWS, late_row_batch(&late, step));
        }
    }
}

/// The watermarks of relations that a step drops.
pub(super) fn forget(inputs: &mut Inputs, before: &Catalog, after: &Catalog, published: &Published) {
    let dropped =
        before.relations().filter(|relation| relation.watermark.is_some() && after.get(relation.id).is_none());
    let dropped: HashSet<RelationId> = dropped.map(|relation| relation.id).collect();
    if dropped.is_empty() {
        return;
    }
    let rows = rows_of(published, |id| dropped.contains(&id));
    if !rows.is_empty() {
        inputs.add(WATERMARKS, rows.negate());
    }
}

/// Where a relation's watermark stands at a published step.
pub(super) fn reached(published: &Published, id: RelationId) -> Reached {
    all(published).get(&id).copied()
}

fn all(published: &Published) -> HashMap<RelationId, i64> {
    let rows = rows_of(published, |_| true);
    let times = rows.column(2).as_primitive::<TimestampMicrosecondType>();
    ids(&rows).zip(times.values()).map(|(id, time)| (id, *time)).collect()
}

fn ids(rows: &Rows) -> impl Iterator<Item = RelationId> {
    rows.column(0).as_primitive::<Int64Type>().values().iter().map(|id| RelationId(*id as u64))
}

/// The rows of the relation of watermarks for the relations wanted.
fn rows_of(published: &Published, wanted: impl Fn(RelationId) -> bool) -> Rows {
    let snapshot = published.snapshot(WATERMARKS).expect("the relation of watermarks is always there");
    let rows = snapshot.collect();
    let kept: BooleanArray = ids(&rows).map(|id| Some(wanted(id))).collect();
    rows.filter(&kept)
}

/// Which rows of a source are not late, each by those before it; `None` if all are in time. Moves the watermark.
pub(super) fn timely_in_order(rows: &Rows, watermark: Watermark, reached: &mut Reached) -> Option<BooleanArray> {
    let times = rows.column(watermark.column).as_primitive::<TimestampMicrosecondType>();
    let mut any_late = false;
    let timely: Vec<bool> = (times.iter())
        .map(|time| {
            let Some(time) = time else { return true };
            let late = reached.is_some_and(|reached| time < reached);
            *reached = (*reached).max(Some(time.saturating_sub(watermark.delay)));
            any_late |= late;
            !late
        })
        .collect();
    any_late.then(|| BooleanArray::from(timely))
}

fn late_rows(relation: &Relation, rows: &Rows, timely: &BooleanArray, watermark: Reached) -> Late {
    let late = rows.filter(&arrow::compute::not(timely).expect("a verdict can be turned"));
    let types: Vec<_> = relation.columns.iter().map(|column| column.pg_type.clone()).collect();
    let named = RecordBatch::try_new(relation.arrow_schema(), late.batch().columns().to_vec());
    let named = named.unwrap_or_else(|_| late.batch().clone());
    let objects = json_objects(&named, &types).unwrap_or_else(|_| vec!["null".to_string(); late.len()]);
    let texts = objects.into_iter().map(|object| {
        let mut text = String::new();
        // What we write ourselves is JSON.
        let _ = canonical_jsonb(&object, &mut text);
        text
    });
    Late { relation: relation.name.clone(), texts: texts.collect(), watermark: watermark.unwrap_or(i64::MIN) }
}

fn late_row_batch(late: &Late, step: Step) -> Rows {
    let count = late.texts.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(late.relation.as_str(), count))),
        Arc::new(StringViewArray::from_iter_values(&late.texts)),
        Arc::new(TimestampMicrosecondArray::from_value(late.watermark, count)),
        Arc::new(Int64Array::from_value(step.0 as i64, count)),
    ];
    own_rows(LATE_ROWS, columns)
}

fn watermark_rows(moved: &BTreeMap<RelationId, i64>, catalog: &Catalog) -> Rows {
    let name = |id: &RelationId| catalog.get(*id).map_or(String::new(), |relation| relation.name.clone());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(moved.keys().map(|id| id.0 as i64))),
        Arc::new(StringViewArray::from_iter_values(moved.keys().map(name))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(moved.values().copied())),
    ];
    own_rows(WATERMARKS, columns)
}

fn own_rows(id: RelationId, columns: Vec<ArrayRef>) -> Rows {
    let schema = Catalog::bootstrap().get(id).expect("the bootstrap has it").arrow_schema();
    Rows::inserts(RecordBatch::try_new(schema, columns).expect("the columns are those of the relation"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zset::{parse_rows, pretty_rows};

    fn timely(rows: &str, cuts: &[usize]) -> (String, Reached) {
        let rows = parse_rows("x INT, ts TIMESTAMP", rows);
        let watermark = Watermark { column: 1, delay: 5_000_000 };
        let (mut kept, mut reached, mut from) = (Vec::new(), None, 0);
        for to in cuts.iter().copied().chain([rows.len()]) {
            let part = rows.slice(from, to - from);
            let timely = timely_in_order(&part, watermark, &mut reached);
            kept.push(timely.map_or(part.clone(), |timely| part.filter(&timely)));
            from = to;
        }
        (pretty_rows(&Rows::concat(&rows.schema(), &kept)), reached)
    }

    #[test]
    fn into_which_steps_rows_are_cut_does_not_matter_for_which_are_late() {
        let rows = "+1 | 1 | 2024-01-01T00:00:10\n+1 | 2 | 2024-01-01T00:00:04\n+1 | 3 | NULL\n\
                    +1 | 4 | 2024-01-01T00:00:05\n+1 | 5 | 2024-01-01T00:00:20\n+1 | 6 | 2024-01-01T00:00:14";
        let whole = timely(rows, &[]);
        assert!(!whole.0.contains("| 2 |") && whole.0.contains("| 4 |") && !whole.0.contains("| 6 |"), "{}", whole.0);
        assert!(whole.0.contains("| 3 |"), "a row without a time is never late");
        for cut in 1..6 {
            assert_eq!(timely(rows, &[cut]), whole);
        }
        assert_eq!(timely(rows, &[1, 2, 3, 4, 5]), whole);
    }
}
