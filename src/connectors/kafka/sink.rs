//! A topic as a sink: the messages of whole steps, in transactions that also say how far the sink has come.
//!
//! A second topic has one message for each commit, with the sink's name as key and the last step as value. It is
//! written in the same transaction, so after a crash the sink reads there which steps are in the topic already.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, ANSWER, Silent, blocking, transient, unreachable_broker, words};
use super::settings::{Link, SinkSettings, Transaction};
use crate::connectors::format::JsonRows;
use crate::connectors::keyed_changes::{SinkType, deleted_and_added, key_columns, repeated, without_successor};
use crate::connectors::sink::{Sink, SinkSpec};
use crate::connectors::source::ConnectorError;
use crate::error::{SqlError, SqlResult, SqlState};
use crate::zset::{PgType, Rows, Step};

/// How long a transaction may take to be begun or committed.
const COMMIT: Duration = Duration::from_secs(10);

/// The sink.
pub struct KafkaSink {
    settings: SinkSettings,
    sink_type: SinkType,
    schema: SchemaRef,
    key: Vec<usize>,
    /// Steps that are not in the topic yet, as far as is known.
    pending: Vec<Messages>,
    bytes: u64,
    outlet: Option<Outlet>,
    committed: Option<Step>,
}

/// The messages of one step.
struct Messages {
    step: Step,
    messages: Vec<Message>,
}

struct Message {
    key: Option<Vec<u8>>,
    /// `None` deletes the row of the key.
    value: Option<Vec<u8>>,
}

impl KafkaSink {
    pub fn open(spec: &SinkSpec) -> SqlResult<KafkaSink> {
        let settings = SinkSettings::read(&spec.options)?;
        let sink_type = match settings.sink_type {
            None if !spec.append_only && !settings.key.is_empty() => SinkType::Upsert,
            chosen => SinkType::of(chosen, settings.force_append_only, spec)?,
        };
        if sink_type == SinkType::Changelog {
            let message = format!("the rows of sink \"{}\" can be deleted and changed", spec.name);
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint(
                "set type = 'upsert' and primary_key = '...', or type = 'append-only' with force_append_only = 'true'",
            ));
        }
        let key = key_columns(&settings.key, spec, sink_type)?;
        if spec.is_new {
            // A broker that is away when the server starts again is waited for; at CREATE it is a mistake.
            let consumer = client::consumer(&settings.link)?;
            client::partitions(&consumer, &settings.link)?;
        }
        Ok(KafkaSink {
            settings,
            sink_type,
            schema: spec.schema.clone(),
            key,
            pending: Vec::new(),
            bytes: 0,
            outlet: None,
            committed: None,
        })
    }

    fn form(&self, rows: &Rows) -> SqlResult<Vec<Message>> {
        let (deleted, added) = deleted_and_added(rows);
        let mut messages = Vec::new();
        if self.sink_type == SinkType::Upsert {
            let gone = without_successor(&self.key, &deleted, &added)?;
            self.push(&gone, false, &mut messages)?;
            self.push(&added, true, &mut messages)?;
        } else {
            self.push(&Rows::inserts(repeated(&added)), true, &mut messages)?;
        }
        Ok(messages)
    }

    fn push(&self, rows: &Rows, has_value: bool, messages: &mut Vec<Message>) -> SqlResult<()> {
        let all: Vec<usize> = (0..rows.batch().num_columns()).collect();
        let (values, keys) = (self.json_of(rows, &all)?, self.json_of(rows, &self.key)?);
        let written = |json: &JsonRows, row: usize| {
            let mut out = Vec::new();
            json.write(row, &mut out);
            out
        };
        messages.extend((0..rows.len()).map(|row| Message {
            key: (!self.key.is_empty()).then(|| written(&keys, row)),
            value: has_value.then(|| written(&values, row)),
        }));
        Ok(())
    }

    /// These columns of the rows, under the names that the sink's columns have.
    fn json_of(&self, rows: &Rows, columns: &[usize]) -> SqlResult<JsonRows> {
        let broken = |error| SqlError::internal(format!("rows do not fit their sink: {error}"));
        let batch = rows.batch().project(columns).map_err(broken)?;
        let schema: SchemaRef = Arc::new(self.schema.project(columns).map_err(broken)?);
        let types: Vec<PgType> = schema.fields().iter().map(|field| PgType::of(field)).collect();
        JsonRows::new(&batch, &schema, &types)
    }

    /// Sends what is pending, and keeps it if that fails.
    async fn send(&mut self) -> Result<(), ConnectorError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (settings, outlet) = (self.settings.clone(), self.outlet.take());
        let pending = std::mem::take(&mut self.pending);
        let work = move || {
            let sent = outlet.map_or_else(|| Outlet::open(&settings), Ok).and_then(|mut outlet| {
                outlet.commit(&pending)?;
                Ok(outlet)
            });
            (pending, sent)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (pending, sent) = done.map_err(|_| SqlError::internal("the sender of a sink stopped"))?;
        match sent {
            Ok(outlet) => {
                self.outlet = Some(outlet);
                self.committed = pending.last().map(|last| last.step);
                self.bytes = 0;
                Ok(())
            }
            Err(failed) => {
                self.pending = pending;
                Err(failed)
            }
        }
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn write(&mut self, step: Step, rows: &Rows) -> Result<(), ConnectorError> {
        if self.committed.is_some_and(|committed| step <= committed) {
            return Ok(());
        }
        let messages = self.form(rows)?;
        if !messages.is_empty() {
            let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len) as u64;
            self.bytes += messages.iter().map(|message| size(&message.key) + size(&message.value) + 1).sum::<u64>();
            self.pending.push(Messages { step, messages });
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), ConnectorError> {
        self.send().await
    }
    async fn close(&mut self) -> Result<(), ConnectorError> {
        self.send().await
    }
    fn committed(&self) -> Option<Step> {
        self.committed
    }
    fn pending_bytes(&self) -> u64 {
        self.bytes
    }
    fn flush_after(&self) -> Duration {
        self.settings.commit
    }
}

