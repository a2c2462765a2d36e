//! The queries of the law of plans, by shape.

use super::check;

const CASES: u64 = 3;

/// Shapes that have rules of their own must not fall back.
#[test]
fn common_shapes_are_not_recomputed() {
    let world = super::World::new();
    let class = |sql: &str| super::worst_class(&super::lower(&world.plan(sql), &world).expect(sql));
    let keyed = [
        "SELECT a, count(*) AS n, sum(b) AS s, avg(n) AS m, min(s) AS lo, max(x) AS hi, bool_and(f) AS al FROM t GROUP BY a",
        "SELECT count(*) AS n, count(DISTINCT s) AS d, sum(b) FILTER (WHERE f) AS sf FROM t",
        "SELECT DISTINCT a FROM t",
        "SELECT t.a, u.c FROM t LEFT JOIN u ON t.a = u.a AND t.b > u.c",
        "SELECT a FROM t WHERE a NOT IN (SELECT k FROM w)",
        "SELECT a, EXISTS (SELECT 1 FROM u WHERE u.a = t.a) AS e FROM t",
        "SELECT a FROM t WHERE b > (SELECT avg(c) FROM u WHERE u.a = t.a)",
        "SELECT a FROM t INTERSECT SELECT a FROM u",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b",
        "SELECT a, b FROM (SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY b) AS r FROM t) AS q WHERE r <= 3",
        "SELECT a, r FROM (SELECT a, rank() OVER (ORDER BY b DESC) AS r FROM t) AS q WHERE r < 3 AND a > 0",
        "SELECT a, b + 1 AS c FROM t ORDER BY s LIMIT 3 OFFSET 1",
        "SELECT a FROM t LIMIT 2",
        "SELECT a FROM t WHERE ts > now() - INTERVAL '1 day' AND a > 0",
        "SELECT t.a, u.c FROM t JOIN u ON t.a = u.a AND t.ts - INTERVAL '1 day' <= now()",
    ];
    let linear = [
        "SELECT a, unnest(make_array(a, b)) AS y FROM t",
        "SELECT s, hw_tumble(ts, INTERVAL '1 minute', INTERVAL '0 minutes') AS y FROM t",
        "SELECT s, unnest(hw_hop(ts, INTERVAL '1 minute', INTERVAL '5 minutes', INTERVAL '0 minutes')) AS y FROM t",
    ];
    linear.iter().for_each(|sql| assert_eq!(class(sql), crate::dataflow::Class::Linear, "{sql}"));
    keyed.iter().for_each(|sql| assert_eq!(class(sql), crate::dataflow::Class::Keyed, "{sql}"));
    let by_key = [
        "SELECT a, b, rank() OVER (PARTITION BY a ORDER BY b) AS r FROM t",
        "SELECT a, b, sum(b) OVER (PARTITION BY a + 1 ORDER BY b) AS r FROM t",
        "SELECT a, string_agg(s, ',') AS l FROM t GROUP BY a",
    ];
    by_key.iter().for_each(|sql| assert_eq!(class(sql), crate::dataflow::Class::KeyedRecompute, "{sql}"));
}

fn check_all(queries: &[&str]) {
    queries.iter().for_each(|sql| check(sql, CASES));
}

#[test]
fn plan_law_of_filters_projections_and_unions() {
    check_all(&[
        "SELECT * FROM t",
        "SELECT a, b + 1 AS b1, s FROM t WHERE a > 0",
        "SELECT b FROM t WHERE a = 1 OR s = 'a' OR s IS NULL",
        "SELECT CASE WHEN a > 0 THEN 'pos' WHEN a < 0 THEN 'neg' END AS sign, coalesce(s, '-') AS s FROM t",
        "SELECT q.y * 2 AS z FROM (SELECT a + b AS y, s FROM t WHERE f) AS q WHERE q.y > 1 AND q.s <> ''",
        "SELECT a, s FROM t UNION ALL SELECT a, s FROM u",
        "SELECT a FROM t UNION ALL SELECT k FROM w UNION ALL SELECT a FROM e WHERE v > 0",
        "SELECT 10 / a AS q FROM t",
        "SELECT a FROM t WHERE 10 / a > 2",
        "SELECT 1 AS one",
        "SELECT 1 AS one WHERE false",
        "SELECT * FROM (VALUES (1, 'a'), (2, NULL), (1, 'a')) AS v(i, s)",
        "SELECT a FROM t UNION ALL SELECT 7",
        "SELECT s || '!' AS loud, length(s) AS n, upper(s) AS u FROM t",
        "SELECT date_trunc('minute', ts) AS m, n * 2 AS n2 FROM t",
    ]);
}

