//! A published relation as a table that DataFusion can scan, with look-ups where a filter fixes the key.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::state::{Arrangement, Snapshot};
use crate::zset::{Rows, row_hashes};

/// Rows of one batch of a scan.
const BATCH_ROWS: usize = 8192;
/// Keys that one scan looks up at most; a filter that allows more is a scan.
const LOOKUP_KEYS_MAX: usize = 1024;

/// The rows of a snapshot, each as often as its weight says. `indexes` have the same rows under other keys; `overlay`
/// holds a transaction's own uncommitted changes.
pub fn snapshot_table(snapshot: Snapshot, indexes: Vec<Snapshot>, overlay: Option<Rows>) -> Arc<dyn TableProvider> {
    let laid_over = |snapshot: Snapshot| match &overlay {
        None => snapshot,
        Some(rows) => {
            let mut changes = Arrangement::new(snapshot.schema().clone(), snapshot.key().to_vec());
            changes.absorb(rows);
            Snapshot::merged(&[snapshot, changes.snapshot()])
        }
    };
    let indexes = indexes.into_iter().map(laid_over).collect();
    Arc::new(SnapshotTable { snapshot: laid_over(snapshot), indexes })
}

struct SnapshotTable {
    snapshot: Snapshot,
    indexes: Vec<Snapshot>,
}

impl SnapshotTable {
    /// Where to look for the rows that filters leave: the keys, and the snapshot that is arranged by them; or all rows.
    fn narrowed(&self, filters: &[Expr]) -> (&Snapshot, Option<Vec<ArrayRef>>) {
        let all = std::iter::once(&self.snapshot).chain(&self.indexes);
        let mut fixed = all.filter_map(|snapshot| Some((snapshot, Some(fixed_keys(snapshot, filters)?))));
        fixed.next().unwrap_or((&self.snapshot, None))
    }
}

/// At least the rows for which all filters are true, if they fix the key or the relation is small; `None` otherwise, or if
/// the table is not of [`snapshot_table`].
pub(super) fn few_rows(table: &dyn TableProvider, filters: &[Expr]) -> Option<RecordBatch> {
    let table = table.downcast_ref::<SnapshotTable>()?;
    let (snapshot, keys) = table.narrowed(filters);
    let rows = match keys {
        Some(keys) => {
            let hashes = row_hashes(&keys, keys.first().map_or(1, |key| key.len()));
            snapshot.lookup(&keys, &hashes).rows
        }
        None if snapshot.rows() <= BATCH_ROWS => snapshot.collect(),
        None => return None,
    };
    Some(expand(&rows, None, snapshot.schema()))
}

impl fmt::Debug for SnapshotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot of {} rows", self.snapshot.rows())
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.snapshot.schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A filter that fixes key columns narrows the scan to look-ups; DataFusion checks it again on what is found.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.schema().project(columns)?),
            None => self.schema(),
        };
        let (snapshot, keys) = self.narrowed(filters);
        let part =
            SnapshotScan { snapshot: snapshot.clone(), keys, projection: projection.cloned(), schema: schema.clone() };
        let limit = limit.filter(|_| filters.is_empty());
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(part)], None, None, false, limit)?))
    }
}

/// One scan of a snapshot: of the given keys, or of all.
struct SnapshotScan {
    snapshot: Snapshot,
    keys: Option<Vec<ArrayRef>>,
    projection: Option<Vec<usize>>,
    schema: SchemaRef,
}

impl fmt::Debug for SnapshotScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            Some(keys) => write!(f, "look-up of {} keys", keys.first().map_or(0, |key| key.len())),
            None => write!(f, "scan of {} rows", self.snapshot.rows()),
        }
    }
}

impl PartitionStream for SnapshotScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let projection = self.projection.clone();
        let found: Box<dyn Iterator<Item = Rows> + Send> = match &self.keys {
            Some(keys) => {
                let hashes = row_hashes(keys, keys.first().map_or(1, |key| key.len()));
                Box::new(std::iter::once(self.snapshot.lookup(keys, &hashes).rows))
            }
            None => Box::new(self.snapshot.batches(BATCH_ROWS)),
        };
        let schema = self.schema.clone();
        let batches = found.map(move |rows| Ok(expand(&rows, projection.as_deref(), &schema)));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(batches)))
    }
}

