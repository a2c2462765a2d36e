//! A topic as a source: partitions are assigned by us, and where each stands is the source's position.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::client::{self, ANSWER, TopicReader, blocking, transient, unreachable_broker, words};
use super::decode::{Batch, Decoder};
use super::settings::{SourceSettings, Startup};
use crate::connectors::source::{Budget, ConnectorError, Polled, Position, Source, SourceSpec};
use crate::error::{SqlError, SqlResult, SqlState};

/// How soon a source without messages looks again.
const IDLE: Duration = Duration::from_millis(2);

/// The offsets of the next message of each partition.
type Offsets = BTreeMap<i32, i64>;

/// Where reading began and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TopicAt {
    start: Offsets,
    next: Offsets,
}

/// The source.
pub struct KafkaSource {
    consumer: TopicReader,
    settings: SourceSettings,
    decoder: Decoder,
    at: TopicAt,
    until: Option<TopicAt>,
    /// Partitions that had no further message.
    ended: BTreeSet<i32>,
    discovered: Instant,
    /// Came behind messages that were to be taken first.
    failure: Option<ConnectorError>,
}

impl KafkaSource {
    pub fn open(spec: &SourceSpec) -> SqlResult<KafkaSource> {
        let settings = SourceSettings::read(&spec.options)?;
        let decoder = Decoder::new(&settings, spec)?;
        let consumer = client::consumer(&settings.link)?;
        let until: Option<TopicAt> = spec.until.as_ref().map(parse_position).transpose()?;
        let from = spec.from.as_ref().map(parse_position).transpose()?;
        let beginning = |until: &TopicAt| TopicAt { start: until.start.clone(), next: until.start.clone() };
        let at = from.or_else(|| until.as_ref().map(beginning)).unwrap_or_default();
        let discovered = Instant::now();
        let mut source =
            KafkaSource { consumer, settings, decoder, at, until, ended: BTreeSet::new(), discovered, failure: None };
        let partitions = client::partitions(&source.consumer, &source.settings.link)?;
        source.begin(&partitions)?;
        source.assign()?;
        Ok(source)
    }

    /// Finds where partitions begin that were never read. True if there are any.
    fn begin(&mut self, partitions: &[i32]) -> SqlResult<bool> {
        let is_first = self.at.next.is_empty();
        let fresh: Vec<i32> =
            partitions.iter().copied().filter(|partition| !self.at.next.contains_key(partition)).collect();
        if self.until.is_some() || fresh.is_empty() {
            return Ok(false);
        }
        // Partitions that were added later are read from their beginning: nothing of them was left out on purpose.
        let startup = if is_first { self.settings.startup.clone() } else { Startup::Earliest };
        for (partition, offset) in self.first_offsets(&startup, &fresh)? {
            self.at.start.insert(partition, offset);
            self.at.next.insert(partition, offset);
        }
        Ok(true)
    }

    fn first_offsets(&self, startup: &Startup, partitions: &[i32]) -> SqlResult<Offsets> {
        let link = &self.settings.link;
        let failed = |error: KafkaError| unreachable_broker(link, &error);
        let watermarks = |partition: i32| {
            blocking(|| self.consumer.fetch_watermarks(&link.topic, partition, ANSWER)).map_err(failed)
        };
        let by_time = match startup {
            Startup::Millis(millis) => {
                let mut times = TopicPartitionList::new();
                for partition in partitions {
                    let added = times.add_partition_offset(&link.topic, *partition, Offset::Offset(*millis));
                    added.map_err(failed)?;
                }
                Some(blocking(|| self.consumer.offsets_for_times(times, ANSWER)).map_err(failed)?)
            }
            _ => None,
        };
        let mut offsets = Offsets::new();
        for partition in partitions.iter().copied() {
            let (low, high) = watermarks(partition)?;
            let offset = match startup {
                Startup::Earliest => low,
                Startup::Latest => high,
                Startup::Offsets(given) => given.get(&partition).copied().unwrap_or(low),
                Startup::Millis(_) => {
                    let found = by_time.as_ref().and_then(|times| times.find_partition(&link.topic, partition));
                    match found.map(|found| found.offset()) {
                        Some(Offset::Offset(offset)) => offset,
                        _ => high,
                    }
                }
            };
            offsets.insert(partition, offset);
        }
        Ok(offsets)
    }

