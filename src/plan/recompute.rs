//! A plan run once by DataFusion: SELECT and DML of sessions, and the sub-plans of views that have no rule of their own.

use std::cell::OnceCell;
use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, SkipType, Sort, TableType};
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};

use super::guard;
use super::rewrite::{normalize_in, optimize_in, state};
use crate::dataflow::operators::Compute;
use crate::error::SqlResult;
use crate::functions::errors::sql_error;
use crate::functions::{self, StatementContext};
use crate::zset::DataError;

/// Where the tables of a plan come from when it is run.
pub trait Data: Send + Sync {
    fn table(&self, table: &TableReference) -> Option<Arc<dyn TableProvider>>;
}

/// Under what a plan is run once.
#[derive(Clone, Default)]
pub struct RunContext {
    /// What `now()`, `current_user` and their like are.
    pub statement: StatementContext,
    /// What the run may take; without limit if `None`.
    pub memory: Option<Arc<dyn MemoryPool>>,
    /// Parts in which large inputs are worked on at the same time; 0 and 1 mean one.
    pub partitions: usize,
}

/// Runs a bound plan. Dropping the stream cancels it. To be called, and the stream polled, on a tokio runtime.
pub fn run(plan: &LogicalPlan, data: &dyn Data, context: &RunContext) -> SqlResult<SendableRecordBatchStream> {
    let run = || {
        let state = state_for(context)?;
        let plan = functions::fix_context(with_tables(plan.clone(), &|table| data.table(table))?, &context.statement)?;
        let plan = match context.statement.time_zone.as_str() {
            "" | "UTC" => plan,
            zone => functions::in_zone(plan, zone)?,
        };
        let physical = create_physical(&state, cut_sorts(normalize_in(&state, plan)?)?)?;
        execute_stream(physical, task_context(&state))
    };
    run().map_err(|error| sql_error(&error))
}

/// Tells every sort below a limit how many rows are wanted: DataFusion drops a sort whose order nothing asks for, and
/// with a count it is no mere order.
fn cut_sorts(plan: LogicalPlan) -> Result<LogicalPlan> {
    let cut = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Limit(mut limit) = node else { return Ok(Transformed::no(node)) };
        if let (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        {
            limit.input = Arc::new(cut_sort_below(Arc::unwrap_or_clone(limit.input), skip.saturating_add(fetch))?);
        }
        Ok(Transformed::yes(LogicalPlan::Limit(limit)))
    })?;
    Ok(cut.data)
}

fn cut_sort_below(plan: LogicalPlan, rows: usize) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Sort(sort) => Ok(LogicalPlan::Sort(Sort { fetch: Some(rows), ..sort })),
        LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
            Ok(plan.map_children(|child| cut_sort_below(child, rows).map(Transformed::yes))?.data)
        }
        other => Ok(other),
    }
}

/// The state for a run. Making one costs more than a point read, so the last one is kept for runs like it.
fn state_for(context: &RunContext) -> Result<Arc<SessionState>> {
    static LAST: Mutex<Option<(RunLike, Arc<SessionState>)>> = Mutex::new(None);
    let like = RunLike {
        memory: context.memory.as_ref().map(|pool| Arc::as_ptr(pool) as *const () as usize),
        partitions: context.partitions,
    };
    let mut last = LAST.lock().expect("no holder of the lock panics");
    if let Some((_, state)) = last.as_ref().filter(|(known, _)| *known == like) {
        return Ok(state.clone());
    }
    let state = Arc::new(make_state(context)?);
    *last = Some((like, state.clone()));
    Ok(state)
}

/// What of a run's context its state depends on. The state holds the memory pool, so its address is not used again.
#[derive(PartialEq)]
struct RunLike {
    memory: Option<usize>,
    partitions: usize,
}

fn make_state(context: &RunContext) -> Result<SessionState> {
    let mut builder = SessionStateBuilder::new_from_existing(state().clone());
    if let Some(pool) = &context.memory {
        builder = builder.with_runtime_env(RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc()?);
    }
    let mut state = builder.build();
    let options = state.config_mut().options_mut();
    options.execution.target_partitions = context.partitions.max(1);
    Ok(state)
}

/// Physical planning is `async` only in name here: scans of tables in memory never wait. The caller may be a tokio task
/// whose budget is used up; without a budget of its own the planner would wait for it for ever.
fn create_physical(state: &SessionState, plan: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = guard::guard(plan, state)?;
    futures::executor::block_on(tokio::task::unconstrained(state.query_planner().create_physical_plan(&plan, state)))
}

/// What running needs of a state, without its lists of functions.
fn task_context(state: &SessionState) -> Arc<TaskContext> {
    let context = TaskContext::default().with_session_config(state.config().clone());
    Arc::new(context.with_runtime(state.runtime_env().clone()))
}

