//! Connections to Kafka, and its errors in words.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::settings::Link;
use crate::connectors::source::ConnectorError;
use crate::error::{SqlError, SqlResult, SqlState};

/// Keeps the client's own messages out of the log: what matters comes as the result of a call.
pub struct Silent;

impl ClientContext for Silent {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("{level:?} {facility}: {message}");
    }
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("{error}: {reason}");
    }
}

impl ConsumerContext for Silent {}

/// A consumer whose partitions we choose.
pub type TopicReader = BaseConsumer<Silent>;

/// How long a broker may take to answer.
pub const ANSWER: Duration = Duration::from_secs(5);

/// The settings of a client: ours under the user's.
pub fn config(link: &Link, ours: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &link.servers).set("client.id", "headwater");
    config.set("reconnect.backoff.max.ms", "1000").set("log_level", "0");
    for (name, value) in ours.iter().copied().chain(link.properties.iter().map(|(n, v)| (n.as_str(), v.as_str()))) {
        config.set(name, value);
    }
    config
}

/// A consumer that is told what to read and from where.
pub fn consumer(link: &Link) -> SqlResult<TopicReader> {
    let ours = [
        // Never used to commit: where the source stands is in the engine's log.
        ("group.id", "headwater"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("isolation.level", "read_committed"),
        ("enable.partition.eof", "true"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "100"),
        ("queued.max.messages.kbytes", "16384"),
    ];
    config(link, &ours).create_with_context(Silent).map_err(|error| refused(link, &error))
}

/// The numbers of the topic's partitions.
///
/// # Errors
/// 08006 if no broker answers, 42704 if there is no such topic.
pub fn partitions(consumer: &TopicReader, link: &Link) -> SqlResult<Vec<i32>> {
    let metadata: Metadata = blocking(|| consumer.fetch_metadata(Some(&link.topic), ANSWER))
        .map_err(|error| unreachable_broker(link, &error))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == link.topic);
    let partitions: Vec<i32> =
        topic.into_iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect();
    if partitions.is_empty() {
        let message = format!("topic \"{}\" does not exist", link.topic);
        return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).hint("create it, or mend the option \"topic\""));
    }
    Ok(partitions)
}

pub fn unreachable_broker(link: &Link, error: &KafkaError) -> SqlError {
    let message = format!("cannot reach Kafka at {}: {}", link.servers, words(error));
    SqlError::new(SqlState::CONNECTION_FAILURE, message)
        .hint("check the option \"properties.bootstrap.server\" and that the broker runs")
}

/// A client that cannot be made: an option is wrong.
fn refused(link: &Link, error: &KafkaError) -> SqlError {
    match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            let message = format!("option \"properties.{name}\" is '{value}': {}", reason.to_lowercase());
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message).hint("see the list of settings of librdkafka")
        }
        other => SqlError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            format!("no connection to Kafka at {} can be made: {}", link.servers, words(other)),
        ),
    }
}

/// An error of the client as a part of a sentence.
pub fn words(error: &KafkaError) -> String {
    let code = match error {
        KafkaError::Transaction(error) => return lower(&error.string()),
        KafkaError::ClientCreation(reason) => return lower(reason),
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    match code {
        Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => "no broker answers".into(),
        Some(RDKafkaErrorCode::OperationTimedOut) => "it does not answer in time".into(),
        Some(code) => lower(&code.to_string().split_once(" (").map_or(code.to_string(), |(_, text)| text.to_string())),
        None => lower(&error.to_string()),
    }
}

fn lower(text: &str) -> String {
    let text = text.trim_end_matches(')').trim_start_matches("Local: ").trim_start_matches("Broker: ");
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// Something that trying again may mend.
pub fn transient(error: SqlError) -> ConnectorError {
    ConnectorError { error, transient: true }
}

/// Runs what may wait for a broker without holding up others on the same thread.
pub fn blocking<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
