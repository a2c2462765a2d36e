//! Reads at one published step: a plan run by DataFusion over snapshots, on the engine's own threads.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::define::CatalogInputs;
use super::handle::Engine;
use super::ingest::reread;
use super::published::Published;
use crate::catalog::RelationKind;
use crate::error::{SqlError, SqlResult};
use crate::functions::{self, StatementContext};
use crate::plan::{self, Data, Growth, RunContext};
use crate::state::Arrangement;
use crate::zset::{RelationId, Rows};

/// Batches that wait for a slow reader before the query does.
const BATCHES_AHEAD: usize = 4;

/// Relations that no dataflow keeps: the system catalogs.
pub trait SystemTables: Send + Sync {
    fn table(&self, table: &TableReference) -> Option<Arc<dyn TableProvider>>;
}

/// What one query reads.
#[derive(Clone)]
pub struct Read {
    pub published: Arc<Published>,
    /// Rows that the transaction has written and not committed.
    pub overlay: Arc<HashMap<RelationId, Rows>>,
    pub system: Arc<dyn SystemTables>,
    pub context: StatementContext,
}

/// A read with what its sources hold.
struct Tables {
    read: Read,
    sources: HashMap<RelationId, Rows>,
}

impl Data for Tables {
    fn table(&self, table: &TableReference) -> Option<Arc<dyn TableProvider>> {
        if let Some(found) = self.read.system.table(table) {
            return Some(found);
        }
        let relation = self.read.published.catalog.named(table.schema()?, table.table())?;
        if let Some(rows) = self.sources.get(&relation.id) {
            let mut again = Arrangement::new(relation.arrow_schema(), relation.arrangement_key());
            again.absorb(rows);
            return Some(plan::snapshot_table(again.snapshot(), Vec::new(), None));
        }
        let snapshot = self.read.published.snapshot(relation.id)?;
        let indexes = self.read.published.indexes(relation.id);
        Some(plan::snapshot_table(snapshot, indexes, self.read.overlay.get(&relation.id).cloned()))
    }
}

impl Engine {
    /// The rows of a bound plan that needs no planning, at once; `None` for any other.
    ///
    /// # Errors
    /// A relation that the plan reads has live error rows.
    pub fn query_quick(&self, plan: &LogicalPlan, read: &Read) -> SqlResult<Option<RecordBatch>> {
        let tables = Tables { read: read.clone(), sources: HashMap::new() };
        let Some(batch) = plan::run_quick(plan, &tables) else { return Ok(None) };
        check_errors(plan, &relations_read(plan, &read.published), &read.published)?;
        Ok(Some(batch))
    }

    /// Runs a bound plan. Dropping the stream ends the query.
    ///
    /// # Errors
    /// A relation that the plan reads has live error rows; or the plan cannot be run. Errors of the data come out
    /// of the stream.
    pub fn query(
        &self,
        plan: &LogicalPlan,
        read: Read,
    ) -> SqlResult<(SchemaRef, BoxStream<'static, SqlResult<RecordBatch>>)> {
        let reads = relations_read(plan, &read.published);
        check_errors(plan, &reads, &read.published)?;
        let context = RunContext {
            statement: read.context.clone(),
            memory: Some(self.0.memory.clone()),
            partitions: self.0.config.workers,
        };
        let sources = self.read_sources(&reads, &read.published)?;
        let _on_runtime = self.0.runtime.enter();
        let mut batches = plan::run(plan, &Tables { read, sources }, &context)?;
        let schema = batches.schema();
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        self.0.runtime.spawn(async move {
            loop {
                // A panic must not look like the end of the rows.
                let next = tokio::select! {
                    next = AssertUnwindSafe(batches.next()).catch_unwind() => next,
                    () = sender.closed() => return,
                };
                let (next, is_over) = match next {
                    Ok(None) => return,
                    Ok(Some(batch)) => (batch.map_err(|error| functions::errors::sql_error(&error)), false),
                    Err(_) => (Err(SqlError::internal("the query could not be computed")), true),
                };
                if sender.send(next).await.is_err() || is_over {
                    return;
                }
            }
        });
        let stream = futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        Ok((schema, stream.boxed()))
    }

    /// The rows of the sources among the relations: those that steps have taken so far, read once more.
    fn read_sources(&self, reads: &HashSet<RelationId>, published: &Published) -> SqlResult<HashMap<RelationId, Rows>> {
        let mut found = HashMap::new();
        for relation in reads.iter().filter_map(|id| published.catalog.get(*id)) {
            if relation.kind == RelationKind::Source {
                let to = published.positions.get(&relation.id).cloned();
                let again = reread(relation, &self.0.config, (None, None), to);
                // The caller may be a task of some runtime, where blocking is not allowed.
                let runtime = &self.0.runtime;
                let rows = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(again)).join());
                found.insert(relation.id, rows.map_err(|_| SqlError::internal("reading a source panicked"))??);
            }
        }
        Ok(found)
    }

    /// The operators of the query, as a view, whose state grows for ever.
    ///
    /// # Errors
    /// The query cannot be planned.
    pub fn growing(&self, query: &LogicalPlan) -> SqlResult<Vec<Growth>> {
        let published = self.published();
        let inputs = CatalogInputs { catalog: &published.catalog, flows: &HashMap::new() };
        Ok(plan::growing(&plan::lower(&plan::normalize(query.clone())?, &inputs)?))
    }

    /// What EXPLAIN shows: the dataflow that the query would be as a view.
    ///
    /// # Errors
    /// The query cannot be planned.
    pub fn explain(&self, query: &LogicalPlan) -> SqlResult<Vec<String>> {
        let published = self.published();
        let inputs = CatalogInputs { catalog: &published.catalog, flows: &HashMap::new() };
        let graph = plan::lower(&plan::normalize(query.clone())?, &inputs)?;
        let name = |id| published.catalog.get(id).map_or_else(|| id.to_string(), |relation| relation.name.clone());
        Ok(plan::explain(&graph, &name))
    }
}

/// Reading a relation raises the first of its live error rows; removing the bad input heals it.
///
/// A relation of which the plan's normal form needs nothing (`WHERE false`) is not read: a view over it has no error
/// rows either.
fn check_errors(plan: &LogicalPlan, reads: &HashSet<RelationId>, published: &Published) -> SqlResult<()> {
    if first_error(reads, published).is_none() {
        return Ok(());
    }
    let needed = relations_read(&plan::normalize(plan.clone())?, published);
    first_error(&needed, published).map_or(Ok(()), Err)
}

fn first_error(reads: &HashSet<RelationId>, published: &Published) -> Option<SqlError> {
    let erring = reads.iter().filter_map(|id| Some((*id, published.errors(*id).first()?.clone())));
    let (id, error) = erring.min_by_key(|(id, _)| *id)?;
    let name = published.catalog.get(id).map_or("", |relation| relation.name.as_str());
    let detail = format!("A row of materialized view \"{name}\" has no value because of this error.");
    let hint = format!("Correct or delete the input row; \"{name}\" heals by itself.");
    Some(SqlError::from(error).detail(detail).hint(hint))
}

fn relations_read(plan: &LogicalPlan, published: &Published) -> HashSet<RelationId> {
    let mut read = HashSet::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let found =
                scan.table_name.schema().and_then(|schema| published.catalog.named(schema, scan.table_name.table()));
            read.extend(found.map(|relation| relation.id));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor never fails");
    read
}
