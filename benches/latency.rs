//! From INSERT to the row in a SELECT of another connection, through the real protocol.
//!
//! `cargo bench --bench latency -- --count 2000 --views 50 [--load 100000] [--sync off,on] [--workers N]`
//! The views are filters, group-bys and joins over one table in turn. `--load` is rows a second that another connection
//! copies into the table meanwhile. Beside it, in the same run: round trips over loopback, and a small write with sync.

mod common;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::server::Server;
use common::{Durations, list, option};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::{Client, Statement};

/// Keys that rows are grouped by: so many rows has the view that is read.
const KEYS: i64 = 100;
/// Pauses of the load between two pieces.
const LOAD_PAUSE: Duration = Duration::from_millis(10);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let count: usize = option("--count").unwrap_or(2_000);
    let views: usize = option("--views").unwrap_or(3);
    let load: usize = option("--load").unwrap_or(0);
    let workers: usize = option("--workers").unwrap_or(1);
    println!("{count} rows one after another; {views} views; load {load} rows/s; {workers} worker(s)");
    Durations::heading();
    loopback(count).await.report("limit: two round trips of 64 bytes over loopback");
    synced_writes(count.min(500)).report("limit: 100 bytes written and synced");
    for sync in list::<String>("--sync").unwrap_or_else(|| vec!["off".to_owned(), "on".to_owned()]) {
        let server = Server::start(&["--workers", &workers.to_string()]).await;
        define(&server.connect().await, views).await;
        measure(&server, count, load, &sync).await;
    }
}

async fn define(client: &Client, views: usize) {
    let tables = format!(
        "CREATE TABLE t (id bigint, k bigint, v bigint); CREATE TABLE names (k bigint PRIMARY KEY, name text);
         INSERT INTO names SELECT g, 'name ' || g FROM generate_series(0, {KEYS} - 1) g(g);
         CREATE MATERIALIZED VIEW counted AS SELECT k, count(*) AS n, sum(v * 2) AS s FROM t GROUP BY k;
         INSERT INTO t SELECT g, g % {KEYS}, g FROM generate_series(1, 10000) g(g);"
    );
    client.batch_execute(&tables).await.expect("the tables are made");
    for view in 1..views {
        let query = match view % 3 {
            0 => format!("SELECT k, max(v) AS most FROM t WHERE k > {view} GROUP BY k"),
            1 => format!("SELECT * FROM t WHERE id % {view} = 0"),
            _ => format!("SELECT name, count(*) AS n FROM t JOIN names USING (k) WHERE v <> {view} GROUP BY name"),
        };
        client.batch_execute(&format!("CREATE MATERIALIZED VIEW w{view} AS {query}")).await.expect("a view is made");
    }
}

/// One row after the other: inserted, seen by another connection, delivered to a subscriber.
async fn measure(server: &Server, count: usize, load: usize, sync: &str) {
    let (writer, reader, follower) = (server.connect().await, server.connect().await, server.connect().await);
    writer.batch_execute(&format!("SET synchronous_commit = {sync}")).await.expect("a setting");
    let insert = writer.prepare("INSERT INTO t VALUES ($1, $2, 1)").await.expect("a statement");
    let select = reader.prepare("SELECT n FROM counted WHERE k = $1").await.expect("a statement");
    let feed = follower.copy_out("COPY (SUBSCRIBE counted) TO STDOUT").await.expect("a subscription");
    let (stopped, follow) = (Arc::new(AtomicBool::new(false)), load == 0);
    let loader = server.connect().await;
    let loading = (load > 0).then(|| tokio::spawn(load_rows(loader, load, stopped.clone())));
    let mut feed = Box::pin(feed);
    let (mut acknowledged, mut visible, mut delivered) = <(Durations, Durations, Durations)>::default();
    for round in 0..count + count / 10 {
        let key = round as i64 % KEYS;
        let before = seen(&reader, &select, key).await;
        drain(&mut feed).await;
        let begun = Instant::now();
        writer.execute(&insert, &[&(round as i64), &key]).await.expect("a row is taken");
        let inserted = begun.elapsed();
        let after = seen(&reader, &select, key).await;
        let shown = begun.elapsed();
        assert!(after > before, "a row that was acknowledged is not to be seen");
        // The first tenth warms up.
        if round < count / 10 {
            continue;
        }
        acknowledged.add(inserted);
        visible.add(shown);
        if follow {
            delivered.add(subscribed(&writer, &insert, &mut feed, key).await);
        }
    }
    stopped.store(true, Ordering::Relaxed);
    if let Some(loading) = loading {
        let rate = loading.await.expect("the load ends");
        println!("load in fact: {rate:.0} rows/s");
    }
    acknowledged.report(&format!("synchronous_commit {sync}: INSERT answered"));
    visible.report(&format!("synchronous_commit {sync}: INSERT, then SELECT in another connection has it"));
    if follow {
        delivered.report(&format!("synchronous_commit {sync}: INSERT until SUBSCRIBE delivers"));
    }
}

