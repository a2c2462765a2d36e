//! A server of this build as a process of its own, on an own data directory.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// A running server. Ends with this value.
pub struct Server {
    folder: TempDir,
    process: Child,
    port: u16,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server with more arguments, and waits until it answers.
    pub async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("headwater-bench-").tempdir().expect("a folder for the data");
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = listener.expect("a free port").port();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = spawn(folder.path().join("data"), port, &arguments);
        let server = Self { folder, process, port, arguments };
        server.connect().await;
        server
    }

    /// Starts the same server again, and tells how long it took until a query was answered.
    pub async fn restart(&mut self) -> Duration {
        let begun = Instant::now();
        self.process = spawn(self.folder.path().join("data"), self.port, &self.arguments);
        let client = self.connect().await;
        client.simple_query("SELECT 1").await.expect("the server answers");
        begun.elapsed()
    }

    /// A connection, as soon as the server takes one.
    pub async fn connect(&self) -> Client {
        let begun = Instant::now();
        let target = format!("host=127.0.0.1 port={} user=headwater dbname=dev", self.port);
        loop {
            match tokio_postgres::connect(&target, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(120), "the server does not start: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// User and system time of the process so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
        ticks.sum::<f64>() / TICKS
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Bytes below the data directory.
    pub fn data_bytes(&self) -> u64 {
        bytes_below(self.folder.path().join("data"))
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        let killed = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        killed.expect("a process can be told to end");
        self.process.wait().expect("the server ends");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(data: PathBuf, port: u16, arguments: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_headwater"))
        .arg("--data-dir")
        .arg(data)
        .args(["--port", &port.to_string(), "--http-listen", "127.0.0.1:0"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("the server can be started")
}

fn bytes_below(folder: PathBuf) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
