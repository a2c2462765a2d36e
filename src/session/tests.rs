//! Conversations with an engine in the same process.

use arrow::array::RecordBatch;
use expect_test::{Expect, expect};

use super::{Response, Session, SessionInfo};
use crate::engine::{Engine, EngineConfig};
use crate::error::{SqlError, SqlResult};
use crate::functions::text::{TextStyle, texts};

/// An engine in a directory of its own.
struct House {
    engine: Engine,
    _directory: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = EngineConfig { workers: 1, sync: false, ..EngineConfig::new(directory.path().join("data")) };
        Self { engine: Engine::start(config).expect("the engine starts"), _directory: directory }
    }

    fn session(&self) -> Session {
        let info = SessionInfo { user: "ann".to_string(), database: "dev".to_string(), ..SessionInfo::default() };
        Session::new(self.engine.clone(), info).expect("the settings are valid")
    }
}

/// Rows as lines of `a|b`, NULL as nothing.
fn lines(columns: &[super::OutputColumn], batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let cells: Vec<Vec<Option<String>>> = (batch.columns().iter().zip(columns))
            .map(|(array, column)| texts(array, &column.pg_type, &TextStyle::default()).expect("printable"))
            .collect();
        for row in 0..batch.num_rows() {
            let cells = cells.iter().map(|column| column[row].clone().unwrap_or_default());
            lines.push(cells.collect::<Vec<_>>().join("|"));
        }
    }
    lines
}

fn shown(error: &SqlError) -> String {
    format!("{} {}", error.code.as_str(), error.message)
}

/// What a text answers: rows as lines, else the tag; an error as its code and message.
async fn run(session: &mut Session, text: &str) -> String {
    match session.execute(text).await {
        Err(error) => shown(&error),
        Ok(answers) => {
            let answers = answers.iter().map(|answer| match answer.columns.is_empty() {
                true => answer.tag.clone(),
                false => lines(&answer.columns, &answer.batches).join("\n"),
            });
            answers.collect::<Vec<_>>().join("\n")
        }
    }
}

async fn check(session: &mut Session, text: &str, expected: Expect) {
    expected.assert_eq(&run(session, text).await);
}

/// Runs statements that must succeed.
async fn done(session: &mut Session, text: &str) {
    session.execute(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
}

macro_rules! conversation {
    ($name:ident, $house:ident, $body:block) => {
        #[test]
        fn $name() {
            let $house = House::new();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async $body);
        }
    };
}

conversation!(a_write_is_in_the_next_read_of_every_view, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY, x int)").await;
    done(&mut session, "CREATE MATERIALIZED VIEW v AS SELECT sum(x) AS s, count(*) AS n FROM t").await;
    check(&mut session, "INSERT INTO t VALUES (1, 10), (2, 20)", expect!["INSERT 0 2"]).await;
    check(&mut session, "SELECT * FROM v", expect!["30|2"]).await;
    check(&mut session, "UPDATE t SET x = x + 1 WHERE k = 1", expect!["UPDATE 1"]).await;
    check(&mut session, "DELETE FROM t WHERE k = 2", expect!["DELETE 1"]).await;
    let mut other = house.session();
    check(&mut other, "SELECT * FROM v", expect!["11|1"]).await;
    check(&mut other, "TRUNCATE t", expect!["TRUNCATE TABLE"]).await;
    check(&mut session, "SELECT * FROM v", expect!["|0"]).await;
});

