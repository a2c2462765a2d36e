//! The law of plans: what a lowered query keeps equals the query run on what its inputs hold, after every random step.
//!
//! A failure prints its seed; `HEADWATER_SEED=n cargo test plan_law` runs that one case for every query, and
//! `HEADWATER_CASES=n` runs n random cases for each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Float64Type, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    TableProvider,
};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::{Data, InputRelation, Inputs, RunContext, lower, run, snapshot_table};
use crate::dataflow::{Class, Graph, NodeKind, Operator, Route};
use crate::error::SqlError;
use crate::functions::{self, StatementContext};
use crate::state::{Arrangement, worker_of};
use crate::zset::{Delta, ErrorRows, Moment, PgType, RelationId, Rows, Step, consolidate, pretty_delta, row_hashes};

const STEPS: u64 = 8;
const WORKERS: usize = 3;

/// The tables of the queries. `e` only grows.
const TABLES: [(&str, &str); 4] = [
    ("t", "a INTEGER, b BIGINT, s TEXT, x DOUBLE PRECISION, n NUMERIC(10;2), f BOOLEAN, ts TIMESTAMP"),
    ("u", "a INTEGER, c BIGINT, s TEXT, d DATE"),
    ("w", "k INTEGER, v BIGINT"),
    ("e", "id BIGINT, a INTEGER, v DOUBLE PRECISION"),
];

