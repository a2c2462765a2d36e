//! Every form of a statement that is documented parses, and what is printed of it parses to the same.

use super::ast::Ast;
use super::parse;

fn print(ast: &Ast) -> Option<String> {
    Some(match ast {
        Ast::Sql(statement) => statement.to_string(),
        Ast::CreateRelation(create) => create.to_string(),
        Ast::CreateView(create) => create.to_string(),
        Ast::CreateSink(create) => create.to_string(),
        Ast::Subscribe(subscribe) => subscribe.to_string(),
        Ast::Fetch(fetch) => fetch.to_string(),
        _ => return None,
    })
}

const STATEMENTS: &str = "
CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMPTZ,
                   WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds')
INCLUDE partition AS _part INCLUDE offset AS _off INCLUDE timestamp AS _kts INCLUDE header AS _hdr
WITH (connector='kafka', connection=k, topic='bid', scan.startup.mode='earliest',
      on_error='dead_letter', idle_timeout='5s')
FORMAT PLAIN ENCODE JSON;
CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR) INCLUDE KEY AS k
WITH (connector='kafka', connection=k, topic='users')
FORMAT UPSERT ENCODE AVRO (schema.registry='http://localhost:8081');
CREATE SOURCE s (*) WITH (connector='kafka', connection=k, topic='clicks')
FORMAT PLAIN ENCODE JSON (infer='100 rows');
CREATE TABLE trips (*) WITH (connector='file', path='/data/trips/*.parquet') FORMAT PLAIN ENCODE PARQUET;
CREATE SOURCE logs (ts TIMESTAMPTZ, line TEXT)
  WITH (connector='file', path='/var/log/app/*.jsonl', mode='tail') FORMAT PLAIN ENCODE JSON;
CREATE TABLE t (a INT, b TEXT) WITH ('connector'='posix_fs', posix_fs.root='/data', match_pattern='*.csv')
  FORMAT PLAIN ENCODE CSV (without_header='false', delimiter=',');
COPY e FROM STDIN (FORMAT csv);
SELECT * FROM '/data/x.parquet';
CREATE TABLE walk (distance INT, duration INT) WITH (connector='datagen',
  fields.distance.kind='sequence', fields.distance.start='1', fields.distance.end='60',
  fields.duration.kind='random', fields.duration.min='1', fields.duration.max='30', fields.duration.seed='3',
  datagen.rows.per.second='15');
CREATE SOURCE auction WITH (connector='nexmark', nexmark.table.type='Auction',
  nexmark.min.event.gap.in.ns='1000', nexmark.event.num='1000000');
