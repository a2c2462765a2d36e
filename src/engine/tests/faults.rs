//! Engines on a disk that fails, forgets or is full: what was acknowledged stays, what was refused is not there.

use super::*;
use crate::error::SqlResult;
use crate::storage::{FaultyDisk, Loss, Repeat};

impl Fixture {
    fn on(disk: &FaultyDisk) -> SqlResult<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let engine = Engine::start_on(config(dir.path(), 1), Arc::new(disk.clone()))?;
        Ok(Self { dir, engine, runtime: tokio::runtime::Runtime::new().expect("threads start") })
    }

    fn edits(&self, text: &str) -> (u64, Vec<CatalogEdit>) {
        let Statement::Define(define) = self.statement(text) else { panic!("{text} is DDL") };
        (self.engine.published().catalog.version(), define.edits)
    }

    /// CREATE TABLE made and a copy of `t` written into it, in one step.
    fn create_copy(&self, text: &str) -> Result<Step, WriteError> {
        let (base, edits) = self.edits(text);
        let Some(CatalogEdit::Create(table)) = edits.first() else { panic!("{text} creates a table") };
        let rows = self.engine.published().snapshot(self.id("t")).expect("it is kept").collect();
        let columns = rows.batch().columns().to_vec();
        let batch = arrow::array::RecordBatch::try_new(table.arrow_schema(), columns).expect("the same columns");
        let rows = Rows::inserts(batch);
        let changes = vec![TableChange { table: table.id, truncate: false, rows }];
        self.runtime.block_on(self.engine.define_and_write(base, edits, changes))
    }
}

fn code(result: Result<Step, WriteError>) -> SqlState {
    match result {
        Err(WriteError::Refused(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_disk_refuses_and_heals_by_itself() {
    let disk = FaultyDisk::new(1);
    let fixture = Fixture::on(&disk).expect("an empty disk");
    fixture.define("CREATE TABLE t (k INT, x INT)");
    fixture.define("CREATE MATERIALIZED VIEW v AS SELECT k, sum(x) AS s FROM t GROUP BY k");
    fixture.insert("INSERT INTO t VALUES (1, 10)").expect("there is room");
    for round in 0..3 {
        disk.fail_at_call(1, std::io::ErrorKind::StorageFull, Repeat::Forever);
        let before = (fixture.show("t"), fixture.show("v"));
        assert_eq!(code(fixture.insert("INSERT INTO t VALUES (2, 20)")), SqlState::DISK_FULL);
        assert_eq!(code(fixture.delete("INSERT INTO t VALUES (1, 10)")), SqlState::DISK_FULL);
        for refused in ["DROP TABLE t CASCADE", "CREATE TABLE u (a INT)"] {
            let (base, edits) = fixture.edits(refused);
            assert_eq!(code(fixture.runtime.block_on(fixture.engine.define(base, edits))), SqlState::DISK_FULL);
        }
        assert_eq!((fixture.show("t"), fixture.show("v")), before, "nothing of what was refused is there");
        disk.heal();
        fixture.insert(&format!("INSERT INTO t VALUES (1, {round})")).expect("there is room again");
    }
    assert_eq!(fixture.show("v"), "+1 | 1 | 13");
    for loss in Loss::ALL {
        let again = Fixture::on(&disk.after_crash(loss)).expect("it recovers");
        assert_eq!((again.show("t"), again.show("v")), (fixture.show("t"), fixture.show("v")), "{loss:?}");
        assert!(!again.has("u"));
    }
}

#[test]
fn a_table_and_its_rows_come_together_or_not_at_all() {
    let mut seen = [false; 2];
    for n in 1..12 {
        let disk = FaultyDisk::new(n);
        let fixture = Fixture::on(&disk).expect("an empty disk");
        fixture.define("CREATE TABLE t (k INT, x INT)");
        fixture.insert("INSERT INTO t VALUES (1, 10), (2, 20)").expect("nothing refuses");
        disk.crash_at_call(n);
        let acknowledged = fixture.create_copy("CREATE TABLE u (k INT, x INT)").is_ok();
        for loss in Loss::ALL {
            let again = Fixture::on(&disk.after_crash(loss)).expect("it recovers");
            assert!(again.has("u") || !acknowledged, "crash at call {n}, {loss:?}");
            if again.has("u") {
                assert_eq!(again.show("u"), "+1 | 1 | 10\n+1 | 2 | 20", "crash at call {n}, {loss:?}");
            }
            seen[usize::from(again.has("u"))] = true;
        }
        if !disk.has_crashed() {
            break;
        }
    }
    assert_eq!(seen, [true; 2], "crashes before and after");
}

#[test]
fn rows_that_are_refused_take_the_definition_with_them() {
    let fixture = Fixture::on(&FaultyDisk::new(1)).expect("an empty disk");
    fixture.define("CREATE TABLE t (k INT, x INT)");
    fixture.insert("INSERT INTO t VALUES (1, 10), (1, 20)").expect("nothing refuses");
    let refused = fixture.create_copy("CREATE TABLE u (k INT PRIMARY KEY, x INT)");
    assert_eq!(code(refused), SqlState::UNIQUE_VIOLATION);
    assert!(!fixture.has("u"));
    fixture.create_copy("CREATE TABLE u (k INT, x INT)").expect("without a key nothing refuses");
    assert_eq!(fixture.show("u"), fixture.show("t"));
}

#[test]
fn a_restart_takes_few_steps_again_however_many_there_were() {
    let disk = FaultyDisk::new(1);
    let fixture = Fixture::on(&disk).expect("an empty disk");
    fixture.define("CREATE TABLE t (k INT, x INT)");
    fixture.define("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t GROUP BY k");
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..600 {
        fixture.insert("INSERT INTO t VALUES (1, 1)").expect("nothing refuses");
    }
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while load(&fixture.engine.counters().checkpoints) < 2 && std::time::Instant::now() < patience {
        std::thread::sleep(std::time::Duration::from_millis(20));
        fixture.insert("INSERT INTO t VALUES (2, 1)").expect("nothing refuses");
    }
    let again = Fixture::on(&disk.after_crash(Loss::Everything)).expect("it recovers");
    assert_eq!(again.show("v"), fixture.show("v"));
    let replayed = load(&again.engine.counters().steps_replayed);
    assert!(replayed < 300, "{replayed} steps were taken again");
}
