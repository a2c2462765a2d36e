//! Sources: one task reads each, the loop puts what it read into steps, replay reads it again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryViewArray, Int64Array, RecordBatch, StringViewArray};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::event::{Event, Events, SourceRows};
use super::handle::EngineConfig;
use super::record::Position;
use super::run::Core;
use super::watermark::{self, Reached, timely_in_order};
use crate::catalog::{Catalog, DEAD_LETTERS, Relation, RelationKind, Watermark};
use crate::connectors::{self, AllowedPaths, Budget, DeadLetter, Polled, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{RelationId, Rows, Step};

/// What one poll of a source may give.
const POLL: Budget = Budget { rows: 64 * 1024, bytes: 8 << 20 };
/// How long a source that has nothing is left alone.
const IDLE: Duration = Duration::from_millis(10);
/// How long a source that failed waits at first, and at most, before it is opened again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

/// The tasks that read sources.
#[derive(Default)]
pub(super) struct Readers {
    tasks: HashMap<RelationId, Reader>,
    last: u64,
}

struct Reader {
    number: u64,
    reread: bool,
    abort: AbortHandle,
}

impl Readers {
    pub fn is_current(&self, source: RelationId, number: u64) -> bool {
        self.tasks.get(&source).is_some_and(|reader| reader.number == number)
    }

    /// Whether the log leaves out the rows of this source.
    pub fn is_reread(&self, source: RelationId) -> bool {
        self.tasks.get(&source).is_some_and(|reader| reader.reread)
    }

    pub fn stop(&mut self, source: RelationId) {
        if let Some(reader) = self.tasks.remove(&source) {
            reader.abort.abort();
        }
    }
}

impl Core {
    /// Starts a reader for every relation that a connector fills and that has none: tables at once, sources when the
    /// first dataflow reads them.
    pub(super) fn start_readers(&mut self) {
        let read: HashSet<RelationId> = self.flows.values().flat_map(|flow| flow.reads.iter().copied()).collect();
        let catalog = self.catalog.clone();
        for relation in catalog.relations() {
            let wanted = match relation.kind {
                RelationKind::Table => relation.connector().is_some(),
                RelationKind::Source => read.contains(&relation.id),
                _ => false,
            };
            if wanted && !self.readers.tasks.contains_key(&relation.id) {
                self.start_reader(relation);
            }
        }
    }

    fn start_reader(&mut self, relation: &Arc<Relation>) {
        self.readers.last += 1;
        let number = self.readers.last;
        let task = ReaderTask {
            relation: relation.clone(),
            number,
            position: self.positions.get(&relation.id).cloned(),
            config: self.config.clone(),
            events: self.events.clone(),
        };
        let abort = self.runtime.spawn(task.run()).abort_handle();
        let replayable = connectors::find(relation.connector().unwrap_or_default()).is_ok_and(|one| one.replayable());
        let reread = replayable && relation.kind == RelationKind::Source;
        self.readers.tasks.insert(relation.id, Reader { number, reread, abort });
    }

    /// A source that cannot go on shows why; others do not notice.
    pub(super) fn source_failed(&mut self, source: RelationId, reader: u64, error: SqlError) {
        if !self.readers.is_current(source, reader) {
            return;
        }
        let name = self.catalog.get(source).map_or(String::new(), |relation| relation.name.clone());
        tracing::warn!("source \"{name}\": {error}");
        self.counters.source(source, |counters| counters.last_error = Some(error.message.clone()));
    }

    /// The rows of a source between two positions, once more.
    pub(super) fn reread(&self, id: RelationId, from: Option<Position>, to: Option<Position>) -> SqlResult<Rows> {
        let unknown = || SqlError::internal(format!("{id} is no source"));
        let relation = self.catalog.get(id).ok_or_else(unknown)?;
        let reached = match from {
            Some(_) => watermark::reached(&self.published.borrow(), id),
            None => None,
        };
        self.runtime.block_on(reread(relation, &self.config, (from, reached), to))
    }
}

/// The rows of a source between two positions, once more, without those that are late. At the first position its
/// watermark stood as it is given.
///
/// # Errors
/// What was read before is not there any more.
pub(super) async fn reread(
    relation: &Relation,
    config: &EngineConfig,
    from: (Option<Position>, Reached),
    to: Option<Position>,
) -> SqlResult<Rows> {
    let schema = relation.arrow_schema();
    let Some(to) = to else { return Ok(Rows::empty(schema)) };
    let mut again = Reread::open(relation, config, from, to)?;
    let mut parts = Vec::new();
    while let Some(rows) = again.next().await? {
        parts.push(rows);
    }
    Ok(Rows::concat(&schema, &parts))
}

/// The same, piece by piece.
pub(super) struct Reread {
    name: String,
    source: Box<dyn Source>,
    to: Position,
    ended: bool,
    watermark: Option<Watermark>,
    reached: Reached,
}

impl Reread {
    pub fn open(
        relation: &Relation,
        config: &EngineConfig,
        (from, reached): (Option<Position>, Reached),
        to: Position,
    ) -> SqlResult<Self> {
        let source = open(relation, config, from, Some(to.clone()))?;
        let (name, watermark) = (relation.name.clone(), relation.watermark);
        Ok(Self { name, source, to, ended: false, watermark, reached })
    }

    pub async fn next(&mut self) -> SqlResult<Option<Rows>> {
        if self.ended {
            return Ok(None);
        }
        let polled = self.source.poll(POLL).await.map_err(|failed| failed.error)?;
        self.ended = polled.position == self.to;
        if polled.finished && !self.ended {
            let message = format!("source \"{}\" ends before the position that was read already", self.name);
            return Err(SqlError::new(SqlState::DATA_CORRUPTED, message));
        }
        let rows = Rows::inserts(polled.rows);
        let timely = self.watermark.and_then(|watermark| timely_in_order(&rows, watermark, &mut self.reached));
        Ok(Some(timely.map_or_else(|| rows.clone(), |timely| rows.filter(&timely))))
    }
}

fn open(
    relation: &Relation,
    config: &EngineConfig,
    from: Option<Position>,
    until: Option<Position>,
) -> SqlResult<Box<dyn Source>> {
    let spec = SourceSpec {
        name: relation.name.clone(),
        schema: relation.arrow_schema(),
        key: Some(if relation.kind == RelationKind::Table { relation.primary_key.clone() } else { Vec::new() }),
        options: relation.options.clone(),
        allowed_paths: AllowedPaths::new(config.allowed_paths.clone()),
        from,
        until,
    };
    connectors::find(relation.connector().unwrap_or_default())?.open_source(&spec)
}

/// Checks the options of a relation that a connector is to fill.
///
/// # Errors
/// The connector is unknown or refuses an option or a path.
pub(super) fn check_source(relation: &Relation, config: &EngineConfig) -> SqlResult<()> {
    open(relation, config, None, None).map(drop)
}

/// What one reader's task needs.
struct ReaderTask {
    relation: Arc<Relation>,
    number: u64,
    position: Option<Position>,
    config: EngineConfig,
    events: Events,
}

impl ReaderTask {
    /// Reads until the source is finished or the reader is stopped. Failures are shown and tried again.
    async fn run(mut self) {
        let mut wait = RETRY.0;
        loop {
            let before = self.position.clone();
            match self.read_on().await {
                Ok(()) => return,
                Err(error) => {
                    let failed = Event::SourceFailed { source: self.relation.id, reader: self.number, error };
                    if self.events.send(failed).await.is_err() {
                        return;
                    }
                }
            }
            wait = if before == self.position { (wait * 2).min(RETRY.1) } else { RETRY.0 };
            tokio::time::sleep(wait).await;
        }
    }

    async fn read_on(&mut self) -> SqlResult<()> {
        let mut source = open(&self.relation, &self.config, self.position.clone(), None)?;
        let mut sent: Option<(Position, oneshot::Receiver<SqlResult<()>>)> = None;
        loop {
            let polled = source.poll(POLL).await.map_err(|failed| failed.error)?;
            let finished = polled.finished;
            if polled.is_empty() && !finished {
                self.confirm(&mut sent).await?;
                tokio::time::sleep(polled.wait.unwrap_or(IDLE)).await;
                continue;
            }
            // One batch is decoded while the step of the one before is taken: never more, so that a slow engine
            // slows its sources.
            self.confirm(&mut sent).await?;
            let (reply, done) = oneshot::channel();
            let position = polled.position.clone();
            let rows = self.rows_of(polled);
            if self.events.send(Event::Source { rows, reply }).await.is_err() {
                return Ok(());
            }
            sent = Some((position, done));
            if finished {
                return self.confirm(&mut sent).await;
            }
        }
    }

    /// Waits until what was sent is published. If its step was refused, it has to be read again.
    async fn confirm(&mut self, sent: &mut Option<(Position, oneshot::Receiver<SqlResult<()>>)>) -> SqlResult<()> {
        let Some((position, done)) = sent.take() else { return Ok(()) };
        // Without an answer the rows are not wanted: the engine has told why, or it has stopped.
        done.await.unwrap_or(Ok(()))?;
        self.position = Some(position);
        Ok(())
    }

    fn rows_of(&self, polled: Polled) -> SourceRows {
        SourceRows {
            source: self.relation.id,
            reader: self.number,
            rows: Rows::inserts(polled.rows),
            deletions: polled.deletions,
            dead_letters: polled.dead_letters,
            position: polled.position,
            finished: polled.finished,
            bytes: polled.bytes,
        }
    }
}

/// Dead letters as rows of `hw_catalog.hw_dead_letters`.
pub(super) fn dead_letter_rows(source: &str, step: Step, letters: &[DeadLetter]) -> Rows {
    let schema = Catalog::bootstrap().get(DEAD_LETTERS).expect("the bootstrap has it").arrow_schema();
    let count = letters.len();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(source, count))),
        Arc::new(StringViewArray::from_iter_values(letters.iter().map(|letter| letter.place.as_str()))),
        Arc::new(Int64Array::from_iter_values(letters.iter().map(|letter| letter.offset))),
        Arc::new(BinaryViewArray::from_iter_values(letters.iter().map(|letter| letter.bytes.as_slice()))),
        Arc::new(StringViewArray::from_iter_values(letters.iter().map(|letter| letter.reason.as_str()))),
        Arc::new(Int64Array::from_value(step.0 as i64, count)),
    ];
    Rows::inserts(RecordBatch::try_new(schema, columns).expect("the columns are those of the relation"))
}

/// Where all sources stand, as readers of a step see it.
pub type Positions = BTreeMap<RelationId, Position>;
