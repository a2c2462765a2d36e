//! Views over many rows are filled beside the engine, while writers go on.

use std::time::{Duration, Instant};

use super::*;

const ROWS: usize = 4_000;

impl Fixture {
    /// An engine that fills beside itself what has `rows` rows, in slices of so many.
    fn filling(workers: usize, rows: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let config = EngineConfig { fill_rows: rows, ..config(dir.path(), workers) };
        let engine = Engine::start(config).expect("an empty directory opens");
        let fixture = Self { dir, engine, runtime: tokio::runtime::Runtime::new().expect("threads start") };
        fixture.define("CREATE TABLE t (k INT, x INT)");
        fixture.define("CREATE TABLE n (k INT PRIMARY KEY, name TEXT)");
        let rows: Vec<String> = (0..ROWS).map(|i| format!("({}, {i})", i % 97)).collect();
        fixture.insert(&format!("INSERT INTO t VALUES {}", rows.join(", "))).expect("nothing refuses");
        let names: Vec<String> = (0..90).map(|k| format!("({k}, 'name {}')", k % 7)).collect();
        fixture.insert(&format!("INSERT INTO n VALUES {}", names.join(", "))).expect("nothing refuses");
        fixture
    }

    fn begin(&self, text: &str) -> tokio::task::JoinHandle<Result<Step, WriteError>> {
        let base = self.engine.published().catalog.version();
        let Statement::Define(define) = self.statement(text) else { panic!("{text} is DDL") };
        let engine = self.engine.clone();
        self.runtime.spawn(async move { engine.define(base, define.edits).await })
    }

    fn await_jobs(&self, count: usize) {
        let patience = Instant::now() + Duration::from_secs(60);
        while self.engine.jobs().len() != count {
            assert!(Instant::now() < patience, "{:?}", self.engine.jobs());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

const VIEWS: [&str; 5] = [
    "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(x) AS s, max(x) AS m FROM t GROUP BY k",
    "CREATE MATERIALIZED VIEW v AS SELECT n.name, t.x FROM t LEFT JOIN n ON n.k = t.k",
    "CREATE MATERIALIZED VIEW v AS SELECT DISTINCT n.name, t.k FROM t JOIN n ON n.k = t.k",
    "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / (x - 3000) AS y FROM t",
    "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t WHERE x IN (SELECT max(x) FROM t GROUP BY k)",
];

#[test]
fn a_view_that_is_filled_while_writers_go_on_is_the_view_that_is_filled_at_once() {
    for (number, view) in VIEWS.into_iter().enumerate() {
        let fixture = Fixture::filling(1 + number % 3, 5);
        let begun = fixture.begin(view);
        let mut written = 0;
        while !begun.is_finished() {
            fixture.insert(&format!("INSERT INTO t VALUES ({}, {})", written % 100, 10_000 + written)).expect("taken");
            fixture.delete(&format!("INSERT INTO t VALUES ({}, {written})", written % 97)).expect("the row is there");
            written += 1;
        }
        fixture.runtime.block_on(begun).expect("no panic").expect(view);
        assert!(written > 1, "writers went on: {written}");
        let at_once = fixture.after_kill(2);
        assert_eq!(fixture.show("v"), at_once.show("v"), "{view}");
        for fixture in [&fixture, &at_once] {
            fixture.insert("INSERT INTO t VALUES (1, 77777)").expect("nothing refuses");
            fixture.delete(&format!("INSERT INTO t VALUES ({}, 3999)", 3999 % 97)).expect("the row is there");
        }
        assert_eq!(fixture.show("v"), at_once.show("v"), "{view}");
    }
}

#[test]
fn a_fill_that_nobody_waits_for_leaves_nothing() {
    let fixture = Fixture::filling(2, 1);
    let begun = fixture.begin(VIEWS[0]);
    fixture.await_jobs(1);
    let job = fixture.engine.jobs().remove(0);
    assert_eq!(job.what, "CREATE MATERIALIZED VIEW public.v");
    assert_eq!(job.rows.1, ROWS as u64);
    assert!(!fixture.has("v"), "it is not visible before it is full");
    assert!(!fixture.after_kill(1).has("v"), "a kill leaves nothing of it");
    begun.abort();
    fixture.await_jobs(0);
    assert!(!fixture.has("v"));
    fixture.define("CREATE TABLE v (a INT)");
}

#[test]
fn the_catalog_may_change_while_a_view_is_filled() {
    let fixture = Fixture::filling(2, 2);
    let begun = fixture.begin(VIEWS[1]);
    fixture.await_jobs(1);
    fixture.define("CREATE TABLE other (a INT)");
    fixture.runtime.block_on(begun).expect("no panic").expect("what it reads is still the same");
    assert_eq!(fixture.show("v"), fixture.after_kill(1).show("v"));
    let begun = fixture.begin("CREATE MATERIALIZED VIEW w AS SELECT k, count(*) AS n FROM t GROUP BY k");
    fixture.await_jobs(1);
    fixture.define("DROP TABLE t CASCADE");
    let ended = fixture.runtime.block_on(begun).expect("no panic");
    assert!(matches!(ended, Err(WriteError::Conflict)), "{ended:?}");
    assert!(!fixture.has("w") && !fixture.has("v"));
}

#[test]
fn an_index_holds_the_rows_of_its_table_at_every_step() {
    let fixture = Fixture::filling(2, 100);
    fixture.define("CREATE INDEX by_name ON n (name)");
    fixture.define("CREATE INDEX by_k ON t (k)");
    fixture.insert("INSERT INTO t VALUES (5, 123456)").expect("nothing refuses");
    fixture.delete("INSERT INTO t VALUES (5, 5)").expect("the row is there");
    fixture.runtime.block_on(fixture.engine.checkpoint()).expect("it is written");
    fixture.insert("INSERT INTO t VALUES (6, 123456)").expect("nothing refuses");
    for fixture in [&fixture, &fixture.after_kill(1), &fixture.after_kill(3)] {
        for table in ["t", "n"] {
            let published = fixture.engine.published();
            let [index] = &published.indexes(fixture.id(table))[..] else { panic!("one index on {table}") };
            let rows = crate::zset::Delta::new(index.collect(), crate::zset::ErrorRows::default());
            assert_eq!(sorted(&pretty_delta(&rows)), sorted(&fixture.show(table)));
        }
    }
    let define = fixture.define("DROP INDEX by_k");
    assert_eq!(define.len(), 1);
    assert!(fixture.engine.published().indexes(fixture.id("t")).is_empty());
}
