//! Statements as users write them, bound against a small catalog.

use super::*;
use crate::catalog::{Catalog, Relation};
use crate::error::{SqlError, SqlResult};
use crate::zset::PgType;

/// A catalog made by running DDL.
pub(super) fn catalog(ddl: &str) -> Catalog {
    let mut catalog = Catalog::bootstrap();
    for parsed in parse(ddl).expect("DDL of a test") {
        let statement = bind_in(&parsed, &catalog).expect("DDL of a test");
        let edits = match statement {
            Statement::Define(define) => define.edits,
            Statement::CreateTableAs(create) => create.define.edits,
            other => panic!("not DDL: {other:?}"),
        };
        catalog = catalog.check_all(&edits).expect("DDL of a test");
    }
    catalog
}

pub(super) fn bind_in(parsed: &Parsed, catalog: &Catalog) -> SqlResult<Statement> {
    let path = ["public".to_string()];
    bind(parsed, &BindContext { catalog, search_path: &path, parameter_types: &[], outside: &Nowhere })
}

pub(super) fn bound(text: &str, catalog: &Catalog) -> SqlResult<Statement> {
    let parsed = parse(text)?;
    assert_eq!(parsed.len(), 1, "{text}");
    bind_in(&parsed[0], catalog)
}

fn small() -> Catalog {
    catalog(
        "CREATE TABLE bid (auction bigint, bidder bigint, price bigint, channel varchar, ts timestamptz);
         CREATE TABLE acc (id int PRIMARY KEY, bal numeric, note varchar(5) DEFAULT 'x');
         CREATE MATERIALIZED VIEW v AS SELECT channel, count(*) n, avg(price) FROM bid GROUP BY channel;
         CREATE VIEW w AS SELECT * FROM v WHERE n > 10;",
    )
}

fn query(text: &str) -> Query {
    match bound(text, &small()) {
        Ok(Statement::Query(query)) => query,
        other => panic!("{text}: {other:?}"),
    }
}

