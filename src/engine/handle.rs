//! The engine's door: a handle that any thread or task can clone and call.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::counters::Counters;
use super::event::{Definition, Event, Events, TableChange, Write, WriteError};
use super::fill::{Job, Jobs};
use super::outlets::{Subscribe, Subscription};
use super::published::Published;
use super::{recover, run};
use crate::catalog::CatalogEdit;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::storage::{Disk, RealDisk};
use crate::zset::Step;

/// How many events may wait for the loop before senders do.
const EVENTS_MAX: usize = 4096;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub data_dir: PathBuf,
    pub workers: usize,
    /// Bytes that runs, deltas and ad-hoc queries may take.
    pub memory_limit: usize,
    /// Whether the log is synced before a write is acknowledged.
    pub sync: bool,
    /// Bytes of log after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// Rows from which on a new view is filled beside the engine, and those that it takes at once then.
    pub fill_rows: usize,
    /// Folders within which files may be read and written by SQL.
    pub allowed_paths: Vec<PathBuf>,
    /// How many clients are let in; the engine only tells it.
    pub max_connections: usize,
}

impl EngineConfig {
    /// The defaults for a data directory: one worker a core, 60 % of the memory, everything synced.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_limit: 1 << 30,
            sync: true,
            checkpoint_bytes: 64 << 20,
            fill_rows: 64 * 1024,
            allowed_paths: Vec::new(),
            max_connections: 1_000,
        }
    }
}

/// A running engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub events: Events,
    pub published: watch::Receiver<Arc<Published>>,
    pub failed: watch::Receiver<Option<SqlError>>,
    pub counters: Arc<Counters>,
    pub jobs: Jobs,
    pub config: EngineConfig,
    /// Where ad-hoc queries and connectors run.
    pub runtime: Handle,
    pub memory: Arc<dyn datafusion::execution::memory_pool::MemoryPool>,
}

impl Engine {
    /// Opens the data directory, brings everything to the last durable step, and starts. Blocks until done.
    ///
    /// # Errors
    /// The directory is in use, unreadable, or damaged; the message names the file.
    pub fn start(config: EngineConfig) -> SqlResult<Engine> {
        let disk = RealDisk::open(&config.data_dir).map_err(|error| cannot_open(&config, &error))?;
        Self::start_on(config, Arc::new(disk))
    }

    /// The same with the data directory on a disk of any kind.
    pub(super) fn start_on(config: EngineConfig, disk: Arc<dyn Disk>) -> SqlResult<Engine> {
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let core = recover::open(&config, disk, events.clone())?;
        let pool = datafusion::execution::memory_pool::GreedyMemoryPool::new(config.memory_limit);
        let inner = Inner {
            events,
            published: core.published.subscribe(),
            failed: core.failed.subscribe(),
            counters: core.counters.clone(),
            jobs: core.jobs.clone(),
            runtime: core.runtime.handle().clone(),
            memory: Arc::new(pool),
            config,
        };
        run::spawn(core, received);
        Ok(Engine(Arc::new(inner)))
    }

    /// The newest published step.
    pub fn published(&self) -> Arc<Published> {
        self.0.published.borrow().clone()
    }

    /// Tells of every newly published step.
    pub fn watch(&self) -> watch::Receiver<Arc<Published>> {
        self.0.published.clone()
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    /// What runs beside the steps at this moment.
    pub fn jobs(&self) -> Vec<Job> {
        self.0.jobs.list()
    }

    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    /// Changes tables in one step. Returns when the step is durable and published.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if a row to delete is not there (any more); else the constraint that refuses.
    pub async fn write(&self, write: Write) -> Result<Step, WriteError> {
        self.ask(|reply| Event::Write { write, reply }).await?
    }

    /// Changes the catalog in one step; new materialized views are filled when it returns. Dropping the future ends
    /// the filling. `base` is the version of the catalog for which the edits were made.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] if the catalog has changed since `base`.
    pub async fn define(&self, base: u64, edits: Vec<CatalogEdit>) -> Result<Step, WriteError> {
        self.define_and_write(base, edits, Vec::new()).await
    }

    /// Changes the catalog and tables, also those that the edits create, in one step: all of it, or nothing.
    ///
    /// # Errors
    /// Those of [`Engine::define`] and [`Engine::write`].
    pub async fn define_and_write(
        &self,
        base: u64,
        edits: Vec<CatalogEdit>,
        changes: Vec<TableChange>,
    ) -> Result<Step, WriteError> {
        self.ask(|reply| Event::Define { definition: Definition { base, edits, changes }, reply }).await?
    }

    /// Follows a relation or a query from the next step on.
    ///
    /// # Errors
    /// The relation is gone, or the query cannot be kept up to date.
    pub async fn subscribe(&self, what: Subscribe) -> SqlResult<Subscription> {
        self.ask(|reply| Event::Subscribe { what, reply }).await?
    }

    /// Writes a checkpoint; the log before it is no longer needed.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn checkpoint(&self) -> SqlResult<()> {
        self.ask(|reply| Event::Checkpoint { reply }).await?
    }

    /// Writes a checkpoint and stops. Calls after that are refused with 57P01.
    ///
    /// # Errors
    /// The checkpoint failed; nothing is lost, the next start replays the log.
    pub async fn stop(&self) -> SqlResult<()> {
        self.ask(|reply| Event::Stop { reply }).await?
    }

    /// Waits until the engine cannot go on: the disk failed, or a bug. The process should end then; the next start
    /// recovers.
    pub async fn failure(&self) -> SqlError {
        let mut failed = self.0.failed.clone();
        loop {
            if let Some(error) = failed.borrow_and_update().clone() {
                return error;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> SqlResult<T> {
        let (reply, answer) = oneshot::channel();
        self.0.events.send(event(reply)).await.map_err(|_| self.stopped())?;
        answer.await.map_err(|_| self.stopped())
    }

    fn stopped(&self) -> SqlError {
        let reason = self.0.failed.borrow().clone();
        reason.unwrap_or_else(|| SqlError::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down"))
    }
}

fn cannot_open(config: &EngineConfig, error: &std::io::Error) -> SqlError {
    let message = format!("cannot open the data directory {}: {error}", config.data_dir.display());
    SqlError::new(SqlState::IO_ERROR, message)
}
