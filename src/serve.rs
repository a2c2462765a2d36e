//! The server: an engine with the Postgres protocol and HTTP before it, from the first socket to a clean stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::console::{self, Kind, Metric, Pages};
use crate::engine::{Engine, EngineConfig};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::session::Session;
use crate::wire::{self, Wire, WireOptions};

impl Config {
    /// What of the settings the engine needs.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            workers: self.workers,
            memory_limit: usize::try_from(self.memory_limit).unwrap_or(usize::MAX),
            sync: self.sync,
            checkpoint_bytes: self.checkpoint_size,
            allowed_paths: self.allowed_paths.clone(),
            max_connections: self.max_connections,
            ..EngineConfig::new(&self.data_dir)
        }
    }
}

/// Opens the engine without blocking the runtime's threads.
///
/// # Errors
/// The data directory is in use or damaged.
pub async fn start_engine(config: &Config) -> SqlResult<Engine> {
    let config = config.engine();
    let started = tokio::task::spawn_blocking(move || Engine::start(config)).await;
    started.map_err(|error| SqlError::internal(format!("the engine's start has failed: {error}")))?
}

/// A server with its sockets open.
pub struct Server {
    pub engine: Engine,
    pub wire_address: SocketAddr,
    pub http_address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens both sockets before an engine.
    ///
    /// # Errors
    /// An address is taken, or may not be used.
    pub async fn start(config: &Config, engine: Engine) -> SqlResult<Server> {
        let (wire_socket, wire_address) = listen(config.listen, "--listen or --port").await?;
        let (http_socket, http_address) = listen(config.http_listen, "--http-listen").await?;
        let stop = CancellationToken::new();
        let opener = engine.clone();
        let open = Arc::new(move |info| Session::new(opener.clone(), info));
        let options = WireOptions { max_connections: config.max_connections, ..WireOptions::default() };
        let wire = Wire::new(open, options, stop.clone());
        let pages = pages(engine.clone(), wire.clone(), wire_address);
        let http_stop = stop.clone();
        let http = async move {
            if let Err(error) = console::serve(http_socket, pages, http_stop).await {
                tracing::error!(%error, "HTTP has failed");
            }
        };
        let tasks = vec![tokio::spawn(wire::serve(wire_socket, wire)), tokio::spawn(http)];
        Ok(Server { engine, wire_address, http_address, stop, tasks })
    }

    /// Lets the clients go, then writes a checkpoint.
    ///
    /// # Errors
    /// The checkpoint failed; nothing is lost.
    pub async fn stop(self) -> SqlResult<()> {
        self.stop.cancel();
        for task in self.tasks {
            // An idle HTTP connection must not hold up the checkpoint.
            let _ = tokio::time::timeout(Duration::from_secs(6), task).await;
        }
        self.engine.stop().await
    }
}

async fn listen(address: SocketAddr, flag: &str) -> SqlResult<(TcpListener, SocketAddr)> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error: std::io::Error| {
        SqlError::new(SqlState::CONNECTION_FAILURE, format!("cannot listen on {address}: {error}"))
            .hint(format!("Choose another address with {flag}."))
    })
}

/// For so long after a write that found no room the server is not ready. Then it asks for another attempt.
const FULL: Duration = Duration::from_secs(10);

fn pages(engine: Engine, wire: Arc<Wire>, wire_address: SocketAddr) -> Pages {
    let version = env!("CARGO_PKG_VERSION");
    let psql = psql_command(wire_address);
    let started = Instant::now();
    let (failing, full) = (engine.clone(), engine.clone());
    Pages {
        hindrance: Box::new(move || {
            let refused = full.counters().log_full_within(FULL);
            refused.then(|| "writes are refused: the disk is full".to_string())
        }),
        failure: Box::new(move || failing.failure().now_or_never().map(|error| error.message)),
        metrics: Box::new(move || metrics(&engine, &wire, started)),
        welcome: format!("Headwater {version}\n\n{psql}\n/metrics /healthz /ready\n"),
    }
}

/// How to connect with psql.
pub fn psql_command(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() { "localhost".to_string() } else { address.ip().to_string() };
    let host = if host == "127.0.0.1" { "localhost".to_string() } else { host };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("psql postgres://{host}:{}/dev", address.port())
}

/// Everything that is counted.
fn metrics(engine: &Engine, wire: &Wire, started: Instant) -> Vec<Metric> {
    let mut metrics = totals(engine, wire, started);
    metrics.extend(relations(engine));
    metrics.extend(sources(engine));
    metrics.extend(watermarks(engine));
    metrics.push(Metric::one("uptime_seconds", Kind::Gauge, "Time since the start.", started.elapsed().as_secs_f64()));
    if let Some(bytes) = resident_bytes() {
        metrics.push(Metric::one("resident_memory_bytes", Kind::Gauge, "Memory of the process.", bytes));
    }
    metrics.push(Metric {
        name: "build_info",
        kind: Kind::Gauge,
        help: "The running version.",
        samples: vec![(vec![("version", env!("CARGO_PKG_VERSION").to_string())], 1.0)],
    });
    metrics
}

