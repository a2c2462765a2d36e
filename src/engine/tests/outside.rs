//! What goes wrong outside: files of sources and sinks that vanish, and views that err for a while.

use std::path::Path;

use super::*;

fn outside_of(dir: &Path) -> EngineConfig {
    EngineConfig { allowed_paths: vec![dir.to_path_buf()], ..config(&dir.join("data"), 2) }
}

fn start(dir: TempDir) -> Fixture {
    let engine = Engine::start(outside_of(dir.path())).expect("it starts");
    Fixture { dir, engine, runtime: tokio::runtime::Runtime::new().expect("threads start") }
}

fn fixture() -> Fixture {
    start(tempfile::tempdir().expect("a temporary folder"))
}

impl Fixture {
    fn restart(self) -> Self {
        self.runtime.block_on(self.engine.stop()).expect("it stops");
        start(self.dir)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn written(&self, name: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.dir.path().join(name)).expect("the sink has a folder");
        let mut files: Vec<_> = files.map(|file| file.expect("an entry can be read").path()).collect();
        files.sort();
        let finished = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        let text: String = finished.map(|file| std::fs::read_to_string(file).expect("it is text")).collect();
        text.lines().map(str::to_string).collect()
    }

    /// Waits for the step after which the relation is so.
    fn await_rows(&self, name: &str, expected: &str) {
        let mut published = self.engine.watch();
        while self.show(name) != expected {
            self.runtime.block_on(published.changed()).expect("the engine runs");
        }
    }

    fn checkpoint(&self) -> crate::error::SqlResult<()> {
        self.runtime.block_on(self.engine.checkpoint())
    }
}

#[test]
fn a_source_whose_file_is_gone_does_not_keep_the_server_from_starting() {
    let fixture = fixture();
    std::fs::write(fixture.path("s.csv"), "1\n2\n").expect("a file can be written");
    let path = fixture.path("s.csv");
    fixture.define(&format!(
        "CREATE SOURCE s (a INT) WITH (connector = 'file', path = '{path}') FORMAT PLAIN ENCODE CSV (header = false)"
    ));
    fixture.define("CREATE MATERIALIZED VIEW v AS SELECT a FROM s");
    fixture.await_rows("v", "+1 | 1\n+1 | 2");
    std::fs::remove_file(fixture.path("s.csv")).expect("the file is there");
    let fixture = fixture.restart();
    assert_eq!(fixture.show("v"), "+1 | 1\n+1 | 2");
}

#[test]
fn a_sink_waits_while_its_view_errs_and_then_goes_on() {
    let fixture = fixture();
    fixture.define("CREATE TABLE t (x INT)");
    let path = fixture.path("out");
    fixture.define(&format!(
        "CREATE SINK out AS SELECT 6 / x AS q FROM t WITH (connector = 'file', path = '{path}', type = 'append-only', \
         force_append_only = 'true') FORMAT PLAIN ENCODE JSON"
    ));
    fixture.insert("INSERT INTO t VALUES (1)").expect("nothing refuses");
    fixture.insert("INSERT INTO t VALUES (0)").expect("data cannot refuse a write");
    fixture.insert("INSERT INTO t VALUES (2)").expect("nothing refuses");
    let error = fixture.checkpoint().expect_err("the log still has what the sink has to be given");
    assert_eq!(error.code, SqlState::DIVISION_BY_ZERO);
    assert_eq!(fixture.written("out"), [r#"{"q":6}"#]);
    fixture.delete("INSERT INTO t VALUES (0)").expect("the row is there");
    fixture.checkpoint().expect("the sink has everything");
    assert_eq!(fixture.written("out"), [r#"{"q":6}"#, r#"{"q":3}"#]);
}

#[test]
fn a_sink_that_cannot_be_opened_does_not_keep_the_server_from_starting() {
    let fixture = fixture();
    fixture.define("CREATE TABLE t (x INT)");
    let path = fixture.path("out");
    fixture.define(&format!(
        "CREATE SINK out FROM t WITH (connector = 'file', path = '{path}', type = 'append-only', \
         force_append_only = 'true') FORMAT PLAIN ENCODE JSON"
    ));
    fixture.insert("INSERT INTO t VALUES (1)").expect("nothing refuses");
    fixture.runtime.block_on(fixture.engine.stop()).expect("it stops");
    std::fs::remove_dir_all(fixture.path("out")).expect("the folder is there");
    std::fs::write(fixture.path("out"), "no folder").expect("a file can be written");
    let fixture = start(fixture.dir);
    let sink = fixture.id("out");
    fixture.insert("INSERT INTO t VALUES (2)").expect("nothing refuses");
    assert_eq!(fixture.show("t"), "+1 | 1\n+1 | 2");
    fixture.checkpoint().expect_err("the log keeps what the sink has to be given");
    let shown = fixture.engine.counters().of_source(sink).last_error.expect("the sink shows why");
    assert!(shown.contains("is a file"), "{shown}");
}