fn table_schema(columns: &str) -> SchemaRef {
    let fields = columns.split(',').map(|column| {
        let (name, kind) = column.trim().split_once(' ').expect("a column is `name TYPE`");
        PgType::parse(&kind.replace(';', ",")).expect("the type is known").field(name, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The tables with what they hold.
struct World {
    tables: Vec<(RelationId, &'static str, SchemaRef, Arrangement)>,
}

impl World {
    fn new() -> Self {
        let table = |(index, (name, columns)): (usize, &(&'static str, &str))| {
            let schema = table_schema(columns);
            let key = (0..schema.fields().len()).collect();
            (RelationId(index as u64 + 1), *name, schema.clone(), Arrangement::new(schema, key))
        };
        Self { tables: TABLES.iter().enumerate().map(table).collect() }
    }

    fn named(&self, table: &TableReference) -> Option<&(RelationId, &'static str, SchemaRef, Arrangement)> {
        self.tables.iter().find(|(_, name, _, _)| *name == table.table())
    }

    fn plan(&self, sql: &str) -> LogicalPlan {
        let schema = Arc::new(MemorySchemaProvider::new());
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalog.register_schema("public", schema).expect("a new catalog takes a schema");
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        catalogs.register_catalog("headwater".to_string(), catalog);
        let state = SessionStateBuilder::new_from_existing(functions::session_state()).with_catalog_list(catalogs);
        let context = SessionContext::new_with_state(state.build());
        for (_, name, schema, _) in &self.tables {
            let table = MemTable::try_new(schema.clone(), vec![vec![]]).expect("an empty table");
            context.register_table(*name, Arc::new(table)).expect("a new table");
        }
        let state = context.state();
        let plan = futures::executor::block_on(state.create_logical_plan(sql));
        // As binding does it: operators have PostgreSQL's types before a plan is lowered or run.
        plan.and_then(functions::give_types).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Inputs for World {
    fn find(&self, table: &TableReference) -> Option<InputRelation> {
        let (id, name, schema, _) = self.named(table)?;
        Some(InputRelation {
            id: *id,
            schema: schema.clone(),
            append_only: *name == "e",
            key: Vec::new(),
            watermark: None,
        })
    }
}

impl Data for World {
    fn table(&self, table: &TableReference) -> Option<Arc<dyn TableProvider>> {
        let (_, _, _, rows) = self.named(table)?;
        Some(snapshot_table(rows.snapshot(), Vec::new(), None))
    }
}

/// A graph in a plain loop, with as many workers as told.
struct Loop<'a> {
    graph: &'a Graph,
    /// By worker, by node.
    operators: Vec<Vec<Option<Box<dyn Operator>>>>,
    now: Option<i64>,
    fresh: bool,
}

impl<'a> Loop<'a> {
    fn new(graph: &'a Graph, workers: usize) -> Self {
        let made = |worker: usize| {
            let alone = |node: &crate::dataflow::Node| node.inputs.iter().all(|edge| edge.route == nowhere_else());
            let operator = |node: &crate::dataflow::Node| match &node.kind {
                NodeKind::Operator(recipe) if worker == 0 || !alone(node) => Some((recipe.make)()),
                _ => None,
            };
            graph.nodes.iter().map(operator).collect()
        };
        Self { graph, operators: (0..workers).map(made).collect(), now: None, fresh: true }
    }

    fn step(&mut self, at: Moment, fed: &HashMap<RelationId, Delta>) -> Delta {
        let workers = self.operators.len();
        let mut done: Vec<Vec<Delta>> = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let empty = Delta::empty(node.schema.clone());
            let deltas = match &node.kind {
                NodeKind::Feed => panic!("a view has no feed"),
                NodeKind::Relation(id) => {
                    let delta = fed.get(id).cloned().unwrap_or_else(|| empty.clone());
                    // Rows begin on the worker that owns their hash, error rows on the first.
                    let all = (0..node.schema.fields().len()).collect();
                    split(&delta, &Route::ByKey(all), workers)
                }
                NodeKind::Clock => {
                    let rows: Vec<(i64, i64)> = self.now.iter().map(|old| (*old, -1)).chain([(at.now, 1)]).collect();
                    self.now = Some(at.now);
                    let column =
                        arrow::array::TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.0));
                    let column: ArrayRef = Arc::new(column.with_timezone("+00:00"));
                    let batch = RecordBatch::try_new(node.schema.clone(), vec![column]).expect("one column");
                    let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
                    let mut deltas = vec![empty; workers];
                    deltas[0] = Delta::new(Rows::new(batch, Some(weights)), ErrorRows::default());
                    deltas
                }
                NodeKind::Operator(_) => {
                    let mut inputs: Vec<Vec<Delta>> = vec![Vec::new(); workers];
                    for edge in &node.inputs {
                        let schema = &self.graph.nodes[edge.from].schema;
                        let mut parts: Vec<Vec<Delta>> = vec![Vec::new(); workers];
                        for (worker, delta) in done[edge.from].iter().enumerate() {
                            match edge.route {
                                Route::Local => parts[worker].push(delta.clone()),
                                Route::ByKey(_) => split(delta, &edge.route, workers)
                                    .into_iter()
                                    .enumerate()
                                    .for_each(|(to, part)| parts[to].push(part)),
                            }
                        }
                        for (worker, parts) in parts.into_iter().enumerate() {
                            inputs[worker].push(Delta::concat(schema, parts));
                        }
                    }
                    let mut deltas = Vec::new();
                    for (worker, inputs) in inputs.iter().enumerate() {
                        let operator = &mut self.operators[worker][index];
                        let idle = !self.fresh && inputs.iter().all(Delta::is_empty);
                        deltas.push(match operator {
                            Some(operator) if !idle => operator.eval(at, inputs),
                            _ => empty.clone(),
                        });
                    }
                    deltas
                }
            };
            done.push(deltas);
        }
        self.fresh = false;
        Delta::concat(&self.graph.schema(), done.pop().expect("a graph has a node"))
    }
}

fn nowhere_else() -> Route {
    Route::ByKey(Vec::new())
}

/// The rows of a delta by the worker to which they go.
fn split(delta: &Delta, route: &Route, workers: usize) -> Vec<Delta> {
    let Route::ByKey(key) = route else { panic!("local rows are not split") };
    let columns: Vec<ArrayRef> = key.iter().map(|column| delta.oks.column(*column).clone()).collect();
    let hashes = row_hashes(&columns, delta.oks.len());
    let part = |worker: usize| {
        // All workers are the first one for a key of no columns.
        let owner = |hash: &u64| if key.is_empty() { 0 } else { worker_of(*hash, workers) };
        let rows: Vec<u32> =
            (0u32..).zip(&hashes).filter(|(_, hash)| owner(hash) == worker).map(|(row, _)| row).collect();
        let errs = if worker == 0 { delta.errs.clone() } else { ErrorRows::default() };
        Delta::new(delta.oks.take(&rows.into()), errs)
    };
    (0..workers).map(part).collect()
}

/// Random changes of one table: inserts, duplicates, deletes of what is there.
fn random_delta(random: &mut SmallRng, schema: &SchemaRef, held: &Arrangement, append_only: bool) -> Delta {
    let inserted = random_rows(random, schema);
    let mut parts = vec![inserted];
    if !append_only && random.random_bool(0.7) {
        let rows = held.snapshot().collect();
        let chosen: Vec<u32> = (0..rows.len() as u32).filter(|_| random.random_bool(0.4)).collect();
        // Some rows go wholly, some once.
        let chosen = rows.take(&chosen.into());
        let gone = if random.random_bool(0.5) {
            chosen.negate()
        } else {
            Rows::new(chosen.batch().clone(), Some(Int64Array::from_value(-1, chosen.len())))
        };
        parts.push(gone);
    }
    Delta::new(consolidate(&Rows::concat(schema, &parts)), ErrorRows::default())
}

fn random_rows(random: &mut SmallRng, schema: &SchemaRef) -> Rows {
    let count = random.random_range(0..6);
    let columns = schema.fields().iter().map(|field| {
        let cells: Vec<Option<String>> =
            (0..count).map(|_| random.random_bool(0.85).then(|| random_cell(random, &PgType::of(field)))).collect();
        let cells: ArrayRef = Arc::new(StringArray::from_iter(cells));
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&cells, field.data_type(), &strict).expect("cells parse")
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options).expect("columns fit");
    let weights: Int64Array = (0..count).map(|_| if random.random_bool(0.2) { 2 } else { 1 }).collect();
    Rows::new(batch, Some(weights))
}

fn random_cell(random: &mut SmallRng, kind: &PgType) -> String {
    let choose = |random: &mut SmallRng, cells: &[&str]| cells.choose(random).expect("there are cells").to_string();
    match kind {
        PgType::Bool => choose(random, &["true", "false"]),
        PgType::Float8 => choose(random, &["0", "0.5", "-1.25", "3", "1e10", "0.1", "0.2", "NaN"]),
        PgType::Numeric(_) => choose(random, &["0", "1.50", "-2.25", "10", "0.01"]),
        PgType::Text => choose(random, &["", "a", "b", "ab", "B"]),
        PgType::Date => choose(random, &["2024-01-31", "2024-02-29", "2023-12-01"]),
        PgType::Timestamp => choose(random, &["2024-01-31 10:00:00", "2024-01-31 10:00:59.5", "2024-02-01 00:00:00"]),
        _ => random.random_range(-2..5).to_string(),
    }
}

fn context(now: i64) -> RunContext {
    RunContext { statement: StatementContext { now, ..StatementContext::default() }, memory: None, partitions: 2 }
}

/// The query run on what the tables hold.
fn query(plan: &LogicalPlan, world: &World, now: i64) -> Result<Vec<RecordBatch>, SqlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let stream = run(plan, world, &context(now))?;
        let batches: Vec<RecordBatch> =
            stream.try_collect().await.map_err(|error| functions::errors::sql_error(&error))?;
        Ok(batches)
    })
}

/// Drives a query through random steps and compares with the query itself after each.
fn check_case(sql: &str, seed: u64, tolerant: bool) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new();
    let plan = world.plan(sql);
    // As the engine does it; a plan in normal form stays what it is.
    let normal = super::normalize(plan.clone()).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let graph = lower(&normal, &world).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let workers = *[1, WORKERS].choose(&mut random).expect("two");
    let mut flow = Loop::new(&graph, workers);
    let mut kept = Delta::empty(graph.schema());
    for step in 1..=STEPS {
        let at = Moment { step: Step(step), now: 1_700_000_000_000_000 + 1_000_000 * step as i64 };
        let mut fed = HashMap::new();
        for (id, name, schema, held) in &mut world.tables {
            if random.random_bool(0.7) {
                let delta = random_delta(&mut random, schema, held, *name == "e");
                held.absorb(&delta.oks);
                fed.insert(*id, delta);
            }
        }
        let change = flow.step(at, &fed);
        kept = Delta::concat(&graph.schema(), vec![kept, change]);
        kept.oks = consolidate(&kept.oks);
        let expected = query(&plan, &world, at.now);
        match tolerant {
            false => compare(sql, seed, step, &graph, &kept, expected),
            true => compare(
                sql,
                seed,
                step,
                &graph,
                &rounded(&kept),
                expected.map(|found| found.iter().map(round).collect()),
            ),
        }
    }
}

