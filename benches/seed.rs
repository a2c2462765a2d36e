//! The seed query, `SELECT k, SUM(v * 2), COUNT(*) FROM t GROUP BY k`, through the planner and the workers.
//!
//! `cargo bench --bench seed -- --rows 10000000 --batch 10000 --workers 1`
//! Input is made before the clock starts; every step's output delta is made and absorbed into the view's arrangement.
//! Beside it, in the same run, a tight hashbrown loop over the same arrays, which keeps no view and makes no deltas.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;
use headwater::catalog::{
    CATALOG_SCHEMA, Catalog, CatalogEdit, Column, OID_BASE, PUBLIC_SCHEMA, Relation, RelationKind,
};
use headwater::dataflow::{Command, Graph, Install, Node, NodeKind, Report, Start, Workers};
use headwater::plan::{self, InputRelation};
use headwater::zset::{Delta, Moment, PgType, RelationId, Step};

const QUERY: &str = "SELECT k, SUM(v * 2) AS s, COUNT(*) AS n FROM t GROUP BY k";
const TABLE: RelationId = RelationId(100);
const VIEW: RelationId = RelationId(101);

fn main() {
    let rows: usize = option("--rows").unwrap_or(10_000_000);
    let batch: usize = option("--batch").unwrap_or(10_000);
    let workers: usize = option("--workers").unwrap_or(1);
    println!("{QUERY}\n{rows} rows in batches of {batch}, {workers} worker(s); M rows/s\n");
    println!("key     groups      wall    per CPU-s   tight loop per CPU-s   ratio");
    for text in [false, true] {
        for groups in [1_000, 1_000_000] {
            let batches = input(rows, batch, groups, text);
            let tight = tight_loop(&batches, text);
            let (wall, cpu, found) = engine(&batches, text, workers);
            assert_eq!(found, groups.min(rows), "every group is in the view");
            let million = rows as f64 / 1e6;
            println!(
                "{:7} {groups:9} {:8.1} {:10.1} {:18.1} {:13.2}",
                if text { "text" } else { "bigint" },
                million / wall,
                million / cpu,
                million / tight,
                tight / cpu
            );
        }
    }
}

fn option(name: &str) -> Option<usize> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()?.parse().ok()
}

/// Every key once first, so that the count of groups is exact; then keys at random.
fn input(rows: usize, batch: usize, groups: usize, text: bool) -> Vec<RecordBatch> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut key = |row: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if row < groups { row as i64 } else { (state % groups as u64) as i64 }
    };
    let schema = relation(text).arrow_schema();
    (0..rows.div_ceil(batch))
        .map(|number| {
            let range = number * batch..rows.min((number + 1) * batch);
            let keys: Vec<i64> = range.clone().map(&mut key).collect();
            let keys: ArrayRef = match text {
                false => Arc::new(Int64Array::from(keys)),
                true => Arc::new(StringViewArray::from_iter_values(keys.iter().map(|key| format!("key-{key:07}")))),
            };
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(range.map(|row| row as i64 % 1_000)));
            RecordBatch::try_new(schema.clone(), vec![keys, values]).expect("the columns are those of the table")
        })
        .collect()
}

fn relation(text: bool) -> Relation {
    let key = if text { PgType::Text } else { PgType::Int8 };
    Relation {
        id: TABLE,
        oid: OID_BASE + 100,
        schema: PUBLIC_SCHEMA.to_string(),
        name: "t".to_string(),
        kind: RelationKind::Source,
        columns: vec![Column::new("k", key), Column::new("v", PgType::Int8)],
        primary_key: Vec::new(),
        index_key: Vec::new(),
        append_only: true,
        definition: String::new(),
        depends_on: Vec::new(),
        options: Default::default(),
    }
}

struct OneTable(Relation);

impl plan::Inputs for OneTable {
    fn find(&self, _: &datafusion::common::TableReference) -> Option<InputRelation> {
        let schema = self.0.arrow_schema();
        Some(InputRelation { id: TABLE, schema, append_only: true, key: Vec::new() })
    }
}

fn view_graph(table: &Relation) -> Graph {
    let catalog = Catalog::bootstrap().apply(&CatalogEdit::Create(table.clone()));
    assert!(catalog.schema(CATALOG_SCHEMA).is_some());
    let view = Relation {
        id: VIEW,
        kind: RelationKind::MaterializedView,
        name: "v".to_string(),
        columns: Vec::new(),
        definition: QUERY.replace(" t ", " public.t "),
        ..table.clone()
    };
    let query = headwater::sql::bind_definition(&view, &catalog).expect("the query binds");
    let plan = plan::normalize(query.plan).expect("the plan has a normal form");
    plan::lower(&plan, &OneTable(table.clone())).expect("the plan has operators")
}

/// Wall seconds, CPU seconds, and how many rows the view has at the end.
fn engine(batches: &[RecordBatch], text: bool, workers: usize) -> (f64, f64, usize) {
    let table = relation(text);
    let graph = view_graph(&table);
    let columns = graph.schema().fields().len();
    let (handle, reports) = Workers::start(workers);
    let feed = Node { kind: NodeKind::Feed, inputs: Vec::new(), schema: table.arrow_schema(), append_only: true };
    let install = |relation, graph, keep, key| {
        let start = Start::Hydrate(HashMap::new());
        handle.send(&Command::Install(Arc::new(Install { relation, graph, keep, key, start })));
    };
    install(TABLE, Graph { nodes: vec![feed] }, false, vec![0, 1]);
    install(VIEW, graph, true, (0..columns).collect());
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let mut rows = 0_i64;
    for (number, batch) in batches.iter().enumerate() {
        let at = Moment { step: Step(number as u64 + 1), now: 0 };
        let deltas = Arc::new(vec![(TABLE, Delta::inserts(batch.clone()))]);
        handle.send(&Command::Feed { at, deltas });
        for _ in 0..workers {
            let Ok(Report::Step { changes, .. }) = reports.recv() else { panic!("the workers finish the step") };
            for change in changes.iter().filter(|change| change.relation == VIEW) {
                rows += change.delta.oks.weights_array().values().iter().sum::<i64>();
            }
        }
    }
    let measured = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu, rows as usize);
    handle.stop();
    measured
}

/// CPU seconds of one hash aggregation over all batches.
fn tight_loop(batches: &[RecordBatch], text: bool) -> f64 {
    let cpu = cpu_seconds();
    let groups = match text {
        false => sum_by(batches, |keys| keys.as_primitive::<Int64Type>().values().to_vec()),
        true => sum_by(batches, |keys| {
            let keys = keys.as_string_view();
            (0..keys.len()).map(|row| keys.value(row).to_string()).collect()
        }),
    };
    std::hint::black_box(groups);
    cpu_seconds() - cpu
}

fn sum_by<K: Hash + Eq>(batches: &[RecordBatch], keys: impl Fn(&ArrayRef) -> Vec<K>) -> usize {
    let mut groups: hashbrown::HashMap<K, (i128, i64)> = hashbrown::HashMap::new();
    for batch in batches {
        let values = batch.column(1).as_primitive::<Int64Type>().values();
        for (key, value) in keys(batch.column(0)).into_iter().zip(values) {
            let group = groups.entry(key).or_default();
            group.0 += i128::from(*value * 2);
            group.1 += 1;
        }
    }
    groups.len()
}

/// User and system time of this process so far, from the kernel's scheduler, in seconds.
fn cpu_seconds() -> f64 {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux lists the threads") {
        let path = task.expect("an entry can be read").path().join("schedstat");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    }
    nanoseconds / 1e9
}
