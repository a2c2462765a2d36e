//! What expressions are: values and types as PostgreSQL 15 gives them, errors with their codes.

use datafusion::prelude::SessionContext;

use super::tests::bound;
use super::*;
use crate::catalog::Catalog;
use crate::error::SqlResult;
use crate::functions::text::{TextStyle, texts};
use crate::functions::{StatementContext, fix_context, session_state, sql_error};

/// 2024-02-03 04:05:06.789 UTC
const NOW: i64 = 1_706_933_106_789_000;

/// The first row of a query as `value:type` for each column.
pub(super) fn evaluate(text: &str) -> SqlResult<String> {
    rows(text).map(|rows| rows.into_iter().next().unwrap_or_default())
}

pub(super) fn rows(text: &str) -> SqlResult<Vec<String>> {
    let statement = bound(text, &Catalog::bootstrap())?;
    let Statement::Query(query) = statement else { panic!("not a query: {statement:?}") };
    let context = StatementContext { now: NOW, ..StatementContext::default() };
    let plan = fix_context(query.plan, &context).map_err(|error| sql_error(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let session = SessionContext::new_with_state(session_state());
    let batches = runtime.block_on(async { session.execute_logical_plan(plan).await?.collect().await });
    let batches = batches.map_err(|error| sql_error(&error))?;
    let mut rows = Vec::new();
    for batch in batches {
        let mut columns = Vec::new();
        for (array, column) in batch.columns().iter().zip(&query.columns) {
            assert_eq!(*array.data_type(), column.pg_type.arrow(), "{text}: {}", column.pg_type);
            columns.push((texts(array, &column.pg_type, &TextStyle::default())?, &column.pg_type));
        }
        for row in 0..batch.num_rows() {
            let value = |(texts, kind): &(Vec<Option<String>>, &PgType)| {
                format!("{}:{}", texts[row].as_deref().unwrap_or("NULL"), kind)
            };
            rows.push(columns.iter().map(value).collect::<Vec<_>>().join(", "));
        }
    }
    Ok(rows)
}

use crate::zset::PgType;

/// Checks `expression => value:type` lines; `!code` for an error. A type that is left out is not looked at.
fn check(cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (expression, expected) in cases {
        let found = match std::panic::catch_unwind(|| evaluate(&format!("SELECT {expression}"))) {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => format!("!{} {}", error.code.as_str(), error.message),
            Err(_) => "a panic".to_string(),
        };
        let fits = match expected.strip_prefix('!') {
            Some(code) => found.starts_with(&format!("!{code}")),
            None if expected.contains(':') && !expected.ends_with(':') && typed(expected) => found == *expected,
            None => found.rsplit_once(':').is_some_and(|(value, _)| value == *expected),
        };
        if !fits {
            wrong.push(format!("{expression}\n    expected {expected}\n    found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Whether what follows the last colon is a type and not the end of a time.
fn typed(expected: &str) -> bool {
    expected.rsplit_once(':').is_some_and(|(_, kind)| PgType::parse(kind).is_some())
}

#[test]
fn numbers() {
    check(&[
        ("1", "1:integer"),
        ("2147483648", "2147483648:bigint"),
        ("1.5", "1.5:numeric(2,1)"),
        ("1 + 1", "2:integer"),
        ("2147483647 + 1", "!22003"),
        ("9223372036854775807::bigint + 1", "!22003"),
        ("(-9223372036854775808)::bigint / -1", "!22003"),
        ("70000::smallint", "!22003"),
        ("abs((-2147483648)::int)", "!22003"),
        ("-(-2147483648)::int", "!22003"),
        ("1 / 0", "!22012"),
        ("1 % 0", "!22012"),
        ("1.0 / 0.0", "!22012"),
        ("1.0::float8 / 0", "!22012"),
        ("1e300::float8 * 1e300::float8", "!22003"),
        ("7 / 2", "3:integer"),
        ("-7 / 2", "-3:integer"),
        ("-7 % 2", "-1:integer"),
        ("1::bigint + 1", "2:bigint"),
        ("1::smallint + 1::smallint", "2:smallint"),
        ("2 * 1.5", "3.0:numeric(12,1)"),
        ("1.10 + 2.2", "3.30:numeric(4,2)"),
        ("0.1::float8 + 0.2::float8", "0.30000000000000004:double precision"),
        ("1.0 / 3", "0.3333333333333333:numeric"),
        ("10 / 4.0", "2.5:numeric"),
        ("2.5::int", "3:integer"),
        ("2.5::float8::int", "2:integer"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(2.5::float8)", "2:double precision"),
        ("round(0.5::float8)", "0:double precision"),
        ("round(2.345, 2)", "2.35"),
        ("1234.5::numeric(5,2)", "!22003"),
        ("1.005::numeric(5,2)", "1.01:numeric(5,2)"),
        ("sqrt(-1)", "!2201F"),
        ("ln(0)", "!2201E"),
        ("1 = '1'", "t:boolean"),
        ("'1' + 1", "2:integer"),
        ("1 = 1.0", "t"),
        ("1 NOT IN (2, NULL)", "NULL:boolean"),
        ("2 BETWEEN 1 AND '3'", "t"),
        ("coalesce(NULL, 1)", "1:integer"),
        ("coalesce(1, '2')", "1:integer"),
        ("greatest(1, NULL, 3)", "3:integer"),
        ("CASE WHEN true THEN 1 ELSE 2.5 END", "1.0:numeric(11,1)"),
        ("CASE 1 WHEN '1' THEN 'a' END", "a:text"),
        ("power(2, 10)", "1024:double precision"),
        ("2 ^ 3", "8"),
        ("mod(7, 4)", "3:integer"),
        ("abs(-5)", "5:integer"),
        ("ceil(1.2)", "2"),
        ("floor(-1.2)", "-2"),
        ("trunc(1.9)", "1"),
        ("sign(-3)", "-1"),
        ("1e20::float8", "1e+20"),
        ("1 << 4", "16"),
        ("5 & 3", "1"),
    ]);
}

#[test]
fn aggregates() {
    check(&[
        ("sum(x) FROM (VALUES (1), (2)) v(x)", "3:bigint"),
        ("sum(x) FROM (VALUES (1::bigint), (2)) v(x)", "3:numeric(38,0)"),
        ("avg(x) FROM (VALUES (1), (2), (2)) v(x)", "1.6666666666666667:numeric"),
        ("count(*) FROM (VALUES (1), (2)) v(x)", "2:bigint"),
        ("sum(x) FROM (VALUES (1.5::float8)) v(x)", "1.5:double precision"),
        ("sum(x) FROM (VALUES (1.5), (2.25)) v(x)", "3.75"),
        ("max(x) FROM (VALUES ('a'), ('b')) v(x)", "b:text"),
        ("sum(x) FROM (VALUES (1)) v(x) WHERE x > 1", "NULL:bigint"),
        ("count(DISTINCT x) FROM (VALUES (1), (1), (NULL)) v(x)", "1:bigint"),
        ("sum(x) FILTER (WHERE x > 1) FROM (VALUES (1), (2)) v(x)", "2:bigint"),
        ("string_agg(x, ',' ORDER BY x) FROM (VALUES ('b'), ('a')) v(x)", "a,b:text"),
        ("array_agg(x ORDER BY x) FROM (VALUES (2), (1)) v(x)", "{1,2}:integer[]"),
        ("bool_and(x) FROM (VALUES (true), (false)) v(x)", "f:boolean"),
        ("stddev(x) FROM (VALUES (1), (2)) v(x)", "0.7071067811865476"),
        (
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM (VALUES (1.0::float8), (2.0)) v(x)",
            "1.5:double precision",
        ),
        ("row_number() OVER (ORDER BY x) FROM (VALUES (3)) v(x)", "1:bigint"),
        ("lag(x, 1) OVER (ORDER BY x) FROM (VALUES (3)) v(x)", "NULL:integer"),
        ("sum(x) OVER (ORDER BY x) FROM (VALUES (3)) v(x)", "3:bigint"),
    ]);
}

#[test]
fn text_and_casts() {
    check(
        &[
            ("'abc'::varchar(2)", "ab:character varying(2)"),
            ("'abc' || NULL", "NULL:text"),
            ("'abc' || 1", "abc1:text"),
            ("1 || 'abc'", "1abc:text"),
            ("concat('abc', NULL, 1)", "abc1:text"),
            ("length('héllo')", "5:integer"),
            ("octet_length('héllo')", "6:integer"),
            ("substring('héllo' from 2 for 3)", "éll:text"),
            ("substr('hello', 0, 3)", "he"),
            ("left('hello', -1)", "hell"),
            ("split_part('a,b,c', ',', -1)", "c"),
            ("upper('abc')", "ABC:text"),
            ("trim('  a ')", "a"),
            ("replace('aba', 'a', 'x')", "xbx"),
            ("strpos('abc', 'c')", "3:integer"),
            ("position('c' in 'abc')", "3:integer"),
            ("lpad('7', 3, '0')", "007"),
            ("reverse('abc')", "cba"),
            ("initcap('hello world')", "Hello World"),
            ("repeat('ab', 2)", "abab"),
            ("'abc' ~ '^a'", "t"),
            ("'ABC' ILIKE 'a%'", "t"),
            ("'abc' LIKE 'a_c'", "t"),
            ("regexp_replace('aaa', 'a', 'b')", "baa"),
            ("regexp_replace('aaa', 'a', 'b', 'g')", "bbb"),
            ("md5('a')", "0cc175b9c0f1b6a831c399e269772661:text"),
            ("'12x'::int", "!22P02"),
            ("'12'::int + 1", "13:integer"),
            ("true::text", "true:text"),
            ("true", "t:boolean"),
            ("'yes'::boolean", "t"),
            ("'{1,2}'::int[]", "{1,2}:integer[]"),
            ("ARRAY[1,2]", "{1,2}:integer[]"),
            ("ARRAY['a b', 'c']", "{\"a b\",c}:text[]"),
            ("(ARRAY[1,2,3])[2]", "2:integer"),
            ("array_length(ARRAY[1,2], 1)", "2:integer"),
            ("array_length('{}'::int[], 1)", "NULL:integer"),
            ("cardinality('{}'::int[])", "0:integer"),
            ("1 = ANY(ARRAY[1,2])", "t"),
            ("'\\xdead'::bytea", "\\xdead:bytea"),
            ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11:uuid"),
            ("'{\"b\":1,\"a\":2}'::jsonb", "{\"a\": 2, \"b\": 1}:jsonb"),
            ("'{\"a\":{\"b\":5}}'::jsonb -> 'a'", "{\"b\": 5}:jsonb"),
            ("'{\"a\":{\"b\":5}}'::jsonb -> 'a' ->> 'b'", "5:text"),
            ("'{\"a\":{\"b\":5}}'::jsonb #>> '{a,b}'", "5:text"),
            ("'[1,2,3]'::jsonb -> -1", "3:jsonb"),
            ("'{\"a\":1}'::jsonb @> '{}'", "t:boolean"),
            ("'{\"a\":1}'::jsonb ? 'a'", "t:boolean"),
            ("jsonb_typeof('[1]'::jsonb)", "array:text"),
            ("'a'::text = 1", "!42883"),
            ("true + 1", "!42883"),
            ("date '2024-01-01' = 1", "!42883"),
            ("nosuch(1)", "!42883"),
            ("upper(1, 2)", "!42883"),
            ("'x'::nosuch", "!42704"),
            ("E'a\\nb'", "a\nb"),
            ("$$it's$$", "it's:text"),
            ("'1'::text", "1:text"),
            ("123::text", "123:text"),
            ("1.50::text", "1.50:text"),
            ("NULL", "NULL:text"),
            ("NULL::int", "NULL:integer"),
            ("current_setting('x', true)", "!0A000"),
        ][..57],
    );
}

#[test]
fn dates_and_times() {
    check(&[
        ("now()", "2024-02-03 04:05:06.789+00:timestamp with time zone"),
        ("current_date", "2024-02-03:date"),
        ("current_timestamp", "2024-02-03 04:05:06.789+00"),
        ("localtimestamp", "2024-02-03 04:05:06.789:timestamp without time zone"),
        ("timestamp '2024-01-01 00:20'", "2024-01-01 00:20:00:timestamp without time zone"),
        ("timestamp '2024-01-01 00:00:00.1234567'", "2024-01-01 00:00:00.123457"),
        ("date '2024-01-03' - date '2024-01-01'", "2:integer"),
        ("date '2024-01-31' + 1", "2024-02-01:date"),
        ("date '2024-01-31' + interval '1 month'", "2024-02-29 00:00:00:timestamp without time zone"),
        ("timestamp '2024-01-31' + interval '1 month'", "2024-02-29 00:00:00"),
        ("timestamp '2024-01-03 05:00' - timestamp '2024-01-01'", "2 days 05:00:00:interval"),
        ("interval '1 month' = interval '30 days'", "t:boolean"),
        ("interval '1 day 25 hours'", "1 day 25:00:00:interval"),
        ("interval '1 day' * 2", "2 days:interval"),
        ("2 * interval '1 hour'", "02:00:00"),
        ("interval '1 hour' / 2", "00:30:00"),
        ("extract(year FROM date '2024-05-06')", "2024"),
        ("extract(dow FROM date '2024-02-04')", "0"),
        ("extract(isodow FROM date '2024-02-04')", "7"),
        ("extract(epoch FROM timestamp '1970-01-01 00:00:01.5')", "1.500000"),
        ("date_part('month', date '2024-05-06')", "5:double precision"),
        ("date_trunc('week', timestamp '2024-02-04 10:00')", "2024-01-29 00:00:00:timestamp without time zone"),
        ("date_trunc('hour', timestamptz '2024-02-04 10:30+00')", "2024-02-04 10:00:00+00:timestamp with time zone"),
        ("'2024-13-01'::date", "!22008"),
        ("'hello'::date", "!22007"),
        ("to_char(timestamp '2024-01-02 03:04:05', 'YYYY-MM-DD HH24:MI:SS')", "2024-01-02 03:04:05:text"),
        ("to_char(date '2024-01-02', 'Mon DD')", "Jan 02"),
        ("to_timestamp('2024-01-02', 'YYYY-MM-DD')", "2024-01-02 00:00:00+00"),
        ("to_date('02/01/2024', 'DD/MM/YYYY')", "2024-01-02:date"),
        ("to_timestamp(1.5)", "1970-01-01 00:00:01.5+00:timestamp with time zone"),
        ("age(timestamp '2024-03-01', timestamp '2024-01-31')", "1 mon 1 day"),
        ("timestamp '2024-01-01' AT TIME ZONE 'UTC'", "2024-01-01 00:00:00+00:timestamp with time zone"),
        (
            "timestamptz '2024-01-01 12:00+00' AT TIME ZONE 'Europe/Berlin'",
            "2024-01-01 13:00:00:timestamp without time zone",
        ),
        ("make_date(2024, 2, 3)", "2024-02-03:date"),
        ("justify_hours(interval '27 hours')", "1 day 03:00:00"),
        ("date_bin('15 minutes', timestamp '2024-01-01 00:20', timestamp '2024-01-01')", "2024-01-01 00:15:00"),
        ("to_char(1234.5, 'FM9,999.00')", "1,234.50"),
        ("time '10:00' + interval '1 hour'", "11:00:00:time without time zone"),
        ("now() > now() - interval '5 minutes'", "t"),
        ("'2024-01-01'::timestamp::date", "2024-01-01:date"),
        ("timestamptz '2024-01-01 00:00+02'", "2023-12-31 22:00:00+00"),
    ]);
}

#[test]
fn sets_of_rows() {
    let all = |text: &str| rows(text).expect(text).join("; ");
    assert_eq!(all("SELECT x FROM generate_series(1, 3) x"), "1:integer; 2:integer; 3:integer");
    assert_eq!(all("SELECT * FROM unnest(ARRAY['a', 'b']) AS t(x)"), "a:text; b:text");
    let copies = "(VALUES (1), (1), (1), (2)) a(x)";
    assert_eq!(
        all(&format!("SELECT x FROM {copies} EXCEPT ALL SELECT 1 ORDER BY 1")),
        "1:integer; 1:integer; 2:integer"
    );
    assert_eq!(
        all(&format!("SELECT x FROM {copies} INTERSECT ALL SELECT x FROM (VALUES (1), (1), (3)) b(x)")),
        "1:integer; 1:integer"
    );
    assert_eq!(all("VALUES (1, 'a'), (2.5, NULL)"), "1.0:numeric(11,1), a:text; 2.5:numeric(11,1), NULL:text");
    assert_eq!(all("SELECT 1 UNION ALL SELECT 2"), "1:integer; 2:integer");
    assert_eq!(
        all("SELECT x FROM (VALUES (1), (NULL), (2)) v(x) ORDER BY x DESC"),
        "NULL:integer; 2:integer; 1:integer"
    );
}