/// Every row as often as its weight says: what DataFusion reads. `rows` are consolidated and none is retracted.
pub(super) fn expand(rows: &Rows, projection: Option<&[usize]>, schema: &SchemaRef) -> RecordBatch {
    let batch = match projection {
        Some(columns) => rows.batch().project(columns).expect("a scan projects columns of its table"),
        None => rows.batch().clone(),
    };
    let (columns, count) = match rows.weights().filter(|weights| weights.values().iter().any(|weight| *weight != 1)) {
        None => (batch.columns().to_vec(), batch.num_rows()),
        Some(weights) => {
            let repeated = weights.values().iter().enumerate().flat_map(|(row, weight)| {
                let times = usize::try_from(*weight).expect("a relation holds no row less than no time");
                std::iter::repeat_n(u32::try_from(row).expect("a batch has fewer than 2^32 rows"), times)
            });
            let indices: UInt32Array = repeated.collect::<Vec<u32>>().into();
            let columns = batch.columns().iter().map(|column| compute::take(column, &indices, None));
            let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>().expect("indices are within the batch");
            (columns, indices.len())
        }
    };
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("the snapshot has its schema's types")
}

/// The keys that the filters allow, as columns, if they fix every key column to a few values.
fn fixed_keys(snapshot: &Snapshot, filters: &[Expr]) -> Option<Vec<ArrayRef>> {
    let schema = snapshot.schema();
    let mut keys: Vec<Vec<ScalarValue>> = vec![Vec::new()];
    if snapshot.key().is_empty() {
        return None;
    }
    for column in snapshot.key() {
        let field = schema.field(*column);
        let values = filters.iter().find_map(|filter| allowed_values(filter, field.name()))?;
        // Of floats and intervals several values are one key: a look-up for each would find its rows twice.
        let several = matches!(field.data_type(), DataType::Float32 | DataType::Float64 | DataType::Interval(_));
        if several || values.iter().any(|value| value.data_type() != *field.data_type()) {
            return None;
        }
        // NULL equals nothing, so it is no key to look for; a value asked for twice is looked up once.
        let mut distinct: Vec<ScalarValue> = Vec::with_capacity(values.len());
        values.into_iter().filter(|value| !value.is_null()).for_each(|value| {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        });
        if keys.len() * distinct.len() > LOOKUP_KEYS_MAX {
            return None;
        }
        let extend =
            |key: &Vec<ScalarValue>, value: &ScalarValue| [key.as_slice(), std::slice::from_ref(value)].concat();
        keys = keys.iter().flat_map(|key| distinct.iter().map(move |value| extend(key, value))).collect();
    }
    (0..snapshot.key().len())
        .map(|part| {
            let field = schema.field(snapshot.key()[part]);
            match keys.is_empty() {
                true => Some(arrow::array::new_empty_array(field.data_type())),
                false => ScalarValue::iter_to_array(keys.iter().map(|key| key[part].clone())).ok(),
            }
        })
        .collect()
}

