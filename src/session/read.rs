//! Queries: what they see, and their rows on the way to the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::cancel::Guard;
use super::outside::World;
use super::response::RowStream;
use super::session::Session;
use super::system::System;
use super::transaction::View;
use crate::connectors::AllowedPaths;
use crate::engine::{Engine, Read, SystemTables};
use crate::error::{SqlError, SqlResult};
use crate::functions::{self, StatementContext, SystemFunctions};
use crate::sql::{FILES_SCHEMA, Query, ROWS_SCHEMA};
use crate::zset::Rows;

/// All that a statement needs to run plans.
#[derive(Clone)]
pub struct Reader {
    pub engine: Engine,
    pub view: View,
    pub system: Arc<System>,
    pub context: StatementContext,
    pub guard: Guard,
}

impl Session {
    /// A reader of what the running statement sees.
    pub(super) fn reader(&mut self, guard: &Guard) -> Reader {
        let view = self.view();
        let search_path = self.settings().search_path(&self.info.user);
        let context = self.context(view.catalog.creation_schema(&search_path).ok());
        let system = System {
            catalog: view.catalog.clone(),
            published: view.published.clone(),
            settings: self.settings.clone(),
            search_path,
            user: self.info.user.clone(),
            database: self.info.database.clone(),
            pid: self.info.pid,
            prepared: self.statements.iter().map(|(name, prepared)| (name.clone(), prepared.clone())).collect(),
            cursors: self.cursors.iter().map(|(name, cursor)| (name.clone(), cursor.text().to_string())).collect(),
            jobs: self.engine.jobs(),
            counters: self.engine.counters().clone(),
        };
        Reader { engine: self.engine.clone(), view, system: Arc::new(system), context, guard: guard.clone() }
    }

    /// The surroundings of the running statement's functions.
    fn context(&self, current_schema: Option<String>) -> StatementContext {
        let settings = self.settings();
        StatementContext {
            now: self.statement_time(),
            time_zone: settings.time_zone(),
            user: self.info.user.clone(),
            database: self.info.database.clone(),
            current_schema,
        }
    }

    /// Runs a query; its rows come as the client takes them.
    pub(super) async fn query(&mut self, query: &Query, guard: &Guard) -> SqlResult<RowStream> {
        let batches = self.reader(guard).stream(&query.plan, Vec::new()).await?;
        let failed = self.stream_failed.clone();
        let watched = batches.inspect(move |batch| {
            if batch.is_err() {
                failed.store(true, Ordering::Release);
            }
        });
        Ok(RowStream::new(query.columns.clone(), watched.boxed(), query.tag))
    }
}

impl Reader {
    /// The rows of a plan, until the statement is interrupted. `own` are the rows that plans of `INSERT … ON CONFLICT`
    /// and RETURNING read.
    pub async fn stream(
        &self,
        plan: &LogicalPlan,
        own: Vec<(&'static str, RecordBatch)>,
    ) -> SqlResult<BoxStream<'static, SqlResult<RecordBatch>>> {
        let tables = Tables { view: self.view.clone(), system: self.system.clone(), own, files: Vec::new() };
        let read = Read {
            published: self.view.published.clone(),
            overlay: Arc::new(self.view.overlay()),
            system: Arc::new(tables.clone()),
            context: self.context.clone(),
        };
        if let Some(batch) = self.engine.query_quick(plan, &read)? {
            return Ok(futures::stream::iter([Ok(batch)]).boxed());
        }
        let calls: Arc<dyn SystemFunctions> = self.system.clone();
        let plan = functions::fix_system(plan.clone(), &calls).map_err(|error| functions::sql_error(&error))?;
        let files = self.guard.run(self.read_files(&plan)).await?;
        let read = Read { system: Arc::new(Tables { files, ..tables }), ..read };
        let (_, batches) = self.engine.query(&plan, read)?;
        Ok(self.guard.clone().stream(batches))
    }

    /// The files that the plan names in FROM.
    async fn read_files(&self, plan: &LogicalPlan) -> SqlResult<Vec<(String, SchemaRef, Vec<RecordBatch>)>> {
        let mut paths = Vec::new();
        let visited = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && scan.table_name.schema() == Some(FILES_SCHEMA)
            {
                paths.push(scan.table_name.table().to_string());
            }
            Ok(TreeNodeRecursion::Continue)
        });
        visited.expect("the visitor never fails");
        let mut files = Vec::new();
        for path in paths {
            let world = World { allowed_paths: AllowedPaths::new(self.engine.config().allowed_paths.clone()) };
            let asked = path.clone();
            // Reading files blocks; the client's other work must not wait for it.
            let read = tokio::task::spawn_blocking(move || futures::executor::block_on(world.read_file(&asked)));
            let (schema, batches) = read.await.map_err(|_| SqlError::internal("reading a file panicked"))??;
            files.push((path, schema, batches));
        }
        Ok(files)
    }

    /// All rows of a plan at once.
    pub async fn collect(
        &self,
        plan: &LogicalPlan,
        own: Vec<(&'static str, RecordBatch)>,
    ) -> SqlResult<Vec<RecordBatch>> {
        let mut stream = self.stream(plan, own).await?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

/// The tables that no published step holds: system catalogs, and what only this transaction knows.
#[derive(Clone)]
struct Tables {
    view: View,
    system: Arc<System>,
    own: Vec<(&'static str, RecordBatch)>,
    files: Vec<(String, SchemaRef, Vec<RecordBatch>)>,
}

impl Tables {
    fn batches(&self, schema: &str, name: &str) -> Option<(SchemaRef, Vec<RecordBatch>)> {
        if schema == FILES_SCHEMA {
            let file = self.files.iter().find(|(path, ..)| path == name)?;
            return Some((file.1.clone(), file.2.clone()));
        }
        self.batch(schema, name).map(|batch| (batch.schema(), vec![batch]))
    }

    fn batch(&self, schema: &str, name: &str) -> Option<RecordBatch> {
        if schema == ROWS_SCHEMA {
            return self.own.iter().find(|(own, _)| *own == name).map(|(_, batch)| batch.clone());
        }
        if let Some(relation) = self.view.catalog.named(schema, name) {
            return self.view.own_rows(relation.id).map(|rows| each_as_often_as_its_weight(&rows));
        }
        self.system.table(schema, name)
    }
}

impl SystemTables for Tables {
    fn table(&self, table: &TableReference) -> Option<Arc<dyn TableProvider>> {
        let (schema, batches) = self.batches(table.schema()?, table.table())?;
        let provider = MemTable::try_new(schema, vec![batches]).expect("the batches have their own schema");
        Some(Arc::new(provider))
    }
}

/// A row of weight 3 three times.
pub(super) fn each_as_often_as_its_weight(rows: &Rows) -> RecordBatch {
    if rows.weights().is_none() {
        return rows.batch().clone();
    }
    let indices = (0..rows.len()).flat_map(|row| {
        let times = usize::try_from(rows.weight(row)).unwrap_or(0);
        std::iter::repeat_n(row as u32, times)
    });
    rows.take(&indices.collect()).into_parts().0
}