fn totals(engine: &Engine, wire: &Wire, started: Instant) -> Vec<Metric> {
    let counters = engine.counters();
    let (accepted, refused) = wire.counts();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let age = match engine.published().moment.now {
        // No step was ever taken.
        0 => started.elapsed().as_secs_f64(),
        micros => now.as_secs_f64() - micros as f64 / 1e6,
    };
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let counter = |name, help, value| Metric::one(name, Kind::Counter, help, value);
    let gauge = |name, help, value| Metric::one(name, Kind::Gauge, help, value);
    vec![
        counter("steps_total", "Steps published.", load(&counters.steps)),
        gauge("steps_replayed", "Steps of the log that the start took again.", load(&counters.steps_replayed)),
        counter("step_seconds_total", "Time spent in steps.", load(&counters.step_micros) / 1e6),
        gauge("step_age_seconds", "Time since the newest step.", age.max(0.0)),
        counter("rows_in_total", "Rows that entered dataflows.", load(&counters.rows_in)),
        counter("rows_out_total", "Rows that came out of dataflows.", load(&counters.rows_out)),
        counter("writes_total", "Writes of sessions that were taken.", load(&counters.writes)),
        counter("writes_refused_total", "Writes of sessions that were refused.", load(&counters.writes_refused)),
        counter("log_bytes_total", "Bytes written to the log.", load(&counters.log_bytes)),
        counter("log_syncs_total", "Times that the log was synced.", load(&counters.log_syncs)),
        counter("checkpoints_total", "Checkpoints written.", load(&counters.checkpoints)),
        gauge("state_bytes", "Memory that state takes, mapped files aside.", load(&counters.state_bytes)),
        counter("runs_spilled_total", "Runs that memory has let go of.", load(&counters.runs_spilled)),
        gauge("subscribers", "Subscriptions that are open.", load(&counters.subscribers)),
        gauge("connections", "Clients that are connected.", wire.connections() as f64),
        counter("connections_total", "Clients that were let in.", accepted as f64),
        counter("connections_refused_total", "Clients that were turned away.", refused as f64),
    ]
}

fn relations(engine: &Engine) -> Vec<Metric> {
    let published = engine.published();
    let (mut rows, mut bytes) = (Vec::new(), Vec::new());
    for relation in published.catalog.relations().filter(|relation| relation.kind.is_kept()) {
        let labels = vec![("relation", format!("{}.{}", relation.schema, relation.name))];
        let (held_rows, held_bytes) = published.held(relation.id);
        rows.push((labels.clone(), held_rows as f64));
        bytes.push((labels, held_bytes as f64));
    }
    vec![
        Metric {
            name: "relation_rows",
            kind: Kind::Gauge,
            help: "Rows held, among them changes that are not merged yet.",
            samples: rows,
        },
        Metric { name: "relation_bytes", kind: Kind::Gauge, help: "Bytes held.", samples: bytes },
    ]
}

fn sources(engine: &Engine) -> Vec<Metric> {
    let published = engine.published();
    let (mut rows, mut bytes, mut letters, mut failing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for relation in published.catalog.relations().filter(|relation| relation.connector().is_some()) {
        let labels = vec![("source", format!("{}.{}", relation.schema, relation.name))];
        let counters = engine.counters().of_source(relation.id);
        rows.push((labels.clone(), counters.rows as f64));
        bytes.push((labels.clone(), counters.bytes as f64));
        letters.push((labels.clone(), counters.dead_letters as f64));
        failing.push((labels, f64::from(u8::from(counters.last_error.is_some()))));
    }
    let counter = |name, help, samples| Metric { name, kind: Kind::Counter, help, samples };
    vec![
        counter("source_rows_total", "Rows read.", rows),
        counter("source_bytes_total", "Bytes read.", bytes),
        counter("source_dead_letters_total", "Pieces of input that could not be read.", letters),
        Metric { name: "source_failing", kind: Kind::Gauge, help: "1 if its last attempt failed.", samples: failing },
    ]
}

/// How far event time has come, and what came behind it.
fn watermarks(engine: &Engine) -> Vec<Metric> {
    let published = engine.published();
    let with_watermark = published.catalog.relations().filter(|relation| relation.watermark.is_some());
    let late = with_watermark.map(|relation| {
        let labels = vec![("relation", format!("{}.{}", relation.schema, relation.name))];
        (labels, engine.counters().of_source(relation.id).late_rows as f64)
    });
    let (name, help) = ("late_rows_total", "Rows that came behind the watermark.");
    vec![Metric { name, kind: Kind::Counter, help, samples: late.collect() }]
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<f64> {
    const PAGE: f64 = 4096.0;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<f64>().ok().map(|pages| pages * PAGE)
}

#[cfg(test)]
mod tests;
