//! What a change costs: rows that a view's operators touch for a one-row change, counted, beside what they hold.

use std::collections::HashMap;

use super::{Loop, World, lower};
use crate::dataflow::Graph;
use crate::state::touched;
use crate::zset::{Delta, ErrorRows, Moment, RelationId, Rows, Step, parse_rows};

/// Rows of each table before the change.
const ROWS: usize = 20_000;
/// Rows of a key.
const PER_KEY: usize = 10;

/// A change of one row may touch so many rows in all operators of a view together: those of a few keys.
const TOUCHED_MAX: u64 = 12 * PER_KEY as u64;

const SHAPES: [(&str, &str); 15] = [
    ("filter, project", "SELECT a, b + 1 AS b1 FROM t WHERE b > 0"),
    ("union all", "SELECT a FROM t UNION ALL SELECT a FROM u"),
    ("count, sum, avg", "SELECT a, count(*) AS n, sum(b) AS s, avg(n) AS m FROM t GROUP BY a"),
    ("min, max", "SELECT a, min(b) AS lo, max(s) AS hi FROM t GROUP BY a"),
    ("count distinct", "SELECT a, count(DISTINCT s) AS n FROM t GROUP BY a"),
    ("sum over all rows", "SELECT count(*) AS n, sum(b) AS s, max(b) AS m FROM t"),
    ("distinct", "SELECT DISTINCT a, s FROM t"),
    ("inner join", "SELECT t.b, u.c FROM t JOIN u ON t.a = u.a"),
    ("left join", "SELECT t.b, u.c FROM t LEFT JOIN u ON t.a = u.a AND u.c > 5"),
    ("full join", "SELECT t.b, u.c FROM t FULL JOIN u ON t.a = u.a"),
    ("in, exists", "SELECT b FROM t WHERE a IN (SELECT a FROM u) AND NOT EXISTS (SELECT 1 FROM w WHERE w.k = t.a)"),
    ("intersect", "SELECT a, b FROM t INTERSECT SELECT a, c FROM u"),
    ("correlated scalar", "SELECT a, b FROM t WHERE b > (SELECT avg(c) FROM u WHERE u.a = t.a)"),
    ("window by partition", "SELECT a, b, rank() OVER (PARTITION BY a ORDER BY b) AS r FROM t"),
    (
        "top-k by key",
        "SELECT a, b FROM (SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY b) AS r FROM t) q WHERE r <= 3",
    ),
];

/// The rows of the tables `t` and `u`: so many of each key.
fn contents(row: impl Fn(usize, usize) -> String, columns: &str) -> Delta {
    let lines: Vec<String> = (0..ROWS).map(|i| format!("+1 | {}", row(i % (ROWS / PER_KEY), i))).collect();
    Delta::new(parse_rows(columns, &lines.join("\n")), ErrorRows::default())
}

fn of_t(key: usize, i: usize) -> String {
    format!("{key} | {i} | s{} | {}.5 | 1.50 | true | 2024-01-31 10:00:00", i % 3, i % 100)
}

fn in_schema(world: &World, id: RelationId, delta: &Delta) -> Delta {
    let schema = &world.tables[id.0 as usize - 1].2;
    let batch = delta.oks.batch();
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()).expect("cells fit"));
    let batch = arrow::array::RecordBatch::try_new(schema.clone(), columns.collect()).expect("columns fit");
    Delta::new(Rows::new(batch, delta.oks.weights().cloned()), ErrorRows::default())
}

/// Rows that are touched by a change of one row of `t`: by its insertion, and by its deletion.
fn cost(sql: &str, world: &World, tables: &HashMap<RelationId, Delta>, row: &Delta) -> (Graph, [u64; 2]) {
    let plan = super::super::normalize(world.plan(sql)).expect(sql);
    let graph = lower(&plan, world).expect(sql);
    let mut flow = Loop::new(&graph, 1);
    let mut at = Moment { step: Step(1), now: 1_700_000_000_000_000 };
    flow.step(at, tables);
    let deleted = Delta::new(row.oks.negate(), ErrorRows::default());
    let changes = [row.clone(), deleted].map(|change| {
        at.step = at.step.next();
        let before = touched();
        flow.step(at, &HashMap::from([(RelationId(1), change)]));
        touched() - before
    });
    drop(flow);
    (graph, changes)
}

#[test]
fn a_one_row_change_touches_the_rows_of_its_key_and_no_others() {
    let world = World::new();
    let t = contents(of_t, "a INT, b BIGINT, s TEXT, x DOUBLE PRECISION, n NUMERIC, f BOOLEAN, ts TIMESTAMP");
    let u = contents(|key, i| format!("{key} | {i} | s{} | 2024-01-31", i % 3), "a INT, c BIGINT, s TEXT, d DATE");
    let w = contents(|key, i| format!("{} | {i}", key + 1000), "k INT, v BIGINT");
    let tables = [(1, t), (2, u), (3, w)];
    let tables = tables.map(|(id, delta)| (RelationId(id), in_schema(&world, RelationId(id), &delta))).into();
    let columns = "a INT, b BIGINT, s TEXT, x DOUBLE PRECISION, n NUMERIC, f BOOLEAN, ts TIMESTAMP";
    let row = Delta::new(parse_rows(columns, &format!("+1 | {}", of_t(77, 12_345_678))), ErrorRows::default());
    let row = in_schema(&world, RelationId(1), &row);
    let mut dear = Vec::new();
    for (shape, sql) in SHAPES {
        let (graph, [inserted, deleted]) = cost(sql, &world, &tables, &row);
        println!("| {shape} | {} | {inserted} | {deleted} |", super::worst_class(&graph).name());
        if inserted.max(deleted) > TOUCHED_MAX {
            dear.push(format!("{shape}: {inserted} and {deleted} rows\n{}", super::explained(&graph)));
        }
    }
    assert!(dear.is_empty(), "{}", dear.join("\n"));
}

#[test]
fn a_recomputed_view_is_seen_to_touch_everything() {
    let world = World::new();
    let t = contents(of_t, "a INT, b BIGINT, s TEXT, x DOUBLE PRECISION, n NUMERIC, f BOOLEAN, ts TIMESTAMP");
    let tables = HashMap::from([(RelationId(1), in_schema(&world, RelationId(1), &t))]);
    let row = Delta::new(tables[&RelationId(1)].oks.slice(0, 1), ErrorRows::default());
    let (_, [inserted, _]) = cost("SELECT a, rank() OVER (ORDER BY b) AS r FROM t", &world, &tables, &row);
    assert!(inserted >= ROWS as u64, "the counter counts: {inserted}");
}
