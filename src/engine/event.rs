//! All that can wake the engine, as one closed list.

use tokio::sync::{mpsc, oneshot};

use super::outlets::{Subscribe, Subscription};
use super::record::Position;
use crate::catalog::CatalogEdit;
use crate::connectors::{DeadLetter, Deletions};
use crate::error::{SqlError, SqlResult};
use crate::zset::{RelationId, Rows, Step};

/// Changes of tables by one statement or transaction: applied in one step, all or none.
#[derive(Debug, Clone)]
pub struct Write {
    pub changes: Vec<TableChange>,
    /// Whether the answer waits for the disk (`synchronous_commit`).
    pub sync: bool,
}

/// What changes in one table.
#[derive(Debug, Clone)]
pub struct TableChange {
    pub table: RelationId,
    /// Empties the table first.
    pub truncate: bool,
    /// Rows to insert (+) and to delete (-). A row to delete must be there when the step is taken.
    pub rows: Rows,
}

/// Why a write was not taken; nothing of it was.
#[derive(Debug, Clone)]
pub enum WriteError {
    /// Something that the statement had read was changed meanwhile: evaluate it on the newest step and try again.
    Conflict,
    Refused(SqlError),
}

impl From<SqlError> for WriteError {
    fn from(error: SqlError) -> Self {
        WriteError::Refused(error)
    }
}

/// What a statement or transaction changes if the catalog is among it: applied in one step, all or none.
pub(super) struct Definition {
    /// Version of the catalog that the edits were made for.
    pub base: u64,
    pub edits: Vec<CatalogEdit>,
    /// Changes of tables of the catalog after the edits.
    pub changes: Vec<TableChange>,
}

/// Rows that a source has read.
pub(super) struct SourceRows {
    pub source: RelationId,
    /// Tells this reader from one that read the same source before it was dropped or restarted.
    pub reader: u64,
    pub rows: Rows,
    pub deletions: Option<Deletions>,
    pub dead_letters: Vec<DeadLetter>,
    pub position: Position,
    pub finished: bool,
    pub bytes: u64,
}

pub(super) enum Event {
    Write {
        write: Write,
        reply: oneshot::Sender<Result<Step, WriteError>>,
    },
    Define {
        definition: Definition,
        reply: oneshot::Sender<Result<Step, WriteError>>,
    },
    Subscribe {
        what: Subscribe,
        reply: oneshot::Sender<SqlResult<Subscription>>,
    },
    /// A subscription's receiver is gone.
    Unsubscribe(u64),
    /// A source has rows; the reply says that their step is published, or why it was not taken.
    Source {
        rows: SourceRows,
        reply: oneshot::Sender<SqlResult<()>>,
    },
    /// What was filled beside the engine is ready, or has failed.
    Filled(Box<super::fill::Filled>),
    /// A source cannot go on by itself.
    SourceFailed {
        source: RelationId,
        reader: u64,
        error: SqlError,
    },
    /// Time has passed: views that read the clock get a step.
    Tick,
    /// Write a checkpoint now; the reply comes when it is on disk.
    Checkpoint {
        reply: oneshot::Sender<SqlResult<()>>,
    },
    Stop {
        reply: oneshot::Sender<SqlResult<()>>,
    },
}

pub(super) type Events = mpsc::Sender<Event>;