conversation!(returning_and_on_conflict_answer_with_the_rows_as_they_become, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY, x int)").await;
    check(&mut session, "INSERT INTO t VALUES (1, 10) RETURNING k, x * 2", expect!["1|20"]).await;
    let upsert =
        "INSERT INTO t VALUES (1, 5), (2, 6) ON CONFLICT (k) DO UPDATE SET x = t.x + excluded.x RETURNING k, x";
    let mut answer: Vec<String> = run(&mut session, upsert).await.lines().map(str::to_string).collect();
    answer.sort();
    assert_eq!(answer, ["1|15", "2|6"]);
    check(&mut session, "INSERT INTO t VALUES (1, 0), (3, 3) ON CONFLICT DO NOTHING", expect!["INSERT 0 1"]).await;
    let twice = "INSERT INTO t VALUES (9, 0), (9, 1) ON CONFLICT (k) DO UPDATE SET x = 1";
    check(&mut session, twice, expect!["21000 ON CONFLICT DO UPDATE command cannot affect row a second time"]).await;
    check(
        &mut session,
        "INSERT INTO t VALUES (1, 0)",
        expect![[r#"23505 duplicate key value violates unique constraint "t_pkey""#]],
    )
    .await;
    check(
        &mut session,
        "INSERT INTO t VALUES (NULL, 0)",
        expect![[r#"23502 null value in column "k" of relation "t" violates not-null constraint"#]],
    )
    .await;
    check(&mut session, "UPDATE t SET x = 0 WHERE k = 3 RETURNING k, x", expect!["3|0"]).await;
    check(&mut session, "DELETE FROM t WHERE k = 3 RETURNING k, x", expect!["3|0"]).await;
    check(&mut session, "SELECT k, x FROM t ORDER BY k", expect!["1|15\n2|6"]).await;
});

conversation!(a_transaction_sees_its_own_writes_and_nobody_elses, house, {
    let (mut mine, mut other) = (house.session(), house.session());
    done(&mut mine, "CREATE TABLE t (k int PRIMARY KEY, x int); ").await;
    done(&mut mine, "INSERT INTO t VALUES (1, 1)").await;
    done(&mut mine, "BEGIN").await;
    assert_eq!(mine.transaction_status(), b'T');
    check(&mut mine, "SELECT count(*) FROM t", expect!["1"]).await;
    done(&mut other, "INSERT INTO t VALUES (2, 2)").await;
    // The snapshot is that of the first statement.
    check(&mut mine, "SELECT count(*) FROM t", expect!["1"]).await;
    done(&mut mine, "INSERT INTO t VALUES (3, 3)").await;
    done(&mut mine, "UPDATE t SET x = 33 WHERE k = 3").await;
    check(&mut mine, "SELECT k, x FROM t ORDER BY k", expect!["1|1\n3|33"]).await;
    check(&mut other, "SELECT k FROM t ORDER BY k", expect!["1\n2"]).await;
    check(&mut mine, "COMMIT", expect!["COMMIT"]).await;
    check(&mut other, "SELECT k, x FROM t ORDER BY k", expect!["1|1\n2|2\n3|33"]).await;
    assert_eq!(mine.transaction_status(), b'I');
});

conversation!(rollback_undoes_rows_and_settings_and_savepoints_undo_in_part, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY)").await;
    done(&mut session, "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2)").await;
    check(
        &mut session,
        "INSERT INTO t VALUES (1)",
        expect![[r#"23505 duplicate key value violates unique constraint "t_pkey""#]],
    )
    .await;
    assert_eq!(session.transaction_status(), b'E');
    check(
        &mut session,
        "SELECT 1",
        expect!["25P02 current transaction is aborted, commands ignored until end of transaction block"],
    )
    .await;
    check(&mut session, "ROLLBACK TO SAVEPOINT s", expect!["ROLLBACK"]).await;
    check(&mut session, "SELECT k FROM t", expect!["1"]).await;
    done(&mut session, "SET statement_timeout = '5s'; RELEASE s").await;
    check(&mut session, "ROLLBACK", expect!["ROLLBACK"]).await;
    check(&mut session, "SELECT count(*) FROM t; SHOW statement_timeout", expect!["0\n0"]).await;
    check(&mut session, "BEGIN; SELECT 1/0", expect!["22012 division by zero"]).await;
    assert_eq!(session.transaction_status(), b'E');
    check(&mut session, "COMMIT", expect!["ROLLBACK"]).await;
});

conversation!(a_text_of_several_statements_is_one_transaction, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY)").await;
    check(&mut session, "INSERT INTO t VALUES (1); SELECT 1/0", expect!["22012 division by zero"]).await;
    check(&mut session, "SELECT count(*) FROM t", expect!["0"]).await;
    check(&mut session, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", expect!["INSERT 0 1\nINSERT 0 1"]).await;
    check(&mut session, "SELECT count(*) FROM t; SELEC", expect![[r#"42601 syntax error at or near "SELEC""#]]).await;
});

conversation!(concurrent_updates_of_one_row_all_count, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY, x int)").await;
    done(&mut session, "INSERT INTO t VALUES (1, 0)").await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let mut session = house.session();
            tokio::spawn(async move {
                for _ in 0..10 {
                    done(&mut session, "UPDATE t SET x = x + 1 WHERE k = 1").await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no update fails");
    }
    check(&mut session, "SELECT x FROM t", expect!["40"]).await;
});

conversation!(the_second_of_two_transactions_that_change_one_row_must_try_again, house, {
    let (mut first, mut second) = (house.session(), house.session());
    done(&mut first, "CREATE TABLE t (k int PRIMARY KEY, x int)").await;
    done(&mut first, "INSERT INTO t VALUES (1, 0)").await;
    done(&mut first, "BEGIN; UPDATE t SET x = 1").await;
    done(&mut second, "BEGIN; UPDATE t SET x = 2").await;
    check(&mut first, "COMMIT", expect!["COMMIT"]).await;
    check(&mut second, "COMMIT", expect!["40001 could not serialize access due to concurrent update"]).await;
    check(&mut second, "SELECT x FROM t", expect!["1"]).await;
});

conversation!(definitions_in_a_transaction_are_one_step, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY)").await;
    done(&mut session, "INSERT INTO t VALUES (1), (2)").await;
    done(&mut session, "BEGIN; CREATE TABLE a__tmp AS SELECT k FROM t").await;
    check(&mut session, "SELECT count(*) FROM a__tmp", expect!["2"]).await;
    done(&mut session, "ALTER TABLE a__tmp RENAME TO a").await;
    done(&mut session, "CREATE MATERIALIZED VIEW v AS SELECT sum(k) AS s FROM a").await;
    check(&mut session, "SELECT s FROM v", expect!["3"]).await;
    let mut other = house.session();
    check(&mut other, "SELECT * FROM a", expect![[r#"42P01 relation "a" does not exist"#]]).await;
    check(&mut session, "COMMIT", expect!["COMMIT"]).await;
    check(&mut other, "SELECT s FROM v", expect!["3"]).await;
});

conversation!(a_cursor_over_a_feed_gives_the_snapshot_then_a_group_a_step, house, {
    let (mut session, mut other) = (house.session(), house.session());
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY, x int)").await;
    done(&mut session, "CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM t GROUP BY x").await;
    done(&mut session, "INSERT INTO t VALUES (1, 7)").await;
    done(&mut session, "BEGIN; DECLARE c CURSOR FOR SUBSCRIBE v").await;
    let fetched = run(&mut session, "FETCH ALL c").await;
    let (step, row) = fetched.split_once('|').expect("a step and a row");
    assert_eq!(row, "1|7|1");
    let step: u64 = step.parse().expect("a number");
    done(&mut other, "INSERT INTO t VALUES (2, 7)").await;
    let mut fetched: Vec<String> = run(&mut session, "FETCH ALL c").await.lines().map(str::to_string).collect();
    fetched.sort();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    let next: u64 = fetched[0].split('|').next().expect("a step").parse().expect("a number");
    assert!(next > step);
    assert_eq!(fetched, [format!("{next}|-1|7|1"), format!("{next}|1|7|2")]);
    check(&mut session, "FETCH ALL c WITH (timeout = '10ms')", expect![""]).await;
    check(&mut session, "COMMIT", expect!["COMMIT"]).await;
});

conversation!(cursors_over_queries_fetch_in_portions, house, {
    let mut session = house.session();
    let outside = "DECLARE c CURSOR FOR SELECT 1";
    check(&mut session, outside, expect!["25P01 DECLARE CURSOR can only be used in transaction blocks"]).await;
    done(&mut session, "BEGIN; DECLARE c CURSOR FOR SELECT * FROM (VALUES (1), (2), (3)) v(x) ORDER BY x").await;
    check(&mut session, "FETCH 2 FROM c", expect!["1\n2"]).await;
    check(&mut session, "MOVE 1 FROM c", expect!["MOVE 1"]).await;
    check(&mut session, "FETCH c", expect![""]).await;
    check(&mut session, "CLOSE c", expect!["CLOSE CURSOR"]).await;
    check(&mut session, "FETCH c", expect![[r#"34000 cursor "c" does not exist"#]]).await;
});

async fn portal_rows(session: &mut Session, rows_max: usize) -> SqlResult<(Vec<String>, bool, String)> {
    match session.execute_portal("", rows_max).await? {
        Response::Rows(mut rows) => {
            let columns = rows.columns().to_vec();
            let mut batches = Vec::new();
            while let Some(batch) = rows.next().await {
                batches.push(batch?);
            }
            Ok((lines(&columns, &batches), rows.suspended(), rows.tag()))
        }
        Response::Command { tag } => Ok((Vec::new(), false, tag)),
        _ => panic!("rows or a tag"),
    }
}

conversation!(portals_stop_at_the_row_limit_and_go_on, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (x int)").await;
    done(&mut session, "INSERT INTO t VALUES (1), (2), (3)").await;
    let text = "SELECT x FROM t WHERE x <> $1 ORDER BY x";
    let description = session.prepare("", text, &[]).await.expect("valid");
    assert_eq!(description.parameters, [crate::zset::PgType::Int4]);
    let nine: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int32Array::from(vec![9]));
    session.bind_portal("", "", &[nine]).await.expect("one value");
    let (rows, suspended, _) = portal_rows(&mut session, 2).await.expect("rows");
    assert_eq!((rows, suspended), (vec!["1".to_string(), "2".to_string()], true));
    let (rows, suspended, tag) = portal_rows(&mut session, 2).await.expect("rows");
    assert_eq!((rows, suspended, tag.as_str()), (vec!["3".to_string()], false, "SELECT 1"));
    assert!(session.bind_portal("", "", &[]).await.is_err(), "a value is missing");
});

conversation!(inserts_of_one_pipeline_are_written_at_sync, house, {
    let (mut session, mut other) = (house.session(), house.session());
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY)").await;
    session.prepare("i", "INSERT INTO t VALUES ($1)", &[]).await.expect("valid");
    for k in [1, 2] {
        let k: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int32Array::from(vec![k]));
        session.bind_portal("", "i", &[k]).await.expect("one value");
        assert_eq!(portal_rows(&mut session, 0).await.expect("a tag").2, "INSERT 0 1");
    }
    check(&mut other, "SELECT count(*) FROM t", expect!["0"]).await;
    session.sync().await.expect("written");
    check(&mut other, "SELECT count(*) FROM t", expect!["2"]).await;
});

conversation!(an_error_in_a_pipeline_takes_back_all_of_it, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY)").await;
    for (text, fails) in [("INSERT INTO t VALUES (1)", false), ("SELECT 1 / k FROM (SELECT k - 1 AS k FROM t) t", true)]
    {
        session.prepare("", text, &[]).await.expect("valid");
        session.bind_portal("", "", &[]).await.expect("no values");
        assert_eq!(portal_rows(&mut session, 0).await.is_err(), fails, "{text}");
    }
    session.sync().await.expect("the error was told before");
    check(&mut session, "SELECT count(*) FROM t", expect!["0"]).await;
});

conversation!(prepared_statements_of_sql_are_typed_and_survive_changes_of_the_catalog, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY, s text)").await;
    done(&mut session, "INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    done(&mut session, "PREPARE p (int) AS SELECT s FROM t WHERE k = $1").await;
    check(&mut session, "EXECUTE p(2)", expect!["b"]).await;
    done(&mut session, "CREATE TABLE u (k int)").await;
    check(&mut session, "EXECUTE p(1)", expect!["a"]).await;
    check(&mut session, "EXECUTE p", expect![[r#"42601 wrong number of parameters for prepared statement "p""#]]).await;
    check(&mut session, "DEALLOCATE p; EXECUTE p(1)", expect![[r#"26000 prepared statement "p" does not exist"#]])
        .await;
});

conversation!(a_view_with_an_error_row_raises_it_and_heals, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int PRIMARY KEY, x int)").await;
    done(&mut session, "CREATE MATERIALIZED VIEW v AS SELECT k, 10 / x AS q FROM t").await;
    done(&mut session, "INSERT INTO t VALUES (1, 5), (2, 0)").await;
    check(&mut session, "SELECT * FROM v", expect!["22012 division by zero"]).await;
    check(&mut session, "SELECT name, sqlstate, rows FROM hw_catalog.hw_view_errors", expect!["v|22012|1"]).await;
    done(&mut session, "DELETE FROM t WHERE k = 2").await;
    check(&mut session, "SELECT * FROM v", expect!["1|2"]).await;
    check(&mut session, "VERIFY MATERIALIZED VIEW v", expect![""]).await;
});

conversation!(settings_are_those_of_the_session, house, {
    let mut session = house.session();
    check(&mut session, "SET TimeZone = 'Europe/Berlin'; SHOW timezone", expect!["SET\nEurope/Berlin"]).await;
    assert_eq!(session.parameter_changes(), [("TimeZone".to_string(), "Europe/Berlin".to_string())]);
    check(&mut session, "SELECT set_config('application_name', 'x', false)", expect!["x"]).await;
    check(&mut session, "SELECT current_setting('application_name')", expect!["x"]).await;
    check(&mut session, "SHOW nonsense", expect![[r#"42704 unrecognized configuration parameter "nonsense""#]]).await;
    check(
        &mut session,
        "BEGIN READ ONLY; CREATE TABLE t (k int)",
        expect!["25006 cannot execute CREATE TABLE in a read-only transaction"],
    )
    .await;
});

conversation!(a_cancelled_statement_ends_with_its_error, house, {
    let mut session = house.session();
    done(&mut session, "CREATE TABLE t (k int)").await;
    let canceller = session.canceller();
    let waiting = tokio::spawn(async move {
        let subscribed = run(&mut session, "SUBSCRIBE TO t").await;
        (subscribed, session)
    });
    let (answer, mut session) = loop {
        canceller.cancel();
        tokio::task::yield_now().await;
        if waiting.is_finished() {
            break waiting.await.expect("the conversation goes on");
        }
    };
    assert_eq!(answer, "57014 canceling statement due to user request");
    check(&mut session, "SELECT 1", expect!["1"]).await;
    check(
        &mut session,
        "SET statement_timeout = 1; SUBSCRIBE TO t",
        expect!["57014 canceling statement due to statement timeout"],
    )
    .await;
});

/// The statements of a recorded client, each with the relations' own OIDs.
async fn replay(session: &mut Session, recorded: &str) -> Vec<String> {
    let mut failed = Vec::new();
    let mut oids = Vec::new();
    for (recorded, name) in [("16384", "bid"), ("16407", "v_bid"), ("16411", "mv_bid")] {
        oids.push((recorded, run(session, &format!("SELECT '{name}'::regclass::oid")).await));
    }
    let statements = recorded.split("-- [").filter_map(|part| part.split_once("]\n"));
    for (number, (_, text)) in statements.enumerate() {
        let text = oids.iter().fold(text.to_string(), |text, (recorded, own)| text.replace(recorded, own));
        if let Err(error) = session.execute(&text).await {
            failed.push(format!(
                "{}: {} {}\n{}",
                number + 1,
                shown(&error),
                error.detail.unwrap_or_default(),
                text.trim()
            ));
        }
    }
    failed
}

conversation!(everything_that_psql_asks_has_an_answer, house, {
    let mut session = house.session();
    for text in [
        "CREATE TABLE bid (auction bigint NOT NULL, bidder bigint, price numeric(12,2), channel varchar(32), url text, \
         ts timestamptz, tags text[], meta jsonb, ok boolean DEFAULT true, d date, r real, PRIMARY KEY (auction))",
        "CREATE TABLE person (id int PRIMARY KEY, name text, bid_id bigint)",
        "CREATE INDEX bid_ts ON bid (ts)",
        "CREATE VIEW v_bid AS SELECT auction, price FROM bid",
        "CREATE MATERIALIZED VIEW mv_bid AS SELECT auction, count(*) c FROM bid GROUP BY 1",
        "INSERT INTO bid (auction, price) VALUES (1, 2.5), (2, 3.5)",
    ] {
        done(&mut session, text).await;
    }
    let failed = replay(&mut session, include_str!("../../sql-tests/clients/psql15.sql")).await;
    assert!(failed.is_empty(), "{} statements failed:\n{}", failed.len(), failed.join("\n\n"));
});