#[test]
fn plan_law_of_distinct_and_set_operations() {
    check_all(&[
        "SELECT DISTINCT a FROM t",
        "SELECT DISTINCT a, s FROM t WHERE b > 0",
        "SELECT DISTINCT x FROM t",
        "SELECT a FROM t UNION SELECT a FROM u",
        "SELECT a, s FROM t INTERSECT SELECT a, s FROM u",
        "SELECT a, s FROM t EXCEPT SELECT a, s FROM u",
        "SELECT DISTINCT a FROM e",
        "SELECT DISTINCT ON (a) a, b, s FROM t ORDER BY a, b DESC",
    ]);
}

#[test]
fn plan_law_of_aggregates() {
    check_all(&[
        "SELECT count(*) AS n FROM t",
        "SELECT count(*) AS n, sum(b) AS s, min(s) AS lo, max(s) AS hi FROM t WHERE a > 100",
        "SELECT a, count(*) AS n, sum(b) AS b FROM t GROUP BY a",
        "SELECT a, sum(n) AS sn, avg(n) AS an, avg(b) AS ab FROM t GROUP BY a",
        "SELECT a, sum(x) AS sx, avg(x) AS ax, min(x) AS lo, max(x) AS hi FROM t GROUP BY a",
        "SELECT s, min(a) AS lo, max(b) AS hi, min(ts) AS t0, max(s) AS ms FROM t GROUP BY s",
        "SELECT a, bool_and(f) AS al, bool_or(f) AS an FROM t GROUP BY a",
        "SELECT a, count(DISTINCT s) AS d, sum(DISTINCT b) AS sb, avg(DISTINCT b) AS ab FROM t GROUP BY a",
        "SELECT a, count(*) FILTER (WHERE b > 1) AS n, sum(b) FILTER (WHERE s = 'a') AS s FROM t GROUP BY a",
        "SELECT a, count(DISTINCT s) FILTER (WHERE f) AS d FROM t GROUP BY a",
        "SELECT a + 1 AS k, count(s) AS n FROM t GROUP BY a + 1 HAVING count(*) > 1",
        "SELECT a, s, sum(b * 2) AS total FROM t WHERE s IS NOT NULL GROUP BY a, s",
        "SELECT x, count(*) AS n FROM t GROUP BY x",
        "SELECT sum(10 / a) AS q FROM t",
        "SELECT s, sum(10 / a) AS q FROM t GROUP BY s",
        "SELECT a, max(v) AS m, count(*) AS n FROM e GROUP BY a",
        "SELECT max(n) AS m FROM (SELECT a, count(*) AS n FROM t GROUP BY a) AS q",
        "~SELECT a, stddev(b) AS sd, var_pop(b) AS vp FROM t GROUP BY a",
        "SELECT a, string_agg(s, ',' ORDER BY s) AS l, array_agg(b) AS bs FROM t GROUP BY a",
        "SELECT a, count(*) AS n, median(b) AS m FROM t GROUP BY a",
        "SELECT string_agg(s, '/') AS l FROM t",
        "SELECT a, s, count(*) AS n FROM t GROUP BY ROLLUP (a, s)",
        "SELECT a, f, grouping(a) AS g, sum(b) AS b FROM t GROUP BY GROUPING SETS ((a), (f), ())",
        "SELECT a, bit_and(b) AS x, first_value(b ORDER BY s DESC) AS fv FROM t GROUP BY a",
        "SELECT count(a, s) AS n FROM t",
    ]);
}