CREATE TABLE e (id BIGINT, note TEXT) APPEND ONLY;
CREATE MATERIALIZED VIEW f AS SELECT window_start, count(*) FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') GROUP BY window_start EMIT ON WINDOW CLOSE;
CREATE SINK g AS SELECT ts, count(*) FROM t GROUP BY ts HAVING count(*) > 1 EMIT ON WINDOW CLOSE WITH (connector = 'file', path = 'x');
CREATE TABLE acc (id INT PRIMARY KEY, bal NUMERIC(10,2) NOT NULL DEFAULT 0, tags text[], PRIMARY KEY (id));
INSERT INTO acc VALUES (1, 10) ON CONFLICT (id) DO UPDATE SET bal = excluded.bal RETURNING id;
UPDATE acc SET bal = bal + 1 WHERE id = 1;
DELETE FROM acc WHERE id = 1;
TRUNCATE acc;
CREATE MATERIALIZED VIEW v AS SELECT channel, count(*) n, avg(price) FROM bid GROUP BY channel;
CREATE VIEW w AS SELECT * FROM v WHERE n > 10;
CREATE VIEW IF NOT EXISTS w (a, \"B c\") AS SELECT 1, 2;
CREATE INDEX i ON v(channel);
ALTER MATERIALIZED VIEW v RENAME TO v1;
ALTER SOURCE s RENAME TO s1;
ALTER TABLE t RENAME COLUMN a TO b;
ALTER VIEW w SET SCHEMA x;
ALTER SCHEMA x RENAME TO y;
CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT channel, count(*) n FROM bid GROUP BY channel;
DROP MATERIALIZED VIEW v CASCADE;
DROP TABLE IF EXISTS a, b.c RESTRICT;
REFRESH MATERIALIZED VIEW v;
CREATE SINK s3 AS SELECT * FROM bid WITH (connector='fs', fs.path='/out', type='append-only', rollover='1 min')
  FORMAT PLAIN ENCODE PARQUET;
CREATE SINK s4 FROM v WITH (connector='file', path='/out/v.csv') FORMAT PLAIN ENCODE CSV;
SUBSCRIBE TO v;
SUBSCRIBE v WITH (SNAPSHOT=true, PROGRESS=false);
SUBSCRIBE TO (SELECT * FROM v WHERE n > 1) AS OF 17 UP TO 20;
COPY (SUBSCRIBE TO v) TO STDOUT;
BEGIN; DECLARE c CURSOR FOR SUBSCRIBE v; FETCH 100 c WITH (timeout='1s'); FETCH NEXT FROM c; FETCH ALL c;
FETCH FORWARD 5 FROM c; CLOSE c; COMMIT;
DECLARE \"c 1\" BINARY INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SELECT 1;
EXPLAIN (VERBOSE, FORMAT JSON) CREATE MATERIALIZED VIEW v AS SELECT channel, count(*) FROM bid GROUP BY channel;
EXPLAIN ANALYZE MATERIALIZED VIEW v;
EXPLAIN ANALYZE SELECT 1;
EXPLAIN (SELECT 1);
SHOW SOURCES;  SHOW TABLES;  SHOW MATERIALIZED VIEWS;  SHOW SINKS;  SHOW SUBSCRIPTIONS;  SHOW JOBS;
SHOW CONNECTIONS;  SHOW SECRETS;  SHOW CLUSTER;  SHOW PROCESSLIST; SHOW SCHEMAS; SHOW DATABASES; SHOW INDEXES FROM public;
SHOW CREATE MATERIALIZED VIEW v;  DESCRIBE v; SHOW COLUMNS FROM v; SHOW TABLES LIKE 'a%';
SHOW search_path; SHOW ALL; SHOW TIME ZONE; SHOW TRANSACTION ISOLATION LEVEL; SHOW a.b;
SET search_path = a, \"B\"; SET LOCAL x TO 'y'; SET SESSION x = 1; SET TIME ZONE 'UTC'; SET NAMES 'UTF8';
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE;
SET DateStyle = 'ISO'; SET extra_float_digits = 2; SET x TO DEFAULT; SET x = -1; SET ROLE none;
RESET x; RESET ALL; RESET TIME ZONE;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; START TRANSACTION; END; ABORT; ROLLBACK AND CHAIN;
SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE a; COMMIT AND NO CHAIN;
PREPARE p (int, text) AS SELECT $1, $2; EXECUTE p (1, 'a'); DEALLOCATE PREPARE p; DEALLOCATE ALL;
DISCARD ALL; CLOSE ALL; UNLISTEN *; LISTEN a; NOTIFY a, 'b';
FLUSH; CHECKPOINT; VACUUM; ANALYZE t; VERIFY MATERIALIZED VIEW v;
COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER match, NULL '', DELIMITER ';', QUOTE '''', ESCAPE '\\', FORCE_NULL (a));
COPY t TO STDOUT CSV HEADER DELIMITER AS ',' FORCE QUOTE *; COPY (SELECT 1) TO '/out/x.parquet' (FORMAT parquet);
CREATE SCHEMA IF NOT EXISTS a; DROP SCHEMA a CASCADE; CREATE TABLE a.b AS SELECT 1 AS c WITH NO DATA;
CREATE TABLE b (x, y) AS SELECT 1, 2; TABLE acc; VALUES (1), (2); WITH x AS (SELECT 1) SELECT * FROM x;
/* {\"app\": \"dbt\"} */ SELECT 1 -- the end
";

#[test]
fn every_documented_form_parses_and_prints_as_it_parses() {
    let parsed = parse(STATEMENTS).expect("every statement is known");
    assert!(parsed.len() >= 119, "only {} statements", parsed.len());
    for statement in &parsed {
        let Some(printed) = print(&statement.ast) else { continue };
        let again = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error:?}"));
        assert_eq!(again.len(), 1, "{printed}");
        assert_eq!(print(&again[0].ast), Some(printed), "{}", statement.text);
    }
}

#[test]
fn a_text_is_split_into_statements_with_their_places() {
    let parsed = parse("SELECT 'a;b'; ; /* ; */ SELECT $$;$$ ;").expect("two statements");
    let texts: Vec<(&str, usize)> = parsed.iter().map(|parsed| (parsed.text.as_str(), parsed.offset)).collect();
    assert_eq!(texts, [("SELECT 'a;b'", 0), ("SELECT $$;$$", 24)]);
    assert!(parse(" -- nothing").expect("nothing").is_empty());
}

#[test]
fn what_nests_too_deeply_is_refused_and_does_not_exhaust_the_stack() {
    for text in [
        format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT 1{}", " + 1".repeat(100_000)),
        format!("SELECT {}1", "NOT ".repeat(100_000)),
        format!("SELECT {}", "-".repeat(100_000).replace('-', "- ")),
        format!("SELECT {}1{}", "ARRAY[".repeat(5_000), "]".repeat(5_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(50_000)),
    ] {
        let error = parse(&text).expect_err("too deep");
        assert_eq!(error.code.as_str(), "54001", "{}", &text[..40]);
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    let pieces = [
        "SELECT",
        "CREATE",
        "TABLE",
        "SOURCE",
        "(",
        ")",
        ",",
        ";",
        "*",
        "'a",
        "'",
        "$$",
        "$1",
        "\"",
        "WITH",
        "=",
        "AS",
        "VIEW",
        "MATERIALIZED",
        "SUBSCRIBE",
        "TO",
        "FETCH",
        "COPY",
        "FROM",
        "STDIN",
        "1",
        "1e999",
        "--",
        "/*",
        "E'\\",
        "U&'",
        "é",
        "SET",
        "SHOW",
        "EXPLAIN",
        "DROP",
        "ALTER",
        "RENAME",
        "BEGIN",
        "::",
        "[",
        "]",
        "FORMAT",
        "DECLARE",
        "CURSOR",
        "\u{0}",
    ];
    let mut seed = 88_172_645_463_325_252_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text.push_str(pieces[(seed % pieces.len() as u64) as usize]);
            text.push(if seed.is_multiple_of(5) { '\n' } else { ' ' });
        }
        let outcome = std::panic::catch_unwind(|| parse(&text).map(|parsed| parsed.len()));
        assert!(outcome.is_ok(), "seed {seed}: {text}");
    }
}
