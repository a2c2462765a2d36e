//! COPY … FROM STDIN (FORMAT csv) in rows a second, through the real protocol.
//!
//! `cargo bench --bench ingest -- --rows 2000000 --views 2 [--piece ROWS] [--workers N] [--sync off]`
//! `--piece` rows go in one COPY, all of them unless given. Beside it, in the same run: copying the same bytes in
//! memory, and splitting them into fields with the crate `csv`.

mod common;

use std::fmt::Write;

use bytes::Bytes;
use common::server::Server;
use common::{option, timed};
use futures::SinkExt;
use tokio_postgres::Client;

/// Bytes that go to the server at once.
const CHUNK: usize = 256 << 10;
const VIEWS: [&str; 2] = [
    "CREATE MATERIALIZED VIEW by_k AS SELECT k, count(*) AS n, sum(v * 2) AS s FROM t GROUP BY k",
    "CREATE MATERIALIZED VIEW big AS SELECT id, name FROM t WHERE v > 900",
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let rows: usize = option("--rows").unwrap_or(2_000_000);
    let piece: usize = option("--piece").unwrap_or(rows);
    let views: usize = option("--views").unwrap_or(2);
    let workers: usize = option("--workers").unwrap_or(1);
    let sync: String = option("--sync").unwrap_or_else(|| "on".to_owned());
    let pieces: Vec<String> = (0..rows).step_by(piece).map(|first| lines(first..rows.min(first + piece))).collect();
    let bytes: usize = pieces.iter().map(String::len).sum();
    println!(
        "{rows} rows, {} MB, pieces of {piece} rows, {views} views, {workers} worker(s), sync {sync}",
        bytes >> 20
    );
    println!("{:32} {:>14} {:>14} {:>9}", "", "M rows/s", "M rows/CPU-s", "MB/s");
    let report = |name: &str, wall: f64, cpu: f64| {
        let (million, megabytes) = (rows as f64 / 1e6, bytes as f64 / 1e6);
        println!("{name:32} {:14.2} {:14.2} {:9.0}", million / wall, million / cpu, megabytes / wall);
    };
    let (copied, wall, cpu) = timed(|| pieces.iter().map(|piece| piece.clone().len()).sum::<usize>());
    assert_eq!(copied, bytes);
    report("limit: memory copy", wall, cpu);
    let (fields, wall, cpu) = timed(|| pieces.iter().map(|piece| fields(piece)).sum::<usize>());
    assert_eq!(fields, rows * 4);
    report("limit: csv split into fields", wall, cpu);

    let server = Server::start(&["--workers", &workers.to_string()]).await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id bigint, k bigint, v bigint, name text)").await.expect("a table");
    for view in VIEWS.iter().take(views) {
        client.batch_execute(view).await.expect("a view");
    }
    client.batch_execute(&format!("SET synchronous_commit = {sync}")).await.expect("a setting");
    let begun = std::time::Instant::now();
    for piece in &pieces {
        copy(&client, piece).await;
    }
    // The client's own work is not the server's.
    report("COPY", begun.elapsed().as_secs_f64(), server.cpu_seconds());
    let counted: i64 = client.query_one("SELECT count(*) FROM t", &[]).await.expect("a count").get(0);
    assert_eq!(counted, rows as i64);
}

fn lines(rows: std::ops::Range<usize>) -> String {
    let mut text = String::with_capacity(rows.len() * 36);
    for row in rows {
        let scattered = (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        writeln!(text, "{row},{},{},name number {}", scattered % 1_000, row % 1_000, scattered % 10_000)
            .expect("text takes text");
    }
    text
}

fn fields(text: &str) -> usize {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let (mut record, mut fields) = (csv::ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record).expect("the lines are sound") {
        fields += record.len();
    }
    fields
}

async fn copy(client: &Client, text: &str) {
    let sink = client.copy_in::<_, Bytes>("COPY t FROM STDIN (FORMAT csv)").await.expect("COPY begins");
    let mut sink = Box::pin(sink);
    let bytes = Bytes::from(text.to_owned());
    for start in (0..bytes.len()).step_by(CHUNK) {
        sink.feed(bytes.slice(start..bytes.len().min(start + CHUNK))).await.expect("COPY takes rows");
    }
    sink.as_mut().finish().await.expect("COPY ends");
}
