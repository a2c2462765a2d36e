//! What a statement answers: rows as a stream, a tag, or a COPY in either direction.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use futures::stream::{BoxStream, Stream, StreamExt};

use super::copy::CopyIn;
use crate::error::SqlResult;
use crate::functions::text::copy::CopyRows;
use crate::sql::{self, OutputColumn, Parsed};

/// The answer to one statement.
pub enum Response {
    Rows(RowStream),
    /// Done; the tag is what CommandComplete says: `INSERT 0 3`.
    Command {
        tag: String,
    },
    /// The client now sends data: push it into the handle, then give the handle back to `Session::finish_copy`.
    CopyIn(CopyIn),
    CopyOut(CopyOut),
    /// There was no statement in the text.
    Empty,
}

/// Batches of rows on their way to the client.
///
/// Dropping it ends the query. After the last batch `tag` and `suspended` say how it ended.
pub struct RowStream {
    columns: Arc<[OutputColumn]>,
    batches: BoxStream<'static, SqlResult<RecordBatch>>,
    tag: &'static str,
    fixed_tag: Option<String>,
    count: u64,
    suspended: Arc<std::sync::atomic::AtomicBool>,
    live: bool,
}

impl RowStream {
    pub(super) fn new(
        columns: impl Into<Arc<[OutputColumn]>>,
        batches: BoxStream<'static, SqlResult<RecordBatch>>,
        tag: &'static str,
    ) -> Self {
        let suspended = Arc::default();
        Self { columns: columns.into(), batches, tag, fixed_tag: None, count: 0, suspended, live: false }
    }

    /// A result that is there already.
    pub(super) fn of_batches(
        columns: impl Into<Arc<[OutputColumn]>>,
        batches: Vec<RecordBatch>,
        tag: &'static str,
    ) -> Self {
        Self::new(columns, futures::stream::iter(batches.into_iter().map(Ok)).boxed(), tag)
    }

    /// Says this tag whatever the number of rows: `INSERT 0 3` with RETURNING.
    pub(super) fn with_tag(mut self, tag: String) -> Self {
        self.fixed_tag = Some(tag);
        self
    }

    /// The rows of a statement, whose errors are told with their place in it.
    pub(super) fn of_statement(mut self, parsed: Arc<Parsed>) -> Self {
        let explained = move |batch: SqlResult<RecordBatch>| batch.map_err(|error| sql::explained(error, &parsed));
        self.batches = self.batches.map(explained).boxed();
        self
    }

    /// Marks a stream whose batches come as the data changes, so that each must be sent at once.
    pub(super) fn with_live(mut self) -> Self {
        self.live = true;
        self
    }

    /// Shares the flag by which the portal says that it has more rows.
    pub(super) fn with_suspension(mut self, suspended: Arc<std::sync::atomic::AtomicBool>) -> Self {
        self.suspended = suspended;
        self
    }

    pub fn columns(&self) -> &[OutputColumn] {
        &self.columns
    }

    /// The command tag, complete once the stream has ended: `SELECT 3`.
    pub fn tag(&self) -> String {
        match &self.fixed_tag {
            Some(tag) => tag.clone(),
            None if self.tag == "SHOW" || self.tag == "EXPLAIN" => self.tag.to_string(),
            None => format!("{} {}", self.tag, self.count),
        }
    }

    /// Whether it ended because of the row limit of an Execute, and another Execute goes on.
    pub fn suspended(&self) -> bool {
        self.suspended.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Whether rows come as the data changes (SUBSCRIBE): flush after every batch.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// The next batch; `None` at the end. Batches may be empty.
    pub async fn next(&mut self) -> Option<SqlResult<RecordBatch>> {
        StreamExt::next(self).await
    }

    /// The same stream with all its rows there.
    pub(super) async fn buffered(mut self) -> SqlResult<Self> {
        let mut batches = Vec::new();
        while let Some(batch) = self.batches.next().await {
            batches.push(Ok(batch?));
        }
        self.batches = futures::stream::iter(batches).boxed();
        Ok(self)
    }

    /// All rows at once.
    pub async fn collect(mut self) -> SqlResult<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for RowStream {
    type Item = SqlResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.batches.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(batch))) = &polled {
            self.count += batch.num_rows() as u64;
        }
        polled
    }
}

/// Data of a COPY TO STDOUT; every row of a chunk is one CopyData message.
pub struct CopyOut {
    /// How many columns the data has.
    pub columns: usize,
    pub binary: bool,
    /// Whether chunks come as the data changes (SUBSCRIBE): flush after every one.
    pub live: bool,
    pub(super) chunks: BoxStream<'static, SqlResult<CopyRows>>,
    pub(super) rows: Arc<std::sync::atomic::AtomicU64>,
}

impl CopyOut {
    pub async fn next(&mut self) -> Option<SqlResult<CopyRows>> {
        self.chunks.next().await
    }

    /// The command tag, complete once the chunks have ended: `COPY 3`.
    pub fn tag(&self) -> String {
        format!("COPY {}", self.rows.load(std::sync::atomic::Ordering::Acquire))
    }
}