    fn assign(&self) -> SqlResult<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &self.at.next {
            list.add_partition_offset(&self.settings.link.topic, *partition, Offset::Offset(*offset))
                .map_err(|error| unreachable_broker(&self.settings.link, &error))?;
        }
        self.consumer.assign(&list).map_err(|error| unreachable_broker(&self.settings.link, &error))
    }

    /// Takes up partitions that were added to the topic.
    fn discover(&mut self) -> SqlResult<()> {
        if self.discovered.elapsed() < self.settings.discovery || self.until.is_some() {
            return Ok(());
        }
        self.discovered = Instant::now();
        let partitions = client::partitions(&self.consumer, &self.settings.link)?;
        if self.begin(&partitions)? { self.assign() } else { Ok(()) }
    }

    /// Takes what is waiting, within the budget.
    fn gather(&mut self, budget: Budget) -> Result<Batch, ConnectorError> {
        let mut batch = Batch::default();
        while batch.len() < budget.rows && batch.bytes() < budget.bytes {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    self.ended.remove(&partition);
                    let next = self.at.next.entry(partition).or_insert(0);
                    let end = self.until.as_ref().and_then(|until| until.next.get(&partition));
                    if offset < *next || end.is_some_and(|end| offset >= *end) {
                        self.ended.extend((offset >= *next).then_some(partition));
                        continue;
                    }
                    *next = offset + 1;
                    self.decoder.take(&message, &mut batch);
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ended.insert(partition);
                }
                Some(Err(error)) => match self.failure(&error) {
                    None => {}
                    Some(failure) if batch.is_empty() => return Err(failure),
                    Some(failure) => {
                        self.failure = Some(failure);
                        break;
                    }
                },
            }
        }
        Ok(batch)
    }

    /// What stops the source; `None` for what the client mends by itself.
    fn failure(&self, error: &KafkaError) -> Option<ConnectorError> {
        let topic = &self.settings.link.topic;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => None,
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let message = format!("topic \"{topic}\" no longer has the messages that come next");
                let hint = "they were deleted by the topic's retention, or the topic was made anew: \
                            create the source again to read what is there";
                Some(SqlError::new(SqlState::DATA_CORRUPTED, message).hint(hint).into())
            }
            _ => {
                let message = format!("topic \"{topic}\" cannot be read: {}", words(error));
                Some(transient(SqlError::new(SqlState::CONNECTION_FAILURE, message)))
            }
        }
    }

    /// True if a source that reads again has everything that was there of what it has to read.
    fn is_at_end(&self) -> bool {
        self.until.as_ref().is_some_and(|until| {
            let is_there = |(partition, end): (&i32, &i64)| {
                self.at.next.get(partition).is_some_and(|next| next >= end) || self.ended.contains(partition)
            };
            until.next.iter().all(is_there)
        })
    }

    fn position(&self) -> Position {
        let at = self.until.as_ref().filter(|_| self.is_at_end()).unwrap_or(&self.at);
        serde_json::to_value(at).expect("a position is plain data")
    }
}

fn parse_position(position: &Position) -> SqlResult<TopicAt> {
    let parsed = serde_json::from_value(position.clone());
    parsed.map_err(|_| SqlError::internal(format!("{position} is no position of a topic")))
}

#[async_trait]
impl Source for KafkaSource {
    async fn poll(&mut self, budget: Budget) -> Result<Polled, ConnectorError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.discover().map_err(transient)?;
        let batch = self.gather(budget)?;
        let bytes = batch.bytes() as u64;
        let is_idle = batch.is_empty();
        let decoded = self.decoder.decode(batch, &self.settings.link.topic)?;
        Ok(Polled {
            rows: decoded.rows,
            deletions: decoded.deletions,
            dead_letters: decoded.dead_letters,
            position: self.position(),
            finished: self.is_at_end(),
            bytes,
            wait: is_idle.then_some(IDLE),
        })
    }
}

/// The first messages of a topic, one a line, to look at.
pub fn sample(settings: &SourceSettings) -> SqlResult<String> {
    let consumer = client::consumer(&settings.link)?;
    let mut list = TopicPartitionList::new();
    let partitions = client::partitions(&consumer, &settings.link)?;
    for partition in &partitions {
        list.add_partition_offset(&settings.link.topic, *partition, Offset::Beginning)
            .map_err(|error| unreachable_broker(&settings.link, &error))?;
    }
    consumer.assign(&list).map_err(|error| unreachable_broker(&settings.link, &error))?;
    let deadline = Instant::now() + ANSWER;
    let (mut text, mut count, mut ended) = (String::new(), 0, BTreeSet::new());
    blocking(|| {
        while count < settings.infer && ended.len() < partitions.len() && Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    // Line feeds within a message mean nothing in JSON.
                    let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).replace('\n', " ");
                    text.push_str(&value);
                    text.push('\n');
                    count += 1;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ended.insert(partition);
                }
                _ => {}
            }
        }
    });
    Ok(text)
}