#[test]
fn plan_law_of_joins() {
    check_all(&[
        "SELECT t.a, t.b, u.c FROM t JOIN u ON t.a = u.a",
        "SELECT t.a, u.c FROM t JOIN u ON t.a = u.a AND t.s = u.s AND t.b > u.c",
        "SELECT t.a, u.c FROM t JOIN u ON t.a + 1 = u.c - 1",
        "SELECT t.a, u.c FROM t LEFT JOIN u ON t.a = u.a",
        "SELECT t.a, u.c FROM t LEFT JOIN u ON t.a = u.a AND t.b > u.c",
        "SELECT t.a, u.c FROM t LEFT JOIN u ON t.a = u.a AND t.b > 2 WHERE u.c IS NULL",
        "SELECT t.a, u.c FROM t RIGHT JOIN u ON t.a = u.a AND u.c < t.b",
        "SELECT t.a, u.a AS ua, t.s, u.c FROM t FULL JOIN u ON t.a = u.a",
        "SELECT t.a, u.a AS ua, t.b, u.c FROM t FULL JOIN u ON t.a = u.a AND t.b > u.c",
        "SELECT t.a, w.v FROM t CROSS JOIN w",
        "SELECT t.a, w.v FROM t JOIN w ON t.a < w.k",
        "SELECT t.a, w.v FROM t LEFT JOIN w ON t.a < w.k",
        "SELECT t1.a, t2.b FROM t AS t1 JOIN t AS t2 ON t1.a = t2.a",
        "SELECT t.a, u.c, w.v FROM t JOIN u ON t.a = u.a JOIN w ON u.c = w.v",
        "SELECT t.a, u.c, w.v FROM t LEFT JOIN u ON t.a = u.a LEFT JOIN w ON u.c = w.v",
        "SELECT t.a FROM t JOIN u ON t.s IS NOT DISTINCT FROM u.s",
        "SELECT a, b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT a, b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a AND u.c > t.b)",
        "SELECT a, b FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
        "SELECT a, b FROM t WHERE a IN (SELECT c FROM u)",
        "SELECT a, b FROM t WHERE a NOT IN (SELECT k FROM w)",
        "SELECT a, b FROM t WHERE a NOT IN (SELECT k FROM w WHERE w.v = t.b)",
        "SELECT a, b FROM t WHERE a NOT IN (SELECT k FROM w WHERE w.v > t.b)",
        "SELECT a, b FROM t WHERE 3 NOT IN (SELECT k FROM w)",
        "SELECT a, b FROM t WHERE a + 1 NOT IN (SELECT k FROM w) OR b = 1",
        "SELECT a, b, EXISTS (SELECT 1 FROM u WHERE u.a = t.a) AS e FROM t",
        "SELECT a, b, a IN (SELECT k FROM w) AS i, b NOT IN (SELECT c FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT a, CASE WHEN NOT EXISTS (SELECT 1 FROM w WHERE k = a) THEN 'no' ELSE 'yes' END AS e FROM t",
        "SELECT a FROM t WHERE (a IN (SELECT k FROM w)) IS NOT TRUE",
        "SELECT a FROM t WHERE a IN (SELECT c FROM u) OR b > 2",
        "SELECT a, (SELECT max(c) FROM u) AS m FROM t",
        "SELECT a, (SELECT count(*) FROM u WHERE u.a = t.a) AS n FROM t",
        "SELECT a, (SELECT k FROM w) AS k FROM t",
        "SELECT a, (SELECT c FROM u WHERE u.a = t.a) AS c FROM t",
        "SELECT a FROM t WHERE s = (SELECT s FROM u WHERE u.a = t.a AND u.c > 2)",
        "SELECT a FROM t WHERE b > (SELECT avg(c) FROM u WHERE u.a = t.a)",
        "SELECT a, b FROM t WHERE b = (SELECT max(b) FROM t)",
        "SELECT t.a, sum(u.c) AS c FROM t JOIN u ON t.a = u.a GROUP BY t.a",
        "SELECT e1.id, e2.v FROM e AS e1 JOIN e AS e2 ON e1.id = e2.a",
        "SELECT t.x, w.v FROM t JOIN w ON t.x = w.v",
        "SELECT q.n, t.b FROM (SELECT a, count(*) AS n FROM t GROUP BY a) AS q JOIN t ON q.n = t.a",
        "WITH q AS (SELECT a, sum(b) AS b FROM t GROUP BY a) SELECT x.a, y.b FROM q AS x JOIN q AS y ON x.a = y.b",
        "SELECT t.a, l.n FROM t, LATERAL (SELECT count(*) AS n FROM u WHERE u.a = t.a) AS l",
    ]);
}