/// A connection that messages are sent over.
struct Outlet {
    link: Link,
    transaction: Option<Transaction>,
    producer: ThreadedProducer<Undelivered>,
    /// The last step that is in the topic for certain.
    committed: Option<Step>,
}

/// Counts messages that the broker did not take.
#[derive(Default)]
struct Undelivered(AtomicU64);

impl ClientContext for Undelivered {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Silent.log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        Silent.error(error, reason);
    }
}

impl ProducerContext for Undelivered {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Outlet {
    fn open(settings: &SinkSettings) -> Result<Outlet, ConnectorError> {
        let link = settings.link.clone();
        let mut ours = vec![("enable.idempotence", "true"), ("acks", "all"), ("linger.ms", "2")];
        if let Some(transaction) = &settings.transaction {
            ours.push(("transactional.id", transaction.id.as_str()));
        }
        let failed = |error: KafkaError| unreachable_broker(&link, &error);
        let producer: ThreadedProducer<Undelivered> =
            client::config(&link, &ours).create_with_context(Undelivered::default()).map_err(failed)?;
        let mut committed = None;
        if let Some(transaction) = &settings.transaction {
            make_topic(&link, &transaction.progress)?;
            // Ends whatever an earlier life of this sink left open, and shuts out that life itself.
            producer.init_transactions(COMMIT).map_err(|error| transient(unreachable_broker(&link, &error)))?;
            committed = progress(&link, transaction).map_err(transient)?;
        }
        Ok(Outlet { link: settings.link.clone(), transaction: settings.transaction.clone(), producer, committed })
    }

    /// Sends the steps that are not in the topic yet.
    fn commit(&mut self, pending: &[Messages]) -> Result<(), ConnectorError> {
        let known = self.committed;
        let fresh: Vec<&Messages> =
            pending.iter().filter(|messages| known.is_none_or(|known| messages.step > known)).collect();
        let Some(last) = fresh.last().map(|messages| messages.step) else { return Ok(()) };
        let topic = self.link.topic.clone();
        let sent = match &self.transaction {
            None => fresh
                .iter()
                .flat_map(|step| &step.messages)
                .try_for_each(|message| self.send(&topic, message))
                .and_then(|()| self.producer.flush(COMMIT)),
            Some(transaction) => self.in_transaction(transaction, &fresh, last),
        };
        sent.map_err(|error| self.failure(&error))?;
        if self.producer.context().0.swap(0, Ordering::Relaxed) > 0 {
            let message = format!("topic \"{topic}\" did not take all messages");
            return Err(transient(SqlError::new(SqlState::CONNECTION_FAILURE, message)));
        }
        self.committed = Some(last);
        Ok(())
    }

    fn in_transaction(&self, transaction: &Transaction, steps: &[&Messages], last: Step) -> Result<(), KafkaError> {
        self.producer.begin_transaction()?;
        steps.iter().flat_map(|step| &step.messages).try_for_each(|message| self.send(&self.link.topic, message))?;
        let key = Some(transaction.id.clone().into_bytes());
        let progress = Message { key, value: Some(last.0.to_string().into_bytes()) };
        self.send(&transaction.progress, &progress)?;
        self.producer.commit_transaction(COMMIT)
    }

    fn send(&self, topic: &str, message: &Message) -> Result<(), KafkaError> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = again;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn failure(&self, error: &KafkaError) -> ConnectorError {
        let message = format!("topic \"{}\" cannot be written: {}", self.link.topic, words(error));
        let failed = SqlError::new(SqlState::CONNECTION_FAILURE, message);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                failed.hint("raise properties.message.max.bytes here and max.message.bytes of the topic").into()
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::Fenced) => failed.into(),
            _ => transient(failed),
        }
    }
}

/// Makes the topic of the progress of sinks, of which only the newest message of each sink is kept.
fn make_topic(link: &Link, name: &str) -> Result<(), ConnectorError> {
    let failed = |error: KafkaError| transient(unreachable_broker(link, &error));
    let admin: AdminClient<Silent> = client::config(link, &[]).create_with_context(Silent).map_err(failed)?;
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "16777216");
    let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
    let made = futures::executor::block_on(admin.create_topics([&topic], &options)).map_err(failed)?;
    match made.first() {
        Some(Err((_, code))) if *code != RDKafkaErrorCode::TopicAlreadyExists => {
            Err(transient(unreachable_broker(link, &KafkaError::AdminOp(*code))))
        }
        _ => Ok(()),
    }
}

/// The last step that a sink has committed.
fn progress(link: &Link, transaction: &Transaction) -> SqlResult<Option<Step>> {
    let link = Link { topic: transaction.progress.clone(), ..link.clone() };
    let failed = |error: KafkaError| unreachable_broker(&link, &error);
    let consumer = client::consumer(&link)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&link.topic, 0, Offset::Beginning).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let mut last = None;
    blocking(|| {
        loop {
            match consumer.poll(COMMIT) {
                Some(Ok(message)) if message.key() == Some(transaction.id.as_bytes()) => {
                    let step = std::str::from_utf8(message.payload().unwrap_or_default()).ok();
                    last = step.and_then(|step| step.parse().ok()).map(Step).max(last);
                }
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {}
                    _ => return Err(failed(error)),
                },
                None => return Err(failed(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut))),
            }
        }
    })
}
