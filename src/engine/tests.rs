//! The engine without a session: steps, constraints, subscriptions, checkpoints, and what a restart finds.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{Engine, EngineConfig, Subscribe, TableChange, Write, WriteError};
use crate::catalog::CatalogEdit;
use crate::error::SqlState;
use crate::sql::{BindContext, InsertRows, Nowhere, Statement, bind, parse};
use crate::zset::{RelationId, Rows, Step, pretty_delta, pretty_rows};

mod faults;
mod fills;
mod memory;
mod outside;

struct Fixture {
    dir: TempDir,
    engine: Engine,
    runtime: tokio::runtime::Runtime,
}

fn config(dir: &Path, workers: usize) -> EngineConfig {
    EngineConfig { workers, ..EngineConfig::new(dir) }
}

impl Fixture {
    fn new(workers: usize) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let engine = Engine::start(config(dir.path(), workers)).expect("an empty directory opens");
        Self { dir, engine, runtime: tokio::runtime::Runtime::new().expect("threads start") }
    }

    /// What a kill at this moment would leave, opened by another engine.
    fn after_kill(&self, workers: usize) -> Self {
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_dir(self.dir.path(), copy.path());
        let engine = Engine::start(config(copy.path(), workers)).expect("it recovers");
        Self { dir: copy, engine, runtime: tokio::runtime::Runtime::new().expect("threads start") }
    }

    fn statement(&self, text: &str) -> Statement {
        let parsed = parse(text).expect(text).remove(0);
        let path = ["public".to_string()];
        let catalog = self.engine.published().catalog.clone();
        let context = BindContext { catalog: &catalog, search_path: &path, parameter_types: &[], outside: &Nowhere };
        bind(&parsed, &context).expect(text)
    }

    fn define(&self, text: &str) -> Vec<CatalogEdit> {
        let base = self.engine.published().catalog.version();
        let Statement::Define(define) = self.statement(text) else { panic!("{text} is DDL") };
        self.runtime.block_on(self.engine.define(base, define.edits.clone())).expect(text);
        define.edits
    }

    fn id(&self, name: &str) -> RelationId {
        self.engine.published().catalog.named("public", name).expect(name).id
    }

    fn rows(&self, text: &str) -> (RelationId, Rows) {
        let Statement::Insert(insert) = self.statement(text) else { panic!("{text} inserts") };
        let InsertRows::Batch(batch) = insert.rows else { panic!("{text} has literals") };
        (insert.table.id, Rows::inserts(batch))
    }

    fn write(&self, table: RelationId, rows: Rows) -> Result<Step, WriteError> {
        let change = TableChange { table, truncate: false, rows };
        self.runtime.block_on(self.engine.write(Write { changes: vec![change], sync: true }))
    }

    fn insert(&self, text: &str) -> Result<Step, WriteError> {
        let (table, rows) = self.rows(text);
        self.write(table, rows)
    }

    fn delete(&self, text: &str) -> Result<Step, WriteError> {
        let (table, rows) = self.rows(text);
        self.write(table, rows.negate())
    }

    fn has(&self, name: &str) -> bool {
        self.engine.published().catalog.named("public", name).is_some()
    }

    fn show(&self, name: &str) -> String {
        let published = self.engine.published();
        let id = published.catalog.named("public", name).expect(name).id;
        let rows = published.snapshot(id).expect("it is kept").collect();
        let errors = published.errors(id);
        pretty_delta(&crate::zset::Delta::new(rows, errors))
    }
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("an entry can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).expect("a folder can be made");
            copy_dir(&entry.path(), &target);
        } else {
            match std::fs::copy(entry.path(), target) {
                // A checkpoint that ends meanwhile removes what its manifests no longer name.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.expect("a file can be copied")),
            }
        }
    }
}

fn with_view(workers: usize) -> Fixture {
    let fixture = Fixture::new(workers);
    fixture.define("CREATE TABLE t (k INT, x INT)");
    fixture.insert("INSERT INTO t VALUES (1, 10), (2, 20)").expect("nothing refuses");
    fixture.define("CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS s, count(*) AS n FROM t GROUP BY k");
    fixture
}

