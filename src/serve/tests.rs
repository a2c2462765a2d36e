//! Clients against a server in the same process: both query protocols, COPY, cancelling, limits, and rubbish.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt, pin_mut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Options;

/// A server on free ports, with its directory.
struct Case {
    server: Server,
    directory: tempfile::TempDir,
}

impl Case {
    async fn new() -> Case {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options {
            data_dir: Some(directory.path().join("data")),
            http_listen: Some("127.0.0.1:0".into()),
            port: Some(0),
            workers: Some(1),
            sync: Some(false),
            allowed_paths: Some(vec![directory.path().to_path_buf()]),
            ..Options::default()
        };
        let config = Config::new(options).expect("valid settings");
        let engine = start_engine(&config).await.expect("the engine starts");
        let server = Server::start(&config, engine).await.expect("the server starts");
        Case { server, directory }
    }

    async fn connect(&self) -> Client {
        connect(self.server.wire_address).await.expect("a connection")
    }

    async fn stop(self) {
        self.server.stop().await.expect("a clean stop");
    }
}

async fn connect(address: SocketAddr) -> Result<Client, tokio_postgres::Error> {
    let config = format!("host=127.0.0.1 port={} user=tester dbname=dev", address.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The values of all rows of a simple query.
async fn simple(client: &Client, text: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(text).await.expect(text);
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|index| row.get(index).map(String::from)).collect()),
        _ => None,
    });
    rows.collect()
}

