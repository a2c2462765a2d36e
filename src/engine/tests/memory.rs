//! Views that are larger than the memory they may take.

use arrow::array::{ArrayRef, Int32Array, RecordBatch};

use super::*;

const LIMIT: usize = 1 << 20;
const ROWS: i32 = 40_000;

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}

impl Fixture {
    /// Rows `(i % keys, i)` of a table of two integers.
    fn pairs(&self, table: &str, from: i32, to: i32, keys: i32) -> (RelationId, Rows) {
        let relation = self.engine.published().catalog.named("public", table).expect(table).clone();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter_values((from..to).map(|i| i % keys))),
            Arc::new(Int32Array::from_iter_values(from..to)),
        ];
        let batch = RecordBatch::try_new(relation.arrow_schema(), columns).expect("two integers");
        (relation.id, Rows::inserts(batch))
    }
}

#[test]
fn state_beyond_the_memory_limit_lies_in_files_and_answers_all_the_same() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = EngineConfig { memory_limit: LIMIT, ..config(dir.path(), 2) };
    let engine = Engine::start(config).expect("an empty directory opens");
    let fixture = Fixture { dir, engine, runtime: tokio::runtime::Runtime::new().expect("threads start") };
    fixture.define("CREATE TABLE t (k INT, x INT)");
    fixture.define("CREATE TABLE u (k INT, y INT)");
    fixture.define("CREATE MATERIALIZED VIEW j AS SELECT t.k, t.x, u.y FROM t JOIN u ON t.k = u.k");
    fixture.define("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n, sum(x) AS s, sum(y) AS r FROM j");
    for from in (0..ROWS).step_by(10_000) {
        for (table, keys) in [("t", ROWS), ("u", ROWS / 2)] {
            let (id, rows) = fixture.pairs(table, from, from + 10_000, keys);
            fixture.write(id, rows).expect("nothing refuses");
        }
    }
    let counters = fixture.engine.counters();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while load(&counters.runs_spilled) == 0 || load(&counters.state_bytes) > 2 * LIMIT as u64 {
        assert!(std::time::Instant::now() < patience, "{} bytes of state", load(&counters.state_bytes));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let held: usize = ["t", "u", "j"].iter().map(|name| fixture.engine.published().held(fixture.id(name)).1).sum();
    assert!(held < 2 * LIMIT, "readers hold {held} bytes");
    let (id, rows) = fixture.pairs("t", 0, 100, ROWS);
    fixture.write(id, rows.negate()).expect("the rows are there");
    let expected: i64 = (100..i64::from(ROWS) / 2).sum();
    let others: i64 = (100..i64::from(ROWS) / 2).map(|k| k + i64::from(ROWS) / 2).sum();
    let rows = i64::from(ROWS) - 200;
    assert_eq!(fixture.show("n"), format!("+1 | {rows} | {} | {}", 2 * expected, expected + others));
    assert_eq!(fixture.after_kill(1).show("n"), fixture.show("n"));
}
