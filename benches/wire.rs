//! SELECT of many rows through the real protocol, as text and binary.
//!
//! `cargo bench --bench wire -- --rows 1000000 [--times 5] [--workers N] [--postgres HOST=… PORT=…]`
//! Beside it, in the same run: as many bytes over loopback from memory. `--postgres` is the connection string of a
//! PostgreSQL in which the same table is made and read in the same run.

mod common;

use std::io::Write;
use std::pin::pin;
use std::time::Instant;

use common::option;
use common::server::Server;
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const SELECT: &str = "SELECT id, k, v, name FROM t";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let rows: usize = option("--rows").unwrap_or(1_000_000);
    let times: usize = option("--times").unwrap_or(5);
    let workers: usize = option("--workers").unwrap_or(1);
    println!("{SELECT}: {rows} rows, median of {times}; {workers} worker(s)");
    println!("{:40} {:>9} {:>12} {:>22}", "", "wall s", "M rows/s", "server CPU s per run");
    let server = Server::start(&["--workers", &workers.to_string()]).await;
    measure("Headwater", &server.connect().await, rows, times, || server.cpu_seconds()).await;
    if let Some(target) = option::<String>("--postgres") {
        let (client, connection) = tokio_postgres::connect(&target, NoTls).await.expect("PostgreSQL answers");
        tokio::spawn(connection);
        measure("PostgreSQL", &client, rows, times, || 0.0).await;
    }
    let bytes = rows * 45;
    let wall = loopback(bytes).await;
    println!("{:40} {wall:9.3} {:12.2}", format!("limit: {} MB over loopback", bytes >> 20), rows as f64 / 1e6 / wall);
}

async fn measure(system: &str, client: &Client, rows: usize, times: usize, cpu: impl Fn() -> f64) {
    let fill = format!(
        "CREATE TABLE t (id bigint, k integer, v double precision, name text);
         INSERT INTO t SELECT g, g % 1000, g * 0.5, 'name ' || g FROM generate_series(1, {rows}) g(g);"
    );
    client.batch_execute(&fill).await.expect("the table is filled");
    for binary in [false, true] {
        let (mut walls, before) = (Vec::new(), cpu());
        for _ in 0..times {
            let begun = Instant::now();
            let found = if binary { read_binary(client).await } else { read_text(client).await };
            walls.push(begun.elapsed().as_secs_f64());
            assert_eq!(found, rows);
        }
        walls.sort_by(f64::total_cmp);
        let (wall, spent) = (walls[times / 2], (cpu() - before) / times as f64);
        let name = format!("{system}, {}", if binary { "binary" } else { "text" });
        println!("{name:40} {wall:9.3} {:12.2} {spent:22.3}", rows as f64 / 1e6 / wall);
    }
    client.batch_execute("DROP TABLE t").await.expect("the table goes");
}

async fn read_text(client: &Client) -> usize {
    let mut rows = pin!(client.simple_query_raw(SELECT).await.expect("a result"));
    let mut found = 0;
    while let Some(message) = rows.next().await {
        found += usize::from(matches!(message.expect("a row"), SimpleQueryMessage::Row(_)));
    }
    found
}

async fn read_binary(client: &Client) -> usize {
    let none: [&(dyn ToSql + Sync); 0] = [];
    let mut rows = pin!(client.query_raw(SELECT, none).await.expect("a result"));
    let mut found = 0;
    while let Some(row) = rows.next().await {
        row.expect("a row");
        found += 1;
    }
    found
}

/// Seconds for so many bytes from another thread.
async fn loopback(bytes: usize) -> f64 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut socket = std::net::TcpStream::connect(address).expect("a connection");
        let piece = vec![7; 64 << 10];
        for _ in 0..bytes.div_ceil(piece.len()) {
            socket.write_all(&piece).expect("the reader reads");
        }
    });
    let (mut socket, _) = listener.accept().await.expect("a connection");
    let mut piece = vec![0; 64 << 10];
    let begun = Instant::now();
    while socket.read(&mut piece).await.expect("the writer writes") > 0 {}
    begun.elapsed().as_secs_f64()
}