fn code(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or(format!("{error}"), |error| error.code().code().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_statements_in_one_text_answer_in_order() {
    let case = Case::new().await;
    let client = case.connect().await;
    let rows = simple(
        &client,
        "CREATE TABLE t (a INT, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, NULL); \
                                SELECT a, b FROM t ORDER BY a; SELECT 'end' AS e;",
    )
    .await;
    let text = |text: &str| Some(text.to_string());
    assert_eq!(rows, [vec![text("1"), text("x")], vec![text("2"), None], vec![text("end")]]);
    assert!(simple(&client, " ; ").await.is_empty());
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_sqlstate_position_and_hint() {
    let case = Case::new().await;
    let client = case.connect().await;
    simple(&client, "CREATE TABLE walks (walker TEXT, distance INT)").await;
    let error = client.simple_query("SELECT 1; SELECT distanc FROM walks").await.expect_err("no such column");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "42703");
    assert_eq!(error.severity(), "ERROR");
    assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(18)));
    assert!(error.hint().is_some_and(|hint| hint.contains("distance")), "{:?}", error.hint());
    // The connection is as good as before.
    assert_eq!(simple(&client, "SELECT 1").await.len(), 1);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_survive_binary_parameters_and_results() {
    let case = Case::new().await;
    let client = case.connect().await;
    let when = chrono::DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("in range");
    let uuid = uuid::Uuid::from_u128(0x1234_5678_9abc_def0);
    let json = serde_json::json!({"a": [1, 2], "b": null});
    let values: Vec<(&str, Box<dyn ToSql + Sync>)> = vec![
        ("boolean", Box::new(true)),
        ("smallint", Box::new(-7i16)),
        ("integer", Box::new(42i32)),
        ("bigint", Box::new(i64::MIN)),
        ("real", Box::new(1.5f32)),
        ("double precision", Box::new(-0.1f64)),
        ("text", Box::new("héllo")),
        ("bytea", Box::new(vec![0u8, 255])),
        ("date", Box::new(when.date_naive())),
        ("time", Box::new(when.time())),
        ("timestamp", Box::new(when.naive_utc())),
        ("timestamptz", Box::new(when)),
        ("uuid", Box::new(uuid)),
        ("json", Box::new(json.clone())),
        ("jsonb", Box::new(json)),
    ];
    for (name, value) in values {
        let statement = client.prepare(&format!("SELECT $1::{name} AS v")).await.expect(name);
        let rows = client.query(&statement, &[value.as_ref()]).await.expect(name);
        let kind = rows[0].columns()[0].type_().clone();
        let printed = match kind {
            Type::BOOL => format!("{:?}", rows[0].get::<_, bool>(0)),
            Type::INT2 => format!("{:?}", rows[0].get::<_, i16>(0)),
            Type::INT4 => format!("{:?}", rows[0].get::<_, i32>(0)),
            Type::INT8 => format!("{:?}", rows[0].get::<_, i64>(0)),
            Type::FLOAT4 => format!("{:?}", rows[0].get::<_, f32>(0)),
            Type::FLOAT8 => format!("{:?}", rows[0].get::<_, f64>(0)),
            Type::TEXT => format!("{:?}", rows[0].get::<_, String>(0)),
            Type::BYTEA => format!("{:?}", rows[0].get::<_, Vec<u8>>(0)),
            Type::DATE => format!("{:?}", rows[0].get::<_, chrono::NaiveDate>(0)),
            Type::TIME => format!("{:?}", rows[0].get::<_, chrono::NaiveTime>(0)),
            Type::TIMESTAMP => format!("{:?}", rows[0].get::<_, chrono::NaiveDateTime>(0)),
            Type::TIMESTAMPTZ => format!("{:?}", rows[0].get::<_, chrono::DateTime<chrono::Utc>>(0)),
            Type::UUID => format!("{:?}", rows[0].get::<_, uuid::Uuid>(0)),
            Type::JSON | Type::JSONB => format!("{:?}", rows[0].get::<_, serde_json::Value>(0)),
            other => panic!("{name} came back as {other}"),
        };
        assert_eq!(printed, format!("{value:?}"), "{name}");
    }
    let rows = client.query("SELECT $1::text, $2::int[]", &[&None::<String>, &vec![1, 2]]).await.expect("a row");
    assert_eq!((rows[0].get::<_, Option<String>>(0), rows[0].get::<_, Vec<i32>>(1)), (None, vec![1, 2]));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_give_their_rows_in_portions() {
    let case = Case::new().await;
    let mut client = case.connect().await;
    let transaction = client.transaction().await.expect("a transaction");
    let portal = transaction.bind("SELECT * FROM generate_series(1, 10) AS g ORDER BY 1", &[]).await.expect("a portal");
    let mut sizes = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 4).await.expect("rows");
        sizes.push(rows.len());
        if rows.len() < 4 {
            break;
        }
    }
    assert_eq!(sizes, [4, 4, 2]);
    transaction.commit().await.expect("committed");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_pipeline_skips_to_sync() {
    let case = Case::new().await;
    let client = case.connect().await;
    let bad = client.query("SELECT 1/0", &[]);
    let good = client.query("SELECT 2", &[]);
    let (bad, good) = futures::join!(bad, good);
    assert_eq!(code(&bad.expect_err("division by zero")), "22012");
    assert_eq!(good.expect("a row").len(), 1);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_goes_both_ways_in_every_format() {
    let case = Case::new().await;
    let client = case.connect().await;
    simple(&client, "CREATE TABLE t (a INT, b TEXT)").await;
    let sink = client.copy_in("COPY t FROM STDIN (FORMAT csv, HEADER)").await.expect("copy");
    pin_mut!(sink);
    for piece in ["a,b\n1,\"x", ",y\"\n2", ",\n"] {
        sink.send(Bytes::from(piece)).await.expect("sent");
    }
    assert_eq!(sink.finish().await.expect("done"), 2);
    let sink = client.copy_in("COPY t (b, a) FROM STDIN (FORMAT binary)").await.expect("copy");
    let writer = BinaryCopyInWriter::new(sink, &[Type::TEXT, Type::INT4]);
    pin_mut!(writer);
    writer.as_mut().write(&[&"z", &3]).await.expect("written");
    assert_eq!(writer.finish().await.expect("done"), 1);
    let out = client.copy_out("COPY (SELECT * FROM t ORDER BY a) TO STDOUT").await.expect("copy");
    let rows: Vec<Bytes> = out.try_collect().await.expect("rows");
    assert_eq!(rows, ["1\tx,y\n", "2\t\\N\n", "3\tz\n"]);
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN").await.expect("copy");
    pin_mut!(sink);
    sink.send(Bytes::from("4\tq\nfive\tq\n")).await.expect("sent");
    let error = sink.finish().await.expect_err("malformed");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.message(), "invalid input syntax for type integer: \"five\"");
    assert_eq!(error.detail(), Some("COPY t, line 2, column a: \"five\""));
    assert_eq!(simple(&client, "SELECT count(*) FROM t").await[0][0].as_deref(), Some("3"));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_streams_and_can_be_cancelled() {
    let case = Case::new().await;
    let (reader, writer) = (case.connect().await, case.connect().await);
    simple(&writer, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1)").await;
    let cancel = reader.cancel_token();
    let rows = reader.copy_out("COPY (SUBSCRIBE t) TO STDOUT").await.expect("a feed");
    pin_mut!(rows);
    let first = rows.next().await.expect("a row").expect("the snapshot");
    assert!(first.ends_with(b"\t1\t1\n"), "{first:?}");
    simple(&writer, "DELETE FROM t").await;
    let second = rows.next().await.expect("a row").expect("a change");
    assert!(second.ends_with(b"\t-1\t1\n"), "{second:?}");
    cancel.cancel_query(NoTls).await.expect("sent");
    let error = rows.next().await.expect("an end").expect_err("cancelled");
    assert_eq!(code(&error), "57014");
    case.stop().await;
}

/// Sends bytes and reads what comes back until the server hangs up.
async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.expect("a socket");
    socket.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    answer
}

/// A start-up packet of a user.
fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0tester\0\0";
    [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_ends_its_own_connection_and_no_other() {
    let case = Case::new().await;
    let address = case.server.wire_address;
    let client = case.connect().await;
    let answer = raw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&answer).contains("invalid length of startup packet"));
    let bodies: [&[u8]; 8] = [
        b"P\0\0\0\x0a\0\xff\xfe\0\0\0",
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x02",
        b"!\0\0\0\x04",
        b"B\0\0\0\x08\0\0\x7f\xff",
        b"Q\0\0\0\x07\xff\xfe\0",
        b"p\0\0\0\x05x",
        b"E\0\0\0\x05x",
    ];
    for body in bodies {
        let answer = raw(address, &[&startup(), body].concat()).await;
        assert!(String::from_utf8_lossy(&answer).contains("FATAL"), "{body:?}");
    }
    assert_eq!(raw(address, b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x08\0\0\0\0").await[..1], *b"N");
    assert_eq!(simple(&client, "SELECT 1").await.len(), 1);
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_clients_and_silent_ones_are_turned_away() {
    let case = Case::new().await;
    let engine = case.server.engine.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let options =
        WireOptions { max_connections: 1, startup_timeout: Duration::from_millis(100), ..WireOptions::default() };
    let stop = CancellationToken::new();
    let wire = Wire::new(Arc::new(move |info| Session::new(engine.clone(), info)), options, stop.clone());
    let served = tokio::spawn(wire::serve(listener, wire.clone()));
    let client = connect(address).await.expect("the first is let in");
    let error = connect(address).await.expect_err("the second is not");
    assert_eq!(code(&error), "53300");
    assert_eq!(raw(address, b"\0\0").await, b"");
    assert_eq!(wire.counts(), (1, 1));
    stop.cancel();
    served.await.expect("no panic");
    let error = client.simple_query("SELECT 1").await.expect_err("the server has gone");
    assert!(error.is_closed() || code(&error) == "57P01", "{error}");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_told_at_the_start_and_when_they_change() {
    let case = Case::new().await;
    let config = format!(
        "host=127.0.0.1 port={} user=tester application_name=probe options='-c TimeZone=Europe/Berlin'",
        case.server.wire_address.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("a connection");
    assert!(connection.parameter("server_version").is_some_and(|version| version.starts_with("15.")));
    assert_eq!(connection.parameter("application_name"), Some("probe"));
    assert_eq!(connection.parameter("TimeZone"), Some("Europe/Berlin"));
    for name in ["server_encoding", "client_encoding", "DateStyle", "integer_datetimes", "standard_conforming_strings"]
    {
        assert!(connection.parameter(name).is_some(), "{name}");
    }
    tokio::spawn(connection);
    let rows = simple(&client, "SELECT '2024-07-01 00:00:00+00'::timestamptz").await;
    assert_eq!(rows[0][0].as_deref(), Some("2024-07-01 02:00:00+02"));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_health_and_figures() {
    let case = Case::new().await;
    let address = case.server.http_address;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    for path in ["/healthz", "/ready"] {
        assert!(raw(address, &get(path)).await.starts_with(b"HTTP/1.1 200"), "{path}");
    }
    let metrics = String::from_utf8(raw(address, &get("/metrics")).await).expect("text");
    assert!(metrics.contains("\nheadwater_steps_total ") && metrics.contains("# TYPE headwater_connections gauge"));
    assert!(raw(address, &get("/nowhere")).await.starts_with(b"HTTP/1.1 404"));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_reads_after_its_files_have_been_read() {
    let case = Case::new().await;
    let folder = case.directory.path().display().to_string();
    let rows: String = (0..10_000).map(|row| format!("{row},k{}\n", row % 2)).collect();
    std::fs::write(format!("{folder}/in.csv"), format!("a,b\n{rows}")).expect("written");
    let text = format!(
        "CREATE SOURCE s (a INT, b TEXT) WITH (connector = 'file', path = '{folder}/in.csv') \
         FORMAT PLAIN ENCODE CSV;\n\
         CREATE MATERIALIZED VIEW v AS SELECT b, sum(a * 2) AS doubled FROM s GROUP BY b;\n\
         -- all of it is there\nSELECT * FROM v ORDER BY b;\n\
         COPY (SELECT b FROM v ORDER BY b) TO STDOUT;\nSELECT nope FROM v;"
    );
    let mut out = Vec::new();
    let failure = crate::script::run(&case.server.engine, &text, crate::table::Print::Csv, &mut out).await;
    assert_eq!(String::from_utf8_lossy(&out), "b,doubled\nk0,49990000\nk1,50000000\nk0\nk1\n");
    let printed = failure.expect_err("the last statement").print("job.sql");
    assert!(printed.starts_with("job.sql:6: ERROR:  42703: column \"nope\" does not exist\nLINE 6: "), "{printed}");
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_shows_five_views_with_rows() {
    let case = Case::new().await;
    for is_terminal in [false, true] {
        let options = crate::demo::DemoOptions { rate: 20_000, seconds: Some(2), is_terminal };
        let mut out = Vec::new();
        crate::demo::run(&case.server, &options, &mut out, std::future::pending()).await.expect("a demo");
        let text = String::from_utf8(out).expect("text");
        for view in ["channels", "totals", "hot_auctions", "categories", "states"] {
            assert!(text.contains(view), "{view}: {text}");
        }
        assert!(text.contains("rows/s in"), "{text}");
    }
    let client = case.connect().await;
    let rows = simple(&client, "SELECT count(*) > 0 FROM channels").await;
    assert_eq!(rows[0][0].as_deref(), Some("t"));
    case.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_of_the_program_around_work_in_views() {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int32Type};
    use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};

    let triple = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let tripled = arrays[0].as_primitive::<Int32Type>().unary::<_, Int32Type>(|value| value * 3);
        Ok(ColumnarValue::Array(Arc::new(tripled)))
    };
    crate::register_function(create_udf(
        "triple",
        vec![DataType::Int32],
        DataType::Int32,
        Volatility::Immutable,
        Arc::new(triple),
    ));
    let case = Case::new().await;
    let client = case.connect().await;
    let setup = "CREATE TABLE t (x INT); CREATE MATERIALIZED VIEW v AS SELECT triple(x) AS y FROM t; \
                 INSERT INTO t VALUES (1), (2); UPDATE t SET x = 5 WHERE x = 2";
    client.batch_execute(setup).await.expect("the function is known");
    let rows = client.query("SELECT y FROM v ORDER BY y", &[]).await.expect("the view is read");
    let values: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(values, [3, 15]);
    case.stop().await;
}
