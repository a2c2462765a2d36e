//! What a source is: something that is polled for rows and says where it stands.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::paths::AllowedPaths;
use crate::error::SqlError;
use crate::zset::PgType;

/// Rows and bytes that one poll may return. A source may go over it by one row.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub rows: usize,
    pub bytes: usize,
}

/// Where a source stands: whatever it needs to go on from there. Opaque to everybody else; kept in the log.
pub type Position = serde_json::Value;

/// An open source. Dropping it closes it.
#[async_trait]
pub trait Source: Send {
    /// The next rows, at most as many as the budget allows; an empty batch if nothing is waiting.
    ///
    /// May block on files for the time that it takes to read the budget.
    async fn poll(&mut self, budget: Budget) -> Result<Polled, ConnectorError>;
}

/// What one poll found.
#[derive(Debug, Clone)]
pub struct Polled {
    /// Rows in the relation's schema, all inserts.
    pub rows: RecordBatch,
    /// Keys whose row goes, where the table that is filled has a key.
    pub deletions: Option<Deletions>,
    /// Input that could not be read as rows.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the source stands after these rows.
    pub position: Position,
    /// True if no further poll will find anything.
    pub finished: bool,
    /// Bytes of input that were read for these rows.
    pub bytes: u64,
    /// When to ask again if the source knows; a source without rows and without this is asked again after a pause.
    pub wait: Option<Duration>,
}

impl Polled {
    /// Nothing is waiting.
    pub fn nothing(schema: SchemaRef, position: Position) -> Self {
        Polled {
            rows: RecordBatch::new_empty(schema),
            deletions: None,
            dead_letters: Vec::new(),
            position,
            finished: false,
            bytes: 0,
            wait: None,
        }
    }
    /// True if the poll changed nothing, so that no step needs to be made for it.
    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0 && self.deletions.is_none() && self.dead_letters.is_empty()
    }
}

/// Keys whose row goes.
#[derive(Debug, Clone)]
pub struct Deletions {
    /// The key's columns, in the key's order.
    pub keys: RecordBatch,
    /// For each key how many rows of the same poll came before.
    pub after_rows: Vec<usize>,
}

/// A piece of input that is no row, kept so that somebody can mend and replay it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The file or topic.
    pub place: String,
    /// The line (from 1) or offset in it.
    pub offset: i64,
    pub bytes: Vec<u8>,
    pub reason: String,
}

/// Why a source or sink stopped. It stops that connector only.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct ConnectorError {
    pub error: SqlError,
    /// True if trying again later may help without anybody doing anything.
    pub transient: bool,
}

impl From<SqlError> for ConnectorError {
    fn from(error: SqlError) -> Self {
        ConnectorError { error, transient: false }
    }
}

/// What a source is opened with.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The relation's name, for messages.
    pub name: String,
    /// The relation's columns; rows come in exactly this schema.
    pub schema: SchemaRef,
    /// The key of the table that is filled, as indices of columns; empty where there is none, `None` while it is not
    /// known.
    pub key: Option<Vec<usize>>,
    pub options: BTreeMap<String, String>,
    pub allowed_paths: AllowedPaths,
    /// Go on from here: a position that a poll of the same source gave.
    pub from: Option<Position>,
    /// Finish exactly here. With `from` it reads what was read between the two, if the source can replay.
    pub until: Option<Position>,
}

/// A column that a connector found by looking at the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferredColumn {
    pub name: String,
    pub pg_type: PgType,
    pub nullable: bool,
}