fn names(text: &str) -> String {
    let columns = query(text).columns;
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn error(text: &str) -> SqlError {
    match bound(text, &small()) {
        Err(error) => error,
        Ok(bound) => panic!("{text} is not refused: {bound:?}"),
    }
}

fn relation(name: &str) -> Relation {
    (**small().named("public", name).expect("it was created")).clone()
}

#[test]
fn result_columns_have_postgresqls_names_and_may_repeat() {
    assert_eq!(names("SELECT 1, 1"), "?column?, ?column?");
    assert_eq!(names("SELECT sum(price), sum(price), max(ts) FROM bid"), "sum, sum, max");
    assert_eq!(names("SELECT price, price::text FROM bid"), "price, price");
    assert_eq!(names("SELECT *, price FROM bid"), "auction, bidder, price, channel, ts, price");
    assert_eq!(names("SELECT *, price + 1 AS auction FROM bid"), "auction, bidder, price, channel, ts, auction");
    assert_eq!(names("SELECT * FROM acc a JOIN acc b ON a.id = b.id"), "id, bal, note, id, bal, note");
    assert_eq!(
        names("SELECT * FROM (SELECT * FROM acc a JOIN acc b ON a.id = b.id) s"),
        "id, bal, note, id, bal, note"
    );
    assert_eq!(names("SELECT x.sum FROM (SELECT sum(price) FROM bid) x"), "sum");
    assert_eq!(
        names("SELECT *, price * 2 AS double FROM bid ORDER BY double"),
        "auction, bidder, price, channel, ts, double"
    );
}

#[test]
fn names_are_found_by_schema_alias_and_search_path() {
    for text in [
        "SELECT bid.price FROM bid",
        "SELECT b.price FROM bid b",
        "SELECT public.bid.price FROM public.bid",
        "SELECT price FROM dev.public.bid",
        "WITH bid AS (SELECT 1 AS one) SELECT one FROM bid",
        "WITH x AS (SELECT * FROM bid) SELECT price FROM x WHERE EXISTS (SELECT 1 FROM x y WHERE y.bidder = x.bidder)",
        "TABLE acc",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT id FROM acc FETCH FIRST 2 ROWS ONLY",
        "SELECT * FROM generate_series(1, 3) AS g(x) WHERE x > 1",
        "SELECT g FROM generate_series(1, 3) g",
        "SELECT generate_series(1, 3)",
        "SELECT relname FROM pg_class",
        "SELECT count(*) FROM information_schema.tables",
        "SELECT * FROM w",
    ] {
        query(text);
    }
    assert_eq!(query("SELECT * FROM w").reads, vec![relation("v").id]);
}

#[test]
fn set_operations_plan_as_multisets() {
    for text in [
        "SELECT id FROM acc EXCEPT ALL SELECT 1",
        "SELECT id FROM acc INTERSECT ALL (SELECT 1 UNION ALL SELECT 1)",
        "SELECT id, note FROM acc EXCEPT SELECT 1, 'a'",
        "(SELECT id FROM acc EXCEPT ALL SELECT 1) EXCEPT ALL SELECT 2 ORDER BY id LIMIT 1",
    ] {
        assert_eq!(names(text), if text.contains("note") { "id, note" } else { "id" }, "{text}");
    }
}

#[test]
fn views_keep_their_text_and_know_what_they_read() {
    assert_eq!(relation("v").depends_on, vec![relation("bid").id]);
    assert_eq!(relation("w").depends_on, vec![relation("v").id]);
    assert_eq!(relation("w").definition, "SELECT * FROM public.v AS v WHERE n > 10");
    let columns: Vec<String> = relation("v").columns.iter().map(|c| format!("{} {}", c.name, c.pg_type)).collect();
    assert_eq!(columns.join(", "), "channel character varying, n bigint, avg numeric");
    let query = bind_definition(&relation("v"), &small()).expect("bound before");
    assert_eq!(query.columns[1].pg_type, PgType::Int8);
}

#[test]
fn renaming_a_relation_changes_the_texts_that_name_it() {
    let catalog = small();
    let Ok(Statement::Define(define)) = bound("ALTER TABLE bid RENAME TO offer", &catalog) else { panic!("refused") };
    let after = catalog.check_all(&define.edits).expect("checked before");
    let v = after.named("public", "v").expect("it stays");
    assert!(v.definition.contains("FROM public.offer AS bid"), "{}", v.definition);
    bind_definition(v, &after).expect("it still binds");
}

#[test]
fn changes_give_whole_rows() {
    let catalog = small();
    for (text, width) in [
        ("UPDATE acc SET bal = bal + 1 WHERE id = 1", 6),
        ("UPDATE acc SET (bal, note) = (1, 'a') RETURNING id, bal AS b", 8),
        ("UPDATE acc AS a SET note = channel FROM bid WHERE bid.auction = a.id", 6),
    ] {
        let Ok(Statement::Update(update)) = bound(text, &catalog) else {
            panic!("{text}: {:?}", bound(text, &catalog))
        };
        assert_eq!(update.plan.schema().fields().len(), width, "{text}");
    }
    for (text, width) in [
        ("DELETE FROM acc WHERE id = 1", 3),
        ("DELETE FROM acc RETURNING *", 6),
        ("DELETE FROM acc a USING bid WHERE bid.auction = a.id", 3),
    ] {
        let Ok(Statement::Delete(delete)) = bound(text, &catalog) else {
            panic!("{text}: {:?}", bound(text, &catalog))
        };
        assert_eq!(delete.plan.schema().fields().len(), width, "{text}");
    }
    for text in [
        "INSERT INTO acc VALUES (1, 10, 'a'), (2, 2.5, NULL)",
        "INSERT INTO acc (id) VALUES (1)",
        "INSERT INTO acc DEFAULT VALUES",
        "INSERT INTO acc SELECT auction, price FROM bid",
        "INSERT INTO acc VALUES ($1, $2) RETURNING id",
        "INSERT INTO acc AS a VALUES (1, 10) ON CONFLICT (id) DO UPDATE SET bal = excluded.bal + a.bal WHERE a.id > 1 RETURNING *",
        "INSERT INTO acc VALUES (1, DEFAULT, DEFAULT) ON CONFLICT DO NOTHING",
    ] {
        assert!(matches!(bound(text, &catalog), Ok(Statement::Insert(_))), "{text}: {:?}", bound(text, &catalog));
    }
    let Ok(Statement::Insert(insert)) = bound("INSERT INTO acc VALUES ($1, $2)", &catalog) else { panic!("refused") };
    let types = parameter_types(&Statement::Insert(insert));
    assert_eq!(types, vec![Some(PgType::Int4), Some(PgType::Numeric(None))]);
}

#[test]
fn literal_rows_need_no_plan() {
    let Ok(Statement::Insert(insert)) = bound("INSERT INTO acc VALUES (1, 1.5, 'ab'), (2, NULL, 'c')", &small()) else {
        panic!("refused")
    };
    let InsertRows::Batch(batch) = insert.rows else { panic!("planned: {:?}", insert.rows) };
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 3));
}