#[test]
fn plan_law_of_windows_and_limits() {
    check_all(&[
        "SELECT a, b, r FROM (SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY b) AS r FROM t) AS q WHERE r <= 2",
        "SELECT a, b, r FROM (SELECT a, b, s, row_number() OVER (PARTITION BY a + 1 ORDER BY b DESC, length(s)) AS r FROM t) AS q WHERE r BETWEEN 2 AND 3 AND b > 0",
        "SELECT a, r FROM (SELECT a, rank() OVER (ORDER BY x DESC) AS r FROM t) AS q WHERE r < 3 AND a > 0",
        "SELECT a, r, d FROM (SELECT a, rank() OVER (PARTITION BY s ORDER BY a) AS r, dense_rank() OVER (PARTITION BY s ORDER BY a) AS d FROM t) AS q WHERE 2 >= d",
        "SELECT id, r FROM (SELECT *, row_number() OVER (PARTITION BY a ORDER BY v DESC, id) AS r FROM e) AS q WHERE r = 1",
        "SELECT a, b + 1 AS c FROM t ORDER BY s, a LIMIT 3 OFFSET 1",
        "SELECT id + 1 AS i FROM e ORDER BY v DESC LIMIT 2",
        "SELECT q.s, count(*) AS n FROM (SELECT s FROM t ORDER BY b, ts LIMIT 4) AS q GROUP BY q.s",
        "SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY b) AS rn FROM t",
        "SELECT a, b, rank() OVER (PARTITION BY a ORDER BY b) AS r, dense_rank() OVER (PARTITION BY a ORDER BY b) AS d, \
         row_number() OVER (PARTITION BY a ORDER BY b) AS rn FROM t",
        "SELECT a, b, sum(b) OVER (PARTITION BY a) AS total FROM t",
        "SELECT a, b, sum(b) OVER (PARTITION BY a ORDER BY b) AS run FROM t",
        "SELECT a, b, lag(b) OVER (ORDER BY b, s) AS before FROM t",
        "SELECT a, b, sum(b) OVER (PARTITION BY a, s) AS x, count(*) OVER (PARTITION BY a ORDER BY b) AS y FROM t",
        "SELECT a, b, sum(b) OVER (PARTITION BY a) AS x, count(*) OVER (PARTITION BY s) AS y FROM t",
        "SELECT * FROM (SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY b DESC) AS rn FROM t) AS q WHERE rn <= 2",
        "SELECT a + 1 AS k, avg(b) OVER (PARTITION BY a + 1 ORDER BY b ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS m FROM t",
        "SELECT a, b FROM t ORDER BY b DESC, a LIMIT 3",
        "SELECT a, b FROM t ORDER BY b DESC LIMIT 3 OFFSET 2",
        "SELECT q.a FROM (SELECT a, b FROM t ORDER BY b LIMIT 4) AS q WHERE q.a > 0",
        "SELECT a FROM t ORDER BY a",
    ]);
}

