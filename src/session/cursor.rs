//! DECLARE, FETCH, MOVE, CLOSE: cursors over queries, and over SUBSCRIBE for clients that read in portions.

use std::time::Duration;

use arrow::array::RecordBatch;

use super::cancel::Guard;
use super::prepared::Rest;
use super::response::{Response, RowStream};
use super::session::Session;
use super::subscribe::{self, Feed};
use super::transaction::Status;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::sql::{CursorSource, DeclareCursor, Fetch, FetchCount, OutputColumn};

/// An open cursor.
pub struct Cursor {
    text: String,
    columns: Vec<OutputColumn>,
    /// Outlives its transaction.
    hold: bool,
    source: Source,
}

enum Source {
    Rows(Box<Rest>),
    Feed(Box<Feed>),
}

impl Cursor {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn columns(&self) -> &[OutputColumn] {
        &self.columns
    }

    /// Up to so many rows. A feed gives what is there, and waits if there is nothing.
    async fn fetch(&mut self, rows_max: usize, timeout: Option<Duration>) -> SqlResult<Vec<RecordBatch>> {
        match &mut self.source {
            Source::Feed(feed) => feed.fetch(rows_max, timeout).await,
            Source::Rows(rest) => {
                let (mut batches, mut left) = (Vec::new(), rows_max);
                while left > 0
                    && let Some(batch) = rest.take(left).await
                {
                    let batch = batch?;
                    left -= batch.num_rows();
                    batches.push(batch);
                }
                Ok(batches)
            }
        }
    }
}

impl Session {
    pub(super) async fn declare_cursor(&mut self, declare: DeclareCursor, guard: &Guard) -> SqlResult<Response> {
        if !declare.hold && !matches!(self.transaction.status, Status::Open) {
            return Err(SqlError::new(
                SqlState::NO_ACTIVE_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            )
            .hint("Write BEGIN first, or DECLARE … WITH HOLD."));
        }
        if self.cursors.contains_key(&declare.name) {
            let message = format!("cursor \"{}\" already exists", declare.name);
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, message));
        }
        let (columns, source) = match declare.what {
            CursorSource::Query(query) => {
                // The guard of this statement must not end a cursor that is read by later ones.
                let unguarded = Guard::none();
                (query.columns.clone(), Source::Rows(Box::new(Rest::new(self.query(&query, &unguarded).await?))))
            }
            CursorSource::Subscribe(subscribe) => {
                let columns = subscribe::columns(&subscribe);
                let zone = self.settings().time_zone();
                let feed = guard.run(Feed::open(&self.engine, *subscribe, zone)).await?;
                (columns, Source::Feed(Box::new(feed)))
            }
        };
        let text = declare.name.clone();
        self.cursors.insert(declare.name, Cursor { text, columns, hold: declare.hold, source });
        Ok(Response::Command { tag: "DECLARE CURSOR".to_string() })
    }

    pub(super) async fn fetch(&mut self, fetch: &Fetch, guard: &Guard) -> SqlResult<Response> {
        let cursor = self.cursors.get_mut(&fetch.cursor).ok_or_else(|| no_cursor(&fetch.cursor))?;
        let rows_max = match fetch.count {
            FetchCount::Rows(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
            FetchCount::All => usize::MAX,
        };
        let batches = guard.run(cursor.fetch(rows_max, fetch.timeout)).await?;
        let columns = cursor.columns.clone();
        if fetch.discard {
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            return Ok(Response::Command { tag: format!("MOVE {rows}") });
        }
        Ok(Response::Rows(RowStream::of_batches(columns, batches, "FETCH")))
    }

    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> SqlResult<Response> {
        match name {
            None => self.cursors.clear(),
            Some(name) => {
                self.cursors.remove(name).ok_or_else(|| no_cursor(name))?;
            }
        }
        let tag = if name.is_none() { "CLOSE CURSOR ALL" } else { "CLOSE CURSOR" };
        Ok(Response::Command { tag: tag.to_string() })
    }

    /// The end of a transaction closes its cursors; those WITH HOLD outlive its commit.
    pub(super) fn close_cursors_of_transaction(&mut self, commit: bool) {
        self.cursors.retain(|_, cursor| cursor.hold && commit);
    }
}

fn no_cursor(name: &str) -> SqlError {
    SqlError::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist"))
}