#[test]
fn parameters_are_typed_by_what_is_around_them() {
    let Ok(statement) = bound("SELECT * FROM acc WHERE id = $1 AND note = $2 LIMIT $3", &small()) else {
        panic!("refused")
    };
    let types = parameter_types(&statement);
    assert_eq!(types[0], Some(PgType::Int4));
    assert!(matches!(types[1], Some(PgType::Varchar(_) | PgType::Text)), "{types:?}");
}

#[test]
fn mistakes_get_a_code_a_position_and_a_hint() {
    let cases = [
        ("SELEC 1", "42601", 1, "Did you mean SELECT?"),
        ("SELECT auctoin FROM bid", "42703", 8, "Did you mean \"auction\"?"),
        ("SELECT b.prize FROM bid b", "42703", 8, "Did you mean \"price\"?"),
        ("SELECT x.price FROM bid", "42P01", 8, "The FROM clause has: bid."),
        ("SELECT * FROM bidd", "42P01", 15, "Did you mean \"bid\"?"),
        ("SELECT cuont(*) FROM bid", "42883", 8, "Did you mean \"count\"?"),
        ("SELECT 1::intger", "42704", 11, "Did you mean integer?"),
        ("CREATE TABLE t (a intger)", "42704", 17, "Did you mean integer?"),
        ("CREATE TABLE bid (a int)", "42P07", 14, ""),
        ("DROP TABLE v", "42809", 12, "materialized view"),
        ("DROP TABLE bid", "2BP01", 12, "CASCADE"),
        ("INSERT INTO acc (idd) VALUES (1)", "42703", 18, "Did you mean \"id\"?"),
        ("INSERT INTO v VALUES (1)", "42809", 13, "Only tables"),
        ("INSERT INTO acc VALUES (1, 'x')", "22P02", 28, ""),
        ("UPDATE acc SET ball = 1", "42703", 16, "Did you mean \"bal\"?"),
        ("SELECT channel, count(*) FROM bid", "42803", 8, "GROUP BY"),
        ("SELECT id FROM acc a, acc b", "42702", 8, "alias"),
        ("SELECT id FROM acc WHERE sum(id) > 1", "42803", 26, "HAVING"),
        ("SELECT 1 UNION SELECT 1, 2", "42601", 1, ""),
        ("INSERT INTO acc VALUES (1) ON CONFLICT (bal) DO NOTHING", "42P10", 31, "primary key"),
        ("SELECT (1", "42601", 10, ""),
        ("SELECT * FROM nowhere.t", "42P01", 15, ""),
        ("CREATE SCHEMA pg_x", "42501", 15, ""),
        ("SUBSCRIBE TO v WITH (snapshots = true)", "22023", 22, "Did you mean \"snapshot\"?"),
        ("EXPLAIN (FORMT json) SELECT 1", "42601", 16, "FORMAT"),
        ("COPY acc FROM STDIN (FORMAT cvs)", "22023", 29, "csv"),
    ];
    let mut wrong = Vec::new();
    for (text, code, position, hint) in cases {
        let error = error(text);
        let told = (error.code.as_str(), error.position.unwrap_or(0), error.hint.as_deref().unwrap_or(""));
        if told.0 != code || told.1 != position || !told.2.contains(hint) {
            wrong.push(format!("{text}\n   expected {code} at {position}: {hint}\n   got {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_of_datafusion_shows_in_messages() {
    for text in [
        "SELECT bad FROM bid",
        "SELECT channel + 1 FROM bid WHERE auction = ts",
        "SELECT upper(1, 2)",
        "SELECT a FROM (SELECT 1 AS b) x",
        "SELECT sum(channel) FROM bid",
        "SELECT * FROM bid ORDER BY 9",
        "SELECT * FROM bid GROUP BY 9",
        "SELECT (SELECT 1, 2)",
        "SELECT 'x'::int + ts FROM bid",
    ] {
        let error = error(text);
        for word in ["DataFusion", "Utf8", "Int64", "Schema", "LogicalPlan", "Arrow", "planning:", "Expr"] {
            assert!(!error.message.contains(word), "{text}: {error:?}");
        }
    }
}