#[test]
fn a_write_is_in_every_view_when_it_is_acknowledged() {
    for workers in [1, 2, 4] {
        let fixture = with_view(workers);
        assert_eq!(fixture.show("v"), "+1 | 1 | 10 | 1\n+1 | 2 | 20 | 1", "{workers} workers");
        fixture.insert("INSERT INTO t VALUES (1, 5), (3, NULL)").expect("nothing refuses");
        assert_eq!(fixture.show("v"), "+1 | 1 | 15 | 2\n+1 | 2 | 20 | 1\n+1 | 3 | NULL | 1");
        fixture.delete("INSERT INTO t VALUES (2, 20)").expect("the row is there");
        assert_eq!(fixture.show("v"), "+1 | 1 | 15 | 2\n+1 | 3 | NULL | 1");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let fixture = with_view(2);
    fixture.insert("INSERT INTO t VALUES (1, 5)").expect("nothing refuses");
    for workers in [1, 2, 3] {
        let again = fixture.after_kill(workers);
        assert_eq!(again.show("v"), fixture.show("v"));
        again.insert("INSERT INTO t VALUES (7, 7)").expect("nothing refuses");
        assert_eq!(again.after_kill(1).show("v"), again.show("v"));
    }
}

#[test]
fn a_checkpoint_and_the_log_after_it_are_the_state() {
    let fixture = with_view(2);
    fixture.define("CREATE MATERIALIZED VIEW top AS SELECT max(s) AS m FROM v");
    fixture.runtime.block_on(fixture.engine.checkpoint()).expect("it is written");
    assert_eq!(fixture.after_kill(3).show("top"), "+1 | 20");
    fixture.insert("INSERT INTO t VALUES (1, 50)").expect("nothing refuses");
    fixture.delete("INSERT INTO t VALUES (2, 20)").expect("the row is there");
    for workers in [1, 2, 4] {
        let again = fixture.after_kill(workers);
        assert_eq!((again.show("v"), again.show("top")), (fixture.show("v"), fixture.show("top")));
        again.runtime.block_on(again.engine.checkpoint()).expect("it is written");
        again.insert("INSERT INTO t VALUES (9, 90)").expect("nothing refuses");
        assert_eq!(again.after_kill(2).show("top"), "+1 | 90");
    }
}

#[test]
fn a_clean_stop_needs_no_replay_and_refuses_later_calls() {
    let fixture = with_view(1);
    fixture.runtime.block_on(fixture.engine.stop()).expect("it stops");
    let refused = fixture.insert("INSERT INTO t VALUES (1, 5)").expect_err("it has stopped");
    let WriteError::Refused(error) = refused else { panic!("no conflict") };
    assert_eq!(error.code, SqlState::ADMIN_SHUTDOWN);
    let again = Engine::start(config(fixture.dir.path(), 1)).expect("it opens again");
    assert_eq!(again.published().snapshot(fixture.id("v")).expect("kept").collect().len(), 2);
}

#[test]
fn keys_and_nulls_are_refused_and_leave_no_trace() {
    let fixture = Fixture::new(1);
    fixture.define("CREATE TABLE p (id INT PRIMARY KEY, note TEXT NOT NULL)");
    fixture.insert("INSERT INTO p VALUES (1, 'a')").expect("nothing refuses");
    let code = |result: Result<Step, WriteError>| match result {
        Err(WriteError::Refused(error)) => error.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(fixture.insert("INSERT INTO p VALUES (2, 'b'), (1, 'c')")), SqlState::UNIQUE_VIOLATION);
    assert_eq!(code(fixture.insert("INSERT INTO p VALUES (3, 'b'), (3, 'c')")), SqlState::UNIQUE_VIOLATION);
    assert_eq!(code(fixture.insert("INSERT INTO p VALUES (4, NULL)")), SqlState::NOT_NULL_VIOLATION);
    let missing = fixture.delete("INSERT INTO p VALUES (1, 'z')");
    assert!(matches!(missing, Err(WriteError::Conflict)), "{missing:?}");
    assert_eq!(fixture.show("p"), "+1 | 1 | a");
}

#[test]
fn an_update_replaces_the_row_of_its_key() {
    let fixture = Fixture::new(2);
    fixture.define("CREATE TABLE p (id INT PRIMARY KEY, note TEXT)");
    fixture.insert("INSERT INTO p VALUES (1, 'a'), (2, 'b')").expect("nothing refuses");
    let (table, old) = fixture.rows("INSERT INTO p VALUES (1, 'a')");
    let (_, new) = fixture.rows("INSERT INTO p VALUES (1, 'z')");
    let both = Rows::concat(&old.schema(), &[old.negate(), new]);
    fixture.write(table, both.clone()).expect("the old row is there");
    assert_eq!(fixture.show("p"), "+1 | 1 | z\n+1 | 2 | b");
    assert!(matches!(fixture.write(table, both), Err(WriteError::Conflict)), "the old row is gone");
}

#[test]
fn many_writers_share_steps_and_none_is_lost() {
    let fixture = with_view(2);
    let (table, rows) = fixture.rows("INSERT INTO t VALUES (5, 1)");
    let writes = (0..200).map(|_| {
        let change = TableChange { table, truncate: false, rows: rows.clone() };
        let engine = fixture.engine.clone();
        fixture.runtime.spawn(async move { engine.write(Write { changes: vec![change], sync: true }).await })
    });
    let writes: Vec<_> = writes.collect();
    let steps: Vec<u64> =
        writes.into_iter().map(|write| fixture.runtime.block_on(write).expect("no panic").expect("taken").0).collect();
    assert!(fixture.show("v").contains("+1 | 5 | 200 | 200"), "{}", fixture.show("v"));
    let distinct: std::collections::BTreeSet<u64> = steps.iter().copied().collect();
    assert!(distinct.len() <= steps.len());
}

#[test]
fn a_subscription_is_the_snapshot_and_then_every_change() {
    let fixture = with_view(2);
    let subscribe = Subscribe::Relation(fixture.id("v"));
    let mut feed = fixture.runtime.block_on(fixture.engine.subscribe(subscribe)).expect("it exists");
    assert_eq!(feed.snapshot.oks.len(), 2);
    let step = fixture.insert("INSERT INTO t VALUES (1, 5)").expect("nothing refuses");
    let (at, delta) = fixture.runtime.block_on(feed.next()).expect("not too slow").expect("it goes on");
    assert_eq!(at, step);
    assert_eq!(pretty_rows(&crate::zset::consolidate(&delta.oks)), "-1 | 1 | 10 | 1\n+1 | 1 | 15 | 2");
    fixture.define("DROP TABLE t CASCADE");
    assert!(fixture.runtime.block_on(feed.next()).expect("no error").is_none(), "the relation is gone");
}

#[test]
fn a_query_can_be_subscribed_to_and_leaves_nothing_behind() {
    let fixture = with_view(2);
    let Statement::Query(query) = fixture.statement("SELECT max(x) AS m FROM t") else { panic!("a query") };
    let subscribe = Subscribe::Plan(Box::new(query.plan));
    let mut feed = fixture.runtime.block_on(fixture.engine.subscribe(subscribe)).expect("it is planned");
    assert_eq!(pretty_rows(&feed.snapshot.oks), "+1 | 20");
    fixture.insert("INSERT INTO t VALUES (1, 99)").expect("nothing refuses");
    let (_, delta) = fixture.runtime.block_on(feed.next()).expect("not too slow").expect("it goes on");
    assert_eq!(pretty_rows(&delta.oks), "-1 | 20\n+1 | 99");
    drop(feed);
    fixture.insert("INSERT INTO t VALUES (1, 100)").expect("nothing refuses");
    assert_eq!(fixture.after_kill(1).show("v"), fixture.show("v"));
    let out = || fixture.engine.counters().rows_out.load(std::sync::atomic::Ordering::Relaxed);
    let before = out();
    fixture.insert("INSERT INTO t VALUES (1, 101)").expect("nothing refuses");
    assert_eq!(out() - before, 3, "the table's row, and two of its view");
}

#[test]
fn an_error_row_lives_as_long_as_its_input() {
    let fixture = with_view(2);
    fixture.define("CREATE MATERIALIZED VIEW q AS SELECT k, 100 / x AS y FROM t");
    fixture.insert("INSERT INTO t VALUES (8, 0)").expect("data cannot refuse a write");
    assert!(fixture.show("q").contains("+1 ! 22012 division by zero"), "{}", fixture.show("q"));
    let again = fixture.after_kill(1);
    assert_eq!(again.show("q"), fixture.show("q"));
    fixture.delete("INSERT INTO t VALUES (8, 0)").expect("the row is there");
    assert_eq!(fixture.show("q"), "+1 | 1 | 10\n+1 | 2 | 5");
}

#[test]
fn definitions_made_for_an_older_catalog_are_not_taken() {
    let fixture = with_view(1);
    let Statement::Define(define) = fixture.statement("CREATE TABLE u (a INT)") else { panic!("DDL") };
    let base = fixture.engine.published().catalog.version();
    fixture.define("CREATE TABLE w (a INT)");
    let taken = fixture.runtime.block_on(fixture.engine.define(base, define.edits));
    assert!(matches!(taken, Err(WriteError::Conflict)), "{taken:?}");
    assert!(Arc::clone(&fixture.engine.published().catalog).named("public", "u").is_none());
}

#[test]
fn a_second_engine_on_the_directory_is_refused_in_a_sentence() {
    let fixture = Fixture::new(1);
    let refused = Engine::start(config(fixture.dir.path(), 1)).err().expect("the directory is locked");
    assert!(refused.message.contains("data directory"), "{}", refused.message);
}