fn compare(sql: &str, seed: u64, step: u64, graph: &Graph, kept: &Delta, expected: Result<Vec<RecordBatch>, SqlError>) {
    let place = || format!("HEADWATER_SEED={seed}, step {step}, {sql}\n{}", explained(graph));
    match expected {
        Err(error) => {
            let live = kept.errs.first().unwrap_or_else(|| panic!("{}\nno error row for: {error}", place()));
            assert_eq!(live.code, error.code.0, "{}\n{} against {error}", place(), live.message);
        }
        Ok(batches) => {
            assert!(kept.errs.is_empty(), "{}\n{}", place(), pretty_delta(kept));
            let types =
                |schema: &Schema| schema.fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
            let schema = graph.schema();
            let parts: Vec<Rows> = (batches.iter())
                .map(|batch| {
                    assert_eq!(types(&batch.schema()), types(&schema), "{}", place());
                    let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).expect("types agree");
                    Rows::inserts(batch)
                })
                .collect();
            let expected = Delta::new(consolidate(&Rows::concat(&schema, &parts)), ErrorRows::default());
            assert_eq!(pretty_delta(kept), pretty_delta(&expected), "{}", place());
        }
    }
}

fn worst_class(graph: &Graph) -> Class {
    let class = |node: &crate::dataflow::Node| match &node.kind {
        NodeKind::Operator(recipe) => recipe.class,
        _ => Class::Linear,
    };
    graph.nodes.iter().map(class).max().expect("a graph has a node")
}