#[test]
fn plan_law_of_recursion_time_and_the_rest() {
    check_all(&[
        "WITH RECURSIVE r AS (SELECT k, v FROM w WHERE k = 0 UNION SELECT w.k, w.v FROM w JOIN r ON w.k = r.v) SELECT * FROM r",
        "SELECT a, unnest(make_array(a, b)) AS y FROM t",
        "SELECT s, unnest(CASE WHEN b > 1 THEN make_array(a, b) END) AS y, unnest(make_array(s)) AS z FROM t",
        "SELECT s, unnest(hw_hop(ts, INTERVAL '20 seconds', INTERVAL '50 seconds', INTERVAL '3 seconds')) AS y FROM t",
        "SELECT a, hw_session_end(ts, INTERVAL '1 minute') OVER (PARTITION BY a ORDER BY ts) AS y FROM t WHERE ts IS NOT NULL",
        "SELECT * FROM generate_series(1, 3) AS g(i)",
        "SELECT t.a, g.i FROM t JOIN generate_series(1, 3) AS g(i) ON t.a = g.i",
        "SELECT s, n, row_number() OVER (ORDER BY n DESC, s) AS place FROM (SELECT s, count(*) AS n FROM t GROUP BY s) AS q",
        "SELECT q.a, q.n, u.c FROM (SELECT a, count(*) AS n FROM t GROUP BY a HAVING count(*) > 1) AS q LEFT JOIN u ON q.a = u.a",
        "SELECT DISTINCT q.m FROM (SELECT a, max(b) AS m FROM t GROUP BY a) AS q WHERE q.m IN (SELECT c FROM u)",
        "SELECT a, sum(n) AS s FROM (SELECT a, s, count(*) AS n FROM t GROUP BY a, s UNION ALL SELECT a, s, c FROM u) AS q GROUP BY a",
        "SELECT t.a, count(*) AS n FROM t JOIN (SELECT DISTINCT a FROM u) AS q ON t.a = q.a GROUP BY t.a ORDER BY n LIMIT 2",
        "WITH q AS (SELECT a, avg(b) AS m FROM t GROUP BY a), r AS (SELECT * FROM q WHERE m > 0) SELECT r.a, q.m FROM r JOIN q ON r.a = q.a",
        "SELECT a FROM t WHERE b > ALL (SELECT c FROM u WHERE u.a = t.a)",
        "SELECT a FROM t WHERE b = ANY (SELECT c FROM u)",
        "SELECT a, count(*) AS n FROM t GROUP BY a HAVING count(*) > (SELECT count(*) FROM w)",
        "SELECT t.a, u.c, w.v FROM t FULL JOIN u ON t.a = u.a FULL JOIN w ON u.c = w.v",
        "SELECT count(*) AS n FROM t, u WHERE t.a = u.a AND (t.b > 1 OR u.c > 1)",
        "SELECT t.a, t.b - q.m AS d FROM t JOIN (SELECT a, max(b) AS m FROM t GROUP BY a) AS q ON t.a = q.a WHERE t.b < q.m",
        "SELECT sum(v) AS v FROM (SELECT v FROM w LIMIT 3) AS q",
        "SELECT 1 AS x FROM t GROUP BY a HAVING min(b) > 0",
        "SELECT min(a) AS a FROM t WHERE false",
        "SELECT NULL AS x, a FROM t",
        "SELECT a FROM t EXCEPT SELECT k FROM w UNION ALL SELECT 1",
        "SELECT CAST(s AS INTEGER) AS i FROM t WHERE s <> ''",
        "SELECT a FROM t WHERE a > 0 LIMIT 0",
        "SELECT a FROM t WHERE ts < now() - INTERVAL '1 day'",
        "SELECT a FROM t WHERE ts < now() + INTERVAL '77 days 11 hours 46 minutes 44 seconds'",
        "SELECT a FROM t WHERE ts > now() + INTERVAL '77 days 11 hours 46 minutes 44 seconds' AND a > 0",
        "SELECT s, count(*) AS n FROM t WHERE ts BETWEEN now() + INTERVAL '77 days 11 hours 46 minutes 43 seconds' AND now() + INTERVAL '77 days 11 hours 47 minutes 42 seconds' GROUP BY s",
        "SELECT t.a, u.c FROM t JOIN u ON t.a = u.a AND t.ts - INTERVAL '77 days 11 hours 46 minutes 44 seconds' <= now()",
        "SELECT count(*) AS n FROM t WHERE ts > now() - INTERVAL '1 day'",
    ]);
}

fn check_explain(sql: &str, expected: expect_test::Expect) {
    let world = super::World::new();
    let graph = super::lower(&world.plan(sql), &world).expect(sql);
    expected.assert_eq(&super::explained(&graph));
}

#[test]
fn explain_shows_what_is_kept() {
    check_explain(
        "SELECT a, sum(b * 2) AS s FROM t WHERE b > 0 GROUP BY a",
        expect_test::expect![[r#"
            project a, sum(t.b * 2) [linear]
              aggregate sum(t.b * 2) by t.a [keyed; keeps one row of sums for each group; values for min, max and DISTINCT]
                project a, b * 2 where b > 0 [linear] -> by t.a
                  t"#]],
    );
    check_explain(
        "SELECT e1.id, e2.v FROM e AS e1 JOIN e AS e2 ON e1.id = e2.a",
        expect_test::expect![[r#"
            project id, v [linear, append-only]
              join on e1.id = e2.a::bigint [keyed, append-only; keeps the rows of both inputs by key]
                project id where id IS NOT NULL [linear, append-only] -> by id
                  e, append-only
                project a, v, a::bigint where a::bigint IS NOT NULL [linear, append-only] -> by a::bigint
                  e, append-only
            warning: join keeps the rows of both inputs by key, and an input only grows: its state grows for ever; bound it with a filter on time"#]],
    );
}

#[test]
fn volatile_functions_are_refused() {
    let world = super::World::new();
    let refused = super::lower(&world.plan("SELECT a, random() AS r FROM t"), &world).err().expect("an error");
    assert_eq!(refused.code, crate::error::SqlState::FEATURE_NOT_SUPPORTED);
    assert!(refused.message.starts_with("random()"), "{}", refused.message);
}