async fn seen(reader: &Client, select: &Statement, key: i64) -> i64 {
    reader.query_one(select, &[&key]).await.expect("the view has the key").get(0)
}

type Feed = std::pin::Pin<Box<tokio_postgres::CopyOutStream>>;

/// Takes what waits already.
async fn drain(feed: &mut Feed) {
    while let Ok(Some(piece)) = tokio::time::timeout(Duration::from_micros(1), feed.next()).await {
        piece.expect("the subscription lives");
    }
}

/// From the sending of an INSERT to its change at the subscriber.
async fn subscribed(writer: &Client, insert: &Statement, feed: &mut Feed, key: i64) -> Duration {
    tokio::time::sleep(Duration::from_micros(200)).await;
    drain(feed).await;
    let begun = Instant::now();
    let inserting = async { writer.execute(insert, &[&-1_i64, &key]).await };
    let (inserted, change) = tokio::join!(inserting, async {
        feed.next().await.expect("the subscription goes on").expect("the subscription lives");
        begun.elapsed()
    });
    inserted.expect("a row is taken");
    change
}

/// Copies rows in pieces at a rate, until told to stop; tells the rate in fact.
async fn load_rows(client: Client, rate: usize, stopped: Arc<AtomicBool>) -> f64 {
    client.batch_execute("SET synchronous_commit = off").await.expect("a setting");
    let piece = (rate as f64 * LOAD_PAUSE.as_secs_f64()) as usize;
    let text: String = (0..piece).map(|row| format!("{row},{},{row}\n", row as i64 % KEYS)).collect();
    let (begun, mut pieces) = (Instant::now(), 0_u32);
    while !stopped.load(Ordering::Relaxed) {
        let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN (FORMAT csv)").await.expect("COPY begins");
        let mut sink = Box::pin(sink);
        sink.send(Bytes::from(text.clone())).await.expect("COPY takes rows");
        sink.as_mut().finish().await.expect("COPY ends");
        pieces += 1;
        tokio::time::sleep_until((begun + LOAD_PAUSE * pieces).into()).await;
    }
    f64::from(pieces) * piece as f64 / begun.elapsed().as_secs_f64()
}

/// What the network alone costs an INSERT and a SELECT.
async fn loopback(count: usize) -> Durations {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut socket = std::net::TcpStream::connect(address).expect("a connection");
        socket.set_nodelay(true).expect("an option");
        let mut buffer = [0; 64];
        while std::io::Read::read_exact(&mut socket, &mut buffer).is_ok() {
            socket.write_all(&buffer).expect("an echo");
        }
    });
    let (mut socket, _) = listener.accept().await.expect("a connection");
    socket.set_nodelay(true).expect("an option");
    let mut durations = Durations::default();
    for _ in 0..count {
        let begun = Instant::now();
        for _ in 0..2 {
            round_trip(&mut socket).await;
        }
        durations.add(begun.elapsed());
    }
    durations
}

async fn round_trip(socket: &mut TcpStream) {
    let mut buffer = [7; 64];
    socket.write_all(&buffer).await.expect("the echo listens");
    socket.read_exact(&mut buffer).await.expect("the echo answers");
}

/// What the disk alone costs a write that is synced.
fn synced_writes(count: usize) -> Durations {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(1 << 20).and_then(|()| file.sync_all()).expect("room");
    let mut durations = Durations::default();
    for round in 0..count {
        let begun = Instant::now();
        file.write_all_at(&[1; 100], round as u64 * 100).and_then(|()| file.sync_data()).expect("a write");
        durations.add(begun.elapsed());
    }
    durations
}