fn explained(graph: &Graph) -> String {
    super::explain(graph, &|id| TABLES[id.0 as usize - 1].0.to_string()).join("\n")
}

/// What DataFusion computes from doubles depends in the last digits on the order of rows.
fn round(batch: &RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(|column| match column.as_primitive_opt::<Float64Type>() {
        Some(column) => Arc::new(column.unary::<_, Float64Type>(|value| value as f32 as f64)) as ArrayRef,
        None => column.clone(),
    });
    RecordBatch::try_new(batch.schema(), columns.collect()).expect("the types are the same")
}

fn rounded(delta: &Delta) -> Delta {
    let rows = delta.oks.with_batch(round(delta.oks.batch()));
    Delta::new(consolidate(&rows), delta.errs.clone())
}

/// Checks a query on some random cases; one that begins with `~` to few digits.
fn check(sql: &str, cases: u64) {
    let replayed = std::env::var("HEADWATER_SEED").ok().map(|seed| seed.parse::<u64>().expect("a seed is a number"));
    let first = replayed.unwrap_or_else(|| rand::random::<u64>() >> 16);
    let cases = std::env::var("HEADWATER_CASES").map_or(cases, |cases| cases.parse().expect("a number of cases"));
    let (sql, tolerant) = sql.strip_prefix('~').map_or((sql, false), |sql| (sql, true));
    for seed in first..first + if replayed.is_some() { 1 } else { cases } {
        check_case(sql, seed, tolerant);
    }
}

mod cost;
mod queries;