/// The values that a filter allows for a column, if it is `column = value`, `column IN (…)`, or several of these with
/// OR.
fn allowed_values(filter: &Expr, column: &str) -> Option<Vec<ScalarValue>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(found) if found.name == column);
    let value = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(left) => Some(vec![value(right)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(right) => Some(vec![value(left)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some([allowed_values(left, column)?, allowed_values(right, column)?].concat())
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            allowed_values(left, column).or_else(|| allowed_values(right, column))
        }
        Expr::InList(list) if !list.negated && is_column(&list.expr) => list.list.iter().map(value).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};
    use futures::TryStreamExt;

    use super::*;
    use crate::zset::{parse_rows, pretty_rows};

    fn snapshot() -> Snapshot {
        let rows = parse_rows("id INT, s TEXT", "+1 | 1 | a\n+1 | 2 | b\n+2 | 3 | c\n+1 | 4 | NULL");
        let mut held = Arrangement::new(rows.schema(), vec![0]);
        held.absorb(&rows);
        held.snapshot()
    }

    fn keys(filters: &[Expr]) -> Option<usize> {
        fixed_keys(&snapshot(), filters).map(|keys| keys[0].len())
    }

    fn scanned(table: &dyn TableProvider, filters: &[Expr]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let state = crate::functions::session_state();
            let plan = table.scan(&state, None, filters, None).await.expect("a scan");
            let stream = plan.execute(0, state.task_ctx()).expect("a stream");
            let batches: Vec<RecordBatch> = stream.try_collect().await.expect("rows");
            let parts: Vec<Rows> = batches.into_iter().map(Rows::inserts).collect();
            pretty_rows(&Rows::concat(&table.schema(), &parts))
        })
    }

    #[test]
    fn filters_that_fix_the_key_are_look_ups() {
        assert_eq!(keys(&[col("id").eq(lit(2i32))]), Some(1));
        assert_eq!(keys(&[lit(2i32).eq(col("id")), col("s").eq(lit("b"))]), Some(1));
        assert_eq!(keys(&[col("id").in_list(vec![lit(1i32), lit(2i32), lit(1i32)], false)]), Some(2));
        assert_eq!(keys(&[col("id").eq(lit(1i32)).or(col("id").eq(lit(4i32)))]), Some(2));
        assert_eq!(keys(&[col("id").eq(lit(ScalarValue::Int32(None)))]), Some(0));
    }

    #[test]
    fn other_filters_are_scans() {
        assert_eq!(keys(&[col("s").eq(lit("b"))]), None);
        assert_eq!(keys(&[col("id").gt(lit(2i32))]), None);
        assert_eq!(keys(&[col("id").eq(lit(1i32)).or(col("s").eq(lit("a")))]), None);
        assert_eq!(keys(&[col("id").in_list(vec![lit(1i32)], true)]), None);
        assert_eq!(keys(&[col("id").eq(lit(1i64))]), None);
    }

    #[test]
    fn a_scan_gives_every_row_as_often_as_it_is_there() {
        let table = snapshot_table(snapshot(), Vec::new(), None);
        assert_eq!(scanned(table.as_ref(), &[]), "+1 | 1 | a\n+1 | 2 | b\n+1 | 3 | c\n+1 | 3 | c\n+1 | 4 | NULL");
        assert_eq!(scanned(table.as_ref(), &[col("id").eq(lit(3i32))]), "+1 | 3 | c\n+1 | 3 | c");
        assert_eq!(scanned(table.as_ref(), &[col("id").eq(lit(9i32))]), "");
    }

    #[test]
    fn an_index_narrows_what_the_key_does_not() {
        let b = || lit(ScalarValue::Utf8View(Some("b".to_string())));
        let rows = snapshot().collect();
        let mut by_name = Arrangement::new(rows.schema(), vec![1]);
        by_name.absorb(&rows);
        let by_name = SnapshotTable { snapshot: snapshot(), indexes: vec![by_name.snapshot()] };
        let keys = |filters: &[Expr]| by_name.narrowed(filters).1.map(|keys| keys[0].len());
        assert_eq!(keys(&[col("s").eq(b())]), Some(1));
        assert_eq!(keys(&[col("id").eq(lit(1i32)), col("s").eq(b())]), Some(1));
        assert_eq!(keys(&[col("id").gt(lit(1i32))]), None);
        let overlay = parse_rows("id INT, s TEXT", "-1 | 2 | b\n+1 | 7 | b");
        let table = snapshot_table(snapshot(), by_name.indexes.clone(), Some(overlay));
        assert_eq!(scanned(table.as_ref(), &[col("s").eq(b())]), "+1 | 7 | b");
    }

    #[test]
    fn an_overlay_adds_and_takes_away() {
        let overlay = parse_rows("id INT, s TEXT", "-1 | 1 | a\n+1 | 1 | z\n-2 | 3 | c");
        let table = snapshot_table(snapshot(), Vec::new(), Some(overlay));
        assert_eq!(scanned(table.as_ref(), &[]), "+1 | 1 | z\n+1 | 2 | b\n+1 | 4 | NULL");
        assert_eq!(scanned(table.as_ref(), &[col("id").eq(lit(1i32))]), "+1 | 1 | z");
    }
}