/// Puts table providers behind the scans, also in subqueries.
fn with_tables(
    plan: LogicalPlan,
    find: &dyn Fn(&TableReference) -> Option<Arc<dyn TableProvider>>,
) -> Result<LogicalPlan> {
    let bound = plan.transform_down_with_subqueries(|plan| match plan {
        LogicalPlan::TableScan(mut scan) => {
            let Some(provider) = find(&scan.table_name) else {
                return Ok(Transformed::no(LogicalPlan::TableScan(scan)));
            };
            scan.source = provider_as_source(provider);
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(bound.data)
}

/// A sub-plan of a view, which is run again and again over rows in memory.
#[derive(Clone)]
pub(super) struct SubPlan {
    /// In normal form.
    pub plan: LogicalPlan,
    /// The tables that it scans, and last the clock if it reads the clock.
    pub inputs: Vec<(TableReference, SchemaRef)>,
    pub reads_clock: bool,
    /// Of its rows.
    pub schema: SchemaRef,
}

impl SubPlan {
    pub fn input_schemas(&self) -> Vec<SchemaRef> {
        self.inputs.iter().map(|(_, schema)| schema.clone()).collect()
    }

    /// Fails if DataFusion cannot run the plan.
    pub fn check(&self) -> SqlResult<()> {
        let computation = self.bound().map_err(|error| sql_error(&error))?;
        computation.create_physical(0).map_err(|error| sql_error(&error))?;
        Ok(())
    }

    /// What runs the plan on one worker.
    pub fn computation(&self) -> Computation {
        self.bound().expect("the plan was bound to tables before")
    }

    fn bound(&self) -> Result<Computation> {
        let tables: Vec<Arc<InputTable>> =
            self.inputs.iter().map(|(_, schema)| Arc::new(InputTable::new(schema.clone()))).collect();
        let find = |name: &TableReference| {
            let index = self.inputs.iter().position(|(known, _)| known == name)?;
            Some(tables[index].clone() as Arc<dyn TableProvider>)
        };
        let plan = with_tables(self.plan.clone(), &find)?;
        let (reads_clock, schema) = (self.reads_clock, self.schema.clone());
        let task = task_context(state());
        Ok(Computation { plan, inputs: tables, reads_clock, schema, task, physical: Mutex::default() })
    }
}

/// A sub-plan with tables of its own. Planned once, unless it reads the clock.
pub(super) struct Computation {
    plan: LogicalPlan,
    inputs: Vec<Arc<InputTable>>,
    reads_clock: bool,
    schema: SchemaRef,
    task: Arc<TaskContext>,
    /// Locked while the tables are in use.
    physical: Mutex<Option<Arc<dyn ExecutionPlan>>>,
}

impl Compute for Computation {
    fn compute(&self, now: i64, inputs: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, DataError> {
        let mut physical = self.physical.lock().expect("no holder of the lock panics");
        let run = || -> Result<Vec<RecordBatch>> {
            self.inputs.iter().zip(inputs).try_for_each(|(table, batches)| table.put(&batches))?;
            let plan = match &*physical {
                Some(plan) => reset_plan_states(plan.clone())?,
                None => self.create_physical(now)?,
            };
            *physical = Some(plan.clone()).filter(|_| !self.reads_clock);
            let batches = wait_for(collect(plan, self.task.clone()))?;
            batches.iter().map(|batch| self.fitted(batch)).collect()
        };
        let result = run().map_err(|error| DataError::from(sql_error(&error)));
        self.inputs.iter().for_each(|table| table.clear());
        result
    }
}

impl Computation {
    fn create_physical(&self, now: i64) -> Result<Arc<dyn ExecutionPlan>> {
        let mut plan = self.plan.clone();
        if self.reads_clock {
            plan = functions::fix_context(plan, &StatementContext { now, ..StatementContext::default() })?;
        }
        create_physical(state(), optimize_in(state(), plan)?)
    }

    /// Some functions give another string or list layout at run time than their plan says.
    fn fitted(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() { Ok(column.clone()) } else { cast(column, field.data_type()) }
        });
        with_schema(batch, columns.collect::<Result<_, _>>()?, &self.schema)
    }
}

fn with_schema(batch: &RecordBatch, columns: Vec<ArrayRef>, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Runs a future of DataFusion to its end on this thread.
fn wait_for<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    thread_local! {
        static RUNTIME: OnceCell<tokio::runtime::Runtime> = const { OnceCell::new() };
    }
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O needs nothing to start")
        });
        runtime.block_on(future)
    })
}

/// A table whose rows are put in before each run.
struct InputTable {
    schema: SchemaRef,
    rows: Arc<Mutex<Vec<RecordBatch>>>,
}

impl InputTable {
    fn new(schema: SchemaRef) -> Self {
        Self { schema, rows: Arc::default() }
    }

    fn put(&self, batches: &[RecordBatch]) -> Result<()> {
        let named = batches.iter().map(|batch| with_schema(batch, batch.columns().to_vec(), &self.schema));
        *self.rows.lock().expect("no holder of the lock panics") = named.collect::<Result<_>>()?;
        Ok(())
    }

    fn clear(&self) {
        self.rows.lock().expect("no holder of the lock panics").clear();
    }
}

impl fmt::Debug for InputTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of a view's sub-plan")
    }
}

#[async_trait]
impl TableProvider for InputTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let part = InputScan { schema: self.schema.clone(), rows: self.rows.clone() };
        Ok(Arc::new(StreamingTableExec::try_new(
            part.schema.clone(),
            vec![Arc::new(part)],
            projection,
            None,
            false,
            limit,
        )?))
    }
}

/// One scan of an [`InputTable`]: of what is in it when the scan begins.
#[derive(Debug)]
struct InputScan {
    schema: SchemaRef,
    rows: Arc<Mutex<Vec<RecordBatch>>>,
}

impl PartitionStream for InputScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.rows.lock().expect("no holder of the lock panics").clone();
        let batches = futures::stream::iter(batches.into_iter().map(Ok::<_, DataFusionError>));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
