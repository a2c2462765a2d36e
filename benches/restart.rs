//! From the start of the process to the first answered query, by size of the state.
//!
//! `cargo bench --bench restart -- --rows 0,100000,1000000,10000000 [--times 5] [--workers N]`
//! Two ways to end before: cleanly, after which the state is mapped from a checkpoint; and killed, after which the end
//! of the log is replayed. The limit beside it: a process that only prints its version.

mod common;

use std::process::{Command, Stdio};
use std::time::Instant;

use common::server::Server;
use common::{Durations, list, option, status_bytes};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let times: usize = option("--times").unwrap_or(5);
    let workers: usize = option("--workers").unwrap_or(1);
    let sizes: Vec<usize> = list("--rows").unwrap_or_else(|| vec![0, 100_000, 1_000_000]);
    println!("a table and two views; {workers} worker(s)");
    Durations::heading();
    version(times).report("limit: a process that prints its version");
    for rows in sizes {
        let mut server = Server::start(&["--workers", &workers.to_string()]).await;
        fill(&server, rows).await;
        measure(&mut server, rows, times).await;
    }
}

fn version(times: usize) -> Durations {
    let mut durations = Durations::default();
    for _ in 0..times {
        let begun = Instant::now();
        let ended = Command::new(env!("CARGO_BIN_EXE_headwater")).arg("--version").stdout(Stdio::null()).status();
        assert!(ended.expect("the program runs").success());
        durations.add(begun.elapsed());
    }
    durations
}

async fn fill(server: &Server, rows: usize) {
    let client = server.connect().await;
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, k bigint, name text);
                  CREATE MATERIALIZED VIEW by_k AS SELECT k, count(*) AS n, max(id) AS latest FROM t GROUP BY k;
                  CREATE MATERIALIZED VIEW odd AS SELECT id, name FROM t WHERE id % 2 = 1;";
    client.batch_execute(tables).await.expect("tables and views");
    for first in (1..=rows).step_by(100_000) {
        let last = rows.min(first + 99_999);
        let insert = format!(
            "INSERT INTO t SELECT g, g % 10000, 'name number ' || g FROM generate_series({first}, {last}) g(g)"
        );
        client.batch_execute(&insert).await.expect("rows are taken");
    }
}

async fn measure(server: &mut Server, rows: usize, times: usize) {
    let (mut mapped, mut replayed) = <(Durations, Durations)>::default();
    for _ in 0..times {
        server.stop();
        mapped.add(server.restart().await);
    }
    let resident = status_bytes(&server.process_id().to_string(), "VmRSS") >> 20;
    let stored = server.data_bytes() >> 20;
    mapped.report(&format!("{rows} rows, stopped cleanly ({stored} MB stored, {resident} MB resident)"));
    for round in 0..times {
        let client = server.connect().await;
        let update = format!("UPDATE t SET name = 'round {round}' WHERE id <= 1000");
        client.batch_execute(&update).await.expect("rows are changed");
        server.kill();
        replayed.add(server.restart().await);
    }
    replayed.report(&format!("{rows} rows, killed after some updates"));
}
