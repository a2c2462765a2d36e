//! The servers under test as processes: started on an own directory and port, killed, started again.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::{Address, Client};
use crate::needs;

/// A server that does not answer after this time does not start.
const START_MAX: Duration = Duration::from_secs(60);
/// How often a starting server is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How much of a server's last words a failure shows.
const LAST_WORDS_LINES: usize = 40;

/// One Headwater with its data directory.
pub struct Server {
    folder: TempDir,
    process: Child,
    ports: Ports,
    workers: usize,
}

/// Where a server listens. It takes ports that the system finds free, anew at each start, and says which: a port that was
/// free a moment ago may be another's by now.
#[derive(Clone, Copy, Default)]
struct Ports {
    wire: u16,
    http: u16,
}

impl Server {
    /// Starts a server on an empty data directory.
    pub async fn start(workers: usize) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("headwater-sql-").tempdir().map_err(|error| error.to_string())?;
        std::fs::create_dir(folder.path().join("files")).map_err(|error| error.to_string())?;
        let process = spawn(folder.path(), workers)?;
        let mut server = Self { folder, process, ports: Ports::default(), workers };
        server.await_ready(0).await?;
        Ok(server)
    }

    pub fn address(&self) -> Address {
        Address { port: self.ports.wire, user: "headwater".to_owned(), database: "dev".to_owned() }
    }

    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// A folder in which the server may read and write files.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// SIGKILL: the process has no chance to say goodbye.
    pub fn kill(&mut self) {
        // It may have died by itself, which the next statement will tell.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub async fn restart(&mut self) -> Result<(), String> {
        let said_before = self.said().len();
        self.process = spawn(self.folder.path(), self.workers)?;
        self.await_ready(said_before).await
    }

    /// Waits until the server has said, after the first `said_before` bytes, where it listens.
    async fn await_ready(&mut self, said_before: usize) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            if let Some(ports) = announced(&self.said()[said_before..]) {
                self.ports = ports;
                return Client::connect(&self.address()).await.map(drop);
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("the server ended with {status}\n{}", self.last_words()));
            }
            if begun.elapsed() > START_MAX {
                return Err(format!("the server does not start\n{}", self.last_words()));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// All that the server printed, since its first start.
    fn said(&self) -> String {
        let text = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The end of what the server printed.
    pub fn last_words(&self) -> String {
        let text = self.said();
        // Of a backtrace only the frames of our own code.
        let is_frame = |line: &str| line.starts_with("   ") && !line.contains("at ./src");
        let lines: Vec<&str> = text.lines().filter(|line| !is_frame(line)).collect();
        let lines = &lines[lines.len().saturating_sub(LAST_WORDS_LINES)..];
        format!("the server's last words:\n{}", lines.join("\n"))
    }

    /// True if a panic shows in what the server printed.
    pub fn has_panicked(&self) -> bool {
        self.said().contains("panicked at")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, workers: usize) -> Result<Child, String> {
    let log = File::options().create(true).append(true).open(folder.join("log")).map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    Command::new(env!("CARGO_BIN_EXE_headwater"))
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--workers", &workers.to_string()])
        .arg("--allowed-paths")
        .arg(allowed_paths(folder))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("the server cannot be started: {error}"))
}

/// The ports in the first lines of a server: `psql postgres://localhost:PORT/dev` and `http://127.0.0.1:PORT`, both whole.
fn announced(said: &str) -> Option<Ports> {
    let port = |before: &str, after: &str| {
        let text = said.split_once(before)?.1.split_once(after)?.0;
        text.rsplit_once(':')?.1.parse().ok()
    };
    Some(Ports { wire: port("psql postgres://", "/dev\n")?, http: port("\nhttp://", "\n")? })
}

fn allowed_paths(folder: &Path) -> String {
    let files = folder.join("files").display().to_string();
    needs::flights().map_or(files.clone(), |flights| format!("{files},{}", flights.display()))
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// A PostgreSQL of our own, with one database for each file.
pub struct Postgres {
    /// Removed with this.
    _folder: TempDir,
    process: Child,
    port: u16,
}

impl Postgres {
    pub async fn start() -> Result<Self, String> {
        let bin = needs::postgres_bin().ok_or("PostgreSQL is not installed")?;
        let folder = tempfile::Builder::new().prefix("headwater-pg-").tempdir().map_err(|error| error.to_string())?;
        let data = folder.path().join("data");
        let port = free_port()?;
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()))?;
        }
        let initdb = bin.join("initdb");
        let locale = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"];
        run(as_postgres(&initdb).args(locale).arg("-D").arg(&data))?;
        let process = as_postgres(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", "", "-F"])
            .args(["-c", "timezone=UTC", "-c", "max_connections=200"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("PostgreSQL cannot be started: {error}"))?;
        let server = Self { _folder: folder, process, port };
        server.await_ready().await?;
        Ok(server)
    }

    pub fn address(&self, database: &str) -> Address {
        Address { port: self.port, user: "postgres".to_owned(), database: database.to_owned() }
    }

    async fn await_ready(&self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match Client::connect(&self.address("postgres")).await {
                Ok(_) => return Ok(()),
                Err(reason) if begun.elapsed() > START_MAX => {
                    return Err(format!("PostgreSQL does not start: {reason}"));
                }
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        }
    }
}

/// The one PostgreSQL of this run, with the number of databases made so far.
static POSTGRES: tokio::sync::Mutex<Option<(Postgres, u32)>> = tokio::sync::Mutex::const_new(None);

/// A new empty database.
pub async fn postgres_database() -> Result<Address, String> {
    let mut running = POSTGRES.lock().await;
    if running.is_none() {
        *running = Some((Postgres::start().await?, 0));
    }
    let (server, made) = running.as_mut().expect("it was just started");
    *made += 1;
    let name = format!("test{made}");
    let client = Client::connect(&server.address("postgres")).await?;
    client.rows(&format!("CREATE DATABASE {name}")).await?;
    Ok(server.address(&name))
}

pub fn stop_postgres() {
    drop(POSTGRES.blocking_lock().take());
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // PostgreSQL's own children end when their parent is asked to stop at once; killing it would leave them.
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command.current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
